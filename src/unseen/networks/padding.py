"""Any input size for networks that need a multiple."""

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from unseen.types import Images


def pad_to_multiple(images: Images, multiple: int) -> Float[Tensor, "b c padded_h padded_w"]:
    """Grow `images` at the right and the bottom to a multiple of `multiple` pixels, repeating the border.

    Crop the result with `[..., :h, :w]`.
    """
    height, width = images.shape[-2:]
    down, right = -height % multiple, -width % multiple
    return F.pad(images, (0, right, 0, down), mode="replicate") if down or right else images
