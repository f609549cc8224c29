"""Leaks: the same picture is found whatever was done to it, other pictures are not, and files are not trusted."""

import io
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skimage.data
import torch
from PIL import Image
from safetensors.numpy import save_file
from safetensors.torch import save_file as save_torch

from unseen import cli
from unseen.errors import DataError
from unseen.images import Bytes, read_image, write_image
from unseen.leaks import (
    THRESHOLD,
    Fingerprints,
    Leak,
    find_leaks,
    fingerprints,
    joined,
    load_fingerprints,
    refuse_leaks,
    save_fingerprints,
)

PHOTOGRAPHS = {
    "astronaut": lambda: skimage.data.astronaut()[::2, ::2],
    "cat": lambda: skimage.data.chelsea()[:, :400],
    "coffee": lambda: skimage.data.coffee()[::2, ::2],
    "rocket": lambda: skimage.data.rocket()[::2, ::2],
    "retina": lambda: skimage.data.retina()[::6, ::6],
    "coins": lambda: np.repeat(skimage.data.coins()[..., None], 3, axis=2),
}


@pytest.fixture(scope="module")
def pictures() -> dict[str, Bytes]:
    """Different photographs, about 256 pixels a side."""
    return {name: np.ascontiguousarray(make()) for name, make in PHOTOGRAPHS.items()}


@pytest.fixture(scope="module")
def prints(pictures: dict[str, Bytes]) -> Fingerprints:
    return fingerprints(pictures.items())


def jpeg(image: Bytes, quality: int = 70) -> Bytes:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file))


def resized(image: Bytes, factor: float) -> Bytes:
    height, width = image.shape[:2]
    return np.asarray(Image.fromarray(image).resize((round(factor * width), round(factor * height))))


def cut(image: Bytes, top: float, bottom: float, left: float, right: float) -> Bytes:
    """What lies between these shares of height and width."""
    height, width = image.shape[:2]
    return image[round(top * height) : round(bottom * height), round(left * width) : round(right * width)]


def mirrored(image: Bytes) -> Bytes:
    return np.ascontiguousarray(image[:, ::-1])


CHANGES: dict[str, Callable[[Bytes], Bytes]] = {
    "jpeg": jpeg,
    "mirrored, turned, resized, as JPEG": lambda image: jpeg(
        resized(np.ascontiguousarray(np.rot90(mirrored(image))), 0.8)
    ),
    "brighter": lambda image: np.clip(0.8 * image + 30, 0, 255).astype(np.uint8),
    "border cut and resized": lambda image: resized(cut(image, 0.05, 0.97, 0.03, 0.96), 0.7),
    "cut": lambda image: cut(image, 0.1, 0.7, 0.3, 0.9),
    "small, mirrored cut, as JPEG": lambda image: jpeg(mirrored(cut(image, 0.45, 0.95, 0.1, 0.65)), 80),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_changed_picture_is_found_and_no_other(
    pictures: dict[str, Bytes], prints: Fingerprints, change: Callable[[Bytes], Bytes]
) -> None:
    changed = fingerprints((name, np.ascontiguousarray(change(image))) for name, image in pictures.items())
    for train, test in ((prints, changed), (changed, prints)):  # either may be the one that was changed
        leaks = find_leaks(train, test)
        assert [(leak.train, leak.test) for leak in leaks if leak.train != leak.test] == []
        assert {leak.train for leak in leaks} == set(pictures)
        assert all(THRESHOLD <= leak.similarity <= 1 for leak in leaks)


def test_mirroring_is_told(prints: Fingerprints, pictures: dict[str, Bytes]) -> None:
    plain = find_leaks(prints, prints)
    assert [leak.similarity for leak in plain] == pytest.approx([1] * len(pictures), abs=1e-5)
    assert not any(leak.mirrored for leak in plain)
    turned = fingerprints([("cat", mirrored(pictures["cat"]))])
    assert [(leak.train, leak.mirrored) for leak in find_leaks(prints, turned)] == [("cat", True)]


def test_different_photographs_are_not_found(prints: Fingerprints) -> None:
    others = [leak for leak in find_leaks(prints, prints, threshold=0.0) if leak.train != leak.test]
    assert all(leak.similarity < 0.6 for leak in others)


def test_one_edge_does_not_make_pictures_alike() -> None:
    """A bright margin is all that they share: their largest differences agree, most others do not."""
    rng, images = np.random.default_rng(0), []
    for name in "ab":
        coarse = 60 + rng.normal(0, 6, (16, 16))
        image = np.asarray(Image.fromarray(coarse.astype(np.float32)).resize((256, 256), Image.Resampling.BICUBIC))
        image = image.copy()
        image[-10:] = 250
        images.append((name, np.repeat(image.clip(0, 255).astype(np.uint8)[..., None], 3, axis=2)))
    one, other = (fingerprints([image]) for image in images)
    assert find_leaks(one, other) == []
    assert len(find_leaks(one, one)) == 1


def test_flat_images_are_named_and_like_nothing(prints: Fingerprints) -> None:
    flat = fingerprints([("white", np.full((40, 60, 3), 255, np.uint8)), ("grey", np.full((64, 64, 3), 90, np.uint8))])
    assert flat.flat == ["white", "grey"]
    assert prints.flat == []
    assert find_leaks(flat, flat) == []
    assert find_leaks(joined([prints, flat]), flat) == []


def test_empty_sets_have_no_leaks(prints: Fingerprints) -> None:
    empty = fingerprints([])
    assert empty.flat == []
    assert find_leaks(empty, prints) == find_leaks(prints, empty) == find_leaks(empty, empty) == []


def test_progress_ends_at_its_total(prints: Fingerprints) -> None:
    told: list[tuple[int, int]] = []
    find_leaks(prints, prints, progress=lambda done, total: told.append((done, total)))
    assert told[-1][0] == told[-1][1]
    assert told == sorted(told)


def test_leaks_are_refused_with_the_culprits_named() -> None:
    leaks = [Leak(f"{n}.png", f"test/{n}.png", 0.9, n == 0) for n in range(7)]
    with pytest.raises(DataError, match=r"(?s)This model: 7 test images .*0\.png \(train\) .*mirrored.*and 2 more"):
        refuse_leaks(leaks, False, "This model")
    refuse_leaks(leaks, True, "This model")
    refuse_leaks([], False, "This model")


# --- files


def test_fingerprints_survive_saving(prints: Fingerprints, tmp_path: Path) -> None:
    file = tmp_path / "new" / "prints.safetensors"
    save_fingerprints(file, prints)
    found = load_fingerprints(file)
    assert found.names == prints.names
    assert np.array_equal(found.values, prints.values)
    assert np.array_equal(found.sizes, prints.sizes)
    assert [path.name for path in file.parent.iterdir()] == [file.name]


def header(names: Any = ("a",), format_: str = "unseen-fingerprints-1") -> dict[str, str]:
    return {"unseen": json.dumps({"format": format_, "names": names})}


GOOD = {"values": np.zeros((1, 1024), np.uint8), "sizes": np.ones((1, 2), np.int32)}
HOSTILE: dict[str, tuple[dict[str, np.ndarray], dict[str, str]]] = {
    "another format": (GOOD, header(format_="unseen-fingerprints-0")),
    "no header": (GOOD, {}),
    "a header that is no object": (GOOD, {"unseen": "[]"}),
    "a header too deep": (GOOD, {"unseen": "[" * 100_000}),
    "names that are none": (GOOD, header(["a", 3])),
    "names for more": (GOOD, header(["a", "b"])),
    "another shape": (GOOD | {"values": np.zeros((1, 10), np.uint8)}, header()),
    "another type": (GOOD | {"values": np.zeros((1, 1024), np.float32)}, header()),
    "a tensor too many": (GOOD | {"more": np.zeros(3)}, header()),
    "sizes of nothing": (GOOD | {"sizes": np.zeros((1, 2), np.int32)}, header()),
}


@pytest.mark.parametrize("content", HOSTILE.values(), ids=HOSTILE)
def test_hostile_files_are_refused(tmp_path: Path, content: tuple[dict[str, np.ndarray], dict[str, str]]) -> None:
    save_file(content[0], tmp_path / "prints.safetensors", metadata=content[1])
    with pytest.raises(DataError, match=r"prints\.safetensors does not hold fingerprints .* Delete it"):
        load_fingerprints(tmp_path / "prints.safetensors")


def test_files_that_are_something_else_are_refused(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("no tensors")
    unknown = {"values": torch.zeros(1, 1024, dtype=torch.bfloat16), "sizes": torch.ones(1, 2, dtype=torch.int32)}
    save_torch(unknown, tmp_path / "bf16", metadata=header())
    for name in ("text", "bf16"):
        with pytest.raises(DataError, match="does not hold fingerprints"):
            load_fingerprints(tmp_path / name)
    for name, cause in (("missing", "no such file"), (".", "a folder is in its place")):
        with pytest.raises(DataError, match=f"cannot be read: {cause}"):
            load_fingerprints(tmp_path / name)


# --- the verb


@pytest.fixture
def unseen(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Run the command in this process: exit code, stdout, stderr."""

    def run(*arguments: str | Path) -> tuple[int, str, str]:
        capsys.readouterr()
        monkeypatch.setattr(sys, "argv", ["unseen", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
            sys.exit(0)
        said = capsys.readouterr()
        return int(ended.value.code or 0), said.out, said.err

    return run


@pytest.fixture
def folders(pictures: dict[str, Bytes], tmp_path: Path) -> tuple[Path, Path]:
    """A training folder with the cat, and a folder of pairs: clean are the cat, mirrored, and a flat image."""
    train, test = tmp_path / "train", tmp_path / "test"
    for name in ("cat", "coffee"):
        write_image(train / f"{name}.png", pictures[name])
    for name, image in (("x", mirrored(pictures["cat"])), ("y", np.full((64, 64, 3), 90, np.uint8))):
        write_image(test / "target" / f"{name}.png", image)
        write_image(test / "input" / f"{name}.png", image // 2)
    return train, test


def test_the_verb_finds_leaks_and_draws_them(unseen: Any, folders: tuple[Path, Path], tmp_path: Path) -> None:
    train, test = folders
    sheet = tmp_path / "sheet.png"
    code, out, err = unseen("leaks", train, "--test", test, "--sheet", sheet)
    assert code == 1
    assert "cat.png" in out and "target/x.png" in out and "mirrored" in out
    assert "1 of 2 test images is among 2 training images" in out
    assert "target/y.png is flat" in err
    assert "2 pairs" in err
    assert read_image(sheet).shape == (256, 480, 3)


def test_the_verb_prints_json(unseen: Any, folders: tuple[Path, Path], tmp_path: Path) -> None:
    train, test = folders
    code, out, _ = unseen("leaks", train, "--test", test, "--json")
    told = json.loads(out)
    assert (code, told["train_images"], told["test_images"], told["sheet"]) == (1, 2, 2, None)
    (leak,) = told["leaks"]
    assert (leak["train"], leak["test"], leak["mirrored"]) == ("cat.png", "target/x.png", True)
    save_fingerprints(tmp_path / "fingerprints.safetensors", fingerprints([("a", read_image(train / "cat.png"))]))
    code, out, _ = unseen("leaks", tmp_path / "fingerprints.safetensors", train, "--test", test, "--json")
    named = {leak["train"] for leak in json.loads(out)["leaks"]}
    assert (code, named) == (1, {f"{tmp_path}/fingerprints.safetensors/a", f"{train}/cat.png"})


def test_the_verb_leaves_with_0_where_there_are_none(unseen: Any, folders: tuple[Path, Path]) -> None:
    train, test = folders
    (train / "cat.png").unlink()
    code, out, _ = unseen("leaks", train, "--test", test, "--sheet", train / "sheet.png")
    assert (code, out) == (0, "No leak: none of 2 test images is among 1 training images.\n")
    assert not (train / "sheet.png").exists()


def test_a_sheet_of_an_unknown_format_is_refused_before_anything_is_read(
    unseen: Any, folders: tuple[Path, Path]
) -> None:
    code, out, err = unseen("leaks", folders[0], "--test", folders[1], "--sheet", "foo")
    assert (code, out) == (2, "") and "unknown suffix" in err


def test_the_verb_says_what_is_missing(unseen: Any, folders: tuple[Path, Path], tmp_path: Path) -> None:
    code, out, err = unseen("leaks", tmp_path / "nowhere", "--test", folders[1])
    assert (code, out) == (2, "")
    assert "There is no" in err


def test_public_pairs_hidden_among_photographs_are_found(shared_data: Path) -> None:
    photographs = fingerprints(
        (file.name, read_image(file)) for file in sorted((shared_data / "backgrounds/natural").iterdir())[:60]
    )
    files = sorted((shared_data / "pairs/rain100l/target").iterdir())[:12]
    targets = fingerprints((file.name, read_image(file)) for file in files)
    hidden = fingerprints((file.name, jpeg(resized(mirrored(read_image(file)), 0.8))) for file in files)
    assert find_leaks(photographs, targets) == []
    found = {(leak.train, leak.test) for leak in find_leaks(joined([photographs, hidden]), targets)}
    assert {(file.name, file.name) for file in files} <= found
