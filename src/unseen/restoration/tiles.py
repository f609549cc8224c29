"""Arrays of any size restored with bounded memory: in tiles whose borders are blended, smaller where memory is short.

Along each side the image is cut into cores. A tile is a core, half a ramp beyond it where it is blended with its
neighbour, and the halo: pixels that the network sees and that are thrown away, because there it knows of the tile's
border. Ramps of neighbours are linear and sum to one. Where the halo is at least the reach of the network, and tiles
begin at its multiple, the result is that of the whole image at once, up to rounding.
"""

import math
import os
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8
from numpy.typing import NDArray

from unseen.errors import DataError
from unseen.networks import GuidedConfig, NetworkConfig, PReNetConfig, ResNetConfig, SwinIRConfig, UNetConfig
from unseen.networks.abstention import BLOCKS, CHANGED, Abstaining, Abstention, blocks_of
from unseen.networks.nafnet import NAFNetConfig
from unseen.priors import Prior, blank
from unseen.seeding import placed
from unseen.types import Restorer

HALO = 64
"""Pixels of surroundings for a network of unknown reach."""

MULTIPLE = 64
"""Where tiles of an unknown network begin: at multiples of so many pixels, which serves every power of two up to it."""

FADING = 0.06
"""The weight of a frame among those before it: half of what is remembered is of the last 11 frames."""

RAMP = 16
"""Pixels over which neighbouring tiles are blended."""

SMALLEST = 32
"""Cores are not halved below so many pixels a side."""

CODES_TILE = 256
"""Pixels a side of the cores of a network that chooses codes: all places of a tile see each other, at a cost with the
square of their number, and what they make of each other depends on the tile. So it is the same everywhere."""

PROCESSOR_BYTES = 2**29
"""What a tile's features may take on a processor: more is no faster there."""

ACCELERATOR_BYTES = 2**32
"""The same on an accelerator."""

_BUFFERS = {"ResNet": 5, "UNet": 8, "PReNet": 14, "NAFNet": 14, "Guided": 8}
"""Arrays of `width` channels at full size that are alive at once, by network."""

_UNKNOWN_BYTES = 8192
"""Bytes per pixel for a network of which nothing is known."""


@dataclass(frozen=True, slots=True)
class _Part:
    """A tile along one side: what the network sees, what is used of it, and with which weights."""

    seen: slice
    used: slice
    weights: NDArray[np.float32]


@dataclass
class Clip:
    """What is remembered from a frame of a video to the next, so that whether frames are left alone does not flicker:
    the shares of changed pixels in an image's blocks, past frames among them, fading (`FADING`)."""

    shares: NDArray[np.float64] | None = None

    def steadied(self, shares: NDArray[np.float64]) -> NDArray[np.float64]:
        self.shares = shares if self.shares is None else self.shares + FADING * (shares - self.shares)
        return self.shares


class Tiler:
    """A restorer for arrays (n, h, w, c), c = 3 or 1 (grey): uint8, uint16, or floating point in [0, 1].

    Cores are at most `tile` pixels a side; where memory runs out `tile` is halved, and stays so. Grey is restored as
    three equal channels, and their mean is taken. `strength` blends: 0 is the input, 1 what the network makes of it.

    A restorer that leaves some images alone (`Abstaining`) decides by the whole image, not tile by tile. `taken` says,
    for each image of the last call, how much of what was restored has been taken: 0 where it was left as it is.
    """

    def __init__(
        self,
        restorer: Restorer,
        tile: int = 768,
        halo: int = HALO,
        multiple: int = MULTIPLE,
        *,
        ramp: int = RAMP,
        strength: float = 1.0,
        batch_pixels: int = 0,
    ) -> None:
        """`batch_pixels`: how many pixels of equally large images are worth restoring in one call."""
        self.abstention: Abstention | None = None
        if isinstance(restorer, Abstaining):
            restorer, self.abstention = restorer.restorer, restorer.abstention
        self.restorer, self.tile, self.halo, self.multiple = restorer, tile, halo, multiple
        self.ramp, self.strength, self.batch_pixels = ramp, strength, batch_pixels
        self.taken = np.ones(0, np.float32)

    def restore(
        self, images: NDArray[Any], restored: NDArray[Any] | None = None, clip: Clip | None = None
    ) -> NDArray[Any]:
        """Restore into `restored`, of the same shape and type (default: a new array), which is returned. `clip` is what
        is remembered of the frames before, which the call adds to.

        DataError where not even the smallest tile fits into memory. Any: several types of numbers.
        """
        restored = np.empty_like(images) if restored is None else restored
        count, height, width, _ = images.shape
        self.taken = np.ones(count, np.float32)
        if self.strength == 0:
            restored[...] = images
            return restored
        try:
            shares = self._restore(images, restored)
            if self.abstention is not None:
                self.taken = self.abstention.weights(shares if clip is None else clip.steadied(shares))
                for before, after, weight in zip(images, restored, self.taken.tolist(), strict=True):
                    if weight < 1:
                        after[...] = blended(before, after, weight)
            return restored
        except Exception as error:
            if not out_of_memory(error):
                raise
            side = min(self.tile, max(height, width))
            if count == 1 and side <= SMALLEST:
                raise DataError(
                    f"There is not enough memory to restore {width} x {height} pixels, even in tiles of {side}: "
                    "use a smaller network, or another device."
                ) from error
        # Outside of the handler: what the failed call held is free by now.
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        if count > 1:
            taken = []
            for one in range(count):
                self.restore(images[one : one + 1], restored[one : one + 1], clip)
                taken.append(self.taken)
            self.taken = np.concatenate(taken)
            self.batch_pixels = 0
        else:
            self.tile = max(SMALLEST, side // 2)
            self.restore(images, restored, clip)
        return restored

    def _restore(self, images: NDArray[Any], restored: NDArray[Any]) -> NDArray[np.float64]:
        """Restore into `restored`; the shares of pixels that changed in each image's blocks, (n, 4, 4), are returned
        (zeros where nobody asks)."""
        count, height, width, channels = images.shape
        rows, columns = self._parts(height), self._parts(width)
        carried = np.empty((count, 0, width, channels), np.float32)
        shares = np.zeros((count, BLOCKS, BLOCKS))
        for number, row in enumerate(rows):
            band = np.zeros((count, row.used.stop - row.used.start, width, channels), np.float32)
            for column in columns:
                values, changed = self._restored(images, row, column)
                if changed is not None:
                    down = blocks_of(height, row.used) * row.weights
                    across = blocks_of(width, column.used) * column.weights
                    shares += down @ changed @ across.T
                values *= column.weights[:, None]
                band[:, :, column.used] += values
            band *= row.weights[:, None, None]
            band[:, : carried.shape[1]] += carried
            whole = height if number + 1 == len(rows) else rows[number + 1].used.start
            restored[:, row.used.start : whole] = _quantised(band[:, : whole - row.used.start], images.dtype)
            carried = band[:, whole - row.used.start :]
        sizes = [blocks_of(side, slice(0, side)).sum(1) for side in (height, width)]
        return shares / np.maximum(np.outer(*sizes), 1)

    def _restored(
        self, images: NDArray[Any], row: _Part, column: _Part
    ) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
        """The used part of one tile, in [0, 1], and where it changed: 1, else 0 (None where nobody asks)."""
        degraded = as_floats(images[:, row.seen, column.seen])
        channels = degraded.shape[3]
        tensor = torch.from_numpy(degraded).permute(0, 3, 1, 2)
        with torch.no_grad(), placed(row.seen.start, column.seen.start):
            values = self.restorer(tensor if channels == 3 else tensor.expand(-1, 3, -1, -1)).clamp(0, 1)
            values = values[
                ...,
                row.used.start - row.seen.start : row.used.stop - row.seen.start,
                column.used.start - column.seen.start : column.used.stop - column.seen.start,
            ]
            if channels == 1:
                values = values.mean(1, keepdim=True)
            restored = values.permute(0, 2, 3, 1).float().cpu().contiguous().numpy()
        if self.strength == 1 and self.abstention is None:
            return restored, None
        before = as_floats(images[:, row.used, column.used])
        changed = None
        if self.abstention is not None:
            changed = (np.abs(restored - before).max(-1) > CHANGED).astype(np.float32)
        if self.strength != 1:
            restored -= before
            restored *= np.float32(self.strength)
            restored += before
        return restored, changed

    def _parts(self, length: int) -> list[_Part]:
        count = math.ceil(length / self.tile)
        borders = [number * length // count for number in range(count + 1)]
        half = min(self.ramp, *(after - before for before, after in pairwise(borders))) // 2
        rising = (np.arange(2 * half, dtype=np.float32) + 0.5) / max(1, 2 * half)
        parts = []
        for number, (first, last) in enumerate(pairwise(borders)):
            opens, ends = number > 0, number + 1 < count
            used = slice(first - half if opens else 0, last + half if ends else length)
            weights = np.ones(used.stop - used.start, np.float32)
            if opens and half:
                weights[: 2 * half] = rising
            if ends and half:
                weights[-2 * half :] = 1 - rising
            start = max(0, used.start - self.halo) // self.multiple * self.multiple
            stop = min(length, -(-(used.stop + self.halo) // self.multiple) * self.multiple)
            parts.append(_Part(slice(start, stop), used, weights))
        return parts


def restore_image(
    restorer: Restorer,
    image: UInt8[np.ndarray, "h w 3"],
    tile: int = 768,
    halo: int = HALO,
    multiple: int = MULTIPLE,
) -> UInt8[np.ndarray, "h w 3"]:
    """Restore an 8-bit RGB image of any size, rounded back to 8 bits.

    Images larger than `tile` pixels a side are restored in tiles that see `halo` pixels of their surroundings, begin
    at multiples of `multiple`, and are blended over 16 pixels.
    """
    return Tiler(restorer, tile, halo, multiple).restore(image[None])[0]


def tiler_for(restorer: Restorer, device: str, config: NetworkConfig | None = None, *, strength: float = 1.0) -> Tiler:
    """A `Tiler` whose tiles fit the network (None: unknown) and the memory that is at hand on `device`."""
    halo, multiple = reach(config)
    accelerator = not device.startswith("cpu")
    share = min(
        memory_at_hand(device) // (2 if accelerator else 4), ACCELERATOR_BYTES if accelerator else PROCESSOR_BYTES
    )
    pixels = share // bytes_per_pixel(config)
    side = math.isqrt(pixels) - 2 * halo - RAMP
    least = max(64, 2 * halo)  # smaller cores would see more of their surroundings than of themselves
    tile = min(2048, max(-(-least // multiple), side // multiple) * multiple)
    if isinstance(config, GuidedConfig) and config.codes is not None:
        tile = max(1, CODES_TILE // multiple) * multiple
    return Tiler(
        restorer, tile, halo, multiple, strength=strength, batch_pixels=min(pixels, 2**20) if accelerator else 0
    )


def reach(config: NetworkConfig | None) -> tuple[int, int]:
    """How many pixels of surroundings a network's tiles need, and the multiple that they begin at.

    Exact for networks of finite reach: one pixel per 3 x 3 convolution, times the pixels that one of its features
    stands for. Others, and unknown ones (None), get 64 pixels.
    """
    match config:
        case ResNetConfig():
            return 2 + 2 * config.blocks, 1
        case PReNetConfig():
            return config.stages * (3 + 2 * config.blocks), 1
        case UNetConfig():
            steps = 2**config.levels
            # Both ways at each level, the middle, head and tail, and the pixels that share a feature of the middle.
            return 2 + 4 * config.blocks * (steps - 1) + 2 * config.blocks * steps + steps, steps
        case NAFNetConfig():
            return HALO, 2 ** len(config.encoders)
        case SwinIRConfig():
            return HALO, config.window
        case GuidedConfig():
            return HALO, _plan(config).stride
    return HALO, MULTIPLE


def _plan(config: GuidedConfig) -> Prior:
    """How the prior of a network is built, without its weights."""
    with torch.device("meta"):
        return blank(config.prior.architecture)


def bytes_per_pixel(config: NetworkConfig | None) -> int:
    """A generous estimate of the memory that a network takes per pixel of its input."""
    kind, width = getattr(config, "kind", ""), getattr(config, "width", 0)
    if isinstance(config, GuidedConfig):  # as wide as the prior is where it sees whole pixels
        plan = _plan(config)
        width = plan.encoder.get_parameter(f"{plan.first}.weight").shape[0]
    return max(256, 4 * width * _BUFFERS[kind]) if kind in _BUFFERS else _UNKNOWN_BYTES


def memory_at_hand(device: str) -> int:
    """Bytes that can still be taken on `device`: of a processor's memory, what is free within the container's limit."""
    if device.startswith("cuda"):
        return torch.cuda.mem_get_info(device)[0]
    if device.startswith("mps"):
        return max(0, torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory())
    found = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2]
    with suppress(OSError, ValueError, StopIteration):
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        found = [1024 * int(next(line for line in lines if line.startswith("MemAvailable")).split()[1])]
    with suppress(OSError, ValueError):  # "max" where there is no limit
        group = Path("/sys/fs/cgroup")
        limit, taken = (int((group / name).read_text()) for name in ("memory.max", "memory.current"))
        found.append(max(0, limit - taken))
    return min(found)


def out_of_memory(error: BaseException | None) -> bool:
    """Whether memory ran out, here or, as a wrapper of models reports it, in what caused the error."""
    while error is not None:
        if isinstance(error, MemoryError | torch.OutOfMemoryError):
            return True
        if isinstance(error, RuntimeError) and any(
            phrase in str(error).lower()
            for phrase in ("not enough memory", "defaultcpuallocator", "out of memory", "failed to allocate memory")
        ):
            return True
        error = error.__cause__
    return False


def blended(before: NDArray[Any], after: NDArray[Any], strength: float) -> NDArray[Any]:
    """`before` at strength 0, `after` at 1, between them a blend of both, rounded to their type.

    Of integers both have been rounded: it may differ by one from a blend before rounding, as `Tiler.strength` makes it.
    """
    if strength in (0, 1):
        return after if strength else before
    found = np.empty_like(before)
    for top in range(0, len(before), 128):
        rows = slice(top, top + 128)
        values = before[rows].astype(np.float32)
        values += np.float32(strength) * (after[rows] - values)
        found[rows] = np.rint(values) if np.issubdtype(found.dtype, np.integer) else values
    return found


def as_floats(values: NDArray[Any]) -> NDArray[np.float32]:
    """A contiguous copy in [0, 1]."""
    if np.issubdtype(values.dtype, np.integer):
        return np.divide(values, np.float32(np.iinfo(values.dtype).max), dtype=np.float32, order="C")
    return np.array(values, np.float32, order="C")


def _quantised(values: NDArray[np.float32], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Back to the type of the input: integers rounded to the nearest. Overwrites `values`."""
    np.clip(values, 0, 1, out=values)
    if np.issubdtype(dtype, np.integer):
        values *= np.float32(np.iinfo(dtype).max)
        np.rint(values, out=values)
    return values.astype(dtype)
