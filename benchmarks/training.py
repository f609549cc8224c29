"""What a training step costs, against a hand-written PyTorch loop and against fp32, and how much of it is data.

    .venv/bin/python benchmarks/training.py

Four loops take turns: `unseen.training.train` and the loop `by_hand` below, each mixed (bf16 autocast, if this
processor has bf16 arithmetic) and in fp32. All train the same network (ResNet, 32 channels, 8 blocks, channels-last)
on the same `Pairs` (8 patches of 48 pixels of rain) with the same fused AdamW and the same cosine. They end at the
same weights, and the script fails where these differ by a bit. Of every run the first steps, up to the first report of
progress, are warm-up and not timed; saving is not timed either, logging is.

Every number is the median over rounds; every ratio is the median of the ratios within one round, whose loops ran
right after each other. Processor time is printed beside wall time: with one thread they agree on an idle machine,
and on a shared one the wall clock also counts the time in which others were served. There the ratios of processor
time are the ones to read, though others' use of caches and memory still blurs them.

Targets: `train` takes at most 1.05 of the hand-written loop; fp32 at least 1.7 of mixed; data less than 10%.
"""

import argparse
import math
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from datetime import date
from statistics import median
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from unseen.backgrounds import Backgrounds
from unseen.checkpoints import load_checkpoint
from unseen.data import Pairs
from unseen.experiment import Experiment, Recipe, has_bf16
from unseen.networks import build
from unseen.training import LOG_EVERY, processor, train, using_threads

Precision = Literal["fp32", "mixed"]


class Clock(NamedTuple):
    """Seconds of wall time and of the process's own processor time."""

    wall: float
    processor: float

    @classmethod
    def now(cls) -> "Clock":
        return cls(time.perf_counter(), time.process_time())

    def since(self, began: "Clock", steps: int) -> "Clock":
        return Clock((self.wall - began.wall) / steps, (self.processor - began.processor) / steps)


def experiment_in(precision: Precision, steps: int, threads: int) -> Experiment:
    return Experiment(recipe=Recipe(steps=steps, device="cpu", precision=precision, threads=threads))


def by_train(experiment: Experiment, backgrounds: Backgrounds) -> tuple[Clock, dict[str, Tensor]]:
    """Seconds per step from the first report of progress to the last, and the trained weights."""
    reports: list[tuple[int, Clock]] = []
    with tempfile.TemporaryDirectory() as runs:
        trained = train(
            experiment, runs, backgrounds=backgrounds, progress=lambda step, loss: reports.append((step, Clock.now()))
        )
        weights = load_checkpoint(trained.checkpoint).network.state_dict()
    (first, began), (last, ended) = reports[0], reports[-1]
    return ended.since(began, last - first), weights


def by_hand(experiment: Experiment, backgrounds: Backgrounds) -> tuple[Clock, dict[str, Tensor]]:
    """The same without `train`: what one would write for this experiment alone."""
    recipe = experiment.recipe
    pairs = Pairs(backgrounds, experiment.degradation, patch=recipe.patch, batch=recipe.batch, seed=experiment.seed)
    network = build(experiment.network, experiment.seed)
    network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimiser = torch.optim.AdamW(
        network.parameters(), lr=recipe.learning_rate, betas=recipe.betas, weight_decay=0, fused=True
    )
    began = Clock.now()
    for step in range(recipe.steps):
        if step == LOG_EVERY:
            began = Clock.now()
        for group in optimiser.param_groups:
            group["lr"] = recipe.learning_rate * 0.5 * (1 + math.cos(math.pi * step / recipe.steps))
        batch = pairs[step]
        degraded = batch.degraded.contiguous(memory_format=torch.channels_last)
        with torch.autocast("cpu", torch.bfloat16, enabled=recipe.precision == "mixed"):
            restored = network(degraded)
        loss = (restored - batch.clean).abs().mean()
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
    return Clock.now().since(began, recipe.steps - LOG_EVERY), network.state_dict()


def data_alone(experiment: Experiment, backgrounds: Backgrounds) -> Clock:
    recipe = experiment.recipe
    pairs = Pairs(backgrounds, experiment.degradation, patch=recipe.patch, batch=recipe.batch, seed=experiment.seed)
    began = Clock.now()
    for step in range(LOG_EVERY, recipe.steps):
        pairs[step]
    return Clock.now().since(began, recipe.steps - LOG_EVERY)


def check_equal(trained: dict[str, Tensor], written: dict[str, Tensor]) -> None:
    apart = [name for name, weight in trained.items() if not torch.equal(weight, written[name])]
    if apart:
        sys.exit(f"Both loops should end at the same weights, but {len(apart)} tensors differ. First: {apart[0]}.")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=3, help="how often the loops take turns")
    parser.add_argument("--steps", type=int, default=50, help=f"timed in every run, after {LOG_EVERY} of warm-up")
    given = parser.parse_args()
    precisions: tuple[Precision, ...] = ("mixed", "fp32") if has_bf16("cpu") else ("fp32",)
    print(f"{processor()}, threads: {given.threads}, {date.today()}; torch {torch.__version__}; "
          f"medians of {given.rounds} rounds of {given.steps} steps")  # fmt: skip

    backgrounds = Backgrounds(Experiment().backgrounds)
    experiments = {each: experiment_in(each, LOG_EVERY + given.steps, given.threads) for each in precisions}
    times: dict[str, list[Clock]] = defaultdict(list)
    with using_threads(given.threads):
        for _ in range(given.rounds):
            for precision, experiment in experiments.items():
                clock, trained = by_train(experiment, backgrounds)
                times[f"train, {precision}"].append(clock)
                clock, written = by_hand(experiment, backgrounds)
                times[f"by hand, {precision}"].append(clock)
                check_equal(trained, written)
            times["data"].append(data_alone(experiments[precisions[0]], backgrounds))
    report(times, precisions)


def report(times: dict[str, list[Clock]], precisions: tuple[Precision, ...]) -> None:
    def row(name: str, value: Callable[[str], float], written: str) -> None:
        print(f"{name:32}{written.format(value('wall')):>12}{written.format(value('processor')):>12}")

    def ratio(upper: str, lower: str) -> Callable[[str], float]:
        return lambda clock: median(
            getattr(one, clock) / getattr(other, clock) for one, other in zip(times[upper], times[lower], strict=True)
        )

    print(f"{'':32}{'wall':>12}{'processor':>12}")
    for name, clocks in times.items():
        row(
            f"{name}, ms per step",
            lambda clock, clocks=clocks: 1e3 * median(getattr(c, clock) for c in clocks),
            "{:.1f}",
        )
    for precision in precisions:
        row(f"train / by hand, {precision}", ratio(f"train, {precision}", f"by hand, {precision}"), "{:.3f}")
    if "mixed" in precisions:
        for loop in ("train", "by hand"):
            row(f"fp32 / mixed, {loop}", ratio(f"{loop}, fp32", f"{loop}, mixed"), "{:.2f}")
    row(f"data / train, {precisions[0]}", ratio("data", f"train, {precisions[0]}"), "{:.1%}")


if __name__ == "__main__":
    main()
