"""A small variational autoencoder (Kingma and Welling, ICLR 2014): diffusers' `AutoencoderKL`, built small."""

from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from unseen.prior_training.base import AbstractTrainee, Crops, Figures, Kind, reconstruction
from unseen.priors.diffusers import class_of
from unseen.seeding import generator, seeded
from unseen.types import Images

SETTLED = 16
"""Batches over which the spread of the latents is measured."""


class VAE(Kind):
    """`latent` channels come every 2^(resolutions - 1) pixels; the rest of its shape is in `Kind`.

    The loss is L1, `gradients` times the multi-scale difference of gradients over `scales` scales, and `kl` times the
    mean over latents of the divergence from the standard normal, in nats.
    """

    kind: Literal["vae"] = "vae"
    latent: int = Field(default=8, ge=1)
    gradients: float = Field(default=1.0, ge=0)
    scales: int = Field(default=3, ge=1)
    kl: float = Field(default=1e-4, ge=0)

    RECIPE: ClassVar[dict[str, Any]] = {"ema": 0.999}

    @property
    def smallest(self) -> int:
        return 2**self.scales

    def trainee(self, steps: int, seed: int) -> "VAETrainee":
        return VAETrainee(self, seed)


def autoencoder(
    name: str, config: Any, seed: int, settings: dict[str, Any]
) -> Any:  # Any: the classes of diffusers have no common type
    """A model of diffusers of these widths, with initial weights from the seed and no attention: it works on any size,
    at a cost in proportion to it."""
    count = len(config.widths)
    kind = class_of(name, f"training a small {config.kind}")
    with seeded(seed, "prior", "initial"):
        return kind(
            in_channels=3,
            out_channels=3,
            down_block_types=("DownEncoderBlock2D",) * count,
            up_block_types=("UpDecoderBlock2D",) * count,
            block_out_channels=config.widths,
            layers_per_block=config.layers,
            norm_num_groups=config.groups,
            latent_channels=config.latent,
            mid_block_add_attention=False,
            **settings,
        )


class VAETrainee(AbstractTrainee):
    """Latents are drawn anew in every step from `generator(seed, "prior", "latents", step)`."""

    def __init__(self, config: VAE, seed: int) -> None:
        super().__init__()
        self.config, self.seed = config, seed
        self.model: nn.Module = autoencoder("AutoencoderKL", config, seed, {"scaling_factor": 1.0})

    def loss(self, clean: Images, step: int) -> tuple[Float[Tensor, ""], Figures]:
        model: Any = self.model
        mean, spread = self.run(lambda images: model.quant_conv(model.encoder(images)), clean * 2 - 1).chunk(2, dim=1)
        spread = spread.clamp(-30, 20)  # log variance, bounded as diffusers bounds it
        rng = generator(self.seed, "prior", "latents", step)
        latents = mean + (spread / 2).exp() * torch.randn(mean.shape, generator=rng).to(mean)
        restored = self.run(lambda drawn: model.decoder(model.post_quant_conv(drawn)), latents) / 2 + 0.5
        kl = 0.5 * (mean.square() + spread.exp() - 1 - spread).mean()
        apart = reconstruction(restored, clean, self.config.gradients, self.config.scales)
        figures = {"l1": (restored - clean).abs().mean().detach(), "kl": kl.detach()}
        return apart + self.config.kl * kl, figures

    @torch.no_grad()
    def settle(self, crops: Crops) -> None:
        """Latents of the folder have mean zero and unit variance: `shift_factor` and `scaling_factor` say how."""
        model: Any = self.model
        found = [model.encode(crops(number) * 2 - 1).latent_dist.mean for number in range(SETTLED)]
        latents = torch.cat(found).double()
        model.register_to_config(shift_factor=float(latents.mean()), scaling_factor=float(1 / latents.std()))
