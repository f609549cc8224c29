"""Losses: configurations that are functions of (restored, batch).

Every loss is a mean over all pixels, or all images, of the batch, so that the mean over equal parts of a batch is the
loss of the whole, and several processes see the gradient of one.
"""

from typing import TYPE_CHECKING, Literal

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from unseen.priors import DiffusionL1, PriorL1
from unseen.ranges import Frozen, one_of
from unseen.types import Batch, Images

FLOOR = 1e-3
"""Of an image's error where a power is taken of it, whose slope has no end at 0."""


class L1(Frozen):
    """Mean of |restored - clean|."""

    kind: Literal["L1"] = "L1"

    def __call__(self, restored: Images, batch: Batch) -> Float[Tensor, ""]:
        return (restored - batch.clean).abs().mean()


class Charbonnier(Frozen):
    """Mean of sqrt((restored - clean)^2 + epsilon^2) (Charbonnier et al., ICIP 1994)."""

    kind: Literal["Charbonnier"] = "Charbonnier"
    epsilon: float = Field(default=1e-3, gt=0)

    def __call__(self, restored: Images, batch: Batch) -> Float[Tensor, ""]:
        return torch.sqrt((restored - batch.clean).square() + self.epsilon**2).mean()


class PSNR(Frozen):
    """Mean over images of ln(1 + MSE / epsilon): minus the PSNR, but for a factor and a constant.

    Chen et al. (ECCV 2022) train NAFNet by the PSNR itself; this one ends at 0.

    A decibel is worth the same on every image, so that faint degradations count as much as strong ones. `epsilon` is
    the MSE under which that ends: 1e-5 is 50 dB.
    """

    kind: Literal["PSNR"] = "PSNR"
    epsilon: float = Field(default=1e-5, gt=0)

    def __call__(self, restored: Images, batch: Batch) -> Float[Tensor, ""]:
        mse = (restored - batch.clean).square().flatten(1).mean(1)
        return torch.log1p(mse / self.epsilon).mean()


class Decoupled(Frozen):
    """L1 with weights of its own where the degradation is (`removal`) and where it is not (`reconstruction`).

    Mean over all pixels of (removal * M + reconstruction * (1 - M)) |restored - clean|; at 1 and 1 it is L1.

    With a `power` it is the mean over images of (that of the image + 0.001)^power: below 1, images with a small error,
    faint degradations among them, count for more than their share (towards 0, as in `PSNR`, all count the same).
    """

    kind: Literal["Decoupled"] = "Decoupled"
    removal: float = Field(default=1.0, ge=0)
    reconstruction: float = Field(default=1.0, ge=0)
    power: float | None = Field(default=None, gt=0, le=1)

    def __call__(self, restored: Images, batch: Batch) -> Float[Tensor, ""]:
        weight = self.reconstruction + (self.removal - self.reconstruction) * batch.mask
        error = weight * (restored - batch.clean).abs()
        if self.power is None:
            return error.mean()
        return (error.flatten(1).mean(1) + FLOOR).pow(self.power).mean()


ALL = (L1, Charbonnier, PSNR, Decoupled, PriorL1, DiffusionL1)

if TYPE_CHECKING:
    AnyLoss = L1 | Charbonnier | PSNR | Decoupled | PriorL1 | DiffusionL1
else:
    AnyLoss = one_of(ALL)
