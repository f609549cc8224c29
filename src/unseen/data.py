"""Pairs of degraded and clean images, by address: `pairs[step]` is a pure function of the step."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import torch

from unseen.backgrounds import Backgrounds
from unseen.degradations import Degradation
from unseen.errors import ConfigError
from unseen.seeding import generator
from unseen.types import Batch


class Pairs:
    """Endless synthetic pairs. Sample `index = step * batch + position` is drawn from `generator(seed, split, index)`.

    `rank` of `world` processes yields its part of every batch, so that together they see what one process would.
    """

    def __init__(
        self,
        backgrounds: Backgrounds,
        degradation: Degradation,
        *,
        patch: int,
        batch: int,
        seed: int,
        split: str = "train",
        rank: int = 0,
        world: int = 1,
        device: torch.device | str = "cpu",
    ) -> None:
        if batch % world:
            raise ConfigError(
                f"A batch of {batch} cannot be shared by {world} processes: choose a multiple of {world}."
            )
        self.backgrounds, self.degradation = backgrounds, degradation
        self.patch, self.batch, self.seed, self.split = patch, batch, seed, split
        self.rank, self.world, self.device = rank, world, torch.device(device)

    def __getitem__(self, step: int) -> Batch:
        """The pairs of a step: (batch / world, 3, patch, patch), rendered on `device`."""
        share = self.batch // self.world
        first = step * self.batch + self.rank * share
        rngs = [generator(self.seed, self.split, index) for index in range(first, first + share)]
        clean = self.backgrounds.patches(rngs, self.patch)
        params = self.degradation.sample((self.patch, self.patch), rngs)
        return self.degradation.render(clean.to(self.device, non_blocking=True), params)

    def between(self, start: int, stop: int) -> Iterator[Batch]:
        """The batches of steps `start` to `stop` - 1. Beside an accelerator the next one is made while one is used."""
        if self.device.type == "cpu":
            yield from (self[step] for step in range(start, stop))
            return
        with ThreadPoolExecutor(1) as ahead:
            coming = ahead.submit(self.__getitem__, start)
            for step in range(start, stop):
                batch = coming.result()
                if step + 1 < stop:
                    coming = ahead.submit(self.__getitem__, step + 1)
                yield batch
