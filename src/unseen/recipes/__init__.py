"""Named ways to train: `unseen train --recipe content`. One YAML file a name, beside this module, of what an
experiment has other than the defaults; its comments say why, and where it was measured.
"""

from collections.abc import Mapping
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

from unseen.errors import ConfigError, not_known
from unseen.study.study import read_yaml


def names() -> list[str]:
    """The recipes there are, sorted."""
    return sorted(path.stem for path in _files())


def recipe(name: str) -> dict[str, Any]:
    """What the recipe says, as a mapping. ConfigError where there is none of that name."""
    for path in _files():
        if path.stem == name:
            return read_yaml(path)
    raise ConfigError(not_known("recipe", name, names()))


def laid_over(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Both mappings as one, key by key and as deep as they go; where both have a value, that of `over`. A mapping with
    another `kind` (another network, another degradation) replaces the one below as a whole."""
    found = dict(under)
    for key, value in over.items():
        below = found.get(key)
        if isinstance(below, Mapping) and isinstance(value, Mapping) and value.get("kind") in (None, below.get("kind")):
            value = laid_over(below, value)
        found[key] = value
    return found


def _files() -> list[Path]:
    with as_file(files("unseen.recipes")) as folder:
        return sorted(folder.glob("*.yaml"))
