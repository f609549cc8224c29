"""When should a network leave a picture alone? Measured on what it was trained with; no test image is looked at.

    UNSEEN_DATA=/path/to/data .venv/bin/python scripts/abstention.py rain-better

For ramps of `abstain` (`unseen.networks.abstention`), over 270 patches of the photographs that the network was trained
on, dry and degraded as in training: how well the dry ones come back, and how many of the degraded ones are touched.
"""

import argparse

import numpy as np
import torch

from unseen.backgrounds import Backgrounds
from unseen.data import Pairs
from unseen.models import always_restoring, open_model
from unseen.networks.abstention import Abstention
from unseen.shipped import find_model

RAMPS = ((0.01, 0.02), (0.015, 0.025), (0.02, 0.03), (0.02, 0.04), (0.03, 0.05))
STEPS, BATCH, PATCH, SEED = 45, 6, 256, 1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="a shipped name, or a checkpoint")
    model = open_model(find_model(parser.parse_args().model))
    if model.experiment is None or model.network is None:
        raise SystemExit("This is no checkpoint of ours: nothing says what it was trained on.")
    restore, experiment = always_restoring(model).restore, model.experiment
    source = (experiment.backgrounds.parts or (experiment.backgrounds,))[0]
    pairs = Pairs(Backgrounds(source), experiment.degradation, patch=PATCH, batch=BATCH, seed=SEED)
    rules = [Abstention(low=low, high=high) for low, high in RAMPS]
    dry: list[list[float]] = [[] for _ in (None, *rules)]
    wet: list[list[float]] = [[] for _ in (None, *rules)]
    for step in range(STEPS):
        batch = pairs[step]
        spared, freed = restore(batch.clean), restore(batch.degraded)
        for place, rule in enumerate((None, *rules)):
            dry[place] += _psnr(spared if rule is None else rule(batch.clean, spared), batch.clean)
            wet[place] += _psnr(freed if rule is None else rule(batch.degraded, freed), batch.clean)
    print(f"{len(dry[0])} patches of {PATCH} pixels, seed {SEED}; PSNR in RGB, dB")
    print("low    high   dry: worst  under 38   degraded: mean  lost on average  touched")
    for place, rule in enumerate((None, *rules)):
        name = "never        " if rule is None else f"{rule.low:<7g}{rule.high:<6g}"
        lost = np.subtract(wet[0], wet[place])
        print(
            f"{name} {min(dry[place]):11.2f}  {sum(one < 38 for one in dry[place]):8}  {np.mean(wet[place]):15.2f}  "
            f"{lost.mean():15.3f}  {(lost != 0).sum():7}"
        )


def _psnr(one: torch.Tensor, other: torch.Tensor) -> list[float]:
    return (-10 * torch.log10((one - other).square().mean((1, 2, 3)).clamp(min=1e-12))).tolist()


if __name__ == "__main__":
    main()
