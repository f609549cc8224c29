"""How long a user waits before anything happens, against the interpreter alone and against importing torch.

    .venv/bin/python benchmarks/startup.py

Starts each command in a process of its own, in turn, after one start that is not counted, and prints the medians of
wall time and of the processor time of the process. The last two columns are processor times as multiples of those of
`python -c pass` and of `import torch`: on a shared machine the wall clock also counts waiting for others. The script
fails where `import unseen` or `unseen --help` has imported torch or torchvision.

Targets: `import unseen` in less than 0.3 s, `unseen --help` in less than 0.5 s, both including the interpreter.
"""

import argparse
import resource
import subprocess
import sys
import time
from datetime import date
from pathlib import Path
from statistics import median

PYTHON = sys.executable
COMMANDS = {
    "python -c pass": (PYTHON, "-c", "pass"),
    "import unseen": (PYTHON, "-c", "import unseen"),
    "unseen --help": (str(Path(PYTHON).with_name("unseen")), "--help"),
    "import torch": (PYTHON, "-c", "import torch"),
}
HEAVY = ("torch", "torchvision")
HELP = "import sys; sys.argv = ['unseen', '--help']\nfrom unseen.cli import main\ntry: main()\nexcept SystemExit: pass"


def seconds(command: tuple[str, ...]) -> tuple[float, float]:
    """Wall time and processor time of one start."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    wall, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def heavy_imports(code: str) -> list[str]:
    """Which of the heavy modules are loaded after `code`."""
    ask = f"{code}\nimport sys; print(' '.join(name for name in {HEAVY} if name in sys.modules), file=sys.stderr)"
    return subprocess.run((PYTHON, "-c", ask), check=True, capture_output=True, text=True).stderr.split()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=7)
    repeats = parser.parse_args().repeats
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in COMMANDS}
    for count in range(repeats + 1):
        for name, command in COMMANDS.items():
            took = seconds(command)
            if count > 0:
                times[name].append(took)
    walls = {name: median(wall for wall, _ in each) for name, each in times.items()}
    useds = {name: median(used for _, used in each) for name, each in times.items()}

    from unseen.training import processor  # here, because it imports torch

    print(f"{processor()}, {date.today()}; Python {sys.version.split()[0]}, medians of {repeats}")
    print(f"{'':16}{'wall':>10}{'processor':>12}{'of pass':>10}{'of torch':>10}")
    for name in COMMANDS:
        print(f"{name:16}{walls[name]:8.3f} s{useds[name]:10.3f} s"
              f"{useds[name] / useds['python -c pass']:10.1f}{useds[name] / useds['import torch']:10.2f}")  # fmt: skip
    for name, code in (("import unseen", "import unseen"), ("unseen --help", HELP)):
        found = heavy_imports(code)
        if found:
            sys.exit(f"{name} imports {' and '.join(found)}: move that import into the function that needs it.")
    print(f"Neither imports {' or '.join(HEAVY)}.")


if __name__ == "__main__":
    main()
