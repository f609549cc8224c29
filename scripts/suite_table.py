r"""The tables of the docs about studies: a line for each setting, a column for each suite; Markdown on stdout.

    .venv/bin/python scripts/suite_table.py noise-methods
    .venv/bin/python scripts/suite_table.py background-count --axis backgrounds.count --seen seen --quantity residual
    .venv/bin/python scripts/suite_table.py blur-longer --seen motion motion-across --against ordinary
    .venv/bin/python scripts/suite_table.py range-count --seen small medium large --mixed steep long \
        --against "medium, all"
    .venv/bin/python scripts/suite_table.py balance-first --seen medium --mixed steep steeper long --against ordinary

The mean over the seeds that are finished of one quantity (`unseen.rows.QUANTITIES`), by default PSNR in RGB, dB. The
mean of unseen is over every suite but the seen ones, clean photographs, and those named by `--mixed`, which some
setting has met (the page of the study finds these by itself); beside it stands half its 95 % interval over seeds (t).

`--against` compares with a setting instead, seed by seed where both are finished: the difference, and for PSNR what
becomes of the generalization error (the mean MSE of the unseen suites), and how much of the generalization gap of that
setting (its gain over the input on what is seen, less that on what is unseen) is won on the unseen. A difference is
followed by half its interval.
"""

import argparse
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from unseen.errors import UnseenError
from unseen.rows import QUANTITIES, interval, summarise
from unseen.study.record import StudyRecord, read_study

Found = dict[Any, pd.DataFrame]
"""By seed, every quantity of every suite after the last step."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", help="its name")
    parser.add_argument("--runs", type=Path, default=Path("results"))
    parser.add_argument("--axis", default="variant", help="a line for each of its values")
    parser.add_argument("--seen", nargs="+", default=["gaussian25"], help="the suites that ordinary training has seen")
    parser.add_argument("--mixed", nargs="+", default=[], help="suites that some setting has met; they count for none")
    parser.add_argument("--quantity", default="psnr_rgb", choices=list(QUANTITIES), metavar="NAME")
    parser.add_argument("--against", help="compare with this setting, seed by seed")
    given = parser.parse_args()
    try:
        record = read_study(given.runs, given.study)
    except UnseenError as error:
        raise SystemExit(str(error)) from error
    if given.axis not in record.axes:
        raise SystemExit(f"There is no axis {given.axis!r}; there are {', '.join(record.axes)}. Name one with --axis.")
    if given.against is None:
        print(table(record, given.axis, given.seen, given.mixed, given.quantity))
    else:
        print(differences(record, given.axis, given.seen, given.mixed, given.quantity, given.against))


def table(record: StudyRecord, axis: str, seen: list[str], mixed: list[str], quantity: str) -> str:
    """The quantity itself, of every setting and of the baselines."""
    suites, unseen = _suites(record, seen, mixed)
    digits = 2 if "psnr" in quantity or "gain" in quantity else 3
    rows = []
    for setting, found in _settings(record, axis).items():
        values = pd.DataFrame({seed: each.loc[suites, quantity] for seed, each in found.items()})
        rows.append([setting, str(len(found)), _spread(values.loc[unseen].mean(), digits),
                     *(_number(value, digits) for value in values.mean(axis=1))])  # fmt: skip
    baselines = summarise(record.baselines)
    for name in baselines.experiment.unique():
        values = baselines[baselines.experiment == name].set_index("suite").loc[suites, quantity]
        rows.append([name, "", _number(values.loc[unseen].mean(), digits), *(_number(each, digits) for each in values)])
    return _markdown(["", "seeds", "mean of unseen", *_heads(suites, seen, mixed)], rows)


def differences(record: StudyRecord, axis: str, seen: list[str], mixed: list[str], quantity: str, against: str) -> str:
    """Every other setting less `against`, over the seeds that both have."""
    suites, unseen = _suites(record, seen, mixed)
    settings = _settings(record, axis)
    if against not in settings:
        raise SystemExit(f"{against!r} is no finished setting; there are {', '.join(settings)}.")
    psnr, digits = "psnr" in quantity, 2 if "psnr" in quantity or "gain" in quantity else 3
    rows, base = [], settings.pop(against)
    gained = quantity.replace("psnr", "gain")  # the gap is one of gains over the input
    gaps = (
        {s: each.loc[seen, gained].mean() - each.loc[unseen, gained].mean() for s, each in base.items()} if psnr else {}
    )
    for setting, found in settings.items():
        seeds = [seed for seed in found if seed in base]
        if not seeds:
            continue
        change = pd.DataFrame({seed: found[seed][quantity] - base[seed][quantity] for seed in seeds})
        errors = [_error(found[seed], base[seed], unseen) for seed in seeds] if psnr else []
        won = change.loc[unseen].mean()
        closed = [won[seed] / gaps[seed] for seed in seeds] if psnr else []
        rows.append([setting, str(len(seeds)), _spread(won, digits, signed=True),
                     *([_percent(errors), _percent(closed)] if psnr else []),
                     *(_spread(change.T[suite], digits, signed=True) for suite in suites)])  # fmt: skip
    heads = ["", "seeds", "mean of unseen", *(["error", "gap won"] if psnr else []), *_heads(suites, seen, mixed)]
    return _markdown(heads, rows)


def _suites(record: StudyRecord, seen: list[str], mixed: list[str]) -> tuple[list[str], list[str]]:
    suites = [suite.name for suite in record.suites]
    if unknown := [name for name in (*seen, *mixed) if name not in suites]:
        raise SystemExit(
            f"No suite is called {', '.join(unknown)}; there are {', '.join(suites)}. Name them with --seen."
        )
    return suites, [name for name in suites if name not in (*seen, *mixed, "clean")]


def _settings(record: StudyRecord, axis: str) -> dict[str, Found]:
    """The finished cells of every value of the axis, and of every other axis but the seed: by size where they are
    numbers (all of them is the number there is), else in its order."""
    settings: dict[str, Found] = {}
    numbers = record.axis_numbers.get(axis, {})
    values = record.axes[axis]
    if all(str(value) in numbers for value in values):
        values = sorted(values, key=lambda value: numbers[str(value)])
    others = [other for other in record.axes if other not in (axis, "seed")]
    for value in values:
        for rest in product(*(record.axes[other] for other in others)):
            chosen = {axis: value, **dict(zip(others, rest, strict=True))}
            cells = [cell for cell in record.cells if all(cell.axes[key] == each for key, each in chosen.items())]
            found = {cell.axes.get("seed"): _last(cell.rows) for cell in cells if cell.rows is not None}
            if found:
                settings[", ".join("all" if each is None else str(each) for each in chosen.values())] = found
    return settings


def _last(rows: pd.DataFrame) -> pd.DataFrame:
    """Every quantity of each suite at the last step."""
    summary = summarise(rows)
    return summary[summary.step == summary.step.max()].set_index("suite")


def _error(found: pd.DataFrame, base: pd.DataFrame, unseen: list[str]) -> float:
    """What the mean MSE over the unseen suites has changed by, as a share of what it was."""
    return float(found.loc[unseen, "mse"].mean() / base.loc[unseen, "mse"].mean()) - 1


def _spread(values: pd.Series, digits: int, signed: bool = False) -> str:
    mean, low, high = interval(values.to_numpy())
    text = _number(mean, digits, signed)
    return text if not np.isfinite(high - low) else f"{text} +- {(high - low) / 2:.{digits}f}"


def _percent(shares: list[float]) -> str:
    mean, low, high = (100 * each for each in interval(shares))
    return f"{mean:+.1f} %" + (f" +- {(high - low) / 2:.1f}" if np.isfinite(high - low) else "")


def _number(value: float, digits: int, signed: bool = False) -> str:
    if np.isnan(value):
        return "-"
    if not np.isfinite(value):
        return ">100" if value > 0 else "<-100"
    return f"{value:+.{digits}f}" if signed else f"{value:.{digits}f}"


def _heads(suites: list[str], seen: list[str], mixed: list[str]) -> list[str]:
    said = {**dict.fromkeys(seen, "**{}** (seen)"), **dict.fromkeys(mixed, "{} (mixed)")}
    return [said.get(suite, "{}").format(suite) for suite in suites]


def _markdown(heads: list[str], rows: list[list[str]]) -> str:
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (heads, ["---", *["--:"] * (len(heads) - 1)], *rows))


if __name__ == "__main__":
    main()
