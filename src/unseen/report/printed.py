"""The tables of a report as they are printed: entries, lines, columns."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from unseen import rows
from unseen.report.answer import signed
from unseen.report.tables import MEAN, Estimate, Headline, Tables, axis_title, best_is_clear, value_label
from unseen.study.record import StudyRecord

BASELINE_TITLES = {"identity": "identity (the input)", "median": "median 5 x 5", "box": "box blur 5 x 5"}


@dataclass(frozen=True)
class Entry:
    """A table's entry: what is printed, what it is sorted by, and whether it is set in bold."""

    text: str
    half: str = ""
    order: float | str | None = None
    bold: bool = False
    kind: str = "number"


@dataclass(frozen=True)
class Line:
    """A table's line. `kind` is "setting", "reference" or "baseline"."""

    head: str
    entries: tuple[Entry, ...]
    kind: str = "setting"
    note: str = ""


@dataclass(frozen=True)
class Table:
    """`groups` are (title, number of columns, group of the suite) above `columns`, which are (title, meaning)."""

    head: str
    columns: tuple[tuple[str, str], ...]
    lines: tuple[Line, ...]
    groups: tuple[tuple[str, int, str], ...] = ()
    title: str = ""


def shown(quantity: str, estimate: Estimate, bold: bool = False) -> Entry:
    half = f"\u00b1{rows.display(quantity, estimate.half)}" if estimate.has_interval else ""
    return Entry(rows.display(quantity, estimate.mean), half, _order(estimate.mean), bold)


def _order(value: float) -> float | None:
    """Infinite values sort at the ends, undefined ones last."""
    return None if math.isnan(value) else math.copysign(1e9, value) if math.isinf(value) else value


def _percent(estimate: Estimate) -> Entry:
    if not estimate.defined:
        return Entry("-")
    half = f"\u00b1{100 * estimate.half:.1f}" if estimate.has_interval else ""
    return Entry(f"{signed(100 * estimate.mean, 1)} %", half, estimate.mean)


def _setting_lines(tables: Tables, entries: Callable[[str], Sequence[Entry]]) -> Iterable[Line]:
    """A line for each setting and baseline; `entries` makes them from its name."""
    for setting in tables.settings:
        note = f"{len(setting.finished)} of {len(setting.cells)}"
        kind = "reference" if setting.is_reference else "setting"
        yield Line(setting.name, tuple(entries(setting.name)), kind, note)
    for name in tables.baselines:
        yield Line(BASELINE_TITLES.get(name, name), tuple(entries(name)), "baseline", "")


def headline_table(tables: Tables) -> Table:
    """Seen and unseen side by side, and what is harmed."""
    apart = tuple(q for q in tables.told_apart(MEAN) if q != "removal")  # E_R says little beside the removal ratio

    def entries(name: str) -> list[Entry]:
        line = tables.headlines.get(name, Headline())
        clean_worst = Entry(rows.display("psnr_rgb", line.clean_worst), "", _order(line.clean_worst))
        return [
            *(shown(q, tables.of(name, MEAN, q), bold(name, q)) for q in ("psnr_rgb", *apart)),
            shown("gain_rgb", line.unseen, bold(name, "gain_rgb")),
            shown("gain_rgb", line.seen),
            shown("gain_rgb", line.gap),
            _percent(line.change),
            shown("psnr_rgb", line.clean),
            clean_worst,
        ]

    best = {
        q: best_is_clear(tables, [s.name for s in tables.settings], MEAN, q)
        for q in ("psnr_rgb", *apart[:2], "gain_rgb")
    }

    def bold(name: str, quantity: str) -> bool:
        return best.get(quantity) == name

    return Table(
        head=axis_title(tables.curve),
        columns=(
            ("PSNR, dB", "PSNR in RGB, mean over all unseen suites; higher is better"),
            *((rows.QUANTITIES[q].title, rows.QUANTITIES[q].meaning) for q in apart),
            (
                "unseen, dB",
                "PSNR of the restored less PSNR of the input, mean over all unseen suites; higher is better",
            ),
            ("seen, dB", "the same on the seen suite"),
            ("gap, dB", "generalisation gap: seen gain less unseen gain; lower is better, only beside the seen gain"),
            ("change", "mean MSE over all unseen suites, relative to ordinary training; lower is better"),
            ("mean, dB", "PSNR of what is made of a clean image, against it; higher is better"),
            ("worst, dB", "the lowest over images and seeds"),
        ),
        groups=(
            ("mean over unseen suites", 1 + len(apart), "unseen"),
            ("gain over the input", 3, "seen"),
            ("error", 1, "unseen"),
            ("clean images", 2, "clean"),
        ),
        lines=tuple(_setting_lines(tables, entries)),
        title="At a glance",
    )


def suites_table(tables: Tables) -> Table:
    """PSNR, what was removed and what is wrong, on every suite and on the mean of unseen ones; of clean images PSNR."""
    places = [(suite.name, suite.group) for suite in tables.suites if suite.group != "clean"]
    if len(tables.unseen) > 1:
        places.append((MEAN, "unseen"))
    columns = [(suite, group, ("psnr_rgb", *tables.told_apart(suite)[:2])) for suite, group in places]
    columns += [(name, "clean", ("psnr_rgb",)) for name in tables.clean]
    names = [s.name for s in tables.settings]
    best = {(suite, q): best_is_clear(tables, names, suite, q) for suite, _, wanted in columns for q in wanted}

    def entries(name: str) -> list[Entry]:
        return [
            shown(q, tables.of(name, suite, q), best[suite, q] == name) for suite, _, wanted in columns for q in wanted
        ]

    titles = {
        "psnr_rgb": "PSNR", "removal_ratio": "ratio", "residual": "residual", "retention": "retained",
        "orthogonal_error": "orthogonal",
    }  # fmt: skip
    return Table(
        head=axis_title(tables.curve),
        columns=tuple((titles[q], rows.QUANTITIES[q].meaning) for _, _, wanted in columns for q in wanted),
        groups=tuple((suite, len(wanted), group) for suite, group, wanted in columns),
        lines=tuple(_setting_lines(tables, entries)),
        title="Every suite",
    )


def full_tables(tables: Tables) -> list[Table]:
    """For each suite every network and baseline with every quantity, at the end of training."""
    record = tables.record
    last = tables.cells.groupby("key")["step"].transform("max") if len(tables.cells) else tables.cells["step"]
    final = tables.cells[tables.cells["step"] == last]
    found = []
    for suite in tables.suites:
        lines = []
        for line in final[final["suite"] == suite.name].to_dict("records"):
            cell = record.cells[int(line["key"])] if str(line["key"]).isdecimal() else None
            values = [
                Entry(
                    value_label(record, a, cell.axes.get(a)), "", _axis_order(record, a, cell.axes.get(a)), kind="text"
                )
                if cell
                else Entry("", kind="text")
                for a in record.axes
            ]
            values += [shown(q, Estimate(line[q])) for q in rows.QUANTITIES]
            head = cell.id if cell else BASELINE_TITLES.get(str(line["key"]), str(line["key"]))
            lines.append(Line(head, tuple(values), "setting" if cell else "baseline"))
        columns = [(axis_title(axis), axis) for axis in record.axes]
        columns += [(_with_unit(q.title, q.unit), q.meaning) for q in rows.QUANTITIES.values()]
        found.append(Table("network", tuple(columns), tuple(lines), title=suite.name))
    return found


def _with_unit(title: str, unit: str) -> str:
    return f"{title}, {unit}" if unit else title


def _axis_order(record: StudyRecord, axis: str, value: Any) -> float | str:
    number = record.axis_numbers.get(axis, {}).get(str(value), value)
    return float(number) if isinstance(number, int | float) else str(value)
