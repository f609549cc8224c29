"""What a network was trained on, remembered as fingerprints, so that nobody judges it on the same images.

They lie beside the weights (`fingerprints.safetensors`), some hundred bytes an image, and can be made again where the
images themselves are at hand.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from unseen.backgrounds import Backgrounds
from unseen.checkpoints import load_checkpoint
from unseen.errors import UnseenError
from unseen.experiment import Experiment
from unseen.hub import HUB
from unseen.leaks import Fingerprints, fingerprints, joined, load_fingerprints, save_fingerprints
from unseen.pair_folder import PairFolder
from unseen.priors.files import located
from unseen.priors.moved import sources_in

FILE = "fingerprints.safetensors"

SNAPSHOTS = "snapshots"
"""The folder of a run in which the weights along its training lie."""


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


def met_by(experiment: Experiment, backgrounds: Backgrounds | None = None) -> Fingerprints:
    """Of all clean images that an experiment trains on, and of those that its priors were trained on, as far as these
    tell (`of_prior`)."""
    own = fingerprints(clean_images(experiment, backgrounds))
    priors = map(of_prior, sources_in(experiment.model_dump()).values())
    return joined([own, *(prints for prints in priors if prints is not None)])


def of_prior(source: str) -> Fingerprints | None:
    """What a prior was trained on, where its folder tells: small ones of our own do (`unseen.prior_training`)."""
    try:
        path = None if source.startswith(HUB) else located(source)
    except UnseenError:  # it has moved
        return None
    return load_fingerprints(path / FILE) if path is not None and (path / FILE).is_file() else None


def remember(experiment: Experiment, folder: Path, backgrounds: Backgrounds | None = None) -> None:
    """Write the fingerprints of what is trained on to a run's folder, unless they are there."""
    if (folder / FILE).is_file():
        return
    prints = [met_by(experiment, backgrounds)]
    if experiment.start_from is not None:  # what it was trained on before, it has seen too
        start = load_checkpoint(experiment.start_from)
        earlier = training_fingerprints(start.lineage, start.path.parent)
        if earlier is None:
            return  # what is not known of in part is not known: none is better than half
        prints.append(earlier)
    save_fingerprints(folder / FILE, joined(prints))


def training_fingerprints(lineage: Sequence[Experiment], folder: Path) -> Fingerprints | None:
    """Those of all images that a checkpoint in `folder` has been trained on, its own experiment the last of `lineage`:
    those of the run's folder, or made from the images themselves. None where neither is on this machine."""
    home = folder.parent if folder.name == SNAPSHOTS else folder
    if (home / FILE).is_file():
        return load_fingerprints(home / FILE)
    try:
        each = {  # stages often share their images, and their priors
            (one.content, one.pairs_content, *sources_in(one.model_dump())): one for one in lineage
        }
        return joined(list(map(met_by, each.values())))
    except UnseenError:
        return None
