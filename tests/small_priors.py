"""Small priors with random weights, written to disk as published ones lie there."""

import tempfile
from pathlib import Path

import torch
from torch import Tensor

from unseen.priors import tae
from unseen.seeding import seeded


def small_chains(width: int = 8, latent: int = 3) -> tuple[list[str], list[str]]:
    """Of the TAESD family, stride 4: with plain blocks and pooled ones, and a block that changes the width."""
    w = width
    encoder = [f"conv 3 {w}", f"down {w} {w}", f"block {w} {w}", f"down {w} {w}", f"pooled {w} {w} {2 * w}"]
    decoder = ["clamp", f"conv {latent} {w}", "relu", f"pooled {w} {w} {2 * w}", "up", f"plain {w} {w}"]
    decoder += [f"block {w} {2 * w}", "up", f"plain {2 * w} {w}", f"conv {w} 3"]
    return [*encoder, f"conv {w} {latent}"], decoder


def small_weights(seed: int = 0, width: int = 8) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    with seeded(seed, "prior"):
        prior = tae.blank(*small_chains(width))
    return prior.encoder.state_dict(), prior.decoder.state_dict()


def small_tae(folder: Path | None = None, *, seed: int = 0, width: int = 8) -> Path:
    """A folder with an encoder's and a decoder's weights (None: a new one)."""
    folder = Path(tempfile.mkdtemp(prefix="unseen-prior-")) if folder is None else folder
    folder.mkdir(exist_ok=True)
    for which, weights in zip(("encoder", "decoder"), small_weights(seed, width), strict=True):
        torch.save(weights, folder / f"small_{which}.pth")
    return folder
