"""Train the networks of a toy, all of a seed and a start at once, and test them; what has rows is not run again.

The networks of a lot differ in their functions and noise alone: they start from the same weights, and in every step get
the same random numbers, mixed by their own functions and patterns. Neighbours on the plane thus differ by the family,
not by chance, and a network's rows do not hang on which others it was trained beside.

Letters: `g` networks, `b` signals, `n` samples.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from itertools import groupby, pairwise
from pathlib import Path
from threading import Event, Lock

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor

from unseen.errors import DataError, TrainingError
from unseen.files import whole
from unseen.rows import COLUMNS, read_rows, write_rows
from unseen.seeding import generator
from unseen.toy import families, linear
from unseen.toy.config import Network, Toy, ToyExperiment
from unseen.toy.plane import CLOSED, FOREIGN, SEEN, SHOWN, SIGNALS, SUITES

Signals = Float[Tensor, "g b n"]
Mixings = Float[Tensor, "g n n"]
Progress = Callable[[int, int], None]

ROWS, EXAMPLES = "rows.parquet", "examples.parquet"


@dataclass(frozen=True)
class Networks:
    """Perceptrons side by side: `weights[i]` is (g, in, out), `biases[i]` is (g, 1, out)."""

    weights: list[Tensor]
    biases: list[Tensor]
    skip: float

    @classmethod
    def fresh(cls, config: Network, samples: int, seed: int, count: int) -> "Networks":
        """All alike: He's uniform initialisation (2015, for ReLU), the last layer 0."""
        rng = generator(seed, "toy", "weights")
        sizes = [samples, *[config.width] * config.hidden, samples]
        weights = [(2 * torch.rand(fan, out, generator=rng) - 1) * math.sqrt(6 / fan) for fan, out in pairwise(sizes)]
        weights[-1].zero_()
        return cls(
            [weight.repeat(count, 1, 1).requires_grad_() for weight in weights],
            [torch.zeros(count, 1, out, requires_grad=True) for out in sizes[1:]],
            config.skip,
        )

    @property
    def parameters(self) -> list[Tensor]:
        return [*self.weights, *self.biases]

    def __call__(self, degraded: Signals) -> Signals:
        change = degraded
        for place, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            change = torch.baddbmm(bias, change.relu() if place else change, weight)
        return change + self.skip * degraded


@dataclass(frozen=True)
class Families:
    """The mixings of each network in a lot, as columns' transposes, so that signals are normal numbers times these."""

    functions: Mixings
    foreign: Mixings
    noise: Mixings
    other: Mixings

    @classmethod
    def of(cls, lot: Sequence[ToyExperiment]) -> "Families":
        n = lot[0].samples

        def stack(one: Callable[[ToyExperiment], Tensor]) -> Tensor:
            return torch.stack([one(e).mT for e in lot]).float()

        return cls(
            stack(lambda e: families.functions(n, e.functions.frequencies)),
            stack(lambda e: families.foreign_functions(n, e.functions.frequencies)),
            stack(lambda e: families.noise(n, e.noise.patterns, e.seed)),
            stack(lambda e: families.noise(n, e.noise.patterns, e.seed, families.OTHER_PATTERNS)),
        )


def train_lot(lot: Sequence[ToyExperiment], progress: Progress | None = None) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Train and test networks that share all but functions and noise. Returns rows, and one signal of each test.

    TrainingError where a loss is not finite.
    """
    first = lot[0]
    recipe, seed, n = first.recipe, first.seed, first.samples
    known = Families.of(lot)
    networks = Networks.fresh(first.network, n, seed, len(lot))
    optimiser = torch.optim.Adam(networks.parameters, lr=recipe.learning_rate, fused=True)
    tests = _tests(lot, known)
    parts = [closed_form(lot)]
    loss = torch.zeros(len(lot))
    for step in range(recipe.steps):
        for group in optimiser.param_groups:
            group["lr"] = recipe.learning_rate * 0.5 * (1 + math.cos(math.pi * step / recipe.steps))
        rng = generator(seed, "toy", "train", step)
        clean = torch.randn(recipe.batch, n, generator=rng) @ known.functions
        level = _levels(lot, torch.rand(recipe.batch, 1, generator=rng))
        degraded = clean + level * (torch.randn(recipe.batch, n, generator=rng) @ known.noise)
        loss = (networks(degraded) - clean).square().mean(dim=(1, 2))
        optimiser.zero_grad(set_to_none=True)
        loss.sum().backward()
        optimiser.step()
        if step + 1 in recipe.snapshots:
            parts.append(_judge(networks, lot, tests, step + 1)[0])
        if progress is not None:
            progress(step + 1, recipe.steps)
    if not bool(loss.isfinite().all()):
        raise TrainingError(
            f"The loss of {int((~loss.isfinite()).sum())} of {len(lot)} networks is not finite after {recipe.steps} "
            f"steps. Lower recipe.learning_rate, which is {recipe.learning_rate:g}."
        )
    rows, examples = _judge(networks, lot, tests, recipe.steps)
    return pd.concat([*parts, rows], ignore_index=True), examples


def _levels(lot: Sequence[ToyExperiment], uniform: Float[Tensor, "b 1"]) -> Tensor:
    """(g or 1, b, 1): drawn from each network's range, from the same uniform numbers."""
    distinct = list(dict.fromkeys(e.noise.level for e in lot))
    drawn = torch.stack([level.map(uniform) for level in distinct])
    return drawn if len(distinct) == 1 else drawn[[distinct.index(e.noise.level) for e in lot]]


def _tests(lot: Sequence[ToyExperiment], known: Families) -> dict[str, tuple[Signals, Signals]]:
    """By suite the clean signals and their noise; each function lies `draws` times in a row."""
    first = lot[0]
    recipe, seed, n = first.recipe, first.seed, first.samples
    count = recipe.functions * recipe.draws

    def normal(what: str, number: int) -> Tensor:
        return torch.randn(number, n, generator=generator(seed, "toy", "test", what))

    def repeated(signals: Tensor) -> Tensor:
        return signals.repeat_interleave(recipe.draws, dim=1)

    clean = repeated(normal("functions", recipe.functions) @ known.functions)
    level = _levels(lot, torch.rand(count, 1, generator=generator(seed, "toy", "test", "level")))
    seen = level * (normal("noise", count) @ known.noise)
    found = {
        SEEN: (clean, seen),
        families.OTHER_PATTERNS: (clean, level * (normal(families.OTHER_PATTERNS, count) @ known.other)),
        FOREIGN: (repeated(normal(FOREIGN, recipe.functions) @ known.foreign), seen),
    }
    for name, draw in families.SAME_FOR_ALL.items():
        found[name] = (clean, (level * draw(count, n, generator(seed, "toy", "test", name))).expand_as(clean))
    return {name: found[name] for name in SUITES}


@torch.inference_mode()
def _judge(
    networks: Networks, lot: Sequence[ToyExperiment], tests: dict[str, tuple[Signals, Signals]], step: int
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Rows of all suites, sums over their signals; and one signal of every suite in `SHOWN`."""
    recipe, n = lot[0].recipe, lot[0].samples
    atoms: dict[str, list[Tensor]] = {}
    examples = []
    for name, (clean, noise) in tests.items():
        restored = networks(clean + noise)
        error = restored - clean
        draws = error.unflatten(1, (recipe.functions, recipe.draws)).double()
        mean = draws.mean(dim=2, keepdim=True)
        variance = (draws - mean).square().sum(dim=2) / (recipe.draws - 1)  # as evaluation.draws, without bias
        found = {
            "values": torch.full((len(lot),), float(noise[0].numel()), dtype=torch.float64),
            "mse": error.double().square().mean(dim=(1, 2)),
            "input_mse": noise.double().square().mean(dim=(1, 2)),
            "degradation": noise.double().square().sum(dim=(1, 2)),
            "alignment": (error.double() * noise).sum(dim=(1, 2)),
            "bias": (mean.squeeze(2).square() - variance / recipe.draws).sum(dim=(1, 2)) * recipe.draws,
            "variance": variance.sum(dim=(1, 2)) * recipe.draws,
        }
        for metric, values in found.items():
            atoms.setdefault(metric, []).append(values)
        if name in SHOWN:
            which = torch.arange(len(lot)), _example(noise[:, : recipe.draws])
            one = clean[which], (clean + noise)[which], restored[which]
            examples.append(_signals(lot, name, [signal.double().numpy() for signal in one], n))
    names = [e.id for e in lot]
    table = {metric: torch.stack(values, dim=1).numpy() for metric, values in atoms.items()}
    return _rows(table, names, step), pd.concat(examples, ignore_index=True)


def _example(noise: Signals) -> Int[Tensor, "g"]:
    """Which signal is kept to be drawn: the first whose noise is highest in the middle half, as far as there is one."""
    n = noise.shape[-1]
    highest = noise.abs().argmax(dim=-1)
    return ((highest >= n // 4) & (highest < n - n // 4)).int().argmax(dim=1)


def closed_form(lot: Sequence[ToyExperiment]) -> pd.DataFrame:
    """Rows of the linear network of least error (see `linear`), under step -1 and `CLOSED` before the id."""
    found: dict[str, list[list[float]]] = {}
    for e in lot:
        n = e.samples
        loudness = math.sqrt(_mean_square(e))
        functions, noise = families.functions(n, e.functions.frequencies), families.noise(n, e.noise.patterns, e.seed)
        network = linear.least_squares(functions, loudness * noise, e.network.skip)
        unseen = {name: torch.eye(n, dtype=torch.float64) for name in families.SAME_FOR_ALL}
        unseen[families.OTHER_PATTERNS] = families.noise(n, e.noise.patterns, e.seed, families.OTHER_PATTERNS)
        atoms: dict[str, list[float]] = {}
        for suite in SUITES:
            clean = families.foreign_functions(n, e.functions.frequencies) if suite == FOREIGN else functions
            for metric, value in linear.expected(network, clean, loudness * unseen.get(suite, noise)).items():
                atoms.setdefault(metric, []).append(value)
        for metric, values in atoms.items():
            found.setdefault(metric, []).append(values)
    return _rows({metric: np.asarray(values) for metric, values in found.items()}, [CLOSED + e.id for e in lot], -1)


def _mean_square(experiment: ToyExperiment) -> float:
    """Of the level, over its range or its choices."""
    middles = torch.linspace(0, 1, 1001, dtype=torch.float64)[:-1] + 0.0005
    return float(experiment.noise.level.map(middles).square().mean())


def _rows(table: dict[str, np.ndarray], names: Sequence[str], step: int) -> pd.DataFrame:
    """Long rows of (networks, suites) arrays, by metric."""
    size = len(names) * len(SUITES)
    return pd.DataFrame(
        {
            "experiment": np.tile(np.repeat(np.asarray(names, object), len(SUITES)), len(table)),
            "step": step,
            "suite": np.tile(np.asarray(SUITES, object), len(names) * len(table)),
            "image": SIGNALS,
            "metric": np.repeat(np.asarray(list(table), object), size),
            "value": np.concatenate([values.ravel() for values in table.values()]),
        },
        columns=list(COLUMNS),
    )


def _signals(lot: Sequence[ToyExperiment], suite: str, arrays: Sequence[np.ndarray], samples: int) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "experiment": np.repeat(np.asarray([e.id for e in lot], object), samples),
            "suite": suite,
            "sample": np.tile(np.arange(samples), len(lot)),
            **{name: a.ravel() for name, a in zip(("clean", "degraded", "restored"), arrays, strict=True)},
        }
    )


def run_toy(toy: Toy, folder: Path | str, progress: Progress | None = None) -> tuple[pd.DataFrame, pd.DataFrame, int]:
    """Train and test what has no rows in `folder` yet; rows are saved after every lot.

    Returns the rows of this toy's experiments, their examples, and how many networks were trained now. Rows of other
    experiments in the folder are kept. DataError where a file in the folder cannot be read.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    rows, examples = _known(folder)
    cells = toy.cells()
    done = set(rows["experiment"]) & set(examples["experiment"])
    missing = sorted((e for e in cells if e.id not in done), key=_lot_of)
    lots = [list(lot) for _, lot in groupby(missing, key=_lot_of)]
    for found, shown in _side_by_side(lots, progress):
        fresh = set(found["experiment"])
        rows, examples = _joined(rows, found, fresh), _joined(examples, shown, fresh)
        write_rows(rows, folder / ROWS)
        _write_examples(examples, folder / EXAMPLES)
    names = {e.id for e in cells} | {CLOSED + e.id for e in cells}
    return rows[rows["experiment"].isin(names)], examples[examples["experiment"].isin(names)], len(missing)


def _side_by_side(
    lots: Sequence[Sequence[ToyExperiment]], progress: Progress | None
) -> Iterator[tuple[pd.DataFrame, pd.DataFrame]]:
    """Lots as they are finished, one on each core: with one thread each, rows do not hang on the number of cores."""
    threads, halt, lock = torch.get_num_threads(), Event(), Lock()
    done, total = [0] * len(lots), sum(lot[0].recipe.steps for lot in lots)

    def work(place: int) -> tuple[pd.DataFrame, pd.DataFrame]:
        torch.set_num_threads(1)

        def tell(step: int, steps: int) -> None:
            if halt.is_set():
                raise _Halted
            with lock:
                done[place] = step
                if progress is not None:
                    progress(sum(done), total)

        return train_lot(lots[place], tell)

    pool = ThreadPoolExecutor(max(1, min(threads, len(lots))))
    try:
        for job in as_completed([pool.submit(work, place) for place in range(len(lots))]):
            yield job.result()
    finally:
        halt.set()
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(threads)


class _Halted(Exception):
    """A lot stopped because another failed, or the user did."""


def _joined(old: pd.DataFrame, new: pd.DataFrame, fresh: set[str]) -> pd.DataFrame:
    kept = old[~old["experiment"].isin(fresh)]
    return pd.concat([kept, new], ignore_index=True) if len(kept) else new


def _lot_of(experiment: ToyExperiment) -> str:
    """What networks that are trained side by side share, written."""
    return experiment.model_dump_json(exclude={"functions", "noise"})


def _known(folder: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    columns = ["experiment", "suite", "sample", "clean", "degraded", "restored"]
    if not ((folder / ROWS).is_file() and (folder / EXAMPLES).is_file()):
        return pd.DataFrame(columns=list(COLUMNS)), pd.DataFrame(columns=columns)
    path = folder / EXAMPLES
    try:
        return read_rows(folder / ROWS), pd.read_parquet(path, columns=columns)
    except (OSError, ValueError) as error:  # pyarrow's ArrowInvalid is a ValueError
        raise DataError(f"{path} cannot be read as Parquet ({error}). Delete it and run the toy again.") from error


def _write_examples(examples: pd.DataFrame, path: Path) -> None:
    with whole(path) as temporary:
        examples.to_parquet(temporary, index=False)
