"""Fingerprints: what an image shows, on a grid of 32 x 32 cells of luma, whatever its size and shape; 1 KB."""

import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from unseen.errors import DataError, cause_of, check_readable
from unseen.files import whole
from unseen.images import Bytes

SIDE = 32
"""Cells a side of a fingerprint."""

FLAT = 2.0
"""Grey levels (of 256, root mean square) below which a fingerprint has no structure, and is like no other."""

FORMAT = "unseen-fingerprints-1"


@dataclass(frozen=True)
class Fingerprints:
    """`values`: luma, uint8, (n, 1024), rows of 32 x 32 cells; `sizes`: (h, w) in pixels, int32, (n, 2)."""

    names: list[str]
    values: NDArray[np.uint8]
    sizes: NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.names)

    @property
    def flat(self) -> list[str]:
        """Names of images with too little structure to be told from others: they are never found."""
        spread = self.values.astype(np.float32).std(axis=1) if len(self) else np.empty(0)
        return [name for name, value in zip(self.names, spread, strict=True) if value < FLAT]


def fingerprints(images: Iterable[tuple[str, Bytes]]) -> Fingerprints:
    """Fingerprints of named images, uint8 (h, w, 3), taken one at a time."""
    names, values, sizes = [], [], []
    for name, image in images:
        luma = Image.fromarray(image).convert("L").convert("F")
        cells = np.asarray(luma.resize((SIDE, SIDE), Image.Resampling.BOX))
        names.append(name)
        values.append(np.rint(cells).clip(0, 255).astype(np.uint8).reshape(-1))
        sizes.append(image.shape[:2])
    return Fingerprints(
        names,
        np.array(values, dtype=np.uint8).reshape(len(names), SIDE * SIDE),
        np.array(sizes, dtype=np.int32).reshape(len(names), 2),
    )


def joined(some: Sequence[Fingerprints]) -> Fingerprints:
    """Several sets as one, in order. At least one."""
    return Fingerprints(
        [name for prints in some for name in prints.names],
        np.concatenate([prints.values for prints in some]),
        np.concatenate([prints.sizes for prints in some]),
    )


def save_fingerprints(path: str | Path, prints: Fingerprints) -> None:
    """Write a safetensors file, whole or not at all. Raises `DataError`."""
    path = Path(path)
    header = {"unseen": json.dumps({"format": FORMAT, "names": prints.names})}
    try:
        with whole(path) as temporary:
            save_file({"values": prints.values, "sizes": prints.sizes}, temporary, metadata=header)
            os.chmod(temporary, 0o644)
    except (OSError, SafetensorError) as error:
        cause = (
            cause_of(error) if isinstance(error, OSError) else f"{error}. Free some space, or choose another folder."
        )
        raise DataError(f"{path} could not be written: {cause}") from error


def load_fingerprints(path: str | Path) -> Fingerprints:
    """Read what `save_fingerprints` wrote. Raises `DataError` for anything else."""
    wrong = f"{path} does not hold fingerprints of this version of unseen"
    advice = "Delete it: where the images are at hand, they are fingerprinted anew."
    try:
        check_readable(Path(path))
    except OSError as error:
        raise DataError(f"{path} cannot be read: {cause_of(error)}") from error
    try:
        with safe_open(path, framework="np") as file:
            header = json.loads((file.metadata() or {}).get("unseen", "{}"))
            slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
            found = {name: (tuple(one.get_shape()), one.get_dtype()) for name, one in slices.items()}
            names = header.get("names") if isinstance(header, dict) and header.get("format") == FORMAT else None
            if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
                raise DataError(f"{wrong}: its header does not say {FORMAT}. {advice}")
            expected = {"values": ((len(names), SIDE * SIDE), "U8"), "sizes": ((len(names), 2), "I32")}
            if found != expected:  # before anything is read: numpy has no word for some types
                raise DataError(f"{wrong}: it holds {found}, expected {expected}. {advice}")
            values, sizes = file.get_tensor("values"), file.get_tensor("sizes")
    except (SafetensorError, OSError, ValueError, RecursionError) as error:
        raise DataError(f"{wrong}, or is damaged ({error}). {advice}") from error
    if (sizes < 1).any():
        raise DataError(f"{wrong}: sizes must be at least 1. {advice}")
    return Fingerprints(names, values, sizes)
