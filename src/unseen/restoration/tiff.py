"""TIFF files written at 8 and 16 bits and as floating point, with the tags of the file that they come from.

After the specification (Adobe, TIFF 6.0). Pillow writes no 16-bit colour; its directory of tags is used.
"""

import zlib
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, TiffTags
from PIL.TiffImagePlugin import ImageFileDirectory_v2

CODING = {
    *range(254, 260),  # kind and size of the picture, depth, compression
    *(262, 266, 273, 277, 278, 279, 280, 281, 284, 288, 289, 292, 293, 297, 301, 317, 318, 319, 320, 322, 323, 324),
    *(325, 330, 332, 338, 339, 340, 341, 347, 512, 513, 514, 515, 517, 518, 519, 520, 521, 529, 530, 531, 532),
    *(34675, 37724),
}
"""Tags that belong to the coding of the pixels, to copies of them (thumbnails, layers), or are given apart (ICC)."""

_INNER = (0x8769, 0x8825)
"""Tags that are directories of their own: EXIF and GPS."""

_STRIP = 2**20
"""Bytes per strip, at most."""


def own_tags(exif: Image.Exif) -> bytes:
    """The tags of a TIFF file, less those of its coding, as an EXIF block. Any exception where they are damaged."""
    for tag in CODING & set(exif):
        del exif[tag]
    own = exif.tobytes()
    _tags(own).tobytes()  # raises here, where it can be told, rather than when it is written
    return own


def write_tiff(file: BinaryIO, layers: list[NDArray[Any]], exif: bytes | None, icc: bytes | None, packed: bool) -> None:
    """Write `layers`, arrays (h, w) or (h, w, 3) of one type that are stacked: grey or RGB, and alpha or none.

    Any: uint8, uint16 or float32. `packed`: compress with deflate, without loss.
    """
    height, width = layers[0].shape[:2]
    colours = 1 if layers[0].ndim == 2 else 3
    samples = colours + len(layers) - 1
    dtype = layers[0].dtype
    tags = _tags(exif)
    rows = max(1, _STRIP // (width * samples * dtype.itemsize))
    predicted = packed and dtype.kind == "u"
    strips = []
    for top in range(0, height, rows):
        band = np.dstack([layer[top : top + rows] for layer in layers])
        if predicted:
            band[:, 1:] = np.diff(band, axis=1)
        stored = band.astype(dtype.newbyteorder("<"), copy=False).tobytes()
        strips.append(zlib.compress(stored, 6) if packed else stored)
    starts = np.cumsum([0, *map(len, strips[:-1])])
    tags[256], tags[257], tags[258] = width, height, (8 * dtype.itemsize,) * samples
    tags[259], tags[262], tags[277], tags[278] = 8 if packed else 1, 1 if colours == 1 else 2, samples, rows
    tags[339] = ({"u": 1, "f": 3}[dtype.kind],) * samples
    if predicted:
        tags[317] = 2
    if samples > colours:
        tags[338] = (2,)  # alpha that the colours are not multiplied with
    if icc:
        tags.tagtype[34675] = TiffTags.UNDEFINED
        tags[34675] = icc
    for tag in (273, 279):
        tags.tagtype[tag] = TiffTags.LONG
    tags[273], tags[279] = tuple(int(start) for start in starts), tuple(map(len, strips))  # shifted when written
    tags.save(file)
    for strip in strips:
        file.write(strip)


def _tags(exif: bytes | None) -> ImageFileDirectory_v2:
    """The tags of an EXIF block, those of the camera and of the place among them."""
    tags = ImageFileDirectory_v2()
    if not exif:
        return tags
    found = Image.Exif()
    found.load(exif)
    for tag in set(found) - CODING:
        value = found.get_ifd(tag) if tag in _INNER else found[tag]
        if isinstance(value, dict):
            value = {inner: each for inner, each in value.items() if not isinstance(each, dict)}
            tags.tagtype[tag] = TiffTags.LONG
        tags[tag] = value
    return tags
