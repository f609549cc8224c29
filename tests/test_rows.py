"""Rows into averages: pooling, gains, missing masks, intervals, files."""

import json
import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unseen import rows
from unseen.errors import ConfigError, DataError

MASKED = (
    "removal_ratio",
    "residual",
    "removal",
    "oracle_removal",
    "action_ratio",
)


def atoms_of(count: int = 4, seed: int = 0) -> dict[str, np.ndarray]:
    """Plausible atoms: consistent counts, everything positive."""
    rng = np.random.default_rng(seed)
    atoms = {name: rng.uniform(0.1, 1, count) for name in (*rows.ATOMS, *rows.MORE_ATOMS)}
    atoms["values"] = np.full(count, 300.0)
    atoms["mask_values"] = rng.integers(1, 299, count).astype(np.float64)
    return atoms


def frame(experiment: str = "a", step: int = 100, suite: str = "steep", seed: int = 0, **atoms) -> pd.DataFrame:
    values = atoms_of(seed=seed) | atoms
    return rows.rows_of(values, experiment, step, suite, [f"{index}.png" for index in range(4)])


def test_a_pooled_ratio_is_the_ratio_of_sums_and_not_the_mean_of_ratios():
    atoms = atoms_of(2) | {"mask_projection": [0.9, 0.0], "mask_degradation": [1.0, 1e-6]}
    assert rows.quantities(atoms)["removal_ratio"] == pytest.approx(0.9 / (1 + 1e-6), rel=1e-12)  # the mean is 0.45


def test_every_quantity_equals_its_formula_over_images():
    atoms = atoms_of()
    total = {name: float(values.sum()) for name, values in atoms.items()}
    energy = float((atoms["mse"] * atoms["values"]).sum())
    clear = total["values"] - total["mask_values"]
    expected = {
        **{name: atoms[name].mean() for name in ("psnr_rgb", "psnr_y", "ssim_rgb", "ssim_y", "mse")},
        "gain_rgb": (atoms["psnr_rgb"] - atoms["input_psnr_rgb"]).mean(),
        "gain_y": (atoms["psnr_y"] - atoms["input_psnr_y"]).mean(),
        "removal_ratio": total["mask_projection"] / total["mask_degradation"],
        "residual": math.sqrt(total["mask_error"] / total["mask_values"]),
        "removal": math.sqrt(total["mask_change"] / total["mask_values"]),
        "oracle_removal": math.sqrt(total["mask_degradation"] / total["mask_values"]),
        "action_ratio": math.sqrt(total["mask_change"] / total["mask_degradation"]),
        "reconstruction": math.sqrt(total["clear_error"] / clear),
        "retention": total["alignment"] / total["degradation"],
        "orthogonal_error": math.sqrt((energy - total["alignment"] ** 2 / total["degradation"]) / total["values"]),
        "bias": math.sqrt(total["bias"] / total["values"]),
        "deviation": math.sqrt(total["variance"] / total["values"]),
    }
    for band in rows.BANDS:
        expected[f"retention_{band}"] = total[f"alignment_{band}"] / total[f"degradation_{band}"]
        expected[f"error_{band}"] = math.sqrt(total[f"error_{band}"] / total["values"])
        expected[f"bias_{band}"] = math.sqrt(total[f"bias_{band}"] / total["values"])
        expected[f"deviation_{band}"] = math.sqrt(total[f"variance_{band}"] / total["values"])
    assert rows.quantities(atoms) == pytest.approx(expected)
    assert set(expected) == set(rows.QUANTITIES)


@settings(max_examples=15, deadline=None)
@given(order=st.permutations(range(12)), seed=st.integers(0, 100))
def test_a_summary_does_not_depend_on_the_order_of_rows(order, seed):
    whole = pd.concat([frame(seed=seed), frame(suite="thick", seed=seed + 1), frame("b", seed=seed + 2)])
    parts = np.array_split(np.arange(len(whole)), 12)
    mixed = whole.iloc[np.concatenate([parts[index] for index in order])]
    key = ["experiment", "step", "suite"]
    straight, other = (rows.summarise(part).sort_values(key).reset_index(drop=True) for part in (whole, mixed))
    pd.testing.assert_frame_equal(straight, other)


def test_a_summary_has_a_line_per_experiment_step_and_suite_equal_to_its_own_quantities():
    whole = pd.concat([frame(seed=1), frame(step=200, seed=2), frame(suite="thick", seed=3), frame("b", seed=4)])
    summary = rows.summarise(whole)
    assert list(summary.columns[:6]) == ["experiment", "step", "suite", "images", "mask_empty", "clear_empty"]
    assert list(summary["experiment"]) == ["a", "a", "a", "b"]
    for seed, (_, line) in enumerate(summary.iterrows(), start=1):
        assert line[["images"]].tolist() == [4]
        assert {name: line[name] for name in rows.QUANTITIES} == pytest.approx(rows.quantities(atoms_of(seed=seed)))


def test_empty_masks_are_undefined_and_counted_never_zero():
    empty = frame(
        mask_values=np.zeros(4), mask_degradation=np.zeros(4), mask_change=np.zeros(4), mask_error=np.zeros(4)
    )
    line = rows.summarise(empty).iloc[0]
    assert line[["mask_empty", "clear_empty"]].tolist() == [4, 0]
    assert np.isnan(line[list(MASKED)].to_numpy(np.float64)).all()
    assert float(line["reconstruction"]) > 0
    full = rows.summarise(frame(mask_values=np.full(4, 300.0))).iloc[0]
    assert full[["mask_empty", "clear_empty"]].tolist() == [0, 4]
    assert math.isnan(full["reconstruction"])


def test_metrics_that_were_not_stored_are_undefined_columns():
    whole = frame()
    summary = rows.summarise(whole.query("not metric.str.startswith('ssim')"))
    assert np.isnan(summary[["ssim_rgb", "ssim_y"]].to_numpy()).all()
    assert np.isfinite(summary["psnr_rgb"].to_numpy()).all()
    assert list(rows.summarise(whole.iloc[:0]).columns) == list(summary.columns)


def test_metrics_of_others_are_left_out():
    other = frame().assign(metric="sharpness").drop_duplicates(["image", "metric"])
    pd.testing.assert_frame_equal(rows.summarise(pd.concat([frame(), other])), rows.summarise(frame()))


def test_psnr_stays_infinite_and_a_gain_between_infinities_is_left_out():
    perfect, finite = math.inf, 30.0
    line = rows.summarise(
        frame(psnr_rgb=[perfect, 32, finite, 34], input_psnr_rgb=[perfect, finite, finite, finite])
    ).iloc[0]
    assert line["psnr_rgb"] == math.inf
    assert line["gain_rgb"] == pytest.approx((2 + 0 + 4) / 3)


def test_a_row_that_occurs_twice_is_refused():
    twice = len(frame())
    with pytest.raises(DataError, match=rf"^{twice} rows occur more than once.*a, 100, steep"):
        rows.summarise(pd.concat([frame(), frame()]))


def test_an_interval_is_student_t():
    mean, low, high = rows.interval([1.0, 2.0, 3.0])
    assert mean == 2
    half = 4.302652729911275 / math.sqrt(3)  # t of 2 degrees of freedom at 0.975, from tables
    assert (low, high) == pytest.approx((2 - half, 2 + half))


def test_an_interval_of_one_value_or_of_an_infinite_one_has_no_ends():
    for values, mean in (([5.0], 5.0), ([5.0, math.inf], math.inf), ([5.0, math.nan], 5.0)):
        found = rows.interval(values)
        assert found[0] == mean
        assert math.isnan(found[1]) and math.isnan(found[2])
    assert all(map(math.isnan, rows.interval([])))
    with pytest.raises(ConfigError, match=r"0\.95"):
        rows.interval([1.0, 2.0], level=95.0)


def test_seeds_of_one_cell_are_averaged_and_baselines_stand_alone():
    whole = pd.concat([frame("s0", seed=1), frame("s1", seed=2), frame("box", -1, seed=3)])
    found = rows.over_seeds(rows.summarise(whole), {"s0": "wide", "s1": "wide"}).set_index(["cell", "quantity"])
    each = [rows.quantities(atoms_of(seed=seed))["psnr_rgb"] or 0.0 for seed in (1, 2)]
    assert tuple(found.loc[("wide", "psnr_rgb"), ["mean", "low", "high"]]) == pytest.approx(rows.interval(each))
    assert found.loc[("wide", "psnr_rgb"), "seeds"] == 2
    assert math.isnan(found.loc[("box", "psnr_rgb"), "low"])


def test_the_bootstrap_covers_the_truth_about_as_often_as_it_says():
    rng = np.random.default_rng(3)
    hits = 0
    for _ in range(100):
        weight = rng.uniform(0.5, 1.5, 40)
        share = rng.normal(0.6, 0.1, 40)  # independent of weight: the true ratio is 0.6
        atoms = atoms_of(40) | {"mask_projection": weight * share, "mask_degradation": weight}
        _, low, high = rows.image_interval(atoms, "removal_ratio", resamples=400)
        hits += low <= 0.6 <= high
    assert 85 <= hits <= 100


def test_intervals_are_repeatable_strict_json():
    clean = frame("b", psnr_rgb=np.full(4, math.inf), mask_values=np.zeros(4), mask_degradation=np.zeros(4))
    whole = pd.concat([frame(), clean])
    found = rows.summarise_with_intervals(whole)
    assert json.dumps(found, allow_nan=False) == json.dumps(rows.summarise_with_intervals(whole))
    assert len(found) == 2 * len(rows.QUANTITIES)
    by = {(line["experiment"], line["quantity"]): line for line in found}
    for name in rows.QUANTITIES:
        line = by["a", name]
        assert line["low"] <= line["mean"] <= line["high"]
        assert (line["images"], line["undefined"], line["note"]) == (4, 0, None)
        assert (line["mean"], line["low"], line["high"]) == rows.image_interval(atoms_of(), name)
    assert by["b", "psnr_rgb"] | {"unit": ""} == {
        **dict.fromkeys(("mean", "low", "high")),
        **{"experiment": "b", "step": 100, "suite": "steep", "quantity": "psnr_rgb", "unit": ""},
        **{"images": 4, "undefined": 0, "note": "infinite"},
    }
    assert (by["b", "residual"]["mean"], by["b", "residual"]["note"]) == (None, "undefined")
    assert by["b", "residual"]["undefined"] == 4


def test_the_mean_over_suites_needs_every_suite():
    whole = pd.concat([frame(seed=1), frame(suite="thick", seed=2), frame("b", seed=3)])
    summary = rows.summarise(whole)
    found = rows.mean_over(summary, ["steep", "thick"]).set_index("experiment")
    assert found.loc["a", "residual"] == pytest.approx(summary["residual"][:2].mean())
    assert (found.loc["a", "suites"], found.loc["a", "images"]) == (2, 8)
    assert math.isnan(found.loc["b", "residual"])
    for wrong in (["steep", "fog"], [], ["steep", "steep"]):
        with pytest.raises(ConfigError, match="steep, thick"):
            rows.mean_over(summary, wrong)


def test_the_gap_stands_beside_the_seen_gain():
    whole = pd.concat([frame(suite=suite, seed=seed) for seed, suite in enumerate(("medium", "steep", "thick"))])
    summary = rows.summarise(whole)
    found = rows.generalization_gap(summary, ["medium"], ["steep", "thick"]).iloc[0]
    gains = summary["gain_rgb"]
    assert (found["seen"], found["unseen"]) == pytest.approx((gains[0], gains[1:].mean()))
    assert found["gap"] == pytest.approx(gains[0] - gains[1:].mean())


def test_an_error_down_by_37_percent_is_two_decibels():
    base, better = np.full(4, 0.01), np.full(4, 0.0063)
    whole = pd.concat([frame("plain", mse=base), frame("cured", mse=better)])
    found = rows.generalization_error(rows.summarise(whole), ["steep"], ["plain"], 100).set_index("experiment")
    assert found.loc["cured", "change"] == pytest.approx(-0.37)
    assert found.loc["cured", "decibels"] == pytest.approx(2.0, abs=0.01)
    assert found.loc["plain", "change"] == 0
    with pytest.raises(ConfigError, match="plain at step 7 has 0 lines"):
        rows.generalization_error(rows.summarise(whole), ["steep"], ["plain"], 7)


def test_rows_survive_the_file_whole(tmp_path):
    path = tmp_path / "runs" / "rows.parquet"
    whole = pd.concat([frame(psnr_rgb=[math.inf, math.nan, 1.0, 0.1]), frame("b")]).reset_index(drop=True)
    rows.write_rows(whole, path)
    pd.testing.assert_frame_equal(rows.read_rows(path), whole)
    assert [entry.name for entry in path.parent.iterdir()] == ["rows.parquet"]


def test_a_failed_write_leaves_the_old_rows(tmp_path, monkeypatch):
    path = tmp_path / "rows.parquet"
    rows.write_rows(frame("old"), path)

    def fail(*_: object, **__: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(pd.DataFrame, "to_parquet", fail)
    with pytest.raises(OSError, match="disk full"):
        rows.write_rows(frame("new"), path)
    assert set(rows.read_rows(path)["experiment"]) == {"old"}
    assert len(list(tmp_path.iterdir())) == 1


def test_files_that_are_not_rows_are_refused(tmp_path):
    path = tmp_path / "rows.parquet"
    with pytest.raises(DataError, match="no such file"):
        rows.read_rows(path)
    path.write_text("not parquet")
    with pytest.raises(DataError, match="cannot be read as Parquet"):
        rows.read_rows(path)
    frame().drop(columns="suite").to_parquet(path)
    with pytest.raises(DataError, match="lacks the columns suite"):
        rows.read_rows(path)
    frame().assign(value="high").to_parquet(path)
    with pytest.raises(DataError, match="not a number"):
        rows.read_rows(path)
    frame().assign(image=None).to_parquet(path)
    with pytest.raises(DataError, match="rows without image"):
        rows.read_rows(path)


def test_rows_need_a_name_per_value():
    with pytest.raises(DataError, match="one value per image"):
        rows.rows_of({"mse": [0.1, 0.2]}, "a", 1, "steep", ["1.png"])


@pytest.mark.parametrize(
    ("quantity", "value", "text"),
    [
        ("psnr_rgb", 28.456, "28.46"),
        ("psnr_rgb", math.inf, ">100"),
        ("psnr_y", 100.01, ">100"),
        ("gain_rgb", -0.001, "0.00"),
        ("gain_rgb", -math.inf, "<-100"),
        ("removal_ratio", 0.14159, "0.142"),
        ("retention", -0.25, "-0.250"),
        ("mse", 0.00123456, "0.00123"),
        ("residual", None, "-"),
        ("residual", math.nan, "-"),
    ],
)
def test_tables_print_units_decimals_and_dashes(quantity, value, text):
    assert rows.display(quantity, value) == text


def test_an_unknown_quantity_is_refused():
    with pytest.raises(ConfigError, match="There is no quantity sharpness"):
        rows.display("sharpness", 1.0)
