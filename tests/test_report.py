"""The report of a study: what it says agrees with the rows, and it can be made whatever there is."""

import dataclasses
import math
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from unseen.report.answer import answer
from unseen.report.page import write_report
from unseen.report.printed import headline_table, suites_table
from unseen.report.tables import MEAN, MEAN_SEEN, best_is_clear, tabulate
from unseen.rows import BANDS, COLUMNS
from unseen.study.record import CellRecord, StudyRecord, SuiteRecord

UNSEEN = {"steep": (0.14, 0.10), "thick": (0.71, 0.08), "long": (0.90, 0.06), "short": (0.80, 0.05)}
"""Removal ratio of ordinary training, and the strength of the degradation."""

SUITES = (
    SuiteRecord("seen", "seen", "rain: length 10-20, width 1-3", (), 6),
    SuiteRecord("steep", "unseen", "rain: direction 40-65", ("direction",), 6),
    SuiteRecord("thick", "unseen", "rain: width 5", ("width", "quantity"), 6),
    SuiteRecord("long", "unseen", "rain: length 25-35", ("length",), 6),
    SuiteRecord("short", "unseen", "rain: length 3-6", ("length", "quantity"), 6),
    SuiteRecord("clean", "clean", "clean images", (), 6),
)
STEPS = (500, 1500, 4500)
COUNTS: tuple[Any, ...] = (8, 32, None)
VALUES = 3 * 64 * 64


def atoms(ratio: float, strength: float, damage: float, rng: np.random.Generator) -> dict[str, float]:
    """Of one image in which `ratio` of the degradation was removed; `strength` 0 is a clean image."""
    degraded = VALUES * strength**2 * rng.uniform(0.7, 1.3)
    covered = round(0.2 * VALUES) if strength else 0
    leftover, damage = 0.004 * degraded, VALUES * damage**2 * rng.uniform(0.8, 1.2)
    error = (1 - ratio) ** 2 * degraded + leftover
    mse = (error + damage) / VALUES
    source = degraded / VALUES
    return {
        "psnr_rgb": -10 * math.log10(mse) if mse else math.inf,
        "psnr_y": -10 * math.log10(mse) + 1.3 if mse else math.inf,
        "input_psnr_rgb": -10 * math.log10(source) if source else math.inf,
        "input_psnr_y": -10 * math.log10(source) + 1.3 if source else math.inf,
        "mse": mse,
        "input_mse": source,
        "values": VALUES,
        "mask_values": covered,
        "mask_change": ratio**2 * degraded + leftover,
        "mask_degradation": degraded,
        "mask_error": error,
        "mask_projection": ratio * degraded,
        "clear_error": damage,
        "degradation": degraded,
        "alignment": -(ratio - 1) * degraded,
    }


def rows_of(
    name: str, step: int, images: int, ratio: dict[str, float], damage: float, rng: np.random.Generator
) -> list:
    found = []
    for suite in SUITES:
        strength = {"seen": 0.09, "clean": 0.0}.get(suite.name) or UNSEEN.get(suite.name, (0, 0.0))[1]
        for image in range(images):
            for metric, value in atoms(ratio[suite.name], strength, damage, rng).items():
                found.append((name, step, suite.name, f"image-{image}", metric, value))
    return found


def frame(found: list) -> pd.DataFrame:
    return pd.DataFrame(found, columns=list(COLUMNS))


def picture(path: Path, size: int, rng: np.random.Generator) -> Path:
    Image.fromarray(rng.integers(0, 256, (size, size, 3), dtype=np.uint8)).save(path)
    return path


def make_record(
    folder: Path,
    counts: tuple[Any, ...] = COUNTS,
    seeds: tuple[int, ...] = (0, 1, 2),
    steps: tuple[int, ...] = STEPS,
    noise: float = 0.01,
    gain: float = 0.4,
    kinds: tuple[str, ...] = (),
    pictures: bool = True,
) -> StudyRecord:
    """Fewer backgrounds remove more of what is unseen (`gain`) and damage the rest; on steep rain all go blind."""
    folder.mkdir(parents=True, exist_ok=True)
    axes: dict[str, list[Any]] = {"backgrounds.count": list(counts)}
    if kinds:
        axes["network.kind"] = list(kinds)
    axes["seed"] = list(seeds)
    cells = []
    for place, count in enumerate(counts):
        few = 1 - place / max(len(counts) - 1, 1)
        for kind in kinds or ("",):
            for seed in seeds:
                rng = np.random.default_rng([place, seed, len(kind)])
                name = f"cell{place}{kind}{seed}"
                found = []
                shift = rng.normal(0, noise)
                for step in steps:
                    late = steps.index(step) / max(len(steps) - 1, 1)
                    ratio = {"seen": 0.85 + 0.08 * late, "clean": 1.0}
                    for suite, (end, _) in UNSEEN.items():
                        fading = 0.2 * (1 - late) if suite == "steep" else -0.05 * (1 - late)
                        ratio[suite] = min(end + gain * few * (1 - end) + fading + shift, 1.1)
                    images = 6 if step == steps[-1] else 3
                    found += rows_of(name, step, images, ratio, 0.02 + 0.001 * few - 0.004 * late, rng)
                axis = {"backgrounds.count": count, "seed": seed} | ({"network.kind": kind} if kinds else {})
                shots = {s.name: picture(folder / f"{name}-{s.name}.png", 16, rng) for s in SUITES} if pictures else {}
                log = pd.DataFrame({"step": range(50, steps[-1] + 1, 50)})
                log = log.assign(loss=0.03 + 0.1 * np.exp(-log["step"] / 600) * rng.uniform(0.8, 1.2, len(log)))
                environment = {"torch": "2.9.0", "device": "cpu", "threads": 1, "date": f"2026-03-0{seed + 1}"}
                cells.append(CellRecord(name, axis, {}, frame(found), log, environment, shots, 271.5))
    rng = np.random.default_rng(7)
    baselines = []
    for name, ratio, damage in (("identity", 0.0, 0.0), ("median", 0.5, 0.06), ("box", 0.4, 0.08)):
        baselines += rows_of(name, -1, 6, {suite.name: ratio for suite in SUITES}, damage, rng)
    shared = {
        suite.name: {
            kind: picture(folder / f"{suite.name}-{kind}.png", 16, rng) for kind in ("degraded", "clean", "mask")
        }
        for suite in SUITES
    }
    return StudyRecord(
        name="few-backgrounds",
        question="Do fewer backgrounds generalise better?",
        axes=axes,
        curve="backgrounds.count",
        reference=None,
        axis_labels={"backgrounds.count": {str(c): "all 270" if c is None else str(c) for c in counts}},
        axis_numbers={
            "backgrounds.count": {str(c): 270.0 if c is None else float(c) for c in counts if not isinstance(c, str)}
        },
        suites=SUITES,
        cells=tuple(cells),
        baselines=frame(baselines),
        pictures=shared if pictures else {},
        command="unseen run studies/few-backgrounds.yaml",
        notes=("Synthetic.",),
    )


class Page(HTMLParser):
    """Every tag of a page, and its text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", " ".join(self.words)).replace("\u2212", "-")


@pytest.fixture(scope="module")
def record(tmp_path_factory: pytest.TempPathFactory) -> StudyRecord:
    return make_record(tmp_path_factory.mktemp("record"))


@pytest.fixture(scope="module")
def written(record: StudyRecord, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_report(record, tmp_path_factory.mktemp("report") / "new").parent


@pytest.fixture(scope="module")
def page(written: Path) -> Page:
    return Page((written / "report.html").read_text(encoding="utf-8"))


def last_rows(cell: CellRecord) -> pd.DataFrame:
    assert cell.rows is not None
    return cell.rows[cell.rows["step"] == cell.rows["step"].max()]


def mean_unseen(record: StudyRecord, count: Any, metric: str) -> list[float]:
    """By seed, straight from the rows."""
    found = []
    for cell in record.cells:
        if cell.axes["backgrounds.count"] == count and cell.rows is not None:
            part = last_rows(cell)
            part = part[part["suite"].isin(list(UNSEEN)) & (part["metric"] == metric)]
            found.append(float(part.groupby("suite")["value"].mean().mean()))
    return found


def pooled_ratio(record: StudyRecord, count: Any, suite: str) -> float:
    found = []
    for cell in record.cells:
        if cell.axes["backgrounds.count"] == count:
            part = last_rows(cell)
            total = part[part["suite"] == suite].groupby("metric")["value"].sum()
            found.append(total["mask_projection"] / total["mask_degradation"])
    return float(np.mean(found))


def t_interval(values: list[float]) -> tuple[float, float, float]:
    mean, half = float(np.mean(values)), 4.302652729696 * float(np.std(values, ddof=1)) / math.sqrt(3)  # 2 degrees
    return mean, mean - half, mean + half


def test_the_page_imports_no_torch():
    source = str(Path(__file__).parents[1] / "src")
    program = f"import sys; sys.path.insert(0, {source!r}); import unseen.report.page; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", program], check=True)


def test_the_report_is_there_whole(written):
    names = {path.name for path in written.iterdir()}
    expected = {"report.html", "report.md", "cells.csv", "summary.csv"}
    assert names == expected | {"curves.png", "training.png", "loss.png", "samples.png"}


def test_the_page_fetches_nothing(page, written):
    text = (written / "report.html").read_text(encoding="utf-8")
    assert "http://" not in text and "https://" not in text and "@import" not in text
    for tag, given in page.tags:
        assert tag not in {"iframe", "object", "embed"} and not (tag == "script" and "src" in given)
        for name in ("src", "href", "xlink:href"):
            assert (given.get(name) or "#").startswith(("#", "data:")), (tag, given)
    assert not re.search(r"url\((?!#)", text)
    assert len(text) < 8_000_000


def test_identifiers_are_unique_and_pictures_are_described(page):
    names = [given["id"] for _, given in page.tags if "id" in given]
    assert len(names) == len(set(names))
    assert all(given.get("alt") for tag, given in page.tags if tag == "img")
    panels = [given for _, given in page.tags if given.get("role") == "img"]
    assert len(panels) == 6 + 5 * 6 + 1 and all(given.get("aria-label") for given in panels)
    assert len([1 for tag, _ in page.tags if tag == "svg"]) > len(panels)


def test_the_answer_is_that_of_the_rows(record, page):
    best, ordinary = mean_unseen(record, 8, "psnr_rgb"), mean_unseen(record, None, "psnr_rgb")
    mean, low, high = t_interval([mine - other for mine, other in zip(best, ordinary, strict=True)])
    errors = mean_unseen(record, 8, "mse"), mean_unseen(record, None, "mse")
    change = np.mean([mine / other for mine, other in zip(*errors, strict=True)]) - 1
    (sentence,) = answer(tabulate(record)).gain
    assert f"{mean:+.2f} dB ({low:+.2f} to {high:+.2f}) PSNR and {100 * change:+.1f} % generalisation error" in sentence
    assert "Of the three values tried" in sentence and "8 (chosen after the fact)" in sentence
    assert "all four unseen suites" in sentence and "ordinary training (all 270)" in sentence
    assert "on the seen suite" in sentence
    assert sentence in page.text
    first, second = t_interval(best), t_interval(ordinary)
    overlap = first[1] <= second[2] and second[1] <= first[2]
    assert ("within the noise of three seeds" in sentence) == overlap


def test_an_answer_within_noise_says_so(tmp_path):
    noisy = make_record(tmp_path, noise=0.08, gain=0.02, pictures=False)
    (sentence,) = answer(tabulate(noisy)).gain
    assert "the intervals of the two overlap, so this is within the noise of three seeds" in sentence


def test_ordinary_training_may_win(tmp_path):
    losing = make_record(tmp_path, gain=-0.3, pictures=False)
    (sentence,) = answer(tabulate(losing)).gain
    assert "none does better than ordinary training (all 270)" in sentence


def test_the_removal_sentence_names_every_suite_and_where_nothing_is_done(record):
    (sentence,) = answer(tabulate(record)).removal
    for suite in UNSEEN:
        values = (pooled_ratio(record, None, suite), pooled_ratio(record, 8, suite))
        assert re.search(rf"{suite} {values[0]:.2f} \u00b1\d\.\d\d / {values[1]:.2f} \u00b1\d\.\d\d", sentence)
    assert re.search(r": mean of unseen 0\.\d\d \u00b10\.\d\d / 0\.\d\d \u00b10\.\d\d, steep ", sentence)
    assert "do next to nothing, which is a ratio below 0.2, on steep (all 270)" in sentence


def without_mask(record: StudyRecord) -> StudyRecord:
    """The same study as if it were of noise: the mask is everywhere, and at the end there are octaves and draws."""

    def turned(rows: pd.DataFrame) -> pd.DataFrame:
        wide = rows.pivot_table(index=["experiment", "step", "suite", "image"], columns="metric", values="value")
        wide["mask_values"], wide["clear_error"] = wide["values"], 0.0
        last = (wide.index.get_level_values("step") == wide.index.get_level_values("step").max()) & (
            wide.index.get_level_values("suite") != "clean"
        )
        for band in BANDS:
            for name, whole in (("error", wide["mse"] * VALUES), ("degradation", wide["degradation"]),
                                ("alignment", wide["alignment"]), ("bias", wide["mse"] * VALUES * 0.3),
                                ("variance", wide["mse"] * VALUES * 0.7)):  # fmt: skip
                wide.loc[last, f"{name}_{band}"] = whole[last] / len(BANDS)
        for name, share in (("bias", 0.3), ("variance", 0.7)):
            wide.loc[last, name] = share * wide["mse"][last] * VALUES
        return wide.stack().rename("value").reset_index()[list(COLUMNS)]

    def of(cell: CellRecord) -> CellRecord:
        return cell if cell.rows is None else dataclasses.replace(cell, rows=turned(cell.rows))

    return dataclasses.replace(record, cells=tuple(map(of, record.cells)), baselines=turned(record.baselines))


def test_what_has_no_mask_is_told_apart_without_one(record, tmp_path):
    tables = tabulate(without_mask(record))
    assert {*UNSEEN, "seen", MEAN} <= tables.maskless
    assert "clean" not in tables.maskless
    glance, by_suite = headline_table(tables), suites_table(tables)
    titles = [title for title, _ in glance.columns[:5]]
    assert titles == ["PSNR, dB", "retention a", "orthogonal error", "bias", "deviation"]
    assert {title for title, _ in by_suite.columns} == {"PSNR", "retained", "orthogonal"}
    (removal,) = answer(tables).removal
    assert removal.startswith("The share that is removed (1 less the retention; 0: did nothing, 1: removed all) on")
    assert f"steep {1 - tables.of('all 270', 'steep', 'retention').mean:.2f}" in removal
    assert "which is a share below 0.2, on steep (all 270)" in removal
    # The rows are those of rain, where both measures agree: so must the sentences about growing blind.
    (with_mask,), (without,) = answer(tabulate(record)).training, answer(tables).training
    numbers = re.findall(r"(?:from|to) [0-9.,]+", with_mask)
    assert re.findall(r"(?:from|to) [0-9.,]+", without) == numbers
    assert len(numbers) > 3
    write_report(without_mask(record), tmp_path)
    text = (tmp_path / "report.md").read_text()
    assert "E_B" not in text
    assert "Octave by octave" in text


def test_growing_blind_is_said_where_the_rows_show_it_and_only_there(record, tmp_path):
    (sentence,) = answer(tabulate(record)).training
    values = {}
    for step in (500, 4500):
        ratios = []
        for cell in record.cells:
            if cell.axes["backgrounds.count"] is None:
                rows = cell.rows
                assert rows is not None
                few = rows[rows["image"].isin(["image-0", "image-1", "image-2"])]
                total = few[(few["step"] == step) & (few["suite"] == "steep")].groupby("metric")["value"].sum()
                ratios.append(total["mask_projection"] / total["mask_degradation"])
        values[step] = float(np.mean(ratios))
    assert "grows blind" in sentence
    assert f"steep from {values[500]:.2f} (at 500 steps, its highest) to {values[4500]:.2f}" in sentence
    assert "on thick, long and short it does not fall" in sentence
    backwards = make_record(tmp_path, pictures=False)
    renamed = {500: 4500, 4500: 500}
    cells = tuple(
        dataclasses.replace(
            cell,
            rows=cell.rows[cell.rows["image"] < "image-3"].assign(step=lambda r: r["step"].replace(renamed)),
        )
        for cell in backwards.cells
        if cell.rows is not None
    )
    (sentence,) = answer(tabulate(dataclasses.replace(backwards, cells=cells))).training
    assert "do not show the network growing blind" in sentence


def test_a_baseline_that_does_as_well_makes_the_claim_void(record):
    good = record.baselines.assign(
        value=record.baselines["value"].where(record.baselines["metric"] != "psnr_rgb", 60.0)
    )
    (note, *_) = answer(tabulate(dataclasses.replace(record, baselines=good))).caveats
    assert "void" in note and "median (60.00 dB)" in note
    assert answer(tabulate(record)).caveats == ()


def test_tables_have_baselines_and_dashes_for_what_is_undefined(record):
    tables = tabulate(record)
    heads = [line.head for line in suites_table(tables).lines]
    assert heads[:3] == ["8", "32", "all 270"] and [head.split()[0] for head in heads[3:]] == [
        "identity",
        "median",
        "box",
    ]
    empty = tables.of("8", "clean", "removal_ratio")
    assert math.isnan(empty.mean)
    identity = next(line for line in headline_table(tables).lines if line.head.startswith("identity"))
    assert identity.entries[-1].text == ">100"
    for table in (headline_table(tables), suites_table(tables)):
        assert not any("nan" in entry.text or "inf" in entry.text for line in table.lines for entry in line.entries)


def test_nothing_undefined_is_printed_as_a_number(page, written):
    text = (written / "report.md").read_text(encoding="utf-8")
    for words in (page.text.split("use strict")[0], text):
        assert not re.search(r"\b(nan|inf|None|null)\b", words)
    assert " - " in page.text


def test_the_tables_on_disk_hold_the_same_numbers(record, written):
    tables = tabulate(record)
    summary = pd.read_csv(written / "summary.csv", dtype=str)
    for column in ("mean", "low", "high"):
        summary[column] = [float(text) for text in summary[column].fillna("nan")]
    ends = summary[summary["step"] == "end"].set_index(["setting", "suite", "quantity"])
    for (name, suite, quantity), estimate in tables.final.items():
        for column in ("mean", "low", "high"):
            found, expected = float(str(ends.at[(name, suite, quantity), column])), getattr(estimate, column)
            assert found == expected or (math.isnan(found) and math.isnan(expected))
    for count, label in ((8, "8"), (None, "all 270")):
        expected = np.mean(mean_unseen(record, count, "psnr_rgb"))
        assert ends.loc[(label, MEAN, "psnr_rgb"), "mean"] == pytest.approx(expected, rel=1e-12)
    cells = pd.read_csv(written / "cells.csv", dtype=str)
    assert len(cells) == (9 * 3 + 3) * len(SUITES)
    assert [float(text) for text in cells["psnr_rgb"]] == tables.cells["psnr_rgb"].tolist()
    assert set(cells["backgrounds.count"].dropna()) == {"8", "32", "all 270"}


def test_along_training_compares_the_same_images(record):
    tables = tabulate(record)
    assert tables.along_images == {suite.name: 3 for suite in SUITES}
    points = tables.along["8", "steep", "psnr_rgb"]
    assert [step for step, _ in points] == list(STEPS)
    values = []
    for cell in record.cells[:3]:
        part = last_rows(cell)
        part = part[(part["suite"] == "steep") & (part["metric"] == "psnr_rgb") & (part["image"] < "image-3")]
        values.append(part["value"].mean())
    assert points[-1][1].mean == pytest.approx(np.mean(values), rel=1e-12)
    assert points[-1][1].mean != pytest.approx(tables.of("8", "steep", "psnr_rgb").mean, rel=1e-6)


def test_an_unfinished_study_says_what_is_missing(tmp_path):
    record = make_record(tmp_path / "record", steps=(4500,))
    cells = tuple(
        dataclasses.replace(
            cell, rows=None, log=cell.log if place == 8 else None, environment={}, pictures={}, seconds=None
        )
        if place in (1, 8)
        else cell
        for place, cell in enumerate(record.cells)
    )
    text = Page(write_report(dataclasses.replace(record, cells=cells), tmp_path).read_text(encoding="utf-8")).text
    assert "This study is unfinished: 7 of 9 networks are done" in text
    assert "number of backgrounds 8, seed 1" in text and "begun, step 4,500" in text
    assert "different numbers of finished seeds" in text


def test_a_study_of_which_nothing_is_finished_still_has_a_report(record, tmp_path):
    cells = tuple(
        dataclasses.replace(cell, rows=None, log=None, environment={}, pictures={}, seconds=None)
        for cell in record.cells
    )
    empty = dataclasses.replace(record, cells=cells, baselines=frame([]), pictures={})
    text = Page(write_report(empty, tmp_path).read_text(encoding="utf-8")).text
    assert "There is no answer yet" in text and "0 of 9 networks are done" in text


def test_a_single_seed_has_no_interval_and_says_so(tmp_path):
    single = make_record(tmp_path / "record", counts=(8, None), seeds=(0,), steps=(900,), pictures=False)
    text = Page(write_report(single, tmp_path).read_text(encoding="utf-8")).text
    assert "\u00b1" not in text
    assert "with one seed there is no interval, so this cannot be told from noise" in text
    assert "One seed for every value: there are no intervals" in text


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"counts": (None,), "steps": (900,)}, "there is nothing to compare it with"),
        ({"counts": ("faces", "comics", "None"), "steps": (900,)}, "faces"),
        ({"counts": (8, None), "kinds": ("unet", "resnet"), "steps": (900,)}, "Network kind unet. Of the two values"),
    ],
    ids=["one value", "names for values", "two axes"],
)
def test_other_shapes_of_study_have_a_report(change, said, tmp_path):
    made = make_record(tmp_path / "record", seeds=(0, 1), pictures=False, **change)
    text = Page(write_report(made, tmp_path).read_text(encoding="utf-8")).text
    assert said in text
    assert "judged at the end of training only" in text


def test_several_seen_suites_are_read_by_their_mean(record):
    two = tuple(dataclasses.replace(suite, group="seen") if suite.name == "thick" else suite for suite in SUITES)
    tables = tabulate(dataclasses.replace(record, suites=two))
    assert len(tables.seen) == 2 and tables.on_seen == MEAN_SEEN
    for setting in tables.settings:
        each = [tables.of(setting.name, suite, "gain_rgb").mean for suite in tables.seen]
        line = tables.headlines[setting.name]
        assert line.seen.mean == pytest.approx(sum(each) / 2)
        assert line.gap.mean == pytest.approx(line.seen.mean - line.unseen.mean)
    said = answer(tables)
    assert "on the mean over two seen suites" in said.gain[0]
    assert "not judged along training" not in said.training[0]


def test_where_each_saw_something_else_only_gains_are_compared(record):
    varied = tuple(dataclasses.replace(s, varies=True) if s.group == "seen" else s for s in SUITES)
    plain, tables = tabulate(record), tabulate(dataclasses.replace(record, suites=varied))
    (seen,) = tables.seen
    assert plain.of("identity", seen, "psnr_rgb").defined and not tables.of("identity", seen, "psnr_rgb").defined
    assert not tables.headlines["median"].seen.defined and not tables.headlines["median"].gap.defined
    names = [setting.name for setting in tables.settings]
    assert all(best_is_clear(tables, names, seen, quantity) is None for quantity in ("psnr_rgb", "residual"))
    (found,) = answer(tables).comparisons
    assert found is not None
    gain = tables.difference(found.best.name, found.reference.name, seen, "gain_rgb")
    assert found.seen == gain and "what each was trained on" in answer(tables).gain[0]


def test_without_seen_clean_or_a_curve_there_is_a_report(record, tmp_path):
    names = ("steep", "thick")
    cells = tuple(
        dataclasses.replace(
            cell,
            axes={"seed": cell.axes["seed"]},
            rows=last_rows(cell)[lambda rows: rows["suite"].isin(names)],
            log=None,
        )
        for cell in record.cells[:2]
        if cell.rows is not None
    )
    few = dataclasses.replace(
        record,
        axes={"seed": [0, 1]},
        suites=tuple(suite for suite in SUITES if suite.name in names),
        cells=cells,
        baselines=record.baselines[record.baselines["suite"].isin(names)],
        pictures={},
    )
    text = Page(write_report(few, tmp_path).read_text(encoding="utf-8")).text
    assert "all two unseen suites" in text and "nothing to compare it with" in text
