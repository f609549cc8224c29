"""Dropout before the last layer, and masked training: by sample, while training alone."""

import pytest
import torch

from unseen.errors import ConfigError
from unseen.networks import ResNetConfig, build
from unseen.ranges import Range
from unseen.regularisation import Regulariser
from unseen.seeding import generator

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
