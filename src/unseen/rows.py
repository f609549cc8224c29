"""Results are rows; every average, interval and table is made from rows, here, later. Imports no torch.

A row: `experiment` (an experiment's id, or a baseline's name), `step` (training steps behind the restorer; -1 for
baselines), `suite`, `image`, `metric`, `value` (float64). One row per image and stored metric.

Stored metrics are *atoms*: per-image PSNR and SSIM, and the sums and counts that pooled quantities are ratios of
(pool, do not average ratios: on nearly clean images those explode). `QUANTITIES` says how each reported quantity is
made from atoms; one with an empty denominator is undefined, never 0: NaN in frames and arrays, None in dictionaries.

Symbols: O degraded, B clean, f restored and clipped, M the mask; sums run over pixels and the 3 channels, counts
are of values (pixels x 3).

This file stays whole because rows, quantities and what is averaged over what are one law; nothing else may average.
"""

import hashlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from unseen.errors import ConfigError, DataError
from unseen.files import whole

COLUMNS = ("experiment", "step", "suite", "image", "metric", "value")

ATOMS: dict[str, str] = {
    "psnr_rgb": "10 log10(1 / mse) over pixels and channels, dB; the peak is 1",
    "psnr_y": "PSNR on limited-range Y of BT.601 of 8-bit-rounded RGB, dB; the peak is 255",
    "ssim_rgb": "SSIM, mean over channels",
    "ssim_y": "SSIM on the same Y",
    "input_psnr_rgb": "psnr_rgb of O itself",
    "input_psnr_y": "psnr_y of O itself",
    "mse": "mean of (f - B)^2",
    "input_mse": "mean of (O - B)^2",
    "values": "count of values in the image",
    "mask_values": "count of values where M is 1",
    "mask_change": "sum over M of (f - O)^2",
    "mask_degradation": "sum over M of (O - B)^2",
    "mask_error": "sum over M of (f - B)^2",
    "mask_projection": "sum over M of (O - f)(O - B)",
    "clear_error": "sum over 1 - M of (f - B)^2",
    "degradation": "sum over the image of (O - B)^2",
    "alignment": "sum over the image of (f - B)(O - B)",
}
"""Every metric that is stored of every image, and its meaning."""

BANDS: dict[str, str] = {
    "over16": "details over 16 px",
    "8to16": "details of 8 to 16 px",
    "4to8": "details of 4 to 8 px",
    "under4": "details under 4 px",
}
"""Octaves, from coarse to fine, by their period."""

MORE_ATOMS: dict[str, str] = {
    **{f"error_{band}": f"sum of (f - B)^2 in {words}" for band, words in BANDS.items()},
    **{f"degradation_{band}": f"sum of (O - B)^2 in {words}" for band, words in BANDS.items()},
    **{f"alignment_{band}": f"sum of (f - B)(O - B) in {words}" for band, words in BANDS.items()},
    "bias": "sum over the image of (m - B)^2, m the mean of f over draws of the noise",
    "variance": "sum over the image of (f - m)^2, mean over draws",
    **{f"bias_{band}": f"sum of (m - B)^2 in {words}" for band, words in BANDS.items()},
    **{f"variance_{band}": f"sum of (f - m)^2 in {words}, mean over draws" for band, words in BANDS.items()},
}
"""What is stored besides, of degradations other than rain: octave by octave, and over several draws of a noise."""

Array = NDArray[np.float64]

Sums = Mapping[str, Array]
"""Sums over images of the pooled atoms, by name; one entry per group of images, or a single number."""


def _ratio(numerator: ArrayLike, denominator: ArrayLike) -> Array:
    """NaN where the denominator is not above 0."""
    over, under = np.broadcast_arrays(np.asarray(numerator, np.float64), np.asarray(denominator, np.float64))
    return np.divide(over, under, out=np.full(under.shape, np.nan), where=under > 0)


def _rms(total: ArrayLike, count: ArrayLike) -> Array:
    return np.sqrt(np.maximum(_ratio(total, count), 0.0))


def _orthogonal_error(s: Sums) -> Array:
    """RMS of e, where f - B = a (O - B) + e: the energy of the error less that of its projection."""
    energy = s["mse_values"] - _ratio(s["alignment"] ** 2, s["degradation"])
    return _rms(energy, s["values"])


@dataclass(frozen=True)
class Quantity:
    """A reported quantity. `better` is "higher", "lower", "one" (1 is best), "zero" (0 is best) or "" (neither).

    Either the mean over images of an atom (`of` names it, or a gain), or `pooled`: a vectorised function of sums
    of atoms over images, NaN where undefined.
    """

    name: str
    title: str
    unit: str
    better: str
    meaning: str
    of: str | None = None
    pooled: Callable[[Sums], Array] | None = None


def _of_band(band: str, words: str) -> Iterator[Quantity]:
    """What is told apart in one octave."""

    def rms(name: str, atom: str, meaning: str) -> Quantity:
        def pooled(s: Sums) -> Array:
            return _rms(s[f"{atom}_{band}"], s["values"])

        return Quantity(f"{name}_{band}", f"{name}, {short}", "", "lower", meaning, pooled=pooled)

    short = words.removeprefix("details ")
    yield Quantity(
        name=f"retention_{band}",
        title=f"retention, {short}",
        unit="",
        better="zero",
        meaning=f"<f - B, O - B> / <O - B, O - B> in {words}: what was kept of the degradation there",
        pooled=lambda s: _ratio(s[f"alignment_{band}"], s[f"degradation_{band}"]),
    )
    yield rms("error", "error", f"RMS of f - B in {words}: the squares of all bands add up to the MSE")
    yield rms("bias", "bias", f"RMS of the mean over draws of f - B in {words}: what was done to the content there")
    yield rms(
        "deviation", "variance", f"standard deviation of f over draws in {words}: how much noise leaked through there"
    )


QUANTITIES: dict[str, Quantity] = {
    q.name: q
    for q in (
        Quantity("psnr_rgb", "PSNR (RGB)", "dB", "higher", ATOMS["psnr_rgb"], of="psnr_rgb"),
        Quantity("psnr_y", "PSNR (Y)", "dB", "higher", ATOMS["psnr_y"], of="psnr_y"),
        Quantity("ssim_rgb", "SSIM (RGB)", "", "higher", ATOMS["ssim_rgb"], of="ssim_rgb"),
        Quantity("ssim_y", "SSIM (Y)", "", "higher", ATOMS["ssim_y"], of="ssim_y"),
        Quantity(
            name="gain_rgb",
            title="gain (RGB)",
            unit="dB",
            better="higher",
            meaning="PSNR of f less PSNR of O, in RGB, mean over images",
            of="gain_rgb",
        ),
        Quantity(
            name="gain_y",
            title="gain (Y)",
            unit="dB",
            better="higher",
            meaning="PSNR of f less PSNR of O, on Y, mean over images",
            of="gain_y",
        ),
        Quantity("mse", "MSE", "", "lower", ATOMS["mse"], of="mse"),
        Quantity(
            name="removal_ratio",
            title="removal ratio",
            unit="",
            better="one",
            meaning="<O - f, O - B> / <O - B, O - B> over M: 0 did nothing, 1 removed the degradation's component",
            pooled=lambda s: _ratio(s["mask_projection"], s["mask_degradation"]),
        ),
        Quantity(
            name="residual",
            title="residual",
            unit="",
            better="lower",
            meaning="RMS over M of f - B: what is still wrong inside the degradation",
            pooled=lambda s: _rms(s["mask_error"], s["mask_values"]),
        ),
        Quantity(
            name="removal",
            title="E_R",
            unit="",
            better="higher",
            meaning="RMS over M of f - O: how much was changed inside the degradation",
            pooled=lambda s: _rms(s["mask_change"], s["mask_values"]),
        ),
        Quantity(
            name="oracle_removal",
            title="E_R*",
            unit="",
            better="",
            meaning="RMS over M of O - B: what a perfect remover would score",
            pooled=lambda s: _rms(s["mask_degradation"], s["mask_values"]),
        ),
        Quantity(
            name="action_ratio",
            title="action ratio",
            unit="",
            better="one",
            meaning="E_R / E_R*: near 0 where nothing was done",
            pooled=lambda s: _rms(s["mask_change"], s["mask_degradation"]),
        ),
        Quantity(
            name="reconstruction",
            title="E_B",
            unit="",
            better="lower",
            meaning="RMS over 1 - M of f - B: damage outside the degradation",
            pooled=lambda s: _rms(s["clear_error"], s["values"] - s["mask_values"]),
        ),
        Quantity(
            name="retention",
            title="retention a",
            unit="",
            better="zero",
            meaning="<f - B, O - B> / <O - B, O - B>, whole image: what was kept of the degradation",
            pooled=lambda s: _ratio(s["alignment"], s["degradation"]),
        ),
        Quantity(
            name="orthogonal_error",
            title="orthogonal error",
            unit="",
            better="lower",
            meaning="RMS of e in f - B = a (O - B) + e, with e orthogonal to O - B",
            pooled=_orthogonal_error,
        ),
        Quantity(
            name="bias",
            title="bias",
            unit="",
            better="lower",
            meaning="RMS of the mean over draws of f - B: what was done to the content",
            pooled=lambda s: _rms(s["bias"], s["values"]),
        ),
        Quantity(
            name="deviation",
            title="deviation",
            unit="",
            better="lower",
            meaning="standard deviation of f over draws of the noise: how much of it leaked through",
            pooled=lambda s: _rms(s["variance"], s["values"]),
        ),
        *(quantity for band, words in BANDS.items() for quantity in _of_band(band, words)),
    )
}
"""Every reported quantity, in the order of tables."""


def _quantity(name: str) -> Quantity:
    if name not in QUANTITIES:
        raise ConfigError(f"There is no quantity {name}; expected one of {', '.join(QUANTITIES)}.")
    return QUANTITIES[name]


_GROUP = ["experiment", "step", "suite"]

_POOLED = (
    "values",
    "mask_values",
    "mask_change",
    "mask_degradation",
    "mask_error",
    "mask_projection",
    "clear_error",
    "degradation",
    "alignment",
    *MORE_ATOMS,
    "mse_values",
)
"""What `Sums` holds: atoms, and `mse_values`, which is mse x values (the sum over the image of (f - B)^2)."""


def rows_of(
    atoms: Mapping[str, ArrayLike], experiment: str, step: int, suite: str, images: Sequence[str]
) -> pd.DataFrame:
    """Atoms (one value per image, in the order of `images`) as long rows."""
    for metric, values in atoms.items():
        if np.shape(values) != (len(images),):
            raise DataError(
                f"Metric {metric} has shape {np.shape(values)} for {len(images)} images; "
                f"expected one value per image. Give as many names as values."
            )
    return pd.DataFrame(
        {
            "experiment": experiment,
            "step": step,
            "suite": suite,
            "image": np.tile(np.asarray(images, dtype=object), len(atoms)),
            "metric": np.repeat(np.asarray(list(atoms), dtype=object), len(images)),
            "value": np.concatenate([np.asarray(values, np.float64) for values in atoms.values()] or [np.empty(0)]),
        },
        columns=list(COLUMNS),
    ).astype(_TYPES)


_TYPES = {"experiment": "str", "step": "int64", "suite": "str", "image": "str", "metric": "str", "value": "float64"}


def _validated(rows: pd.DataFrame, source: str) -> pd.DataFrame:
    """The six columns, in order and with their types, or a DataError that names `source`."""
    missing = [column for column in COLUMNS if column not in rows.columns]
    if missing:
        raise DataError(
            f"{source} lacks the columns {', '.join(missing)}; rows have {', '.join(COLUMNS)}. "
            f"Write rows with `write_rows`, or run the evaluation again."
        )
    rows = rows.loc[:, list(COLUMNS)]
    for column in COLUMNS[:-1]:
        if lacking := int(np.count_nonzero(pd.isna(rows[column].to_numpy()))):
            raise DataError(
                f"{source} has {lacking} rows without {column}; only a value may be missing. Run the evaluation again."
            )
    try:
        return rows.astype(_TYPES)
    except (TypeError, ValueError) as error:
        raise DataError(
            f"{source} has a step or a value that is not a number ({error}). Run the evaluation again."
        ) from error


def write_rows(rows: pd.DataFrame, path: Path | str) -> None:
    """Write Parquet whole, by rename: where the file is present, it is complete. Makes the folder if need be."""
    path = Path(path)
    rows = _validated(rows, f"The frame for {path}")
    with whole(path) as temporary:
        rows.to_parquet(temporary, index=False)


def read_rows(path: Path | str) -> pd.DataFrame:
    """Rows as written by `write_rows`. Raises DataError where the file is absent, is not Parquet or is not rows."""
    path = Path(path)
    if not path.is_file():
        raise DataError(f"No rows at {path}: there is no such file. Run the evaluation that writes it.")
    try:
        rows = pd.read_parquet(path)
    except (OSError, ValueError) as error:  # pyarrow's ArrowInvalid is a ValueError
        raise DataError(
            f"{path} cannot be read as Parquet ({error}). Delete it and run the evaluation again."
        ) from error
    return _validated(rows, str(path))


@dataclass(frozen=True)
class _Wide:
    """Rows turned: one entry per image in each array of `atoms`, images of a group side by side."""

    groups: pd.DataFrame
    starts: NDArray[np.int64]
    atoms: dict[str, Array]

    def __iter__(self) -> Iterator[tuple[dict[str, Any], dict[str, Array]]]:
        """Each group's names and its images' atoms."""
        total = len(self.atoms["values"])
        for index, names in enumerate(self.groups.to_dict("records")):
            stop = self.starts[index + 1] if index + 1 < len(self.starts) else total
            here = slice(self.starts[index], stop)
            yield {str(key): value for key, value in names.items()}, {k: v[here] for k, v in self.atoms.items()}


def _completed(atoms: Mapping[str, Array], count: int) -> dict[str, Array]:
    """Every atom (NaN where it was not stored), the gains, and the sum of squared errors."""
    full = {name: atoms.get(name, np.full(count, np.nan)) for name in (*ATOMS, *MORE_ATOMS)}
    with np.errstate(invalid="ignore"):  # inf - inf: both perfect, the gain is undefined
        full["gain_rgb"] = full["psnr_rgb"] - full["input_psnr_rgb"]
        full["gain_y"] = full["psnr_y"] - full["input_psnr_y"]
    full["mse_values"] = full["mse"] * full["values"]
    return full


def _wide(rows: pd.DataFrame) -> _Wide:
    """Turn rows. Metrics that are not atoms are left out; a row that occurs twice is a DataError."""
    rows = _validated(rows, "The frame")
    group = rows.groupby(_GROUP, sort=False).ngroup().to_numpy(np.int64)
    groups = rows.loc[:, _GROUP].drop_duplicates().reset_index(drop=True)
    image, image_names = pd.factorize(rows["image"])
    metric, metric_names = pd.factorize(rows["metric"])
    items, item = np.unique(group * max(len(image_names), 1) + image, return_inverse=True)
    table = np.full((len(metric_names), len(items)), np.nan)
    written = np.zeros(table.shape, np.int64)
    np.add.at(written, (metric, item), 1)
    if (written > 1).any():
        row = rows[written[metric, item] > 1].iloc[0]
        raise DataError(
            f"{int((written > 1).sum())} rows occur more than once; expected one per experiment, step, suite, image "
            f"and metric. First: {', '.join(str(row[column]) for column in COLUMNS[:-1])}. Drop one of the evaluations."
        )
    table[metric, item] = rows["value"].to_numpy(np.float64)
    starts = np.searchsorted(items, np.arange(len(groups)) * max(len(image_names), 1))
    atoms = {str(name): table[index] for index, name in enumerate(metric_names)}
    return _Wide(groups, starts.astype(np.int64), _completed(atoms, len(items)))


def _sums(atoms: Mapping[str, Array], starts: NDArray[np.int64]) -> dict[str, Array]:
    """A group with a missing atom has a missing sum: numerators and denominators stay of the same images."""
    return {name: np.add.reduceat(atoms[name], starts) for name in _POOLED}


def _means(values: Array, starts: NDArray[np.int64]) -> Array:
    """Means over the images where a value is defined; infinite where one of them is."""
    missing = np.isnan(values)
    with np.errstate(invalid="ignore"):  # +inf and -inf in one group
        total = np.add.reduceat(np.where(missing, 0.0, values), starts)
    return _ratio(total, np.add.reduceat((~missing).astype(np.float64), starts))


def _of_groups(atoms: Mapping[str, Array], starts: NDArray[np.int64]) -> dict[str, Array]:
    sums = _sums(atoms, starts)
    values = {}
    for quantity in QUANTITIES.values():
        if quantity.pooled is not None:
            values[quantity.name] = quantity.pooled(sums)
        elif quantity.of is not None:
            values[quantity.name] = _means(atoms[quantity.of], starts)
    return values


def quantities(atoms: Mapping[str, ArrayLike]) -> dict[str, float | None]:
    """Every quantity of one set of images, from their atoms (one value per image each); None where undefined."""
    found = _of_groups(_arrays(atoms), np.zeros(1, np.int64))
    return {name: _or_none(float(value[0])) for name, value in found.items()}


def _or_none(value: float) -> float | None:
    return None if math.isnan(value) else value


def _arrays(atoms: Mapping[str, ArrayLike]) -> dict[str, Array]:
    """A user's atoms of one set of images, checked and completed."""
    arrays = {name: np.asarray(values, np.float64) for name, values in atoms.items()}
    shapes = {array.shape for array in arrays.values()}
    shape = next(iter(shapes), ())
    if len(shapes) != 1 or len(shape) != 1 or shape[0] == 0:
        raise DataError(f"Atoms have the shapes {sorted(shapes)}; expected one value per image in each, and an image.")
    return _completed(arrays, shape[0])


def _counts(found: NDArray[np.bool_], unknown: NDArray[np.bool_], starts: NDArray[np.int64]) -> NDArray[Any]:
    """How many per group; NaN where not every image says."""
    counts = np.add.reduceat(found.astype(np.int64), starts)
    missing = np.logical_or.reduceat(unknown, starts)
    return np.where(missing, np.nan, counts) if missing.any() else counts


def summarise(rows: pd.DataFrame) -> pd.DataFrame:
    """One line per experiment, step and suite, in order of appearance.

    Columns: `experiment`, `step`, `suite`; `images`, how many; `mask_empty` and `clear_empty`, how many of them have
    an empty M or 1 - M and so say nothing about quantities over it; then every name in QUANTITIES. Undefined, or not
    stored, is NaN. A PSNR is infinite where one image is restored perfectly; a gain from infinite to infinite is
    undefined and that image is left out of its mean.
    """
    if rows.empty:
        return pd.DataFrame(columns=[*_GROUP, "images", "mask_empty", "clear_empty", *QUANTITIES])
    wide = _wide(rows)
    mask, clear = wide.atoms["mask_values"], wide.atoms["values"] - wide.atoms["mask_values"]
    return wide.groups.assign(
        images=np.diff(wide.starts, append=len(mask)),
        mask_empty=_counts(mask == 0, np.isnan(mask), wide.starts),
        clear_empty=_counts(clear == 0, np.isnan(clear), wide.starts),
        **_of_groups(wide.atoms, wide.starts),
    )


def interval(values: ArrayLike, level: float = 0.95) -> tuple[float, float, float]:
    """Mean and Student's t interval of independent values (seeds, images): (mean, low, high).

    NaN are left out. Both ends are NaN where there are fewer than two values or one is infinite.
    """
    if not 0 < level < 1:
        raise ConfigError(f"The level of an interval is {level:g}; expected between 0 and 1, such as 0.95.")
    array = np.asarray(values, np.float64).ravel()
    array = array[~np.isnan(array)]
    if not len(array):
        return math.nan, math.nan, math.nan
    with np.errstate(invalid="ignore"):  # +inf and -inf
        mean = float(array.mean())
    if len(array) < 2 or not math.isfinite(mean):
        return mean, math.nan, math.nan
    from scipy.special import stdtrit  # scipy.stats says the same, and takes ten times as long to import

    half = float(stdtrit(len(array) - 1, 0.5 + level / 2)) * float(array.std(ddof=1)) / math.sqrt(len(array))
    return mean, mean - half, mean + half


def over_seeds(summary: pd.DataFrame, cells: Mapping[str, str], level: float = 0.95) -> pd.DataFrame:
    """Mean and t interval over experiments that differ only in their seed.

    `summary` as `summarise` makes it (or `mean_over`, which has no suite), `cells` the name that the seeds of an
    experiment share, by experiment; those not named (baselines) are cells of their own. One line per `cell`, `step`,
    `suite` and `quantity` with `mean`, `low`, `high` and `seeds`, the number of defined values.
    """
    by = [column for column in ("cell", "step", "suite") if column == "cell" or column in summary.columns]
    named = summary.assign(cell=[cells.get(experiment, experiment) for experiment in summary["experiment"]])
    lines = []
    for keys, part in named.groupby(by, sort=False):
        assert isinstance(keys, tuple)  # `by` is a list
        for quantity in QUANTITIES:
            values = part[quantity].to_numpy(np.float64)
            bounds = dict(zip(("mean", "low", "high"), interval(values, level), strict=True))
            lines.append(
                {
                    **dict(zip(by, keys, strict=True)),
                    "quantity": quantity,
                    **bounds,
                    "seeds": int((~np.isnan(values)).sum()),
                }
            )
    return pd.DataFrame(lines, columns=[*by, "quantity", "mean", "low", "high", "seeds"])


def _resampled(atoms: Mapping[str, Array], resamples: int) -> dict[str, Array]:
    """Sums over images drawn with replacement, `resamples` times; the same draws for every suite of as many images,
    so that intervals of two restorers on one suite are of the same draws."""
    rng = np.random.default_rng(0)
    table = np.stack([atoms[name] for name in _POOLED], axis=1)
    count = len(table)
    parts = []
    at_once = max(1, 2**22 // count)  # 32 MB of counts
    for first in range(0, resamples, at_once):
        lot = min(at_once, resamples - first)
        drawn = rng.integers(count, size=(lot, count)) + count * np.arange(lot)[:, None]
        times = np.bincount(drawn.ravel(), minlength=lot * count).reshape(lot, count)
        parts.append(times @ table)
    return dict(zip(_POOLED, np.concatenate(parts).T, strict=True))


def image_interval(
    atoms: Mapping[str, ArrayLike], quantity: str, level: float = 0.95, resamples: int = 1000
) -> tuple[float, float, float]:
    """(mean, low, high) of a quantity over one suite's images: what another draw of images would change.

    A mean over images has a t interval. A pooled quantity has the percentile interval of a bootstrap over images
    (Efron 1979), seeded, ends NaN for a single image. `atoms` holds one value per image for each atom.
    """
    full, found = _arrays(atoms), _quantity(quantity)
    if found.pooled is None:
        return interval(full[found.of or quantity], level)
    return _pooled_interval(found, full, _resampled(full, resamples), level)


def _pooled_interval(
    quantity: Quantity, atoms: Mapping[str, Array], resampled: Sums, level: float
) -> tuple[float, float, float]:
    assert quantity.pooled is not None
    mean = float(quantity.pooled(_sums(atoms, np.zeros(1, np.int64)))[0])
    drawn = quantity.pooled(resampled)
    drawn = drawn[~np.isnan(drawn)]  # draws of none but images that say nothing
    if math.isnan(mean) or len(atoms["values"]) < 2 or not len(drawn):
        return mean, math.nan, math.nan
    low, high = np.quantile(drawn, [0.5 - level / 2, 0.5 + level / 2])
    return mean, float(low), float(high)


def summarise_with_intervals(rows: pd.DataFrame, level: float = 0.95, resamples: int = 1000) -> list[dict[str, Any]]:
    """Ready for strict JSON: one dictionary per experiment, step, suite and quantity.

    Keys: `experiment`, `step`, `suite`, `quantity`, `unit`; `mean`, `low`, `high` (see `image_interval`), each a
    finite number or None; `images`, how many in the suite; `undefined`, how many of those say nothing about the
    quantity (an empty mask, nothing stored); `note`, which says why `mean` is None: "undefined", "infinite" or
    "minus infinite" (None where it is a number).
    """
    if rows.empty:
        return []
    found = []
    for names, atoms in _wide(rows):
        resampled = _resampled(atoms, resamples)
        for quantity in QUANTITIES.values():
            if quantity.pooled is not None:
                bounds = _pooled_interval(quantity, atoms, resampled, level)
                each = quantity.pooled(atoms)
            else:
                each = atoms[quantity.of or quantity.name]
                bounds = interval(each, level)
            mean, low, high = (value if math.isfinite(value) else None for value in bounds)
            found.append(
                {
                    **names,
                    "quantity": quantity.name,
                    "unit": quantity.unit,
                    "mean": mean,
                    "low": low,
                    "high": high,
                    "images": len(each),
                    "undefined": int(np.isnan(each).sum()),
                    "note": _note(bounds[0]),
                }
            )
    return found


def _note(value: float) -> str | None:
    if math.isfinite(value):
        return None
    return "undefined" if math.isnan(value) else "infinite" if value > 0 else "minus infinite"


def bootstrapped(rows: pd.DataFrame, resamples: int = 1000) -> dict[tuple[str, int, str], dict[str, Array]]:
    """Every quantity over the images as they are, and over images drawn with replacement (Efron 1979).

    By (experiment, step, suite) and quantity an array of 1 + `resamples` values: the first is the quantity itself, the
    others are those of the draws, NaN where undefined. Whatever is computed from such arrays entry by entry (a mean
    over suites, the difference of two restorers) is again such an array: `percentiles` reads value and interval off.

    Images are drawn within each suite. Draws depend on nothing but the names of the suite's images: two restorers on
    one suite are compared on the same draws, and so are two suites that degrade the same images, as their errors are
    not independent. With a single image nothing can be drawn, and all but the first are NaN.
    """
    if rows.empty:
        return {}
    ordered = rows.sort_values("image", kind="stable")
    images = ordered.groupby(_GROUP, sort=False)["image"].agg(lambda its: tuple(dict.fromkeys(its)))
    alike: dict[tuple[str, ...], list[tuple[dict[str, Any], dict[str, Array]]]] = {}
    for its, group in zip(images, _wide(ordered), strict=True):
        alike.setdefault(its, []).append(group)
    found = {}
    for its, groups in alike.items():
        drawn = _drawn([atoms for _, atoms in groups], its, resamples)
        for (names, _), values in zip(groups, drawn, strict=True):
            found[names["experiment"], names["step"], names["suite"]] = values
    return found


def _drawn(groups: Sequence[Mapping[str, Array]], images: Sequence[str], resamples: int) -> list[dict[str, Array]]:
    """Quantities of each group over the same draws of `images`; the first draw is of every image once."""
    tables = [np.stack(list(_summed(atoms).values()), axis=1) for atoms in groups]
    columns = list(_summed(groups[0]))
    count = len(images)
    rng = np.random.default_rng(np.frombuffer(hashlib.sha256("\n".join(images).encode()).digest(), np.uint32))
    parts: list[list[Array]] = [[table.sum(axis=0, keepdims=True)] for table in tables]
    at_once = max(1, 2**22 // count)  # 32 MB of counts
    for first in range(0, resamples, at_once):
        lot = min(at_once, resamples - first)
        if count == 1:
            for part, table in zip(parts, tables, strict=True):
                part.append(np.full((lot, table.shape[1]), np.nan))
            continue
        drawn = rng.integers(count, size=(lot, count)) + count * np.arange(lot)[:, None]
        times = np.bincount(drawn.ravel(), minlength=lot * count).reshape(lot, count).astype(np.float64)
        for part, table in zip(parts, tables, strict=True):
            part.append(times @ table)
    return [_from_sums(dict(zip(columns, np.concatenate(part).T, strict=True))) for part in parts]


def _summed(atoms: Mapping[str, Array]) -> dict[str, Array]:
    """What sums over images are needed of: the pooled atoms, and for each mean its finite values, how many are defined,
    and how many are infinite."""
    columns = {name: atoms[name] for name in _POOLED}
    for quantity in QUANTITIES.values():
        if quantity.of is not None:
            values = atoms[quantity.of]
            columns[f"{quantity.of} total"] = np.where(np.isfinite(values), values, 0.0)
            columns[f"{quantity.of} defined"] = (~np.isnan(values)).astype(np.float64)
            for sign in (1, -1):
                columns[f"{quantity.of} {sign}"] = (values == sign * math.inf).astype(np.float64)
    return columns


def _from_sums(sums: Mapping[str, Array]) -> dict[str, Array]:
    found = {}
    for quantity in QUANTITIES.values():
        if quantity.pooled is not None:
            found[quantity.name] = quantity.pooled(sums)
            continue
        assert quantity.of is not None
        above, below = (sums[f"{quantity.of} {sign}"] > 0 for sign in (1, -1))
        mean = _ratio(sums[f"{quantity.of} total"], sums[f"{quantity.of} defined"])
        mean = np.where(above, math.inf, np.where(below, -math.inf, mean))
        found[quantity.name] = np.where(above & below | np.isnan(sums[f"{quantity.of} defined"]), math.nan, mean)
    return found


def percentiles(values: Array, level: float = 0.95) -> tuple[float, float, float]:
    """(value, low, high) of an array as `bootstrapped` makes them: its first entry, and percentiles of the others.

    Both ends are NaN where the value is not finite, or no draw is.
    """
    value, drawn = float(values[0]), values[1:][np.isfinite(values[1:])]
    if not math.isfinite(value) or not len(drawn):
        return value, math.nan, math.nan
    low, high = np.quantile(drawn, [0.5 - level / 2, 0.5 + level / 2])
    return value, float(low), float(high)


def mean_over(summary: pd.DataFrame, suites: Sequence[str]) -> pd.DataFrame:
    """The mean of each quantity over *all* of `suites`, one line per experiment and step, in order of appearance.

    Every suite counts the same, whatever its number of images. Quantities that are pooled over images are pooled
    within a suite and then averaged over suites as the others are. A line that lacks a suite, or for which a quantity
    is undefined in one, has NaN there: a mean over what happens to be left would compare unlike things.
    Columns: `experiment`, `step`, `suites` (how many of them the line has), `images` (their sum), QUANTITIES.
    Raises ConfigError where no suite is named, one is named twice, or one is nowhere in `summary`.
    """
    known = list(dict.fromkeys(summary["suite"]))
    absent = [suite for suite in suites if suite not in known]
    if absent or not suites or len(set(suites)) != len(suites):
        raise ConfigError(
            f"Cannot average over the suites {', '.join(suites) or '(none)'}: expected some of "
            f"{', '.join(known) or '(none)'}, each once. Name suites that were evaluated."
        )
    part = summary[summary["suite"].isin(list(suites))]
    grouped = part.groupby(["experiment", "step"], sort=False)
    found = pd.DataFrame({"suites": grouped["suite"].nunique(), "images": grouped["images"].sum()})
    for quantity in QUANTITIES:
        total = np.asarray(grouped[quantity].sum(), np.float64)
        defined = np.asarray(grouped[quantity].count()) == len(suites)
        found[quantity] = np.where(defined, total / len(suites), np.nan)
    return found.reset_index()


def generalization_gap(
    summary: pd.DataFrame, seen: Sequence[str], unseen: Sequence[str], quantity: str = "gain_rgb"
) -> pd.DataFrame:
    """Mean gain on seen suites less mean gain on unseen ones, in dB; the suites should be of the same clean images.

    Lower is better, but it is won by doing badly on seen data: it comes beside `seen` and `unseen`, the two means.
    Columns: `experiment`, `step`, `seen`, `unseen`, `gap`. Lines without either kind of suite are left out.
    """
    if quantity not in ("gain_rgb", "gain_y"):
        raise ConfigError(f"A generalization gap is of gain_rgb or gain_y, not of {quantity}.")
    both = mean_over(summary, seen).merge(
        mean_over(summary, unseen), on=["experiment", "step"], suffixes=("", "_unseen")
    )
    found = both[["experiment", "step"]].assign(seen=both[quantity], unseen=both[f"{quantity}_unseen"])
    return found.assign(gap=found["seen"] - found["unseen"])


def generalization_error(
    summary: pd.DataFrame, unseen: Sequence[str], reference: Sequence[str], reference_step: int
) -> pd.DataFrame:
    """Mean MSE over all named unseen suites, relative to that of ordinary training.

    `reference` names its experiments (one per seed; their mean counts), after `reference_step` steps.
    Columns: `experiment`, `step`, `mse`, `change` (-0.37 is 37 % less) and `decibels`, the same as 10 log10 of the
    reference's MSE over this one's (-37 % is +2.0 dB).
    """
    means = mean_over(summary, unseen).loc[:, ["experiment", "step", "mse"]]
    named = (
        np.isin(means["experiment"].to_numpy(object), list(reference)) & (means["step"] == reference_step).to_numpy()
    )
    base = means["mse"].to_numpy(np.float64)[named & (means["mse"] > 0).to_numpy()]
    if len(base) != len(set(reference)) or not len(base):
        raise ConfigError(
            f"The reference {', '.join(reference) or '(none)'} at step {reference_step} has {len(base)} lines with an "
            f"MSE above 0 over all of {', '.join(unseen)}; expected one per experiment. Evaluate it on those suites."
        )
    relative = means["mse"] / float(base.mean())
    with np.errstate(divide="ignore"):  # a perfect restorer
        return means.assign(change=relative - 1, decibels=-10 * np.log10(relative))


def display(quantity: str, value: float | None) -> str:
    """A value as tables print it: dB with 2 decimals and at most ">100", MSE with 3 significant digits, all else with
    3 decimals; "-" where undefined."""
    found = _quantity(quantity)
    if value is None or math.isnan(value):
        return "-"
    if found.unit == "dB":
        if abs(value) > 100:
            return ">100" if value > 0 else "<-100"
        text = f"{value:.2f}"
    else:
        text = f"{value:.3g}" if quantity == "mse" else f"{value:.3f}"
    return text.removeprefix("-") if float(text) == 0 else text
