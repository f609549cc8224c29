"""What a map of generalisation is made of: two factors of the rain cut into cells, and the rows of every cell.

An axis runs through the training range and beyond it on both sides. Its cells are cut so that the ends of the range
are borders of cells: a cell lies wholly inside or wholly outside. Imports no torch.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from unseen.errors import ConfigError
from unseen.rows import summarise

REACH = 3.0
"""Lengths, widths and quantities go from a third of the least that was trained to three times the most."""

HALF_TURN = 180.0
"""Directions wrap: an axis of them is this long, with the training range in its middle."""

UNITS = {"direction": "degrees", "length": "pixels", "width": "pixels", "quantity": "drops per 10,000 pixels"}
"""The four factors of the paper's rain, and the unit of each."""

BOUNDS = {"length": (1.0, 4000.0), "width": (1.0, 400.0), "quantity": (1.0, 2000.0)}
"""No axis goes beyond these. Quantities go down to one drop: a map of no rain says nothing."""

MOST_CELLS = 49
"""Along one axis."""

_NOTHING = 0.01
"""A stretch shorter than this (degrees; of logarithmic axes 1 %) has no cell of its own."""


@dataclass(frozen=True)
class Axis:
    """One factor. `points` are the values of the cells, rising; those from `start` to before `stop` lie in the range
    `low` to `high`, which is what was trained (`known`) or, where that is not known, what the map is laid around."""

    factor: str
    points: tuple[float, ...]
    start: int
    stop: int
    low: float
    high: float
    known: bool

    @property
    def middle(self) -> int:
        """The cell that the centre of the range falls in, or the nearest to it."""
        centre = (self.low + self.high) / 2
        return min(range(self.start, self.stop), key=lambda cell: abs(self.points[cell] - centre))


@dataclass(frozen=True)
class Cell:
    """One rain: `x` and `y` are its place on the plane. `inside` the training range, or None where none is known."""

    x: int
    y: int
    suite: str
    factors: dict[str, float]
    inside: bool | None


@dataclass(frozen=True)
class Plane:
    """Two factors against each other; `held` are the values of the other two.

    `within`, row by row, says which cells lie in the training range where that is more than one range (None: it is that
    of the axes).
    """

    x: Axis
    y: Axis
    held: dict[str, float]
    within: tuple[tuple[bool, ...], ...] | None = None

    @property
    def name(self) -> str:
        return f"{self.x.factor} x {self.y.factor}"

    @property
    def known(self) -> bool:
        """Whether a training range is known in at least one of the two factors."""
        return self.within is not None or self.x.known or self.y.known

    def suite(self, x: int, y: int) -> str:
        """The cell's name in rows, e.g. "direction=40 length=14.1"."""
        return f"{self.x.factor}={self.x.points[x]:g} {self.y.factor}={self.y.points[y]:g}"

    def cells(self) -> Iterator[Cell]:
        """Row by row, from the lowest of both factors."""
        for y, down in enumerate(self.y.points):
            for x, across in enumerate(self.x.points):
                within = (self.x.start <= x < self.x.stop or not self.x.known) and (
                    self.y.start <= y < self.y.stop or not self.y.known
                )
                if self.within is not None:
                    within = self.within[y][x]
                factors = {self.x.factor: across, self.y.factor: down, **self.held}
                yield Cell(x, y, self.suite(x, y), factors, within if self.known else None)


@dataclass(frozen=True)
class Map:
    """Where a restorer works: `rows` (see `unseen.rows`) of every cell of every plane, of `name` and of `reference`.

    `trained` is the training range in words (None: not known), `rain` the rest of what fell, in words. Every cell has
    the same `images`, cut to their centre `crop`, and its streaks are drawn from the same random numbers. `notes`
    qualify what the map says, a sentence each.
    """

    name: str
    reference: str
    planes: tuple[Plane, ...]
    rows: pd.DataFrame
    images: tuple[str, ...]
    crop: int
    seed: int
    trained: str | None
    rain: str
    notes: tuple[str, ...] = ()

    @cached_property
    def summary(self) -> dict[tuple[str, str], dict[str, Any]]:
        """Every quantity of `unseen.rows`, pooled over the images, by restorer and suite (a cell's name)."""
        lines = summarise(self.rows).to_dict("records")
        return {(line["experiment"], line["suite"]): {str(key): value for key, value in line.items()} for line in lines}

    def values(self, plane: Plane, quantity: str, restorer: str | None = None) -> NDArray[np.float64]:
        """One quantity over a plane, (cells of y, cells of x); NaN where undefined. Default: of the map's restorer."""
        found = [self.summary[restorer or self.name, cell.suite][quantity] for cell in plane.cells()]
        return np.array(found, np.float64).reshape(len(plane.y.points), len(plane.x.points))


def axis_of(factor: str, low: float, high: float, cells: int, known: bool) -> Axis:
    """Cut a factor into `cells` around the range `low` to `high`.

    Every stretch (below the range, the range, above it) gets about as many cells as is its share, at least one. Cells
    of a stretch are equally wide: in degrees for directions, by ratio for the others. A value is a cell's middle,
    to three digits. ConfigError for fewer than 3 cells, or more than MOST_CELLS.
    """
    if not 3 <= cells <= MOST_CELLS:
        raise ConfigError(f"A side of a map has {cells} cells; expected 3 to {MOST_CELLS}.")
    if factor == "direction":
        turns = HALF_TURN * round((low + high) / 2 / HALF_TURN)
        low, high = low - turns, high - turns
        centre = (low + high) / 2
        ends = centre - HALF_TURN / 2, centre + HALF_TURN / 2
        low, high = max(low, ends[0]), min(high, ends[1])
        marks = np.array([ends[0], low, high, ends[1]])
    else:
        least, most = BOUNDS[factor]
        low, high = (min(max(end, least), most) for end in (low, high))
        marks = np.log([max(least, low / REACH), low, high, min(most, high * REACH)])
    counts = _shares(np.diff(marks), cells)
    points = [
        start + (stop - start) * (cell + 0.5) / count
        for start, stop, count in zip(marks, marks[1:], counts, strict=False)
        for cell in range(count)
    ]
    values = points if factor == "direction" else np.exp(points)
    return Axis(
        factor, tuple(float(f"{v:.3g}") + 0.0 for v in values), counts[0], counts[0] + counts[1], low, high, known
    )


def _shares(stretches: NDArray[np.float64], cells: int) -> list[int]:
    """How many cells each of the three stretches gets: at least one, but for outer ones that are next to nothing."""
    least = np.where(stretches > _NOTHING, 1, 0)
    least[1] = 1
    counts = np.maximum(least, np.floor(cells * stretches / max(stretches.sum(), _NOTHING)).astype(np.int64))
    if math.isclose(stretches[0], stretches[2], abs_tol=_NOTHING):  # as many on one side as on the other
        outer = min(int(counts[0]), (cells - 1) // 2)
        odd = int(stretches[1] <= _NOTHING and cells % 2 == 0)  # one value has one cell, so one side has one more
        return [outer, cells - 2 * outer - odd, outer + odd]
    while counts.sum() != cells:
        # The stretch whose cells are the widest gets one more, or that with the narrowest gives one away.
        add = counts.sum() < cells
        width = np.where(counts > (0 if add else least), stretches / np.maximum(counts, 1), -1.0 if add else math.inf)
        place = int(width.argmax() if add else width.argmin())
        counts[place] += 1 if add else -1
    return counts.tolist()
