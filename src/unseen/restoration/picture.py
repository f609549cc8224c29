"""A picture with all that its file holds beside the pixels: read at full depth, and written back whole."""

import errno
import io
import struct
import sys
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, JpegImagePlugin

from unseen.errors import ImageError, cause_of
from unseen.files import whole
from unseen.images import PEAK, deep_grey, opened_image, orientation_of, to_bytes, upright
from unseen.restoration.png import read_chunks, write_png
from unseen.restoration.tiff import own_tags, write_tiff

FORMATS = {
    ".png": "PNG",
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".webp": "WEBP",
    ".bmp": "BMP",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".ppm": "PPM",
}
"""What is written, by suffix. Everything else that is read becomes PNG."""

SUFFIXES = {"PNG": ".png", "JPEG": ".jpg", "MPO": ".jpg", "WEBP": ".webp", "BMP": ".bmp", "TIFF": ".tif", "PPM": ".ppm"}
"""The usual suffix of a format."""

DEEP = 65535
"""The largest 16-bit value."""

_LAYERS = 37724


@dataclass
class Picture:
    """`pixels` as stored: (h, w, 3), or (h, w) for grey; uint8, uint16, or float32 in [0, 1]. `alpha`: (h, w), or None.

    `upright(array)` is a view of such an array as it is looked at, by the EXIF `orientation`. `exif` is a TIFF block,
    `own` what only a file of the same `format` can hold: segments of a JPEG, chunks of a PNG. `options` are those of
    its coding. `notes` say what of the file is not kept, in words. Any: pixels may be of several types, and options
    differ from format to format.
    """

    pixels: NDArray[Any]
    alpha: NDArray[Any] | None = None
    format: str = "PNG"
    orientation: int = 1
    exif: bytes | None = None
    icc: bytes | None = None
    own: list[tuple[bytes, bytes]] = field(default_factory=list)
    options: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def upright(self, array: NDArray[Any]) -> NDArray[Any]:
        """A view of (h, w, ...) as it is looked at."""
        return upright(array, self.orientation)


def read_picture(path: str | Path) -> Picture:
    """The picture in a file. Of an animation, or of several pages, the first.

    16 bits stay 16 bits, grey stays grey; palettes, CMYK and other colours become RGB. Raises `ImageError`.
    """
    path = Path(path)
    with opened_image(path) as image:
        picture = Picture(np.empty((0, 0, 3), np.uint8), format=image.format or "PNG")
        notes = picture.notes
        if getattr(image, "is_animated", False):
            pages = "pictures" if picture.format in ("TIFF", "MPO") else "frames"
            notes.append(f"only the first of its {getattr(image, 'n_frames', 'several')} {pages} is restored")
        deep = _is_deep_colour(image)
        picture.options = _options(image, path)
        pixels, picture.alpha, what = _arrays(image, path, deep)
        if deep:
            pixels, picture.alpha, lost = _with_low_bytes(path, pixels, picture.alpha)
            what = lost or what
        picture.pixels = pixels
        if what:
            notes.append(what)
        try:
            exif = image.getexif()
        except Exception as error:  # of many classes: it may hold anything
            exif = Image.Exif()
            notes.append(f"its EXIF is damaged ({error or type(error).__name__}), and does not say how to turn it")
        picture.orientation = orientation_of(image)
        if picture.format == "TIFF":
            if _LAYERS in exif:
                notes.append("its layers are left out")
            try:
                picture.exif = own_tags(exif)
            except Exception as error:  # of many classes: tags may hold anything
                notes.append(f"its tags are damaged ({error or type(error).__name__}), and are left out")
        elif exif:
            picture.exif = (image.info.get("exif") or exif.tobytes()).removeprefix(b"Exif\0\0")
        if picture.format == "GIF" and "comment" in image.info:
            notes.append("its comment is left out")
        if image.mode in ("CMYK", "LAB", "YCbCr") and "icc_profile" in image.info:
            notes.append(f"the colour profile for {image.mode} is left out")
        else:
            picture.icc = image.info.get("icc_profile")
    if picture.format == "PNG":
        picture.own, unknown = read_chunks(path)
        if unknown:
            notes.append(f"its {', '.join(sorted(set(unknown)))} chunks are left out")
    elif picture.format in ("JPEG", "MPO"):
        picture.format = "JPEG"
        picture.own = [
            (kind, body) for kind, body in _segments(path) if kind != b"\xe2" or picture.icc or body[:3] != b"ICC"
        ]
    return picture


def suffix_of(path: Path) -> str:
    """The usual suffix of the format that a restored picture is written in. Raises `ImageError`."""
    with opened_image(path) as image:
        return SUFFIXES.get(image.format or "", ".png")


def write_picture(path: str | Path, picture: Picture) -> list[str]:
    """Write a picture in the suffix's format, whole or not at all. What that format cannot hold, in words.

    Raises `ImageError` on an unknown suffix, no permission, or a full disk.
    """
    path = Path(path)
    if path.suffix.lower() not in FORMATS:
        raise ImageError(f"Cannot write {path}: unknown suffix '{path.suffix}'. Use one of {', '.join(FORMATS)}.")
    with replaced(path) as temporary, temporary.open("xb") as file:
        form = FORMATS[path.suffix.lower()]
        try:
            return encode(file, picture, form)
        # What a format cannot hold: sides that are too long, too large a block of metadata.
        except (ValueError, TypeError, OverflowError, struct.error) as error:
            raise ImageError(f"Cannot write {path} as {form}: {error}.") from error


@contextmanager
def replaced(path: Path) -> Iterator[Path]:
    """As `whole`; what the system says against it is an ImageError."""
    try:
        with whole(path) as temporary:
            yield temporary
    except OSError as error:
        raise ImageError(f"Cannot write {path}: {cause_of(error)}") from error


def is_full(error: BaseException) -> bool:
    """Whether an error comes of a full disk: what follows would fail too."""
    cause = error.__cause__
    return isinstance(cause, OSError) and cause.errno in (errno.ENOSPC, errno.EDQUOT)


def encode(file: BinaryIO, picture: Picture, form: str) -> list[str]:
    """Write a picture in the format `form`. What that cannot hold, in words."""
    lost = []
    same = picture.format == form
    layers: list[NDArray[Any]] = [picture.pixels] if picture.alpha is None else [picture.pixels, picture.alpha]
    if layers[0].dtype == np.float32 and form != "TIFF":
        layers = [np.rint(layer * DEEP).astype(np.uint16) for layer in layers]
        lost.append(f"{form} holds no floating point")
    if layers[0].dtype == np.uint16 and form not in ("PNG", "TIFF"):
        layers = [to_bytes(layer / np.float32(DEEP)) for layer in layers]
        lost.append(f"{form} holds 8 bits")
    if len(layers) > 1 and form in ("JPEG", "BMP", "PPM"):
        layers.pop()
        lost.append(f"{form} holds no transparency")
    if (picture.exif or picture.icc) and form in ("BMP", "PPM"):
        lost.append(f"{form} holds no metadata")
    if not same and (picture.options.get("xmp") or (picture.own and _is_more(picture))):
        lost.append(f"of its metadata, {form} gets EXIF and the colour profile")
    match form:
        case "PNG":
            write_png(file, layers, picture.own if same else _chunks(picture))
        case "TIFF":
            write_tiff(file, layers, picture.exif, picture.icc, picture.options.get("packed", True))
        case "JPEG":
            _write_jpeg(file, layers[0], picture, same)
        case "WEBP":
            options: dict[str, Any] = (
                {"quality": 95, "method": 4}
                if picture.options.get("lossy")
                else {"lossless": True, "exact": True}  # also the colours of what is transparent
            )
            options |= {name: value for name in ("exif", "xmp") if (value := picture.options.get(name)) is not None}
            if picture.exif and not same:
                options["exif"] = b"Exif\0\0" + picture.exif
            _encode(file, _fused(layers), form, icc_profile=picture.icc, **options)
        case _:
            _encode(file, _fused(layers), form)
    return lost


def _encode(file: BinaryIO, image: Image.Image, form: str, **options: Any) -> None:
    """Pillow's encoders write past a file's object, and pass over a disk that takes a part of what they write: they get
    memory."""
    coded = io.BytesIO()
    image.save(coded, form, **options)
    file.write(coded.getbuffer())


def _is_deep_colour(image: Image.Image) -> bool:
    """Whether Pillow would keep the upper bytes only. Of CMYK they are all that is kept: it becomes RGB."""
    return image.mode != "CMYK" and any(
        ";16" in _raw(tile) and not _raw(tile).startswith("I") for tile in getattr(image, "tile", [])
    )


def _raw(tile: Any) -> str:
    """Any: Pillow's description of a piece of a file. The name of how its samples are stored."""
    args = tile[3]
    first = args if isinstance(args, str) else args[0] if isinstance(args, tuple | list) and args else ""
    return first if isinstance(first, str) else ""


def _stored_as(tile: Any, raw: str) -> Any:
    """The same piece of a file, its samples stored in another way."""
    args = raw if isinstance(tile[3], str) else (raw, *tile[3][1:])
    return tile._replace(args=args) if hasattr(tile, "_replace") else (*tile[:3], args)


def _with_low_bytes(
    path: Path, high: NDArray[np.uint8], alpha: NDArray[np.uint8] | None
) -> tuple[NDArray[Any], NDArray[Any] | None, str]:
    """16-bit colour, of which Pillow decodes the upper bytes: it is asked for the lower ones in a second pass, as if
    they were the upper ones of the other byte order. What could not be kept, in words."""
    with opened_image(path) as image:
        raw = _raw(image.tile[0])  # type: ignore[attr-defined]
        grey = raw == "LA;16B"
        if grey:  # decoded as RGBA, its four bytes are those of grey and of alpha
            other = "RGBA"
        elif raw.startswith("RGBa"):
            return high, alpha, "its 16 bits become 8, because its colours are multiplied with its transparency"
        else:
            native = "L" if sys.byteorder == "little" else "B"
            order = native if raw[-1] == "N" else raw[-1]
            other = raw[:-1] + ("B" if order == "L" else "L")
        image.tile = [_stored_as(tile, other) for tile in image.tile]  # type: ignore[attr-defined]
        low = np.asarray(image)
        key = image.info.get("transparency")
    if grey:
        joined = np.ascontiguousarray(low).view(">u2").astype(np.uint16)
        return joined[..., 0], joined[..., 1], ""
    pixels = _joined(high, low[..., :3])
    if alpha is not None and low.shape[2] == 4:
        return pixels, _joined(alpha, low[..., 3]), ""
    if isinstance(key, tuple):  # one colour that is transparent
        return pixels, np.where((pixels == key).all(-1), 0, DEEP).astype(np.uint16), ""
    return pixels, None, ""


def _joined(high: NDArray[np.uint8], low: NDArray[np.uint8]) -> NDArray[np.uint16]:
    joined = high.astype(np.uint16)
    joined <<= 8
    joined |= low
    return joined


def _arrays(image: Image.Image, path: Path, deep: bool) -> tuple[NDArray[Any], NDArray[Any] | None, str]:
    """Pixels and alpha, by mode, and what became of the colours, in words."""
    mode = image.mode
    if mode.startswith("I"):
        pixels, key = deep_grey(image, path), image.info.get("transparency")
        return pixels, None if key is None else np.where(pixels == key, 0, DEEP).astype(np.uint16), ""
    if mode == "F":
        values = np.array(image)
        if not (values.min() >= 0 and values.max() <= 1):
            raise ImageError(
                f"Cannot read {path}: floating-point values from {values.min():g} to {values.max():g}, expected "
                "[0, 1]. Save it as 16-bit PNG."
            )
        return values, None, ""
    what = (
        ""
        if mode in ("1", "L", "LA", "La", "RGB", "RGBA", "RGBX", "RGBa")
        else f"its {_NAMES.get(mode, mode)} became RGB"
    )
    tile = next(iter(getattr(image, "tile", [])), None)
    if image.format == "PPM" and tile is not None and isinstance(tile[3], tuple) and max(tile[3][1:], default=0) > PEAK:
        what = "its 16 bits become 8: as PNG they would stay"
    grey = mode in ("1", "L", "LA", "La")
    key, depth = image.info.get("transparency"), _depth_of_grey(image, path)
    if depth < 8 and isinstance(key, int):  # Pillow scales the pixels, and leaves the colour that is transparent
        image.info["transparency"] = key * PEAK // (2**depth - 1)
    # From a palette, or a transparent colour, by way of alpha; Pillow warns of other ways.
    if mode in ("LA", "La", "RGBA", "RGBa", "PA") or ("transparency" in image.info and not deep):
        values = np.asarray(image.convert("RGBA"))
        return np.array(values[..., 0] if grey else values[..., :3]), np.array(values[..., 3]), what
    return np.array(image.convert("L" if grey else "RGB")), None, what


def _depth_of_grey(image: Image.Image, path: Path) -> int:
    """The bits of a grey PNG's pixels; 8 of all else."""
    if image.format != "PNG" or image.mode != "L":
        return 8
    with path.open("rb") as file:
        return (file.read(25) or b"\x08")[-1]


_NAMES = {"P": "palette", "PA": "palette"}


def _options(image: Image.Image, path: Path) -> dict[str, Any]:
    """How the file codes its pixels, as far as it can be repeated."""
    info = image.info
    if isinstance(image, JpegImagePlugin.JpegImageFile):
        options: dict[str, Any] = {"quality": 95, "subsampling": 0}
        if image.mode in ("L", "RGB") and all(max(table) <= PEAK for table in image.quantization.values()):
            sampling = JpegImagePlugin.get_sampling(image)
            options = {"qtables": image.quantization, "subsampling": max(0, sampling)}
        if info.get("progressive"):
            options["progressive"] = True
        if "dpi" in info:
            options["dpi"] = info["dpi"]
        return options
    if image.format == "TIFF":
        return {"packed": info.get("compression", "raw") != "raw"}
    if image.format == "WEBP":
        return {"lossy": not _is_lossless_webp(path)} | {name: info.get(name) for name in ("exif", "xmp")}
    return {}


def _write_jpeg(file: BinaryIO, pixels: NDArray[np.uint8], picture: Picture, same: bool) -> None:
    options: dict[str, Any] = dict(picture.options) if same else {"quality": 95, "subsampling": 0}
    if not same and picture.exif:
        options["exif"] = b"Exif\0\0" + picture.exif
    if not same and picture.icc:
        options["icc_profile"] = picture.icc
    if not (same and picture.own):
        _encode(file, Image.fromarray(pixels), "JPEG", **options)
        return
    coded = io.BytesIO()
    Image.fromarray(pixels).save(coded, "JPEG", **options)
    content = coded.getbuffer()
    begin = 2  # after the start, and after the JFIF segment, which must come first
    if bytes(content[2:4]) == b"\xff\xe0":
        begin += 2 + int.from_bytes(content[4:6], "big")
    file.write(content[:begin])
    for kind, body in picture.own:
        file.write(b"\xff" + kind + struct.pack(">H", len(body) + 2) + body)
    file.write(content[begin:])


def _segments(path: Path) -> list[tuple[bytes, bytes]]:
    """The segments of a JPEG that say something beside its coding: APP1 to APP15 and comments, as they are.

    Left out are those that its encoder makes itself (JFIF, Adobe) and the index of further pictures (MPF).
    """
    found = []
    with path.open("rb") as file:
        file.seek(2)
        while file.read(1) == b"\xff":
            kind = file.read(1)
            while kind == b"\xff":  # fill bytes
                kind = file.read(1)
            if len(size := file.read(2)) < 2 or kind == b"\xda":
                break
            length = int.from_bytes(size, "big") - 2
            if kind == b"\xfe" or (b"\xe1" <= kind <= b"\xef" and kind != b"\xee"):
                body = file.read(length)
                if not (kind == b"\xe2" and body.startswith(b"MPF\0")):
                    found.append((kind, body))
            else:
                file.seek(length, 1)
    return found


def _is_more(picture: Picture) -> bool:
    """Whether `own` holds more than EXIF, a colour profile and what describes the display."""
    if picture.format == "PNG":
        return any(kind in (b"tEXt", b"zTXt", b"iTXt") for kind, _ in picture.own)
    return any(not body.startswith((b"Exif\0\0", b"ICC_PROFILE\0")) for _, body in picture.own)


def _chunks(picture: Picture) -> list[tuple[bytes, bytes]]:
    chunks = []
    if picture.icc:
        chunks.append((b"iCCP", b"ICC profile\0\0" + zlib.compress(picture.icc)))
    if picture.exif:
        chunks.append((b"eXIf", picture.exif))
    return chunks


def _is_lossless_webp(path: Path) -> bool:
    """Whether the first picture of a WebP file is coded without loss: its chunks tell."""
    with path.open("rb") as file:
        file.seek(12)
        while len(head := file.read(8)) == 8:
            kind, length = struct.unpack("<4sI", head)
            if kind in (b"VP8L", b"VP8 "):
                return kind == b"VP8L"
            if kind == b"ANMF":
                file.seek(16, 1)  # a frame's own header, then its chunks
            else:
                file.seek(length + length % 2, 1)
    return True


def _fused(layers: list[NDArray[Any]]) -> Image.Image:
    """Grey or RGB, with alpha or without. Any: uint8."""
    fused = layers[0] if len(layers) == 1 else np.dstack(layers)
    return Image.fromarray(np.ascontiguousarray(fused))
