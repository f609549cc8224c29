"""The vocabulary of the package. Read this first.

Axis letters: `b` images in a batch, `c` colour channels (always 3, RGB), `h` rows, `w` columns.

Units: images are RGB, sRGB-encoded, floating point in [0, 1]; masks are 1 where the degradation touched
the pixel and 0 elsewhere. Lengths are pixels, directions are degrees from vertical, quality is dB.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from jaxtyping import Float
from torch import Tensor

Images = Float[Tensor, "b c h w"]
"""RGB, sRGB-encoded, in [0, 1]."""

Layers = Float[Tensor, "b 1 h w"]
"""What a degradation adds, before blending and clipping: at least 0, without an upper bound."""

Masks = Float[Tensor, "b 1 h w"]
"""1 where the degradation touched the pixel, 0 elsewhere."""

Restorer = Callable[[Images], Images]
"""Anything that maps degraded images to restored ones of the same size: a network, a baseline, a foreign model."""


@dataclass(frozen=True, slots=True)
class Batch:
    """A degraded batch with the whole truth about it.

    `labels` holds what was drawn, one value per image, by name (for rain: `direction` in degrees, ...).
    """

    degraded: Images
    clean: Images
    layer: Layers
    mask: Masks
    labels: dict[str, Float[Tensor, "b"]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.degraded)


@dataclass(frozen=True, slots=True)
class Outcome:
    """All that a metric may look at. `restored` is clipped to [0, 1]."""

    batch: Batch
    restored: Images
