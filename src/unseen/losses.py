"""Losses: configurations that are functions of (restored, batch).

Every loss is a mean over all pixels of the batch, so that the mean over equal parts of a batch is the loss of the
whole, and several processes see the gradient of one.
"""

from typing import TYPE_CHECKING, Literal

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from unseen.priors import DiffusionL1, PriorL1
from unseen.ranges import Frozen, one_of
from unseen.types import Batch, Images


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


class Decoupled(Frozen):
    """L1 with weights of its own where the degradation is (`removal`) and where it is not (`reconstruction`).

    Mean over all pixels of (removal * M + reconstruction * (1 - M)) |restored - clean|; at 1 and 1 it is L1.
    """

    kind: Literal["Decoupled"] = "Decoupled"
    removal: float = Field(default=1.0, ge=0)
    reconstruction: float = Field(default=1.0, ge=0)

    def __call__(self, restored: Images, batch: Batch) -> Float[Tensor, ""]:
        weight = self.reconstruction + (self.removal - self.reconstruction) * batch.mask
        return (weight * (restored - batch.clean).abs()).mean()


ALL = (L1, Charbonnier, Decoupled, PriorL1, DiffusionL1)

if TYPE_CHECKING:
    AnyLoss = L1 | Charbonnier | Decoupled | PriorL1 | DiffusionL1
else:
    AnyLoss = one_of(ALL)
