"""Guidance only while training: an ordinary network, and a prior that says how far its images are from the clean ones.

The restored image is compared to the clean one pixel by pixel, and in the latents of an autoencoder, or under the noise
of a diffusion model. The network that comes of it holds no prior, and costs what it did.
"""

import hashlib
from typing import Literal

import torch
from jaxtyping import Float
from pydantic import Field, field_validator
from torch import Tensor, distributed

from unseen.priors.denoiser import DenoiserConfig, open_denoiser
from unseen.priors.opening import PriorConfig, open_prior
from unseen.ranges import Frozen, Range, number_in
from unseen.seeding import generator
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
        chosen, share = _every(len(restored), self.every)
        apart = restored.new_zeros(())
        if len(restored[chosen]):
            with torch.no_grad():
                wanted = prior.embed(batch.clean[chosen].float())
            apart = (prior.embed(restored[chosen].float()) - wanted).abs().mean()
        return (restored - batch.clean).abs().mean() + self.weight * share * apart


class DiffusionL1(Frozen):
    """Mean of |restored - clean| over values, and `weight` times the mean of |D(restored + n) - D(clean + n)|. D is a
    frozen diffusion model and n Gaussian noise, the same for both: under it both must be denoised to the same image.
    The standard deviation of n is drawn from `sigma` for every image, in units of [0, 1]. Of every `every`-th image of
    the batch alone, as in `PriorL1`.

    In the spirit of losses by a frozen diffusion model (Poole et al., DreamFusion, ICLR 2023; Mardani et al., RED-diff,
    ICLR 2024); having the clean image, ours compares two denoised images instead of a denoised one and itself, so that
    the loss of a perfect restorer is 0 whatever the model. The noise depends on the clean image alone.
    """

    kind: Literal["DiffusionL1"] = "DiffusionL1"
    denoiser: DenoiserConfig
    weight: float = Field(default=0.5, ge=0)
    sigma: Range = Range(low=0.05, high=0.4)
    every: int = Field(default=2, ge=1)

    @field_validator("sigma", mode="before")
    @classmethod
    def _number(cls, value: object) -> object:
        value = number_in(value)
        return {"low": value, "high": value} if isinstance(value, int | float) else value

    @field_validator("sigma")
    @classmethod
    def _positive(cls, sigma: Range) -> Range:
        if sigma.low <= 0:
            raise ValueError(f"sigma is {sigma}: a standard deviation above 0, in units of [0, 1]")
        return sigma

    def __call__(self, restored: Images, batch: Batch) -> Float[Tensor, ""]:
        denoiser = open_denoiser(self.denoiser, restored.device)
        chosen, share = _every(len(restored), self.every)
        clean = batch.clean[chosen].float()
        if not len(clean):
            return (restored - batch.clean).abs().mean()
        rngs = [generator(0, "diffusion", _digest(image)) for image in clean]
        levels = torch.tensor([self.sigma.map(torch.rand((), generator=rng)).item() for rng in rngs])
        noise = torch.stack([torch.randn(clean.shape[1:], generator=rng) for rng in rngs])
        sigma = levels.to(clean)
        added = sigma[:, None, None, None] * noise.to(clean)
        with torch.no_grad():
            wanted = denoiser.denoise(clean + added, sigma)
        apart = (denoiser.denoise(restored[chosen].float() + added, sigma) - wanted).abs().mean()
        return (restored - batch.clean).abs().mean() + self.weight * share * apart


def _every(count: int, every: int) -> tuple[slice, float]:
    """Which of `count` images are looked at: every so-many-th of the whole batch, of which each process has its part;
    and what the mean over them is to be weighted with, so that the mean over processes is that of the whole batch."""
    together = distributed.is_available() and distributed.is_initialized()
    rank, world = (distributed.get_rank(), distributed.get_world_size()) if together else (0, 1)
    chosen = slice(-rank * count % every, None, every)
    return chosen, len(range(count)[chosen]) * world / len(range(count * world)[::every])


def _digest(image: Float[Tensor, "3 h w"]) -> str:
    return hashlib.blake2b(image.cpu().contiguous().numpy().tobytes(), digest_size=8).hexdigest()
