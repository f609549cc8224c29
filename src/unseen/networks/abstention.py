"""When a restorer had better leave an image as it is: a reject option (Chow, IEEE Transactions on Information Theory,
1970) for what is taken to be clean.

Rain lies all over a picture. A branch, a whisker or a window that is taken for it lies in one place, and stands out in
no measure of how much a network would change, but does in this one: the share of changed pixels that half of a
picture's blocks reach. Our rule; it knows nothing of rain but that.
"""

from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from pydantic import Field, model_validator
from torch import Tensor

from unseen.ranges import Frozen
from unseen.types import Images, Restorer

BLOCKS = 4
"""Blocks along each side of an image."""

CHANGED = 0.02
"""A pixel counts as changed where a channel differs by more, of 1."""


class Abstention(Frozen):
    """`low` and `high` are shares of pixels, in [0, 1]: an image in half of whose 4 x 4 blocks at most `low` of the
    pixels would change is left as it is; one where that is `high` or more is restored; between them both are blended.

    A pixel changes where a channel differs by more than 0.02.
    """

    low: float = Field(ge=0, le=1)
    high: float = Field(gt=0, le=1)

    @model_validator(mode="after")
    def _rising(self) -> "Abstention":
        if self.low >= self.high:
            raise ValueError(f"low is {self.low} and high {self.high}: the second must be larger")
        return self

    def __call__(self, degraded: Images, restored: Images) -> Images:
        """Each `restored` image, `degraded` where it is to be left alone, or their blend."""
        changed = ((restored - degraded).abs().amax(1) > CHANGED).to(degraded.dtype)
        rows, columns = (_members(side, degraded) for side in degraded.shape[-2:])
        counts = rows @ changed @ columns.transpose(0, 1)
        sizes = rows.sum(1)[:, None] * columns.sum(1)
        weight = self._ramp((counts / sizes.clamp(min=1)).flatten(1))[:, None, None, None]
        return torch.where(weight < 1, degraded + weight * (restored - degraded), restored)

    def weights(self, shares: Float[np.ndarray, "b 4 4"]) -> Float[np.ndarray, "b"]:
        """How much of the restored image is taken, (b,) in [0, 1], by the shares of changed pixels in the blocks."""
        return self._ramp(torch.from_numpy(shares).flatten(1)).float().numpy()

    def _ramp(self, shares: Float[Tensor, "b blocks"]) -> Float[Tensor, "b"]:
        reached = shares.topk(BLOCKS * BLOCKS // 2).values[:, -1]
        return ((reached - self.low) / (self.high - self.low)).clamp(0, 1)


class Abstaining:
    """A restorer that leaves alone what `abstention` says."""

    def __init__(self, restorer: Restorer, abstention: Abstention) -> None:
        self.restorer, self.abstention = restorer, abstention

    def __call__(self, degraded: Images) -> Images:
        return self.abstention(degraded, self.restorer(degraded))


def blocks_of(side: int, part: slice) -> Float[np.ndarray, "4 n"]:
    """1 where a pixel of `part` of a side lies in a block, else 0."""
    places = np.arange(part.start, part.stop) * BLOCKS // side
    return (places == np.arange(BLOCKS)[:, None]).astype(np.float32)


def _members(side: Any, like: Tensor) -> Float[Tensor, "4 n"]:
    """The same of a whole side, in operations that export to other formats. Any: an int, or what stands for one while a
    network is traced."""
    places = torch.div(torch.arange(side, device=like.device) * BLOCKS, side, rounding_mode="floor")
    return (places == torch.arange(BLOCKS, device=like.device)[:, None]).to(like.dtype)
