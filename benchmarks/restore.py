"""What overlapping reading, computing and writing is worth, and how fast a model restores beside PReNet as published.

    UNSEEN_DATA=... .venv/bin/python benchmarks/restore.py --model runs/0123456789ab

Forty photographs of Rain100L, cut to 256 x 256 pixels, are written as PNG to a temporary folder. `restore_files`
restores them (reading, restoring and writing, all in one process, the model opened before) with the model that is
named and with the published weights of PReNet; with the named model also without overlap, one image after the other.
Rounds alternate; ratios are medians of the ratios within one round. Wall time alone tells of overlap: read its ratios
on an idle machine.

Targets: the fast shipped model restores at least 15 times the megapixels per second of PReNet, the better one 4 times.
"""

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path
from statistics import median

import torch

from unseen.errors import ConfigError
from unseen.images import find_images, read_image, write_image
from unseen.models import Model, open_model
from unseen.restoration import Job, Tiler, restore_files, tiler_for
from unseen.shipped import find_model
from unseen.training import processor


def data() -> Path:
    folder = os.environ.get("UNSEEN_DATA")
    if not folder:
        raise ConfigError("UNSEEN_DATA is not set: name the folder that holds the image sets.")
    return Path(folder)


def tiler_of(model: Model) -> Tiler:
    return tiler_for(model.restore, "cpu", model.config)


def timed(work: Callable[[], object]) -> tuple[float, float]:
    """Seconds of wall and of processor time."""
    wall, own = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - wall, time.process_time() - own


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="shipped weights by name, or any model file (default: rain)")
    parser.add_argument("--images", type=int, default=40)
    parser.add_argument("--side", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--prenet-images", type=int, default=10, help="PReNet restores so many of them")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    named = open_model(find_model(args.model), precision="auto")
    prenet = open_model(data() / "weights" / "prenet" / "Rain100L.pth", precision="fp32")
    sources = find_images(data() / "pairs" / "rain100l")
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        for number in range(args.images):
            crop = read_image(sources[number % len(sources)])[: args.side, : args.side]
            write_image(folder / "in" / f"{number}.png", crop)

        def restored(tiler: Tiler, images: int, overlap: bool = True) -> tuple[float, float]:
            """Seconds per megapixel, of wall and of processor time."""
            jobs = [Job(folder / "in" / f"{number}.png", folder / "out" / f"{number}.png") for number in range(images)]
            results = []
            seconds = timed(lambda: results.extend(restore_files(jobs, tiler, overlap=overlap)))
            megapixels = sum(result.width * result.height for result in results) / 1e6
            return seconds[0] / megapixels, seconds[1] / megapixels

        few = min(args.images, args.prenet_images)
        tilers = tiler_of(named), tiler_of(prenet)
        restored(tilers[0], 2)
        restored(tilers[1], 1)
        rounds = [
            (restored(tilers[0], args.images), restored(tilers[0], args.images, False), restored(tilers[1], few))
            for _ in range(args.rounds)
        ]
    print(f"{processor()}, {args.threads} thread(s), torch {torch.__version__}, {date.today()}")
    print(f"{args.images} images of at most {args.side} x {args.side} pixels, medians of {args.rounds} rounds\n")
    print(f"{'':42}{'wall':>10}{'processor':>12}   per megapixel")
    for index, name in enumerate((f"{named.name}, overlapped", f"{named.name}, one after the other", "PReNet, fp32")):
        wall, own = (median(one[index][clock] for one in rounds) for clock in (0, 1))
        print(f"{name:42}{wall:9.3f}s{own:11.3f}s   {1 / wall:.2f} megapixels a second")
    for index, name in ((1, "one after the other / overlapped"), (2, f"PReNet / {named.name}")):
        wall, own = (median(one[index][clock] / one[0][clock] for one in rounds) for clock in (0, 1))
        print(f"{name:42}{wall:10.3f}{own:12.3f}")


if __name__ == "__main__":
    main()
