"""Cells as tasks of a Ray cluster: on this machine, or on as many as there are. Ray is an extra, and imported only
here, when it is asked for.

A task whose machine or process is lost is begun again by Ray, elsewhere perhaps, and goes on from the cell's last saved
state; what it is given must therefore lie on storage that all machines see.
"""

import importlib.util
import logging
import os
import secrets
import signal
import sys
import threading
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout, suppress
from pathlib import Path
from typing import Any

from unseen.backgrounds import Backgrounds
from unseen.errors import ConfigError, LockError, StudyError
from unseen.study.cells import Event, Report
from unseen.study.cores import Sharing, check_fits, cores
from unseen.study.jobs import Board, Job, Outcome, claimed, perform
from unseen.study.plan import Cell, Plan, plan
from unseen.study.study import Study
from unseen.training import Interrupted, stopping

QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_DISABLE_IMPORT_WARNING": "1",
    "RAY_TQDM_PATCH_PRINT": "0",
}
"""Nothing is sent to anybody, and nothing said that is of no use here."""

_OFTEN = 0.5  # seconds between two looks at the news, and between two of a kind from one cell


@contextmanager
def joined(address: str | None) -> Iterator["Machines | None"]:
    """The cluster at an address ("local": made on this machine, and ended with this), None without one.

    Ray prints what befalls its processes: meanwhile, whatever is printed goes to stderr, as stdout is for results.
    """
    if address is None:
        yield None
        return
    if importlib.util.find_spec("ray") is None:
        raise ConfigError("Ray is not installed, and --ray asks for it: pip install 'unseen[ray]'")
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    import ray  # pyright: ignore[reportMissingImports]
    from ray import exceptions  # pyright: ignore[reportMissingImports]

    mine = not ray.is_initialized()  # a program may have joined one before
    local = {"num_cpus": len(cores()), "include_dashboard": False} if address == "local" else {}
    with warnings.catch_warnings(), redirect_stdout(sys.stderr):
        warnings.simplefilter("ignore")  # Ray's advice on Ray
        try:
            if mine:
                ray.init(address, log_to_driver=False, logging_level=logging.ERROR, **local)
        except (ConnectionError, ValueError, RuntimeError, exceptions.RayError) as error:
            raise ConfigError(
                f"There is no Ray cluster at {address!r} that lets this process in ({error}). Start one with "
                "`ray start --head`, with the same RAY_AUTH_MODE and token here and there, or use --ray local."
            ) from error
        try:
            yield Machines(ray, local=address == "local")
        finally:
            if mine:
                ray.shutdown()


class Machines:
    """A Ray cluster that this process has joined."""

    def __init__(self, ray: Any, *, local: bool) -> None:
        self._ray, self._local = ray, local

    def plan(self, study: Study, runs: str | Path, sharing: Sharing) -> Plan:
        """The plan of a study, made where there is an accelerator if the cluster has one and a cell may use it: what
        "auto" stands for is then told by that machine."""
        wanted = {experiment.recipe.device for _, experiment in study.cells()} & {"auto", "cuda"}
        if self._local or not wanted or not self._ray.cluster_resources().get("GPU"):
            return plan(study, Path(runs).resolve())
        task = self._ray.remote(_cells)
        task = task.options(num_cpus=1, num_gpus=sharing.accelerator, runtime_env={"env_vars": _environment(1)})
        try:
            cells, judge_id = self._ray.get(task.remote(study, Path(runs).resolve(), os.getcwd()))
        except self._ray.exceptions.RayTaskError as error:
            raise error.cause from None
        return Plan(study, Path(runs).resolve(), cells, Backgrounds(study.judge.images), judge_id)

    def run(
        self, jobs: Sequence[Job], workers: int | None, sharing: Sharing, folder: Path, tell: Report
    ) -> dict[str, str]:
        """Do the jobs, at most `workers` at a time (None: as many as Ray finds room for): what failed, by label.

        `folder` lies in the folder of runs: StudyError names machines that do not see it. Raises Interrupted after
        Ctrl-C, with everything saved, and StudyError where the cluster is lost.
        """
        if not jobs:
            return {}
        self._check(jobs, sharing, folder, tell)
        try:
            return self._run(jobs, workers, sharing, folder, tell)
        except self._ray.exceptions.RayError as error:  # of the desk or the cluster: those of cells end with them
            said = str(error).strip().partition("\n")[0] or type(error).__name__
            raise StudyError(
                f"Ray lost the process that the cells report to, or the cluster itself: {said} Run the same command "
                "again: finished cells stay finished, the others go on from their last saved state."
            ) from error

    def _run(
        self, jobs: Sequence[Job], workers: int | None, sharing: Sharing, folder: Path, tell: Report
    ) -> dict[str, str]:
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy  # pyright: ignore[reportMissingImports]

        ray, board = self._ray, Board(jobs, tell)
        # Any other machine may be lost, and the study goes on.
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        desk = ray.remote(_Desk).options(num_cpus=0, scheduling_strategy=here).remote()
        running: dict[Any, Job] = {}
        asked = False
        with stopping((signal.SIGINT,)) as stop:
            while not board.over:
                if stop.is_set():
                    board.drop()
                    if not asked:
                        asked = True
                        begun = ray.get(desk.stop.remote())
                        for task in [task for task, job in running.items() if job.label not in begun]:
                            ray.cancel(task)
                while not stop.is_set() and (job := board.next(lambda job: workers is None or len(running) < workers)):
                    running[self._begun(job, sharing, folder, desk)] = job
                ended = ray.wait(list(running), timeout=_OFTEN)[0] if running else []
                if not running and not board.over:
                    stop.wait(_OFTEN)
                for event in ray.get(desk.news.remote()):
                    board.tell(event)
                for task in ended:
                    outcome, message = self._end(task)
                    job = running.pop(task)
                    if outcome == "stopped" and not stop.is_set():  # its machine was asked to end, not this study
                        outcome, message = "claimed", ""
                    board.ended(job, outcome, message)
        for event in ray.get(desk.news.remote()):
            board.tell(event)
        if board.stopped is not None or stop.is_set():
            raise Interrupted("Stopped; every cell is saved. Run the same command again to go on.")
        return board.failures

    def _begun(self, job: Job, sharing: Sharing, folder: Path, desk: Any) -> Any:
        task = self._ray.remote(_perform).options(
            num_cpus=job.threads,
            num_gpus=sharing.accelerator if job.device == "cuda" else 0,
            max_retries=-1,  # for processes and machines that are lost; `perform` returns the errors of a cell
            retry_exceptions=False,
            runtime_env={"env_vars": _environment(job.threads)},
            name=job.label,
        )
        return task.remote(job, sharing, folder, os.getcwd(), desk)

    def _end(self, task: Any) -> tuple[Outcome, str]:
        errors = self._ray.exceptions
        try:
            return self._ray.get(task)
        except errors.TaskCancelledError:
            return "stopped", "Stopped before this cell began."
        except errors.RayError as error:
            return "failed", f"Ray could not run it: {str(error).strip().splitlines()[-1]}"

    def _check(self, jobs: Sequence[Job], sharing: Sharing, folder: Path, tell: Report) -> None:
        """Whether every machine sees the folder, and its locks; and whether there is one that is large enough."""
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy  # pyright: ignore[reportMissingImports]

        ray = self._ray
        nodes = [node for node in ray.nodes() if node["Alive"]]
        threads = max(job.threads for job in jobs)
        if max((node["Resources"].get("CPU", 0) for node in nodes), default=0) < threads:
            if self._local:
                check_fits(threads)
            tell(Event("", "note", message=f"No machine of the cluster has {threads} cores: such cells wait for one."))
        if any(job.device == "cuda" for job in jobs) and not any(node["Resources"].get("GPU") for node in nodes):
            tell(Event("", "note", message="No machine of the cluster has a GPU: cells that ask for one wait for it."))
        if self._local:
            return
        word, probe = secrets.token_hex(8), folder / f".probe-{secrets.token_hex(4)}"
        answers = [probe.with_name(f"{probe.name}-{number}") for number in range(len(nodes))]
        lock = probe.with_suffix(".lock")
        try:
            probe.write_text(word)
            with claimed(lock):
                saw = [
                    ray.remote(_probe)
                    .options(
                        num_cpus=0,
                        scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False),
                    )
                    .remote(probe, lock, answer)
                    for node, answer in zip(nodes, answers, strict=True)
                ]
                blind, loose = [], []
                for node, task, answer in zip(nodes, saw, answers, strict=True):
                    name = node["NodeManagerHostname"]
                    try:
                        locked = ray.get(task)
                    except ray.exceptions.RayError as error:
                        if isinstance(cause := getattr(error, "cause", None), LockError):
                            raise StudyError(f"{name} cannot run cells: {cause}") from error
                        raise StudyError(
                            f"{name} cannot run cells: {str(error).strip().splitlines()[-1]} The same version of "
                            "unseen, with the ray extra, must be installed on every machine."
                        ) from error
                    if locked is None or not answer.is_file() or answer.read_text() != word:
                        blind.append(name)
                    elif not locked:
                        loose.append(name)
        finally:
            for path in (probe, lock, *answers):
                path.unlink(missing_ok=True)
        if blind:
            raise StudyError(
                f"{', '.join(blind)} cannot write to {folder}, or writes elsewhere. The folder of runs must lie on "
                "storage that every machine of the cluster sees under the same path: give one with --runs."
            )
        if loose:
            tell(
                Event("", "note", message=f"File locks on {folder} are not seen by {', '.join(loose)}: start no second "
                "runner on this folder.")
            )  # fmt: skip


def _environment(threads: int) -> dict[str, str]:
    """What a task's process finds, from its start."""
    passed = {name: value for name, value in os.environ.items() if name.startswith("UNSEEN_")}
    return {**passed, **QUIET, "OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}


def _cells(study: Study, runs: Path, folder: str) -> tuple[tuple[Cell, ...], str]:
    with suppress(OSError):
        os.chdir(folder)  # relative paths in a study start where its command was given
    todo = plan(study, runs)
    return todo.cells, todo.judge_id


def _probe(probe: Path, lock: Path, answer: Path) -> bool | None:
    """Write what the probe says where the study can read it: None if that cannot be, else whether locks are seen."""
    try:
        answer.write_text(probe.read_text())
        with claimed(lock) as mine:
            return not mine
    except OSError:
        return None


def _perform(job: Job, sharing: Sharing, folder: Path, start: str, desk: Any) -> tuple[Outcome, str]:
    """Do a job in a task, with its news left at the desk, which also says whether to stop."""
    import ray  # pyright: ignore[reportMissingImports]
    from ray import exceptions  # pyright: ignore[reportMissingImports]

    with suppress(OSError):
        os.chdir(start)  # relative paths in a study start where its command was given
    if not (folder / "study.json").is_file():
        return "failed", f"{os.uname().nodename} does not see {folder}: it must lie on storage that every machine sees."
    said: dict[str, float] = {}
    with stopping((signal.SIGINT,)) as stop:
        over = threading.Event()
        if ray.get(desk.begin.remote(job.label)):
            stop.set()

        def ask() -> None:
            while not over.wait(_OFTEN):
                try:
                    if ray.get(desk.stopping.remote()):
                        stop.set()
                except exceptions.RayError:  # whoever gave the job has ended: save, and end too
                    stop.set()

        def tell(event: Event) -> None:
            now = time.monotonic()
            if 0 < event.done < event.total and now - said.get(event.kind, 0.0) < _OFTEN:
                return
            said[event.kind] = now
            desk.tell.remote(event)

        asking = threading.Thread(target=ask, daemon=True)
        asking.start()
        try:
            return perform(job, sharing, stop, tell)
        finally:
            over.set()
            asking.join()


class _Desk:
    """Where tasks leave their news, and are told whether to stop."""

    def __init__(self) -> None:
        self._news, self._begun, self._stop = list[Event](), set[str](), False

    def begin(self, label: str) -> bool:
        """Note that a task has begun: whether it should stop at once."""
        self._begun.add(label)
        return self._stop

    def tell(self, event: Event) -> None:
        self._news.append(event)

    def news(self) -> list[Event]:
        """What has been told since the last time."""
        news, self._news = self._news, []
        return news

    def stop(self) -> set[str]:
        """Ask all that have begun to stop: which these are."""
        self._stop = True
        return self._begun

    def stopping(self) -> bool:
        return self._stop
