"""One set of laws for every network: any size in, the same size out, weights by address."""

from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import TypeAdapter, ValidationError
from torch import nn

from small_priors import small_tae
from unseen.models import open_model
from unseen.networks import (
    ALL,
    AnyNetworkConfig,
    Guided,
    GuidedConfig,
    NAFNet,
    NAFNetConfig,
    NetworkConfig,
    PReNet,
    PReNetConfig,
    ResNet,
    ResNetConfig,
    SwinIR,
    SwinIRConfig,
    UNet,
    UNetConfig,
    build,
    pad_to_multiple,
)
from unseen.networks.codes import Block
from unseen.networks.swinir import attention
from unseen.priors import PriorConfig
from unseen.seeding import generator, seeded

Kind = type[ResNet | UNet | PReNet | SwinIR | NAFNet | Guided]

SMALL: dict[Kind, Any] = {
    ResNet: ResNetConfig(width=4, blocks=1),
    UNet: UNetConfig(width=4, levels=2, blocks=1),
    PReNet: PReNetConfig(width=4, stages=2, blocks=1),
    SwinIR: SwinIRConfig(width=8, depths=(2,), heads=(2,), window=4),
    NAFNet: NAFNetConfig(width=4, encoders=(1, 1), middle=1, decoders=(1, 1)),
    Guided: GuidedConfig(prior=PriorConfig(source=str(small_tae(width=8))), width=8),
}
"""A small configuration of each: a new member of `ALL` needs its own."""

NETWORK: TypeAdapter[NetworkConfig] = TypeAdapter(AnyNetworkConfig)

every_network = pytest.mark.parametrize("kind", ALL, ids=lambda kind: kind.__name__)
every_local_network = pytest.mark.parametrize(
    "kind", [kind for kind in ALL if kind not in (NAFNet, Guided)], ids=lambda kind: kind.__name__
)
"""All but NAFNet, whose channel attention averages over the whole image, and Guided, whose prior may normalise over it:
cut otherwise, all of it changes."""
every_network_with_a_skip = pytest.mark.parametrize(
    "kind", [kind for kind in ALL if "skip" in kind.Config.model_fields], ids=lambda kind: kind.__name__
)


def images(*size: int, count: int = 1) -> torch.Tensor:
    return torch.rand(count, 3, *size, generator=generator(0, "test"))


def trained(config: NetworkConfig) -> nn.Module:
    """A network whose weights are all at work: some begin at 0 (the scales of NAFNet's blocks), and hide others."""
    network = build(config, 0)
    for number, weight in enumerate(network.parameters()):
        if not weight.any():
            weight.data.normal_(0, 0.5, generator=generator(number, "test"))
    return network.eval()


@every_network
def test_every_network_has_a_configuration_of_its_own_name(kind: Kind) -> None:
    config = SMALL[kind]
    assert config.kind == kind.__name__
    assert type(build(config, 0)) is kind
    assert NETWORK.validate_json(config.model_dump_json()) == config


@every_network
@pytest.mark.parametrize("size", [(1, 1), (1, 9), (5, 7), (64, 48)], ids=str)
@torch.inference_mode()
def test_any_size_is_kept(kind: Kind, size: tuple[int, int]) -> None:
    degraded = images(*size)
    restored = trained(SMALL[kind])(degraded)
    assert restored.shape == degraded.shape
    assert restored.dtype == degraded.dtype
    assert restored.isfinite().all()


@every_network
def test_weights_depend_on_the_seed_alone(kind: Kind) -> None:
    torch.rand(1)  # whatever was drawn before
    one, same, other = (build(SMALL[kind], seed).state_dict() for seed in (7, 7, 8))
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not all(torch.equal(one[name], other[name]) for name in one)


@every_network
def test_building_leaves_the_global_state_of_randomness_alone(kind: Kind) -> None:
    before = torch.get_rng_state()
    build(SMALL[kind], 0)
    assert torch.equal(torch.get_rng_state(), before)


@every_network_with_a_skip
@pytest.mark.parametrize("skip", [True, False])
@torch.inference_mode()
def test_with_a_silent_last_layer_the_skip_alone_is_left(kind: Kind, skip: bool) -> None:
    network = build(SMALL[kind].model_copy(update={"skip": skip}), 0)
    for weight in network.get_submodule(kind.last).parameters():
        weight.zero_()
    degraded = images(9, 11)
    assert torch.equal(network(degraded), degraded if skip else torch.zeros_like(degraded))


@every_network
@torch.inference_mode()
def test_features_begin_after_the_first_module_and_end_at_the_last(kind: Kind) -> None:
    network, seen = build(SMALL[kind], 0), []
    network.get_submodule(kind.first).register_forward_hook(lambda _, inputs, features: seen.append(features))
    network.get_submodule(kind.last).register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    network(images(16, 16))
    assert [tuple(features.shape) for features in seen[:2]] == [(1, SMALL[kind].width, 16, 16)] * 2


@every_network
@torch.inference_mode()
def test_an_image_is_restored_alike_alone_and_in_a_batch(kind: Kind) -> None:
    network, degraded = trained(SMALL[kind]), images(12, 10, count=3)
    together = network(degraded)
    for index in range(3):
        assert torch.allclose(network(degraded[index : index + 1])[0], together[index], atol=1e-6)


@every_network
def test_every_weight_gets_a_gradient(kind: Kind) -> None:
    network = trained(SMALL[kind])
    network(images(16, 16)).square().mean().backward()
    silent = [name for name, weight in network.named_parameters() if weight.grad is None or not weight.grad.any()]
    assert not silent


@every_network
@torch.inference_mode()
def test_the_input_is_left_as_it_was(kind: Kind) -> None:
    degraded = images(10, 10)
    before = degraded.clone()
    trained(SMALL[kind])(degraded)
    assert torch.equal(degraded, before)


@every_local_network
@torch.inference_mode()
def test_a_shift_by_the_multiple_shifts_the_result(kind: Kind) -> None:
    network = trained(SMALL[kind])
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
    network, degraded = build(ResNetConfig(width=4, blocks=0), 0), images(8, 8)
    head, tail = network.get_submodule("head"), network.get_submodule("tail")
    assert torch.equal(network(degraded), degraded + tail(head(degraded)))


PUBLISHED: dict[str, tuple[SwinIRConfig | NAFNetConfig, float]] = {
    "SwinIR, colour denoising": (SwinIRConfig(width=180, depths=(6,) * 6, heads=(6,) * 6), 11.5e6),
    "NAFNet, 32 channels, SIDD": (
        NAFNetConfig(width=32, encoders=(2, 2, 4, 8), middle=12, decoders=(2, 2, 2, 2)),
        29.16e6,
    ),
    "NAFNet, 32 channels, GoPro": (
        NAFNetConfig(width=32, encoders=(1, 1, 1, 28), middle=1, decoders=(1, 1, 1, 1)),
        17.11e6,
    ),
}
"""Configurations of published weights and their published number of parameters."""


@pytest.mark.parametrize(("config", "parameters"), PUBLISHED.values(), ids=PUBLISHED)
def test_published_weights_are_recognised_and_counted(config: SwinIRConfig | NAFNetConfig, parameters: float) -> None:
    with torch.device("meta"):
        network = config.build()
    assert sum(weight.numel() for weight in network.parameters()) == pytest.approx(parameters, rel=1e-3)
    weights = network.state_dict()
    recognised = {kind.__name__: kind.recognise(weights) for kind in (PReNet, SwinIR, NAFNet)}
    assert recognised == {"PReNet": None, "SwinIR": None, "NAFNet": None} | {config.kind: config}


@pytest.mark.parametrize(
    "config",
    [
        SwinIRConfig(width=12, depths=(1, 2), heads=(3, 2), window=5, mlp_ratio=1.5, convolution="3conv"),
        NAFNetConfig(width=3, encoders=(0, 2), middle=0, decoders=(1, 0)),
    ],
    ids=lambda config: config.kind,
)
def test_unusual_weights_are_recognised(config: SwinIRConfig | NAFNetConfig) -> None:
    weights = build(config, 0).state_dict()
    assert [kind.recognise(weights) for kind in (SwinIR, NAFNet) if kind.__name__ == config.kind] == [config]


def test_weights_of_relatives_are_not_taken_for_known_ones() -> None:
    swinir, nafnet = (build(SMALL[kind], 0).state_dict() for kind in (SwinIR, NAFNet))
    assert SwinIR.recognise(swinir | {"upsample.0.weight": torch.zeros(1)}) is None
    assert SwinIR.recognise(swinir | {"conv_first.weight": torch.zeros(8, 1, 3, 3)}) is None
    assert SwinIR.recognise(build(SwinIRConfig(width=8, depths=(1,), heads=(2,), window=7), 0).state_dict()) is None
    assert NAFNet.recognise(nafnet | {"intro.weight": torch.zeros(4, 1, 3, 3)}) is None
    assert NAFNet.recognise({name: value for name, value in nafnet.items() if ".sca." not in name}) is None


def test_published_swinir_weights_load_with_all_that_their_file_holds(tmp_path: Path) -> None:
    """Published files also hold the index of the bias table and the masks of shifted windows, made for one size."""
    network = trained(SMALL[SwinIR])
    held = network.state_dict()
    for block in ("layers.0.residual_group.blocks.0", "layers.0.residual_group.blocks.1"):
        held[f"{block}.attn.relative_position_index"] = torch.zeros(16, 16, dtype=torch.int64)
    held["layers.0.residual_group.blocks.1.attn_mask"] = torch.full((4, 16, 16), -100.0)
    torch.save({"params": held}, tmp_path / "denoising.pth")
    model = open_model(tmp_path / "denoising.pth", precision="fp32")
    assert model.kind == "SwinIR"
    degraded = images(9, 6)
    with torch.inference_mode():
        assert torch.allclose(model.restore(degraded), network(degraded).clamp(0, 1), atol=1e-6)


@torch.inference_mode()
def test_windowed_attention_is_attention_within_each_window() -> None:
    """One shifted attention, written out token by token: neighbours are those of the same window, not wrapped round."""
    network = trained(SwinIRConfig(width=4, depths=(2,), heads=(2,), window=4))
    attention = network.get_submodule("layers.0.residual_group.blocks.1.attn")
    weights = attention.state_dict()
    tokens = torch.randn(1, 8, 12, 4, generator=generator(1, "test"))
    query, key, value = (tokens @ weights["qkv.weight"].T + weights["qkv.bias"])[0].split(4, -1)
    places = list(product(range(8), range(12)))
    expected = torch.empty(8, 12, 4)
    for y, x in places:
        near = [(v, u) for v, u in places if (v + 2) // 4 == (y + 2) // 4 and (u + 2) // 4 == (x + 2) // 4]
        for head in (slice(0, 2), slice(2, 4)):
            scores = torch.stack(
                [
                    query[y, x, head] @ key[v, u, head] / 2**0.5
                    + weights["relative_position_bias_table"][(y - v + 3) * 7 + x - u + 3, head.start // 2]
                    for v, u in near
                ]
            )
            expected[y, x, head] = scores.softmax(0) @ torch.stack([value[v, u, head] for v, u in near])
    expected = expected @ weights["proj.weight"].T + weights["proj.bias"]
    assert torch.allclose(attention(tokens)[0], expected, atol=1e-5)


def test_what_inference_has_kept_serves_training() -> None:
    network, degraded = trained(SMALL[SwinIR].model_copy(update={"attention_mask": 0.5})), images(20, 12)
    with torch.inference_mode():
        network(degraded)
    network(degraded).mean().backward()


MASKED = SMALL[SwinIR].model_copy(update={"attention_mask": 0.75})


def test_masked_attention_trains_its_learned_token_and_draws_from_the_global_state() -> None:
    network, degraded = trained(MASKED).train(), images(16, 16)
    one, same, other = (drawn(network, degraded, seed) for seed in (1, 1, 2))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    one.mean().backward()
    tokens = {name: weight for name, weight in network.named_parameters() if name.endswith("mask_token")}
    assert len(tokens) == 2
    assert all(token.grad is not None and token.grad.any() for token in tokens.values())


def drawn(network: nn.Module, degraded: torch.Tensor, seed: int) -> torch.Tensor:
    with seeded(seed, "test"):
        return network(degraded)


@torch.inference_mode()
def test_masked_attention_has_one_result_for_an_image() -> None:
    network, degraded = trained(MASKED), images(12, 10, count=2)
    with seeded(1, "test"):
        together = network(degraded)
    assert torch.allclose(network(degraded[1:])[0], together[1], atol=1e-6)
    unmasked = build(SMALL[SwinIR], 0).eval()
    unmasked.load_state_dict({k: v for k, v in network.state_dict().items() if not k.endswith("mask_token")})
    assert not torch.allclose(unmasked(degraded), together, atol=1e-6)


@pytest.mark.parametrize("training", [True, False])
@torch.inference_mode()
def test_the_masked_share_of_tokens_takes_no_part_in_attention(training: bool) -> None:
    attention = trained(MASKED).get_submodule("layers.0.residual_group.blocks.0.attn").train(training)
    tokens = torch.randn(1, 64, 64, 8, generator=generator(0, "test"))
    seen = []
    attention.get_submodule("qkv").register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].flatten(0, -2)))
    drawn(attention, tokens, 0)
    replaced = (seen[0] == attention.get_parameter("mask_token")).all(-1)
    assert replaced.float().mean().item() == pytest.approx(0.75, abs=0.03)


@pytest.mark.parametrize("size", [(1, 1), (8, 8), (9, 15)], ids=str)
def test_padding_reaches_the_next_multiple_and_repeats_the_border(size: tuple[int, int]) -> None:
    clean = images(*size)
    padded = pad_to_multiple(clean, 8)
    assert padded.shape[-2:] == tuple(-(-side // 8) * 8 for side in size)
    assert torch.equal(padded[..., : size[0], : size[1]], clean)
    assert torch.equal(padded[..., -1, -1], clean[..., -1, -1])


def test_mirrored_padding_reflects_what_is_large_enough() -> None:
    clean = images(7, 6)
    padded = pad_to_multiple(clean, 4, mirror=True)
    assert torch.equal(padded[..., :7, 6:], clean[..., [4, 3]])
    assert torch.equal(padded[..., 7:, :6], clean[..., [5], :])
    assert torch.equal(pad_to_multiple(clean, 16, mirror=True), pad_to_multiple(clean, 16))


@pytest.mark.parametrize(
    "wrong",
    [
        {"kind": "ResNet", "width": 0},
        {"kind": "ResNet", "depth": 3},
        {"kind": "VGG"},
        {"kind": "SwinIR", "depths": [2, 2], "heads": [2]},
        {"kind": "SwinIR", "width": 10, "depths": [2], "heads": [4]},
        {"kind": "SwinIR", "attention_mask": 1},
        {"kind": "NAFNet", "encoders": [1, 1], "decoders": [1]},
    ],
)
def test_configurations_that_fit_no_network_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        NETWORK.validate_python(wrong)


def test_without_a_kind_the_first_network_is_meant() -> None:
    assert NETWORK.validate_python({"width": 5}) == ResNetConfig(width=5)


@pytest.mark.parametrize("levels", [2, 3, 4])
@pytest.mark.parametrize("blocks", [1, 3])
def test_a_unet_grows_from_a_smaller_one_and_at_first_does_the_same(levels: int, blocks: int) -> None:
    smaller = build(UNetConfig(width=4, levels=2, blocks=1), 3)
    larger = build(UNetConfig(width=4, levels=levels, blocks=blocks), 4)
    degraded = images(32, 48, count=2)
    assert not torch.allclose(larger(degraded), smaller(degraded), atol=1e-3)
    assert larger.grow(smaller)
    assert torch.allclose(larger(degraded), smaller(degraded), atol=1e-5)
    (larger(degraded) - images(32, 48, count=2)).square().mean().backward()
    assert levels == 2 or larger.merge[levels - 3].weight.grad[:, : larger.merge[levels - 3].out_channels].any()


@pytest.mark.parametrize(
    "other",
    [UNetConfig(width=8, levels=2), UNetConfig(width=4, levels=4), UNetConfig(width=4, levels=2, skip=False),
     UNetConfig(width=4, levels=2, blocks=2), ResNetConfig(width=4, blocks=1)], ids=repr,
)  # fmt: skip
def test_a_unet_does_not_grow_from_what_it_cannot_hold(other: NetworkConfig) -> None:
    network = build(UNetConfig(width=4, levels=3, blocks=1), 0)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    assert not network.grow(build(other, 1))
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_attention_written_out_is_that_of_torch() -> None:
    query, key, value = (images(6, 5, count=4) for _ in range(3))
    bias = images(6, 6).requires_grad_()
    written = attention(query, key, value, bias)
    with torch.no_grad():
        assert torch.allclose(attention(query, key, value, bias), written, atol=1e-6)
    written.sum().backward()
    assert bias.grad is not None and bias.grad.isfinite().all()


def test_a_layer_over_codes_is_the_transformer_of_torch() -> None:
    """The same weights, the same tokens: `nn.TransformerEncoderLayer`, normalised first, in training mode."""
    torch_layer = torch.nn.TransformerEncoderLayer(8, 2, 16, 0.0, "gelu", batch_first=True, norm_first=True)
    mine = Block(8, 2)
    names = {
        "norm1": torch_layer.norm1, "norm2": torch_layer.norm2, "answered": torch_layer.self_attn.out_proj,
        "through.0": torch_layer.linear1, "through.2": torch_layer.linear2,
    }  # fmt: skip
    with torch.no_grad():
        for name, module in names.items():
            mine.get_submodule(name).load_state_dict(module.state_dict())
        mine.asked.weight.copy_(torch_layer.self_attn.in_proj_weight)
        mine.asked.bias.copy_(torch_layer.self_attn.in_proj_bias)
    tokens = torch.randn(2, 5, 8, generator=generator(0, "tokens"))
    assert torch.allclose(mine(tokens), torch_layer(tokens), atol=1e-5)
