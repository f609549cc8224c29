"""Exported files: they do what the network does, at any size, without this package, or are not there at all."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from PIL import Image

from small_priors import small_tae
from unseen import cli
from unseen.checkpoints import restorer
from unseen.errors import CheckpointError, ConfigError
from unseen.images import read_image, write_image
from unseen.models import Model, exporting, open_model
from unseen.models.exporting import SIZES, export
from unseen.networks import (
    GuidedConfig,
    NAFNetConfig,
    NetworkConfig,
    PReNetConfig,
    ResNetConfig,
    SwinIRConfig,
    UNetConfig,
    build,
)
from unseen.priors import PriorConfig
from unseen.seeding import generator

EXAMPLE = Path(__file__).parents[1] / "examples" / "onnx" / "restore.py"

ANY_SIZE = {
    "ResNet": ResNetConfig(width=4, blocks=1),
    "UNet": UNetConfig(width=4, levels=2),
    "NAFNet": NAFNetConfig(width=4, encoders=(1,), decoders=(1,)),
    "PReNet": PReNetConfig(width=4, stages=2, blocks=1),
}
SWIN = SwinIRConfig(width=4, depths=(2,), heads=(2,), window=4)


def opened(config: NetworkConfig) -> Model:
    """A model whose every layer changes what comes in, which fresh ones do not."""
    network = build(config, 0).eval().requires_grad_(False)
    for number, weight in enumerate(network.parameters()):
        if not weight.any():
            weight.normal_(0, 0.3, generator=generator(number, "test"))
    return Model(name="tiny", restore=restorer(network), kind=type(network).__name__, network=network)


def images(*shape: int) -> torch.Tensor:
    return torch.rand(*shape, generator=generator(0, "test"))


@pytest.mark.parametrize("kind", ANY_SIZE)
def test_an_onnx_file_of_a_network_opens_as_a_model_that_does_the_same_at_any_size(tmp_path: Path, kind: str) -> None:
    model = opened(ANY_SIZE[kind])
    done = export(model, tmp_path / "net.onnx")
    assert done.size is None and done.smallest == 1 and set(done.differences) == set(SIZES)
    assert done.difference <= 1e-5
    again, degraded = open_model(tmp_path / "net.onnx"), images(2, 3, 9, 14)
    assert again.kind == "ONNX"
    assert torch.allclose(again.restore(degraded), model.restore(degraded), atol=1e-5)


def test_a_guided_restorer_takes_its_prior_along(tmp_path: Path) -> None:
    folder = small_tae(tmp_path / "prior", seed=5)
    model = opened(GuidedConfig(prior=PriorConfig(source=str(folder)), width=4, features=1.0))
    done = export(model, tmp_path / "net.onnx")
    assert done.prior == "prior" and done.difference <= 1e-5
    assert b"under its licence" in (tmp_path / "net.onnx").read_bytes()
    assert str(folder).encode() not in (tmp_path / "net.onnx").read_bytes()
    with pytest.raises(ConfigError, match="export it to ONNX"):
        export(model, tmp_path / "net.pt2")


def test_a_swinir_needs_a_size(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--size 64,64"):
        export(opened(SWIN), tmp_path / "net.onnx")


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".onnx", ".pt2"])
def test_a_swinir_is_exported_for_one_size_and_restores_others_in_tiles(tmp_path: Path, suffix: str) -> None:
    model, path = opened(SWIN), tmp_path / f"net{suffix}"
    assert model.network is not None
    torch.save(model.network.state_dict(), tmp_path / "swin.pth")
    # In a process of its own: while they are traced, sizes are not the integers that checks of shapes want.
    command = [sys.executable, "-m", "unseen.cli", "export", tmp_path / "swin.pth", "-o", path, "--size", "10,13"]
    result = subprocess.run([*command, "--json"], check=True, capture_output=True)
    said = json.loads(result.stdout)
    assert said["size"] == [10, 13] and said["difference"] <= 1e-5
    again, degraded = open_model(path, trust=True), images(2, 3, 10, 13)
    assert again.kind.endswith(", in tiles of 13 x 10")
    assert torch.allclose(again.restore(degraded), model.restore(degraded), atol=1e-5)
    assert again.restore(images(1, 3, 30, 9)).shape == (1, 3, 30, 9)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ANY_SIZE)
def test_a_program_of_torch_export_opens_as_a_model_that_does_the_same(tmp_path: Path, kind: str) -> None:
    model = opened(ANY_SIZE[kind])
    done = export(model, tmp_path / "net.pt2")
    assert done.difference <= 1e-5 and done.smallest <= 5
    again, degraded = open_model(tmp_path / "net.pt2", trust=True), images(1, 3, 9, 14)
    assert torch.allclose(again.restore(degraded), model.restore(degraded), atol=1e-5)


def test_a_file_that_differs_from_the_network_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = opened(ANY_SIZE["ResNet"])
    (tmp_path / "net.onnx").write_bytes(b"as it was")
    as_onnx = exporting._as_onnx

    def brighter(whole: exporting.Whole, *rest: object) -> tuple[bytes, int]:
        wrong = exporting.Whole(whole.network)
        wrong.network.tail.bias += 0.01
        return as_onnx(wrong, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(exporting, "_as_onnx", brighter)
    with pytest.raises(CheckpointError, match=r"differs from the network by 0\.01"):
        export(model, tmp_path / "net.onnx")
    assert [path.name for path in tmp_path.iterdir()] == ["net.onnx"]
    assert (tmp_path / "net.onnx").read_bytes() == b"as it was"


def test_what_cannot_be_exported_is_refused_with_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = opened(ANY_SIZE["ResNet"])
    with pytest.raises(ConfigError, match=r"expected one of \.onnx, \.pt2"):
        export(model, tmp_path / "net.pb")
    with pytest.raises(ConfigError, match="no network to export"):
        export(replace(model, network=None), tmp_path / "net.onnx")
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(ConfigError, match=r"pip install 'unseen\[onnx\]'"):
        export(model, tmp_path / "net.onnx")
    assert not list(tmp_path.iterdir())


def test_the_command_writes_a_file_that_the_example_runs_without_this_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], photos: torch.Tensor
) -> None:
    model = opened(ANY_SIZE["NAFNet"])
    assert model.network is not None
    torch.save(model.network.state_dict(), tmp_path / "tiny.pth")
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> tuple[Any, ...]:
        monkeypatch.setattr(sys, "argv", ["unseen", "export", *arguments])
        try:
            cli.main()
            code: Any = 0
        except SystemExit as ended:
            code = ended.code or 0
        return code, *capsys.readouterr()

    code, out, _ = run("tiny.pth", "--json")
    said = json.loads(out)
    assert code == 0 and said["path"] == "tiny.onnx" and len(said["checked"]) == 5 and said["difference"] <= 1e-5

    graph = onnx.load("tiny.onnx")
    facts = {one.key: one.value for one in graph.metadata_props}
    assert facts["kind"] == "NAFNet" and "RGB" in facts["degraded"] and json.loads(facts["network"])["width"] == 4
    (taken,), (given,) = graph.graph.input, graph.graph.output
    assert (taken.name, given.name) == ("degraded", "restored")
    assert [side.dim_param or side.dim_value for side in taken.type.tensor_type.shape.dim] == ["b", 3, "h", "w"]

    for arguments, reason in {
        ("tiny.onnx",): "has no network to export",
        ("tiny.pth", "-o", "net.onnx", "--format", "torch"): "leave one of the two out",
        ("tiny.pth", "--size", "0,8"): "such as 64,64",
    }.items():
        code, out, err = run(*arguments)
        assert (code, out) == (2, "") and reason in err

    write_image("rainy.png", photos[0, :, :21, :30].permute(1, 2, 0).numpy())
    program = (
        f"import sys, runpy; sys.argv = ['', 'tiny.onnx', 'rainy.png', 'dry.png']; runpy.run_path({str(EXAMPLE)!r})"
    )
    check = "; assert not {'torch', 'unseen'} & sys.modules.keys()"
    subprocess.run([sys.executable, "-c", program + check], check=True)
    degraded = torch.from_numpy(np.array(Image.open("rainy.png"))).permute(2, 0, 1)[None] / 255
    expected = (model.restore(degraded)[0] * 255).round().permute(1, 2, 0).numpy()
    assert np.abs(read_image("dry.png") - expected).max() <= 1
    assert EXAMPLE.read_text().count("\n") <= 16
