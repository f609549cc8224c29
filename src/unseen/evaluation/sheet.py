"""The preview sheet: what a degradation does, at a glance."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw
from torch import Tensor

from unseen.backgrounds import Backgrounds
from unseen.degradations import preset, unseen_by
from unseen.evaluation.quality import psnr_rgb
from unseen.images import to_bytes, write_image
from unseen.seeding import generator
from unseen.types import Outcome

LINE = 16  # pixels for a line of a caption
MARGIN = 4  # pixels beside it
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
    wide, measure = len(TILES) * size, ImageDraw.Draw(Image.new("RGB", (1, 1))).textlength
    rows: list[tuple[list[str], list[Image.Image]]] = []
    described = []
    for number, (name, degradation) in enumerate(zip(names, degradations, strict=True)):
        clean = images.patches([generator(seed, "preview", number)], size)
        batch = degradation.render(clean, degradation.sample((size, size), [generator(seed, "preview", name)]))
        psnr = psnr_rgb(Outcome(batch, batch.degraded)).item()
        tiles = (batch.clean, batch.degraded, batch.layer.clamp(max=1), batch.mask)
        caption = wrapped(f"{degradation.describe()} - {psnr:.1f} dB", wide - 2 * MARGIN, measure)
        rows.append((caption, [_picture(tile[0]) for tile in tiles]))
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
    sheet = Image.new("RGB", (wide, LINE + sum(LINE * len(caption) + size for caption, _ in rows)), "white")
    pen, top = ImageDraw.Draw(sheet), LINE
    for column, title in enumerate(TILES):
        pen.text((column * size + MARGIN, 2), title, fill="grey")
    for caption, pictures in rows:
        for line in caption:
            pen.text((MARGIN, top + 2), line, fill="black")
            top += LINE
        for column, picture in enumerate(pictures):
            sheet.paste(picture, (column * size, top))
        top += size
    write_image(path, np.asarray(sheet))
    return described


def wrapped(text: str, width: int, measure: Callable[[str], float]) -> list[str]:
    """The words of a text in lines of at most `width`; a word that is wider has a line of its own."""
    first, *words = text.split(" ")
    lines = [first]
    for word in words:
        longer = f"{lines[-1]} {word}"
        if measure(longer) <= width:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines


def _picture(tile: Tensor) -> Image.Image:
    """Of a tile (c, h, w) of one or three colours."""
    return Image.fromarray(to_bytes(tile.expand(3, -1, -1).permute(1, 2, 0).contiguous().numpy()))
