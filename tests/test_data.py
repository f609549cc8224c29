"""Pairs are pure functions of the step, and processes share a batch without changing it; pairs from folders are cut
at one place from both images, and mixing them in changes neither them nor the synthetic ones."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from unseen.backgrounds import Backgrounds, BackgroundsConfig
from unseen.data import Pairs, PairsConfig, StoredPairs
from unseen.degradations import Rain
from unseen.errors import ConfigError, DataError, ImageError
from unseen.images import write_image
from unseen.pair_folder import PairFolder
from unseen.seeding import generator
from unseen.types import Batch

RAIN = Rain.preset("medium", scale=0.25)


@pytest.fixture(scope="module")
def backgrounds() -> Backgrounds:
    return Backgrounds(BackgroundsConfig(source="leaves", count=3))


def pairs(backgrounds: Backgrounds, *, rank: int = 0, world: int = 1, seed: int = 0, split: str = "train") -> Pairs:
    return Pairs(backgrounds, RAIN, patch=16, batch=4, seed=seed, split=split, rank=rank, world=world)


def tensors(batch: Batch) -> Iterator[torch.Tensor]:
    yield from (batch.degraded, batch.clean, batch.layer, batch.mask)
    yield from (batch.labels[name] for name in sorted(batch.labels))


def same(one: Batch, other: Batch) -> bool:
    return all(torch.equal(mine, theirs) for mine, theirs in zip(tensors(one), tensors(other), strict=True))


def test_a_batch_has_the_shapes_that_were_asked_for(backgrounds: Backgrounds) -> None:
    batch = pairs(backgrounds)[0]
    assert batch.degraded.shape == batch.clean.shape == (4, 3, 16, 16)
    assert batch.layer.shape == batch.mask.shape == (4, 1, 16, 16)
    assert all(values.shape == (4,) for values in batch.labels.values())
    assert len(batch) == 4


def test_a_step_is_a_pure_function_of_its_number(backgrounds: Backgrounds) -> None:
    one, other = pairs(backgrounds), pairs(backgrounds)
    forwards = [one[step] for step in range(4)]
    backwards = [other[step] for step in reversed(range(4))]
    assert all(same(mine, theirs) for mine, theirs in zip(forwards, backwards[::-1], strict=True))


def test_steps_seeds_and_splits_differ(backgrounds: Backgrounds) -> None:
    batches = [
        pairs(backgrounds)[0],
        pairs(backgrounds)[1],
        pairs(backgrounds, seed=1)[0],
        pairs(backgrounds, split="test")[0],
    ]
    assert not any(same(batches[one], batches[other]) for one in range(4) for other in range(one))


@pytest.mark.parametrize("world", [2, 4])
def test_the_parts_of_all_processes_are_the_batch_of_one(backgrounds: Backgrounds, world: int) -> None:
    whole = pairs(backgrounds)[5]
    parts = [pairs(backgrounds, rank=rank, world=world)[5] for rank in range(world)]
    for joined, expected in zip(zip(*map(tensors, parts), strict=True), tensors(whole), strict=True):
        assert torch.equal(torch.cat(joined), expected)


def test_a_batch_that_cannot_be_shared_is_refused(backgrounds: Backgrounds) -> None:
    with pytest.raises(ConfigError, match="batch of 4 cannot be shared by 3 processes: choose a multiple of 3"):
        pairs(backgrounds, world=3)


def test_between_yields_the_steps_in_order(backgrounds: Backgrounds) -> None:
    made = pairs(backgrounds)
    batches = list(made.between(2, 5))
    assert len(batches) == 3
    assert all(same(batch, made[step]) for step, batch in enumerate(batches, 2))
    assert list(made.between(5, 5)) == []


def test_preparing_ahead_changes_nothing(backgrounds: Backgrounds) -> None:
    """Beside an accelerator a thread makes the next batch; here the same loop runs with what the CPU renders."""

    class Beside(Pairs):
        def __getitem__(self, step: int) -> Batch:
            return made[step]

    made = pairs(backgrounds)
    ahead = Beside(backgrounds, RAIN, patch=16, batch=4, seed=0, device="meta")
    batches = list(ahead.between(3, 7))
    assert all(same(batch, made[step]) for step, batch in enumerate(batches, 3))
    assert len(batches) == 4


@pytest.mark.gpu
def test_a_gpu_renders_what_the_cpu_renders(backgrounds: Backgrounds) -> None:
    there = Pairs(backgrounds, RAIN, patch=16, batch=4, seed=0, device="cuda")[0]
    here = pairs(backgrounds)[0]
    assert there.degraded.device.type == "cuda"
    assert torch.equal(there.clean.cpu(), here.clean)
    assert torch.allclose(there.degraded.cpu(), here.degraded, atol=1e-4)


# --- pairs from folders

SIZES = [(40, 30), (30, 50), (20, 64), (33, 33), (9, 12), (25, 1)]
"""The last two are smaller than a patch of 16 pixels."""


def write_pairs(root: Path, sizes: list[tuple[int, int]], *, first: int = 0, masks: bool = False) -> Path:
    """Red and green of both images are the coordinates of the pixel. Blue is the number of the pair in the clean
    image, and 50 more in the degraded one where row and column add up to an even number, which the mask says too."""
    for number, (height, width) in enumerate(sizes, first):
        rows, columns = np.mgrid[:height, :width]
        touched = (rows + columns) % 2 == 0
        clean = np.stack([rows, columns, rows * 0 + number], -1)
        degraded = np.stack([rows, columns, number + 50 * touched], -1)
        write_image(root / "target" / f"{number:02}.png", clean.astype(np.uint8))
        write_image(root / "input" / f"{number:02}.png", degraded.astype(np.uint8))
        if masks:
            write_image(root / "mask" / f"{number:02}.png", (~touched).astype(np.uint8) * 255)  # not what is estimated
    return root


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(write_pairs(tmp_path_factory.mktemp("pairs"), SIZES))


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Two more pairs, with masks."""
    return str(write_pairs(tmp_path_factory.mktemp("other"), [(24, 24), (24, 24)], first=10, masks=True))


def config(*folders: Any, **options: Any) -> PairsConfig:
    return PairsConfig.model_validate({"folders": folders, **options})


def drawn(stored: StoredPairs, count: int, size: int = 16) -> Batch:
    return stored.batch([generator(7, "test", index) for index in range(count)], size)


def written(images: torch.Tensor) -> torch.Tensor:
    """(b, 3, h, w) in [0, 1] as (b, h, w, 3) in whole numbers."""
    return (images * 255).round().long().permute(0, 2, 3, 1)


def numbers(batch: Batch) -> torch.Tensor:
    """Which pair each sample is of."""
    return written(batch.clean)[:, 0, 0, 2]


def test_both_images_of_a_pair_are_cut_at_the_same_place(folder: str) -> None:
    batch = drawn(StoredPairs(config(folder)), 300)
    assert batch.degraded.shape == batch.clean.shape == (300, 3, 16, 16)
    assert batch.layer.shape == batch.mask.shape == (300, 1, 16, 16)
    assert batch.degraded.dtype == torch.float32
    degraded, clean = written(batch.degraded), written(batch.clean)
    assert torch.equal(degraded[..., :2], clean[..., :2])
    touched = clean[..., :2].sum(-1) % 2 == 0
    assert torch.equal(degraded[..., 2], clean[..., 2] + 50 * touched)
    assert torch.equal(batch.mask[:, 0], touched.float())
    assert torch.allclose(batch.layer[:, 0], touched * 50 / 255)
    assert batch.labels == {}


def test_every_pair_and_every_place_is_drawn(folder: str) -> None:
    batch = drawn(StoredPairs(config(folder)), 1000)
    assert torch.bincount(numbers(batch)).min() > 1000 / len(SIZES) * 0.75
    tops = written(batch.clean)[numbers(batch) == 0][:, 0, 0, :2]
    assert tops.amin(0).tolist() == [0, 0]
    assert tops.amax(0).tolist() == [40 - 16, 30 - 16]


def test_images_smaller_than_the_patch_are_continued_by_reflection(folder: str) -> None:
    batch = drawn(StoredPairs(config(folder)), 200)
    clean = written(batch.clean)[numbers(batch) == 4]
    assert len(clean)
    assert (clean[..., 0].amax((1, 2)) == 8).all()
    assert (clean[..., 1].amax((1, 2)) == 11).all()
    assert ((clean[:, 1:, :, 0] - clean[:, :-1, :, 0]).abs() == 1).all()


def test_half_of_the_pairs_are_mirrored_both_images_alike(folder: str, other: str) -> None:
    plain = drawn(StoredPairs(config(folder, other)), 200)
    mirrored = drawn(StoredPairs(config(folder, other, mirror=True)), 200)
    flipped = torch.tensor([not torch.equal(one, two) for one, two in zip(plain.clean, mirrored.clean, strict=True)])
    assert 0.35 < flipped.float().mean() < 0.6
    for mine, theirs in zip(tensors(mirrored), tensors(plain), strict=True):
        assert torch.equal(mine[flipped], theirs[flipped].flip(-1))
        assert torch.equal(mine[~flipped], theirs[~flipped])


def test_masks_of_a_folder_are_used_and_estimated_where_there_are_none(folder: str, other: str) -> None:
    batch = drawn(StoredPairs(config(folder, other)), 200)
    touched = (written(batch.clean)[..., :2].sum(-1) % 2 == 0).float()
    given = numbers(batch) >= 10
    assert 0 < given.sum() < 200
    assert torch.equal(batch.mask[given, 0], 1 - touched[given])
    assert torch.equal(batch.mask[~given, 0], touched[~given])


def test_folders_are_drawn_by_weight_or_by_their_number_of_pairs(folder: str, other: str) -> None:
    by_number = StoredPairs(config(folder, other))
    weighted = StoredPairs(config(folder, other, weights=[1, 3]))
    assert len(by_number) == 8
    assert by_number.shares == [0.75, 0.25]
    assert weighted.shares == [0.25, 0.75]
    for stored in (by_number, weighted):
        found = (numbers(drawn(stored, 2000)) >= 10).double().mean().item()
        assert found == pytest.approx(stored.shares[1], abs=0.03)


def test_what_is_held_out_is_never_drawn(folder: str) -> None:
    for options in ({"holdout": 2}, {"holdout": 2, "part": "train"}):
        stored = StoredPairs(config({"folder": folder, **options}))
        assert len(stored) == 4
        assert set(numbers(drawn(stored, 200)).tolist()) == {0, 1, 2, 3}


def test_the_hash_knows_the_pairs_and_their_order_and_not_their_place(folder: str, other: str, tmp_path: Path) -> None:
    copy = str(shutil.copytree(folder, tmp_path / "copy"))
    swapped = {"folder": copy, "degraded": "target", "clean": "input"}
    variants = [[folder], [folder, other], [other, folder], [{"folder": folder, "holdout": 1}], [swapped]]
    hashes = [StoredPairs(config(*folders)).content_hash for folders in variants]
    assert len(set(hashes)) == len(variants)
    assert StoredPairs(config(copy, share=0.5, mirror=True)).content_hash == hashes[0]
    assert StoredPairs(config({"folder": copy, "layout": "folders"})).content_hash == hashes[0]


def test_a_mapped_file_gives_what_memory_gives_and_is_found_again(
    folder: str, other: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = drawn(StoredPairs(config(folder, other)), 50)
    assert same(drawn(StoredPairs(config(folder, other), tmp_path, memory_limit=10), 50), expected)
    assert len(list(tmp_path.iterdir())) == 2
    read, count = PairFolder.read, []
    monkeypatch.setattr(PairFolder, "read", lambda self, index: count.append(index) or read(self, index))
    copy = str(shutil.copytree(folder, tmp_path / "moved" / "pairs"))
    assert same(drawn(StoredPairs(config(copy, other), tmp_path, memory_limit=10), 50), expected)
    assert count == [0, 0]  # of each folder one, to see whether it has masks


def test_a_clean_image_of_several_pairs_is_stored_once(tmp_path: Path) -> None:
    root = tmp_path / "pairs"
    for scene in range(2):
        image = np.full((20, 20, 3), 40 * scene, dtype=np.uint8)
        write_image(root / "target" / f"{scene}.png", image)
        for version in range(3):
            write_image(root / "input" / f"{scene}_{version}.png", image + 10 * version + 10)
    stored = StoredPairs(config(str(root)), tmp_path / "cache", memory_limit=10)
    batch = drawn(stored, 200)
    assert len(stored) == 6
    (file,) = (tmp_path / "cache").iterdir()
    assert file.stat().st_size == (6 + 2) * 20 * 20 * 3
    pairs = {(int(clean), int(degraded)) for clean, degraded in zip(
        written(batch.clean)[:, 0, 0, 0], written(batch.degraded)[:, 0, 0, 0], strict=True
    )}  # fmt: skip
    assert pairs == {(40 * scene, 40 * scene + 10 * version + 10) for scene in range(2) for version in range(3)}


def test_pairs_are_decoded_when_they_are_needed_and_counted(folder: str, other: str) -> None:
    told: list[tuple[int, int]] = []
    stored = StoredPairs(config(folder, other), progress=lambda *news: told.append(news))
    assert told == []
    for _ in range(2):
        stored.load()
        drawn(stored, 3)
    assert told == [(done, 8) for done in range(1, 9)]


def test_damaged_and_half_masked_folders_are_errors(folder: str, other: str, tmp_path: Path) -> None:
    damaged = shutil.copytree(folder, tmp_path / "damaged")
    file = damaged / "input" / "03.png"
    file.write_bytes(file.read_bytes()[:-60])
    with pytest.raises(ImageError, match=r"03\.png"):
        StoredPairs(config(str(damaged))).load()
    shutil.copytree(folder, tmp_path / "both" / "a")
    shutil.copytree(other, tmp_path / "both" / "b")
    with pytest.raises(DataError, match=r"Some pairs of .* have masks, and some have not, such as .*00\.png\. Name"):
        StoredPairs(config({"folder": str(tmp_path / "both"), "degraded": "input", "clean": "target"})).load()


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"folders": []}, "folders"),
        ({"folders": "a"}, "folders"),
        ({"folders": ["a", "b"], "weights": [1]}, "there are 1 weights for 2 folders: give one for each"),
        ({"folders": ["a"], "weights": [0]}, "weights"),
        ({"folders": ["a"], "share": 0}, "share"),
        ({"folders": ["a"], "share": 1.1}, "share"),
        ({"folders": [{"folder": "a", "holdout": 3, "part": "test"}]}, "part 'test', which is not for training"),
        ({"folders": ["a"], "wieghts": [1]}, "wieghts"),
    ],
)
def test_configurations_that_make_no_sense_are_refused(options: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        PairsConfig.model_validate(options)


# --- synthetic pairs and pairs from folders, mixed


def mixed(backgrounds: Backgrounds | None, folder: str, share: float, *, rank: int = 0, world: int = 1) -> Pairs:
    return Pairs(
        backgrounds, RAIN, patch=16, batch=8, seed=0, folders=StoredPairs(config(folder, share=share)),
        rank=rank, world=world,
    )  # fmt: skip


def test_mixing_changes_neither_kind_of_sample(backgrounds: Backgrounds, folder: str) -> None:
    """Every sample is the one of the same index in the batch that is all synthetic, or all from the folder."""
    synthetic = Pairs(backgrounds, RAIN, patch=16, batch=8, seed=0)
    found = mixed(None, folder, 1)
    both = mixed(backgrounds, folder, 0.4)
    count = 0
    for step in range(25):
        batch, made, stored = both[step], synthetic[step], found[step]
        assert len(batch) == 8
        here = [torch.equal(batch.clean[place], stored.clean[place]) for place in range(8)]
        count += sum(here)
        for mine, theirs, others in zip(
            (batch.degraded, batch.clean, batch.layer, batch.mask),
            (stored.degraded, stored.clean, stored.layer, stored.mask),
            (made.degraded, made.clean, made.layer, made.mask),
            strict=True,
        ):
            assert all(torch.equal(mine[i], theirs[i] if here[i] else others[i]) for i in range(8))
        assert batch.labels == ({} if any(here) else made.labels)
    assert count / 200 == pytest.approx(0.4, abs=0.1)


@pytest.mark.parametrize("share", [0.5, 1.0])
def test_a_step_with_folders_is_a_pure_function_of_its_number(
    backgrounds: Backgrounds, folder: str, share: float
) -> None:
    one, other = mixed(backgrounds, folder, share), mixed(backgrounds, folder, share)
    forwards = [one[step] for step in range(4)]
    backwards = [other[step] for step in reversed(range(4))]
    assert all(same(mine, theirs) for mine, theirs in zip(forwards, backwards[::-1], strict=True))
    assert not same(forwards[0], forwards[1])


@pytest.mark.parametrize("share", [0.5, 1.0])
@pytest.mark.parametrize("world", [2, 8])
def test_processes_share_a_mixed_batch(backgrounds: Backgrounds, folder: str, world: int, share: float) -> None:
    whole = mixed(backgrounds, folder, share)[5]
    parts = [mixed(backgrounds, folder, share, rank=rank, world=world)[5] for rank in range(world)]
    for name in ("degraded", "clean", "layer", "mask"):
        assert torch.equal(torch.cat([getattr(part, name) for part in parts]), getattr(whole, name))


def test_synthetic_pairs_without_backgrounds_are_refused(folder: str) -> None:
    for folders in (None, StoredPairs(config(folder, share=0.5))):
        with pytest.raises(ConfigError, match="need backgrounds"):
            Pairs(None, RAIN, patch=16, batch=8, seed=0, folders=folders)


@pytest.mark.gpu
def test_a_gpu_mixes_what_the_cpu_mixes(backgrounds: Backgrounds, folder: str) -> None:
    stored = StoredPairs(config(folder, share=0.5))
    there = Pairs(backgrounds, RAIN, patch=16, batch=8, seed=0, folders=stored, device="cuda")[0]
    here = mixed(backgrounds, folder, 0.5)[0]
    assert there.degraded.device.type == "cuda"
    assert torch.allclose(there.clean.cpu(), here.clean, atol=1e-6)
    assert torch.allclose(there.degraded.cpu(), here.degraded, atol=1e-4)
