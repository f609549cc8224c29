"""Mixtures: one of several degradations for every image, or several of them one after the other. Of any kinds."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import torch
from jaxtyping import Float, Int
from pydantic import Field, model_validator
from torch import Tensor

from unseen.degradations.base import Color, Degradation
from unseen.ranges import Range
from unseen.seeding import generator
from unseen.types import Batch, Images

if TYPE_CHECKING:
    AnyDegradation = Degradation  # at run time every kind there is: `unseen.degradations` fills it in


@dataclass(frozen=True, slots=True)
class MixtureParams:
    """What was drawn, part by part: the images that it degrades, and its own parameters (None: no image)."""

    count: int
    parts: tuple[tuple[Int[Tensor, "_"], Any], ...]  # Any: every kind has parameters of its own type
    labels: dict[str, Float[Tensor, "b"]]


class Mixture(Degradation):
    """`mode` "one": each image meets one of `parts`, drawn by `weights` (none given: each equally often). "sequence":
    every image meets all parts in their order, each on what the one before left, clipped to [0, 1].

    Parts are degradations of any kind, mixtures too; a `scale` multiplies those of a preset's parts. Each draws from a
    generator of its own for every image, so that a change to one part leaves the draws of the others as they were.
    Labels: of "one" the number of the part, from 0; of a sequence those of its parts, after their number: `0.sigma`.

    `mask_threshold` is that of its parts, unless it is given; parts of several need one that is.

    It is outside of what was trained on, or that outside of it, as `Degradation.outside` says: one of several only
    where each of them is; a sequence where one of its parts is.
    """

    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "noises": {
            "parts": (
                {"kind": "GaussianNoise", "sigma": Range(low=5, high=50)},
                {"kind": "PoissonNoise", "photons": Range(low=20, high=200)},
                {"kind": "SpeckleNoise", "strength": Range(low=0.05, high=0.4)},
            ),
        },
        "noise-chain": {
            "mode": "sequence",
            "parts": (
                {"kind": "PoissonNoise", "photons": Range(low=60, high=120)},
                {"kind": "CorrelatedNoise", "sigma": Range(low=5, high=15), "length": 2},
                {"kind": "JPEG", "quality": Range(low=20, high=60)},
            ),
        },
        "blurs": {"parts": ({"preset": "motion"}, {"preset": "gaussian-blur"}, {"preset": "defocus"})},
        "blur-chain": {
            "mode": "sequence",
            "parts": ({"preset": "defocus", "scale": 0.5, "noise": 0}, {"preset": "shake", "scale": 0.5}),
        },
    }
    training: ClassVar[tuple[str, ...]] = ("noises", "blurs")
    tests: ClassVar[tuple[str, ...]] = ("noise-chain", "blur-chain")

    kind: Literal["Mixture"] = "Mixture"
    parts: tuple["AnyDegradation", ...] = Field(min_length=1)
    mode: Literal["one", "sequence"] = "one"
    weights: tuple[float, ...] | None = None

    @model_validator(mode="after")
    def _weighed(self) -> Self:
        if self.weights is None:
            return self
        if self.mode == "sequence":
            raise ValueError("a sequence takes all of its parts: leave weights out, or set mode to one")
        if len(self.weights) != len(self.parts):
            raise ValueError(f"there are {len(self.weights)} weights for {len(self.parts)} parts: give one for each")
        if min(self.weights) <= 0:
            raise ValueError(f"a weight is {min(self.weights):g}; all must be above 0: leave out what never comes")
        return self

    @model_validator(mode="after")
    def _one_threshold(self) -> Self:
        if "mask_threshold" not in self.model_fields_set:
            thresholds = {part.mask_threshold for part in self.parts}
            if len(thresholds) > 1:
                seen = ", ".join(f"{threshold:g}" for threshold in sorted(thresholds))
                raise ValueError(f"mask_threshold differs from part to part ({seen}): give the mixture its own")
            object.__setattr__(self, "mask_threshold", thresholds.pop())  # frozen for everybody else
        return self

    @classmethod
    def _scaled(cls, fields: dict[str, Any], scale: float, given: dict[str, Any]) -> dict[str, Any]:
        if scale != 1 and "parts" not in fields:
            raise ValueError(
                "scale multiplies the sizes of a mixture's preset, and none is given: give each part its own"
            )
        if "parts" in fields:
            fields = {**fields, "parts": [{**part, "scale": scale * part.get("scale", 1)} for part in fields["parts"]]}
        return {**fields, **given}

    @property
    def border(self) -> int:
        """The largest of its parts', where each image meets one of them; of a sequence their sum."""
        borders = [part.border for part in self.parts]
        return max(borders) if self.mode == "one" else sum(borders)

    @property
    def family(self) -> str:
        """That of its parts, where they are all of one; else "mixture"."""
        families = {part.family for part in self.parts}
        return families.pop() if len(families) == 1 else "mixture"

    @property
    def color(self) -> Color:  # pyright: ignore[reportIncompatibleVariableOverride]
        """That of its parts, where they are all of one; else "rgb"."""
        return "y" if all(part.color == "y" for part in self.parts) else "rgb"

    @property
    def draws(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride]
        """As many as every one of its parts asks for."""
        return min(part.draws for part in self.parts)

    def describe(self) -> str:
        """Its name and its parts, in words."""
        how = "one of" if self.mode == "one" else "in sequence"
        return f"{self.name or 'Mixture'}: {how} ({'; '.join(part.describe() for part in self.parts)})"

    def alternatives(self) -> tuple[tuple[Degradation, ...], ...]:
        """What an image may meet: one of these chains of plain degradations."""
        of_parts = [part.alternatives() for part in self.parts]
        if self.mode == "one":
            return tuple(chain for chains in of_parts for chain in chains)
        return tuple(tuple(link for chain in chains for link in chain) for chains in product(*of_parts))

    def sample(self, size: tuple[int, int], rngs: Sequence[torch.Generator]) -> MixtureParams:
        """The part of every image, and what that part draws for it; of a sequence, what each part draws for all."""
        seeds = [int(torch.randint(2**62, (), generator=rng)) for rng in rngs]
        drawn = torch.stack([torch.rand((), generator=rng, dtype=torch.float64) for rng in rngs])
        weights = torch.tensor(self.weights or [1.0] * len(self.parts), dtype=torch.float64)
        ends = weights.cumsum(0) / weights.sum()
        chosen = torch.searchsorted(ends, drawn, right=True).clamp_(max=len(self.parts) - 1)
        labels = {"part": chosen.float()} if self.mode == "one" else {}
        found = []
        for number, part in enumerate(self.parts):
            met = (chosen == number) if self.mode == "one" else torch.ones_like(chosen, dtype=torch.bool)
            mine = met.nonzero()[:, 0]
            own = [generator(seeds[image], "part", number) for image in mine.tolist()]
            params = part.sample(size, own) if own else None
            found.append((mine, params))
            if self.mode == "sequence" and params is not None:
                labels |= {f"{number}.{label}": values for label, values in params.labels.items()}
        return MixtureParams(count=len(rngs), parts=tuple(found), labels=labels)

    def render(self, clean: Images, params: MixtureParams) -> Batch:
        """Degrade `clean` on its device, in single precision. The layer is the largest change over colour, after
        clipping."""
        degraded = clean.float()
        for part, (images, drawn) in zip(self.parts, params.parts, strict=True):
            if len(images) == params.count:
                degraded = part.render(degraded, drawn).degraded
            elif drawn is not None:
                mine = images.to(clean.device)
                degraded = degraded.index_copy(0, mine, part.render(degraded[mine], drawn).degraded)
        return self.changed(clean, degraded.to(clean.dtype), params.labels)
