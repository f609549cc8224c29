"""Training a small prior: from crops of images to a folder of diffusers with a model card.

A step is a function of its number and of the state before it: a run killed at any moment and resumed gives the weights
of one left alone, bit for bit (same machine, same threads).
"""

import csv
import json
import math
import shutil
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from unseen.backgrounds import Backgrounds
from unseen.checkpoints import replace_with
from unseen.errors import CheckpointError, ConfigError, TrainingError
from unseen.images import write_image
from unseen.leaks import fingerprints, save_fingerprints
from unseen.prior_training.base import AbstractTrainee
from unseen.prior_training.card import PICTURE, card, environment
from unseen.prior_training.experiment import PriorExperiment, resolved
from unseen.prior_training.judging import Progress, judged
from unseen.priors.files import WEIGHTS
from unseen.seeding import generator
from unseen.training import (
    LOG_EVERY,
    Interrupted,
    learning_rate,
    make_optimiser,
    sole_use_of,
    stopping,
    using_threads,
    write_json,
)
from unseen.training_images import FILE as FINGERPRINTS
from unseen.types import Images

EXPERIMENT, FIGURES = "experiment.json", "figures.json"
"""Written first, and last: a folder that holds figures is finished."""


@dataclass(frozen=True)
class TrainedPrior:
    """A finished small prior: its experiment, resolved, and its folder."""

    experiment: PriorExperiment
    folder: Path

    @property
    def found(self) -> dict[str, Any]:
        """What `figures.json` says: id, parameters, megabytes, seconds, and figures on the images held out."""
        return json.loads((self.folder / FIGURES).read_text())


def train_prior(
    experiment: PriorExperiment,
    folder: str | Path | None = None,
    *,
    command: str = "",
    licence: str | None = None,
    save_every: int = 200,
    progress: Progress | None = None,
) -> TrainedPrior:
    """Train a small prior, or go on training, in `folder` (None: `priors/<kind>-<id>`); nothing is done again if it is
    finished there.

    `command` and `licence`, of the images, are for the model card. Raises TrainingError where the loss is not finite or
    the folder holds another prior, Interrupted after Ctrl-C or SIGTERM, with the state saved.
    """
    backgrounds = Backgrounds(experiment.backgrounds)
    experiment = resolved(experiment, backgrounds.content_hash)
    kind, recipe = experiment.prior.kind, experiment.recipe
    folder = Path("priors", f"{kind}-{experiment.id}") if folder is None else Path(folder)
    trained = TrainedPrior(experiment, folder)
    _refuse_another(folder, experiment.id)
    if (folder / FIGURES).is_file():
        return trained
    held_out = Backgrounds(experiment.backgrounds.tests())
    device = torch.device(recipe.device)
    with using_threads(recipe.threads), ExitStack() as ending:
        if device.type == "cuda":  # the same steps, the same bits
            torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = True, False
        trainee = experiment.prior.trainee(recipe.steps, experiment.seed)
        trainee = trainee.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        trainee.mixed = recipe.precision == "mixed"
        ending.enter_context(sole_use_of(folder))
        run = _Run(experiment, folder, trainee)
        run.load(device)
        write_json(folder / EXPERIMENT, {"id": experiment.id, **json.loads(experiment.model_dump_json())})
        if not (folder / FINGERPRINTS).is_file():
            named = ((name, backgrounds.image(index)) for index, name in enumerate(backgrounds.names))
            save_fingerprints(folder / FINGERPRINTS, fingerprints(named))
        log = _Log(folder / "log.csv", run.step)
        ending.callback(log.close)
        began, before = time.monotonic(), run.seconds

        def crops(step: int) -> Images:
            first = step * recipe.batch
            rngs = [generator(experiment.seed, "prior", "crop", first + place) for place in range(recipe.batch)]
            drawn = backgrounds.patches(rngs, recipe.patch).to(device)
            return drawn.contiguous(memory_format=torch.channels_last)

        trainee.train()
        with stopping() as stop:
            for step in range(run.step, recipe.steps):
                rate = learning_rate(recipe.plain, step)
                loss, figures = trainee.loss(crops(step), step)
                _descend(run.optimisers["model"], loss, trainee.model, rate, recipe.clip)
                if trainee.critic is not None:
                    doubt = trainee.critic_loss(step)
                    if doubt is not None:
                        _descend(run.optimisers["critic"], doubt, trainee.critic, rate, recipe.clip)
                    figures["critic"] = loss.new_zeros(()) if doubt is None else doubt.detach()
                figures |= trainee.after(step)
                run.follow(step)
                run.add({"loss": loss.detach(), **figures})

                done = run.step = step + 1
                run.seconds = before + time.monotonic() - began
                if done % LOG_EVERY == 0 or done == recipe.steps:
                    means = run.means()
                    log.row(done, means, rate, run.seconds)
                    if progress is not None:
                        progress("train", done, recipe.steps, f"loss {means['loss']:.4f}")
                if done % save_every == 0 or done == recipe.steps or stop.is_set():
                    run.save()
                if stop.is_set() and done < recipe.steps:
                    raise Interrupted(
                        f"Stopped after step {done:,} of {recipe.steps:,}; everything is saved in {folder}. "
                        "Run the same command again to go on."
                    )
        run.finish()
        trainee.eval()
        trainee.settle(crops)
        trainee.to("cpu").save(str(folder))
        for path in folder.glob("*.safetensors"):
            path.chmod(0o644)  # as the other files: safetensors lets only their owner read them
        found, picture = judged(experiment, folder, held_out, crops, device, progress)
        summary = {
            "id": experiment.id,
            "kind": kind,
            "parameters": sum(weight.numel() for weight in trainee.model.parameters()),
            "megabytes": (folder / WEIGHTS).stat().st_size / 1e6,
            "steps": recipe.steps,
            "seconds": run.seconds,
            "environment": environment(experiment),
            "figures": found,
        }
        write_image(folder / PICTURE, picture)
        counts = len(backgrounds), len(held_out)
        write_text(folder / "README.md", card(experiment, summary, counts, command, licence))
        write_json(folder / FIGURES, summary)
        shutil.rmtree(folder / "state", ignore_errors=True)
    return trained


def write_text(path: Path, text: str) -> None:
    replace_with(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def _descend(
    optimiser: torch.optim.Optimizer, loss: Tensor, module: nn.Module, rate: float, clip: float | None
) -> None:
    """One step of the optimiser."""
    for group in optimiser.param_groups:
        group["lr"] = rate
    optimiser.zero_grad(set_to_none=True)
    loss.backward()
    if clip is not None:
        nn.utils.clip_grad_norm_(module.parameters(), clip)
    optimiser.step()


class _Run:
    """All that changes from step to step, saved and loaded as one."""

    def __init__(self, experiment: PriorExperiment, folder: Path, trainee: AbstractTrainee) -> None:
        self.experiment, self.folder, self.trainee = experiment, folder, trainee
        self.path = folder / "state" / "state.pt"
        self.step, self.seconds = 0, 0.0
        self.sums: dict[str, Tensor] = {}
        plain = experiment.recipe.plain
        self.optimisers = {"model": make_optimiser(trainee.model, plain)}
        if trainee.critic is not None:
            self.optimisers["critic"] = make_optimiser(trainee.critic, plain)
        self.moving: list[Tensor] = [weight for weight in trainee.model.parameters() if weight.requires_grad]
        self.average = None if experiment.recipe.ema is None else [weight.detach().clone() for weight in self.moving]

    @torch.no_grad()
    def follow(self, step: int) -> None:
        """The moving average after a step."""
        if self.average is not None:
            torch._foreach_lerp_(self.average, self.moving, 1 - self.experiment.recipe.decay(step))

    @torch.no_grad()
    def finish(self) -> None:
        """The average takes the place of the weights."""
        for weight, mean in zip(self.moving, self.average or (), strict=self.average is not None):
            weight.copy_(mean)

    def add(self, figures: dict[str, Tensor]) -> None:
        for name, value in figures.items():
            self.sums[name] = self.sums[name] + value if name in self.sums else value.clone()

    def means(self) -> dict[str, float]:
        """Over the steps since the last row of the log. TrainingError where the loss is not finite."""
        self.check()
        count = (self.step - 1) % LOG_EVERY + 1
        means = {name: value.item() / count for name, value in self.sums.items()}
        self.sums = {}
        return means

    def check(self) -> None:
        total = self.sums["loss"].item() if self.sums else 0.0
        if not math.isfinite(total):
            recipe = self.experiment.recipe
            raise TrainingError(
                f"The loss is {total} by step {self.step}: training has diverged. Lower the learning rate "
                f"({recipe.learning_rate:g}) or clip the gradient (clip: {recipe.clip}). The last good state, if one "
                f"was saved, stays in {self.folder / 'state'}."
            )

    def save(self) -> None:
        self.check()
        state = {
            "id": self.experiment.id,
            "step": self.step,
            "seconds": self.seconds,
            "sums": self.sums,
            "trainee": self.trainee.state_dict(),
            "average": self.average,
            "optimisers": {name: optimiser.state_dict() for name, optimiser in self.optimisers.items()},
        }
        replace_with(self.path, lambda temporary: torch.save(state, temporary))

    def load(self, device: torch.device) -> None:
        """Go on from the state that was saved, if there is one. CheckpointError where it cannot be read."""
        if not self.path.is_file():
            return
        try:
            state = torch.load(self.path, map_location=device, weights_only=True)
            self.trainee.load_state_dict(state["trainee"])
            for name, optimiser in self.optimisers.items():
                optimiser.load_state_dict(state["optimisers"][name])
            for mine, saved in zip(self.average or (), state["average"] or (), strict=True):
                mine.copy_(saved)
            self.step, self.seconds, self.sums = state["step"], state["seconds"], state["sums"]
        except Exception as error:
            raise CheckpointError(
                f"The state in {self.path} cannot be read ({type(error).__name__}). Remove it to start again."
            ) from error


def _refuse_another(folder: Path, name: str) -> None:
    """TrainingError where the folder belongs to another prior; ConfigError where it is no folder of ours."""
    path = folder / EXPERIMENT
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"{folder} is a file: give the name of a folder.")
    if path.is_file():
        try:
            held = json.loads(path.read_text())["id"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise CheckpointError(f"{path} cannot be read ({error}). Choose another folder.") from error
        if held != name:
            raise TrainingError(
                f"{folder} belongs to the prior {held}, and this one is {name}: a setting, the images or the number of "
                "threads differ. Choose another folder, or remove that one."
            )
    elif (folder / "config.json").exists():
        raise ConfigError(f"{folder} holds another model already. Choose another folder.")
    else:
        for held in (FIGURES, PICTURE, "README.md", "log.csv"):
            if (folder / held).exists():
                raise ConfigError(f"{folder} holds a {held} already, which is not a prior's: choose another folder.")


class _Log:
    """log.csv: means since the row before. Rows after the step resumed from are dropped."""

    def __init__(self, path: Path, start: int) -> None:
        self.kept: list[dict[str, str]] = []
        if start and path.is_file():
            with path.open(newline="") as file:
                self.kept = [row for row in csv.DictReader(file) if row["step"].isdigit() and int(row["step"]) <= start]
        self.file = path.open("w", newline="")
        self.writer: csv.DictWriter[str] | None = None
        if self.kept:
            self._begin(list(self.kept[0]))

    def _begin(self, fields: list[str]) -> None:
        self.writer = csv.DictWriter(self.file, fields)
        self.writer.writeheader()
        self.writer.writerows(self.kept)

    def row(self, step: int, means: dict[str, float], rate: float, seconds: float) -> None:
        row = {"step": str(step)} | {name: f"{value:.6g}" for name, value in means.items()}
        row |= {"learning_rate": f"{rate:.6g}", "seconds": f"{seconds:.1f}"}
        if self.writer is None:
            self._begin(list(row))
        assert self.writer is not None
        self.writer.writerow(row)
        self.file.flush()

    def close(self) -> None:
        self.file.close()
