"""The command line: one function per verb. Heavy imports stay inside, so that --help is instant."""

import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from unseen.errors import ConfigError, UnseenError

if TYPE_CHECKING:
    from unseen.experiment import Experiment
    from unseen.study.record import StudyRecord

app = typer.Typer(
    name="unseen",
    help="Image restoration that holds on degradations it has never seen.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
)
study_app = typer.Typer(help="Plan, run and report studies: one experiment varied along axes.", no_args_is_help=True)
app.add_typer(study_app, name="study")

Json = Annotated[bool, typer.Option("--json", help="Print the result, and nothing else, on stdout as JSON.")]
Runs = Annotated[Path, typer.Option(help="Folder that holds all runs.")]
Set = Annotated[
    list[str], typer.Option("--set", metavar="KEY=VALUE", help="Change one value, e.g. recipe.steps=100. Repeatable.")
]


def main() -> None:
    """Entry point: errors a user can act on are printed without a traceback; exit code 2 for usage, 1 for failure."""
    try:
        app()
    except UnseenError as error:
        say(f"{'' if error.exit_code == 130 else 'Error: '}{error}")
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        say("Interrupted.")
        sys.exit(130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except OSError as error:
        say(f"Error: {error.filename or 'the system'}: {error.strerror or error}.")
        sys.exit(1)


def say(message: str = "") -> None:
    """A line for people: on stderr, so that stdout holds results alone."""
    print(message, file=sys.stderr, flush=True)


def show(value: Any) -> None:
    """A result as JSON on stdout; not-a-number and infinities are null."""
    print(json.dumps(_plain(value), indent=2))


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, float):
        return value if value - value == 0 else None
    return value


@contextmanager
def progress_bar(quiet: bool = False) -> Iterator[Callable[[str, int, int, str], None]]:
    """A function (task, done, total, note) that draws bars with the time left; log lines where there is no terminal."""
    if quiet:
        yield lambda task, done, total, note="": None
    elif sys.stderr.isatty():
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
        )
        with Progress(*columns, console=Console(stderr=True)) as progress:
            tasks: dict[str, Any] = {}

            def draw(task: str, done: int, total: int, note: str = "") -> None:
                if task not in tasks:
                    tasks[task] = progress.add_task(task, total=total, note=note)
                progress.update(tasks[task], completed=done, total=total, note=note)

            yield draw
    else:
        began: dict[str, float] = {}
        spoke: dict[str, float] = {}

        def line(task: str, done: int, total: int, note: str = "") -> None:
            now = time.monotonic()
            start = began.setdefault(task, now)
            if done < total and now - spoke.get(task, start) < 15:
                return
            spoke[task] = now
            left = f", {_duration((now - start) * (total - done) / done)} left" if 0 < done < total else ""
            say(f"{task}: {done:,.0f} of {total:,.0f}{left}  {note}".rstrip())

        yield line


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {seconds:02} s" if minutes else f"{seconds} s"


@app.command()
def doctor(json_: Json = False) -> None:
    """Say what this machine can do, and whether the installation is sound.

    Example: `unseen doctor`
    """
    from importlib.metadata import version

    import torch

    from unseen.experiment import best_device, has_bf16
    from unseen.training import processor

    device = best_device()
    data = os.environ.get("UNSEEN_DATA")
    facts = {
        "unseen": version("unseen"),
        "python": sys.version.split()[0],
        "torch": torch.__version__,
        "processor": processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "device": device,
        "device_name": torch.cuda.get_device_name() if device == "cuda" else device,
        "precision": "mixed" if has_bf16(device) else "fp32",
        "data": data,
        "data_found": bool(data and Path(data).is_dir()),
    }
    if json_:
        show(facts)
        return
    for key, value in facts.items():
        print(f"{key.replace('_', ' '):12} {'-' if value is None else value}")
    say()
    say(f"Networks will train and run on {facts['device_name']} in {facts['precision']} precision.")
    if data is None:
        say(
            "UNSEEN_DATA is not set: studies on public photographs need it (docs/data.md). Embedded data works without."
        )
    elif not facts["data_found"]:
        say(f"UNSEEN_DATA is {data}, and there is no such folder. Correct it, or see docs/data.md.")


@app.command()
def preview(
    images: Annotated[Path | None, typer.Argument(help="Folder of clean images (default: the embedded ones).")] = None,
    rain: Annotated[list[str] | None, typer.Option(help="Named rain; repeatable (default: all of them).")] = None,
    scale: Annotated[float, typer.Option(help="Multiplies widths and lengths of the rain.")] = 1.0,
    size: Annotated[int, typer.Option(help="Side of a tile in pixels.", min=16, max=1024)] = 192,
    seed: Annotated[int, typer.Option(help="Another seed, other rain.", min=0)] = 0,
    out: Annotated[Path, typer.Option("-o", "--out", help="Where the sheet is written.")] = Path("preview.png"),
    json_: Json = False,
) -> None:
    """Draw a sheet of degraded images, layers and masks: the first thing to look at.

    Example: `unseen preview photos/ --rain medium --rain steep -o sheet.png`
    """
    from unseen.backgrounds import Backgrounds, BackgroundsConfig
    from unseen.degradations.rain import PRESETS
    from unseen.evaluation.sheet import draw_sheet

    names = rain or list(PRESETS)
    config = BackgroundsConfig(source="embedded" if images is None else str(images))
    sheet = draw_sheet(Backgrounds(config), names, scale=scale, size=size, seed=seed, path=out)
    if json_:
        show({"path": out, "rains": sheet})
        return
    for item in sheet:
        unseen = [f"{train} ({', '.join(factors)})" for train, factors in item["outside"].items() if factors]
        outside = "; ".join(unseen) or "no training range"
        print(f"{item['name']:9} mask {item['mask']:4.0%}  {item['psnr_rgb']:5.2f} dB  outside of: {outside}")
    say(f"The sheet is {out}: for every rain the degraded image, the layer and the mask.")


@app.command()
def train(
    config: Annotated[
        Path | None, typer.Argument(help="YAML of an experiment (default: the package's defaults).")
    ] = None,
    backgrounds: Annotated[
        Path | None, typer.Option(help="Folder of clean images (default: the embedded ones).")
    ] = None,
    steps: Annotated[int | None, typer.Option(help="Steps to train.", min=1)] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of everything.", min=0)] = None,
    set_: Set = [],  # noqa: B006
    runs: Runs = Path("runs"),
    processes: Annotated[int, typer.Option(help="Processes (devices) that share every batch.", min=1)] = 1,
    save_every: Annotated[int, typer.Option(help="Steps between saved states.", min=1)] = 500,
    json_: Json = False,
) -> None:
    """Train one network. The same command again resumes where it stopped.

    Example: `unseen train --backgrounds photos/ --steps 9000 --set degradation.preset=medium`
    """
    from unseen import training

    experiment = _experiment(config, backgrounds, steps, seed, set_)
    first = os.environ.get("RANK", os.environ.get("LOCAL_RANK", "0")) == "0"  # of the processes that share the work
    with progress_bar(json_ or not first) as draw:
        trained = training.train(
            experiment,
            runs,
            processes=processes,
            save_every=save_every,
            progress=lambda done, loss: draw("train", done, experiment.recipe.steps, f"loss {loss:.4f}"),
        )
    if not first:
        return
    if json_:
        log = (trained.folder / "log.csv").read_text().splitlines()
        show(
            {
                "id": trained.experiment.id,
                "checkpoint": trained.checkpoint,
                "steps": experiment.recipe.steps,
                "loss": float(log[-1].split(",")[1]),
                "device": trained.experiment.recipe.device,
                "precision": trained.experiment.recipe.precision,
            }
        )
        return
    print(trained.checkpoint)
    say(f"Judge it with: unseen evaluate {trained.checkpoint}")


def _experiment(
    config: Path | None, backgrounds: Path | None, steps: int | None, seed: int | None, changes: list[str]
) -> "Experiment":
    from unseen.experiment import Experiment
    from unseen.study.study import apply_changes, checked, read_yaml, with_value

    raw: dict[str, Any] = {} if config is None else read_yaml(config)
    for key, value in (
        ("backgrounds.source", backgrounds and str(backgrounds)),
        ("recipe.steps", steps),
        ("seed", seed),
    ):
        if value is not None:
            raw = with_value(raw, key, value)
    return checked(Experiment, apply_changes(raw, changes), str(config or "the experiment"))


@app.command()
def evaluate(
    model: Annotated[str, typer.Argument(help="A checkpoint, a run's folder, or identity, median, box.")],
    images: Annotated[
        Path | None,
        typer.Option(help="Folder of clean test images (default: the ones held out of the model's training)."),
    ] = None,
    suite: Annotated[
        list[str] | None, typer.Option(help="seen, clean or a named rain; repeatable (default: all).")
    ] = None,
    scale: Annotated[float, typer.Option(help="Multiplies widths and lengths of the named rains.")] = 0.5,
    crop: Annotated[int, typer.Option(help="Centre crop of test images, pixels a side.", min=1)] = 256,
    limit: Annotated[int | None, typer.Option(help="Only the first so many images.", min=1)] = None,
    rows: Annotated[Path | None, typer.Option(help="Also write every row to this Parquet file.")] = None,
    json_: Json = False,
) -> None:
    """Judge a restorer on seen and unseen rain: removal and reconstruction apart, baselines beside it.

    Example: `unseen evaluate runs/0123456789ab --json`
    """
    from unseen.backgrounds import Backgrounds, BackgroundsConfig
    from unseen.checkpoints import load_checkpoint, restorer
    from unseen.evaluation.baselines import BASELINES
    from unseen.evaluation.evaluate import evaluate as judge_restorer
    from unseen.evaluation.suites import Judge
    from unseen.experiment import Experiment
    from unseen.rows import summarise, summarise_with_intervals, write_rows
    from unseen.study.study import checked

    name, step, restore, trained = model, -1, BASELINES.get(model), Experiment()
    if restore is None:
        checkpoint = load_checkpoint(model)
        name, step, trained = "model", checkpoint.step, checkpoint.experiment
        restore = restorer(checkpoint.network, _here(trained), trained.recipe.precision)
    if images is not None:
        test = BackgroundsConfig(source=str(images))
        if trained.backgrounds.shares_images_with(test) and name == "model":
            raise ConfigError(
                f"{images} holds the images this model was trained on: what it does to them says nothing. "
                "Leave --images out for the ones it held out, or name another folder."
            )
    elif trained.backgrounds.source in ("embedded", "leaves") or trained.backgrounds.holdout:
        test = trained.backgrounds.model_copy(update={"part": "test", "count": None, "unit": "photographs"})
    else:
        raise ConfigError("This model held no images out of its training. Name a folder of test images with --images.")
    raw: dict[str, Any] = {"images": test, "crop": crop, "limit": limit, "scale": scale}
    judge: Judge = checked(Judge, raw if suite is None else {**raw, "suites": suite}, "the evaluation")
    suites, pool = judge.resolve(trained.degradation), Backgrounds(test)
    size = len(pool) if limit is None else min(limit, len(pool))
    with progress_bar(json_) as draw:
        done = 0

        def progress(suite: str, count: int) -> None:
            nonlocal done
            done += count
            draw("evaluate", done, len(suites) * size, suite)

        table = judge_restorer(restore, suites, pool, crop=crop, limit=limit, name=name, step=step, progress=progress)
    if rows is not None:
        write_rows(table, rows)
    groups = {suite.name: suite.group(trained.degradation) for suite in suites}
    if json_:
        outside = {s.name: list(s.degradation.outside(trained.degradation)) if s.degradation else [] for s in suites}
        show(
            {
                "model": model,
                "suites": {name: {"group": group, "outside": outside[name]} for name, group in groups.items()},
                "results": summarise_with_intervals(table),
            }
        )
        return
    _print_summary(summarise(table), groups)


def _here(experiment: "Experiment") -> str:
    from unseen.experiment import best_device

    return experiment.recipe.device if experiment.recipe.device in ("cpu", best_device()) else "cpu"


COLUMNS = {
    "psnr_rgb": "PSNR",
    "gain_rgb": "gain",
    "psnr_y": "PSNR Y",
    "ssim_y": "SSIM Y",
    "removal_ratio": "removed",
    "residual": "residual",
    "removal": "E_R",
    "reconstruction": "E_B",
}
"""What the table of `evaluate` shows, and how its columns are headed."""


def _print_summary(summary: Any, groups: dict[str, str]) -> None:
    """One line per suite and restorer, and the means over the seen and over the unseen suites."""
    from rich.console import Console
    from rich.table import Table

    from unseen.rows import display, mean_over

    names = list(dict.fromkeys(summary.experiment))
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("suite", no_wrap=True)
    table.add_column("", no_wrap=True)
    for title in COLUMNS.values():
        table.add_column(title, justify="right", no_wrap=True)

    def add(title: str, lines: Any) -> None:
        for number, name in enumerate(names):
            line = lines[lines.experiment == name].iloc[0]
            values = [
                "-" if group == "clean" and quantity == "gain_rgb" else display(quantity, line[quantity])
                for quantity in COLUMNS
            ]
            table.add_row(title if number == 0 else "", name, *values, end_section=name == names[-1])

    for group in ("seen", "unseen", "clean"):
        suites = [suite for suite, its in groups.items() if its == group]
        for suite in suites:
            add(
                suite if suite == group else f"{suite}*" if group == "unseen" else suite,
                summary[summary.suite == suite],
            )
        if len(suites) > 1:
            add(f"MEAN {group}", mean_over(summary, suites))
    Console(width=None if sys.stdout.isatty() else 100).print(table)
    say("* unseen: outside what the model was trained on. PSNR and gain over the input in dB, RGB (Y: of BT.601).")
    say("removed: removal ratio, 0 did nothing, 1 removed the rain's component; residual and E_B: lower is better.")


@app.command()
def restore(
    files: Annotated[list[Path], typer.Argument(help="Images, or folders of images.")],
    model: Annotated[Path, typer.Option("--model", "-m", help="A checkpoint, or a run's folder.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder for the restored images.")] = Path("restored"),
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
    overwrite: Annotated[bool, typer.Option(help="Restore again what is already in the output folder.")] = False,
    json_: Json = False,
) -> None:
    """Restore images with a trained network; what is done already is skipped.

    Example: `unseen restore rainy.jpg --model runs/0123456789ab -o restored/`
    """
    from unseen.checkpoints import load_checkpoint, restorer
    from unseen.experiment import best_device, has_bf16
    from unseen.images import EXTENSIONS, find_images, read_image, write_image
    from unseen.restoration import restore_image

    if device not in ("auto", "cpu", "cuda", "mps"):
        raise ConfigError(f"--device is auto, cpu, cuda or mps, not {device!r}.")
    chosen = best_device() if device == "auto" else device
    if chosen not in ("cpu", best_device()):
        raise ConfigError(f"--device is {chosen}, and torch sees no such device here: use cpu or auto.")
    checkpoint = load_checkpoint(model, chosen)
    network = restorer(checkpoint.network, chosen, "mixed" if has_bf16(chosen) else "fp32")
    jobs: list[tuple[Path, Path]] = []
    for path in files:
        if path.is_dir():
            inside = path.resolve() in out.resolve().parents  # what was restored before is not an input
            found = [image for image in find_images(path) if not (inside and out.resolve() in image.resolve().parents)]
            jobs += [(image, out / image.relative_to(path)) for image in found]
        else:
            jobs.append((path, out / path.name))
    targets: dict[Path, Path] = {}
    for number, (source, target) in enumerate(jobs):
        target = (
            target
            if target.suffix.lower() in EXTENSIONS and target.suffix.lower() != ".gif"
            else target.with_suffix(".png")
        )
        jobs[number] = (source, target)
        if target.resolve() == source.resolve():
            raise ConfigError(f"{source} would be overwritten by its restored image. Choose another folder with -o.")
        if target in targets:
            raise ConfigError(
                f"{targets[target]} and {source} would both be written to {target}. Restore them to different folders."
            )
        targets[target] = source
    results: list[dict[str, Any]] = []
    began, failed = time.monotonic(), 0
    with progress_bar(json_) as draw:
        for number, (source, target) in enumerate(jobs, 1):
            result: dict[str, Any] = {"input": source, "output": target, "status": "skipped", "message": None}
            if overwrite or not target.exists():
                try:
                    write_image(target, restore_image(network, read_image(source)))
                    result["status"] = "restored"
                except UnseenError as error:
                    result |= {"status": "failed", "output": None, "message": str(error)}
                    failed += 1
                    say(f"Error: {error}")
            results.append(result)
            draw("restore", number, len(jobs), source.name)
    seconds = time.monotonic() - began
    restored = sum(result["status"] == "restored" for result in results)
    if json_:
        show({"model": checkpoint.path, "device": chosen, "seconds": seconds, "images": results})
    else:
        rate = f", {restored / seconds:.1f} a second on {chosen}" if restored else ""
        say(f"{restored} restored{rate}, {len(jobs) - restored - failed} skipped, {failed} failed. They are in {out}.")
    if failed:
        raise typer.Exit(1)


@study_app.command("plan")
def study_plan(
    file: Annotated[Path, typer.Argument(help="YAML of a study, e.g. studies/quickstart.yaml.")],
    set_: Set = [],  # noqa: B006
    runs: Runs = Path("runs"),
    json_: Json = False,
) -> None:
    """List the cells of a study, and which of them are done. Trains nothing.

    Example: `unseen study plan studies/quickstart.yaml`
    """
    from unseen.study.run import plan
    from unseen.study.study import load_study

    todo = plan(load_study(file, set_), runs)
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
    set_: Set = [],  # noqa: B006
    runs: Runs = Path("runs"),
    workers: Annotated[
        int | None, typer.Option(help="Cells at a time (default: as many as fit the processor).", min=1)
    ] = None,
    json_: Json = False,
) -> None:
    """Run what is missing of a study and write its report. The same command again continues it.

    Example: `unseen study run studies/quickstart.yaml --set base.recipe.steps=500`
    """
    from unseen.study.run import Event, run_study
    from unseen.study.study import load_study

    study = load_study(file, set_)
    began = time.monotonic()
    with progress_bar(json_) as draw:

        def report(event: Event) -> None:
            if event.kind == "failed":
                say(f"Failed: {event.cell}: {event.message}")
            elif event.kind != "done":
                verb = {"train": "steps", "judge": "images judged"}[event.kind]
                draw(f"{event.cell}, {verb}", event.done, event.total, f"loss {event.loss:.4f}" if event.loss else "")

        record = run_study(study, runs, workers=workers, report=report)
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
        from unseen.study.study import load_study

        name = load_study(name).name
    _report(read_study(runs, name), runs, json_)


def _report(record: "StudyRecord", runs: Path, json_: bool, seconds: float | None = None) -> None:
    from unseen.report.page import write_report

    path = write_report(record, runs / "studies" / record.name / "report")
    done = sum(cell.rows is not None for cell in record.cells)
    if json_:
        show({"study": record.name, "report": path, "cells": len(record.cells), "done": done, "seconds": seconds})
        return
    if seconds is not None:
        say(f"{done} of {len(record.cells)} cells are done, after {_duration(seconds)}.")
    say("The report:")
    print(path.resolve())


if __name__ == "__main__":
    main()
