"""Any input size for networks that need a multiple."""

import torch.nn.functional as F

from unseen.types import Images


def pad_to_multiple(images: Images, multiple: int) -> Images:
    """Grow `images` at the right and the bottom to a multiple of `multiple` pixels, repeating the border.

    Crop the result with `[..., :h, :w]`.
    """
    height, width = images.shape[-2:]
    down, right = -height % multiple, -width % multiple
    return F.pad(images, (0, right, 0, down), mode="replicate") if down or right else images
