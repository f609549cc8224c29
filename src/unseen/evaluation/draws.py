"""Bias and variance over draws of the noise: what happened to the content, and how much of the noise leaked through.

The same clean image is degraded K times, by other noise, and restored each time. With `m` the mean of the restored
images f_k, the mean squared error is split without a remainder: bias, `|m - B|^2`, is what was done to the content (by
smoothing, by clipping); variance is what of the noise is left. Both are estimated without bias for any K >= 2:
`variance = sum_k |f_k - m|^2 / (K - 1)`, `bias = |m - B|^2 - variance / K` (so that an image's bias may come out below
0). Geman, Bienenstock, Doursat, "Neural networks and the bias/variance dilemma", Neural Computation 4(1), 1992.

Both are energies, so the same holds in each octave (`unseen.evaluation.bands`): blotches that leaked through are
variance in the coarse ones, textures that were smoothed away are bias in the fine ones.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from unseen.evaluation.bands import energies
from unseen.rows import BANDS
from unseen.types import Images


def split(restored: Sequence[Images], clean: Images, bands: bool = False) -> dict[str, Float[Tensor, "b"]]:
    """Per image, in float64: `bias` and `variance`, each a sum over the image, and with `bands` the same of each octave
    of `unseen.rows.BANDS`. `restored` are K >= 2 draws."""
    count = len(restored)
    draws = torch.stack([images.double() for images in restored])
    mean = draws.mean(dim=0)
    spread, off = draws - mean, mean - clean.double()
    found = _unbiased(off.square().sum(dim=(1, 2, 3)), spread.square().sum(dim=(0, 2, 3, 4)), count)
    if bands:
        octaves = _unbiased(energies(off), torch.stack([energies(each) for each in spread]).sum(dim=0), count)
        found |= {f"{name}_{band}": part[:, at] for name, part in octaves.items() for at, band in enumerate(BANDS)}
    return found


def _unbiased(off: Tensor, spread: Tensor, count: int) -> dict[str, Tensor]:
    """From the energies of m - B and, summed over K draws, of f_k - m."""
    variance = spread / (count - 1)
    return {"bias": off - variance / count, "variance": variance}
