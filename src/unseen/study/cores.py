"""The cores and accelerators of a machine, shared out among all that run studies on it.

Every core, and every twelfth of an accelerator, is a lock file in a folder of the machine. A cell holds as many as it
needs for as long as it runs; the system lets go of them when its process ends, however it ends. Whoever waits holds
the lock of the queue and nothing else, so that a cell of many threads is not overtaken for ever, and nobody waits for
one who waits.
"""

import hashlib
import os
import platform
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import torch
from filelock import BaseFileLock

from unseen.errors import ConfigError, LockError
from unseen.locks import taken
from unseen.training import Interrupted

FOLDER = "UNSEEN_CORES"
"""The environment variable that names another folder for the locks."""

PARTS = 12
"""Into how many an accelerator is divided: halves, thirds, quarters and sixths come out even."""

_PATIENCE = 3.0
"""Seconds of waiting before the user is told of it."""


@dataclass(frozen=True)
class Sharing:
    """How cells share machines: each takes `accelerator` of one, in (0, 1]."""

    accelerator: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.accelerator <= 1:
            raise ConfigError(
                f"A cell cannot take {self.accelerator:g} accelerators: give a share above 0 and at most 1, "
                "for example 0.5 for two cells on each."
            )

    @property
    def parts(self) -> int:
        return max(1, int(self.accelerator * PARTS + 1e-9))

    @property
    def at_a_time(self) -> int:
        """Cells that share one accelerator."""
        return PARTS // self.parts


def cores() -> tuple[int, ...]:
    """The numbers of the cores that this process may use: those it is bound to, and no more than its container's
    quota allows."""
    bound = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)
    with suppress(OSError, ValueError):
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        bound = bound[: max(1, int(quota) // int(period))]  # "max" where there is no limit
    return tuple(bound)


def accelerators(device: str) -> dict[str, str]:
    """The accelerators of this kind that this process may use: what CUDA_VISIBLE_DEVICES calls each, and a name of it
    that every process on this machine knows it by. Initialises no CUDA."""
    if device == "cpu":
        return {}
    if device != "cuda":
        return {device: device}
    count = torch.cuda.device_count()
    uuids: dict[str, str] = {}
    with suppress(OSError, subprocess.SubprocessError, ValueError):
        asked = ["nvidia-smi", "--query-gpu=index,uuid", "--format=csv,noheader"]
        lines = subprocess.run(asked, capture_output=True, text=True, check=True, timeout=30).stdout.splitlines()
        uuids = dict(line.replace(" ", "").split(",") for line in lines)
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None and len(uuids) == count:
        return {uuid: uuid for uuid in uuids.values()}
    names = [str(index) for index in range(count)] if visible is None else visible.replace(" ", "").split(",")[:count]
    return {name: uuids.get(name, name) for name in names}


def check_fits(threads: int, who: str = "A cell", key: str = "base.recipe.threads") -> tuple[int, ...]:
    """The cores of this machine. ConfigError where they are fewer than the `threads` that `who` asks for by `key`."""
    mine = cores()
    if threads > len(mine):
        raise ConfigError(
            f"{who} asks for {threads} threads, and {platform.node() or 'this machine'} has {len(mine)} cores for it. "
            f"Set {key} to {len(mine)} or fewer, or run it on a larger machine."
        )
    return mine


@contextmanager
def share(
    threads: int, device: str, sharing: Sharing, stop: threading.Event, note: Callable[[str], None]
) -> Iterator[str | None]:
    """Hold `threads` cores, and beside them a share of an accelerator where the device is one; wait for them until
    they are free. Yields what CUDA_VISIBLE_DEVICES calls the accelerator, None where there is no choice.

    Raises Interrupted where `stop` is set, ConfigError where there are not so many cores. Where the locks cannot be
    written, nothing is shared with other runners, and `note` is told.
    """
    mine = check_fits(threads)
    known = accelerators(device)
    chosen = None
    with ExitStack() as held:
        try:
            folder = lock_folder()
            if known:
                groups = {
                    name: [folder / f"{_file(key)}-{part:02}.lock" for part in range(PARTS)]
                    for name, key in known.items()
                }
                chosen = _take(folder, groups, sharing.parts, held, stop, note, "an accelerator")
            needed = "a core" if threads == 1 else f"{threads} cores"
            _take(folder, {"": [folder / f"core-{n}.lock" for n in mine]}, threads, held, stop, note, needed)
        except (OSError, LockError) as error:
            cause = error.__cause__ if isinstance(error, LockError) else error
            note(
                f"The cores are not shared with other runs on this machine: no locks can be kept "
                f"({getattr(cause, 'strerror', None) or error}). Name a folder that can be written, on a file system "
                f"with locks, in {FOLDER}."
            )
        yield chosen if len(known) > 1 else None


def lock_folder() -> Path:
    """Where the locks of this machine lie; homes are shared between machines, so its name is part of the path."""
    named = os.environ.get(FOLDER)
    folder = (Path(named) if named else Path.home() / ".cache" / "unseen" / "cores") / (platform.node() or "machine")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _take(
    folder: Path, groups: Mapping[str, Sequence[Path]], count: int, held: ExitStack, stop: threading.Event,
    note: Callable[[str], None], needed: str,
) -> str:  # fmt: skip
    """Lock `count` files of one group, all or none; its name. `held` lets go of them."""
    everything = hashlib.sha256("\n".join(str(path) for paths in groups.values() for path in paths).encode())
    queue = folder / f"queue-{everything.hexdigest()[:12]}.lock"
    began, pause, told, first = time.monotonic(), 0.02, False, False
    with ExitStack() as queueing:
        while True:
            if stop.is_set():
                raise Interrupted("Stopped while waiting for a free core. Run the same command again to go on.")
            if not first and (place := taken(queue)) is not None:
                first = True
                queueing.callback(place.release)
            if first:
                for name, paths in groups.items():
                    if len(locks := _some(paths, count)) == count:
                        for lock in locks:
                            held.callback(lock.release)
                        return name
            if not told and time.monotonic() - began > _PATIENCE:
                told = True
                note(f"Waiting for {needed}: other runs on this machine have them all.")
            stop.wait(pause)
            pause = min(2 * pause, 0.5)


def _some(paths: Sequence[Path], count: int) -> list[BaseFileLock]:
    """Locks on `count` of the files, or none."""
    locks: list[BaseFileLock] = []
    try:
        for path in paths:
            if len(locks) == count:
                break
            if (lock := taken(path)) is not None:
                locks.append(lock)
    except BaseException:
        _release(locks)
        raise
    if len(locks) < count:
        _release(locks)
    return locks if len(locks) == count else []


def _release(locks: list[BaseFileLock]) -> None:
    for lock in locks:
        lock.release()


def _file(key: str) -> str:
    return "".join(letter if letter.isalnum() or letter in "-_" else "_" for letter in key)
