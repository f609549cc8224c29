"""Leaving alone what is taken for clean: by the whole image, the same in tiles, files and videos, and not where a model
is told to restore always."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from pydantic import ValidationError

from unseen import cli
from unseen.checkpoints import load_checkpoint, restorer, save_network
from unseen.experiment import Experiment
from unseen.models import Model, always_restoring, open_model
from unseen.networks import ResNetConfig, UNetConfig, build
from unseen.networks.abstention import Abstaining, Abstention, blocks_of
from unseen.restoration import Tiler, load, restore_video
from unseen.restoration.tiles import Clip

RULE = Abstention(low=0.1, high=0.3)
TINY = ResNetConfig(width=4, blocks=1)


def halved(images: torch.Tensor) -> torch.Tensor:
    """Changes every pixel that is not dark."""
    return images * 0.5


def spotted(share: float, side: int = 64, blocks: int = 16) -> np.ndarray:
    """Black, and bright in that share of the pixels of so many blocks: (side, side, 3), uint8."""
    image = np.zeros((side, side, 3), np.uint8)
    part = side // 4
    count = round(share * part * part)
    for block in range(blocks):
        top, left = block // 4 * part, block % 4 * part
        places = np.random.default_rng(block).choice(part * part, count, replace=False)
        image[top + places // part, left + places % part] = 200
    return image


def tensor(*images: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2) / 255


def test_what_changes_all_over_is_restored_and_what_changes_in_one_place_is_not() -> None:
    everywhere, in_places, hardly, between = spotted(0.5), spotted(1.0, blocks=7), spotted(0.05), spotted(0.2)
    given = tensor(everywhere, in_places, hardly, between)
    got = Abstaining(halved, RULE)(given)
    assert torch.equal(got[0], halved(given)[0])
    assert torch.equal(got[1], given[1]) and torch.equal(got[2], given[2])
    share = 51 / 256  # of the pixels of a block, rounded
    weight = (share - 0.1) / 0.2
    assert torch.allclose(got[3], given[3] * (1 - weight / 2), atol=1e-6)


def test_a_rule_must_rise() -> None:
    with pytest.raises(ValidationError, match="the second must be larger"):
        Abstention(low=0.2, high=0.2)


def test_blocks_are_a_partition_of_any_side() -> None:
    for side in (1, 2, 3, 4, 7, 65):
        assert (blocks_of(side, slice(0, side)).sum(0) == 1).all()
        assert (blocks_of(side, slice(1, side)) == blocks_of(side, slice(0, side))[:, 1:]).all()


@pytest.mark.parametrize("size", [(1, 1), (2, 5), (3, 3), (17, 23)])
def test_any_size_is_taken(size: tuple[int, int]) -> None:
    image = np.full((*size, 3), 200, np.uint8)
    got = Tiler(Abstaining(halved, RULE)).restore(image[None])[0]
    assert (got == image).all() or (got == 100).all()
    assert torch.allclose(Abstaining(halved, RULE)(tensor(image)) * 255, tensor(got) * 255, atol=0.51)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
@pytest.mark.parametrize("strength", [1.0, 0.5])
def test_tiles_decide_as_the_whole_image_does(dtype: Any, strength: float) -> None:
    images = np.stack([spotted(0.5), spotted(1.0, blocks=7), spotted(0.05), spotted(0.2)])
    scale = 1 if dtype == np.uint8 else 255
    given = (images / scale).astype(dtype)
    at_once = Tiler(Abstaining(halved, RULE), 1000, strength=strength)
    tiled = Tiler(Abstaining(halved, RULE), 19, 3, 1, strength=strength)
    whole, parts = at_once.restore(given), tiled.restore(given)
    assert tiled.taken == pytest.approx(at_once.taken, abs=1e-5)
    assert tiled.taken[:3].tolist() == [1, 0, 0] and 0 < tiled.taken[3] < 1
    assert (whole[1:3] == given[1:3]).all() and (parts[1:3] == given[1:3]).all()
    assert np.abs(whole.astype(float) - parts).max() <= (1 if dtype == np.uint8 else 1e-5)
    expected = Abstaining(halved, RULE)(tensor(*images)).permute(0, 2, 3, 1).numpy() * 255
    expected = images + strength * (expected - images)
    assert np.abs(parts * float(scale) - expected).max() <= (1.01 if dtype == np.uint8 else 1e-2)


def test_grey_and_short_memory_decide_the_same() -> None:
    def short(images: torch.Tensor) -> torch.Tensor:
        if images.shape[0] > 1 or images.shape[-1] > 60:
            raise torch.OutOfMemoryError("CUDA")
        return halved(images)

    images = np.stack([spotted(0.5), spotted(0.05)])[..., :1]
    tiler = Tiler(Abstaining(short, RULE), 1000, 2, 1)
    got = tiler.restore(images)
    assert tiler.taken.tolist() == [1, 0]
    assert (got[0] == images[0] // 2).all() and (got[1] == images[1]).all()


def test_a_checkpoint_says_it_and_training_knows_nothing_of_it(tmp_path: Path) -> None:
    plain, careful = TINY, TINY.model_copy(update={"abstain": RULE})
    weights = build(plain, 0).state_dict()
    for name, config in (("plain", plain), ("careful", careful)):
        save_network(tmp_path / f"{name}.safetensors", weights, Experiment(network=config), 0)
    one, other = (load_checkpoint(tmp_path / f"{name}.safetensors") for name in ("plain", "careful"))
    assert one.content != other.content and other.experiment.network.abstain == RULE
    images = tensor(spotted(0.5))
    assert torch.equal(one.network(images), other.network(images))
    assert not isinstance(restorer(one.network), Abstaining) and isinstance(restorer(other.network), Abstaining)
    model = open_model(tmp_path / "careful.safetensors")
    assert isinstance(model.restore, Abstaining) and not isinstance(always_restoring(model).restore, Abstaining)
    assert always_restoring(open_model(tmp_path / "plain.safetensors")).name == "plain"


@pytest.mark.parametrize("suffix", [".onnx", pytest.param(".pt2", marks=pytest.mark.slow)])
def test_an_exported_file_leaves_the_same_alone(tmp_path: Path, suffix: str) -> None:
    if suffix == ".onnx":
        pytest.importorskip("onnxruntime", reason="onnxruntime is not installed: pip install 'unseen[onnx]'")
    from unseen.models.exporting import export

    config = UNetConfig(width=4, levels=2, abstain=Abstention(low=0.5, high=0.7))
    network = build(config, 0).eval()
    model = Model(name="tiny", restore=restorer(network), kind="UNet", network=network)
    exported = export(model, tmp_path / f"tiny{suffix}")
    assert exported.difference < 1e-3
    opened = open_model(exported.path, trust=True)
    dry, wet = tensor(spotted(0.2, 60)), tensor(spotted(0.9, 60))
    assert torch.equal(model.restore(dry), dry) and torch.equal(
        model.restore(wet), always_restoring(model).restore(wet)
    )
    for images in (dry, wet):
        assert torch.allclose(opened.restore(images), model.restore(images), atol=1e-3)


def test_the_memory_of_a_clip_keeps_decisions_from_flickering() -> None:
    tiler, clip = Tiler(Abstaining(halved, RULE)), Clip()
    taken = []
    for frame in range(40):
        tiler.restore(spotted(0.25 if frame % 2 else 0.15)[None], clip=clip)
        taken.append(float(tiler.taken[0]))
    assert np.abs(np.diff(taken)).max() < 0.05  # 0.5 without memory
    assert np.mean(taken[-10:]) == pytest.approx(0.5, abs=0.1)


def test_a_video_says_how_many_frames_are_left_alone(tmp_path: Path) -> None:
    av = pytest.importorskip("av", reason="PyAV is not installed: pip install 'unseen[video]'")
    with av.open(str(tmp_path / "a.mkv"), "w") as writer:
        video = writer.add_stream("libx264", rate=25, options={"crf": "0"})
        video.width, video.height, video.pix_fmt = 64, 64, "yuv444p"
        for _ in range(3):
            writer.mux(video.encode(av.VideoFrame.from_ndarray(spotted(0.01), format="rgb24")))
        writer.mux(video.encode(None))
    done = restore_video(tmp_path / "a.mkv", tmp_path / "b.mkv", Tiler(Abstaining(halved, RULE)))
    assert done.notes == ["3 of its 3 frames are taken for clean, and left as they are (--always restores them)"]


def test_the_command_line_says_what_it_leaves_alone_and_can_be_told_not_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = TINY.model_copy(update={"abstain": Abstention(low=0.9, high=1.0)})
    weights = build(config, 0).state_dict() | {"tail.bias": torch.full((3,), 0.5)}
    save_network(tmp_path / "careful.safetensors", weights, Experiment(network=config), 0)
    Image.fromarray(spotted(0.3, blocks=3)).save(tmp_path / "dry.png")
    Image.fromarray(np.full((64, 64, 3), 255, np.uint8)).save(tmp_path / "white.png")  # no pixel of it can change
    monkeypatch.chdir(tmp_path)

    def run(*words: str) -> str:
        monkeypatch.setattr(sys, "argv", ["unseen", "restore", "white.png", "-m", "careful.safetensors", *words])
        with pytest.raises(SystemExit) as ended:
            cli.main()
            raise SystemExit(0)
        assert not ended.value.code
        said = capsys.readouterr()
        return said.out + said.err

    assert "white.png is taken for clean, and left alone. --always restores such pictures too." in run()
    assert Path("restored/white.png").read_bytes() == Path("white.png").read_bytes()
    assert json.loads(run("--overwrite", "--json"))["images"][0]["taken"] == 0
    assert "taken for clean" not in run("--overwrite", "--always")
    Image.fromarray(np.full((64, 64, 3), 255, np.uint8)).save("moving.gif")
    said = run("moving.gif", "--overwrite", "--mask")
    assert "2 pictures, such as white.png, are taken for clean" in said
    assert not np.asarray(Image.open("restored/white-mask.png")).any()
    assert (np.asarray(Image.open("restored/moving.png").convert("RGB")) == 255).all()  # GIF is not written

    image = np.asarray(Image.open("dry.png"))
    left, restored = load("careful.safetensors"), load("careful.safetensors", always_restore=True)
    assert (restored(image) != image).any()
    assert not isinstance(restored.model.restore, Abstaining) and isinstance(left.model.restore, Abstaining)


def test_evaluate_judges_a_model_with_and_without_its_rule(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = TINY.model_copy(update={"abstain": Abstention(low=0.9, high=1.0)})
    save_network(tmp_path / "careful.safetensors", build(config, 0).state_dict(), Experiment(network=config), 0)
    (tmp_path / "photos").mkdir()
    Image.fromarray(spotted(0.3, blocks=3)).save(tmp_path / "photos/dry.png")
    monkeypatch.chdir(tmp_path)

    def judged(*words: str) -> tuple[dict[str, Any], str | None]:
        command = ["unseen", "evaluate", "careful.safetensors", "--on", "clean", "--images", "photos", "--json", *words]
        monkeypatch.setattr(sys, "argv", command)
        with pytest.raises(SystemExit) as ended:
            cli.main()
            raise SystemExit(0)
        assert not ended.value.code
        said = json.loads(capsys.readouterr().out)
        model = said["models"][0]
        wanted = (model["name"], "psnr_rgb")
        return model, next(row for row in said["results"] if (row["experiment"], row["quantity"]) == wanted)["note"]

    (careful, untouched), (restoring, touched) = judged(), judged("--always")
    assert (careful["name"], restoring["name"]) == ("careful", "careful-always")
    assert careful["content"] != restoring["content"]
    assert (untouched, touched) == ("infinite", None)
