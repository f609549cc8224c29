"""Pairs: every layout is found and said, ambiguity is an error, nothing is left out in silence."""

import random
import shutil
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from pydantic import ValidationError

from unseen.errors import ConfigError, DataError, ImageError
from unseen.images import write_image
from unseen.pair_folder import PairFolder, PairFolderConfig
from unseen.pair_folder.names import match_files, match_folders
from unseen.pair_folder.sides import degraded_half


def put(root: Path, *names: str, size: tuple[int, int] = (8, 6)) -> None:
    """Images, (h, w), whose grey value tells their name."""
    for name in names:
        write_image(root / name, np.full((*size, 3), grey(name), dtype=np.uint8))


def grey(name: str) -> int:
    return sum(map(ord, name)) % 256


def read(root: Path, **options: object) -> PairFolder:
    return PairFolder(PairFolderConfig.model_validate({"folder": str(root), **options}))


def paired(folder: PairFolder) -> dict[str, str]:
    return dict(zip(folder.names, folder.clean_of, strict=True))


def photograph(seed: int, size: int = 96) -> NDArray[np.float64]:
    """Smooth shapes with edges and some texture: (size, size, 3) in 40..215."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:size, :size] / size
    image = np.zeros((size, size))
    for _ in range(12):
        row, column, turn, height = rng.random(4)
        edge = (rows - row) * np.cos(7 * turn) + (columns - column) * np.sin(7 * turn)
        image += (height - 0.5) * (edge > 0)
    image += 0.2 * np.sin(40 * (rows + rng.random() * columns)) + 0.1 * rng.random((size, size))
    image = 40 + 175 * (image - image.min()) / np.ptp(image)
    return np.repeat(image[..., None], 3, axis=2)


def blurred(image: NDArray[np.float64]) -> NDArray[np.float64]:
    shifts = [(down, right) for down in range(-2, 3) for right in range(-2, 3)]
    return np.mean([np.roll(image, shift, (0, 1)) for shift in shifts], axis=0)


def rainy(image: NDArray[np.float64], seed: int) -> NDArray[np.float64]:
    drops = np.random.default_rng(seed).random(image.shape[:2]) > 0.98
    streaks = np.sum([np.roll(drops, step, 0) for step in range(9)], axis=0)
    return np.clip(image + 90.0 * streaks[..., None], 0, 255)


FOLDERS = (
    *(("input", "target"), ("rainy", "gt"), ("rain", "norain"), ("lq", "gt"), ("LQ", "GT"), ("noisy", "clean")),
    *(("blur", "sharp"), ("hazy", "clear"), ("degraded", "clean"), ("input", "gt"), ("rainy_image", "ground_truth")),
    *(("data", "gt"), ("Input", "groundTruth")),
)


@pytest.mark.parametrize(("degraded", "clean"), FOLDERS, ids=lambda name: name)
@pytest.mark.parametrize("parent", ["", "train/", "a/b/"], ids=["top", "train", "deep"])
def test_two_folders_are_known_by_their_names(tmp_path: Path, parent: str, degraded: str, clean: str) -> None:
    put(tmp_path, *(f"{parent}{degraded}/{name}" for name in ("2.png", "10.png", "x/1.png")))
    put(tmp_path, *(f"{parent}{clean}/{name}" for name in ("2.bmp", "10.png", "x/1.png")))
    folder = read(tmp_path)
    assert paired(folder) == {
        "10.png": f"{parent}{clean}/10.png",
        "2.png": f"{parent}{clean}/2.bmp",
        "x/1.png": f"{parent}{clean}/x/1.png",
    }
    assert folder.layout == f"3 pairs: {parent}{degraded}/ and {parent}{clean}/, matched by name."
    assert folder.unmatched == folder.mismatched == []
    pair = folder.read(1)
    assert folder.size(1) == pair.clean.shape[:2] == (8, 6)
    assert (pair.degraded == grey(f"{parent}{degraded}/2.png")).all()
    assert pair.mask is None


def test_several_pairs_of_folders_are_an_error_that_lists_them(tmp_path: Path) -> None:
    for part in ("train", "test"):
        put(tmp_path, f"{part}/input/1.png", f"{part}/target/1.png")
    with pytest.raises(DataError, match=r"test/input/ and test/target/; train/input/ and train/target/.*take all"):
        read(tmp_path)
    assert read(tmp_path / "test").names == ["1.png"]
    assert paired(read(tmp_path, degraded="train/input", clean="train/target")) == {"1.png": "train/target/1.png"}
    everything = read(tmp_path, degraded="input", clean="target")
    assert paired(everything) == {"test/1.png": "test/target/1.png", "train/1.png": "train/target/1.png"}
    assert everything.layout == "2 pairs: input/ and target/ in 2 folders, matched by name."


def test_more_than_two_sides_are_an_error_until_two_are_named(tmp_path: Path) -> None:
    put(tmp_path, "input/1.png", "noisy/1.png", "target/1.png")
    with pytest.raises(DataError, match=r"input/ and target/; noisy/ and target/.*degraded: input, clean: target"):
        read(tmp_path)
    folder = read(tmp_path, degraded="noisy", clean="target")
    assert (folder.read(0).degraded == grey("noisy/1.png")).all()
    assert folder.unmatched == ["input/: 1 image in neither side"]


def test_folders_of_any_names_are_read_when_they_are_named(tmp_path: Path) -> None:
    put(tmp_path, "before/1.png", "after/1.png")
    with pytest.raises(DataError, match=r"no pairs in a known layout.*2 images in folders after/, before/"):
        read(tmp_path)
    assert paired(read(tmp_path, degraded="before/", clean="after")) == {"1.png": "after/1.png"}
    with pytest.raises(ConfigError, match="Folders with images: after/, before/"):
        read(tmp_path, degraded="before", clean="beyond")
    with pytest.raises(DataError, match="No two folders of pairs"):
        read(tmp_path, layout="folders")


def test_what_is_in_no_pair_is_listed_with_the_reason(tmp_path: Path) -> None:
    put(tmp_path, "input/1.png", "input/2.png", "target/1.png", "target/3.png", "cover.png", "extra/a.png")
    (tmp_path / "input" / ".hidden.png").write_bytes(b"")
    (tmp_path / "input" / "notes.txt").write_text("not an image")
    folder = read(tmp_path)
    assert folder.names == ["1.png"]
    assert folder.unmatched == [
        "input/2.png: no clean image in target/",
        "target/3.png: no degraded image in input/",
        "the top folder: 1 image in neither side",
        "extra/: 1 image in neither side",
    ]


def test_pairs_of_two_sizes_are_listed_with_both(tmp_path: Path) -> None:
    put(tmp_path, "input/1.png", "target/1.png", "input/2.png")
    put(tmp_path, "target/2.png", size=(6, 8))
    folder = read(tmp_path)
    assert folder.names == ["1.png"]
    assert folder.mismatched == ["input/2.png has 6 x 8 pixels, target/2.png 8 x 6"]
    (tmp_path / "input" / "1.png").unlink()
    with pytest.raises(DataError, match=r"No pair .* can be used .*6 x 8"):
        read(tmp_path)


NAMES = {
    "prefix": ("rain-{}.png", "norain-{}.png"),
    "suffix": ("{}_rain.png", "{}_clean.png"),
    "shots": ("{}_real.JPG", "{}_mean.JPG"),
    "capitals": ("{}_Real.png", "{}_Mean.png"),
    "between": ("a{}_NOISY_SRGB_010.png", "a{}_GT_SRGB_010.png"),
    "alone": ("{}/blur.png", "{}/sharp.png"),
    "two words": ("rain_{}_input.png", "rain_{}_target.png"),
}


@pytest.mark.parametrize(("degraded", "clean"), NAMES.values(), ids=NAMES)
def test_names_in_one_folder_are_told_apart_by_a_word(tmp_path: Path, degraded: str, clean: str) -> None:
    numbers = ("1", "2", "10", "007")
    put(tmp_path, *(pattern.format(number) for number in numbers for pattern in (degraded, clean)))
    folder = read(tmp_path)
    assert paired(folder) == {degraded.format(number): clean.format(number) for number in numbers}
    assert "told apart by file name" in folder.layout
    assert paired(read(tmp_path, degraded=degraded, clean=clean)) == paired(folder)


@pytest.mark.parametrize(
    ("degraded", "clean"),
    [
        ("rain-{}", "norain-{}"),
        ("{}_rain", "{}_clean"),
        ("{}_x2", "{}"),
        ("frame{}_before", "picture{}"),
        ("shot-{}", "{}"),
        ("{}-1", "{}gt-1"),
        ("{}_0.8_0.2", "{}"),
    ],
)
def test_names_in_two_folders_may_differ_in_beginning_and_end(tmp_path: Path, degraded: str, clean: str) -> None:
    numbers = ("001", "002", "010", "102")
    put(tmp_path, *(f"input/{degraded.format(number)}.png" for number in numbers))
    put(tmp_path, *(f"target/{clean.format(number)}.png" for number in numbers[1:]))
    folder = read(tmp_path)
    assert paired(folder) == {
        f"{degraded.format(number)}.png": f"target/{clean.format(number)}.png" for number in numbers[1:]
    }
    assert folder.unmatched == [f"input/{degraded.format('001')}.png: no clean image in target/"]


@pytest.mark.parametrize("separate", [True, False], ids=["two folders", "one folder"])
@pytest.mark.parametrize("word", ["", "_rain"], ids=["numbers", "words"])
def test_several_degraded_images_share_a_clean_one(tmp_path: Path, separate: bool, word: str) -> None:
    here, there = ("rainy_image/", "ground_truth/") if separate else ("", "")
    end = "_gt" if word else ""
    put(tmp_path, *(f"{there}{scene}{end}.png" for scene in (90, 901)))
    put(tmp_path, *(f"{here}{scene}{word}_{number}.png" for scene in (90, 901) for number in range(1, 15)))
    folder = read(tmp_path)
    assert len(folder) == 28
    assert set(paired(folder).items()) == {
        (f"{scene}{word}_{number}.png", f"{there}{scene}{end}.png") for scene in (90, 901) for number in range(1, 15)
    }
    assert folder.layout.startswith("28 pairs of 2 clean images: ")
    assert [name for name, _ in folder.clean_images()] == sorted([f"{there}90{end}.png", f"{there}901{end}.png"])


def test_names_are_not_continued_where_they_match_as_they_are(tmp_path: Path) -> None:
    put(tmp_path, "input/1.png", "input/1_2.png", "target/1.png")
    folder = read(tmp_path)
    assert folder.names == ["1.png"]
    assert folder.unmatched == ["input/1_2.png: no clean image in target/"]
    both = read(tmp_path, degraded="input/{}_*", clean="target/{}")
    assert paired(both) == {"input/1_2.png": "target/1.png"}


def test_ambiguous_names_are_an_error_that_says_how_to_tell_them_apart(tmp_path: Path) -> None:
    put(tmp_path, "1_rain.png", "1_noisy.png", "1_clean.png")
    with pytest.raises(DataError, match=r"'noisy' in the name.*'rain' in the name.*give patterns"):
        read(tmp_path)
    folder = read(tmp_path, degraded="{}_rain", clean="{}_clean")
    assert paired(folder) == {"1_rain.png": "1_clean.png"}
    assert folder.unmatched == ["1_noisy.png: in no pair by its name"]


def test_two_clean_images_of_one_name_are_an_error(tmp_path: Path) -> None:
    put(tmp_path, "input/1.png", "target/1.png", "target/1.bmp")
    with pytest.raises(DataError, match=r"several clean images of one name: target/1.bmp and target/1.png"):
        read(tmp_path)
    assert paired(read(tmp_path, degraded="input/{}.png", clean="target/{}.png")) == {"input/1.png": "target/1.png"}


def test_two_readings_that_pair_as_many_files_are_an_error(tmp_path: Path) -> None:
    put(tmp_path, "input/a.png", "input/b_rain.png", "target/a.png", "target/b_gt.png")
    with pytest.raises(DataError, match="can be read in two ways"):
        read(tmp_path)


def test_unrelated_names_are_never_paired(tmp_path: Path) -> None:
    put(tmp_path, "input/cat.png", "input/car.png", "target/dot.png", "target/dor.png")
    with pytest.raises(DataError, match=r"do not match: saw input/car.png, input/cat.png and target/dor.png"):
        read(tmp_path)
    put(tmp_path / "one", "input/a.png", "target/b.png")
    with pytest.raises(DataError, match="do not match"):
        read(tmp_path / "one")


def test_patterns_that_fit_nothing_are_an_error(tmp_path: Path) -> None:
    put(tmp_path, "a-1.png", "b-1.png")
    for degraded, clean in [("c-{}", "b-{}"), ("{}", "{}"), ("a-{}.jpg", "b-{}.jpg")]:
        with pytest.raises(ConfigError, match=r"make no pairs.*saw 2 images, such as a-1.png, b-1.png"):
            read(tmp_path, degraded=degraded, clean=clean)
    assert paired(read(tmp_path, degraded="a-{}", clean="b-{}")) == {"a-1.png": "b-1.png"}
    with pytest.raises(DataError, match="do not tell pairs"):
        read(tmp_path, layout="names")


@pytest.mark.parametrize("degrade", [rainy, lambda image, _: blurred(image)], ids=["rain", "blur"])
@pytest.mark.parametrize("side", ["left", "right"])
def test_side_by_side_images_are_found_with_the_degraded_half(tmp_path: Path, degrade, side: str) -> None:
    for number in range(3):
        clean = photograph(number)
        halves = [degrade(clean, number), clean]
        write_image(tmp_path / f"{number}.png", np.rint(np.hstack(halves if side == "left" else halves[::-1])) / 255)
    folder = read(tmp_path)
    assert f"the {side} half degraded (a guess from 3 files: degraded_side overrides it)" in folder.layout
    assert folder.size(0) == (96, 96)
    assert (folder.read(1).clean == np.rint(photograph(1))).all()
    assert (folder.read(1).degraded == np.rint(degrade(photograph(1), 1))).all()
    assert folder.clean_of == folder.names == ["0.png", "1.png", "2.png"]
    assert (next(folder.clean_images())[1] == np.rint(photograph(0))).all()
    other = read(tmp_path, degraded_side={"left": "right", "right": "left"}[side])
    assert (other.read(1).degraded == folder.read(1).clean).all()
    assert other.content_hash != folder.content_hash
    assert read(tmp_path, degraded_side=side).content_hash == folder.content_hash


def test_halves_that_cannot_be_told_apart_need_the_side(tmp_path: Path) -> None:
    for number in range(3):
        clean = photograph(number)
        write_image(tmp_path / f"{number}.png", np.rint(np.hstack([clean, clean])) / 255)
    put(tmp_path, "odd.png", size=(96, 193))
    for layout in ("auto", "side-by-side"):
        with pytest.raises(DataError, match=r"cannot be told from the 3 files looked at.*degraded_side: left"):
            read(tmp_path, layout=layout)
    folder = read(tmp_path, degraded_side="right")
    assert len(folder) == 3
    assert folder.mismatched == ["odd.png: 193 columns cannot be halved"]


def test_ordinary_photographs_are_no_pairs(tmp_path: Path) -> None:
    for number in range(4):
        write_image(tmp_path / f"{number}.png", np.rint(photograph(number)) / 255)
    with pytest.raises(DataError, match="no pairs in a known layout"):
        read(tmp_path)


def test_identical_halves_say_nothing() -> None:
    image = photograph(0).astype(np.uint8)
    assert degraded_half([(image, image)]) is None
    assert degraded_half([(np.zeros_like(image), np.zeros_like(image))]) is None
    assert degraded_half([(np.zeros_like(image), image)]) is None
    assert degraded_half([]) is None


def test_masks_of_exported_suites_are_read(tmp_path: Path) -> None:
    put(tmp_path, "input/1.png", "target/1.png", "layer/1.png")
    mask = np.zeros((8, 6), np.uint8)
    mask[2:4], mask[5], mask[6] = 255, 127, 128
    write_image(tmp_path / "mask" / "1.png", mask)
    folder = read(tmp_path)
    assert folder.unmatched == []
    assert folder.layout == "1 pair: input/ and target/, matched by name, with masks in mask/."
    found = folder.read(0).mask
    assert found is not None
    assert found.dtype == np.uint8
    assert np.array_equal(found, mask > 127)
    put(tmp_path, "input/2.png", "target/2.png")
    with pytest.raises(DataError, match=r"mask/ of .* no masks of 1 degraded images: input/2.png"):
        read(tmp_path)
    put(tmp_path, "mask/2.png", size=(4, 4))
    assert read(tmp_path).mismatched == ["input/2.png has 6 x 8 pixels, mask/2.png 4 x 4"]


def test_parts_never_share_a_clean_image(tmp_path: Path) -> None:
    put(tmp_path, *(f"target/{scene}.png" for scene in range(5)))
    put(tmp_path, *(f"input/{scene}_{number}.png" for scene in range(5) for number in range(scene + 1)))
    whole, train, test = (read(tmp_path, holdout=2, part=part) for part in (None, "train", "test"))
    assert len(whole) == 15
    assert set(test.clean_of) == {"target/3.png", "target/4.png"}
    assert set(train.clean_of) == {"target/0.png", "target/1.png", "target/2.png"}
    assert sorted(train.names + test.names) == whole.names
    assert test.layout.startswith("9 pairs of 2 clean images (the test part): ")
    assert len({whole.content_hash, train.content_hash, test.content_hash}) == 3
    copy = sorted((tmp_path / "target").iterdir())
    copy[0].write_bytes(copy[-1].read_bytes())  # one image, held out under its second name
    again = read(tmp_path, holdout=2, part="train")
    assert set(again.clean_of) == {"target/1.png", "target/2.png"}
    assert any(copy[0].name in reason and "held out" in reason for reason in again.unmatched)
    assert read(tmp_path, holdout=2, part="test").names == test.names
    with pytest.raises(ConfigError, match=r"holdout is 5, but .* holds 5 clean images"):
        read(tmp_path, holdout=5)


def test_the_hash_depends_on_bytes_and_pairing_and_not_on_the_place(tmp_path: Path) -> None:
    put(tmp_path / "one", "input/1.png", "input/2.png", "target/1.png", "target/2.png")
    shutil.copytree(tmp_path / "one", tmp_path / "two")
    hashes = {read(tmp_path / name).content_hash for name in ("one", "two")}
    assert len(hashes) == 1
    assert read(tmp_path / "one", degraded="target", clean="input").content_hash not in hashes
    target = tmp_path / "two" / "target"
    (target / "1.png").rename(target / "3.png")
    (target / "2.png").rename(target / "1.png")
    (target / "3.png").rename(target / "2.png")
    assert read(tmp_path / "two").content_hash not in hashes


def test_what_is_wrong_with_a_folder_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DataError, match="does not exist"):
        read(tmp_path / "missing")
    with pytest.raises(DataError, match="No images"):
        read(tmp_path)
    put(tmp_path / "single", "one.png")
    with pytest.raises(DataError, match=r"saw 1 image, such as one.png"):
        read(tmp_path / "single")
    put(tmp_path / "text", "input/1.png", "target/1.png")
    (tmp_path / "text" / "input" / "1.png").write_text("no image")
    with pytest.raises(ImageError, match=r"input/1.png: its content is not an image"):
        read(tmp_path / "text")
    monkeypatch.delenv("UNSEEN_ABSENT", raising=False)
    with pytest.raises(ConfigError, match="UNSEEN_ABSENT"):
        read(Path("${UNSEEN_ABSENT}"))
    monkeypatch.setenv("UNSEEN_ABSENT", str(tmp_path))
    put(tmp_path / "good", "input/1.png", "target/1.png")
    assert len(read(Path("${UNSEEN_ABSENT}/good"))) == 1


@pytest.mark.parametrize(
    "options",
    [
        {"degraded": "input"},
        {"degraded": "{}_a", "clean": "target"},
        {"degraded": "{}_{}", "clean": "{}"},
        {"degraded": "input", "clean": "target", "layout": "side-by-side"},
        {"degraded": "input", "clean": "target", "layout": "names"},
        {"degraded": "{}_a", "clean": "{}", "layout": "folders"},
        {"degraded_side": "left", "layout": "folders"},
        {"degraded_side": "up"},
        {"part": "test"},
        {"holdout": -1},
        {"unknown": 1},
    ],
)
def test_settings_that_contradict_each_other_are_refused(tmp_path: Path, options: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        read(tmp_path, **options)


SCENES = st.sets(st.integers(0, 9999).map(str) | st.integers(0, 999).map("ab{}".format), min_size=2, max_size=12)


def shuffled(files: Iterable[str], seed: int) -> dict[str, str]:
    order = sorted(files)
    random.Random(seed).shuffle(order)
    return {file: file.partition("/")[2] or file for file in order}


@settings(max_examples=50, deadline=None)
@given(SCENES, st.sampled_from(sorted(NAMES)), st.integers(0, 9))
def test_matching_is_a_bijection_whatever_the_order(scenes: set[str], layout: str, seed: int) -> None:
    degraded, clean = NAMES[layout]
    expected = {degraded.format(scene): clean.format(scene) for scene in scenes}
    matched = match_files("a folder", shuffled([*expected, *expected.values()], seed))
    assert matched is not None
    assert matched.pairs == expected


@settings(max_examples=50, deadline=None)
@given(SCENES, st.sampled_from([*NAMES.values(), ("x{}", "y{}"), ("{}", "{}")]), st.integers(0, 9))
def test_matching_across_folders_is_a_bijection_whatever_the_order(
    scenes: set[str], patterns: tuple[str, str], seed: int
) -> None:
    degraded, clean = (pattern.replace("{}", "7-{}") for pattern in patterns)
    expected = {f"input/{degraded.format(scene)}": f"target/{clean.format(scene)}" for scene in scenes}
    matched = match_folders("a folder", shuffled(expected, seed), shuffled(expected.values(), seed + 1))
    assert matched is not None
    assert matched.pairs == expected


@pytest.mark.parametrize("name", ["rain100l", "rain100h", "polyu_noise", "lai_blur"])
def test_shared_pairs_are_read(shared_data: Path, name: str) -> None:
    folder = read(shared_data / "pairs" / name)
    assert len(folder) in (25, 50, 51)
    assert folder.unmatched == folder.mismatched == []
    pair = folder.read(0)
    assert pair.degraded.shape == pair.clean.shape == (*folder.size(0), 3)


def test_the_degraded_half_of_shared_pairs_is_found(shared_data: Path) -> None:
    for name, half in [("rain100l", "left"), ("rain100h", "left"), ("polyu_noise", "left"), ("lai_blur", "left")]:
        folder = read(shared_data / "pairs" / name)
        pairs = [folder.read(index) for index in range(0, len(folder), 7)]
        assert degraded_half([(pair.degraded, pair.clean) for pair in pairs]) == half
