"""Priors by name: opened once in a process, on each device, and known by what they hold, not by where they lie."""

import copy
import hashlib
import json
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from pydantic import Field, model_validator
from torch import nn

from unseen.errors import CheckpointError, ConfigError
from unseen.priors import diffusers, tae
from unseen.priors.base import Prior
from unseen.priors.files import HUB, WEIGHTS, encoder_and_decoder, located, model_config, read_tensors
from unseen.ranges import Frozen


class PriorConfig(Frozen):
    """Which prior.

    `source`: a folder of diffusers (`AutoencoderKL`, `VQModel`, `AutoencoderTiny`), a folder with an encoder's and a
    decoder's weights of the TAESD family, or one of those two files; `${VARIABLES}` in its path are filled in. One of
    the Hugging Face hub is `hub:owner/name`, or `hub:owner/name/folder`.

    `content`, the hash of its architecture and weights, and `architecture`, how it is built, are filled in. Where both
    are given (a checkpoint gives them) nothing is read before the prior is used, and it must then be the same.
    Raises ConfigError and CheckpointError for what is wrong with the source.
    """

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
        prior = _read(value["source"])
        _check(prior, value["source"], value.get("content") or prior.content)
        return {**value, "content": prior.content, "architecture": prior.architecture}


def open_prior(config: PriorConfig, device: str | torch.device = "cpu") -> Prior:
    """The prior on `device`: the same object for the same configuration, so that it is there once.

    Raises ConfigError where the source now holds another prior than `config` was made with.
    """
    return _opened(config, torch.device(device))  # pyright: ignore[reportArgumentType]  (frozen: it has a hash)


@lru_cache(maxsize=8)
def _opened(config: PriorConfig, device: torch.device) -> Prior:
    prior = _read(config.source)
    _check(prior, config.source, config.content)
    with torch.inference_mode(False):  # weights made in inference mode can never take part in training
        return copy.deepcopy(prior).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]


def _check(prior: Prior, source: str, content: str) -> None:
    if prior.content != content:
        raise ConfigError(
            f"The prior in {source} is not the one that this was made with: its content is {prior.content}, not "
            f"{content}. Put the old one back, or leave content out."
        )


@lru_cache(maxsize=4)
def _read(source: str) -> Prior:
    with torch.inference_mode(False):
        path = located(source)
        prior = _from_path(path)
    prior.content = content_of(prior.architecture, prior)
    prior.name = name_of(source, path)
    return prior


def content_of(architecture: str, module: nn.Module) -> str:
    """Sixteen hexadecimal digits over how a module is built and its weights, which are on the CPU."""
    digest = hashlib.sha256(architecture.encode())
    for name, value in sorted(module.state_dict().items()):
        digest.update(f"{name} {tuple(value.shape)}".encode())
        digest.update(value.numpy().tobytes())
    return digest.hexdigest()[:16]


def name_of(source: str, path: Path) -> str:
    """What people call the prior that `source` names and that lies at `path`."""
    return source.removeprefix(HUB) if source.startswith(HUB) else path.name if path.is_dir() else path.stem


def _from_path(path: Path) -> Prior:
    config = model_config(path) if path.is_dir() else None
    if config is None:
        files = encoder_and_decoder(path)
        return tae.from_weights(read_tensors(files[0]), read_tensors(files[1]), path)
    kind = config["_class_name"]
    if kind == "AutoencoderTiny":
        weights = path / WEIGHTS
        if not weights.is_file():
            raise CheckpointError(f"There is no {weights}: expected weights as safetensors beside config.json.")
        return tae.from_tiny(read_tensors(weights), config, path)
    if kind not in diffusers.CLASSES:
        raise CheckpointError(
            f"{path} holds a {kind} of diffusers: expected {', '.join(diffusers.CLASSES)} or AutoencoderTiny. In a "
            "whole pipeline the autoencoder lies in the folder vae, vqvae or movq."
        )
    return diffusers.from_folder(path, config)


def blank(architecture: str) -> Prior:
    """A prior that is built so, with fresh weights. ConfigError where `architecture` is none."""
    try:
        value = json.loads(architecture)
        if value["class"] == tae.CLASS:
            return tae.blank(value["encoder"], value["decoder"])
        if value["class"] in diffusers.CLASSES:
            return diffusers.blank(value)
        raise ValueError(f"there is no class {value['class']!r}")
    except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
        raise ConfigError(
            f"The architecture of a prior cannot be read: {error}. Leave it out: it is filled in."
        ) from error


def essence(value: Any) -> Any:
    """What decides of a configuration dumped to JSON that may hold priors: without where they lie, and how they are
    built, which `content` tells."""
    if isinstance(value, list):
        return [essence(part) for part in value]
    if not isinstance(value, Mapping):
        return value
    dropped = {"source", "architecture"} if {"source", "content", "architecture"} <= value.keys() else set()
    return {key: essence(part) for key, part in value.items() if key not in dropped}
