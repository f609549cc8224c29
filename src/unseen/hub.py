"""What lies on the Hugging Face hub, by its name: fetched once, and nothing else is ever fetched.

`hub:owner/name` names a repository there, `hub:owner/name/inside` a file or folder in it.
"""

import re
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

from unseen.errors import CheckpointError, ConfigError

HUB = "hub:"
"""What a name on the hub begins with."""

_NAME = re.compile(r"hub:([\w.-]+/[\w.-]+)(?:/([\w-][\w./-]*))?")


def fetched_file(source: str, default: str, extra: str = "hub") -> Path:
    """The file that `source` names, `default` where it names a repository alone.

    `extra` is what brings the hub's client. ConfigError where that is not installed or `source` is no such name,
    CheckpointError where nothing can be fetched.
    """
    repository, inside = _parts(source, "file.safetensors")
    return _fetched(source, extra, lambda hub: hub.hf_hub_download(repository, inside or default))


def fetched_folder(source: str, names: tuple[str, ...], extra: str = "hub") -> Path:
    """The folder that `source` names, or its whole repository: those of the files `names` in it that there are.

    Errors as those of `fetched_file`.
    """
    repository, inside = _parts(source, "folder")
    within = f"{inside}/" if inside else ""
    patterns = [within + name for name in names]
    folder = _fetched(source, extra, lambda hub: hub.snapshot_download(repository, allow_patterns=patterns)) / inside
    if not any((folder / name).is_file() for name in names):
        raise CheckpointError(
            f"{source} holds none of {', '.join(names)}. Name the folder in it that does: in a whole pipeline that is "
            f"often one called vae, vqvae, movq or unet (hub:{repository}/vae)."
        )
    return folder


def _parts(source: str, what: str) -> tuple[str, str]:
    match = _NAME.fullmatch(source)
    if match is None or ".." in source:
        raise ConfigError(f"{source} is no name on the hub: expected hub:owner/name or hub:owner/name/{what}.")
    return match[1], match[2] or ""


def _fetched(source: str, extra: str, fetch: Callable[[ModuleType], str]) -> Path:
    try:
        import huggingface_hub
    except ImportError as error:
        raise missing_extra(source, extra) from error
    try:
        return Path(fetch(huggingface_hub))
    except Exception as error:  # no network, no such name, no permission: the client has an error for each
        said = str(error).strip().partition("\n")[0] or type(error).__name__
        raise CheckpointError(
            f"{source} could not be fetched ({said}). Name one on this machine, or try again."
        ) from error


def missing_extra(source: object, extra: str) -> ConfigError:
    """What `source` needs is not installed."""
    return ConfigError(f"{source} needs the extra `{extra}`, which is not installed: pip install 'unseen[{extra}]'.")
