"""The verdict: every figure and every word is that of the rows, and nothing unlike is compared."""

import csv
import dataclasses
import json
import math
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.stats import wilcoxon
from typer.testing import CliRunner

import unseen.cli.leaderboard  # noqa: F401  (registers the verb)
import unseen.report.verdict as page_of
from test_report import Page
from test_results import atoms
from unseen.cli.app import app
from unseen.errors import ConfigError, DataError
from unseen.report import comparison
from unseen.report.comparison import SEEN, Comparison
from unseen.report.sentences import caveats, sentence, verdict, word, word_on
from unseen.report.statistics import holm, signed_rank
from unseen.report.tables import Estimate
from unseen.report.verdict import Picture, sentences, write_verdict
from unseen.report.verdict_tables import glance_table, matrix
from unseen.results import MODEL, ModelInfo, Result, SuiteInfo, result_of, write_result
from unseen.rows import bootstrapped, percentiles, rows_of, summarise

STRENGTHS = {"seen": 0.09, "steep": 0.10, "thick": 0.08, "long": 0.06, "clean": 0.0}
IMAGES = 12


def make_result(
    name: str,
    ratios: dict[str, float] | float,
    *,
    damage: float = 0.01,
    images: int = IMAGES,
    suites: tuple[str, ...] = tuple(STRENGTHS),
    group: str = "unseen",
    seed: int = 0,
    content: str = "",
    strengths: dict[str, float] | None = None,
    color: str = "rgb",
    **more: Any,
) -> Result:
    """`ratios`: how much of each suite's degradation is removed. `group`: that of all but "seen" and "clean"."""
    parts, infos = [], []
    names = [f"{i:02}.png" for i in range(images)]
    for place, suite in enumerate(suites):
        strength = (STRENGTHS | (strengths or {}))[suite]
        ratio = ratios.get(suite, 0.5) if isinstance(ratios, dict) else ratios
        others = (("identity", 0.0, 0.0), ("median", 0.3, 0.03), ("box", 0.2, 0.04))
        for who, its, spoilt in ((name, ratio, damage), *(other for other in others if other[0] != name)):
            lot = atoms(images, its, strength, spoilt, np.random.default_rng([place, 7]))
            if who == "identity":
                lot |= {"mask_change": np.zeros(images), "mask_projection": np.zeros(images)}
                lot |= {
                    "mask_error": lot["mask_degradation"],
                    "mse": lot["input_mse"],
                    "psnr_rgb": lot["input_psnr_rgb"],
                }
                lot |= {"psnr_y": lot["input_psnr_y"], "alignment": lot["degradation"]}
            elif seed:
                noise = np.random.default_rng([seed, place]).normal(0, 0.05, images)
                lot["psnr_y"] = lot["psnr_y"] + noise
            parts.append(rows_of(lot, who, 500 if who == name else -1, suite, names))
        kind = suite if suite in ("seen", "clean") else group
        infos.append(
            SuiteInfo(
                name=suite,
                kind="synthetic",
                group=kind,  # type: ignore[arg-type]
                outside=("direction",) if kind == "unseen" else (),
                definition={"seed": 0},
                content=f"{suite}{content}",
                images=images,
                color=color,  # type: ignore[arg-type]
                collections=() if suite in ("seen", "clean") else ("unseen-rain",),
            )
        )
    info = ModelInfo(name=name, kind="ResNet", parameters=1000, content="00ff", trained_on="medium rain", step=500)
    return result_of(
        pd.concat(parts), info, infos, environment={"torch": "2.9"}, command=f"unseen evaluate {name}", **more
    )


GOOD = {"seen": 0.9, "steep": 0.7, "thick": 0.9, "long": 0.9}
BLIND = {"seen": 0.95, "steep": 0.05, "thick": 0.15, "long": 0.1}
BAD = {"seen": 0.9, "steep": -0.3, "thick": -0.2, "long": -0.2}
UNSEEN = ("steep", "thick", "long")
DRAWS = 200


def compare(results: list[Result], reference: str | None = None) -> Comparison:
    """With fewer draws."""
    return comparison.compare(results, reference, DRAWS)


@pytest.fixture(autouse=True, scope="module")
def few_draws() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(page_of, "RESAMPLES", DRAWS)
        yield


@pytest.fixture(scope="module")
def good() -> Result:
    return make_result("good", GOOD)


@pytest.fixture(scope="module")
def blind() -> Result:
    return make_result("blind", BLIND)


@pytest.fixture(scope="module")
def bad() -> Result:
    leaks = [{"train": "a.png", "test": "03.png", "similarity": 0.99}]
    return make_result("<script>alert(1)</script>", BAD, damage=0.05, leaks=leaks, notes=("A *note* <b>.",))


def shots(results: list[Result]) -> list[Picture]:
    rng = np.random.default_rng(0)
    clean, degraded = (rng.integers(0, 256, (24, 36, 3), dtype=np.uint8) for _ in range(2))
    given = [("steep", "00.png", clean), ("thick", "05.png", None), ("clean", "00.png", clean)]
    return [Picture(r.model.name, s, i, degraded, degraded // 2, c) for r in results for s, i, c in given]


@pytest.fixture(scope="module")
def three(good: Result, blind: Result, bad: Result) -> Comparison:
    return compare([blind, good, bad])


@pytest.fixture(scope="module")
def folder(few_draws: None, good: Result, blind: Result, bad: Result, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("verdict") / "new"
    results = [blind, good, bad]
    assert write_verdict(results, shots(results), out, refused={"x<y>.json": "is no result"}) == out / "verdict.html"
    return out


@pytest.fixture(scope="module")
def page(folder: Path) -> Page:
    return Page((folder / "verdict.html").read_text(encoding="utf-8"))


def values(result: Result, suite: str, atom: str, who: str = MODEL) -> np.ndarray:
    return result.rows[suite].values(who, atom)


def gain(result: Result, suite: str, who: str = MODEL) -> np.ndarray:
    return values(result, suite, "psnr_rgb", who) - values(result, suite, "input_psnr_rgb", who)


# Statistics


def test_the_first_of_a_bootstrap_is_the_summary(good):
    summary = summarise(good.frame()).set_index(["experiment", "step", "suite"])
    for key, found in bootstrapped(good.frame(), 20).items():
        for quantity, array in found.items():
            expected = float(summary.loc[key, quantity])  # type: ignore[arg-type]
            assert len(array) == 21
            assert array[0] == pytest.approx(expected, rel=1e-12, nan_ok=True) or array[0] == expected, quantity


def test_draws_are_of_the_images_with_replacement(good):
    found = bootstrapped(good.frame(), 4000)["good", 500, "steep"]
    for quantity, each in (("psnr_rgb", values(good, "steep", "psnr_rgb")), ("gain_rgb", gain(good, "steep"))):
        drawn = found[quantity][1:]
        assert drawn.mean() == pytest.approx(each.mean(), abs=5 * drawn.std() / math.sqrt(4000))
        assert drawn.std() == pytest.approx(each.std() / math.sqrt(IMAGES), rel=0.08)
    up, down = values(good, "steep", "mask_projection"), values(good, "steep", "mask_degradation")
    rng = np.random.default_rng(1)
    picks = rng.integers(IMAGES, size=(4000, IMAGES))
    wrong, area = (values(good, "steep", atom)[picks].sum(axis=1) for atom in ("mask_error", "mask_values"))
    assert found["residual"][1:].std() == pytest.approx(np.sqrt(wrong / area).std(), rel=0.1)
    assert percentiles(found["removal_ratio"])[0] == pytest.approx(up.sum() / down.sum())


def test_two_restorers_and_two_suites_of_the_same_images_are_drawn_alike(good):
    frame = good.frame()
    twin = frame[frame["experiment"] == "good"].assign(experiment="twin").sample(frac=1, random_state=0)
    other = frame[(frame["suite"] == "steep")].assign(suite="again")
    found = bootstrapped(pd.concat([frame, twin, other]), 50)
    assert np.array_equal(found["good", 500, "steep"]["psnr_rgb"], found["twin", 500, "steep"]["psnr_rgb"])
    assert np.array_equal(found["good", 500, "steep"]["residual"], found["good", 500, "again"]["residual"])


def test_a_bootstrap_knows_infinite_undefined_and_single_images(good):
    found = bootstrapped(good.frame(), 30)
    assert percentiles(found["identity", -1, "clean"]["psnr_rgb"])[0] == math.inf
    assert math.isnan(found["good", 500, "clean"]["removal_ratio"][0])
    single = bootstrapped(make_result("one", 0.5, images=1).frame(), 30)["one", 500, "steep"]
    value, low, high = percentiles(single["removal_ratio"])
    assert value == pytest.approx(0.5) and math.isnan(low) and math.isnan(high)
    assert bootstrapped(good.frame().iloc[:0]) == {}


def test_holm_bounds_the_chance_of_any_false_alarm():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, math.nan, 0.9])[::2] == pytest.approx([1.0, 1.0])
    assert math.isnan(holm([0.5, math.nan])[1]) and holm([]) == []


def test_the_signed_rank_test_survives_what_rows_may_hold():
    differences = np.random.default_rng(0).normal(0.3, 1, 30)
    assert signed_rank(differences) == pytest.approx(float(wilcoxon(differences)[1]))  # type: ignore[arg-type]
    assert signed_rank([*differences, math.nan]) == signed_rank(differences)
    assert signed_rank([0.0, 0.0]) == 1.0 and math.isnan(signed_rank([math.nan]))
    assert signed_rank([math.inf] * 8) < 0.01


# Words


@pytest.mark.parametrize(
    ("bounds", "removed", "spoils", "said"),
    [
        ((5.0, 4.0, 6.0), 0.8, False, "removes"),
        ((5.0, 4.0, 6.0), 0.8, True, "removes"),
        ((5.0, 4.0, 6.0), 0.49, False, "leaves"),
        ((5.0, 4.0, 6.0), 0.49, True, "leaves"),
        ((0.1, -0.1, 0.3), 0.05, False, "leaves"),
        ((0.1, -0.1, 0.3), 0.05, True, "harms"),
        ((0.1, -0.1, 0.3), 0.9, False, "leaves"),
        ((0.0, 0.0, 0.0), 0.0, False, "leaves"),
        ((-0.2, -0.3, -0.1), 0.9, False, "harms"),
        ((-0.004, -0.01, -0.001), 0.0, False, "leaves"),
        ((-0.2, -0.5, 0.1), 0.2, False, "leaves"),
        ((2.0, math.nan, math.nan), 0.9, False, "removes"),
        ((math.inf, math.nan, math.nan), 1.0, False, "removes"),
        ((2.0, 1.0, 3.0), math.nan, False, "leaves"),
        ((math.nan, math.nan, math.nan), 0.9, False, ""),
    ],
)
def test_a_word_follows_from_gain_removal_and_harm(bounds, removed, spoils, said):
    assert word(Estimate(*bounds), removed, spoils) == said


def test_each_model_gets_its_word_and_each_suite_too(three, bad):
    found = three
    assert [verdict(found, label) for label in ("good", "blind", bad.model.name)] == ["removes", "leaves", "harms"]
    assert word_on(found, "blind", "seen") == "removes" and word_on(found, "blind", "steep") == "leaves"
    assert word_on(found, "good", "clean") == "keeps" and word_on(found, bad.model.name, "clean") == "harms"
    assert word_on(found, "identity", "steep") == "leaves" and word_on(found, "identity", "clean") == "keeps"


def test_a_sentence_holds_the_figures_of_the_rows(blind):
    (text,) = sentences([blind])
    mean = np.mean([gain(blind, suite).mean() for suite in UNSEEN])
    ratio = np.mean(
        [values(blind, s, "mask_projection").sum() / values(blind, s, "mask_degradation").sum() for s in UNSEEN]
    )
    seen = gain(blind, "seen").mean()
    clean = values(blind, "clean", "psnr_rgb")
    assert text.startswith("blind leaves unseen degradations: on the mean over three suites of unseen-rain")
    assert f"takes out {100 * ratio:.0f} % of the degradation" in text
    assert f"PSNR is +{mean:.2f} dB (" in text and "over the input" in text
    assert "it removes seen, leaves steep, thick and long" in text
    assert f"the gain is +{seen:.2f} dB, a gap of +{seen - mean:.2f} dB" in text
    assert f"clean images come out at {clean.mean():.2f} dB (worst {clean.min():.2f} dB)" in text
    ignorant = np.mean([gain(blind, suite, "median").mean() for suite in UNSEEN])
    assert text.endswith(f"; median (+{ignorant:.2f} dB), which knows nothing, does as well or better.")
    (text,) = sentences([make_result("idle", 0.0)])
    assert re.search(
        r"; identity \(0\.00 dB\), median \(.*\) and box \(.*\), which know nothing, do as well or better", text
    )


def test_a_model_judged_on_nothing_unseen_gets_no_verdict():
    found = compare([make_result("ours", 0.9, suites=("seen", "clean"))])
    assert verdict(found, "ours") == "" and "no unseen suite" in sentence(found, "ours")
    assert found.headline.suites == ()


# Figures


def test_headline_gap_error_rank_and_difference_are_those_of_the_rows(three, good, blind, bad):
    found = three
    gains = {r.model.name: {s: gain(r, s).mean() for s in UNSEEN} for r in (good, blind, bad)}
    for result in (good, blind, bad):
        name = result.model.name
        mean = np.mean(list(gains[name].values()))
        assert found.of(name, found.headline, "gain").mean == pytest.approx(mean)
        assert found.of(name, SEEN, "gain").mean == pytest.approx(gain(result, "seen").mean())
        assert found.gap(name).mean == pytest.approx(gain(result, "seen").mean() - mean)
        mse, base = (np.mean([values(r, s, "mse").mean() for s in UNSEEN]) for r in (result, blind))
        assert found.error(name).mean == pytest.approx(mse / base - 1)
        for measured in (found.of(name, found.headline, "gain"), found.gap(name)):
            assert measured.low < measured.mean < measured.high
    assert [e.label for e in found.entrants] == ["good", "blind", bad.model.name]
    assert [found.standings[e.label].place.mean for e in found.entrants] == [1, 2, 3]
    assert found.standings["good"].rank.mean == 1
    for place in ("steep", found.headline):
        difference = found.differences["good", place]
        suites = UNSEEN if place is found.headline else ("steep",)
        assert difference.decibels.mean == pytest.approx(
            np.mean([gains["good"][s] - gains["blind"][s] for s in suites])
        )
        assert difference.clear and difference.decibels.low > 0
    p = found.differences["good", "steep"].p
    expected = wilcoxon(values(good, "steep", "psnr_rgb") - values(blind, "steep", "psnr_rgb"))[1]
    assert p == pytest.approx(float(expected))  # type: ignore[arg-type]
    assert found.differences["good", "steep"].corrected >= p
    assert ("blind", "steep") not in found.differences


def test_a_suite_is_read_in_its_own_convention():
    found = compare([make_result("ours", GOOD, color="y", seed=3)])
    assert (
        found.of("ours", "steep", "psnr")
        == found.of("ours", "steep", "psnr_y")
        != found.of("ours", "steep", "psnr_rgb")
    )
    assert "PSNR on Y is" in sentence(found, "ours")
    assert "PSNR Y, dB" in [title for title, _ in glance_table(found).columns]


def test_a_baseline_that_does_as_well_is_named(three):
    found = three
    assert [name for name, _ in found.beaten_by("blind", "steep")] == ["median", "box"]
    assert found.beaten_by("good", found.headline) == ()
    cells = {name: cells for name, _, cells in matrix(found).lines}
    titles = [title for title, _, _ in matrix(found).columns]
    assert cells["blind"][titles.index("steep")].beaten == "median, box"
    assert {"identity (the input)", "median 5 x 5", "box blur 5 x 5"} < set(cells)


def test_without_a_mask_retention_says_what_was_removed(good):
    parts = dict(good.rows)
    columns = {who: dict(lot) for who, lot in parts["steep"].atoms.items()}
    for lot in columns.values():
        lot["clear_error"] = tuple(a + b for a, b in zip(lot["clear_error"], lot["mask_error"], strict=True))  # type: ignore[operator]
        lot |= {name: (0.0,) * IMAGES for name in lot if name.startswith("mask_")}
    parts["steep"] = parts["steep"].model_copy(update={"atoms": columns})
    found = compare([Result.model_validate(good.model_copy(update={"rows": parts}).model_dump())])
    assert math.isnan(found.of("good", "steep", "removal_ratio").mean)
    assert found.of("good", "steep", "removed").mean == pytest.approx(0.7)
    assert word_on(found, "good", "steep") == "removes"


def test_with_one_image_there_is_no_interval_and_none_is_shown(tmp_path):
    one = make_result("one", GOOD, images=1)
    found = compare([one, make_result("two", BLIND, images=1)])
    assert not found.of("one", found.headline, "gain").has_interval
    assert verdict(found, "one") == "removes" and not found.differences["two", "steep"].clear
    assert " to " not in sentence(found, "one").split(";")[0]


# What may be compared


def test_where_the_training_is_not_known_there_is_no_gap_and_it_is_said():
    stranger = make_result("theirs", BLIND, group="unknown", suites=("steep", "thick", "clean"))
    found = compare([stranger])
    assert not found.gap("theirs").defined and found.headline.suites == ("steep", "thick")
    assert "what it was trained on is not known" in sentence(found, "theirs")
    assert any("there is no gap" in note for note in caveats(found))


def test_a_suite_of_the_collection_that_a_model_has_seen_counts_in_the_mean_but_not_in_its_verdict(blind):
    infos = tuple(i.model_copy(update={"group": "seen"}) if i.name == "long" else i for i in blind.suites)
    found = compare([blind.model_copy(update={"suites": infos})])
    assert found.headline.suites == UNSEEN and found.judged["blind"].suites == ("steep", "thick")
    assert "over two suites of unseen-rain" in sentence(found, "blind")
    assert found.of("blind", SEEN, "gain").mean == pytest.approx(
        (gain(blind, "seen").mean() + gain(blind, "long").mean()) / 2
    )
    assert any(note.startswith("long is not unseen to blind") for note in caveats(found))


def test_suites_of_other_images_are_not_compared_but_listed(good, blind):
    other = make_result("other", GOOD, content="x")
    found = compare([good, blind, other])
    entrant = found.entrant("other")
    assert entrant.shared == () and "other images" in entrant.apart["steep"]
    assert ("other", found.headline) not in found.samples and "other" not in found.standings
    assert "has no verdict on unseen-rain" in sentence(found, "other")
    assert any("other is not compared on steep" in note for note in caveats(found))
    assert found.of("other", "steep", "gain").defined, "its own figures are still made"
    cells = {name: cells for name, _, cells in matrix(found).lines}
    assert {cell.text for cell in cells["other"]} == {"-"}


def test_the_same_hash_with_other_input_is_found_out(good):
    liar = make_result("liar", GOOD, strengths={"steep": 0.05})
    found = compare([good, liar])
    assert found.entrant("liar").apart == {"steep": "the same hash, but another PSNR of the degraded images"}


def test_conventions_and_names_of_images_must_agree(good):
    theirs = make_result("theirs", GOOD, color="y")
    few = make_result("few", GOOD, images=IMAGES - 1)
    found = compare([good, theirs, few])
    assert "convention" in found.entrant("theirs").apart["steep"]
    assert found.entrant("few").apart["steep"] == "other names of images"


def test_every_model_may_have_seen_something_else(good):
    mine = make_result("mine", GOOD)
    other = mine.model_copy(
        update={
            "suites": tuple(i.model_copy(update={"content": "own"}) if i.name == "seen" else i for i in mine.suites)
        }
    )
    found = compare([good, other])
    assert "seen" not in [info.name for info in found.suites]
    assert found.of("mine", SEEN, "gain").defined and found.gap("mine").defined and found.gap("good").defined


def test_who_lacks_a_suite_of_the_headline_has_no_place_but_what_all_have_is_there(good, blind):
    part = make_result("part", GOOD, suites=("seen", "steep", "clean"))
    found = compare([good, blind, part])
    assert set(found.standings) == {"good", "blind"}
    assert "not judged on thick and long; it removes seen, steep" in sentence(found, "part")
    common = found.scopes[-1]
    assert common.suites == ("steep",) and found.of("part", common, "gain").defined
    assert any("part was not judged on thick and long" in note for note in caveats(found))
    flipped = compare([part, good])
    assert flipped.headline.suites == ("steep",) and flipped.headline.missing == ("thick", "long")
    assert any("the reference, part, was not judged on thick and long" in note for note in caveats(flipped))


def test_a_mean_over_fewer_than_the_collection_says_so():
    few = make_result("few", GOOD, suites=("steep",), collections={"unseen-rain": ("steep", "thick")})
    (note,) = [note for note in caveats(compare([few])) if "only" in note]
    assert "over one suite only: nobody was judged on thick" in note


def test_the_headline_is_a_known_collection_else_all_that_is_unseen(good):
    for collection, members, headline in (
        ("unseen-noise", UNSEEN, "unseen-noise"),
        ("mine", ("steep",), "all unseen suites"),
    ):
        infos = tuple(i.model_copy(update={"collections": (collection,) * (i.name in members)}) for i in good.suites)
        found = compare([good.model_copy(update={"suites": infos})])
        assert found.headline.name == headline and found.headline.suites == UNSEEN


def test_results_of_one_name_stay_apart_and_the_same_result_counts_once(good):
    again = make_result("good", BLIND)
    found = compare([good, again, good])
    labels = [entrant.label for entrant in found.entrants]
    assert sorted(labels) == sorted([f"good [{good.id}]", f"good [{again.id}]"])
    assert found.duplicates == (f"good [{good.id}]",)
    assert len(sentences([good, again, good])) == 3
    with pytest.raises(ConfigError, match="several models"):
        compare([good, again], "good")
    assert compare([good, again], f"good [{again.id}]").reference == f"good [{again.id}]"


def test_a_model_called_like_a_baseline_is_told_from_it(good):
    own = make_result("median", GOOD)
    assert set(own.rows["steep"].atoms) == {MODEL, "identity", "box"}
    found = compare([own, good])
    assert {entrant.label for entrant in found.entrants} == {"median (as a model)", "good"}
    assert found.of("median", "steep", "gain").mean == pytest.approx(gain(good, "steep", "median").mean())


def test_a_reference_must_be_there(good):
    with pytest.raises(ConfigError, match="'x' is not among the models"):
        compare([good], "x")
    with pytest.raises(DataError, match="no result"):
        compare([])


# What is written


def test_the_verdict_is_there_whole(folder):
    expected = {"verdict.html", "verdict.md", "verdict.csv", "verdict.json", "gain.png", "removed.png", "worst.png"}
    assert {path.name for path in folder.iterdir()} == expected


def test_the_page_fetches_nothing_and_runs_nothing_of_others(page, folder):
    text = (folder / "verdict.html").read_text(encoding="utf-8")
    assert "http://" not in text and "https://" not in text and "<script>alert" not in text
    assert sum(tag == "script" for tag, _ in page.tags) == 1
    for tag, given in page.tags:
        assert tag not in {"iframe", "object", "embed", "b>"} and not any(name.startswith("on") for name in given)
        for name in ("src", "href", "xlink:href"):
            assert (given.get(name) or "#").startswith(("#", "data:")), (tag, given)
    names = [given["id"] for _, given in page.tags if "id" in given]
    assert len(names) == len(set(names))
    assert all(given.get("alt") for tag, given in page.tags if tag == "img")


def test_the_page_says_what_the_rows_say(page, three):
    for entrant in three.entrants:
        assert sentence(three, entrant.label) in page.text
    assert "What do three restorers do with degradations they have never seen?" in page.text
    assert "saw 1 of its test images in training" in page.text and "(leaks: 1)" in page.text
    assert "x<y>.json: is no result" in page.text and "A *note* <b>." in page.text
    for hidden in ("nan", "inf", "None", "Estimate"):
        assert not re.search(rf"\b{hidden}\b", page.text.split("use strict")[0])
    assert page.text.index("steep, 00.png") < page.text.index("thick, 05.png")


def test_the_text_shows_names_as_they_are(folder):
    text = (folder / "verdict.md").read_text(encoding="utf-8")
    plain = re.sub(r"^(```+)\n.*?\n\1$", "", text, flags=re.DOTALL | re.MULTILINE)  # code is shown as it is
    assert "<" not in plain and "&lt;script&gt;" in plain and "(leaks: 1)" in plain
    assert "```\nunseen evaluate <script>alert(1)</script>\n```" in text
    assert not re.search(r"\b(nan|inf|None)\b", text)
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    assert len({line.count("|") - line.count("\\|") for line in lines if "good" in line}) <= 4


def test_csv_and_json_hold_the_same_figures(folder, three):
    found = three
    with (folder / "verdict.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))

    def refuse(name: str) -> None:
        raise AssertionError(name)

    raw = json.loads((folder / "verdict.json").read_text(), parse_constant=refuse)
    assert raw["reference"] == "blind" and raw["headline"]["suites"] == list(UNSEEN)
    assert [m["verdict"] for m in raw["models"]] == ["removes", "leaves", "harms"]
    assert len(lines) == len(raw["records"]) == 3 * (len(STRENGTHS) + 2) + 3 * (len(STRENGTHS) + 1)
    for line, record in zip(lines, raw["records"], strict=True):
        assert (line["model"], line["place"], line["verdict"]) == (record["model"], record["place"], record["verdict"])
        for name, estimate in record["quantities"].items():
            for end, column in (("mean", name), ("low", f"{name}_low"), ("high", f"{name}_high")):
                number = float(line[column]) if line[column] else math.nan
                assert estimate[end] == number if math.isfinite(number) else estimate[end] is None
    line = next(x for x in lines if (x["model"], x["place"]) == ("good", "steep"))
    assert float(line["gain"]) == found.of("good", "steep", "gain").mean
    assert float(line["p_holm"]) == found.differences["good", "steep"].corrected
    assert line["leaks"] == "" and line["group"] == "unseen"


def test_a_spreadsheet_computes_no_name(tmp_path):
    write_verdict([make_result("=1+1", GOOD, suites=("steep",), images=2)], [], tmp_path)
    assert "'=1+1," in (tmp_path / "verdict.csv").read_text()
    assert not (tmp_path / "worst.png").exists()


def test_a_leaderboard_is_the_same_wherever_its_files_are(tmp_path):
    first, other = tmp_path / "one", tmp_path / "two" / "deeper"
    write_result(make_result("good", GOOD, suites=("steep",), images=2), first / "a.json")
    write_result(make_result("blind", BLIND, suites=("steep",), images=2), first / "sub" / "b.json")
    (first / "c.json").write_text("{}")
    boards = []
    for home in (first, other):
        if home is other:
            shutil.copytree(first, other)  # with the first's files
        out = home / "board"
        told = CliRunner().invoke(app, ["leaderboard", str(home), "-o", str(out), "--reference", "blind", "--json"])
        assert told.exit_code == 0, told.output
        said = json.loads(told.stdout)
        assert said["results"] == 2 and list(said["refused"]) == ["c.json"] and len(said["sentences"]) == 2
        boards.append({path.name: path.read_bytes() for path in out.iterdir()})
    assert boards[0] == boards[1]
    assert b"c.json is not a result" in boards[0]["verdict.html"]


def test_a_leaderboard_of_nothing_is_an_error(tmp_path):
    (tmp_path / "x.json").write_text("{}")
    runner = CliRunner()
    assert isinstance(
        runner.invoke(app, ["leaderboard", str(tmp_path), "-o", str(tmp_path / "o")]).exception, DataError
    )
    for wrong in (tmp_path / "none", tmp_path / "o"):
        (tmp_path / "o").mkdir(exist_ok=True)
        found = runner.invoke(app, ["leaderboard", str(wrong), "-o", str(tmp_path / "o")]).exception
        assert isinstance(found, ConfigError)


def test_results_do_not_depend_on_the_order_of_rows(good):
    frame = good.frame().sample(frac=1, random_state=1)
    again = result_of(frame, good.model, good.suites)
    first, second = compare([good]), compare([again])
    for suite in STRENGTHS:
        for quantity in ("gain", "removed", "residual"):
            one, other = (dataclasses.astuple(c.of("good", suite, quantity)) for c in (first, second))
            assert one == pytest.approx(other, nan_ok=True)
