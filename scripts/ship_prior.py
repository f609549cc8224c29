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
from ship import LICENCES, ROOT, UNSEEN

from unseen.prior_training.card import PICTURE, SHOWS
from unseen.priors.files import FETCHED
from unseen.training_images import FILE as FINGERPRINTS


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=sorted(path.stem for path in (ROOT / "recipes/priors").glob("*.yaml")))
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    given = parser.parse_args()
    os.chdir(ROOT)
    recipe, trained = Path("recipes", "priors", f"{given.name}.yaml"), given.runs / given.name
    kind = yaml.safe_load(recipe.read_text(encoding="utf-8"))["prior"]["kind"]
    words = ("--config", str(recipe), "-o", str(trained), "--licence", "; ".join(LICENCES.values()))
    done = subprocess.run([*UNSEEN, "prior", "train", kind, *words], check=False)
    if done.returncode:
        sys.exit(done.returncode)
    home = ROOT / "src/unseen/weights" / given.name
    home.mkdir(parents=True, exist_ok=True)
    for name in (*FETCHED, FINGERPRINTS, "figures.json"):
        if (trained / name).is_file():
            shutil.copyfile(trained / name, home / name)
    card = (trained / "README.md").read_text(encoding="utf-8")
    shown = f"![{SHOWS[kind]}]({PICTURE})\n\n{SHOWS[kind]}\n\n"  # photographs of others, which stay where they are
    (home / "README.md").write_text(card.replace(shown, ""), encoding="utf-8")
    print(home.relative_to(ROOT))


if __name__ == "__main__":
    main()
