"""Weights that come with the package, and models by their names: there, or on the Hugging Face hub.

They lie in the package's folder `weights`, one file a name: `weights/rain.safetensors` is "rain"; and of content priors
one folder of diffusers a name: `weights/small-vae/` is "small-vae".
"""

import os
import re
from importlib.resources import files
from pathlib import Path

from unseen.errors import CheckpointError, ConfigError
from unseen.hub import HUB, fetched_file

DEFAULT = "rain"
"""What is used where no model is named."""


def shipped() -> dict[str, Path]:
    """The files of the weights that come with the package, by name."""
    return {path.stem: path for path in sorted(_folder().glob("*.safetensors"))}


def shipped_priors() -> dict[str, Path]:
    """The folders of the content priors that come with the package, by name."""
    return {path.parent.name: path.parent for path in sorted(_folder().glob("*/config.json"))}


def _folder() -> Path:
    return Path(str(files("unseen"))) / "weights"


def find_model(source: str | Path | None = None) -> str | Path:
    """What `source` stands for: the file of shipped weights of that name (None: "rain"), or `source` itself.

    A name has no path separator, and there is no file or run of that name, which would go first (nor any other folder,
    unless the name is of shipped weights: one may well be called "rain"). `hub:owner/name`
    is `model.safetensors` on the Hugging Face hub, `hub:owner/name/file` another file there; it is fetched once.
    ConfigError where nothing is named and there is no default; CheckpointError where there is no such name.
    """
    known = shipped()
    if source is None:
        if DEFAULT in known:
            return known[DEFAULT]
        raise ConfigError(
            f"This installation comes without weights for {DEFAULT!r}: name a model with --model. `unseen train` "
            "trains one, and --model runs/ID takes it; docs/models.md says what else a model may be."
        )
    name = str(source)
    if name.startswith(HUB):
        return fetched_file(name, "model.safetensors")
    is_name = not os.path.dirname(name) and os.sep not in name and not re.fullmatch(r"[\w.]+:[\w.]+", name)
    path = Path(name).expanduser()
    if name in known and is_name and not path.is_file() and not (path / "model.safetensors").is_file():
        return known[name]
    if not is_name or path.exists():
        return source
    names = ", ".join(known) or "none in this installation"
    raise CheckpointError(
        f"There is no model {name!r}: no file or folder of that name, and no weights that come with the package "
        f"({names}). Name a file, or the folder of a run."
    )
