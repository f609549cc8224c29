"""The search: every pair of a training and a test image that show the same.

Two searches share the last steps, `fitted` and `agreement`, of which the similarity is the mean:
- whole images, of any scale and shape, with up to about a tenth cut off each border, in eight orientations;
- cuts: smaller images that lie anywhere in a larger one at the same scale, mirrored or not. A cut of a smooth sky is
  like many: cuts must be alike in brightness and contrast, too.
docs/leaks.md says what was measured.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from unseen.errors import DataError
from unseen.leaks.prints import SIDE, Fingerprints
from unseen.leaks.windows import Floats, agreement, coarse_wholes, coarse_windows, fitted

THRESHOLD = 0.8
"""Similarity from which two images count as the same: docs/leaks.md says what lies on either side."""

Indices = NDArray[np.integer]

_LIKELY, _LIKELIER = 0.5, 0.75  # coarse similarity of candidates: of the wholes, and of the best window
_MOST = 64  # candidates kept of one test image in one block
_BLOCK = 1024  # images a side of a block of comparisons
_BORDERS = ((0, 32), (0, 29.5), (2.5, 32), (1.25, 30.75), (2.75, 29.25))  # cells: what border crops leave of a side
_TURNS = tuple((mirrored, quarters) for mirrored in (False, True) for quarters in range(4))
_BACK = np.array([turn if turn > 3 else -turn % 4 for turn in range(8)])  # what undoes each: of mirrorings, they do
_MIRRORED = np.array([mirrored for mirrored, _ in _TURNS])
_SMALLEST_CUT = 12.0  # cells: below three eighths of a side, smooth cuts look like each other
_LARGEST_CUT = 29.0  # cells: above, the search for whole images sees to it
_STEP = 0.06  # of a cut's side, between places that are tried
_CUTS = 3  # places kept of one small image in a block
_TOGETHER = 4096  # candidates looked at together
_WINDOWS = 16_384  # windows held together
_NEAR = 1.04  # images whose sides differ by less are searched together


@dataclass(frozen=True, slots=True)
class Leak:
    """A test image that shows what a training image shows. `similarity` is at most 1; `mirrored`: left-right, and
    perhaps turned besides."""

    train: str
    test: str
    similarity: float
    mirrored: bool


def find_leaks(
    train: Fingerprints,
    test: Fingerprints,
    threshold: float = THRESHOLD,
    progress: Callable[[int, int], None] | None = None,
) -> list[Leak]:
    """Every pair of a training and a test image whose similarity is at least `threshold`, the most similar first.

    Works in blocks: memory grows with the number of images, not of pairs. In a block, a test image is compared closely
    with its 64 likeliest training images, and a small image with the 3 likeliest it may be cut from.
    `progress(done, total)` counts blocks.
    """
    grids = _grids(train), _grids(test)
    tasks = [*_blocks(len(train), len(test)), *_cut_groups(train, test)]
    wholes = _Wholes(*grids)
    found: dict[tuple[int, int], tuple[float, bool]] = {}
    waiting: list[_Candidates] = []
    for done, task in enumerate(tasks, start=1):
        waiting += _cuts(*grids, task) if isinstance(task, _CutGroup) else wholes.search(*task)
        if done == len(tasks) or sum(map(len, waiting)) > _TOGETHER:
            for first, second, similarity, mirrored in _decided(*grids, waiting):
                if similarity >= threshold and similarity > found.get((first, second), (-1.0, False))[0]:
                    found[first, second] = min(similarity, 1.0), mirrored
            waiting = []
        if progress is not None:
            progress(done, len(tasks))
    leaks = [Leak(train.names[first], test.names[second], *how) for (first, second), how in found.items()]
    return sorted(leaks, key=lambda leak: (-leak.similarity, leak.train, leak.test))


def refuse_leaks(leaks: Sequence[Leak], allowed: bool, what: str) -> None:
    """Raise `DataError`, which lists the first five culprits, unless there are none or they are `allowed`.

    `what` begins the sentence: the name of a model, of an experiment, of a study.
    """
    if not leaks or allowed:
        return
    tests = len({leak.test for leak in leaks})
    listed = "".join(
        f"\n  {leak.train} (train) is {leak.test} (test){', mirrored' if leak.mirrored else ''}, "
        f"similarity {leak.similarity:.2f}"
        for leak in leaks[:5]
    )
    more = f"\n  and {len(leaks) - 5} more" if len(leaks) > 5 else ""
    raise DataError(
        f"{what}: {tests} test {'image is' if tests == 1 else 'images are'} among the training images, so that results "
        f"on {'it' if tests == 1 else 'them'} say nothing about generalisation.{listed}{more}\n"
        "Take them out of one side, or allow it with --allow-leaks, which marks the results."
    )


@dataclass(frozen=True, slots=True)
class _Candidates:
    """Pairs that may show the same: indices of the outer and the inner image, how the inner one is turned, and the
    window (n, 4) of the outer one that it may be. Cuts have more to prove."""

    outer: Indices
    inner: Indices
    turns: Indices
    windows: Floats
    outer_is_test: bool
    cut: bool

    def __len__(self) -> int:
        return len(self.outer)


def _decided(train: Floats, test: Floats, waiting: Sequence[_Candidates]) -> Iterator[tuple[int, int, float, bool]]:
    """(train index, test index, similarity, mirrored) of candidates. Fitted together: few at a time are slow."""
    grids = train, test
    for cut in (False, True):
        some = [one for one in waiting if one.cut == cut and len(one)]
        if not some:
            continue
        outer = np.concatenate([grids[one.outer_is_test][one.outer] for one in some])
        inner = np.concatenate([_turned(grids[not one.outer_is_test][one.inner], one.turns) for one in some])
        similarity, windows = fitted(outer, inner, np.concatenate([one.windows for one in some]))
        cells, alike = agreement(outer, inner, windows)
        similarity = np.where(alike | (not cut), (similarity + cells) / 2, 0)
        at = 0
        for one in some:
            pair = (one.inner, one.outer) if one.outer_is_test else (one.outer, one.inner)
            values = similarity[at : at + len(one)].tolist()
            yield from zip(pair[0].tolist(), pair[1].tolist(), values, _MIRRORED[one.turns].tolist(), strict=True)
            at += len(one)


def _grids(prints: Fingerprints) -> Floats:
    return prints.values.reshape(-1, SIDE, SIDE).astype(np.float32)


def _turned(grids: Floats, turns: Indices) -> Floats:
    """Each mirrored or not, then turned by quarters: `turns` (n,) index `_TURNS`."""
    result = np.empty_like(grids)
    for turn, (mirrored, quarters) in enumerate(_TURNS):
        here = turns == turn
        result[here] = np.rot90(grids[here][:, :, ::-1] if mirrored else grids[here], quarters, axes=(1, 2))
    return result


# Whole images


def _blocks(first: int, second: int) -> list[tuple[slice, slice]]:
    return [
        (slice(one, one + _BLOCK), slice(two, two + _BLOCK))
        for one in range(0, first, _BLOCK)
        for two in range(0, second, _BLOCK)
    ]


class _Wholes:
    """The search for whole images of any scale, in eight orientations, with borders cut off either side."""

    def __init__(self, train: Floats, test: Floats) -> None:
        self.train, self.test = train, test
        borders = np.array(_BORDERS)
        self.windows = np.array([(*rows, *columns) for rows in borders for columns in borders])
        self.plain = coarse_wholes(train)
        self.turned, self.turned_back = (
            np.stack([coarse_wholes(_turned(grids, np.full(len(grids), turn))) for turn in turns])
            for grids, turns in ((test, range(len(_TURNS))), (train, _BACK))
        )
        self.cropped = [coarse_windows(grids, borders, borders) for grids in (train, test)]

    def search(self, first: slice, second: slice) -> Iterator[_Candidates]:
        """Those of a block of training and a block of test images."""
        one, two, turns = self._likely(first, second)
        for at in range(0, len(one), _TOGETHER):
            part = slice(at, at + _TOGETHER)
            yield from self._close(one[part], two[part], turns[part])

    def _likely(self, first: slice, second: slice) -> tuple[Indices, Indices, Indices]:
        """Train and test indices and the likeliest orientation of candidates, by their wholes."""
        train = self.plain[first].T
        best = self.turned[0, second] @ train
        turns = np.zeros(best.shape, np.int8)
        for turn in range(1, len(_TURNS)):
            here = self.turned[turn, second] @ train
            np.copyto(turns, turn, where=here > best)
            np.maximum(best, here, out=best)
        likely = best > _LIKELY
        for row in np.flatnonzero(likely.sum(axis=1) > _MOST):
            likely[row] &= best[row] >= np.partition(best[row], -_MOST)[-_MOST]
        two, one = np.nonzero(likely)
        return one + first.start, two + second.start, turns[two, one]

    def _close(self, one: Indices, two: Indices, turns: Indices) -> Iterator[_Candidates]:
        """Those where either, less a border, is like the other: the window is that of the one that holds more."""
        vectors = self.turned[turns, two], self.turned_back[turns, one]
        cropped = [
            np.einsum("mrck,mk->mrc", self.cropped[side][which], vectors[side]).reshape(len(one), len(self.windows))
            for side, which in enumerate((one, two))
        ]
        best = np.stack([values.max(axis=1) for values in cropped])
        for side, outer, inner, turned in ((0, one, two, turns), (1, two, one, _BACK[turns])):
            here = np.flatnonzero((best.argmax(axis=0) == side) & (best[side] > _LIKELIER))
            windows = self.windows[cropped[side][here].argmax(axis=1)]
            yield _Candidates(outer[here], inner[here], turned[here], windows, side == 1, cut=False)


# Cuts


@dataclass(frozen=True, slots=True)
class _CutGroup:
    """Images of about one size, `outer`, of one side, and smaller ones, `inner`, of the other, which may be cut from
    them: they would cover so many `cells` (rows, columns) of an outer grid."""

    outer: Indices
    inner: Indices
    cells: tuple[float, float]
    outer_is_test: bool


def _cut_groups(train: Fingerprints, test: Fingerprints) -> Iterator[_CutGroup]:
    binned = _by_size(train.sizes), _by_size(test.sizes)
    for outer_is_test in (False, True):
        for outer_size, outer in binned[outer_is_test]:
            for inner_size, inner in binned[not outer_is_test]:
                rows, columns = (SIDE * inner_size / outer_size).tolist()
                if max(rows, columns) <= SIDE * _NEAR and _SMALLEST_CUT <= min(rows, columns) <= _LARGEST_CUT:
                    cells = min(rows, float(SIDE)), min(columns, float(SIDE))
                    for at in range(0, len(outer), _BLOCK):
                        yield _CutGroup(outer[at : at + _BLOCK], inner, cells, outer_is_test)


def _by_size(sizes: NDArray[np.int32]) -> list[tuple[NDArray[np.float64], Indices]]:
    """Mean (h, w) and indices of images of about one size."""
    bins = np.rint(np.log(sizes) / np.log(_NEAR)).astype(int)
    groups = [np.flatnonzero((bins == one).all(axis=1)) for one in np.unique(bins, axis=0)]
    return [(sizes[members].mean(axis=0), members) for members in groups]


def _cuts(train: Floats, test: Floats, group: _CutGroup) -> Iterator[_Candidates]:
    """For each inner image the outer ones, and the places in them, that it is likeliest cut from."""
    outer, whole = (test, train) if group.outer_is_test else (train, test)
    rows, columns = (
        np.linspace(0, SIDE - side, int(np.ceil((SIDE - side) / (_STEP * side))) + 1)[:, None] + (0, side)
        for side in group.cells
    )
    windows = np.array([(*down, *across) for down in rows for across in columns])
    for turn in (0, _TURNS.index((True, 0))):
        inner = _turned(whole[group.inner], np.full(len(group.inner), turn))
        best, places = _best_places(outer[group.outer], coarse_wholes(inner, group.cells), rows, columns)
        likely = np.argsort(-best, axis=0)[:_CUTS]  # of the outer images, for each inner one
        in_outer, in_inner = likely.ravel(), np.tile(np.arange(len(inner)), len(likely))
        kept = best[in_outer, in_inner] > _LIKELIER
        in_outer, in_inner = in_outer[kept], in_inner[kept]
        turns = np.full(len(in_outer), turn)
        there = windows[places[in_outer, in_inner]]
        yield _Candidates(group.outer[in_outer], group.inner[in_inner], turns, there, group.outer_is_test, cut=True)


def _best_places(outer: Floats, inner: Floats, rows: Floats, columns: Floats) -> tuple[Floats, Indices]:
    """Of outer grids (n) and directions of inner ones (m): the greatest coarse similarity of any window, and which of
    them: (n, m)."""
    count = len(rows) * len(columns)
    best, places = np.zeros((len(outer), len(inner)), np.float32), np.zeros((len(outer), len(inner)), np.intp)
    for at in range(0, len(outer), max(1, _WINDOWS // count)):
        some = slice(at, at + max(1, _WINDOWS // count))
        windows = coarse_windows(outer[some], rows, columns).reshape(-1, inner.shape[1])
        for left in range(0, len(inner), _BLOCK):
            part = slice(left, left + _BLOCK)
            here = (windows @ inner[part].T).reshape(-1, count, len(inner[part]))
            places[some, part], best[some, part] = here.argmax(axis=1), here.max(axis=1)
    return best, places
