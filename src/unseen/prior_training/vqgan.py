"""A small VQGAN (Esser et al., Taming Transformers for High-Resolution Image Synthesis, CVPR 2021): diffusers'
`VQModel`, built small, with a codebook that follows the latents by moving averages and a small critic of patches.

No network pretrained on other data takes part: where the paper compares features of VGG, this compares gradients at
several scales.
"""

import math
from typing import Any, Literal, Self

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from pydantic import Field, model_validator
from torch import Tensor, nn

from unseen.prior_training.base import AbstractTrainee, Figures, Kind, reconstruction
from unseen.prior_training.vae import autoencoder
from unseen.priors.base import Codebook, Latents
from unseen.seeding import generator, seeded
from unseen.types import Images

SMALLEST = 12
"""Pixels a side that the critic can look at."""

Vectors = Float[Tensor, "n latent"]
"""Latents as rows."""


class VQGAN(Kind):
    """`latent` as that of a `VAE`; `codes` in the codebook; the rest of its shape is in `Kind`.

    The loss is L1, `gradients` times the multi-scale difference of gradients over `scales` scales, `commitment` times
    the mean squared distance of latents to their codes, and, from the share `critic_start` of the steps on,
    `adversarial` times the adaptive weight (at most `adaptive_limit`) times what the critic says. The critic has
    `critic_width` channels in its first layer.

    For the share `codes_start` of the steps latents pass as they are, then the codebook begins with latents: one that
    begins with the first, nearly constant latents holds the encoder back (cf. Lancucki et al., Robust Training of
    Vector Quantized Bottleneck Models, IJCNN 2020). `decay` is that of the codebook's averages. A code that is chosen
    by fewer than `dead` latents of a batch, on average, starts anew at a latent of the batch.
    """

    kind: Literal["vqgan"] = "vqgan"
    latent: int = Field(default=8, ge=1)
    codes: int = Field(default=1024, ge=2)
    gradients: float = Field(default=1.0, ge=0)
    scales: int = Field(default=3, ge=1)
    commitment: float = Field(default=0.25, ge=0)
    adversarial: float = Field(default=0.2, ge=0)
    adaptive_limit: float = Field(default=1e4, gt=0)
    critic_start: float = Field(default=0.5, ge=0, le=1)
    critic_width: int = Field(default=32, ge=4, multiple_of=4)
    codes_start: float = Field(default=0.1, ge=0, lt=1)
    decay: float = Field(default=0.99, gt=0, lt=1)
    dead: float = Field(default=0.05, gt=0)

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.adversarial > 0 and self.critic_start < self.codes_start:
            raise ValueError(
                f"critic_start is {self.critic_start:g}, before codes_start, {self.codes_start:g}: raise it"
            )
        return self

    @property
    def smallest(self) -> int:
        return max(2**self.scales, SMALLEST)

    def trainee(self, steps: int, seed: int) -> "VQGANTrainee":
        return VQGANTrainee(self, steps, seed)


class MovingCodebook(nn.Module):
    """A codebook whose codes are the moving averages of the latents that choose them (van den Oord et al., NeurIPS
    2017, appendix A.1): N_i <- d N_i + (1 - d) n_i, m_i <- d m_i + (1 - d) sum of them, e_i = m_i / N_i.

    `weight` holds the codes, one a row; gradients do not reach it. `hits` is the moving average of how often each is
    chosen, which restarts do not touch.
    """

    count: Tensor
    total: Tensor
    hits: Tensor

    def __init__(self, weight: nn.Parameter, decay: float, dead: float) -> None:
        super().__init__()
        self.book = Codebook(*weight.shape)
        weight.requires_grad_(False)
        self.book.weight = weight
        self.decay, self.dead = decay, dead
        self.register_buffer("count", torch.zeros(len(weight)))
        self.register_buffer("total", torch.zeros_like(weight))
        self.register_buffer("hits", torch.zeros(len(weight)))

    @torch.no_grad()
    def follow(self, latents: Vectors, chosen: Int[Tensor, "n"]) -> None:
        """One step of the averages."""
        now = F.one_hot(chosen, len(self.count)).to(latents)
        self.hits.lerp_(now.sum(0), 1 - self.decay)
        self.count.lerp_(now.sum(0), 1 - self.decay)
        self.total.lerp_(now.T @ latents, 1 - self.decay)
        met = self.count > 0
        self.book.weight[met] = self.total[met] / self.count[met, None]

    @torch.no_grad()
    def restart(self, latents: Vectors, rng: torch.Generator) -> int:
        """Put every code that is hardly ever chosen at one of the latents, as if it were chosen once in every batch.
        How many there were."""
        gone = (self.count < self.dead).nonzero()[:, 0]
        if len(gone):
            order = torch.randperm(len(latents), generator=rng)
            new = latents[order[torch.arange(len(gone)) % len(order)].to(latents.device)]
            self.book.weight[gone] = new
            self.total[gone] = new
            self.count[gone] = 1.0
        return len(gone)

    def perplexity(self) -> Float[Tensor, ""]:
        """How many codes would be in use if all were used equally often: the exponential of the entropy of `hits`."""
        share = self.hits / self.hits.sum()
        return torch.special.entr(share).sum().exp()

    def used(self) -> Float[Tensor, ""]:
        """The share of codes chosen at least once in the last 1 / (1 - decay) steps, or more often before."""
        return (self.hits > (1 - self.decay) / math.e).float().mean()


class Critic(nn.Module):
    """Says of every patch of 34 pixels whether it is real (PatchGAN: Isola et al., CVPR 2017), with groups normalised
    in place of the batch: an image is judged alone."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, width, 4, stride=2, padding=1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(width, 2 * width, 4, stride=2, padding=1, bias=False),
            nn.GroupNorm(4, 2 * width),
            nn.LeakyReLU(0.2),
            nn.Conv2d(2 * width, 4 * width, 4, padding=1, bias=False),
            nn.GroupNorm(4, 4 * width),
            nn.LeakyReLU(0.2),
            nn.Conv2d(4 * width, 1, 4, padding=1),
        )

    def forward(self, images: Images) -> Float[Tensor, "b 1 rows columns"]:
        return self.body(images * 2 - 1)


def hinge(real: Tensor, fake: Tensor) -> Float[Tensor, ""]:
    """What the critic lowers (Lim and Ye, Geometric GAN, 2017)."""
    return (F.relu(1 - real).mean() + F.relu(1 + fake).mean()) / 2


def adaptive_weight(wanted: Tensor, adversarial: Tensor, last: Tensor, limit: float) -> Float[Tensor, ""]:
    """Eq. 7 of Esser et al.: the norm of the reconstruction's gradient at the last layer over that of the critic's,
    at most `limit`."""
    one = torch.autograd.grad(wanted, last, retain_graph=True)[0].norm()
    other = torch.autograd.grad(adversarial, last, retain_graph=True)[0].norm()
    return (one / (other + 1e-6)).clamp(max=limit).detach()


class VQGANTrainee(AbstractTrainee):
    """What each step logs tells how the codebook fares: its perplexity, and the share of it that is in use."""

    def __init__(self, config: VQGAN, steps: int, seed: int) -> None:
        super().__init__()
        self.config, self.seed = config, seed
        self.start, self.codes_start = round(config.critic_start * steps), int(config.codes_start * steps)
        model = autoencoder("VQModel", config, seed, {"num_vq_embeddings": config.codes})
        self.model: nn.Module = model
        self.codebook = MovingCodebook(model.quantize.embedding.weight, config.decay, config.dead)
        if config.adversarial > 0 and self.start < steps:
            with seeded(seed, "prior", "critic"):
                self.critic = Critic(config.critic_width)

    def loss(self, clean: Images, step: int) -> tuple[Float[Tensor, ""], Figures]:
        model: Any = self.model
        latents = self.run(lambda images: model.quant_conv(model.encoder(images)), clean * 2 - 1)
        rows, codes, chosen = _rows(latents.detach()), latents, None
        if step >= self.codes_start:
            if step == self.codes_start:  # no code has been chosen: all start at latents
                self.codebook.restart(rows, generator(self.seed, "prior", "codes"))
            chosen = self.codebook.book.nearest(latents)
            codes = F.embedding(chosen, self.codebook.book.weight).permute(0, 3, 1, 2)
        commitment = (latents - codes).square().mean()
        passed = latents + (codes - latents).detach()
        restored = self.run(lambda drawn: model.decoder(model.post_quant_conv(drawn)), passed) / 2 + 0.5
        wanted = reconstruction(restored, clean, self.config.gradients, self.config.scales)
        loss = wanted + self.config.commitment * commitment
        figures = {"l1": (restored - clean).abs().mean().detach(), "commitment": commitment.detach()}
        if self.critic is not None:
            adversarial, weight = wanted.new_zeros(()), wanted.new_zeros(())
            if step >= self.start:
                self.critic.requires_grad_(False)
                adversarial = -self.run(self.critic, restored).mean()
                self.critic.requires_grad_(True)
                weight = adaptive_weight(wanted, adversarial, model.decoder.conv_out.weight, self.config.adaptive_limit)
                loss = loss + self.config.adversarial * weight * adversarial
            figures |= {"adversarial": adversarial.detach(), "adaptive_weight": weight}
        self._seen = (clean, restored.detach(), rows, chosen)
        return loss, figures

    def critic_loss(self, step: int) -> Float[Tensor, ""] | None:
        if self.critic is None or step < self.start:
            return None
        clean, restored, *_ = self._seen
        return hinge(self.run(self.critic, clean), self.run(self.critic, restored))

    def after(self, step: int) -> Figures:
        _, _, rows, chosen = self._seen
        if chosen is None:
            return {"perplexity": rows.new_zeros(()), "used": rows.new_zeros(())}
        self.codebook.follow(rows, chosen.reshape(-1))
        self.codebook.restart(rows, generator(self.seed, "prior", "restart", step))
        return {"perplexity": self.codebook.perplexity(), "used": self.codebook.used()}


def _rows(latents: Latents) -> Vectors:
    return latents.permute(0, 2, 3, 1).reshape(-1, latents.shape[1])
