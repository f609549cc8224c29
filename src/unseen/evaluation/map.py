"""The map of generalisation: a restorer judged over whole planes of rain, to see where it works and where it stops.

Every cell is one point of rain: its four factors have one value each. All cells lie over the same images, and an
image's streaks are drawn from the same random numbers in each, so that neighbouring cells differ by the factor only.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace

import pandas
import torch
from pydantic import ValidationError

from unseen.backgrounds import Backgrounds
from unseen.degradations import Mixture, Rain
from unseen.errors import ConfigError
from unseen.evaluation.atoms import atoms
from unseen.evaluation.baselines import BASELINES
from unseen.evaluation.evaluate import apply
from unseen.evaluation.grid import UNITS, Map, Plane, axis_of
from unseen.evaluation.suites import BATCH_PIXELS
from unseen.experiment import Experiment, all_met
from unseen.images import PEAK
from unseen.ranges import Choice, Range
from unseen.rows import rows_of
from unseen.seeding import generator
from unseen.types import Images, Outcome, Restorer

PLANES = (("direction", "length"), ("width", "quantity"))

CELLS = (9, 7)
"""Along the first and the second factor of a plane."""

CROP = 112

IMAGES = 12

REFERENCE = "median"
"""The restorer that knows nothing, mapped beside the one in question: what it would also pass is no claim."""

Trained = Rain | Mixture | Mapping[str, tuple[float, float]]
"""What a restorer was trained on: a rain, one of several (of a mixture the rains count), or (low, high) of the factors
that are known."""

Progress = Callable[[int, int], None]
"""Told how many cells are done, and of how many."""


def generalization_map(
    restorer: Restorer,
    images: Backgrounds,
    *,
    trained: Trained | None = None,
    planes: Sequence[tuple[str, str]] = PLANES,
    cells: tuple[int, int] = CELLS,
    crop: int = CROP,
    seed: int = 0,
    name: str = "restorer",
    step: int = -1,
    progress: Progress | None = None,
) -> Map:
    """Judge `restorer` on a grid of `cells` rains over each plane (a pair of `UNITS`). Deterministic.

    `restorer` is any callable on images (b, 3, h, w) in [0, 1] that keeps their shape. All of `images` are used, cut
    to their centre `crop`: few and small ones do, since all cells share them. Factors that are not on a plane are
    held at the centre of their training range, all other settings are those of `trained`; what is not known of it is
    taken from medium rain at half size, and is no training range on the map. Of several rains the map is laid around
    the first, and a cell is inside where it lies in all four factors of any. SSIM is not computed.
    """
    rains = rains_of(trained) if isinstance(trained, Mixture) else ()
    rain, known = _reference(rains[0] if rains else None if isinstance(trained, Mixture) else trained)
    laid = _planes(rain, known, planes, cells)
    if len(rains) > 1:
        laid = tuple(_among(rains, plane) for plane in laid)
    judged = [(name, step, restorer)] + [(REFERENCE, -1, BASELINES[REFERENCE])] * (name != REFERENCE)
    lots = list(_lots(images, crop))
    every = [cell for plane in laid for cell in plane.cells()]
    parts: list[pandas.DataFrame] = []
    for done, cell in enumerate(every, 1):
        point = _point(rain, cell.factors)
        for names, clean in lots:
            rngs = [generator(seed, "map", image) for image in names]
            batch = point.render(clean, point.sample((clean.shape[2], clean.shape[3]), rngs))
            for who, when, restore in judged:
                with torch.no_grad():  # a restorer may switch gradients on, as inference_mode forbids
                    values = atoms(Outcome(batch, apply(restore, batch.degraded)), ssim_too=False)
                parts.append(
                    rows_of({key: value.numpy() for key, value in values.items()}, who, when, cell.suite, names)
                )
        if progress is not None:
            progress(done, len(every))
    return Map(
        name=name,
        reference=REFERENCE,
        planes=laid,
        rows=pandas.concat(parts, ignore_index=True),
        images=tuple(images.names),
        crop=crop,
        seed=seed,
        trained=f"one of {len(rains)} ranges for each image"
        if len(rains) > 1
        else ", ".join(f"{factor} {getattr(rain, factor)}" for factor in UNITS if factor in known) or None,
        rain=_rest(rain),
    )


def why_no_map(name: str, lineage: Sequence[Experiment]) -> str:
    """Why a model that has been through these experiments has no map, in a sentence; empty where it can have one, and
    where it was trained on pairs too: of what they show nothing is known."""
    met = all_met(lineage)
    if met is None or "rain" in met.families or any(experiment.pairs is not None for experiment in lineage):
        return ""
    return f"The map is of rain, and {name} was trained on {' and '.join(met.families)}: it has none."


def rains_of(trained: Mixture) -> tuple[Rain, ...]:
    """The rains that a mixture draws one of, in its order, those that differ in the four factors."""
    alone = [chain[0] for chain in trained.alternatives() if len(chain) == 1]
    found: dict[tuple[tuple[float, float], ...], Rain] = {}
    for rain in alone:
        if isinstance(rain, Rain):
            found.setdefault(tuple(_ends(rain, factor) for factor in UNITS), rain)
    return tuple(found.values())


def _ends(rain: Rain, factor: str) -> tuple[float, float]:
    drawn: Range | Choice = getattr(rain, factor)
    wider = rain.spread if factor == "direction" else 0.0
    return drawn.low - wider, drawn.high + wider


def _among(rains: Sequence[Rain], plane: Plane) -> Plane:
    """The plane, with what lies in any of these."""

    def inside(factors: Mapping[str, float]) -> bool:
        point = _point(rains[0], factors)
        return any(set(UNITS).isdisjoint(point.outside(rain)) for rain in rains)

    within = [inside(cell.factors) for cell in plane.cells()]
    width = len(plane.x.points)
    rows = tuple(tuple(within[row : row + width]) for row in range(0, len(within), width))
    return replace(plane, within=rows)


def _reference(trained: Rain | Mapping[str, tuple[float, float]] | None) -> tuple[Rain, tuple[str, ...]]:
    """The rain that the map is laid around, and which of its factors are a training range."""
    if isinstance(trained, Rain):
        return trained, tuple(UNITS)
    given = trained or {}
    return with_ranges(Rain.preset("medium", scale=0.5), given), tuple(given)


def with_ranges(rain: Rain, ranges: Mapping[str, tuple[float, float]]) -> Rain:
    """The same rain with (low, high) in place of some of its four factors. ConfigError for what cannot be."""
    unknown = [factor for factor in ranges if factor not in UNITS]
    if unknown:
        raise ConfigError(f"There is no factor {unknown[0]!r} of rain on a map; expected some of {', '.join(UNITS)}.")
    try:
        changes = {factor: {"low": low, "high": high} for factor, (low, high) in ranges.items()}
        return Rain.model_validate({**rain.model_dump(), **changes})
    except ValidationError as error:
        said = "; ".join(one["msg"].removeprefix("Value error, ") for one in error.errors())
        raise ConfigError(f"Rain cannot be trained on such a range: {said}.") from error


def _planes(
    rain: Rain, known: Sequence[str], planes: Sequence[tuple[str, str]], cells: tuple[int, int]
) -> tuple[Plane, ...]:
    for pair in planes:
        if pair[0] == pair[1] or not set(pair) <= set(UNITS):
            raise ConfigError(f"A plane is of two different factors out of {', '.join(UNITS)}, not {' x '.join(pair)}.")
    if not planes or len({frozenset(pair) for pair in planes}) < len(planes):
        raise ConfigError("A map has at least one plane, and no two of the same factors.")

    laid = []
    for pair in planes:
        x, y = (axis_of(one, *_ends(rain, one), count, one in known) for one, count in zip(pair, cells, strict=True))
        others = [factor for factor in UNITS if factor not in pair]
        laid.append(Plane(x, y, {factor: sum(_ends(rain, factor)) / 2 for factor in others}))
    return tuple(laid)


def _point(rain: Rain, factors: Mapping[str, float]) -> Rain:
    """The same rain with one value of each factor."""
    fixed = with_ranges(rain, {factor: (value, value) for factor, value in factors.items()})
    return fixed.model_copy(update={"spread": 0.0, "name": ""})


def _rest(rain: Rain) -> str:
    """What is not one of the four factors, in words: the brightness, and all that is not as in plain rain."""
    plain = Rain()
    others = [
        f for f in Rain.factors if f not in UNITS and (f == "brightness" or getattr(rain, f) != getattr(plain, f))
    ]
    return ", ".join(f"{factor} {getattr(rain, factor)}" for factor in others)


def _lots(images: Backgrounds, crop: int) -> Iterator[tuple[list[str], Images]]:
    """All images in batches of one shape, in order of first appearance of the shape."""
    shapes: dict[tuple[int, ...], list[tuple[str, torch.Tensor]]] = {}
    for name, array in images.crops(crop):
        shapes.setdefault(array.shape, []).append((name, torch.from_numpy(array.copy()).permute(2, 0, 1)))
    for shape, found in shapes.items():
        at_once = max(1, BATCH_PIXELS // (shape[0] * shape[1]))
        for first in range(0, len(found), at_once):
            part = found[first : first + at_once]
            yield [name for name, _ in part], torch.stack([image for _, image in part]).float().div_(PEAK)
