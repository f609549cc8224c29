"""Many cells, many runners: each cell done once, no core taken twice, and whoever dies holds up nobody."""

import contextlib
import importlib.util
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import yaml

from unseen.errors import ConfigError, StudyError
from unseen.images import write_image
from unseen.study import cluster, cores, jobs, pool
from unseen.study.cores import Sharing, share
from unseen.study.jobs import Board, Job, claimed
from unseen.study.run import Event, run_study
from unseen.study.study import Study
from unseen.training import Interrupted

STEPS = 30


@pytest.fixture(autouse=True)
def own_cores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Nobody else on this machine has a say; the machine has two cores."""
    monkeypatch.setenv(cores.FOLDER, str(tmp_path / "cores"))
    for module in (cores, pool, cluster):
        monkeypatch.setattr(module, "cores", lambda: (0, 1))
    return tmp_path / "cores"


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two to train on and one to test on."""
    folder, rng = tmp_path_factory.mktemp("photographs"), np.random.default_rng(0)
    for number in range(3):
        write_image(folder / f"{number}.png", np.kron(rng.uniform(0.1, 0.6, (6, 6, 3)), np.ones((8, 8, 1))))
    return folder


def tiny(photographs: Path, seeds: int = 2, **recipe: object) -> Study:
    """A study of seconds."""
    images = {"source": str(photographs), "holdout": 1}
    settings = {"steps": STEPS, "batch": 1, "patch": 16, "device": "cpu", "precision": "fp32", "threads": 1}
    return Study.model_validate(
        {
            "name": "tiny",
            "question": "Is it so?",
            "base": {
                "backgrounds": images,
                "degradation": {"kind": "Rain", "preset": "medium", "scale": 0.25},
                "network": {"kind": "ResNet", "width": 4, "blocks": 1},
                "recipe": {**settings, **recipe},
            },
            "axes": {"seed": list(range(seeds))},
            "judge": {
                "images": {**images, "part": "test"}, "crop": 32, "limit": 1, "scale": 0.25,
                "suites": ["seen"],
            },
        }
    )  # fmt: skip


def tables(runs: Path) -> dict[str, bytes]:
    """Every table of rows, by its place: the bytes."""
    return {str(path.relative_to(runs)): path.read_bytes() for path in sorted(runs.rglob("*.parquet"))}


@pytest.fixture(scope="module")
def alone(photographs: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The tables of the study, one cell after another in one process."""
    runs = tmp_path_factory.mktemp("alone")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(cores.FOLDER, str(tmp_path_factory.mktemp("cores")))
        run_study(tiny(photographs), runs, workers=1)
    found = tables(runs)
    assert len(found) == 3
    return found


def job(folder: Path, label: str = "one", **changes: object) -> Job:
    values = {"threads": 1, "device": "cpu", "work": lambda tell: None, **changes}
    return Job(label, folder / label / "rows.parquet", folder / label / ".cell.lock", **values)  # type: ignore[arg-type]


# --- cells


@pytest.mark.slow
def test_a_worker_that_is_killed_has_its_cell_continued(
    photographs: Path, alone: dict[str, bytes], tmp_path: Path
) -> None:
    killed = list[int]()
    notes = list[str]()

    def kill(event: Event) -> None:
        if event.kind == "note":
            notes.append(event.message)
        if event.kind == "train" and event.done and not killed:
            killed.append(multiprocessing.active_children()[0].pid or 0)
            os.kill(killed[0], signal.SIGKILL)

    run_study(tiny(photographs), tmp_path / "runs", workers=3, report=kill)  # three processes in all
    assert tables(tmp_path / "runs") == alone
    assert any("3 workers were asked for; 2 fit" in note for note in notes)
    assert any("ended by SIGKILL" in note and "begun once more" in note for note in notes)


def test_two_runners_on_one_folder_do_each_cell_once(
    photographs: Path, alone: dict[str, bytes], tmp_path: Path
) -> None:
    events = list[Event]()
    other = threading.Thread(
        target=run_study, args=(tiny(photographs), tmp_path / "runs"), kwargs={"workers": 1, "report": events.append}
    )
    other.start()
    run_study(tiny(photographs), tmp_path / "runs", workers=1, report=events.append)
    other.join()
    assert tables(tmp_path / "runs") == alone
    assert sorted(event.cell for event in events if event.kind == "done") == ["baselines", "seed 0", "seed 1"]
    assert not [event for event in events if event.kind == "failed"]


@pytest.mark.slow
def test_a_runner_takes_over_from_one_that_is_killed(
    photographs: Path, alone: dict[str, bytes], tmp_path: Path
) -> None:
    """Two commands, one of them killed while it trains."""
    runs, file = tmp_path / "runs", tmp_path / "tiny.yaml"
    file.write_text(yaml.safe_dump(tiny(photographs).model_dump(mode="json", exclude_unset=True)))
    command = [sys.executable, "-m", "unseen.cli", "study", "run", str(file), "--runs", str(runs), "--workers", "1"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as other:
        while not list(runs.rglob("log.csv")) and other.poll() is None:
            time.sleep(0.01)
        other.kill()
    assert subprocess.run(command, check=False, timeout=120).returncode == 0
    assert tables(runs) == alone


def test_what_others_have_claimed_is_waited_for_and_taken_over(tmp_path: Path) -> None:
    told = list[Event]()
    board = Board([job(tmp_path, "theirs"), job(tmp_path, "mine")], told.append)
    with claimed(tmp_path / "theirs" / ".cell.lock") as first:
        assert first
        for _ in range(2):
            each = board.next()
            assert each is not None
            board.ended(each, *jobs.perform(each, Sharing(), threading.Event(), told.append))
        assert board.next() is None
        assert not board.over
        assert [event.message for event in told] == ["Waiting for what another process is at work on: theirs."]
    board._looked = 0.0
    again = board.next()
    assert again is not None
    assert again.label == "theirs"
    board.ended(again, "done", "")
    assert board.over
    assert not board.failures


def test_a_cell_whose_process_dies_twice_has_failed(tmp_path: Path) -> None:
    told = list[Event]()
    board = Board([job(tmp_path), job(tmp_path, "two")], told.append)
    for _ in range(2):
        each = board.next()
        assert each is not None
        assert each.label == "one"
        board.ended(each, "died", "Its process was ended by SIGKILL.")
    assert list(board.failures) == ["one"]
    assert [event.kind for event in told] == ["note", "failed"]
    assert board.next() is not None


# --- cores


def test_no_core_is_taken_twice(own_cores: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cores, "_PATIENCE", 0.0)
    notes, order, stop = list[str](), list[str](), threading.Event()

    def wide() -> None:
        with share(2, "cpu", Sharing(), stop, notes.append):
            order.append("wide")

    with share(1, "cpu", Sharing(), stop, notes.append):
        thread = threading.Thread(target=wide)
        thread.start()
        while not notes:
            time.sleep(0.01)
        order.append("narrow")
    thread.join()
    assert order == ["narrow", "wide"]
    assert notes == ["Waiting for 2 cores: other runs on this machine have them all."]


def test_accelerators_are_shared_by_parts(own_cores: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cores, "accelerators", lambda device: {"0": "GPU-a", "1": "GPU-b"})
    monkeypatch.setattr(cores, "cores", lambda: tuple(range(8)))
    stop, taken = threading.Event(), []
    half = [share(1, "cuda", Sharing(0.5), stop, taken.append) for _ in range(2)]
    names = [each.__enter__() for each in half]
    with share(1, "cuda", Sharing(), stop, taken.append) as whole:
        assert (names, whole, taken) == (["0", "0"], "1", [])
        stop.set()
        with pytest.raises(Interrupted), share(1, "cuda", Sharing(0.5), stop, taken.append):
            pass
    for each in half:
        each.__exit__(None, None, None)


def test_a_home_that_cannot_be_written_stops_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv(cores.FOLDER, str(tmp_path / "file"))
    notes = list[str]()
    with share(1, "cpu", Sharing(), threading.Event(), notes.append):
        pass
    assert len(notes) == 1
    assert "not shared with other runs" in notes[0]


def test_more_threads_than_cores_are_refused_before_anything_is_trained(photographs: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cells? .*ask.* for 3 threads.* 2 cores.*recipe\.threads to 2"):
        run_study(tiny(photographs, threads=3), tmp_path, workers=1)
    assert not list(tmp_path.rglob("*.parquet"))


def test_a_worker_is_told_its_threads_before_it_imports_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.delenv("MKL_NUM_THREADS", raising=False)
    with pool._inherited(2):
        assert {os.environ[name] for name in pool.THREADS} == {"2"}
        assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN
    assert os.environ["OMP_NUM_THREADS"] == "7"
    assert "MKL_NUM_THREADS" not in os.environ


def interrupted(tell: object) -> None:
    raise KeyboardInterrupt


def test_a_worker_that_is_told_to_stop_twice_ends_without_a_traceback(tmp_path: Path) -> None:
    ours, theirs = multiprocessing.Pipe()
    ours.send(Job("cell", tmp_path / "rows", tmp_path / "claim", 1, "cpu", interrupted))
    ours.send(Job("cell", tmp_path / "rows", tmp_path / "claim", 1, "cpu", interrupted))
    serving = threading.Thread(target=pool._serve, args=(theirs, Sharing()))  # pyright: ignore[reportPrivateUsage]
    serving.start()
    assert [ours.recv() for _ in range(2)] == [("stopped", "")] * 2
    ours.close()
    serving.join(5)
    assert not serving.is_alive()


def test_a_share_of_no_accelerator_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"0\.5 for two cells"):
        Sharing(0.0)
    assert [Sharing(share).at_a_time for share in (1.0, 0.5, 1 / 3, 0.3, 0.25)] == [1, 2, 3, 4, 4]


# --- Ray

ray_needed = pytest.mark.skipif(
    importlib.util.find_spec("ray") is None, reason="Ray is not installed: pip install 'unseen[ray]'"
)


def test_without_ray_one_is_told_how_to_have_it(
    photographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"pip install 'unseen\[ray\]'"):
        run_study(tiny(photographs), tmp_path, ray="local")


def test_ray_is_not_imported_unless_it_is_asked_for(alone: dict[str, bytes]) -> None:
    assert alone
    assert "ray" not in sys.modules


class Lost(Exception):
    """What stands for Ray's errors."""


class PretendedRay(ModuleType):
    """A cluster without machines: it notes where its actors are asked to be, and loses them."""

    def __init__(self) -> None:
        super().__init__("ray")
        self.exceptions = SimpleNamespace(RayError=Lost, TaskCancelledError=type("Cancelled", (Lost,), {}))
        self.options = dict[str, object]()

    def nodes(self) -> list[dict[str, Any]]:
        return [{"Alive": True, "Resources": {"CPU": 2.0}}]

    def get_runtime_context(self) -> SimpleNamespace:
        return SimpleNamespace(get_node_id=lambda: "the driver's")

    def remote(self, what: object) -> SimpleNamespace:
        def options(**given: object) -> SimpleNamespace:
            if what is not cluster._Desk:
                return SimpleNamespace(remote=lambda *_: "a task")
            self.options = given
            return SimpleNamespace(remote=lambda: SimpleNamespace(news=SimpleNamespace(remote=lambda: "news")))

        return SimpleNamespace(options=options)

    def wait(self, tasks: list[object], timeout: float) -> tuple[list[object], list[object]]:
        return [], tasks

    def get(self, asked: object) -> object:
        raise Lost("The actor died unexpectedly.\n\tclass_name: _Desk")


@pytest.fixture
def pretended_ray(monkeypatch: pytest.MonkeyPatch) -> PretendedRay:
    ray, strategies = PretendedRay(), ModuleType("ray.util.scheduling_strategies")
    vars(strategies)["NodeAffinitySchedulingStrategy"] = lambda node, soft: (node, soft)
    for name, module in {"ray": ray, "ray.util": ModuleType("ray.util"), strategies.__name__: strategies}.items():
        monkeypatch.setitem(sys.modules, name, module)
    return ray


def test_a_cluster_that_loses_the_desk_says_how_to_go_on(tmp_path: Path, pretended_ray: PretendedRay) -> None:
    job = Job("cell", tmp_path / "rows", tmp_path / "lock", 1, "cpu", lambda tell: None)
    machines = cluster.Machines(pretended_ray, local=True)
    with pytest.raises(StudyError, match=r"The actor died unexpectedly\. Run the same command again: finished cells"):
        machines.run([job], None, Sharing(), tmp_path, lambda event: None)


def test_the_desk_stands_on_the_machine_of_the_study(tmp_path: Path, pretended_ray: PretendedRay) -> None:
    job = Job("cell", tmp_path / "rows", tmp_path / "lock", 1, "cpu", lambda tell: None)
    with pytest.raises(StudyError):
        cluster.Machines(pretended_ray, local=True).run([job], None, Sharing(), tmp_path, lambda event: None)
    assert pretended_ray.options["scheduling_strategy"] == ("the driver's", False)


@ray_needed
@pytest.mark.slow
def test_a_study_on_a_cluster_that_loses_its_desk_goes_on(
    photographs: Path, alone: dict[str, bytes], tmp_path: Path
) -> None:
    killed = list[int]()

    def kill(event: Event) -> None:
        if event.kind == "train" and not killed:
            killed.extend(at_work("_Desk"))
            for process in killed:
                os.kill(process, signal.SIGKILL)

    with pytest.raises(StudyError, match="Run the same command again"):
        run_study(tiny(photographs), tmp_path / "runs", ray="local", report=kill)
    assert killed
    run_study(tiny(photographs), tmp_path / "runs", ray="local")
    assert tables(tmp_path / "runs") == alone


@ray_needed
@pytest.mark.slow
def test_cells_of_a_cluster_give_the_same_rows_though_one_of_its_processes_is_killed(
    photographs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study = tiny(photographs, steps=1500)  # the state is saved every 500
    killed = list[int]()

    def kill(event: Event) -> None:
        if event.kind == "train" and event.done >= 500 and not killed:
            for process in at_work(event.cell):
                killed.append(process)
                os.kill(process, signal.SIGKILL)

    run_study(study, tmp_path / "cluster", ray="local", report=kill)
    assert killed
    assert capsys.readouterr().out == ""
    run_study(study, tmp_path / "alone", workers=1)
    assert tables(tmp_path / "cluster") == tables(tmp_path / "alone")


@ray_needed
@pytest.mark.slow
def test_a_study_on_a_cluster_is_stopped_and_goes_on(
    photographs: Path, alone: dict[str, bytes], tmp_path: Path
) -> None:
    asked = list[Event]()

    def stop(event: Event) -> None:
        if event.kind == "train" and not asked:
            asked.append(event)
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(Interrupted, match="Run the same command again"):
        run_study(tiny(photographs), tmp_path / "runs", ray="local", report=stop)
    run_study(tiny(photographs), tmp_path / "runs", ray="local")
    assert tables(tmp_path / "runs") == alone


@ray_needed
@pytest.mark.slow
def test_a_cell_that_fails_on_a_cluster_does_not_hold_up_the_others(photographs: Path, tmp_path: Path) -> None:
    study = tiny(photographs)
    changed = study.model_dump(mode="json", exclude_unset=True)
    changed["axes"] = {"recipe.learning_rate": [1e30, 1e-3]}
    with pytest.raises(StudyError, match=r"1 of 2 cells failed; the others are finished.*1e\+30.*diverged"):
        run_study(Study.model_validate(changed), tmp_path, ray="local")
    assert len(list(tmp_path.rglob("judged/*/rows.parquet"))) == 1


def at_work(cell: str) -> list[int]:
    """The processes that Ray does a cell in: it names them after their tasks."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if path.read_text().startswith(f"ray::{cell}"):
                found.append(int(path.parent.name))
    return found
