"""Train a small prior that comes with the package, and put it there with its model card.

    UNSEEN_DATA=/path/to/data .venv/bin/python scripts/ship_prior.py small-vqgan

NAME is that of a recipe in recipes/priors. Stopped, the same command goes on.
"""

import argparse
import os
import shutil
import subprocess
import sys
from pathlib import Path

import yaml

from unseen.priors.files import FETCHED

ROOT = Path(__file__).parents[1]
UNSEEN = [sys.executable, "-c", "import sys; from unseen.cli import main; sys.exit(main())"]

LICENCES = (
    "natural: photographs of the Berkeley Segmentation Data Set (BSDS500), research use; comics: Pepper&Carrot, "
    "David Revoy, www.peppercarrot.com, CC BY 4.0; faces: Caltech-101, CC BY 4.0"
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=sorted(path.stem for path in (ROOT / "recipes/priors").glob("*.yaml")))
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    given = parser.parse_args()
    os.chdir(ROOT)
    recipe, trained = Path("recipes", "priors", f"{given.name}.yaml"), given.runs / given.name
    kind = yaml.safe_load(recipe.read_text(encoding="utf-8"))["prior"]["kind"]
    words = ("--config", str(recipe), "-o", str(trained), "--licence", LICENCES)
    done = subprocess.run([*UNSEEN, "prior", "train", kind, *words], check=False)
    if done.returncode:
        sys.exit(done.returncode)
    home = ROOT / "src/unseen/weights" / given.name
    home.mkdir(parents=True, exist_ok=True)
    for name in (*FETCHED, "README.md", "picture.png", "figures.json"):
        if (trained / name).is_file():
            shutil.copyfile(trained / name, home / name)
    print(home.relative_to(ROOT))


if __name__ == "__main__":
    main()
