"""A small diffusion model of pixels: diffusers' `UNet2DModel`, built small, trained as Karras et al. have it
(Elucidating the Design Space of Diffusion-Based Generative Models, NeurIPS 2022, Table 1)."""

from typing import Any, ClassVar, Literal, Self

import torch
from jaxtyping import Float
from pydantic import Field, model_validator
from torch import Tensor, nn

from unseen.prior_training.base import AbstractTrainee, Figures, Kind
from unseen.priors import edm
from unseen.priors.diffusers import class_of
from unseen.seeding import generator, seeded
from unseen.types import Images


class Diffusion(Kind):
    """A U-Net; its shape is in `Kind`.

    Noise is measured in units of images in [-1, 1]: `sigma_data` is the standard deviation of these, and the logarithm
    of the noise's is normal, of mean `log_mean` and standard deviation `log_spread`. The model may be used from
    `sigma_min` to `sigma_max`.
    """

    kind: Literal["diffusion"] = "diffusion"
    sigma_data: float = Field(default=0.5, gt=0)
    log_mean: float = -1.2
    log_spread: float = Field(default=1.2, gt=0)
    sigma_min: float = Field(default=0.002, gt=0)
    sigma_max: float = Field(default=80.0, gt=0)

    RECIPE: ClassVar[dict[str, Any]] = {"ema": 0.999}

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.sigma_min >= self.sigma_max:
            raise ValueError(f"sigma_min is {self.sigma_min:g}, not below sigma_max, {self.sigma_max:g}")
        return self

    def trainee(self, steps: int, seed: int) -> "DiffusionTrainee":
        return DiffusionTrainee(self, seed)


class DiffusionTrainee(AbstractTrainee):
    """Levels of noise and noise are drawn in every step from `generator(seed, "prior", "noise", step)`."""

    def __init__(self, config: Diffusion, seed: int) -> None:
        super().__init__()
        self.config, self.seed = config, seed
        count = len(config.widths)
        kind = class_of("UNet2DModel", "training a small diffusion model")
        with seeded(seed, "prior", "initial"):
            unet = kind(
                in_channels=3,
                out_channels=3,
                down_block_types=("DownBlock2D",) * count,
                up_block_types=("UpBlock2D",) * count,
                block_out_channels=config.widths,
                layers_per_block=config.layers,
                norm_num_groups=config.groups,
                add_attention=False,
            )
        nn.init.zeros_(unet.conv_out.weight)  # starts as c_skip x, the best that is linear
        self.model: nn.Module = unet

    def loss(self, clean: Images, step: int) -> tuple[Float[Tensor, ""], Figures]:
        config, images = self.config, clean * 2 - 1
        rng = generator(self.seed, "prior", "noise", step)
        sigma = (config.log_mean + config.log_spread * torch.randn(len(images), generator=rng)).exp().to(images)
        noise = torch.randn(images.shape, generator=rng).to(images)
        noisy = images + sigma[:, None, None, None] * noise
        restored = edm.denoised(self._body, noisy, sigma, config.sigma_data)
        error = (restored - images).square().mean((1, 2, 3))
        return (edm.weight(sigma, config.sigma_data) * error).mean(), {"mse": error.mean().detach() / 4}

    def _body(self, scaled: Images, noise: edm.Sigmas) -> Images:
        return self.run(lambda images, level: self.model(images, level).sample, scaled, noise)

    def save(self, folder: str) -> None:
        super().save(folder)
        levels = class_of("EDMEulerScheduler", "training a small diffusion model")
        levels(
            sigma_min=self.config.sigma_min,
            sigma_max=self.config.sigma_max,
            sigma_data=self.config.sigma_data,
            prediction_type="epsilon",
        ).save_pretrained(folder)
