"""The sample of every suite: degraded, clean, mask, restored and what is still wrong, ready to be inlined."""

import base64
import io
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from unseen.report.tables import Setting, Tables
from unseen.study.record import SuiteRecord

AMPLIFIED = 4
"""By how much the residual |restored - clean| is amplified before it is shown."""

BUDGET = 5_500_000
"""Bytes that all pictures of a page may take, as text."""

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Restored:
    """`psnr` is that of this picture against the clean one, in dB, from 8-bit files."""

    setting: Setting
    seed: str
    image: Pixels
    residual: Pixels | None
    psnr: float


@dataclass(frozen=True)
class Sample:
    """One suite's pictures; those that are not there are None."""

    suite: SuiteRecord
    degraded: Pixels
    clean: Pixels | None
    mask: Pixels | None
    psnr: float
    restored: tuple[Restored, ...]


def read(path: Path | None) -> Pixels | None:
    """None where there is no such picture, or none that can be read: a report does without."""
    if path is None or not path.is_file():
        return None
    try:
        with Image.open(path) as image:
            return np.asarray(image.convert("RGB"))
    except OSError:
        return None


def psnr(image: Pixels, clean: Pixels | None) -> float:
    if clean is None or image.shape != clean.shape:
        return math.nan
    error = float(np.mean((image.astype(np.float64) - clean) ** 2)) / 255**2
    return math.inf if error == 0 else -10 * math.log10(error)


def residual(image: Pixels, clean: Pixels | None) -> Pixels | None:
    """|restored - clean|, amplified and clipped."""
    if clean is None or image.shape != clean.shape:
        return None
    wrong = np.abs(image.astype(np.int32) - clean.astype(np.int32)) * AMPLIFIED
    return np.minimum(wrong, 255).astype(np.uint8)


def samples(tables: Tables) -> Iterator[Sample]:
    """Suites that have a picture of the degraded image and at least one of a restored one."""
    for suite in tables.suites:
        given = tables.record.pictures.get(suite.name, {})
        degraded, clean, mask = (read(given.get(kind)) for kind in ("degraded", "clean", "mask"))
        restored = [found for setting in tables.settings if (found := _restored(tables, setting, suite, clean))]
        if degraded is not None and restored:
            yield Sample(suite, degraded, clean, mask, psnr(degraded, clean), tuple(restored))


def _restored(tables: Tables, setting: Setting, suite: SuiteRecord, clean: Pixels | None) -> Restored | None:
    """Of the lowest seed that has one."""

    def order(index: int) -> tuple[float, str]:
        seed = tables.record.cells[index].axes.get("seed", 0)
        return (float(seed), "") if isinstance(seed, int | float) else (math.inf, str(seed))

    for index in sorted(setting.cells, key=order):
        cell = tables.record.cells[index]
        image = read(cell.pictures.get(suite.name))
        if image is not None:
            seed = str(cell.axes.get("seed", ""))
            return Restored(setting, seed, image, residual(image, clean), psnr(image, clean))
    return None


def encoded(images: list[Pixels]) -> list[str]:
    """As WebP data URIs: quality 90 where that fits the budget, else less, and in the end smaller pictures."""
    uris: list[str] = []
    for side, quality in ((None, 90), (512, 80), (384, 70), (256, 60), (128, 50)):
        uris, total = [], 0
        for image in images:
            uris.append(_uri(image, side, quality))
            total += len(uris[-1])
            if total > BUDGET:
                break
        else:
            return uris
    return uris + [""] * (len(images) - len(uris))


def _uri(image: Pixels, side: int | None, quality: int) -> str:
    picture = Image.fromarray(image)
    if side is not None:
        picture.thumbnail((side, side))
    buffer = io.BytesIO()
    picture.save(buffer, "WEBP", quality=quality, method=3)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def contact_sheet(found: list[Sample], tile: int = 220) -> bytes:
    """A line for each suite: degraded, restored by each setting, clean. PNG."""
    settings = list(dict.fromkeys(r.setting.name for sample in found for r in sample.restored))
    lines = []
    for sample in found:
        by_setting = {r.setting.name: r.image for r in sample.restored}
        shots = [sample.degraded, *(by_setting.get(s) for s in settings), sample.clean]
        lines.append((sample.suite.name, shots))
    return sheet(["degraded", *settings, "clean"], lines, tile)


def sheet(heads: Sequence[str], lines: Sequence[tuple[str, Sequence[Pixels | None]]], tile: int = 220) -> bytes:
    """Pictures in a grid, one line for each name with a picture, or none, under each head. PNG."""
    top, left, gap = 24, 84, 4
    width, height = left + len(heads) * (tile + gap), top + len(lines) * (tile + gap)
    page = Image.new("RGB", (width, height), "white")
    pen = ImageDraw.Draw(page)
    for column, head in enumerate(heads):
        pen.text((left + column * (tile + gap), 6), head[: tile // 7], fill="#1c2024")
    for line, (name, shots) in enumerate(lines):
        y = top + line * (tile + gap)
        pen.text((4, y + tile // 2), name[:13], fill="#1c2024")
        for column, image in enumerate(shots):
            if image is not None:
                picture = Image.fromarray(image)
                picture.thumbnail((tile, tile))
                page.paste(picture, (left + column * (tile + gap), y))
    buffer = io.BytesIO()
    page.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()
