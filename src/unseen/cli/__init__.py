"""The command line: one file per verb. Heavy imports stay inside the functions, so that --help is instant.

A new verb is one file here and its name in the line below.
"""

from unseen.cli import doctor, evaluate, preview, restore, study, train
from unseen.cli.app import app, main

__all__ = ["app", "doctor", "evaluate", "main", "preview", "restore", "study", "train"]
