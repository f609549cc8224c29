"""Backgrounds: the clean images that degradations are put on, decoded once, cut into patches by address.

A pool (a folder, the embedded images, or dead leaves) is narrowed by `BackgroundsConfig`; what is chosen is stored,
in memory or in a mapped file, so that a patch is a slice however many images there are.
"""

import hashlib
import importlib.util
import math
import os
import re
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from itertools import accumulate, groupby
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from pydantic import Field, model_validator
from torch import Tensor
from torch.nn import functional

from unseen.complexity.choice import ByComplexity, measured_once
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
_KEPT = 2**30  # the number of the first generated leaves that are kept from training
_THREADS = 4  # for headers and hashes; more gain little
_BELOW_ONE = 1 - 2**-53


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
    `validation`: the last so many of what may be trained on are for choosing settings: not in the part "train" then,
    and the whole of the part "validation".
    `seed`: the order of subsets, the places of patches, the leaves.
    `mirror`: patches are mirrored left-right half of the time.

    `by_complexity`: the subset is not drawn at random but chosen by a measure: the simplest, the most complex, a band.
    `parts`: several backgrounds mixed, instead of one `source`, each patch being from one of them as often as
    `weights` say (None: every image equally likely). `count` is then shared out among the parts that have none of
    their own, by the weights, and a part without `seed` has the mixture's.
    `smooth` and `shrink` make content simpler, or denser, as it is cut: a Gaussian of so many pixels, and scaling
    down by so much (a patch then shows that many times more of the image a side).
    """

    source: str = Field(default="embedded", min_length=1)
    unit: Literal["photographs", "patches"] = "photographs"
    patch: int = Field(default=128, ge=1)
    count: int | None = Field(default=None, ge=1)
    holdout: int = Field(default=0, ge=0)
    part: Literal["train", "test", "validation"] = "train"
    validation: int | None = Field(default=None, ge=1)
    seed: int = 0
    complexity: float = Field(default=0.5, ge=0, le=1)
    mirror: bool = False
    by_complexity: ByComplexity | None = None
    parts: tuple["BackgroundsConfig", ...] | None = Field(default=None, min_length=1)
    weights: tuple[float, ...] | None = None
    smooth: float | None = Field(default=None, gt=0, le=64)
    shrink: float | None = Field(default=None, gt=1, le=32)

    @model_validator(mode="before")
    @classmethod
    def _seed_parts(cls, value: Any) -> Any:
        """A part without a seed of its own has the mixture's."""
        if not isinstance(value, dict) or not isinstance(value.get("parts"), list | tuple) or "seed" not in value:
            return value
        parts = []
        for part in value["parts"]:
            if isinstance(part, BackgroundsConfig) and "seed" not in part.model_fields_set:
                part = part.model_dump(exclude_unset=True)
            parts.append({"seed": value["seed"], **part} if isinstance(part, dict) else part)
        return {**value, "parts": parts}

    @model_validator(mode="after")
    def _sound(self) -> Self:
        if self.parts is None:
            if self.weights is not None:
                raise ValueError("weights are for a mixture: give its parts")
            if self.source != "leaves" and "complexity" in self.model_fields_set and self.complexity != 0.5:
                raise ValueError("complexity is of generated leaves: set source to leaves, or choose by_complexity")
            if self.by_complexity is not None and self.source == "leaves":
                raise ValueError("leaves have a dial of complexity: set complexity instead of by_complexity")
            return self
        own = {"parts", "weights", "count", "seed", "mirror"}
        fields = BackgroundsConfig.model_fields.items()
        given = [name for name, field in fields if name not in own and getattr(self, name) != field.default]
        if given:
            raise ValueError(f"{given[0]} is a setting of each of the parts: put it there")
        if any(part.parts for part in self.parts):
            raise ValueError("a part is a mixture itself: list all parts in one mixture")
        if self.weights is not None and len(self.weights) != len(self.parts):
            raise ValueError(f"there are {len(self.weights)} weights for {len(self.parts)} parts: give one for each")
        if self.weights is not None and min(self.weights) <= 0:
            raise ValueError(f"a weight is {min(self.weights):g}; all must be above 0: leave out what never comes")
        if self.count is not None and self.count < len(self.parts):
            raise ValueError(f"count is {self.count}, for {len(self.parts)} parts: each has at least one image")
        return self

    def tests(self) -> "BackgroundsConfig":
        """All that is held out for testing of the same sources."""
        return self._whole({"part": "test", "validation": None})

    @property
    def has_tests(self) -> bool:
        """Whether `tests` are any: what is embedded or generated has some of its own, a folder what it holds out."""
        return all(one.source in ("embedded", "leaves") or one.holdout for one in self.sources)

    def pool(self) -> "BackgroundsConfig":
        """All that subsets of any size and seed are chosen from."""
        return self._whole({"seed": 0})

    def _whole(self, changes: dict[str, Any]) -> "BackgroundsConfig":
        if self.parts is not None:
            parts = tuple(part._whole(changes) for part in self.parts)
            return self.model_copy(update={"parts": parts, "weights": None, "count": None, "seed": 0})
        plain: dict[str, Any] = {"count": None, "unit": "photographs", "by_complexity": None}
        return self.model_copy(update={**plain, "smooth": None, "shrink": None, **changes})

    @property
    def sources(self) -> "tuple[BackgroundsConfig, ...]":
        """Itself, or the parts of a mixture."""
        return (self,) if self.parts is None else self.parts

    def shares_images_with(self, other: "BackgroundsConfig") -> bool:
        """Whether both may choose the same images, as far as sources and parts tell; contents are not compared."""
        if self.parts is not None:
            return any(part.shares_images_with(other) for part in self.parts)
        if other.parts is not None:
            return any(self.shares_images_with(part) for part in other.parts)
        if not same_pool(self, other):
            return False
        if {self.part, other.part} == {"train", "validation"} and self.validation == other.validation:
            return _is_folder(self) and self.holdout != other.holdout
        return _side(self) == _side(other) or (_is_folder(self) and self.holdout != other.holdout)


@dataclass(frozen=True, slots=True)
class Dials:
    """What a schedule may turn while patches are drawn; None leaves a dial where the configuration has it.

    `count`: only the first so many images, which are those of a subset of that size. `weights`: of the parts of a
    mixture. `smooth` and `shrink`: in pixels, and times; 0 and 1 do nothing.
    """

    count: int | None = None
    weights: tuple[float, ...] | None = None
    smooth: float | None = None
    shrink: float | None = None


AS_CONFIGURED = Dials()


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
        self._parts: list[Backgrounds] = []
        self._shared: dict[int, list[int]] = {}
        if config.parts is not None:
            for part in _shared_out(config):
                self._parts.append(Backgrounds(part, cache, memory_limit=memory_limit, progress=progress))
            self._images = [image for part in self._parts for image in part._images]
            self.names = [f"{at}/{name}" for at, part in enumerate(self._parts) for name in part.names]
            content = " ".join(part.content_hash for part in self._parts)
            self.content_hash = hashlib.sha256(f"{content} mirror={config.mirror}".encode()).hexdigest()
            return
        pool = _pool(config)
        chosen, pieces = _pieces(config, pool, cache, progress)
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
        self._nested = chosen
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

    def patches(
        self, rngs: Sequence[torch.Generator], size: int, dials: Dials = AS_CONFIGURED
    ) -> Float[Tensor, "b 3 size size"]:
        """One patch per generator, in [0, 1]: any image is equally likely, then any place in it.

        Takes four numbers from each generator, whatever the configuration. An image smaller than the patch is
        continued by reflection. `dials` are those of a step of training, where they are scheduled.
        """
        drawn = [torch.rand(4, generator=rng, dtype=torch.float64).tolist() for rng in rngs]
        if not self._parts:
            return self._cut(drawn, size, dials)
        homes, ends = self._homes(dials)
        patches = torch.empty(len(drawn), 3, size, size)
        for number, (part, low, high) in enumerate(zip(homes, [0.0, *ends], [*ends, 1.0], strict=True)):
            here = [place for place, (which, *_) in enumerate(drawn) if bisect_right(ends, which) == number]
            if here:
                # What is left of the first number, spread over [0, 1) again, chooses among the images of the part.
                mine = [[min((drawn[at][0] - low) / (high - low), _BELOW_ONE), *drawn[at][1:]] for at in here]
                share = None if dials.count is None else min(self._shares(dials.count)[number], len(part))
                patches[here] = part._cut(mine, size, replace(dials, count=share), self.config.mirror)
        return patches

    def _shares(self, count: int) -> list[int]:
        """How many of the first `count` images are those of each part: as the experiment of that count has them."""
        if count not in self._shared:
            parts = self.config.parts or ()
            fewest = sum(part.count or 1 for part in parts)
            shares = _shared_out(self.config.model_copy(update={"count": max(count, fewest)}))
            self._shared[count] = [part.count or len(mine) for part, mine in zip(shares, self._parts, strict=True)]
        return self._shared[count]

    def _homes(self, dials: Dials) -> tuple[list["Backgrounds"], list[float]]:
        """The parts of a mixture, and where in [0, 1) the share of each but the last ends."""
        weights = dials.weights or self.config.weights
        if not weights:  # every image is equally likely
            weights = [len(part) for part in self._parts] if dials.count is None else self._shares(dials.count)
        if len(weights) != len(self._parts):
            raise ConfigError(
                f"There are {len(weights)} scheduled weights for {len(self._parts)} parts of backgrounds."
            )
        return self._parts, [end / sum(weights) for end in accumulate(weights)][:-1]

    def _cut(
        self, drawn: Sequence[Sequence[float]], size: int, dials: Dials, mirror: bool = False
    ) -> Float[Tensor, "b 3 size size"]:
        """Patches for numbers in [0, 1): which image, where in it, mirrored or not."""
        images, mirror = self._images, mirror or self.config.mirror
        smooth = (self.config.smooth or 0.0) if dials.smooth is None else dials.smooth
        shrink = (self.config.shrink or 1.0) if dials.shrink is None else dials.shrink
        margin = math.ceil(3 * smooth)
        side = math.ceil((size + 2 * margin) * shrink)
        few = None if dials.count is None or dials.count >= len(images) else self._nested[: dials.count]
        out = np.empty((len(drawn), side, side, 3), dtype=np.uint8)
        for patch, (which, down, right, flip) in zip(out, drawn, strict=True):
            index = int(which * len(images)) if few is None else few[int(which * len(few))]
            cut = square(images[index], side, down, right)
            patch[:] = cut[:, ::-1] if mirror and flip < 0.5 else cut
        patches = torch.from_numpy(out).permute(0, 3, 1, 2).contiguous().float().div_(PEAK)
        if shrink > 1:
            wanted = (size + 2 * margin,) * 2
            patches = functional.interpolate(patches, wanted, mode="bilinear", antialias=True, align_corners=False)
        return _smoothed(patches, smooth, margin) if margin else patches

    def crops(self, size: int) -> Iterator[tuple[str, Bytes]]:
        """For testing: each name with the centre of its image, at most size x size, one at a time, in order."""
        for name, image in zip(self.names, self._images, strict=True):
            height, width = min(size, image.shape[0]), min(size, image.shape[1])
            top, left = (image.shape[0] - height) // 2, (image.shape[1] - width) // 2
            yield name, image[top : top + height, left : left + width].copy()


def available(config: BackgroundsConfig) -> int:
    """How many images, or patches, `count` may ask for at most; nothing is decoded. Of endless ones, the `count`."""
    if config.parts is not None:
        return sum(available(part) for part in config.parts)
    if config.unit == "patches":
        return config.count or 0
    number = len(_pool(config))
    band = config.by_complexity
    if band is None:
        return number
    first, end = band.ends(number)
    return end - first


def at_most(config: BackgroundsConfig, count: int) -> int:
    """`count`, or the number of images of a mixture's parts where these are fewer."""
    return int(min(count, sum(part.count or _most(part) for part in config.parts or ())))


def _most(part: BackgroundsConfig) -> int | float:
    return math.inf if _endless(part) else available(part)


def _endless(config: BackgroundsConfig) -> bool:
    return config.unit == "patches" or config.source == "leaves"


def _smoothed(patches: Float[Tensor, "b 3 h w"], sigma: float, margin: int) -> Float[Tensor, "b 3 inner inner"]:
    """A Gaussian of `sigma` pixels, cut off at three of them; the margin that it spoils is left out."""
    at = torch.arange(-margin, margin + 1, dtype=patches.dtype, device=patches.device)
    kernel = torch.exp(-at.square() / (2 * sigma**2))
    kernel = (kernel / kernel.sum()).expand(3, 1, 1, -1)
    along = functional.conv2d(patches, kernel, groups=3)
    return functional.conv2d(along, kernel.transpose(2, 3), groups=3)


def same_pool(one: BackgroundsConfig, other: BackgroundsConfig) -> bool:
    """Whether both are of the same source: by its name, or by where its folder lies."""
    if one.source == other.source:
        return True
    place = _place(one.source) if _is_folder(one) and _is_folder(other) else None
    return place is not None and place == _place(other.source)


def _shared_out(config: BackgroundsConfig) -> list[BackgroundsConfig]:
    """The parts of a mixture, those without a count of their own with their share of its count: one each, and one after
    another to whom most is due by weight (Sainte-Lague), until a part has no more. A larger count takes from none.
    """
    parts = list(config.parts or ())
    open_ = [number for number, part in enumerate(parts) if part.count is None]
    if config.count is None or not open_:
        return parts
    rest = config.count - sum(part.count or 0 for part in parts)
    if rest < len(open_):
        raise ConfigError(
            f"count is {config.count}, of which the parts' own counts leave {max(rest, 0)} images for the "
            f"{len(open_)} parts that have none: raise it."
        )
    most = {number: _most(parts[number]) for number in open_}
    if rest > sum(most.values()):
        raise ConfigError(
            f"count is {config.count}, but the parts hold {config.count - rest + int(sum(most.values()))} images. Set "
            "count to at most that, or to null for all."
        )
    sizes = config.weights or [len(_pool(part)) for part in parts]
    shares = dict.fromkeys(open_, 1)
    for _ in range(rest - len(open_)):
        due = [number for number in open_ if shares[number] < most[number]]
        shares[max(due, key=lambda number: sizes[number] / (2 * shares[number] + 1))] += 1
    for number, share in shares.items():
        parts[number] = parts[number].model_copy(update={"count": share})
    return parts


def _is_folder(config: BackgroundsConfig) -> bool:
    return config.source not in ("embedded", "leaves")


def _pool(config: BackgroundsConfig) -> list[_Entry]:
    """All that `count` chooses from, sorted by name."""
    if _is_folder(config):
        pool = _folder_pool(config)
    elif config.holdout:
        raise ConfigError(
            f"holdout is {config.holdout}, but the source '{config.source}' has a test part of its own. "
            "Set holdout to 0, and part to 'test' for the images to test on."
        )
    else:
        pool = _embedded_pool(_side(config)) if config.source == "embedded" else _leaves_pool(config)
    if config.part == "test":
        return pool
    if config.validation is None:
        if config.part == "validation":
            raise ConfigError("part is 'validation', but no images are kept for it: set validation to their number.")
        return pool
    if config.validation >= len(pool):
        raise ConfigError(
            f"validation is {config.validation}, but '{config.source}' holds {len(pool)} images for training: nothing "
            f"is left. Keep at most {len(pool) - 1}."
        )
    return pool[: -config.validation] if config.part == "train" else pool[-config.validation :]


def _side(config: BackgroundsConfig) -> Literal["train", "test"]:
    """Of the images there are, those that may be looked at while training, or those that may not."""
    return "test" if config.part == "test" else "train"


def _place(source: str) -> Path | None:
    """Where a folder lies; None where its path uses a variable that is not set: then it is on no folder here."""
    try:
        return expanded(source).resolve()
    except ConfigError:
        return None


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
    chosen = files[:split] if _side(config) == "train" else files[split:]
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
    numbers = range(LEAVES if config.count is None else config.count)
    pool = [
        _leaves_entry(f"leaves-{number:06}", leaves, size, config.seed, _index(_side(config), number))
        for number in numbers
    ]
    # Those kept from training lie where no count of others reaches.
    kept = range(_KEPT, _KEPT + (config.validation or 0))
    return pool + [
        _leaves_entry(f"kept-{number - _KEPT:06}", leaves, size, config.seed, _index(_side(config), number))
        for number in kept
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


def _pieces(
    config: BackgroundsConfig, pool: Sequence[_Entry], cache: Path | None, progress: Progress | None
) -> tuple[list[int], list[_Piece]]:
    """What is kept, and in which order subsets grow (as places in it). A piece does not depend on `count`, which only
    says how many there are."""
    available = len(pool)
    if config.unit == "patches" and config.count is None:
        raise ConfigError("Fixed patches are endless: set count to the number of patches.")
    if config.source == "leaves":  # endless, and drawn in the size of a patch where patches are wanted
        pieces = [_Piece(entry) for entry in range(available)]
    elif config.unit == "patches" and config.count is not None:
        pieces = _patches(config, available, config.count)
        if config.by_complexity is not None:
            candidates = _patches(config, available, max(config.by_complexity.among, config.count))
            order = _by_complexity(config, pool, candidates, cache, progress)
            if config.count > len(order):
                raise ConfigError(
                    f"count is {config.count}, but the chosen band of complexity holds {len(order)} of the "
                    f"{len(candidates)} patches that are looked at. Raise by_complexity.among, widen the band, or set "
                    f"count to at most {len(order)}."
                )
            pieces = [candidates[number] for number in order[: config.count]]
    else:
        if config.by_complexity is None:
            order = torch.randperm(available, generator=generator(config.seed, "backgrounds", "order")).tolist()
        else:
            order = _by_complexity(config, pool, [_Piece(entry) for entry in range(available)], cache, progress)
        if config.count is not None and config.count > len(order):
            held = f"the {config.part} part of '{config.source}' holds {available} images"
            band = "" if len(order) == available else f", and the chosen band of complexity {len(order)} of them"
            raise ConfigError(
                f"count is {config.count}, but {held}{band}. Set count to at most {len(order)}, or to null for all."
            )
        order = order[: config.count]
        kept = sorted(order)
        place = {entry: at for at, entry in enumerate(kept)}
        return [place[entry] for entry in order], [_Piece(entry) for entry in kept]
    return list(range(len(pieces))), pieces


def _patches(config: BackgroundsConfig, available: int, count: int) -> list[_Piece]:
    """The first `count` fixed patches."""
    pieces = []
    for number in range(count):
        rng = generator(config.seed, "backgrounds", "patch", number)
        which, down, right = torch.rand(3, generator=rng, dtype=torch.float64).tolist()
        pieces.append(_Piece(int(which * available), config.patch, (down, right)))
    return pieces


def _by_complexity(
    config: BackgroundsConfig,
    pool: Sequence[_Entry],
    pieces: Sequence[_Piece],
    cache: Path | None,
    progress: Progress | None,
) -> list[int]:
    """The pieces in the order in which `by_complexity` takes them, those outside its band left out."""
    assert config.by_complexity is not None
    used = sorted({piece.entry for piece in pieces})
    with ThreadPoolExecutor(_THREADS) as threads:
        recipes = dict(zip(used, threads.map(lambda entry: pool[entry].recipe(), used), strict=True))
        sizes = dict(zip(used, threads.map(lambda entry: pool[entry].size(), used), strict=True))
    order = sorted(range(len(pieces)), key=lambda number: pieces[number].entry)
    names = [
        f"{config.source}/{pool[piece.entry].name}"
        + ("" if piece.side is None else f" (patch {number}, {piece.side} x {piece.side} pixels)")
        for number, piece in enumerate(pieces)
    ]
    cut = _cut(pool, [pieces[number] for number in order], sizes, progress)
    images = zip((names[number] for number in order), cut, strict=True)
    found = measured_once(config.by_complexity.measure, images, _recipe(order, pieces, recipes), cache)
    values = dict(zip(order, found, strict=True))
    shuffled = torch.randperm(len(pieces), generator=generator(config.seed, "backgrounds", "order")).tolist()
    return config.by_complexity.chosen([values[number] for number in range(len(pieces))], shuffled, names)


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
