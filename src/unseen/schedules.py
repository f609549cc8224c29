"""Schedules: dials that turn while a network trains, so that complexity is controlled from the first step to the last.

A schedule says where a dial starts, and when it reaches what the experiment itself says: every dial ends there. What
a network has met in the end is therefore what its experiment names, whatever came before.
"""

import math
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, field_validator, model_validator

from unseen.backgrounds import Dials
from unseen.degradations import AnyDegradation, Degradation, between
from unseen.ranges import Frozen, number_in

Shape = Literal["linear", "cosine", "geometric"]


class Ramp(Frozen):
    """From `start`, held until the share `after` of all steps, to the experiment's own value, reached at the share
    `until`. `shape`: "linear", along a half "cosine", or "geometric", by equal factors. In YAML a plain number is a
    start: `clean: 0.5`.
    """

    start: float
    after: float = Field(default=0.0, ge=0, lt=1)
    until: float = Field(default=0.5, gt=0, le=1)
    shape: Shape = "linear"

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.after >= self.until:
            raise ValueError(f"after is {self.after:g}, not before until, {self.until:g}: both are shares of all steps")
        return self

    def share(self, step: int, steps: int) -> float:
        """How far it has come by `step` (from 0) of `steps`, in [0, 1]."""
        way = min(1.0, max(0.0, (step / steps - self.after) / (self.until - self.after)))
        return (1 - math.cos(math.pi * way)) / 2 if self.shape == "cosine" else way

    def at(self, step: int, steps: int, end: float) -> float:
        """The value at a step, on the way to `end`."""
        share = self.share(step, steps)
        if self.shape == "geometric":
            return self.start ** (1 - share) * end**share
        return self.start + share * (end - self.start)


class WeightsRamp(Ramp):
    """A ramp of the weights of a mixture of backgrounds, both ends made to add up to 1."""

    start: tuple[float, ...]  # pyright: ignore[reportIncompatibleVariableOverride]
    shape: Literal["linear", "cosine"] = "linear"  # pyright: ignore[reportIncompatibleVariableOverride]

    @field_validator("start")
    @classmethod
    def _some(cls, start: tuple[float, ...]) -> tuple[float, ...]:
        if not start or min(start) < 0 or sum(start) <= 0:
            raise ValueError("start holds a weight of at least 0 for every part, not all of them 0")
        return start


class DegradationRamp(Ramp):
    """From another degradation to the experiment's, say from narrow to wide (`unseen.degradations.between`)."""

    start: AnyDegradation  # pyright: ignore[reportIncompatibleVariableOverride]
    shape: Literal["linear", "cosine"] = "linear"  # pyright: ignore[reportIncompatibleVariableOverride]


def _number_as_start(value: Any) -> Any:
    value = number_in(value)
    if isinstance(value, int | float) and not isinstance(value, bool):
        return {"start": value}
    return value


AnyRamp = Annotated[Ramp, BeforeValidator(_number_as_start)]


class Schedules(Frozen):
    """Which dials turn. `count`: of backgrounds, nested subsets. `weights`: of the parts of a mixture of backgrounds.
    `smooth` (pixels) and `shrink` (times): of content. `patch`: the side of samples, in pixels. `clean`: the share of
    synthetic samples that are not degraded. `degradation`: what the others meet. None: stays as the experiment has it.
    """

    count: AnyRamp | None = None
    weights: WeightsRamp | None = None
    smooth: AnyRamp | None = None
    shrink: AnyRamp | None = None
    patch: AnyRamp | None = None
    clean: AnyRamp | None = None
    degradation: DegradationRamp | None = None

    @model_validator(mode="after")
    def _in_bounds(self) -> Self:
        for dial, low, high in (("count", 1, None), ("smooth", 0, 64), ("shrink", 1, 32), ("patch", 1, None),
                                ("clean", 0, 1)):  # fmt: skip
            ramp = getattr(self, dial)
            if ramp is None:
                continue
            if ramp.start < low or (high is not None and ramp.start > high):
                most = "" if high is None else f" and at most {high}"
                raise ValueError(f"{dial} starts at {ramp.start:g}; it must be at least {low}{most}")
            if ramp.shape == "geometric" and dial in ("smooth", "clean"):
                raise ValueError(f"{dial} may be 0, which no factor reaches: its shape is linear or cosine")
        return self


class Course:
    """The dials of one experiment at every step. Pure: a step's dials depend on its number alone."""

    def __init__(
        self,
        schedules: Schedules | None,
        steps: int,
        *,
        degradation: Degradation,
        patch: int,
        clean: float = 0.0,
        images: int = 0,
        weights: tuple[float, ...] | None = None,
        smooth: float = 0.0,
        shrink: float = 1.0,
    ) -> None:
        self.schedules, self.steps = schedules or Schedules(), steps
        self._degradation, self._patch, self._clean, self._images = degradation, patch, clean, images
        self._weights, self._smooth, self._shrink = weights, smooth, shrink

    def _at(self, ramp: Ramp | None, step: int, end: float) -> float:
        return end if ramp is None else ramp.at(step, self.steps, end)

    def patch(self, step: int) -> int:
        """The side of samples in pixels."""
        return round(self._at(self.schedules.patch, step, float(self._patch)))

    def clean(self, step: int) -> float:
        """The share of synthetic samples that are not degraded."""
        return self._at(self.schedules.clean, step, self._clean)

    def degradation(self, step: int) -> Degradation:
        """What the others meet."""
        ramp = self.schedules.degradation
        if ramp is None:
            return self._degradation
        return between(ramp.start, self._degradation, ramp.share(step, self.steps))

    def dials(self, step: int) -> Dials:
        """Those of the backgrounds."""
        s = self.schedules
        return Dials(
            count=None if s.count is None else max(1, round(s.count.at(step, self.steps, float(self._images)))),
            weights=None if s.weights is None else self._weights_at(s.weights, step),
            smooth=None if s.smooth is None else s.smooth.at(step, self.steps, self._smooth),
            shrink=None if s.shrink is None else s.shrink.at(step, self.steps, self._shrink),
        )

    def _weights_at(self, ramp: WeightsRamp, step: int) -> tuple[float, ...]:
        assert self._weights is not None
        share = ramp.share(step, self.steps)
        start, end = ([value / sum(some) for value in some] for some in (ramp.start, self._weights))
        return tuple(one + share * (other - one) for one, other in zip(start, end, strict=True))
