"""What a study comes down to on this machine: its cells with their names, and which of them are finished."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unseen import training
from unseen.backgrounds import Backgrounds
from unseen.data import StoredPairs
from unseen.errors import ConfigError
from unseen.experiment import Experiment
from unseen.study.study import Study

COUNT = "backgrounds.count"
"""The axis on which None means all."""


@dataclass(frozen=True)
class Cell:
    """A cell with its name: `experiment` is resolved, and has so many `backgrounds`."""

    axes: dict[str, Any]
    experiment: Experiment
    backgrounds: int

    @property
    def id(self) -> str:
        return self.experiment.id

    @property
    def label(self) -> str:
        """Its place on the axes, for people."""
        return ", ".join(
            f"{key.split('.')[-1]} {('all' if key == COUNT else 'none') if value is None else value}"
            for key, value in self.axes.items()
        )


@dataclass(frozen=True)
class Plan:
    """What a study comes down to on this machine: its cells with their names, and which of them are finished."""

    study: Study
    runs: Path
    cells: tuple[Cell, ...]
    images: Backgrounds
    judge_id: str

    @property
    def folder(self) -> Path:
        return self.runs / "studies" / self.study.name

    @property
    def baselines(self) -> Path:
        """Their rows hang on the rain that is seen, too, which the judge leaves open."""
        seen = self.cells[0].experiment.degradation.model_dump_json(exclude={"name"})
        return self.folder / f"baselines-{self.judge_id}-{hashlib.sha256(seen.encode()).hexdigest()[:8]}.parquet"

    def judged(self, cell: Cell) -> Path:
        return self.runs / cell.id / "judged" / self.judge_id

    def finished(self, cell: Cell) -> bool:
        return (self.judged(cell) / "rows.parquet").is_file()

    @property
    def missing(self) -> tuple[Cell, ...]:
        return tuple(cell for cell in self.cells if not self.finished(cell))


def plan(study: Study, runs: str | Path = "runs") -> Plan:
    """Resolve every cell; one whose recipe names no threads gets one. Reads the backgrounds, trains nothing."""
    known: dict[str, tuple[str, int]] = {}  # content and number, not the images: they may be many
    cells = []
    for axes, experiment in study.cells():
        if experiment.synthetic and experiment.backgrounds.shares_images_with(study.judge.images):
            raise ConfigError(
                f"The images that study {study.name} judges on are those it trains on: unseen means disjoint. "
                "Give judge.images 'part: test', and both the same holdout."
            )
        content, number, pairs_content = None, 0, None
        if experiment.synthetic:
            key = experiment.backgrounds.model_dump_json()
            if key not in known:
                backgrounds = Backgrounds(experiment.backgrounds)
                known[key] = backgrounds.content_hash, len(backgrounds)
            content, number = known[key]
        if experiment.pairs is not None:
            key = experiment.pairs.model_dump_json(include={"folders"})
            if key not in known:
                pairs = StoredPairs(experiment.pairs)
                known[key] = pairs.content_hash, len(pairs)
            pairs_content, _ = known[key]
        named = training.named(experiment, content, threads=1, pairs_content=pairs_content)
        cells.append(Cell(axes, named, number))
    images = Backgrounds(study.judge.images)
    return Plan(study, Path(runs), tuple(cells), images, study.judge.id(images.content_hash, images.names))
