"""Content priors: what a pretrained generative model knows of images, as an interface of a few lines.

`open_prior` gives a frozen `Prior`; `PriorConfig` names one in an experiment; `PriorL1` trains with one.
`open_denoiser` and `DenoiserConfig` do the same for diffusion models.
"""

from unseen.priors.base import Latents, Prior, Tap
from unseen.priors.denoiser import Denoiser, DenoiserConfig, open_denoiser
from unseen.priors.loss import DiffusionL1, PriorL1
from unseen.priors.opening import PriorConfig, blank, essence, open_prior

__all__ = [
    "Denoiser",
    "DenoiserConfig",
    "DiffusionL1",
    "Latents",
    "Prior",
    "PriorConfig",
    "PriorL1",
    "Tap",
    "blank",
    "essence",
    "open_denoiser",
    "open_prior",
]
