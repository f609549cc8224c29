"""The command line: one file per verb. Heavy imports stay inside the functions, so that --help is instant.

A new verb is one file here and its name in the line below.
"""

from unseen.cli import (
    balance,
    complexity,
    doctor,
    evaluate,
    export,
    gallery,
    leaderboard,
    leaks,
    map,
    preview,
    prior,
    probe,
    restore,
    study,
    suite,
    toy,
    train,
    web,
)
from unseen.cli.app import app, main

__all__ = [
    "app", "balance", "complexity", "doctor", "evaluate", "export", "gallery", "leaderboard", "leaks", "main", "map",
    "preview", "prior", "probe", "restore", "study", "suite", "toy", "train", "web",
]  # fmt: skip
