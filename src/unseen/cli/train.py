"""`unseen train`: Train one network."""

import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from unseen.cli.app import Json, Runs, Set, app, progress_bar, say, show

if TYPE_CHECKING:
    from unseen.data import StoredPairs
    from unseen.experiment import Experiment

NAMED = 3
"""How many of the files that are left out are named."""


@app.command()
def train(
    config: Annotated[
        Path | None, typer.Argument(help="YAML of an experiment (default: the package's defaults).")
    ] = None,
    recipe: Annotated[
        str | None,
        typer.Option(
            help="Begin with a named way to train: content or ordinary. CONFIG is laid over it. content needs a prior "
            "(docs/priors.md) and 32 images."
        ),
    ] = None,
    backgrounds: Annotated[
        Path | None, typer.Option(help="Folder of clean images (default: the embedded ones).")
    ] = None,
    pairs: Annotated[
        list[str],
        typer.Option(metavar="FOLDER", help="Folder of pairs to train on, instead of synthetic ones. Repeatable."),
    ] = [],  # noqa: B006
    share: Annotated[
        float | None, typer.Option(help="Share of the samples that come from the pairs; the rest is synthetic.")
    ] = None,
    test: Annotated[
        list[str],
        typer.Option(
            metavar="FOLDER", help="Images or pairs kept for testing: refuse if any is trained on. Repeatable."
        ),
    ] = [],  # noqa: B006
    allow_leaks: Annotated[
        bool, typer.Option("--allow-leaks", help="Train even on images that are in a --test folder.")
    ] = False,
    steps: Annotated[int | None, typer.Option(help="Steps to train.", min=1)] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of everything.", min=0)] = None,
    set_: Set = [],  # noqa: B006
    runs: Runs = Path("runs"),
    processes: Annotated[int, typer.Option(help="Processes (devices) that share every batch.", min=1)] = 1,
    save_every: Annotated[int, typer.Option(help="Steps between saved states.", min=1)] = 500,
    json_: Json = False,
) -> None:
    """Train one network. The same command again resumes where it stopped.

    Example: `unseen train --backgrounds photos/ --steps 9000 --set backgrounds.holdout=20`

    Example: `unseen train --backgrounds photos/ --set degradation.preset=large --set backgrounds.holdout=20`

    Example: `unseen train --recipe content --backgrounds photos/ --set backgrounds.holdout=20`

    Example: `unseen train --pairs rain100h/ --share 0.5 --backgrounds photos/`
    """
    from unseen import training
    from unseen.data import StoredPairs
    from unseen.study.cores import check_fits

    experiment = read_experiment(
        config,
        {
            "backgrounds.source": backgrounds and str(backgrounds),
            "pairs.folders": pairs or None,
            "pairs.share": share,
            "recipe.steps": steps,
            "seed": seed,
        },
        set_,
        recipe,
    )
    if experiment.recipe.threads is not None:
        check_fits(experiment.recipe.threads, "This experiment", "recipe.threads")
    first = os.environ.get("RANK", os.environ.get("LOCAL_RANK", "0")) == "0"  # of the processes that share the work
    with progress_bar(json_ or not first) as draw:
        stored = None
        if experiment.pairs is not None:
            stored = StoredPairs(experiment.pairs, progress=lambda done, total: draw("read pairs", done, total, ""))
            if first:
                _tell(stored)
        if first and test:
            _refuse_leaks(experiment, test, allow_leaks, draw)
        trained = training.train(
            experiment,
            runs,
            pairs=stored,
            processes=processes,
            save_every=save_every,
            progress=lambda done, loss: draw("train", done, experiment.recipe.steps, f"loss {loss:.4f}"),
        )
    if not first:
        return
    if json_:
        log = (trained.folder / "log.csv").read_text().splitlines()
        show(
            {
                "id": trained.experiment.id,
                "checkpoint": trained.checkpoint,
                "steps": experiment.recipe.steps,
                "loss": float(log[-1].split(",")[1]),
                "device": trained.experiment.recipe.device,
                "precision": trained.experiment.recipe.precision,
            }
        )
        return
    if trained.already:
        say("Finished already: nothing was done.")
    print(trained.checkpoint)
    command = f"unseen evaluate {shlex.quote(str(trained.checkpoint))}"
    if trained.experiment.synthetic and not trained.experiment.backgrounds.has_tests:
        say(f"Judge it with: {command} --images FOLDER")
        say("FOLDER holds clean images that are not among those of the training, which held none out.")
    else:
        say(f"Judge it with: {command}")


def read_experiment(
    config: Path | None, options: dict[str, Any], changes: list[str], recipe: str | None = None
) -> "Experiment":
    """The experiment in `config`, over a named recipe if there is one, with the values of options laid over it where
    they were given, then `changes`."""
    from unseen import recipes
    from unseen.experiment import Experiment
    from unseen.study.study import apply_changes, checked, read_yaml, with_value

    raw: dict[str, Any] = {} if config is None else read_yaml(config)
    if recipe is not None:
        raw = recipes.laid_over(recipes.recipe(recipe), raw)
    for key, value in options.items():
        if value is not None:
            raw = with_value(raw, key, value)
    return checked(Experiment, apply_changes(raw, changes), str(config or "the experiment"))


def _refuse_leaks(experiment: "Experiment", test: list[str], allowed: bool, draw: Any) -> None:
    """Look for test images, by content, among those about to be trained on."""
    from unseen.cli.leaks import opened
    from unseen.leaks import find_leaks, refuse_leaks
    from unseen.training_images import met_by

    tests = opened(test, "test", draw).prints
    refuse_leaks(find_leaks(met_by(experiment), tests), allowed, "This experiment")


def _tell(pairs: "StoredPairs") -> None:
    """What was found in each folder of pairs, and what is left out of it."""
    for folder, share in zip(pairs.folders, pairs.shares, strict=True):
        drawn = pairs.config.share * share
        say(f"{folder.config.folder}: {folder.layout} {drawn:.0%} of the samples.")
        for what, names in (("in no pair", folder.unmatched), ("of different sizes", folder.mismatched)):
            if names:
                first = "; ".join(names[:NAMED]) + ("; ..." if len(names) > NAMED else "")
                say(f"  left out, {what}: {len(names)} ({first})")
