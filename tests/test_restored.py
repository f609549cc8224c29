"""Images that another tool has restored are judged like a restorer."""

from pathlib import Path

import numpy as np
import pytest
import torch

from unseen.backgrounds import Backgrounds, BackgroundsConfig
from unseen.degradations import Rain
from unseen.errors import DataError
from unseen.evaluation.baselines import box
from unseen.evaluation.evaluate import evaluate
from unseen.evaluation.export import export_suite
from unseen.evaluation.restored import RestoredFolder
from unseen.evaluation.suites import PairSuite, Suite
from unseen.images import read_image, to_bytes, write_image
from unseen.pair_folder import PairFolderConfig

SIZES = [(40, 40), (40, 40), (30, 50)]


@pytest.fixture
def suite(tmp_path: Path) -> PairSuite:
    rng = np.random.default_rng(0)
    for number, size in enumerate(SIZES):
        write_image(tmp_path / "clean" / f"{number}.png", rng.uniform(0.1, 0.6, (*size, 3)))
    images = Backgrounds(BackgroundsConfig(source=str(tmp_path / "clean")))
    steep = Suite(name="steep", degradation=Rain.preset("steep", scale=0.25))
    export_suite(steep, images, tmp_path / "steep", crop=64)
    return PairSuite(name="steep", pairs=PairFolderConfig(folder=str(tmp_path / "steep")))


def restore(suite: PairSuite, folder: Path, ending: str = ".png") -> Path:
    """What a tool that blurs would leave behind."""
    for file in sorted((Path(suite.pairs.folder) / "input").iterdir()):
        degraded = torch.from_numpy(read_image(file)).permute(2, 0, 1)[None].float() / 255
        write_image(folder / f"{file.stem}{ending}", to_bytes(box(degraded)[0].permute(1, 2, 0).numpy()))
    return folder


@pytest.mark.parametrize("place", [".", "steep"])
def test_a_folder_scores_as_the_restorer_that_made_it(suite: PairSuite, tmp_path: Path, place: str) -> None:
    folder = restore(suite, tmp_path / "out" / place)
    kept = evaluate(RestoredFolder(tmp_path / "out"), [suite], name="box", baselines=False)
    made = evaluate(box, [suite], name="box", baselines=False)
    assert folder.is_dir()
    psnr = kept[kept.metric == "psnr_rgb"].value.to_numpy() - made[made.metric == "psnr_rgb"].value.to_numpy()
    assert len(psnr) == len(SIZES)
    assert np.abs(psnr).max() < 0.01  # 8 bits


def test_another_ending_is_the_same_image(suite: PairSuite, tmp_path: Path) -> None:
    restore(suite, tmp_path / "out", ".webp")
    assert len(evaluate(RestoredFolder(tmp_path / "out"), [suite], ssim=False, baselines=False))


def test_a_missing_image_is_named(suite: PairSuite, tmp_path: Path) -> None:
    (restore(suite, tmp_path / "out") / "1.png").unlink()
    with pytest.raises(DataError, match=r"1\.png.*holds 2 images"):
        evaluate(RestoredFolder(tmp_path / "out"), [suite], baselines=False)


def test_another_size_is_refused(suite: PairSuite, tmp_path: Path) -> None:
    write_image(restore(suite, tmp_path / "out") / "0.png", np.zeros((20, 20, 3)))
    with pytest.raises(DataError, match="must keep the size"):
        evaluate(RestoredFolder(tmp_path / "out"), [suite], baselines=False)


def test_two_images_of_one_name_are_refused(suite: PairSuite, tmp_path: Path) -> None:
    restore(suite, tmp_path / "out")
    restore(suite, tmp_path / "out", ".bmp")
    with pytest.raises(DataError, match="differ only in their ending"):
        evaluate(RestoredFolder(tmp_path / "out"), [suite], baselines=False)


def test_one_folder_for_several_suites_is_refused(suite: PairSuite, tmp_path: Path) -> None:
    restore(suite, tmp_path / "out")
    with pytest.raises(DataError, match="no folder steep, and 2 suites"):
        evaluate(RestoredFolder(tmp_path / "out"), [suite, suite.model_copy(update={"name": "other"})], baselines=False)
