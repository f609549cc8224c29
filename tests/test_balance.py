"""The search for balance: what it may try, what judges it, what a trial is worth, and that it goes on where it was."""

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from unseen.backgrounds import Backgrounds, BackgroundsConfig
from unseen.balance import search as searching
from unseen.balance import trials
from unseen.balance.predict import Prediction
from unseen.balance.record import Balance, Trial, read_balance
from unseen.balance.search import _as_point, _params, params_of, search
from unseen.balance.space import KEPT, ORDINARY, Params, Space, held_out
from unseen.balance.trials import Sitting, worth
from unseen.cli.balance import _space, _wide, balance
from unseen.degradations import Mixture, Rain, between, few_at_once, preset
from unseen.errors import ConfigError, NotFiniteError, StudyError, TrainingError
from unseen.experiment import Experiment
from unseen.images import write_image
from unseen.losses import Decoupled
from unseen.ranges import Range
from unseen.report.balance import html, importance, sentences, write_page
from unseen.study.cells import Event
from unseen.study.cores import cores
from unseen.study.jobs import claimed
from unseen.training import Interrupted, write_json

GUESS = Prediction(content=2.0, degradation={"0": 1.0, "0.5": 1.5, "1": 2.5}, available=32, factors=9)


def space(**changes: Any) -> Space:
    recipe = {"steps": 12, "patch": 16, "batch": 2, "device": "cpu", "precision": "fp32", "threads": 1}
    raw = {"network": {"width": 4, "blocks": 0}, "recipe": recipe}
    small = {"steps": 6, "validation": 3, "images": 1, "crop": 32, "rungs": (0.5,)}
    return Space(experiment=Experiment.model_validate(raw), **{"wide": preset("wide", 0.5), **small, **changes})


def test_what_is_held_out_lies_within_the_wide_and_outside_of_what_is_trained_on() -> None:
    narrow, wide = preset("medium", 0.5), preset("wide", 0.5)
    inner, suites = held_out(narrow, wide)
    assert inner == between(narrow, wide, 0.6)
    names = [suite.name for suite in suites]
    assert {"direction above", "direction below", "layers above", "veil above"} <= set(names)
    assert len(set(names)) == len(names)
    several = [name for name in names if " and " in name]
    assert len(several) == 12 and all(name.count(" and ") == 2 for name in several)
    every = [name for name in names if name.startswith("everything")]
    assert len(every) == 3
    assert held_out(narrow, wide)[1] == suites
    for suite in suites:
        assert suite.degradation is not None
        if suite.name not in every:  # these lie beyond in most of their images, and not by their ranges
            assert suite.degradation.outside(inner), suite.name
            assert suite.degradation.outside(narrow), suite.name
        assert not suite.degradation.outside(wide), suite.name


def test_of_a_mixture_half_of_the_kinds_are_held_out() -> None:
    inner, suites = held_out(preset("gaussian25"), preset("noises"))
    assert isinstance(inner, Mixture)
    assert [suite.degradation.outside(inner) for suite in suites if suite.degradation] == [("kind",)]


def test_what_trials_meet_judges_none_of_them() -> None:
    parts = [{"preset": "medium"}, {"preset": "gaussian-range"}, {"preset": "gaussian25"}, {"preset": "poisson"}]
    wide = Mixture.model_validate({"parts": parts, "weights": [8, 1, 1, 1]})
    inner, suites = held_out(preset("medium"), wide)
    assert isinstance(inner, Mixture) and inner.weights == (8, 1, 1)
    assert [suite.degradation for suite in suites] == [preset("poisson")]
    with pytest.raises(ConfigError, match="one beyond that to judge by"):
        held_out(preset("medium"), Mixture.model_validate({"parts": parts[:3]}))


@pytest.mark.parametrize("words", [("--degradation", "medium"), ("--degradation", "medium", "--scale", "0.5"), ()])
def test_what_is_searched_within_has_the_sizes_of_what_is_trained_on(words: tuple[str, ...]) -> None:
    scale = 1.0 if words == ("--degradation", "medium") else 0.5
    given = float(words[3]) if len(words) == 4 else None
    assert _wide(None, preset("medium", scale), given) == preset("wide", scale)


def test_what_lies_beyond_the_widest_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="does not lie within what is searched"):
        balance(degradation="medium", scale=1.0, within="small", out=tmp_path, set_=[])


@pytest.mark.parametrize(
    ("narrow", "wide", "said"),
    [("wide", "wide", "nothing"), ("medium", "poisson", "another kind")],
)
def test_bounds_that_leave_nothing_to_search_are_refused(narrow: str, wide: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        held_out(preset(narrow), preset(wide))


def test_a_trial_is_the_experiment_with_its_dials_turned() -> None:
    params = Params(count=4, widening=0.5, narrow=0.25, until=0.5, removal=2.0, power=0.5, clean=0.1)
    trial, chosen = space().trial(params), space().chosen(params)
    assert (trial.recipe.steps, trial.recipe.snapshots, chosen.recipe.steps) == (6, (3,), 12)
    assert (trial.backgrounds.count, trial.backgrounds.validation, chosen.backgrounds.validation) == (4, 3, None)
    assert isinstance(trial.degradation, Mixture) and trial.degradation.weights == (0.25, 0.75)
    widened = trial.degradation.parts[1]
    assert isinstance(widened, Rain) and widened.direction == Range(low=-48, high=48)
    assert trial.schedules is not None and trial.schedules.degradation is not None
    assert trial.clean == 0.1 and trial.recipe.loss == Decoupled(removal=2, power=0.5)
    assert space().trial(Params(removal=2.0)).recipe.loss == Decoupled(removal=2)
    plain = space().chosen(ORDINARY)
    assert plain.canonical() == space().experiment.canonical()


@pytest.mark.parametrize(("factors", "parts"), [(1, 9), (2, 12), (8, 9), (9, 1), (None, 1)])
def test_a_sample_widens_in_so_many_factors_at_once(factors: int | None, parts: int) -> None:
    narrow, wide = preset("medium", 0.5), preset("wide", 0.5)
    found = few_at_once(narrow, wide, factors)
    assert len(found) == parts and found == few_at_once(narrow, wide, factors)
    widened = [[name for name in narrow.factors if getattr(each, name) != getattr(narrow, name)] for each in found]
    assert {len(names) for names in widened} == {factors or 9}
    often = np.unique([name for names in widened for name in names], return_counts=True)[1]
    assert len(often) == 9 and often.max() - often.min() <= 1
    assert all(each.within(wide) for each in found)

    trial = space().trial(Params(widening=0.5, factors=factors, narrow=0.25))
    assert isinstance(trial.degradation, Mixture) and trial.degradation.weights is not None
    assert len(trial.degradation.parts) == 1 + parts and sum(trial.degradation.weights) == pytest.approx(1)
    both = space().trial(Params(widening=0.5, factors=factors, whole=0.4, narrow=0.25)).degradation
    assert isinstance(both, Mixture) and both.weights is not None
    inner = between(narrow, space().inner, 0.5)
    assert len(both.parts) == len(trial.degradation.parts) + (parts > 1)
    assert both.weights[both.parts.index(inner)] == pytest.approx(0.75 if parts == 1 else 0.3)
    assert sum(both.weights) == pytest.approx(1)
    assert few_at_once(preset("gaussian25"), preset("noises"), factors) == (preset("noises"),)


@pytest.mark.parametrize("until", [0.0, 0.3])
@pytest.mark.parametrize("factors", [None, 3])
def test_the_experiment_is_written_shortly_and_read_as_it_is(factors: int | None, until: float, tmp_path: Path) -> None:
    params = Params(widening=0.8, factors=factors, whole=0.2, narrow=0.4, until=until, clean=0.1)
    chosen = space().chosen(params)
    searching.write_experiment(tmp_path / "short.yaml", chosen, "here", space().shortly(params))
    written = yaml.safe_load((tmp_path / "short.yaml").read_text())
    assert Experiment.model_validate(written) == chosen
    assert written["degradation"]["from"] == {"preset": "medium", "scale": 0.5}
    assert "parts" not in written["degradation"]
    narrow = space().shortly(ORDINARY)
    assert narrow == {"preset": "medium", "scale": 0.5}
    other = {**space().shortly(params), "widening": 0.7}  # not what was chosen
    searching.write_experiment(tmp_path / "whole.yaml", chosen, "here", other)
    written = yaml.safe_load((tmp_path / "whole.yaml").read_text())
    assert Experiment.model_validate(written) == chosen and "parts" in written["degradation"]


def test_the_judge_sees_no_image_that_trials_are_trained_on() -> None:
    judge, trial = space().judge(), space().trial(ORDINARY)
    assert not judge.images.shares_images_with(trial.backgrounds)
    assert judge.resolve(trial.degradation)[0].name == "narrow"


def test_what_is_lost_counts_twice_beyond_what_is_allowed() -> None:
    ordinary = {"narrow": 30.0, "a": 20.0, "b": 24.0}
    within = space(allowed=0.5, worse=1.0)
    assert worth(ordinary, ordinary, within) == 0
    assert worth({"narrow": 30.0, "a": 22.0, "b": 25.0}, ordinary, within) == pytest.approx(1.5)
    lost = 1.5 - 2 * (1 / within.reach - 0.5)  # of the whole of the way more than of the part that trials go
    assert worth({"narrow": 29.0, "a": 22.0, "b": 25.0}, ordinary, within) == pytest.approx(lost)
    assert worth({"narrow": 30.0, "a": 23.0, "b": 22.5}, ordinary, within) == pytest.approx(0.25)


def test_of_fixed_patches_no_more_images_are_kept_than_there_are(tmp_path: Path) -> None:
    for number in range(10):
        write_image(tmp_path / f"{number}.png", np.full((40, 40, 3), 20 * number, np.uint8))
    backgrounds = BackgroundsConfig(source=str(tmp_path), unit="patches", patch=16, count=200)
    experiment = space().experiment.model_copy(update={"backgrounds": backgrounds})
    found = _space(experiment, preset("wide", 0.5), 6, 0.5)
    assert found.validation == 2 and found.available() == 200
    assert len(Backgrounds(found.judge().images)) == 2


def photographs(folder: Path, number: int) -> str:
    for place in range(number):
        write_image(folder / f"{place:02}.png", np.full((40, 40, 3), 10 * place, np.uint8))
    return str(folder)


def on(backgrounds: BackgroundsConfig) -> Space:
    experiment = space().experiment.model_copy(update={"backgrounds": backgrounds})
    return _space(experiment, preset("wide", 0.5), 6, 0.5)


def test_no_more_backgrounds_are_asked_for_than_validation_leaves(tmp_path: Path) -> None:
    found = on(BackgroundsConfig(source=photographs(tmp_path, 10), count=10))
    assert (found.validation, found.available()) == (2, 8)
    assert found.trial(ORDINARY).backgrounds.count == 8 and found.chosen(ORDINARY).backgrounds.count == 10
    assert len(Backgrounds(found.trial(ORDINARY).backgrounds)) == 8
    parts = [
        {"source": photographs(tmp_path, 10), "count": 10},
        {"source": photographs(tmp_path / "others", 12)},
    ]
    mixed = on(BackgroundsConfig.model_validate({"parts": parts, "count": 22}))
    assert len(Backgrounds(mixed.trial(ORDINARY).backgrounds)) == mixed.available()


def test_parts_of_one_folder_keep_the_same_images_to_judge_on(tmp_path: Path) -> None:
    folder = photographs(tmp_path, 20)
    bands = [{"by_complexity": {"high": 0.2}}, {"by_complexity": {"low": 0.2}}]
    found = on(BackgroundsConfig.model_validate({"parts": [{"source": folder, **band} for band in bands]}))
    trained, judges = found.trial(ORDINARY).backgrounds, found.judge().images
    assert not trained.shares_images_with(judges)
    assert len({part.validation for part in trained.parts or ()}) == 1
    parts = [{"source": folder}, {"source": folder, "holdout": 4}]
    with pytest.raises(ConfigError, match="the same holdout"):
        on(BackgroundsConfig.model_validate({"parts": parts}))


def test_streaks_spread_with_their_direction(tmp_path: Path) -> None:
    narrow = preset("medium", 0.5)
    wide = preset("wide", 0.5).model_copy(update={"spread": 20.0})
    for part in few_at_once(narrow, wide, 3):
        assert isinstance(part, Rain) and (part.spread == 20) == (part.direction == wide.direction)
    inner, suites = held_out(narrow, wide)
    assert inner.spread == pytest.approx(12)  # pyright: ignore[reportAttributeAccessIssue]
    alone = [suite for suite in suites if not suite.name.startswith("everything")]
    assert all(suite.degradation is not None and suite.degradation.outside(inner) for suite in alone)


def test_the_experiment_that_comes_out_has_the_threads_that_were_asked_for() -> None:
    experiment = Experiment()
    found = _space(experiment, preset("wide", 0.5), 6, 0.5)
    assert found.trial(ORDINARY).recipe.threads == 1 and found.chosen(ORDINARY).recipe.threads is None


def test_trials_reach_part_of_what_is_chosen() -> None:
    assert space().reach == KEPT
    large = space()
    blurs = large.model_copy(
        update={
            "experiment": large.experiment.model_copy(update={"degradation": preset("motion")}),
            "wide": preset("blurs"),
        }
    )
    narrow, wide = blurs.experiment.degradation, blurs.wide
    inner, suites = held_out(narrow, wide)
    assert isinstance(wide, Mixture) and isinstance(inner, Mixture)
    kept = len(inner.parts) - 1
    assert blurs.reach == pytest.approx(kept / (kept + len(suites)))


def test_one_factor_several_and_all_of_them_count_as_much() -> None:
    kinds = space().kinds
    assert sorted(set(kinds.values())) == [1, 3, 9]
    ordinary = {"narrow": 30.0, **dict.fromkeys(kinds, 20.0)}
    mine = {"narrow": 30.0, **{suite: 20.0 + (kind == 9) for suite, kind in kinds.items()}}
    assert worth(mine, ordinary, space()) == pytest.approx(1 / 3)


def test_the_guess_is_best_where_both_sides_are_level() -> None:
    assert GUESS.of(Params(widening=0.75)) == pytest.approx(0)
    assert GUESS.of(ORDINARY) < GUESS.of(Params(widening=0.5)) < 0
    assert GUESS.of(Params(count=8)) > GUESS.of(ORDINARY)
    best = GUESS.best(space(least=8))
    assert GUESS.of(best) > -0.05


def test_a_search_writes_an_experiment_and_goes_on_where_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("optuna")
    monkeypatch.setattr(Prediction, "measure", lambda *_: GUESS)
    monkeypatch.setattr(searching, "STARTERS", (Params(widening=1.0),))
    monkeypatch.setenv("UNSEEN_CORES", str(tmp_path / "cores"))
    here = {"folder": tmp_path / "search", "runs": tmp_path / "runs"}
    for number in range(8):
        write_image(tmp_path / "images" / f"{number}.png", np.full((40, 40, 3), 30 * number, np.uint8))
    large = space(wide=preset("large", 0.5))
    backgrounds = BackgroundsConfig(source=str(tmp_path / "images"))
    large = large.model_copy(
        update={"experiment": large.experiment.model_copy(update={"backgrounds": backgrounds}), "least": 2}
    )
    first = search(large, **here, trials=2)
    assert [(trial.number, trial.state) for trial in first.trials] == [(0, "complete"), (1, "complete")]
    assert first.trials[0].value == 0 and first.trials[0].ordinary
    assert set(first.trials[1].psnr) == {"narrow", *first.suites}
    assert not first.trials[1].ordinary
    bounds = json.loads((tmp_path / "search" / "bounds.json").read_text())
    assert bounds["space"]["wide"]["name"] == "large"

    trained = {path: path.stat().st_mtime_ns for path in (tmp_path / "runs").glob("*/model.safetensors")}
    again = search(large, **here, trials=3)
    assert again.trials[:2] == first.trials and len(again.trials) == 3
    assert all(path.stat().st_mtime_ns == when for path, when in trained.items())

    written = yaml.safe_load((tmp_path / "search" / "experiment.yaml").read_text())
    best = again.best
    assert best is not None
    chosen = large.chosen(params_of(best, large))
    assert Experiment.model_validate(written).canonical() == chosen.canonical()
    assert read_balance(tmp_path / "search") == again
    for path in (tmp_path / "runs").glob("*/balance-*.json"):
        path.unlink()
    # Another search over runs that are there: judged at every step that other trials are compared at.
    search(large, tmp_path / "other", tmp_path / "runs", trials=1)
    judged = sorted((tmp_path / "runs").glob("*/balance-*.json"))
    assert [path.stem.rpartition("-")[2] for path in judged] == ["3", "6"]
    with pytest.raises(ConfigError, match="other bounds"):
        search(large.model_copy(update={"crop": 24}), **here, trials=3)


class Pretended:
    """In place of training: what trials would come to, without any. `act` may do something else first."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, cores: Path) -> None:
        pytest.importorskip("optuna")
        self.begun: list[Params] = []
        self.act: Any = lambda params: None
        self.lost = 0.0  # dB on the narrow degradation, where a trial widens all the way
        monkeypatch.setattr(Prediction, "measure", lambda *_: GUESS)
        monkeypatch.setenv("UNSEEN_CORES", str(cores))
        monkeypatch.setattr(trials, "run_trial", self.run)

    def run(self, sitting: Sitting, params: Params, label: str, tell: Any) -> None:
        self.begun.append(params)
        self.act(params)
        folder, steps = sitting.folder(params), sitting.space.steps
        psnr = {suite.name: 20 + params.widening - 0.1 * params.clean for suite in sitting.suites}
        if self.lost:
            psnr["narrow"] = 20 - self.lost * params.widening
        tell(Event(label, "train", 1, steps))
        for step in (*sitting.space.trial(params).recipe.snapshots, steps):
            write_json(sitting.file(folder, step), psnr)
            if step < steps and tell(Event(label, "rung", step, steps)) is False:
                return


@pytest.fixture
def pretended(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Pretended:
    return Pretended(monkeypatch, tmp_path / "cores")


def test_one_that_diverges_is_told_and_does_not_end_the_search(tmp_path: Path, pretended: Pretended) -> None:
    def diverge(params: Params) -> None:
        if (params == ORDINARY) == broken:
            raise NotFiniteError("The loss is nan by step 1.")

    pretended.act, broken = diverge, False
    told = list[Event]()
    found = search(space(), tmp_path / "search", tmp_path / "runs", trials=3, tell=told.append)
    assert [trial.state for trial in found.trials] == ["complete", "failed", "failed"]
    assert found.trials[1].message == "The loss is nan by step 1."
    assert [event.message for event in told if event.kind == searching.ENDED][1:] == 2 * [
        "diverged. The loss is nan by step 1."
    ]
    assert found.best is not None and found.best.ordinary
    broken = True
    with pytest.raises(TrainingError, match="nan"):
        search(space(), tmp_path / "other", tmp_path / "others", trials=3)
    broken = False  # what is mended, say more memory, is begun again with ordinary training
    found = search(space(), tmp_path / "other", tmp_path / "others", trials=2)
    assert found.trials[0].ordinary and found.trials[0].state == "complete"


def test_one_that_fails_is_begun_again_and_uses_up_no_trial(tmp_path: Path, pretended: Pretended) -> None:
    def fail(params: Params) -> None:
        if len(pretended.begun) == 2:
            raise OSError("No space left on device")

    pretended.act = fail
    found = search(space(), tmp_path / "search", tmp_path / "runs", trials=4)
    assert len(found.trials) == 4 and {trial.state for trial in found.trials} <= {"complete", "pruned"}
    assert pretended.begun[1] == pretended.begun[2]


def test_a_search_whose_trials_all_fail_ends_and_goes_on_when_that_is_mended(
    tmp_path: Path, pretended: Pretended
) -> None:
    def fail(params: Params) -> None:
        if params != ORDINARY and broken:
            raise OSError("No space left on device")

    pretended.act, broken = fail, True
    with pytest.raises(StudyError, match=r"3 trials in a row failed.* No space left"):
        search(space(), tmp_path / "search", tmp_path / "runs", trials=4)
    failed = pretended.begun[1:]
    assert failed[0] == failed[1] != failed[2]
    broken = False
    found = search(space(), tmp_path / "search", tmp_path / "runs", trials=4)
    assert {trial.state for trial in found.trials} <= {"complete", "pruned"} and len(found.trials) == 4
    assert failed[0] in pretended.begun[4:]


def test_pairs_are_mixed_in_and_a_search_goes_on_with_the_same_ones_only(tmp_path: Path, pretended: Pretended) -> None:
    for number in range(3):
        for side in ("rain", "clean"):
            write_image(tmp_path / side / f"{number}.png", np.full((40, 40, 3), 30 * number, np.uint8))
    pairs = {"folders": [{"folder": str(tmp_path), "degraded": "rain", "clean": "clean"}], "share": 0.5}
    raw = {**space().experiment.model_dump(), "pairs": pairs}
    mixed = space().model_copy(update={"experiment": Experiment.model_validate(raw)})
    assert len(search(mixed, tmp_path / "search", tmp_path / "runs", trials=2).trials) == 2
    write_image(tmp_path / "rain" / "0.png", np.full((40, 40, 3), 200, np.uint8))
    with pytest.raises(ConfigError, match="other pairs"):
        search(mixed, tmp_path / "search", tmp_path / "runs", trials=3)


@pytest.mark.parametrize("where", [0, 2])
def test_a_search_broken_off_goes_on_with_what_was_broken_off(tmp_path: Path, pretended: Pretended, where: int) -> None:
    def interrupted(params: Params) -> None:
        if len(pretended.begun) == where + 1:
            raise Interrupted("Stopped.")

    pretended.act = interrupted
    with pytest.raises(Interrupted):
        search(space(), tmp_path / "search", tmp_path / "runs", trials=5)
    broken_off = pretended.begun[-1]
    found = search(space(), tmp_path / "search", tmp_path / "runs", trials=5)
    assert pretended.begun[where + 1] == broken_off
    assert len(found.trials) == 5 and {trial.state for trial in found.trials} <= {"complete", "pruned"}
    assert found.trials[0].ordinary and sum(trial.ordinary for trial in found.trials) == 1
    points = [tuple(trial.params.items()) for trial in found.trials]
    assert len(set(points)) == 5


def test_one_broken_off_is_valued_anew_and_goes_on(tmp_path: Path, pretended: Pretended) -> None:
    def interrupted(params: Params) -> None:
        if len(pretended.begun) == 3:
            raise Interrupted("Stopped.")

    pretended.act = interrupted
    with pytest.raises(Interrupted):
        search(space(), tmp_path / "search", tmp_path / "runs", trials=4)
    found = search(space(allowed=3.0), tmp_path / "search", tmp_path / "runs", trials=4)
    assert pretended.begun[3] == pretended.begun[2]
    assert [trial.state for trial in found.trials] == ["complete"] * 4


def test_a_search_that_goes_on_proposes_nothing_twice(tmp_path: Path, pretended: Pretended) -> None:
    search(space(), tmp_path / "search", tmp_path / "runs", trials=6)
    found = search(space(), tmp_path / "search", tmp_path / "runs", trials=9)
    assert len({tuple(trial.params.items()) for trial in found.trials}) == len(found.trials) == 9
    assert len(pretended.begun) == 9


def test_a_poor_trial_ends_early(tmp_path: Path, pretended: Pretended, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(searching, "STARTERS", [Params(widening=eighths / 8) for eighths in (8, 7, 6, 1)])
    told: list[Event] = []
    found = search(space(), tmp_path / "search", tmp_path / "runs", trials=5, tell=told.append)
    assert [trial.state for trial in found.trials] == ["complete"] * 4 + ["pruned"]
    assert found.trials[-1].step == 3 and found.trials[-1].value == pytest.approx(0.125)
    assert [event.message for event in told if event.kind == "ended"][-1] == "ended early"
    assert [event.done for event in told if event.kind == "trials"] == [1, 2, 3, 4, 5]


def test_what_was_judged_at_a_rung_before_ends_a_trial_there_too(
    tmp_path: Path, pretended: Pretended, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    sitting = Sitting.of(space(), tmp_path / "runs")
    poor, told = Params(widening=0.5), list[Event]()
    write_json(sitting.file(sitting.folder(poor), 3), {suite.name: 20.0 for suite in sitting.suites})

    def tell(event: Event) -> bool:
        told.append(event)
        return event.kind != "rung"

    trials.run_trial(sitting, poor, "trial 1", tell)
    assert [event.kind for event in told] == ["rung", "done"]
    assert not list((tmp_path / "runs").glob("*/*.safetensors"))


def test_a_rung_that_was_being_judged_when_its_trial_was_stopped_is_judged_before_that_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sitting, told, stopped = Sitting.of(space(), tmp_path / "runs"), list[str](), list[int]()

    def judge(sitting: Sitting, path: Path, folder: Path, step: int, label: str, tell: Any) -> None:
        stopped.append(step)
        if len(stopped) == 1:
            raise Interrupted("Stopped while judging.")
        write_json(sitting.file(folder, step), {suite.name: 20.0 for suite in sitting.suites})

    def tell(event: Event) -> bool:
        told.append(event.kind)
        return event.kind != "rung"

    monkeypatch.setattr(trials, "_judge", judge)
    with pytest.raises(Interrupted):
        trials.run_trial(sitting, ORDINARY, "trial 0", tell)
    assert list(tmp_path.glob("runs/*/state/state.pt"))
    trials.run_trial(sitting, ORDINARY, "trial 0", tell)
    assert stopped == [3, 3] and told == ["rung", "done"]


def test_trials_that_another_search_finished_say_what_they_were_at_their_rungs(
    tmp_path: Path, pretended: Pretended
) -> None:
    search(space(), tmp_path / "search", tmp_path / "runs", trials=4)
    begun = len(pretended.begun)
    search(space(), tmp_path / "another", tmp_path / "runs", trials=4)
    assert len(pretended.begun) == begun
    journal = (tmp_path / "another" / "trials.journal").read_text()
    assert journal.count('"intermediate_value"') == 4


def optuna_trials(within: Space, folder: Path) -> list[Any]:
    return searching._open(searching._optuna(), within, folder).get_trials()


def test_what_may_be_lost_may_change_and_nothing_is_trained_for_it(tmp_path: Path, pretended: Pretended) -> None:
    pretended.lost = 1.0
    first = search(space(), tmp_path / "search", tmp_path / "runs", trials=6)
    judged = optuna_trials(space(), tmp_path / "search")
    begun = len(pretended.begun)
    loose = search(space(allowed=3.0), tmp_path / "search", tmp_path / "runs", trials=6)
    assert len(pretended.begun) == begun and [t.params for t in loose.trials] == [t.params for t in first.trials]
    for before, after in zip(first.trials, loose.trials, strict=True):
        widening = params_of(after, space()).widening
        assert before.value is not None and after.value is not None
        assert after.value - before.value == pytest.approx(2 * max(0.0, widening / KEPT - 0.5), abs=1e-6)
        assert (before.state, before.experiment, before.seconds) == (after.state, after.experiment, after.seconds)
    assert loose.best is not None and params_of(loose.best, space()).widening == 1
    assert json.loads((tmp_path / "search" / "bounds.json").read_text())["space"]["allowed"] == 3.0
    anew = optuna_trials(space(allowed=3.0), tmp_path / "search")
    for at_first, now in zip(judged, anew, strict=True):
        assert set(now.intermediate_values) == set(at_first.intermediate_values) == {3}
        won = now.intermediate_values[3] - at_first.intermediate_values[3]
        assert now.value - at_first.value == pytest.approx(won)
    more = search(space(allowed=3.0), tmp_path / "search", tmp_path / "runs", trials=7)
    assert len(more.trials) == 7 and [t.value for t in more.trials[:6]] == [t.value for t in loose.trials]


def test_a_line_that_was_not_written_to_its_end_is_begun_again(tmp_path: Path, pretended: Pretended) -> None:
    search(space(), tmp_path / "search", tmp_path / "runs", trials=3)
    with (tmp_path / "search" / "trials.journal").open("a") as journal:
        journal.write('{"op_code": 4, "worker_id": "12')
    found = search(space(), tmp_path / "search", tmp_path / "runs", trials=4)
    assert [trial.state for trial in found.trials] == ["complete"] * 4


def test_other_backgrounds_than_it_began_with_are_refused(tmp_path: Path, pretended: Pretended) -> None:
    def here() -> Space:
        backgrounds = BackgroundsConfig(source=str(tmp_path / "images"))
        experiment = space().experiment.model_copy(update={"backgrounds": backgrounds})
        return space(least=2).model_copy(update={"experiment": experiment})

    for number in range(10, 18):
        write_image(tmp_path / "images" / f"{number}.png", np.full((40, 40, 3), number, np.uint8))
    search(here(), tmp_path / "search", tmp_path / "runs", trials=2)
    write_image(tmp_path / "images" / "01.png", np.full((40, 40, 3), 99, np.uint8))
    with pytest.raises(ConfigError, match="other backgrounds"):
        search(here(), tmp_path / "search", tmp_path / "runs", trials=3)


def test_a_folder_is_searched_in_by_one_process(tmp_path: Path, pretended: Pretended) -> None:
    with claimed(tmp_path / "search" / ".search.lock"), pytest.raises(ConfigError, match="Another process searches"):
        search(space(), tmp_path / "search", tmp_path / "runs", trials=2)


def test_a_judge_that_has_changed_is_refused(tmp_path: Path, pretended: Pretended) -> None:
    search(space(), tmp_path / "search", tmp_path / "runs", trials=2)
    path = tmp_path / "search" / "bounds.json"
    bounds = json.loads(path.read_text())
    assert set(bounds["judged on"]) == {
        "narrow",
        *(suite.name for suite in held_out(preset("medium", 0.5), preset("wide", 0.5))[1]),
    }
    path.write_text(json.dumps({**bounds, "judge": "another"}))
    with pytest.raises(ConfigError, match="judged otherwise"):
        search(space(), tmp_path / "search", tmp_path / "runs", trials=2)
    path.write_text("{")
    with pytest.raises(StudyError, match="cannot be read"):
        search(space(), tmp_path / "search", tmp_path / "runs", trials=2)


def test_two_at_a_time_come_to_what_one_comes_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Real training, in processes: the same trial is the same experiment with the same outcome."""
    pytest.importorskip("optuna")
    if len(cores()) < 2:
        pytest.skip("one core")
    monkeypatch.setattr(Prediction, "measure", lambda *_: GUESS)
    monkeypatch.setenv("UNSEEN_CORES", str(tmp_path / "cores"))
    small = space(validation=2)
    one = search(small, tmp_path / "one", tmp_path / "runs-one", trials=4)
    two = search(small, tmp_path / "two", tmp_path / "runs-two", trials=4, workers=2)
    assert sorted(trial.experiment for trial in one.trials) == sorted(trial.experiment for trial in two.trials)
    values = {trial.experiment: (trial.psnr, trial.value) for trial in one.trials}
    assert {trial.experiment: (trial.psnr, trial.value) for trial in two.trials} == values


def test_of_a_mixture_ordinary_training_keeps_its_own_weights() -> None:
    raw = {"parts": [{"source": "leaves", "count": None}, {"source": "embedded"}], "weights": [3, 1]}
    experiment = space().experiment.model_copy(update={"backgrounds": BackgroundsConfig.model_validate(raw)})
    mixed = space(least=1).model_copy(update={"experiment": experiment})
    assert mixed.fewest == 2
    point = _as_point(ORDINARY, mixed)
    assert _params(point, mixed) == ORDINARY
    assert mixed.trial(ORDINARY).backgrounds.weights == (3, 1)
    starter = _params({**point, "widening": 0.5}, mixed)
    assert starter.weights == pytest.approx((0.75, 0.25))
    other = _params({**point, "weight 0": 0.2, "weight 1": 0.6}, mixed)
    assert other.weights == pytest.approx((0.25, 0.75))
    assert mixed.trial(other).backgrounds.weights == pytest.approx((0.25, 0.75))


def test_no_part_of_a_mixture_is_asked_for_more_than_it_has(tmp_path: Path) -> None:
    for folder, number in (("many", 12), ("few", 3)):
        for name in range(number):
            write_image(tmp_path / folder / f"{name}.png", np.full((40, 40, 3), 20 * name, np.uint8))
    parts: list[dict[str, Any]] = [{"source": str(tmp_path / "many")}, {"source": str(tmp_path / "few")}]

    def mixed(**changes: Any) -> Space:
        raw = {"parts": parts, **changes}
        experiment = space().experiment.model_copy(update={"backgrounds": BackgroundsConfig.model_validate(raw)})
        return space(least=2, validation=8).model_copy(update={"experiment": experiment})

    plain = mixed()  # four and one are kept for validation: 8 and 2 are left
    assert (plain.available(), plain.fewest, plain.weights) == (10, 2, pytest.approx((1.0, 0.25)))
    for weights in ((0.05, 0.95), (0.5, 0.5), (0.95, 0.05)):
        for count in range(2, 11):
            trial = plain.trial(Params(count=count, widening=0.5, weights=weights))
            assert len(Backgrounds(trial.backgrounds)) == count
    assert len(Backgrounds(plain.judge().images)) == 5
    parts = [{**part, "count": count} for part, count in zip(parts, (6, 2), strict=True)]
    counted = mixed()
    assert counted.available() == counted.fewest == 8
    assert "count" not in _as_point(ORDINARY, counted)
    parts = [
        {"source": str(tmp_path / "many"), "unit": "patches", "patch": 16, "count": 4},
        {"source": str(tmp_path / "few")},
    ]
    assert len(Backgrounds(mixed().judge().images)) > 1


def found() -> Balance:
    psnr = {"narrow": 25.0, "a": 20.0}
    trials = [
        Trial(number=n, state="complete", params={"count": 8 + n, "widening": n / 8}, value=n / 10, psnr=psnr,
              predicted=n / 9, ordinary=n == 0)
        for n in range(8)
    ]  # fmt: skip
    trials.append(Trial(number=8, state="pruned", params={"count": 9, "widening": 0.5}, value=9.0, step=3))
    bounds = json.loads(space().model_dump_json(exclude_none=True))
    return Balance("a <b>", bounds, {"a": "what a is"}, tuple(trials), "unseen balance")


def test_the_page_says_what_was_chosen_and_how_far_to_trust_it(tmp_path: Path) -> None:
    some = found()
    best = some.best
    assert best is not None and best.number == 7
    assert some.agreement == pytest.approx(1)
    assert importance(some)["widening"] == pytest.approx(1)
    said = " ".join(sentences(some))
    assert "number 7 is the best: +0.70 dB" in said and "15 backgrounds" in said
    page = html(some)
    assert "a &lt;b&gt;" in page and "<b>" not in page
    write_page(some, tmp_path)
    assert (tmp_path / "trials.csv").read_text().count("\n") == 10
    nothing = replace(some, trials=())
    assert "No trial is finished" in sentences(nothing)[0]
    assert html(nothing)


def test_a_damaged_record_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="no search"):
        read_balance(tmp_path)
    (tmp_path / "balance.json").write_text(json.dumps({**asdict(found()), "trials": 3}))
    with pytest.raises(StudyError, match="cannot be read"):
        read_balance(tmp_path)
