"""Restore whole images of any size with bounded memory."""

import numpy as np
import torch
from jaxtyping import UInt8

from unseen.images import PEAK, to_bytes
from unseen.types import Restorer


def restore_image(
    restorer: Restorer, image: UInt8[np.ndarray, "h w 3"], tile: int = 768, halo: int = 128
) -> UInt8[np.ndarray, "h w 3"]:
    """Restore an 8-bit RGB image of any size, rounded back to 8 bits.

    Images larger than `tile` pixels a side are restored in tiles that see `halo` pixels of their surroundings.
    Where the halo is at least the reach of the network (2 pixels per block and 2 more for a ResNet) the result
    is that of the whole image at once.
    """
    height, width = image.shape[:2]
    restored = np.empty_like(image)
    for top in range(0, height, tile):
        for left in range(0, width, tile):
            bottom, right = min(top + tile, height), min(left + tile, width)
            above, before = min(halo, top), min(halo, left)
            seen = image[top - above : bottom + halo, left - before : right + halo]
            degraded = torch.from_numpy(np.ascontiguousarray(seen)).permute(2, 0, 1)[None].float() / PEAK
            with torch.inference_mode():
                values = restorer(degraded).clamp(0, 1)[
                    0, :, above : above + bottom - top, before : before + right - left
                ]
            restored[top:bottom, left:right] = to_bytes(values.permute(1, 2, 0).numpy())
    return restored
