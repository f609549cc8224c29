"""An exported suite is the suite: the same scores to 8-bit rounding, the same bytes every time, and hashes to tell."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from unseen.backgrounds import Backgrounds, BackgroundsConfig
from unseen.degradations import Rain, preset
from unseen.errors import ConfigError, DataError
from unseen.evaluation.baselines import median
from unseen.evaluation.evaluate import evaluate
from unseen.evaluation.export import DEEP, check_export, export_suite
from unseen.evaluation.suites import PairSuite, Suite
from unseen.images import read_image, write_image
from unseen.pair_folder import PairFolderConfig
from unseen.rows import summarise

STEEP = Suite(name="steep", degradation=Rain.preset("steep", scale=0.25))


@pytest.fixture
def images(tmp_path: Path) -> Backgrounds:
    rng = np.random.default_rng(0)
    for number, size in enumerate([(60, 60), (60, 60), (50, 70)]):
        write_image(tmp_path / "clean" / "deep" / f"{number}.png", rng.uniform(0.1, 0.6, (*size, 3)))
    return Backgrounds(BackgroundsConfig(source=str(tmp_path / "clean")))


def pairs(folder: Path) -> PairSuite:
    return PairSuite(name="steep", pairs=PairFolderConfig(folder=str(folder)))


def test_read_back_it_scores_as_it_did_in_memory(images: Backgrounds, tmp_path: Path) -> None:
    export_suite(STEEP, images, tmp_path / "out", crop=64)
    memory = summarise(evaluate(median, [STEEP], images, crop=64, name="median", baselines=False)).iloc[0]
    disk = summarise(evaluate(median, [pairs(tmp_path / "out")], name="median", baselines=False)).iloc[0]
    assert disk.psnr_rgb == pytest.approx(memory.psnr_rgb, abs=0.01)
    assert disk.psnr_y == pytest.approx(memory.psnr_y, abs=0.01)
    for quantity in ("ssim_y", "removal_ratio", "residual", "reconstruction", "retention"):
        assert disk[quantity] == pytest.approx(memory[quantity], abs=1e-3), quantity
    assert disk.images == memory.images == 3


@pytest.mark.parametrize("name", ["steep", "gaussian25", "motion"])
def test_read_back_it_is_read_as_it_was_unless_told_otherwise(images: Backgrounds, tmp_path: Path, name: str) -> None:
    suite = Suite(name=name, degradation=preset(name, 0.25))
    export_suite(suite, images, tmp_path / "out", crop=64)
    back = pairs(tmp_path / "out")
    assert (
        (back.color, back.bands) == (suite.color, suite.bands) == (("y", False) if name == "steep" else ("rgb", True))
    )
    memory, disk = (
        summarise(evaluate(median, [one], images, crop=64, draws=1, name="median", baselines=False)).iloc[0]
        for one in (suite, back)
    )
    for quantity in ("psnr_rgb", "error_under4", "bias"):
        assert disk[quantity] == pytest.approx(memory[quantity], abs=0.01, nan_ok=True), quantity
    told = PairSuite.model_validate({**back.model_dump(), "color": "y"})
    assert (told.color, told.bands) == ("y", False)


def test_it_keeps_the_mask_and_the_layer(images: Backgrounds, tmp_path: Path) -> None:
    manifest = export_suite(STEEP, images, tmp_path / "out", crop=64)
    peaks = {image["name"]: image["layer_peak"] for image in json.loads(manifest.read_text())["images"]}
    for names, batch in STEEP.batches(images, 64):
        for index, name in enumerate(names):
            mask = read_image(tmp_path / "out" / "mask" / name)[..., 0]
            layer = np.asarray(Image.open(tmp_path / "out" / "layer" / name), np.float64) / DEEP * peaks[name]
            assert np.array_equal(mask > 0, batch.mask[index, 0].numpy() > 0)
            assert np.abs(layer - batch.layer[index, 0].numpy()).max() <= peaks[name] / DEEP


def test_it_knows_what_it_is_outside_of(images: Backgrounds, tmp_path: Path) -> None:
    export_suite(STEEP, images, tmp_path / "out", crop=64)
    suite, medium = pairs(tmp_path / "out"), Rain.preset("medium", scale=0.25)
    assert suite.group(medium) == "unseen"
    assert suite.outside(medium) == STEEP.outside(medium)
    assert suite.group(Rain.preset("large", scale=0.25)) == "seen"


def test_twice_it_is_the_same_bytes(images: Backgrounds, tmp_path: Path) -> None:
    one, two = (export_suite(STEEP, images, tmp_path / name, crop=64) for name in ("one", "two"))
    assert one.read_bytes() == two.read_bytes()
    assert check_export(tmp_path / "one") == check_export(tmp_path / "two")


def test_a_changed_file_is_found(images: Backgrounds, tmp_path: Path) -> None:
    export_suite(STEEP, images, tmp_path / "out", crop=64)
    write_image(tmp_path / "out" / "target" / "deep" / "1.png", np.zeros((60, 60, 3)))
    (tmp_path / "out" / "input" / "deep" / "0.png").unlink()
    with pytest.raises(DataError, match=r"2 files.*input/deep/0\.png is missing; target/deep/1\.png has changed"):
        check_export(tmp_path / "out")


def test_a_folder_that_holds_something_else_is_left_alone(images: Backgrounds, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="holds no exported suite"):
        export_suite(STEEP, images, tmp_path / "clean")


@pytest.mark.parametrize("path", ["../secret", "/etc/passwd"])
def test_a_manifest_that_looks_elsewhere_is_refused(images: Backgrounds, tmp_path: Path, path: str) -> None:
    manifest = export_suite(STEEP, images, tmp_path / "out", crop=64)
    value = json.loads(manifest.read_text())
    value["images"][0]["files"] = {path: "0"}
    manifest.write_text(json.dumps(value))
    with pytest.raises(DataError, match="outside its folder"):
        check_export(tmp_path / "out")


@pytest.mark.parametrize("text", ["", "{}", "[1]", '{"format": "other"}'])
def test_a_manifest_that_is_none_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(DataError):
        check_export(tmp_path)


def test_exported_again_nothing_of_the_first_is_left(images: Backgrounds, tmp_path: Path) -> None:
    export_suite(STEEP, images, tmp_path / "out", crop=64)
    (tmp_path / "out" / "notes.txt").write_text("mine")
    export_suite(STEEP, images, tmp_path / "out", crop=64, limit=1, seed=1)
    assert len(list((tmp_path / "out" / "input").rglob("*.png"))) == 1
    assert (tmp_path / "out" / "notes.txt").is_file()
    write_image(tmp_path / "out" / "input" / "more.png", np.zeros((8, 8)))
    with pytest.raises(DataError, match=r"input/more\.png was not exported"):
        check_export(tmp_path / "out")
