"""All measures over a folder of images, and over a degradation laid on them."""

from collections.abc import Callable, Iterable, Iterator
from itertools import groupby, islice

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from unseen.complexity.compression import compression
from unseen.complexity.gradients import gradient_entropy
from unseen.complexity.learned import Budget, Degrade, Patches, change, code_length, content
from unseen.complexity.naming import measuring
from unseen.complexity.record import MEASURES, CodeLength, Survey
from unseen.complexity.spectrum import spectral_slope
from unseen.complexity.structural import grain, structural
from unseen.complexity.threads import one_thread
from unseen.images import PEAK, Bytes
from unseen.seeding import generator

Progress = Callable[[str, int, int], None]
"""Told what is being done, how much of it is done, and of how much."""

LAYERS = 24
"""How many layers of a degradation are drawn and measured."""

_PIXELS = 2**19  # of images of one size, measured at once: eight of 256 x 256; at least one image


@one_thread()
def measured(images: Iterable[tuple[str, Tensor]]) -> pd.DataFrame:
    """The `table` of a `Survey`: a line per image, given by name, (c, h, w) in [0, 1], of any sizes, one at a time."""
    lines = []
    for (height, width), group in groupby(images, key=lambda pair: pair[1].shape[-2:]):
        while some := list(islice(group, max(1, _PIXELS // (height * width)))):
            with measuring(_named([name for name, _ in some])):
                together = torch.stack([image for _, image in some])
                scales = structural(together)
                found = {
                    "compression": compression(together),
                    "structural": scales.sum(1),
                    "grain": grain(scales),
                    "spectral_slope": spectral_slope(together),
                    "gradient_entropy": gradient_entropy(together),
                    **{f"scale_{2**k}": scales[:, k] for k in range(scales.shape[1])},
                }
            for place, (name, _) in enumerate(some):
                values = {measure: each[place].item() for measure, each in found.items()}
                lines.append({"image": name, "height": height, "width": width, **values})
    table = pd.DataFrame(lines)
    sides = sorted(int(name.removeprefix("scale_")) for name in map(str, table) if name.startswith("scale_"))
    return table[["image", "height", "width", *MEASURES, *(f"scale_{side}" for side in sides)]]


def _named(images: list[str]) -> str:
    """Images of one size, by the first of them."""
    return images[0] if len(images) == 1 else f"{images[0]} and {len(images) - 1} more of its size"


def survey_images(
    name: str,
    images: Iterable[tuple[str, Bytes]],
    count: int,
    patches: Patches,
    *,
    budget: Budget | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> Survey:
    """Measure a set of images, by name and one at a time (`Backgrounds.crops` gives such), `count` in all; learn from
    what `patches` draws. `progress` counts images, then steps."""

    def each() -> Iterator[tuple[str, Tensor]]:
        for done, (image_name, image) in enumerate(images, 1):
            yield image_name, torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1) / PEAK
            if progress is not None:
                progress(f"measure {name}", done, count)

    table = measured(each())
    return Survey(name, "", table, _learned(content(patches, budget, seed), name, budget, seed, progress))


def survey_degradation(
    name: str,
    on: str,
    degrade: Degrade,
    patches: Patches,
    *,
    size: int = 256,
    layers: int = LAYERS,
    budget: Budget | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> Survey:
    """Measure a degradation on patches of the images `on`: the layers as pictures, `size` pixels a side; learned is
    what it changes (`learned.change`). `progress` counts layers, then steps."""

    def each() -> Iterator[tuple[str, Tensor]]:
        for number in range(layers):
            yield f"layer {number}", layer(degrade, patches, number, size, seed)
            if progress is not None:
                progress(f"measure {name} on {on}", number + 1, layers)

    table = measured(each())
    learned = _learned(change(patches, degrade, budget, seed), f"{name} on {on}", budget, seed, progress)
    return Survey(name, on, table, learned)


def layer(degrade: Degrade, patches: Patches, number: int, size: int, seed: int = 0) -> Float[Tensor, "1 size size"]:
    """Layer `number` of a degradation, clipped to [0, 1]: what it adds or, for those that add nothing, how much it
    changes, the largest over colour (`Batch.layer`)."""
    clean = patches([generator(seed, "complexity", "under a layer", number)], size)
    return degrade(clean, [generator(seed, "complexity", "layer", number)]).layer[0].clamp(0, 1)


def _learned(
    draw: Callable[[int], Tensor], what: str, budget: Budget | None, seed: int, progress: Progress | None
) -> CodeLength:
    told = None if progress is None else lambda done, total: progress(f"learn {what}", done, total)
    return code_length(draw, budget, seed, told)
