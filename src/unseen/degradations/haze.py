"""Haze: light scattered into the view, more of it the farther the scene.

Koschmieder's law (1924), as dehazing papers write it (He, Sun, Tang, "Single image haze removal using dark channel
prior", CVPR 2009, equation 1), here on the sRGB-encoded image, as their test sets do:

    O = clip(B t + A (1 - t)),    t = exp(-thickness * d)

`A` is the airlight, `d` the depth in [0, 1]. Photographs come without depth, so it is made up: a mix of a ground plane
that recedes towards the top and a smooth random field (white noise, blurred), each stretched to [0, 1].
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import interpolate

from unseen.degradations.base import Levelled, Levels, each, normal
from unseen.ranges import Parameter, Range
from unseen.types import Batch, Images

CELLS = 5
"""Random numbers along each side of the smooth part of the depth: it has so many hills and valleys at most."""


@dataclass(frozen=True, slots=True)
class HazeParams:
    """What was drawn: the levels, and the coarse random field of the depth."""

    labels: Levels
    field: Float[Tensor, "b 1 rows columns"]


class Haze(Levelled):
    """`thickness` is the optical depth of the farthest point, `airlight` the brightness of the haze, `tint` how much
    redder than blue it is (below 0: bluer), `relief` the share of the random field in the depth (0: a plane)."""

    factors: ClassVar[dict[str, float | None]] = {"thickness": None, "airlight": None, "tint": None}
    bounds: ClassVar[dict[str, tuple[float, float]]] = {
        "thickness": (0, 20),
        "airlight": (0, 1),
        "tint": (-0.5, 0.5),
        "relief": (0, 1),
    }
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "haze": {},
        "haze-thick": {"thickness": Range(low=2.5, high=4)},
        "haze-dusk": {"airlight": Range(low=0.35, high=0.5)},
        "haze-dust": {"tint": Range(low=0.15, high=0.3)},
    }
    training: ClassVar[tuple[str, ...]] = ("haze",)
    tests: ClassVar[tuple[str, ...]] = ("haze-thick", "haze-dusk", "haze-dust")

    kind: Literal["Haze"] = "Haze"
    thickness: Parameter = Range(low=0.5, high=1.8)
    airlight: Parameter = Range(low=0.7, high=0.95)
    tint: Parameter = Range(low=-0.05, high=0.05)
    relief: Parameter = Range(low=0.2, high=0.7)

    def sample(self, size: tuple[int, int], rngs: Sequence[torch.Generator]) -> HazeParams:
        return HazeParams(self.levels(rngs), normal((CELLS, CELLS), rngs, planes=1))

    def depth(self, size: tuple[int, int], params: HazeParams) -> Float[Tensor, "b 1 h w"]:
        """In [0, 1]: 0 is nearest."""
        plane = torch.linspace(1, 0, size[0], device=params.field.device)[:, None].expand(size)
        hills = interpolate(params.field, size, mode="bicubic", align_corners=True)
        low, high = hills.amin(dim=(2, 3), keepdim=True), hills.amax(dim=(2, 3), keepdim=True)
        hills = (hills - low) / (high - low).clamp_min(1e-6)
        share = params.labels["relief"].to(hills)[:, None, None, None]
        return (1 - share) * plane + share * hills

    def render(self, clean: Images, params: HazeParams) -> Batch:
        depth = self.depth((clean.shape[2], clean.shape[3]), params).to(clean.device).float()
        through = torch.exp(-each(params.labels["thickness"], clean) * depth)
        colour = torch.tensor([0.5, 0.0, -0.5], device=clean.device)[None, :, None, None]
        airlight = (each(params.labels["airlight"], clean) + each(params.labels["tint"], clean) * colour).clamp(0, 1)
        hazy = clean.float() * through + airlight * (1 - through)
        return self.changed(clean, hazy.clamp(0, 1).to(clean.dtype), params.labels)
