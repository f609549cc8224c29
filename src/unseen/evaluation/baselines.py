"""Restorers that know nothing: a claim that one of these would also pass is void.

Each maps images "b c h w" in [0, 1] to images of the same shape, type and device. Borders are reflected; an axis too
short for that (1 or 2 pixels) is replicated.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from unseen.types import Images, Restorer

SIDE = 5
"""Side of the window of both filters, pixels."""

_VALUES_AT_ONCE = 2**16
"""Values of one band of the median: its 14 planes fit in a cache, and memory does not grow with the image."""


def identity(degraded: Images) -> Images:
    """Does nothing: what a blind network does."""
    return degraded


def _padded(images: Images) -> Float[Tensor, "b c padded_h padded_w"]:
    around = SIDE // 2
    for dim, sides in ((3, (around, around, 0, 0)), (2, (0, 0, around, around))):
        mode = "reflect" if images.shape[dim] > around else "replicate"
        images = torch.nn.functional.pad(images, sides, mode=mode)
    return images


def box(degraded: Images) -> Images:
    """The mean of each 5 x 5 window: removes much of any streak, and of the image."""
    total = _padded(degraded)
    for dim in (3, 2):
        inner = total.shape[dim] - SIDE + 1
        shifted = total
        total = shifted.narrow(dim, 0, inner).clone()
        for place in range(1, SIDE):
            total.add_(shifted.narrow(dim, place, inner))
    return total.div_(SIDE * SIDE).clamp_(0, 1)


def median(degraded: Images) -> Images:
    """The exact median of each 5 x 5 window of each channel. Memory beyond the output does not grow with the height."""
    padded = _padded(degraded)
    rows, columns = degraded.shape[-2:]
    restored = torch.empty_like(degraded)
    band = max(1, _VALUES_AT_ONCE // max(1, degraded[:, :, 0].numel()))
    for first in range(0, rows, band):
        count = min(band, rows - first)
        views = [
            padded[:, :, first + down : first + down + count, right : right + columns]
            for down in range(SIDE)
            for right in range(SIDE)
        ]
        restored[:, :, first : first + count] = _middle(views)
    return restored


def _middle(planes: list[Tensor]) -> Tensor:
    """The elementwise median of an odd number of planes, by forgetful selection (Paeth, Graphics Gems I, 1990).

    Of 14 of 25 values neither the least nor the greatest can be the median: forget both, take in another, and so on
    to the last one. Minima and maxima of whole planes are far quicker than a sort per pixel.
    """
    held, waiting = planes[: len(planes) // 2 + 2], planes[len(planes) // 2 + 2 :]
    while len(held) > 1:
        kept, least, greatest = [], held[0], held[1]
        least, greatest = torch.minimum(least, greatest), torch.maximum(least, greatest)
        for plane in held[2:]:
            above = torch.maximum(least, plane)
            least = torch.minimum(least, plane)
            kept.append(torch.minimum(greatest, above))
            greatest = torch.maximum(greatest, above)
        held = [*kept, *waiting[:1]]
        waiting = waiting[1:]
    return held[0]


BASELINES: dict[str, Restorer] = {"identity": identity, "median": median, "box": box}
"""Every table has a row for each."""
