"""Functions and noises as orthonormal columns to be mixed, and the noises that no network has seen.

Letters: `n` samples, `d` columns, `count` how many are drawn. A *mixing* is an (n, n) matrix whose product with
standard normal numbers is a function, or a noise, of mean square 1: columns scaled by sqrt(n / d), then zeros.
"""

import math
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from unseen.seeding import generator

Mixing = Float[Tensor, "n n"]
Samples = Float[Tensor, "count n"]


def fourier(samples: int, first: int, last: int) -> Float[Tensor, "n d"]:
    """Cosines and sines of the frequencies `first` to `last`; of samples / 2, the Nyquist frequency, the cosine alone.

    A frequency is in periods per signal.
    """
    angle = 2 * math.pi * torch.arange(samples, dtype=torch.float64) / samples
    columns = []
    for frequency in range(first, last + 1):
        columns.append(torch.cos(frequency * angle))
        if 2 * frequency != samples:
            columns.append(torch.sin(frequency * angle))
    found = torch.stack(columns, dim=1)
    return found / found.norm(dim=0)


def functions(samples: int, frequencies: int) -> Mixing:
    return mixing(fourier(samples, 1, frequencies))


def foreign_functions(samples: int, frequencies: int) -> Mixing:
    """As many frequencies again, just above those trained on; fewer where there are fewer."""
    return mixing(fourier(samples, frequencies + 1, min(2 * frequencies, samples // 2)))


def noise(samples: int, patterns: int, seed: int, which: str = "patterns") -> Mixing:
    """The first `patterns` of a random rotation's columns: more patterns hold the fewer."""
    normal = torch.randn(samples, samples, generator=generator(seed, "toy", which), dtype=torch.float64)
    q, r = torch.linalg.qr(normal)
    return mixing((q * r.diagonal().sign())[:, :patterns])  # signs: uniform over rotations (Mezzadri 2007)


def mixing(columns: Float[Tensor, "n d"]) -> Mixing:
    samples, number = columns.shape
    found = columns.new_zeros(samples, samples)
    found[:, :number] = columns * math.sqrt(samples / number)
    return found


def white(count: int, samples: int, rng: torch.Generator) -> Samples:
    return torch.randn(count, samples, generator=rng)


def spikes(count: int, samples: int, rng: torch.Generator) -> Samples:
    """One sample, anywhere, up or down by sqrt(n)."""
    place = torch.randint(samples, (count, 1), generator=rng)
    sign = 2.0 * torch.randint(2, (count, 1), generator=rng) - 1
    return torch.zeros(count, samples).scatter_(1, place, sign * math.sqrt(samples))


def bursts(count: int, samples: int, rng: torch.Generator) -> Samples:
    """White noise of twice the height over a quarter of the signal, anywhere; the signal is a circle."""
    first = torch.randint(samples, (count, 1), generator=rng)
    inside = (torch.arange(samples) - first) % samples < samples / 4
    height = math.sqrt(samples / math.ceil(samples / 4))
    return torch.randn(count, samples, generator=rng) * inside * height


OTHER_PATTERNS = "other patterns"

SAME_FOR_ALL: dict[str, Callable[[int, int, torch.Generator], Samples]] = {
    "white": white,
    "spikes": spikes,
    "bursts": bursts,
}
"""Unseen noises that do not hang on the number of patterns. Each has the identity for its covariance."""
