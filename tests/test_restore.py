"""Restoring files: what a file holds beside its pixels stays, tiles leave no seam, and nothing is lost on the way."""

import errno
import io
import json
import os
import shutil
import struct
import sys
import threading
import zlib
from collections.abc import Callable
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image, ImageCms, ImageOps, PngImagePlugin

import unseen
from small_priors import small_tae
from unseen import cli
from unseen.checkpoints import save_network
from unseen.errors import CheckpointError, ConfigError, DataError, ImageError
from unseen.experiment import Experiment
from unseen.images import read_image, write_image
from unseen.networks import (
    GuidedConfig,
    NAFNetConfig,
    NetworkConfig,
    PReNetConfig,
    ResNetConfig,
    SwinIRConfig,
    UNetConfig,
    build,
)
from unseen.priors import PriorConfig
from unseen.restoration import (
    Job,
    Picture,
    Tiler,
    find_jobs,
    flicker,
    load,
    reach,
    read_picture,
    restore_files,
    restore_image,
    restore_video,
    tiler_for,
    write_picture,
)
from unseen.restoration import tiles as tiles_module
from unseen.restoration.run import changed, removed
from unseen.shipped import find_model, shipped

TINY = ResNetConfig(width=4, blocks=1)
Run = Callable[..., tuple[int, bytes, str]]


def half(images: torch.Tensor) -> torch.Tensor:
    """A restorer whose result is known."""
    return images * 0.5


def noise(*shape: int, dtype: Any = np.uint8) -> np.ndarray:
    return np.random.default_rng(3).integers(0, np.iinfo(dtype).max + 1, shape, dtype=dtype)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of a tiny network."""
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    save_network(path, build(TINY, 0).state_dict(), Experiment(network=TINY), 0)
    return path


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsysbinary: pytest.CaptureFixture[bytes], tmp_path: Path) -> Run:
    """`unseen restore` in this process, in a folder of its own: exit code, stdout and stderr."""
    monkeypatch.chdir(tmp_path)

    def restore(*arguments: str | Path) -> tuple[int, bytes, str]:
        capsysbinary.readouterr()
        monkeypatch.setattr(sys, "argv", ["unseen", "restore", *map(str, arguments)])
        try:
            cli.main()
            code: Any = 0
        except SystemExit as ended:
            code = ended.code or 0
        said = capsysbinary.readouterr()
        assert b"Traceback" not in said.err
        return code, said.out, said.err.decode()

    return restore


def png16(path: Path, samples: np.ndarray, *chunks: tuple[bytes, bytes]) -> None:
    """A 16-bit PNG written by hand, without filters."""
    height, width, channels = samples.shape
    kind = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in samples)
    parts = [(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, kind, 0, 0, 0)), *chunks]
    with path.open("wb") as file:
        file.write(b"\x89PNG\r\n\x1a\n")
        for name, content in [*parts, (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]:
            file.write(struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content)))


@cache
def srgb() -> bytes:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


# --- tiles


@pytest.mark.parametrize(
    ("config", "tile"),
    [(TINY, 17), (UNetConfig(width=4, levels=2, blocks=1), 40), (PReNetConfig(width=4, stages=2, blocks=1), 40)],
)
def test_tiles_put_together_are_the_image_restored_at_once(config: NetworkConfig, tile: int) -> None:
    network = build(config, 0).eval()
    image = noise(90, 131, 3)
    halo, multiple = reach(config)
    tiled = restore_image(network, image, tile=tile, halo=halo, multiple=multiple)
    at_once = restore_image(network, image, tile=1000)
    assert np.abs(at_once.astype(int) - tiled).max() <= 1
    assert (at_once != tiled).mean() < 1e-3


def test_without_a_halo_tiles_would_show() -> None:
    network = build(TINY, 0).eval()
    image = noise(70, 45, 3)
    whole = restore_image(network, image, tile=1000)
    assert np.abs(whole.astype(int) - restore_image(network, image, tile=32, halo=0, multiple=1)).max() > 1


def test_weights_of_neighbouring_tiles_sum_to_one() -> None:
    for length, tile, ramp in ((100, 30, 16), (7, 2, 16), (50, 50, 16), (64, 9, 0)):
        parts = Tiler(half, tile, 5, 4, ramp=ramp)._parts(length)
        total = np.zeros(length)
        for part in parts:
            total[part.used] += part.weights
            assert part.seen.start % 4 == 0
            assert part.seen.stop % 4 == 0 or part.seen.stop == length
        assert np.allclose(total, 1)


@pytest.mark.parametrize(("dtype", "channels"), [(np.uint8, 3), (np.uint16, 1), (np.float32, 3)])
def test_strength_blends_the_values_of_the_image_at_its_own_depth(dtype: Any, channels: int) -> None:
    image = noise(1, 30, 41, channels, dtype=np.uint16 if dtype == np.float32 else dtype)
    if dtype == np.float32:
        image = (image / 65535).astype(dtype)
    for strength in (0.0, 0.25, 1.0):
        restored = Tiler(half, 13, 2, 1, strength=strength).restore(image)
        assert restored.dtype == dtype
        expected = image * (1 - 0.5 * strength)
        assert np.abs(restored - expected).max() <= (1e-6 if dtype == np.float32 else 0.51)
    assert (Tiler(half, strength=0.0).restore(image) == image).all()


@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("CUDA"), RuntimeError("DefaultCPUAllocator: not enough memory")]
)
def test_tiles_are_halved_where_memory_runs_out(error: Exception) -> None:
    sides = []

    def short(images: torch.Tensor) -> torch.Tensor:
        sides.append(max(images.shape[-2:]))
        if images.shape[-1] * images.shape[-2] > 70 * 70:
            try:
                raise error
            except type(error) as cause:
                raise CheckpointError("the model failed") from cause  # as the wrapper of foreign models does
        return half(images)

    image = noise(1, 150, 150, 3)
    tiler = Tiler(short, 150, 4, 1)
    assert np.abs(tiler.restore(image) - image * 0.5).max() <= 0.51
    assert tiler.tile in (37, 38)
    assert sides[0] == 150

    def never(images: torch.Tensor) -> torch.Tensor:
        raise error

    with pytest.raises(DataError, match="not enough memory to restore 150 x 150"):
        Tiler(never, 150, 4, 1).restore(image)


def test_tiles_fit_the_memory_at_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    assert reach(None) == (reach(NAFNetConfig())[0], 64)
    assert reach(SwinIRConfig(window=8)) == (64, 8)
    assert tiles_module.memory_at_hand("cpu") > 10**6
    sides = {}
    for free in (10**7, 10**9, 10**12):
        monkeypatch.setattr(tiles_module, "memory_at_hand", lambda device, free=free: free)
        sides[free] = tiler_for(half, "cpu", ResNetConfig(width=48, blocks=5)).tile
    assert sides[10**7] == 64 < sides[10**9] < sides[10**12] < 800


# --- files


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_16_bit_png_stays_16_bit(tmp_path: Path, channels: int) -> None:
    samples = noise(23, 31, channels, dtype=np.uint16)
    text = (b"tEXt", b"Comment\0in the rain")
    png16(tmp_path / "a.png", samples, (b"pHYs", struct.pack(">IIB", 3000, 3000, 1)), text)
    picture = read_picture(tmp_path / "a.png")
    assert picture.pixels.dtype == np.uint16
    pixels = picture.pixels if picture.pixels.ndim == 3 else picture.pixels[..., None]
    assert (pixels == samples[..., : pixels.shape[2]]).all()
    assert channels in (1, 3) or (picture.alpha == samples[..., -1]).all()
    assert write_picture(tmp_path / "b.png", picture) == []
    again = read_picture(tmp_path / "b.png")
    assert (again.pixels == picture.pixels).all()
    assert channels in (1, 3) or (again.alpha == samples[..., -1]).all()
    with Image.open(tmp_path / "b.png") as image:
        assert image.info["Comment"] == "in the rain"
        assert round(image.info["dpi"][0]) == 76
        high = np.asarray(image)
    assert channels < 3 or (high[..., :channels] == samples >> 8).all()  # what another decoder sees


def test_a_transparent_colour_of_16_bits_becomes_alpha(tmp_path: Path) -> None:
    samples = noise(4, 5, 3, dtype=np.uint16)
    png16(tmp_path / "a.png", samples, (b"tRNS", samples[1, 2].astype(">u2").tobytes()))
    alpha = read_picture(tmp_path / "a.png").alpha
    assert alpha is not None and alpha[1, 2] == 0 and (alpha == 0).sum() == 1


@pytest.mark.parametrize("packed", [None, "zlib"])
def test_16_bit_tiff_keeps_depth_and_tags(tmp_path: Path, packed: str | None) -> None:
    samples = noise(300, 31, 3, dtype=np.uint16)
    tifffile.imwrite(
        tmp_path / "a.tif", samples, photometric="rgb", compression=packed, description="rain", iccprofile=srgb(),
        byteorder=">" if packed is None else "<", rowsperstrip=50, extratags=[(315, "s", 0, "An Artist", True)],
        resolution=(300, 300),
    )  # fmt: skip
    picture = read_picture(tmp_path / "a.tif")
    assert (picture.pixels == samples).all()
    picture.alpha = samples[..., 0].copy()
    assert write_picture(tmp_path / "b.tif", picture) == []
    with tifffile.TiffFile(tmp_path / "b.tif") as file:
        page = file.pages[0]
        assert (page.asarray() == np.dstack([samples, picture.alpha])).all()
        assert page.tags[270].value == "rain" and page.tags[315].value == "An Artist"
        assert page.tags[34675].value == srgb()
        assert page.tags[282].value == (300, 1)
        assert (page.tags[259].value == 1) == (packed is None)
    assert (read_picture(tmp_path / "b.tif").pixels == samples).all()


def test_exif_of_a_tiff_goes_along_and_floating_point_stays(tmp_path: Path) -> None:
    made, exif = Image.Exif(), Image.Exif()
    made[0x010F], made[0x8769] = "A Camera", {0x829A: 0.01}
    exif.load(made.tobytes())
    values = np.random.default_rng(0).random((9, 8), dtype=np.float32)
    Image.fromarray(values).save(tmp_path / "a.tif", exif=exif)
    picture = read_picture(tmp_path / "a.tif")
    write_picture(tmp_path / "b.tif", picture)
    with Image.open(tmp_path / "b.tif") as image:
        assert (np.asarray(image) == values).all()
        assert image.getexif()[0x010F] == "A Camera"
        assert float(image.getexif().get_ifd(0x8769)[0x829A]) == pytest.approx(0.01)
    lost = write_picture(tmp_path / "b.png", picture)
    assert lost == ["PNG holds no floating point"]
    assert (read_picture(tmp_path / "b.png").pixels == np.rint(values * 65535)).all()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_picture_is_restored_upright_and_stored_as_it_was(tmp_path: Path, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(noise(6, 9, 3)).save(tmp_path / "a.png", exif=exif)
    picture = read_picture(tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as image:
        assert (picture.upright(picture.pixels) == np.asarray(ImageOps.exif_transpose(image))).all()

    def brighter_below(images: torch.Tensor) -> torch.Tensor:
        return images * torch.linspace(0, 1, images.shape[-2])[:, None]

    (result,) = restore_files([Job(tmp_path / "a.png", tmp_path / "b.png")], Tiler(brighter_below))
    shown = read_image(tmp_path / "b.png")  # applies the orientation
    assert shown[0].max() == 0 and (shown[-1] == read_image(tmp_path / "a.png")[-1]).all()
    assert (result.height, result.width) == shown.shape[:2]
    with Image.open(tmp_path / "b.png") as image:
        assert image.size == (9, 6) and image.getexif()[0x0112] == orientation


def test_a_jpeg_keeps_its_segments_and_its_tables(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x010F] = "A Camera"
    exif[0x0112] = 1
    source = Image.fromarray(np.kron(noise(6, 8, 3), np.ones((8, 8, 1), np.uint8)))
    source.save(
        tmp_path / "a.jpg", exif=exif, icc_profile=srgb(), comment="hello", quality=83, subsampling=2, dpi=(72, 72)
    )
    raw = (tmp_path / "a.jpg").read_bytes()
    iptc = b"\xff\xed" + struct.pack(">H", 18) + b"Photoshop 3.0\0IP"
    (tmp_path / "a.jpg").write_bytes(raw[:20] + iptc + raw[20:])
    picture = read_picture(tmp_path / "a.jpg")
    assert write_picture(tmp_path / "b.jpg", picture) == []
    with Image.open(tmp_path / "a.jpg") as before, Image.open(tmp_path / "b.jpg") as after:
        assert after.getexif()[0x010F] == "A Camera"
        for name in ("icc_profile", "exif", "comment", "dpi"):
            assert after.info[name] == before.info[name]
        assert after.quantization == before.quantization  # type: ignore[attr-defined]
        assert after.layer == before.layer  # type: ignore[attr-defined]
    assert iptc in (tmp_path / "b.jpg").read_bytes()
    assert write_picture(tmp_path / "b.png", picture) == ["of its metadata, PNG gets EXIF and the colour profile"]
    with Image.open(tmp_path / "b.png") as image:
        assert image.info["icc_profile"] == srgb() and image.getexif()[0x010F] == "A Camera"


def test_a_tiff_that_lies_on_its_side_is_turned(tmp_path: Path) -> None:
    samples = noise(6, 9, 3, dtype=np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", samples, photometric="rgb", extratags=[(274, "H", 1, 6, True)])
    write_picture(tmp_path / "b.tif", read_picture(tmp_path / "a.tif"))
    with Image.open(tmp_path / "b.tif") as image:
        assert image.getexif().get(0x0112, 1) == 1
    assert (tifffile.imread(tmp_path / "b.tif") == np.rot90(samples, -1)).all()


def test_webp_keeps_its_kind_of_coding(tmp_path: Path) -> None:
    for lossless in (True, False):
        Image.fromarray(noise(40, 40, 4)).save(tmp_path / "a.webp", lossless=lossless, icc_profile=srgb(), quality=80)
        picture = read_picture(tmp_path / "a.webp")
        write_picture(tmp_path / "b.webp", picture)
        assert (b"VP8L" in (tmp_path / "b.webp").read_bytes()[:2000]) == lossless
        again = read_picture(tmp_path / "b.webp")
        assert again.icc == srgb()
        assert (again.alpha == picture.alpha).all()


def test_what_a_format_cannot_hold_is_said(tmp_path: Path) -> None:
    picture = Picture(noise(5, 5, 3, dtype=np.uint16), noise(5, 5, dtype=np.uint16))
    assert write_picture(tmp_path / "a.jpg", picture) == ["JPEG holds 8 bits", "JPEG holds no transparency"]
    with pytest.raises(ImageError, match=r"unknown suffix '\.doc'"):
        write_picture(tmp_path / "a.doc", picture)


def test_mask_and_difference_are_what_changed() -> None:
    before = np.full((3, 4, 3), 100, np.uint8)
    after = before.copy()
    after[0, 0, 1] -= 20
    after[1, 1, 0] += 3
    assert (changed(before, after) == 255).nonzero() == (np.array([0]), np.array([0]))
    difference = removed(before, after)
    assert difference[0, 0, 1] == 128 + 80 or difference[0, 0, 1] == 127 + 80
    assert difference[1, 1, 0] < 127 and difference[2, 2, 2] in (127, 128)


@pytest.mark.parametrize(("photometric", "bits"), [(1, 16), (0, 16), (1, 12)])
def test_tiffs_of_one_deep_colour_mean_what_their_tags_say(photometric: int, bits: int, tmp_path: Path) -> None:
    grey = noise(5, 8, dtype=np.uint16) >> 16 - bits
    if bits == 16:
        tifffile.imwrite(tmp_path / "a.tif", grey, photometric="minisblack" if photometric else "miniswhite")
    else:
        flat = grey.reshape(-1, 2).astype(np.uint32)
        packed = np.stack([flat[:, 0] >> 4, (flat[:, 0] & 15) << 4 | flat[:, 1] >> 8, flat[:, 1] & 255], 1)
        tags = [(256, 8), (257, 5), (258, 12), (259, 1), (262, 1), (273, 8), (277, 1), (278, 5), (279, packed.size)]
        head = b"II*\0" + struct.pack("<I", 8 + packed.size) + packed.astype(np.uint8).tobytes()
        body = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
        (tmp_path / "a.tif").write_bytes(head + struct.pack("<H", len(tags)) + body + bytes(4))
    expected = grey if photometric else 65535 - grey
    if bits == 12:
        expected = np.rint(grey / 4095 * 65535)
    picture = read_picture(tmp_path / "a.tif")
    assert (picture.pixels == expected).all()
    assert (read_image(tmp_path / "a.tif")[..., 0] == np.rint(expected / 257)).all()
    write_picture(tmp_path / "b.tif", picture)
    assert (read_picture(tmp_path / "b.tif").pixels == expected).all()


@pytest.mark.parametrize("compression", [None, "zlib"])
def test_a_deep_tiff_with_its_colours_apart_is_refused(compression: str | None, tmp_path: Path) -> None:
    planes = noise(3, 5, 6, dtype=np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", planes, photometric="rgb", planarconfig="separate", compression=compression)
    for read in (read_picture, read_image):
        with pytest.raises(ImageError, match=r"16 bits with each colour apart"):
            read(tmp_path / "a.tif")


def test_an_exif_block_that_is_damaged_stays_and_turns_nothing(tmp_path: Path) -> None:
    image, coded = noise(16, 24, 3), io.BytesIO()
    Image.fromarray(image).save(coded, "JPEG", quality=95, dpi=(72, 72))
    content, junk = coded.getvalue(), b"Exif\0\0" + bytes(20)
    begin = 4 + int.from_bytes(content[4:6], "big")
    segment = b"\xff\xe1" + struct.pack(">H", len(junk) + 2) + junk
    (tmp_path / "a.jpg").write_bytes(content[:begin] + segment + content[begin:])
    picture = read_picture(tmp_path / "a.jpg")
    assert picture.orientation == 1 and picture.pixels.shape == read_image(tmp_path / "a.jpg").shape == (16, 24, 3)
    assert "its EXIF is damaged" in picture.notes[0]
    write_picture(tmp_path / "b.jpg", picture)
    assert segment in (tmp_path / "b.jpg").read_bytes()


def test_what_cannot_be_kept_is_said(run: Run, tmp_path: Path) -> None:
    deep = noise(4, 5, 3, dtype=np.uint16)
    (tmp_path / "a.ppm").write_bytes(b"P6 5 4 65535\n" + deep.astype(">u2").tobytes())
    Image.fromarray(noise(4, 5, 3)).save(tmp_path / "b.jpg", "PNG")
    tifffile.imwrite(tmp_path / "c.tif", noise(4, 5, 3), extratags=[(37724, 7, 4, b"8BIM", True)])
    code, _, err = run("a.ppm", "b.jpg", "c.tif", "--model", "identity")
    assert code == 0, err
    assert "a.ppm: its 16 bits become 8" in err and "it is PNG, and becomes what its name says, JPEG" in err
    assert "c.tif: its layers are left out" in err
    clear = np.dstack([noise(4, 5, 3), np.zeros((4, 5), np.uint8)])
    Image.fromarray(clear).save(tmp_path / "d.webp", lossless=True, exact=True)
    write_picture(tmp_path / "e.webp", read_picture(tmp_path / "d.webp"))
    assert (np.asarray(Image.open(tmp_path / "e.webp")) == clear).all()


# --- which files


def make(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(noise(5, 6, 3)).save(path)


def test_folders_and_patterns_keep_their_structure(tmp_path: Path) -> None:
    make(*(tmp_path / name for name in ("in/a.jpg", "in/deep/b.png", "in/deep/c.gif")))
    (tmp_path / "in/clip.mov").write_bytes(b"")
    (tmp_path / "in/.hidden").mkdir()
    (tmp_path / "in/.hidden/x.mp4").write_bytes(b"")
    out = tmp_path / "in" / "out"

    def targets(*inputs: str, to: Path = out) -> list[str]:
        return [job.target.relative_to(to).as_posix() for job in find_jobs(inputs, to)]

    assert targets(f"{tmp_path}/in") == ["a.jpg", "clip.mov", "deep/b.png", "deep/c.png"]
    make(out / "a.jpg")  # what was restored before is no input
    assert (
        targets(f"{tmp_path}/in") == targets(f"{tmp_path}/in/**") == ["a.jpg", "clip.mov", "deep/b.png", "deep/c.png"]
    )
    assert targets(f"{tmp_path}/in/*/*.png") == ["deep/b.png"]
    assert targets(f"{tmp_path}/old.avi") == ["old.mkv"]
    with pytest.raises(DataError, match="Nothing matches"):
        targets(f"{tmp_path}/in/*.bmp")


def test_a_single_file_may_be_given_its_name_and_clashes_are_refused(tmp_path: Path) -> None:
    make(tmp_path / "a.jpg", tmp_path / "a-mask.png", tmp_path / "b" / "a.jpg")
    (job,) = find_jobs([f"{tmp_path}/a.jpg"], tmp_path / "dry.png", mask=True)
    assert (job.target.name, job.mask and job.mask.name, job.difference) == ("dry.png", "dry-mask.png", None)
    with pytest.raises(ConfigError, match=r"suffixes \.png"):
        find_jobs([f"{tmp_path}/a.jpg"], tmp_path / "dry.gif")
    with pytest.raises(ConfigError, match="would both be written"):
        find_jobs([f"{tmp_path}/a.jpg", f"{tmp_path}/b/a.jpg"], tmp_path / "out")
    with pytest.raises(ConfigError, match=r"a-mask\.png would be overwritten by what is made of"):
        find_jobs([f"{tmp_path}/b/a.jpg", f"{tmp_path}/a-mask.png"], tmp_path / "b" / "..", mask=True)


def test_links_in_a_circle_stop_nothing(run: Run) -> None:
    make(Path("d/a.png"))
    Path("d/loop.jpg").symlink_to("loop.jpg")
    code, _, err = run("d", "-o", "d/dry", "--model", "identity")
    assert code == 1 and "loop.jpg" in err and Path("d/dry/a.png").is_file()


# --- many files


def test_overlapped_or_not_in_batches_or_not_the_results_are_the_same(tmp_path: Path) -> None:
    make(*(tmp_path / f"{number}.png" for number in range(5)))
    (tmp_path / "2.png").write_bytes(b"no image")
    make(tmp_path / "9.png")
    found = {}
    for name, overlap, batch in (("one", False, 0), ("two", True, 0), ("three", True, 90)):
        jobs = [Job(tmp_path / f"{n}.png", tmp_path / name / f"{n}.png") for n in (0, 1, 2, 3, 4, 9)]
        told: list[str] = []
        results = restore_files(
            jobs, Tiler(half, batch_pixels=batch), lambda result, told=told: told.append(result.status), overlap=overlap
        )
        assert [result.status for result in results] == ["restored"] * 2 + ["failed"] + ["restored"] * 3
        assert sorted(told) == sorted(result.status for result in results)
        found[name] = [read_image(job.target) for job in jobs if job.target.exists()]
    assert len(found["one"]) == 5
    for name in ("two", "three"):
        assert all((a == b).all() for a, b in zip(found["one"], found[name], strict=True))


def test_ctrl_c_loses_nothing_that_was_computed(tmp_path: Path) -> None:
    make(*(tmp_path / f"{number}.png" for number in range(4)))
    seen = []

    def interrupted(images: torch.Tensor) -> torch.Tensor:
        seen.append(1)
        if len(seen) == 3:
            raise KeyboardInterrupt
        return half(images)

    jobs = [Job(tmp_path / f"{number}.png", tmp_path / "out" / f"{number}.png") for number in range(4)]
    told = []
    with pytest.raises(KeyboardInterrupt):
        restore_files(jobs, Tiler(interrupted), told.append)
    assert [result.status for result in told] == ["restored"] * 2
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["0.png", "1.png"]
    assert not [thread for thread in threading.enumerate() if thread.name.startswith(("read", "write"))]


def test_a_full_disk_ends_the_run_and_leaves_no_part_of_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(*(tmp_path / f"{number}.png" for number in range(40)))
    replace, renamed = os.replace, []

    def full(source: Path, target: Path) -> None:
        renamed.append(target)
        if len(renamed) > 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        replace(source, target)

    monkeypatch.setattr(os, "replace", full)
    jobs = [Job(tmp_path / f"{number}.png", tmp_path / "out" / f"{number}.png") for number in range(40)]
    results = restore_files(jobs, Tiler(half))
    states = [result.status for result in results]
    assert states[:3] == ["restored", "restored", "failed"]
    assert states[-1] == "left"
    assert "disk" in (results[2].message or "")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["0.png", "1.png"]


# --- the command


def test_all_kinds_of_files_in_one_command(run: Run, weights: Path, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.kron(noise(30, 40, 3), np.ones((8, 8, 1), np.uint8))).save(
        "photo.jpg", exif=exif, icc_profile=srgb()
    )
    deep = noise(20, 24, 3, dtype=np.uint16)
    png16(Path("deep.png"), deep)
    clear = noise(11, 13, 4)
    Image.fromarray(clear).save("clear.png")
    frames = [Image.fromarray(noise(9, 9)).convert("P") for _ in range(2)]
    frames[0].save("moving.gif", save_all=True, append_images=[frames[1].transpose(Image.Transpose.ROTATE_90)])
    Image.new("CMYK", (8, 8), (10, 20, 30, 0)).save("print.jpg")
    Path("broken.jpg").write_bytes(Path("photo.jpg").read_bytes()[:3000])
    make(Path("folder/a.png"), Path("folder/inner/b.webp"))
    files = ("photo.jpg", "deep.png", "clear.png", "moving.gif", "print.jpg", "broken.jpg", "folder")
    code, out, err = run(*files, "--model", weights, "-o", "out", "--mask", "--difference", "--json")
    assert code == 1
    told = json.loads(out)
    assert (told["restored"], told["failed"], told["skipped"]) == (7, 1, 0)
    lines = {Path(line["input"]).name: line for line in told["images"]}
    assert list(lines) == [*files[:-1], "a.png", "b.webp"]
    assert err.count("Error:") == 1 and "Cannot read broken.jpg" in err and not Path("out/broken.jpg").exists()
    assert lines["broken.jpg"]["status"] == "failed" and lines["broken.jpg"]["output"] is None
    with Image.open("out/photo.jpg") as image:
        assert image.size == (320, 240) and image.getexif()[0x0112] == 6 and image.info["icc_profile"] == srgb()
    with Image.open("out/photo-mask.png") as image:
        assert image.size == (240, 320) and image.mode == "L"  # upright
    restored = read_picture("out/deep.png").pixels
    assert restored.dtype == np.uint16
    network = build(TINY, 0).eval()
    with torch.no_grad():
        expected = network(torch.from_numpy(deep / np.float32(65535)).permute(2, 0, 1)[None]).clamp(0, 1)
    assert np.abs(restored / 65535 - expected[0].permute(1, 2, 0).numpy()).max() < 5e-3  # bf16 where there is such
    assert (read_picture("out/clear.png").alpha == clear[..., 3]).all()
    assert lines["moving.gif"]["output"] == "out/moving.png"
    assert lines["moving.gif"]["notes"] == ["only the first of its 2 frames is restored", "its palette became RGB"]
    assert "its CMYK became RGB" in lines["print.jpg"]["notes"]
    assert Path("out/inner/b-difference.png").is_file()
    before = {path: path.stat().st_mtime_ns for path in Path("out").rglob("*.*")}
    code, _, err = run(*files, "--model", weights, "-o", "out", "--mask", "--difference")
    assert code == 1 and "0 restored, 7 skipped, 1 failed" in err
    assert before == {path: path.stat().st_mtime_ns for path in Path("out").rglob("*.*")}


def test_one_image_from_stdin_goes_to_stdout(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    coded = io.BytesIO()
    Image.fromarray(noise(9, 12, 3)).save(coded, "WEBP", lossless=True)

    def pipe(content: bytes) -> None:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))

    pipe(coded.getvalue())
    code, out, err = run("-", "--model", "identity")
    assert code == 0, err
    with Image.open(io.BytesIO(out)) as image:
        assert image.format == "WEBP" and (np.asarray(image) == noise(9, 12, 3)).all()
    assert not [path for path in tmp_path.iterdir() if path.name == "restored"]
    pipe(b"no image")
    code, out, err = run("-", "--model", "identity")
    assert (code, out) == (1, b"") and "Cannot read stdin" in err
    pipe(coded.getvalue())
    code, out, err = run("-", "--model", "identity", "-o", "dry.png", "--json")
    assert code == 0 and json.loads(out)["images"][0]["output"] == "dry.png" and Path("dry.png").is_file()
    assert run("-", "--model", "identity", "--json")[0] == 2
    assert run("-", "a.png", "--model", "identity")[0] == 2


def test_strength_is_a_dial(run: Run) -> None:
    make(Path("a.png"))
    for strength in ("0", "0.5", "1"):
        code, _, err = run("a.png", "--model", "box", "--strength", strength, "-o", f"out/{strength}.png")
        assert code == 0, err
    none, some, whole = (read_image(f"out/{strength}.png").astype(float) for strength in ("0", "0.5", "1"))
    assert (none == read_image("a.png")).all()
    assert np.abs(some - (none + whole) / 2).max() <= 1
    assert run("a.png", "--model", "box", "--strength", "1.5")[0] == 2


def test_ctrl_c_says_what_is_done(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    make(Path("in/a.png"), Path("in/b.png"))
    tile, seen = Tiler.restore, []

    def interrupted(self: Tiler, *given: Any) -> Any:
        seen.append(1)
        if len(seen) > 1:
            raise KeyboardInterrupt
        return tile(self, *given)

    monkeypatch.setattr(Tiler, "restore", interrupted)
    code, _, err = run("in", "--model", "identity")
    assert code == 130
    assert "Interrupted. 1 restored" in err and "1 not tried" in err
    assert Path("restored/a.png").is_file() and not Path("restored/b.png").exists()


def test_nothing_that_is_there_is_written_over(run: Run) -> None:
    make(Path("a.png"), Path("b.png"))
    Path("out").mkdir()
    Path("out/a.png").write_bytes(b"precious")
    Path("out/b-mask.png").write_bytes(b"precious")
    code, _, err = run("a.png", "b.png", "-o", "out", "--mask", "--model", "identity")
    assert code == 0, err
    assert Path("out/a.png").read_bytes() == Path("out/b-mask.png").read_bytes() == b"precious"
    assert Path("out/a-mask.png").is_file() and Path("out/b.png").is_file()
    code, _, err = run("a.png", "b.png", "-o", "out", "--mask", "--model", "identity")
    assert "2 skipped" in err and "--overwrite" in err
    run("a.png", "-o", "out", "--mask", "--model", "identity", "--overwrite")
    assert read_image("out/a.png").shape == (5, 6, 3)


def test_another_image_through_the_pipe_is_not_taken_for_done(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    make(Path("a.png"))
    for words, code in (((), 0), ((), 2), (("--overwrite",), 0)):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(Path("a.png").read_bytes())))
        found, _, err = run("-", "-o", "out.png", "--model", "identity", *words)
        assert found == code, err
        assert code == 0 or "out.png is there already" in err


# --- models by name, and in Python


def test_shipped_weights_are_found_by_name(
    run: Run, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "package"
    package.mkdir()
    monkeypatch.setattr("unseen.shipped.files", lambda name: package)
    make(Path("a.png"))
    assert shipped() == {}
    code, _, err = run("a.png")
    assert code == 2 and "name a model with --model" in err
    (package / "weights").mkdir()
    shutil.copy(weights, package / "weights" / "rain.safetensors")
    assert shipped() == {"rain": package / "weights" / "rain.safetensors"}
    assert find_model() == find_model("rain") == shipped()["rain"]
    assert find_model("runs/rain") == "runs/rain" and find_model("a.png") == "a.png" and find_model("a.b:c") == "a.b:c"
    Path("rain").mkdir()  # of pictures of rain, say
    assert find_model("rain") == shipped()["rain"]
    shutil.copy(weights, "rain/model.safetensors")
    assert find_model("rain") == "rain"
    shutil.rmtree("rain")
    with pytest.raises(CheckpointError, match=r"There is no model 'snow'.*\(rain\)"):
        find_model("snow")
    code, _, err = run("a.png", "-o", "b.png")
    assert code == 0, err
    assert (unseen.load("rain")(read_image("a.png")) == restore_image(build(TINY, 0).eval(), read_image("a.png"))).all()


def test_a_model_on_the_hub_is_fetched_by_its_name_alone(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub = pytest.importorskip("huggingface_hub")
    asked: list[tuple[str, str]] = []

    def fetch(repository: str, file: str) -> str:
        asked.append((repository, file))
        if repository == "some/gone":
            raise OSError("404: no such repository\nand much more")
        return str(weights)

    monkeypatch.setattr(hub, "hf_hub_download", fetch)
    assert find_model("hub:some/rain") == find_model("hub:some/rain/large/net.safetensors") == weights
    assert asked == [("some/rain", "model.safetensors"), ("some/rain", "large/net.safetensors")]
    with pytest.raises(CheckpointError, match=r"hub:some/gone could not be fetched \(404: no such repository\)"):
        find_model("hub:some/gone")
    for wrong in ("hub:rain", "hub:some/rain/../../file", "hub:some/rain//file"):
        with pytest.raises(ConfigError, match="no name on the hub"):
            find_model(wrong)


def test_a_loaded_model_gives_back_the_kind_it_was_given(weights: Path) -> None:
    restore = load(weights)
    image = noise(9, 12, 3)
    restored = restore(image)
    assert (restored.dtype, restored.shape) == (np.uint8, image.shape)
    tensor = torch.from_numpy(image).permute(2, 0, 1).float() / 255
    as_tensor = restore(tensor)
    assert isinstance(as_tensor, torch.Tensor) and as_tensor.shape == (3, 9, 12)
    assert np.abs(as_tensor.permute(1, 2, 0).numpy() * 255 - restored).max() < 0.51
    assert restore(tensor[None].double()).dtype == torch.float64
    floats = restore(image / 255)
    assert floats.dtype == np.float64 and np.abs(floats * 255 - restored).max() < 0.51
    assert restore(image[..., 0]).shape == (9, 12)
    assert restore(image.astype(np.uint16) * 257).dtype == np.uint16
    picture = Image.fromarray(image)
    picture.info["icc_profile"] = b"profile"
    back = restore(picture)
    assert isinstance(back, Image.Image) and back.info == {"icc_profile": b"profile"}
    assert (np.asarray(back) == restored).all()
    clear = picture.copy()
    clear.putalpha(77)
    assert restore(clear).mode == "RGBA" and restore(clear).getpixel((0, 0))[3] == 77
    assert restore(picture.convert("L")).mode == "L" and restore(Image.new("I;16", (4, 3))).mode == "I;16"
    assert restore(Image.new("F", (4, 3), 0.5)).mode == "F"
    assert (restore(image / 255 * 1.2 - 0.1) <= 1).all()  # as after resizing
    wide = Image.fromarray(np.full((3, 4), 70000, np.int32))
    for wrong in (image * 1.0, tensor * 255, tensor * torch.nan, wide):
        with pytest.raises(ConfigError, match="expected"):
            restore(wrong)
    for wrong in (image[None], image.astype(np.int32), tensor[:2], tensor.long(), "a.png"):
        with pytest.raises(ConfigError, match="expected"):
            restore(wrong)


# --- videos


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    """Twelve frames of 48 x 32 pixels at uneven times, with sound."""
    av = pytest.importorskip("av", reason="PyAV is not installed: pip install 'unseen[video]'")
    path = tmp_path / "clip.mp4"
    rows, columns = np.mgrid[:32, :48] / 32
    waves = (np.sin(5 * columns), np.cos(4 * rows), np.sin(3 * columns + 2 * rows))
    still = (120 + 70 * np.stack(waves, -1)).astype(np.uint8)
    with av.open(str(path), "w") as writer:
        video = writer.add_stream("libx264", rate=12, options={"crf": "4"})
        video.width, video.height, video.pix_fmt = 48, 32, "yuv420p"
        video.codec_context.time_base = Fraction(1, 600)
        video.codec_context.colorspace, video.codec_context.color_range = 1, 1
        sound = writer.add_stream("aac", rate=16000)
        for number in range(12):
            frame = av.VideoFrame.from_ndarray(still, format="rgb24").reformat(format="yuv420p", dst_colorspace=1)
            frame.pts, frame.time_base = 50 * number + (number > 6) * 20, Fraction(1, 600)
            writer.mux(video.encode(frame))
        writer.mux(video.encode(None))
        samples = av.AudioFrame.from_ndarray(noise(1, 16000, dtype=np.uint8).astype(np.int16), "s16", "mono")
        samples.sample_rate = 16000
        writer.mux(sound.encode(samples))
        writer.mux(sound.encode(None))
    return path


def frames_of(path: Path) -> tuple[list[np.ndarray], list[float]]:
    import av

    with av.open(str(path)) as reader:
        found = [(frame.to_ndarray(format="rgb24"), frame.time) for frame in reader.decode(video=0)]
    return [frame for frame, _ in found], [time for _, time in found]


def packets_of(path: Path) -> list[bytes]:
    import av

    with av.open(str(path)) as reader:
        return [bytes(packet) for packet in reader.demux(audio=0) if packet.size]


def test_a_video_keeps_its_times_its_colours_and_its_sound(clip: Path, tmp_path: Path) -> None:
    told = []
    done = restore_video(clip, tmp_path / "out" / "b.mp4", Tiler(lambda images: images), lambda *at: told.append(at))
    assert (done.frames, done.width, done.height, done.notes) == (12, 48, 32, [])
    assert told[-1] == (12, 12)
    before, after = frames_of(clip), frames_of(tmp_path / "out" / "b.mp4")
    assert after[1] == before[1]
    assert np.abs(np.array(after[0], float) - np.array(before[0])).mean() < 2
    assert packets_of(tmp_path / "out" / "b.mp4") == packets_of(clip)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["b.mp4"]


def test_a_video_that_is_shown_rotated_is_written_upright(clip: Path, tmp_path: Path) -> None:
    content = bytearray(clip.read_bytes())
    matrix = content.index(b"tkhd") + 4 + 40
    content[matrix : matrix + 36] = struct.pack(">9i", 0, 1 << 16, 0, -1 << 16, 0, 0, 0, 0, 1 << 30)
    (tmp_path / "turned.mp4").write_bytes(content)
    done = restore_video(tmp_path / "turned.mp4", tmp_path / "b.mp4", Tiler(lambda images: images))
    assert (done.width, done.height) == (32, 48)
    assert done.notes == ["its pictures are written upright, without the tag that turned them"]
    turned, flat = frames_of(tmp_path / "b.mp4")[0][0], frames_of(clip)[0][0]
    assert np.abs(np.rot90(flat, -1).astype(float) - turned).mean() < 2  # a quarter turn clockwise


def test_videos_that_cannot_be_restored_leave_a_sentence_and_no_file(run: Run, clip: Path, tmp_path: Path) -> None:
    content = clip.read_bytes()
    Path("cut.mp4").write_bytes(content[: len(content) // 2])
    Path("text.mkv").write_text("no video")
    Path("empty.mp4").write_bytes(b"")
    code, out, err = run("cut.mp4", "text.mkv", "empty.mp4", "none.mov", "clip.mp4", "--model", "identity", "--json")
    assert code == 1, err
    told = json.loads(out)
    assert [line["status"] for line in told["images"]] == ["failed"] * 4 + ["restored"]
    assert all(str(line["message"]).startswith("Cannot read") for line in told["images"][:4])
    assert told["images"][4]["frames"] == 12 and told["images"][4]["flicker"]["added"] < 0.01
    assert [path.name for path in Path("restored").iterdir()] == ["clip.mp4"]


def test_without_pyav_a_video_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(ConfigError, match=r"pip install 'unseen\[video\]'"):
        restore_video(tmp_path / "a.mp4", tmp_path / "b.mp4", Tiler(half))


def test_flicker_has_a_closed_form() -> None:
    before = np.zeros((3, 4, 4, 3), np.float32)
    after = before.copy()
    before[1] = 0.2
    after[1, :2] = 0.5  # half of the pixels change more than they did, the others no longer
    found = flicker(before, after)
    assert (found.before, found.after, found.added) == (
        pytest.approx(0.2), pytest.approx(0.25), pytest.approx(0.15)
    )  # fmt: skip
    assert flicker(before, before).added == 0


@pytest.mark.slow
def test_frames_restored_one_by_one_flicker_less_than_they_did(tmp_path: Path) -> None:
    """A static scene in the rain: the median of 5 x 5 pixels takes rain out of each frame, and knows of no other."""
    av = pytest.importorskip("av", reason="PyAV is not installed: pip install 'unseen[video]'")
    from unseen.evaluation.baselines import BASELINES

    rain = unseen.Rain.preset("medium", scale=0.5)
    clean = torch.from_numpy(np.kron(noise(8, 8, 3), np.ones((16, 16, 1), np.uint8)) / np.float32(510)).permute(2, 0, 1)
    rngs = [unseen.generator(0, "clip", number) for number in range(16)]
    batch = rain.render(clean.expand(16, -1, -1, -1), rain.sample((128, 128), rngs))
    frames = (batch.degraded.permute(0, 2, 3, 1).numpy() * 255).astype(np.uint8)
    with av.open(str(tmp_path / "a.mkv"), "w") as writer:
        video = writer.add_stream("libx264", rate=25, options={"crf": "10"})
        video.width, video.height, video.pix_fmt = 128, 128, "yuv444p"
        for frame in frames:
            writer.mux(video.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        writer.mux(video.encode(None))
    restore_video(tmp_path / "a.mkv", tmp_path / "b.mkv", Tiler(BASELINES["median"]))
    found = flicker(np.array(frames_of(tmp_path / "a.mkv")[0]), np.array(frames_of(tmp_path / "b.mkv")[0]))
    assert found.after < 0.9 * found.before
    assert found.added < 0.2 * found.before


def test_no_chunk_is_left_out_without_a_word(tmp_path: Path) -> None:
    info = PngImagePlugin.PngInfo()
    info.add(b"prVt", b"something private")
    Image.fromarray(noise(4, 4, 3)).save(tmp_path / "a.png", pnginfo=info)
    assert read_picture(tmp_path / "a.png").notes == ["its prVt chunks are left out"]


def test_guided_networks_are_restored_in_tiles_that_are_mostly_used() -> None:
    config = GuidedConfig(prior=PriorConfig(source=str(small_tae())))
    assert reach(config) == (64, 4)
    for known in (config, None):
        tiler = tiler_for(half, "cpu", known)
        seen = sum(part.seen.stop - part.seen.start for part in tiler._parts(1024)) / 1024
        assert tiler.tile >= 128 and seen < 3


def test_what_follows_the_end_of_a_png_is_no_part_of_it(tmp_path: Path) -> None:
    Image.fromarray(noise(4, 4, 3)).save(tmp_path / "a.png")
    with (tmp_path / "a.png").open("ab") as file:
        file.write(b"\0\0\0\0\x1b[2J" + b"\0\0\0\x01tEXtx\0\0\0\0")
    picture = read_picture(tmp_path / "a.png")
    assert (picture.notes, picture.own) == ([], [])


@pytest.mark.parametrize(("depth", "key"), [(1, 1), (2, 2), (4, 15)])
def test_a_transparent_grey_of_few_bits_becomes_alpha(tmp_path: Path, depth: int, key: int) -> None:
    rows = bytes([0b11000110]) if depth == 2 else bytes([0xF7]) if depth == 4 else bytes([0b01000000])
    header = struct.pack(">IIBBBBB", 2, 1, depth, 0, 0, 0, 0)
    body = [
        (b"IHDR", header),
        (b"tRNS", struct.pack(">H", key)),
        (b"IDAT", zlib.compress(b"\0" + rows)),
        (b"IEND", b""),
    ]
    chunks = [
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in body
    ]
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunks))
    alpha = read_picture(tmp_path / "a.png").alpha
    values = [(rows[0] >> (8 - depth * (place + 1))) & (2**depth - 1) for place in range(2)]
    assert alpha is not None and alpha.tolist() == [[0 if value == key else 255 for value in values]]


@pytest.mark.parametrize("ending", [".jpg", ".bmp", ".ppm", ".webp", ".tif", ".png"])
def test_a_disk_that_takes_a_part_leaves_no_part(tmp_path: Path, ending: str) -> None:
    """A file may grow to 4 kB: the rest of a write is not taken."""
    resource = pytest.importorskip("resource")
    import signal

    write_image(tmp_path / f"a{ending}", noise(90, 90, 3))
    before, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
        (result,) = restore_files([Job(tmp_path / f"a{ending}", tmp_path / "out" / f"a{ending}")], Tiler(half))
        with pytest.raises(ImageError):
            write_image(tmp_path / f"b{ending}", noise(90, 90, 3))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert result.status == "failed"
    assert not list((tmp_path / "out").glob("*")) and not (tmp_path / f"b{ending}").exists()


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may list every folder")
def test_a_folder_that_cannot_be_listed_is_not_an_empty_one(tmp_path: Path) -> None:
    make(tmp_path / "a.png", tmp_path / "c.avi", tmp_path / "locked" / "b.png")
    (tmp_path / "locked").chmod(0)
    try:
        with pytest.raises(DataError, match="Cannot list"):
            find_jobs([str(tmp_path)], tmp_path / "out")
    finally:
        (tmp_path / "locked").chmod(0o755)


def test_a_restorer_may_use_gradients(tmp_path: Path) -> None:
    def descending(images: torch.Tensor) -> torch.Tensor:
        with torch.enable_grad():
            guess = images.clone().requires_grad_()
            (step,) = torch.autograd.grad(guess.square().sum(), guess)
        return (guess - step / 4).detach()

    make(tmp_path / "a.png")
    (result,) = restore_files([Job(tmp_path / "a.png", tmp_path / "b.png")], Tiler(descending))
    assert result.status == "restored"


def test_a_grey_video_keeps_its_contrast(tmp_path: Path) -> None:
    av = pytest.importorskip("av", reason="PyAV is not installed: pip install 'unseen[video]'")
    ramp = np.tile(np.arange(0, 256, 32, dtype=np.uint8).repeat(8), (32, 1))
    with av.open(str(tmp_path / "grey.mkv"), "w") as writer:
        video = writer.add_stream("ffv1", rate=5)
        video.width, video.height, video.pix_fmt = 64, 32, "gray"
        writer.metadata["title"] = "x"
        for _ in range(3):
            writer.mux(video.encode(av.VideoFrame.from_ndarray(ramp, format="gray")))
        writer.mux(video.encode(None))
    restore_video(tmp_path / "grey.mkv", tmp_path / "b.mkv", Tiler(lambda images: images))
    assert np.abs(frames_of(tmp_path / "b.mkv")[0][0][..., 0].astype(int) - ramp).max() <= 2


def test_metadata_of_another_alphabet_and_chapters_go_along(clip: Path, tmp_path: Path) -> None:
    import av

    with av.open(str(clip)) as reader, av.open(str(tmp_path / "a.mkv"), "w") as writer:
        if not hasattr(writer, "set_chapters"):
            pytest.skip("this PyAV writes no chapters")
        stream = reader.streams.video[0]
        copy = writer.add_stream_from_template(stream)
        writer.metadata["title"] = "CafeXX"
        chapter = {"id": 1, "start": 0, "end": 500, "time_base": Fraction(1, 1000), "metadata": {"title": "one"}}
        writer.set_chapters([chapter])  # pyright: ignore[reportArgumentType]
        for packet in reader.demux(stream):
            if packet.dts is not None:
                packet.stream = copy
                writer.mux(packet)
    content = (tmp_path / "a.mkv").read_bytes()
    (tmp_path / "a.mkv").write_bytes(content.replace(b"CafeXX", b"Caf\xe9XX"))
    restore_video(tmp_path / "a.mkv", tmp_path / "b.mkv", Tiler(lambda images: images))
    with av.open(str(tmp_path / "b.mkv")) as reader:
        assert [chapter["end"] * chapter["time_base"] for chapter in reader.chapters()] == [0.5]
