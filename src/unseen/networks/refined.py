"""A restorer whose result a diffusion model draws once more: noise is added, and taken away by what it knows of images.

Partial noising and denoising as in SDEdit (Meng et al., ICLR 2022). With `masked` only where the restorer has changed
the image; elsewhere every step is held to what it gave, as RePaint (Lugmayr et al., CVPR 2022) holds it to the data,
but in the denoised image, so that Heun's deterministic steps remain. Checkpoints hold the restorer, never the
diffusion model.
"""

from typing import TYPE_CHECKING, ClassVar, Literal, Self

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from pydantic import Field, model_validator
from torch import Tensor, nn

from unseen.errors import ConfigError
from unseen.networks.base import NetworkConfig
from unseen.priors import Denoiser, DenoiserConfig, open_denoiser
from unseen.priors.edm import Sigmas, heun, sigmas
from unseen.seeding import noise_field
from unseen.types import Batch, Images

if TYPE_CHECKING:
    AnyNetworkConfig = NetworkConfig  # at run time every kind there is: `unseen.networks` fills it in


class RefinedConfig(NetworkConfig):
    """`network`: the restorer, which is trained as ever. `denoiser`: the diffusion model. `strength`: the standard
    deviation of the noise, in units of [0, 1]; a dial after training, and 0 is the restorer alone. `steps` of Heun's
    method take it away again. `masked`: only where the restorer changes a channel by more than `threshold`.
    """

    kind: Literal["Refined"] = "Refined"
    network: "AnyNetworkConfig"
    denoiser: DenoiserConfig
    strength: float = Field(default=0.1, ge=0, le=1)
    steps: int = Field(default=4, ge=1, le=1000)
    masked: bool = True
    threshold: float = Field(default=0.02, ge=0, lt=1)

    @model_validator(mode="after")
    def _abstains_itself(self) -> Self:
        if self.network.abstain is not None:
            raise ValueError(
                "abstain stands on the network inside of Refined, where nothing reads it: put it beside kind"
            )
        return self

    def build(self) -> "Refined":
        return Refined(self)


class Refined(nn.Module):
    """RGB in [0, 1] to RGB, the same size. In training it is the restorer; in evaluation mode what it gives is drawn
    once more. `strength` may be set at any time. The noise is that of a place in an image (`unseen.seeding.placed`),
    the same for all images and for all time.
    """

    Config: ClassVar = RefinedConfig
    dials: ClassVar = ("strength",)

    def __init__(self, config: RefinedConfig) -> None:
        super().__init__()
        self.config, self._strength = config, config.strength
        self.network = config.network.build()
        self.multiple = int(getattr(self.network, "multiple", 1))
        self.first, self.last = (f"network.{getattr(self.network, end)}" for end in ("first", "last"))
        self.random = getattr(self.network, "random", False)

    @property
    def strength(self) -> float:
        """Standard deviation of the noise, in units of [0, 1]: a dial; 0 is the restorer alone."""
        return self._strength

    @strength.setter
    def strength(self, sigma: float) -> None:
        if not 0 <= sigma <= 1:
            raise ConfigError(f"strength is {sigma:g}: a standard deviation from 0 (the restorer alone) to 1.")
        self._strength = sigma

    def forward(self, degraded: Images) -> Images:
        restored = self.network(degraded)
        if self.training or not self.strength:
            return restored
        denoiser = open_denoiser(self.config.denoiser, degraded.device)
        with torch.autocast(degraded.device.type, enabled=False):
            return self._drawn(degraded.float(), restored.float().clamp(0, 1), denoiser).to(restored.dtype)

    def auxiliary(self, batch: Batch) -> Float[Tensor, ""] | None:
        """That of the restorer, where it has one."""
        own = getattr(self.network, "auxiliary", None)
        return None if own is None else own(batch)

    def _drawn(self, degraded: Images, restored: Images, denoiser: Denoiser) -> Images:
        sigma, steps = self.strength, self.config.steps
        channels, height, width = restored.shape[1:]
        noise = noise_field(channels, height, width, 0, "refined").to(restored)
        mask = restored.new_ones(())
        if self.config.masked:
            mask = _soft((restored - degraded).abs().amax(1, keepdim=True) > self.config.threshold)

        def held(noisy: Images, level: Sigmas) -> Images:
            return restored + mask * (denoiser.denoise(noisy, level) - restored)

        return heun(held, restored + sigma * noise, sigmas(steps, min(denoiser.low, sigma), sigma))


def _soft(mask: Bool[Tensor, "b 1 h w"]) -> Float[Tensor, "b 1 h w"]:
    """Grown by two pixels, with an edge that falls to 0 over four."""
    grown = F.max_pool2d(mask.float(), 5, stride=1, padding=2)
    return F.avg_pool2d(F.pad(grown, (2,) * 4, mode="replicate"), 5, stride=1)
