"""The memory that `unseen restore` takes for a large photograph: the whole process, at its peak.

    .venv/bin/python benchmarks/memory.py --model rain rain-better

A photograph that comes with scikit-image, enlarged to 6000 x 4000 pixels, is written as JPEG to a temporary folder and
restored by the command, with its mask and its difference. Target: below 2 GB.
"""

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from datetime import date
from pathlib import Path

import skimage.data
from PIL import Image

from unseen.training import processor

SIZE = (6000, 4000)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", nargs="+", default=["rain", "rain-better"], help="what `unseen restore` takes")
    models = parser.parse_args().model
    print(f"{processor()}, {date.today()}, {SIZE[0]} x {SIZE[1]} pixels")
    with tempfile.TemporaryDirectory() as made:
        Image.fromarray(skimage.data.astronaut()).resize(SIZE).save(Path(made, "large.jpg"), quality=92)
        peak = 0
        for model in models:
            command = ["unseen", "restore", "large.jpg", "-m", model, "--always", "--mask", "--difference", "-o", model]
            code = f"import sys; from unseen.cli import main; sys.argv = {command!r}; sys.exit(main())"
            began = time.perf_counter()
            subprocess.run([sys.executable, "-c", code], cwd=made, check=True, capture_output=True)
            before, peak = peak, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
            most = f"{peak:.0f} MB" if peak > before else f"at most {peak:.0f} MB"  # that of the largest one so far
            print(f"{model:14}{most:>16} at the peak, {time.perf_counter() - began:.0f} s")


if __name__ == "__main__":
    main()
