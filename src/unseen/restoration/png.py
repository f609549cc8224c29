"""PNG files written at 8 and 16 bits, with the chunks of the file that they come from.

After the specification (W3C, Portable Network Graphics, third edition). Pillow writes no 16-bit colour, and no chunks
of another file.
"""

import struct
import zlib
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

Chunk = tuple[bytes, bytes]
"""Type and content."""

SIGNATURE = b"\x89PNG\r\n\x1a\n"

KEPT = {
    *(b"cHRM", b"gAMA", b"iCCP", b"sRGB", b"cICP", b"mDCV", b"cLLI", b"pHYs"),
    *(b"tIME", b"tEXt", b"zTXt", b"iTXt", b"eXIf"),
}
"""What says something of the picture that is still true when its pixels have changed."""

SPENT = {b"IHDR", b"PLTE", b"IDAT", b"IEND", b"tRNS", b"acTL", b"fcTL", b"fdAT", b"bKGD", b"sBIT", b"hIST", b"sPLT"}
"""What belongs to the coding of the pixels, and is written anew or has become void."""

_BAND = 2**22
"""Bytes that are filtered at a time."""


def read_chunks(path: Path) -> tuple[list[Chunk], list[str]]:
    """The chunks that are kept, and the names of those that are not understood."""
    kept, unknown = [], []
    with path.open("rb") as file:
        file.seek(len(SIGNATURE))
        while len(head := file.read(8)) == 8:
            length, kind = struct.unpack(">I4s", head)
            if kind in KEPT:
                kept.append((kind, file.read(length)))
                file.seek(4, 1)
            else:
                if kind not in SPENT and kind.isalpha():
                    unknown.append(kind.decode("ascii"))
                if kind == b"IEND":  # what follows is no part of the picture
                    break
                file.seek(length + 4, 1)
    return kept, unknown


def write_png(file: BinaryIO, layers: list[NDArray[Any]], chunks: list[Chunk]) -> None:
    """Write `layers`, arrays (h, w) or (h, w, 3) of one type that are stacked: grey or RGB, and alpha or none.

    Any: uint8 or uint16.
    """
    height, width = layers[0].shape[:2]
    channels = sum(1 if layer.ndim == 2 else layer.shape[2] for layer in layers)
    depth = 8 * layers[0].itemsize
    file.write(SIGNATURE)
    _write(file, b"IHDR", struct.pack(">IIBBBBB", width, height, depth, {1: 0, 2: 4, 3: 2, 4: 6}[channels], 0, 0, 0))
    for kind, content in chunks:
        _write(file, kind, content)
    packer = zlib.compressobj(6, strategy=zlib.Z_FILTERED)
    pixel = channels * depth // 8
    rows = max(1, _BAND // (width * pixel))
    above = np.zeros((1, width * pixel), np.uint8)
    for top in range(0, height, rows):
        band = np.dstack([layer[top : top + rows] for layer in layers])
        stored = band.astype(band.dtype.newbyteorder(">"), copy=False).reshape(len(band), -1).view(np.uint8)
        if packed := packer.compress(_filtered(stored, above, pixel)):
            _write(file, b"IDAT", packed)
        above = stored[-1:]
    _write(file, b"IDAT", packer.flush())
    _write(file, b"IEND", b"")


def _filtered(stored: NDArray[np.uint8], above: NDArray[np.uint8], pixel: int) -> bytes:
    """Rows of bytes less Paeth's prediction from the left, the row above and its left (filter 4)."""
    current = stored.astype(np.int16)
    up = np.concatenate((above.astype(np.int16), current[:-1]))
    left, corner = np.zeros_like(current), np.zeros_like(current)
    left[:, pixel:] = current[:, :-pixel]
    corner[:, pixel:] = up[:, :-pixel]
    to_left, to_up = np.abs(up - corner), np.abs(left - corner)
    to_corner = np.abs(left + up - 2 * corner)
    predicted = np.where(to_up <= to_corner, up, corner)
    predicted = np.where((to_left <= to_up) & (to_left <= to_corner), left, predicted)
    rows = np.empty((len(stored), stored.shape[1] + 1), np.uint8)
    rows[:, 0] = 4
    rows[:, 1:] = (current - predicted).astype(np.uint8)  # modulo 256
    return rows.tobytes()


def _write(file: BinaryIO, kind: bytes, content: bytes) -> None:
    file.write(struct.pack(">I", len(content)) + kind)
    file.write(content)
    file.write(struct.pack(">I", zlib.crc32(content, zlib.crc32(kind))))
