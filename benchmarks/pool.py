"""Cells side by side: an eight-cell study with one worker and with two, and under Ray with one of two workers killed.

    .venv/bin/python benchmarks/pool.py
    .venv/bin/python benchmarks/pool.py --ray                # the study once more under Ray (the extra)
    .venv/bin/python benchmarks/pool.py --steps 60 --ray     # to see that it runs

Each cell has one thread. Every run has a folder of its own and trains everything anew; the tables of rows of all runs
must be equal, byte for byte, or the script fails. Prints wall times, their ratio and the load of the machine: on two
cores the ratio says something only where the load before the run was about nought. Under Ray, the first process that
has trained 60 % of its cell is killed (SIGKILL), and its cell goes on from the last state that was saved (every 500
steps).

Target: two workers take at most 0.6 of the time of one.
"""

import argparse
import contextlib
import os
import signal
import sys
import tempfile
import time
from pathlib import Path

from unseen.study.run import Event, run_study
from unseen.study.study import Study

CELLS = 8
TARGET = 0.6


def study(steps: int) -> Study:
    """Eight cells that differ in their seed."""
    return Study.model_validate(
        {
            "name": "pool",
            "question": "Do two workers take half the time?",
            "base": {
                "backgrounds": {"source": "embedded"},
                "degradation": {"kind": "Rain", "preset": "medium", "scale": 0.5},
                "network": {"kind": "ResNet", "width": 16, "blocks": 3},
                "recipe": {
                    "steps": steps, "batch": 4, "patch": 48, "device": "cpu", "precision": "fp32", "threads": 1,
                },
            },
            "axes": {"seed": list(range(CELLS))},
            "judge": {
                "images": {"source": "embedded", "part": "test"}, "crop": 96, "limit": 2, "suites": ["seen", "clean"],
            },
        }
    )  # fmt: skip


def tables(runs: Path) -> dict[str, bytes]:
    """The bytes of every table of rows, by its place."""
    return {str(path.relative_to(runs)): path.read_bytes() for path in sorted(runs.rglob("*.parquet"))}


class Killer:
    """Kills, once, a process of Ray that has trained 60 % of its cell."""

    killed: int | None = None

    def __call__(self, event: Event) -> None:
        if self.killed is None and event.kind == "train" and event.done >= 0.6 * event.total:
            for path in Path("/proc").glob("[0-9]*/cmdline"):
                with contextlib.suppress(OSError):
                    if path.read_text().startswith(f"ray::{event.cell}"):
                        self.killed = int(path.parent.name)
                        os.kill(self.killed, signal.SIGKILL)
                        print(f"killed the process of {event.cell} at step {event.done} of {event.total}", flush=True)
                        return


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=2400, help="steps of every cell (default: %(default)s)")
    parser.add_argument("--ray", action="store_true", help="once more under Ray, with a worker killed")
    options = parser.parse_args()
    killer = Killer()
    runs: dict[str, dict] = {"one worker": {"workers": 1}, "two workers": {"workers": 2}}
    if options.ray:
        runs["Ray, one of two killed"] = {"workers": 2, "ray": "local", "report": killer}
    seconds, found = {}, {}
    with tempfile.TemporaryDirectory() as folder:
        for name, settings in runs.items():
            place, load, began = Path(folder) / str(len(found)), os.getloadavg()[0], time.perf_counter()
            run_study(study(options.steps), place, **settings)
            seconds[name], found[name] = time.perf_counter() - began, tables(place)
            print(f"{name:24} {seconds[name]:7.1f} s   load before it {load:.1f}", flush=True)
    ratio = seconds["two workers"] / seconds["one worker"]
    print(f"two workers / one: {ratio:.2f} (target: at most {TARGET})")
    if options.ray and killer.killed is None:
        sys.exit("No process of Ray was killed: give more --steps.")
    first = found["one worker"]
    assert len(first) == CELLS + 1, "a table for every cell, and one of the baselines"
    for name, other in found.items():
        if other != first:
            sys.exit(f"The rows of {name!r} differ from those of one worker.")
    print(f"the {len(first)} tables of all {len(found)} runs are equal, byte for byte")


if __name__ == "__main__":
    main()
