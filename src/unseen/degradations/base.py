"""What every degradation is: draw on the CPU, render anywhere, tell the whole truth.

To add one: a file beside `rain.py`, a class with `kind`, `sample` and `render`, and its entry in `ALL`
(`degradations/__init__.py`). Its tests come from being listed, and so do those of its presets. Where all that is drawn
are a few levels for every image, `Levelled` draws, checks and describes them.
"""

from collections.abc import Collection, Sequence
from typing import Any, ClassVar, Literal, Self

import torch
from jaxtyping import Float
from pydantic import model_validator
from torch import Tensor

from unseen.errors import ConfigError, not_known
from unseen.ranges import Frozen, overlaps
from unseen.types import Batch, Images, Masks

Levels = dict[str, Float[Tensor, "b"]]

Color = Literal["y", "rgb"]

MASK_THRESHOLD = 0.02
"""A pixel is degraded where the largest change over colour exceeds this (our reading of the paper)."""


def mask_of(degraded: Images, clean: Images, threshold: float = MASK_THRESHOLD) -> Masks:
    """1 where `max over colour of |degraded - clean| > threshold`, after clipping."""
    return ((degraded - clean).abs().amax(1, keepdim=True) > threshold).to(clean.dtype)


def essence(value: Any, without: Collection[str] = ()) -> Any:
    """What decides of a degradation dumped to JSON: without folders where a `content` says what lies in them, and
    without the keys in `without`; the parts of mixtures alike."""
    if isinstance(value, list):
        return [essence(part, without) for part in value]
    if not isinstance(value, dict):
        return value
    dropped = {*without, "folder"} if "content" in value else set(without)
    return {key: essence(part, without) for key, part in value.items() if key not in dropped}


class Degradation(Frozen):
    """Frozen, and its own configuration.

    `name` is for people (a preset's name). `mask_threshold` is part of the value because masks decide losses and
    metrics. Subclasses give `factors`: the fields in which two degradations can differ, with the period of
    those that wrap (directions: 180) or None; `companions` are fields that have no meaning without theirs.

    `presets` are the named ones of a kind, as changes to its defaults; `training` and `tests` are the names of those
    to train on and of those to test on. No name is used twice in the package. `color` is what the headline PSNR is
    read on: "y" (luma, as deraining papers print it) or "rgb". `sizes` are the fields in pixels that the `scale` of
    a preset multiplies, for small patches, and leaves alone where they are given beside it; without any, it is nothing.
    `whole` are the factors that are rounded to whole numbers. `draws` is how many draws each image of a suite is judged
    on by default: where a second one tells leakage from damage to the content, two. `widest` names the preset that
    `unseen balance` searches within where none is given.
    """

    factors: ClassVar[dict[str, float | None]] = {}
    companions: ClassVar[dict[str, tuple[str, ...]]] = {}
    presets: ClassVar[dict[str, dict[str, Any]]] = {}
    training: ClassVar[tuple[str, ...]] = ()
    tests: ClassVar[tuple[str, ...]] = ()
    color: ClassVar[Color] = "rgb"
    sizes: ClassVar[tuple[str, ...]] = ()
    whole: ClassVar[tuple[str, ...]] = ()
    draws: ClassVar[int] = 1
    widest: ClassVar[str | None] = None

    name: str = ""
    mask_threshold: float = MASK_THRESHOLD

    @classmethod
    def preset(cls, name: str, **changes: Any) -> Self:
        """A named one of this kind. ConfigError where there is none of that name."""
        return cls.model_validate({"preset": name, **changes})

    @model_validator(mode="before")
    @classmethod
    def _expand_preset(cls, value: Any) -> Any:
        if not isinstance(value, dict) or not {"preset", "scale"} & value.keys():
            return value
        given, fields = dict(value), {}
        scale = given.pop("scale", 1.0)
        if not isinstance(scale, int | float) or not 0 < scale <= 16:
            raise ConfigError(f"The scale of a degradation is a number above 0 and at most 16, not {scale!r}.")
        if "preset" in given:
            name = given.pop("preset")
            if not isinstance(name, str) or name not in cls.presets:
                raise ConfigError(not_known(cls.__name__, name, cls.presets))
            fields = {"name": name, **cls.presets[name]}
        return cls._scaled(fields, scale, given)

    @classmethod
    def _scaled(cls, fields: dict[str, Any], scale: float, given: dict[str, Any]) -> dict[str, Any]:
        """The fields of a preset, their sizes times `scale`, and what is given beside it."""
        plain = {size: fields.get(size, cls.model_fields[size].default) for size in cls.sizes}
        return {**fields, **{size: parameter.scaled(scale) for size, parameter in plain.items()}, **given}

    @property
    def family(self) -> str:
        """The file that its kind is at home in: "rain", "noise", ..."""
        return type(self).__module__.rpartition(".")[2]

    @property
    def families(self) -> tuple[str, ...]:
        """Those of all that an image may meet, each once: several only of mixtures."""
        return tuple(dict.fromkeys(link.family for chain in self.alternatives() for link in chain))

    @property
    def border(self) -> int:
        """How many pixels along each side may show what lies beyond the image, which is made up. They are left out
        of scores. 0 where every pixel comes from its own place."""
        return 0

    def sample(self, size: tuple[int, int], rngs: Sequence[torch.Generator]) -> Any:
        """Every random choice, on the CPU, for one image of `size` (h, w) per generator.

        An image's choices come from its own generator alone: they do not depend on its neighbours in the batch.
        """
        raise NotImplementedError

    def render(self, clean: Images, params: Any) -> Batch:
        """Degrade `clean`, on its device. Deterministic and vectorised."""
        raise NotImplementedError

    def describe(self) -> str:
        """Its name, and the factors that differ from the defaults of its kind, in words."""
        parts = []
        for factor in self.factors:
            value = getattr(self, factor)
            if value != type(self).model_fields[factor].default:
                parts.append(f"{factor} {value}")
        return f"{self.name or type(self).__name__}: {', '.join(parts) or 'the defaults'}"

    def changed(self, clean: Images, degraded: Images, labels: dict[str, Float[Tensor, "b"]]) -> Batch:
        """The batch of a degradation that lays nothing on top: its layer is how much the pixel changed, either way,
        the largest over colour, after clipping."""
        return Batch(
            degraded=degraded,
            clean=clean,
            layer=(degraded - clean).abs().amax(1, keepdim=True),
            mask=mask_of(degraded, clean, self.mask_threshold),
            labels=labels,
        )

    def alternatives(self) -> tuple[tuple["Degradation", ...], ...]:
        """What an image may meet: one of these chains of plain degradations. For all but mixtures, itself."""
        return ((self,),)

    def apart(self, other: "Degradation") -> tuple[str, ...]:
        """`outside`, between two plain degradations."""
        if type(self) is not type(other):
            return ("kind",)
        found = []
        for factor, period in self.factors.items():
            mine, theirs = getattr(self, factor), getattr(other, factor)
            if isinstance(mine, str):
                if mine != theirs:
                    found.append(factor)
            elif not overlaps(mine, theirs, period):
                found.append(factor)
        return tuple(found)

    def within(self, other: "Degradation") -> bool:
        """Whether all that this draws, `other` may draw, as far as ranges tell: for plain ones of a kind, or a mixture
        that has such a one among its parts."""
        return all(
            any(
                len(mine) == len(theirs) and all(one._fits_in(two) for one, two in zip(mine, theirs, strict=True))
                for theirs in other.alternatives()
            )
            for mine in self.alternatives()
        )

    def _fits_in(self, other: "Degradation") -> bool:
        if type(self) is not type(other):
            return False
        for factor in self.factors:
            mine, theirs = getattr(self, factor), getattr(other, factor)
            if mine != theirs and (isinstance(mine, str) or mine.low < theirs.low or mine.high > theirs.high):
                return False
        return True

    def outside(self, trained: "Degradation") -> tuple[str, ...]:
        """The factors in which this lies wholly outside what `trained` draws from; ("kind",) for another kind.

        Empty: not unseen for a network trained on `trained`. A mixture that draws one of several is outside only where
        each of them is; the factors are then those of the closest. Chains of several degradations are compared link by
        link, and lie outside in "chain" where they differ in length.
        """
        found = [_between(mine, theirs) for mine in self.alternatives() for theirs in trained.alternatives()]
        if not all(found):
            return ()
        if len(found) == 1:
            return found[0]
        near = [factors for factors in found if not {"kind", "chain"} & set(factors)] or found
        return tuple(sorted({factor for factors in near for factor in factors}))


class Levelled(Degradation):
    """A degradation of a few levels, each drawn once for every image and kept in `batch.labels`. Abstract.

    `bounds` holds the levels, which are fields of type `Parameter`, and the numbers that they must lie between. The
    numbers behind the levels are the first that an image's generator gives: the same address with another range gives
    the same pattern, weaker or stronger.
    """

    bounds: ClassVar[dict[str, tuple[float, float]]] = {}

    @model_validator(mode="after")
    def _in_bounds(self) -> Self:
        for level, (low, high) in self.bounds.items():
            value = getattr(self, level)
            if value.low < low or value.high > high:
                raise ValueError(f"{level} is {value}; it must lie in {low:g} to {high:g}")
        return self

    def describe(self) -> str:
        """Its name, kind and factors, in words."""
        kind = type(self).__name__
        factors = ", ".join(f"{factor} {getattr(self, factor)}" for factor in self.factors)
        return f"{self.name}: {kind}, {factors}" if self.name else f"{kind}: {factors}"

    def levels(self, rngs: Sequence[torch.Generator]) -> Levels:
        """A draw of each level for every image."""
        drawn = torch.stack([torch.rand(len(self.bounds), generator=rng) for rng in rngs])
        return {level: getattr(self, level).map(drawn[:, place]) for place, level in enumerate(self.bounds)}


def normal(size: tuple[int, int], rngs: Sequence[torch.Generator], planes: int = 3) -> Float[Tensor, "b p h w"]:
    """Standard normal numbers for every value of an image of `size` (h, w) per generator."""
    return torch.stack([torch.randn((planes, *size), generator=rng) for rng in rngs])


def each(values: Float[Tensor, "b"], images: Images) -> Float[Tensor, "b 1 1 1"]:
    """One value per image, to go with all of its pixels, on their device."""
    return values.to(images.device, non_blocking=True)[:, None, None, None]


def _between(mine: tuple[Degradation, ...], theirs: tuple[Degradation, ...]) -> tuple[str, ...]:
    """The factors in which a chain lies outside another: a chain is seen only where each of its links is."""
    if len(mine) != len(theirs):
        return ("chain",)
    return tuple(dict.fromkeys(f for one, other in zip(mine, theirs, strict=True) for f in one.apart(other)))
