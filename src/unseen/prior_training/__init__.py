"""Small priors of our own, trained on a folder of images and saved as folders of diffusers: a variational autoencoder,
a VQGAN, a diffusion model of pixels. Needs the extra `priors`.

`train_prior` trains what a `PriorExperiment` says; `unseen.priors` opens what comes of it.
"""

from unseen.prior_training.diffusion import Diffusion
from unseen.prior_training.experiment import ALL, KINDS, AnyKind, PriorExperiment, resolved
from unseen.prior_training.loop import TrainedPrior, train_prior
from unseen.prior_training.recipe import PriorRecipe
from unseen.prior_training.vae import VAE
from unseen.prior_training.vqgan import VQGAN

__all__ = [
    "ALL",
    "KINDS",
    "VAE",
    "VQGAN",
    "AnyKind",
    "Diffusion",
    "PriorExperiment",
    "PriorRecipe",
    "TrainedPrior",
    "resolved",
    "train_prior",
]
