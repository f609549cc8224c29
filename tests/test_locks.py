"""Locks on files: held once, let go of by the system, and refused where the file system has none."""

import errno
import fcntl
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from unseen.errors import LockError, TrainingError
from unseen.experiment import Experiment
from unseen.locks import taken
from unseen.study.cores import FOLDER, Sharing, share
from unseen.study.jobs import claimed
from unseen.training import sole_use_of, stopping, train

DYING = """
import os, pathlib, signal, sys
from unseen.locks import taken

assert taken(pathlib.Path(sys.argv[1]))
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture(params=[errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK], ids=errno.errorcode.get)
def no_locks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """No file system has locks; what the system says of it."""

    def flock(file: int, operation: int) -> None:
        raise OSError(request.param, os.strerror(request.param))

    monkeypatch.setattr(fcntl, "flock", flock)
    return os.strerror(request.param)


def test_a_lock_is_held_once(tmp_path: Path) -> None:
    path = tmp_path / "folder" / ".lock"
    lock = taken(path)
    assert lock is not None and taken(path) is None
    lock.release()
    again = taken(path)
    assert again is not None
    again.release()


def test_a_lock_ends_with_its_process(tmp_path: Path) -> None:
    path = tmp_path / ".lock"
    died = subprocess.run([sys.executable, "-c", DYING, str(path)], check=False)
    assert died.returncode == -signal.SIGKILL and path.is_file()
    lock = taken(path)
    assert lock is not None
    lock.release()


def test_without_locks_nothing_is_locked_and_one_is_told_what_to_do(tmp_path: Path, no_locks: str) -> None:
    with pytest.raises(LockError, match=rf"{tmp_path}.* has no locks \({no_locks}\)\. Put the folder on another"):
        taken(tmp_path / ".lock")
    with pytest.raises(LockError), claimed(tmp_path / ".cell.lock"):
        pass
    with pytest.raises(LockError), sole_use_of(tmp_path):
        pass


def test_without_locks_nothing_is_trained(tmp_path: Path, no_locks: str) -> None:
    recipe = {"steps": 1, "patch": 16, "batch": 1, "device": "cpu", "precision": "fp32", "threads": 1}
    backgrounds = {"source": "leaves", "unit": "patches", "patch": 16, "count": 1}
    raw = {"backgrounds": backgrounds, "network": {"width": 4, "blocks": 0}, "recipe": recipe}
    with pytest.raises(LockError):
        train(Experiment.model_validate(raw), tmp_path)


def test_without_locks_cores_are_not_shared_and_one_is_told(
    tmp_path: Path, no_locks: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(FOLDER, str(tmp_path))
    told = list[str]()
    with stopping() as stop, share(1, "cpu", Sharing(), stop, told.append):
        pass
    (note,) = told
    assert f"no locks can be kept ({no_locks})" in note and FOLDER in note


def test_who_comes_second_to_a_folder_is_sent_away(tmp_path: Path) -> None:
    with (
        sole_use_of(tmp_path),
        pytest.raises(TrainingError, match="Another process is training in"),
        sole_use_of(tmp_path),
    ):
        pass
