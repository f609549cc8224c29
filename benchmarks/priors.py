"""What a content prior costs: a training step of every way to use one, and a pass forwards, against a network without.

    export UNSEEN_DATA=/path/to/data
    .venv/bin/python benchmarks/priors.py

Every way trains the same patches (4 of 64 pixels, rain) with `unseen.training.train`: a ResNet with the plain loss,
with the losses by an autoencoder and by a diffusion model, with the consistency of two renderings, and `Guided`, in all
its forms. The autoencoder is TAEF2; the small VQGAN and the small diffusion model are built in the sizes that
`recipes/priors` train, with random weights: what they know does not change what they cost.

The ways take turns; a number is the median over rounds, a ratio the median of those within one round, in processor
time of one thread. The first steps of each run, up to the first report of progress, are not timed. Forwards: one image
of 256 x 256 through the trained network, in seconds a megapixel.

Target: a network with a prior in its loss alone takes at most twice the step of one without (the defaults, every second
image); the script fails where that is missed.
"""

import argparse
import os
import sys
import tempfile
import time
from collections import defaultdict
from datetime import date
from pathlib import Path
from statistics import median
from typing import Any

import torch

from unseen.backgrounds import Backgrounds
from unseen.checkpoints import load_checkpoint, restorer
from unseen.experiment import Experiment, has_bf16
from unseen.seeding import seeded
from unseen.training import LOG_EVERY, processor, train, using_threads

PLAIN = "ResNet, L1"
TARGET = {"ResNet, PriorL1": 2.0, "ResNet, DiffusionL1": 2.0}


def models_in(folder: Path) -> dict[str, str]:
    """Where a VQGAN and a diffusion model of the small sizes lie, with random weights."""
    import diffusers

    widths = (16, 32, 64)
    with seeded(0, "models"):
        diffusers.VQModel(
            block_out_channels=widths, down_block_types=("DownEncoderBlock2D",) * 3,
            up_block_types=("UpDecoderBlock2D",) * 3, latent_channels=8, num_vq_embeddings=1024,
            norm_num_groups=4, mid_block_add_attention=False,
        ).save_pretrained(folder / "vqgan")  # fmt: skip
        diffusers.UNet2DModel(
            block_out_channels=widths, norm_num_groups=4, layers_per_block=1, add_attention=False,
            down_block_types=("DownBlock2D",) * 3, up_block_types=("UpBlock2D",) * 3,
        ).save_pretrained(folder / "diffusion")  # fmt: skip
    diffusers.EDMEulerScheduler(sigma_min=0.002, sigma_max=80.0, sigma_data=0.5).save_pretrained(folder / "diffusion")
    return {name: str(folder / name) for name in ("vqgan", "diffusion")}


def ways(taef2: str, small: dict[str, str]) -> dict[str, dict[str, Any]]:
    """The network and what else differs of the recipe, by the name of the way."""
    resnet: dict[str, Any] = {"kind": "ResNet", "width": 32, "blocks": 8}
    prior, codebook, denoiser = ({"source": source} for source in (taef2, small["vqgan"], small["diffusion"]))

    def loss(kind: str, **given: Any) -> dict[str, Any]:
        return {"network": resnet, "recipe": {"loss": {"kind": kind, **given}}}

    def guided(**given: Any) -> dict[str, Any]:
        return {"network": {"kind": "Guided", "prior": prior, **given}}

    return {
        PLAIN: {"network": resnet},
        "ResNet, PriorL1": loss("PriorL1", prior=prior),
        "ResNet, PriorL1, every 1": loss("PriorL1", prior=prior, every=1),
        "ResNet, DiffusionL1": loss("DiffusionL1", denoiser=denoiser),
        "ResNet, DiffusionL1, every 1": loss("DiffusionL1", denoiser=denoiser, every=1),
        "ResNet, consistency": {"network": resnet, "recipe": {"consistency": {"output": 0.1, "features": 0.1}}},
        "ResNet, Refined": {"network": {"kind": "Refined", "network": resnet, "denoiser": denoiser}},
        "Guided, no gate": guided(gate=False),
        "Guided, no gate, latent": guided(gate=False, latent=0.1),
        "Guided, gate": guided(),
        "Guided, gate, latent": guided(latent=0.1),
        "Guided, gate, latent, features": guided(latent=0.1, features=1.0),
        "Guided, small VQGAN": guided(prior=codebook),
        "Guided, small VQGAN, codes": guided(prior=codebook, codes={}),
    }


def timed(experiment: Experiment, backgrounds: Backgrounds) -> tuple[float, float, int]:
    """Processor time of a step and of a megapixel forwards, and the number of trained parameters."""
    reports: list[tuple[int, float]] = []
    with tempfile.TemporaryDirectory() as runs:
        trained = train(
            experiment, runs, backgrounds=backgrounds,
            progress=lambda step, loss: reports.append((step, time.process_time())),
        )  # fmt: skip
        network = load_checkpoint(trained.checkpoint).network
    (first, began), (last, ended) = reports[0], reports[-1]
    image = torch.rand(1, 3, 256, 256)
    passes = []
    with torch.inference_mode():
        restore = restorer(network, "cpu", experiment.recipe.precision)
        for _ in range(4):
            start = time.process_time()
            restore(image)
            passes.append(time.process_time() - start)
    parameters = sum(weight.numel() for weight in network.parameters())
    return (ended - began) / (last - first), median(passes[1:]) * 1e6 / 256**2, parameters


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3, help="how often the ways take turns")
    parser.add_argument("--steps", type=int, default=25, help=f"timed in every run, after {LOG_EVERY} of warm-up")
    parser.add_argument("--precision", choices=("fp32", "mixed"), default="mixed" if has_bf16("cpu") else "fp32")
    given = parser.parse_args()
    if not os.environ.get("UNSEEN_DATA"):
        print("Skipped: TAEF2 lies in the data; set UNSEEN_DATA to their folder.")
        return
    print(f"{processor()}, one thread, {given.precision}, {date.today()}; torch {torch.__version__}; "
          f"medians of {given.rounds} rounds of {given.steps} steps")  # fmt: skip
    found: dict[str, list[tuple[float, float, int]]] = defaultdict(list)
    base = {"steps": LOG_EVERY + given.steps, "batch": 4, "patch": 64, "learning_rate": 2e-4, "device": "cpu",
            "precision": given.precision, "threads": 1}  # fmt: skip
    with tempfile.TemporaryDirectory() as folder, using_threads(1):
        small = models_in(Path(folder))
        experiments = {
            name: Experiment.model_validate({**way, "recipe": base | way.get("recipe", {})})
            for name, way in ways("${UNSEEN_DATA}/weights/taef2", small).items()
        }
        backgrounds = Backgrounds(Experiment().backgrounds)
        for _ in range(given.rounds):
            for name, experiment in experiments.items():
                found[name].append(timed(experiment, backgrounds))
    missed = report(found)
    if missed:
        sys.exit(f"More than twice the step of a network without a prior: {', '.join(missed)}.")


def report(found: dict[str, list[tuple[float, float, int]]]) -> list[str]:
    """Print the table, in Markdown; which ways missed their target."""

    def ratio(name: str, place: int) -> float:
        return median(mine[place] / plain[place] for mine, plain in zip(found[name], found[PLAIN], strict=True))

    print("| | trained parameters | ms a step | against L1 | seconds a megapixel forwards | against L1 |")
    print("|---|--:|--:|--:|--:|--:|")
    for name, rounds in found.items():
        step, forwards = median(each[0] for each in rounds), median(each[1] for each in rounds)
        print(f"| {name} | {rounds[0][2]:,} | {1e3 * step:.0f} | {ratio(name, 0):.2f} | {forwards:.2f} "
              f"| {ratio(name, 1):.2f} |")  # fmt: skip
    return [name for name, most in TARGET.items() if ratio(name, 0) > most]


if __name__ == "__main__":
    main()
