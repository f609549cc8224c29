"""Models as verbs are given them: baselines by name, all else by `open_model`, on a device, with dials turned."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from unseen.errors import ConfigError

if TYPE_CHECKING:
    from unseen.models import Model

Dials = Annotated[
    list[str] | None,
    typer.Option(
        "--dial",
        metavar="NAME=VALUE",
        help="Turn a dial of a network with a prior: features (0 to 1), strength (0: off). Repeatable.",
    ),
]
Priors = Annotated[
    list[str] | None,
    typer.Option("--prior", metavar="FOLDER", help="Where a prior of the model lies now, if it has moved. Repeatable."),
]


def device_named(device: str) -> str:
    """What `--device` means here. ConfigError where it is none that this machine has."""
    from unseen.experiment import best_device

    if device not in ("auto", "cpu", "cuda", "mps"):
        raise ConfigError(f"--device is auto, cpu, cuda or mps, not {device!r}.")
    chosen = best_device() if device == "auto" else device
    if chosen not in ("cpu", best_device()):
        raise ConfigError(f"--device is {chosen}, and torch sees no such device here: use cpu or auto.")
    return chosen


def models_named(
    sources: Sequence[str | None],
    device: str = "auto",
    *,
    trust: bool = False,
    dials: Sequence[str] | None = None,
    priors: Sequence[str] | None = None,
    precision: str = "auto",
) -> "list[Model]":
    """All of them opened; None is the package's default. Dials are turned on those that have them, and one must."""
    from unseen.evaluation.baselines import BASELINES
    from unseen.models import Model, open_model, turned
    from unseen.priors.moved import unused
    from unseen.shipped import find_model

    chosen, values = device_named(device), _dials(dials or ())
    found = [
        Model(source, BASELINES[source], "baseline")
        if source in BASELINES and source is not None
        else open_model(find_model(source), device=chosen, trust=trust, precision=precision, priors=priors or ())
        for source in sources
    ]
    networks = [model.experiment.network for model in found if model.experiment is not None]
    if priors and (idle := unused(networks, priors)):
        raise ConfigError(f"--prior {idle[0]}: no model that is named works with this prior.")
    if values and not found:
        raise ConfigError("--dial turns a dial of a model, and none is named.")
    for dial in values:
        if not any(dial in model.dials for model in found):
            turned(found[0], {dial: values[dial]})  # says what it has
    return [turned(model, {dial: values[dial] for dial in values if dial in model.dials}) for model in found]


def _dials(given: Sequence[str]) -> dict[str, float]:
    found = {}
    for one in given:
        name, _, value = one.partition("=")
        try:
            found[name] = float(value)
        except ValueError as error:
            raise ConfigError(f"--dial {one}: expected a name and a number, such as features=0.5.") from error
    return found
