"""Randomness has an address, never a state.

A sample is a pure function of `(seed, *address)`: it does not depend on workers, processes, order or
resumption. Two addresses share nothing; the same address gives the same numbers everywhere.
"""

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from torch import Tensor

_CELL = 64
"""Pixels a side that share an address in `noise_field`."""

_ORIGIN: ContextVar[tuple[int, int]] = ContextVar("origin", default=(0, 0))

_SAMPLES: ContextVar[Sequence[torch.Generator] | None] = ContextVar("samples", default=None)


def seed_of(seed: int, *address: str | int) -> int:
    """A 63-bit seed for an address: the first bytes of BLAKE2b over its written form."""
    written = "\x1f".join([str(seed), *map(str, address)]).encode()
    return int.from_bytes(hashlib.blake2b(written, digest_size=8).digest(), "little") >> 1


def generator(seed: int, *address: str | int) -> torch.Generator:
    """A CPU generator for an address, e.g. `generator(0, "train", 17)`."""
    return torch.Generator().manual_seed(seed_of(seed, *address))


@contextmanager
def seeded(seed: int, *address: str | int) -> Iterator[None]:
    """For what torch draws only from its global state (initial weights): set it, then put the old one back."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed_of(seed, *address))
        yield


@contextmanager
def of_samples(rngs: Sequence[torch.Generator]) -> Iterator[None]:
    """What a network draws while it trains (`drawn`) comes from one generator for each sample of its batch."""
    token = _SAMPLES.set(rngs)
    try:
        yield
    finally:
        _SAMPLES.reset(token)


def drawn(count: int, *shape: int) -> Tensor:
    """Uniform numbers in [0, 1), (count, *shape), on the CPU: each sample's from its own generator (`of_samples`), so
    that they do not depend on its neighbours; outside of that from torch's global state."""
    rngs = _SAMPLES.get()
    if rngs is None:
        return torch.rand(count, *shape)
    return torch.stack([torch.rand(shape, generator=rng) for rng in rngs])


@contextmanager
def placed(top: int, left: int) -> Iterator[None]:
    """What a network sees begins so many pixels below the top of its image, and right of its left: a tile."""
    token = _ORIGIN.set((top, left))
    try:
        yield
    finally:
        _ORIGIN.reset(token)


def noise_field(channels: int, height: int, width: int, seed: int, *address: str | int) -> Tensor:
    """Standard normal numbers, (channels, height, width), that belong to places of an image: a part of it, seen from
    where `placed` says, gets those that the whole has there."""
    top, left = _ORIGIN.get()
    field = torch.empty(channels, height, width)
    for row in range(top // _CELL, -(-(top + height) // _CELL)):
        for column in range(left // _CELL, -(-(left + width) // _CELL)):
            cell = torch.randn(channels, _CELL, _CELL, generator=generator(seed, *address, row, column))
            above, before = row * _CELL - top, column * _CELL - left
            cell = cell[:, max(0, -above) : height - above, max(0, -before) : width - before]
            down, right = max(0, above), max(0, before)
            field[:, down : down + cell.shape[1], right : right + cell.shape[2]] = cell
    return field
