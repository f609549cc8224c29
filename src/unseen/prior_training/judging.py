"""How good a small prior is on images that it has not seen: read back from its folder, as anyone would."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from unseen.backgrounds import Backgrounds
from unseen.evaluation.baselines import box, median
from unseen.images import PEAK, Bytes
from unseen.prior_training.base import Crops
from unseen.prior_training.classical import Coder, fitted, reconstruct
from unseen.prior_training.experiment import PriorExperiment, told_apart
from unseen.priors.base import Prior
from unseen.priors.denoiser import Denoiser, denoiser_in
from unseen.priors.diffusers import from_folder
from unseen.priors.files import model_config
from unseen.seeding import generator
from unseen.types import Images

JUDGED = 48
"""At most so many of the held-out images are judged, spread evenly over all of them."""

SIDES = {"vae": 256, "vqgan": 256, "diffusion": 128}
"""Of those the centre, at most so many pixels a side."""

SIGMAS = (0.05, 0.1, 0.2, 0.4)
"""Noise to be taken away by a diffusion model, for images in [0, 1]."""

SHOWN, TILE, DRAWN = 8, 128, 64
"""Columns of the picture, pixels a side of each, and of those of a diffusion model, which draws some by itself."""

Progress = Callable[[str, int, int, str], None]
"""Told a task, how much is done, how much there is, and a note."""

Found = tuple[dict[str, Any], NDArray[np.float32]]
"""Figures, ready for JSON, and the picture, (h, w, 3) in [0, 1]."""


def judged(
    experiment: PriorExperiment,
    folder: Path,
    held_out: Backgrounds,
    crops_of: Crops,
    device: torch.device,
    progress: Progress | None,
) -> Found:
    """Figures on the held-out images, beside those of what needs no training by gradients, and a picture. `crops_of`:
    of the images trained on, to which a classical coder is fitted (`unseen.prior_training.classical`)."""
    kind = experiment.prior.kind
    crops = _spread(list(held_out.crops(SIDES[kind])), JUDGED)

    def tell(done: int) -> None:
        if progress is not None:
            progress("judge", done, len(crops), "")

    if kind == "diffusion":
        denoiser = denoiser_in(folder).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        return _of_denoiser(denoiser, crops, experiment.seed, tell)
    config = model_config(folder)
    assert config is not None
    prior = from_folder(folder, config).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    codes = None if prior.codebook is None else len(prior.codebook.weight)
    rng = generator(experiment.seed, "prior", "judge", "classical")
    classical = fitted(crops_of, prior.stride, prior.channels, codes, rng)
    return _of_autoencoder(prior, classical, crops, told_apart([part.source for part in held_out.config.sources]), tell)


@torch.inference_mode()
def _of_autoencoder(
    prior: Prior, classical: Coder, crops: list[tuple[str, Bytes]], folders: list[str], tell: Callable[[int], None]
) -> Found:
    values: dict[str, list[float]] = {folder: [] for folder in folders}
    plain: dict[str, list[float]] = {folder: [] for folder in folders}
    met: list[Tensor] = []
    for number, (name, image) in enumerate(crops):
        clean = _tensor(image, prior)
        latents = prior.encode(clean)
        if prior.codebook is not None:
            met.append(torch.bincount(prior.codes(latents).flatten(), minlength=len(prior.codebook.weight)))
        restored = prior.decode(latents)[..., : clean.shape[2], : clean.shape[3]]
        home = folders[int(name.partition("/")[0])] if len(folders) > 1 else folders[0]
        values[home].append(psnr(restored.clamp(0, 1), clean))
        flat = clean.cpu()
        plain[home].append(psnr(reconstruct(classical, flat).clamp(0, 1), flat))
        tell(number + 1)
    every = [value for group in values.values() for value in group]
    figures: dict[str, Any] = {
        "images": len(every),
        "psnr": float(np.mean(every)),
        "psnr_worst": min(every),
        "psnr_by_folder": {folder: float(np.mean(group)) for folder, group in values.items() if group},
        "psnr_classical": float(np.mean([value for group in plain.values() for value in group])),
        "psnr_classical_by_folder": {folder: float(np.mean(group)) for folder, group in plain.items() if group},
    }
    if met:
        count = torch.stack(met).sum(0).cpu().double()
        perplexity = torch.special.entr(count / count.sum()).sum().exp().item()
        figures |= {"codes": len(count), "codes_met": int((count > 0).sum()), "perplexity": perplexity}
    clean = _tiles(crops, TILE).to(_home(prior))
    return figures, _grid([clean, prior.reconstruct(clean)])


@torch.inference_mode()
def _of_denoiser(denoiser: Denoiser, crops: list[tuple[str, Bytes]], seed: int, tell: Callable[[int], None]) -> Found:
    values = np.zeros((len(SIGMAS), len(crops), 4))
    for number, (_, image) in enumerate(crops):
        clean = _tensor(image, denoiser)
        for level, sigma in enumerate(SIGMAS):
            noisy = _with_noise(clean, sigma, generator(seed, "prior", "judge", level, number))
            restored = denoiser.denoise(noisy, noisy.new_full((1,), sigma)).clamp(0, 1)
            found = (noisy, restored, median(noisy), box(noisy))
            values[level, number] = [psnr(image, clean) for image in found]
        tell(number + 1)
    lines = [
        {"sigma": sigma} | dict(zip(("psnr_noisy", "psnr", "psnr_median", "psnr_box"), map(float, means), strict=True))
        for sigma, means in zip(SIGMAS, values.mean(1), strict=True)
    ]
    clean = _tiles(crops, DRAWN).to(_home(denoiser))
    sigma = SIGMAS[-2]
    noisy = _with_noise(clean, sigma, generator(seed, "prior", "judge", "picture"))
    restored = denoiser.denoise(noisy, noisy.new_full((len(noisy),), sigma))
    drawn = denoiser.sample(SHOWN, clean.shape[-1], generator(seed, "prior", "judge", "samples"))
    shown = [clean, noisy, restored, drawn[: len(clean)]]
    return {"images": len(crops), "denoising": lines}, _grid(shown)


def psnr(restored: Images, clean: Images) -> float:
    """10 log10(1 / mse) over all values, at most 100 dB."""
    return -10 * float((restored - clean).square().mean().clamp(min=1e-10).log10())


def _with_noise(clean: Images, sigma: float, rng: torch.Generator) -> Images:
    return clean + sigma * torch.randn(clean.shape, generator=rng).to(clean)


def _spread(crops: list[tuple[str, Bytes]], most: int) -> list[tuple[str, Bytes]]:
    """At most so many, evenly from first to last."""
    if len(crops) <= most:
        return crops
    return [crops[round(at)] for at in np.linspace(0, len(crops) - 1, most)]


def _home(module: torch.nn.Module) -> torch.device:
    return next(module.parameters()).device


def _tensor(image: Bytes, module: torch.nn.Module) -> Float[Tensor, "1 3 h w"]:
    values = torch.from_numpy(image).permute(2, 0, 1)[None].float() / PEAK
    return values.to(_home(module)).contiguous(memory_format=torch.channels_last)


def _tiles(crops: list[tuple[str, Bytes]], most: int) -> Images:
    """The centres of some images, all of one size."""
    chosen = [image for _, image in _spread(crops, SHOWN)]
    side = min(most, *(min(image.shape[:2]) for image in chosen))
    tiles = []
    for image in chosen:
        top, left = (image.shape[0] - side) // 2, (image.shape[1] - side) // 2
        tiles.append(image[top : top + side, left : left + side])
    return torch.from_numpy(np.stack(tiles)).permute(0, 3, 1, 2).float() / PEAK


def _grid(rows: list[Images]) -> NDArray[np.float32]:
    """Rows of images one above the other."""
    lines = [torch.cat(list(row.detach().float().cpu().clamp(0, 1)), dim=2) for row in rows]
    return torch.cat(lines, dim=1).permute(1, 2, 0).contiguous().numpy()
