"""Pretrained models by their names: read once in a process, opened once on each device, and known by what they hold,
not by where they lie."""

import copy
import hashlib
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from pydantic import Field, model_validator
from torch import nn

from unseen.errors import ConfigError
from unseen.hub import HUB
from unseen.priors.files import located
from unseen.ranges import Frozen


class Pretrained(nn.Module):
    """A model that is used, never trained: its weights take no gradients and it stays in evaluation mode, also where it
    is told to train. Gradients pass through it to what goes in.

    `architecture` says how it is built, `name` is for people, and `content` is a hash of its architecture and weights.
    """

    def __init__(self, architecture: str) -> None:
        super().__init__()
        self.architecture, self.name, self.content = architecture, "", ""

    def freeze(self) -> None:
        """To be called where all of it has been built."""
        super().requires_grad_(False)
        super().train(False)

    def train(self, mode: bool = True) -> Self:
        """Does nothing: it is in evaluation mode, and stays there."""
        return super().train(False)

    def requires_grad_(self, requires_grad: bool = True) -> Self:
        """Does nothing: its weights take no gradients."""
        return super().requires_grad_(False)


class Source(Frozen):
    """Which pretrained model. Abstract: `what` is what people call one, `load` reads it.

    `source`: a folder or file; `${VARIABLES}` in its path are filled in. Or the name of one that comes with the
    package. One of the Hugging Face hub is `hub:owner/name`, or `hub:owner/name/folder`.

    `content`, the hash of its architecture and weights, and `architecture`, how it is built, are filled in. Where both
    are given (a checkpoint gives them) nothing is read before the model is used, and it must then be the same.
    Raises ConfigError and CheckpointError for what is wrong with the source.
    """

    what: ClassVar[str] = "model"

    source: str = Field(min_length=1)
    content: str = ""
    architecture: str = ""

    @model_validator(mode="before")
    @classmethod
    def _with_content(cls, value: Any) -> Any:
        if not isinstance(value, dict) or not isinstance(value.get("source"), str) or not value["source"]:
            return value
        if value.get("content") and value.get("architecture"):
            return value
        model = _read(cls, value["source"], value.get("content"))
        return {**value, "content": model.content, "architecture": model.architecture}

    @staticmethod
    def load(path: Path) -> Pretrained:
        """The model in a folder or file, as it is now; without a name."""
        raise NotImplementedError


def opened(config: Source, device: str | torch.device = "cpu") -> Any:
    """The model on `device`: the same object for the same configuration, so that it is there once.

    Raises ConfigError where the source now holds another model than `config` was made with.
    """
    return _opened(config, torch.device(device))  # pyright: ignore[reportArgumentType]  (frozen: it has a hash)


@lru_cache(maxsize=8)
def _opened(config: Source, device: torch.device) -> Pretrained:
    model = _read(type(config), config.source, config.content)
    with torch.inference_mode(False):  # weights made in inference mode can never take part in training
        return copy.deepcopy(model).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]


def _read(kind: type[Source], source: str, content: str | None) -> Pretrained:
    """The model that `source` names; it must be that of `content`, where that is given."""
    try:
        model = _cached(kind, source, () if source.startswith(HUB) else _stamp(located(source)))
    except ConfigError as error:
        if not content:
            raise
        raise ConfigError(
            f"{error} If that which this was made with has moved, say where to with --prior (in Python: priors=[...]) "
            "or in the configuration that names it."
        ) from error
    if content and model.content != content:
        raise ConfigError(
            f"The {kind.what} in {source} is not the one that this was made with: its content is {model.content}, not "
            f"{content}. Put the old one back; or say where it lies with --prior (in Python: priors=[...]); or, in a "
            "configuration of your own, leave content out."
        )
    return model


def _stamp(path: Path) -> tuple[tuple[str, int, int], ...]:
    """What tells whether what lies there has changed: of its files where they lie, their sizes and times."""
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    found = [(str(file.resolve()), file.stat()) for file in files if file.is_file()]
    return tuple((name, status.st_size, status.st_mtime_ns) for name, status in found)


@lru_cache(maxsize=8)
def _cached(kind: type[Source], source: str, stamp: tuple[tuple[str, int, int], ...]) -> Pretrained:
    # Libraries may draw weights before they read them: what others draw next does not depend on who opened it first.
    with torch.inference_mode(False), torch.random.fork_rng(devices=[]):
        path = located(source)
        model = kind.load(path)
    model.content = content_of(model.architecture, model)
    model.name = source.removeprefix(HUB) if source.startswith(HUB) else path.name if path.is_dir() else path.stem
    return model


def content_of(architecture: str, module: nn.Module) -> str:
    """Sixteen hexadecimal digits over how a module is built and its weights, which are on the CPU."""
    digest = hashlib.sha256(architecture.encode())
    for name, value in sorted(module.state_dict().items()):
        digest.update(f"{name} {tuple(value.shape)}".encode())
        digest.update(value.numpy().tobytes())
    return digest.hexdigest()[:16]
