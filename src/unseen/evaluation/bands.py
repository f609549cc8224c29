"""Decoupling by frequency, which needs no mask: in each octave, what was kept of the degradation, and what is wrong.

An octave is a range of periods, `1 / sqrt(u^2 + v^2)` for frequencies in cycles per pixel. Frequencies are those of the
orthonormal cosine transform (DCT-II), which continues the image by reflection: no false edges at its borders, and the
energies of all octaves add up to that of the whole (Parseval).
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from unseen.rows import BANDS
from unseen.types import Outcome

EDGES = (16.0, 8.0, 4.0)
"""Periods between the bands, pixels, from coarse to fine."""


def cosines(planes: Float[Tensor, "*b h w"]) -> Float[Tensor, "*b h w"]:
    """The orthonormal two-dimensional DCT-II, by FFT (Makhoul, IEEE TASSP 28(1), 1980)."""
    for dim in (-1, -2):
        planes = _along(planes, dim)
    return planes


def _along(planes: Tensor, dim: int) -> Tensor:
    planes = planes.movedim(dim, -1)
    count = planes.shape[-1]
    folded = torch.cat([planes[..., ::2], planes[..., 1::2].flip(-1)], dim=-1)
    angle = torch.arange(count, device=planes.device, dtype=planes.dtype) * (-math.pi / (2 * count))
    turned = torch.fft.fft(folded) * torch.polar(torch.ones_like(angle), angle)
    found = turned.real * math.sqrt(2 / count)
    found[..., 0] *= math.sqrt(0.5)
    return found.movedim(-1, dim)


def _bands(height: int, width: int, device: torch.device) -> Tensor:
    """The number of the band of each coefficient, (h w)."""
    down, across = (torch.arange(side, device=device, dtype=torch.float64) / (2 * side) for side in (height, width))
    frequency = torch.hypot(down[:, None], across)
    edges = torch.tensor([1 / edge for edge in EDGES], device=device, dtype=torch.float64)
    return torch.bucketize(frequency, edges, right=True).flatten()


def _by_band(products: Float[Tensor, "b c h w"]) -> Float[Tensor, "b bands"]:
    """Sums over channels and over the coefficients of each band."""
    band = _bands(products.shape[-2], products.shape[-1], products.device)
    total = products.sum(dim=1).flatten(1)
    return total.new_zeros(len(total), len(BANDS)).index_add_(1, band, total)


def energies(planes: Float[Tensor, "b c h w"]) -> Float[Tensor, "b bands"]:
    """The energy in each of `unseen.rows.BANDS`, over all channels."""
    return _by_band(cosines(planes).square())


def band_sums(outcome: Outcome) -> dict[str, Float[Tensor, "b"]]:
    """Per image and band, in float64, sums over coefficients and channels: the energy of f - B, that of O - B, and
    their product. The atoms `error_*`, `degradation_*` and `alignment_*` of `unseen.rows.BANDS`."""
    batch = outcome.batch
    error, degradation = (cosines(some.double() - batch.clean.double()) for some in (outcome.restored, batch.degraded))
    found = {
        "error": _by_band(error * error),
        "degradation": _by_band(degradation * degradation),
        "alignment": _by_band(error * degradation),
    }
    return {f"{name}_{band}": sums[:, index] for name, sums in found.items() for index, band in enumerate(BANDS)}
