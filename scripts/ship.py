"""Train the weights that come with the package, judge them, and write their model card.

    UNSEEN_DATA=/path/to/data .venv/bin/python scripts/ship.py rain

NAME is that of a recipe: recipes/NAME.yaml is trained (the same command again goes on where it stopped) after its
images have been compared with all test images; judged on suites/FAMILY.yaml, with published weights beside it where
their results lie in the repository; and copied to src/unseen/weights/NAME.safetensors, its card beside it.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from unseen.checkpoints import load_checkpoint
from unseen.results import Result, read_result
from unseen.rows import summarise

ROOT = Path(__file__).parents[1]
UNSEEN = [sys.executable, "-c", "import sys; from unseen.cli import main; sys.exit(main())"]

TESTS = ("backgrounds/natural", "pairs/rain100l", "pairs/rain100h", "pairs/polyu_noise", "pairs/lai_blur")
"""What nothing may be trained on, under UNSEEN_DATA; of the photographs only the 48 that are held out."""

LICENCES = {
    "natural": "270 photographs of BSDS500 (Berkeley Segmentation Data Set; research use)",
    "comics": "329 crops of Pepper&Carrot pages (David Revoy, www.peppercarrot.com; CC BY 4.0)",
    "faces": "320 photographs of Caltech-101, Faces_easy (CC BY 4.0)",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=sorted(path.stem for path in (ROOT / "recipes").glob("*.yaml")))
    parser.add_argument("--runs", type=Path, default=ROOT / "runs")
    given = parser.parse_args()
    os.chdir(ROOT)
    data = Path(os.environ.get("UNSEEN_DATA", ""))
    if not (data / TESTS[0]).is_dir():
        sys.exit("UNSEEN_DATA names no folder with the photographs and test sets: see docs/data.md.")
    name, family = given.name, given.name.partition("-")[0]
    recipe = Path("recipes", f"{name}.yaml")
    tests = [part for test in TESTS[1:] for part in ("--test", str(data / test))]
    trained = _json("train", str(recipe), *tests, "--runs", str(given.runs), "--save-every", "500")
    folder = Path(trained["checkpoint"]).parent
    weights = Path("src/unseen/weights", f"{name}.safetensors")
    weights.parent.mkdir(exist_ok=True)
    shutil.copyfile(trained["checkpoint"], weights)
    judged = Path("results/weights", name)
    _json("evaluate", name, "--on", f"suites/{family}.yaml", "--device", "cpu", "-o", str(judged))
    result = read_result(judged / "results" / f"{name}.json")
    others = [read_result(path) for path in sorted(Path("results/prenet").glob("*.json"))] if family == "rain" else []
    environment = json.loads((folder / "environment.json").read_text())
    card = _card(name, weights, recipe, environment, _hours(folder / "log.csv"), result, others)
    weights.with_suffix(".md").write_text(card, encoding="utf-8")
    print(weights)


def _json(*words: str) -> dict[str, Any]:
    """What a verb of the command line prints; its progress is shown."""
    done = subprocess.run([*UNSEEN, *words, "--json"], stdout=subprocess.PIPE, check=False)
    if done.returncode:
        sys.exit(done.returncode)
    return json.loads(done.stdout)


def _hours(log: Path) -> float:
    """How long it was trained. Seconds begin again where a run was cut off and went on."""
    seconds = pd.read_csv(log)["seconds"].to_numpy()
    return float(np.where(np.diff(seconds, prepend=0) < 0, seconds, np.diff(seconds, prepend=0)).sum() / 3600)


def _card(
    name: str,
    weights: Path,
    recipe: Path,
    environment: dict[str, Any],
    hours: float,
    result: Result,
    others: list[Result],
) -> str:
    """The model card, in Markdown."""
    checkpoint, family = load_checkpoint(weights), name.partition("-")[0]
    experiment, settings = checkpoint.experiment, checkpoint.experiment.recipe
    network = " ".join(f"{key} {value}," for key, value in experiment.network.model_dump().items()).rstrip(",")
    sources = [part.source.rpartition("/")[2] for part in experiment.backgrounds.parts or (experiment.backgrounds,)]
    drawn = experiment.backgrounds.weights or [1.0] * len(sources)
    shares = [
        f"- {one / sum(drawn):.0%} are from {LICENCES[source]}" for source, one in zip(sources, drawn, strict=True)
    ]
    clean = result.rows["clean"].values("model", "psnr_y")
    on = f"{environment['threads']} thread of {environment['processor']}"
    how = f"{environment['precision']}, torch {environment['torch']}"
    size = f"{checkpoint.parameters:,} parameters, {weights.stat().st_size / 1e6:.1f} MB"
    return f"""# `{name}`

A network of {network.removeprefix("kind ")}; {size}. MIT licence, as the package.
`unseen restore photo.jpg --model {name}` uses it.

## Training

`UNSEEN_DATA=/path/to/data .venv/bin/python scripts/ship.py {name}` trains [{recipe}](../../../{recipe}) from seed
{experiment.seed}: {settings.steps:,} steps of {settings.batch} patches of {settings.patch} pixels, {hours:.1f} hours on
{on} ({how}), begun {environment["date"]}. Of the clean images, all degraded by the program itself,

{_lines(shares)}

None is a test image: before training they are compared by content with all test images. Every named {family} of the
test lies outside of the training range in at least one factor, computed from the ranges; pairs come from other people's
programs and cameras. No test set was used to choose anything: it is the first network that this recipe gave.

## What it does

PSNR on Y in dB, in brackets the gain over the input and the share of the degradation that was removed; {result.date},
`unseen evaluate {name} --on suites/{family}.yaml -o results/weights/{name}`, where the result file has all quantities.

{_lines(_table(result, others, result.collections[f"unseen-{family}"]))}

A clean photograph comes back at {clean[np.isfinite(clean)].mean():.1f} dB on average over {len(clean)}, at
{clean.min():.1f} dB at worst.
"""


def _lines(lines: Iterable[str]) -> str:
    return "\n".join(lines)


def _table(result: Result, others: list[Result], collection: tuple[str, ...]) -> list[str]:
    """One line a suite, then the mean over the collection; models, then baselines."""
    mine = summarise(result.frame())
    columns = {result.model.name: mine[mine.experiment == result.model.name].set_index("suite")}
    for other in others:
        theirs = summarise(other.frame())
        columns[f"PReNet {other.model.name}"] = theirs[theirs.experiment == other.model.name].set_index("suite")
    columns |= {base: mine[mine.experiment == base].set_index("suite") for base in ("median", "box")}
    inputs = mine[mine.experiment == "identity"].set_index("suite").psnr_y
    names = [suite.name for suite in result.suites]
    unseen = [name for name in names if name in collection]
    seen = [[suite.name for suite in other.suites if suite.group == "seen"] for other in others]

    def entry(psnr: float, before: float, removed: float) -> str:
        return f"{psnr:.2f} ({psnr - before:+.2f}; {removed:.2f})" if np.isfinite(before) else f"{psnr:.2f}"

    lines = [f"| suite | input | {' | '.join(columns)} |", "|---|--:|" + "--:|" * len(columns)]
    for suite in names:
        cells = []
        for place, one in enumerate(columns.values()):
            ratio = one.removal_ratio[suite]
            removed = 1 - one.retention[suite] if np.isnan(ratio) else ratio  # without a mask
            knows = 1 <= place <= len(seen) and suite in seen[place - 1]
            cells.append(entry(one.psnr_y[suite], inputs[suite], removed) + (" seen" if knows else ""))
        said = f"{suite} (seen)" if result.suite(suite).group == "seen" else suite
        lines.append(f"| {said} | {inputs[suite]:.2f} | {' | '.join(cells)} |")
    gains = [(one.psnr_y[unseen].mean(), (one.psnr_y - inputs)[unseen].mean()) for one in columns.values()]
    means = [f"{psnr:.2f} ({gain:+.2f})" for psnr, gain in gains]
    return [*lines, f"| **mean of the {len(unseen)} unseen** | {inputs[unseen].mean():.2f} | {' | '.join(means)} |"]


if __name__ == "__main__":
    main()
