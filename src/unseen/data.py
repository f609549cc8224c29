"""Pairs of degraded and clean images, by address: `pairs[step]` is a pure function of the step.

They are synthetic (backgrounds, degraded), or come from folders of pairs, or are mixed sample by sample.
"""

import hashlib
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property, partial
from itertools import accumulate
from pathlib import Path
from typing import Annotated, Any, Self

import numpy as np
import torch
from jaxtyping import Bool
from pydantic import Field, field_validator, model_validator
from torch import Tensor

from unseen.backgrounds import Backgrounds
from unseen.degradations import Degradation, mask_of
from unseen.errors import ConfigError, DataError
from unseen.images import PEAK
from unseen.pair_folder import PairFolder, PairFolderConfig, PairImages
from unseen.ranges import Frozen
from unseen.schedules import Course
from unseen.seeding import generator
from unseen.store import MEMORY_LIMIT, Array, Progress, read_ahead, size_of, square, stored
from unseen.types import Batch


class PairsConfig(Frozen):
    """Which folders of pairs to train on, and how often.

    `folders`: their paths, or `PairFolderConfig`s where the layout has to be told. Of a folder with a `holdout`, what
    is held out is not trained on.
    `weights`: how often each folder is drawn, relative to the others (None: in proportion to its number of pairs).
    `share`: the probability that a sample comes from the folders; the rest is synthetic.
    `mirror`: pairs are mirrored left-right half of the time.
    """

    folders: tuple[PairFolderConfig, ...] = Field(min_length=1)
    weights: tuple[Annotated[float, Field(gt=0)], ...] | None = None
    share: float = Field(default=1.0, gt=0, le=1)
    mirror: bool = False

    @field_validator("folders", mode="before")
    @classmethod
    def _paths_as_folders(cls, value: Any) -> Any:
        if not isinstance(value, list | tuple):
            return value
        return [{"folder": folder} if isinstance(folder, str) else folder for folder in value]

    @field_validator("folders")
    @classmethod
    def _training_parts(cls, folders: tuple[PairFolderConfig, ...]) -> tuple[PairFolderConfig, ...]:
        for folder in folders:
            if folder.part == "test":
                raise ValueError(f"{folder.folder} is given with part 'test', which is not for training: leave it out")
        return tuple(
            folder.model_copy(update={"part": "train"}) if folder.holdout and folder.part is None else folder
            for folder in folders
        )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.weights is not None and len(self.weights) != len(self.folders):
            raise ValueError(
                f"there are {len(self.weights)} weights for {len(self.folders)} folders: give one for each"
            )
        return self


class StoredPairs:
    """The pairs of some folders, and random patches of them.

    Files are listed and hashed at once, and decoded by `load`, or when the first patch is asked for: then they lie in
    memory, or, where they take more than `memory_limit` bytes, in files in `cache` (default: ~/.cache/unseen) that are
    mapped and found again by their content. `progress(done, total)` counts pairs read.

    Raises `ConfigError`, `DataError` and `ImageError` for what is wrong with a folder, a file or the cache.
    """

    folders: list[PairFolder]
    content_hash: str
    """SHA-256, in hexadecimal, of the folders' contents and order. Does not depend on where they are."""

    def __init__(
        self,
        config: PairsConfig,
        cache: Path | None = None,
        *,
        memory_limit: int = MEMORY_LIMIT,
        progress: Progress | None = None,
    ) -> None:
        self.config = config
        self.folders = [PairFolder(folder) for folder in config.folders]
        self.content_hash = hashlib.sha256(
            " ".join(folder.content_hash for folder in self.folders).encode()
        ).hexdigest()
        self._cache, self._memory_limit, self._progress = cache, memory_limit, progress

    def __len__(self) -> int:
        return sum(map(len, self.folders))

    @property
    def shares(self) -> list[float]:
        """How often each folder is drawn; they add up to 1."""
        weights = self.config.weights or [float(len(folder)) for folder in self.folders]
        return [weight / sum(weights) for weight in weights]

    def load(self) -> None:
        """Decode, unless that is done."""
        _ = self._pairs

    @cached_property
    def _pairs(self) -> list[list[PairImages]]:
        """The decoded pairs of every folder, as views of what is stored."""
        packings = [_Packing(folder) for folder in self.folders]
        mapped = sum(size_of(packing.shapes) for packing in packings) > self._memory_limit
        before, found = 0, []
        for packing in packings:
            arrays = packing.arrays(self._progress and partial(_from, self._progress, before, len(self)))
            views = stored(packing.shapes, arrays, packing.name, mapped=mapped, cache=self._cache)
            found.append(packing.pairs(views))
            before += len(packing.folder)
        return found

    @cached_property
    def _bounds(self) -> list[float]:
        """Where in [0, 1] the share of each folder ends; without the last one, which rounding could leave below 1."""
        return list(accumulate(self.shares))[:-1]

    def batch(self, rngs: Sequence[torch.Generator], size: int, device: torch.device | str = "cpu") -> Batch:
        """One patch per generator: a folder, any of its pairs, any place, the same in both images and in the mask.

        Takes five numbers from each generator, whatever the configuration. Images smaller than the patch are
        continued by reflection. Where a folder has no masks of its own they are estimated from the difference; the
        layer always is.
        """
        images = np.empty((2, len(rngs), size, size, 3), dtype=np.uint8)
        masks: dict[int, Array] = {}
        for number, rng in enumerate(rngs):
            folder, which, down, right, flip = torch.rand(5, generator=rng, dtype=torch.float64).tolist()
            pairs = self._pairs[bisect_right(self._bounds, folder)]
            pair = pairs[int(which * len(pairs))]
            step = -1 if self.config.mirror and flip < 0.5 else 1
            images[0, number] = square(pair.degraded, size, down, right)[:, ::step]
            images[1, number] = square(pair.clean, size, down, right)[:, ::step]
            if pair.mask is not None:
                masks[number] = square(pair.mask, size, down, right)[:, ::step]
        degraded, clean = torch.from_numpy(images).to(device).permute(0, 1, 4, 2, 3).contiguous().float().div_(PEAK)
        mask = mask_of(degraded, clean)
        for number, there in masks.items():
            mask[number, 0] = torch.from_numpy(there > 0).to(mask)
        layer = (degraded - clean).amax(1, keepdim=True).clamp_(min=0)
        return Batch(degraded=degraded, clean=clean, layer=layer, mask=mask)


class _Packing:
    """The order in which the images of a folder are stored: every clean image before the first of its degraded ones,
    so that it is stored once, and every mask after its degraded image."""

    def __init__(self, folder: PairFolder) -> None:
        self.folder = folder
        self.masked = folder.read(0).mask is not None
        self.shapes: list[tuple[int, ...]] = []
        self._clean: list[int] = []  # of each pair, which of the arrays is its clean image
        self._degraded: list[int] = []
        places: dict[str, int] = {}
        for index, clean in enumerate(folder.clean_of):
            height, width = folder.size(index)
            if clean not in places:
                places[clean] = len(self.shapes)
                self.shapes.append((height, width, 3))
            self._clean.append(places[clean])
            self._degraded.append(len(self.shapes))
            self.shapes += [(height, width, 3), (height, width)] if self.masked else [(height, width, 3)]

    @property
    def name(self) -> str:
        """Identifies the packed bytes without decoding."""
        written = f"unseen pairs 1 {self.folder.content_hash} {self.shapes} {self._clean}"  # count up when this changes
        return hashlib.sha256(written.encode()).hexdigest()

    def arrays(self, progress: Progress | None) -> Iterator[Array]:
        """What is stored, decoded, in order."""
        reads = [partial(self.folder.read, index) for index in range(len(self.folder))]
        for index, pair in enumerate(read_ahead(reads, progress)):
            if not pair.degraded.shape[:2] == pair.clean.shape[:2] == self.folder.size(index):
                raise DataError(f"{self.folder.names[index]} changed while it was read. Start again.")
            if (pair.mask is not None) != self.masked:
                raise DataError(
                    f"Some pairs of {self.folder.config.folder} have masks, and some have not, such as "
                    f"{self.folder.names[0 if pair.mask is not None else index]}. Name their folders one by one."
                )
            if self._clean[index] == self._degraded[index] - 1:
                yield pair.clean
            yield pair.degraded
            if pair.mask is not None:
                yield pair.mask

    def pairs(self, views: Sequence[Array]) -> list[PairImages]:
        """The pairs, as views of what is stored."""
        return [
            PairImages(views[degraded], views[clean], views[degraded + 1] if self.masked else None)
            for degraded, clean in zip(self._degraded, self._clean, strict=True)
        ]


def _from(progress: Progress, before: int, total: int, done: int, _: int) -> None:
    """Progress in one of several folders, told as progress in all."""
    progress(before + done, total)


class Pairs:
    """Endless pairs. Sample `index = step * batch + position` is synthetic, drawn from `generator(seed, split, index)`,
    or, with `folders`, as likely as their `share`, one of their pairs, drawn from
    `generator(seed, split, "source", index)`. Without any synthetic pairs, `backgrounds` may be None.

    `course` turns the dials from step to step (None: `degradation` and `patch` at every step). Which synthetic samples
    are left clean is drawn from `generator(seed, split, "clean", index)`; their labels are NaN.

    `rank` of `world` processes yields its part of every batch, so that together they see what one process would.
    """

    def __init__(
        self,
        backgrounds: Backgrounds | None,
        degradation: Degradation,
        *,
        patch: int,
        batch: int,
        seed: int,
        split: str = "train",
        folders: StoredPairs | None = None,
        course: Course | None = None,
        rank: int = 0,
        world: int = 1,
        device: torch.device | str = "cpu",
    ) -> None:
        if batch % world:
            raise ConfigError(
                f"A batch of {batch} cannot be shared by {world} processes: choose a multiple of {world}."
            )
        if backgrounds is None and (folders is None or folders.config.share < 1):
            raise ConfigError("Synthetic pairs need backgrounds, and there are none: give some, or set share to 1.")
        self.backgrounds, self.degradation, self.folders = backgrounds, degradation, folders
        self.patch, self.batch, self.seed, self.split = patch, batch, seed, split
        self.course = Course(None, 1, degradation=degradation, patch=patch) if course is None else course
        self.rank, self.world, self.device = rank, world, torch.device(device)

    def __getitem__(self, step: int) -> Batch:
        """The pairs of a step: (batch / world, 3, patch, patch), rendered on `device`."""
        indices = self.indices(step)
        if self.folders is None:
            return self._synthetic(step, indices)
        rngs = [generator(self.seed, self.split, "source", index) for index in indices]
        drawn = [torch.rand(1, generator=rng, dtype=torch.float64).item() < self.folders.config.share for rng in rngs]
        if not any(drawn):
            return self._synthetic(step, indices)
        found = self.folders.batch(
            [rng for rng, here in zip(rngs, drawn, strict=True) if here], self.course.patch(step), self.device
        )
        if all(drawn):
            return found
        made = self._synthetic(step, [index for index, here in zip(indices, drawn, strict=True) if not here])
        return _interleaved(made, found, drawn)

    def indices(self, step: int) -> range:
        """The samples of a step that this process draws."""
        part = self.batch // self.world
        first = step * self.batch + self.rank * part
        return range(first, first + part)

    def twins(self, step: int) -> Batch:
        """The synthetic pairs of a step once more: the same clean patches, degraded by other draws, from
        `generator(seed, split, "twin", index)`."""
        return self._synthetic(step, self.indices(step), ("twin",))

    def _synthetic(self, step: int, indices: Sequence[int], twin: tuple[str, ...] = ()) -> Batch:
        if self.backgrounds is None:
            raise ConfigError("Pairs of files cannot be degraded again: there are no backgrounds.")
        rngs = [generator(self.seed, self.split, index) for index in indices]
        size, degradation = self.course.patch(step), self.course.degradation(step)
        clean = self.backgrounds.patches(rngs, size, self.course.dials(step))
        if twin:
            rngs = [generator(self.seed, self.split, *twin, index) for index in indices]
        params = degradation.sample((size, size), rngs)
        batch = degradation.render(clean.to(self.device, non_blocking=True), params)
        share = self.course.clean(step)
        if share <= 0:
            return batch
        drawn = [generator(self.seed, self.split, *twin, "clean", index) for index in indices]
        spared = [torch.rand((), generator=rng) < share for rng in drawn]
        return _left_clean(batch, torch.stack(spared)) if any(spared) else batch

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


def _left_clean(batch: Batch, spared: Bool[Tensor, "b"]) -> Batch:
    """The batch with the images in `spared` not degraded."""
    here = spared.to(batch.clean.device)[:, None, None, None]
    return Batch(
        degraded=torch.where(here, batch.clean, batch.degraded),
        clean=batch.clean,
        layer=batch.layer.masked_fill(here, 0),
        mask=batch.mask.masked_fill(here, 0),
        labels={name: values.masked_fill(spared.to(values.device), torch.nan) for name, values in batch.labels.items()},
    )


def _interleaved(made: Batch, found: Batch, drawn: Sequence[bool]) -> Batch:
    """One batch of both: `drawn` says for each place whether it is taken from `found`, in order. Without labels, which
    found pairs do not have."""
    order = torch.tensor(drawn).int().argsort(stable=True).argsort().to(made.clean.device)

    def merged(one: Tensor, other: Tensor) -> Tensor:
        return torch.cat((one, other))[order]

    return Batch(
        degraded=merged(made.degraded, found.degraded),
        clean=merged(made.clean, found.clean),
        layer=merged(made.layer, found.layer),
        mask=merged(made.mask, found.mask),
    )
