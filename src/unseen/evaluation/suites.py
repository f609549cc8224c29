"""Suites: named, deterministic tests: a degradation laid over test images, the same every time, or pairs on disk."""

import dataclasses
import hashlib
import json
from collections.abc import Collection, Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import islice
from typing import Annotated, Any, Literal, Self

import numpy as np
import torch
from pydantic import Discriminator, Field, Tag, model_validator
from torch import Tensor

from unseen.backgrounds import Backgrounds, BackgroundsConfig, expanded
from unseen.degradations import AnyDegradation, Degradation, Rain, essence, families, mask_of, preset, preset_names
from unseen.errors import ConfigError, not_known
from unseen.evaluation.alignment import LIMIT, aligned
from unseen.images import PEAK
from unseen.pair_folder import PairFolder, PairFolderConfig
from unseen.ranges import Frozen
from unseen.seeding import generator
from unseen.types import Batch, Images, Layers, Outcome

Color = Literal["y", "rgb"]

MANIFEST = "manifest.json"
"""In the folder of an exported suite: what it is."""

NAME = r"^[A-Za-z0-9][A-Za-z0-9 _.-]*$"

BATCH_PIXELS = 8 * 256 * 256
"""Images of one size are judged together up to this many pixels: bounds the memory, whatever the suite's size."""


class Suite(Frozen):
    """`degradation` None: clean images, to see whether a restorer leaves them alone (do no harm)."""

    name: str = Field(pattern=NAME)
    degradation: AnyDegradation | None = None

    @property
    def color(self) -> Color:
        """What its PSNR is read on: luma for rain, as deraining papers print it; for clean images too."""
        return "y" if self.degradation is None else self.degradation.color

    @property
    def border(self) -> int:
        """Pixels at each side that show what is made up beyond the image, and are not scored."""
        return 0 if self.degradation is None else self.degradation.border

    def group(self, trained: Degradation) -> str:
        """ "clean", "unseen" (outside `trained` in at least one factor) or "seen"."""
        if self.degradation is None:
            return "clean"
        return "unseen" if self.degradation.outside(trained) else "seen"

    def outside(self, trained: Degradation) -> tuple[str, ...]:
        """The factors in which it lies outside what `trained` draws from."""
        return () if self.degradation is None else self.degradation.outside(trained)

    def describe(self) -> str:
        """What it is, in words."""
        return "clean images" if self.degradation is None else self.degradation.describe()

    def size(self, images: Backgrounds | None, limit: int | None = None) -> int:
        """How many images it has."""
        count = len(_needed(images, self.name))
        return count if limit is None else min(limit, count)

    def batches(
        self,
        images: Backgrounds | None,
        crop: int,
        limit: int | None = None,
        seed: int = 0,
        only: Collection[str] | None = None,
    ) -> Iterator[tuple[list[str], Batch]]:
        """Names and pairs. An image's degradation depends on `seed`, the names of suite and image, and its size.

        `only` keeps the images of those names, just as they are among all.
        """
        found = islice(_needed(images, self.name).crops(crop), limit)
        for names, arrays in _batched((name, (array,)) for name, array in found if only is None or name in only):
            yield names, self._degrade(names, arrays[0], seed)

    def again(self, names: list[str], clean: Images, seed: int, draw: int) -> Images:
        """The same images, degraded by another draw (1, 2, ...) of the same degradation. It must have one."""
        assert self.degradation is not None
        rngs = [generator(seed, "suite", self.name, name, "draw", draw) for name in names]
        return self.degradation.render(clean, self.degradation.sample((clean.shape[2], clean.shape[3]), rngs)).degraded

    @property
    def draws(self) -> int:
        """How many draws of the degradation each image is judged on by default: of noise two, which tell its leakage
        from damage to the content (`unseen.evaluation.draws`); else one."""
        return 1 if self.degradation is None else self.degradation.draws

    @property
    def bands(self) -> bool:
        """Whether it is judged octave by octave too: whatever is not rain, which the mask tells better of."""
        return self.color == "rgb"

    def scored(self, outcome: Outcome) -> Outcome:
        """What is scored of an outcome: all of it but the border."""
        return inside(outcome, self.border)

    def _degrade(self, names: list[str], arrays: list[np.ndarray], seed: int) -> Batch:
        clean = _tensor(arrays)
        if self.degradation is None:
            nothing = torch.zeros_like(clean[:, :1])
            return Batch(degraded=clean, clean=clean, layer=nothing, mask=nothing)
        rngs = [generator(seed, "suite", self.name, name) for name in names]
        params = self.degradation.sample((clean.shape[2], clean.shape[3]), rngs)
        return self.degradation.render(clean, params)


class PairSuite(Frozen):
    """Pairs of files on disk. Unseen for whatever was trained on another renderer, or another camera.

    `color` is what the headline PSNR is read on: "y" (rain, as the field has it) or "rgb" (noise, blur). Where it is
    not given, that of the suite which the folder was exported from is filled in, if it was; else "y". `border` pixels
    are left out of every score, on each side; with `align` each restored image, and the degraded one, is first moved by
    a fraction of pixels to where it fits the clean one best (`unseen.evaluation.alignment`). `crop` takes the centre of
    at most so many pixels a side (None: the whole image).

    The mask is estimated by the formula of every other suite, on degraded less clean, unless the folder has masks.
    """

    name: str = Field(pattern=NAME)
    pairs: PairFolderConfig
    color: Color = "y"
    border: int = Field(default=0, ge=0)
    align: bool = False
    crop: int | None = Field(default=None, ge=1)

    @model_validator(mode="before")
    @classmethod
    def _as_exported(cls, value: Any) -> Any:
        if not isinstance(value, dict) or "color" in value:
            return value
        pairs = value.get("pairs")
        folder = pairs.get("folder") if isinstance(pairs, dict) else getattr(pairs, "folder", None)
        made = exported(folder) if isinstance(folder, str) else None
        return value if made is None else {**value, "color": made.color}

    def group(self, trained: Degradation) -> str:
        """ "unseen": other people's degradations come from another renderer. An exported suite is what it was."""
        made = self.exported()
        return "unseen" if made is None else made.group(trained)

    def outside(self, trained: Degradation) -> tuple[str, ...]:
        """In its source: not synthesised here. Of an exported suite the factors."""
        made = self.exported()
        return ("source",) if made is None else made.outside(trained)

    def exported(self) -> Suite | None:
        """The suite that the folder was exported from (`unseen suite export`), if it was."""
        return exported(self.pairs.folder)

    def describe(self) -> str:
        """What it is, in words."""
        made = self.exported()
        said = [self.open().layout if made is None else f"{made.describe()}, exported"]
        said += [f"{self.border} border pixels left out"] if self.border else []
        said += [f"aligned before scoring, which leaves out {LIMIT} more"] if self.align else []
        return "; ".join(said)

    def open(self) -> PairFolder:
        """The folder, listed."""
        return _opened(self.pairs)  # pyright: ignore[reportArgumentType]  (frozen: it has a hash)

    def size(self, images: Backgrounds | None = None, limit: int | None = None) -> int:
        """How many pairs it has."""
        count = len(self.open())
        return count if limit is None else min(limit, count)

    def batches(
        self,
        images: Backgrounds | None = None,
        crop: int = 0,
        limit: int | None = None,
        seed: int = 0,
        only: Collection[str] | None = None,
    ) -> Iterator[tuple[list[str], Batch]]:
        """Names and pairs, read as they are needed. `images`, `crop` and `seed` are for synthetic suites."""
        folder = self.open()
        chosen = [i for i in range(self.size(limit=limit)) if only is None or folder.names[i] in only]
        for names, arrays in _batched((folder.names[index], self._read(folder, index)) for index in chosen):
            degraded, clean = _tensor(arrays[0]), _tensor(arrays[1])
            mask = mask_of(degraded, clean)
            if len(arrays) > 2:
                mask = torch.from_numpy(np.stack(arrays[2])).unsqueeze(1).float()
            layer = layer_of(degraded, clean)
            yield names, Batch(degraded=degraded, clean=clean, layer=layer, mask=mask)

    def _read(self, folder: PairFolder, index: int) -> tuple[np.ndarray, ...]:
        found = folder.read(index)
        mask = () if found.mask is None else ((found.mask > 0).astype(np.uint8),)
        return tuple(_centre(array, self.crop) for array in (found.degraded, found.clean, *mask))

    @property
    def bands(self) -> bool:
        """Whether it is judged octave by octave too."""
        return self.color == "rgb"

    def scored(self, outcome: Outcome) -> Outcome:
        """What is scored of an outcome: aligned, and without its border."""
        if self.align:
            outcome, _ = aligned(outcome)
            if not self.open().has_masks:  # what was estimated from pairs that did not fit is estimated anew
                batch = outcome.batch
                mask, layer = mask_of(batch.degraded, batch.clean), layer_of(batch.degraded, batch.clean)
                outcome = Outcome(dataclasses.replace(batch, mask=mask, layer=layer), outcome.restored)
        made = self.exported()
        return inside(outcome, self.border + (0 if made is None else made.border))


AnySuite = Suite | PairSuite


def exported(folder: str) -> Suite | None:
    """The suite that a folder was exported from; None where it was not, or is not on this machine."""
    try:
        return Suite.model_validate(json.loads((expanded(folder) / MANIFEST).read_bytes())["suite"])
    except (OSError, ValueError, KeyError, TypeError, ConfigError):
        return None


def _kind_of(entry: Any) -> str | None:
    if isinstance(entry, str):
        return "name"
    if isinstance(entry, Suite | PairSuite):
        return type(entry).__name__
    if isinstance(entry, dict):
        return "PairSuite" if "pairs" in entry else "Suite"
    return None


Entry = Annotated[
    Annotated[str, Tag("name")] | Annotated[Suite, Tag("Suite")] | Annotated[PairSuite, Tag("PairSuite")],
    Discriminator(
        _kind_of,
        custom_error_type="suite",
        custom_error_message="a suite is a name, or a mapping with a name and a degradation or pairs",
    ),
]
"""What a judge is given: told apart before it is read, so that errors are of the one meant."""


def layer_of(degraded: Images, clean: Images) -> Layers:
    """What was added, as far as a pair tells: the largest difference of a channel, at least 0."""
    return (degraded - clean).amax(1, keepdim=True).clamp_(min=0)


def inside(outcome: Outcome, border: int) -> Outcome:
    """An outcome without `border` pixels on each side. ConfigError where that leaves nothing."""
    if not border:
        return outcome
    if min(outcome.restored.shape[2:]) <= 2 * border:
        height, width = outcome.restored.shape[2:]
        raise ConfigError(
            f"An image of {height} x {width} pixels has none left inside a border of {border}: judge larger images, or "
            "set a smaller border."
        )

    def inner(images: Tensor) -> Tensor:
        return images[..., border:-border, border:-border]

    batch = outcome.batch
    return Outcome(
        Batch(inner(batch.degraded), inner(batch.clean), inner(batch.layer), inner(batch.mask), batch.labels),
        inner(outcome.restored),
    )


@lru_cache(maxsize=64)
def _opened(config: PairFolderConfig) -> PairFolder:
    return PairFolder(config)


def _needed(images: Backgrounds | None, suite: str) -> Backgrounds:
    if images is None:
        raise ConfigError(f"The suite {suite!r} is synthetic and needs clean images to lie on: give it some.")
    return images


def _centre(array: np.ndarray, crop: int | None) -> np.ndarray:
    height, width = (side if crop is None else min(side, crop) for side in array.shape[:2])
    top, left = (array.shape[0] - height) // 2, (array.shape[1] - width) // 2
    return array[top : top + height, left : left + width]


def _tensor(arrays: list[np.ndarray]) -> Images:
    return torch.from_numpy(np.stack(arrays)).permute(0, 3, 1, 2).float().div_(PEAK)


def _batched(
    items: Iterable[tuple[str, tuple[np.ndarray, ...]]],
) -> Iterator[tuple[list[str], list[list[np.ndarray]]]]:
    """Neighbours of one shape, together up to `BATCH_PIXELS`: names, and the arrays of each kind."""
    names: list[str] = []
    held: list[tuple[np.ndarray, ...]] = []
    for name, arrays in items:
        if held and (
            [one.shape for one in held[0]] != [one.shape for one in arrays]
            or (len(held) + 1) * arrays[0][..., 0].size > BATCH_PIXELS
        ):
            yield names, [list(kind) for kind in zip(*held, strict=True)]
            names, held = [], []
        names.append(name)
        held.append(arrays)
    if held:
        yield names, [list(kind) for kind in zip(*held, strict=True)]


def _public(name: str, color: Color, align: bool = False, border: int = 0) -> PairSuite:
    folder = f"${{UNSEEN_DATA}}/pairs/{name}"
    return PairSuite(name=name, pairs=PairFolderConfig(folder=folder), color=color, align=align, border=border)


SETS: dict[str, tuple[PairSuite, ...]] = {
    "rain": (_public("rain100l", "y"), _public("rain100h", "y")),
    "noise": (_public("polyu_noise", "rgb"),),
    "blur": (_public("lai_blur", "rgb", align=True, border=20),),
}
"""Public sets of pairs by family, where docs/data.md says to put them."""

PUBLIC: dict[str, PairSuite] = {suite.name: suite for sets in SETS.values() for suite in sets}
"""The same by name."""

COLLECTIONS: dict[str, tuple[str, ...]] = {
    f"unseen-{family}": members
    for family in families()
    if (members := (*preset_names(family, "tests"), *(suite.name for suite in SETS.get(family, ()))))
}
"""Named lists of suites, one for each family that has any: its tests and its public sets. Every headline on rain is the
mean over `unseen-rain`; a mean over fewer says so. The same for the others."""


def here(suite: AnySuite) -> bool:
    """Whether a suite's files are on this machine."""
    if isinstance(suite, Suite):
        return True
    try:
        return expanded(suite.pairs.folder).is_dir()
    except ConfigError:
        return False


class Judge(Frozen):
    """What restorers are judged on: test images and suites over them.

    `suites` are names: "seen" (the training degradation itself), "clean", a named degradation (sizes times `scale`),
    a public set of pairs ("rain100l"), a collection of these ("unseen-rain"), or a suite spelt out: `{name: ...,
    degradation: {...}}` or `{name: ..., pairs: {folder: ...}, color: y}`. Of a collection, sets that are not on this
    machine are left out (`absent` names them). Images are centre crops of at most `crop` pixels a side. Along training
    only the first `along` images are used, and SSIM is skipped. Each image is judged under `draws` draws of its
    degradation (None: two of noise, else one).
    """

    images: BackgroundsConfig = BackgroundsConfig(part="test")
    crop: int = Field(default=256, ge=1)
    limit: int | None = Field(default=None, ge=1)
    along: int | None = Field(default=16, ge=1)
    scale: float = Field(default=0.5, gt=0)
    suites: tuple[Entry, ...] = ("seen", *preset_names("rain", "tests"), "clean")
    seed: int = 0
    draws: int | None = Field(default=None, ge=1, le=64)

    @model_validator(mode="after")
    def _known(self) -> Self:
        self.resolve(Rain())
        return self

    @property
    def absent(self) -> tuple[str, ...]:
        """The members of the collections asked for whose files are not on this machine."""
        members = [name for entry in self.suites if isinstance(entry, str) for name in COLLECTIONS.get(entry, ())]
        return tuple(name for name in members if name in PUBLIC and not here(PUBLIC[name]))

    def resolve(self, trained: AnyDegradation) -> tuple[AnySuite, ...]:
        """The suites for a restorer trained on `trained`. ConfigError for an unknown or repeated name."""
        resolved: list[AnySuite] = []
        for entry in self.suites:
            if not isinstance(entry, str):
                if entry.name in ("seen", "clean"):
                    raise ConfigError(f"{entry.name!r} is a suite already: give the one spelt out another name.")
                resolved.append(entry)
            elif entry in COLLECTIONS:
                resolved += [self._named(name, trained) for name in COLLECTIONS[entry] if name not in self.absent]
            else:
                resolved.append(self._named(entry, trained))
        names = [suite.name for suite in resolved]
        if len(set(names)) < len(names):
            raise ConfigError(
                f"Suites must have different names; these repeat: {sorted({n for n in names if names.count(n) > 1})}."
            )
        return tuple(resolved)

    def _named(self, name: str, trained: AnyDegradation) -> AnySuite:
        if name == "seen":
            return Suite(name="seen", degradation=trained)
        if name == "clean":
            return Suite(name="clean", degradation=None)
        if name in PUBLIC:
            return PUBLIC[name]
        if name in preset_names():
            return Suite(name=name, degradation=preset(name, self.scale))
        raise ConfigError(not_known("suite", name, ("seen", "clean", *preset_names(), *PUBLIC, *COLLECTIONS)))

    def id(self, content: str, names: Sequence[str]) -> str:
        """Names the rows that this judge writes. `content` is the hash of the test images, `names` are theirs."""
        value: dict[str, Any] = self.model_dump(mode="json", exclude_none=True)
        value["images"] = [content, *names]
        value["suites"] = [suite.name if suite.name == "seen" else identity_of(suite) for suite in self.resolve(Rain())]
        return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:8]


def identity_of(suite: AnySuite) -> dict[str, Any]:
    """What makes a suite the one it is, without where it lies: of pairs the hash of their files."""
    value = suite.model_dump(mode="json")
    if isinstance(suite, Suite):
        value["degradation"] = essence(value["degradation"])
    if isinstance(suite, PairSuite):
        value["pairs"] = suite.open().content_hash
    return value
