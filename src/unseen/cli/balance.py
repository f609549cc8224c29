"""`unseen balance`: Find the complexity of content and degradation that generalises best."""

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from unseen.cli.app import Json, Runs, Set, app, progress_bar, say, show
from unseen.errors import ConfigError, not_known, writing

if TYPE_CHECKING:
    from unseen.balance.space import Space
    from unseen.degradations import Degradation
    from unseen.study.cells import Event


@app.command()
def balance(
    config: Annotated[
        Path | None, typer.Argument(help="YAML of an experiment: ordinary training (default: the package's defaults).")
    ] = None,
    backgrounds: Annotated[
        Path | None, typer.Option(help="Folder of clean images (default: the embedded ones).")
    ] = None,
    degradation: Annotated[str | None, typer.Option(help="A named degradation to train on, e.g. medium.")] = None,
    scale: Annotated[float | None, typer.Option(help="Multiplies the sizes, in pixels, of named degradations.")] = None,
    within: Annotated[
        str | None, typer.Option(help="The widest that may be trained on: a name, or YAML of a degradation.")
    ] = None,
    trials: Annotated[int, typer.Option(help="Trials at most.", min=2)] = 24,
    minutes: Annotated[
        float | None, typer.Option(help="Begin no trial after so many minutes, once two are finished.", min=0.0)
    ] = None,
    steps: Annotated[
        int | None, typer.Option(help="Steps of a trial (default: half of the experiment's).", min=2)
    ] = None,
    allowed: Annotated[
        float,
        typer.Option(help="dB that training in full may lose on your own degradation; more counts twice.", min=0.0),
    ] = 0.5,
    workers: Annotated[int, typer.Option(help="Trials at a time, one thread each.", min=1)] = 1,
    predict: Annotated[
        bool, typer.Option("--predict", help="Guess from complexity alone, in seconds; train nothing.")
    ] = False,
    set_: Set = [],  # noqa: B006
    runs: Runs = Path("runs"),
    out: Annotated[
        Path, typer.Option("-o", "--out", help="Folder for the search, its page and the experiment.")
    ] = Path("balance"),
    json_: Json = False,
) -> None:
    """Search for the number of backgrounds, the range of the degradation, its schedule and the loss weights that
    generalise best, within bounds that are written down first.

    Trials are judged on parts of the range that none is trained on, never on test suites. Writes experiment.yaml, ready
    to train, and a page that explains the choice. The same command again goes on.

    Example: `unseen balance --backgrounds photos/ --degradation medium --minutes 60 --workers 2`
    """
    from unseen.cli.train import read_experiment
    from unseen.degradations import preset_names

    options: dict[str, Any] = {"backgrounds.source": backgrounds and str(backgrounds)}
    if degradation is not None:
        if degradation not in preset_names():
            raise ConfigError(not_known("degradation", degradation, preset_names()))
        options["degradation"] = {"preset": degradation, **({} if scale is None else {"scale": scale})}
    experiment = read_experiment(config, options, set_)
    wide = _wide(within, experiment.degradation, scale)
    if not experiment.degradation.within(wide):
        raise ConfigError(
            f"What is trained on does not lie within what is searched: {experiment.degradation.describe()} reaches "
            f"beyond {wide.describe()}. Name a wider one with --within (sizes are in pixels: is --scale the same?)."
        )
    space = _space(experiment, wide, steps, allowed)
    if predict:
        _predict(space, out, json_)
        return
    _search(space, out, runs, trials, minutes, workers, json_)


def _space(experiment: Any, wide: "Degradation", steps: int | None, allowed: float) -> "Space":
    from unseen.backgrounds import available
    from unseen.balance.space import Space
    from unseen.study.study import checked

    there = available(experiment.backgrounds)
    if there < 2:
        raise ConfigError(f"A search keeps images from training to judge on: it needs two or more, not {there}.")
    own = experiment.backgrounds  # fixed patches are cut from images, and images are kept
    kept = available(own.pool()) if own.unit == "patches" else there
    few = max(1, min(16, kept // 5))
    raw = {
        "experiment": experiment, "wide": wide, "steps": steps or max(2, experiment.recipe.steps // 2),
        "validation": few, "allowed": allowed,
    }  # fmt: skip
    return checked(Space, raw, "the search")


def _wide(within: str | None, narrow: "Degradation", scale: float | None) -> "Degradation":
    """The degradation to search within: named, read from a file, or its kind's own."""
    from pydantic import TypeAdapter, ValidationError

    from unseen.degradations import AnyDegradation, preset, preset_names
    from unseen.study.study import read_yaml

    if within is None:
        if narrow.widest is None:
            raise ConfigError(f"Name what to search within (--within): there is no default for {narrow.describe()}.")
        within = narrow.widest
    if within in preset_names():
        if scale is not None:
            return preset(within, scale)
        sizes = [preset(within, size) for size in (1.0, 0.5)]  # as is, or as the package's default rain
        return next((wide for wide in sizes if narrow.within(wide)), sizes[0])
    if not Path(within).is_file():
        raise ConfigError(
            f"--within names {within!r}: neither a file nor a named degradation. Known: {', '.join(preset_names())}."
        )
    try:
        return TypeAdapter(AnyDegradation).validate_python(read_yaml(Path(within)))
    except ValidationError as error:
        raise ConfigError(
            f"{within} is no degradation: {error.errors()[0]['msg'].removeprefix('Value error, ')}."
        ) from error


def _search(
    space: "Space", out: Path, runs: Path, trials: int, minutes: float | None, workers: int, json_: bool
) -> None:
    from unseen.balance.search import ENDED, TRIALS, search
    from unseen.report.balance import sentences, write_page

    with progress_bar(json_) as draw:

        def tell(event: "Event") -> None:
            if event.kind == "note":
                say(event.message)
            elif event.kind in ("failed", ENDED):
                say(f"{event.cell}: {event.message}")
            elif event.kind == "measure":
                draw(event.message, event.done, event.total, "")
            elif event.kind == TRIALS:
                draw("trials", event.done, event.total, "")
            else:
                verb = {"train": "steps", "judge": "images judged"}[event.kind]
                draw(f"{event.cell}, {verb}", event.done, event.total, "")

        command = shlex.join(["unseen", *sys.argv[1:]])
        found = search(
            space, out, runs, workers=workers, trials=trials, minutes=minutes, name=out.name or "balance",
            command=command, tell=tell,
        )  # fmt: skip
    with writing(out):
        page, said, best = write_page(found, out), sentences(found), found.best
    if json_:
        chosen = None if best is None else {"trial": best.number, "value": best.value, "params": best.params}
        show({"sentences": said, "trials": len(found.trials), "best": chosen, "agreement": found.agreement,
              "page": page, "experiment": out / "experiment.yaml"})  # fmt: skip
        return
    for sentence in said:
        say(sentence)
    say(f"Train it with: unseen train {out / 'experiment.yaml'}")
    print(page)


def _predict(space: "Space", out: Path, json_: bool) -> None:
    from unseen.balance.predict import Prediction
    from unseen.balance.record import read_balance
    from unseen.balance.search import write_experiment
    from unseen.errors import StudyError

    with progress_bar(json_) as draw:
        measured = Prediction.measure(space, lambda what, done, total: draw(what, done, total, ""))
    params = measured.best(space)
    try:
        known = read_balance(out)
    except StudyError:
        known = None
    path = out / "predicted.yaml"
    write_experiment(path, space.chosen(params), "guessed by unseen balance --predict from complexity alone")
    agreement = None if known is None else known.agreement
    if json_:
        show({"params": params.model_dump(exclude_none=True), "content": measured.content,
              "degradation": measured.degradation, "guess": measured.of(params), "agreement": agreement,
              "trials": 0 if known is None else len(known.complete), "experiment": path})  # fmt: skip
        return
    backgrounds = f"all {measured.available}" if params.count is None else str(params.count)
    say(
        f"Learning the content costs {measured.content:.2f} bits per value, the degradation "
        f"{measured.degradation['0']:.2f} as it is and {measured.degradation['1']:.2f} widened."
    )
    say(f"The most balanced: {backgrounds} backgrounds, the degradation widened by {params.widening:.0%}.")
    if agreement is None or known is None:
        say(f"How well such a guess ranks is not known here: {out} holds no search of four finished trials.")
    else:
        say(
            f"Such guesses ranked the {len(known.complete)} trials of the search in {out} with a correlation of "
            f"{agreement:+.2f}."
        )
    print(path)
