"""Pairs are pure functions of the step, and processes share a batch without changing it."""

from collections.abc import Iterator

import pytest
import torch

from unseen.backgrounds import Backgrounds, BackgroundsConfig
from unseen.data import Pairs
from unseen.degradations import Rain
from unseen.errors import ConfigError
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
