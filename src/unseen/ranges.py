"""What a parameter of a degradation is drawn from.

A parameter is a `Range` (uniform between two ends) or a `Choice` (one of some values). In YAML a plain number
is a range of no width: `width: 3`, `length: {low: 10, high: 20}`, `width: {values: [1, 2, 3]}`.
"""

import math
from typing import Annotated, Any, Self, Union

from jaxtyping import Float
from pydantic import BaseModel, BeforeValidator, ConfigDict, Discriminator, Field, Tag, model_validator
from torch import Tensor


class Frozen(BaseModel):
    """Base of every configuration: immutable, hashable by value, unknown keys forbidden."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


def one_of(members: tuple[type[Frozen], ...]) -> Any:
    """The type of a field that holds a member of a family, told apart by `kind`; without one, the first member."""
    first = members[0].model_fields["kind"].default

    def with_kind(value: Any) -> Any:
        return {"kind": first, **value} if isinstance(value, dict) else value

    if len(members) == 1:
        return Annotated[members[0], BeforeValidator(with_kind)]
    return Annotated[Union[members], Field(discriminator="kind"), BeforeValidator(with_kind)]  # noqa: UP007


class Range(Frozen):
    """Uniform in [low, high]."""

    low: float
    high: float

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.low > self.high:
            raise ValueError(f"low is {self.low:g}, above high, {self.high:g}: swap them")
        return self

    def map(self, uniform: Float[Tensor, "*n"]) -> Float[Tensor, "*n"]:
        """Turn uniform numbers in [0, 1) into draws."""
        return self.low + (self.high - self.low) * uniform

    def scaled(self, factor: float) -> "Range":
        return Range(low=self.low * factor, high=self.high * factor)

    def __str__(self) -> str:
        return f"{self.low:g}" if self.low == self.high else f"{self.low:g} to {self.high:g}"


class Choice(Frozen):
    """One of `values`, each equally often."""

    values: tuple[float, ...] = Field(min_length=1)

    @property
    def low(self) -> float:
        return min(self.values)

    @property
    def high(self) -> float:
        return max(self.values)

    def map(self, uniform: Float[Tensor, "*n"]) -> Float[Tensor, "*n"]:
        """Turn uniform numbers in [0, 1) into draws."""
        index = (uniform * len(self.values)).long().clamp_(max=len(self.values) - 1)
        return uniform.new_tensor(self.values)[index]

    def scaled(self, factor: float) -> "Choice":
        return Choice(values=tuple(value * factor for value in self.values))

    def __str__(self) -> str:
        return ", ".join(f"{value:g}" for value in self.values)


def number_in(value: Any) -> Any:
    """The number in a text, such as YAML makes of 1e-2; anything else as it is."""
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return value
    return value


def _number_as_range(value: Any) -> Any:
    value = number_in(value)
    if isinstance(value, int | float) and not isinstance(value, bool):
        return {"low": value, "high": value}
    return value


def _kind_of(value: Any) -> str | None:
    if isinstance(value, dict):
        return "Choice" if "values" in value else "Range"
    return type(value).__name__ if isinstance(value, Range | Choice) else None


Parameter = Annotated[
    Annotated[Range, Tag("Range")] | Annotated[Choice, Tag("Choice")],
    Discriminator(
        _kind_of,
        custom_error_type="parameter",
        custom_error_message="a parameter is a number, {low: 1, high: 2} or {values: [1, 2]}",
    ),
    BeforeValidator(_number_as_range),
]
"""A range, a choice, or a plain number: told apart before they are read, so that errors are of the one meant."""


def overlaps(one: Range | Choice, other: Range | Choice, period: float | None = None) -> bool:
    """Whether two parameters share a value. A choice counts as all that lies between its ends, so that
    2.5 is not called unseen by a network trained on 2 and 3. `period` wraps both (180 for directions)."""
    if period is None:
        return one.low <= other.high and other.low <= one.high
    if one.high - one.low >= period or other.high - other.low >= period:
        return True
    turns = math.floor((one.low - other.high) / period), math.ceil((one.high - other.low) / period)
    return any(
        one.low <= other.high + turn * period and other.low + turn * period <= one.high
        for turn in range(turns[0], turns[1] + 1)
    )
