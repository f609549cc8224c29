"""One set of laws for every network: any size in, the same size out, weights by address."""

import pytest
import torch
from pydantic import TypeAdapter, ValidationError
from torch import nn

from unseen.networks import (
    ALL,
    AnyNetworkConfig,
    PReNet,
    PReNetConfig,
    ResNet,
    ResNetConfig,
    UNet,
    UNetConfig,
    build,
    pad_to_multiple,
)
from unseen.seeding import generator

SMALL = {
    ResNet: ResNetConfig(width=4, blocks=1),
    UNet: UNetConfig(width=4, levels=2, blocks=1),
    PReNet: PReNetConfig(width=4, stages=2, blocks=1),
}
"""A small configuration of each: a new member of `ALL` needs its own."""

NETWORK: TypeAdapter[ResNetConfig | UNetConfig | PReNetConfig] = TypeAdapter(AnyNetworkConfig)

every_network = pytest.mark.parametrize("kind", ALL, ids=lambda kind: kind.__name__)


def images(*size: int, count: int = 1) -> torch.Tensor:
    return torch.rand(count, 3, *size, generator=generator(0, "test"))


@every_network
def test_every_network_has_a_configuration_of_its_own_name(kind: type[nn.Module]) -> None:
    config = SMALL[kind]
    assert config.kind == kind.__name__
    assert type(build(config, 0)) is kind
    assert NETWORK.validate_json(config.model_dump_json()) == config


@every_network
@pytest.mark.parametrize("size", [(1, 1), (1, 9), (5, 7), (64, 48)], ids=str)
@torch.inference_mode()
def test_any_size_is_kept(kind: type[nn.Module], size: tuple[int, int]) -> None:
    degraded = images(*size)
    restored = build(SMALL[kind], 0)(degraded)
    assert restored.shape == degraded.shape
    assert restored.dtype == degraded.dtype
    assert restored.isfinite().all()


@every_network
def test_weights_depend_on_the_seed_alone(kind: type[nn.Module]) -> None:
    torch.rand(1)  # whatever was drawn before
    one, same, other = (build(SMALL[kind], seed).state_dict() for seed in (7, 7, 8))
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not all(torch.equal(one[name], other[name]) for name in one)


@every_network
def test_building_leaves_the_global_state_of_randomness_alone(kind: type[nn.Module]) -> None:
    before = torch.get_rng_state()
    build(SMALL[kind], 0)
    assert torch.equal(torch.get_rng_state(), before)


@every_network
@pytest.mark.parametrize("skip", [True, False])
@torch.inference_mode()
def test_with_a_silent_last_layer_the_skip_alone_is_left(kind: type[nn.Module], skip: bool) -> None:
    network = build(SMALL[kind].model_copy(update={"skip": skip}), 0)
    last = network.conv if kind is PReNet else network.tail
    for weight in last.parameters():
        weight.zero_()
    degraded = images(9, 11)
    assert torch.equal(network(degraded), degraded if skip else torch.zeros_like(degraded))


@every_network
@torch.inference_mode()
def test_an_image_is_restored_alike_alone_and_in_a_batch(kind: type[nn.Module]) -> None:
    network, degraded = build(SMALL[kind], 0), images(12, 10, count=3)
    together = network(degraded)
    for index in range(3):
        assert torch.allclose(network(degraded[index : index + 1])[0], together[index], atol=1e-6)


@every_network
def test_every_weight_gets_a_gradient(kind: type[nn.Module]) -> None:
    network = build(SMALL[kind], 0)
    network(images(16, 16)).square().mean().backward()
    silent = [name for name, weight in network.named_parameters() if weight.grad is None or not weight.grad.any()]
    assert not silent


@every_network
@torch.inference_mode()
def test_the_input_is_left_as_it_was(kind: type[nn.Module]) -> None:
    degraded = images(10, 10)
    before = degraded.clone()
    build(SMALL[kind], 0)(degraded)
    assert torch.equal(degraded, before)


@every_network
@torch.inference_mode()
def test_a_shift_by_the_multiple_shifts_the_result(kind: type[nn.Module]) -> None:
    network = build(SMALL[kind], 0)
    degraded = images(64, 64)
    step = network.multiple
    whole, shifted = network(degraded), network(degraded[..., step:, step:])
    inner = slice(24, -24)
    assert torch.allclose(whole[..., step:, step:][..., inner, inner], shifted[..., inner, inner], atol=1e-5)


@torch.inference_mode()
def test_a_resnet_reaches_two_pixels_per_block_and_two_more() -> None:
    """The reach that `restore_image` is told of, as its halo."""
    network, degraded = build(ResNetConfig(width=4, blocks=2), 0), images(25, 25)
    touched = degraded.clone()
    touched[..., 12, 12] = 1 - touched[..., 12, 12]
    rows = (network(touched) != network(degraded)).any(1).any(-1)[0].nonzero().flatten().tolist()
    assert (min(rows), max(rows)) == (12 - 6, 12 + 6)


@torch.inference_mode()
def test_without_blocks_a_resnet_is_two_convolutions() -> None:
    network = build(ResNetConfig(width=4, blocks=0), 0)
    degraded = images(8, 8)
    assert torch.equal(network(degraded), degraded + network.tail(network.head(degraded)))


@pytest.mark.parametrize("size", [(1, 1), (8, 8), (9, 15)], ids=str)
def test_padding_reaches_the_next_multiple_and_repeats_the_border(size: tuple[int, int]) -> None:
    clean = images(*size)
    padded = pad_to_multiple(clean, 8)
    assert padded.shape[-2:] == tuple(-(-side // 8) * 8 for side in size)
    assert torch.equal(padded[..., : size[0], : size[1]], clean)
    assert torch.equal(padded[..., -1, -1], clean[..., -1, -1])


@pytest.mark.parametrize("wrong", [{"kind": "ResNet", "width": 0}, {"kind": "ResNet", "depth": 3}, {"kind": "VGG"}])
def test_configurations_that_fit_no_network_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        NETWORK.validate_python(wrong)


def test_without_a_kind_the_first_network_is_meant() -> None:
    assert NETWORK.validate_python({"width": 5}) == ResNetConfig(width=5)
