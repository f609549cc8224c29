"""What is known of a model, and how it is named and hashed."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from unseen.errors import ConfigError
from unseen.experiment import Experiment
from unseen.networks import NetworkConfig
from unseen.networks.abstention import Abstaining
from unseen.types import Restorer

PLAIN_NAMES = {"best", "checkpoint", "final", "last", "latest", "model", "net_g_latest", "pytorch_model", "weights"}
"""File names that say nothing: the folder's name is taken."""


@dataclass(frozen=True, slots=True)
class Model:
    """A restorer and what is known of it.

    `content` is a SHA-256 over the weights or the bytes of the file. Of our own checkpoints `experiment` is what
    trained it, `step` when, and `before` the experiments that it goes on from (None, -1 and none for others). `network`
    is the module behind `restore`, where it is one of ours, in evaluation mode on its device. `parameters` and
    `content` are None where they cannot be known. `device` is where it runs, where that is not what was asked for.
    """

    name: str
    restore: Restorer
    kind: str
    parameters: int | None = None
    content: str | None = None
    experiment: Experiment | None = None
    step: int = -1
    path: Path | None = None
    network: nn.Module | None = None
    before: tuple[Experiment, ...] = ()
    device: str | None = None

    @property
    def dials(self) -> dict[str, nn.Module]:
        """The dials of the network behind it, by name, each with the part of it that has the dial."""
        parts = () if self.network is None else self.network.modules()
        return {dial: part for part in parts for dial in getattr(part, "dials", ())}

    @property
    def config(self) -> NetworkConfig | None:
        """The configuration of the network behind it, where it is one of ours: what tiles are laid out by."""
        return getattr(self.network, "config", None)

    @property
    def lineage(self) -> tuple[Experiment, ...]:
        """All experiments that its weights have been through, oldest first; empty where none is known."""
        return () if self.experiment is None else (*self.before, self.experiment)


def always_restoring(model: Model) -> Model:
    """The same model without its reject option: it also restores what it takes for clean. Its content says so: what is
    measured of the one is not true of the other."""
    if not isinstance(model.restore, Abstaining):
        return model
    content = None if model.content is None else hashlib.sha256(f"{model.content}, always".encode()).hexdigest()
    return replace(model, restore=model.restore.restorer, content=content)


def turned(model: Model, dials: Mapping[str, float]) -> Model:
    """The same model with dials of its network set (`features` of a Guided, `strength` of a Refined): named by them,
    with a content of its own. The network itself is turned. ConfigError where it has no such dial, or none so wide."""
    if not dials:
        return model
    for dial, value in dials.items():
        if dial not in model.dials:
            raise ConfigError(
                f"{model.name} ({model.kind}) has no dial {dial!r}: it has {', '.join(sorted(model.dials)) or 'none'} "
                "(docs/priors.md)."
            )
        setattr(model.dials[dial], dial, value)
    said = ", ".join(f"{dial} {value:g}" for dial, value in sorted(dials.items()))
    content = None if model.content is None else hashlib.sha256(f"{model.content}, {said}".encode()).hexdigest()
    name = "-".join([model.name, *(f"{dial}-{value:g}" for dial, value in sorted(dials.items()))])
    return replace(model, name=name, content=content)


def name_of(path: Path) -> str:
    """The stem of a file's name, or the name of its folder where the stem says nothing."""
    folder = path.absolute().parent.name
    return folder if folder and path.stem.lower() in PLAIN_NAMES else path.stem


def hash_of_file(path: Path) -> str:
    """SHA-256 of a file's bytes, and of the file of weights that ONNX may keep beside it."""
    digest = hashlib.sha256()
    for part in (path, path.with_name(f"{path.name}.data"), path.with_name(f"{path.name}_data")):
        if part.is_file():
            with part.open("rb") as file:
                hashlib.file_digest(file, lambda: digest)
    return digest.hexdigest()


def hash_of_weights(module: nn.Module) -> str:
    """SHA-256 over the names, shapes, types and values of a module's state."""
    digest = hashlib.sha256()
    for name, value in sorted(module.state_dict().items()):
        if isinstance(value, Tensor):
            digest.update(f"{name} {tuple(value.shape)} {value.dtype}".encode())
            digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def count(module: nn.Module) -> int:
    return sum(weight.numel() for weight in module.parameters())
