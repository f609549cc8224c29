"""A study: one experiment, varied along axes. Every combination is a cell, and a cell is an experiment."""

import itertools
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self, TypeVar

import yaml
from pydantic import Field, ValidationError, model_validator

from unseen.errors import ConfigError, UnseenError, cause_of, not_known
from unseen.evaluation.suites import Judge
from unseen.experiment import Experiment
from unseen.ranges import Frozen

VARIANT = "variant"
"""The axis whose values are names of variants."""

Config = TypeVar("Config", bound=Frozen)


class Study(Frozen):
    """`base` is an experiment as a mapping; `axes` maps dotted keys of it to the values they take.

    `curve` is the axis that figures draw along x, and `reference` its value that stands for ordinary training
    (null: all backgrounds). `judge` says what every cell is tested on.

    `variants` are named changes to the base, each a mapping of dotted keys to values; the axis "variant" takes their
    names: to compare methods, which differ in more than one key or have no one number.
    """

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]*$")
    question: str
    base: dict[str, Any] = Field(default_factory=dict)
    axes: dict[str, tuple[Any, ...]] = Field(default_factory=lambda: {"seed": (0,)})
    variants: dict[str, dict[str, Any]] = Field(default_factory=dict)
    curve: str = "backgrounds.count"
    reference: Any = None
    judge: Judge = Judge()

    @model_validator(mode="after")
    def _sound(self) -> Self:
        empty = [axis for axis, values in self.axes.items() if not values]
        if empty:
            raise ValueError(f"axis {empty[0]} has no values")
        if VARIANT in self.axes and (unknown := [name for name in self.axes[VARIANT] if name not in self.variants]):
            raise ValueError(
                f"axis {VARIANT} names {unknown[0]!r}, of the variants {', '.join(self.variants) or 'none'}"
            )
        if self.variants and VARIANT not in self.axes:
            raise ValueError(f"there are variants, and no axis called {VARIANT}: add it with their names as values")
        repeated = [axis for axis, values in self.axes.items() if any(values.count(value) > 1 for value in values)]
        if repeated:
            raise ValueError(f"axis {repeated[0]} repeats a value: {_as_written(self.axes[repeated[0]])}")
        if "curve" in self.model_fields_set and self.curve not in self.axes:
            raise ValueError(f"curve is {self.curve!r}, which is not an axis; there are {', '.join(self.axes)}")
        if self.curve in self.axes and self.reference not in self.axes[self.curve]:
            raise ValueError(
                f"reference is {_as_written(self.reference)}, which is not a value of axis {self.curve}: "
                f"{_as_written(self.axes[self.curve])}"
            )
        self.cells()
        return self

    def cells(self) -> list[tuple[dict[str, Any], Experiment]]:
        """Every combination of axis values and its experiment, in order: the last axis varies fastest."""
        found = []
        for values in itertools.product(*self.axes.values()):
            chosen = dict(zip(self.axes, values, strict=True))
            raw: dict[str, Any] = self.base
            for key, value in chosen.items():
                for changed, to in self.variants[value].items() if key == VARIANT else [(key, value)]:
                    raw = with_value(raw, changed, to)
            found.append((chosen, checked(Experiment, raw, f"a cell of study {self.name} ({chosen})")))
        return found


def _as_written(value: Any) -> str:
    """A value as it stands in a file: null, not None."""
    return json.dumps(value, default=str)


def with_value(raw: Mapping[str, Any], key: str, value: Any) -> dict[str, Any]:
    """A copy of a nested mapping with the value at a dotted key replaced, e.g. `recipe.steps`."""
    if key in raw:  # the axes of a study are dotted keys themselves
        return {**raw, key: value}
    first, _, rest = key.partition(".")
    inner = raw.get(first)
    if rest and not isinstance(inner, Mapping | None):
        raise ConfigError(f"{key!r} cannot be set: {first!r} is {inner!r}, not a mapping.")
    return {**raw, first: with_value(inner or {}, rest, value) if rest else value}


def checked(kind: type[Config], raw: Any, where: str) -> Config:
    """Validate a configuration; a ConfigError names every wrong key in one line each."""
    try:
        return kind.model_validate(raw)
    except ValidationError as error:
        raise ConfigError(f"{where} cannot be used:\n" + "\n".join(map(_explain, _causes(error)))) from error


def _causes(error: ValidationError) -> list[Any]:
    """What is wrong, without lists that are called too short only because what is in them is wrong."""
    items = error.errors()
    within = {item["loc"][:depth] for item in items for depth in range(len(item["loc"]))}
    return [item for item in items if item["type"] != "too_short" or item["loc"] not in within]


def _explain(item: Any) -> str:
    place = ".".join(str(part) for part in item["loc"]) or "(whole)"
    if item["type"] == "extra_forbidden":
        return f"  {place}: there is no such key. Check its spelling."
    if item["type"] == "union_tag_invalid":  # its own message lists what the code calls tags
        known = re.findall("'([^']+)'", item["ctx"]["expected_tags"])
        return f"  {place}: {not_known('kind', item['ctx']['tag'], known)}"
    seen = item.get("input")
    shown = "" if isinstance(seen, Mapping) or seen is None else f" (seen: {str(seen)[:80]!r})"
    return f"  {place}: {item['msg'].removeprefix('Value error, ')}{shown}"


def read_yaml(path: Path, changes: Sequence[str] = ()) -> dict[str, Any]:
    """A YAML file as a mapping, with `key.path=value` changes laid over it."""
    try:
        raw = yaml.safe_load(path.read_text())
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {cause_of(error)}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not YAML: {error}") from error
    if not isinstance(raw, dict):
        raise ConfigError(f"{path} holds {type(raw).__name__}, expected a mapping: keys, each with its value.")
    return apply_changes(raw, changes)


def apply_changes(raw: dict[str, Any], changes: Sequence[str]) -> dict[str, Any]:
    """Lay `key.path=value` over a mapping; values are read as YAML."""
    for change in changes:
        key, equals, text = change.partition("=")
        if not equals or not key:
            raise ConfigError(
                f"--set takes key=value, with dots between the keys of a path (--help has an example), not {change!r}."
            )
        try:
            raw = with_value(raw, key.strip(), yaml.safe_load(text))
        except yaml.YAMLError as error:
            raise ConfigError(f"The value in --set {change!r} is not YAML: {error}") from error
    return raw


def load_study(path: str | Path, changes: Sequence[str] = ()) -> Study:
    """A study from a YAML file. ConfigError names what is wrong in it."""
    path = Path(path)
    if not path.is_file():
        raise ConfigError(f"There is no study at {path}. Studies are YAML files; see studies/ for examples.")
    try:
        return checked(Study, read_yaml(path, changes), str(path))
    except ConfigError:
        raise
    except UnseenError as error:
        raise ConfigError(f"{path}: {error}") from error
