"""Judge a restorer: suites in, rows out."""

from collections.abc import Callable, Sequence

import pandas
import torch

from unseen.backgrounds import Backgrounds
from unseen.errors import UnseenError
from unseen.evaluation.atoms import atoms
from unseen.evaluation.baselines import BASELINES
from unseen.evaluation.suites import Suite
from unseen.rows import COLUMNS, rows_of
from unseen.types import Images, Outcome, Restorer

Progress = Callable[[str, int], None]
"""Told the suite and how many of its images have been judged since it was last told."""


def apply(restorer: Restorer, degraded: Images) -> Images:
    """Restore, check the contract (same shape, finite) and clip to [0, 1]."""
    restored = restorer(degraded)
    if restored.shape != degraded.shape:
        raise UnseenError(
            f"The restorer turned images of shape {tuple(degraded.shape)} into {tuple(restored.shape)}: "
            "it must keep the shape."
        )
    if not restored.isfinite().all():
        raise UnseenError(
            "The restorer returned values that are not finite: its weights are broken, or its precision too low."
        )
    return restored.clamp(0, 1)


def evaluate(
    restorer: Restorer,
    suites: Sequence[Suite],
    images: Backgrounds,
    *,
    crop: int = 256,
    limit: int | None = None,
    seed: int = 0,
    ssim: bool = True,
    name: str = "restorer",
    step: int = -1,
    baselines: bool = True,
    progress: Progress | None = None,
) -> pandas.DataFrame:
    """Rows (see `unseen.rows`) for every suite, image and atom. Deterministic; memory does not grow with the suite.

    `restorer` is any callable on images (b, 3, h, w) in [0, 1] that keeps their shape. `images` are cut to their
    centre `crop` and to the first `limit`. `name` and `step` fill the rows' first columns. With `baselines` the rows
    of the identity, the median and the box blur stand beside the restorer's, under their names: a claim that one of
    those would pass is void.
    """
    judged = [(name, step, restorer)]
    judged += [(other, -1, baseline) for other, baseline in BASELINES.items() if baselines and other != name]
    parts: list[pandas.DataFrame] = []
    for suite in suites:
        for names, batch in suite.batches(images, crop, limit, seed):
            for who, when, restore in judged:
                with torch.inference_mode():
                    values = atoms(Outcome(batch, apply(restore, batch.degraded)), ssim)
                parts.append(
                    rows_of({key: value.numpy() for key, value in values.items()}, who, when, suite.name, names)
                )
            if progress is not None:
                progress(suite.name, len(names))
    return pandas.concat(parts, ignore_index=True) if parts else pandas.DataFrame(columns=list(COLUMNS))
