"""Windows of one grid compared with the whole of another: by their low spatial frequencies, and cell by cell.

Frequencies are weighted so that each octave counts about alike (photographs have about 1/f in amplitude): different
photographs then hardly correlate, while saving anew, resizing, and changes of brightness or colour leave the
correlation near 1. Grids are (n, 32, 32), in grey levels; windows (n, 4): top, bottom, left, right, in cells.
"""

import numpy as np
from numpy.typing import NDArray

from unseen.leaks.prints import FLAT, SIDE

Floats = NDArray[np.floating]
Cells = Floats | np.floating | float

SMALLEST = 11.0
"""Cells a side of the smallest window."""

_COARSE, _FINE = 8, 14  # frequencies a side: few, which forgive shifts, to find candidates; more to decide
_RESOLVED = 0.9  # of half a cycle per cell: what a grid holds beyond is mostly aliased
_BRIGHTER, _STEEPER = 40, 1.5  # grey levels of brightness, and factor of contrast, by which cuts may differ
_STEPS = (1, 0.5, 0.5, 0.25, 0.25, 0.12)  # cells
_MOVES = np.array([(1, 1, 0, 0), (0, 0, 1, 1), (1, 0, 0, 0), (0, 1, 0, 0), (0, 0, 1, 0), (0, 0, 0, 1)])
_AT_ONCE = 512  # pairs fitted at once: bounds the memory


def coarse_wholes(grids: Floats, cells: tuple[float, float] = (float(SIDE), float(SIDE))) -> Floats:
    """Unit vectors (n, 64) of whole grids, to be compared with those of windows of so many rows and columns."""
    weights = _weights(cells[0], cells[1], _COARSE)[1]
    return _directions(_whole_spectra(grids, _COARSE), weights)


def coarse_windows(grids: Floats, rows: Floats, columns: Floats) -> Floats:
    """Unit vectors of all windows between `rows` (r, 2) and `columns` (c, 2): (n, r, c, 64).

    Weighted as the first of them: meant for windows of about one size.
    """
    down, across = _basis(rows[:, 0], rows[:, 1], _COARSE), _basis(columns[:, 0], columns[:, 1], _COARSE)
    spectra = (down @ grids[:, None])[:, :, None] @ across.swapaxes(-1, -2)
    return _directions(spectra, _weights(rows[0, 1] - rows[0, 0], columns[0, 1] - columns[0, 0], _COARSE)[0])


def fitted(outer: Floats, inner: Floats, windows: Floats) -> tuple[Floats, Floats]:
    """The greatest similarity (n,) of outer grids near these windows with whole inner ones, and where it is (n, 4):
    windows, and each of their sides, are moved by ever smaller steps."""
    if len(outer) > _AT_ONCE:
        parts = [slice(at, at + _AT_ONCE) for at in range(0, len(outer), _AT_ONCE)]
        similarity, best = zip(*(fitted(outer[part], inner[part], windows[part]) for part in parts), strict=True)
        return np.concatenate(similarity), np.concatenate(best)
    whole = _whole_spectra(inner, _FINE)
    best = _similarity(outer, whole, windows)
    for step in _STEPS:
        for move in (*_MOVES, *-_MOVES):
            moved = np.clip(windows + step * move, 0, SIDE)
            sides = moved[:, [1, 3]] - moved[:, [0, 2]]
            moved = np.where((sides >= SMALLEST).all(axis=1, keepdims=True), moved, windows)
            there = _similarity(outer, whole, moved)
            better = there > best
            best, windows = np.where(better, there, best), np.where(better[:, None], moved, windows)
    return best, windows


def agreement(outer: Floats, inner: Floats, windows: Floats) -> tuple[Floats, NDArray[np.bool_]]:
    """Of windows of outer grids with whole inner ones, cell by cell: the correlation (n,) of the differences between
    neighbours, and whether brightness and contrast are about alike (n,).

    Differences count less the larger they are: not one edge of a smooth image shall decide, but all cells.
    """
    (down, rows), (across, columns) = _onto(windows[:, 0], windows[:, 1]), _onto(windows[:, 2], windows[:, 3])
    covered = rows[:, :, None] & columns[:, None, :]
    pair = np.stack([outer, down @ inner @ across.swapaxes(-1, -2)])
    mean = _mean(pair, covered)
    spread = np.sqrt(_mean((pair - mean[..., None, None]) ** 2, covered))
    products = np.zeros((3, len(outer)))
    for both, slope in (
        (covered[:, 1:] & covered[:, :-1], np.diff(pair, axis=2)),
        (covered[:, :, 1:] & covered[:, :, :-1], np.diff(pair, axis=3)),
    ):
        usual = _mean(abs(slope), both)[..., None, None]
        damped = slope / (abs(slope) + usual + 1e-3)
        one, other = (damped - _mean(damped, both)[..., None, None]) * both  # less the mean: a slope tells nothing
        products += [value.sum(axis=(1, 2)) for value in (one * other, one**2, other**2)]
    alike = abs(mean[0] - mean[1]) <= _BRIGHTER
    alike &= (spread.max(axis=0) <= _STEEPER * spread.min(axis=0)) & (spread.min(axis=0) >= FLAT)
    return products[0] / np.sqrt(np.maximum(products[1] * products[2], 1e-6)), alike


def _mean(values: Floats, here: NDArray[np.bool_]) -> Floats:
    """Over the cells of each grid that are `here`: (2, n)."""
    return (values * here).sum(axis=(2, 3)) / np.maximum(here.sum(axis=(1, 2)), 1)


def _similarity(outer: Floats, inner: Floats, windows: Floats) -> Floats:
    """Of windows of outer grids with the spectra (n, 14, 14) of whole inner ones: (n,), at most 1."""
    top, bottom, left, right = (windows[:, side] for side in range(4))
    spectra = _basis(top, bottom, _FINE) @ outer @ _basis(left, right, _FINE).swapaxes(-1, -2)
    window, whole = _weights(bottom - top, right - left, _FINE)
    return (_directions(spectra, window) * _directions(inner, whole)).sum(axis=1)


def _basis(start: Floats, end: Floats, count: int) -> Floats:
    """A cosine transform over [start, end), in cells, as a matrix: (n, count, 32). Times a grid, which is constant
    within a cell, it gives the mean over the window of the grid times cos(pi u x), x from 0 to 1."""
    start, end = start[..., None, None], end[..., None, None]
    edges = np.clip((np.arange(SIDE + 1) - start) / (end - start), 0, 1)
    frequency = np.arange(count)[:, None]
    integral = np.where(frequency > 0, np.sin(np.pi * frequency * edges) / (np.pi * np.maximum(frequency, 1)), edges)
    return np.diff(integral, axis=-1).astype(np.float32)


def _whole_spectra(grids: Floats, count: int) -> Floats:
    basis = _basis(np.array(0.0), np.array(float(SIDE)), count)
    return basis @ grids @ basis.swapaxes(-1, -2)


def _weights(rows: Cells, columns: Cells, count: int) -> tuple[Floats, Floats]:
    """Weights of frequencies of windows of so many rows and columns, and of wholes compared with them: (n, count,
    count). 0 for the mean, for what either grid does not resolve, and for the corner beyond `count`."""
    frequency = np.arange(count)
    octaves = np.hypot(frequency[:, None], frequency)
    shares = [frequency / (2 * np.asarray(cells)[..., None]) for cells in (rows, columns)]
    resolved = [share <= _RESOLVED / 2 for share in shares]
    weights = np.where(octaves <= count, octaves, 0) * resolved[0][..., :, None] * resolved[1][..., None, :]
    # Averages over cells, and a grid constant within cells, lose a sinc of each frequency twice: made up for.
    more = [1 / np.sinc(np.minimum(share, _RESOLVED / 2)) ** 2 for share in shares]
    whole = 1 / np.sinc(frequency / (2 * SIDE)) ** 2
    return weights * more[0][..., :, None] * more[1][..., None, :], weights * whole[:, None] * whole


def _directions(spectra: Floats, weights: Floats) -> Floats:
    """Weighted spectra (*n, count, count) as unit vectors (*n, count^2), or zeros where there is no structure."""
    power = np.full(spectra.shape[-2:], 4.0, np.float32)  # of a cosine of amplitude 2: 4, 2 along an axis, no mean
    power[0], power[:, 0], power[0, 0] = 2, 2, 0
    structured = (spectra**2 * power).sum(axis=(-2, -1))[..., None] >= FLAT**2
    vectors = (spectra * weights.astype(np.float32)).reshape(*spectra.shape[:-2], spectra.shape[-1] ** 2)
    length = np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-6)
    return np.where(structured, vectors / length, 0)


def _onto(start: Floats, end: Floats) -> tuple[Floats, NDArray[np.bool_]]:
    """How a whole grid, laid over [start, end) of another, is averaged over the other's cells: (n, 32, 32); and which
    of them it covers: (n, 32)."""
    edges = (np.arange(SIDE + 1) - start[:, None]) * (SIDE / (end - start))[:, None]
    share = np.diff(np.clip(edges[:, :, None] - np.arange(SIDE), 0, 1), axis=1) * ((end - start) / SIDE)[:, None, None]
    numbers, slack = np.arange(SIDE), 0.02
    covered = (numbers >= start[:, None] - slack) & (numbers + 1 <= end[:, None] + slack)
    return share.astype(np.float32), covered
