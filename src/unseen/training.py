"""Training: one loop that reads like the paper, on Lightning Fabric.

A step is a pure function of its number and of the weights before it, so a run killed at any moment and resumed
gives the weights of one left alone, bit for bit (same machine, same threads).
"""

import csv
import json
import logging
import math
import os
import platform
import shutil
import signal
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from unseen import checkpoints
from unseen.backgrounds import Backgrounds
from unseen.data import Pairs, StoredPairs
from unseen.errors import CheckpointError, ConfigError, NotFiniteError, TrainingError, UnseenError
from unseen.experiment import Experiment, Recipe, resolve
from unseen.locks import taken
from unseen.networks import build
from unseen.regularisation import Regulariser
from unseen.training_images import SNAPSHOTS, remember

if TYPE_CHECKING:  # imported where it is used: that takes longer than planning a study
    from lightning_fabric import Fabric

LOG_EVERY = 25
"""Steps between rows of the log, and between looks at whether the loss is finite."""

Progress = Callable[[int, float], None]
"""Told the steps done and the mean loss since it was last told."""


Watch = Callable[[int, Path], bool]
"""Told a step and the weights saved there; answers whether to go on. For training in one process."""


class Interrupted(UnseenError):
    """Stopped by Ctrl-C or a request to terminate; the state is saved."""

    exit_code = 130


@dataclass(frozen=True)
class Trained:
    """A finished run: its experiment, resolved, and where its weights lie. `already`: it was finished before."""

    experiment: Experiment
    folder: Path
    already: bool = field(default=False, compare=False)

    @property
    def checkpoint(self) -> Path:
        return self.folder / "model.safetensors"


def learning_rate(recipe: Recipe, step: int) -> float:
    """The rate at a step: linear warm-up, then a half cosine (SGDR, Loshchilov and Hutter, ICLR 2017, Eq. 5)."""
    if step < recipe.warmup:
        return recipe.learning_rate * (step + 1) / recipe.warmup
    done = (step - recipe.warmup) / (recipe.steps - recipe.warmup)
    factor = recipe.final_rate + (1 - recipe.final_rate) * 0.5 * (1 + math.cos(math.pi * done))
    return recipe.learning_rate * factor


def named(
    experiment: Experiment, content: str | None, threads: int | None = None, *, pairs_content: str | None = None
) -> Experiment:
    """Resolve an experiment on backgrounds of that `content`, and such pairs. `threads` as in `experiment.resolve`."""
    start = None if experiment.start_from is None else checkpoints.load_checkpoint(experiment.start_from).content
    return resolve(experiment, content, start, threads, pairs_content=pairs_content)


def train(
    experiment: Experiment,
    runs: str | Path,
    *,
    backgrounds: Backgrounds | None = None,
    pairs: StoredPairs | None = None,
    processes: int = 1,
    save_every: int = 500,
    tensorboard: bool = True,
    progress: Progress | None = None,
    watch: Watch | None = None,
) -> Trained:
    """Train, or go on training, in `runs/<id>`; nothing is done again if it is finished there.

    `watch` sees every snapshot as it is saved and may end the training there, for good reasons of its own: the state is
    saved, and the same call without it goes on. So it is where it raises Interrupted.

    `processes` share every batch: Fabric starts this same program once more for each, or torchrun has done so. Raises
    NotFiniteError where the loss is not finite, Interrupted after Ctrl-C or SIGTERM, with the state saved.
    """
    if not experiment.synthetic:
        backgrounds = None
    elif backgrounds is None:
        backgrounds = Backgrounds(experiment.backgrounds)
    if experiment.pairs is None:
        pairs = None
    elif pairs is None:
        pairs = StoredPairs(experiment.pairs)
    experiment = named(
        experiment,
        None if backgrounds is None else backgrounds.content_hash,
        pairs_content=None if pairs is None else pairs.content_hash,
    )
    folder = Path(runs) / experiment.id
    trained = Trained(experiment, folder)
    if trained.checkpoint.is_file():
        return replace(trained, already=True)
    if pairs is not None:
        pairs.load()
    recipe = experiment.recipe
    with using_threads(recipe.threads), stopping() as stop, ExitStack() as ending:
        fabric = make_fabric(recipe, processes)
        samples = Pairs(
            backgrounds, experiment.degradation, patch=recipe.patch, batch=recipe.batch, seed=experiment.seed,
            folders=pairs, course=experiment.course(0 if backgrounds is None else len(backgrounds)),
            rank=fabric.global_rank, world=fabric.world_size, device=fabric.device,
        )  # fmt: skip
        network = build(experiment.network, experiment.seed)
        before: tuple[Experiment, ...] = ()
        if experiment.start_from is not None:
            start_from = checkpoints.load_checkpoint(experiment.start_from)
            before = start_from.lineage
            checkpoints.start(network, start_from)
        same = recipe.consistency
        keep = same is not None and same.features > 0
        regulariser = Regulariser(network, recipe.dropout, recipe.masking, experiment.seed, keep)
        network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        optimiser = make_optimiser(network, recipe)
        model, optimiser = fabric.setup(network, optimiser)
        average = None if recipe.ema is None else [weight.detach().clone() for weight in network.parameters()]

        if fabric.is_global_zero:
            ending.enter_context(sole_use_of(folder))
        state = _load_state(folder, experiment, network, optimiser, average, fabric.device)
        start, spent = state.step, state.seconds
        log = _Log(folder, start, tensorboard) if fabric.is_global_zero else None
        if log is not None:
            ending.callback(log.close)
            write_json(folder / "experiment.json", json.loads(experiment.model_dump_json()))
            write_json(folder / "environment.json", environment(experiment, fabric.world_size))
            remember(experiment, folder, backgrounds)
        began = time.monotonic()

        def seconds() -> float:
            return spent + time.monotonic() - began

        def diverged(step: int, mean: float) -> NotFiniteError:
            return NotFiniteError(
                f"The loss is {mean} by step {step}: training has diverged. Lower the learning rate "
                f"({recipe.learning_rate:g}) or clip the gradient (clip: {recipe.clip}). The last good state, "
                f"if one was saved, stays in {folder / 'state'}."
            )

        def save(step: int) -> None:
            loss_so_far = _mean_of_processes(fabric, total)
            if not math.isfinite(loss_so_far):
                raise diverged(step, loss_so_far)
            if fabric.is_global_zero:
                _save_state(folder, experiment, network, optimiser, average, step, seconds(), total)

        def weights() -> dict[str, torch.Tensor]:
            current = network.state_dict()
            if average is not None:
                names = [name for name, _ in network.named_parameters()]
                current |= dict(zip(names, average, strict=True))
            return current

        total = state.total.to(fabric.device)
        model.train()
        for step, batch in enumerate(samples.between(start, recipe.steps), start):
            for group in optimiser.param_groups:
                group["lr"] = learning_rate(recipe, step)
            twins = None if same is None else samples.twins(step)
            drawn = [*samples.indices(step)] * (1 if twins is None else 2)
            degraded = batch.degraded if twins is None else torch.cat((batch.degraded, twins.degraded))
            degraded = degraded.contiguous(memory_format=torch.channels_last)
            mixed = torch.autocast(fabric.device.type, torch.bfloat16, enabled=recipe.precision == "mixed")
            with regulariser.drawing(drawn), mixed:
                restored = model(degraded)
            if same is None or twins is None:
                with mixed:  # a prior in the loss is a network too; all else in it stays fp32
                    loss = recipe.loss(restored, batch)
            else:
                one, other = restored.chunk(2)
                with mixed:
                    loss = (recipe.loss(one, batch) + recipe.loss(other, twins)) / 2
                loss = loss + same(one, other, None if regulariser.features is None else regulariser.features.chunk(2))
            if hasattr(network, "auxiliary"):
                seen = batch if twins is None else replace(batch, clean=torch.cat((batch.clean, twins.clean)))
                more = network.auxiliary(seen)
                loss = loss if more is None else loss + more
            optimiser.zero_grad(set_to_none=True)
            fabric.backward(loss)
            if recipe.clip is not None:
                fabric.clip_gradients(model, optimiser, max_norm=recipe.clip, error_if_nonfinite=False)
            optimiser.step()
            if average is not None and recipe.ema is not None:
                with torch.no_grad():  # else the average remembers every step, and memory grows with them
                    torch._foreach_lerp_(average, list(network.parameters()), 1 - recipe.ema)
            total += loss.detach()

            done = step + 1
            due = done % LOG_EVERY == 0 or done == recipe.steps
            if due:
                mean = _mean_of_processes(fabric, total) / (done - step // LOG_EVERY * LOG_EVERY)
                if not math.isfinite(mean):
                    raise diverged(done, mean)
                total.zero_()
                if log is not None:
                    log.row(done, mean, learning_rate(recipe, step), seconds())
                if progress is not None:
                    progress(done, mean)
            if done in recipe.snapshots and fabric.is_global_zero:
                snapshot = folder / SNAPSHOTS / f"{done}.safetensors"
                checkpoints.save_network(snapshot, weights(), experiment, done, before)
                if watch is not None and done < recipe.steps:
                    try:
                        go_on = watch(done, snapshot)
                    except Interrupted:
                        save(done)
                        raise
                    if not go_on:
                        save(done)
                        return trained
            asked = stop.is_set() if fabric.world_size == 1 else due and _any_process(fabric, stop)
            if done < recipe.steps and (done % save_every == 0 or asked):
                save(done)
                if asked:
                    if fabric.world_size > 1:
                        fabric.barrier()  # nobody leaves before the state is written
                    raise Interrupted(
                        f"Stopped after step {done:,} of {recipe.steps:,}; everything is saved in {folder}. "
                        "Run the same command again to go on."
                    )
        if log is not None:
            write_json(folder / "environment.json", environment(experiment, fabric.world_size) | {"seconds": seconds()})
            checkpoints.save_network(trained.checkpoint, weights(), experiment, recipe.steps, before)
            shutil.rmtree(folder / "state", ignore_errors=True)
        if fabric.world_size > 1:
            fabric.barrier()
            torch.distributed.destroy_process_group()
    return trained


def make_fabric(recipe: Recipe, processes: int = 1) -> "Fabric":
    """Lightning Fabric for a resolved recipe, launched."""
    from lightning_fabric import Fabric

    devices, nodes = processes, 1
    if "TORCHELASTIC_RUN_ID" in os.environ:  # torchrun has started the processes, on one machine or several
        devices = int(os.environ["LOCAL_WORLD_SIZE"])
        nodes = int(os.environ["WORLD_SIZE"]) // devices
    if recipe.batch % (devices * nodes):
        raise ConfigError(f"A batch of {recipe.batch} cannot be shared by {devices * nodes} processes.")
    there = {"cuda": torch.cuda.device_count(), "mps": 1}.get(recipe.device, devices)
    if devices > there:
        raise ConfigError(f"{devices} processes were asked for, and there are {there} {recipe.device} devices.")
    if recipe.device == "cuda":  # the same steps, the same bits
        torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = True, False
    precision = "bf16-mixed" if recipe.precision == "bf16" else "32-true"
    strategy = "ddp" if devices * nodes > 1 else "auto"
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    fabric = Fabric(accelerator=recipe.device, devices=devices, num_nodes=nodes, strategy=strategy, precision=precision)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # advice about clusters that are not in use
        fabric.launch()
    return fabric


def make_optimiser(network: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """Adam, with decoupled weight decay where the recipe has one."""
    return torch.optim.AdamW(
        network.parameters(), lr=recipe.learning_rate, betas=recipe.betas, weight_decay=recipe.weight_decay, fused=True
    )


def environment(experiment: Experiment, processes: int = 1) -> dict[str, Any]:
    """What ran where: versions, device, precision, threads and date, for the record."""
    from importlib.metadata import version

    device = experiment.recipe.device
    return {
        "unseen": version("unseen"),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "processor": processor(),
        "device": torch.cuda.get_device_name() if device == "cuda" else device,
        "precision": experiment.recipe.precision,
        "threads": experiment.recipe.threads,
        "processes": processes,
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
    }


def processor() -> str:
    """The processor's name, where the system tells it."""
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def write_json(path: Path, value: Any) -> None:
    checkpoints.replace_with(path, lambda temporary: temporary.write_text(json.dumps(value, indent=2) + "\n"))


@contextmanager
def using_threads(count: int | None) -> Iterator[None]:
    """Let torch use `count` threads (None: as many as before), then as many as before."""
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def stopping(
    harder: tuple[signal.Signals, ...] = (signal.SIGINT, signal.SIGTERM),
) -> Iterator[threading.Event]:
    """An event that the first Ctrl-C (or SIGTERM) sets, so that work ends between two steps; the second of `harder`
    interrupts."""
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    def ask(number: int, frame: Any) -> None:
        if stop.is_set() and number in harder:
            raise KeyboardInterrupt
        stop.set()

    heard = [number for number in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(number) != signal.SIG_IGN]
    before = {number: signal.signal(number, ask) for number in heard}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def sole_use_of(folder: Path) -> Iterator[None]:
    """Nobody else trains in the folder meanwhile: TrainingError where somebody does."""
    lock = taken(folder / ".lock")
    if lock is None:
        raise TrainingError(f"Another process is training in {folder}. Wait for it, or stop it.")
    try:
        yield
    finally:
        lock.release()


def _any_process(fabric: "Fabric", stop: threading.Event) -> bool:
    """Whether any process was asked to stop: all of them must end after the same step."""
    return _mean_of_processes(fabric, torch.tensor(float(stop.is_set()), device=fabric.device)) > 0


def _mean_of_processes(fabric: "Fabric", value: torch.Tensor) -> float:
    shared = fabric.all_reduce(value.clone(), reduce_op="mean") if fabric.world_size > 1 else value
    assert isinstance(shared, torch.Tensor)
    return shared.item()


@dataclass
class _State:
    step: int
    seconds: float
    total: torch.Tensor


def _save_state(
    folder: Path, experiment: Experiment, network: nn.Module, optimiser: Any, average: list[torch.Tensor] | None,
    step: int, seconds: float, total: torch.Tensor,
) -> None:  # fmt: skip
    value = {
        "experiment": experiment.id,
        "step": step,
        "seconds": seconds,
        "total": total,
        "network": network.state_dict(),
        "optimiser": optimiser.state_dict(),
        "average": average,
    }
    checkpoints.replace_with(folder / "state" / "state.pt", lambda temporary: torch.save(value, temporary))


def _load_state(
    folder: Path, experiment: Experiment, network: nn.Module, optimiser: Any, average: list[torch.Tensor] | None,
    device: torch.device,
) -> _State:  # fmt: skip
    path = folder / "state" / "state.pt"
    if not path.is_file():
        return _State(0, 0.0, torch.zeros((), device=device))
    try:
        value = torch.load(path, map_location=device, weights_only=True)
        if value["experiment"] != experiment.id:
            raise TrainingError(
                f"The state in {path} belongs to experiment {value['experiment']}, not {experiment.id}. Remove it."
            )
        network.load_state_dict(value["network"])
        optimiser.load_state_dict(value["optimiser"])
        if average is not None:
            for mine, saved in zip(average, value["average"], strict=True):
                mine.copy_(saved)
        return _State(value["step"], value["seconds"], value["total"])
    except UnseenError:
        raise
    except Exception as error:
        raise CheckpointError(
            f"The state in {path} cannot be read ({type(error).__name__}). Remove it to start this run again."
        ) from error


class _Log:
    """Progress as rows: log.csv, and TensorBoard beside it. Rows after the step resumed from are dropped."""

    fields = ("step", "loss", "learning_rate", "seconds")

    def __init__(self, folder: Path, start: int, tensorboard: bool) -> None:
        path = folder / "log.csv"
        kept = []
        if path.is_file():
            with path.open(newline="") as file:
                kept = [row for row in csv.DictReader(file) if row["step"].isdigit() and int(row["step"]) <= start]
        folder.mkdir(parents=True, exist_ok=True)
        self.file = path.open("w", newline="")
        self.writer = csv.writer(self.file)
        self.writer.writerow(self.fields)
        self.writer.writerows([row[field] for field in self.fields] for row in kept)
        self.file.flush()
        from lightning_fabric.loggers import TensorBoardLogger

        self.board = (
            TensorBoardLogger(folder, name="tensorboard", version="", purge_step=start + 1 if start else None)
            if tensorboard
            else None
        )

    def row(self, step: int, loss: float, rate: float, seconds: float) -> None:
        self.writer.writerow((step, f"{loss:.6g}", f"{rate:.6g}", f"{seconds:.1f}"))
        self.file.flush()
        if self.board is not None:
            self.board.log_metrics({"loss": loss, "learning_rate": rate}, step)

    def close(self) -> None:
        self.file.close()
        if self.board is not None:
            self.board.finalize("success")
