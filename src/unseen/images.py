"""Image files: find, read and write them. The only place that knows bytes. Imports no torch.

Arrays here are uint8, (h, w, 3), RGB, sRGB-encoded; everywhere else images are floating point in [0, 1].
"""

import hashlib
import io
import os
import stat
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from unseen.errors import ConfigError, DataError, ImageError, cause_of
from unseen.files import whole

Bytes = NDArray[np.uint8]
"""(h, w, 3), RGB, sRGB-encoded."""

PEAK = 255
"""The largest 8-bit value: 1.0 elsewhere."""

EXTENSIONS = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".ppm", ".gif")
"""Lower-case suffixes of the files that count as images."""

MAX_PIXELS = 120_000_000
"""Larger images are refused before they are decoded: a small file can claim any size (a decompression bomb)."""

MAX_PIXELS_VARIABLE = "UNSEEN_MAX_PIXELS"
"""The environment variable that replaces `MAX_PIXELS`."""

# Without EPS and the like, whose decoders start other programs.
_READ = ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "PPM", "GIF")
_WRITE: dict[str, tuple[str, dict[str, Any]]] = {  # Any: options differ in type from format to format
    ".png": ("PNG", {}),
    ".jpg": ("JPEG", {"quality": 95, "subsampling": 0}),
    ".jpeg": ("JPEG", {"quality": 95, "subsampling": 0}),
    ".webp": ("WEBP", {"lossless": True}),
    ".bmp": ("BMP", {}),
    ".tif": ("TIFF", {}),
    ".tiff": ("TIFF", {}),
    ".ppm": ("PPM", {}),
}
WRITTEN = tuple(_WRITE)
"""Lower-case suffixes that `write_image` knows."""
_ROTATED = (5, 6, 7, 8)  # EXIF orientations that swap height and width
_DEEP = 65535  # the largest 16-bit value
_opening = threading.Lock()


def to_bytes(image: NDArray[np.floating]) -> Bytes:
    """Floats in [0, 1], of any shape, to uint8: clipped, then rounded to the nearest."""
    return np.rint(np.clip(image, 0, 1) * PEAK).astype(np.uint8)


def read_image(path: str | Path) -> Bytes:
    """The image in a file: uint8, (h, w, 3), RGB, a writable array of its own.

    EXIF orientation is applied; grey, palette and CMYK become RGB; alpha is dropped (not blended with anything);
    of an animation the first frame is read; colour profiles are ignored. 16-bit grey is divided by 257 and rounded;
    of 16-bit RGB the decoder keeps the upper 8 bits. 32-bit integers are read as 16-bit values, floating point as
    [0, 1]; values beyond are an error. What counts is the content of the file, not its suffix.

    Raises `ImageError` if the file is missing, not a readable file, not an image, damaged, cut short or too large.
    """
    path = Path(path)
    with opened_image(path) as image:
        pixels = _rgb(image, path)
        return np.ascontiguousarray(upright(pixels, orientation_of(image)))


def image_size(path: str | Path) -> tuple[int, int]:
    """(h, w) in pixels as `read_image` would return them, from the header alone. Raises `ImageError`."""
    with opened_image(Path(path)) as image:
        width, height = (_tag(image, 256), _tag(image, 257)) if image.format == "TIFF" else image.size
        return (width, height) if orientation_of(image) in _ROTATED else (height, width)


def orientation_of(image: Image.Image) -> int:
    """The EXIF orientation, 1 to 8: how the pixels are to be turned. 1, as they are, where it is damaged, or makes no
    sense. Of a TIFF whose pixels have been decoded it is 1: its decoder turns them."""
    try:
        found = int(image.getexif().get(0x0112, 1))
    except Exception:  # of many classes: the block may hold anything
        return 1
    return found if 1 <= found <= 8 else 1


def upright(array: NDArray[Any], orientation: int) -> NDArray[Any]:
    """A view of (h, w, ...) as it is looked at, by the EXIF orientation."""
    match orientation:
        case 2:
            return array[:, ::-1]
        case 3:
            return array[::-1, ::-1]
        case 4:
            return array[::-1]
        case 5:
            return array.swapaxes(0, 1)
        case 6:
            return np.rot90(array, -1)
        case 7:
            return array[::-1, ::-1].swapaxes(0, 1)
        case 8:
            return np.rot90(array)
    return array


def deep_grey(image: Image.Image, path: Path) -> NDArray[np.uint16]:
    """The values of an image of integers, as 16 bits; ImageError where they are none. In a TIFF of 12 bits 4095 is
    white, and where it says so 0 is."""
    values = np.asarray(image)
    if values.min() < 0 or values.max() > _DEEP:
        raise ImageError(
            f"Cannot read {path}: integers from {values.min()} to {values.max()}, expected 16-bit values, 0 to 65535. "
            "Save it as 16-bit PNG."
        )
    grey = values.astype(np.uint16)
    if image.format == "TIFF":
        if _tag(image, 258) == 12:
            grey = ((grey.astype(np.uint32) * _DEEP + 2047) // 4095).astype(np.uint16)
        if image.mode.startswith("I;16") and _tag(image, 262) == 0:
            grey = _DEEP - grey
    return grey


def image_hash(path: str | Path) -> bytes:
    """SHA-256 of the bytes of a file. Raises `ImageError`."""
    try:
        with Path(path).open("rb") as file:
            return hashlib.file_digest(file, "sha256").digest()
    except OSError as error:
        raise ImageError(f"Cannot read {path}: {cause_of(error)}") from error


def write_image(path: str | Path, image: NDArray[Any]) -> None:
    """Write (h, w, 3) or (h, w), uint8 or floating point in [0, 1] (rounded to 8 bits), in the suffix's format.

    PNG, WebP, BMP, TIFF and PPM without loss, JPEG with quality 95 and full colour resolution. Parent folders are
    made. The file appears whole or not at all: it is written beside its place under a hidden name, then renamed.

    Raises `ImageError` on an unknown suffix, an array that is no image, no permission or a full disk.
    """
    path = Path(path)
    if path.suffix.lower() not in _WRITE:
        raise ImageError(f"Cannot write {path}: unknown suffix '{path.suffix}'. Use one of {', '.join(_WRITE)}.")
    file_format, options = _WRITE[path.suffix.lower()]
    picture, coded = Image.fromarray(_as_bytes(image, path)), io.BytesIO()
    try:
        picture.save(coded, file_format, **options)  # to memory: Pillow passes over a disk that is full
        with whole(path) as temporary, temporary.open("xb") as file:
            file.write(coded.getbuffer())
    except OSError as error:
        raise ImageError(f"Cannot write {path}: {cause_of(error)}") from error
    except ValueError as error:
        raise ImageError(f"Cannot write {path} as {file_format}: {error}.") from error


def find_images(folder: str | Path, recursive: bool = True) -> list[Path]:
    """The images in a folder (and, by default, in its subfolders), sorted by their path relative to it.

    What counts is the suffix (`EXTENSIONS`, upper or lower case). Hidden files and folders are skipped, links to
    folders are not followed. Raises `DataError` if the folder is missing, unreadable, not a folder, or without images.
    """
    folder = Path(folder)
    if not folder.exists():
        raise DataError(f"Folder {folder} does not exist. Give the path of a folder of images.")
    if not folder.is_dir():
        raise DataError(f"{folder} is not a folder. Give the path of the folder that holds the images.")

    def unreadable(error: OSError) -> None:
        raise DataError(f"Cannot list folder {error.filename}: {cause_of(error)}") from error

    found: list[Path] = []
    others: Counter[str] = Counter()
    for root, folders, files in os.walk(folder, onerror=unreadable):
        folders[:] = [name for name in folders if recursive and not name.startswith(".")]
        for name in files:
            suffix = Path(name).suffix.lower()
            if not name.startswith(".") and suffix in EXTENSIONS:
                found.append(Path(root, name))
            else:
                others["hidden" if name.startswith(".") else suffix or "no suffix"] += 1
    if not found:
        kinds = ", ".join(f"{count} {suffix}" for suffix, count in others.most_common(4))
        seen = f"{others.total()} other files ({kinds})" if others else "no files"
        where = "" if recursive else " (subfolders not searched)"
        raise DataError(
            f"No images in {folder}{where}: saw {seen}. Images are files ending in {', '.join(EXTENSIONS)}."
        )
    return sorted(found, key=lambda path: path.relative_to(folder).as_posix())


@contextmanager
def opened_image(path: Path) -> Iterator[Image.Image]:
    """The file with its header read and its size checked; whatever fails inside becomes an `ImageError`."""
    try:
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            raise ImageError(f"Cannot read {path}: it is a folder, not an image.")
        if not stat.S_ISREG(mode):
            raise ImageError(f"Cannot read {path}: it is not a regular file.")
        if path.stat().st_size == 0:
            raise ImageError(f"Cannot read {path}: the file is empty (0 bytes).")
        with path.open("rb") as file, _header(file) as image:
            _check_size(image, path)
            if image.format == "TIFF" and _tag(image, 258) > 8 and _tag(image, 277) > 1 and _tag(image, 284) == 2:
                raise ImageError(
                    f"Cannot read {path}: a TIFF of {_tag(image, 258)} bits with each colour apart (planar). Save it "
                    "with the colours of a pixel together (contiguous), or as 16-bit PNG."
                )
            yield image
    except (ImageError, ConfigError):
        raise
    except Image.UnidentifiedImageError as error:
        raise ImageError(
            f"Cannot read {path}: its content is not an image in a known format, or its header is damaged "
            f"(read are {', '.join(_READ)})."
        ) from error
    except OSError as error:
        raise ImageError(f"Cannot read {path}: {cause_of(error, 'damaged or incomplete image')}") from error
    # Decoders answer damaged files with almost any exception: struct.error, SyntaxError, EOFError, ValueError, ...
    except Exception as error:
        raise ImageError(f"Cannot read {path}: damaged image ({str(error) or type(error).__name__}).") from error


def _header(file: Any) -> Image.Image:
    """Any: a binary file. Pillow's own limit, a global, is lifted for the moment: ours follows at once."""
    with _opening:
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            return Image.open(file, formats=_READ)
        finally:
            Image.MAX_IMAGE_PIXELS = limit


def _check_size(image: Image.Image, path: Path) -> None:
    written = os.environ.get(MAX_PIXELS_VARIABLE, "")
    if written and not written.isdecimal():
        raise ConfigError(f"{MAX_PIXELS_VARIABLE} is '{written}'; expected a number of pixels, such as {MAX_PIXELS}.")
    limit = int(written) if written else MAX_PIXELS
    width, height = image.size
    if width * height > limit:
        raise ImageError(
            f"Cannot read {path}: it has {width * height:,} pixels ({width} x {height}), the limit is {limit:,}. "
            f"Scale it down or cut it up; if you trust the file, set {MAX_PIXELS_VARIABLE} to a larger number."
        )


def _tag(image: Any, number: int) -> int:
    """A number that a TIFF's header tells (the first, of several), or what the specification has in its place. Any:
    Pillow's class of TIFF files alone has tags."""
    found = image.tag_v2.get(number, {258: 1, 277: 1, 284: 1}.get(number, -1))
    return int(found[0] if isinstance(found, tuple) else found)


def _rgb(image: Image.Image, path: Path) -> Bytes:
    """Decode to uint8 RGB, by mode, as stored."""
    if image.mode.startswith("I"):
        grey = ((deep_grey(image, path).astype(np.uint32) + 128) // 257).astype(np.uint8)
        return np.repeat(grey[..., None], 3, axis=2)
    if image.mode == "F":
        values = np.asarray(image)
        if not (values.min() >= 0 and values.max() <= 1):
            raise ImageError(
                f"Cannot read {path}: floating-point values from {values.min():g} to {values.max():g}, expected "
                "[0, 1]. Save it as 8-bit PNG."
            )
        return np.repeat(to_bytes(values)[..., None], 3, axis=2)
    if image.mode in ("P", "PA", "RGBa", "La"):  # by way of RGBA: from a palette with transparency Pillow warns
        image = image.convert("RGBA")
    return np.array(image.convert("RGB"))


def _as_bytes(image: NDArray[Any], path: Path) -> Bytes:
    """What is to be written, checked. Any: what callers hand over may be of any type."""
    array = np.asarray(image)
    if not (array.ndim == 2 or (array.ndim == 3 and array.shape[2] == 3)) or 0 in array.shape:
        raise ImageError(f"Cannot write {path}: array of shape {array.shape}, expected (h, w, 3) or (h, w).")
    if array.dtype == np.uint8:
        return np.ascontiguousarray(array)
    if not np.issubdtype(array.dtype, np.floating):
        raise ImageError(f"Cannot write {path}: array of {array.dtype}, expected uint8 or floating point in [0, 1].")
    low, high = float(array.min()), float(array.max())
    if not (low >= -1e-4 and high <= 1 + 1e-4):  # "not": also true of NaN
        raise ImageError(f"Cannot write {path}: values from {low:g} to {high:g}, expected [0, 1]. Clip or scale first.")
    return to_bytes(np.ascontiguousarray(array))
