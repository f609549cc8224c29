"""Suites: named, deterministic tests. A suite is a degradation laid over test images, the same every time."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from typing import Any, Self

import numpy as np
import torch
from pydantic import Field, model_validator

from unseen.backgrounds import Backgrounds, BackgroundsConfig
from unseen.degradations import AnyDegradation, Degradation, Rain
from unseen.degradations.rain import TESTS
from unseen.errors import ConfigError
from unseen.images import PEAK
from unseen.ranges import Frozen
from unseen.seeding import generator
from unseen.types import Batch

BATCH_PIXELS = 8 * 256 * 256
"""Images of one size are judged together up to this many pixels: bounds the memory, whatever the suite's size."""


class Suite(Frozen):
    """`degradation` None: clean images, to see whether a restorer leaves them alone (do no harm)."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9 _.-]*$")
    degradation: AnyDegradation | None = None

    def group(self, trained: Degradation) -> str:
        """ "clean", "unseen" (outside `trained` in at least one factor) or "seen"."""
        if self.degradation is None:
            return "clean"
        return "unseen" if self.degradation.outside(trained) else "seen"

    def batches(
        self, images: Backgrounds, crop: int, limit: int | None = None, seed: int = 0
    ) -> Iterator[tuple[list[str], Batch]]:
        """Names and pairs. An image's degradation depends on `seed`, the names of suite and image, and its size."""
        names: list[str] = []
        arrays: list[np.ndarray] = []
        for index, (name, array) in enumerate(images.crops(crop)):
            if limit is not None and index >= limit:
                break
            if arrays and (arrays[0].shape != array.shape or (len(arrays) + 1) * array[..., 0].size > BATCH_PIXELS):
                yield names, self._degrade(names, arrays, seed)
                names, arrays = [], []
            names.append(name)
            arrays.append(array)
        if arrays:
            yield names, self._degrade(names, arrays, seed)

    def _degrade(self, names: list[str], arrays: list[np.ndarray], seed: int) -> Batch:
        clean = torch.from_numpy(np.stack(arrays)).permute(0, 3, 1, 2).float().div_(PEAK)
        if self.degradation is None:
            nothing = torch.zeros_like(clean[:, :1])
            return Batch(degraded=clean, clean=clean, layer=nothing, mask=nothing)
        rngs = [generator(seed, "suite", self.name, name) for name in names]
        params = self.degradation.sample((clean.shape[2], clean.shape[3]), rngs)
        return self.degradation.render(clean, params)


class Judge(Frozen):
    """What restorers are judged on: test images and suites over them.

    `suites` are names: "seen" (the training degradation itself), "clean", a named rain (at `scale`), or a suite spelt
    out as `{name: ..., degradation: {...}}`. Images are centre crops of at most `crop` pixels a side. Along training
    only the first `along` images are used, and SSIM is skipped.
    """

    images: BackgroundsConfig = BackgroundsConfig(part="test")
    crop: int = Field(default=256, ge=1)
    limit: int | None = Field(default=None, ge=1)
    along: int | None = Field(default=16, ge=1)
    scale: float = Field(default=0.5, gt=0)
    suites: tuple[str | Suite, ...] = ("seen", *TESTS, "clean")
    seed: int = 0

    @model_validator(mode="after")
    def _known(self) -> Self:
        self.resolve(Rain())
        return self

    def resolve(self, trained: AnyDegradation) -> tuple[Suite, ...]:
        """The suites for a restorer trained on `trained`. ConfigError for an unknown or repeated name."""
        resolved: list[Suite] = []
        for entry in self.suites:
            if isinstance(entry, Suite):
                if entry.name in ("seen", "clean"):
                    raise ConfigError(f"{entry.name!r} is a suite already: give the one spelt out another name.")
                resolved.append(entry)
            elif entry == "seen":
                resolved.append(Suite(name="seen", degradation=trained))
            elif entry == "clean":
                resolved.append(Suite(name="clean", degradation=None))
            else:
                resolved.append(Suite(name=entry, degradation=Rain.preset(entry, self.scale)))
        names = [suite.name for suite in resolved]
        if len(set(names)) < len(names):
            raise ConfigError(
                f"Suites must have different names; these repeat: {sorted({n for n in names if names.count(n) > 1})}."
            )
        return tuple(resolved)

    def id(self, content: str, names: Sequence[str]) -> str:
        """Names the rows that this judge writes. `content` is the hash of the test images, `names` are theirs."""
        value: dict[str, Any] = self.model_dump(mode="json", exclude_none=True)
        value["images"] = [content, *names]
        value["suites"] = [
            suite.name if suite.name == "seen" else suite.model_dump(mode="json") for suite in self.resolve(Rain())
        ]
        return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:8]
