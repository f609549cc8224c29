"""Guided restorers: an encoder is trained, the prior is not, and checkpoints hold the former alone."""

import copy
from pathlib import Path

import pytest
import torch

from small_priors import small_tae
from unseen.checkpoints import fill
from unseen.errors import ConfigError
from unseen.networks import Guided, GuidedConfig, build
from unseen.priors import PriorConfig, open_prior
from unseen.seeding import generator
from unseen.types import Batch

CONFIG = PriorConfig(source=str(small_tae(seed=5)))


def guided(**changes: object) -> Guided:
    network = build(GuidedConfig.model_validate({"prior": CONFIG, "width": 4, **changes}), 0)
    assert isinstance(network, Guided)
    return network


def images(*size: int, count: int = 1) -> torch.Tensor:
    return torch.rand(count, 3, *size, generator=generator(0, "test"))


@torch.inference_mode()
def test_it_starts_half_way_between_the_input_and_what_the_prior_makes_of_it() -> None:
    degraded = images(9, 6)
    decoded = open_prior(CONFIG).reconstruct(degraded)
    assert torch.allclose(guided(gate=False)(degraded), decoded, atol=1e-6)
    assert torch.allclose(guided()(degraded), (degraded + decoded) / 2, atol=1e-6)
    assert torch.allclose(guided(gate=False, features=0.7)(degraded), decoded, atol=1e-6)
    assert torch.allclose(guided(blocks=2)(degraded), (degraded + decoded) / 2, atol=1e-6)
    assert torch.allclose(guided(gate=False, blocks=2)(degraded), decoded, atol=1e-6)


def test_it_holds_and_trains_the_encoder_and_the_gate_and_nothing_of_the_decoder() -> None:
    network, prior = guided(features=1.0, blocks=1), open_prior(CONFIG)
    before = copy.deepcopy(prior.state_dict())
    assert {name.partition(".")[0] for name in network.state_dict()} == {"encoder", "gate", "finish", "ways"}
    network(images(8, 8)).square().sum().backward()
    with torch.no_grad():
        for weight in network.parameters():
            assert weight.grad is not None
            weight -= 0.1 * weight.grad
    assert all(torch.equal(before[name], value) for name, value in prior.state_dict().items())
    changed = [torch.equal(before[f"encoder.{name}"], value) for name, value in network.encoder.state_dict().items()]
    assert not all(changed)


@torch.inference_mode()
def test_a_checkpoint_is_filled_in_without_the_prior_which_is_opened_at_the_first_image(tmp_path: Path) -> None:
    folder = small_tae(tmp_path / "prior", seed=6)
    config = GuidedConfig(prior=PriorConfig(source=str(folder)), width=4, features=0.5)
    network = build(config, 0)
    degraded = images(8, 8)
    expected = network(degraded)
    away = config.model_copy(update={"prior": config.prior.model_copy(update={"source": str(tmp_path / "moved")})})
    with torch.device("meta"):
        other = away.build()
    fill(other, network.state_dict(), tmp_path)
    folder.rename(tmp_path / "moved")
    assert torch.equal(other.eval()(degraded), expected)


@torch.inference_mode()
def test_the_dial_of_features_turns_at_test_time() -> None:
    network, degraded = guided(gate=False, features=1.0).eval(), images(8, 8)
    for number, weight in enumerate(network.ways.parameters()):
        weight.normal_(0, 0.3, generator=generator(number, "test"))
    found = []
    for dial in (0.0, 0.5, 1.0):
        network.features = dial
        found.append(network(degraded))
    assert torch.allclose(found[0], open_prior(CONFIG).reconstruct(degraded), atol=1e-6)
    assert not torch.allclose(found[1], found[0]) and not torch.allclose(found[1], found[2])
    hooks = [module for module in open_prior(CONFIG).modules() if module._forward_hooks]
    assert not hooks  # nothing is left behind in the shared prior
    with pytest.raises(ConfigError, match=r"0 \(the prior\) to 1"):
        network.features = 5.0
    with pytest.raises(ConfigError, match="no ways for features"):
        guided().features = 0.5


def test_the_latent_loss_is_the_distance_to_the_clean_latents() -> None:
    degraded, clean = images(8, 8), images(8, 8).flip(-1)
    mask = torch.zeros(1, 1, 8, 8)
    batch = Batch(degraded=degraded, clean=clean, layer=mask, mask=mask)
    network, prior = guided(latent=0.1, choice=None).train(), open_prior(CONFIG)
    assert network.auxiliary(batch) is None  # there was no forward pass
    network(degraded)
    loss = network.auxiliary(batch)
    assert loss is not None
    assert torch.allclose(loss, 0.1 * (prior.encode(degraded) - prior.encode(clean)).abs().mean(), atol=1e-6)
    loss.backward()
    assert all(weight.grad is not None for weight in network.encoder.parameters())
    network.eval()(degraded)
    assert network.auxiliary(batch) is None
    assert guided(choice=None).train().auxiliary(batch) is None


def test_a_gate_that_has_shut_is_told_to_open_where_the_prior_is_nearer() -> None:
    """Its own gradient vanishes with g (1 - g); that of `choice` is (g - t) times how much is in it, and wins."""
    degraded, clean = images(8, 8), images(8, 8).flip(-1)
    mask = torch.ones(1, 1, 8, 8)
    batch = Batch(degraded=degraded, clean=clean, layer=mask, mask=mask)

    def slope(choice: float | None, shut: float) -> float:
        network = guided(choice=choice).train()
        assert network.gate is not None
        torch.nn.init.constant_(network.gate[-1].bias, shut)
        restored = network(degraded)
        more = network.auxiliary(batch)
        assert (more is None) == (choice is None)
        ((restored - clean).abs().mean() + (0 if more is None else more)).backward()
        return network.gate[-1].bias.grad.item()

    decoded = open_prior(CONFIG).reconstruct(degraded)
    nearer = ((degraded - clean).abs().mean(1) < (decoded - clean).abs().mean(1)).float()
    weight = ((degraded - clean).abs().mean(1) - (decoded - clean).abs().mean(1)).abs()
    for shut in (-20.0, 20.0):
        assert abs(slope(None, shut)) < 1e-6
        wrong = float(((float(shut > 0) - nearer) * weight).mean())
        assert abs(wrong) > 1e-3 and slope(0.5, shut) == pytest.approx(0.5 * wrong, rel=1e-3)
