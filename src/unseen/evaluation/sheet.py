"""The preview sheet: what a degradation does, at a glance."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from unseen.backgrounds import Backgrounds
from unseen.degradations import preset, unseen_by
from unseen.evaluation.quality import psnr_rgb
from unseen.images import to_bytes, write_image
from unseen.seeding import generator
from unseen.types import Outcome

LINE = 16  # pixels for a caption
TILES = ("clean", "degraded", "layer", "mask")


def draw_sheet(
    images: Backgrounds, names: Sequence[str], *, scale: float, size: int, seed: int, path: Path
) -> list[dict[str, Any]]:
    """Write a picture with a row per named degradation: the clean image, degraded, layer and mask.

    `size` is the side of a tile in pixels. Returns, for each, its share of masked pixels, the PSNR (RGB, dB) of the
    degraded image and the training presets of its family that it is outside of, with the factors.
    """
    degradations = [preset(name, scale) for name in names]
    apart: dict[str, dict[str, tuple[str, ...]]] = {}
    for family in {degradation.family for degradation in degradations}:
        apart |= unseen_by(family, scale)
    sheet = Image.new("RGB", (len(TILES) * size, LINE + len(names) * (size + LINE)), "white")
    pen = ImageDraw.Draw(sheet)
    for column, title in enumerate(TILES):
        pen.text((column * size + 4, 2), title, fill="grey")
    described = []
    for number, (name, degradation) in enumerate(zip(names, degradations, strict=True)):
        clean = images.patches([generator(seed, "preview", number)], size)
        batch = degradation.render(clean, degradation.sample((size, size), [generator(seed, "preview", name)]))
        psnr = psnr_rgb(Outcome(batch, batch.degraded)).item()
        tiles = (batch.clean, batch.degraded, batch.layer.clamp(max=1), batch.mask)
        top = LINE + number * (size + LINE)
        for column, tile in enumerate(tiles):
            pixels = tile[0].expand(3, -1, -1).permute(1, 2, 0).contiguous().numpy()
            sheet.paste(Image.fromarray(to_bytes(pixels)), (column * size, top + LINE))
        pen.text((4, top + 2), f"{degradation.describe()} - {psnr:.1f} dB", fill="black")
        described.append(
            {
                "name": name,
                "description": degradation.describe(),
                "mask": batch.mask.mean().item(),
                "psnr_rgb": psnr,
                "labels": {key: value.item() for key, value in batch.labels.items()},
                "outside": {train: list(factors) for train, factors in apart.get(name, {}).items()},
            }
        )
    write_image(path, np.asarray(sheet))
    return described
