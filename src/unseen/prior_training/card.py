"""The model card of a small prior: what it is, what it was trained on and how, and how good it is."""

import platform
from datetime import UTC, datetime
from typing import Any

import torch

from unseen.prior_training.experiment import PriorExperiment, told_apart
from unseen.training import processor

PICTURE = "picture.png"

TITLES = {"vae": "variational autoencoder", "vqgan": "VQGAN", "diffusion": "diffusion model"}
CLASSES = {"vae": "AutoencoderKL", "vqgan": "VQModel", "diffusion": "UNet2DModel"}
SHOWS = {
    "vae": "Held-out images, and below them their reconstructions.",
    "vqgan": "Held-out images, and below them their reconstructions.",
    "diffusion": "Held-out images; the same with noise of 0.2; denoised; and images drawn out of noise alone.",
}
PLAIN = {
    "vae": "the principal components of\npatches, as many numbers for as many pixels",
    "vqgan": "vector quantisation of\npatches (Lloyd's), as many codes for as many pixels",
}
OPENS = {
    "vae": ("PriorConfig, open_prior", 'open_prior(PriorConfig(source="{folder}"))', "prior.reconstruct(images)"),
    "vqgan": ("PriorConfig, open_prior", 'open_prior(PriorConfig(source="{folder}"))', "prior.reconstruct(images)"),
    "diffusion": (
        "DenoiserConfig, open_denoiser",
        'open_denoiser(DenoiserConfig(source="{folder}"))',
        "prior.denoise(noisy, sigma)",
    ),
}


def environment(experiment: PriorExperiment) -> dict[str, Any]:
    """What it was trained on, and when that ended."""
    from importlib.metadata import version

    recipe = experiment.recipe
    return {
        "unseen": version("unseen"),
        "torch": torch.__version__,
        "diffusers": version("diffusers"),
        "platform": f"{platform.system()} {platform.machine()}",
        "processor": processor(),
        "device": torch.cuda.get_device_name() if recipe.device == "cuda" else recipe.device,
        "threads": recipe.threads,
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
    }


def card(
    experiment: PriorExperiment,
    summary: dict[str, Any],
    images: tuple[int, int],
    command: str,
    licence: str | None,
) -> str:
    """Markdown. `summary` is what figures.json says; `images`: how many were trained on, and were held out."""
    kind, recipe, where = experiment.prior.kind, experiment.recipe, summary["environment"]
    sources = told_apart([part.source for part in experiment.backgrounds.sources])
    imported, opened, used = OPENS[kind]
    facts = [
        ("kind", f"small {TITLES[kind]}, `{CLASSES[kind]}` of diffusers"),
        ("parameters", f"{summary['parameters']:,}"),
        ("size", f"{summary['megabytes']:.1f} MB"),
        ("settings", _settings(experiment)),
        ("data", f"{', '.join(sources)}: {images[0]:,} images, and {images[1]:,} more held out"),
        ("licence of the data", licence or "not stated"),
        ("steps", f"{recipe.steps:,} of {recipe.batch} crops of {recipe.patch} x {recipe.patch} pixels"),
        ("seed", str(experiment.seed)),
        ("hardware", f"{where['processor']}, {where['device']}, {where['threads']} threads, {recipe.precision}"),
        ("duration", f"{summary['seconds'] / 60:.1f} minutes"),
        ("date", where["date"]),
        ("versions", f"unseen {where['unseen']}, torch {where['torch']}, diffusers {where['diffusers']}"),
        ("name", summary["id"]),
    ]
    lines = [
        f"# A small {TITLES[kind]} of images",
        "",
        "Small: trained in little time on few images, as a content prior for image restoration. It is no match for",
        "published models of its kind, and draws badly what its images do not show.",
        "",
        "| | |",
        "|---|---|",
        *(f"| {name} | {value} |" for name, value in facts),
        "",
        *(["The command:", "", "```", command, "```", ""] if command else []),
        "## Figures",
        "",
        *_figures(kind, summary["figures"]),
        "",
        f"![{SHOWS[kind]}]({PICTURE})",
        "",
        SHOWS[kind],
        "",
        "## Use",
        "",
        "```python",
        f"from unseen.priors import {imported}",
        "",
        f"prior = {opened.format(folder='this/folder')}",
        f"{used}  # images in [0, 1]",
        "```",
        "",
        f"or `diffusers.{CLASSES[kind]}.from_pretrained(...)`, whose images are in [-1, 1].",
    ]
    if kind == "diffusion":
        lines += [
            "The network is asked as Karras et al. have it (NeurIPS 2022, Table 1), `scheduler_config.json` holding",
            "the constants: diffusers' `EDMEulerScheduler` and `EDMDPMSolverMultistepScheduler` read it, with the",
            "`prediction_type` epsilon, which is their word for that table's c_skip and c_out.",
        ]
    return "\n".join(lines) + "\n"


def _settings(experiment: PriorExperiment) -> str:
    settings = experiment.prior.model_dump(mode="json")
    return ", ".join(f"{key} {value}" for key, value in settings.items() if key != "kind")


def _figures(kind: str, found: dict[str, Any]) -> list[str]:
    if kind == "diffusion":
        return [
            f"PSNR in dB over {found['images']} held-out images, of noise with the standard deviation sigma (images in",
            "[0, 1]) taken away in one step, beside the median and the mean of 5 x 5 pixels.",
            "",
            "| sigma | noisy | denoised | median | box |",
            "|---|---|---|---|---|",
            *(
                f"| {line['sigma']:g} | {line['psnr_noisy']:.2f} | {line['psnr']:.2f} | {line['psnr_median']:.2f} | "
                f"{line['psnr_box']:.2f} |"
                for line in found["denoising"]
            ),
        ]
    other = "vector quantisation" if "codes" in found else "principal components"
    lines = [
        f"Reconstruction of {found['images']} held-out images, PSNR in dB, beside {PLAIN[kind]}, fitted",
        f"to the images trained on. At worst {found['psnr_worst']:.2f}.",
        "",
        f"| images | this | {other} |",
        "|---|---|---|",
        f"| all | {found['psnr']:.2f} | {found['psnr_classical']:.2f} |",
    ]
    by_folder = found["psnr_by_folder"]
    if len(by_folder) > 1:
        plain = found["psnr_classical_by_folder"]
        lines += [f"| {folder} | {value:.2f} | {plain[folder]:.2f} |" for folder, value in by_folder.items()]
    if "codes" in found:
        lines += [
            "",
            f"Of {found['codes']:,} codes {found['codes_met']:,} were met on them, with a perplexity of "
            f"{found['perplexity']:,.0f}.",
        ]
    return lines
