"""Choosing images by their complexity: the simplest, the most complex, or a band of quantiles."""

import json
import math
from collections.abc import Iterator, Sequence
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import Literal, Self

import torch
from pydantic import Field, model_validator

from unseen.complexity.compression import compression
from unseen.complexity.gradients import gradient_entropy
from unseen.complexity.naming import measuring
from unseen.complexity.record import MEASURES
from unseen.complexity.spectrum import spectral_slope
from unseen.complexity.structural import structural
from unseen.complexity.threads import one_thread
from unseen.errors import ConfigError
from unseen.files import whole
from unseen.images import PEAK, Bytes
from unseen.ranges import Frozen
from unseen.store import user_cache

ChoiceMeasure = Literal["compression", "structural", "spectral_slope", "gradient_entropy"]

_OF = {
    "compression": compression,
    "structural": lambda images: structural(images).sum(1),
    "spectral_slope": spectral_slope,
    "gradient_entropy": gradient_entropy,
}


class ByComplexity(Frozen):
    """Which images, by a measure of their complexity (docs/complexity.md).

    `order` is that in which subsets of growing size take them: the "simplest" first, the "most complex" first, or at
    "random" (the seed's order). `low` and `high` are quantiles: only images between them are taken. Fixed patches are
    chosen `among` so many, cut from all images.
    """

    measure: ChoiceMeasure = "compression"
    order: Literal["simplest", "most complex", "random"] = "simplest"
    low: float = Field(default=0.0, ge=0, le=1)
    high: float = Field(default=1.0, ge=0, le=1)
    among: int = Field(default=1024, ge=1)

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.low >= self.high:
            raise ValueError(f"low is {self.low:g}, not below high, {self.high:g}: they are the ends of a band")
        return self

    def ends(self, number: int) -> tuple[int, int]:
        """Where among `number` images in order the band begins and ends, at least one of them: bands that meet share
        no image, unless there are fewer images than bands."""
        first = min(round(self.low * number), number - 1)
        return first, max(first + 1, round(self.high * number))

    def chosen(self, values: Sequence[float], shuffled: Sequence[int], names: Sequence[str] = ()) -> list[int]:
        """Indices of `values` in the order in which they are taken; `shuffled` is the order of "random".

        Ties are in the order of `values`. ConfigError, with the first of the images' `names`, where the measure is
        undefined.
        """
        if undefined := [index for index, value in enumerate(values) if not math.isfinite(value)]:
            first = f", {names[undefined[0]]} first" if names else ""
            raise ConfigError(
                f"The measure {self.measure} is undefined for {len(undefined)} of {len(values)} images (flat, or too "
                f"small){first}: choose by compression."
            )
        more = 1 if MEASURES[self.measure].more == "higher" else -1
        rising = sorted(range(len(values)), key=lambda index: more * values[index])
        band = rising[slice(*self.ends(len(rising)))]
        if self.order == "simplest":
            return band
        if self.order == "most complex":
            return band[::-1]
        within = set(band)
        return [index for index in shuffled if index in within]


@one_thread()
def measured_once(
    measure: ChoiceMeasure, images: Iterator[tuple[str, Bytes]], name: str, cache: Path | None = None
) -> list[float]:
    """The measure of each image, kept in `cache` (default: ~/.cache/unseen) under `name`, which identifies them. Errors
    name the image.

    Where they are known, `images` is not asked for anything. A cache that cannot be written is done without.
    """
    folder = user_cache() if cache is None else cache
    path = folder / f"complexity-{sha256(f'1 {measure} {name}'.encode()).hexdigest()}.json"
    with suppress(OSError, ValueError):
        return [float(value) for value in json.loads(path.read_text())]
    found = []
    for image_name, image in images:
        with measuring(image_name):
            pixels = torch.from_numpy(image.copy()).permute(2, 0, 1)[None] / PEAK
            found.append(_OF[measure](pixels).item())
    with suppress(OSError), whole(path) as temporary:
        temporary.write_text(json.dumps(found))
    return found
