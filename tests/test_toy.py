"""The toy: its families have the dimensions and loudness they claim, its rows hang on nothing but the configuration,
and what it says is computed."""

import json
import math
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from unseen import cli
from unseen.errors import ConfigError, TrainingError
from unseen.rows import read_rows, summarise
from unseen.seeding import generator
from unseen.study.study import read_yaml
from unseen.toy import Toy, ToyExperiment, families, linear, load_toy
from unseen.toy.config import is_toy
from unseen.toy.plane import BORDER, CLOSED, FUNCTION, SEEN, SUITES, UNSEEN, Planes, cells_table, verdict
from unseen.toy.run import run_toy, train_lot

TINY = (
    "base={samples: 8, network: {width: 6}, recipe: {steps: 6, snapshots: [2], batch: 4, functions: 3, draws: 2}}",
    "axes={functions.frequencies: [1, 3], noise.patterns: [2, 8], network.skip: [0.5, 0], seed: [0, 1]}",
)
STUDY = Path(__file__).parents[1] / "studies" / "toy.yaml"


@pytest.fixture(scope="module")
def tiny() -> Toy:
    return load_toy(None, TINY)


@pytest.fixture(scope="module")
def found(tiny: Toy, tmp_path_factory: pytest.TempPathFactory) -> Planes:
    rows, examples, trained = run_toy(tiny, tmp_path_factory.mktemp("toy"))
    assert trained == 16
    return Planes(tiny, rows, examples)


# --- families


@pytest.mark.parametrize(
    "mixing",
    [
        families.functions(16, 3),
        families.foreign_functions(16, 3),
        families.foreign_functions(16, 7),  # the Nyquist frequency's cosine alone
        families.noise(16, 5, seed=1),
        families.noise(16, 16, seed=1),
    ],
)
def test_a_mixing_has_orthogonal_columns_and_mean_square_one(mixing: torch.Tensor) -> None:
    used = mixing[:, mixing.norm(dim=0) > 0]
    assert torch.allclose(used.mT @ used, 16 / used.shape[1] * torch.eye(used.shape[1], dtype=used.dtype))
    assert mixing.square().sum().item() == pytest.approx(16)  # the covariance's trace: one for each sample


def test_functions_have_the_frequencies_they_say_and_foreign_ones_the_next() -> None:
    def frequencies(mixing: torch.Tensor) -> set[int]:
        power = torch.fft.rfft(mixing, dim=0).abs().sum(dim=1)
        return set(torch.nonzero(power > 1e-9).flatten().tolist())

    assert frequencies(families.functions(16, 3)) == {1, 2, 3}
    assert frequencies(families.foreign_functions(16, 3)) == {4, 5, 6}
    assert frequencies(families.foreign_functions(16, 6)) == {7, 8}


def test_more_patterns_hold_the_fewer_and_other_patterns_are_others() -> None:
    few, many = families.noise(12, 3, seed=0), families.noise(12, 7, seed=0)
    assert torch.allclose(few[:, :3] * math.sqrt(3), many[:, :3] * math.sqrt(7))
    assert not torch.allclose(few, families.noise(12, 3, 0, families.OTHER_PATTERNS))
    assert not torch.allclose(few, families.noise(12, 3, seed=1))


@pytest.mark.parametrize("name", families.SAME_FOR_ALL)
def test_unseen_noises_prefer_no_direction(name: str) -> None:
    noise = families.SAME_FOR_ALL[name](40_000, 8, generator(0, "test", name))
    covariance = noise.mT @ noise / len(noise)
    assert torch.allclose(covariance, torch.eye(8), atol=0.06)


# --- the closed form


@pytest.mark.parametrize("skip", [0.0, 0.5, 1.0])
def test_a_linear_network_with_room_removes_what_the_formula_says(skip: float) -> None:
    n, d, m = 16, 6, 4
    functions, noise = families.functions(n, d // 2), families.noise(n, m, seed=0)
    network = linear.least_squares(functions, noise, skip)
    assert torch.allclose(network @ functions, functions, atol=1e-8)
    assert torch.allclose(network @ noise, torch.zeros(n, n, dtype=noise.dtype), atol=1e-8)
    atoms = linear.expected(network, functions, torch.eye(n, dtype=noise.dtype))
    removed = 1 - atoms["alignment"] / atoms["degradation"]
    assert removed == pytest.approx(1 - skip + (skip * m - (1 - skip) * d) / n)
    assert atoms["bias"] == pytest.approx(0, abs=1e-9)


def test_under_white_noise_it_is_the_wiener_filter() -> None:
    n, d = 16, 6
    network = linear.least_squares(families.functions(n, 3), families.noise(n, n, seed=0), 0.5)
    assert float(network.trace()) == pytest.approx(d * (n / d) / (n / d + 1))


# --- training and rows


def test_a_network_does_not_hang_on_those_beside_it(tiny: Toy) -> None:
    cells = [e for e in tiny.cells() if e.seed == 0 and e.network.skip == 0.5]
    together, _ = train_lot(cells)
    alone, _ = train_lot(cells[2:3])
    mine = together[together["experiment"].isin(set(alone["experiment"]))].sort_values([*alone.columns[:5]])
    np.testing.assert_allclose(mine["value"], alone.sort_values([*alone.columns[:5]])["value"], rtol=1e-5, atol=1e-6)


def test_same_rows_again_and_nothing_twice(tiny: Toy, found: Planes, tmp_path: Path) -> None:
    few = load_toy(None, (*TINY, "axes.seed=[0]"))
    first, _, trained = run_toy(few, tmp_path)
    assert trained == 8
    rows, examples, more = run_toy(tiny, tmp_path)
    assert more == 8  # those of the other seed
    order = ["experiment", "step", "suite", "metric"]
    assert rows.sort_values(order, ignore_index=True).equals(found.rows.sort_values(order, ignore_index=True))
    before = (tmp_path / "rows.parquet").read_bytes()
    assert run_toy(tiny, tmp_path)[2] == 0
    assert (tmp_path / "rows.parquet").read_bytes() == before
    assert len(first) < len(rows) == len(read_rows(tmp_path / "rows.parquet"))
    assert set(examples["experiment"]) == {e.id for e in tiny.cells()}


def test_bias_and_variance_add_up_to_the_error(found: Planes) -> None:
    table = found.rows.pivot_table(index=["experiment", "step", "suite"], columns="metric", values="value")
    parts = (table["bias"] + table["variance"]) / table["values"]
    np.testing.assert_allclose(parts, table["mse"], rtol=1e-5)
    assert set(table.index.get_level_values("suite")) == set(SUITES)


def test_a_network_without_training_passes_what_it_starts_with() -> None:
    e = ToyExperiment.model_validate(
        {"samples": 8, "network": {"skip": 0.25}, "recipe": {"steps": 1, "learning_rate": 1e-12, "snapshots": []}}
    )
    rows, _ = train_lot([e])
    summary = summarise(rows[rows["step"] == 1])
    seen = summary[summary["suite"] == SEEN].iloc[0]
    assert float(seen["deviation"]) == pytest.approx(0.25, abs=0.02)  # of noise that is as loud as 1
    assert float(seen["retention"]) == pytest.approx(0.25, abs=0.15)


def test_the_function_is_learned_under_white_noise_and_the_noise_under_a_single_pattern() -> None:
    """Without a skip's help: both networks start alike."""
    steps = {"steps": 250, "snapshots": [], "learning_rate": 0.01}
    base = {"samples": 16, "network": {"width": 32}, "recipe": steps}
    ends = [
        ToyExperiment.model_validate({**base, "functions": {"frequencies": k}, "noise": {"patterns": m}})
        for k, m in ((1, 16), (7, 1))
    ]
    rows, _ = train_lot(ends)
    summary = summarise(rows[rows["step"] == 250]).set_index(["experiment", "suite"])["retention"]
    first, second = (np.mean([1 - summary[e.id, suite] for suite in UNSEEN]) for e in ends)
    assert first > 0.7 > 0.35 > second
    assert 1 - summary[ends[1].id, SEEN] > 0.9


def test_a_loss_that_explodes_is_named() -> None:
    e = ToyExperiment.model_validate({"recipe": {"steps": 30, "learning_rate": 1e30, "snapshots": []}})
    with pytest.raises(TrainingError, match=r"not finite.*learning_rate"):
        train_lot([e])


# --- what is said


def test_cells_say_what_the_rows_hold(found: Planes) -> None:
    cell = found.cells[0.5][1][0]
    assert (cell.patterns, cell.freedom, cell.start) == (8, 2, 0.5)
    each = []
    for seed in (0, 1):
        name = found.experiments[0.5, seed, 8, 1].id
        rows = found.rows[(found.rows["experiment"] == name) & (found.rows["step"] == 6)]
        summary = summarise(rows).set_index("suite")["retention"]
        each.append(np.mean([1 - summary[suite] for suite in UNSEEN]))
    assert cell.removed == pytest.approx(np.mean(each))
    assert cell.removed == pytest.approx(np.mean(cell.by_noise))
    assert cell.low < cell.removed < cell.high
    assert (cell.learned == BORDER) == (cell.low <= 0.5 <= cell.high)
    assert {one.id for one in found.experiments.values()} | {CLOSED + one.id for one in found.experiments.values()} == (
        set(found.rows["experiment"])
    )
    total = found.tally(0.5)
    assert total.cells == 4
    assert verdict(found)[0].count(f"in {total.function} of 4 cells") == 1
    assert len(cells_table(found)) == 8


def test_one_seed_decides_nothing(found: Planes) -> None:
    one = Planes(load_toy(None, (*TINY, "axes.seed=[0]")), found.rows, found.examples)
    assert one.tally(0.5).border == 4
    assert FUNCTION not in {cell.learned for cell in one.flat(0.5)}
    first, *others = verdict(one)
    assert first.startswith("One seed gives no interval, so of no cell it is said which")
    more = sum(cell.removed > 0.5 for cell in one.flat(0.5))
    assert f"is removed in {more} of 4 cells" in first
    assert not any(word in " ".join((first, *others)) for word in ("learned in", "both regimes", "1 seeds"))


# --- configuration and command line


def test_the_study_in_the_repository_is_the_default() -> None:
    written, default = load_toy(STUDY), Toy()
    assert [e.id for e in written.cells()] == [e.id for e in default.cells()]
    assert (written.name, written.question) == (default.name, default.question)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("axes.noise.patterns=[2]", "fewer than two values"),
        ("axes.noise.patterns=[4, 2]", "does not rise"),
        ("axes.noise.patterns=[2, 33]", "at most 32"),
        ("axes.functions.frequencies=[1, 16]", "at most 15 do"),
        ("axes.seed=[0, 0]", "repeats one"),
        ("axes={functions.frequencies: [1, 2], noise.patterns: [2, 4], base: [1, 2]}", "no axis of a toy"),
        ("base.network.width=0", "width"),
        ("base.recipe.snapshots=[500]", "below the 400"),
        ("base.noise.colour=red", "no such key"),
        ("base.noise.level={low: 2, high: 1}", "swap them"),
    ],
)
def test_what_cannot_be_run_is_named(change: str, message: str) -> None:
    small = "axes={functions.frequencies: [1, 3], noise.patterns: [2, 8], network.skip: [0.5], seed: [0]}"
    with pytest.raises(ConfigError, match=message):
        load_toy(None, (small, change))


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="There is no toy at"):
        load_toy(tmp_path / "no.yaml")


def test_a_toy_is_told_from_a_study_of_images() -> None:
    assert is_toy(read_yaml(STUDY))
    assert is_toy({"base": {"samples": 8}})
    assert not any(is_toy(read_yaml(file)) for file in STUDY.parent.glob("*.yaml") if file != STUDY)
    assert not is_toy({"base": 3, "axes": None})


@pytest.mark.parametrize("verb", ["plan", "run"])
def test_a_toy_given_as_a_study_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], verb: str
) -> None:
    monkeypatch.setattr(sys, "argv", ["unseen", "study", verb, str(STUDY)])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    said = capsys.readouterr().err
    assert ended.value.code == 2
    assert said == f"Error: {STUDY} is a toy, not a study of images: run it with `unseen toy {STUDY}`.\n"


def test_the_change_that_help_suggests_can_be_made(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr(sys, "argv", ["unseen", "toy", "--help"])
    with pytest.raises(SystemExit):
        cli.main()
    change = re.search(r"Change one value, e\.g\. (\S+=\d+)", capsys.readouterr().out)
    assert change
    assert load_toy(None, (change[1], "base.recipe.snapshots=[]")).cells()[0].recipe.steps == 100


def test_the_verb_writes_page_picture_and_rows(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    changes = [part for change in TINY for part in ("--set", change)]
    monkeypatch.setattr(sys, "argv", ["unseen", "toy", "-o", str(tmp_path), "--json", *changes])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert not ended.value.code
    said = json.loads(capsys.readouterr().out)
    assert (said["networks"], said["trained"], len(said["cells"])) == (16, 16, 8)
    assert {file.name for file in tmp_path.iterdir()} == {
        "toy.html", "toy.png", "toy.csv", "rows.parquet", "examples.parquet",
    }  # fmt: skip
    page = (tmp_path / "toy.html").read_text()
    assert said["sentences"][0].split(":")[0] in page
    assert "http://" not in page.replace("http://www.w3.org", "") and "src=" not in page
