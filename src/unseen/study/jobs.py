"""What there is to do in a study, each thing claimed while it is done, and a board that says what may be begun next.

A claim is a lock on a file beside the results. The system lets go of it when its process ends, however it ends, and
then whoever claims the same cell goes on from its last saved state.
"""

import signal
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

from unseen.errors import UnseenError
from unseen.locks import taken
from unseen.study.cells import BASELINES, Event, Report, judge_baselines, run_cell
from unseen.study.cores import Sharing, share
from unseen.study.plan import Plan
from unseen.training import Interrupted, stopping

CHANCES = 2
"""How often a cell is begun whose process ends without a word, as one does that is killed for its memory."""

Outcome = Literal["done", "claimed", "failed", "stopped", "died"]


@dataclass(frozen=True)
class Job:
    """A cell, or the baselines: `work` writes `rows`, on so many `threads`, and `claim` is locked meanwhile."""

    label: str
    rows: Path
    claim: Path
    threads: int
    device: str
    work: Callable[[Report], None]

    @property
    def finished(self) -> bool:
        return self.rows.is_file()


def jobs_of(todo: Plan) -> tuple[Job, ...]:
    """What is missing: the baselines first, then the cells in their order."""
    judge, path = todo.study.judge, todo.baselines
    work = partial(judge_baselines, judge, todo.cells[0].experiment.degradation, path)
    found = [] if path.is_file() else [Job(BASELINES, path, path.parent / f".{path.stem}.lock", 1, "cpu", work)]
    for cell in todo.missing:
        folder, recipe = todo.judged(cell), cell.experiment.recipe
        work = partial(run_cell, cell, judge, folder, todo.runs)
        claim = todo.runs / cell.id / ".cell.lock"
        found.append(Job(cell.label, folder / "rows.parquet", claim, recipe.threads or 1, recipe.device, work))
    return tuple(found)


@contextmanager
def claimed(path: Path) -> Iterator[bool]:
    """Whether this process could claim what the lock file stands for; it is given back at the end."""
    lock = taken(path)
    if lock is None:
        yield False
        return
    try:
        yield True
    finally:
        lock.release()


def is_claimed(job: Job) -> bool:
    """Whether some process is at work on it now."""
    with claimed(job.claim) as free:
        return not free


def perform(
    job: Job, sharing: Sharing, stop: threading.Event, tell: Report, use: Callable[[str], None] = lambda name: None
) -> tuple[Outcome, str]:
    """Do a job, unless another process has claimed it: how it ended, and a message. Waits for its cores first.

    `stop` asks it to end between two steps. `use` is told which accelerator was chosen, where there are several.
    """
    around = signal.getsignal(signal.SIGTERM)

    def forward(event: Event) -> bool | None:
        answer = tell(event)
        if stop.is_set() and signal.getsignal(signal.SIGTERM) is not around:
            signal.raise_signal(signal.SIGTERM)  # asked before the work began to listen: asked again
        return answer

    def note(message: str) -> None:
        tell(Event("", "note", message=message))

    try:
        if job.finished:
            return "done", ""
        if is_claimed(job):  # no queueing for cores that it would not use
            return "claimed", ""
        with share(job.threads, job.device, sharing, stop, note) as accelerator, claimed(job.claim) as mine:
            if not mine:
                return "claimed", ""
            if stop.is_set():
                raise Interrupted("Stopped before this cell began. Run the same command again to go on.")
            if accelerator is not None:
                use(accelerator)
            if not job.finished:
                job.work(forward)
        return "done", ""
    except Interrupted as error:
        return "stopped", str(error)
    except Exception as error:  # one cell that runs out of memory does not hold up the others
        return "failed", str(error) if isinstance(error, UnseenError) else f"{type(error).__name__}: {error}"


class Board:
    """What is waiting, what others have claimed, and what has failed. What others have claimed comes last, and is
    waited for: it is begun here if they end without finishing it."""

    def __init__(self, jobs: Sequence[Job], tell: Report) -> None:
        self.waiting, self.claimed, self.running = deque(jobs), list[Job](), 0
        self.failures: dict[str, str] = {}
        self.cancelled = set[str]()
        """Labels of what is to end early; a pool asks it to."""
        self.stopped: str | None = None
        self._deaths, self._told, self._looked, self._tell = Counter[str](), False, 0.0, tell
        self._notes = set[str]()

    @property
    def over(self) -> bool:
        return not (self.waiting or self.claimed or self.running)

    def next(self, fits: Callable[[Job], bool] = lambda job: True) -> Job | None:
        """The job to begin now; None where there is none, or the first one does not fit yet."""
        if not self.waiting and self.claimed and time.monotonic() - self._looked > 1:
            self._look()
        if not self.waiting or not fits(self.waiting[0]):
            return None
        self.running += 1
        return self.waiting.popleft()

    def _look(self) -> None:
        self.claimed = [job for job in self.claimed if not job.finished]
        free = [job for job in self.claimed if not is_claimed(job)]
        self.claimed = [job for job in self.claimed if job not in free]
        self.waiting.extend(free)
        self._looked = time.monotonic()
        if self.claimed and not self.waiting and not self.running and not self._told:
            self._told = True
            names = "; ".join(job.label for job in self.claimed)
            self.tell(Event("", "note", message=f"Waiting for what another process is at work on: {names}."))

    def tell(self, event: Event) -> bool | None:
        """Pass on news; the same note is told once."""
        if event.kind == "note" and event.message in self._notes:
            return None
        if event.kind == "note":
            self._notes.add(event.message)
        return self._tell(event)

    def ended(self, job: Job, outcome: Outcome, message: str) -> None:
        """Take down how a job ended."""
        self.running -= 1
        if outcome == "claimed":
            self.claimed.append(job)
        elif outcome == "stopped":
            self.stopped = message
        elif outcome == "died":
            self._deaths[job.label] += 1
            if self._deaths[job.label] < CHANCES:
                self.tell(Event("", "note", message=f"{message} It is begun once more: {job.label}."))
                self.waiting.appendleft(job)
                return
            outcome, message = "failed", f"{message} Run the same command again with fewer --workers."
        if outcome == "failed":
            self.failures[job.label] = message
            self.tell(Event(job.label, "failed", message=message))

    def drop(self) -> None:
        """Begin nothing more."""
        self.waiting.clear()
        self.claimed.clear()


def run_here(board: Board, sharing: Sharing) -> dict[str, str]:
    """Do what is on the board, one after another in this process: what failed, by label. Raises Interrupted."""
    with stopping((signal.SIGINT,)) as stop:
        while not board.over:
            if (job := board.next()) is not None:
                board.ended(job, *perform(job, sharing, stop, board.tell))
            else:
                stop.wait(0.2)
            if stop.is_set() or board.stopped is not None:
                raise Interrupted(board.stopped or "Stopped. Run the same command again to go on.")
    return board.failures
