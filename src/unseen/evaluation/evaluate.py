"""Judge a restorer: suites in, rows out."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import pandas
import torch
from torch import nn

from unseen.backgrounds import Backgrounds, BackgroundsConfig
from unseen.degradations import AnyDegradation, Rain
from unseen.errors import NotFiniteError, UnseenError
from unseen.evaluation.atoms import atoms
from unseen.evaluation.baselines import BASELINES
from unseen.evaluation.draws import split
from unseen.evaluation.restored import RestoredFolder
from unseen.evaluation.suites import AnySuite, Judge, Suite
from unseen.images import to_bytes
from unseen.rows import COLUMNS, rows_of
from unseen.types import Batch, Images, Outcome, Restorer

Progress = Callable[[str, int], None]
"""Told the suite and how many of its images have been judged since it was last told."""


def apply(restorer: Restorer, degraded: Images) -> Images:
    """Restore, check the contract (same shape, finite) and clip to [0, 1]."""
    restored = restorer(degraded)
    if restored.shape != degraded.shape:
        raise UnseenError(
            f"The restorer turned images of shape {tuple(degraded.shape)} into {tuple(restored.shape)}: "
            "it must keep the shape."
        )
    if not restored.isfinite().all():
        raise NotFiniteError(
            "The restorer returned values that are not finite: its weights are broken, or its precision too low."
        )
    return restored.clamp(0, 1)


def evaluate(
    restorer: Restorer | RestoredFolder,
    suites: Sequence[str | AnySuite] = ("seen", "unseen-rain", "clean"),
    images: Backgrounds | None = None,
    *,
    crop: int = 256,
    limit: int | None = None,
    seed: int = 0,
    draws: int | None = None,
    ssim: bool = True,
    name: str = "restorer",
    step: int = -1,
    trained: AnyDegradation | None = None,
    baselines: bool = True,
    progress: Progress | None = None,
) -> pandas.DataFrame:
    """Rows (see `unseen.rows`) for every suite, image and atom. Deterministic; memory does not grow with the suite.

    `restorer` is any callable on images (b, 3, h, w) in [0, 1] that keeps their shape, a network in the midst of its
    training among them (it is judged in evaluation mode, on its own device, and put back), or a folder of restored
    images. `suites` are suites, or names as `Judge` has them; "seen" is then `trained` (default: medium rain at scale
    0.5). Synthetic suites lie on `images` (default: the embedded test images), cut to their centre `crop` and to the
    first `limit`. Each image is degraded and restored `draws` times, to split the error into bias and variance (None:
    of noise twice, else once). Without `ssim` neither SSIM nor sums of octaves are computed. `name` and `step` fill the
    rows' first columns. With `baselines` the rows of the identity, the median and the box blur stand beside the
    restorer's, under their names: a claim that one of those would pass is void.
    """
    resolved = _resolved(suites, trained)
    if isinstance(restorer, RestoredFolder):
        restorer.expect([suite.name for suite in resolved])
    if images is None and any(isinstance(suite, Suite) for suite in resolved):
        images = Backgrounds(BackgroundsConfig(part="test"))
    parts: list[pandas.DataFrame] = []
    with _as_restorer(restorer) as ready:
        judged: list[tuple[str, int, Restorer | RestoredFolder]] = [(name, step, ready)]
        judged += [(other, -1, baseline) for other, baseline in BASELINES.items() if baselines and other != name]
        for suite in resolved:
            for names, batch in suite.batches(images, crop, limit, seed):
                again = _again(suite, names, batch, seed, draws)
                for who, when, restore in judged:
                    with torch.no_grad():  # a restorer may switch gradients on, as inference_mode forbids
                        outcome = suite.scored(Outcome(batch, _restored(restore, suite.name, names, batch.degraded)))
                        values = atoms(outcome, ssim, bands=suite.bands and ssim)
                        if again and not isinstance(restore, RestoredFolder):
                            others = [suite.scored(Outcome(batch, apply(restore, degraded))) for degraded in again]
                            everyone = [outcome.restored, *(other.restored for other in others)]
                            values |= split(everyone, outcome.batch.clean, bands=suite.bands and ssim)
                    parts.append(
                        rows_of({key: value.numpy() for key, value in values.items()}, who, when, suite.name, names)
                    )
                if progress is not None:
                    progress(suite.name, len(names))
    return pandas.concat(parts, ignore_index=True) if parts else pandas.DataFrame(columns=list(COLUMNS))


def _again(suite: AnySuite, names: list[str], batch: Batch, seed: int, draws: int | None) -> list[Images]:
    """The other draws of a batch's degradation."""
    if not isinstance(suite, Suite) or suite.degradation is None:
        return []
    count = suite.draws if draws is None else draws
    return [suite.again(names, batch.clean, seed, draw) for draw in range(1, count)]


@dataclass(frozen=True)
class Shown:
    """One image of a suite as people look at it: 8-bit RGB, (h, w, 3)."""

    suite: str
    image: str
    degraded: np.ndarray
    restored: np.ndarray
    clean: np.ndarray


def show(
    restorer: Restorer | RestoredFolder,
    suites: Sequence[AnySuite],
    images: Backgrounds | None,
    wanted: Mapping[str, Sequence[str]],
    *,
    crop: int = 256,
    limit: int | None = None,
    seed: int = 0,
) -> Iterator[Shown]:
    """The images that `wanted` names, suite by suite, restored once more: pictures need not be kept while judging."""
    with _as_restorer(restorer) as ready:
        for suite in suites:
            if not wanted.get(suite.name):
                continue
            for names, batch in suite.batches(images, crop, limit, seed, only=set(wanted[suite.name])):
                with torch.no_grad():
                    restored = _restored(ready, suite.name, names, batch.degraded)
                for index, name in enumerate(names):
                    yield Shown(
                        suite.name,
                        name,
                        *(_bytes(part[index]) for part in (batch.degraded, restored, batch.clean)),
                    )


def _bytes(image: torch.Tensor) -> np.ndarray:
    return to_bytes(image.permute(1, 2, 0).numpy())


def _resolved(suites: Sequence[str | AnySuite], trained: AnyDegradation | None) -> tuple[AnySuite, ...]:
    spelt = [suite for suite in suites if not isinstance(suite, str)]
    if len(spelt) == len(suites):  # also "seen" and "clean", which a judge gives out itself
        return tuple(spelt)
    return Judge(suites=tuple(suites)).resolve(trained or Rain.preset("medium", scale=0.5))


def _restored(restorer: Restorer | RestoredFolder, suite: str, names: list[str], degraded: Images) -> Images:
    if isinstance(restorer, RestoredFolder):
        return restorer.images(suite, names, degraded)
    return apply(restorer, degraded)


@contextmanager
def _as_restorer(restorer: Restorer | RestoredFolder) -> Iterator[Restorer | RestoredFolder]:
    """A network is judged in evaluation mode, on the device where it is, and left as it was."""
    if not isinstance(restorer, nn.Module):
        yield restorer
        return
    network, modes = restorer, {module: module.training for module in restorer.modules()}
    home = next((weight.device for weight in network.parameters()), torch.device("cpu"))
    network.eval()
    try:
        yield lambda degraded: network(degraded.to(home)).to(degraded)
    finally:
        for module, mode in modes.items():
            module.training = mode
