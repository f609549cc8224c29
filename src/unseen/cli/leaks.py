"""`unseen leaks`: Test images that were trained on."""

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from unseen.cli.app import Json, app, progress_bar, say, show
from unseen.errors import ConfigError, DataError

if TYPE_CHECKING:
    from unseen.images import Bytes
    from unseen.leaks import Fingerprints, Leak

Draw = Callable[[str, int, int, str], None]

TILE = 240
"""Longest side of a picture in the sheet, pixels."""

SHOWN = 50
"""Most pairs in a sheet."""


@app.command()
def leaks(
    train: Annotated[list[str], typer.Argument(help="Folders of images or of pairs, runs, checkpoints, embedded.")],
    test: Annotated[list[str], typer.Option(help="The same; repeatable.")],
    threshold: Annotated[
        float | None, typer.Option(help="Similarity from which two images are the same (default: 0.8).", min=0, max=1)
    ] = None,
    sheet: Annotated[
        Path | None, typer.Option(help="Also draw the pairs found, side by side, in this picture.")
    ] = None,
    json_: Json = False,
) -> None:
    """Find test images that were trained on, by content: saved anew, resized, mirrored, turned or cropped all the same.

    Leaves with code 1 where there are any. Of folders of pairs the clean images count, of runs and checkpoints what
    they were trained on.

    Example: `unseen leaks photos/ runs/0123456789ab --test pairs/rain100l --sheet leaks.png`
    """
    from unseen.images import WRITTEN
    from unseen.leaks import THRESHOLD, find_leaks

    if sheet is not None and sheet.suffix.lower() not in WRITTEN:
        raise ConfigError(f"--sheet {sheet}: unknown suffix '{sheet.suffix}'. Use one of {', '.join(WRITTEN)}.")
    with progress_bar(json_) as draw:
        sides = opened(train, "train", draw), opened(test, "test", draw)
        for side in sides:
            for name in side.prints.flat:
                say(f"{name} is flat, or nearly: it is like no other image, and is not found.")
        found = find_leaks(
            sides[0].prints,
            sides[1].prints,
            THRESHOLD if threshold is None else threshold,
            progress=lambda done, total: draw("compare", done, total, ""),
        )
    if sheet is not None and found:
        _draw_sheet(sheet, found, *sides)
        say(f"The sheet is {sheet}: left the training image, right the test image.")
    if json_:
        from dataclasses import asdict

        counts = {"train_images": len(sides[0].prints), "test_images": len(sides[1].prints)}
        show({**counts, "leaks": [asdict(leak) for leak in found], "sheet": sheet if found else None})
    else:
        _print(found, len(sides[0].prints), len(sides[1].prints))
    if found:
        sys.exit(1)


@dataclass(frozen=True)
class _Side:
    """Fingerprints, and how the images behind them are read, by name, where they are on this machine."""

    prints: "Fingerprints"
    reads: dict[str, Callable[[], "Bytes"]]

    def picture(self, name: str) -> "Bytes":
        """The image or, where it is not at hand, its fingerprint."""
        import numpy as np

        if name in self.reads:
            return self.reads[name]()
        cells = self.prints.values[self.prints.names.index(name)].reshape(32, 32)
        return np.repeat(cells[..., None], 3, axis=2)


def opened(sources: Sequence[str], what: str, draw: Draw) -> _Side:
    """All sources as one side; names begin with their source where there are several."""
    from dataclasses import replace

    from unseen.leaks import joined

    sides = [_opened_one(source, what, draw) for source in sources]
    if len(sides) == 1:
        return sides[0]
    called = [f"{source.rstrip('/')}/" for source in sources]
    named = [
        replace(side.prints, names=[f"{call}{name}" for name in side.prints.names])
        for call, side in zip(called, sides, strict=True)
    ]
    reads = {
        f"{call}{name}": read for call, side in zip(called, sides, strict=True) for name, read in side.reads.items()
    }
    return _Side(joined(named), reads)


def _opened_one(source: str, what: str, draw: Draw) -> _Side:
    from functools import partial

    from unseen.backgrounds import expanded
    from unseen.images import find_images, read_image

    if source == "embedded":
        from unseen.backgrounds import Backgrounds, BackgroundsConfig

        pool = Backgrounds(BackgroundsConfig(part="test" if what == "test" else "train"))
        say(f"{what}: {len(pool)} embedded images, the {pool.config.part} part")
        return _read(pool.names, [partial(pool.image, index) for index in range(len(pool))], what, draw)
    path = expanded(source)
    if path.is_file() or (path / "model.safetensors").is_file():
        return _trained_on(path, what)
    if not path.is_dir():
        raise ConfigError(f"There is no {source}. Name a folder of images, a run, a checkpoint, or embedded.")
    pairs = _as_pairs(path)
    if pairs is not None:
        say(f"{what}: the clean images of {source}: {pairs.layout}")
        _say_left_out(pairs.unmatched + pairs.mismatched)
        first = {name: index for index, name in reversed(list(enumerate(pairs.clean_of)))}
        names = sorted(first)
        return _read(names, [partial(_clean, pairs, first[name]) for name in names], what, draw)
    files = find_images(path)
    say(f"{what}: {len(files)} images in {source}")
    names = [file.relative_to(path).as_posix() for file in files]
    return _read(names, [partial(read_image, file) for file in files], what, draw)


def _clean(pairs: Any, index: int) -> "Bytes":
    """Any: a PairFolder."""
    return pairs.read(index).clean


def _say_left_out(reasons: Sequence[str]) -> None:
    if reasons:
        more = f"; and {len(reasons) - 5} more" if len(reasons) > 5 else ""
        say(f"Left out, in no pair: {'; '.join(reasons[:5])}{more}")


def _as_pairs(folder: Path) -> Any:
    """A PairFolder where the folder is one, else None: then all its images count."""
    from unseen.pair_folder import PairFolder, PairFolderConfig

    try:
        return PairFolder(PairFolderConfig(folder=str(folder)))
    except (ConfigError, DataError):
        return None


def _trained_on(path: Path, what: str) -> _Side:
    from unseen.checkpoints import load_checkpoint
    from unseen.leaks import load_fingerprints
    from unseen.training_images import training_fingerprints

    if path.name == "fingerprints.safetensors":
        prints = load_fingerprints(path)
    else:
        checkpoint = load_checkpoint(path)
        found = training_fingerprints(checkpoint.lineage, checkpoint.path.parent)
        if found is None:
            sources = ", ".join(one.source for one in checkpoint.experiment.backgrounds.sources)
            raise DataError(
                f"What {path} was trained on is not on this machine: there are no fingerprints beside it, and its "
                f"images ({sources}) cannot be read. Name their folder instead."
            )
        prints = found
    say(f"{what}: {len(prints)} images that {path} was trained on")
    return _Side(prints, {})


def _read(names: list[str], reads: list[Callable[[], "Bytes"]], what: str, draw: Draw) -> _Side:
    from unseen.leaks import fingerprints
    from unseen.store import read_ahead

    def images() -> Iterator[tuple[str, "Bytes"]]:
        read = read_ahead(reads, lambda done, total: draw(f"read {what}", done, total, ""))
        yield from zip(names, read, strict=True)

    return _Side(fingerprints(images()), dict(zip(names, reads, strict=True)))


def _print(found: "Sequence[Leak]", train: int, test: int) -> None:
    from rich.console import Console
    from rich.table import Table

    if not found:
        print(f"No leak: none of {test} test images is among {train} training images.")
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("train", "test"):
        table.add_column(title, overflow="fold")
    table.add_column("similarity", justify="right")
    table.add_column("")
    for leak in found:
        table.add_row(leak.train, leak.test, f"{leak.similarity:.3f}", "mirrored" if leak.mirrored else "")
    Console(width=None if sys.stdout.isatty() else 120, markup=False).print(table)
    tests = len({leak.test for leak in found})
    print(f"{tests} of {test} test images {'is' if tests == 1 else 'are'} among {train} training images.")


def _draw_sheet(path: Path, found: "Sequence[Leak]", train: _Side, test: _Side) -> None:
    """A row per pair, the training image left, with both names: the first `SHOWN` of them."""
    import numpy as np
    from PIL import Image, ImageDraw

    from unseen.images import write_image

    line = 16  # pixels for a caption
    sheet = Image.new("RGB", (2 * TILE, (TILE + line) * min(len(found), SHOWN)), "white")
    pen = ImageDraw.Draw(sheet)
    for row, leak in enumerate(found[:SHOWN]):
        top = row * (TILE + line)
        for column, picture in enumerate((train.picture(leak.train), test.picture(leak.test))):
            image = Image.fromarray(picture)
            scale = TILE / max(image.size)
            size = max(1, round(image.width * scale)), max(1, round(image.height * scale))
            sheet.paste(image.resize(size, Image.Resampling.BICUBIC), (column * TILE, top + line))
        mirrored = ", mirrored" if leak.mirrored else ""
        caption = f"{_end(leak.train)} | {_end(leak.test)} | {leak.similarity:.3f}{mirrored}"
        pen.text((4, top + 2), caption.encode("latin-1", "replace").decode("latin-1"), fill="black")
    write_image(path, np.asarray(sheet))


def _end(name: str) -> str:
    return name if len(name) <= 24 else f"...{name[-21:]}"
