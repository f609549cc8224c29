"""Autoencoders as priors, by name: of diffusers' folders, and of the TAESD family."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import torch

from unseen.errors import CheckpointError, ConfigError
from unseen.priors import diffusers, tae
from unseen.priors.base import Prior
from unseen.priors.files import WEIGHTS, encoder_and_decoder, model_config, read_tensors
from unseen.priors.source import Source, opened


class PriorConfig(Source):
    """Which prior.

    `source`: a folder of diffusers (`AutoencoderKL`, `VQModel`, `AutoencoderTiny`), a folder with an encoder's and a
    decoder's weights of the TAESD family, or one of those two files; or one of the hub. The rest is filled in: see
    `Source`.
    """

    what: ClassVar[str] = "prior"

    @staticmethod
    def load(path: Path) -> Prior:
        """The prior in a folder or file, as it is now; without a name."""
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
        if kind == "UNet2DModel":
            raise CheckpointError(
                f"{path} holds a UNet2DModel, a diffusion model, which gives no image back as an autoencoder does: it "
                "is for DiffusionL1, Refined and open_denoiser (docs/priors.md)."
            )
        if kind not in diffusers.CLASSES:
            raise CheckpointError(
                f"{path} holds a {kind} of diffusers: expected {', '.join(diffusers.CLASSES)} or AutoencoderTiny. In a "
                "whole pipeline the autoencoder lies in the folder vae, vqvae or movq."
            )
        return diffusers.from_folder(path, config)


def open_prior(config: PriorConfig, device: str | torch.device = "cpu") -> Prior:
    """The prior on `device`, as `unseen.priors.source.opened` gives it: the same object for the same configuration.

    Raises ConfigError where the source now holds another prior than `config` was made with.
    """
    return opened(config, device)


def blank(architecture: str) -> Prior:
    """A prior that is built so, with fresh weights. ConfigError where `architecture` is none."""
    try:
        value = json.loads(architecture)
        if value["class"] == tae.CLASS:
            return tae.blank(value["encoder"], value["decoder"])
        if value["class"] in diffusers.CLASSES:
            return diffusers.blank(value)
        raise ValueError(f"there is no class {value['class']!r}")
    except (ValueError, KeyError, TypeError, IndexError, AttributeError, ArithmeticError, RuntimeError) as error:
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
