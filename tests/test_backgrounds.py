"""Backgrounds: nested subsets, disjoint parts, patches by address, the same from memory and from a mapped file."""

import shutil
from collections import namedtuple
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from unseen.backgrounds import PHOTOGRAPHS, Backgrounds, BackgroundsConfig, Dials
from unseen.complexity import choice
from unseen.complexity.choice import ByComplexity
from unseen.errors import ConfigError, DataError, ImageError
from unseen.images import read_image, write_image
from unseen.seeding import generator

SIZES = [(40, 30), (30, 50), (1, 1), (7, 64), (33, 33), (20, 21), (48, 48), (64, 40), (25, 1), (60, 60)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Ten images of many sizes, in two subfolders; no two pixels of an image are alike in red and green."""
    root = tmp_path_factory.mktemp("images")
    for number, (height, width) in enumerate(SIZES):
        rows, columns = np.mgrid[:height, :width]
        image = np.stack([rows, columns, np.full_like(rows, number)], -1).astype(np.uint8)
        write_image(root / "ab"[number % 2] / f"{number:02}.png", image)
    return str(root)


def rngs(*indices: int) -> list[torch.Generator]:
    return [generator(0, "test", index) for index in indices]


def make(source: str, **options: object) -> Backgrounds:
    return Backgrounds(BackgroundsConfig.model_validate({"source": source, **options}))


def test_images_are_those_in_the_folder_in_sorted_order(folder: str) -> None:
    backgrounds = make(folder)
    assert len(backgrounds) == len(SIZES)
    assert backgrounds.names == sorted(backgrounds.names)
    assert backgrounds.names[0] == "a/00.png"
    for index, name in enumerate(backgrounds.names):
        assert np.array_equal(backgrounds.image(index), read_image(Path(folder, name)))
        assert not backgrounds.image(index).flags.writeable


def test_smaller_subsets_lie_within_larger_ones(folder: str) -> None:
    names = [set(make(folder, count=count, seed=3).names) for count in range(1, 11)]
    assert [len(some) for some in names] == list(range(1, 11))
    assert all(small < large for small, large in pairwise(names))
    assert len({tuple(make(folder, count=4, seed=seed).names) for seed in range(6)}) > 1


@pytest.mark.parametrize("source", ["folder", "embedded", "leaves"])
def test_fixed_patches_are_nested_and_depend_on_seed_and_number_alone(source: str, folder: str) -> None:
    source = folder if source == "folder" else source
    options = {"unit": "patches", "patch": 16, "seed": 5}
    few, many = make(source, count=3, **options), make(source, count=12, **options)
    assert (len(few), len(many)) == (3, 12)
    assert few.names == many.names[:3]
    for index in range(3):
        assert few.image(index).shape == (16, 16, 3)
        assert np.array_equal(few.image(index), many.image(index))


def test_held_out_files_are_the_last_and_never_in_training(folder: str) -> None:
    everything = make(folder).names
    train, test = make(folder, holdout=3), make(folder, holdout=3, part="test")
    assert test.names == everything[-3:]
    assert train.names == everything[:-3]
    assert test.content_hash != train.content_hash
    patches = make(folder, holdout=3, unit="patches", count=50, patch=8)
    assert {name.split("#")[0] for name in patches.names} <= set(train.names)


def test_a_patch_is_a_function_of_its_generator_alone(folder: str) -> None:
    for mirror in (False, True):
        backgrounds = make(folder, mirror=mirror)
        batch = backgrounds.patches(rngs(*range(12)), 24)
        assert torch.equal(backgrounds.patches(rngs(7), 24)[0], batch[7])
        assert torch.equal(backgrounds.patches(rngs(*reversed(range(12))), 24).flip(0), batch)


def test_patches_take_the_same_numbers_from_a_generator_whatever_the_configuration(folder: str) -> None:
    after = set()
    for options in ({}, {"mirror": True}, {"count": 1}, {"unit": "patches", "count": 2}):
        (rng,) = rngs(0)
        make(folder, **options).patches([rng], 50)
        after.add(torch.rand(1, generator=rng).item())
    assert len(after) == 1


def test_patches_are_pieces_of_the_images(folder: str) -> None:
    backgrounds = make(folder)
    by_number = {int(backgrounds.image(i)[0, 0, 2]): backgrounds.image(i) for i in range(len(backgrounds))}
    batch = backgrounds.patches(rngs(*range(200)), 20)
    assert batch.shape == (200, 3, 20, 20)
    assert batch.dtype == torch.float32
    assert batch.is_contiguous()
    seen = set()
    for patch in (batch * 255).round().byte().permute(0, 2, 3, 1).numpy():
        image = by_number[patch[0, 0, 2]]
        seen.add(int(patch[0, 0, 2]))
        # Red and green are the coordinates that each pixel came from, reflection included.
        assert np.array_equal(image[patch[..., 0], patch[..., 1]], patch)
        if min(image.shape[:2]) >= 20:
            top, left = patch[0, 0, :2]
            assert np.array_equal(image[top : top + 20, left : left + 20], patch)
    assert len(seen) == len(SIZES)


def test_images_and_places_are_drawn_uniformly(tmp_path: Path) -> None:
    for number, size in enumerate([(8, 8), (80, 80)]):  # as likely as each other, whatever their area
        rows, columns = np.mgrid[: size[0], : size[1]]
        write_image(tmp_path / f"{number}.png", np.stack([rows, columns, rows * 0 + number], -1).astype(np.uint8))
    batch = (make(str(tmp_path)).patches(rngs(*range(4000)), 8) * 255).round()
    number, tops = batch[:, 2, 0, 0], batch[:, 0, 0, 0]
    assert number.mean().item() == pytest.approx(0.5, abs=0.03)
    large = tops[number == 1]
    assert (large.min().item(), large.max().item()) == (0, 72)
    assert large.mean().item() == pytest.approx(36, abs=2)


def test_small_images_are_continued_by_reflection(tmp_path: Path) -> None:
    image = np.arange(3 * 4 * 3, dtype=np.uint8).reshape(3, 4, 3)
    write_image(tmp_path / "a.png", image)
    wide = np.pad(image, ((12, 12), (12, 12), (0, 0)), mode="reflect")
    windows = np.lib.stride_tricks.sliding_window_view(wide, (9, 9, 3)).reshape(-1, 9 * 9 * 3)
    for patch in make(str(tmp_path)).patches(rngs(*range(20)), 9):
        written = (patch * 255).round().byte().permute(1, 2, 0).numpy().reshape(-1)
        assert (windows == written).all(1).any()


def test_half_of_the_patches_are_mirrored(folder: str) -> None:
    plain = make(folder).patches(rngs(*range(300)), 10)
    mirrored = make(folder, mirror=True).patches(rngs(*range(300)), 10)
    flipped = torch.tensor([not torch.equal(one, two) for one, two in zip(plain, mirrored, strict=True)])
    assert torch.equal(mirrored[flipped], plain[flipped].flip(-1))
    assert 0.35 < flipped.float().mean() < 0.6


def test_the_hash_knows_the_content_and_not_the_place(folder: str, tmp_path: Path) -> None:
    copy = tmp_path / "elsewhere"
    shutil.copytree(folder, copy)
    assert make(folder).content_hash == make(str(copy)).content_hash
    variants: list[dict[str, object]] = [
        {},
        {"count": 4},
        {"count": 4, "seed": 9},
        {"mirror": True},
        {"holdout": 2},
        {"unit": "patches", "count": 4},
        {"unit": "patches", "count": 4, "patch": 64},
        {"unit": "patches", "count": 4, "seed": 1},
    ]
    assert len({make(folder, **options).content_hash for options in variants}) == len(variants)
    before = make(str(copy)).content_hash
    assert before == make(str(copy), count=len(SIZES), seed=4).content_hash  # all are all, in whatever order drawn
    changed = read_image(copy / "a" / "00.png")
    changed[0, 0, 0] += 1
    write_image(copy / "a" / "00.png", changed)
    assert make(str(copy)).content_hash != before


@pytest.mark.parametrize("options", [{}, {"unit": "patches", "count": 20, "patch": 12}])
def test_a_mapped_file_gives_what_memory_gives(options: dict[str, object], folder: str, tmp_path: Path) -> None:
    config = BackgroundsConfig.model_validate({"source": folder, **options})
    memory = Backgrounds(config)
    for _ in range(2):  # written, then found
        mapped = Backgrounds(config, tmp_path / "cache", memory_limit=10)
        assert mapped.content_hash == memory.content_hash
        assert mapped.names == memory.names
        assert torch.equal(mapped.patches(rngs(*range(40)), 16), memory.patches(rngs(*range(40)), 16))
        assert len(list((tmp_path / "cache").iterdir())) == 1


def test_a_mapped_file_is_found_again_without_decoding(
    folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = BackgroundsConfig(source=folder)
    Backgrounds(config, tmp_path, memory_limit=10)
    monkeypatch.setattr("unseen.backgrounds.read_image", lambda _: pytest.fail("decoded again"))
    Backgrounds(config, tmp_path, memory_limit=10)


def test_renamed_files_do_not_find_the_file_of_another_order(folder: str, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    (copy / "a" / "00.png").rename(copy / "a" / "zz.png")
    options = {"unit": "patches", "count": 30, "patch": 12}
    for source in (folder, str(copy)):
        config = BackgroundsConfig.model_validate({"source": source, **options})
        mapped = Backgrounds(config, tmp_path / "cache", memory_limit=10)
        memory = Backgrounds(config)
        assert all(np.array_equal(mapped.image(i), memory.image(i)) for i in range(30))


def test_a_full_disk_is_an_error_that_leaves_nothing_behind(
    folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "total used free")
    with monkeypatch.context() as patch:
        patch.setattr("shutil.disk_usage", lambda _: usage(100, 90, 10))
        with pytest.raises(DataError, match="free"):
            Backgrounds(BackgroundsConfig(source=folder), tmp_path, memory_limit=10)

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("unseen.store._write", fail)
        with pytest.raises(DataError, match="is full"):
            Backgrounds(BackgroundsConfig(source=folder), tmp_path, memory_limit=10)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"count": 11}, "count is 11.* 10 images"),
        ({"count": 4, "holdout": 7}, "count is 4.* 3 images"),
        ({"holdout": 10}, "holdout is 10.* 10 images"),
        ({"part": "test"}, "held out"),
        ({"unit": "patches"}, "set count"),
        ({"source": "embedded", "holdout": 2}, "test part of its own"),
        ({"source": "leaves", "holdout": 2}, "test part of its own"),
        ({"source": "embedded", "count": 1000}, "count is 1000.* 40 images"),
    ],
)
def test_asking_for_more_than_there_is_says_both_numbers(options: dict[str, object], words: str, folder: str) -> None:
    with pytest.raises(ConfigError, match=words):
        make(**{"source": folder, **options})  # type: ignore[arg-type]


def test_broken_folders_and_files_are_errors(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        make(str(tmp_path / "none"))
    with pytest.raises(DataError, match="No images"):
        make(str(tmp_path))
    write_image(tmp_path / "a.png", np.zeros((20, 20, 3)))
    (tmp_path / "b.png").write_bytes((tmp_path / "a.png").read_bytes()[:45])
    with pytest.raises(ImageError, match=r"b\.png"):
        make(str(tmp_path))


def test_crops_are_the_centres_of_at_most_the_size(folder: str) -> None:
    backgrounds = make(folder)
    for index, (name, crop) in enumerate(backgrounds.crops(32)):
        image = backgrounds.image(index)
        height, width = min(32, image.shape[0]), min(32, image.shape[1])
        top, left = (image.shape[0] - height) // 2, (image.shape[1] - width) // 2
        assert name == backgrounds.names[index]
        assert np.array_equal(crop, image[top : top + height, left : left + width])
    assert len(list(backgrounds.crops(8))) == len(SIZES)


def test_progress_counts_every_image_once(folder: str) -> None:
    calls: list[tuple[int, int]] = []
    Backgrounds(BackgroundsConfig(source=folder), progress=lambda done, total: calls.append((done, total)))
    assert calls == [(done, 10) for done in range(1, 11)]


def test_embedded_images_are_always_there_and_their_parts_are_disjoint() -> None:
    train, test = make("embedded"), make("embedded", part="test")
    assert (len(train), len(test)) == (40, 12)
    assert not set(PHOTOGRAPHS["train"]) & set(PHOTOGRAPHS["test"])
    assert not any("motorcycle" in name for name in test.names)
    assert max(max(backgrounds.image(i).shape) for backgrounds in (train, test) for i in range(12)) <= 512
    pixels = [{backgrounds.image(i).tobytes() for i in range(len(backgrounds))} for backgrounds in (train, test)]
    assert not pixels[0] & pixels[1]
    assert train.content_hash == make("embedded").content_hash
    assert train.content_hash != test.content_hash


def test_leaves_are_nested_endless_and_differ_between_parts_seeds_and_complexities() -> None:
    few, many = make("leaves", count=2), make("leaves", count=5)
    assert (len(few), len(many)) == (2, 5)
    assert all(np.array_equal(few.image(i), many.image(i)) for i in range(2))
    others = [make("leaves", count=2, **option) for option in ({"part": "test"}, {"seed": 1}, {"complexity": 0.9})]
    assert len({few.content_hash, many.content_hash, *(other.content_hash for other in others)}) == 5
    assert not any(np.array_equal(few.image(0), other.image(i)) for other in others for i in range(2))


def test_a_mixture_draws_each_part_as_often_as_it_weighs(folder: str) -> None:
    parts = [{"source": folder, "count": 3}, {"source": "leaves", "unit": "patches", "patch": 24, "count": 4}]
    mixed = Backgrounds(BackgroundsConfig.model_validate({"parts": parts, "weights": [1, 3], "seed": 2}))
    first = make(folder, count=3, seed=2)
    assert len(mixed) == 7
    assert mixed.names[:3] == [f"0/{name}" for name in first.names]
    drawn = mixed.patches(rngs(*range(400)), 1)
    from_folder = torch.isin((drawn[:, 2, 0, 0] * 255).round(), torch.tensor([float(n) for n in range(10)])).sum()
    assert 70 < from_folder < 140  # leaves are seldom that dark
    alone = mixed.patches(rngs(*range(50)), 8, Dials(weights=(1.0, 0.0)))
    assert set((alone[:, 2, 0, 0] * 255).round().tolist()) <= {float(int(name[2:4])) for name in first.names}


@pytest.mark.parametrize(
    ("count", "weights", "own", "expected"),
    [(10, [1, 3], None, [3, 7]), (10, None, None, [4, 6]), (8, [1, 1], 2, [2, 6])],
    ids=str,
)
def test_the_count_of_a_mixture_is_shared_out(
    folder: str, count: int, weights: list[float] | None, own: int | None, expected: list[int]
) -> None:
    parts = [{"source": folder, "holdout": 4, "count": own}, {"source": folder, "holdout": 1}]
    mixed = Backgrounds(BackgroundsConfig.model_validate({"parts": parts, "weights": weights, "count": count}))
    assert [sum(name.startswith(f"{part}/") for name in mixed.names) for part in (0, 1)] == expected


@pytest.mark.parametrize("weights", [[6, 6, 2], [1, 0.05, 0.3], None], ids=str)
def test_a_larger_count_of_a_mixture_holds_the_smaller(folder: str, weights: list[float] | None) -> None:
    parts = [{"source": folder, "holdout": out} for out in (0, 2, 7)]  # 10, 8 and 3 images
    before: set[str] = set()
    for count in range(3, 22):
        raw = {"parts": parts, "weights": weights, "count": count}
        names = set(Backgrounds(BackgroundsConfig.model_validate(raw)).names)
        assert len(names) == count and before <= names
        before = names
    with pytest.raises(ConfigError, match="hold 21 images"):
        Backgrounds(BackgroundsConfig.model_validate({"parts": parts, "weights": weights, "count": 22}))


@pytest.mark.parametrize("count", [None, 3, 100])
def test_generated_images_kept_from_training_are_none_of_those_trained_on(count: int | None) -> None:
    sides = [
        make("leaves", count=own, validation=4, part=part)
        for part, own in (("train", count), ("validation", None), ("validation", 4))
    ]
    trained, kept, same = ({image.image(at).tobytes() for at in range(len(image))} for image in sides)
    assert len(kept) == 4 and kept == same and not kept & trained


def test_a_band_with_too_few_patches_is_refused(folder: str) -> None:
    band = {"measure": "compression", "low": 0.25, "high": 0.75, "among": 16}
    with pytest.raises(ConfigError, match="holds 10 of the 20 patches"):
        make(folder, unit="patches", patch=4, count=20, by_complexity=band)


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        ({"weights": [1]}, "give its parts"),
        ({"parts": [{}, {}], "weights": [1]}, "one for each"),
        ({"parts": [{}, {}], "holdout": 3}, "each of the parts"),
        ({"parts": [{"parts": [{}]}]}, "mixture itself"),
        ({"source": "leaves", "by_complexity": {}}, "dial of complexity"),
        ({"by_complexity": {"low": 0.5, "high": 0.5}}, "ends of a band"),
        ({"complexity": 0.1}, "of generated leaves"),
    ],
    ids=str,
)
def test_a_wrong_mixture_is_refused(raw: dict[str, object], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        BackgroundsConfig.model_validate(raw)


def test_a_mixture_is_read_back_from_what_it_was_written_as(folder: str) -> None:
    raw = {"parts": [{"source": folder}, {"source": "embedded", "seed": 5}], "weights": [1, 2], "seed": 3}
    config = BackgroundsConfig.model_validate(raw)
    assert [part.seed for part in config.parts or ()] == [3, 5]
    assert BackgroundsConfig.model_validate_json(config.model_dump_json()) == config


@pytest.mark.parametrize("number", [1, 2, 3, 10, 100, 270])
@pytest.mark.parametrize("cut", [0.001, 0.25, 0.55, 0.999])
def test_bands_that_meet_share_no_image_and_leave_none_out(number: int, cut: float) -> None:
    values, shuffled = [float(value) for value in range(number)], list(range(number))
    below = ByComplexity(high=cut).chosen(values, shuffled)
    above = ByComplexity(low=cut).chosen(values, shuffled)
    assert below and above
    if round(cut * number) not in (0, number):
        assert below + above == shuffled


def test_images_are_chosen_by_their_complexity(tmp_path: Path) -> None:
    noise = np.random.Generator(np.random.PCG64(0)).integers(0, 256, (24, 24, 3))
    for number in range(8):  # from flat to busy, in another order than that of their names
        image = 128 + (noise - 128) * ((number * 3) % 8) / 8
        write_image(tmp_path / "images" / f"{number}.png", image.astype(np.uint8))

    def names(**options: object) -> list[str]:
        config = BackgroundsConfig.model_validate({"source": str(tmp_path / "images"), **options})
        chosen = Backgrounds(config, tmp_path / "cache")
        return [chosen.names[place] for place in chosen._nested]

    simplest = names(by_complexity={})
    assert simplest[:3] == ["0.png", "3.png", "6.png"]
    assert names(by_complexity={"order": "most complex"}) == simplest[::-1]
    assert names(by_complexity={"measure": "structural"}, count=2) == simplest[:2]
    assert set(names(by_complexity={"order": "random", "low": 0.25, "high": 0.75})) == set(simplest[2:6])
    assert len(list((tmp_path / "cache").glob("complexity-*.json"))) == 2
    with pytest.raises(ConfigError, match="band of complexity 4 of them"):
        names(by_complexity={"low": 0.5}, count=5)


@pytest.mark.parametrize(
    ("options", "name"),
    [({}, r"b\.png"), ({"unit": "patches", "patch": 33, "count": 1}, r"[ab]\.png \(patch 0, 33 x 33 pixels\)")],
)
def test_an_image_that_cannot_be_measured_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any], name: str
) -> None:
    monkeypatch.setattr("unseen.complexity.compression.LONGEST", 32)
    for image, width in {"a": 8, "b": 33}.items():
        write_image(tmp_path / "images" / f"{image}.png", np.zeros((1, width, 3), np.uint8))
    source, few = str(tmp_path / "images"), {"among": 1}
    config = BackgroundsConfig.model_validate({"source": source, "by_complexity": few, **options})
    with pytest.raises(ConfigError, match=rf"^{source}/{name}: The lossless coder takes sides of at most 32"):
        Backgrounds(config, tmp_path / "cache")


def test_an_image_that_memory_does_not_hold_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(images: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory\nand more")

    monkeypatch.setitem(choice._OF, "compression", full)
    write_image(tmp_path / "images" / "a.png", np.zeros((8, 8, 3), np.uint8))
    config = BackgroundsConfig.model_validate({"source": str(tmp_path / "images"), "by_complexity": {}})
    with pytest.raises(DataError, match=r"images/a\.png cannot be measured \(.*allocate memory\)\. Scale it down"):
        Backgrounds(config, tmp_path / "cache")


def test_an_image_without_a_measure_is_named(tmp_path: Path) -> None:
    for name, size in {"a": 32, "b": 8}.items():
        noise = np.random.Generator(np.random.PCG64(0)).integers(0, 256, (size, size, 3))
        write_image(tmp_path / "images" / f"{name}.png", noise.astype(np.uint8))
    raw = {"source": str(tmp_path / "images"), "by_complexity": {"measure": "spectral_slope"}}
    with pytest.raises(ConfigError, match=r"undefined for 1 of 2 images .*, .*images/b\.png first"):
        Backgrounds(BackgroundsConfig.model_validate(raw), tmp_path / "cache")


def test_content_is_made_simpler_as_it_is_cut(folder: str, tmp_path: Path) -> None:
    noise = np.random.Generator(np.random.PCG64(0)).integers(0, 256, (64, 64, 3)).astype(np.uint8)
    write_image(tmp_path / "noise.png", noise)
    sharp, soft = (make(str(tmp_path), **options).patches(rngs(1, 2), 24) for options in ({}, {"smooth": 2}))
    assert soft.shape == sharp.shape
    # Of white noise a Gaussian leaves 1 / (4 pi sigma^2) of the variance.
    assert soft.var() == pytest.approx(sharp.var() / (16 * np.pi), rel=0.25)
    half = make(str(tmp_path), shrink=2).patches(rngs(3), 16)
    assert half.shape == (1, 3, 16, 16)
    assert half.var() < 0.5 * sharp.var()


def test_validation_images_are_neither_trained_nor_tested_on(folder: str) -> None:
    train, validation = make(folder, holdout=3, validation=2), make(folder, holdout=3, validation=2, part="validation")
    everything = make(folder).names
    assert train.names == everything[:5]
    assert validation.names == everything[5:7]
    assert not train.config.shares_images_with(validation.config)
    assert make(folder, holdout=3).config.shares_images_with(validation.config)
    with pytest.raises(ConfigError, match="nothing"):
        make(folder, holdout=3, validation=7)
    with pytest.raises(ConfigError, match="kept for it"):
        make(folder, part="validation")
