"""Where a prior's files lie, and what they hold. Nothing in them is executed."""

import json
import re
from pathlib import Path
from typing import Any

from torch import Tensor

from unseen.backgrounds import expanded
from unseen.errors import CheckpointError, ConfigError, cause_of
from unseen.hub import HUB, fetched_folder
from unseen.shipped import shipped_priors
from unseen.tensors import read_weights

WEIGHTS = "diffusion_pytorch_model.safetensors"
"""The name that diffusers gives weights."""

SCHEDULER = "scheduler_config.json"
"""The name that diffusers gives the levels of noise of a diffusion model."""

FETCHED = ("config.json", WEIGHTS, SCHEDULER)
"""What is fetched of the hub, where it is there."""

SUFFIXES = (".safetensors", ".pth", ".pt")

EXTRA = "priors"
"""The extra that reading folders of diffusers needs, and fetching them."""


def located(source: str) -> Path:
    """The folder or file that a source names, on this machine; one of the hub is fetched there, once.

    Of the hub: `hub:owner/name`, or `hub:owner/name/folder` for a folder in it. The name of one that comes with the
    package stands for it, unless a file, or a folder of weights, has that name here. Raises ConfigError and
    CheckpointError.
    """
    if source.startswith(HUB):
        return fetched_folder(source, FETCHED, EXTRA)
    path, known = expanded(source), shipped_priors()
    if source in known and not _weights_in(path):
        return known[source]
    if path.exists():
        return path
    raise ConfigError(
        f"There is no prior at {source}: expected a folder of diffusers, or one with an encoder's and a decoder's "
        "weights of the TAESD family, or the name of one that comes with the package "
        f"({', '.join(known) or 'none in this installation'}). One of the Hugging Face hub is named hub:owner/name "
        "(docs/priors.md)."
    )


def _weights_in(path: Path) -> bool:
    """Whether there is a file, or a folder with weights, or with what says how they are built."""
    if not path.is_dir():
        return path.is_file()
    return any(file.suffix in SUFFIXES or file.name == "config.json" for file in path.iterdir())


def model_config(folder: Path) -> dict[str, Any] | None:
    """What `config.json` of a folder of diffusers says; None where there is none."""
    path = folder / "config.json"
    if not path.is_file():
        return None
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} cannot be read as JSON ({error}). Fetch the folder again.") from error
    if not isinstance(config, dict) or not isinstance(config.get("_class_name"), str):
        raise CheckpointError(f"{path} does not say which class of diffusers it is of (_class_name).")
    return config


def encoder_and_decoder(path: Path) -> tuple[Path, Path]:
    """The two weight files of a prior of the TAESD family: those in a folder whose names say which is which, or those
    that one of the two tells. Raises CheckpointError."""
    if path.is_file():
        stem = path.stem
        if "decoder" not in stem and "encoder" not in stem:
            raise CheckpointError(
                f"{path} is one file, whose name says neither encoder nor decoder: name the folder that holds both."
            )
        names = [re.sub("(en|de)coder", which, stem) + path.suffix for which in ("encoder", "decoder")]
        pair = path.with_name(names[0]), path.with_name(names[1])
        if absent := [file for file in pair if not file.is_file()]:
            raise CheckpointError(f"There is no {absent[0]}: encoder and decoder lie beside each other.")
        return pair
    found = []
    for which in ("encoder", "decoder"):
        files = sorted(file for file in path.iterdir() if which in file.stem and file.suffix in SUFFIXES)
        if len(files) != 1:
            seen = ", ".join(file.name for file in files) or "none"
            raise CheckpointError(
                f"{path} is no prior: expected a config.json of diffusers, or one weight file ({', '.join(SUFFIXES)}) "
                f"with {which} in its name; found {seen}. Where there are several, name the file."
            )
        found.append(files[0])
    return found[0], found[1]


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The weights in a file by name, in fp32 (`unseen.tensors`). Raises CheckpointError."""
    try:
        return {name: value.float() for name, value in read_weights(path).items()}
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {cause_of(error)}") from error
