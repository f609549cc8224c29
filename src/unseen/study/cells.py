"""What is done for a cell, and for the baselines: trained, judged, and written down as rows, whole."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pandas
import torch

from unseen import training
from unseen.backgrounds import Backgrounds
from unseen.checkpoints import load_checkpoint, restorer
from unseen.degradations import AnyDegradation
from unseen.evaluation.baselines import identity
from unseen.evaluation.evaluate import apply, evaluate
from unseen.evaluation.suites import Judge
from unseen.experiment import Recipe
from unseen.images import write_image
from unseen.rows import write_rows
from unseen.study.plan import Cell
from unseen.types import Restorer

SAMPLE = 0
"""Which test image of every suite is kept as a picture."""

BASELINES = "baselines"
"""What the baselines are called among the cells."""


@dataclass(frozen=True)
class Event:
    """News from a running cell: `kind` is "train" (steps), "judge" (images), "done", "failed", or "note" (a sentence
    for the user, of no cell in particular). A search has kinds of its own (`unseen.balance.search`)."""

    cell: str
    kind: str
    done: int = 0
    total: int = 0
    loss: float = 0.0
    message: str = ""


Report = Callable[[Event], bool | None]
"""Who is told. What is answered matters to trials of a search alone."""


def run_cell(cell: Cell, judge: Judge, folder: Path, runs: Path, tell: Report) -> None:
    """Train a cell, judge it along its training and at its end, and write its rows to `folder`."""
    steps = cell.experiment.recipe.steps

    def progress(done: int, loss: float) -> None:
        tell(Event(cell.label, "train", done, steps, loss))

    with training.using_threads(cell.experiment.recipe.threads):
        trained = training.train(cell.experiment, runs, progress=progress)
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


def judge_baselines(judge: Judge, degradation: AnyDegradation, path: Path, tell: Report) -> None:
    """Rows of the identity, the median and the box blur, and beside them the pictures of every suite's sample."""
    suites, images = judge.resolve(degradation), Backgrounds(judge.images)
    total, judged = sum(suite.size(images, judge.limit) for suite in suites), 0

    with training.using_threads(1), training.stopping() as stop:

        def progress(suite: str, count: int) -> None:
            nonlocal judged
            judged += count
            tell(Event(BASELINES, "judge", judged, total))
            if stop.is_set():
                raise training.Interrupted("Stopped while judging the baselines. Run the same command again to go on.")

        rows = evaluate(
            identity, suites, images, crop=judge.crop, limit=judge.limit, seed=judge.seed, draws=judge.draws,
            name="identity", progress=progress,
        )  # fmt: skip
        for suite in suites:
            _, batch = next(suite.batches(images, judge.crop, SAMPLE + 1, judge.seed))
            pictures = path.parent / "pictures" / path.stem
            _picture(pictures / f"{suite.name}-degraded.png", batch.degraded[SAMPLE])
            _picture(pictures / f"{suite.name}-clean.png", batch.clean[SAMPLE])
            _picture(pictures / f"{suite.name}-mask.png", batch.mask[SAMPLE].expand(3, -1, -1))
    write_rows(rows, path)
    tell(Event(BASELINES, "done"))
