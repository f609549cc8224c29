"""What the toy is made of: an experiment, and the plane of experiments that is its study.

A `Toy` is a study in the form of `unseen.study.Study` (name, question, base, axes); it is a class of its own because
its experiments hold functions and patterns in place of photographs and rain, and are trained hundreds at a time.
"""

import hashlib
import itertools
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from pydantic import Field, model_validator

from unseen.errors import ConfigError, UnseenError
from unseen.experiment import Experiment
from unseen.ranges import Frozen, Parameter, Range
from unseen.study.study import apply_changes, checked, read_yaml, with_value

VERSION = 1
"""To be raised when the same experiment would give other rows: it is part of an experiment's id."""

ALONG, UP, START, SEED = "functions.frequencies", "noise.patterns", "network.skip", "seed"
"""The axes of a toy: along the plane, up the plane, one plane for each, and over what intervals are."""


class Functions(Frozen):
    """Random Fourier series: cosines and sines of the frequencies 1 to `frequencies`, with normal coefficients.

    The mean square of a function is 1 in expectation, whatever the number of frequencies.
    """

    frequencies: int = Field(default=1, ge=1)

    @property
    def freedom(self) -> int:
        """How many numbers name a function: a cosine and a sine for each frequency."""
        return 2 * self.frequencies


class Noise(Frozen):
    """Mixtures of fixed orthonormal patterns with normal weights; with as many as there are samples, it is white.

    `level` is the root mean square of a noise, relative to that of a function.
    """

    patterns: int = Field(default=2, ge=1)
    level: Parameter = Range(low=1.0, high=1.0)


class Network(Frozen):
    """A perceptron with `hidden` layers of `width` units, whose output is added to `skip` times its input.

    Its last layer starts at zero, so that the network starts as `skip` times the identity: with 1 everything passes
    until it is learned to be noise, with 0 nothing does until it is learned to be content, with 0.5 it takes no side.
    """

    width: int = Field(default=64, ge=1, le=1024)
    hidden: int = Field(default=2, ge=1, le=8)
    skip: float = Field(default=0.5, ge=0, le=1)


class ToyRecipe(Frozen):
    """Adam with a half cosine decay on the mean squared error, on new functions and new noise in every step.

    `snapshots` are steps after which the network is tested too, besides the last. `functions` and `draws` say how much
    each test holds: so many functions, each under so many noises.
    """

    steps: int = Field(default=400, ge=1)
    batch: int = Field(default=32, ge=1)
    learning_rate: float = Field(default=3e-3, gt=0)
    snapshots: tuple[int, ...] = (10, 30, 100)
    functions: int = Field(default=32, ge=1)
    draws: int = Field(default=8, ge=2)

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        wrong = [step for step in self.snapshots if not 0 < step < self.steps]
        if wrong or list(self.snapshots) != sorted(set(self.snapshots)):
            raise ValueError(
                f"snapshots are {list(self.snapshots)}; expected rising steps above 0 and below the {self.steps} of "
                "the training. Leave out those that are not, or train longer"
            )
        return self


class ToyExperiment(Frozen):
    """One network, on one family of functions and one noise; both have so many `samples`."""

    samples: int = Field(default=32, ge=8, le=512)
    functions: Functions = Functions()
    noise: Noise = Noise()
    network: Network = Network()
    recipe: ToyRecipe = ToyRecipe()
    seed: int = Field(default=0, ge=0)

    @model_validator(mode="after")
    def _room(self) -> Self:
        most = math.ceil(self.samples / 2) - 1
        if self.functions.frequencies > most:
            raise ValueError(
                f"{self.functions.frequencies} frequencies do not fit {self.samples} samples: at most {most} do, "
                "which leaves one to test on"
            )
        if self.noise.patterns > self.samples:
            raise ValueError(
                f"{self.noise.patterns} patterns of {self.samples} samples: at most {self.samples} can be independent"
            )
        return self

    @property
    def id(self) -> str:
        written = f"{VERSION}{self.model_dump_json()}"
        return hashlib.sha256(written.encode()).hexdigest()[:12]


class Toy(Frozen):
    """`base` is an experiment as a mapping; `axes` maps its four dotted keys to the values they take.

    The first value of `network.skip` is the plane that is drawn large. The defaults are studies/toy.yaml.
    """

    name: str = Field(default="toy", pattern=r"^[a-z0-9][a-z0-9_-]*$")
    question: str = "Which of the two does a network learn, the function or the noise?"
    base: dict[str, Any] = Field(default_factory=dict)
    axes: dict[str, tuple[Any, ...]] = Field(
        default_factory=lambda: {
            ALONG: (1, 3, 5, 7, 9, 11, 13, 15),
            UP: (2, 6, 10, 14, 18, 22, 26, 30, 32),
            START: (0.5, 0, 1),
            SEED: (0, 1, 2, 3, 4),
        }
    )

    @model_validator(mode="after")
    def _sound(self) -> Self:
        odd = [axis for axis in self.axes if axis not in (ALONG, UP, START, SEED)]
        if odd:
            raise ValueError(f"{odd[0]} is no axis of a toy; there are {ALONG}, {UP}, {START}, {SEED}. Set it in base")
        for axis in (ALONG, UP):
            if len(self.axes.get(axis, ())) < 2:
                raise ValueError(f"axis {axis} has fewer than two values: a plane needs both its axes")
        for axis, values in self.axes.items():
            if not values or any(values.count(value) > 1 for value in values):
                raise ValueError(f"axis {axis} has no values, or repeats one: {list(values)}")
        for axis in (ALONG, UP):
            if list(self.axes[axis]) != sorted(self.axes[axis]):
                raise ValueError(f"axis {axis} does not rise: {list(self.axes[axis])}")
        self.cells()
        return self

    def cells(self) -> list[ToyExperiment]:
        """Every combination of axis values, in order: the last axis varies fastest."""
        found = []
        for values in itertools.product(*self.axes.values()):
            raw: dict[str, Any] = self.base
            for key, value in zip(self.axes, values, strict=True):
                raw = with_value(raw, key, value)
            found.append(checked(ToyExperiment, raw, f"a cell of {self.name} ({', '.join(map(str, values))})"))
        return found


def is_toy(raw: Mapping[str, Any]) -> bool:
    """Whether what stands in a YAML file is a toy, not a study of images: it names what only a toy has."""
    keys = [key for part in ("base", "axes") if isinstance(raw.get(part), Mapping) for key in raw[part]]
    return any(str(key).partition(".")[0] in _OWN for key in keys)


_OWN = ToyExperiment.model_fields.keys() - Experiment.model_fields.keys()
"""The keys of an experiment that only a toy's has."""


def load_toy(path: str | Path | None = None, changes: tuple[str, ...] | list[str] = ()) -> Toy:
    """A toy from a YAML file, or the default, with `key.path=value` changes. ConfigError names what is wrong in it."""
    raw: dict[str, Any] = {}
    where = "the default toy"
    if path is not None:
        where = str(path)
        if not Path(path).is_file():
            raise ConfigError(f"There is no toy at {path}. A toy is a YAML file; see studies/toy.yaml for an example.")
        raw = read_yaml(Path(path))
    if changes:
        raw = apply_changes({**Toy().model_dump(mode="json"), **raw}, list(changes))
    try:
        return checked(Toy, raw, where)
    except ConfigError:
        raise
    except UnseenError as error:
        raise ConfigError(f"{where}: {error}") from error
