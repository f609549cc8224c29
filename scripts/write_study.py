"""Write down a study and its report without training anything: rows that are there are shown, the rest is missing.

    UNSEEN_DATA=/path/to/data .venv/bin/python scripts/write_study.py studies/balance-rain.yaml

For studies whose cells were run in parts, on several machines or on several days.
"""

import argparse
from pathlib import Path

from unseen.report.page import write_report
from unseen.study.record import read_study
from unseen.study.run import ceiling_notes, leak_notes, noted, plan, write_study
from unseen.study.study import load_study


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", type=Path, help="its YAML")
    parser.add_argument("--runs", type=Path, default=Path("results"))
    given = parser.parse_args()
    study = load_study(given.study)
    todo = plan(study, given.runs)
    if (notes := noted(todo)) is None:
        notes = (*leak_notes(todo, True), *ceiling_notes(todo, lambda event: None))
    write_study(todo, f"unseen study run {given.study} --runs {given.runs}", notes)
    record = read_study(given.runs, study.name)
    page = write_report(record, given.runs / "studies" / study.name / "report")
    done = sum(cell.rows is not None for cell in record.cells)
    print(f"{done} of {len(record.cells)} cells are done: {page}")


if __name__ == "__main__":
    main()
