"""What a report shows, as tables: settings, their values over seeds, and the same along training.

A *setting* is what cells that differ only in their seed share. Everything is made from rows by `unseen.rows`; here is
only which cells, which step and which images belong together, and the file stays whole for that reason.
"""

import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pandas as pd

from unseen import rows
from unseen.errors import ConfigError
from unseen.study.record import BASELINES, CellRecord, StudyRecord, SuiteRecord

MEAN = "mean of unseen"
"""Stands in the place of a suite: the mean over every unseen suite, each counting the same."""

MEAN_SEEN = "mean of seen"
"""The same over seen suites, where there are several."""

WITH_MASK = ("removal_ratio", "residual", "removal", "reconstruction")
WITHOUT_MASK = ("retention", "orthogonal_error", "bias", "deviation")
"""What tells removal and reconstruction apart, by the mask (rain), and where the whole image is degraded (noise, blur).
The first of each says what was removed, the second what is wrong; bias and deviation are of noise alone."""

SEED = "seed"

LEVEL = 0.95


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds and its t interval. NaN: undefined; `low` and `high` are NaN where there is no interval."""

    mean: float = math.nan
    low: float = math.nan
    high: float = math.nan
    seeds: int = 0

    @classmethod
    def of(cls, values: Iterable[float]) -> "Estimate":
        known = [float(value) for value in values if not math.isnan(value)]
        return cls(*rows.interval(known, LEVEL), seeds=len(known)) if known else cls()

    @property
    def defined(self) -> bool:
        return not math.isnan(self.mean)

    @property
    def half(self) -> float:
        return (self.high - self.low) / 2

    @property
    def has_interval(self) -> bool:
        return not math.isnan(self.low)

    def overlaps(self, other: "Estimate") -> bool | None:
        """None where one of them has no interval."""
        if not (self.has_interval and other.has_interval):
            return None
        return self.low <= other.high and other.low <= self.high


NOTHING = Estimate()


@dataclass(frozen=True)
class Setting:
    """`label` is its value on the curve axis, `series` its values on all other axes but the seed ("" without any).

    `cells` are places in `StudyRecord.cells`; `finished` are those of them that have rows.
    """

    name: str
    label: str
    series: str
    number: float | None
    is_reference: bool
    cells: tuple[int, ...]
    finished: tuple[int, ...]


@dataclass(frozen=True)
class Headline:
    """Per setting or baseline. Gains in dB over the input; `change` in generalisation error is relative (-0.37 is 37 %
    less), `decibels` the same in dB; `clean` is do-no-harm, `clean_worst` its lowest over images and seeds."""

    seen: Estimate = NOTHING
    unseen: Estimate = NOTHING
    gap: Estimate = NOTHING
    change: Estimate = NOTHING
    decibels: Estimate = NOTHING
    clean: Estimate = NOTHING
    clean_worst: float = math.nan


@dataclass(frozen=True)
class Tables:
    """`final` and `along` are keyed by the name of a setting (or baseline), suite and quantity.

    `along` holds (step, estimate) pairs over the images that were judged at every step, so that its last step may
    differ from `final`, which is over all images; `along_images` says how many, by suite. `cells` has one line per
    cell or baseline, step and suite, on all images judged there, `key` being the cell's place or the baseline's name.
    `maskless` are the suites that were judged by octaves, as noise and blur are, and the means over such alone.
    """

    record: StudyRecord
    curve: str | None
    settings: tuple[Setting, ...]
    series: tuple[str, ...]
    seen: tuple[str, ...]
    unseen: tuple[str, ...]
    clean: tuple[str, ...]
    baselines: tuple[str, ...]
    cells: pd.DataFrame
    final: dict[tuple[str, str, str], Estimate]
    each: dict[tuple[str, str, str], dict[str, float]]
    along: dict[tuple[str, str, str], list[tuple[int, Estimate]]]
    along_each: dict[tuple[str, str, str], dict[tuple[str, int], float]]
    along_images: dict[str, int] = field(default_factory=dict)
    headlines: dict[str, Headline] = field(default_factory=dict)
    maskless: frozenset[str] = frozenset()

    def of(self, name: str, suite: str, quantity: str) -> Estimate:
        return self.final.get((name, suite, quantity), NOTHING)

    def told_apart(self, suite: str) -> tuple[str, ...]:
        """The quantities that tell removal and reconstruction apart on a suite or mean; at least the first two."""
        wanted = WITHOUT_MASK if suite in self.maskless else WITH_MASK
        names = [*(setting.name for setting in self.settings), *self.baselines]
        return tuple(q for q in wanted if q in wanted[:2] or any(self.of(name, suite, q).defined for name in names))

    def difference(self, name: str, other: str, suite: str, quantity: str) -> Estimate:
        """Over the seeds that both have, seed by seed."""
        mine, theirs = (self.each.get((key, suite, quantity), {}) for key in (name, other))
        return Estimate.of(value - theirs[seed] for seed, value in mine.items() if seed in theirs)

    def within(self, series: str) -> tuple[Setting, ...]:
        return tuple(setting for setting in self.settings if setting.series == series)

    @property
    def on_seen(self) -> str:
        """What stands for what was seen: the one seen suite, the mean over several, or "" where there is none."""
        return (*self.seen, "")[0] if len(self.seen) < 2 else MEAN_SEEN

    @property
    def varying(self) -> tuple[str, ...]:
        """Suites that differ from cell to cell (what each was trained on): of these only gains can be compared."""
        return tuple(suite.name for suite in self.record.suites if suite.varies)

    @property
    def finished(self) -> int:
        return sum(cell.rows is not None for cell in self.record.cells)

    @property
    def suites(self) -> tuple[SuiteRecord, ...]:
        """Seen ones first, clean ones last."""
        order = {"seen": 0, "unseen": 1, "clean": 2}
        return tuple(sorted(self.record.suites, key=lambda suite: order.get(suite.group, 1)))


def axis_title(axis: str | None) -> str:
    """ "backgrounds.count" is the number of backgrounds."""
    if axis is None:
        return "setting"
    *before, last = axis.replace("_", " ").split(".")
    if last == "count" and before:
        return f"number of {before[-1]}"
    return " ".join([*before, last])


def value_label(record: StudyRecord, axis: str, value: Any) -> str:
    return record.axis_labels.get(axis, {}).get(str(value)) or ("all" if value is None else str(value))


def cell_label(record: StudyRecord, cell: CellRecord) -> str:
    """A cell's place on the axes, for people."""
    return ", ".join(f"{axis_title(axis)} {value_label(record, axis, value)}" for axis, value in cell.axes.items())


def seed_of(cell: CellRecord) -> str:
    return str(cell.axes.get(SEED, 0))


def _curve(record: StudyRecord) -> str | None:
    """The axis along x: the study's, or the first other where the study does not vary that."""
    varied = [axis for axis in record.axes if axis != SEED]
    return record.curve if record.curve in varied else varied[0] if varied else None


def _settings(record: StudyRecord, curve: str | None) -> tuple[Setting, ...]:
    found = []
    others = [axis for axis in record.axes if axis not in (SEED, curve)]
    for rest in itertools.product(*(record.axes[axis] for axis in others)):
        wanted = dict(zip(others, rest, strict=True))
        series = ", ".join(f"{axis_title(axis)} {value_label(record, axis, value)}" for axis, value in wanted.items())
        part = []
        for value in record.axes[curve] if curve is not None else [None]:
            here = wanted if curve is None else wanted | {curve: value}
            cells = tuple(
                index
                for index, cell in enumerate(record.cells)
                if all(str(cell.axes.get(axis)) == str(wish) for axis, wish in here.items())
            )
            label = "as configured" if curve is None else value_label(record, curve, value)
            label = f"{label} (trained)" if label in BASELINES else label  # baselines go by their names
            part.append(
                Setting(
                    name=f"{label}, {series}" if series else label,
                    label=label,
                    series=series,
                    number=record.axis_numbers.get(curve or "", {}).get(str(value)),
                    is_reference=curve == record.curve and str(value) == str(record.reference),
                    cells=cells,
                    finished=tuple(index for index in cells if record.cells[index].rows is not None),
                )
            )
        if all(setting.number is not None for setting in part):
            part.sort(key=lambda setting: setting.number or 0.0)
        found += [setting for setting in part if setting.cells]
    return tuple(found)


def _all_rows(record: StudyRecord) -> pd.DataFrame:
    """Rows of every cell under its place in the record (two cells may share an experiment), and of the baselines."""
    parts = [
        cell.rows.assign(experiment=str(index))
        for index, cell in enumerate(record.cells)
        if cell.rows is not None and len(cell.rows)
    ]
    if len(record.baselines):  # judged on what the first cell saw; where others saw other things, it says nothing
        varying = [suite.name for suite in record.suites if suite.varies]
        parts.append(record.baselines[~record.baselines["suite"].isin(varying)])
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=list(rows.COLUMNS))


def _common_images(long: pd.DataFrame) -> pd.DataFrame:
    """Rows of the images that an experiment was judged on at every one of its steps; along training they are fewer."""
    once = long[["experiment", "step", "suite", "image"]].drop_duplicates()
    steps = once.groupby(["experiment", "suite"])["step"].transform("nunique")
    held = once.groupby(["experiment", "suite", "image"])["step"].transform("nunique")
    kept = once.loc[held == steps, ["experiment", "suite", "image"]].drop_duplicates()
    return long.merge(kept, on=["experiment", "suite", "image"])


def _with_means(summary: pd.DataFrame, groups: dict[str, tuple[str, ...]]) -> pd.DataFrame:
    """The summary with further suites: MEAN, and where several are seen MEAN_SEEN. Without one of which a suite was
    never judged."""
    found = [summary]
    for name, suites in ((MEAN, groups["unseen"]), (MEAN_SEEN, groups["seen"] if len(groups["seen"]) > 1 else ())):
        if suites and set(suites) <= set(summary["suite"]):
            means = rows.mean_over(summary, suites).drop(columns="suites").assign(suite=name)
            found.append(means[means[list(rows.QUANTITIES)].notna().any(axis=1)])
    return pd.concat(found, ignore_index=True) if len(found) > 1 else summary


def tabulate(record: StudyRecord) -> Tables:
    """Everything that the page prints, from the rows."""
    curve = _curve(record)
    settings = _settings(record, curve)
    groups = {kind: tuple(s.name for s in record.suites if s.group == kind) for kind in ("seen", "unseen", "clean")}
    long = _all_rows(record)
    summary = rows.summarise(long)
    last = summary.groupby("experiment")["step"].transform("max") if len(summary) else summary["step"]
    final = summary[summary["step"] == last].assign(step=0)
    owner = {str(index): setting.name for setting in settings for index in setting.finished}
    seeds = {str(index): seed_of(cell) for index, cell in enumerate(record.cells)}

    final_mean = _with_means(final, groups)
    each: dict[tuple[str, str, str], dict[str, float]] = {}
    for line in final_mean.to_dict("records"):
        key = str(owner.get(line["experiment"], line["experiment"]))
        for quantity in rows.QUANTITIES:
            if not math.isnan(line[quantity]):
                each.setdefault((key, line["suite"], quantity), {})[seeds.get(line["experiment"], "")] = line[quantity]
    over = rows.over_seeds(final_mean, owner, LEVEL)

    along, along_each, along_images = _along(long, owner, seeds, groups)
    tables = Tables(
        record=record,
        curve=curve,
        settings=settings,
        series=tuple(dict.fromkeys(setting.series for setting in settings)),
        seen=groups["seen"],
        unseen=groups["unseen"],
        clean=groups["clean"],
        baselines=tuple(name for name in BASELINES if name in set(summary["experiment"])),
        cells=summary.rename(columns={"experiment": "key"}),
        final={(o["cell"], o["suite"], o["quantity"]): _estimate(o) for o in over.to_dict("records")},
        each=each,
        along=along,
        along_each=along_each,
        along_images=along_images,
        maskless=_maskless(final, groups),
    )
    tables.headlines.update(_headlines(tables, final, long))
    return tables


def _maskless(final: pd.DataFrame, groups: dict[str, tuple[str, ...]]) -> frozenset[str]:
    found = {str(suite) for suite, part in final.groupby("suite") if part["error_under4"].notna().any()}
    means = {MEAN: groups["unseen"], MEAN_SEEN: groups["seen"]}
    return frozenset(found | {mean for mean, suites in means.items() if suites and set(suites) <= found})


def _estimate(line: dict[Any, Any]) -> Estimate:
    return Estimate(line["mean"], line["low"], line["high"], line["seeds"])


def _along(
    long: pd.DataFrame, owner: dict[str, str], seeds: dict[str, str], groups: dict[str, tuple[str, ...]]
) -> tuple[
    dict[tuple[str, str, str], list[tuple[int, Estimate]]],
    dict[tuple[str, str, str], dict[tuple[str, int], float]],
    dict[str, int],
]:
    trained = long[(long["step"] > 0) & long["experiment"].isin(list(owner))]
    steps = trained.groupby("experiment")["step"].nunique()
    trained = trained[trained["experiment"].isin(list(steps[steps > 1].index))]
    if trained.empty:
        return {}, {}, {}
    summary = _with_means(rows.summarise(_common_images(trained)), groups)
    curves: dict[tuple[str, str, str], list[tuple[int, Estimate]]] = {}
    for line in rows.over_seeds(summary, owner, LEVEL).sort_values("step", kind="stable").to_dict("records"):
        if line["seeds"]:
            key = (line["cell"], line["suite"], line["quantity"])
            curves.setdefault(key, []).append((int(line["step"]), _estimate(line)))
    single: dict[tuple[str, str, str], dict[tuple[str, int], float]] = {}
    for line in summary.to_dict("records"):
        for quantity in rows.QUANTITIES:
            if not math.isnan(line[quantity]):
                place = (owner[line["experiment"]], line["suite"], quantity)
                single.setdefault(place, {})[seeds[line["experiment"]], int(line["step"])] = line[quantity]
    judged = summary[~summary["suite"].isin([MEAN, MEAN_SEEN])]
    images = {str(suite): int(part["images"].max()) for suite, part in judged.groupby("suite")}
    return curves, single, images


def _headlines(tables: Tables, final: pd.DataFrame, long: pd.DataFrame) -> dict[str, Headline]:
    """The gap and the error per cell, then over seeds; the error is relative to ordinary training of that series: to
    that of the same seed, or, of a baseline, to the mean over its seeds."""
    gaps = _column(final, lambda: rows.generalization_gap(final, tables.seen, tables.unseen), "gap")
    worst = long[long["suite"].isin(tables.clean) & (long["metric"] == "psnr_rgb")]
    found = {}
    for series in tables.series:
        part = tables.within(series)
        references = [str(index) for setting in part if setting.is_reference for index in setting.finished]
        errors, decibels = (
            _column(final, lambda ids=references: rows.generalization_error(final, tables.unseen, ids, 0), name)
            for name in ("change", "decibels")
        )
        if len(tables.series) > 1:  # which ordinary training?
            errors = decibels = {}
        found |= {name: _headline(tables, name, [name], gaps, errors, decibels, worst) for name in tables.baselines}
        reference = next((setting.name for setting in part if setting.is_reference), None)
        for setting in part:
            plain = _headline(tables, setting.name, [str(index) for index in setting.finished], gaps, {}, {}, worst)
            found[setting.name] = replace(plain, **_paired_errors(tables, setting.name, reference))
    return found


def _paired_errors(tables: Tables, name: str, reference: str | None) -> dict[str, Estimate]:
    """What becomes of the error, seed by seed, over the seeds that both have: the noise of both counts."""
    mine, theirs = (tables.each.get((key or "", MEAN, "mse"), {}) for key in (name, reference))
    shares = [value / theirs[seed] for seed, value in mine.items() if theirs.get(seed)]
    return {
        "change": Estimate.of(share - 1 for share in shares),
        "decibels": Estimate.of(-10 * math.log10(share) if share else math.inf for share in shares),
    }


def _column(final: pd.DataFrame, make: Any, name: str) -> dict[str, float]:
    """One column of a table by experiment; empty where the table cannot be made from what there is."""
    if final.empty:
        return {}
    try:
        table = make()
    except ConfigError:
        return {}
    return dict(zip(table["experiment"], table[name], strict=True))


def _headline(
    tables: Tables,
    name: str,
    ids: list[str],
    gaps: dict[str, float],
    errors: dict[str, float],
    decibels: dict[str, float],
    worst: pd.DataFrame,
) -> Headline:
    def over(values: dict[str, float]) -> Estimate:
        return Estimate.of(values[key] for key in ids if key in values)

    last = {key: tables.cells.loc[tables.cells["key"] == key, "step"].max() for key in ids}
    clean = [worst[(worst["experiment"] == key) & (worst["step"] == last[key])]["value"].min() for key in ids]
    return Headline(
        seen=tables.of(name, tables.on_seen, "gain_rgb"),
        unseen=tables.of(name, MEAN, "gain_rgb"),
        gap=over(gaps),
        change=over(errors),
        decibels=over(decibels),
        clean=tables.of(name, tables.clean[0], "psnr_rgb") if len(tables.clean) == 1 else NOTHING,
        clean_worst=min((value for value in clean if not math.isnan(value)), default=math.nan),
    )


def best_is_clear(tables: Tables, names: Sequence[str], suite: str, quantity: str) -> str | None:
    """The best of a column, if it may be called so: its interval is clear of every other, and no baseline beats it."""
    if suite in tables.varying or (suite == MEAN_SEEN and tables.varying):
        return None
    better = rows.QUANTITIES[quantity].better
    known = {name: tables.of(name, suite, quantity) for name in names}
    known = {name: estimate for name, estimate in known.items() if estimate.has_interval}
    if better == "" or len(known) < 2 or len(known) < sum(tables.of(name, suite, quantity).defined for name in names):
        return None

    def badness(value: float) -> float:
        return {"higher": -value, "lower": value, "one": abs(value - 1), "zero": abs(value)}[better]

    first = min(known, key=lambda name: badness(known[name].mean))
    if any(known[first].overlaps(estimate) for name, estimate in known.items() if name != first):
        return None
    rivals = (tables.of(name, suite, quantity) for name in tables.baselines if suite not in tables.clean)
    if any(rival.defined and badness(rival.mean) <= badness(known[first].mean) for rival in rivals):
        return None
    return first


def cells_table(tables: Tables) -> pd.DataFrame:
    """Every cell and baseline at every step and suite, with all quantities: `cells.csv`."""
    record = tables.record
    frame = tables.cells.copy()
    keys = [str(key) for key in frame.pop("key")]
    cells = [record.cells[int(key)] if key.isdecimal() else None for key in keys]
    groups = {suite.name: suite.group for suite in record.suites}
    frame.insert(0, "experiment", [key if cell is None else cell.id for key, cell in zip(keys, cells, strict=True)])
    for place, axis in enumerate(record.axes, 1):
        labels = ["" if cell is None else value_label(record, axis, cell.axes.get(axis)) for cell in cells]
        frame.insert(place, axis, labels)
    frame.insert(frame.columns.get_loc("suite") + 1, "group", [groups.get(name, "") for name in frame["suite"]])  # type: ignore[operator]
    return frame


def summary_table(tables: Tables) -> pd.DataFrame:
    """Means and intervals over seeds: `summary.csv`. `images` is "all" at the end of training, else how many.

    At the steps along training, the last one included, only the images are counted that were judged at every step.
    """
    lines = []
    place = {setting.name: (setting.label, setting.series) for setting in tables.settings}
    for (name, suite, quantity), estimate in tables.final.items():
        lines.append((name, suite, quantity, "end", "all", estimate))
    for (name, suite, quantity), points in tables.along.items():
        images = tables.along_images.get(suite, min(tables.along_images.values(), default=0))
        lines += [(name, suite, quantity, str(step), str(images), estimate) for step, estimate in points]
    return pd.DataFrame(
        [
            {
                "setting": name,
                "value": place.get(name, ("", ""))[0],
                "series": place.get(name, ("", ""))[1],
                "suite": suite,
                "step": step,
                "images": images,
                "quantity": quantity,
                "mean": estimate.mean,
                "low": estimate.low,
                "high": estimate.high,
                "seeds": estimate.seeds,
            }
            for name, suite, quantity, step, images, estimate in lines
        ],
        columns=["setting", "value", "series", "suite", "step", "images", "quantity", "mean", "low", "high", "seeds"],
    )
