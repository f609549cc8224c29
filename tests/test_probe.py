"""Linear probes: known answers where features hold a target or do not, the parts of every network, the page."""

from pathlib import Path

import pytest
import torch
from torch import nn

from unseen.backgrounds import Backgrounds, BackgroundsConfig
from unseen.degradations import preset
from unseen.errors import ConfigError
from unseen.evaluation.probe import layers, probe
from unseen.evaluation.probes import Probed
from unseen.networks import ALL, ResNetConfig, UNetConfig, build
from unseen.report.probe import html, sentences, write_probes


@pytest.fixture(scope="module")
def leaves() -> Backgrounds:
    config = {"source": "leaves", "unit": "patches", "patch": 24, "count": 6, "complexity": 0.6}
    return Backgrounds(BackgroundsConfig.model_validate(config))


def r2(lines: object, layer: str, target: str) -> float:
    return next(line.r2 for line in lines if line.layer == layer and line.target == target)  # type: ignore[attr-defined]


class Passes(nn.Module):
    """Two parts: one passes its input on, the other gives nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.same = nn.Conv2d(3, 3, 1, bias=False)
        self.same.weight.data.copy_(torch.eye(3)[..., None, None])
        self.nothing = nn.Conv2d(3, 3, 1, bias=False)
        nn.init.zeros_(self.nothing.weight)

    def forward(self, degraded: torch.Tensor) -> torch.Tensor:
        return self.same(degraded) + self.nothing(degraded)


def test_what_a_layer_passes_on_it_tells_and_what_it_drops_it_does_not(leaves: Backgrounds) -> None:
    lines = probe(Passes(), preset("gaussian15"), leaves, patches=60, size=16)
    assert r2(lines, "input", "clean luma") > 0.8
    assert r2(lines, "same", "clean luma") == pytest.approx(r2(lines, "input", "clean luma"), abs=1e-6)
    assert abs(r2(lines, "nothing", "clean luma")) < 0.2
    assert {line.target for line in lines} == {"clean luma", "clean edges", "change"}  # one level: no parameter varies


def test_what_a_network_changes_is_told_by_its_last_layer(leaves: Backgrounds) -> None:
    network = build(ResNetConfig(width=4, blocks=1), 0)
    network.train()
    lines = probe(network, preset("gaussian-range"), leaves, patches=60, size=16)
    assert network.training
    assert [line.layer for line in lines if line.target == "change"] == ["input", "head", "body.0", "tail"]
    assert {line.kind for line in lines} == {"content", "degradation", "parameter"}
    assert lines == probe(network, preset("gaussian-range"), leaves, patches=60, size=16)


def test_patches_that_a_network_would_grow_are_refused(leaves: Backgrounds) -> None:
    network = build(UNetConfig(width=4, levels=2, blocks=1), 0)
    with pytest.raises(ConfigError, match="steps of 4 pixels, and would grow patches of 18: take 16 or 20"):
        probe(network, preset("gaussian15"), leaves, patches=60, size=18)


def test_a_layer_is_read_before_what_follows_writes_into_it(leaves: Backgrounds) -> None:
    network = nn.Sequential(nn.Conv2d(3, 3, 1), nn.ReLU(inplace=True), nn.Conv2d(3, 3, 1))
    nn.init.dirac_(network[0].weight)  # pyright: ignore[reportArgumentType]
    nn.init.constant_(network[0].bias, -10.0)  # pyright: ignore[reportArgumentType]
    lines = probe(network, preset("gaussian15"), leaves, patches=60, size=16)
    assert [line.layer for line in lines if line.target == "clean luma"][:2] == ["input", "0"]
    assert r2(lines, "0", "clean luma") == pytest.approx(r2(lines, "input", "clean luma"), abs=1e-3)


def test_every_network_has_parts_that_can_be_probed() -> None:
    for kind in ALL:
        if kind.__name__ != "Guided":
            names = {name.partition(".")[0] for name, _ in layers(build(kind.Config(), 0))}
            assert {kind.first, kind.last} <= names
    with pytest.raises(ConfigError, match="no parts"):
        probe(nn.Identity(), preset("gaussian15"), Backgrounds(BackgroundsConfig(source="leaves", count=1)))


class ChannelsLast(nn.Module):
    """As many channels as the image has rows, and last: by its shape alone no one can tell."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens = ToTokens()
        self.tail = nn.Conv2d(16, 3, 1)

    def forward(self, degraded: torch.Tensor) -> torch.Tensor:
        return self.tail(self.tokens(degraded).permute(0, 3, 1, 2))


class ToTokens(nn.Module):
    def forward(self, degraded: torch.Tensor) -> torch.Tensor:
        return degraded.repeat(1, 6, 1, 1)[:, :16].permute(0, 2, 3, 1)


def test_channels_are_found_where_there_are_as_many_as_rows(leaves: Backgrounds) -> None:
    lines = probe(ChannelsLast(), preset("gaussian15"), leaves, patches=60, size=16)
    assert r2(lines, "tokens", "clean luma") == pytest.approx(r2(lines, "input", "clean luma"), abs=0.02)
    assert next(line.channels for line in lines if line.layer == "tokens") == 16


def test_the_page_says_what_is_told(leaves: Backgrounds, tmp_path: Path) -> None:
    network = build(ResNetConfig(width=4, blocks=1), 0)
    found = [
        Probed(f"<{n}>", "some noise", probe(network, preset("gaussian15"), leaves, patches=30, size=16)) for n in "ab"
    ]
    assert "of every pixel its features tell" in sentences(found)[0]
    page = html(found)
    assert "&lt;a&gt;" in page and "<a>" not in page
    write_probes(found, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"probe.html", "probe.png", "probe.csv"}
