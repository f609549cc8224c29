"""Dropout before the last layer, masked training, consistency: by sample, and while training alone."""

from pathlib import Path

import pytest
import torch

from unseen.backgrounds import Backgrounds, BackgroundsConfig
from unseen.checkpoints import load_checkpoint
from unseen.data import Pairs
from unseen.degradations import preset
from unseen.errors import ConfigError
from unseen.experiment import Experiment
from unseen.networks import ResNetConfig, SwinIRConfig, build
from unseen.ranges import Range
from unseen.regularisation import Consistency, Regulariser, over_processes
from unseen.seeding import generator
from unseen.training import train

CONFIG = ResNetConfig(width=8, blocks=1, skip=False)


def seen_by(which: str, regulariser: Regulariser, network: torch.nn.Module, indices: list[int]) -> torch.Tensor:
    """What leaves the first layer, or enters the last one."""
    seen: list[torch.Tensor] = []
    layer = network.get_submodule("body") if which == "first" else network.get_submodule("tail")
    images = torch.rand(len(indices), 3, 12, 12, generator=generator(0, "test"))
    with (
        regulariser.drawing(indices),
        layer.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0])),
        torch.inference_mode(),
    ):
        network(images)
    return seen[0]


def test_whole_channels_are_dropped_and_the_others_scaled() -> None:
    network = build(CONFIG, 0)
    plain = seen_by("last", Regulariser(network, None, None, 0), network, [0, 1])
    dropped = seen_by("last", Regulariser(network, 0.5, None, 0), network, [0, 1])
    for one, other in zip(plain.flatten(0, 1), dropped.flatten(0, 1), strict=True):
        assert not other.any() or torch.allclose(other, 2 * one)
    shares = [not channel.any() for channel in dropped.flatten(0, 1)]
    assert 0 < sum(shares) < len(shares)


def test_pixels_are_hidden_at_a_drawn_share() -> None:
    network = build(CONFIG, 0)
    hidden = seen_by("first", Regulariser(network, None, Range(low=0.7, high=0.8), 0), network, list(range(8)))
    empty = (hidden == 0).all(1).float().mean((1, 2))
    assert ((empty > 0.6) & (empty < 0.9)).all()
    assert len(set(empty.tolist())) > 4


def test_a_sample_draws_the_same_whatever_it_is_beside() -> None:
    network = build(CONFIG, 0)
    regulariser = Regulariser(network, 0.5, Range(low=0.5, high=0.5), 3)
    images = torch.rand(4, 3, 8, 8, generator=generator(0, "test"))
    with torch.inference_mode():
        with regulariser.drawing(range(4, 8)):
            together = network(images)
        with regulariser.drawing(range(6, 8)):
            assert torch.allclose(network(images[2:]), together[2:], atol=1e-6)
        assert torch.equal(network(images), build(CONFIG, 0)(images))  # none of it when it restores


def test_a_network_without_named_layers_is_refused() -> None:
    with pytest.raises(ConfigError, match="first"):
        Regulariser(torch.nn.Conv2d(3, 3, 1), None, Range(low=0.5, high=0.5), 0)


def test_consistency_is_nought_between_what_is_the_same() -> None:
    one = torch.rand(2, 3, 4, 4, generator=generator(0, "test"))
    features = torch.rand(2, 8, 4, 4, generator=generator(1, "test"))
    both = Consistency(output=2.0, features=0.5)
    assert both(one, one, (features, features)) == 0
    apart = both(one, one + 0.25, (features, features))
    assert apart == pytest.approx(0.5, rel=1e-5)
    assert both(one, one, (features, 2 * features)) == pytest.approx(0.5 / 1.5, rel=1e-5)
    assert both(one, one, (10 * features, 20 * features)) == pytest.approx(0.5 / 1.5, rel=1e-5)  # of any scale
    with pytest.raises(ValueError, match="both weights are 0"):
        Consistency()


def test_twins_are_the_same_patches_under_other_degradations() -> None:
    leaves = Backgrounds(
        BackgroundsConfig.model_validate({"source": "leaves", "unit": "patches", "patch": 24, "count": 4})
    )
    pairs = Pairs(leaves, preset("gaussian25"), patch=16, batch=3, seed=0)
    batch, twins = pairs[2], pairs.twins(2)
    assert torch.equal(batch.clean, twins.clean)
    assert not torch.equal(batch.degraded, twins.degraded)
    assert torch.equal(twins.degraded, pairs.twins(2).degraded)


def test_training_with_all_of_it_goes_down_and_repeats_itself(tmp_path: Path) -> None:
    recipe = {"steps": 50, "patch": 16, "batch": 2, "learning_rate": 3e-3, "device": "cpu", "precision": "fp32"}
    recipe |= {"threads": 1, "dropout": 0.2, "masking": 0.3, "consistency": {"output": 0.1, "features": 0.1}}
    backgrounds = {"source": "leaves", "unit": "patches", "patch": 24, "count": 4}
    raw = {"backgrounds": backgrounds, "network": {"width": 8, "blocks": 1}, "recipe": recipe}
    told: list[float] = []
    whole = train(Experiment.model_validate(raw), tmp_path / "a", progress=lambda _, loss: told.append(loss))
    assert told[-1] < told[0]
    cut = Experiment.model_validate({**raw, "recipe": {**recipe, "snapshots": [20]}})
    train(cut, tmp_path / "b", watch=lambda step, path: False)
    again = train(cut, tmp_path / "b")
    weights = [load_checkpoint(run.checkpoint).network.state_dict() for run in (whole, again)]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_a_network_that_draws_itself_does_so_for_each_sample() -> None:
    network = build(SwinIRConfig(width=8, depths=(2,), heads=(2,), window=4, attention_mask=0.5), 0).train()
    images = torch.rand(4, 3, 8, 8, generator=generator(0, "test"))
    regulariser = Regulariser(network, None, None, 3)
    with torch.inference_mode():
        with regulariser.drawing(range(4)):
            together = network(images)
        with regulariser.drawing(range(2, 4)):
            assert torch.allclose(network(images[2:]), together[2:], atol=1e-6)
        with regulariser.drawing([5, 5]):
            twins = network(images[:1].expand(2, -1, -1, -1))
        assert torch.allclose(twins[0], twins[1], atol=1e-6)
        with regulariser.drawing([6]):
            assert not torch.allclose(network(images[:1])[0], twins[0], atol=1e-6)


def test_the_unit_of_features_is_that_of_all_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 2)
    monkeypatch.setattr(
        torch.distributed, "all_reduce", lambda total: total.mul_(4)
    )  # the other has three times as much
    assert over_processes(torch.tensor(1.5)).item() == 3
