"""Run a study: train and judge what is missing, go on with what was cut off, do nothing twice.

A cell is finished when its rows are there; they are written whole.
"""

import json
import shlex
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from unseen import training
from unseen.checkpoints import load_checkpoint
from unseen.errors import StudyError
from unseen.evaluation.ceiling import ceiling_on, priors_in
from unseen.evaluation.suites import PairSuite
from unseen.experiment import Experiment, all_met
from unseen.leaks import Fingerprints, find_leaks, fingerprints, joined, refuse_leaks
from unseen.priors import PriorConfig
from unseen.priors.moved import sources_in
from unseen.study import cluster
from unseen.study.cells import BASELINES, Event, Report
from unseen.study.cores import Sharing
from unseen.study.jobs import jobs_of
from unseen.study.plan import COUNT, Cell, Plan, plan
from unseen.study.pool import run_on_cores
from unseen.study.record import StudyRecord, read_study
from unseen.study.study import Study
from unseen.training_images import clean_images, of_prior, training_fingerprints

__all__ = ["Cell", "Event", "Plan", "plan", "run_study", "write_study"]


def run_study(
    study: Study,
    runs: str | Path = "runs",
    *,
    workers: int | None = None,
    ray: str | None = None,
    gpus_per_cell: float = 1.0,
    command: str | None = None,
    allow_leaks: bool = False,
    report: Report | None = None,
) -> StudyRecord:
    """Run what is missing, and read the whole study back. Any number of runners may be at work on one folder: each
    does what the others have not claimed, and all end when everything is done.

    `workers` cells at a time, where so many fit this machine with their threads and `gpus_per_cell` of an accelerator
    (None: as many as fit). With `ray`, cells are tasks of a cluster: "local", "auto", or an address (`unseen[ray]`).

    DataError where test images are, by content, among those trained on, unless `allow_leaks`: the report says so then.
    Cells that fail do not hold up the others; StudyError names them at the end. Ctrl-C saves and raises Interrupted.
    """
    sharing = Sharing(gpus_per_cell)
    tell = report or (lambda event: None)
    with cluster.joined(ray) as machines:
        todo = plan(study, runs) if machines is None else machines.plan(study, runs, sharing)
        missing = todo.missing
        notes = None if missing else noted(todo)
        if notes is None:
            notes = (*leak_notes(todo, allow_leaks), *ceiling_notes(todo, tell))
        write_study(todo, command, notes)
        jobs = jobs_of(todo)
        if machines is None:
            failures = run_on_cores(jobs, workers, sharing, tell)
        else:
            failures = machines.run(jobs, workers, sharing, todo.folder, tell)
    if failures:
        lost = failures.pop(BASELINES, None)
        said = [] if lost is None else [f"The baselines could not be judged: {lost}"]
        if failures:
            said.append(f"{len(failures)} of {len(missing)} cells failed; the others are finished.")
        raise StudyError(" ".join([*said, *(f"[{label}] {message}" for label, message in failures.items())]))
    return read_study(todo.runs, study.name)


def leak_notes(todo: Plan, allowed: bool) -> tuple[str, ...]:
    """What the report must say of test images that were trained on. Looks at all that seeds and counts choose from."""
    trained: dict[str, Fingerprints] = {}
    unknown: list[str] = []
    for cell in todo.cells:
        whole = cell.experiment.model_copy(update={"backgrounds": cell.experiment.backgrounds.pool()})
        key = whole.model_dump_json(include={"backgrounds", "pairs"})
        if key not in trained:
            trained[key] = fingerprints(clean_images(whole))
        for source in sources_in(whole.model_dump()).values():
            if source not in trained and (prints := of_prior(source)) is not None:
                trained[source] = prints
        start = cell.experiment.start_from
        if start is not None and start not in trained:
            begun = load_checkpoint(start)
            found = training_fingerprints(begun.lineage, begun.path.parent)
            if found is None:
                unknown.append(start)
            else:
                trained[start] = found
    tests = [(name, todo.images.image(index)) for index, name in enumerate(todo.images.names)]
    for suite in todo.study.judge.resolve(todo.cells[0].experiment.degradation):
        if isinstance(suite, PairSuite):
            tests += [(f"{suite.name}/{name}", image) for name, image in suite.open().clean_images()]
    leaks = find_leaks(joined(list(trained.values())), fingerprints(tests))
    refuse_leaks(leaks, allowed, f"The study {todo.study.name}")
    notes = tuple(
        f"What {start} was trained on is not on this machine: whether it has met test images is not known."
        for start in dict.fromkeys(unknown)
    )
    if not leaks:
        return notes
    count = len({leak.test for leak in leaks})
    return (
        f"LEAKS WERE ALLOWED: {count} test image{'s are' if count > 1 else ' is'} among those that cells may be "
        f"trained on, so these figures say nothing about generalization. First: {leaks[0].train} is {leaks[0].test}.",
        *notes,
    )


def ceiling_notes(todo: Plan, tell: Report) -> tuple[str, ...]:
    """What each prior that networks of the study work with can draw of its test images."""
    networks = [cell.experiment.network for cell in todo.cells]
    priors = {prior.content: prior for network in networks for prior in priors_in(network)}
    judge = todo.study.judge
    suites = judge.resolve(todo.cells[0].experiment.degradation)

    def note(prior: PriorConfig) -> str:
        return ceiling_on(
            prior, suites, todo.images, crop=judge.crop, limit=judge.limit,
            progress=lambda done, total: tell(Event("ceiling of the prior", "judge", done, total)),
        )  # fmt: skip

    with training.using_threads(todo.cells[0].experiment.recipe.threads):
        return tuple(map(note, priors.values()))


def noted(todo: Plan) -> tuple[str, ...] | None:
    """What this study has noted of these cells before this judge: then it is not looked through again. None where it
    has not, because what has that name was another study."""
    with suppress(OSError, ValueError, KeyError, TypeError):
        before = json.loads((todo.folder / "study.json").read_text())
        if before["judge"] == todo.judge_id and {cell.id for cell in todo.cells} <= {c["id"] for c in before["cells"]}:
            return tuple(before.get("notes", ()))
    return None


def write_study(todo: Plan, command: str | None, notes: Sequence[str] = ()) -> None:
    """`study.json`: what the study asks and which cells answer it, so that a report needs nothing else."""
    study = todo.study
    experiments = [cell.experiment for cell in todo.cells]
    met = [all_met(_lineage(experiment)) for experiment in experiments]
    degradations = list({each.model_dump_json(): each for each in met if each is not None}.values())
    only_pairs = any(each is None for each in met)  # no synthetic suite is seen by these
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
        own_pairs = [isinstance(suite, PairSuite) and _met_pairs(experiment, suite) for experiment in experiments]
        if any(own_pairs):  # other pairs of a folder that was trained on
            groups = {"seen"} if all(own_pairs) else {"seen", "unseen"}
        elif only_pairs:
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
                **(
                    {"varies": True}
                    if own and any(each.degradation != experiments[0].degradation for each in experiments)
                    else {}
                ),
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


def _lineage(experiment: Experiment) -> tuple[Experiment, ...]:
    """All that its network goes through, oldest first."""
    start = experiment.start_from
    return (experiment,) if start is None else (*load_checkpoint(start).lineage, experiment)


def _met_pairs(experiment: Experiment, suite: PairSuite) -> bool:
    """Whether its network was trained on pairs of the same folder."""
    folders = [each for one in _lineage(experiment) if one.pairs is not None for each in one.pairs.folders]
    return suite.pairs.place in {each.place for each in folders}


def _number(cell: Cell, axis: str) -> float | None:
    """Where a cell lies on an axis of numbers; "all" backgrounds lie at how many there are."""
    value = cell.axes[axis]
    if value is None and axis == COUNT:
        return float(cell.backgrounds)
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
