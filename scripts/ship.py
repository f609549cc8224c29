"""Train the weights that come with the package, judge them, and write their model card.

    UNSEEN_DATA=/path/to/data .venv/bin/python scripts/ship.py rain

NAME is that of a recipe. Its images are compared with all test images, and recipes/NAME.yaml is trained, from what the
recipes gave that come before it (BEFORE, below); the same command again goes on where it stopped. The network is judged
on suites/FAMILY.yaml, with published weights beside it where their results lie in the repository, and written to
src/unseen/weights/NAME.safetensors, its card and, of rain, its map beside it.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from unseen.checkpoints import load_checkpoint, save_network
from unseen.networks.abstention import Abstention
from unseen.results import Result, read_result
from unseen.rows import summarise

ROOT = Path(__file__).parents[1]

ALONE = """It leaves alone what it takes for clean: rain lies all over a picture, and so an image in half of whose 4 x 4
blocks it would change less than {low:.1%} of the pixels is left as it is; from {high:.1%} on it is restored, in between
both are blended. The rule was chosen on the training photographs (`scripts/abstention.py {name}`). Photographs of real
rain, of which it knows little, mostly fall under it: `unseen restore` says so, and restores them with `--always`."""

UNSEEN = [sys.executable, "-c", "import sys; from unseen.cli import main; sys.exit(main())"]

TESTS = ("backgrounds/natural", "pairs/rain100l", "pairs/rain100h", "pairs/polyu_noise", "pairs/lai_blur")
"""What nothing may be trained on, under UNSEEN_DATA; of the photographs only the 48 that are held out."""

BEFORE = {
    "rain": ("rain-first", "rain-second"),
    "rain-better": ("rain-first", "rain-second"),
    "noise-better": ("noise",),
}
"""The recipes that a network is trained with before its own, one after the other."""

STAGES = {"rain-first", "rain-second"}
"""Recipes whose networks do not come with the package themselves."""

BLENDED = {"rain": 0.5}
"""Of which networks the weights are a mean of those after the last recipe, whose share this is, and those after the one
before it (Wortsman et al., CVPR 2022, section 3): half of what the last stage gains, for half of what it costs."""

ABSTAINS = {"rain-better": Abstention(low=0.03, high=0.05)}
"""Which networks leave alone what they take for clean, and when: the first ramp of scripts/abstention.py at which no
dry patch of the training photographs comes back at less than 38 dB. (One before, at which one of 270 did, was tried
first: of the 48 test photographs two were under 38 dB.)"""

LICENCES = {
    "natural": "270 photographs of BSDS500 (Berkeley Segmentation Data Set; research use)",
    "comics": "329 crops of Pepper&Carrot pages (David Revoy, www.peppercarrot.com; CC BY 4.0)",
    "faces": "320 photographs of Caltech-101, Faces_easy (CC BY 4.0)",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    recipes = {path.stem for path in (ROOT / "recipes").glob("*.yaml")}
    parser.add_argument("name", choices=sorted(recipes - STAGES))
    parser.add_argument("--runs", type=Path, default=ROOT / "runs")
    given = parser.parse_args()
    os.chdir(ROOT)
    data = Path(os.environ.get("UNSEEN_DATA", ""))
    if not (data / TESTS[0]).is_dir():
        sys.exit("UNSEEN_DATA names no folder with the photographs and test sets: see docs/data.md.")
    name, family = given.name, given.name.partition("-")[0]
    recipe = Path("recipes", f"{name}.yaml")
    tests = [part for test in TESTS[1:] for part in ("--test", str(data / test))]

    def train(recipe: Path, *more: str) -> Path:
        words = (str(recipe), *more, *tests, "--runs", os.path.relpath(given.runs), "--save-every", "500")
        return Path(_json("train", *words)["checkpoint"])

    stages: list[tuple[Path, Path]] = []
    for path in (*(recipe.with_name(f"{stage}.yaml") for stage in BEFORE.get(name, ())), recipe):
        begun = ("--set", f"start_from={os.path.relpath(stages[-1][1])}") if stages else ()
        stages.append((path, train(path, *begun)))
    weights = Path("src/unseen/weights", f"{name}.safetensors")
    weights.parent.mkdir(exist_ok=True)
    if name in BLENDED:
        _blend(stages[-2][1], stages[-1][1], BLENDED[name], weights)
    else:
        shutil.copyfile(stages[-1][1], weights)
    if name in ABSTAINS:
        _abstain(weights, ABSTAINS[name])
    judged, kept = given.runs / f"verdict-{name}", Path("results/weights", f"{name}.json")
    _json("evaluate", name, "--on", f"suites/{family}.yaml", "--device", "cpu", "-o", os.path.relpath(judged))
    kept.parent.mkdir(exist_ok=True)
    shutil.copyfile(judged / "results" / f"{name}.json", kept)
    if family == "rain":
        drawn = given.runs / f"map-{name}"
        _json("map", name, "--device", "cpu", "-o", os.path.relpath(drawn))
        with Image.open(drawn / "map.png") as picture:  # a third of the bytes
            picture.convert("RGB").quantize(256, dither=Image.Dither.NONE).save(
                weights.with_name(f"{name}-map.png"), optimize=True
            )
    result = read_result(kept)
    others = [read_result(path) for path in sorted(Path("results/prenet").glob("*.json"))] if family == "rain" else []
    stages = [(path, trained.parent) for path, trained in stages]
    weights.with_suffix(".md").write_text(_card(weights, stages, result, others), encoding="utf-8")
    print(weights)


def _blend(before: Path, last: Path, share: float, to: Path) -> None:
    """Write the weighted mean of two checkpoints; all else is as in the last."""
    old, new = load_checkpoint(before).network.state_dict(), load_checkpoint(last)
    weights = {name: old[name].lerp(value, share) for name, value in new.network.state_dict().items()}
    save_network(to, weights, new.experiment, new.step, new.before)


def _abstain(path: Path, when: Abstention) -> None:
    """Write into a checkpoint when its network leaves an image alone: the weights are the same."""
    trained = load_checkpoint(path)
    network = trained.experiment.network.model_copy(update={"abstain": when})
    experiment = trained.experiment.model_copy(update={"network": network})
    save_network(path, trained.network.state_dict(), experiment, trained.step, trained.before)


def _json(*words: str) -> dict[str, Any]:
    """What a verb of the command line prints; its progress is shown."""
    done = subprocess.run([*UNSEEN, *words, "--json"], stdout=subprocess.PIPE, check=False)
    if done.returncode:
        sys.exit(done.returncode)
    return json.loads(done.stdout)


def _card(weights: Path, stages: list[tuple[Path, Path]], result: Result, others: list[Result]) -> str:
    """The model card, in Markdown. `stages`: recipes and the folders of their runs, one after the other."""
    name, family = weights.stem, weights.stem.partition("-")[0]
    checkpoint = load_checkpoint(weights)
    experiment = checkpoint.experiment
    built = experiment.network.model_dump(exclude={"abstain"})
    network = " ".join(f"{key} {value}," for key, value in built.items()).rstrip(",")
    sources = [part.source.rpartition("/")[2] for part in experiment.backgrounds.parts or (experiment.backgrounds,)]
    drawn = experiment.backgrounds.weights or [1.0] * len(sources)
    shares = [
        f"- {one / sum(drawn):.0%} are from {LICENCES[source]}" for source, one in zip(sources, drawn, strict=True)
    ]
    clean = result.rows["clean"].values("model", "psnr_y")
    size = f"{checkpoint.parameters:,} parameters, {weights.stat().st_size / 1e6:.1f} MB"
    paragraphs = [
        f"# `{name}`",
        f"A network of {network.removeprefix('kind ')}; {size}. MIT licence, as the package. `unseen restore photo.jpg "
        f"--model {name}` uses it.",
        "## Training",
        f"`UNSEEN_DATA=/path/to/data .venv/bin/python scripts/ship.py {name}` trains it: "
        f"{'; then '.join(_stage(*stage) for stage in stages)}. {_blended(name)}Of the clean images, all degraded by "
        "the program,",
        "\n".join(shares),
        "The first are for research; whether you may do more with what was trained on them is for you to judge.",
        "None is a test image: before training they are compared by content with all test images. Every named "
        f"{family} of the test lies outside of the training range in at least one factor, computed from the ranges, "
        "some of them by little; pairs come from other people's programs and cameras. The ranges were written knowing "
        "the tests, so as to leave them out, and knowing what ordinary training fails on. Settings were not searched "
        "for on a test set; where something was changed after a network had been judged on one, or looked at, the "
        "recipe says what, why, and by which figures.",
        "## What it does",
        "PSNR on Y in dB, in brackets the gain over the input and the share of the degradation that was removed; "
        f"{result.date}, `unseen evaluate {name} --on suites/{family}.yaml`. All quantities are in "
        f"[the result file](../../../results/weights/{name}.json).",
        "\n".join(_table(result, others, result.collections[f"unseen-{family}"])),
        _on_clean(clean),
    ]
    when = experiment.network.abstain
    if when is not None:
        paragraphs.insert(-1, ALONE.format(name=name, low=when.low, high=when.high))
    return (
        "\n\n".join(
            text if text[0] in "|-#" else textwrap.fill(text, 120, break_on_hyphens=False) for text in paragraphs
        )
        + "\n"
    )


def _on_clean(psnr: NDArray[np.float64]) -> str:
    """How clean photographs come back, in words."""
    changed = psnr[np.isfinite(psnr)]
    if len(changed) == len(psnr):
        worst = f"at {psnr.min():.1f} dB at worst"
        return f"A clean photograph comes back at {psnr.mean():.1f} dB on average over {len(psnr)}, {worst}."
    said = f"Of {len(psnr)} clean photographs {len(psnr) - len(changed)} come back as they are"
    if not len(changed):
        return f"{said}."
    return f"{said}, the others at {changed.mean():.1f} dB on average, {changed.min():.1f} dB at worst."


def _blended(name: str) -> str:
    if name not in BLENDED:
        return ""
    return (
        f"The weights are the mean of those after the last recipe ({BLENDED[name]:.0%}) and those after the one before "
        "it (Wortsman et al., CVPR 2022): of what the last gains on dry pictures and loses on rain, half. "
    )


def _stage(recipe: Path, run: Path) -> str:
    """What was done with a recipe, in words."""
    settings, ended = load_checkpoint(run).experiment.recipe, json.loads((run / "environment.json").read_text())
    return (
        f"[{recipe}](../../../{recipe}), {settings.steps:,} steps of {settings.batch} patches of {settings.patch} "
        f"pixels, {ended['seconds'] / 3600:.1f} hours on {ended['threads']} thread of {ended['processor']} "
        f"({ended['precision']}, torch {ended['torch']}), finished {ended['date']}"
    )


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
