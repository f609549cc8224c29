"""What judging costs, against the forward passes of the network that is judged.

    .venv/bin/python benchmarks/evaluation.py

A PReNet of its published size (its time does not depend on its weights) restores images under steep rain, once by hand
(batches made beforehand, a bare loop over `network(batch)`), and once in `unseen.evaluate`, which also renders the
rain, restores with the three baselines, and computes every atom, SSIM in RGB and on Y among them, of all four. Both
take the same images in the same batches. Rounds alternate; ratios are medians of the ratios within one round.
Processor time is printed beside wall time: on a shared machine its ratios are the ones to read.

Target: judging takes at most 1.10 of the forward passes.
"""

import argparse
import time
from collections.abc import Callable
from datetime import date
from statistics import median

import torch

from unseen import Backgrounds, BackgroundsConfig, Rain, Suite, evaluate
from unseen.networks import PReNetConfig, build
from unseen.training import processor


def timed(work: Callable[[], object]) -> tuple[float, float]:
    """Seconds of wall and of processor time."""
    wall, own = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - wall, time.process_time() - own


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--images", type=int, default=6)
    parser.add_argument("--crop", type=int, default=256)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    network = build(PReNetConfig(), seed=0).eval()
    suite = Suite(name="steep", degradation=Rain.preset("steep", scale=0.5))
    images = Backgrounds(BackgroundsConfig(part="test"))
    batches = [batch.degraded for _, batch in suite.batches(images, args.crop, args.images, 0)]

    def by_hand() -> None:
        with torch.inference_mode():
            for batch in batches:
                network(batch)

    def judged(baselines: bool) -> None:
        evaluate(network, [suite], images, crop=args.crop, limit=args.images, baselines=baselines)

    print(f"{processor()}, {args.threads} thread(s), torch {torch.__version__}, {date.today()}")
    print(f"{args.images} images of {args.crop} x {args.crop} pixels, medians of {args.rounds} rounds\n")
    by_hand()
    rounds = [(timed(by_hand), timed(lambda: judged(False)), timed(lambda: judged(True))) for _ in range(args.rounds)]
    print(f"{'':34}{'wall':>10}{'processor':>12}   per image")
    for index, name in enumerate(("forward passes", "evaluate, without baselines", "evaluate, with baselines")):
        wall, own = (median(one[index][clock] for one in rounds) / args.images for clock in (0, 1))
        print(f"{name:34}{wall:9.3f}s{own:11.3f}s")
    for index, name in ((1, "without baselines / forward"), (2, "with baselines / forward")):
        wall, own = (median(one[index][clock] / one[0][clock] for one in rounds) for clock in (0, 1))
        print(f"{name:34}{wall:10.3f}{own:12.3f}")


if __name__ == "__main__":
    main()
