"""The pairs of a folder, listed at once and decoded one at a time."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from unseen.backgrounds import expanded
from unseen.errors import ConfigError, DataError
from unseen.images import Bytes, find_images, image_hash, image_size, read_image
from unseen.pair_folder.config import PairFolderConfig
from unseen.pair_folder.layouts import Pair, find_pairs
from unseen.pair_folder.names import listing
from unseen.pair_folder.sides import halves

_THREADS = 4  # for headers and hashes

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class PairImages:
    """One pair, decoded. `mask`, (h, w), is 1 where the degradation touched the pixel; None without mask folder."""

    degraded: Bytes
    clean: Bytes
    mask: NDArray[np.uint8] | None


class PairFolder:
    """Pairs of images in a folder, listed and checked by their headers; images are decoded when they are read.

    Raises `ConfigError` where the configuration does not fit the folder, `DataError` where the folder is missing or
    empty, or where its layout is unknown or ambiguous, `ImageError` where a file is no image.
    """

    names: list[str]
    """Of the pairs, unique and sorted, with forward slashes: the degraded file's path in its folder of degraded
    images or, where there is none or are several, in `folder`."""
    clean_of: list[str]
    """Of each pair, the clean file's path in `folder`; several pairs may share one."""
    layout: str
    """One sentence: how many pairs, and how the two sides were told apart."""
    unmatched: list[str]
    """Files left out because they are in no pair, each with the reason. Whoever uses the pairs says so."""
    mismatched: list[str]
    """Pairs left out because the sizes of their images do not fit, each with the sizes."""

    def __init__(self, config: PairFolderConfig) -> None:
        self.config = config
        self._folder = expanded(config.folder)
        files = [file.relative_to(self._folder).as_posix() for file in find_images(self._folder)]
        found = find_pairs(self._folder, files, config)
        self.unmatched, self.mismatched = found.unmatched, []
        sized: list[tuple[Pair, tuple[int, int]]] = []
        for pair, size in zip(found.pairs, self._sizes(found.pairs), strict=True):
            if isinstance(size, str):
                self.mismatched.append(size)
            else:
                sized.append((pair, size))
        if not sized:
            raise DataError(
                f"No pair in {self._folder} can be used ({found.how}): {listing(self.mismatched, '; ')}. "
                "The images of a pair must have one size."
            )
        scenes = {pair.clean for pair, _ in sized}
        chosen = _part(scenes, config, self._folder)
        if config.part == "train":
            held_out = set(sorted(scenes)[len(scenes) - config.holdout :])
            self.unmatched += [
                f"{name}: also held out, under another name" for name in sorted(scenes - chosen - held_out)
            ]
        sized = sorted((item for item in sized if item[0].clean in chosen), key=lambda item: item[0].name)
        self._pairs = [pair for pair, _ in sized]
        self._sized = [size for _, size in sized]
        self.names = [pair.name for pair in self._pairs]
        self.clean_of = [pair.clean for pair in self._pairs]
        count = f"{len(sized)} {'pair' if len(sized) == 1 else 'pairs'}"
        of = "" if len(chosen) == len(sized) else f" of {len(chosen)} clean {'image' if len(chosen) == 1 else 'images'}"
        part = "" if config.part is None else f" (the {config.part} part)"
        self.layout = f"{count}{of}{part}: {found.how}."

    def __len__(self) -> int:
        return len(self._pairs)

    @property
    def has_masks(self) -> bool:
        """Whether masks lie beside the images."""
        return any(pair.mask is not None for pair in self._pairs)

    def size(self, index: int) -> tuple[int, int]:
        """(h, w) of both images of a pair, in pixels, from the headers."""
        return self._sized[index]

    def read(self, index: int) -> PairImages:
        """Decode a pair. Raises `ImageError`."""
        pair = self._pairs[index]
        if pair.side is not None:
            left, right = halves(read_image(self._folder / pair.degraded))
            return PairImages(left, right, None) if pair.side == "left" else PairImages(right, left, None)
        mask = None
        if pair.mask is not None:
            mask = (read_image(self._folder / pair.mask)[..., 0] > 127).astype(np.uint8)
        return PairImages(read_image(self._folder / pair.degraded), read_image(self._folder / pair.clean), mask)

    def clean_images(self) -> Iterator[tuple[str, Bytes]]:
        """Every clean image once, with its name in `clean_of` and sorted by it, decoded one at a time."""
        for name, index in sorted({name: index for index, name in enumerate(self.clean_of)}.items()):
            side_by_side = self._pairs[index].side is not None
            yield name, self.read(index).clean if side_by_side else read_image(self._folder / name)

    @cached_property
    def content_hash(self) -> str:
        """SHA-256, in hexadecimal, of the bytes of all files and of who is paired with whom, in the order of names.
        Does not depend on where the folder is, or on names. Reads every file, when first asked for."""
        hashes = self._each(image_hash, self._pairs)
        digest = hashlib.sha256(b"unseen pairs 1")  # count up when reading changes
        for pair in self._pairs:
            digest.update(hashes[pair.degraded] + hashes[pair.clean] + f"{pair.side}".encode())
            digest.update(b"no mask" if pair.mask is None else hashes[pair.mask])
        return digest.hexdigest()

    def _each(self, work: Callable[[Path], _T], pairs: Sequence[Pair]) -> dict[str, _T]:
        """What `work` makes of every file of the pairs, each once."""
        files = sorted({file for pair in pairs for file in (pair.degraded, pair.clean, pair.mask) if file is not None})
        with ThreadPoolExecutor(_THREADS) as threads:
            return dict(zip(files, threads.map(lambda file: work(self._folder / file), files), strict=True))

    def _sizes(self, pairs: Sequence[Pair]) -> list[tuple[int, int] | str]:
        """Of each pair (h, w), or what is wrong with it."""
        sizes = self._each(image_size, pairs)

        def checked(pair: Pair) -> tuple[int, int] | str:
            height, width = sizes[pair.degraded]
            if pair.side is not None:
                return (height, width // 2) if width % 2 == 0 else f"{pair.name}: {width} columns cannot be halved"
            for other in (pair.clean, pair.mask):
                if other is not None and sizes[other] != (height, width):
                    rows, columns = sizes[other]
                    return f"{pair.degraded} has {width} x {height} pixels, {other} {columns} x {rows}"
            return height, width

        return [checked(pair) for pair in pairs]


def _part(scenes: set[str], config: PairFolderConfig, folder: Path) -> set[str]:
    """The clean images of the part asked for: parts never share one."""
    if config.holdout >= len(scenes):
        raise ConfigError(
            f"holdout is {config.holdout}, but {folder} holds {len(scenes)} clean images: nothing is left to train on. "
            f"Hold out at most {len(scenes) - 1}."
        )
    if config.part is None:
        return scenes
    ordered = sorted(scenes)
    split = len(scenes) - config.holdout
    train, test = ordered[:split], ordered[split:]
    return set(test) if config.part == "test" else set(train) - _copies(train, test, folder)


def _copies(some: Sequence[str], others: Sequence[str], folder: Path) -> set[str]:
    """Which of some files are, byte for byte, among the others: public sets hold images twice."""
    sizes = {(folder / other).stat().st_size for other in others}
    alike = [name for name in some if (folder / name).stat().st_size in sizes]
    hashes = {image_hash(folder / other) for other in others} if alike else set()
    return {name for name in alike if image_hash(folder / name) in hashes}
