"""Cells side by side on one machine, each in a process of its own, with no more threads in all than there are cores."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess

from unseen.study.cells import BASELINES, Event, Report
from unseen.study.cores import Sharing, accelerators, check_fits, cores
from unseen.study.jobs import Board, Job, perform, run_here
from unseen.training import Interrupted, stopping

THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
"""What says how many threads a process starts; read when torch is imported."""


@dataclass(eq=False)
class _Worker:
    process: SpawnProcess
    connection: Connection
    threads: int
    job: Job | None = None
    bound: bool = False  # to an accelerator: a process cannot change the one it has begun to use
    leaving: bool = False  # it was asked to end its job early, and ends with it


def run_on_cores(jobs: Sequence[Job], workers: int | None, sharing: Sharing, tell: Report) -> dict[str, str]:
    """Do the jobs, at most `workers` at a time and no more than fit this machine: what failed, by label.

    Raises Interrupted after Ctrl-C, with everything saved.
    """
    return run_board(Board(jobs, tell), jobs, workers, len(jobs), sharing)


def run_board(board: Board, like: Sequence[Job], workers: int | None, count: int, sharing: Sharing) -> dict[str, str]:
    """Do what the board gives, up to `count` jobs `like` these in threads and devices; otherwise as `run_on_cores`."""
    check_fits(max((job.threads for job in like), default=1))
    fit = at_a_time(like, sharing)
    if workers is not None and workers > fit < count:
        board.tell(Event("", "note", message=f"{workers} workers were asked for; {fit} fit this machine."))
    size = min(fit, workers or fit, count)
    devices = {job.device for job in like}
    if size > 1 or any(len(accelerators(device)) > 1 for device in devices):
        return _side_by_side(board, devices, size, sharing)
    return run_here(board, sharing)


def at_a_time(jobs: Sequence[Job], sharing: Sharing) -> int:
    """How many of the cells fit this machine at a time, at least one."""
    cells = [job for job in jobs if job.label != BASELINES] or jobs
    fit = len(cores()) // min((job.threads for job in cells), default=1)
    if cells and all(job.device != "cpu" for job in cells):
        fit = min(fit, len(accelerators(cells[0].device)) * sharing.at_a_time)
    return max(1, fit)


def _side_by_side(board: Board, devices: set[str], size: int, sharing: Sharing) -> dict[str, str]:
    crew = list[_Worker]()
    have = len(cores())
    places = {device: len(accelerators(device)) * sharing.at_a_time for device in devices - {"cpu"}}

    def fits(job: Job) -> bool:
        busy = [worker.job for worker in crew if worker.job is not None]
        beside = sum(other.device == job.device for other in busy)
        threads = job.threads + sum(other.threads for other in busy)
        return not busy or (len(busy) < size and threads <= have and beside < places.get(job.device, size))

    with stopping((signal.SIGINT,)) as stop:
        asked = False
        try:
            while not board.over:
                if stop.is_set():
                    board.drop()
                    if not asked:
                        asked = True
                        for worker in crew:
                            worker.process.terminate()  # asks: training saves its state, and ends
                while not stop.is_set() and (job := board.next(fits)) is not None:
                    _give(job, crew, sharing)
                ready = wait([worker.connection for worker in crew], timeout=0.2)
                for worker in [worker for worker in crew if worker.connection in ready]:
                    _hear(worker, crew, board, stop)
                for worker in crew:
                    if worker.job is not None and worker.job.label in board.cancelled and not worker.leaving:
                        worker.leaving = True
                        worker.process.terminate()
        finally:
            for worker in crew:
                worker.connection.close()  # who waits for work ends
                if worker.job is not None:
                    worker.process.kill()
                worker.process.join()
    if board.stopped is not None or stop.is_set():
        raise Interrupted("Stopped; every cell is saved. Run the same command again to go on.")
    return board.failures


def _give(job: Job, crew: list[_Worker], sharing: Sharing) -> None:
    """Have a job done: by a process that waits for work and suits it, else by a new one in its place."""
    idle = [worker for worker in crew if worker.job is None]
    worker = next((each for each in idle if each.threads == job.threads and not each.bound), None)
    if worker is None:
        for useless in idle[:1]:
            crew.remove(useless)
            useless.connection.close()
            useless.process.join()
        worker = _hired(job.threads, sharing)
        crew.append(worker)
    worker.job, worker.bound = job, job.device == "cuda"
    with suppress(OSError):  # it has ended: that is heard next
        worker.connection.send(job)


def _hired(threads: int, sharing: Sharing) -> _Worker:
    context = multiprocessing.get_context("spawn")
    connection, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs, sharing))
    with _inherited(threads):
        process.start()
    theirs.close()  # so that the end of the process is the end of what it says
    return _Worker(process, connection, threads)


@contextmanager
def _inherited(threads: int) -> Iterator[None]:
    """What a process started now finds: how many threads to start, and a deaf ear for Ctrl-C, which reaches every
    process of a terminal. Only the first one listens, and asks the others to stop."""
    before = {name: os.environ.get(name) for name in THREADS}
    listens = threading.current_thread() is threading.main_thread()
    handler = signal.signal(signal.SIGINT, signal.SIG_IGN) if listens else None
    os.environ.update(dict.fromkeys(THREADS, str(threads)))
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name)
            if value is not None:
                os.environ[name] = value
        if handler is not None:
            signal.signal(signal.SIGINT, handler)


def _hear(worker: _Worker, crew: list[_Worker], board: Board, stop: threading.Event) -> None:
    """Take down the next thing that a process has said, or that it has ended."""
    try:
        news = worker.connection.recv()
    except (EOFError, OSError):
        crew.remove(worker)
        worker.connection.close()
        worker.process.join()
        if worker.job is not None:
            board.ended(worker.job, "stopped" if stop.is_set() else "died", _last_words(worker.process.exitcode))
        return
    if isinstance(news, Event):
        board.tell(news)
        return
    job, worker.job = worker.job, None
    if worker.leaving:
        crew.remove(worker)
        worker.connection.close()
        worker.process.join()
    if job is not None:
        board.ended(job, *news)


def _last_words(code: int | None) -> str:
    if code is not None and code < 0:
        return f"Its process was ended by {signal.Signals(-code).name}, perhaps for want of memory."
    return f"Its process ended by itself, with code {code}."


def _serve(connection: Connection, sharing: Sharing) -> None:
    """What a process does: the jobs it is given, one after another, until nobody gives it any."""
    with stopping((signal.SIGINT,)) as stop:

        def tell(event: Event) -> None:
            try:
                connection.send(event)
            except OSError:  # whoever gave the job has ended: save, and end too
                stop.set()

        while True:
            try:
                job = connection.recv()
            except EOFError:
                return
            try:
                outcome = perform(job, sharing, stop, tell, use=_use)
            except KeyboardInterrupt:  # asked twice, by its group and by who gave the job
                outcome = "stopped", ""
            with suppress(OSError):
                connection.send(outcome)


def _use(accelerator: str) -> None:
    os.environ["CUDA_VISIBLE_DEVICES"] = accelerator
