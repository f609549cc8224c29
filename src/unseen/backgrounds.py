"""Backgrounds: the clean images that degradations are put on, decoded once, cut into patches by address.

A pool (a folder, the embedded images, or dead leaves) is narrowed by `BackgroundsConfig`; what is chosen is stored,
in memory or in a mapped file, so that a patch is a slice however many images there are.
"""

import hashlib
import importlib.util
import os
import re
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from pydantic import Field
from torch import Tensor

from unseen.errors import ConfigError, DataError
from unseen.images import PEAK, Bytes, find_images, image_hash, image_size, read_image
from unseen.leaves import DeadLeaves
from unseen.ranges import Frozen
from unseen.seeding import generator
from unseen.store import MEMORY_LIMIT, Progress, read_ahead, size_of, square, stored

PHOTOGRAPHS: dict[str, tuple[str, ...]] = {
    "train": (
        *("astronaut.png", "brick.png", "camera.png", "coffee.png", "gravel.png", "hubble_deep_field.jpg"),
        *("moon.png", "motorcycle_left.png", "page.png", "retina.jpg"),
    ),
    "test": ("chelsea.png", "coins.png", "grass.png", "ihc.png", "rocket.jpg"),
}
"""Photographs inside scikit-image's wheel. motorcycle_right.png shows what motorcycle_left.png shows: left out."""

EMBEDDED_LEAVES = {"train": 30, "test": 7}
"""Generated images beside them, spread over the whole range of complexity."""

LEAVES = 64
"""How many images `count: None` means for the source "leaves", which is endless."""

_LONGEST = 512  # pixels; longer embedded photographs are scaled down
_LEAVES_SIZE = (256, 256)
_THREADS = 4  # for headers and hashes; more gain little


class BackgroundsConfig(Frozen):
    """Which backgrounds.

    `source`: "embedded" (photographs inside scikit-image and generated images, always there), "leaves" (generated
    dead leaves of one `complexity`), or the path of a folder of images, in which ${VARIABLES} of the environment
    may stand.
    `unit`: "photographs" are cut anywhere, anew each time; "patches" are fixed squares of `patch` pixels, each
    cut once from a seeded place: what the paper counts.
    `count`: how many of the unit; None is all there is (of the endless leaves 64; patches need a number).
    Smaller subsets lie within larger ones of the same seed.
    `holdout`: of a folder, the last so many files in sorted order are for testing only; `part` chooses between
    them and the rest. Embedded and generated images have a test part of their own.
    `seed`: the order of subsets, the places of patches, the leaves.
    `mirror`: patches are mirrored left-right half of the time.
    """

    source: str = Field(default="embedded", min_length=1)
    unit: Literal["photographs", "patches"] = "photographs"
    patch: int = Field(default=128, ge=1)
    count: int | None = Field(default=None, ge=1)
    holdout: int = Field(default=0, ge=0)
    part: Literal["train", "test"] = "train"
    seed: int = 0
    complexity: float = Field(default=0.5, ge=0, le=1)
    mirror: bool = False

    def shares_images_with(self, other: "BackgroundsConfig") -> bool:
        """Whether both may choose the same images, as far as sources and parts tell; contents are not compared."""
        if self.source != other.source:
            folders = _is_folder(self) and _is_folder(other)
            if not folders or expanded(self.source).resolve() != expanded(other.source).resolve():
                return False
        return self.part == other.part or (_is_folder(self) and self.holdout != other.holdout)


@dataclass(frozen=True, slots=True)
class _Entry:
    """One image of a pool, not decoded yet. `recipe` identifies its content without decoding it."""

    name: str
    size: Callable[[], tuple[int, int]]
    read: Callable[[], Bytes]
    recipe: Callable[[], bytes]


@dataclass(frozen=True, slots=True)
class _Piece:
    """What is kept of an image: all of it, or a square of `side` pixels at a place in [0, 1)."""

    entry: int
    side: int | None = None
    place: tuple[float, float] = (0.0, 0.0)

    def size(self, whole: tuple[int, int]) -> tuple[int, int]:
        return whole if self.side is None else (self.side, self.side)

    def cut(self, image: Bytes) -> Bytes:
        return image if self.side is None else square(image, self.side, *self.place)


class Backgrounds:
    """Decoded images, or fixed patches, and random patches of them.

    `cache` is the folder for mapped files (default: ~/.cache/unseen), used where the decoded images take more than
    `memory_limit` bytes; a file there is found again by its content. `progress(done, total)` counts images read.

    Raises `ConfigError` where the configuration asks for more than there is, `DataError` and `ImageError` for what
    is wrong with the folder, a file or the cache.
    """

    names: list[str]
    """Sorted paths relative to the folder, with forward slashes; of fixed patches, followed by "#number"."""
    content_hash: str
    """SHA-256, in hexadecimal, of what patches are cut from (of a folder: the chosen files' bytes; else: pixels), of
    the places of fixed patches, and of `mirror`. Does not depend on where the folder is."""

    def __init__(
        self,
        config: BackgroundsConfig,
        cache: Path | None = None,
        *,
        memory_limit: int = MEMORY_LIMIT,
        progress: Progress | None = None,
    ) -> None:
        self.config = config
        pool = _pool(config)
        pieces = _pieces(config, len(pool))
        used = sorted({piece.entry for piece in pieces})
        with ThreadPoolExecutor(_THREADS) as threads:
            recipes = dict(zip(used, threads.map(lambda entry: pool[entry].recipe(), used), strict=True))
            sizes = dict(zip(used, threads.map(lambda entry: pool[entry].size(), used), strict=True))
        # Pieces of one image lie together, so that it is decoded once; `order` is the identity for photographs.
        order = sorted(range(len(pieces)), key=lambda number: pieces[number].entry)
        shapes = [(*pieces[number].size(sizes[pieces[number].entry]), 3) for number in order]
        recipe = _recipe(order, pieces, recipes)
        cut = _cut(pool, [pieces[number] for number in order], sizes, progress)
        views = stored(shapes, cut, recipe, mapped=size_of(shapes) > memory_limit, cache=cache)
        in_order = dict(zip(order, views, strict=True))
        self._images: list[Bytes] = [in_order[number] for number in range(len(pieces))]
        self.names = [
            pool[piece.entry].name + ("" if piece.side is None else f"#{number}") for number, piece in enumerate(pieces)
        ]
        content = recipe if _is_folder(config) else _hash_of_pixels(self._images)
        self.content_hash = hashlib.sha256(f"{content} mirror={config.mirror}".encode()).hexdigest()

    def __len__(self) -> int:
        return len(self._images)

    def image(self, index: int) -> Bytes:
        """Image, or fixed patch, `index`: uint8, (h, w, 3), a read-only view."""
        return self._images[index]

    def patches(self, rngs: Sequence[torch.Generator], size: int) -> Float[Tensor, "b 3 size size"]:
        """One patch per generator, in [0, 1]: any image is equally likely, then any place in it.

        Takes four numbers from each generator, whatever the configuration. An image smaller than the patch is
        continued by reflection.
        """
        images = self._images
        out = np.empty((len(rngs), size, size, 3), dtype=np.uint8)
        for patch, rng in zip(out, rngs, strict=True):
            which, down, right, flip = torch.rand(4, generator=rng, dtype=torch.float64).tolist()
            cut = square(images[int(which * len(images))], size, down, right)
            patch[:] = cut[:, ::-1] if self.config.mirror and flip < 0.5 else cut
        return torch.from_numpy(out).permute(0, 3, 1, 2).contiguous().float().div_(PEAK)

    def crops(self, size: int) -> Iterator[tuple[str, Bytes]]:
        """For testing: each name with the centre of its image, at most size x size, one at a time, in order."""
        for name, image in zip(self.names, self._images, strict=True):
            height, width = min(size, image.shape[0]), min(size, image.shape[1])
            top, left = (image.shape[0] - height) // 2, (image.shape[1] - width) // 2
            yield name, image[top : top + height, left : left + width].copy()


def _is_folder(config: BackgroundsConfig) -> bool:
    return config.source not in ("embedded", "leaves")


def _pool(config: BackgroundsConfig) -> list[_Entry]:
    """All that `count` chooses from, sorted by name."""
    if _is_folder(config):
        return _folder_pool(config)
    if config.holdout:
        raise ConfigError(
            f"holdout is {config.holdout}, but the source '{config.source}' has a test part of its own. "
            "Set holdout to 0, and part to 'test' for the images to test on."
        )
    return _embedded_pool(config.part) if config.source == "embedded" else _leaves_pool(config)


def expanded(source: str) -> Path:
    """The folder a source names: `~` and ${VARIABLES} filled in only here: configurations hold no machine's paths."""
    for name in re.findall(r"\$\{(\w+)\}", source):
        if name not in os.environ:
            raise ConfigError(
                f"{source} uses ${{{name}}}, which is not set. Set it to the folder that holds the data: "
                f"export {name}=/path/to/data (docs/data.md)."
            )
        source = source.replace(f"${{{name}}}", os.environ[name])
    return Path(source).expanduser()


def _folder_pool(config: BackgroundsConfig) -> list[_Entry]:
    folder = expanded(config.source)
    files = find_images(folder)
    if config.holdout >= len(files):
        raise ConfigError(
            f"holdout is {config.holdout}, but {folder} holds {len(files)} images: nothing is left to train on. "
            f"Hold out at most {len(files) - 1}."
        )
    if config.part == "test" and config.holdout == 0:
        raise ConfigError(f"part is 'test', but no images of {folder} are held out: set holdout to a number above 0.")
    split = len(files) - config.holdout
    chosen = files[:split] if config.part == "train" else files[split:]
    return [
        _Entry(
            file.relative_to(folder).as_posix(),
            size=partial(image_size, file),
            read=partial(read_image, file),
            recipe=partial(image_hash, file),
        )
        for file in chosen
    ]


def _embedded_pool(part: str) -> list[_Entry]:
    # Without importing skimage, which takes longer than reading its images.
    spec = importlib.util.find_spec("skimage")
    if spec is None or spec.origin is None:
        raise DataError("The embedded photographs are part of scikit-image, which is missing: install scikit-image.")
    folder = Path(spec.origin).parent / "data"
    photographs = [
        _Entry(
            name,
            size=partial(_scaled_size, folder / name),
            read=partial(_scaled_image, folder / name),
            recipe=partial(_scaled_recipe, folder / name),
        )
        for name in PHOTOGRAPHS[part]
    ]
    count = EMBEDDED_LEAVES[part]
    leaves = [
        _leaves_entry(
            f"leaves-{number:02}",
            DeadLeaves(complexity=number / (count - 1)),
            _LEAVES_SIZE,
            0,
            _index(part, number),
        )
        for number in range(count)
    ]
    return sorted(photographs + leaves, key=lambda entry: entry.name)


def _leaves_pool(config: BackgroundsConfig) -> list[_Entry]:
    leaves = DeadLeaves(complexity=config.complexity)
    size = (config.patch, config.patch) if config.unit == "patches" else _LEAVES_SIZE
    return [
        _leaves_entry(f"leaves-{number:06}", leaves, size, config.seed, _index(config.part, number))
        for number in range(LEAVES if config.count is None else config.count)
    ]


def _index(part: str, number: int) -> int:
    """Train and test take even and odd addresses: they never meet."""
    return 2 * number + (part == "test")


def _leaves_entry(name: str, leaves: DeadLeaves, size: tuple[int, int], seed: int, index: int) -> _Entry:
    return _Entry(
        name,
        size=lambda: size,
        read=partial(leaves.draw, size, seed, index),
        recipe=lambda: f"{leaves.model_dump_json()} {size} {seed} {index}".encode(),
    )


def _pieces(config: BackgroundsConfig, available: int) -> list[_Piece]:
    """What is kept. A piece does not depend on `count`, which only says how many there are."""
    if config.unit == "patches" and config.count is None:
        raise ConfigError("Fixed patches are endless: set count to the number of patches.")
    if config.source == "leaves":  # endless, and drawn in the size of a patch where patches are wanted
        return [_Piece(entry) for entry in range(available)]
    if config.unit == "patches" and config.count is not None:
        pieces = []
        for number in range(config.count):
            rng = generator(config.seed, "backgrounds", "patch", number)
            which, down, right = torch.rand(3, generator=rng, dtype=torch.float64).tolist()
            pieces.append(_Piece(int(which * available), config.patch, (down, right)))
        return pieces
    if config.count is not None and config.count > available:
        raise ConfigError(
            f"count is {config.count}, but the {config.part} part of '{config.source}' holds {available} images. "
            f"Set count to at most {available}, or to none for all."
        )
    order = torch.randperm(available, generator=generator(config.seed, "backgrounds", "order")).tolist()
    return [_Piece(entry) for entry in sorted(order[: config.count])]


def _cut(
    pool: Sequence[_Entry], pieces: Sequence[_Piece], sizes: dict[int, tuple[int, int]], progress: Progress | None
) -> Iterator[Bytes]:
    """The pieces, sorted by entry, one after another; every image is decoded once."""
    groups = [(entry, list(group)) for entry, group in groupby(pieces, key=lambda piece: piece.entry)]
    images = read_ahead([pool[entry].read for entry, _ in groups], progress)
    for (entry, group), image in zip(groups, images, strict=True):
        if image.shape[:2] != sizes[entry]:
            raise DataError(f"{pool[entry].name} changed while it was read. Start again.")
        for piece in group:
            yield piece.cut(image)


def _scaled_size(path: Path) -> tuple[int, int]:
    height, width = image_size(path)
    scale = min(1.0, _LONGEST / max(height, width))
    return round(height * scale), round(width * scale)


def _scaled_image(path: Path) -> Bytes:
    image, (height, width) = read_image(path), _scaled_size(path)
    if image.shape[:2] == (height, width):
        return image
    return np.array(Image.fromarray(image).resize((width, height), Image.Resampling.LANCZOS))


def _scaled_recipe(path: Path) -> bytes:
    return f"longest {_LONGEST} ".encode() + image_hash(path)


def _hash_of_pixels(images: Sequence[Bytes]) -> str:
    digest = hashlib.sha256()
    for image in images:
        digest.update(f"{image.shape}".encode())
        digest.update(image.data)
    return digest.hexdigest()


def _recipe(order: Sequence[int], pieces: Sequence[_Piece], recipes: dict[int, bytes]) -> str:
    """Identifies the packed bytes, in their order, without decoding: names the cached file."""
    digest = hashlib.sha256(b"unseen backgrounds 1")  # count up when decoding changes
    for number in order:
        digest.update(hashlib.sha256(recipes[pieces[number].entry]).digest())
        digest.update(f"{number} {pieces[number].side} {pieces[number].place}".encode())
    return digest.hexdigest()
