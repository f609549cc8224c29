"""Leaks: test images that were trained on, found by their content rather than by name or bytes. Imports no torch."""

from unseen.leaks.prints import (
    Fingerprints,
    fingerprints,
    joined,
    load_fingerprints,
    save_fingerprints,
)
from unseen.leaks.search import THRESHOLD, Leak, find_leaks, refuse_leaks

__all__ = [
    "THRESHOLD",
    "Fingerprints",
    "Leak",
    "find_leaks",
    "fingerprints",
    "joined",
    "load_fingerprints",
    "refuse_leaks",
    "save_fingerprints",
]
