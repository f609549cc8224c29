"""The search: Optuna proposes, a trial is trained and judged on what was held out, poor ones end early.

A trial is an experiment, trained in `runs/<id>` like the cell of a study: killed and started again, it goes on from its
last saved state, and what has been judged is not judged again. Several processes may search in one folder at once.
"""

import json
import math
import multiprocessing
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from queue import Empty
from typing import Any

import torch
import yaml

from unseen import training
from unseen.backgrounds import Backgrounds
from unseen.balance.predict import Prediction
from unseen.balance.record import FILE, Balance, Trial, read_balance
from unseen.balance.space import ORDINARY, Params, Space
from unseen.checkpoints import load_checkpoint, replace_with, restorer
from unseen.errors import ConfigError, StudyError, TrainingError, UnseenError
from unseen.evaluation.evaluate import evaluate
from unseen.experiment import Experiment
from unseen.rows import summarise
from unseen.study.cores import Sharing, cores, share

PENALTY = 2.0
"""How much a dB that is lost beyond what is allowed counts against a dB that is won."""

STARTERS = (
    ORDINARY,
    Params(widening=1.0, narrow=0.4, power=0.5),
    Params(widening=1.0, narrow=0.2, until=0.5, removal=2.0),
    Params(widening=0.5, narrow=0.4, removal=2.0, power=0.5),
)
"""What is tried first, ordinary training at the head: everything is measured against it."""

_JOURNAL, _BOUNDS, _STUDY = "trials.journal", "bounds.json", "balance"
_NARROW = "narrow"


@dataclass(frozen=True)
class News:
    """From the search (`trial` -1) or a trial: `kind` is "measure", "train" (steps), "pruned", "failed", "done"
    or "note"."""

    trial: int
    kind: str
    done: int = 0
    total: int = 0
    value: float | None = None
    params: dict[str, Any] | None = None
    message: str = ""


Tell = Callable[[News], None]


def search(
    space: Space,
    folder: str | Path,
    runs: str | Path = "runs",
    *,
    trials: int = 24,
    minutes: float | None = None,
    name: str = "balance",
    command: str = "",
    tell: Tell | None = None,
    worker: int | None = None,
) -> Balance:
    """Try up to `trials` experiments, none begun after `minutes`, in this process; go on where a search in `folder`
    was. Returns all trials there, of other processes too. `worker` is the number of this process where several search
    at once; None: no other does, so that trials under way are those of one that died, and are tried again.

    ConfigError where the folder holds a search within other bounds. Ctrl-C saves and raises Interrupted.
    """
    optuna = _optuna()
    folder, runs, report = Path(folder), Path(runs), tell or (lambda news: None)
    folder.mkdir(parents=True, exist_ok=True)
    prediction = _write_bounds(space, folder, name, report)
    found = _open(optuna, space, folder, worker or 0)
    if worker is None:
        _requeue(optuna, found)
    recipe = training.resolve(space.trial(ORDINARY), "").recipe
    threads, device = recipe.threads or 1, recipe.device

    def note(message: str) -> None:
        report(News(-1, "note", message=message))

    began = time.monotonic()
    while _begun(found) < trials:
        if minutes is not None and time.monotonic() - began > 60 * minutes and _judged(found) > 1:
            break
        trial = found.ask()
        params = _suggest(trial, space)
        trial.set_user_attr("predicted", prediction.of(params))
        try:
            with training.stopping() as stop, share(threads, device, Sharing(), stop, note):
                value = _Run(space, runs, trial, params, report).value()
        except TrainingError as error:  # it diverged: a setting that does not do, unless it is ordinary training itself
            if params == ORDINARY:
                found.tell(trial, state=optuna.trial.TrialState.FAIL)
                raise
            trial.set_user_attr("failed", str(error))
            report(News(trial.number, "failed", message=str(error)))
            value = None
        except training.Interrupted:
            found.tell(trial, state=optuna.trial.TrialState.FAIL)
            found.enqueue_trial(_as_point(params, space), user_attrs={"again": True})
            _write(found, space, folder, name, command)
            raise
        if value is None:
            found.tell(trial, state=optuna.trial.TrialState.PRUNED)
        else:
            found.tell(trial, value)
        _write(found, space, folder, name, command)
    return _write(found, space, folder, name, command)


def search_side_by_side(
    space: Space, folder: str | Path, runs: str | Path = "runs", *, workers: int = 1, tell: Tell | None = None,
    **options: Any,
) -> Balance:  # fmt: skip
    """`search` in `workers` processes at once, each with the threads that the recipe says.

    ConfigError where they would take more cores than there are.
    """
    threads, there = space.experiment.recipe.threads or 1, len(cores())
    if workers * threads > there:
        raise ConfigError(
            f"{workers} workers of {threads} threads take more than the {there} cores there are: use at most "
            f"{max(1, there // threads)} workers."
        )
    if workers == 1:
        return search(space, folder, runs, tell=tell, **options)
    report = tell or (lambda news: None)
    optuna = _optuna()
    Path(folder).mkdir(parents=True, exist_ok=True)
    _write_bounds(space, Path(folder), options.get("name", "balance"), report)
    _requeue(optuna, _open(optuna, space, Path(folder)))
    written = space.model_dump_json()
    context = multiprocessing.get_context("spawn")
    with context.Manager() as manager, training.stopping() as stop:
        news = manager.Queue()
        processes = [
            context.Process(target=_worker, args=(written, str(folder), str(runs), options, news, number))
            for number in range(workers)
        ]
        for process in processes:
            process.start()
        errors: list[str] = []
        asked = False
        while any(process.is_alive() for process in processes) or not news.empty():
            with suppress(Empty):
                item = news.get(timeout=0.2)
                if isinstance(item, News):
                    report(item)
                else:
                    errors.append(item)
            if stop.is_set() and not asked:
                asked = True
                for process in processes:
                    process.terminate()
    if stop.is_set():
        raise training.Interrupted(f"Stopped; every trial is saved. Run the same command again to go on in {folder}.")
    if errors:
        raise StudyError(" ".join(dict.fromkeys(errors)))
    if dead := [process.exitcode for process in processes if process.exitcode]:
        raise StudyError(
            f"{len(dead)} of {workers} workers ended, perhaps for want of memory: run the same command again."
        )
    return read_balance(folder)


def _worker(space: str, folder: str, runs: str, options: dict[str, Any], news: Any, number: int) -> None:
    """One process of a search. Ctrl-C reaches all of a terminal's; only the first process listens, and asks to stop."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        search(Space.model_validate_json(space), folder, runs, tell=news.put, worker=number, **options)
    except training.Interrupted:
        pass
    except Exception as error:
        news.put(str(error) if isinstance(error, UnseenError) else f"{type(error).__name__}: {error}")


def _optuna() -> Any:
    try:
        import optuna
    except ImportError as error:
        raise ConfigError(
            "unseen balance searches with Optuna, which is missing: pip install 'unseen[balance]'"
        ) from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna


def _write_bounds(space: Space, folder: Path, name: str, tell: Tell) -> Prediction:
    """Written before the first trial; a search goes on only within the same bounds. With what complexity promises."""
    value = json.loads(space.model_dump_json(exclude_none=True))
    path = folder / _BOUNDS
    if path.is_file():
        with suppress(OSError, ValueError, KeyError):
            written = json.loads(path.read_text())
            if written["space"] != value:
                changed = sorted(k for k in {*value, *written["space"]} if value.get(k) != written["space"].get(k))
                raise ConfigError(
                    f"{folder} holds a search within other bounds ({', '.join(changed)} differ): choose another "
                    "folder, or give the settings that it began with."
                )
            return Prediction(**written["prediction"])
    prediction = Prediction.measure(space, lambda what, done, total: tell(News(-1, "measure", done, total)))
    training.write_json(path, {"name": name, "space": value, "prediction": asdict(prediction)})
    return prediction


def _open(optuna: Any, space: Space, folder: Path, worker: int = 0) -> Any:
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    seed = space.experiment.seed + 1000 * worker  # or two at once would propose the same
    found = optuna.create_study(
        study_name=_STUDY,
        storage=JournalStorage(JournalFileBackend(str(folder / _JOURNAL))),
        sampler=optuna.samplers.TPESampler(seed=seed, n_startup_trials=8, multivariate=True),
        pruner=optuna.pruners.MedianPruner(n_startup_trials=4),
        direction="maximize",
        load_if_exists=True,
    )
    if not found.get_trials(deepcopy=False):
        for params in STARTERS:
            found.enqueue_trial(_as_point(params, space))
    return found


def _requeue(optuna: Any, found: Any) -> None:
    """Trials that a process was at when it died are tried again, first of all: they go on from their saved state."""
    for trial in found.get_trials(deepcopy=False):
        if trial.state == optuna.trial.TrialState.RUNNING:
            found.tell(trial.number, state=optuna.trial.TrialState.FAIL)
            found.enqueue_trial(trial.params, user_attrs={"again": True})


def _begun(found: Any) -> int:
    """How many trials are finished or under way, here or in another process."""
    return sum(trial.state.name in ("COMPLETE", "PRUNED", "RUNNING") for trial in found.get_trials(deepcopy=False))


def _judged(found: Any) -> int:
    """How many there are to choose from."""
    return sum(trial.state.name == "COMPLETE" for trial in found.get_trials(deepcopy=False))


def _dials(space: Space) -> dict[str, tuple[float, float]]:
    """The dials that have bounds, and those bounds. A mask that covers the whole image leaves nothing to weigh."""
    dials = {dial: getattr(space, dial) for dial in ("widening", "narrow", "until", "removal", "power", "clean")}
    if space.experiment.degradation.family != "rain" or space.experiment.recipe.loss.kind != "L1":
        dials["removal"] = None
    if space.experiment.recipe.loss.kind != "L1":
        dials["power"] = None
    return {dial: bounds for dial, bounds in dials.items() if bounds is not None}


def _suggest(trial: Any, space: Space) -> Params:
    for dial, (low, high) in _dials(space).items():
        trial.suggest_float(dial, low, high, log=dial == "removal")
    available = space.available()
    if space.fewest < available:
        trial.suggest_int("count", space.fewest, available, log=True)
    for place, _ in enumerate(space.experiment.backgrounds.parts or ()):
        trial.suggest_float(_weight(place), 0.05, 1.0, log=True)
    return _params(trial.params, space)


def _weight(place: int) -> str:
    """What Optuna calls the weight of a part of a mixture."""
    return f"weight {place}"


def _as_point(params: Params, space: Space) -> dict[str, Any]:
    """As Optuna names it."""
    point: dict[str, Any] = {dial: getattr(params, dial) for dial in _dials(space)}
    available = space.available()
    if space.fewest < available:
        point["count"] = available if params.count is None else params.count
    for place, _ in enumerate(space.experiment.backgrounds.parts or ()):
        point[_weight(place)] = 1.0 if params.weights is None else params.weights[place]
    return point


def _params(point: Mapping[str, Any], space: Space) -> Params:
    """What Optuna's names stand for. Those of ordinary training are that, with whatever weights a mixture has there."""
    if point == _as_point(ORDINARY, space):
        return ORDINARY
    parts = space.experiment.backgrounds.parts or ()
    weights = tuple(point[_weight(place)] for place, _ in enumerate(parts))
    count = point.get("count")
    return Params(
        **{dial: point[dial] for dial in _dials(space)},
        count=None if count is None or count >= space.available() else count,
        weights=tuple(weight / sum(weights) for weight in weights) or None,
    )


class _Run:
    """One trial, from its first step to its value."""

    def __init__(self, space: Space, runs: Path, trial: Any, params: Params, tell: Tell) -> None:
        self.space, self.runs, self.trial, self.params, self.tell = space, runs, trial, params, tell
        self.judge = space.judge()
        self.suites = self.judge.resolve(space.experiment.degradation)
        self.images = Backgrounds(self.judge.images)
        identity = self.judge.id(self.images.content_hash, self.images.names)
        self.file = f"balance-{identity}.json"
        self.ordinary, self.pruned = params == ORDINARY, False
        trial.set_user_attr("ordinary", self.ordinary)

    def value(self) -> float | None:
        """What the trial is worth, or None where it ended early."""
        experiment = self.space.trial(self.params)
        steps, number = experiment.recipe.steps, self.trial.number
        self.tell(News(number, "train", 0, steps, params=self.params.model_dump(exclude_none=True)))
        trained = training.train(
            experiment, self.runs, watch=self._watch,
            progress=lambda done, loss: self.tell(News(number, "train", done, steps)),
        )  # fmt: skip
        self.trial.set_user_attr("experiment", trained.experiment.id)
        if self.pruned:
            self.tell(News(number, "pruned"))
            return None
        if self.ordinary:  # others wait for these; a run that was there before was not watched, or by another judge
            for step in experiment.recipe.snapshots:
                self._psnr(trained.folder, step, trained.folder / training.SNAPSHOTS / f"{step}.safetensors")
        found = self._worth(trained.folder, steps, trained.checkpoint)
        self.tell(News(number, "done", value=found))
        return found

    def _watch(self, step: int, path: Path) -> bool:
        worth = self._worth(path.parent.parent, step, path)
        self.trial.report(worth, step)
        # One that is still widening there is not worse for it.
        due = not self.ordinary and self.params.until <= step / self.space.steps
        self.pruned = due and self.trial.should_prune()
        return not self.pruned

    def _worth(self, folder: Path, step: int, path: Path) -> float:
        psnr = self._psnr(folder, step, path)
        self.trial.set_user_attr("psnr", psnr)
        self.trial.set_user_attr("step", step)
        return worth(psnr, psnr if self.ordinary else self._ordinary(step), self.space)

    def _ordinary(self, step: int) -> dict[str, float]:
        """What ordinary training had at that step: the first trial, which another process may still be at."""
        experiment = self.space.trial(ORDINARY)
        home = self.runs / training.named(experiment, Backgrounds(experiment.backgrounds).content_hash).id
        for _ in range(2 * 3600):
            if (known := _known(home / self.file)).get(str(step)):
                return known[str(step)]
            time.sleep(0.5)
        raise StudyError(f"Ordinary training has not been judged at step {step:,} in {home}: its trial must run first.")

    def _psnr(self, folder: Path, step: int, path: Path) -> dict[str, float]:
        """By suite, on the family's channels; from the file, where it was judged before."""
        known = _known(folder / self.file)
        if str(step) in known:
            return known[str(step)]
        checkpoint = load_checkpoint(path, self.space.experiment.recipe.device.replace("auto", "cpu"))
        recipe = checkpoint.experiment.recipe
        with torch.inference_mode():
            rows = evaluate(
                restorer(checkpoint.network, recipe.device, recipe.precision), self.suites, self.images,
                crop=self.judge.crop, limit=self.judge.limit, seed=self.judge.seed, draws=1, ssim=False,
                baselines=False,
            )  # fmt: skip
        summary = summarise(rows).set_index("suite")
        quantity = f"psnr_{self.space.experiment.degradation.color}"
        found = {suite.name: float(summary.loc[suite.name, quantity]) for suite in self.suites}  # pyright: ignore
        training.write_json(folder / self.file, {**known, str(step): found})
        return found


def worth(mine: Mapping[str, float], ordinary: Mapping[str, float], space: Space) -> float:
    """dB: the mean over pseudo-unseen suites of what is won over ordinary training, less twice what is lost beyond
    what the space allows on the narrow degradation, and, on average, on each of those suites."""
    won = {suite: mine[suite] - ordinary[suite] for suite in mine}
    unseen = [value for suite, value in won.items() if suite != _NARROW]
    lost = [max(0.0, -value - space.worse) for value in unseen]
    mean = sum(unseen) / len(unseen)
    return mean - PENALTY * (max(0.0, -won[_NARROW] - space.allowed) + sum(lost) / len(lost))


def _known(path: Path) -> dict[str, dict[str, float]]:
    with suppress(OSError, ValueError):
        return json.loads(path.read_text())
    return {}


def trials_of(found: Any) -> tuple[Trial, ...]:
    """Every trial but those that were broken off and begun again."""
    states = {"COMPLETE": "complete", "PRUNED": "pruned", "RUNNING": "running"}
    kept = []
    for trial in found.get_trials(deepcopy=False):
        if trial.state.name not in states:
            continue
        values = [v for v in (trial.value, *list(trial.intermediate_values.values())[-1:]) if v is not None]
        seconds = 0.0
        if trial.datetime_start is not None and trial.datetime_complete is not None:
            seconds = (trial.datetime_complete - trial.datetime_start).total_seconds()
        kept.append(
            Trial(
                number=trial.number,
                state="failed" if "failed" in trial.user_attrs else states[trial.state.name],
                params=dict(trial.params),
                ordinary=trial.user_attrs.get("ordinary", False),
                experiment=trial.user_attrs.get("experiment", ""),
                step=trial.user_attrs.get("step", 0),
                value=values[0] if values and math.isfinite(values[0]) else None,
                psnr=trial.user_attrs.get("psnr", {}),
                seconds=seconds,
                predicted=trial.user_attrs.get("predicted"),
            )
        )
    return tuple(kept)


def params_of(trial: Trial, space: Space) -> Params:
    """The parameters of a trial."""
    return _params(trial.params, space)


def _write(found: Any, space: Space, folder: Path, name: str, command: str) -> Balance:
    """`balance.json`, and `experiment.yaml` once there is a choice."""
    known: Sequence[Any] = ()
    with suppress(StudyError):
        before = read_balance(folder)
        command, known = before.command or command, before.trials
    judge = space.judge().resolve(space.experiment.degradation)
    balance = Balance(
        name=name,
        bounds=json.loads(space.model_dump_json(exclude_none=True)),
        suites={suite.name: suite.describe() for suite in judge if suite.name != _NARROW},
        trials=trials_of(found) or tuple(known),
        command=command,
        environment=training.environment(training.resolve(space.trial(ORDINARY), "")),
    )
    training.write_json(folder / FILE, asdict(balance))
    if balance.best is not None:
        best, number = balance.best, len(balance.trials)
        origin = f"the best of {number} trials of unseen balance, {best.value:+.2f} dB over ordinary training there"
        write_experiment(folder / "experiment.yaml", space.chosen(params_of(best, space)), origin)
    return balance


def write_experiment(path: Path, experiment: Experiment, origin: str) -> None:
    """The experiment as a file for `unseen train`, and where it comes from, in a comment."""
    contents = {"content", "pairs_content", "start_content"}
    value = experiment.model_dump(mode="json", exclude_none=True, exclude=contents)
    head = f"# {origin[0].upper()}{origin[1:]}. Train it with: unseen train {path.name}\n"
    text = head + yaml.safe_dump(value, sort_keys=False, width=120)
    replace_with(path, lambda temporary: temporary.write_text(text))
