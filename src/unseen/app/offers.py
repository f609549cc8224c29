"""The models that the page offers: opened once, and what there is to say of each."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from unseen.degradations import Mixture
from unseen.evaluation.map import why_no_map
from unseen.experiment import Experiment
from unseen.models import Model
from unseen.models.model import PLAIN_NAMES
from unseen.restoration import Tiler, load
from unseen.shipped import DEFAULT, find_model, shipped


@dataclass(frozen=True)
class Offer:
    """A model, open. `about` says what it is; `map` is the picture of its map of generalisation, and `no_map` says
    why there is none."""

    name: str
    tiler: Tiler
    about: str
    map: Path | None = None
    no_map: str = ""


def offer_models(
    sources: Sequence[str] = (), *, device: str = "cpu", precision: str = "auto", trust: bool = False,
    priors: Sequence[str] = (),
) -> dict[str, Offer]:  # fmt: skip
    """What is offered, by name: `sources` (whatever `unseen restore --model` takes), then the weights that come with
    the package, "rain" first of them. Each has restored something small, so that the first picture need not wait.

    `priors`: where those of the models lie now, if they have moved. ConfigError where there is neither; else as `load`
    does where a model cannot be opened.
    """
    known = shipped()
    wanted = [str(find_model(source)) for source in sources]
    wanted += [str(known[name]) for name in sorted(known, key=lambda name: (name != DEFAULT, name))]
    found: dict[str, Offer] = {}
    for path in dict.fromkeys(wanted or [str(find_model())]):
        restorer = load(path, device, precision, trust=trust, priors=priors)
        model = restorer.model
        restorer(np.zeros((64, 64, 3), np.uint8))
        name = model.name
        if name in found:
            name = f"{name} (shipped)" if Path(path) in known.values() else path
        picture = None if model.path is None else find_map(model.path)
        found[name] = Offer(name, restorer.tiler, about(model), picture, "" if picture else how_to_map(model, path))
    return found


def about(model: Model) -> str:
    """A sentence: kind, size, and what it was trained on, as far as it is known."""
    parts = [model.kind]
    if model.parameters is not None:
        parts.append(f"{model.parameters:,} parameters")
    if model.experiment is not None:
        parts.append(f"trained on {_met(model.experiment)}")
        if model.step > 0:
            parts.append(f"{model.step + sum(one.recipe.steps for one in model.before):,} steps")
    return f"{model.name}: {', '.join(parts)}."


def _met(experiment: Experiment) -> str:
    if not experiment.synthetic:
        return "pairs of pictures"
    met = experiment.met
    if isinstance(met, Mixture):
        what = "degradations" if met.family == "mixture" else met.family
        kind = f"{met.name} ({what})" if met.name else what
        told = f"{len(met.parts)} kinds of {kind}" if met.mode == "one" else f"{kind}, {len(met.parts)} in sequence"
    else:
        told = f"{met.name} {met.family}" if met.name else met.family
    return told if experiment.pairs is None else f"{told}, and on pairs of pictures"


def find_map(path: Path) -> Path | None:
    """The picture of a model's map, where it lies beside its file: `NAME-map.png`, or `NAME-map/map.png`, the folder
    that `unseen map` writes. In the folder of a run, also `map/map.png` and `map.png`."""
    folder, name = (path, path.name) if path.is_dir() else (path.parent, path.stem)
    places = [folder / f"{name}-map.png", folder / f"{name}-map" / "map.png"]
    if path.is_dir() or name.lower() in PLAIN_NAMES:
        places += [folder / "map" / "map.png", folder / "map.png"]
    return next((place for place in places if place.is_file()), None)


def how_to_map(model: Model, source: str) -> str:
    """Why there is no map of a model, and which command draws one where `find_map` looks."""
    if why := why_no_map(model.name, model.lineage):
        return why
    if model.path is None:
        return f"The map of {model.name} is not known here: unseen map {shlex.quote(source)} draws it."
    path = Path(source)
    folder = path / "map" if path.is_dir() else path.with_name(f"{path.stem}-map")
    command = shlex.join(["unseen", "map", source, "-o", str(folder)])
    return f"There is no map of {model.name} yet. Draw it with: {command}"
