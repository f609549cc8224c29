"""Any input size for networks that need a multiple."""

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from unseen.types import Images


def pad_to_multiple(images: Images, multiple: int, mirror: bool = False) -> Float[Tensor, "b c padded_h padded_w"]:
    """Grow `images` at the right and the bottom to a multiple of `multiple` pixels, repeating the border.

    With `mirror` they are reflected there instead, without repeating the border, where they are large enough for that.
    Crop the result with `[..., :h, :w]`.
    """
    height, width = images.shape[-2:]
    down, right = -height % multiple, -width % multiple
    mode = "reflect" if mirror and down < height and right < width else "replicate"
    return F.pad(images, (0, right, 0, down), mode=mode) if down or right else images
