"""The tables of docs/noise-studies.md and blur-studies.md: a line for each setting of a study, a column for each suite;
Markdown on stdout.

    .venv/bin/python scripts/suite_table.py noise-methods --axis variant
    .venv/bin/python scripts/suite_table.py blur-long --seen motion motion-across

PSNR in RGB, dB: the mean over the seeds that are finished. The mean of unseen is over every suite but the seen ones and
clean photographs, whatever a setting was trained on; the study's own page leaves out what any of its networks has met.
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd

from unseen.rows import summarise
from unseen.study.record import read_study


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", help="its name")
    parser.add_argument("--runs", type=Path, default=Path("results"))
    parser.add_argument("--axis", default="variant", help="a line for each of its values")
    parser.add_argument("--seen", nargs="+", default=["gaussian25"], help="the suites that ordinary training has seen")
    given = parser.parse_args()
    print(table(given.study, given.runs, given.axis, given.seen))


def table(study: str, runs: Path, axis: str, seen: list[str]) -> str:
    record = read_study(runs, study)
    suites = [suite.name for suite in record.suites]
    unseen = [name for name in suites if name not in (*seen, "clean")]
    lines: list[tuple[object, int | None, pd.DataFrame]] = []
    for value in record.axes[axis]:
        found = [_last(cell.rows) for cell in record.cells if cell.axes[axis] == value and cell.rows is not None]
        if found:
            lines.append((value, len(found), pd.concat(found, axis=1).loc[suites]))
    baselines = summarise(record.baselines)
    for name in baselines.experiment.unique():
        found = baselines[baselines.experiment == name].set_index("suite")[["psnr_rgb"]]
        lines.append((name, None, found.loc[suites]))
    heads = [
        "",
        "seeds",
        "mean of unseen",
        "range over seeds",
        *(f"**{s}** (seen)" if s in seen else s for s in suites),
    ]
    rows = [_line(who, seeds, found, unseen) for who, seeds, found in lines]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (heads, ["---", *["--:"] * (len(heads) - 1)], *rows))


def _last(rows: pd.DataFrame) -> pd.Series:
    """PSNR of each suite at the last step."""
    summary = summarise(rows)
    return summary[summary.step == summary.step.max()].set_index("suite")["psnr_rgb"]


def _line(value: object, seeds: int | None, found: pd.DataFrame, unseen: list[str]) -> list[str]:
    means = found.loc[unseen].mean()
    spread = f"{means.min():.2f} to {means.max():.2f}" if seeds and seeds > 1 else "-"
    each = [f"{psnr:.2f}" if np.isfinite(psnr) else ">100" for psnr in found.mean(axis=1)]
    return ["all" if value is None else str(value), str(seeds or ""), f"{means.mean():.2f}", spread, *each]


if __name__ == "__main__":
    main()
