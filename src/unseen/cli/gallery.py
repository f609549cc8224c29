"""`unseen gallery`: what restorers change in images without ground truth."""

import os
import shlex
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from unseen.cli.app import Json, app, progress_bar, say, show
from unseen.cli.opening import Dials, Priors, models_named
from unseen.errors import ConfigError, DataError, ImageError, UnseenError

if TYPE_CHECKING:
    from unseen.images import Bytes
    from unseen.models import Model
    from unseen.report.gallery import Source
    from unseen.types import Restorer

    Restored = Callable[[str, Bytes], Bytes]

BASELINE_NOTES = {
    "identity": "baseline: changes nothing",
    "median": "baseline: median of 5 x 5 pixels",
    "box": "baseline: mean of 5 x 5 pixels",
}


@dataclass(frozen=True)
class Origin:
    """Where restored images come from: `restored(name, image)` gives the one for an image of the folder."""

    source: "Source"
    restored: "Restored"


@app.command()
def gallery(
    folder: Annotated[Path, typer.Argument(help="Folder of images, or one image.")],
    model: Annotated[
        list[str] | None,
        typer.Option("--model", "-m", help="A checkpoint, weights, or identity, median, box; repeatable."),
    ] = None,
    restored: Annotated[
        list[Path] | None,
        typer.Option(help="Folder of the same images restored by another tool, under the same names; repeatable."),
    ] = None,
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder for the page.")] = Path("gallery"),
    limit: Annotated[int | None, typer.Option(help="Only the first so many images, by name.", min=1)] = None,
    save: Annotated[bool, typer.Option("--save", help="Also write restored images at full size, as PNG.")] = False,
    dial: Dials = None,
    prior: Priors = None,
    trust: Annotated[bool, typer.Option("--trust", help="Allow model files that execute code.")] = False,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
    json_: Json = False,
) -> None:
    """Show and measure what models change in real images, without ground truth; it judges no quality.

    Example: `unseen gallery photos/ --model runs/0123456789ab --model median -o gallery/`
    """
    from unseen.evaluation.change import look, measure_change
    from unseen.images import find_images, read_image, write_image
    from unseen.report.gallery import Gallery

    if not model and not restored:
        raise ConfigError("Nothing to show: name a model with --model, or a folder of restored images with --restored.")
    root = folder.parent if folder.is_file() else folder
    saved = (out / "restored").resolve()
    found = [folder] if folder.is_file() else find_images(folder)
    found = [path for path in found if saved not in path.resolve().parents][:limit]  # what was saved is not an input
    if not found:
        raise ConfigError(f"All images of {folder} are restored ones, in {saved}. Choose another folder.")
    stems = Counter(_stem(path.relative_to(root).as_posix()) for path in found)
    opened = models_named(model or [], device, trust=trust, dials=dial, priors=prior)
    origins = _origins(opened, restored or [])
    count = "one image" if len(found) == 1 else f"{len(found)} images"
    page = Gallery(f"What changed in {count} of {root.resolve().name}", tuple(o.source for o in origins), len(found))
    done, total = 0, len(found) * len(origins)
    with progress_bar(json_) as draw:
        for path in found:
            name = path.relative_to(root).as_posix()
            stem = _stem(name)
            try:
                image = read_image(path)
            except ImageError as error:
                page.fail(name, str(error))
                say(f"Error: {error}")
                done += len(origins)
                draw("gallery", done, total, name)
                continue
            seen, images, changes, failed = look(image), {}, {}, {}
            for origin in origins:
                source = origin.source.name
                try:
                    after = origin.restored(name, image)
                    changes[source] = measure_change(image, after, seen)
                    images[source] = after
                except UnseenError as error:
                    failed[source] = str(error)
                    say(f"Error: {name}, {source}: {error}")
                else:
                    if save:
                        write_image(saved / source / f"{name if stems[stem] > 1 else stem}.png", after)
                done += 1
                draw("gallery", done, total, f"{name}, {source}")
            page.add(name, image, images, changes, failed)
    path = page.write(out, f"unseen {shlex.join(sys.argv[1:])}", "restored/" if save else "")
    found_out, failures = page.summaries(), page.failures
    if json_:
        show(
            {
                "path": path,
                "table": out / "changes.csv",
                "models": found_out,
                "images": page.rows(),
                "failed": [{"image": image, "model": by or None, "message": why} for image, by, why in failures],
            }
        )
    else:
        for summary in found_out:
            say(" ".join(summary["sentences"]))
        say("What changed is measured, not whether it became better: there is no truth to compare with.")
        print(path)
    if failures:
        say(f"{len(failures)} failed; the page lists them.")
        raise typer.Exit(1)


def _origins(models: "list[Model]", folders: list[Path]) -> list[Origin]:
    """Every model opened and every folder listed, under names that differ."""
    from unseen.evaluation.baselines import BASELINES
    from unseen.report.gallery import Source
    from unseen.restoration import restore_image

    taken: set[str] = set()

    def named(name: str, note: str, baseline: bool = False) -> "Source":
        number, plain = 1, name
        while name in taken:
            number += 1
            name = f"{plain} ({number})"
        taken.add(name)
        return Source(name, note, baseline)

    def by(restorer: "Restorer") -> "Restored":
        return lambda name, image: restore_image(restorer, image)

    found = []
    for model in models:
        if model.name in BASELINES and model.kind == "baseline":
            found.append(Origin(named(model.name, BASELINE_NOTES[model.name], True), by(model.restore)))
            continue
        note = model.kind if model.parameters is None else f"{model.kind}, {model.parameters:,} parameters"
        found.append(Origin(named(model.name, note), by(model.restore)))
    for folder in folders:
        found.append(Origin(named(folder.resolve().name, "images restored by another tool"), _looked_up(folder)))
    return found


def _stem(name: str) -> str:
    return os.path.splitext(name)[0]


def _looked_up(folder: Path) -> "Restored":
    """Finds the restored image of the same name in a folder; endings do not count."""
    from unseen.images import find_images, read_image

    by_stem: dict[str, list[Path]] = {}
    for path in find_images(folder):
        by_stem.setdefault(_stem(path.relative_to(folder).as_posix()), []).append(path)

    def restored(name: str, image: "Bytes") -> "Bytes":
        found = by_stem.get(name) or by_stem.get(_stem(name), [])  # "a.jpg.png" or "a.png" for "a.jpg"
        if not found:
            raise DataError(f"{folder} has no image of that name, with any ending.")
        exact = [path for path in found if path.name == Path(name).name]
        if len(found) > 1 and len(exact) != 1:
            raise DataError(f"{found[0]} and {found[1]} differ in their ending only: which is the restored image?")
        return read_image((exact or found)[0])

    return restored
