"""A store: decoded images, one after another, in a flat buffer of bytes, in memory or mapped from a file.

A patch is then a slice, however many images there are and whether or not they fit in memory.
"""

import math
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO, TypeVar

import numpy as np
from numpy.typing import NDArray

from unseen.errors import DataError, cause_of
from unseen.files import whole

Item = TypeVar("Item")

Array = NDArray[np.uint8]
"""An image, (h, w, 3), or a mask, (h, w)."""

Progress = Callable[[int, int], None]
"""Told how many images are read, and of how many."""

MEMORY_LIMIT = 4 << 30
"""Decoded bytes above which images are mapped from a file instead of held in memory."""

_THREADS = 4  # for decoding; more gain little
_AHEAD = 32  # images decoded before they are packed: bounds the memory beside the buffer


def user_cache() -> Path:
    """The folder for what can be made again: ~/.cache/unseen."""
    return Path.home() / ".cache" / "unseen"


def size_of(shapes: Iterable[tuple[int, ...]]) -> int:
    """Bytes that arrays of these shapes take."""
    return sum(math.prod(shape) for shape in shapes)


def read_ahead(reads: Sequence[Callable[[], Item]], progress: Progress | None = None) -> Iterator[Item]:
    """What the functions return, in order; some threads call them, a little ahead."""
    with ThreadPoolExecutor(_THREADS) as threads:
        for start in range(0, len(reads), _AHEAD):
            some = threads.map(lambda read: read(), reads[start : start + _AHEAD])
            for done, item in enumerate(some, start + 1):
                yield item
                if progress is not None:
                    progress(done, len(reads))


def stored(
    shapes: Sequence[tuple[int, ...]], arrays: Iterator[Array], name: str, *, mapped: bool, cache: Path | None = None
) -> list[Array]:
    """Arrays of these shapes, packed: read-only views of one buffer, in memory or `mapped` from `cache/<name>.raw`
    (default: ~/.cache/unseen).

    A file of that name and size is taken as it is, and `arrays` is not asked for anything: `name` must identify the
    content. Raises `DataError` where the file cannot be written.
    """
    size = size_of(shapes)
    if mapped:
        folder = cache if cache is not None else user_cache()
        buffer = _mapped(folder / f"{name}.raw", size, arrays)
    else:
        buffer = np.empty(size, dtype=np.uint8)
        offset = 0
        for array in arrays:
            buffer[offset : offset + array.size] = array.reshape(-1)
            offset += array.size
        assert offset == size, "shapes and arrays differ"
    buffer.flags.writeable = False
    ends = np.cumsum([math.prod(shape) for shape in shapes], dtype=np.int64).tolist()
    return [buffer[end - math.prod(shape) : end].reshape(shape) for shape, end in zip(shapes, ends, strict=True)]


def square(image: Array, side: int, down: float, right: float) -> Array:
    """A square of `side` pixels; `down` and `right`, in [0, 1), place it anywhere it fits (or anywhere about an image
    that is smaller, which is continued by reflection). The place depends on the image's height and width alone."""
    height, width = image.shape[:2]
    if height >= side and width >= side:
        top, left = int(down * (height - side + 1)), int(right * (width - side + 1))
        return image[top : top + side, left : left + side]
    return image.take(_reflected(height, side, down), axis=0).take(_reflected(width, side, right), axis=1)


def _reflected(length: int, side: int, place: float) -> NDArray[np.intp]:
    """Indices into `length` pixels for `side` of them; beyond the ends they turn back, without repeating the end."""
    spare = length - side
    start = int(place * (spare + 1)) if spare >= 0 else -int(place * (1 - spare))
    period = max(1, 2 * (length - 1))
    index = np.arange(start, start + side) % period
    return np.minimum(index, period - index) if length > 1 else index


def _mapped(path: Path, size: int, arrays: Iterator[Array]) -> Array:
    """The arrays in a file, mapped. Written once, under another name, then renamed: a file that is there is whole."""
    if not (path.is_file() and path.stat().st_size == size):
        try:
            with whole(path) as temporary:
                free = shutil.disk_usage(path.parent).free
                if free < size:
                    raise DataError(
                        f"The decoded images take {size / 1e9:.1f} GB, but {path.parent} has {free / 1e9:.1f} GB free. "
                        "Free some space, choose another cache folder, or use fewer images."
                    )
                with temporary.open("xb") as file:
                    _write(file, arrays)
        except OSError as error:
            raise DataError(
                f"Cannot write the decoded images ({size / 1e9:.1f} GB) to {path.parent}: {cause_of(error)}"
            ) from error
    return np.memmap(path, dtype=np.uint8, mode="r").view(np.ndarray)


def _write(file: BinaryIO, arrays: Iterator[Array]) -> None:
    for array in arrays:
        file.write(np.ascontiguousarray(array).data)
