"""Compression: how many bits a lossless coder needs.

The shortest description bounds what there is to describe (Kolmogorov 1965); a coder gives an upper bound of it. The
coder is WebP's lossless one: of those in Pillow that give back every bit of RGB (AVIF does not) it makes by far the
smallest files, PNG's and JPEG 2000's being 40 % larger on photographs and drawings (docs/complexity.md). It predicts
from neighbours, finds repetition and codes what is left by its frequency. Its effort is fixed (method 2, quality 50),
within 4 % of what ten times the time gives.
"""

import io
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from unseen.errors import ConfigError
from unseen.images import to_bytes

LONGEST = 16383
"""Longest side that the coder takes, pixels."""

_THREADS = 2  # the coder lets others run


def compression(images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b"]:
    """Bits per pixel, all channels together, of each image as an 8-bit lossless WebP file, headers included.

    Images are RGB, or of one channel, which is coded as grey; values beyond [0, 1] are clipped. Unit: bits per pixel;
    24 is raw RGB. Not invariant to anything exactly; mirroring, turning and brightness change it little, noise and
    contrast very much: noise is what cannot be compressed. Images below about 64 x 64 pay for the header. Cost: about
    25 ms for 256 x 256.

    Raises `ConfigError` for other numbers of channels, and for sides above 16,383 pixels, which it does not take.
    """
    if images.shape[1] not in (1, 3):
        raise ConfigError(f"The lossless coder takes RGB, or one channel of grey, not {images.shape[1]} channels.")
    if max(images.shape[-2:]) > LONGEST:
        raise ConfigError(
            f"The lossless coder takes sides of at most {LONGEST:,} pixels, not {tuple(images.shape[-2:])}: crop first."
        )
    pixels = to_bytes(images.expand(-1, 3, -1, -1).permute(0, 2, 3, 1).cpu().numpy())
    with ThreadPoolExecutor(_THREADS) as threads:
        sizes = list(threads.map(_size, pixels))
    return torch.tensor(sizes, dtype=torch.float64) / (images.shape[-2] * images.shape[-1])


def _size(pixels: np.ndarray) -> int:
    """Bits of one image, (h, w, 3)."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "WEBP", lossless=True, method=2, quality=50)
    return 8 * file.tell()
