"""`unseen study`: Plan, run and report studies."""

import shlex
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from unseen.cli.app import Json, Runs, SetBase, duration, progress_bar, say, show, study_app
from unseen.errors import ConfigError, writing

if TYPE_CHECKING:
    from unseen.study.record import StudyRecord
    from unseen.study.study import Study


@study_app.command("plan")
def study_plan(
    file: Annotated[Path, typer.Argument(help="YAML of a study, e.g. studies/quickstart.yaml.")],
    set_: SetBase = [],  # noqa: B006
    runs: Runs = Path("runs"),
    json_: Json = False,
) -> None:
    """List the cells of a study, and which of them are done. Trains nothing.

    Example: `unseen study plan studies/quickstart.yaml`
    """
    from unseen.study.run import plan

    todo = plan(_study(file, set_), runs)
    cells = [
        {"id": cell.id, "axes": cell.axes, "steps": cell.experiment.recipe.steps, "done": todo.finished(cell)}
        for cell in todo.cells
    ]
    if json_:
        show({"study": todo.study.name, "question": todo.study.question, "cells": cells})
        return
    print(todo.study.question)
    for cell, planned in zip(todo.cells, cells, strict=True):
        print(f"{cell.id}  {'done   ' if planned['done'] else 'to run '}  {cell.label}")
    say(
        f"{len(todo.missing)} of {len(cells)} cells to run, "
        f"{sum(cell.experiment.recipe.steps for cell in todo.missing):,} steps in all."
    )


@study_app.command("run")
def study_run(
    file: Annotated[Path, typer.Argument(help="YAML of a study, e.g. studies/quickstart.yaml.")],
    set_: SetBase = [],  # noqa: B006
    runs: Runs = Path("runs"),
    workers: Annotated[
        int | None, typer.Option(help="Cells at a time (default: as many as fit the machine).", min=1)
    ] = None,
    ray: Annotated[
        str | None,
        typer.Option(metavar="ADDRESS", help="Run cells as Ray tasks: local, auto, or the address of a cluster."),
    ] = None,
    gpus_per_cell: Annotated[
        float, typer.Option(help="Share of a GPU that a cell takes where its device is one: 0.5 for two on each.")
    ] = 1.0,
    allow_leaks: Annotated[
        bool, typer.Option("--allow-leaks", help="Run even where test images are trained on, and say so in the report.")
    ] = False,
    json_: Json = False,
) -> None:
    """Run what is missing of a study and write its report. The same command again continues it; given twice at a time,
    here or on two machines with one folder, it shares the cells out.

    Example: `unseen study run studies/quickstart.yaml --set base.recipe.steps=500 --set 'base.recipe.snapshots=[]'`
    """
    from unseen.study.run import Event, run_study

    study = _study(file, set_)
    began = time.monotonic()
    with progress_bar(json_) as draw:

        def report(event: Event) -> None:
            if event.kind == "failed":
                say(f"Failed: {event.cell}: {event.message}")
            elif event.kind == "note":
                say(event.message)
            elif event.kind != "done":
                verb = {"train": "steps", "judge": "images judged"}[event.kind]
                draw(f"{event.cell}, {verb}", event.done, event.total, f"loss {event.loss:.4f}" if event.loss else "")

        record = run_study(
            study,
            runs,
            workers=workers,
            ray=ray,
            gpus_per_cell=gpus_per_cell,
            allow_leaks=allow_leaks,
            report=report,
        )
    _report(record, runs, json_, time.monotonic() - began)


@study_app.command("report")
def study_report(
    name: Annotated[str, typer.Argument(help="Name of a study that was run, or its YAML.")],
    runs: Runs = Path("runs"),
    json_: Json = False,
) -> None:
    """Write the report of a study from the rows it has so far.

    Example: `unseen study report quickstart`
    """
    from unseen.study.record import read_study

    if name.endswith((".yaml", ".yml")):
        name = _study(Path(name)).name
    _report(read_study(runs, name), runs, json_)


def _study(file: Path, changes: Sequence[str] = ()) -> "Study":
    from unseen.study.study import load_study, read_yaml
    from unseen.toy.config import is_toy

    if file.is_file() and is_toy(read_yaml(file)):
        raise ConfigError(f"{file} is a toy, not a study of images: run it with `unseen toy {shlex.quote(str(file))}`.")
    return load_study(file, changes)


def _report(record: "StudyRecord", runs: Path, json_: bool, seconds: float | None = None) -> None:
    from unseen.report.page import write_report

    folder = runs / "studies" / record.name / "report"
    with writing(folder):
        path = write_report(record, folder)
    done = sum(cell.rows is not None for cell in record.cells)
    if json_:
        show({"study": record.name, "report": path, "cells": len(record.cells), "done": done, "seconds": seconds})
        return
    if seconds is not None:
        say(f"{done} of {len(record.cells)} cells are done, after {duration(seconds)}.")
    say("The report:")
    print(path.resolve())
