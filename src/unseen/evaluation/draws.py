"""Bias and variance over draws of the noise: what happened to the content, and how much of the noise leaked through.

The same clean image is degraded K times, by other noise, and restored each time. With `m` the mean of the restored
images f_k, the mean squared error is split without a remainder: bias, `|m - B|^2`, is what was done to the content (by
smoothing, by clipping); variance is what of the noise is left. Both are estimated without bias for any K >= 2:
`variance = sum_k |f_k - m|^2 / (K - 1)`, `bias = |m - B|^2 - variance / K` (so that an image's bias may come out below
0). Geman, Bienenstock, Doursat, "Neural networks and the bias/variance dilemma", Neural Computation 4(1), 1992.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from unseen.types import Images


def split(restored: Sequence[Images], clean: Images) -> dict[str, Float[Tensor, "b"]]:
    """Per image, in float64: `bias` and `variance`, each a sum over the image. `restored` are K >= 2 draws."""
    count = len(restored)
    draws = torch.stack([images.double() for images in restored])
    mean = draws.mean(dim=0)
    variance = (draws - mean).square_().sum(dim=(0, 2, 3, 4)) / (count - 1)
    bias = (mean - clean.double()).square_().sum(dim=(1, 2, 3)) - variance / count
    return {"bias": bias, "variance": variance}
