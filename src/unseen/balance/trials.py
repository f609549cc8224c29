"""A trial: an experiment of the search, trained and judged on what was held out, in `runs/<id>` like a study's cell.

```
<run>/balance-<judge>-<step>.json      # dB by suite after so many steps, written whole
```
"""

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from statistics import fmean

import torch

from unseen import training
from unseen.backgrounds import Backgrounds
from unseen.balance.space import ORDINARY, Params, Space
from unseen.checkpoints import load_checkpoint, restorer
from unseen.data import StoredPairs
from unseen.errors import NotFiniteError
from unseen.evaluation.evaluate import evaluate
from unseen.evaluation.suites import Suite
from unseen.rows import summarise
from unseen.study.cells import Event, Report
from unseen.study.jobs import Job

RUNG = "rung"
"""The kind of news that a trial was judged at a rung; who is told answers False to end it there."""

DIVERGED = "diverged"
"""The kind of news that the loss of a trial, or what it restores, is not finite; `message` says where."""


@dataclass(frozen=True)
class Sitting:
    """Who judges trials, and where they lie: the space, the folder of runs, the judge's name, and the hashes of the
    backgrounds that trials choose from, and of the pairs they are mixed with (None: none)."""

    space: Space
    runs: Path
    judge: str
    backgrounds: str
    pairs: str | None = None
    contents: dict[str, str] = field(default_factory=dict, compare=False, repr=False)
    """The hash of backgrounds by their configuration: images are read for it once in a search."""

    @classmethod
    def of(cls, space: Space, runs: Path) -> "Sitting":
        judge = space.judge()
        images = Backgrounds(judge.images)
        pool = space.trial(ORDINARY).backgrounds
        content = Backgrounds(pool).content_hash
        name = judge.id(images.content_hash, images.names)
        pairs = None if space.experiment.pairs is None else StoredPairs(space.experiment.pairs).content_hash
        return cls(space, runs, name, content, pairs, {pool.model_dump_json(): content})

    @property
    def suites(self) -> tuple[Suite, ...]:
        """What a trial is judged on, the narrow degradation first."""
        return tuple(s for s in self.space.judge().resolve(self.space.experiment.degradation) if isinstance(s, Suite))

    def folder(self, params: Params) -> Path:
        """The run of a trial."""
        experiment = self.space.trial(params)
        key = experiment.backgrounds.model_dump_json()
        if key not in self.contents:
            self.contents[key] = Backgrounds(experiment.backgrounds).content_hash
        return self.runs / training.named(experiment, self.contents[key], pairs_content=self.pairs).id

    def file(self, folder: Path, step: int) -> Path:
        return folder / f"balance-{self.judge}-{step}.json"

    def known(self, folder: Path, step: int) -> dict[str, float] | None:
        """dB by suite after so many steps, if that was judged."""
        with suppress(OSError, ValueError, AttributeError):
            found = json.loads(self.file(folder, step).read_text())
            return {str(suite): float(value) for suite, value in found.items()}
        return None

    def job(self, params: Params, label: str) -> Job:
        """The trial as what a pool of processes does: finished where it was judged after its last step."""
        folder, recipe = self.folder(params), training.resolve(self.space.trial(ORDINARY), "").recipe
        return Job(
            label, self.file(folder, recipe.steps), folder / ".cell.lock", recipe.threads or 1, recipe.device,
            partial(_work, self, params, label),
        )  # fmt: skip


def _work(sitting: Sitting, params: Params, label: str, tell: Report) -> None:
    """A trial; that it diverges is what has come of it, and nothing that another try would mend."""
    try:
        run_trial(sitting, params, label, tell)
    except NotFiniteError as error:
        tell(Event(label, DIVERGED, message=str(error)))


def run_trial(sitting: Sitting, params: Params, label: str, tell: Report) -> None:
    """Train a trial and judge it at every rung and at its end. Ends early where `tell` answers a rung with False.

    Interrupted after Ctrl-C, with everything saved. NotFiniteError where the loss, or what is restored, is not finite.
    """
    experiment = sitting.space.trial(params)
    recipe, steps = experiment.recipe, experiment.recipe.steps

    def progress(done: int, loss: float) -> None:
        tell(Event(label, "train", done, steps, loss))

    def rung(step: int, path: Path) -> bool:
        _judge(sitting, path, path.parent.parent, step, label, tell)
        return tell(Event(label, RUNG, step, steps)) is not False

    def watch(step: int, path: Path) -> bool:
        return sitting.known(path.parent.parent, step) is not None or rung(step, path)  # told before training went on

    folder = sitting.folder(params)
    finished = training.Trained(experiment, folder).checkpoint.is_file()
    with training.using_threads(recipe.threads):
        for step in recipe.snapshots:
            path = folder / training.SNAPSHOTS / f"{step}.safetensors"
            left = path.is_file() and not finished  # interrupted while it was judged, it may be: training is past it
            if (left or sitting.known(folder, step) is not None) and not rung(step, path):
                tell(Event(label, "done"))
                return
        trained = training.train(experiment, sitting.runs, watch=watch, progress=progress)
        for step in recipe.snapshots:  # of a run that was there before, or had been judged by another judge
            path = trained.folder / training.SNAPSHOTS / f"{step}.safetensors"
            if path.is_file() and sitting.known(trained.folder, step) is None:
                watch(step, path)
        if trained.checkpoint.is_file():
            _judge(sitting, trained.checkpoint, trained.folder, steps, label, tell)
    tell(Event(label, "done"))


def _judge(sitting: Sitting, path: Path, folder: Path, step: int, label: str, tell: Report) -> None:
    """PSNR by suite, on the family's channels, to a file of its own; nothing where that is there."""
    if sitting.known(folder, step) is not None:
        return
    space, judge, suites = sitting.space, sitting.space.judge(), sitting.suites
    images = Backgrounds(judge.images)
    total, judged = sum(suite.size(images, judge.limit) for suite in suites), 0
    checkpoint = load_checkpoint(path, space.experiment.recipe.device.replace("auto", "cpu"))
    recipe = checkpoint.experiment.recipe
    with training.stopping() as stop, torch.inference_mode():

        def progress(suite: str, count: int) -> None:
            nonlocal judged
            judged += count
            tell(Event(label, "judge", judged, total))
            if stop.is_set():
                raise training.Interrupted(f"Stopped while judging {label}. Run the same command again to go on.")

        rows = evaluate(
            restorer(checkpoint.network, recipe.device, recipe.precision), suites, images, crop=judge.crop,
            limit=judge.limit, seed=judge.seed, draws=1, ssim=False, baselines=False, progress=progress,
        )  # fmt: skip
    summary = summarise(rows).set_index("suite")
    quantity = f"psnr_{space.experiment.degradation.color}"
    found = {suite.name: float(summary.loc[suite.name, quantity]) for suite in suites}  # pyright: ignore
    training.write_json(sitting.file(folder, step), found)


def worth(mine: Mapping[str, float], ordinary: Mapping[str, float], space: Space) -> float:
    """dB: what is won over ordinary training on pseudo-unseen suites, on average over those that lie beyond in one
    factor, in several, and in all, each kind counting as much; less twice what is lost beyond what the space allows on
    the narrow degradation, and, on average, on each of those suites. The experiment that comes out widens further than
    a trial may, and is taken to lose more on the narrow degradation in proportion."""
    won = {suite: mine[suite] - ordinary[suite] for suite in mine}
    unseen = {suite: value for suite, value in won.items() if suite != NARROW}
    lost = [max(0.0, -value - space.worse) for value in unseen.values()]
    kinds, by_kind = space.kinds, dict[int, list[float]]()
    for suite, value in unseen.items():
        by_kind.setdefault(kinds.get(suite, 0), []).append(value)
    mean = fmean(map(fmean, by_kind.values()))
    return mean - PENALTY * (max(0.0, -won[NARROW] / space.reach - space.allowed) + sum(lost) / len(lost))


NARROW = "narrow"
"""What the suite of ordinary training's own degradation is called."""

PENALTY = 2.0
"""How much a dB that is lost beyond what is allowed counts against a dB that is won."""
