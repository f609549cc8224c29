"""The command line: results on stdout, everything else on stderr, and no traceback whatever a user does."""

import errno
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import typer.main
import yaml
from PIL import Image

from small_priors import small_tae
from unseen import cli, recipes
from unseen.checkpoints import load_checkpoint, restorer
from unseen.cli.app import progress_bar
from unseen.cli.evaluate import Candidate, _everything, _told_apart
from unseen.cli.train import read_experiment
from unseen.degradations import Mixture, preset
from unseen.evaluation.sheet import LINE, wrapped
from unseen.experiment import Experiment
from unseen.images import read_image, write_image
from unseen.networks import ResNetConfig, UNetConfig
from unseen.restoration import restore_image
from unseen.rows import read_rows


@dataclass(frozen=True)
class Result:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """All of stdout, which must be JSON and nothing else."""
        return json.loads(self.out)


ROOT = Path(__file__).parents[1]

Run = Callable[..., Result]


@pytest.fixture
def unseen(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Run:
    """Run the command in this process, in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")

    def run(*arguments: str | Path) -> Result:
        capsys.readouterr()
        monkeypatch.setattr(sys, "argv", ["unseen", *map(str, arguments)])
        try:
            cli.main()
            code: Any = 0
        except SystemExit as ended:
            code = ended.code or 0
        said = capsys.readouterr()
        assert "Traceback" not in said.err
        return Result(code, said.out, said.err)

    return run


def verbs() -> Iterator[tuple[str, ...]]:
    """Every verb there is, with the group it belongs to."""
    commands: dict[str, Any] = getattr(typer.main.get_command(cli.app), "commands")  # noqa: B009
    for name, verb in commands.items():
        yield from ((name, inner) for inner in verb.commands) if hasattr(verb, "commands") else [(name,)]


TINY = (
    "--set", "network={width: 4, blocks: 1}", "--set", "degradation={preset: medium, scale: 0.25}",
    "--set", "recipe={batch: 2, patch: 16, device: cpu, precision: fp32, threads: 1, steps: 30}",
)  # fmt: skip


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, rng = tmp_path_factory.mktemp("photographs"), np.random.default_rng(0)
    for number in range(5):
        write_image(folder / f"{number}.png", np.kron(rng.uniform(0.1, 0.6, (6, 6, 3)), np.ones((8, 8, 1))))
    return folder


@pytest.fixture(scope="module")
def trained(photographs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that the command line trained, through a process of its own."""
    runs = tmp_path_factory.mktemp("runs")
    done = subprocess.run(
        [
            sys.executable, "-m", "unseen.cli", "train", "--backgrounds", photographs, *TINY,
            "--set", "backgrounds.holdout=2", "--runs", runs, "--json",
        ],
        capture_output=True, text=True, timeout=300, check=False, env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    folder = Path(told["checkpoint"]).parent
    assert (told["id"], told["steps"], told["device"]) == (folder.name, 30, "cpu")
    assert 0 < told["loss"] < 1
    assert done.stderr == ""
    return folder


@pytest.fixture
def rainy(tmp_path: Path) -> Path:
    """Two images to restore, one in a subfolder."""
    rng = np.random.default_rng(1)
    write_image(tmp_path / "rainy" / "a.png", rng.integers(0, 256, (20, 30, 3), dtype=np.uint8))
    write_image(tmp_path / "rainy" / "deep" / "b.png", rng.integers(0, 256, (9, 7, 3), dtype=np.uint8))
    return tmp_path / "rainy"


# --- help


@pytest.mark.parametrize("verb", list(verbs()), ids=" ".join)
def test_every_verb_explains_itself_with_an_example(unseen: Run, verb: tuple[str, ...]) -> None:
    told = unseen(*verb, "--help")
    assert told.code == 0
    assert f"Example: unseen {' '.join(verb)}" in told.out
    assert told.err == ""


def test_help_names_every_verb(unseen: Run) -> None:
    told = unseen("--help")
    assert told.code == 0
    assert all(verb[0] in told.out for verb in verbs())


def test_the_version_is_told(unseen: Run) -> None:
    told = unseen("--version")
    assert (told.code, told.out, told.err) == (0, f"unseen {version('unseen')}\n", "")


def test_help_imports_nothing_heavy() -> None:
    script = (
        "import sys; sys.argv = ['unseen', '--help']\n"
        "from unseen.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "print([name for name in ('torch', 'numpy', 'pandas', 'PIL', 'matplotlib') if name in sys.modules], "
        "file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert done.stderr.strip() == "[]"
    assert "Usage" in done.stdout


# --- looking around


def test_doctor_says_what_the_machine_can_do(unseen: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UNSEEN_DATA", str(tmp_path / "nowhere"))
    told = unseen("doctor", "--json")
    assert told.code == 0
    assert told.json["torch"] == torch.__version__
    assert told.json["device"] in ("cpu", "cuda", "mps")
    assert told.json["data_found"] is False
    spoken = unseen("doctor")
    assert torch.__version__ in spoken.out
    assert "there is no such folder" in spoken.err


def test_preview_draws_a_sheet(unseen: Run, photographs: Path, tmp_path: Path) -> None:
    told = unseen("preview", photographs, "--rain", "medium", "--rain", "steep", "--size", "64", "-o", "sheet.png")
    assert told.code == 0
    height, width = read_image(tmp_path / "sheet.png").shape[:2]
    assert height > 2 * 64
    assert width >= 3 * 64
    assert [line.split()[0] for line in told.out.splitlines()] == ["medium", "steep"]
    assert "direction" in told.out.splitlines()[1]


def test_headings_of_a_sheet_fit_into_it() -> None:
    text = "camera-raw: CameraNoise, shot 0.004 to 0.012, mosaic rggb - 24.1 dB"
    lines = wrapped(text, 30, len)
    assert " ".join(lines) == text
    assert max(map(len, lines)) <= 30
    assert wrapped("a-word-that-is-wider on", 5, len) == ["a-word-that-is-wider", "on"]


def test_a_long_heading_makes_a_sheet_taller_and_no_wider(unseen: Run, tmp_path: Path) -> None:
    sizes = {}
    for name in ("gaussian25", "camera-raw"):
        assert unseen("preview", "--degradation", name, "--size", "64", "-o", f"{name}.png").code == 0
        sizes[name] = read_image(tmp_path / f"{name}.png").shape[:2]
    assert sizes["gaussian25"] == (64 + 2 * LINE, 4 * 64)
    assert sizes["camera-raw"][0] > 64 + 2 * LINE
    assert sizes["camera-raw"][1] == 4 * 64


def test_preview_draws_every_rain_on_embedded_images_and_tells_of_them_as_json(unseen: Run, tmp_path: Path) -> None:
    from unseen.degradations.rain import PRESETS

    told = unseen("preview", "--size", "32", "--json", "--out", "deep/sheet.png")
    assert [rain["name"] for rain in told.json["degradations"]] == list(PRESETS)
    assert (tmp_path / told.json["path"]).is_file()


def test_preview_draws_other_degradations_by_name_or_by_family(unseen: Run) -> None:
    told = unseen("preview", "--degradation", "steep", "--degradation", "poisson", "--size", "32")
    assert told.code == 0, told.err
    assert [line.split()[0] for line in told.out.splitlines()] == ["steep", "poisson"]
    assert "gaussian25 (kind)" in told.out.splitlines()[1]
    told = unseen("preview", "--family", "noise", "--size", "16", "--json")
    assert {"gaussian25", "camera-raw", "noise-chain"} <= {noise["name"] for noise in told.json["degradations"]}


def documented(verb: str) -> list[list[str]]:
    """The keys that docs/studies.md says a verb prints as JSON, then those of the list in it."""
    (line,) = (line for line in (ROOT / "docs/studies.md").read_text().splitlines() if line.startswith(f"| `{verb}` |"))
    return [re.findall("`([^`]+)`", part) for part in line.split("|")[2].split(": a list of")]


def test_what_doctor_and_preview_print_as_json_is_documented(unseen: Run) -> None:
    assert documented("doctor") == [list(unseen("doctor", "--json").json)]
    told = unseen("preview", "--degradation", "steep", "--size", "16", "--json").json
    assert documented("preview") == [list(told), list(told["degradations"][0])]


# --- training and judging


def test_training_again_does_nothing_and_names_the_same_run(unseen: Run, photographs: Path, trained: Path) -> None:
    before = (trained / "model.safetensors").stat().st_mtime_ns
    told = unseen(
        "train", "--backgrounds", photographs, *TINY, "--set", "backgrounds.holdout=2", "--runs", trained.parent
    )
    assert told.code == 0
    assert told.out == f"{trained / 'model.safetensors'}\n"
    assert told.err == f"Finished already: nothing was done.\nJudge it with: unseen evaluate {told.out}"
    assert (trained / "model.safetensors").stat().st_mtime_ns == before


def test_what_is_told_to_judge_a_run_with_works_where_it_held_no_images_out(unseen: Run, photographs: Path) -> None:
    told = unseen("train", "--backgrounds", photographs, *TINY, "--set", "recipe.steps=2")
    assert told.code == 0, told.err
    assert "nothing was done" not in told.err
    (line,) = (line for line in told.err.splitlines() if line.startswith("Judge it with: "))
    words = shlex.split(line.removeprefix("Judge it with: unseen "))
    assert words == ["evaluate", told.out.strip(), "--images", "FOLDER"]
    refused = unseen(*words[:2], "--on", "steep")
    assert refused.code == 2 and "held no images out" in refused.err and "--images" in refused.err


def test_more_threads_than_there_are_cores_are_refused(unseen: Run) -> None:
    told = unseen("train", "--set", "recipe.threads=100000")
    assert told.code == 2
    assert "This experiment asks for 100000 threads" in told.err and "Set recipe.threads to" in told.err


def test_options_and_changes_are_laid_over_the_file(unseen: Run, photographs: Path, tmp_path: Path) -> None:
    config = {"network": {"kind": "UNet", "width": 2, "levels": 1}, "recipe": {"steps": 9, "batch": 1, "patch": 8}}
    (tmp_path / "experiment.yaml").write_text(yaml.safe_dump(config))
    told = unseen(
        "train", "experiment.yaml", "--backgrounds", photographs, "--steps", "2", "--seed", "4",
        "--set", "recipe.batch=2", "--set", "recipe.threads=1", "--json",
    )  # fmt: skip
    assert told.code == 0, told.err
    experiment = load_checkpoint(told.json["checkpoint"]).experiment
    assert (experiment.seed, experiment.recipe.steps, experiment.recipe.batch, experiment.recipe.patch) == (4, 2, 2, 8)
    assert experiment.network.kind == "UNet"


@pytest.mark.parametrize("name", recipes.names())
def test_every_recipe_is_an_experiment(name: str, tmp_path: Path) -> None:
    raw = recipes.recipe(name)
    source = raw.get("network", {}).get("prior", {}).get("source")
    if source is None:
        assert Experiment.model_validate(raw) == read_experiment(None, {}, [], name)
        return
    small = str(small_tae(tmp_path))  # in place of the prior, which is not in the repository
    found = read_experiment(None, {}, [f"network.prior.source={small}"], name)
    raw["network"]["prior"]["source"] = small
    assert found == Experiment.model_validate(raw)


def test_the_recipe_content_is_what_was_measured() -> None:
    said, study = recipes.recipe("content"), yaml.safe_load((ROOT / "studies" / "priors.yaml").read_text())
    variant = study["variants"]["gate and blocks, three factors at once"]
    whole = {key: value for key, value in said.items() if key != "recipe"}
    flat = {**whole, **{f"recipe.{key}": value for key, value in said["recipe"].items()}}
    short, long = (Experiment.model_validate({"degradation": one.pop("degradation")}) for one in (flat, variant))
    assert flat == variant
    assert isinstance(short.degradation, Mixture) and isinstance(long.degradation, Mixture)
    assert short.degradation.parts == long.degradation.parts  # written shortly there, part by part here
    assert np.allclose(np.multiply(24, short.degradation.weights or ()), long.degradation.weights or ())


def test_a_file_is_laid_over_a_recipe_and_options_over_both(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    below = {
        "backgrounds": {"count": 32, "mirror": True},
        "network": {"kind": "ResNet", "width": 24, "blocks": 4},
        "seed": 2,
    }
    monkeypatch.setattr(recipes, "recipe", {"few": below}.__getitem__)
    (tmp_path / "mine.yaml").write_text("backgrounds: {count: 8}\nnetwork: {kind: UNet, levels: 2}\n")
    found = read_experiment(tmp_path / "mine.yaml", {"seed": 3}, ["network.blocks=3"], "few")
    assert (found.backgrounds.count, found.backgrounds.mirror, found.seed) == (8, True, 3)
    assert found.network == UNetConfig(levels=2, blocks=3)  # another kind: nothing of the ResNet is left
    assert read_experiment(None, {}, ["network.width=16"], "few").network == ResNetConfig(width=16, blocks=4)


def test_an_unknown_recipe_is_answered_with_those_there_are(unseen: Run) -> None:
    told = unseen("train", "--recipe", "secret")
    assert told.code == 2
    assert "There is no recipe called 'secret'. Known:" in told.err and "ordinary" in told.err


def test_evaluate_tells_of_every_suite_with_baselines_beside(unseen: Run, trained: Path, tmp_path: Path) -> None:
    told = unseen("evaluate", trained, "--on", "seen", "--on", "steep", "--on", "clean", "--scale", "0.25",
                  "--limit", "1", "--rows", "rows.parquet", "--json")  # fmt: skip
    assert told.code == 0, told.err
    (model,) = told.json["models"]
    groups = {name: suite["group"] for name, suite in model["suites"].items()}
    assert groups == {"seen": "seen", "steep": "unseen", "clean": "clean"}
    assert model["suites"]["steep"]["outside"] == ["direction"]
    assert model["leaks"] == []
    assert model["sentence"]
    rows = read_rows(tmp_path / "rows.parquet")
    assert set(rows.experiment) == {model["name"], "identity", "median", "box"}
    assert set(rows.suite) == set(groups)
    assert set(rows.image) == {"3.png"}  # the first one held out


def test_each_model_gets_its_own_sentence_and_what_is_typed_goes_before_what_is_listed(
    unseen: Run, tmp_path: Path
) -> None:
    (tmp_path / "suites.yaml").write_text("crop: 48\nlimit: 2\nscale: 1\nsuites: [steep]\n")
    words = ("evaluate", "identity", "median", "box", "--on", "suites.yaml", "--crop", "32", "--limit", "1", "--json")
    told = unseen(*words, "--rows", "rows.parquet")
    assert told.code == 0, told.err
    for model in told.json["models"]:
        assert model["sentence"].startswith(f"{model['name']} "), model
    found = read_rows(tmp_path / "rows.parquet")
    assert found["image"].nunique() == 1
    assert found[found["metric"] == "values"]["value"].max() <= 3 * 32 * 32


def test_what_was_seen_before_fine_tuning_is_not_judged_on(unseen: Run, photographs: Path, tmp_path: Path) -> None:
    shutil.copytree(photographs, tmp_path / "first")
    for number in range(4):
        write_image(tmp_path / "second" / f"{number}.png", np.random.default_rng(number + 9).random((48, 48, 3)))
    quick = (*TINY, "--set", "recipe.steps=2", "--json")
    one = unseen("train", "--backgrounds", "first", *quick, "--set", "recipe.snapshots=[1]")
    start = Path(one.json["checkpoint"]).parent / "snapshots" / "1.safetensors"
    two = unseen("train", "--backgrounds", "second", *quick, "--set", f"start_from={start}")
    shutil.copytree(photographs, tmp_path / "elsewhere")  # the same images, by content alone
    for folder, code, said in (("first", 2, "trained on"), ("elsewhere", 1, "test images are among")):
        told = unseen("evaluate", two.json["checkpoint"], "--images", folder, "--on", "steep", "--crop", "32")
        assert told.code == code and said in told.err, told.err
    start.rename(tmp_path / "alone.safetensors")  # far from its fingerprints: they are made from the images again
    three = unseen("train", "--backgrounds", "second", *quick, "--set", "start_from=alone.safetensors", "--seed", "3")
    shutil.rmtree(tmp_path / "first")
    told = unseen("evaluate", three.json["checkpoint"], "--images", "elsewhere", "--on", "steep", "--crop", "32")
    assert told.code == 1 and "test images are among" in told.err


def test_what_models_have_seen_is_told_apart_where_it_differs() -> None:
    def judged(name: str, content: str) -> tuple[Any, pd.DataFrame]:
        suites = [SimpleNamespace(name="seen", content=content), SimpleNamespace(name="steep", content="s")]
        rows = pd.DataFrame({"experiment": [name, "identity"] * 2, "suite": ["seen", "seen", "steep", "steep"]})
        return SimpleNamespace(model=SimpleNamespace(name=name), suites=suites), rows

    one, other, same = judged("a", "x"), judged("b", "y"), judged("b", "x")
    apart = _told_apart([one[0], other[0]], [one[1], other[1]])
    assert [list(table["suite"]) for table in apart] == [
        [f"seen by {n}", f"seen by {n}", "steep", "steep"] for n in "ab"
    ]
    assert _told_apart([one[0], same[0]], [one[1], same[1]])[1] is same[1]


@pytest.mark.parametrize(
    ("names", "collections"),
    [
        (("medium",), ("unseen-rain",)),
        (("blurs",), ("unseen-blur",)),
        (("haze",), ("unseen-haze",)),
        (("medium", "gaussian25"), ("unseen-rain", "unseen-noise")),
    ],
)
def test_by_default_a_checkpoint_is_judged_on_what_is_unseen_of_its_families(
    names: tuple[str, ...], collections: tuple[str, ...]
) -> None:
    info: Any = SimpleNamespace(name="model")
    stages = tuple(Experiment(degradation=preset(name)) for name in names)
    assert _everything(Candidate(info, lambda degraded: degraded, stages)) == ("seen", *collections, "clean")


def test_shipped_weights_are_judged_without_the_data_they_were_trained_on(
    unseen: Run, photographs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("UNSEEN_DATA", raising=False)
    told = unseen("evaluate", "rain", "--images", photographs, "--on", "steep", "--crop", "32", "--json")
    assert told.code == 0, told.err
    assert told.json["models"][0]["leaks"] is None


def test_evaluate_prints_a_table(unseen: Run, trained: Path) -> None:
    told = unseen("evaluate", trained, "--on", "seen", "--on", "clean", "--limit", "1")
    assert told.code == 0, told.err
    for word in ("seen", "clean", "identity", "median", "box", "PSNR", "removed"):
        assert word in told.out
    assert "removal ratio" in told.err


@pytest.mark.parametrize("name", ["identity", "median"])
def test_a_baseline_can_be_judged_alone(unseen: Run, photographs: Path, name: str) -> None:
    told = unseen("evaluate", name, "--images", photographs, "--on", "steep", "--limit", "1", "--json")
    assert told.code == 0, told.err
    assert told.json["models"][0]["name"] == name
    assert told.json["models"][0]["suites"]["steep"]["group"] == "unknown"


@pytest.fixture
def pairs(unseen: Run, photographs: Path, tmp_path: Path) -> Path:
    """A folder of pairs: steep rain, exported."""
    told = unseen("suite", "export", "steep", "--images", photographs, "--scale", "0.25", "--limit", "2", "-o", "sets")
    assert told.code == 0, told.err
    assert Path(told.out.strip()) == Path("sets/steep")
    return tmp_path / "sets" / "steep"


def test_a_suite_is_exported_checked_and_judged_on(unseen: Run, pairs: Path) -> None:
    assert unseen("suite", "check", pairs).code == 0
    told = unseen("evaluate", "median", "--on", pairs, "--seen", "steep", "--json")
    assert told.code == 0, told.err
    assert told.json["models"][0]["suites"]["steep"]["group"] == "seen"
    assert "2 pairs" in told.err
    next((pairs / "input").iterdir()).write_bytes(b"")
    assert unseen("suite", "check", pairs).code == 1


def test_suites_are_listed(unseen: Run) -> None:
    told = unseen("suite", "list", "--json")
    assert {"steep", "rain100l"} <= {suite["name"] for suite in told.json["suites"]}
    assert set(told.json["collections"]["unseen-rain"]) <= {suite["name"] for suite in told.json["suites"]}
    assert "unseen-rain: the mean over" in unseen("suite", "list").out


def test_restored_images_are_judged_like_a_model_and_a_page_is_written(
    unseen: Run, pairs: Path, tmp_path: Path
) -> None:
    told = unseen(
        "evaluate", "median", "box", "--restored", pairs / "input", "--on", pairs, "--seen", "steep", "-o", "verdict"
    )
    assert told.code == 0, told.err
    page = Path(told.out.strip().splitlines()[-1])
    assert page.is_file()
    assert {path.stem for path in (tmp_path / "verdict" / "results").glob("*.json")} == {"median", "box", "input"}
    again = unseen("leaderboard", tmp_path / "verdict" / "results", "-o", "board", "--json")
    assert again.code == 0, again.err


def test_suites_are_listed_in_a_file(unseen: Run, photographs: Path, tmp_path: Path) -> None:
    (tmp_path / "rain.yaml").write_text(
        f"images: {{source: '{photographs}', holdout: 2, part: test}}\nlimit: 1\nscale: 0.25\n"
        "suites: [steep, clean, {name: mine, degradation: {kind: Rain, preset: long}}]\n"
    )
    told = unseen("evaluate", "box", "--on", "rain.yaml", "--json")
    assert told.code == 0, told.err
    assert set(told.json["models"][0]["suites"]) == {"steep", "clean", "mine"}


def test_a_model_is_not_judged_on_what_it_was_trained_on(
    unseen: Run, photographs: Path, trained: Path, tmp_path: Path
) -> None:
    shutil.copytree(photographs, tmp_path / "copy")
    for path in (tmp_path / "copy").iterdir():  # another name, another coding
        Image.open(path).save(path.with_name(f"other-{path.stem}.webp"), quality=90)
        path.unlink()
    asked = ("evaluate", trained, "--images", tmp_path / "copy", "--on", "steep", "--limit", "1")
    refused = unseen(*asked)
    assert refused.code == 1
    assert "other-" in refused.err
    assert "--allow-leaks" in refused.err
    allowed = unseen(*asked, "--allow-leaks", "--json")
    assert allowed.code == 0, allowed.err
    assert allowed.json["models"][0]["leaks"]


# --- restoring


def test_restore_writes_every_image_below_the_output_folder(unseen: Run, trained: Path, rainy: Path) -> None:
    told = unseen("restore", rainy, "--model", trained, "-o", "restored", "--json")
    assert told.code == 0, told.err
    assert {image["status"] for image in told.json["images"]} == {"restored"}
    for name in ("a.png", "deep/b.png"):
        restored = read_image(Path("restored") / name)
        assert restored.shape == read_image(rainy / name).shape
    expected = restore_image(restorer(load_checkpoint(trained).network), read_image(rainy / "a.png"))
    assert np.abs(read_image("restored/a.png").astype(int) - expected).max() <= 3  # bf16 where there is such


def test_restore_skips_what_is_done_unless_told_otherwise(unseen: Run, trained: Path, rainy: Path) -> None:
    unseen("restore", rainy, "--model", trained)
    done = Path("restored/a.png")
    before = done.stat().st_mtime_ns
    again = unseen("restore", rainy, "--model", trained)
    assert again.code == 0
    assert "0 restored, 2 skipped, 0 failed" in again.err
    assert again.out == ""
    assert done.stat().st_mtime_ns == before
    forced = unseen("restore", rainy, "--model", trained, "--overwrite", "--json")
    assert {image["status"] for image in forced.json["images"]} == {"restored"}


def test_restore_goes_on_after_a_bad_file_and_fails_in_the_end(unseen: Run, trained: Path, rainy: Path) -> None:
    (rainy / "a-bad.png").write_bytes(b"no image")
    told = unseen("restore", rainy, "missing.png", "--model", trained, "--json")
    assert told.code == 1
    states = {Path(image["input"]).name: image["status"] for image in told.json["images"]}
    assert states == {"a-bad.png": "failed", "a.png": "restored", "b.png": "restored", "missing.png": "failed"}
    assert told.err.count("Error: Cannot read") == 2
    assert not Path("restored/a-bad.png").exists()


def test_restore_refuses_to_overwrite_its_input(unseen: Run, trained: Path, rainy: Path) -> None:
    before = (rainy / "a.png").read_bytes()
    for files in ([rainy], [rainy / "a.png"]):
        told = unseen("restore", *files, "--model", trained, "-o", rainy, "--overwrite")
        assert told.code == 2
        assert "would be overwritten by its restored image" in told.err
    assert (rainy / "a.png").read_bytes() == before


def test_what_was_restored_is_not_restored_again_where_it_lies_among_the_inputs(
    unseen: Run, trained: Path, rainy: Path
) -> None:
    for _ in range(2):
        told = unseen("restore", rainy, "--model", trained, "-o", rainy / "restored", "--json")
        assert told.code == 0
        assert [Path(image["input"]).name for image in told.json["images"]] == ["a.png", "b.png"]
    told = unseen("restore", rainy, "--model", trained, "-o", rainy.parent, "--json")
    assert [Path(image["input"]).name for image in told.json["images"]][:2] == ["a.png", "b.png"]


def test_restore_refuses_to_write_two_images_to_one_file(unseen: Run, trained: Path, rainy: Path) -> None:
    told = unseen("restore", rainy, rainy / "a.png", "--model", trained)
    assert told.code == 2
    assert "would both be written to" in told.err
    Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(rainy / "a.gif")  # would become a.png
    told = unseen("restore", rainy, "--model", trained)
    assert told.code == 2
    assert "would both be written to" in told.err
    assert not Path("restored").exists()


def grey16() -> Image.Image:
    return Image.fromarray(np.arange(0, 60000, 100, dtype=np.uint16).reshape(20, 30))


@pytest.mark.parametrize(
    ("name", "picture"),
    [
        ("rgba.png", Image.new("RGBA", (12, 9), (200, 100, 50, 128))),
        ("grey.png", Image.new("L", (12, 9), 77)),
        ("grey16.png", grey16()),
        ("palette.png", Image.new("P", (12, 9))),
        ("one.png", Image.new("RGB", (1, 1), (9, 99, 200))),
        ("thin.png", Image.new("RGB", (1, 40))),
        ("photo.jpg", Image.new("RGB", (12, 9), (9, 99, 200))),
        ("cmyk.jpg", Image.new("CMYK", (12, 9))),
        ("moving.gif", Image.new("P", (12, 9))),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_any_kind_of_image_is_restored(
    unseen: Run, trained: Path, tmp_path: Path, name: str, picture: Image.Image
) -> None:
    picture.save(tmp_path / name)
    told = unseen("restore", name, "--model", trained, "--json")
    assert told.code == 0, told.err
    restored = read_image(told.json["images"][0]["output"])
    assert restored.shape == (picture.height, picture.width, 3)


# --- studies


def test_a_study_is_planned_run_and_reported(unseen: Run, photographs: Path, tmp_path: Path) -> None:
    images = {"source": "${PHOTOGRAPHS}", "holdout": 2}
    study = {
        "name": "tiny", "question": "Is it so?",
        "base": {
            "backgrounds": images, "network": {"kind": "ResNet", "width": 4, "blocks": 1},
            "degradation": {"kind": "Rain", "preset": "medium", "scale": 0.25},
            "recipe": {"steps": 30, "batch": 2, "patch": 16, "device": "cpu", "threads": 1},
        },
        "axes": {"backgrounds.count": [1, None], "seed": [0, 1]},
        "judge": {"images": {**images, "part": "test"}, "crop": 32, "limit": 1, "scale": 0.25,
                  "suites": ["seen", "steep", "steeper", "clean"]},
    }  # fmt: skip
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(study))
    told = unseen("study", "plan", "tiny.yaml")
    assert told.code == 2
    assert "PHOTOGRAPHS" in told.err
    os.environ["PHOTOGRAPHS"] = str(photographs)
    try:
        planned = unseen("study", "plan", "tiny.yaml", "--set", "base.recipe.steps=10", "--json").json
        assert [cell["done"] for cell in planned["cells"]] == [False] * 4
        assert {cell["steps"] for cell in planned["cells"]} == {10}
        ran = unseen("study", "run", "tiny.yaml", "--set", "base.recipe.steps=10", "--workers", "1", "--json")
        assert ran.code == 0, ran.err
        assert (ran.json["cells"], ran.json["done"]) == (4, 4)
        again = unseen("study", "plan", "tiny.yaml", "--set", "base.recipe.steps=10")
        assert again.out.count("done") == 4
        assert "0 of 4 cells to run, 0 steps in all" in again.err
        for name in ("tiny", "tiny.yaml"):
            told = unseen("study", "report", name, "--json")
            assert told.code == 0, told.err
            assert Path(told.json["report"]).is_file()
    finally:
        del os.environ["PHOTOGRAPHS"]


# --- what users do wrong


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("train", "--stepps", "3"), "No such option"),
        (("train", "--steps", "many"), "valid integer"),
        (("train", "--steps", "0"), "Invalid value"),
        (("trian",), "No such command"),
        (("evaluate",), "There is nothing to judge"),
        (
            ("preview", "--rain", "mediun"),
            "There is no degradation called 'mediun': did you mean 'medium'? Known: small, medium",
        ),
        (("preview", "--family", "snow"), "There is no family of degradations called 'snow'. Known: rain, noise"),
        (("preview", "--scale", "-1"), "scale of a rain"),
        (("train", "--set", "recipe.stepps=3"), "recipe.stepps: there is no such key"),
        (("train", "--set", "degradation.preset=mediun"), "There is no degradation called 'mediun'"),
        (("train", "--set", "recipe.steps"), "--set takes key=value"),
        (("train", "--set", "network={kind: VGG}"), "network: There is no kind called 'VGG'. Known: ResNet, UNet"),
        (
            ("train", "--set", "degradation.kind=Rian"),
            "There is no kind called 'Rian': did you mean 'Rain'? Known: Rain",
        ),
        (("train", "--set", "degradation.kind=rain"), "did you mean 'Rain'?"),
        (("train", "--set", "recipe.loss.kind=L2"), "loss"),
        (("train", "--set", "backgrounds.count=1000000"), "1000000"),
        (("train", "missing.yaml"), "missing.yaml cannot be read"),
        (("train", "wrong.yaml"), "recpie: there is no such key"),
        (("train", "no.yaml"), "is not YAML"),
        (("evaluate", "identity", "--on", "stepe"), "There is no suite called 'stepe'"),
        (("evaluate", "identity", "--on", "steep", "--on", "steep"), "must have different names"),
        (("evaluate", "identity", "--scale", "0"), "scale"),
        (("study", "run", "missing.yaml"), "There is no study at missing.yaml"),
        (("study", "run", "wrong.yaml"), "recpie: there is no such key"),
        (("restore", "a.png", "--model", "MODEL", "--device", "gpu"), "--device is auto, cpu, cuda or mps, not 'gpu'"),
        pytest.param(
            ("restore", "a.png", "--model", "MODEL", "--device", "cuda"),
            "torch sees no such device here",
            marks=pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device: run without one"),
        ),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_wrong_usage_exits_2_and_says_what_is_wrong(
    unseen: Run, trained: Path, tmp_path: Path, arguments: tuple[str, ...], reason: str
) -> None:
    (tmp_path / "wrong.yaml").write_text("recpie: {steps: 3}\n")
    (tmp_path / "no.yaml").write_text("recipe: [\n")
    told = unseen(*(str(trained) if argument == "MODEL" else argument for argument in arguments))
    assert told.code == 2
    assert reason in told.err
    assert told.out == ""


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("evaluate", "missing"), "There is no model 'missing'"),
        (("evaluate", "text.safetensors"), "it is a text file"),
        (("restore", "bad.png", "--model", "missing"), "There is no model 'missing'"),
        (("restore", "bad.png", "--model", "MODEL"), "Cannot read bad.png"),
        (("restore", "empty", "--model", "MODEL"), "No images in empty"),
        (("train", "--backgrounds", "missing"), "missing does not exist"),
        (("train", "--backgrounds", "empty"), "No images in empty"),
        (("preview", "empty"), "No images in empty"),
        (("preview", "--rain", "medium", "--size", "16", "-o", "sheet.doc"), "unknown suffix '.doc'"),
        (("study", "report", "nothing"), "There is no study 'nothing'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_failures_exit_1_and_say_what_failed(
    unseen: Run, trained: Path, tmp_path: Path, arguments: tuple[str, ...], reason: str
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "bad.png").write_bytes(b"no image")
    (tmp_path / "text.safetensors").write_text("no weights")
    told = unseen(*(str(trained) if argument == "MODEL" else argument for argument in arguments))
    assert told.code == 1
    assert reason in told.err
    assert told.out == ""


def test_a_diverging_run_exits_1(unseen: Run, photographs: Path) -> None:
    told = unseen("train", "--backgrounds", photographs, *TINY, "--set", "recipe.learning_rate=1.0e+30", "--json")
    assert told.code == 1
    assert "training has diverged" in told.err
    assert told.out == ""


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere: run as another user")
def test_a_folder_without_permission_is_a_failure(unseen: Run, photographs: Path, tmp_path: Path) -> None:
    (tmp_path / "locked").mkdir(mode=0o500)
    told = unseen("train", "--backgrounds", photographs, *TINY, "--runs", tmp_path / "locked" / "runs")
    assert told.code == 1
    assert str(tmp_path / "locked") in told.err and "permission denied. Change its permissions" in told.err
    study = tmp_path / "study.yaml"
    study.write_text(yaml.safe_dump({"name": "tiny", "question": "Is it so?", "base": {"recipe": {"steps": 1}}}))
    told = unseen("study", "run", study, "--runs", tmp_path / "locked")
    assert told.code == 1
    assert str(tmp_path / "locked") in told.err and "permission denied. Change its permissions" in told.err
    assert "Free some space" not in told.err


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read anything: run as another user")
def test_a_model_that_may_not_be_read_is_not_called_damaged(unseen: Run, trained: Path, tmp_path: Path) -> None:
    shutil.copy(trained / "model.safetensors", tmp_path / "model.safetensors")
    (tmp_path / "model.safetensors").chmod(0)
    for source in (tmp_path, tmp_path / "model.safetensors"):
        told = unseen("evaluate", source, "--on", "steep")
        assert told.code == 1
        assert "model.safetensors cannot be read: permission denied." in told.err
        assert "damaged" not in told.err


def test_a_full_disk_is_told_with_the_folder_that_was_to_be_written(
    unseen: Run, photographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: Path, content: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")  # names no file, as the system's own does not

    monkeypatch.setattr(Path, "write_bytes", full)
    told = unseen("evaluate", "identity", "--images", photographs, "--on", "steep", "--limit", "1", "-o", "verdict")
    assert told.code == 1
    assert "Cannot write verdict/results/identity.json: the disk (or the quota on it) is full. Free some" in told.err


def test_a_file_where_a_folder_should_be_is_a_failure(unseen: Run, photographs: Path, tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("")
    told = unseen("train", "--backgrounds", photographs, *TINY)
    assert told.code == 1
    assert "runs" in told.err


def test_ctrl_c_while_judging_is_told_in_a_line(photographs: Path, tmp_path: Path) -> None:
    words = ["evaluate", "identity", "median", "box", "--images", photographs, "--on", "steep", "-o", "verdict"]
    process = subprocess.Popen(
        [sys.executable, "-m", "unseen.cli", *words], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True, env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    until = time.monotonic() + 200
    while not (tmp_path / "verdict/results/identity.json").exists():  # the next of them is being judged
        assert process.poll() is None and time.monotonic() < until
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert out == ""
    assert err.splitlines()[-1] == "Interrupted."
    assert "Traceback" not in err


def test_the_time_left_counts_what_is_done_now_alone(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of a task that goes on where it was stopped."""
    now = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    with progress_bar() as draw:
        for done in (9_000, 9_100, 10_000):
            draw("train", done, 10_000, "")
            now[0] += 20
    said = capsys.readouterr().err.splitlines()
    assert said == ["train: 9,100 of 10,000, 3 min 00 s left", "train: 10,000 of 10,000"]
