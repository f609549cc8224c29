"""How fast rain is rendered, against OpenCV's filter2D with one kernel per group of equal streaks.

    .venv/bin/python benchmarks/rain.py

Both render the same drops onto the same 16 patches of 128 x 128 pixels, from parameters to degraded image and mask,
on one thread. Positions and lengths are rounded to whole pixels, so that a streak is a shifted copy of a kernel and
drops of one length, width and direction share it: what filter2D needs, and `Rain` does not.

Two rains. "large" is the preset, where every drop has a length and width of its own: few share a kernel. "one size"
draws them once per image, as in published code that convolves noise with a line: there filter2D is at its best.

The kernels are written here anew from the documented profile, so the agreement printed first also tests `Rain`; the
script fails where any pixel differs by `TOLERANCE`. Read the ratios as: how many times longer filter2D takes. "with
kernels" counts making them, which a program that draws new rain for every batch has to; "filtering alone" does not.
Times are processor time: on one thread the wall time of an idle machine, and on a shared one without the waiting.
"""

import argparse
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import date
from statistics import median

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from unseen.degradations import Rain
from unseen.degradations.rain import RainParams
from unseen.seeding import generator
from unseen.training import processor
from unseen.types import Batch

PATCHES, SIZE = 16, 128
TOLERANCE = 1e-4

Pixels = NDArray[np.float32]


@dataclass(frozen=True)
class Group:
    """Drops of one image with equal length, width and direction: rows, columns, and brightness."""

    image: int
    length: float
    width: float
    direction: float
    drops: NDArray[np.float64]


def drops_on_whole_pixels(rain: Rain, one_size: bool) -> RainParams:
    """Drawn by `Rain` itself, then rounded. `one_size`: length and width of an image are those of its first drop."""
    params = rain.sample((SIZE, SIZE), [generator(0, "benchmark", image) for image in range(PATCHES)])
    length, width = params.length.round(), params.width
    if one_size:
        first = torch.searchsorted(params.image, torch.arange(PATCHES))[params.image]
        length, width = length[first], width[first]
    return replace(params, row=params.row.round(), column=params.column.round(), length=length, width=width)


def grouped(params: RainParams) -> list[Group]:
    columns = (
        params.image,
        params.length,
        params.width,
        params.direction,
        params.row,
        params.column,
        params.brightness,
    )
    together: dict[tuple[float, ...], list[list[float]]] = defaultdict(list)
    for image, length, width, direction, *drop in torch.stack([each.double() for each in columns], 1).tolist():
        together[image, length, width, direction].append(drop)
    return [
        Group(int(image), length, width, direction, np.array(drops))
        for (image, length, width, direction), drops in together.items()
    ]


def smooth(rise: NDArray[np.float64]) -> NDArray[np.float64]:
    u = rise.clip(0, 1)
    return u * u * (3 - 2 * u)


def kernel(group: Group) -> Pixels:
    """The streak at pixel centres, of brightness 1, in the smallest box with odd sides; turned by half a circle,
    because filter2D correlates.

    Across, it falls smoothly from 1 on the axis to 0 a width away: as wide as the streak at half its height. Along, a
    top is as flat and its ends as soft as gives half the height at half the length.
    """
    end, radians = min(group.width, group.length), np.deg2rad(group.direction)
    down, right = np.cos(radians), -np.sin(radians)
    half_length = (group.length + end) / 2
    rows = int(half_length * abs(down) + group.width * abs(right))
    columns = int(half_length * abs(right) + group.width * abs(down))
    row, column = np.arange(-rows, rows + 1)[:, None], np.arange(-columns, columns + 1)
    along, across = np.abs(row * down + column * right), np.abs(column * down - row * right)
    streak = smooth(1 - across / group.width) * smooth((half_length - along) / end)
    return np.ascontiguousarray(streak[::-1, ::-1], dtype=np.float32)


def filtered(groups: Sequence[Group], kernels: Sequence[Pixels]) -> Pixels:
    """All streaks by filter2D. A group's map reaches beyond the image as far as its kernel does, and no farther."""
    layer = np.zeros((PATCHES, 1, SIZE, SIZE), dtype=np.float32)
    for group, streak in zip(groups, kernels, strict=True):
        down, right = streak.shape[0] // 2, streak.shape[1] // 2
        row, column = (group.drops[:, :2] + (down, right)).astype(int).T
        inside = (row >= 0) & (row < SIZE + 2 * down) & (column >= 0) & (column < SIZE + 2 * right)
        if not inside.any():
            continue
        impulses = np.zeros((SIZE + 2 * down, SIZE + 2 * right), dtype=np.float32)
        np.add.at(impulses, (row[inside], column[inside]), group.drops[inside, 2])
        rained = cv2.filter2D(impulses, cv2.CV_32F, streak, borderType=cv2.BORDER_CONSTANT)
        layer[group.image, 0] += rained[down : down + SIZE, right : right + SIZE]
    return layer


def degraded_and_mask(clean: Pixels, layer: Pixels, threshold: float) -> tuple[Pixels, Pixels]:
    degraded = (clean + layer).clip(0, 1)
    return degraded, (np.abs(degraded - clean).max(1, keepdims=True) > threshold).astype(np.float32)


def seconds(work: Callable[[], object]) -> float:
    began = time.process_time()
    work()
    return time.process_time() - began


def compare(name: str, one_size: bool, repeats: int) -> float:
    """Prints one rain, and returns the largest difference between the two renderings of it."""
    rain = Rain.preset("large")
    params = drops_on_whole_pixels(rain, one_size)
    clean = torch.rand((PATCHES, 3, SIZE, SIZE), generator=generator(0, "benchmark", "clean"))
    groups, clean_array = grouped(params), clean.numpy()
    kernels = [kernel(group) for group in groups]

    def ours() -> Batch:
        return rain.render(clean, params)

    def theirs() -> tuple[Pixels, Pixels, Pixels]:
        layer = filtered(groups, kernels)
        return layer, *degraded_and_mask(clean_array, layer, rain.mask_threshold)

    batch, (layer, degraded, _) = ours(), theirs()
    difference = max(
        float(np.abs(batch.layer.numpy() - layer).max()), float(np.abs(batch.degraded.numpy() - degraded).max())
    )
    times: dict[str, list[float]] = defaultdict(list)
    for _ in range(repeats):  # in turn, so that other load on the machine hits all of them
        times["rain"].append(seconds(ours))
        times["filtering"].append(seconds(theirs))
        times["kernels"].append(seconds(lambda: [kernel(group) for group in groups]))
    rendering, filtering, making = (median(times[part]) for part in ("rain", "filtering", "kernels"))
    print(f"{name}: {len(params.image)} drops in {len(groups)} groups; largest difference {difference:.1e}")
    print(f"  Rain.render                {1e3 * rendering:8.1f} ms")
    print(f"  filter2D, filtering alone  {1e3 * filtering:8.1f} ms   ratio {filtering / rendering:6.2f}")
    print(f"  filter2D, with kernels     {1e3 * (filtering + making):8.1f} ms   ratio "
          f"{(filtering + making) / rendering:6.2f}")  # fmt: skip
    return difference


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=9, help="timings of each, of which the median is printed")
    repeats = parser.parse_args().repeats
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    print(f"{processor()}, 1 thread, {date.today()}; torch {torch.__version__}, OpenCV {cv2.__version__}; "
          f"{PATCHES} patches of {SIZE} x {SIZE}, medians of {repeats}")  # fmt: skip
    differences = [compare("large", False, repeats), compare("large, one size per image", True, repeats)]
    if max(differences) >= TOLERANCE:
        sys.exit(f"The renderings differ by {max(differences):.1e}; at most {TOLERANCE:.0e} is rounding.")


if __name__ == "__main__":
    main()
