"""`unseen evaluate`: Judge a restorer."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from unseen.cli.app import Json, app, progress_bar, say, show
from unseen.errors import ConfigError

if TYPE_CHECKING:
    from unseen.experiment import Experiment


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
