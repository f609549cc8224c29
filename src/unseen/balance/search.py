"""The search: Optuna proposes, a trial is trained and judged on what was held out, poor ones end early.

This process proposes and keeps the record; trials are jobs of the same pool that runs the cells of studies
(`unseen.study.pool`), with its claims, its shared cores and its second chances. Killed and started again, a trial goes
on from its last saved state, and what has been judged is not judged again.
"""

import json
import math
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml

from unseen import training
from unseen.balance.predict import Prediction
from unseen.balance.record import FILE, LIGHTEST, Balance, Trial, read_balance
from unseen.balance.space import ORDINARY, Params, Space
from unseen.balance.trials import DIVERGED, NARROW, RUNG, Sitting, worth
from unseen.checkpoints import replace_with
from unseen.errors import ConfigError, StudyError, TrainingError
from unseen.experiment import Experiment
from unseen.study.cells import Event, Report
from unseen.study.cores import Sharing
from unseen.study.jobs import CHANCES, Board, Job, claimed
from unseen.study.pool import run_board

STARTERS = (
    Params(widening=1.0, narrow=0.5, removal=3.0, power=0.6, clean=0.1),
    Params(widening=1.0, factors=3, narrow=0.5, removal=3.0, power=0.6, clean=0.1),
    Params(widening=1.0, factors=3, whole=0.3, narrow=0.5, removal=3.0, power=0.6, clean=0.1),
)
"""What is tried first, after ordinary training, against which everything is measured: near the best of a first search
on photographs (docs/balance.md)."""

ENDED, TRIALS = "ended", "trials"
"""Kinds of news beside those of a study: a trial has ended (`message`: how); so many trials of so many have."""

TOO_MANY = 3
"""So many trials that fail one after another end a search: what is wrong is not the settings."""

_JOURNAL, _BOUNDS, _STUDY = "trials.journal", "bounds.json", "balance"


def search(
    space: Space,
    folder: str | Path,
    runs: str | Path = "runs",
    *,
    trials: int = 24,
    minutes: float | None = None,
    workers: int = 1,
    name: str = "balance",
    command: str = "",
    tell: Report | None = None,
) -> Balance:
    """Try up to `trials` experiments, `workers` at a time (fewer where fewer fit this machine), none begun after
    `minutes` once two are finished; go on where a search in `folder` was. Returns all trials there.

    One that diverges counts as a trial. One that fails otherwise (a full disk, too little memory) does not, and is
    begun once more. ConfigError where the folder holds a search within other bounds or with another judge, or where
    another process searches in it. TrainingError where ordinary training fails, StudyError where `TOO_MANY` trials in a
    row do. Ctrl-C saves and raises Interrupted.
    """
    optuna = _optuna()
    folder, runs, report = Path(folder), Path(runs), tell or (lambda event: None)
    folder.mkdir(parents=True, exist_ok=True)
    with claimed(folder / ".search.lock") as mine:
        if not mine:
            raise ConfigError(f"Another process searches in {folder}: wait for it, or choose another folder with -o.")
        sitting = Sitting.of(space, runs)
        prediction = _write_bounds(optuna, sitting, folder, name, report)
        record = _Record(optuna, sitting, folder, name, command, prediction)
        board = _Search(record, trials, minutes, report)
        run_board(board, [board.template], workers, trials, Sharing())
        return record.write()


class _Record:
    """Optuna's study, and the files that tell of it."""

    def __init__(
        self, optuna: Any, sitting: Sitting, folder: Path, name: str, command: str, prediction: Prediction
    ) -> None:
        self.sitting, self.space, self.folder, self.prediction = sitting, sitting.space, folder, prediction
        self._name, self._command = name, command
        self._states = optuna.trial.TrialState
        self._found = _open(optuna, self.space, folder)
        self._again = deque(self._broken_off())
        self._given_up: list[dict[str, Any]] = []

    def _broken_off(self) -> list[dict[str, Any]]:
        """Points of trials that a process was at, or was to begin, when it died: they are tried again, first of all,
        and go on from their saved state."""
        points = []
        for trial in self._found.get_trials(deepcopy=False):
            if trial.state == self._states.RUNNING:
                points.append(trial.params or trial.system_attrs.get("fixed_params"))
                self._found.tell(trial.number, state=self._states.FAIL)
        for trial in self._found.get_trials(deepcopy=False, states=(self._states.WAITING,)):
            points.append(trial.system_attrs.get("fixed_params"))
            self._found.tell(self._found.ask(), state=self._states.FAIL)  # the one that has waited longest
        return [point for point in points if point]

    def propose(self, ordinary: bool) -> tuple[Any, Params]:
        """The next trial, and its parameters: ordinary training, one that was broken off, a starter, or what Optuna
        proposes."""
        known = [trial.params for trial in self._kept()] + self._given_up
        starters = [point for params in STARTERS if (point := _as_point(params, self.space)) not in known]
        point = None
        if ordinary:
            point = _as_point(ORDINARY, self.space)
            self._again = deque(other for other in self._again if other != point)
        elif self._again:
            point = self._again.popleft()
        elif starters:
            point = starters[0]
        if point is not None:
            self._found.enqueue_trial(point)
        trial = self._found.ask()
        params = _suggest(trial, self.space)
        trial.set_user_attr("ordinary", params == ORDINARY)
        trial.set_user_attr("predicted", self.prediction.of(params))
        return trial, params

    def judged(self, trial: Any, psnr: Mapping[str, float], step: int, value: float) -> None:
        """Take down what a trial has come to."""
        trial.set_user_attr("psnr", dict(psnr))
        trial.set_user_attr("step", step)
        if step < self.space.steps:
            trial.report(value, step)

    def complete(self, trial: Any, value: float) -> None:
        self._found.tell(trial, value)

    def pruned(self, trial: Any, failed: str = "") -> None:
        if failed:
            trial.set_user_attr("failed", failed)
        self._found.tell(trial, state=self._states.PRUNED)

    def dropped(self, trial: Any, again: bool = True) -> None:
        """It came to nothing, and counts for nothing; it is tried `again`, or not before the search is begun anew."""
        (self._again if again else self._given_up).append(dict(trial.params))
        self._found.tell(trial, state=self._states.FAIL)

    @property
    def has_ordinary(self) -> bool:
        return any(
            trial.state == self._states.COMPLETE and trial.user_attrs.get("ordinary")
            for trial in self._found.get_trials(deepcopy=False)
        )

    @property
    def begun(self) -> int:
        """How many trials are finished or under way."""
        return len(self._kept())

    @property
    def choices(self) -> int:
        """How many there are to choose from."""
        return sum(trial.state == self._states.COMPLETE for trial in self._kept())

    def _kept(self) -> list[Any]:
        """All but those that were broken off, and begun again."""
        return [trial for trial in self._found.get_trials(deepcopy=False) if trial.state.name in _STATES]

    def write(self) -> Balance:
        """`balance.json`, and `experiment.yaml` once there is a choice."""
        known: Sequence[Any] = ()
        command = self._command
        with suppress(StudyError):
            before = read_balance(self.folder)
            command, known = before.command or command, before.trials
        balance = Balance(
            name=self._name,
            bounds=json.loads(self.space.model_dump_json(exclude_none=True)),
            suites={suite.name: suite.describe() for suite in self.sitting.suites if suite.name != NARROW},
            trials=trials_of(self._kept()) or tuple(known),
            command=command,
            environment=training.environment(training.resolve(self.space.trial(ORDINARY), "")),
        )
        training.write_json(self.folder / FILE, asdict(balance))
        if balance.best is not None:
            best, number = balance.best, len(balance.trials)
            origin = f"the best of {number} trials of unseen balance, {best.value:+.2f} dB over ordinary training there"
            chosen = self.space.chosen(params_of(best, self.space))
            short = self.space.shortly(params_of(best, self.space))
            write_experiment(self.folder / "experiment.yaml", chosen, origin, short)
        return balance


_STATES = {"COMPLETE": "complete", "PRUNED": "pruned", "RUNNING": "running"}
"""Optuna's states of trials that count, and ours."""


class _Search(Board):
    """A board that asks for the next trial when there is room for one, and ends poor ones.

    No other trial begins before ordinary training is under way: what a trial is worth is told against that, and who
    holds a core must not wait for one who needs it.
    """

    def __init__(self, record: _Record, trials: int, minutes: float | None, tell: Report) -> None:
        super().__init__((), tell)
        self._record, self._sitting, self._space = record, record.sitting, record.space
        self._trials, self._end = trials, math.inf if minutes is None else time.monotonic() + 60 * minutes
        self._mine: dict[str, tuple[Any, Params, Path]] = {}  # under way, by label
        self._unsettled: list[tuple[str, int]] = []
        self._told: set[tuple[str, int]] = set()  # of which trial at which rung the record knows
        self._diverged: dict[str, str] = {}  # what was said of trials that did, by label
        self._failed, self._in_a_row = Counter[Params](), 0
        self._dropped = False
        self.template = self._sitting.job(ORDINARY, "")
        self._ordinary = self._sitting.folder(ORDINARY)
        self._has_ordinary = self._under_way = record.has_ordinary and self._of_ordinary(self._space.steps) is not None

    @property
    def over(self) -> bool:
        return super().over and not self._more

    @property
    def _more(self) -> bool:
        """Whether another trial is to be proposed."""
        if self._dropped:
            return False
        if not self._has_ordinary and not self._mine:
            return True
        return self._record.begun < self._trials and (time.monotonic() < self._end or self._record.choices < 2)

    def next(self, fits: Callable[[Job], bool] = lambda job: True) -> Job | None:
        for job in [job for job in self.claimed if job.finished]:  # by another process: what it wrote is read
            self.claimed.remove(job)
            self.waiting.append(job)
        may = self._under_way or not self._mine
        if may and not self.waiting and fits(self.template) and self._more:
            self.waiting.append(self._propose())
        return super().next(fits)

    def _propose(self) -> Job:
        trial, params = self._record.propose(ordinary=not self._has_ordinary and not self._mine)
        label = f"trial {trial.number}"
        job = self._sitting.job(params, label)
        folder = job.claim.parent
        trial.set_user_attr("experiment", folder.name)
        self._mine[label] = trial, params, folder
        return job

    def tell(self, event: Event) -> bool | None:
        if event.kind == RUNG:
            return self._rung(event.cell, event.done)
        if event.kind == DIVERGED:
            self._diverged[event.cell] = event.message
            return None
        if event.kind in ("train", "judge") and event.cell in self._mine and self._mine[event.cell][1] == ORDINARY:
            self._under_way = True
        if event.kind != "done":
            super().tell(event)
        return None

    def _of_ordinary(self, step: int) -> dict[str, float] | None:
        return self._sitting.known(self._ordinary, step)

    def _rung(self, label: str, step: int) -> bool:
        """Whether a trial that was judged goes on. Decided later where ordinary training is not so far yet."""
        if label not in self._mine:
            return False
        trial, params, folder = self._mine[label]
        mine, ordinary = self._sitting.known(folder, step), self._of_ordinary(step)
        if mine is None:
            return True
        if ordinary is None:
            self._unsettled.append((label, step))
            return True
        self._told.add((label, step))
        self._record.judged(trial, mine, step, worth(mine, ordinary, self._space))
        if params == ORDINARY:
            self._settle()
            return True
        # One that is still widening there is not worse for it.
        if params.until <= step / self._space.steps and trial.should_prune():
            self.cancelled.add(label)
            return False
        return True

    def _settle(self) -> None:
        """Decide what has waited for ordinary training."""
        waiting, self._unsettled = self._unsettled, []
        for label, step in waiting:
            if label not in self._mine:
                continue
            if step < self._space.steps:
                self._rung(label, step)
            else:
                self._finish(label)

    def ended(self, job: Job, outcome: str, message: str) -> None:
        if outcome == "stopped" and job.label in self.cancelled:
            outcome = "done"
        super().ended(job, outcome, message)  # pyright: ignore[reportArgumentType]
        if outcome == "done":
            self._finish(job.label)
        elif job.label in self.failures:
            self._fail(job.label)

    def _finish(self, label: str) -> None:
        trial, params, folder = self._mine[label]
        self._in_a_row = 0
        if label in self._diverged:
            if params == ORDINARY:
                raise self._without_ordinary(self._diverged[label])
            self._record.pruned(trial, failed=self._diverged[label])
            self._say(label, f"diverged. {self._diverged[label]}")
            return
        mine, ordinary = self._sitting.known(folder, self._space.steps), self._of_ordinary(self._space.steps)
        if mine is None:
            self._record.pruned(trial)
            self._say(label, "ended early")
            return
        if ordinary is None:
            self._unsettled.append((label, self._space.steps))
            return
        for step in self._space.trial(ORDINARY).recipe.snapshots:  # a trial that was finished already told of none
            rung, then = self._sitting.known(folder, step), self._of_ordinary(step)
            if rung is not None and then is not None and (label, step) not in self._told:
                self._record.judged(trial, rung, step, worth(rung, then, self._space))
        value = worth(mine, ordinary, self._space)
        self._record.judged(trial, mine, self._space.steps, value)
        self._record.complete(trial, value)
        self._say(label, "ordinary training" if params == ORDINARY else f"{value:+.2f} dB over ordinary training")
        if params == ORDINARY:
            self._has_ordinary = self._under_way = True
            self._settle()

    def _fail(self, label: str) -> None:
        """It failed for what is no fault of its settings: it is begun once more, after others."""
        trial, params, _ = self._mine[label]
        if params == ORDINARY:
            raise self._without_ordinary(self.failures[label])
        self._failed[params] += 1
        self._in_a_row += 1
        self._record.dropped(trial, again=self._failed[params] < CHANCES)
        del self._mine[label]
        if self._in_a_row >= TOO_MANY:
            raise StudyError(
                f"{TOO_MANY} trials in a row failed, the last one so: {self.failures[label]} What is finished is kept; "
                "see to the cause, and run the same command again to go on."
            )

    def _without_ordinary(self, message: str) -> TrainingError:
        for other, _, _ in self._mine.values():
            self._record.dropped(other)
        return TrainingError(f"Ordinary training, which all is measured against, failed: {message}")

    def _say(self, label: str, message: str) -> None:
        del self._mine[label]
        self._record.write()
        super().tell(Event(label, ENDED, message=message))
        super().tell(Event("", TRIALS, self._record.begun - len(self._mine), self._trials))

    def drop(self) -> None:
        super().drop()
        self._dropped = True


def _optuna() -> Any:
    try:
        import optuna
    except ImportError as error:
        raise ConfigError(
            "unseen balance searches with Optuna, which is missing: pip install 'unseen[balance]'"
        ) from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna


def _write_bounds(optuna: Any, sitting: Sitting, folder: Path, name: str, tell: Report) -> Prediction:
    """Written before the first trial; a search goes on only within the same bounds, before the same judge. What may be
    lost may change: then its trials are valued anew. With what complexity promises."""
    value = json.loads(sitting.space.model_dump_json(exclude_none=True))
    valued = {**{key: value[key] for key in ("allowed", "worse")}, "reach": sitting.space.reach}
    path = folder / _BOUNDS
    if path.is_file():
        try:
            written = json.loads(path.read_text())
            before, judge, prediction = written["space"], written["judge"], Prediction(**written["prediction"])
            backgrounds = written.get("backgrounds", sitting.backgrounds)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise StudyError(f"{path} cannot be read ({error}): choose another folder with -o.") from error
        changed = sorted(key for key in {*value, *before} - {*valued} if value.get(key) != before.get(key))
        if changed:
            raise ConfigError(
                f"{folder} holds a search within other bounds ({', '.join(changed)} differ): choose another folder, "
                "or give the settings that it began with."
            )
        if judge != sitting.judge:
            raise ConfigError(
                f"{folder} holds a search that was judged otherwise: the images, or what is held out, have changed. "
                "Choose another folder with -o."
            )
        for what, own, now in (
            ("backgrounds", backgrounds, sitting.backgrounds),
            ("pairs", written.get("pairs", sitting.pairs), sitting.pairs),
        ):
            if own != now:
                raise ConfigError(
                    f"{folder} holds a search on other {what}: images have come, gone or changed. Choose another "
                    "folder with -o."
                )
        if written.get("valued") != valued:
            _value_anew(optuna, sitting, folder)
            new = {"space": value, "valued": valued, "backgrounds": sitting.backgrounds, "pairs": sitting.pairs}
            training.write_json(path, written | new)
        return prediction

    def measuring(what: str, done: int, total: int) -> None:
        tell(Event("", "measure", done, total, message=what))

    prediction = Prediction.measure(sitting.space, measuring)
    training.write_json(
        path,
        {
            "name": name, "space": value, "prediction": asdict(prediction), "judge": sitting.judge,
            "backgrounds": sitting.backgrounds, "pairs": sitting.pairs, "valued": valued,
            "trained within": sitting.space.inner.describe(),
            "judged on": {suite.name: suite.describe() for suite in sitting.suites},
        },
    )  # fmt: skip
    return prediction


def _value_anew(optuna: Any, sitting: Sitting, folder: Path) -> None:
    """What trials have come to, by what may be lost now; nothing is trained. The journal is replaced as a whole."""
    states, path = optuna.trial.TrialState, folder / _JOURNAL
    if not path.is_file():
        return
    found = _open(optuna, sitting.space, folder).get_trials()
    ordinary = next((t for t in found if t.state == states.COMPLETE and t.user_attrs.get("ordinary")), None)
    known = {} if ordinary is None else {sitting.space.steps: ordinary.user_attrs["psnr"]}
    for step in sitting.space.trial(ORDINARY).recipe.snapshots:
        known |= {step: psnr} if (psnr := sitting.known(sitting.folder(ORDINARY), step)) is not None else {}
    new = folder / f".{_JOURNAL}"
    new.unlink(missing_ok=True)
    study = _open(optuna, sitting.space, folder, new)
    for trial in found:
        step, psnr = trial.user_attrs.get("step"), trial.user_attrs.get("psnr")
        if trial.state == states.RUNNING:  # its process died: it is begun again
            study.enqueue_trial(trial.params or trial.system_attrs.get("fixed_params", {}))
            continue
        if psnr and step in known:
            judged = {step: psnr}
            for rung in trial.intermediate_values:  # of those before the last one its own folder tells
                then = sitting.known(sitting.runs / trial.user_attrs["experiment"], rung)
                judged = judged if then is None else {rung: then, **judged}
            values = {at: worth(then, known[at], sitting.space) for at, then in judged.items() if at in known}
            trial.intermediate_values = {rung: values[rung] for rung in trial.intermediate_values if rung in values}
            if trial.value is not None:  # of one that ended early that at its last rung
                trial.value = values[step]
        study.add_trial(trial)
    new.replace(path)


def _mend(journal: Path) -> None:
    """Cut off a last line that was not written to its end: what it told of is begun again."""
    if not journal.is_file():
        return
    with journal.open("r+b") as file:
        text = file.read()
        if text and not text.endswith(b"\n"):
            file.truncate(text.rfind(b"\n") + 1)


def _open(optuna: Any, space: Space, folder: Path, path: Path | None = None) -> Any:
    """Optuna's study in the folder's journal, or in another."""
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    path = folder / _JOURNAL if path is None else path
    _mend(path)

    def study(seed: int) -> Any:
        return optuna.create_study(
            study_name=_STUDY,
            storage=JournalStorage(JournalFileBackend(str(path))),
            sampler=optuna.samplers.TPESampler(seed=seed, n_startup_trials=8, multivariate=True),
            pruner=optuna.pruners.MedianPruner(n_startup_trials=4),
            direction="maximize",
            load_if_exists=True,
        )

    try:
        # A search that goes on would propose the same again from the same seed.
        return study(space.experiment.seed + len(study(0).get_trials(deepcopy=False)))
    except (ValueError, KeyError) as error:
        raise StudyError(f"{path} cannot be read ({error}): choose another folder with -o.") from error


def _dials(space: Space) -> dict[str, tuple[float, float]]:
    """The dials that have bounds, and those bounds. A mask that covers the whole image leaves nothing to weigh."""
    dials = {
        dial: getattr(space, dial) for dial in ("widening", "whole", "narrow", "until", "removal", "power", "clean")
    }
    if space.experiment.degradation.family != "rain" or space.experiment.recipe.loss.kind != "L1":
        dials["removal"] = None
    if space.experiment.recipe.loss.kind != "L1":
        dials["power"] = None
    if _factors(space) is None:
        dials["whole"] = None
    return {dial: bounds for dial, bounds in dials.items() if bounds is not None}


def _suggest(trial: Any, space: Space) -> Params:
    for dial, (low, high) in _dials(space).items():
        trial.suggest_float(dial, low, high, log=dial == "removal")
    if (bounds := _factors(space)) is not None:
        trial.suggest_int("factors", *bounds)
    available = space.available()
    if space.fewest < available:
        trial.suggest_int("count", space.fewest, available, log=True)
    for place, _ in enumerate(space.experiment.backgrounds.parts or ()):
        trial.suggest_float(_weight(place), LIGHTEST, 1.0, log=True)
    return _params(trial.params, space)


def _factors(space: Space) -> tuple[int, int] | None:
    """How many factors may widen at once; None where there is nothing to choose."""
    if space.factors is None or space.wider < 2:
        return None
    low, high = (min(bound, space.wider) for bound in space.factors)
    return None if low == high else (low, high)


def _weight(place: int) -> str:
    """What Optuna calls the weight of a part of a mixture."""
    return f"weight {place}"


def _as_point(params: Params, space: Space) -> dict[str, Any]:
    """As Optuna names it."""
    point: dict[str, Any] = {dial: getattr(params, dial) for dial in _dials(space)}
    if (bounds := _factors(space)) is not None:
        point["factors"] = min(params.factors or bounds[1], bounds[1])
    available = space.available()
    if space.fewest < available:
        point["count"] = available if params.count is None else params.count
    for place, weight in enumerate(space.weights or ()):
        point[_weight(place)] = weight if params.weights is None else params.weights[place]
    return point


def _params(point: Mapping[str, Any], space: Space) -> Params:
    """What Optuna's names stand for. Those of ordinary training are that, with whatever weights a mixture has there."""
    if point == _as_point(ORDINARY, space):
        return ORDINARY
    parts = space.experiment.backgrounds.parts or ()
    weights = tuple(point[_weight(place)] for place, _ in enumerate(parts))
    count, factors = point.get("count"), point.get("factors")
    return Params(
        **{dial: point[dial] for dial in _dials(space)},
        factors=None if factors is None or factors >= space.wider else factors,
        count=None if count is None or count >= space.available() else count,
        weights=tuple(weight / sum(weights) for weight in weights) or None,
    )


def trials_of(found: Sequence[Any]) -> tuple[Trial, ...]:
    """Trials of Optuna as the record has them."""
    kept = []
    for trial in found:
        values = [v for v in (trial.value, *list(trial.intermediate_values.values())[-1:]) if v is not None]
        seconds = 0.0
        if trial.datetime_start is not None and trial.datetime_complete is not None:
            seconds = (trial.datetime_complete - trial.datetime_start).total_seconds()
        kept.append(
            Trial(
                number=trial.number,
                state="failed" if "failed" in trial.user_attrs else _STATES[trial.state.name],
                params=dict(trial.params),
                ordinary=trial.user_attrs.get("ordinary", False),
                experiment=trial.user_attrs.get("experiment", ""),
                step=trial.user_attrs.get("step", 0),
                value=values[0] if values and math.isfinite(values[0]) else None,
                psnr=trial.user_attrs.get("psnr", {}),
                seconds=seconds,
                predicted=trial.user_attrs.get("predicted"),
                message=trial.user_attrs.get("failed", ""),
            )
        )
    return tuple(kept)


def params_of(trial: Trial, space: Space) -> Params:
    """The parameters of a trial."""
    return _params(trial.params, space)


def write_experiment(path: Path, experiment: Experiment, origin: str, short: Mapping[str, Any] | None = None) -> None:
    """The experiment as a file for `unseen train`, and where it comes from, in a comment. `short`: its degradation as
    it is easier to read; all of it is written out where that is not the same."""
    contents = {"content", "pairs_content", "start_content"}
    value = experiment.model_dump(mode="json", exclude_none=True, exclude=contents)
    if short is not None:
        brief = value | {"degradation": dict(short)}
        if experiment.schedules is not None and experiment.schedules.degradation is not None and "from" in short:
            ramp = value["schedules"]["degradation"] | {"start": dict(short["from"])}
            brief["schedules"] = value["schedules"] | {"degradation": ramp}
        value = brief if Experiment.model_validate(brief) == experiment else value
    head = f"# {origin[0].upper()}{origin[1:]}. Train it with: unseen train {path.name}\n"
    text = head + yaml.safe_dump(value, sort_keys=False, width=120, default_flow_style=None)
    replace_with(path, lambda temporary: temporary.write_text(text))
