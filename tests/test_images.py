"""Files in, arrays out, and back: every kind of file that users have, and every way in which one can be broken."""

import errno
import io
import os
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from unseen.errors import ConfigError, DataError, ImageError
from unseen.images import EXTENSIONS, MAX_PIXELS, MAX_PIXELS_VARIABLE, find_images, image_size, read_image, write_image

LOSSLESS = (".png", ".webp", ".bmp", ".tif", ".tiff", ".ppm")


@pytest.fixture(scope="module")
def photo() -> np.ndarray:
    """(60, 80, 3): smooth, with some noise, so that no codec finds it trivial."""
    rows, columns = np.mgrid[:60, :80]
    smooth = np.stack([rows * 4, columns * 3, 255 - rows * 2 - columns], -1)
    grain = (rows * 7919 + columns * 104729) % 23
    return np.clip(smooth + grain[..., None], 0, 255).astype(np.uint8)


def png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def raw_png(width: int, height: int, depth: int, colour: int, data: bytes) -> bytes:
    """A PNG by hand: claims any size, and has the modes that Pillow does not write (16-bit RGB)."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + png_chunk(b"IHDR", header)
        + png_chunk(b"IDAT", zlib.compress(data))
        + png_chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("suffix", LOSSLESS)
def test_lossless_formats_return_what_was_written(suffix: str, photo: np.ndarray, tmp_path: Path) -> None:
    write_image(tmp_path / f"a{suffix}", photo)
    assert np.array_equal(read_image(tmp_path / f"a{suffix}"), photo)


@pytest.mark.parametrize("suffix", [".jpg", ".jpeg", ".JPG"])
def test_jpeg_returns_nearly_what_was_written(suffix: str, photo: np.ndarray, tmp_path: Path) -> None:
    write_image(tmp_path / f"a{suffix}", photo)
    assert np.abs(read_image(tmp_path / f"a{suffix}").astype(int) - photo).mean() < 3


def test_floats_are_rounded_to_the_nearest_byte(tmp_path: Path) -> None:
    write_image(tmp_path / "a.png", np.array([[0.0, 1.0, 0.4999 / 255, 0.5001 / 255, 127.4 / 255]], dtype=np.float32))
    assert read_image(tmp_path / "a.png")[0, :, 0].tolist() == [0, 255, 0, 1, 127]


def test_one_pixel_is_an_image(tmp_path: Path) -> None:
    write_image(tmp_path / "a.png", np.full((1, 1, 3), 7, np.uint8))
    assert read_image(tmp_path / "a.png").tolist() == [[[7, 7, 7]]]


def test_what_is_read_is_writable_contiguous_bytes(photo: np.ndarray, tmp_path: Path) -> None:
    Image.fromarray(photo[..., 0]).save(tmp_path / "a.png")
    image = read_image(str(tmp_path / "a.png"))
    assert image.dtype == np.uint8
    assert image.flags.writeable
    assert image.flags.c_contiguous


def test_grey_has_three_equal_channels(photo: np.ndarray, tmp_path: Path) -> None:
    Image.fromarray(photo[..., 0]).save(tmp_path / "a.png")
    assert np.array_equal(read_image(tmp_path / "a.png"), np.repeat(photo[..., :1], 3, axis=2))


def test_one_bit_becomes_black_and_white(tmp_path: Path) -> None:
    Image.fromarray(np.array([[0, 255]], np.uint8)).convert("1").save(tmp_path / "a.png")
    assert read_image(tmp_path / "a.png")[0, :, 0].tolist() == [0, 255]


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_alpha_is_dropped_without_blending(mode: str, photo: np.ndarray, tmp_path: Path) -> None:
    colour = Image.fromarray(photo).convert("L" if mode == "LA" else "RGB")
    colour.putalpha(Image.fromarray(photo[..., 1]))
    assert colour.mode == mode
    colour.save(tmp_path / "a.png")
    assert np.array_equal(read_image(tmp_path / "a.png"), np.array(colour.convert("RGB")))


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("transparency", [None, 3, bytes([0, 128, 255])])
def test_palettes_become_colours(transparency: int | bytes | None, photo: np.ndarray, tmp_path: Path) -> None:
    palette = Image.fromarray(photo).quantize(16)
    if transparency is None:
        palette.save(tmp_path / "a.png")
    else:
        palette.save(tmp_path / "a.png", transparency=transparency)
    assert np.array_equal(read_image(tmp_path / "a.png"), np.array(palette.convert("RGB")))


def test_cmyk_becomes_rgb(photo: np.ndarray, tmp_path: Path) -> None:
    Image.fromarray(photo).convert("CMYK").save(tmp_path / "a.tif")
    assert np.abs(read_image(tmp_path / "a.tif").astype(int) - photo).max() <= 2


@pytest.mark.parametrize("mode", ["I;16", "I;16B", "I"])
def test_sixteen_bit_grey_is_scaled_to_eight(mode: str, tmp_path: Path) -> None:
    values = np.array([[0, 128, 129, 257, 65535, 32768]])
    kind = {"I;16": "<u2", "I;16B": ">u2", "I": "i4"}[mode]
    path = tmp_path / ("a.png" if mode == "I;16" else "a.tif")
    Image.frombytes(mode, (6, 1), values.astype(kind).tobytes()).save(path)
    assert read_image(path)[0].tolist() == [[grey] * 3 for grey in (0, 0, 1, 1, 255, 128)]


def test_sixteen_bit_colour_keeps_the_upper_byte(tmp_path: Path) -> None:
    samples = struct.pack(">6H", 0, 0x8001, 0xFFFF, 0x1234, 0x0100, 0xFE80)
    (tmp_path / "a.png").write_bytes(raw_png(2, 1, 16, 2, b"\0" + samples))
    image = read_image(tmp_path / "a.png").astype(int)
    assert np.abs(image - [[[0, 0x80, 0xFF], [0x12, 0x01, 0xFE]]]).max() <= 1


def test_floating_point_in_unit_range_is_read_and_other_ranges_are_refused(tmp_path: Path) -> None:
    Image.fromarray(np.array([[0, 0.5, 1]], np.float32)).save(tmp_path / "a.tif")
    assert read_image(tmp_path / "a.tif")[0, :, 0].tolist() == [0, 128, 255]
    for bad in (2.0, -0.1, np.nan):
        Image.fromarray(np.array([[0, bad]], np.float32)).save(tmp_path / "b.tif")
        with pytest.raises(ImageError, match="floating-point values"):
            read_image(tmp_path / "b.tif")


def test_integers_beyond_sixteen_bits_are_refused(tmp_path: Path) -> None:
    Image.fromarray(np.array([[0, 70000]], np.int32)).save(tmp_path / "a.tif")
    with pytest.raises(ImageError, match="0 to 70000"):
        read_image(tmp_path / "a.tif")


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif", ".webp"])
def test_the_size_is_that_of_what_is_read(orientation: int, suffix: str, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.new("RGB", (12, 7)).save(tmp_path / f"a{suffix}", exif=exif)
    assert image_size(tmp_path / f"a{suffix}") == read_image(tmp_path / f"a{suffix}").shape[:2]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(orientation: int, photo: np.ndarray, tmp_path: Path) -> None:
    upright = {
        1: photo,
        2: photo[:, ::-1],
        3: photo[::-1, ::-1],
        4: photo[::-1],
        5: photo.transpose(1, 0, 2),
        6: np.rot90(photo, -1),
        7: photo[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(photo, 1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(photo).save(tmp_path / "a.png", exif=exif)
    assert np.array_equal(read_image(tmp_path / "a.png"), upright)
    assert image_size(tmp_path / "a.png") == upright.shape[:2]


def test_of_an_animation_the_first_frame_is_read(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (5, 4), colour) for colour in ("red", "lime", "blue")]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    assert read_image(tmp_path / "a.gif").reshape(-1, 3).tolist() == [[255, 0, 0]] * 20


def test_the_content_counts_not_the_suffix(photo: np.ndarray, tmp_path: Path) -> None:
    Image.fromarray(photo).save(tmp_path / "a.png", "BMP")
    assert np.array_equal(read_image(tmp_path / "a.png"), photo)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "empty"),
        (b"Dear reader,\n" * 20, "not an image"),
        (b"\x89PNG\r\n\x1a\n", "Cannot read"),
        (bytes(300), "not an image"),
    ],
    ids=["empty", "text", "signature only", "zeros"],
)
def test_what_is_no_image_is_an_error(content: bytes, words: str, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(content)
    for reader in (read_image, image_size):
        with pytest.raises(ImageError, match=words) as caught:
            reader(tmp_path / "a.png")
        assert "a.png" in str(caught.value)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("share", [0.02, 0.3, 0.6, 0.9])
@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".bmp", ".tif", ".ppm", ".gif"])
def test_a_file_cut_short_is_an_error(suffix: str, share: float, photo: np.ndarray, tmp_path: Path) -> None:
    whole = io.BytesIO()
    Image.fromarray(photo).save(whole, Image.registered_extensions()[suffix])
    content = whole.getvalue()
    (tmp_path / f"a{suffix}").write_bytes(content[: int(len(content) * share)])
    with pytest.raises(ImageError, match=f"a{suffix}"):
        read_image(tmp_path / f"a{suffix}")


def test_a_damaged_file_is_an_error(photo: np.ndarray, tmp_path: Path) -> None:
    write_image(tmp_path / "a.png", photo)
    content = bytearray((tmp_path / "a.png").read_bytes())
    middle = len(content) // 2
    content[middle : middle + 40] = bytes(40)
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(ImageError, match=r"a\.png"):
        read_image(tmp_path / "a.png")


def test_a_missing_file_and_a_folder_are_errors(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="no such file"):
        read_image(tmp_path / "none.png")
    with pytest.raises(ImageError, match="is a folder"):
        read_image(tmp_path)
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(ImageError, match="not a regular file"):
        read_image(tmp_path / "pipe.png")


def test_a_file_without_permission_is_an_error(
    photo: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_image(tmp_path / "a.png", photo)

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)  # not chmod: root may read everything
    with pytest.raises(ImageError, match=r"a\.png: permission denied"):
        read_image(tmp_path / "a.png")
    with pytest.raises(ImageError, match=r"b\.png: permission denied"):
        write_image(tmp_path / "b.png", photo)


def test_a_claim_of_too_many_pixels_is_refused_before_decoding(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(raw_png(20000, 20000, 1, 0, b""))
    limit = Image.MAX_IMAGE_PIXELS
    with pytest.raises(ImageError) as caught:
        read_image(tmp_path / "a.png")
    for part in ("400,000,000", "20000 x 20000", f"{MAX_PIXELS:,}", MAX_PIXELS_VARIABLE):
        assert part in str(caught.value)
    assert limit == Image.MAX_IMAGE_PIXELS


def test_the_limit_on_pixels_can_be_moved(photo: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_image(tmp_path / "a.png", photo)
    monkeypatch.setenv(MAX_PIXELS_VARIABLE, "4799")
    with pytest.raises(ImageError, match="4,800 pixels"):
        read_image(tmp_path / "a.png")
    monkeypatch.setenv(MAX_PIXELS_VARIABLE, "4800")
    assert read_image(tmp_path / "a.png").shape == photo.shape
    monkeypatch.setenv(MAX_PIXELS_VARIABLE, "many")
    with pytest.raises(ConfigError, match="many"):
        read_image(tmp_path / "a.png")


def test_writing_makes_parent_folders_and_replaces_files(photo: np.ndarray, tmp_path: Path) -> None:
    path = tmp_path / "x" / "y" / "a.png"
    write_image(path, photo)
    write_image(path, photo[:5])
    assert read_image(path).shape == (5, 80, 3)
    assert [file.name for file in path.parent.iterdir()] == ["a.png"]


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
def test_a_failed_write_keeps_the_old_file_and_leaves_nothing_behind(
    code: int, photo: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_image(tmp_path / "a.png", photo)

    def fail(_: object, file: io.BufferedWriter, *__: object, **___: object) -> None:
        file.write(b"half of a picture")
        raise OSError(code, os.strerror(code))

    with monkeypatch.context() as patch:
        patch.setattr(Image.Image, "save", fail)
        with pytest.raises(ImageError, match="is full" if code == errno.ENOSPC else "error"):
            write_image(tmp_path / "a.png", photo[:5])
    assert [file.name for file in tmp_path.iterdir()] == ["a.png"]
    assert np.array_equal(read_image(tmp_path / "a.png"), photo)


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((3, 8, 8)),
        np.zeros((0, 8, 3)),
        np.zeros(8),
        np.zeros((8, 8), np.int64),
        np.full((8, 8), 2.0),
        np.full((8, 8), np.nan),
    ],
    ids=["channels first", "no rows", "a line", "integers", "too bright", "not a number"],
)
def test_arrays_that_are_no_images_are_refused(image: np.ndarray, tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="expected"):
        write_image(tmp_path / "a.png", image)
    assert not list(tmp_path.iterdir())


def test_places_that_cannot_be_written_are_errors(photo: np.ndarray, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "b.png").mkdir()
    for path, words in (("a.xyz", "unknown suffix"), ("a", "unknown suffix"), ("file/a.png", "parent"), ("b.png", "b")):
        with pytest.raises(ImageError, match=words):
            write_image(tmp_path / path, photo)
    with pytest.raises(ImageError, match="WEBP"):
        write_image(tmp_path / "wide.webp", np.zeros((1, 16384), np.uint8))
    assert sorted(file.name for file in tmp_path.iterdir()) == ["b.png", "file"]


def test_images_are_found_in_the_order_of_their_relative_paths(tmp_path: Path) -> None:
    for name in ("b.PNG", "a/z.jpg", "a.png", "notes.txt", ".hidden.png", ".thumbs/c.png", "a/deep/y.webp"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    found = [path.relative_to(tmp_path).as_posix() for path in find_images(tmp_path)]
    assert found == ["a.png", "a/deep/y.webp", "a/z.jpg", "b.PNG"]
    assert [path.name for path in find_images(tmp_path, recursive=False)] == ["a.png", "b.PNG"]


def test_folders_without_images_are_errors_that_say_what_was_seen(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="saw no files"):
        find_images(tmp_path)
    for name in ("a.txt", "b.txt", "c.npy", ".d.png"):
        (tmp_path / name).write_text("")
    with pytest.raises(DataError, match=r"saw 4 other files \(2 \.txt") as caught:
        find_images(tmp_path)
    assert all(suffix in str(caught.value) for suffix in EXTENSIONS)
    with pytest.raises(DataError, match="does not exist"):
        find_images(tmp_path / "none")
    with pytest.raises(DataError, match="not a folder"):
        find_images(tmp_path / "a.txt")


def test_reading_images_needs_no_torch() -> None:
    code = "import sys, unseen.images; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
