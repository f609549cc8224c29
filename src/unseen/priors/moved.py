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
    """A network's configuration, dumped to JSON, with each prior where one of `sources` holds the same; those that hold
    other priors may be for another network. One without priors is left as it is. ConfigError where no source holds any
    of its priors, CheckpointError as for `PriorConfig`.
    """
    wanted = sources_in(network)
    if not wanted:
        return dict(network)
    held = {_content(source): source for source in sources}
    if sources and held.keys().isdisjoint(wanted):
        given = "; ".join(f"{source} holds {content}" for content, source in held.items())
        asked = "; ".join(f"{content}, which was at {where}" for content, where in wanted.items())
        raise ConfigError(
            f"--prior {given}, by content, and this network was trained with {asked}. Only the same prior gives what "
            "the network has learned to work with."
        )
    return _with(network, held)


def unused(networks: Sequence[BaseModel], sources: Sequence[str]) -> list[str]:
    """Those of `sources` that hold no prior of any of the networks."""
    wanted = {content for network in networks for content in sources_in(network.model_dump())}
    return [source for source in sources if _content(source) not in wanted]


def sources_in(network: Mapping[str, Any]) -> dict[str, str]:
    """The content of every prior of a configuration dumped to JSON, and where it lay."""
    return {prior["content"]: prior["source"] for prior in _priors(network)}


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
