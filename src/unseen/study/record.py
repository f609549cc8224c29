"""What a study leaves on disk, read back without torch: all that a report works from.

```
runs/<id>/experiment.json  environment.json  model.safetensors  log.csv  snapshots/<step>.safetensors
runs/<id>/judged/<judge>/rows.parquet         # written whole, by rename: present = done
runs/<id>/judged/<judge>/pictures/<suite>.png # the restored sample of each suite
runs/studies/<name>/study.json
runs/studies/<name>/baselines-<judge>-<seen>.parquet # rows of identity, median, box blur
runs/studies/<name>/pictures/<baselines>/<suite>-{degraded,clean,mask}.png
```
"""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas

from unseen.errors import StudyError
from unseen.rows import COLUMNS, read_rows

BASELINES = ("identity", "median", "box")


@dataclass(frozen=True)
class SuiteRecord:
    """A named test: `group` is "seen", "unseen" or "clean" (clean images in, do-no-harm).

    `outside` names the factors in which it lies outside the training degradation (computed), e.g. ("direction",).
    `varies`: it is what each cell was trained on, and these differ, so that only gains over the input can be compared.
    """

    name: str
    group: str
    description: str
    outside: tuple[str, ...] = ()
    images: int = 0
    varies: bool = False


@dataclass(frozen=True)
class CellRecord:
    """One trained network. `axes` holds its value on every axis of the study, e.g. {"backgrounds.count": 8, "seed": 0};
    None on an axis means "all" (the label in `axis_labels` says so). `rows` is None until it is done, `log` until it
    has begun."""

    id: str
    axes: dict[str, Any]
    experiment: dict[str, Any]
    rows: pandas.DataFrame | None
    log: pandas.DataFrame | None
    environment: dict[str, Any] = field(default_factory=dict)
    pictures: dict[str, Path] = field(default_factory=dict)
    seconds: float | None = None


@dataclass(frozen=True)
class StudyRecord:
    """A study and all its cells, finished or not.

    `curve` is the axis drawn along x (it is not "seed"); `reference` is the value on it that stands for ordinary
    training. `axis_labels[axis][str(value)]` is how a value is written, and `axis_numbers[axis][str(value)]` where
    it lies on an axis of numbers (None: "all" lies at the number of backgrounds there are).
    """

    name: str
    question: str
    axes: dict[str, list[Any]]
    curve: str
    reference: Any
    axis_labels: dict[str, dict[str, str]]
    axis_numbers: dict[str, dict[str, float]]
    suites: tuple[SuiteRecord, ...]
    cells: tuple[CellRecord, ...]
    baselines: pandas.DataFrame
    pictures: dict[str, dict[str, Path]]
    command: str
    notes: tuple[str, ...] = ()


def read_study(runs: str | Path, name: str) -> StudyRecord:
    """Everything a study has left on disk so far. StudyError where there is none of that name."""
    runs = Path(runs)
    folder = runs / "studies" / name
    try:
        value = json.loads((folder / "study.json").read_text())
    except FileNotFoundError as error:
        known = sorted(path.parent.name for path in runs.glob("studies/*/study.json"))
        raise StudyError(
            f"There is no study {name!r} in {runs}. "
            + (f"There are: {', '.join(known)}." if known else "Run one first: unseen study run FILE.")
        ) from error
    except (OSError, ValueError) as error:
        raise StudyError(
            f"{folder / 'study.json'} cannot be read ({error}). Run the study again to write it anew."
        ) from error
    if missing := {"study", "judge", "baselines", "suites", "cells"} - set(value):
        raise StudyError(
            f"{folder / 'study.json'} lacks {', '.join(sorted(missing))}. Run the study again to write it anew."
        )
    study, judge = value["study"], value["judge"]
    baselines = folder / value["baselines"]
    return StudyRecord(
        name=study["name"],
        question=study["question"],
        axes=study["axes"],
        curve=study["curve"],
        reference=study["reference"],
        axis_labels=value["axis_labels"],
        axis_numbers=value["axis_numbers"],
        suites=tuple(SuiteRecord(**{**suite, "outside": tuple(suite["outside"])}) for suite in value["suites"]),
        cells=tuple(_read_cell(runs / cell["id"], cell["axes"], judge) for cell in value["cells"]),
        baselines=read_rows(baselines) if baselines.is_file() else pandas.DataFrame(columns=list(COLUMNS)),
        pictures={
            suite["name"]: {
                kind: path
                for kind in ("degraded", "clean", "mask")
                if (path := folder / "pictures" / baselines.stem / f"{suite['name']}-{kind}.png").is_file()
            }
            for suite in value["suites"]
        },
        command=value["command"],
        notes=tuple(value.get("notes", ())),
    )


def _read_cell(home: Path, axes: dict[str, Any], judge: str) -> CellRecord:
    def read(name: str) -> dict[str, Any]:
        path = home / name
        return json.loads(path.read_text()) if path.is_file() else {}

    judged = home / "judged" / judge
    rows, log = judged / "rows.parquet", home / "log.csv"
    environment = read("environment.json")
    return CellRecord(
        id=home.name,
        axes=axes,
        experiment=read("experiment.json"),
        rows=read_rows(rows) if rows.is_file() else None,
        log=pandas.read_csv(log) if log.is_file() and log.stat().st_size else None,
        environment=environment,
        pictures={path.stem: path for path in sorted(judged.glob("pictures/*.png"))},
        seconds=environment.get("seconds"),
    )
