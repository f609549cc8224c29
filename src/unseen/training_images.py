"""What a network was trained on, remembered as fingerprints, so that nobody judges it on the same images.

They lie beside the weights (`fingerprints.safetensors`), some hundred bytes an image, and can be made again where the
images themselves are at hand.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from unseen.backgrounds import Backgrounds
from unseen.errors import UnseenError
from unseen.experiment import Experiment
from unseen.leaks import Fingerprints, fingerprints, joined, load_fingerprints, save_fingerprints
from unseen.pair_folder import PairFolder

FILE = "fingerprints.safetensors"


def clean_images(experiment: Experiment, backgrounds: Backgrounds | None = None) -> Iterator[tuple[str, np.ndarray]]:
    """Every clean image an experiment trains on: (name, uint8 (h, w, 3)).

    `backgrounds` are the experiment's own, where they are decoded already.
    """
    if experiment.synthetic:
        pool = Backgrounds(experiment.backgrounds) if backgrounds is None else backgrounds
        for index, name in enumerate(pool.names):
            yield name, pool.image(index)
    for config in () if experiment.pairs is None else experiment.pairs.folders:
        yield from PairFolder(config).clean_images()


def remember(experiment: Experiment, folder: Path, backgrounds: Backgrounds | None = None) -> None:
    """Write the fingerprints of what is trained on to a run's folder, unless they are there."""
    if (folder / FILE).is_file():
        return
    prints = fingerprints(clean_images(experiment, backgrounds))
    if experiment.start_from is not None:  # what it was trained on before, it has seen too
        earlier = _home(Path(experiment.start_from)) / FILE
        if earlier.is_file():
            prints = joined([prints, load_fingerprints(earlier)])
    save_fingerprints(folder / FILE, prints)


def _home(checkpoint: Path) -> Path:
    return checkpoint if checkpoint.is_dir() else checkpoint.parent


def training_fingerprints(experiment: Experiment, folder: Path) -> Fingerprints | None:
    """Those of a run's folder, or made from the images themselves; None where neither is on this machine."""
    if (folder / FILE).is_file():
        return load_fingerprints(folder / FILE)
    try:
        return fingerprints(clean_images(experiment))
    except UnseenError:
        return None
