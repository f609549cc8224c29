"""Both images of a pair side by side in one file: whether a folder is like that, and which half is degraded."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from unseen.errors import DataError
from unseen.images import Bytes, read_image

Side = Literal["left", "right"]

HOW_SIDES = "If both images are in one file, say which half is degraded: degraded_side: left (or right)."
"""Advice for errors."""

LOOKED_AT = 8
"""How many images are decoded to find out."""

_ALIKE = 0.3  # correlation of the detail of two halves above which they show the same

# For `degraded_half`, set on blurs of 3 to 31 pixels, haze, noise and rain over photographs, comics and buildings.
_FACTORS = (2, 4, 8, 16)  # scales
_ENOUGH = 36  # values of detail below which a scale says nothing
_ROUGHER = 0.05  # natural logarithm of the ratio of the halves' detail
_AGREE = 0.85  # share of files in which the same half is the rougher one
_LOST, _ADDED, _SHARED = 1.12, 1.05, 0.75  # slopes


def halves(image: Bytes) -> tuple[Bytes, Bytes]:
    """The left and the right half, of an image of even width."""
    half = image.shape[1] // 2
    return image[:, :half].copy(), image[:, half:].copy()


def halves_alike(folder: Path, files: Sequence[str]) -> bool:
    """Whether the halves of all files looked at show the same, coarsely (at a sixteenth of the shorter side)."""
    alike = []
    for left, right in _sample(folder, files):
        factor = max(1, min(left.shape[:2]) // 16)
        one, other = _detail(left, factor), _detail(right, factor)
        spread = float(one.std() * other.std())
        alike.append(spread > 0 and _covariance(one, other) > _ALIKE * spread)
    return bool(alike) and all(alike)


def degraded_side(folder: Path, files: Sequence[str]) -> tuple[Side, str]:
    """The degraded half of all files, and a word on where that is from. Raises `DataError` where it cannot be told."""
    pairs = list(_sample(folder, files))
    side = degraded_half(pairs)
    if side is None:
        raise DataError(
            f"{folder} may hold two images side by side in each file, but which half is degraded cannot be told from "
            f"the {len(pairs)} files looked at. {HOW_SIDES}"
        )
    return side, f"a guess from {len(pairs)} files: degraded_side overrides it"


def degraded_half(pairs: Sequence[tuple[Bytes, Bytes]]) -> Side | None:
    """Which half of some files is degraded, the same in all; None where that cannot be told.

    Rain and noise add detail, blur and haze take it away, so that the rougher half can be either. They differ in the
    slope of the regression of the rougher half's detail on the smoother one's. What is added is independent of the
    clean detail: the slope is at most 1, at every scale. Of what is lost, the clean half holds a multiple: at some
    scale the slope is above 1. (A very long blur in one direction alone cannot be told from streaks.)
    """
    details = {factor: [tuple(_detail(half, factor) for half in pair) for pair in pairs] for factor in _FACTORS}
    spreads = np.array([[half.std() for half in pair] for pair in details[_FACTORS[0]]]).reshape(-1, 2)
    if not len(spreads) or not spreads.min() > 0:
        return None
    ratios = np.log(spreads[:, 0] / spreads[:, 1])
    left_is_rougher = bool(np.median(ratios) > 0)
    if abs(np.median(ratios)) < _ROUGHER or np.mean((ratios > 0) == left_is_rougher) < _AGREE:
        return None
    slopes = []
    for some in details.values():
        both = [pair if left_is_rougher else pair[::-1] for pair in some]
        found = [_covariance(rough, smooth) / smooth.var() for rough, smooth in both if smooth.size >= _ENOUGH]
        slopes += [float(np.median(found))] if found else []
    if max(slopes, default=1) > _LOST:
        return "right" if left_is_rougher else "left"
    if slopes and max(slopes) < _ADDED and min(slopes) > _SHARED:
        return "left" if left_is_rougher else "right"
    return None


def _sample(folder: Path, files: Sequence[str]) -> Iterator[tuple[Bytes, Bytes]]:
    """The halves of some files of even width, spread over the folder."""
    places = np.linspace(0, len(files) - 1, min(len(files), LOOKED_AT)).astype(int)
    for place in places:
        image = read_image(folder / files[int(place)])
        if image.shape[1] % 2 == 0 and min(image.shape[0], image.shape[1] // 2) >= 16:
            yield halves(image)


def _detail(image: Bytes, factor: int) -> NDArray[np.float64]:
    """Grey values, averaged over squares of `factor` pixels, less the mean of the four neighbours."""
    grey = image.mean(axis=2)
    rows, columns = grey.shape[0] // factor, grey.shape[1] // factor
    small = grey[: rows * factor, : columns * factor].reshape(rows, factor, columns, factor).mean(axis=(1, 3))
    around = (small[:-2, 1:-1] + small[2:, 1:-1] + small[1:-1, :-2] + small[1:-1, 2:]) / 4
    return small[1:-1, 1:-1] - around


def _covariance(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    return float(np.mean((one - one.mean()) * (other - other.mean())))
