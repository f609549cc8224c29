"""Degradations: one member, one file. Adding one is its file and its entry in `ALL`.

Named ones of every kind: `preset`, and the lists of names, by family (the file that a kind is at home in).
"""

from functools import cache
from itertools import combinations
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

import numpy as np
from pydantic import BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from unseen.degradations.base import MASK_THRESHOLD, Color, Degradation, essence, mask_of
from unseen.degradations.blur import (
    BLURS,
    CameraShake,
    DefocusBlur,
    GaussianBlur,
    KernelBlur,
    MotionBlur,
)
from unseen.degradations.haze import Haze
from unseen.degradations.mixture import Mixture
from unseen.degradations.noise import (
    JPEG,
    NOISES,
    CameraNoise,
    CorrelatedNoise,
    GaussianNoise,
    PoissonNoise,
    Quantisation,
    SaltAndPepper,
    SpeckleNoise,
)
from unseen.degradations.rain import Rain
from unseen.errors import ConfigError, not_known
from unseen.ranges import Choice, Frozen, Range, one_of

ALL: tuple[type[Degradation], ...] = (Rain, *NOISES, *BLURS, Haze, Mixture)

PARTS = 12
"""How many sets of factors that widen at once are met at most (`few_at_once`)."""

_HOMES: dict[str, type[Degradation]] = {name: kind for kind in ALL for name in kind.presets}


def _with_kind(value: Any) -> Any:
    """A preset tells its kind: `{preset: poisson}`. What goes from one degradation to another is what `widened` makes
    of it: `{from: {preset: medium}, to: {preset: wide}, factors: 3, narrow: 0.5}`."""
    if isinstance(value, dict) and ("from" in value or "to" in value):
        try:
            return _Way.model_validate(value).made
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"])
            raise ValueError(f"{where}: {first['msg'].removeprefix('Value error, ')}") from error
    if isinstance(value, dict) and "kind" not in value and "preset" in value:
        return {"kind": _home(value["preset"]).__name__, **value}
    return value


if TYPE_CHECKING:
    AnyDegradation = Degradation
else:
    AnyDegradation = Annotated[one_of(ALL), BeforeValidator(_with_kind)]
    Mixture.model_rebuild(_types_namespace={"AnyDegradation": AnyDegradation})


class _Way(Frozen):
    """What `widened` takes, as it is written."""

    model_config = ConfigDict(populate_by_name=True)

    kind: Literal["Mixture"] = "Mixture"
    start: AnyDegradation = Field(alias="from")
    end: AnyDegradation = Field(alias="to")
    widening: float = Field(default=1.0, ge=0, le=1)
    factors: int | None = Field(default=None, ge=1)
    whole: float = Field(default=0.0, ge=0, lt=1)
    narrow: float = Field(default=0.0, ge=0, lt=1)

    @model_validator(mode="after")
    def _of_factors(self) -> Self:
        given = "factors" if self.factors is not None else "whole" if self.whole else None
        if given and not differing(self.start, self.end):
            raise ValueError(
                f"{given} is for two degradations of one kind that differ in some of its factors, and these do not: "
                "leave it out"
            )
        return self

    @property
    def made(self) -> Degradation:
        return widened(self.start, self.end, self.widening, self.factors, self.whole, self.narrow)


def _home(name: Any) -> type[Degradation]:
    if not isinstance(name, str) or name not in _HOMES:
        raise ConfigError(not_known("degradation", name, _HOMES))
    return _HOMES[name]


def preset(name: str, scale: float = 1.0) -> Degradation:
    """A named degradation of any kind. ConfigError where there is none of that name, or not of that scale.

    `scale` multiplies its sizes in pixels (streaks of rain, kernels of blur); noise, which has none, does not change.
    """
    kind = _home(name)
    try:
        return kind.preset(name, scale=scale)
    except ValidationError as error:
        said = error.errors()[0]["msg"].removeprefix("Value error, ")
        raise ConfigError(f"The degradation '{name}' at scale {scale:g}: {said}.") from error


@cache
def _families() -> dict[str, str]:
    return {name: preset(name).family for name in _HOMES}


def families() -> tuple[str, ...]:
    """The families that have named degradations: "rain", "noise", ..."""
    return tuple(dict.fromkeys(_families().values()))


def preset_names(family: str | None = None, use: Literal["training", "tests"] | None = None) -> tuple[str, ...]:
    """The named degradations, of one family or of all: those to train on, those to test on, or all of them.

    ConfigError where there is no such family.
    """
    if family is not None and family not in families():
        raise ConfigError(not_known("family of degradations", family, families()))
    names = (name for name, home in _families().items() if family in (None, home))
    return tuple(name for name in names if use is None or name in getattr(_HOMES[name], use))


def unseen_by(family: str, scale: float = 1.0) -> dict[str, dict[str, tuple[str, ...]]]:
    """For every test of a family and every training preset of it, the factors in which the test lies outside, computed.

    An empty tuple: that test is not unseen for that training preset.
    """
    trained = {name: preset(name, scale) for name in preset_names(family, "training")}
    return {
        test: {name: preset(test, scale).outside(degradation) for name, degradation in trained.items()}
        for test in preset_names(family, "tests")
    }


def between(start: Degradation, end: Degradation, share: float) -> Degradation:
    """A degradation between two: `start` at share 0, `end` at 1.

    Of two plain ones of a kind, the ends of every range lie between theirs, in proportion; two choices become one of
    those values of both that lie within such ends, a choice and a range a range; what is no number changes half-way.
    Two of different kinds, or mixtures, are mixed: each image meets `end` with the probability `share`.
    """
    if share <= 0 or start == end:
        return start
    if share >= 1:
        return end
    if type(start) is not type(end) or isinstance(start, Mixture):
        threshold = start.mask_threshold + share * (end.mask_threshold - start.mask_threshold)
        return Mixture(parts=(start, end), weights=(1 - share, share), mask_threshold=threshold)
    fields = {}
    for name in type(end).model_fields:
        one, other = getattr(start, name), getattr(end, name)
        if isinstance(one, Range | Choice) and isinstance(other, Range | Choice):
            fields[name] = _range_between(one, other, share)
        elif isinstance(one, float) and isinstance(other, float):
            fields[name] = one + share * (other - one)
        else:
            fields[name] = one if share < 0.5 else other
    fields["name"] = start.name if start.name == end.name else ""  # neither of the two
    return type(end).model_construct(**fields)


def widened(
    narrow: Degradation, wide: Degradation, widening: float = 1.0, factors: int | None = None, whole: float = 0.0,
    left: float = 0.0,
) -> Degradation:  # fmt: skip
    """What has `widening` of the way from `narrow` to `wide` behind it (`between`), in so many `factors` at once (None:
    in all): one of several sets of them for each image. `whole`: the share of the widened images that widen in all
    factors all the same. `left`: the share of all images that meet `narrow`. A mixture, unless there is one part."""
    met = between(narrow, wide, widening)
    if met == narrow:
        return narrow
    parts = few_at_once(narrow, met, factors)
    apart = 0.0 if parts == (met,) else whole
    shares = [(narrow, left), (met, (1 - left) * apart)]
    shares += [(part, (1 - left) * (1 - apart) / len(parts)) for part in parts]
    shares = [(part, share) for part, share in shares if share > 0]
    if len(shares) == 1:
        return shares[0][0]
    parts, weights = zip(*shares, strict=True)
    return Mixture(parts=parts, weights=weights, mask_threshold=met.mask_threshold)


def few_at_once(narrow: Degradation, wide: Degradation, factors: int | None) -> tuple[Degradation, ...]:
    """`wide` in so many of its factors and `narrow` in the others: one for each set of factors, of `PARTS` sets at
    most, in which each factor is about as often as any other. `wide` alone where these are all its factors (None).
    """
    wider = differing(narrow, wide)
    if factors is None or factors >= len(wider):
        return (wide,)
    sets = [set(each) for each in combinations(wider, factors)]
    if len(sets) > PARTS:
        shuffled = [sets[place] for place in np.random.default_rng(0).permutation(len(sets))]
        sets, often = [], dict.fromkeys(wider, 0)
        for _ in range(PARTS):
            rarest = min(shuffled, key=lambda each: sum(often[factor] for factor in each))
            shuffled.remove(rarest)
            sets.append(rarest)
            often = {factor: count + (factor in rarest) for factor, count in often.items()}
    found = []
    for each in sets:
        names = [
            name for factor in wider if factor not in each for name in (factor, *narrow.companions.get(factor, ()))
        ]
        found.append(wide.model_copy(update={**{name: getattr(narrow, name) for name in names}, "name": ""}))
    return tuple(found)


def differing(narrow: Degradation, wide: Degradation) -> list[str]:
    """The factors in which two of a kind differ, or numbers that go with them; none of two kinds."""
    if type(narrow) is not type(wide):
        return []

    def differ(factor: str) -> bool:
        own = [name for name in narrow.companions.get(factor, ()) if not isinstance(getattr(narrow, name), str)]
        return any(getattr(narrow, name) != getattr(wide, name) for name in (factor, *own))

    return [factor for factor in narrow.factors if differ(factor)]


def shortly(degradation: Degradation) -> dict[str, Any]:
    """It as one would write it: by its name, where it is a named one at a usual scale; else all of it."""
    if degradation.name in _HOMES:
        for scale in (1.0, 0.5, 0.25, 2.0):
            if preset(degradation.name, scale) == degradation:
                return {"preset": degradation.name} | ({} if scale == 1 else {"scale": scale})
    return degradation.model_dump(mode="json", exclude_none=True)


def swept(start: Degradation, end: Degradation) -> tuple[Degradation, ...]:
    """What `between` passes through on its way from one to the other, at most: of two plain ones of a kind, ranges that
    span those of both (twice, where they also differ in what is no range). Nothing of others, which are only mixed."""
    if type(start) is not type(end) or isinstance(start, Mixture):
        return ()
    spans: dict[str, object] = {"name": ""}
    for name in type(end).model_fields:
        one, other = getattr(start, name), getattr(end, name)
        if isinstance(one, Range | Choice) and isinstance(other, Range | Choice):
            spans[name] = one if one == other else Range(low=min(one.low, other.low), high=max(one.high, other.high))
        elif isinstance(one, float) and isinstance(other, float):
            spans[name] = max(one, other)  # a deviation from a range, or no factor
    found = [each.model_copy(update=spans) for each in (start, end)]
    return (found[0],) if found[0] == found[1] else tuple(found)


def _range_between(start: Range | Choice, end: Range | Choice, share: float) -> Range | Choice:
    low, high = (one + share * (other - one) for one, other in ((start.low, end.low), (start.high, end.high)))
    values: set[float] = set()
    if isinstance(start, Choice) and isinstance(end, Choice):
        values = {value for value in (*start.values, *end.values) if low <= value <= high}
    return Choice(values=tuple(sorted(values))) if values else Range(low=low, high=high)


__all__ = [
    "ALL",
    "BLURS",
    "JPEG",
    "MASK_THRESHOLD",
    "NOISES",
    "AnyDegradation",
    "CameraNoise",
    "CameraShake",
    "Color",
    "CorrelatedNoise",
    "DefocusBlur",
    "Degradation",
    "GaussianBlur",
    "GaussianNoise",
    "Haze",
    "KernelBlur",
    "Mixture",
    "MotionBlur",
    "PoissonNoise",
    "Quantisation",
    "Rain",
    "SaltAndPepper",
    "SpeckleNoise",
    "between",
    "differing",
    "essence",
    "families",
    "few_at_once",
    "mask_of",
    "preset",
    "preset_names",
    "shortly",
    "swept",
    "unseen_by",
    "widened",
]
