"""Checkpoints: one safetensors file that holds the weights and, as JSON in its header, the experiment behind them.

No code is ever executed: safetensors holds numbers only.
"""

import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from unseen.errors import CheckpointError, cause_of, check_readable
from unseen.experiment import Experiment
from unseen.files import whole
from unseen.networks.abstention import Abstaining
from unseen.priors.moved import moved, sources_in
from unseen.types import Images, Restorer

FORMAT = "unseen-1"


def replace_with(path: Path, write: Callable[[Path], object]) -> None:
    """Write a file whole: to a temporary name beside it, then rename. Nothing half-written is ever seen.

    What `write` and the system say against it is a CheckpointError.
    """
    try:
        with whole(path) as temporary:
            write(temporary)
            os.chmod(temporary, 0o644)  # some libraries write for nobody else
    except (OSError, SafetensorError, RuntimeError) as error:  # a full disk is a RuntimeError to torch.save
        cause = (
            cause_of(error) if isinstance(error, OSError) else f"{error}. Free some space, or choose another folder."
        )
        raise CheckpointError(f"{path} could not be written: {cause}") from error


def save_network(
    path: Path, weights: dict[str, torch.Tensor], experiment: Experiment, step: int, before: Sequence[Experiment] = ()
) -> None:
    """Write `weights` with the experiment that made them, and those `before` it that it goes on from, oldest first."""
    said: dict[str, Any] = {"format": FORMAT, "experiment": experiment.model_dump(mode="json"), "step": step}
    if before:
        said["before"] = [earlier.model_dump(mode="json") for earlier in before]
    # One key: safetensors writes several in no order, and the same network should give the same bytes.
    header = {"unseen": json.dumps(said)}
    tensors = {name: value.detach().to("cpu", torch.float32).contiguous() for name, value in weights.items()}
    replace_with(path, lambda temporary: save_file(tensors, temporary, metadata=header))


class Checkpoint:
    """A network read from a file, in evaluation mode on `device`. `content` is a hash of its weights (and of when it
    abstains), `before` are the experiments that its own goes on from, oldest first."""

    def __init__(
        self,
        path: Path,
        network: nn.Module,
        experiment: Experiment,
        step: int,
        content: str,
        before: tuple[Experiment, ...] = (),
    ) -> None:
        self.path, self.network, self.experiment, self.step, self.content = path, network, experiment, step, content
        self.before = before

    @property
    def lineage(self) -> tuple[Experiment, ...]:
        """All experiments that its weights have been through, oldest first."""
        return *self.before, self.experiment

    @property
    def parameters(self) -> int:
        return sum(weight.numel() for weight in self.network.parameters())


def load_checkpoint(path: str | Path, device: str | torch.device = "cpu", priors: Sequence[str] = ()) -> Checkpoint:
    """Read a checkpoint, or the `model.safetensors` of a run's folder. CheckpointError says what is wrong with it.

    `priors` are sources of the priors that its network works with, where these have moved; they must be the same ones.
    """
    path = Path(path)
    if path.is_dir():
        path = path / "model.safetensors"
    if not path.is_file():
        raise CheckpointError(
            f"There is no checkpoint at {path}. Train one with `unseen train`, or name a model.safetensors."
        )
    try:
        check_readable(path)
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {cause_of(error)}") from error
    try:
        with safe_open(path, framework="pt") as file:
            header = _header(file.metadata())
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise CheckpointError(
            f"{path} is not a safetensors file, or is damaged ({error}). Expected a model.safetensors made by unseen."
        ) from error
    if header.get("format") != FORMAT:
        raise CheckpointError(
            f"{path} holds weights, but not made by this version of unseen: its header says format "
            f"{header.get('format')!r}, expected {FORMAT!r}."
        )
    try:
        said = header["experiment"]
        if priors:
            said = {**said, "network": moved(said["network"], priors)}
        experiment = Experiment.model_validate(said)
        before = tuple(Experiment.model_validate(earlier) for earlier in header.get("before", ()))
        step = int(header.get("step", 0))
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"The experiment in the header of {path} cannot be read: {error}") from error
    try:
        with torch.device("meta"):  # no memory is taken on the word of a header: the weights that are there are used
            network = experiment.network.build()
    except (RuntimeError, ArithmeticError, ValueError) as error:
        raise CheckpointError(f"The network in the header of {path} cannot be built: {error}") from error
    fill(
        network, {name: value.float() if value.is_floating_point() else value for name, value in weights.items()}, path
    )
    digest = hashlib.sha256()
    for name, value in sorted(weights.items()):
        digest.update(f"{name} {tuple(value.shape)} {value.dtype}".encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy())
    if experiment.network.abstain is not None:  # the same weights, and another restorer
        digest.update(experiment.network.abstain.model_dump_json().encode())
    return Checkpoint(path, network.to(device).eval(), experiment, step, digest.hexdigest(), before)


def _header(metadata: dict[str, str] | None) -> dict[str, Any]:
    try:
        header = json.loads((metadata or {}).get("unseen", "{}"))
    except (ValueError, RecursionError):
        return {}
    return header if isinstance(header, dict) else {}


def fill(network: nn.Module, weights: dict[str, torch.Tensor], path: Path) -> None:
    """Put `weights` into `network`. CheckpointError names the first ones missing, extra or of another shape."""
    expected = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    found = {name: tuple(value.shape) for name, value in weights.items()}
    if expected != found:
        wrong = [
            f"{name} {found.get(name, 'missing')} (expected {shape})"
            for name, shape in expected.items()
            if found.get(name) != shape
        ]
        wrong += [f"{name} {shape} (not expected)" for name, shape in found.items() if name not in expected]
        raise CheckpointError(
            f"The weights in {path} do not fit the network: {'; '.join(wrong[:3])}; {len(wrong)} in all."
        )
    broken = [name for name, value in weights.items() if not value.isfinite().all()]
    if broken:
        raise CheckpointError(
            f"The weights in {path} are not finite: {', '.join(broken[:3])}. "
            "Training has diverged, or the file is damaged."
        )
    network.load_state_dict(weights, assign=any(value.is_meta for value in network.state_dict().values()))


def start(network: nn.Module, trained: Checkpoint) -> None:
    """Let `network` go on from a checkpoint: one of its own configuration, or of a smaller one that it can grow from.
    CheckpointError where it is neither, as `fill` says it."""
    config = getattr(network, "config", None)
    same = config == trained.experiment.network
    if isinstance(config, BaseModel) and not same:
        mine, theirs = (sources_in(each.model_dump()) for each in (config, trained.experiment.network))
        if mine.keys() != theirs.keys():
            raise CheckpointError(
                f"{trained.path} was trained with {_named(theirs)}, and is to go on with {_named(mine)}: what it has "
                "learned works with its own prior alone."
            )
    grow: Callable[[nn.Module], bool] | None = getattr(network, "grow", None)
    if same or grow is None or not grow(trained.network):
        fill(network, trained.network.state_dict(), trained.path)


def _named(sources: Mapping[str, str]) -> str:
    return "; ".join(f"the prior {content} ({source})" for content, source in sources.items()) or "no prior"


def restorer(network: nn.Module, device: str | torch.device = "cpu", precision: str = "fp32") -> Restorer:
    """Wrap a network for use: evaluation mode, no gradients, channels-last, `precision` "fp32" or "mixed", clipped; an
    `Abstaining` where its configuration says which images it leaves alone.
    CheckpointError where it gives values that are not finite."""
    network = network.to(device, memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
    kind = torch.device(device).type

    @torch.inference_mode()
    def restore(degraded: Images) -> Images:
        images = degraded.to(device).contiguous(memory_format=torch.channels_last)
        with torch.autocast(kind, torch.bfloat16) if precision in ("mixed", "bf16") else nullcontext():
            restored = network(images).float()
        if not restored.isfinite().all():
            raise CheckpointError("The network gave values that are not finite: its weights are damaged, or diverged.")
        return restored.clamp(0, 1).to(degraded.device)

    abstain = getattr(getattr(network, "config", None), "abstain", None)
    return restore if abstain is None else Abstaining(restore, abstain)
