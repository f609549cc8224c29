"""Randomness has an address, never a state.

A sample is a pure function of `(seed, *address)`: it does not depend on workers, processes, order or
resumption. Two addresses share nothing; the same address gives the same numbers everywhere.
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import torch


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
