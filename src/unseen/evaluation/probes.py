"""What linear probes have found: one line per layer and target. Imports no torch."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Probe:
    """`r2` of a target from the features of a layer: `depth` counts layers from the input, 0; `channels` are features.

    `kind`: "content" or "degradation" of every pixel, or a "parameter" of the degradation, of every image.
    """

    layer: str
    depth: int
    channels: int
    target: str
    kind: Literal["content", "degradation", "parameter"]
    r2: float


@dataclass(frozen=True)
class Probed:
    """The probes of one model: `degradation` is what was laid on, in words."""

    model: str
    degradation: str
    probes: tuple[Probe, ...]

    @property
    def depths(self) -> int:
        return 1 + max((one.depth for one in self.probes), default=0)

    def line(self, target: str) -> list[tuple[float, float]]:
        """(share of the depth, R^2) of a target, from the input to the last layer."""
        last = max(1, self.depths - 1)
        return [(one.depth / last, one.r2) for one in self.probes if one.target == target]

    def best(self, target: str) -> Probe | None:
        """The layer that tells it best."""
        return max((one for one in self.probes if one.target == target), key=lambda one: one.r2, default=None)
