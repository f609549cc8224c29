"""What happens between an uploaded file and what the page shows: plain functions, which know of no page."""

import io
import time
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from unseen.app.offers import Offer
from unseen.errors import ImageError
from unseen.images import to_bytes
from unseen.restoration import Picture, read_picture, write_picture
from unseen.restoration.picture import FORMATS, SUFFIXES
from unseen.restoration.run import removed, restore_picture
from unseen.restoration.tiles import as_floats, blended

PREVIEW = 2560
"""The longer side of what is shown, in pixels, at most. What is saved has all of them."""

QUALITY = 92
"""Of the JPEGs that are shown, with full colour resolution. What is saved is coded as the input was."""


@dataclass(frozen=True)
class Restored:
    """A picture and what a model made of it, `pixels`, at full strength and as stored. `name` is that of its file,
    `model` that of the model, which took `seconds`; `notes` are what it has to say."""

    name: str
    picture: Picture
    pixels: NDArray[Any]  # Any: as the picture's
    model: str
    seconds: float
    notes: tuple[str, ...] = ()

    @property
    def size(self) -> tuple[int, int]:
        """(h, w) in pixels, as it is looked at."""
        height, width = self.picture.upright(self.picture.pixels).shape[:2]
        return height, width

    @cached_property
    def before(self) -> bytes:
        """What was uploaded, as a JPEG to be shown."""
        return _preview(self.picture, self.picture.pixels)


@dataclass(frozen=True)
class Shown:
    """Files to be shown: before and after, of one size, and what was taken out, as `unseen restore --difference`."""

    before: Path
    after: Path
    removed: Path


def restore_upload(path: Path, offer: Offer) -> Restored:
    """The picture in a file, restored. ImageError says what is wrong with it, by its name alone; DataError where
    memory is too short."""
    try:
        picture = read_picture(path)
    except ImageError as error:
        raise ImageError(str(error).replace(str(path), path.name)) from error
    return _restore(path.name, picture, offer)


def restore_again(restored: Restored, offer: Offer) -> Restored:
    """The same picture, by another model."""
    return _restore(restored.name, restored.picture, offer, restored)


def _restore(name: str, picture: Picture, offer: Offer, earlier: Restored | None = None) -> Restored:
    began = time.perf_counter()
    pixels = restore_picture(picture, offer.tiler)
    notes = () if offer.tiler.taken.all() else ("it is taken for clean, and left as it is; another model may not",)
    found = Restored(name, picture, pixels, offer.name, time.perf_counter() - began, notes)
    if earlier is not None and "before" in vars(earlier):
        vars(found)["before"] = earlier.before
    return found


def shown(restored: Restored, strength: float, folder: Path) -> Shown:
    """Write what the page shows at this strength into `folder`."""
    picture = restored.picture
    pixels = blended(picture.pixels, restored.pixels, strength)
    files = Shown(folder / "before.jpg", folder / "after.jpg", folder / "removed.jpg")
    files.before.write_bytes(restored.before)
    files.after.write_bytes(_preview(picture, pixels))
    difference = removed(picture.upright(picture.pixels), picture.upright(pixels))
    files.removed.write_bytes(_preview(Picture(difference), difference))
    return files


def saved(restored: Restored, strength: float, folder: Path) -> tuple[Path, list[str]]:
    """Write NAME-restored into `folder`, in the format of the input and with all that its file held beside the pixels.
    The file, and in words what that format cannot hold."""
    picture, name = restored.picture, Path(restored.name)
    own = name.suffix if FORMATS.get(name.suffix.lower()) == picture.format else SUFFIXES.get(picture.format, ".png")
    path = folder / f"{name.stem}-restored{own}"
    lost = write_picture(path, replace(picture, pixels=blended(picture.pixels, restored.pixels, strength)))
    return path, lost


def _preview(picture: Picture, pixels: NDArray[Any]) -> bytes:
    """A JPEG of `pixels`, upright, in 8 bits, on white where the picture is transparent, in its own colours."""
    image = Image.fromarray(_bytes(picture.upright(pixels)))
    image.thumbnail((PREVIEW, PREVIEW), reducing_gap=2)
    if picture.alpha is not None:
        alpha = Image.fromarray(_bytes(picture.upright(picture.alpha))).resize(image.size)
        image = Image.composite(image, Image.new(image.mode, image.size, "white"), alpha)
    file = io.BytesIO()
    image.save(file, "JPEG", quality=QUALITY, subsampling=0, icc_profile=picture.icc)
    return file.getvalue()


def _bytes(values: NDArray[Any]) -> NDArray[np.uint8]:
    return np.ascontiguousarray(values) if values.dtype == np.uint8 else to_bytes(as_floats(values))
