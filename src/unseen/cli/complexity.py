"""`unseen complexity`: How complex images are, and degradations, and which of the two is simpler."""

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from unseen.cli.app import Json, app, progress_bar, say, show
from unseen.errors import ConfigError, writing

if TYPE_CHECKING:
    from unseen.backgrounds import Backgrounds
    from unseen.complexity.learned import Degrade
    from unseen.complexity.record import Survey
    from unseen.degradations import Degradation
    from unseen.images import Bytes
    from unseen.report.complexity import Extremes, Found


@app.command()
def complexity(
    folder: Annotated[list[str], typer.Argument(help="Folders of images, or embedded.")],
    degradation: Annotated[
        list[str] | None, typer.Option(help="A named degradation to weigh against each folder; repeatable.")
    ] = None,
    scale: Annotated[float, typer.Option(help="Multiplies sizes in pixels: streaks, kernels; noise has none.")] = 1.0,
    size: Annotated[
        int,
        typer.Option(
            help="Images are measured at their centre, pixels a side; what is learned is cut from whole ones.",
            min=1,
            max=4096,
        ),
    ] = 256,
    limit: Annotated[int, typer.Option(help="At most so many images of a folder, a seeded choice.", min=1)] = 500,
    seed: Annotated[int, typer.Option(help="Seed of patches, layers and the network.", min=0)] = 0,
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder for the page.")] = Path("complexity"),
    json_: Json = False,
) -> None:
    """Measure how complex images are, and degradations, and which of the two is the simpler to learn.

    Writes a page with a table, histograms, the simplest and the most complex images, and the balance: what it costs to
    learn the images over what it costs to learn the degradation. Above 1, the degradation is the simpler one, and
    ordinary training tends to fit it.

    Example: `unseen complexity photos/ faces/ --degradation medium --degradation large -o complexity/`
    """
    from unseen.complexity.survey import survey_degradation, survey_images
    from unseen.degradations import preset
    from unseen.report.complexity import Found, sentences, write_complexity

    named = {name: _degrade(preset(name, scale)) for name in dict.fromkeys(degradation or [])}
    pools: dict[str, Backgrounds] = {}
    folders: list[Survey] = []
    laid: list[Survey] = []
    with progress_bar(json_) as draw:

        def told(what: str, done: int, total: int) -> None:
            draw(what, done, total, "")

        for name, source in _names(folder).items():
            pools[name] = _opened(source, limit, seed, partial(told, f"{name}, images opened"))
        for name, pool in pools.items():
            patches = pool.patches
            folders.append(survey_images(name, pool.crops(size), len(pool), patches, seed=seed, progress=told))
            laid += [
                survey_degradation(each, name, degrade, patches, size=size, seed=seed, progress=told)
                for each, degrade in named.items()
            ]
    ends = [_ends(survey, _picture(survey, pools[survey.name], size)) for survey in folders]
    first = folders[0].name  # one folder is enough to see a degradation
    ends += [
        _ends(survey, _layer(named[survey.name], pools[survey.on], size, seed)) for survey in laid if survey.on == first
    ]
    found = Found(tuple(folders), tuple(laid), tuple(ends), size, seed, tuple(_notes(folders, size)))
    with writing(out):
        page, said = write_complexity(found, out), sentences(found)
    if json_:
        files = [out / name for name in ("complexity.csv", "learned.csv", "complexity.png")]
        show({"sentences": said, **_numbers(found), "notes": found.notes, "page": page, "files": files})
        return
    _print(found)
    for sentence in (*said, *found.notes):
        say(sentence)
    print(page)


def _names(sources: list[str]) -> dict[str, str]:
    """What to call the folders: their last part, or the whole path where several share it."""
    sources = list(dict.fromkeys(sources))
    last = [Path(source).name or source for source in sources]
    return {name if last.count(name) == 1 else source: source for name, source in zip(last, sources, strict=True)}


def _opened(source: str, limit: int, seed: int, progress: "Callable[[int, int], None]") -> "Backgrounds":
    from unseen.backgrounds import Backgrounds, BackgroundsConfig, expanded
    from unseen.images import find_images

    if source == "embedded":
        pool = Backgrounds(BackgroundsConfig(), progress=progress)
        return pool if len(pool) <= limit else Backgrounds(BackgroundsConfig(count=limit, seed=seed))
    if source == "leaves":
        raise ConfigError("leaves are endless: name a folder of images, or embedded, which has some leaves in it.")
    there = len(find_images(expanded(source)))
    if there > limit:
        say(f"{source}: {limit} of its {there:,} images, a seeded choice; --limit takes more.")
    return Backgrounds(BackgroundsConfig(source=source, count=min(limit, there), seed=seed), progress=progress)


def _degrade(degradation: "Degradation") -> "Degrade":
    return lambda clean, rngs: degradation.render(clean, degradation.sample((clean.shape[-2], clean.shape[-1]), rngs))


def _picture(survey: "Survey", pool: "Backgrounds", size: int) -> "Callable[[str], Bytes]":
    """How an image that is shown is found again, by name, cut as it was measured."""
    from unseen.report.complexity import shown

    wanted = {name for names in shown(survey) for name in names}
    crops = {name: crop for name, crop in pool.crops(size) if name in wanted}
    return crops.__getitem__


def _layer(degrade: "Degrade", pool: "Backgrounds", size: int, seed: int) -> "Callable[[str], Bytes]":
    from unseen.complexity.survey import layer
    from unseen.images import to_bytes

    def drawn(name: str) -> "Bytes":
        number = int(name.rpartition(" ")[2])
        return to_bytes(layer(degrade, pool.patches, number, size, seed).expand(3, -1, -1).permute(1, 2, 0).numpy())

    return drawn


def _ends(survey: "Survey", picture: "Callable[[str], Bytes]") -> "Extremes":
    from unseen.report.complexity import Extremes, shown

    bits = dict(zip(survey.table["image"], survey.table["compression"], strict=True))
    simplest, most = ([(name, bits[name], picture(name)) for name in names] for names in shown(survey))
    return Extremes(survey, tuple(simplest), tuple(most))


def _notes(folders: "list[Survey]", size: int) -> "list[str]":
    """What limits the measures on these images."""
    notes = []
    for survey in folders:
        sides = survey.table[["height", "width"]].min(axis=1)
        small = int((sides < size).sum())
        if small:
            notes.append(
                f"{survey.name}: {small} of {len(sides)} images are smaller than {size} pixels (the smallest side is "
                f"{int(sides.min())}): they have fewer scales, and pay more for headers."
            )
        flat = int((survey.table["structural"] == 0).sum())
        if flat:
            notes.append(f"{survey.name}: {flat} of {len(sides)} images are flat: they have no slope and no grain.")
    return notes


def _numbers(found: "Found") -> "dict[str, object]":
    from unseen.complexity.record import MEASURES, balance

    def of(survey: "Survey") -> "dict[str, object]":
        learned = survey.learned
        return {
            "name": survey.name,
            **({"on": survey.on, "balance": balance(found.content_of(survey), survey)} if survey.on else {}),
            "pictures": len(survey.table),
            "medians": {name: survey.median(name) for name in MEASURES},
            "scales": survey.scales(),
            "code_length": {"bits": learned.bits, "left": learned.left, "learning": learned.learning},
        }

    return {"folders": [of(survey) for survey in found.folders], "degradations": [of(s) for s in found.degradations]}


def _print(found: "Found") -> None:
    """The table, for people."""
    from rich.console import Console
    from rich.table import Table

    from unseen.report.complexity import lines, units

    heads, body = lines(found)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for head, unit in zip(heads, units(), strict=True):
        table.add_column(f"{head}\n{unit}".strip(), justify="right" if head else "left", overflow="fold")
    for line in body:
        table.add_row(*line)
    console = Console(stderr=True, width=None if sys.stderr.isatty() else 150, markup=False)
    console.print(table)
