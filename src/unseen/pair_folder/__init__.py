"""Folders of image pairs: which file is the degraded and which the clean image, found out, said aloud, overridable.

Four layouts (docs/pairs.md): two folders (`input/`, `target/`), two names in one folder (`rain-1`, `norain-1`), several
degraded versions of one clean image (`1_1`, `1_2`, `1`), and both images side by side in one file.
"""

from unseen.pair_folder.config import PairFolderConfig
from unseen.pair_folder.folder import PairFolder, PairImages

__all__ = ["PairFolder", "PairFolderConfig", "PairImages"]
