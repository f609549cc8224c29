"""The picture in README: photographs that come with scikit-image, in named rains, and what `unseen.load("rain")` makes.

.venv/bin/python scripts/before_after.py docs/restored.jpg
"""

import sys
from pathlib import Path

import numpy as np
import skimage
import torch

import unseen
from unseen.images import to_bytes, write_image
from unseen.seeding import generator

SHOWN = (("astronaut", "layered"), ("chelsea", "steep"), ("coffee", "long"))
SIDE = 288


def main() -> None:
    restore = unseen.load("rain")
    columns = []
    for name, rain in SHOWN:
        photo = getattr(skimage.data, name)()
        top, left = ((side - SIDE) // 2 for side in photo.shape[:2])
        clean = torch.from_numpy(photo[top : top + SIDE, left : left + SIDE].copy()).permute(2, 0, 1)[None] / 255
        degradation = unseen.Rain.preset(rain, scale=0.5)
        params = degradation.sample((SIDE, SIDE), [generator(0, "before", name)])
        rainy = to_bytes(degradation.render(clean, params).degraded[0].permute(1, 2, 0).numpy())
        columns.append(np.concatenate([rainy, np.asarray(restore(rainy))]))
    write_image(Path(sys.argv[1]), np.concatenate(columns, axis=1))


if __name__ == "__main__":
    main()
