"""Dials over the steps: where they start, where they end, and what a batch is made of in between."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from unseen.backgrounds import Backgrounds, BackgroundsConfig, Dials
from unseen.data import Pairs
from unseen.degradations import GaussianNoise, Mixture, Rain, between, preset
from unseen.experiment import Experiment
from unseen.images import write_image
from unseen.ranges import Choice, Range
from unseen.schedules import Ramp, Schedules
from unseen.seeding import generator

LEAVES = {"source": "leaves", "unit": "patches", "patch": 24, "count": 8}


@pytest.fixture(scope="module")
def leaves() -> Backgrounds:
    return Backgrounds(BackgroundsConfig.model_validate(LEAVES))


def experiment(**changes: object) -> Experiment:
    raw = {"backgrounds": LEAVES, "recipe": {"steps": 100, "patch": 16, "batch": 4, "device": "cpu"}, **changes}
    return Experiment.model_validate(raw)


def pairs_of(some: Experiment, backgrounds: Backgrounds) -> Pairs:
    recipe = some.recipe
    return Pairs(
        backgrounds, some.degradation, patch=recipe.patch, batch=recipe.batch, seed=some.seed,
        course=some.course(len(backgrounds)),
    )  # fmt: skip


def test_a_ramp_holds_moves_and_arrives() -> None:
    ramp = Ramp(start=2, after=0.2, until=0.6)
    assert [ramp.at(step, 100, 10.0) for step in (0, 20, 40, 60, 99)] == pytest.approx([2, 2, 6, 10, 10])
    cosine, geometric = Ramp(start=0, until=1, shape="cosine"), Ramp(start=8, until=1, shape="geometric")
    assert cosine.at(50, 100, 1.0) == pytest.approx(0.5)
    assert cosine.at(25, 100, 1.0) == pytest.approx(0.146447, abs=1e-6)
    assert geometric.at(50, 100, 128.0) == pytest.approx(32)


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        ({"count": {"start": 0}}, "at least 1"),
        ({"clean": 1.5}, "at most 1"),
        ({"smooth": {"start": 2, "shape": "geometric"}}, "no factor reaches"),
        ({"count": {"start": 4, "after": 0.5, "until": 0.4}}, "not before"),
        ({"weights": {"start": [0, 0]}}, "not all of them 0"),
        ({"colour": 1}, "Extra inputs"),
    ],
    ids=str,
)
def test_a_wrong_schedule_is_refused(raw: dict[str, object], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        Schedules.model_validate(raw)


def test_a_schedule_of_weights_needs_a_mixture_to_end_with() -> None:
    with pytest.raises(ValidationError, match=r"backgrounds\.parts"):
        experiment(schedules={"weights": {"start": [1, 0]}})


def test_without_schedules_nothing_changes(leaves: Backgrounds) -> None:
    plain = experiment()
    assert plain.canonical() == Experiment.model_validate(plain.model_dump(exclude_none=True)).canonical()
    assert "schedules" not in plain.canonical() and "clean" not in plain.canonical()
    here = pairs_of(plain, leaves)[3]
    there = Pairs(leaves, plain.degradation, patch=16, batch=4, seed=0)[3]
    assert torch.equal(here.degraded, there.degraded)


def test_every_dial_turns_and_ends_where_the_experiment_has_it(leaves: Backgrounds) -> None:
    wide = experiment(
        degradation={"preset": "large", "scale": 0.5},
        schedules={
            "count": {"start": 2, "shape": "geometric"},
            "patch": 8,
            "clean": 0.5,
            "smooth": 2,
            "shrink": {"start": 2},
            "degradation": {"start": {"preset": "small", "scale": 0.5}},
        },
    )
    pairs, plain = pairs_of(wide, leaves), pairs_of(wide.model_copy(update={"schedules": None}), leaves)
    assert [pairs.course.dials(step).count for step in (0, 25, 50)] == [2, 4, 8]
    assert pairs[0].clean.shape == (4, 3, 8, 8)
    assert pairs.course.degradation(0) == wide.degradations[1]
    assert [pairs.course.clean(step) for step in (0, 25, 99)] == [0.5, 0.25, 0]
    for step in (50, 99):
        assert torch.equal(pairs[step].degraded, plain[step].degraded)
    assert wide.met == wide.degradation  # what it starts from lies within
    other = experiment(schedules={"degradation": {"start": {"preset": "poisson"}}})
    assert isinstance(other.met, Mixture) and not preset("poisson").outside(other.met)
    assert preset("steeper", 0.5).outside(wide.met)


def test_what_a_schedule_passes_through_is_met() -> None:
    """Between streaks about the vertical and steep ones lie those that lean a little: in neither, but met."""
    start, end = Rain(direction=Range(low=-5, high=5)), Rain(direction=Range(low=40, high=60))
    turning = experiment(degradation=end.model_dump(), schedules={"degradation": {"start": start.model_dump()}})
    leaning, flat = (Rain(direction=Range(low=low, high=low + 10)) for low in (18, 70))
    assert leaning.outside(start) and leaning.outside(end)
    assert not leaning.outside(turning.met) and flat.outside(turning.met) == ("direction",)
    blended = Rain(direction=Range(low=40, high=60), blend="screen")
    other = experiment(degradation=blended.model_dump(), schedules={"degradation": {"start": start.model_dump()}})
    assert not leaning.outside(other.met) and not leaning.model_copy(update={"blend": "screen"}).outside(other.met)


def test_scheduled_counts_of_a_mixture_are_those_of_its_subsets() -> None:
    raw = {"parts": [{**LEAVES, "count": None}, {**LEAVES, "seed": 5, "count": None}], "weights": [3, 1]}
    whole = Backgrounds(BackgroundsConfig.model_validate({**raw, "count": 16}))
    for count in (2, 3, 5, 7, 8):
        few = Backgrounds(BackgroundsConfig.model_validate({**raw, "count": count}))
        rngs = [[generator(0, "test", index) for index in range(20)] for _ in range(2)]
        assert torch.equal(whole.patches(rngs[0], 16, Dials(count=count)), few.patches(rngs[1], 16)), count


def test_the_first_images_are_those_of_a_smaller_subset(leaves: Backgrounds) -> None:
    few = Backgrounds(BackgroundsConfig.model_validate({**LEAVES, "count": 3}))
    rngs = [[generator(0, "test", index) for index in range(20)] for _ in range(2)]
    assert torch.equal(leaves.patches(rngs[0], 16, Dials(count=3)), few.patches(rngs[1], 16))
    embedded = BackgroundsConfig(seed=4, count=5)
    small, large = Backgrounds(embedded), Backgrounds(BackgroundsConfig(seed=4, count=9))
    first = {large.names[place] for place in large._nested[:5]}
    assert first == set(small.names)


def test_some_samples_are_left_clean(leaves: Backgrounds) -> None:
    pairs = pairs_of(experiment(clean=0.5), leaves)
    batches = [pairs[step] for step in range(16)]
    assert 20 < sum(batch.labels["direction"].isnan().sum() for batch in batches) < 44
    for batch in batches:
        spared = batch.labels["direction"].isnan()
        assert torch.equal(batch.degraded[spared], batch.clean[spared])
        assert not batch.mask[spared].any() and not batch.layer[spared].any()
    fewer = [pairs_of(experiment(clean=0.2), leaves)[step].labels["direction"].isnan() for step in range(16)]
    assert all(not (few & ~batch.labels["direction"].isnan()).any() for few, batch in zip(fewer, batches, strict=True))


def test_between_two_rains_the_ends_lie_between_theirs() -> None:
    narrow, wide = preset("medium", 0.5), preset("large", 0.5)
    assert (between(narrow, wide, 0.0), between(narrow, wide, 1.0)) == (narrow, wide)
    half = between(narrow, wide, 0.5)
    assert isinstance(half, Rain)
    assert half.direction == Range(low=-50, high=50)
    assert half.width == Choice(values=(1.5, 2.5, 3.5))
    assert Rain.model_validate(half.model_dump()) == half
    halfway = between(narrow, preset("wide", 0.5), 0.5)
    assert isinstance(halfway, Rain) and halfway.width == Range(low=1.25, high=3.75)  # from a choice to a range
    assert narrow.within(half.model_copy(update={"width": Range(low=1, high=4), "quantity": Range(low=1, high=60)}))
    assert not half.within(narrow) and not narrow.within(preset("poisson"))


def test_between_two_kinds_each_image_meets_one() -> None:
    one, other = GaussianNoise(sigma=Range(low=25, high=25)), preset("poisson")
    mixed = between(one, other, 0.25)
    assert isinstance(mixed, Mixture)
    assert mixed.weights == (0.75, 0.25)
    assert between(mixed, preset("noises"), 0.5).outside(one) == ()


@pytest.mark.parametrize("changes", [{"clean": 0.1}, {"schedules": {"count": {"start": 2, "until": 0.5}}}], ids=str)
def test_what_is_of_synthetic_samples_is_refused_where_there_are_none(changes: dict[str, Any], tmp_path: Path) -> None:
    pairs = {"folders": [{"folder": str(tmp_path)}], "share": 1}
    with pytest.raises(ValidationError, match=r"with pairs\.share 1 there are none"):
        Experiment.model_validate({"pairs": pairs, **changes})
    assert Experiment.model_validate({"pairs": {**pairs, "share": 0.5}, **changes}).pairs is not None


def test_unequal_shares_of_scheduled_counts_leave_every_image_equally_likely(tmp_path: Path) -> None:
    for number in range(12):
        folder = tmp_path / ("many" if number < 9 else "few")
        write_image(folder / f"{number}.png", np.full((20, 20), 20 * number, dtype=np.uint8))
    raw = {"parts": [{"source": str(tmp_path / "many")}, {"source": str(tmp_path / "few")}]}
    whole = Backgrounds(BackgroundsConfig.model_validate({**raw, "count": 11}))
    few = Backgrounds(BackgroundsConfig.model_validate({**raw, "count": 4}))
    rngs = [[generator(0, "test", index) for index in range(20)] for _ in range(2)]
    assert torch.equal(whole.patches(rngs[0], 16, Dials(count=4)), few.patches(rngs[1], 16))


def test_a_count_is_not_scheduled_where_every_part_has_its_own() -> None:
    parts = {"parts": [{**LEAVES, "count": 8}, {**LEAVES, "seed": 5, "count": 8}]}
    with pytest.raises(ValidationError, match="all have one"):
        experiment(backgrounds=parts, schedules={"count": {"start": 2}})
    assert experiment(schedules={"clean": "5e-1"}).schedules is not None
