"""`unseen map`: Where a restorer works, and where it stops."""

import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from unseen.cli.app import Json, app, progress_bar, say, show
from unseen.cli.opening import Priors, models_named
from unseen.errors import ConfigError, writing

if TYPE_CHECKING:
    from unseen.backgrounds import Backgrounds
    from unseen.evaluation.map import Trained
    from unseen.models import Model


@app.command("map")
def map_(
    model: Annotated[str, typer.Argument(help="A checkpoint, a run's folder, weights, or identity, median, box.")],
    out: Annotated[Path | None, typer.Option("-o", "--out", help="Folder for the page (default: map-NAME).")] = None,
    plane: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FACTOR,FACTOR",
            help="Two of direction, length, width, quantity; repeatable (default: the first two, and the other two).",
        ),
    ] = None,
    grid: Annotated[
        str, typer.Option(help="Cells along both factors, e.g. 9x7, or 5 for 5x5: fewer are faster.")
    ] = "9x7",
    trained: Annotated[
        list[str] | None,
        typer.Option(
            metavar="RAIN | FACTOR=LOW:HIGH",
            help="The training range, where the model does not tell it: a named rain, or single factors; repeatable.",
        ),
    ] = None,
    scale: Annotated[float, typer.Option(help="Multiplies widths and lengths of the named rain of --trained.")] = 0.5,
    images: Annotated[
        Path | None, typer.Option(help="Folder of clean images (default: the embedded test images).")
    ] = None,
    limit: Annotated[int, typer.Option(help="At most so many of the images.", min=1)] = 12,
    crop: Annotated[int, typer.Option(help="Centre crop of the images, pixels a side.", min=16)] = 112,
    seed: Annotated[int, typer.Option(help="Seed of the rain.")] = 0,
    prior: Priors = None,
    trust: Annotated[bool, typer.Option("--trust", help="Load models whose files execute code.")] = False,
    allow_leaks: Annotated[
        bool, typer.Option("--allow-leaks", help="Judge on images that were trained on, and mark the map.")
    ] = False,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
    json_: Json = False,
) -> None:
    """Draw the map of generalisation: removal and damage over planes of rain, the training range as a frame.

    Example: `unseen map runs/0123456789ab -o map/` or `unseen map weights.pth --trained direction=-30:30 --grid 5`
    """
    from unseen.degradations import Mixture, Rain
    from unseen.evaluation.map import PLANES, generalization_map, rains_of, why_no_map
    from unseen.experiment import all_met
    from unseen.report.map import cells_table, stops, tally, verdict, write_map

    planes, cells, given = _planes(plane) or PLANES, _cells(grid), _trained(trained or [], scale)
    found = models_named([model], device, trust=trust, priors=prior)[0]
    if why := why_no_map(found.name, found.lineage):
        raise ConfigError(why)
    own = all_met(found.lineage)
    if given is None and (isinstance(own, Rain) or (isinstance(own, Mixture) and rains_of(own))):
        given = own
    if given is None and own is not None:
        say(f"{found.name} was not trained on rain by itself: the map has no frame. Give it one with --trained.")
    elif given is None:
        say(f"What {found.name} was trained on is not known: the map has no frame. Say it with --trained.")
    pool = _images(images, limit)
    notes = _leaks(found, pool, allow_leaks)
    with progress_bar(json_) as draw:
        drawn = generalization_map(
            found.restore,
            pool,
            trained=given,
            planes=planes,
            cells=cells,
            crop=crop,
            seed=seed,
            name=found.name,
            step=found.step,
            progress=lambda done, total: draw("map", done, total, ""),
        )
    drawn = replace(drawn, notes=notes)
    folder = (
        out if out is not None else Path("map-" + (re.sub(r"[^A-Za-z0-9_.-]+", "-", found.name).strip("-.") or "model"))
    )
    with writing(folder):
        page, said = write_map(drawn, folder), verdict(drawn)
    if json_:
        names = {True: "inside", False: "outside", None: "unknown"}
        show(
            {
                "model": {"name": found.name, "kind": found.kind, "parameters": found.parameters, "step": found.step},
                "trained": drawn.trained,
                "images": list(drawn.images),
                "sentences": said,
                "cells": {name: vars(tally(drawn, inside)) for inside, name in names.items()},
                "stops": [vars(stop) for stop in stops(drawn)],
                "map": cells_table(drawn).to_dict("records"),
                "page": page,
                "files": [folder / name for name in ("map.png", "map.csv", "rows.parquet")],
            }
        )
        return
    for sentence in said:
        say(sentence)
    print(page)


def _planes(given: list[str] | None) -> list[tuple[str, str]]:
    found = []
    for text in given or []:
        parts = [part.strip() for part in text.split(",")]
        if len(parts) != 2:
            raise ConfigError(
                f"--plane takes two factors with a comma between, such as direction,length, not {text!r}."
            )
        found.append((parts[0], parts[1]))
    return found


def _cells(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"(\d{1,3})(?:x(\d{1,3}))?", text.strip())
    if match is None:
        raise ConfigError(f"--grid takes numbers of cells such as 9x7, or 5 for 5x5, not {text!r}.")
    return int(match[1]), int(match[2] or match[1])


def _trained(given: list[str], scale: float) -> "Trained | None":
    """A named rain, with the single factors given beside it; or those factors alone."""
    from unseen.degradations import Rain
    from unseen.evaluation.map import with_ranges

    names, factors = [], {}
    for text in given:
        match = re.fullmatch(r"\s*(\w+)\s*=\s*([^:=]+)(?::([^:=]+))?\s*", text)
        try:
            if match:
                factors[match[1]] = (float(match[2]), float(match[3] or match[2]))
            else:
                names.append(text.strip())
        except ValueError as error:
            raise ConfigError(f"--trained takes numbers, such as direction=-30:30, not {text!r}.") from error
    if len(names) > 1:
        raise ConfigError(f"--trained takes one named rain, not {len(names)}: {', '.join(names)}.")
    if not names:
        return factors or None
    return with_ranges(Rain.preset(names[0], scale=scale), factors)


def _images(folder: Path | None, limit: int) -> "Backgrounds":
    """The test images; of more than `limit`, a seeded choice."""
    from unseen.backgrounds import EMBEDDED_LEAVES, PHOTOGRAPHS, Backgrounds, BackgroundsConfig
    from unseen.images import find_images

    if folder is None:
        there = len(PHOTOGRAPHS["test"]) + EMBEDDED_LEAVES["test"]
        return Backgrounds(BackgroundsConfig(part="test", count=min(limit, there)))
    return Backgrounds(BackgroundsConfig(source=str(folder), count=min(limit, len(find_images(folder)))))


def _leaks(model: "Model", images: "Backgrounds", allowed: bool) -> tuple[str, ...]:
    """Refuse test images that were trained on, as far as that can be known; where it is allowed, a note says so."""
    from unseen.leaks import find_leaks, fingerprints, refuse_leaks
    from unseen.training_images import training_fingerprints

    if model.experiment is None or model.path is None:
        return ()
    trained = training_fingerprints(model.lineage, model.path.parent)
    if trained is None:
        say(f"{model.name}: its training images are not on this machine, so leaks were not looked for.")
        return ("The training images were not at hand: leaks were not looked for.",)
    leaks = find_leaks(trained, fingerprints((name, images.image(n)) for n, name in enumerate(images.names)))
    refuse_leaks(leaks, allowed, model.name)
    number = len({leak.test for leak in leaks})
    return (f"{number} of the {len(images)} test images were trained on: this map flatters.",) if number else ()
