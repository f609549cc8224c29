"""The plane read from rows: how much of noise that was never seen is removed in each cell, and what that says.

All noises that no network was trained on count the same. *Removed* is 1 less the retention of `unseen.rows`: 1 where
the noise is gone, 0 where it is left as it was. *Lost* is the RMS of the bias, what happened to the function, where the
RMS of a function is 1.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from unseen.rows import interval, summarise
from unseen.toy.config import Toy, ToyExperiment

SEEN = "seen"
"""New functions of the trained family, under new noise of the trained patterns."""

UNSEEN = ("other patterns", "white", "spikes", "bursts")
"""New functions of the trained family, under noise of the trained level that is not made of the trained patterns."""

FOREIGN = "other functions"
"""Functions of frequencies that were not trained on, under noise of the trained patterns."""

SUITES = (SEEN, *UNSEEN, FOREIGN)
SHOWN = (SEEN, "spikes")
SIGNALS = "all"
"""What stands for the image in rows: sums over all signals of a test."""

CLOSED = "linear-"
"""Before an experiment's id: the linear network of least error in its place."""

_USED = ("retention", "bias")

HALF = 0.5
FUNCTION, NOISE, BORDER = "function", "noise", "border"

Values = NDArray[np.float64]


@dataclass(frozen=True)
class Cell:
    """A place on the plane. `learned` is FUNCTION where the whole 95 % interval over seeds of `removed` lies above a
    half, NOISE where it lies below, BORDER where it holds the half, or there is none. `removed` is the mean of
    `by_noise`, which is in the order of UNSEEN; all but `low` and `high` are means over seeds."""

    frequencies: int
    patterns: int
    freedom: int
    start: float
    learned: str
    removed: float
    low: float
    high: float
    removed_seen: float
    lost: float
    lost_unseen: float
    lost_foreign: float
    closed: float
    by_noise: tuple[float, ...]


@dataclass(frozen=True)
class Tally:
    """How many cells of a plane, by what was learned."""

    function: int
    noise: int
    border: int

    @property
    def cells(self) -> int:
        return self.function + self.noise + self.border


@dataclass(frozen=True)
class Planes:
    """All planes of a toy, one for each start. Arrays are (seeds, up, along): noise up, functions along."""

    toy: Toy
    rows: pd.DataFrame
    examples: pd.DataFrame

    @cached_property
    def experiments(self) -> dict[tuple[float, int, int, int], ToyExperiment]:
        return {(e.network.skip, e.seed, e.noise.patterns, e.functions.frequencies): e for e in self.toy.cells()}

    @cached_property
    def starts(self) -> tuple[float, ...]:
        return tuple(dict.fromkeys(start for start, _, _, _ in self.experiments))

    @cached_property
    def seeds(self) -> tuple[int, ...]:
        return tuple(dict.fromkeys(seed for _, seed, _, _ in self.experiments))

    @cached_property
    def patterns(self) -> tuple[int, ...]:
        return tuple(dict.fromkeys(patterns for _, _, patterns, _ in self.experiments))

    @cached_property
    def frequencies(self) -> tuple[int, ...]:
        return tuple(dict.fromkeys(frequencies for _, _, _, frequencies in self.experiments))

    @property
    def freedom(self) -> tuple[int, ...]:
        return tuple(2 * number for number in self.frequencies)

    @property
    def samples(self) -> int:
        return next(iter(self.experiments.values())).samples

    @property
    def steps(self) -> tuple[int, ...]:
        """Those after which the networks were tested, the last step being the last."""
        recipe = next(iter(self.experiments.values())).recipe
        return (*recipe.snapshots, recipe.steps)

    @cached_property
    def _found(self) -> dict[tuple[str, int, str], dict[str, float]]:
        summary = summarise(self.rows)
        return {
            (str(line["experiment"]), int(line["step"]), str(line["suite"])): {key: float(line[key]) for key in _USED}
            for line in summary.to_dict("records")
        }

    def values(
        self, quantity: str, suite: str, start: float, *, step: int | None = None, closed: bool = False
    ) -> Values:
        """(seeds, up, along) of a quantity of `unseen.rows`, after the last step, or of the closed form."""
        at = -1 if closed else self.steps[-1] if step is None else step
        head = CLOSED if closed else ""
        return np.array(
            [
                [
                    [
                        self._found[head + self.experiments[start, seed, up, along].id, at, suite][quantity]
                        for along in self.frequencies
                    ]
                    for up in self.patterns
                ]
                for seed in self.seeds
            ]
        )

    def removed(
        self, start: float, suites: tuple[str, ...] = UNSEEN, *, step: int | None = None, closed: bool = False
    ) -> Values:
        """Mean over `suites`, each counting the same."""
        each = [1 - self.values("retention", suite, start, step=step, closed=closed) for suite in suites]
        return np.mean(each, axis=0)

    def lost(self, start: float, suite: str) -> Values:
        return self.values("bias", suite, start)

    @cached_property
    def cells(self) -> dict[float, list[list[Cell]]]:
        """By start, rows of cells from the simplest noise up."""
        return {start: self._cells(start) for start in self.starts}

    def _cells(self, start: float) -> list[list[Cell]]:
        each = [self.removed(start, (suite,)) for suite in UNSEEN]
        unseen, seen, closed = self.removed(start), self.removed(start, (SEEN,)), self.removed(start, closed=True)
        lost, foreign = self.lost(start, SEEN), self.lost(start, FOREIGN)
        lost_unseen = np.mean([self.lost(start, suite) for suite in UNSEEN], axis=0)
        found = []
        for y, patterns in enumerate(self.patterns):
            line = []
            for x, frequencies in enumerate(self.frequencies):
                mean, low, high = interval(unseen[:, y, x])
                learned = FUNCTION if low > HALF else NOISE if high < HALF else BORDER  # NaN: border
                line.append(
                    Cell(
                        frequencies=frequencies,
                        patterns=patterns,
                        freedom=2 * frequencies,
                        start=float(start),
                        learned=learned,
                        removed=mean,
                        low=low,
                        high=high,
                        removed_seen=float(seen[:, y, x].mean()),
                        lost=float(lost[:, y, x].mean()),
                        lost_unseen=float(lost_unseen[:, y, x].mean()),
                        lost_foreign=float(foreign[:, y, x].mean()),
                        closed=float(closed[:, y, x].mean()),
                        by_noise=tuple(float(values[:, y, x].mean()) for values in each),
                    )
                )
            found.append(line)
        return found

    def flat(self, start: float) -> list[Cell]:
        return [cell for line in self.cells[start] for cell in line]

    def tally(self, start: float) -> Tally:
        learned = [cell.learned for cell in self.flat(start)]
        return Tally(*(learned.count(kind) for kind in (FUNCTION, NOISE, BORDER)))

    def corners(self) -> tuple[tuple[int, int], tuple[int, int]]:
        """(up, along) of the two cells that are shown: simplest function under most complex noise, and the reverse."""
        return (len(self.patterns) - 1, 0), (0, len(self.frequencies) - 1)

    def holds(self, start: float) -> bool:
        """Whether both were learned somewhere, and nowhere the more complex of the two."""
        cells = self.flat(start)
        wrong = any(
            cell.learned == (NOISE if cell.freedom < cell.patterns else FUNCTION)
            for cell in cells
            if cell.freedom != cell.patterns
        )
        return {FUNCTION, NOISE} <= {cell.learned for cell in cells} and not wrong

    def apart(self, start: float) -> float:
        """Mean over the plane of how far what is removed, over seeds, lies from what the closed form says.

        Not the root mean square: where functions and noise together just fill the space, the closed form is singular.
        """
        change = (self.removed(start) - self.removed(start, closed=True)).mean(axis=0)
        return float(np.abs(change).mean())


def verdict(found: Planes) -> list[str]:
    """What the planes show, in sentences computed from their cells; the first says it all."""
    start = found.starts[0]
    if len(found.seeds) == 1:
        return [_one_seed(found, start), _price(found, start), *_others(found)]
    return [_regimes(found, start), _border(found, start), _price(found, start), *_others(found)]


def _one_seed(found: Planes, start: float) -> str:
    cells = found.flat(start)
    return (
        "One seed gives no interval, so of no cell it is said which of the two the network learned: give axes.seed two "
        f"values or more. In this one, more than half of noise that it has never seen is removed in {_more(cells)} of "
        f"{len(cells)} cells. {_corners(found, start)} The closed form of a linear network is "
        f"{found.apart(start):.3f} away in the mean over the cells."
    )


def _more(cells: list[Cell]) -> int:
    return sum(cell.removed > HALF for cell in cells)


def _corners(found: Planes, start: float) -> str:
    top, bottom = (found.cells[start][y][x] for y, x in found.corners())
    return (
        f"The simplest function under the most complex noise: {100 * top.removed:.0f} % of unseen noise is removed; "
        f"the most complex function under the simplest noise: {100 * bottom.removed:.0f} %, though of the noise that "
        f"it was trained on, {100 * bottom.removed_seen:.0f} %."
    )


def _regimes(found: Planes, start: float) -> str:
    total = found.tally(start)
    both = total.function > 0 and total.noise > 0
    head = "The plane has both regimes" if both else "The plane does not have both regimes"
    return (
        f"{head}: in {total.function} of {total.cells} cells the network learned the function (more than half of noise "
        f"that it has never seen is removed), in {total.noise} it learned the noise, and in {total.border} the "
        f"{len(found.seeds)} seeds do not tell. {_corners(found, start)}"
    )


def _border(found: Planes, start: float) -> str:
    cells = found.flat(start)
    simpler = [cell for cell in cells if cell.freedom < cell.patterns]
    harder = [cell for cell in cells if cell.freedom > cell.patterns]
    right = sum(c.learned == FUNCTION for c in simpler), sum(c.learned == NOISE for c in harder)
    wrong = sum(c.learned == NOISE for c in simpler) + sum(c.learned == FUNCTION for c in harder)
    return (
        f"Where the function takes fewer numbers to name than the noise, the function was learned in {right[0]} of "
        f"{len(simpler)} cells; where it takes more, the noise in {right[1]} of {len(harder)}; in {wrong} of these the "
        f"more complex of the two was learned. The closed form of a linear network is {found.apart(start):.3f} away "
        "in the mean over the cells."
    )


def _price(found: Planes, start: float) -> str:
    complex_, simple = found.cells[start][-1][0], found.cells[start][0][0]
    return (
        "What has learned the function takes all else for noise, unknown content too: of functions with frequencies "
        f"that it was not trained on, {complex_.lost_foreign:.2f} is lost (RMS; a function has 1) where the noise is "
        f"the most complex, and {simple.lost_foreign:.2f} where it is the simplest, both with the simplest functions."
    )


def _others(found: Planes) -> list[str]:
    said = []
    for start in found.starts[1:]:
        total = found.tally(start)
        top, bottom = (found.cells[start][y][x] for y, x in found.corners())
        learned = f"the function in {total.function} of {total.cells} cells, the noise in {total.noise}"
        if len(found.seeds) == 1:
            learned = f"more than half removed in {_more(found.flat(start))} of {total.cells} cells"
        said.append(
            f"{describe(start).capitalize()}: {learned}; the same two corners remove {100 * top.removed:.0f} % and "
            f"{100 * bottom.removed:.0f} % of unseen noise (closed form: {found.apart(start):.3f} away)."
        )
    return said


def describe(start: float) -> str:
    """A start in words."""
    if start == 0:
        return "a network that starts by removing everything"
    if start == 1:
        return "a network that starts by passing everything"
    return "a network that starts halfway" if start == HALF else f"a network that starts by passing {start:g}"


def cells_table(found: Planes) -> pd.DataFrame:
    """One line per cell of every plane; what is removed of each unseen noise has a column of its own."""
    lines = []
    for cell in (cell for start in found.starts for cell in found.flat(start)):
        by_noise = {
            f"removed_{name.replace(' ', '_')}": value for name, value in zip(UNSEEN, cell.by_noise, strict=True)
        }
        lines.append({key: value for key, value in vars(cell).items() if key != "by_noise"} | by_noise)
    return pd.DataFrame(lines)
