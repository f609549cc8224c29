"""Denoising as Karras et al. have it (Elucidating the Design Space of Diffusion-Based Generative Models, NeurIPS 2022).

`sigma` is the standard deviation of the noise, in the units of the images; `sigma_data` that of clean images.
"""

from collections.abc import Callable
from itertools import pairwise
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from unseen.types import Images

Sigmas = Float[Tensor, "b"]
"""One level of noise for each image."""

Body = Callable[[Images, Sigmas], Images]
"""A network of scaled images and of the number that tells it the level of noise."""


class Scalings(NamedTuple):
    """c_skip, c_out, c_in and c_noise of Table 1, each one for each image."""

    skip: Sigmas
    out: Sigmas
    into: Sigmas
    noise: Sigmas


def scalings(sigma: Sigmas, sigma_data: float) -> Scalings:
    """Table 1, last column: with them what enters the network, and what it is to say, have unit variance."""
    total = (sigma.square() + sigma_data**2).sqrt()
    return Scalings(sigma_data**2 / total.square(), sigma * sigma_data / total, 1 / total, sigma.log() / 4)


def weight(sigma: Sigmas, sigma_data: float) -> Sigmas:
    """lambda(sigma) of Table 1, 1 / c_out^2: every level of noise counts the same at the start."""
    return (sigma.square() + sigma_data**2) / (sigma * sigma_data).square()


def denoised(body: Body, noisy: Images, sigma: Sigmas, sigma_data: float) -> Images:
    """D(x; sigma) = c_skip x + c_out F(c_in x; c_noise), Eq. 7."""
    by = scalings(sigma, sigma_data)
    return _each(by.skip) * noisy + _each(by.out) * body(_each(by.into) * noisy, by.noise)


def sigmas(steps: int, low: float, high: float, rho: float = 7.0) -> Float[Tensor, "levels"]:
    """Levels of noise from `high` down to `low`, Eq. 5, and 0: `steps` + 1 in all. One step goes from `high` to 0."""
    at = torch.linspace(0, 1, steps, dtype=torch.float64) if steps > 1 else torch.zeros(1, dtype=torch.float64)
    ends = high ** (1 / rho), low ** (1 / rho)
    levels = (ends[0] + at * (ends[1] - ends[0])) ** rho
    return torch.cat((levels, levels.new_zeros(1))).float()


def heun(denoise: Body, noisy: Images, levels: Float[Tensor, "levels"]) -> Images:
    """From images with noise of the first level to the last, by Heun's second-order method: Algorithm 1 with
    sigma(t) = t and s(t) = 1. `denoise` is asked twice in every step but one to level 0."""
    for now, then in pairwise(levels):
        slope = _slope(denoise, noisy, now)
        there = noisy + (then - now) * slope
        if then > 0:
            there = noisy + (then - now) * (slope + _slope(denoise, there, then)) / 2
        noisy = there
    return noisy


def _slope(denoise: Body, noisy: Images, level: Tensor) -> Images:
    """dx / dsigma of the probability-flow equation, Eq. 1."""
    sigma = level.to(noisy).expand(len(noisy))
    return (noisy - denoise(noisy, sigma)) / _each(sigma)


def _each(values: Sigmas) -> Float[Tensor, "b 1 1 1"]:
    return values[:, None, None, None]
