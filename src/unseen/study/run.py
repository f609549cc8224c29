"""Run a study: train and judge what is missing, go on with what was cut off, do nothing twice.

A cell is finished when its rows are there; they are written whole. Cells run side by side in processes of their own,
each with the threads that its recipe says.
"""

import hashlib
import json
import multiprocessing
import os
import shlex
import signal
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from queue import Empty
from typing import Any

import pandas
import torch

from unseen import training
from unseen.backgrounds import Backgrounds
from unseen.checkpoints import load_checkpoint, restorer
from unseen.data import StoredPairs
from unseen.errors import ConfigError, StudyError, UnseenError
from unseen.evaluation.baselines import identity
from unseen.evaluation.evaluate import apply, evaluate
from unseen.evaluation.suites import Judge, PairSuite
from unseen.experiment import Experiment, Recipe
from unseen.images import write_image
from unseen.leaks import Fingerprints, find_leaks, fingerprints, joined, refuse_leaks
from unseen.rows import write_rows
from unseen.study.record import StudyRecord, read_study
from unseen.study.study import Study
from unseen.training_images import clean_images
from unseen.types import Restorer

COUNT = "backgrounds.count"
"""The axis on which None means all."""

SAMPLE = 0
"""Which test image of every suite is kept as a picture."""


@dataclass(frozen=True)
class Event:
    """News from a running cell: `kind` is "train" (steps), "judge" (images), "done" or "failed"."""

    cell: str
    kind: str
    done: int = 0
    total: int = 0
    loss: float = 0.0
    message: str = ""


Report = Callable[[Event], None]


@dataclass(frozen=True)
class Cell:
    """A cell with its name: `experiment` is resolved, and has so many `backgrounds`."""

    axes: dict[str, Any]
    experiment: Experiment
    backgrounds: int

    @property
    def id(self) -> str:
        return self.experiment.id

    @property
    def label(self) -> str:
        """Its place on the axes, for people."""
        return ", ".join(
            f"{key.split('.')[-1]} {'all' if value is None else value}" for key, value in self.axes.items()
        )


@dataclass(frozen=True)
class Plan:
    """What a study comes down to on this machine: its cells with their names, and which of them are finished."""

    study: Study
    runs: Path
    cells: tuple[Cell, ...]
    images: Backgrounds
    judge_id: str

    @property
    def folder(self) -> Path:
        return self.runs / "studies" / self.study.name

    @property
    def baselines(self) -> Path:
        """Their rows hang on the rain that is seen, too, which the judge leaves open."""
        seen = self.cells[0].experiment.degradation.model_dump_json(exclude={"name"})
        return self.folder / f"baselines-{self.judge_id}-{hashlib.sha256(seen.encode()).hexdigest()[:8]}.parquet"

    def judged(self, cell: Cell) -> Path:
        return self.runs / cell.id / "judged" / self.judge_id

    def finished(self, cell: Cell) -> bool:
        return (self.judged(cell) / "rows.parquet").is_file()

    @property
    def missing(self) -> tuple[Cell, ...]:
        return tuple(cell for cell in self.cells if not self.finished(cell))


def plan(study: Study, runs: str | Path = "runs") -> Plan:
    """Resolve every cell; one whose recipe names no threads gets one. Reads the backgrounds, trains nothing."""
    known: dict[str, tuple[str, int]] = {}  # content and number, not the images: they may be many
    cells = []
    for axes, experiment in study.cells():
        if experiment.synthetic and experiment.backgrounds.shares_images_with(study.judge.images):
            raise ConfigError(
                f"The images that study {study.name} judges on are those it trains on: unseen means disjoint. "
                "Give judge.images 'part: test', and both the same holdout."
            )
        content, number, pairs_content = None, 0, None
        if experiment.synthetic:
            key = experiment.backgrounds.model_dump_json()
            if key not in known:
                backgrounds = Backgrounds(experiment.backgrounds)
                known[key] = backgrounds.content_hash, len(backgrounds)
            content, number = known[key]
        if experiment.pairs is not None:
            key = experiment.pairs.model_dump_json(include={"folders"})
            if key not in known:
                pairs = StoredPairs(experiment.pairs)
                known[key] = pairs.content_hash, len(pairs)
            pairs_content, _ = known[key]
        named = training.named(experiment, content, threads=1, pairs_content=pairs_content)
        cells.append(Cell(axes, named, number))
    images = Backgrounds(study.judge.images)
    return Plan(study, Path(runs), tuple(cells), images, study.judge.id(images.content_hash, images.names))


def run_study(
    study: Study,
    runs: str | Path = "runs",
    *,
    workers: int | None = None,
    command: str | None = None,
    allow_leaks: bool = False,
    report: Report | None = None,
) -> StudyRecord:
    """Run what is missing, `workers` cells at a time (None: as many as their threads fit the processor; one beside
    an accelerator), and read the whole study back.

    DataError where test images are, by content, among those trained on, unless `allow_leaks`: the report says so then.
    Cells that fail do not hold up the others; StudyError names them at the end. Ctrl-C saves and raises Interrupted.
    """
    todo = plan(study, runs)
    tell = report or (lambda event: None)
    write_study(todo, command, _leaks(todo, allow_leaks) if todo.missing else _noted(todo))
    judge_baselines(todo, tell)
    missing = todo.missing
    if workers is None:
        recipe = todo.cells[0].experiment.recipe
        workers = max(1, _cores() // (recipe.threads or 1)) if recipe.device == "cpu" else 1
    failures: dict[str, str] = {}
    if workers == 1 or len(missing) <= 1:
        for cell in missing:
            try:
                run_cell(cell, study.judge, todo.judged(cell), todo.runs, tell)
            except training.Interrupted:
                raise
            except Exception as error:  # one cell that runs out of memory does not hold up the others
                failures[cell.label] = _in_words(error)
                tell(Event(cell.label, "failed", message=failures[cell.label]))
    else:
        failures = _side_by_side(todo, missing, workers, tell)
    if failures:
        raise StudyError(
            f"{len(failures)} of {len(missing)} cells failed; the others are finished. "
            + " ".join(f"[{label}] {message}" for label, message in failures.items())
        )
    return read_study(todo.runs, study.name)


def _side_by_side(todo: Plan, missing: tuple[Cell, ...], workers: int, tell: Report) -> dict[str, str]:
    context = multiprocessing.get_context("spawn")
    failures: dict[str, str] = {}
    stopped: training.Interrupted | None = None
    with context.Manager() as manager, training.stopping() as stop:
        news = manager.Queue()
        halt = manager.Event()
        size = min(workers, len(missing))
        processes: list[int] = []
        with ProcessPoolExecutor(size, mp_context=context, initializer=_start, initargs=(news,)) as pool:
            jobs = {
                pool.submit(_in_process, cell, todo.study.judge, todo.judged(cell), todo.runs, news, halt): cell
                for cell in missing
            }
            waiting = set(jobs)
            while waiting:
                with suppress(Empty):
                    event = news.get(timeout=0.2)
                    if event.kind == "process":
                        processes.append(event.done)
                    else:
                        tell(event)
                if stop.is_set():
                    halt.set()
                    for job in waiting:
                        job.cancel()
                    while processes:
                        with suppress(ProcessLookupError):
                            os.kill(processes.pop(), signal.SIGTERM)
                for job in [job for job in waiting if job.done()]:
                    waiting.discard(job)
                    error = None if job.cancelled() else job.exception()
                    if isinstance(error, training.Interrupted):
                        stopped = error
                    elif error is not None:
                        failures[jobs[job].label] = _in_words(error)
                        tell(Event(jobs[job].label, "failed", message=failures[jobs[job].label]))
        while not news.empty():
            tell(news.get())
    if stopped is not None or stop.is_set():
        raise training.Interrupted("Stopped; every cell is saved. Run the same command again to go on.")
    return failures


def _cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _in_words(error: BaseException) -> str:
    if isinstance(error, BrokenProcessPool):
        return "Its process ended, perhaps for want of memory. Run the same command again with fewer --workers."
    return str(error) if isinstance(error, UnseenError) else f"{type(error).__name__}: {error}"


def _start(news: Any) -> None:
    """Ctrl-C reaches every process of a terminal; only the first one listens, and asks the others to stop."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    news.put(Event("", "process", os.getpid()))


def _in_process(cell: Cell, judge: Judge, folder: Path, runs: Path, news: Any, halt: Any) -> None:
    if halt.is_set():
        raise training.Interrupted("Stopped before this cell began.")
    run_cell(cell, judge, folder, runs, news.put)


def run_cell(cell: Cell, judge: Judge, folder: Path, runs: Path, tell: Report) -> None:
    """Train a cell, judge it along its training and at its end, and write its rows to `folder`."""
    steps = cell.experiment.recipe.steps
    with training.using_threads(cell.experiment.recipe.threads):
        tell(Event(cell.label, "train", 0, steps))
        trained = training.train(
            cell.experiment, runs, progress=lambda done, loss: tell(Event(cell.label, "train", done, steps, loss))
        )
        if not (folder / "rows.parquet").is_file():
            judge_cell(cell, trained, judge, folder, tell)
    tell(Event(cell.label, "done"))


def judge_cell(cell: Cell, trained: training.Trained, judge: Judge, folder: Path, tell: Report) -> None:
    """Rows for the finished network on all images, and for its snapshots on the first ones (`Judge.along`)."""
    recipe = cell.experiment.recipe
    suites = judge.resolve(cell.experiment.degradation)
    images = Backgrounds(judge.images)
    points: list[tuple[int, Path, int | None]] = [
        (step, trained.folder / "snapshots" / f"{step}.safetensors", _least(judge.along, judge.limit))
        for step in recipe.snapshots
        if step < recipe.steps
    ]
    points.append((recipe.steps, trained.checkpoint, judge.limit))
    total, judged, parts = sum(suite.size(images, limit) for _, _, limit in points for suite in suites), 0, []

    with training.stopping() as stop:

        def progress(suite: str, count: int) -> None:
            nonlocal judged
            judged += count
            tell(Event(cell.label, "judge", judged, total))
            if stop.is_set():
                raise training.Interrupted(f"Stopped while judging {cell.id}. Run the same command again to go on.")

        for step, path, limit in points:
            parts.append(
                evaluate(
                    _restorer(path, recipe), suites, images, crop=judge.crop, limit=limit, seed=judge.seed,
                    draws=judge.draws if step == recipe.steps else 1, ssim=step == recipe.steps, name=cell.id,
                    step=step, baselines=False, progress=progress,
                )
            )  # fmt: skip
    final = _restorer(trained.checkpoint, recipe)
    for suite in suites:
        _, batch = next(suite.batches(images, judge.crop, SAMPLE + 1, judge.seed))
        with torch.inference_mode():
            _picture(folder / "pictures" / f"{suite.name}.png", apply(final, batch.degraded)[SAMPLE])
    write_rows(pandas.concat(parts, ignore_index=True), folder / "rows.parquet")


def _least(one: int | None, other: int | None) -> int | None:
    return min((value for value in (one, other) if value is not None), default=None)


def _restorer(path: Path, recipe: Recipe) -> Restorer:
    return restorer(load_checkpoint(path, recipe.device).network, recipe.device, recipe.precision)


def _picture(path: Path, image: torch.Tensor) -> None:
    write_image(path, image.float().permute(1, 2, 0).numpy())


def judge_baselines(todo: Plan, tell: Report) -> None:
    """Rows of the identity, the median and the box blur, and the pictures of every suite's sample."""
    path = todo.baselines
    judge, degradation = todo.study.judge, todo.cells[0].experiment.degradation
    suites = judge.resolve(degradation)
    if not path.is_file():
        total, judged = sum(suite.size(todo.images, judge.limit) for suite in suites), 0

        def progress(suite: str, count: int) -> None:
            nonlocal judged
            judged += count
            tell(Event("baselines", "judge", judged, total))

        rows = evaluate(
            identity, suites, todo.images, crop=judge.crop, limit=judge.limit, seed=judge.seed, draws=judge.draws,
            name="identity",
            progress=progress,
        )  # fmt: skip
        for suite in suites:
            _, batch = next(suite.batches(todo.images, judge.crop, SAMPLE + 1, judge.seed))
            _picture(todo.folder / "pictures" / f"{suite.name}-degraded.png", batch.degraded[SAMPLE])
            _picture(todo.folder / "pictures" / f"{suite.name}-clean.png", batch.clean[SAMPLE])
            _picture(todo.folder / "pictures" / f"{suite.name}-mask.png", batch.mask[SAMPLE].expand(3, -1, -1))
        write_rows(rows, path)
        tell(Event("baselines", "done"))


def _leaks(todo: Plan, allowed: bool) -> tuple[str, ...]:
    """What the report must say of test images that were trained on. Looks at all that seeds and counts choose from."""
    trained: dict[str, Fingerprints] = {}
    for cell in todo.cells:
        pool = cell.experiment.backgrounds.model_copy(update={"count": None, "unit": "photographs", "seed": 0})
        whole = cell.experiment.model_copy(update={"backgrounds": pool})
        key = whole.model_dump_json(include={"backgrounds", "pairs"})
        if key not in trained:
            trained[key] = fingerprints(clean_images(whole))
    tests = [(name, todo.images.image(index)) for index, name in enumerate(todo.images.names)]
    for suite in todo.study.judge.resolve(todo.cells[0].experiment.degradation):
        if isinstance(suite, PairSuite):
            tests += [(f"{suite.name}/{name}", image) for name, image in suite.open().clean_images()]
    leaks = find_leaks(joined(list(trained.values())), fingerprints(tests))
    refuse_leaks(leaks, allowed, f"The study {todo.study.name}")
    if not leaks:
        return ()
    count = len({leak.test for leak in leaks})
    return (
        f"LEAKS WERE ALLOWED: {count} test image{'s are' if count > 1 else ' is'} among those that cells may be "
        f"trained on, so these figures say nothing about generalization. First: {leaks[0].train} is {leaks[0].test}.",
    )


def _noted(todo: Plan) -> tuple[str, ...]:
    """What the study has noted before: a study that is finished is not looked through again."""
    with suppress(OSError, ValueError):
        return tuple(json.loads((todo.folder / "study.json").read_text()).get("notes", ()))
    return ()


def write_study(todo: Plan, command: str | None, notes: Sequence[str] = ()) -> None:
    """`study.json`: what the study asks and which cells answer it, so that a report needs nothing else."""
    study = todo.study
    experiments = [cell.experiment for cell in todo.cells]
    degradations = list({e.degradation.model_dump_json(): e.degradation for e in experiments if e.synthetic}.values())
    only_pairs = any(not experiment.synthetic for experiment in experiments)  # no synthetic suite is seen by these
    numbers = {
        axis: {str(cell.axes[axis]): number for cell in todo.cells if (number := _number(cell, axis)) is not None}
        for axis in study.axes
        if axis != "seed"
    }
    labels = {
        axis: {
            str(value): "none"
            if value is None and axis != COUNT
            else f"all {numbers[axis]['None']:g}"
            if value is None
            else str(value)
            for value in values
        }
        for axis, values in study.axes.items()
    }
    suites = []
    for suite in study.judge.resolve(todo.cells[0].experiment.degradation):
        own = suite.name == "seen"  # every cell's own training degradation
        groups = {"seen" if own else suite.group(degradation) for degradation in degradations}
        if only_pairs:
            groups.add("clean" if suite.group(experiments[0].degradation) == "clean" else "unseen")
        outside = [] if own else [suite.outside(each) for each in degradations]
        suites.append(
            {
                "name": suite.name,
                "group": groups.pop() if len(groups) == 1 else "mixed",
                "description": "what each network was trained on"
                if own and len(degradations) > 1
                else suite.describe(),
                "outside": [factor for factor in (outside[0] if outside else ()) if all(factor in o for o in outside)],
                "images": suite.size(todo.images, study.judge.limit),
            }
        )
    training.write_json(
        todo.folder / "study.json",
        {
            "study": study.model_dump(mode="json"),
            "judge": todo.judge_id,
            "baselines": todo.baselines.name,
            "suites": suites,
            "axis_labels": labels,
            "axis_numbers": numbers,
            "cells": [{"id": cell.id, "axes": cell.axes} for cell in todo.cells],
            "command": command or shlex.join(["unseen", *sys.argv[1:]]),
            **({"notes": list(notes)} if notes else {}),
        },
    )


def _number(cell: Cell, axis: str) -> float | None:
    """Where a cell lies on an axis of numbers; "all" backgrounds lie at how many there are."""
    value = cell.axes[axis]
    if value is None and axis == COUNT:
        return float(cell.backgrounds)
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
