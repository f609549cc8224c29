"""Result files: what is written is read back to the last bit, and what a stranger wrote is held to bounds."""

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from unseen import results
from unseen.errors import DataError
from unseen.results import MODEL, ModelInfo, Result, SuiteInfo, read_result, result_of, write_result
from unseen.rows import ATOMS, rows_of

VALUES = 3 * 64 * 64


def atoms(images: int, ratio: float, strength: float, damage: float, rng: np.random.Generator) -> dict[str, Any]:
    """Of images of which `ratio` of the degradation was removed; `strength` 0 are clean ones."""
    degraded = VALUES * strength**2 * rng.uniform(0.7, 1.3, images)
    left = 0.004 * degraded
    spoilt = VALUES * damage**2 * rng.uniform(0.8, 1.2, images)
    error = (1 - ratio) ** 2 * degraded + left
    mse, before = (error + spoilt) / VALUES, degraded / VALUES
    with np.errstate(divide="ignore"):
        after_db, before_db = -10 * np.log10(mse), -10 * np.log10(before)
    return {
        "psnr_rgb": after_db,
        "psnr_y": after_db + 1.3,
        "ssim_rgb": np.exp(-30 * mse),
        "ssim_y": np.exp(-25 * mse),
        "input_psnr_rgb": before_db,
        "input_psnr_y": before_db + 1.3,
        "mse": mse,
        "input_mse": before,
        "values": np.full(images, float(VALUES)),
        "mask_values": np.full(images, 0.2 * VALUES if strength else 0.0),
        "mask_change": ratio**2 * degraded + left,
        "mask_degradation": degraded,
        "mask_error": error,
        "mask_projection": ratio * degraded,
        "clear_error": spoilt,
        "degradation": degraded,
        "alignment": (1 - ratio) * degraded,
    }


@pytest.fixture
def frame() -> pd.DataFrame:
    parts = []
    for suite, strength in (("steep", 0.1), ("clean", 0.0)):
        for who, step, ratio, damage in (("ours", 900, 0.4, 0.02), ("identity", -1, 0.0, 0.0)):
            found = atoms(5, ratio, strength, damage, np.random.default_rng(3))
            parts.append(rows_of(found, who, step, suite, [f"{i}.png" for i in range(5)]))
    return pd.concat(parts, ignore_index=True)


SUITES = (
    SuiteInfo(name="steep", kind="synthetic", group="unseen", content="ab12", images=5, collections=("unseen-rain",)),
    SuiteInfo(name="clean", kind="synthetic", group="clean", content="cd34", images=5),
)


@pytest.fixture
def result(frame: pd.DataFrame) -> Result:
    model = ModelInfo(name="ours", kind="ResNet", parameters=12, trained_on="medium rain", step=900)
    environment = {"torch": "2.9", "threads": 2, "path": Path("x")}
    return result_of(frame, model, SUITES, environment=environment, command="unseen evaluate ours", leaks=[])


def ordered(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.sort_values(["experiment", "suite", "image", "metric"], ignore_index=True)


def test_rows_come_back_to_the_last_bit(frame, result, tmp_path):
    write_result(result, tmp_path / "new" / "ours.json")
    pd.testing.assert_frame_equal(
        ordered(read_result(tmp_path / "new" / "ours.json").frame()), ordered(frame), check_exact=True
    )
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["ours.json"]


def test_a_result_is_read_as_it_was_written_and_written_as_it_was_read(result, tmp_path):
    write_result(result, tmp_path / "one.json")
    again = read_result(tmp_path / "one.json")
    write_result(again, tmp_path / "two.json")
    assert again == result and again.id == result.id
    assert (tmp_path / "one.json").read_bytes() == (tmp_path / "two.json").read_bytes()


def test_what_is_infinite_or_undefined_is_strict_json(result, tmp_path):
    write_result(result, tmp_path / "one.json")

    def refuse(name: str) -> None:
        raise AssertionError(name)

    raw = json.loads((tmp_path / "one.json").read_text(), parse_constant=refuse)
    assert raw["rows"]["clean"]["atoms"]["identity"]["psnr_rgb"] == ["inf"] * 5
    assert np.isposinf(result.rows["clean"].values("identity", "psnr_rgb")).all()
    raw["rows"]["steep"]["atoms"][MODEL]["ssim_rgb"][2] = None
    (tmp_path / "two.json").write_text(json.dumps(raw))
    assert math.isnan(read_result(tmp_path / "two.json").rows["steep"].values(MODEL, "ssim_rgb")[2])


def test_ssim_may_be_left_out(frame):
    few = frame[~frame["metric"].isin(["ssim_rgb", "ssim_y"])]
    found = result_of(few, ModelInfo(name="ours", kind="ResNet", step=900), SUITES)
    assert np.isnan(found.rows["steep"].values(MODEL, "ssim_y")).all()


def test_a_model_may_be_called_like_a_baseline(frame):
    renamed = frame[frame["experiment"] == "ours"].assign(experiment="median")
    others = frame[frame["experiment"] == "identity"]
    found = result_of(pd.concat([renamed, others]), ModelInfo(name="median", kind="baseline", step=900), SUITES)
    assert set(found.rows["steep"].atoms) == {MODEL, "identity"}
    assert set(found.frame()["experiment"]) == {"median", "identity"}


def test_leaks_may_be_any_dataclass_of_their_fields(frame):
    Leak = dataclasses.make_dataclass("Leak", ["train", "test", "similarity", "mirrored"])
    found = result_of(frame, ModelInfo(name="ours", kind="ResNet"), SUITES, leaks=[Leak("a", "b", 0.98, True)])
    assert found.leaks is not None and found.leaks[0].mirrored
    assert result_of(frame, ModelInfo(name="ours", kind="ResNet"), SUITES).leaks is None


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda f: pd.concat([f, f.iloc[:1]]), "more than once"),
        (lambda f: f.assign(suite=f["suite"].replace("clean", "other")), "not among the suites"),
        (lambda f: f[f["experiment"] != "ours"], "expected model"),
        (lambda f: f[~((f["metric"] == "mse") & (f["experiment"] == "ours"))], "lacks the metrics mse"),
        (lambda f: f[f["image"] != "3.png"], "has 5 images and 4"),
        (lambda f: f.assign(experiment=f["experiment"].replace("identity", "friend")), "friend"),
    ],
)
def test_rows_that_are_no_result_are_refused(frame, change, said):
    with pytest.raises(DataError, match=said):
        result_of(change(frame), ModelInfo(name="ours", kind="ResNet", step=900), SUITES)


def _set(*path: Any) -> Any:
    *before, last, value = path

    def change(raw: Any) -> None:
        for key in before:
            raw = raw[key]
        raw[last] = value

    return change


STEEP = ("rows", "steep", "atoms", MODEL)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (_set("format", "unseen-result-2"), "format"),
        (_set("extra", 1), "extra"),
        (_set("model", "name", "a\u202egnp.exe"), "do not print"),
        (_set("model", "name", "x" * 5000), "at most 300"),
        (_set("command", "a\x1b[2J"), "do not print"),
        (_set("suites", 0, "images", 6), "images"),
        (_set("suites", 0, "name", "clean"), "each once"),
        (_set("suites", 0, "group", "mine"), "group"),
        (_set("environment", {"a": "x" * 60_000}), "characters"),
        (_set(*STEEP, "surprise", [1.0] * 5), "nobody knows: surprise"),
        (_set(*STEEP, "mse", [0.1] * 4), "one value per image"),
        (_set(*STEEP, "mse", [0.1] * 5), "psnr_rgb is not that of mse"),
        (_set(*STEEP, "mse", ["0.1"] * 5), "mse"),
        (_set(*STEEP, "mse", [True] * 5), "mse"),
        (_set(*STEEP, "mse", [None] * 5), "mse is missing"),
        (_set(*STEEP, "mse", ["inf"] * 5), "only a PSNR"),
        (_set(*STEEP, "mask_error", [-1.0] * 5), "mask_error is negative"),
        (_set(*STEEP, "mask_values", [1e9] * 5), "counts"),
        (_set(*STEEP, "ssim_y", [7.0] * 5), "ssim_y"),
        (_set(*STEEP, "mask_projection", [1e6] * 5), "larger than it can be"),
        (_set(*STEEP, "clear_error", [0.0] * 5), "do not add up"),
        (_set("rows", "steep", "atoms", "friend", {}), "friend"),
        (_set("rows", "steep", "images", ["a"] * 5), "different names"),
        (_set("seconds_per_megapixel", -1), "seconds_per_megapixel"),
    ],
)
def test_a_file_that_is_no_result_is_refused_in_one_line(result, tmp_path, change, said):
    write_result(result, tmp_path / "one.json")
    raw = json.loads((tmp_path / "one.json").read_text())
    change(raw)
    (tmp_path / "one.json").write_text(json.dumps(raw))
    with pytest.raises(DataError, match=said) as caught:
        read_result(tmp_path / "one.json")
    text = str(caught.value)
    assert str(tmp_path / "one.json") in text and len(text) < 600 and text.isprintable()


@pytest.mark.parametrize(
    "content",
    [b"", b"\x80\x04\x95", b"{", b"[]", b"null", b"[" * 100_000, b'{"format": NaN}', b'{"model": {"step": 1e999}}'],
    ids=["empty", "pickle", "cut off", "list", "null", "deep", "nan", "huge number"],
)
def test_other_files_are_refused(content, tmp_path):
    (tmp_path / "one.json").write_bytes(content)
    with pytest.raises(DataError, match="is not a result"):
        read_result(tmp_path / "one.json")


def test_large_and_absent_files_are_refused(result, tmp_path, monkeypatch):
    write_result(result, tmp_path / "one.json")
    monkeypatch.setattr(results, "LARGEST_FILE", 1000)
    with pytest.raises(DataError, match="larger than"):
        read_result(tmp_path / "one.json")
    for path in (tmp_path / "none.json", tmp_path):
        with pytest.raises(DataError, match="cannot be read"):
            read_result(path)


def test_every_atom_is_known_to_the_maker_of_these_rows():
    assert set(atoms(1, 0.5, 0.1, 0.1, np.random.default_rng(0))) == set(ATOMS)
