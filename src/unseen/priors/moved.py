"""Priors that lie elsewhere than where a network was trained: found again by what they hold."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pydantic import BaseModel

from unseen.errors import CheckpointError, ConfigError
from unseen.priors.denoiser import DenoiserConfig
from unseen.priors.opening import PriorConfig

KEYS = {"source", "content", "architecture"}
"""What tells a prior in a configuration dumped to JSON."""


def moved(network: Mapping[str, Any], sources: Sequence[str]) -> dict[str, Any]:
    """A network's configuration, dumped to JSON, with each prior where one of `sources` holds the same. One without
    priors is left as it is. ConfigError where a source holds none of its priors, CheckpointError as for `PriorConfig`.
    """
    wanted = sources_in(network)
    if not wanted:
        return dict(network)
    found = {}
    for source in sources:
        content = _content(source)
        if content not in wanted:
            asked = "; ".join(f"{content}, which was at {where}" for content, where in wanted.items())
            raise ConfigError(
                f"--prior {source}: its content is {content}, and this network was trained with {asked}. Only the same "
                "prior gives what the network has learned to work with."
            )
        found[content] = source
    return _with(network, found)


def sources_in(network: Mapping[str, Any]) -> dict[str, str]:
    """The content of every prior of a configuration dumped to JSON, and where it lay."""
    return {prior["content"]: prior["source"] for prior in _priors(network)}


def holds_priors(network: BaseModel) -> bool:
    """Whether a network's configuration names a prior, or a diffusion model."""
    return any(True for _ in _priors(network.model_dump()))


def _content(source: str) -> str:
    try:
        return PriorConfig(source=source).content
    except CheckpointError:
        try:
            return DenoiserConfig(source=source).content
        except CheckpointError:
            pass
        raise


def _priors(value: Any) -> Iterator[Mapping[str, Any]]:
    if isinstance(value, Mapping):
        if value.keys() >= KEYS and value["content"]:
            yield value
        for part in value.values():
            yield from _priors(part)


def _with(value: Any, found: Mapping[str, str]) -> Any:
    if not isinstance(value, Mapping):
        return value
    value = {key: _with(part, found) for key, part in value.items()}
    return value | {"source": found[value["content"]]} if value.keys() >= KEYS and value["content"] in found else value
