"""Guidance only while training: an ordinary network, and a prior that says how far its images are from the clean ones.

The restored image is compared to the clean one in the prior's latents as well as pixel by pixel. The network that comes
of it holds no prior, and costs what it did.
"""

from typing import Literal

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from unseen.priors.opening import PriorConfig, open_prior
from unseen.ranges import Frozen
from unseen.types import Batch, Images


class PriorL1(Frozen):
    """Mean of |restored - clean| over values, and `weight` times the mean of |embed(restored) - embed(clean)| over
    those of the latents, before any codebook, of every `every`-th image of the batch.

    Encoding costs more than a small network itself. With every second image the second mean is as true on average, and
    a step takes less than twice the time of one without a prior (docs/priors.md).
    """

    kind: Literal["PriorL1"] = "PriorL1"
    prior: PriorConfig
    weight: float = Field(default=0.1, ge=0)
    every: int = Field(default=2, ge=1)

    def __call__(self, restored: Images, batch: Batch) -> Float[Tensor, ""]:
        prior = open_prior(self.prior, restored.device)
        with torch.no_grad():
            wanted = prior.embed(batch.clean[:: self.every].float())
        apart = (prior.embed(restored[:: self.every].float()) - wanted).abs().mean()
        return (restored - batch.clean).abs().mean() + self.weight * apart
