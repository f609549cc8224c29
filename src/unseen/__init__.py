"""Image restoration that generalises to unseen degradations.

The public names, and nothing else. Each is imported when it is first asked for, so that `import unseen` is quick.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from unseen.backgrounds import Backgrounds, BackgroundsConfig
    from unseen.data import Pairs
    from unseen.degradations import Rain
    from unseen.errors import UnseenError
    from unseen.evaluation.evaluate import evaluate
    from unseen.evaluation.suites import PairSuite, Suite
    from unseen.experiment import Experiment, Recipe
    from unseen.images import read_image, write_image
    from unseen.models import open_model
    from unseen.networks import ResNet, ResNetConfig, UNet, UNetConfig
    from unseen.pair_folder import PairFolder, PairFolderConfig
    from unseen.ranges import Choice, Range
    from unseen.restoration import load
    from unseen.rows import summarise
    from unseen.seeding import generator
    from unseen.study.run import run_study
    from unseen.study.study import Study
    from unseen.training import train
    from unseen.types import Batch, Outcome

    __version__: str

_HOMES = {
    "Backgrounds": "unseen.backgrounds",
    "BackgroundsConfig": "unseen.backgrounds",
    "Batch": "unseen.types",
    "Choice": "unseen.ranges",
    "Experiment": "unseen.experiment",
    "Outcome": "unseen.types",
    "PairFolder": "unseen.pair_folder",
    "PairFolderConfig": "unseen.pair_folder",
    "PairSuite": "unseen.evaluation.suites",
    "Pairs": "unseen.data",
    "Rain": "unseen.degradations",
    "Range": "unseen.ranges",
    "Recipe": "unseen.experiment",
    "ResNet": "unseen.networks",
    "ResNetConfig": "unseen.networks",
    "Study": "unseen.study.study",
    "Suite": "unseen.evaluation.suites",
    "UNet": "unseen.networks",
    "UNetConfig": "unseen.networks",
    "UnseenError": "unseen.errors",
    "evaluate": "unseen.evaluation.evaluate",
    "generator": "unseen.seeding",
    "load": "unseen.restoration",
    "open_model": "unseen.models",
    "read_image": "unseen.images",
    "run_study": "unseen.study.run",
    "summarise": "unseen.rows",
    "train": "unseen.training",
    "write_image": "unseen.images",
}

__all__ = [
    "Backgrounds",
    "BackgroundsConfig",
    "Batch",
    "Choice",
    "Experiment",
    "Outcome",
    "PairFolder",
    "PairFolderConfig",
    "PairSuite",
    "Pairs",
    "Rain",
    "Range",
    "Recipe",
    "ResNet",
    "ResNetConfig",
    "Study",
    "Suite",
    "UNet",
    "UNetConfig",
    "UnseenError",
    "__version__",
    "evaluate",
    "generator",
    "load",
    "open_model",
    "read_image",
    "run_study",
    "summarise",
    "train",
    "write_image",
]


def __getattr__(name: str) -> Any:  # Any: a module's attributes are of every type
    if name == "__version__":
        from importlib.metadata import version

        value = version("unseen")
    elif name in _HOMES:
        value = getattr(import_module(_HOMES[name]), name)
    else:
        raise AttributeError(f"module 'unseen' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
