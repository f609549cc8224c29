"""How fast structural complexity is measured, and how far all measures agree with a dial of complexity.

    .venv/bin/python benchmarks/complexity.py

First, 1,000 random images of 256 x 256, 8 bits, from bytes to all scales, against a loop over images in NumPy; on one
thread, whatever the machine has. The loop is the formula as it stands: means over blocks, laid back, subtracted and
squared. Both agree within 1e-5 of the largest value, and the script fails where they do not, or where the bar is
missed: under 5 s, or 5 times faster than the loop (which is timed over the first 100 images).

Then the measures on dead leaves, whose complexity is a dial: 41 settings from 0 to 1, an image of 256 x 256 for each.
The learned measure takes 21 settings, each of 16 images. Printed is Spearman's rank correlation with the dial; measures
of which less is more complex count negatively. With UNSEEN_DATA set to a folder of image sets (docs/data.md), it also
compares lossless coders on them, and weighs their contents against three rains.

Times are wall time and processor time: on one thread of an idle machine the same, and on a shared one the first counts
waiting too. The bar is for the second.
"""

import io
import os
import sys
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from scipy.stats import spearmanr

from unseen.backgrounds import Backgrounds, BackgroundsConfig
from unseen.complexity.compression import compression
from unseen.complexity.gradients import gradient_entropy
from unseen.complexity.learned import Degrade, change, code_length, content
from unseen.complexity.record import MEASURES
from unseen.complexity.spectrum import spectral_slope
from unseen.complexity.structural import structural
from unseen.complexity.survey import measured
from unseen.degradations import preset
from unseen.images import PEAK, Bytes, find_images, read_image
from unseen.leaves import DeadLeaves
from unseen.training import processor

IMAGES, SIZE, LOOPED = 1000, 256, 100
SECONDS, TIMES = 5.0, 5.0
TOLERANCE = 1e-5
DIALS, LEARNED_DIALS = 41, 21
SETS = ("natural", "faces", "comics", "buildings")
RAINS = ("small", "medium", "large")
CODERS: dict[str, tuple[str, dict[str, Any]]] = {
    "PNG": ("PNG", {"optimize": True}),
    "JPEG 2000": ("JPEG2000", {"irreversible": False}),
    "WebP, as used": ("WEBP", {"lossless": True, "method": 2, "quality": 50}),
    "WebP, more effort": ("WEBP", {"lossless": True, "method": 4, "quality": 100}),
    "AVIF, quality 100": ("AVIF", {"quality": 100, "subsampling": "4:4:4", "speed": 6}),
}


def by_formula(image: Bytes) -> list[float]:
    """C_k = 1/2 mean (f_{k+1} - f_k)^2, in NumPy."""
    fine, scales = image / PEAK, []
    while min(fine.shape[:2]) > 1:
        down, across = fine.shape[0] // 2, fine.shape[1] // 2
        fine = fine[: 2 * down, : 2 * across]
        coarse = fine.reshape(down, 2, across, 2, 3).mean((1, 3))
        scales.append(float(((coarse.repeat(2, 0).repeat(2, 1) - fine) ** 2).mean() / 2))
        fine = coarse
    return scales


def ours(images: NDArray[np.uint8]) -> NDArray[np.float64]:
    found = []
    for start in range(0, len(images), 4):
        some = torch.from_numpy(images[start : start + 4]).permute(0, 3, 1, 2)
        found.append(structural(some.to(torch.float32, memory_format=torch.contiguous_format) / PEAK))
    return torch.cat(found).numpy()


Result = TypeVar("Result")


def timed(work: Callable[[], Result]) -> tuple[Result, float, float]:
    wall, own = time.perf_counter(), time.process_time()
    result = work()
    return result, time.perf_counter() - wall, time.process_time() - own


def speed() -> bool:
    images = np.random.default_rng(0).integers(0, 256, (IMAGES, SIZE, SIZE, 3), dtype=np.uint8)
    ours(images[:8])
    found, wall, own = timed(lambda: ours(images))
    looped, their_wall, their_own = timed(lambda: np.array([by_formula(image) for image in images[:LOOPED]]))
    many = IMAGES / LOOPED
    difference = float(np.abs(found[:LOOPED] - looped).max() / looped.max())
    print(f"structural, {IMAGES:,} images of {SIZE} x {SIZE}: {wall:.2f} s wall, {own:.2f} s of one core")
    print(f"  NumPy loop: {many * their_wall:.2f} s wall, {many * their_own:.2f} s; ratio {many * their_own / own:.1f} "
          f"of processor time; largest difference {difference:.1e}")  # fmt: skip
    return difference < TOLERANCE and (own < SECONDS or many * their_own > TIMES * own)


def costs() -> None:
    """The measures one by one, and the lossless coders of Pillow with each other."""
    images = [DeadLeaves(complexity=n / 23).draw((SIZE, SIZE), 0, n) for n in range(24)]
    together = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2) / PEAK
    measures = (structural, compression, spectral_slope, gradient_entropy)
    spent = [timed(lambda measure=measure: measure(together))[2] / len(images) for measure in measures]
    print("milliseconds an image: " + ", ".join(
        f"{measure.__name__} {1e3 * seconds:.1f}" for measure, seconds in zip(measures, spent, strict=True)
    ))  # fmt: skip


def coders(data: Path) -> None:
    files = [file for name in ("natural", "comics") for file in find_images(data / "backgrounds" / name)[:12]]
    images = [np.ascontiguousarray(read_image(file)[:SIZE, :SIZE]) for file in files]
    print(f"coders, {len(images)} photographs and drawings")
    for name, (file_format, options) in CODERS.items():

        def coded(file_format: str = file_format, options: dict[str, Any] = options) -> list[io.BytesIO]:
            written = [io.BytesIO() for _ in images]
            for file, image in zip(written, images, strict=True):
                Image.fromarray(image).save(file, file_format, **options)
            return written

        written, _, own = timed(coded)
        bits = sum(8 * file.tell() for file in written) / sum(image.size // 3 for image in images)
        exact = all(
            np.array_equal(np.asarray(Image.open(file).convert("RGB")), image)
            for file, image in zip(written, images, strict=True)
        )
        print(f"  {name:20} {bits:6.2f} bits per pixel, {1e3 * own / len(images):6.1f} ms"
              f"{'' if exact else ', not every bit comes back'}")  # fmt: skip


def degrade(name: str) -> Degrade:
    degradation = preset(name)
    return lambda clean, rngs: degradation.render(clean, degradation.sample((clean.shape[-2], clean.shape[-1]), rngs))


def agreement() -> None:
    dials = np.linspace(0, 1, DIALS)
    drawn = [DeadLeaves(complexity=float(dial)).draw((SIZE, SIZE), 0, n) for n, dial in enumerate(dials)]
    table, wall, own = timed(lambda: measured(
        (str(n), torch.from_numpy(image).permute(2, 0, 1) / PEAK) for n, image in enumerate(drawn)
    ))  # fmt: skip
    print(f"rank correlation with the dial of dead leaves, {DIALS} images; all measures {own:.1f} s")
    columns = [*MEASURES, *(str(name) for name in table if str(name).startswith("scale_"))]
    for name in columns:
        rho = spearmanr(dials, table[name], nan_policy="omit").statistic
        print(f"  {name:18} {rho:+.3f}")
    dials = np.linspace(0, 1, LEARNED_DIALS)
    pools = [
        Backgrounds(BackgroundsConfig(source="leaves", complexity=float(dial), count=16, seed=1)) for dial in dials
    ]
    lengths, wall, own = timed(lambda: [code_length(content(pool.patches)).bits for pool in pools])
    print(f"  learned            {spearmanr(dials, lengths).statistic:+.3f}   ({LEARNED_DIALS} settings, "
          f"{own / LEARNED_DIALS:.1f} s each, {wall / LEARNED_DIALS:.1f} s wall)")  # fmt: skip


def weighed(data: Path) -> None:
    print("code length (bits per value), and balance against " + ", ".join(RAINS))
    for name in SETS:
        pool = Backgrounds(BackgroundsConfig(source=str(data / "backgrounds" / name)))
        bits = code_length(content(pool.patches)).bits
        rains = [code_length(change(pool.patches, degrade(rain))).bits for rain in RAINS]
        print(f"  {name:10} {bits:.2f}   " + "  ".join(f"{bits / rain:.2f} ({rain:.2f})" for rain in rains))
    bits = [code_length(content(pool.patches, seed=seed), seed=seed).bits for seed in range(3)]
    rains = [code_length(change(pool.patches, degrade("medium"), seed=seed), seed=seed).bits for seed in range(3)]
    print(f"  {SETS[-1]}, three seeds: {min(bits):.2f} to {max(bits):.2f}; "
          f"medium {min(rains):.2f} to {max(rains):.2f}")  # fmt: skip
    natural = str(data / "backgrounds" / "natural")
    for count in (8, 32, 128):
        lengths = [
            code_length(content(Backgrounds(BackgroundsConfig(source=natural, count=count, seed=seed)).patches)).bits
            for seed in range(3)
        ]
        print(f"  {count} images of natural, three choices: " + ", ".join(f"{length:.2f}" for length in lengths))


def main() -> None:
    torch.set_num_threads(1)
    print(f"{processor()}, 1 thread, {date.today()}; torch {torch.__version__}, NumPy {np.__version__}")
    met = speed()
    costs()
    agreement()
    if os.environ.get("UNSEEN_DATA"):
        coders(Path(os.environ["UNSEEN_DATA"]))
        weighed(Path(os.environ["UNSEEN_DATA"]))
    if not met:
        sys.exit(
            f"The bar is missed: under {SECONDS:g} s, or {TIMES:g} times faster than the loop, within {TOLERANCE}."
        )


if __name__ == "__main__":
    main()
