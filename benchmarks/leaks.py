"""What `unseen leaks` finds on public images, and what it takes for the same though it is not.

    export UNSEEN_DATA=/path/to/data
    .venv/bin/python benchmarks/leaks.py

First the parts for testing are looked for in the parts for training.

Then the clean images of Rain100L, and of PolyU, are changed in each of several ways and hidden among the photographs
in `backgrounds/natural`, and looked for there: "found" counts those found as themselves, and "least" is the smallest
similarity of these. Both sets show something twice, under two names, so that the pairs between those are right; "wrong"
are all others.

Last, all sets are compared with each other, which share no picture: whatever is found is wrong, unless looking at it
says otherwise. The greatest similarities are printed, and the pairs.

The script fails where the bar is missed: all images found after JPEG at quality 70, mirroring and resizing to 0.8, each
and all at once, and none between Rain100L as it is and the photographs.
"""

import argparse
import io
import os
import sys
import time
from collections.abc import Callable, Iterable
from datetime import date
from itertools import combinations
from pathlib import Path

import numpy as np
from PIL import Image

from unseen.images import Bytes, find_images, read_image
from unseen.leaks import THRESHOLD, Fingerprints, find_leaks, fingerprints, joined
from unseen.training import processor

SETS = {
    "natural": "backgrounds/natural",
    "faces": "backgrounds/faces",
    "comics": "backgrounds/comics",
    "buildings": "backgrounds/buildings",
    "rain100l": "pairs/rain100l/target",
    "polyu": "pairs/polyu_noise/target",
    "lai": "pairs/lai_blur/target",
    "rain": "real/rain",
}
HELD_OUT = {"natural": 48, "faces": 40, "comics": 40, "buildings": 10}
"""How many files of each, the last in sorted order, are for testing only (docs/data.md)."""

Change = Callable[[Bytes, np.random.Generator], Bytes]


def jpeg(image: Bytes, _: object = None, quality: int = 70) -> Bytes:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file))


def mirrored(image: Bytes, _: object = None) -> Bytes:
    return np.ascontiguousarray(image[:, ::-1])


def resized(image: Bytes, _: object = None, factor: float = 0.8) -> Bytes:
    height, width = image.shape[:2]
    size = round(factor * width), round(factor * height)
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BICUBIC))


def all_three(image: Bytes, _: object = None) -> Bytes:
    return jpeg(mirrored(resized(image)))


def turned(image: Bytes, _: object = None) -> Bytes:
    return np.ascontiguousarray(np.rot90(all_three(image)))


def borders(image: Bytes, rng: np.random.Generator) -> Bytes:
    """Up to a tenth less at each border."""
    height, width = image.shape[:2]
    top, bottom, left, right = 0.1 * rng.random(4)
    return all_three(
        image[int(top * height) : height - int(bottom * height), int(left * width) : width - int(right * width)]
    )


def cut(share: float) -> Change:
    """So much of each side, from anywhere, at the same scale, as JPEG."""

    def change(image: Bytes, rng: np.random.Generator) -> Bytes:
        height, width = (int(share * side) for side in image.shape[:2])
        top, left = (
            int(rng.random() * (side - less + 1)) for side, less in zip(image.shape, (height, width), strict=False)
        )
        return jpeg(image[top : top + height, left : left + width])

    return change


CHANGES: dict[str, Change] = {
    "none": lambda image, _: image,
    "JPEG at quality 70": jpeg,
    "mirrored": mirrored,
    "resized to 0.8": resized,
    "all three": all_three,
    "all three, turned": turned,
    "all three, borders cut by up to 0.1": borders,
    "cut to 0.75 of each side, JPEG": cut(0.75),
    "cut to 0.5 of each side, JPEG": cut(0.5),
    "cut to 0.4 of each side, JPEG": cut(0.4),
}
BAR = tuple(CHANGES)[1:5]


def prints_of(files: Iterable[Path], change: Change | None = None) -> Fingerprints:
    rng = np.random.default_rng(0)
    return fingerprints(
        (file.stem, read_image(file) if change is None else np.ascontiguousarray(change(read_image(file), rng)))
        for file in files
    )


def hidden(name: str, files: list[Path], photographs: Fingerprints, plain: Fingerprints) -> dict[str, int]:
    """Prints how many of some images are found among photographs, by what was done to them; returns that."""
    twice = {(leak.train, leak.test) for leak in find_leaks(plain, plain) if leak.train != leak.test}
    names = ", ".join(f"{one} is {other}" for one, other in sorted(twice) if one < other)
    print(
        f"\n{name}, {len(files)} images, hidden among {len(photographs)}" + (f"; twice in it: {names}" if names else "")
    )
    print("  found   least  wrong  change")
    found: dict[str, int] = {}
    for what, change in CHANGES.items():
        train = joined([photographs, prints_of(files, change)])
        leaks = find_leaks(train, plain)
        right = {leak.test: leak.similarity for leak in leaks if leak.train == leak.test}
        wrong = sum(leak.train != leak.test and (leak.train, leak.test) not in twice for leak in leaks)
        found[what] = len(right)
        print(f"  {len(right):>3} of {len(files)}  {min(right.values(), default=0):.3f}  {wrong:>5}  {what}")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.parse_args()
    data = os.environ.get("UNSEEN_DATA")
    if not data or not Path(data).is_dir():
        sys.exit("UNSEEN_DATA is not set, or names no folder: name the folder that holds the image sets.")
    files = {name: find_images(Path(data) / folder) for name, folder in SETS.items()}
    print(f"{processor()}, {date.today()}; similarity of at least {THRESHOLD}")
    began = time.process_time()
    sets = {name: prints_of(some) for name, some in files.items()}
    count = sum(map(len, sets.values()))
    print(f"{count} fingerprints: {1e3 * (time.process_time() - began) / count:.1f} ms each")

    for name, held in HELD_OUT.items():
        train, test = (prints_of(some) for some in (files[name][:-held], files[name][-held:]))
        leaks = find_leaks(train, test, threshold=0.0)
        most = f", the most similar {leaks[0].similarity:.3f} {leaks[0].train} {leaks[0].test}" if leaks else ""
        wrong = len({leak.test for leak in leaks if leak.similarity >= THRESHOLD})
        print(f"{name}: {wrong} of the last {held} images are among the {len(train)} others{most}")

    found = hidden("rain100l", files["rain100l"], sets["natural"], sets["rain100l"])
    hidden("polyu", files["polyu"], sets["natural"], sets["polyu"])

    print("\nDifferent sets: pairs of images, found, the three most similar")
    for one, other in combinations(sets, 2):
        leaks = [leak for leak in find_leaks(sets[one], sets[other], threshold=0.0) if leak.similarity > 0]
        wrong = sum(leak.similarity >= THRESHOLD for leak in leaks)
        most = ", ".join(f"{leak.similarity:.3f} {leak.train} {leak.test}" for leak in leaks[:3])
        print(f"  {one + ' ' + other:<20} {len(sets[one]) * len(sets[other]):>7} {wrong:>3}  {most}")
    began = time.process_time()
    between = find_leaks(sets["natural"], sets["rain100l"])
    print(f"natural and rain100l: {len(between)} found in {time.process_time() - began:.2f} s")
    missed = [what for what in BAR if found[what] < len(files["rain100l"])]
    if missed or between:
        sys.exit(f"Missed: {', '.join(missed) or 'none'}; {len(between)} leaks between natural and rain100l.")


if __name__ == "__main__":
    main()
