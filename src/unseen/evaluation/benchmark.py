"""Judge a model and say all that others need to check it: one `Result`, and the pictures to look at."""

import hashlib
import json
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas
import torch

from unseen.backgrounds import Backgrounds
from unseen.degradations import AnyDegradation, Rain
from unseen.evaluation.baselines import BASELINES
from unseen.evaluation.evaluate import evaluate, show
from unseen.evaluation.restored import RestoredFolder
from unseen.evaluation.suites import COLLECTIONS, PUBLIC, AnySuite, Judge, PairSuite, identity_of
from unseen.leaks import Leak
from unseen.pair_folder import PairFolderConfig
from unseen.results import ModelInfo, Picture, Result, SuiteInfo, result_of
from unseen.types import Images, Restorer

SCALE = 0.5
"""The scale at which named rains make up the collection `unseen-rain`."""

SHOWN = 3
"""Pictures shown of every suite: the images that were restored worst."""


@dataclass
class Timed:
    """A restorer, and how long it took for how much."""

    restorer: Restorer
    seconds: float = 0.0
    pixels: int = 0

    def __call__(self, degraded: Images) -> Images:
        began = time.perf_counter()
        restored = self.restorer(degraded)
        if restored.device.type == "cuda":
            torch.cuda.synchronize()
        self.seconds += time.perf_counter() - began
        self.pixels += degraded.shape[0] * degraded.shape[2] * degraded.shape[3]
        return restored

    @property
    def seconds_per_megapixel(self) -> float | None:
        return self.seconds / self.pixels * 1e6 if self.pixels else None


@dataclass(frozen=True)
class Benchmark:
    """Suites over images, made ready once for any number of models.

    `seen` names the suites that other people's weights were trained on, which do not tell: all others are unseen for
    them. None: that is not known.
    """

    judge: Judge
    images: Backgrounds | None
    seen: tuple[str, ...] | None = None
    environment: dict[str, Any] = field(default_factory=dict)
    command: str = ""
    date: str = ""
    _baselines: dict[str, pandas.DataFrame] = field(default_factory=dict, init=False, repr=False, compare=False)

    def suites(self, trained: AnyDegradation | None) -> tuple[AnySuite, ...]:
        """The suites for a model trained on `trained` (None: not known, and "seen" is then medium rain)."""
        return self.judge.resolve(trained or Rain.preset("medium", self.judge.scale))

    def size(self, trained: AnyDegradation | None = None) -> int:
        """How many images are judged for one model."""
        return sum(suite.size(self.images, self.judge.limit) for suite in self.suites(trained))

    def infos(
        self, trained: AnyDegradation | None, pairs: Collection[PairFolderConfig] | None = None
    ) -> tuple[SuiteInfo, ...]:
        """What each suite is, so that anybody can make it again. For `pairs` see `run`."""
        folders = {config.place for config in pairs or ()}
        own = [
            suite.name
            for suite in self.suites(trained)
            if isinstance(suite, PairSuite) and suite.pairs.place in folders
        ]
        if trained is not None or pairs is not None:  # of one of ours it is computed
            known = None if pairs is None else set(own)
        else:
            known = None if self.seen is None else set(self.seen)
        return tuple(self._info(suite, trained, known) for suite in self.suites(trained))

    def _info(self, suite: AnySuite, trained: AnyDegradation | None, seen: Collection[str] | None) -> SuiteInfo:
        pairs = isinstance(suite, PairSuite)
        definition: dict[str, Any] = {**identity_of(suite), "limit": self.judge.limit}
        if not pairs:
            assert self.images is not None
            definition |= {"images": self.images.content_hash, "crop": self.judge.crop, "seed": self.judge.seed}
        official = suite == PUBLIC.get(suite.name) if pairs else self.judge.scale == SCALE
        return SuiteInfo(
            name=suite.name,
            kind="pairs" if pairs else "synthetic",
            group=_group(suite, trained, seen),
            outside=() if trained is None or suite.name in (seen or ()) else suite.outside(trained),
            definition=definition,
            content=hashlib.sha256(json.dumps(definition, sort_keys=True).encode()).hexdigest()[:16],
            images=suite.size(self.images, self.judge.limit),
            color=suite.color,
            border=suite.border,
            align=suite.align if isinstance(suite, PairSuite) else False,
            mask=_mask(suite),
            collections=tuple(name for name, members in COLLECTIONS.items() if official and suite.name in members),
        )

    def clean_images(self) -> Iterable[tuple[str, Any]]:
        """Every clean image that is judged on, once: (name, uint8 (h, w, 3)), for the search for leaks."""
        suites = self.suites(None)
        if self.images is not None and any(not isinstance(suite, PairSuite) for suite in suites):
            for index, name in enumerate(self.images.names):
                yield name, self.images.image(index)
        for suite in suites:
            if isinstance(suite, PairSuite):
                for name, image in suite.open().clean_images():
                    yield f"{suite.name}/{name}", image

    def run(
        self,
        model: ModelInfo,
        restorer: Restorer | RestoredFolder,
        trained: AnyDegradation | None = None,
        *,
        pairs: Collection[PairFolderConfig] | None = None,
        leaks: Sequence[Leak] | None = None,
        notes: Sequence[str] = (),
        progress: Callable[[str, int], None] | None = None,
    ) -> tuple[Result, pandas.DataFrame]:
        """Judge a model with the baselines beside it: its result, and the rows it was made of.

        `trained` is the synthetic degradation it was trained on, `pairs` the folders; both None: that is not known.
        Other pairs of those folders are seen; without `trained`, every synthetic suite is unseen.
        """
        infos = self.infos(trained, pairs)
        if isinstance(restorer, RestoredFolder):
            restorer.expect([info.name for info in infos])
        timed = restorer if isinstance(restorer, RestoredFolder) else Timed(restorer)
        rows = self._rows(timed, model.name, model.step, self.suites(trained), progress)
        result = result_of(
            rows,
            model,
            infos,
            environment=self.environment,
            command=self.command,
            date=self.date,
            seconds_per_megapixel=timed.seconds_per_megapixel if isinstance(timed, Timed) else None,
            leaks=leaks,
            notes=notes,
            collections=COLLECTIONS,
        )
        return result, rows

    def _rows(
        self,
        restorer: Any,
        name: str,
        step: int,
        suites: Sequence[AnySuite],
        progress: Callable[[str, int], None] | None,
    ) -> pandas.DataFrame:
        judge, parts = self.judge, []
        for suite in suites:
            key = json.dumps(identity_of(suite), sort_keys=True)
            found = evaluate(
                restorer, [suite], self.images, crop=judge.crop, limit=judge.limit, seed=judge.seed,
                draws=judge.draws, name=name, step=step, baselines=key not in self._baselines, progress=progress,
            )  # fmt: skip
            parts.append(found)
            if key in self._baselines:  # they do the same to the same images, whatever the model
                known = self._baselines[key]
                parts.append(known[known.experiment != name])
            elif name not in BASELINES:
                self._baselines[key] = found[found.experiment != name]
        return pandas.concat(parts, ignore_index=True)

    def pictures(
        self,
        name: str,
        restorer: Restorer | RestoredFolder,
        trained: AnyDegradation | None,
        wanted: Mapping[str, Sequence[str]],
    ) -> Iterator[Picture]:
        """The images that `wanted` names, by suite, restored once more."""
        judge, suites = self.judge, self.suites(trained)
        for one in show(restorer, suites, self.images, wanted, crop=judge.crop, limit=judge.limit, seed=judge.seed):
            yield Picture(name, one.suite, one.image, one.degraded, one.restored, one.clean)


def worst_images(rows: pandas.DataFrame, names: Collection[str]) -> dict[str, list[str]]:
    """Of every suite the `SHOWN` images on which some restorer of these names gains least, in RGB: the same images for
    all, to compare them."""
    mine = rows[rows.experiment.isin(names)]
    after, before = (
        mine[mine.metric == metric].set_index(["experiment", "suite", "image"]).value
        for metric in ("psnr_rgb", "input_psnr_rgb")
    )
    least = (after - before).groupby(level=["suite", "image"], sort=False).min()
    return {
        str(suite): [str(image) for image in its.droplevel(0).sort_values(kind="stable").index[:SHOWN]]
        for suite, its in least.groupby(level=0, sort=False)
    }


def _group(suite: AnySuite, trained: AnyDegradation | None, seen: Collection[str] | None) -> Any:
    """`seen` are the suites known to be so; None: nothing is known but `trained`."""
    if suite.group(Rain()) == "clean":
        return "clean"
    if suite.name in (seen or ()):
        return "seen"
    if trained is None:
        return "unknown" if seen is None else "unseen"
    return suite.group(trained)


def _mask(suite: AnySuite) -> Any:
    if not isinstance(suite, PairSuite):
        return "rendered"
    folder = suite.open()
    return "file" if len(folder) and folder.read(0).mask is not None else "estimated"
