"""Tests of differences between two restorers, paired over images."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray


def signed_rank(differences: ArrayLike) -> float:
    """Two-sided p of Wilcoxon's signed-rank test (1945) that differences lie symmetrically around 0.

    Undefined differences (NaN) are left out, infinite ones count as the largest; NaN where none is left. Exact for few
    images without ties, else by the normal approximation. 1 where nothing differs.
    """
    from scipy.stats import wilcoxon  # half a second to import

    array = np.asarray(differences, np.float64).ravel()
    array = np.clip(array[~np.isnan(array)], -1e6, 1e6)
    if not len(array):
        return float("nan")
    if not array.any():
        return 1.0
    _, p = wilcoxon(array)
    return float(p)  # type: ignore[arg-type]


def holm(p: Sequence[float]) -> list[float]:
    """p values corrected for there being several (Holm 1979): the chance of *any* false alarm among them is bounded.

    Undefined ones (NaN) stay so and do not count.
    """
    values = np.asarray(p, np.float64)
    known = np.flatnonzero(~np.isnan(values))
    order = known[np.argsort(values[known], kind="stable")]
    adjusted = np.full(len(values), np.nan)
    if len(order):
        raised: NDArray[np.float64] = values[order] * np.arange(len(order), 0, -1)
        adjusted[order] = np.minimum(np.maximum.accumulate(raised), 1.0)
    return [float(value) for value in adjusted]
