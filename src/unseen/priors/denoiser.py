"""Diffusion models as priors: a frozen network that says what the clean image under a known amount of noise is.

Read are folders of diffusers with a `UNet2DModel` and `scheduler_config.json` beside its `config.json`: one of an EDM
scheduler (Karras et al., NeurIPS 2022; what `unseen prior train diffusion` writes), or of a DDPM or DDIM scheduler that
predicts the noise (Ho et al., NeurIPS 2020). Images are in [0, 1] and `sigma` is in these units, here and for all who
call; the networks have images in [-1, 1], where the noise is twice as large.
"""

import json
import math
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unseen.errors import CheckpointError
from unseen.priors import edm
from unseen.priors.diffusers import class_of, whole
from unseen.priors.edm import Sigmas
from unseen.priors.files import SCHEDULER, model_config
from unseen.priors.source import Pretrained, Source, opened
from unseen.types import Images

CLASS = "UNet2DModel"
EDM = ("EDMEulerScheduler", "EDMDPMSolverMultistepScheduler")
DISCRETE = ("DDPMScheduler", "DDIMScheduler", "PNDMScheduler")


class Preconditioned(nn.Module):
    """D(x; sigma) of a network that was trained with the preconditioning of EDM. Images in [-1, 1]."""

    def __init__(self, unet: nn.Module, sigma_data: float, low: float, high: float) -> None:
        super().__init__()
        self.unet, self.sigma_data, self.low, self.high = unet, sigma_data, low, high

    def forward(self, noisy: Images, sigma: Sigmas) -> Images:
        return edm.denoised(lambda scaled, noise: self.unet(scaled, noise).sample, noisy, sigma, self.sigma_data)


class Discrete(nn.Module):
    """D(x; sigma) = x - sigma e(x / sqrt(1 + sigma^2), t) of a network e that was trained to tell the noise at numbered
    levels, whose standard deviations over unscaled images are `levels`; t is interpolated in log sigma (Karras et al.,
    appendix C.3.4). Images in [-1, 1]."""

    levels: Tensor

    def __init__(self, unet: nn.Module, levels: Tensor) -> None:
        super().__init__()
        self.unet = unet
        self.register_buffer("levels", levels.float(), persistent=False)
        self.low, self.high = float(levels[0]), float(levels[-1])

    def forward(self, noisy: Images, sigma: Sigmas) -> Images:
        wide = sigma[:, None, None, None]
        noise = self.unet(noisy / (1 + wide.square()).sqrt(), self.number(sigma)).sample
        return noisy - wide * noise

    def number(self, sigma: Sigmas) -> Sigmas:
        """t of each level, between the first and the last."""
        logs, wanted = self.levels.log(), sigma.clamp(self.low, self.high).log()
        above = torch.searchsorted(logs, wanted.contiguous()).clamp(1, len(logs) - 1)
        low, high = logs[above - 1], logs[above]
        return above - 1 + (wanted - low) / (high - low)


class Denoiser(Pretrained):
    """A diffusion model, frozen.

    `low` and `high` bound the levels of noise that it was trained for. `stride` is what the sides of images are grown
    to multiples of.
    """

    def __init__(self, architecture: str, body: Preconditioned | Discrete, *, stride: int) -> None:
        super().__init__(architecture)
        self.stride = stride
        self.body = body
        self.low, self.high = body.low / 2, body.high / 2
        self.freeze()

    def denoise(self, noisy: Images, sigma: Sigmas) -> Images:
        """The mean of the clean images that may lie under Gaussian noise of standard deviation `sigma`, one for each
        image, in units of [0, 1]. Of any size, not clipped."""
        height, width = noisy.shape[-2:]
        down, right = (-side % self.stride for side in noisy.shape[-2:])
        grown = F.pad(noisy, (0, right, 0, down), mode="replicate") if down or right else noisy
        return (self.body(grown * 2 - 1, sigma * 2) / 2 + 0.5)[..., :height, :width]

    def sample(self, count: int, size: int, rng: torch.Generator, steps: int = 18) -> Images:
        """`count` images out of nothing but noise, by `steps` steps of Heun's method: `size` pixels a side, not
        clipped, on the device of the weights."""
        noise = torch.randn(count, 3, size, size, generator=rng).to(next(self.parameters()).device)
        return edm.heun(self.denoise, 0.5 + self.high * noise, edm.sigmas(steps, self.low, self.high))


class DenoiserConfig(Source):
    """Which diffusion model: a folder of diffusers, or one of the hub. The rest is filled in: see `Source`."""

    what: ClassVar[str] = "diffusion model"

    @staticmethod
    def load(path: Path) -> Denoiser:
        """As `denoiser_in`."""
        return denoiser_in(path)


def open_denoiser(config: DenoiserConfig, device: str | torch.device = "cpu") -> Denoiser:
    """The diffusion model on `device`, as `unseen.priors.source.opened` gives it: the same object for the same
    configuration.

    Raises ConfigError where the source now holds another one than `config` was made with.
    """
    return opened(config, device)


def denoiser_in(folder: Path) -> Denoiser:
    """The diffusion model in a folder, as it is now; without a name. Only safetensors are read. CheckpointError says
    what is wrong with it."""
    config = model_config(folder) if folder.is_dir() else None
    if config is None or config["_class_name"] != CLASS:
        held = "no config.json of diffusers" if config is None else f"a {config['_class_name']}"
        raise CheckpointError(f"{folder} holds {held}: expected a folder of diffusers with a {CLASS}.")
    if (config.get("in_channels", 3), config.get("out_channels", 3)) != (3, 3):
        raise CheckpointError(f"The {CLASS} in {folder} is not one of RGB images, 3 channels in and out.")
    schedule = _schedule(folder)
    unet = whole(class_of(CLASS, folder), folder)
    shown = {key: value for key, value in config.items() if not key.startswith("_")}
    levels = {key: value for key, value in schedule.items() if key != "_diffusers_version"}
    architecture = json.dumps({"class": CLASS, **shown, "levels": levels}, sort_keys=True, separators=(",", ":"))
    return Denoiser(architecture, _body(unet, schedule, folder), stride=2 ** (len(unet.config.block_out_channels) - 1))


def _schedule(folder: Path) -> dict[str, Any]:
    path = folder / SCHEDULER
    try:
        schedule = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(
            f"{path} cannot be read ({getattr(error, 'strerror', None) or error}): the levels of noise of a diffusion "
            "model stand in it. Put it beside config.json; in a whole pipeline it lies in the folder scheduler."
        ) from error
    if not isinstance(schedule, dict):
        raise CheckpointError(f"{path} holds {type(schedule).__name__}, expected a scheduler's settings.")
    return schedule


def _body(unet: nn.Module, schedule: Mapping[str, Any], folder: Path) -> Preconditioned | Discrete:
    kind, prediction = schedule.get("_class_name"), schedule.get("prediction_type", "epsilon")
    if kind not in (*EDM, *DISCRETE) or prediction != "epsilon":
        raise CheckpointError(
            f"The scheduler in {folder} is {kind} with prediction_type {prediction}: expected one of "
            f"{', '.join((*EDM, *DISCRETE))} with epsilon."
        )
    if kind in EDM:
        try:
            low, high, data = (
                float(schedule.get(key, default))
                for key, default in (("sigma_min", 0.002), ("sigma_max", 80.0), ("sigma_data", 0.5))
            )
        except (TypeError, ValueError) as error:
            raise CheckpointError(f"{folder / SCHEDULER} has levels that are no numbers: {error}.") from error
        if not (0 < low < high < math.inf and data > 0):
            raise CheckpointError(
                f"{folder / SCHEDULER} has sigma_min {low:g}, sigma_max {high:g} and sigma_data {data:g}: expected "
                "0 < sigma_min < sigma_max and 0 < sigma_data."
            )
        return Preconditioned(unet, data, low, high)
    try:
        with warnings.catch_warnings(action="ignore"):
            kept = class_of("DDPMScheduler", folder).from_config(dict(schedule)).alphas_cumprod
    except CheckpointError:
        raise
    except Exception as error:  # whatever diffusers makes of settings that it does not know
        raise CheckpointError(f"{folder / SCHEDULER} holds no {kind}: {error}.") from error
    levels = ((1 - kept) / kept).sqrt()
    if len(levels) < 2 or not levels.isfinite().all() or not (levels > 0).all() or not (levels.diff() > 0).all():
        raise CheckpointError(
            f"{folder / SCHEDULER} has levels of noise from {levels.min():g} to {levels.max():g}: expected two or more "
            "finite ones that rise."
        )
    return Discrete(unet, levels)
