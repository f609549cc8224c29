"""Weights that come with the package, and models by their names: there, or on the Hugging Face hub.

They lie in the package's folder `weights`, one file a name: `weights/rain.safetensors` is "rain".
"""

import os
import re
from importlib.resources import files
from pathlib import Path

from unseen.errors import CheckpointError, ConfigError

DEFAULT = "rain"
"""What is used where no model is named."""

HUB = "hub:"
"""What the name of a model on the Hugging Face hub begins with: nothing else is ever fetched."""

_ON_HUB = re.compile(r"hub:([\w.-]+/[\w.-]+)(?:/([\w-][\w./-]*))?")


def shipped() -> dict[str, Path]:
    """The files of the weights that come with the package, by name."""
    folder = Path(str(files("unseen"))) / "weights"
    return {path.stem: path for path in sorted(folder.glob("*.safetensors"))}


def find_model(source: str | Path | None = None) -> str | Path:
    """What `source` stands for: the file of shipped weights of that name (None: "rain"), or `source` itself.

    A name has no path separator, and there is no file or folder of that name, which would go first. `hub:owner/name`
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
        return _fetched(name)
    is_name = not os.path.dirname(name) and os.sep not in name and not re.fullmatch(r"[\w.]+:[\w.]+", name)
    if not is_name or Path(name).expanduser().exists():
        return source
    if name in known:
        return known[name]
    names = ", ".join(known) or "none in this installation"
    raise CheckpointError(
        f"There is no model {name!r}: no file or folder of that name, and no weights that come with the package "
        f"({names}). Name a file, or the folder of a run."
    )


def _fetched(source: str) -> Path:
    match = _ON_HUB.fullmatch(source)
    if match is None or ".." in source:
        raise ConfigError(
            f"{source} is no name on the hub: expected hub:owner/name or hub:owner/name/file.safetensors."
        )
    try:
        from huggingface_hub import hf_hub_download
    except ImportError as error:
        raise ConfigError(
            f"{source} needs the extra `hub`, which is not installed: pip install 'unseen[hub]'."
        ) from error
    try:
        return Path(hf_hub_download(match[1], match[2] or "model.safetensors"))
    except Exception as error:  # no network, no such name, no permission: the client has an error for each
        said = str(error).strip().partition("\n")[0] or type(error).__name__
        raise CheckpointError(f"{source} could not be fetched ({said}). Name a local file, or try again.") from error
