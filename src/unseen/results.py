"""A result: one model, judged on suites, as a JSON file that others can submit and anyone can recompute.

It holds no averages: per image the atoms of `unseen.rows`, of the model and of the baselines, and beside them what is
needed to make the suites again and to run the evaluation again. Whatever a page says is made from the rows when it is
written. Imports no torch; a file is from a stranger and is held to bounds before it is used.

A number is written as Python prints it (`repr`: it is read back to the last bit). JSON has no other numbers, so a value
that is undefined is `null`, and an infinite PSNR is `"inf"`.
"""

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, is_dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    StringConstraints,
    ValidationError,
    model_validator,
)

from unseen import rows
from unseen.errors import DataError, cause_of, writing
from unseen.files import whole

FORMAT = "unseen-result-1"

BASELINES = ("identity", "median", "box")
"""Restorers that know nothing, and stand beside every model."""

MODEL = "model"
"""The model among the restorers of `SuiteRows.atoms`: it may have any name, a baseline's too."""

LARGEST_FILE = 48 * 2**20
"""Bytes of a result file; seven suites of a thousand images take some ten million."""

OPTIONAL = ("ssim_rgb", "ssim_y")
"""Atoms that may be left out, as most of the time goes there."""

Values = NDArray[np.float64]


@dataclass(frozen=True)
class Picture:
    """One image of a suite as people look at it: 8-bit RGB, (h, w, 3). `model` is the name of who restored it."""

    model: str
    suite: str
    image: str
    degraded: NDArray[np.uint8]
    restored: NDArray[np.uint8]
    clean: NDArray[np.uint8] | None = None


def _one_line(text: str) -> str:
    """No control or invisible characters: a name stands in tables, and must not turn their text around."""
    if not text.isprintable() or not text.strip():
        raise ValueError("holds characters that do not print, or nothing but spaces")
    return text


def _readable(text: str) -> str:
    if not all(part.isprintable() for part in text.splitlines()):
        raise ValueError("holds characters that do not print")
    return text


def _small(value: dict[str, Any]) -> dict[str, Any]:
    if (length := len(json.dumps(value))) > 50_000:
        raise ValueError(f"takes {length:,} characters; at most 50,000 are read")
    return value


Name = Annotated[str, StringConstraints(min_length=1, max_length=300), AfterValidator(_one_line)]
Text = Annotated[str, StringConstraints(max_length=4000), AfterValidator(_readable)]
Value = Annotated[float, Field(strict=True, allow_inf_nan=False)] | Literal["inf"] | None
Facts = Annotated[dict[Name, JsonValue], AfterValidator(_small)]


class _Part(BaseModel):
    """Part of a result: immutable, unknown keys forbidden. As `unseen.ranges.Frozen`, which comes with torch."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class SuiteInfo(_Part):
    """A suite as one model met it. `group` and `outside` depend on what that model was trained on, all else does not.

    `content` is a hash of the images, degraded and clean: results are compared only where it agrees. `definition` is
    what anyone needs to make the suite again. `color`: whether headline PSNR and SSIM are on Y or in RGB; `border`:
    pixels left out on every side; `align`: whether images were aligned first. `collections` are the named
    means that the suite counts in, such as "unseen-rain". `group` is "unknown" where nobody said what the model was
    trained on.
    """

    name: Name
    kind: Literal["synthetic", "pairs"]
    group: Literal["seen", "unseen", "clean", "unknown"]
    outside: tuple[Name, ...] = Field(default=(), max_length=50)
    definition: Facts = {}
    content: Name
    images: int = Field(ge=1, le=100_000)
    color: Literal["y", "rgb"] = "rgb"
    border: int = Field(default=0, ge=0, le=10_000)
    align: bool = False
    mask: Literal["rendered", "estimated", "file"] = "rendered"
    collections: tuple[Name, ...] = Field(default=(), max_length=20)


class ModelInfo(_Part):
    """Who was judged. `content` is a hash of the weights, `trained_on` one sentence; None: not known.
    `step` counts training steps, -1 where that means nothing."""

    name: Name
    kind: Name
    parameters: int | None = Field(default=None, ge=0)
    content: Name | None = None
    trained_on: Text | None = None
    step: int = Field(default=-1, ge=-1, le=10**12)


class LeakInfo(_Part):
    """A test image that was found among the training images; `suite` None: the finder did not say which."""

    train: Text
    test: Text
    similarity: float = Field(ge=-1, le=1)
    mirrored: bool = False
    suite: Name | None = None


class SuiteRows(_Part):
    """Atoms of one suite: for each restorer (`MODEL`, and baselines) and each atom one value per image."""

    images: tuple[Name, ...]
    atoms: dict[str, dict[str, tuple[Value, ...]]]

    def values(self, restorer: str, atom: str) -> Values:
        """One value per image; NaN where undefined, or not stored."""
        column = self.atoms[restorer].get(atom)
        if column is None:
            return np.full(len(self.images), np.nan)
        return np.array([math.nan if value is None else float(value) for value in column], np.float64)


class Result(_Part):
    """One model on some suites. `leaks` None: nobody looked; empty: looked, and found none. `collections` holds all
    members of each named mean, so that a mean over fewer can say so."""

    format: Literal["unseen-result-1"] = FORMAT
    model: ModelInfo
    suites: tuple[SuiteInfo, ...] = Field(min_length=1, max_length=500)
    environment: Facts = {}
    command: Text = ""
    date: Annotated[Text, StringConstraints(max_length=60)] = ""
    seconds_per_megapixel: float | None = Field(default=None, ge=0)
    leaks: tuple[LeakInfo, ...] | None = Field(default=None, max_length=10_000)
    notes: tuple[Text, ...] = Field(default=(), max_length=50)
    collections: dict[Name, tuple[Name, ...]] = Field(default={}, max_length=20)
    rows: dict[str, SuiteRows]

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        names = [suite.name for suite in self.suites]
        if len(set(names)) < len(names) or set(names) != set(self.rows):
            raise ValueError("the suites and their rows do not have the same names, each once")
        for suite in self.suites:
            _check_rows(suite, self.rows[suite.name])
        return self

    @cached_property
    def id(self) -> str:
        """Names the result by all that is in it."""
        return hashlib.sha256(_encoded(self)).hexdigest()[:8]

    def suite(self, name: str) -> SuiteInfo:
        return next(suite for suite in self.suites if suite.name == name)

    def frame(self) -> pd.DataFrame:
        """All rows, as `unseen.rows` has them. `experiment` is the name of the model or of a baseline; where the model
        is itself called like a baseline, the baseline's rows are left out."""
        parts = []
        for suite, part in self.rows.items():
            for restorer, columns in part.atoms.items():
                if restorer != MODEL and restorer == self.model.name:
                    continue
                who, step = (self.model.name, self.model.step) if restorer == MODEL else (restorer, -1)
                atoms = {atom: part.values(restorer, atom) for atom in columns}
                parts.append(rows.rows_of(atoms, who, step, suite, part.images))
        return pd.concat(parts, ignore_index=True)


def _check_rows(suite: SuiteInfo, part: SuiteRows) -> None:
    """Raises ValueError. What an atom means binds it: most of these hold whatever a restorer does."""
    where = f"suite {suite.name}"
    if len(part.images) != suite.images or len(set(part.images)) != suite.images:
        raise ValueError(f"{where} has {suite.images} images and {len(set(part.images))} different names for them")
    if MODEL not in part.atoms or not set(part.atoms) <= {MODEL, *BASELINES}:
        raise ValueError(f"{where} has rows of {_some(part.atoms)}; expected {MODEL}, and any of {_some(BASELINES)}")
    for restorer, columns in part.atoms.items():
        here = f"{where}, {restorer}"
        if unknown := set(columns) - set(rows.ATOMS) - set(rows.MORE_ATOMS):
            raise ValueError(f"{here} has metrics that nobody knows: {_some(sorted(unknown))}")
        if lacking := set(rows.ATOMS) - set(columns) - set(OPTIONAL):
            raise ValueError(f"{here} lacks the metrics {_some(sorted(lacking))}")
        if any(len(column) != suite.images for column in columns.values()):
            raise ValueError(f"{here} does not have one value per image in every metric")
        _check_values(here, {atom: part.values(restorer, atom) for atom in columns}, not (suite.border or suite.align))


_NEVER_NEGATIVE = ("mse", "input_mse", "mask_change", "mask_degradation", "mask_error", "clear_error", "degradation")


def _check_values(where: str, atoms: Mapping[str, Values], whole: bool) -> None:
    """`whole`: every atom is of the same pixels, so that they are bound to each other."""

    def demand(holds: NDArray[np.bool_], what: str) -> None:
        if not holds.all():
            raise ValueError(f"{where}: {what} (image {int(np.argmin(holds)) + 1})")

    for atom, values in atoms.items():
        if not atom.startswith(("psnr", "input_psnr")):
            demand(~np.isinf(values), f"{atom} is infinite, which only a PSNR can be")
        if atom not in OPTIONAL:
            demand(~np.isnan(values), f"{atom} is missing")
        else:
            demand(np.isnan(values) | (np.abs(values) <= 1 + 1e-9), f"{atom} is not in [-1, 1]")
    for atom in _NEVER_NEGATIVE:
        demand(atoms[atom] >= 0, f"{atom} is negative")
    count, masked = atoms["values"], atoms["mask_values"]
    demand((count >= 1) & (masked >= 0) & (masked <= count), "the counts of values cannot be right")
    demand(atoms["mse"] <= 1 + 1e-9, "mse is above 1, which images in [0, 1] cannot have")
    if not whole:
        return
    with np.errstate(divide="ignore"):
        for before in ("", "input_"):
            expected = -10 * np.log10(atoms[f"{before}mse"])
            demand(
                np.isclose(atoms[f"{before}psnr_rgb"], expected, rtol=0, atol=1e-3),
                f"{before}psnr_rgb is not that of {before}mse",
            )
    error = atoms["mask_error"] + atoms["clear_error"]
    demand(np.isclose(error, atoms["mse"] * count, rtol=1e-5, atol=1e-9), "the errors do not add up to mse")
    demand(
        np.isclose(atoms["degradation"], atoms["input_mse"] * count, rtol=1e-5, atol=1e-9),
        "degradation is not that of input_mse",
    )
    bound = np.sqrt(atoms["mask_change"] * atoms["mask_degradation"])  # Cauchy and Schwarz
    demand(np.abs(atoms["mask_projection"]) <= bound * (1 + 1e-5) + 1e-9, "mask_projection is larger than it can be")
    bound = np.sqrt(error * atoms["degradation"])
    demand(np.abs(atoms["alignment"]) <= bound * (1 + 1e-5) + 1e-9, "alignment is larger than it can be")


def _some(names: Sequence[str] | Mapping[str, Any]) -> str:
    listed = [name if len(name) <= 40 else name[:40] + "..." for name in list(names)[:8]]
    return ", ".join(listed) + (", ..." if len(names) > 8 else "") or "(nothing)"


def result_of(
    frame: pd.DataFrame,
    model: ModelInfo,
    suites: Sequence[SuiteInfo],
    *,
    environment: Mapping[str, Any] | None = None,
    command: str = "",
    date: str = "",
    seconds_per_megapixel: float | None = None,
    leaks: Sequence[Any] | None = None,
    notes: Sequence[str] = (),
    collections: Mapping[str, Sequence[str]] | None = None,
) -> Result:
    """A result from rows as `evaluate` makes them: `experiment` is `model.name` or a baseline's. Nothing is rounded.

    `leaks` are `LeakInfo`, or mappings or dataclasses with its fields. Where `model` is named like a baseline, its rows
    are the model's. Raises DataError where rows and suites do not belong together.
    """
    found = {suite.name: _compact(frame[frame["suite"] == suite.name], suite.name, model.name) for suite in suites}
    strangers = sorted(set(frame["suite"]) - set(found))
    if strangers:
        raise DataError(f"There are rows of {_some(strangers)}, which is not among the suites {_some(list(found))}.")
    try:
        return Result.model_validate(
            {
                "model": model,
                "suites": tuple(suites),
                "environment": {key: _plain(value) for key, value in (environment or {}).items()},
                "command": command,
                "date": date,
                "seconds_per_megapixel": seconds_per_megapixel,
                "leaks": None if leaks is None else tuple(asdict(leak) if _is_other(leak) else leak for leak in leaks),
                "notes": tuple(notes),
                "collections": {name: tuple(members) for name, members in (collections or {}).items()},
                "rows": found,
            }
        )
    except ValidationError as error:
        raise DataError(f"These rows of {model.name} are not a result: {_reason(error)}.") from error


def _compact(part: pd.DataFrame, suite: str, model: str) -> dict[str, Any]:
    """Rows of one suite as `SuiteRows` has them."""
    repeated = part.duplicated(["experiment", "metric", "image"])
    if repeated.any():
        row = part[repeated].iloc[0]
        raise DataError(
            f"Rows of {row['experiment']} on {suite} hold {row['metric']} more than once for {row['image']}; expected "
            "one step of one restorer. Pick one."
        )
    images: list[str] = list(dict.fromkeys(part["image"]))
    table = part.pivot(index="image", columns=["experiment", "metric"], values="value").reindex(images)
    columns: dict[str, dict[str, list[Any]]] = {}
    for (who, metric), values in zip(table.columns, table.to_numpy(np.float64).T, strict=True):
        if not np.isnan(values).all():
            key = MODEL if who == model else str(who)
            columns.setdefault(key, {})[str(metric)] = [_as_json(value) for value in values.tolist()]
    restorers = dict.fromkeys((MODEL, *BASELINES, *columns))
    atoms = {
        key: {
            atom: columns[key][atom]
            for atom in dict.fromkeys((*rows.ATOMS, *rows.MORE_ATOMS, *columns[key]))
            if atom in columns[key]
        }
        for key in restorers
        if key in columns
    }
    printable = ["".join(letter if letter.isprintable() else "?" for letter in image) for image in images]
    return {"images": printable, "atoms": atoms}


def _is_other(leak: Any) -> bool:
    return is_dataclass(leak) and not isinstance(leak, type)


def _plain(value: Any) -> Any:
    return value if value is None or isinstance(value, str | int | float | bool | list | dict) else str(value)


def _as_json(value: float) -> float | str | None:
    """As `Value`. Minus infinity stays, and is refused."""
    return None if math.isnan(value) else "inf" if value == math.inf else value


def _encoded(result: Result) -> bytes:
    """The same bytes for the same result. The head is for people, one value a line; the rows are not."""
    whole = result.model_dump(mode="json")
    table = whole.pop("rows")
    head = json.dumps(whole, indent=1)
    return f'{head[:-2]},\n "rows": {json.dumps(table, separators=(",", ":"))}\n}}\n'.encode()


def write_result(result: Result, path: Path | str) -> None:
    """Write JSON whole, by rename: where the file is, it is complete. Makes the folder if need be."""
    path = Path(path)
    content = _encoded(result)
    with writing(path), whole(path) as temporary:
        temporary.write_bytes(content)


def read_result(path: Path | str) -> Result:
    """A result file, whoever wrote it. Raises DataError where it is absent, too large or not a result."""
    path = Path(path)
    try:
        with path.open("rb") as file:
            content = file.read(LARGEST_FILE + 1)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {cause_of(error)} Name a result file.") from error
    if len(content) > LARGEST_FILE:
        raise DataError(
            f"{path} is larger than {LARGEST_FILE // 2**20} MB, and no result is. Judge on fewer images, or check "
            "what the file is."
        )
    try:
        return Result.model_validate_json(content)
    except ValidationError as error:
        raise DataError(
            f"{path} is not a result ({FORMAT}): {_reason(error)}. Write it with `unseen evaluate`."
        ) from error


def _reason(error: ValidationError) -> str:
    """The first thing wrong, in short; what a stranger wrote is not repeated at length."""
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    place = ".".join(str(part) for part in first["loc"])
    said = first["msg"].removeprefix("Value error, ")
    text = f"{place}: {said}" if place else said
    text = "".join(letter if letter.isprintable() else "?" for letter in text)
    return text if len(text) <= 300 else text[:300] + "..."
