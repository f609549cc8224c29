"""What a search may try, and what judges it: the space of experiments, and pseudo-unseen degradations.

No test suite takes part. Part of what may be trained on (`wide`) is held out while searching: trials widen the
degradation towards what is left (`inner`), and are judged on the rest, which none of them has met. The experiment that
comes out then widens, just as far, towards all of `wide`.
"""

import math
from typing import Any, Self

import numpy as np
from pydantic import Field, model_validator

from unseen.backgrounds import BackgroundsConfig, at_most, available, same_pool
from unseen.balance.record import LIGHTEST
from unseen.degradations import AnyDegradation, Degradation, Mixture, between, differing, shortly, widened
from unseen.errors import ConfigError
from unseen.evaluation.suites import Judge, Suite
from unseen.experiment import Experiment
from unseen.ranges import Choice, Frozen, Range

KEPT = 0.6
"""How much of the way from the narrow to the wide degradation trials may go; what lies beyond judges them."""

GAP = 0.05
"""Share of what is held out that is left free beside what is trained on, so that the two do not touch."""


SEVERAL, TOGETHER = 12, 3
"""Suites that lie beyond in several factors: how many suites, and in how many factors."""

EVERY = 3
"""Suites of the whole of the wide degradation, each with draws of its own."""


class Params(Frozen):
    """A point of the space: the complexity of content (`count`, `clean`, `weights`) and of the degradation.

    `count` of backgrounds (None: as many as ordinary training has). `widening`: how far the degradation goes from
    narrow (0) to wide (1). `factors`: in how many of its factors a sample goes there at once (None: in all; with few,
    each sample differs from ordinary training's in few respects). `whole`: the share of such samples that go there in
    all of them all the same. `narrow`: the share of samples that meet the narrow one. `until`: the share of steps over
    which it widens (0: wide from the first step). `removal`: weight of the loss where the degradation is, against 1
    elsewhere. `power` of each image's loss: below 1, faint degradations count for more. `clean`: the share of samples
    left clean. `weights` of the parts of a mixture of backgrounds.
    """

    count: int | None = None
    widening: float = Field(default=0.0, ge=0, le=1)
    factors: int | None = Field(default=None, ge=1)
    whole: float = Field(default=0.0, ge=0, lt=1)
    narrow: float = Field(default=0.0, ge=0, lt=1)
    until: float = Field(default=0.0, ge=0, le=1)
    removal: float = Field(default=1.0, gt=0)
    power: float = Field(default=1.0, gt=0, le=1)
    clean: float = Field(default=0.0, ge=0, lt=1)
    weights: tuple[float, ...] | None = None


ORDINARY = Params()
"""All backgrounds, the narrow degradation at every step, the plain loss."""


class Space(Frozen):
    """Bounds of the search, all written down before it starts.

    `experiment` is ordinary training: what is varied, and compared with. `wide` is the widest degradation that may be
    trained on: test suites outside of it stay unseen. `steps` of a trial; `rungs` are shares of them at which a poor
    trial may end early. `validation` images are kept from training to judge on, at most `images`, cut to `crop`.
    `allowed`: dB that the chosen experiment may lose on what ordinary training has seen, before it counts against a
    trial, twice; `worse`: the same of any pseudo-unseen suite. The other fields are (lowest, highest) of a parameter,
    None where it stays as it is.
    """

    experiment: Experiment
    wide: AnyDegradation
    steps: int = Field(ge=2)
    rungs: tuple[float, ...] = (0.34,)
    validation: int = Field(default=16, ge=1)
    images: int = Field(default=16, ge=1)
    crop: int = Field(default=128, ge=16)
    allowed: float = Field(default=0.5, ge=0)
    worse: float = Field(default=1.0, ge=0)
    least: int = Field(default=8, ge=1)
    widening: tuple[float, float] | None = (0.0, 1.0)
    factors: tuple[int, int] | None = (1, 12)
    whole: tuple[float, float] | None = (0.0, 0.6)
    narrow: tuple[float, float] | None = (0.0, 0.6)
    until: tuple[float, float] | None = (0.0, 0.9)
    removal: tuple[float, float] | None = (0.5, 6.0)
    power: tuple[float, float] | None = (0.25, 1.0)
    clean: tuple[float, float] | None = (0.0, 0.2)

    @model_validator(mode="after")
    def _searchable(self) -> Self:
        if not self.experiment.synthetic:
            raise ValueError(
                "balance searches over backgrounds and degradations: an experiment on pairs alone has none"
            )
        if self.experiment.schedules is not None or self.experiment.clean is not None:
            raise ValueError("the experiment has schedules or clean samples already: start from ordinary training")
        held_out(self.experiment.degradation, self.wide)
        if self._backgrounds("train").shares_images_with(self._backgrounds("validation")):
            raise ValueError(
                "some parts of the backgrounds are of one folder and hold out different numbers of its images, so that "
                "trials would be judged on what they are trained on: give these parts the same holdout"
            )
        return self

    @property
    def inner(self) -> Degradation:
        """The widest that trials are trained on."""
        return held_out(self.experiment.degradation, self.wide)[0]

    def judge(self) -> Judge:
        """What trials are judged on: "seen" is ordinary training's degradation; all others lie outside `inner`."""
        narrow, (_, suites) = self.experiment.degradation, held_out(self.experiment.degradation, self.wide)
        return Judge(
            images=self._backgrounds("validation"),
            crop=self.crop,
            limit=self.images,
            suites=(Suite(name="narrow", degradation=narrow), *suites),
            draws=1,
        )

    @property
    def reach(self) -> float:
        """How much of what the chosen experiment may widen to trials may: of its ranges, or of a mixture's parts."""
        narrow, wide = self.experiment.degradation, self.wide
        if not isinstance(wide, Mixture) or wide.mode != "one":
            return KEPT
        parts = sum(bool(part.outside(narrow)) for part in wide.parts)
        return ((parts + 1) // 2) / max(1, parts)

    @property
    def kinds(self) -> dict[str, int]:
        """In how many factors each pseudo-unseen suite lies beyond; 0 where it is of another kind of degradation."""
        narrow, (_, suites) = self.experiment.degradation, held_out(self.experiment.degradation, self.wide)
        return {
            suite.name: len(differing(narrow, suite.degradation)) for suite in suites if suite.degradation is not None
        }

    def available(self) -> int:
        """How many backgrounds trials can choose from."""
        mine = self._backgrounds("train")
        most = sum(min(available(part), part.count or math.inf) for part in mine.parts or (mine,))
        return int(min(most, mine.count or most))

    @property
    def fewest(self) -> int:
        """The least number of backgrounds that is tried: of a mixture at least one of each part. All there are where
        every part has a number of its own: there is nothing to choose."""
        parts = self.experiment.backgrounds.parts or ()
        if parts and all(part.count is not None for part in parts):
            return self.available()
        return min(max(self.least, sum(part.count or 1 for part in parts)), self.available())

    @property
    def wider(self) -> int:
        """In how many factors what trials may widen to differs from the narrow degradation: 1 where it is a mixture."""
        return max(1, len(differing(self.experiment.degradation, self.inner)))

    @property
    def weights(self) -> tuple[float, ...] | None:
        """Those of the parts of ordinary training's mixture, the largest 1: as given, or by their numbers of images."""
        mine = self._backgrounds("train")
        if mine.parts is None:
            return None
        weights = mine.weights or [min(available(part), part.count or math.inf) for part in mine.parts]
        return tuple(max(LIGHTEST, weight / max(weights)) for weight in weights)

    def trial(self, params: Params) -> Experiment:
        """The experiment of a trial."""
        steps = self.steps
        rungs = tuple(sorted({max(1, round(share * steps)) for share in self.rungs} - {steps}))
        whole = self.experiment.recipe
        warmup = whole.warmup * steps // whole.steps
        threads = whole.threads or 1  # trials run side by side
        recipe = whole.model_copy(update={"steps": steps, "snapshots": rungs, "warmup": warmup, "threads": threads})
        base = self.experiment.model_copy(update={"recipe": recipe, "backgrounds": self._backgrounds("train")})
        return with_params(base, params, self.inner)

    def chosen(self, params: Params) -> Experiment:
        """The experiment to train in the end: all images, and the whole of `wide`, widened as far."""
        return with_params(self.experiment, params, self.wide)

    def shortly(self, params: Params) -> dict[str, Any]:
        """The degradation of `chosen` as one would write it."""
        if params.widening == 0:
            return shortly(self.experiment.degradation)
        ends = {"from": shortly(self.experiment.degradation), "to": shortly(self.wide)}
        plain = {"widening": 1.0, "factors": None, "whole": 0.0, "narrow": 0.0}
        dials = {dial: getattr(params, dial) for dial in plain}
        return {"kind": "Mixture", **ends, **{dial: dials[dial] for dial in plain if dials[dial] != plain[dial]}}

    def _backgrounds(self, part: str) -> BackgroundsConfig:
        mine = self.experiment.backgrounds
        kept: dict[str, Any] = {"validation": self.validation, "part": part, "seed": mine.seed}
        if part == "validation":
            kept["count"] = None if mine.unit == "photographs" else self.validation
        if mine.parts is None:
            return _left(mine.model_copy(update=kept))
        share = math.ceil(self.validation / len(mine.parts))
        # Of each part its share, and of a small one no more than half; of one folder the same, whatever its parts take.
        each_own = [max(1, min(share, available(each) // 2)) for each in mine.parts]
        parts = []
        for each in mine.parts:
            few = max(own for own, other in zip(each_own, mine.parts, strict=True) if same_pool(each, other))
            number = few if each.unit == "patches" else None
            own = {"count": number} if part == "validation" else {}
            parts.append(_left(each.model_copy(update={**kept, "validation": few, "seed": each.seed, **own})))
        if part == "validation":
            return mine.model_copy(update={"parts": tuple(parts), "weights": None, "count": None})
        left = mine.model_copy(update={"parts": tuple(parts)})
        return left if mine.count is None else left.model_copy(update={"count": at_most(left, mine.count)})


def _left(config: BackgroundsConfig) -> BackgroundsConfig:
    """With a `count` of photographs no larger than what validation leaves."""
    if config.count is None or config.unit == "patches" or config.source == "leaves":
        return config
    return config.model_copy(update={"count": max(1, min(config.count, available(config)))})


def with_params(base: Experiment, params: Params, wide: Degradation) -> Experiment:
    """`base` with its complexity set to `params`."""
    narrow = base.degradation
    met = widened(narrow, wide, params.widening, params.factors, params.whole, params.narrow)
    raw = base.model_dump()
    raw["degradation"] = met.model_dump()
    if params.weights is not None:
        raw["backgrounds"]["weights"] = params.weights
    if params.count is not None:
        raw["backgrounds"]["count"] = params.count
    if base.backgrounds.parts is not None and (count := raw["backgrounds"]["count"]) is not None:
        backgrounds = BackgroundsConfig.model_validate(raw["backgrounds"])
        raw["backgrounds"]["count"] = at_most(backgrounds, count)
    if params.until > 0 and met != narrow:
        raw["schedules"] = {"degradation": {"start": narrow.model_dump(), "until": params.until}}
    if params.clean > 0:
        raw["clean"] = params.clean
    if params.removal != 1 or params.power != 1:
        power = {"power": params.power} if params.power != 1 else {}
        raw["recipe"]["loss"] = {"kind": "Decoupled", "removal": params.removal, **power}
    return Experiment.model_validate(raw)


def held_out(narrow: Degradation, wide: Degradation) -> tuple[Degradation, tuple[Suite, ...]]:
    """What trials may widen to, and suites outside of that: pseudo-unseen, because all of it lies within `wide`.

    Between two of a kind, the outer part of every range that is wider: one at a time (both ends of it), then
    `TOGETHER` of these at once, drawn `SEVERAL` times, then the wide degradation as a whole, whose images may differ
    in every factor and nearly all of which lie beyond in some: what nobody has seen may differ in one thing, in
    several, or in everything. Of a mixture the second half of its parts. ConfigError where nothing is left to hold out.
    """
    if isinstance(wide, Mixture) and wide.mode == "one":
        weights = wide.weights or (1.0,) * len(wide.parts)
        shares = [(part, share) for part, share in zip(wide.parts, weights, strict=True) if part.outside(narrow)]
        kept, rest = shares[: (len(shares) + 1) // 2], shares[(len(shares) + 1) // 2 :]
        # As often as its parts are met in the wide one, and the narrow one as often as what is of it there.
        own = sum(weights) - sum(share for _, share in shares) or sum(weights) / len(weights)
        inner = Mixture(
            parts=(narrow, *(part for part, _ in kept)),
            weights=None if wide.weights is None else (own, *(share for _, share in kept)),
        )
        judges = [part for part, _ in rest if part.outside(inner)]
        if not kept or not judges:
            raise ConfigError(
                "A mixture to search within needs at least two parts beyond what is trained on: one to widen to, and "
                "one beyond that to judge by."
            )
        return inner, tuple(Suite(name=_named(part, place), degradation=part) for place, part in enumerate(judges))
    if type(narrow) is not type(wide):
        raise ConfigError(
            f"{type(wide).__name__} is of another kind than {type(narrow).__name__}: search within a wider range of "
            "the same kind, or within a mixture of several."
        )
    inner = between(narrow, wide, KEPT)
    whole = type(narrow).whole
    beyond: dict[str, dict[str, Any]] = {}
    suites = []
    for factor in narrow.factors:
        mine, most = getattr(inner, factor), getattr(wide, factor)
        if not isinstance(most, Range | Choice) or not isinstance(mine, Range | Choice):
            continue
        for side, values in (
            ("above", _above(mine, most, factor in whole)),
            ("below", _below(mine, most, factor in whole)),
        ):
            if values is not None and (alone := _only(narrow, {factor: values})).outside(inner):
                suites.append(Suite(name=f"{factor} {side}", degradation=alone))
                beyond.setdefault(factor, {})[side] = values
    if not suites:
        raise ConfigError(
            "There is nothing to search within: the wide degradation goes nowhere beyond the narrow one. Give a wider "
            "one with --within."
        )
    everything = [Suite(name=f"everything {place}", degradation=_only(wide, {})) for place in range(1, EVERY + 1)]
    return inner, (*suites, *_together(narrow, beyond), *(everything if len(beyond) > TOGETHER else []))


def _together(narrow: Degradation, beyond: dict[str, dict[str, Any]]) -> list[Suite]:
    """`SEVERAL` suites, no two alike, of `TOGETHER` factors that each lie beyond, at a side drawn by a fixed seed."""
    rng = np.random.default_rng(0)
    together = min(TOGETHER, len(beyond))
    found: dict[str, Suite] = {}
    for _ in range(10 * SEVERAL if together > 1 else 0):
        places = sorted(rng.choice(len(beyond), together, replace=False))
        changes, words = {}, []
        for factor in (list(beyond)[place] for place in places):
            side = list(beyond[factor])[rng.integers(len(beyond[factor]))]
            changes[factor] = beyond[factor][side]
            words.append(f"{factor} {side}")
        name = " and ".join(words)
        found.setdefault(name, Suite(name=name, degradation=_only(narrow, changes)))
        if len(found) == SEVERAL:
            break
    return list(found.values())


def _named(part: Degradation, place: int) -> str:
    return part.name or f"{type(part).__name__} {place}"


def _only(narrow: Degradation, changes: dict[str, Any]) -> Degradation:
    return narrow.model_copy(update={**changes, "name": ""})


def _above(inner: Range | Choice, wide: Range | Choice, whole: bool) -> Range | Choice | None:
    """What of `wide` lies above `inner`, but for a gap."""
    if wide.high <= inner.high:
        return None
    if isinstance(wide, Choice):
        values = tuple(value for value in wide.values if value > inner.high)
        return Choice(values=values) if values else None
    if whole:
        low = math.floor(inner.high + 0.5) + 1
        return Range(low=low, high=wide.high) if low <= wide.high else None
    return Range(low=inner.high + GAP * (wide.high - inner.high), high=wide.high)


def _below(inner: Range | Choice, wide: Range | Choice, whole: bool) -> Range | Choice | None:
    if wide.low >= inner.low:
        return None
    if isinstance(wide, Choice):
        values = tuple(value for value in wide.values if value < inner.low)
        return Choice(values=values) if values else None
    if whole:
        high = math.floor(inner.low + 0.5) - 1
        return Range(low=wide.low, high=high) if wide.low <= high else None
    return Range(low=wide.low, high=inner.low - GAP * (inner.low - wide.low))
