"""What a content prior can draw, and what it cannot: images encoded and decoded, clean ones and degraded ones.

No image that has passed through a prior's decoder alone is closer to the clean one than its reconstruction of that
clean image tends to be: its ceiling. A prior that holds restored images on the manifold of images should reconstruct
degraded images worse than clean ones: they lie farther off.
"""

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pandas
import torch
from pydantic import BaseModel
from torch import Tensor

from unseen.backgrounds import Backgrounds
from unseen.evaluation.atoms import atoms
from unseen.evaluation.suites import AnySuite, PairSuite, Suite
from unseen.images import Bytes, to_bytes
from unseen.priors import Prior, PriorConfig, open_prior
from unseen.rows import rows_of
from unseen.training_images import of_prior
from unseen.types import Batch, Images, Outcome

RECONSTRUCTION = "reconstruction"
RESTORATION = "restoration"
"""The two experiments of the rows: judged against what went in, and against the clean image."""


@dataclass(frozen=True)
class Ceiling:
    """`rows` as everywhere, octaves with them; the experiments are RECONSTRUCTION and RESTORATION. Seconds are per
    megapixel. `memory`: the most that was held, bytes, of the device, or on a CPU of the whole process (None: the
    system does not tell). `codes_used`: how many of the codebook's were met (None: there is no codebook)."""

    rows: pandas.DataFrame
    encoding: float
    decoding: float
    memory: int | None
    codes_used: int | None


@dataclass(frozen=True)
class Picture:
    """8-bit RGB, (h, w, 3): what went in, its reconstruction, and the clean image."""

    suite: str
    image: str
    before: Bytes
    after: Bytes
    clean: Bytes


def ceiling(
    prior: Prior,
    images: Backgrounds,
    suites: Sequence[Suite],
    *,
    crop: int = 256,
    limit: int | None = None,
    seed: int = 0,
    progress: Callable[[str, int], None] | None = None,
) -> Ceiling:
    """Reconstruct the first `limit` images, cut to their centre, of every suite, and judge. On the prior's device."""
    parts: list[pandas.DataFrame] = []
    spent, pixels, used = [0.0, 0.0], 0, set[int]()
    home = _home(prior)
    if home.type == "cuda":
        torch.cuda.reset_peak_memory_stats(home)
    for suite in suites:
        for names, batch in suite.batches(images, crop, limit, seed):
            restored, latents, seconds = _timed(prior, batch.degraded, home)
            spent = [total + more for total, more in zip(spent, seconds, strict=True)]
            pixels += len(batch) * batch.degraded.shape[2] * batch.degraded.shape[3]
            if prior.discrete:
                used |= set(prior.codes(latents).unique().tolist())
            nothing = torch.zeros_like(batch.mask)
            itself = Batch(degraded=batch.degraded, clean=batch.degraded, layer=nothing, mask=nothing)
            for experiment, pairs in ((RECONSTRUCTION, itself), (RESTORATION, batch)):
                values = atoms(suite.scored(Outcome(pairs, restored)), bands=True)
                found = {key: value.numpy() for key, value in values.items()}
                parts.append(rows_of(found, experiment, -1, suite.name, names))
            if progress is not None:
                progress(suite.name, len(names))
    megapixels = pixels / 1e6
    return Ceiling(
        pandas.concat(parts, ignore_index=True),
        spent[0] / megapixels,
        spent[1] / megapixels,
        _memory(home),
        len(used) if prior.discrete else None,
    )


def ceiling_on(
    config: PriorConfig,
    suites: Sequence[AnySuite],
    images: Backgrounds | None,
    *,
    crop: int = 256,
    limit: int | None = None,
    device: str = "cpu",
    progress: Callable[[int, int], object] | None = None,
) -> str:
    """A sentence on how well a prior gives back the clean images of `suites`, each once: what every report on a
    network with that prior repeats. `progress` is told how many images are done, and of how many."""
    prior, different = open_prior(config, device), list[AnySuite]()
    for suite in suites:  # those of synthetic suites are all laid on the same images
        if isinstance(suite, PairSuite) or not any(isinstance(one, Suite) for one in different):
            different.append(suite)
    total, found = sum(suite.size(images, limit) for suite in different), list[float]()
    for suite in different:
        for _, batch in suite.batches(images, crop, limit, 0):
            for clean in batch.clean.split(1):  # pairs may be of any size
                restored, *_ = _timed(prior, clean, _home(prior))
                found.append(float(-10 * (restored - clean).square().mean().clamp(min=1e-10).log10()))
            if progress is not None:
                progress(len(found), total)
    told = (
        ""
        if of_prior(config.source) is not None
        else " It does not tell what it was trained on: these images may be among it."
    )
    return (
        f"The prior {prior.name} ({prior.content}) gives the {len(found)} clean images back at "
        f"{sum(found) / max(1, len(found)):.2f} dB (PSNR, RGB), {min(found, default=0):.1f} dB at worst: the ceiling "
        f"of what its decoder draws, where nothing is led past it.{told}"
    )


def priors_in(network: BaseModel) -> list[PriorConfig]:
    """The priors of a network's configuration, and of the networks inside of it."""
    parts = [getattr(network, name) for name in type(network).model_fields]
    own = [part for part in parts if isinstance(part, PriorConfig)]
    return own + [
        prior for part in parts if isinstance(part, BaseModel) and part not in own for prior in priors_in(part)
    ]


def pictures(
    prior: Prior, images: Backgrounds, suites: Sequence[Suite], wanted: Sequence[tuple[str, str]], *,
    crop: int = 256, seed: int = 0,
) -> list[Picture]:  # fmt: skip
    """The images that `wanted` names, each by suite and name, reconstructed once more."""
    found = {}
    for suite in suites:
        only = {image for name, image in wanted if name == suite.name}
        for names, batch in suite.batches(images, crop, None, seed, only=only) if only else ():
            restored, *_ = _timed(prior, batch.degraded, _home(prior))
            for index, name in enumerate(names):
                shown = (_bytes(part[index]) for part in (batch.degraded, restored, batch.clean))
                found[suite.name, name] = Picture(suite.name, name, *shown)
    return [found[pair] for pair in wanted]


@torch.inference_mode()
def _timed(prior: Prior, images: Images, home: torch.device) -> tuple[Images, Tensor, tuple[float, float]]:
    """Reconstructions, clipped and on the CPU, the latents, and the seconds that encoding and decoding took."""
    height, width = images.shape[2:]
    there = images.to(home).contiguous(memory_format=torch.channels_last)
    began = _now(home)
    latents = prior.encode(there)
    between = _now(home)
    decoded = prior.decode(latents)
    ended = _now(home)
    return decoded[..., :height, :width].clamp(0, 1).cpu(), latents, (between - began, ended - between)


def _now(home: torch.device) -> float:
    if home.type == "cuda":
        torch.cuda.synchronize(home)
    elif home.type == "mps":
        torch.mps.synchronize()
    return time.perf_counter()


def _home(prior: Prior) -> torch.device:
    return next(prior.parameters()).device


def _memory(home: torch.device) -> int | None:
    if home.type == "cuda":
        return torch.cuda.max_memory_allocated(home)
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # kibibytes elsewhere


def _bytes(image: Tensor) -> Bytes:
    return to_bytes(image.permute(1, 2, 0).numpy())
