"""`unseen train`: Train one network."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from unseen.cli.app import Json, Runs, Set, app, progress_bar, say, show

if TYPE_CHECKING:
    from unseen.experiment import Experiment


@app.command()
def train(
    config: Annotated[
        Path | None, typer.Argument(help="YAML of an experiment (default: the package's defaults).")
    ] = None,
    backgrounds: Annotated[
        Path | None, typer.Option(help="Folder of clean images (default: the embedded ones).")
    ] = None,
    steps: Annotated[int | None, typer.Option(help="Steps to train.", min=1)] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of everything.", min=0)] = None,
    set_: Set = [],  # noqa: B006
    runs: Runs = Path("runs"),
    processes: Annotated[int, typer.Option(help="Processes (devices) that share every batch.", min=1)] = 1,
    save_every: Annotated[int, typer.Option(help="Steps between saved states.", min=1)] = 500,
    json_: Json = False,
) -> None:
    """Train one network. The same command again resumes where it stopped.

    Example: `unseen train --backgrounds photos/ --steps 9000 --set degradation.preset=medium`
    """
    from unseen import training

    experiment = _experiment(config, backgrounds, steps, seed, set_)
    first = os.environ.get("RANK", os.environ.get("LOCAL_RANK", "0")) == "0"  # of the processes that share the work
    with progress_bar(json_ or not first) as draw:
        trained = training.train(
            experiment,
            runs,
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
    print(trained.checkpoint)
    say(f"Judge it with: unseen evaluate {trained.checkpoint}")


def _experiment(
    config: Path | None, backgrounds: Path | None, steps: int | None, seed: int | None, changes: list[str]
) -> "Experiment":
    from unseen.experiment import Experiment
    from unseen.study.study import apply_changes, checked, read_yaml, with_value

    raw: dict[str, Any] = {} if config is None else read_yaml(config)
    for key, value in (
        ("backgrounds.source", backgrounds and str(backgrounds)),
        ("recipe.steps", steps),
        ("seed", seed),
    ):
        if value is not None:
            raw = with_value(raw, key, value)
    return checked(Experiment, apply_changes(raw, changes), str(config or "the experiment"))
