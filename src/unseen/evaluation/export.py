"""Write a synthetic suite to disk, so that others score on the same bits: pairs, layers, masks, and their hashes."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from PIL import Image
from pydantic import Field, ValidationError

from unseen.backgrounds import Backgrounds
from unseen.errors import ConfigError, DataError, cause_of
from unseen.evaluation.suites import MANIFEST, Suite
from unseen.images import find_images, to_bytes, write_image
from unseen.ranges import Frozen

FORMAT = "unseen-suite-1"
DEEP = 65535
"""A layer is stored as 16-bit grey: 0 to this many steps stand for 0 to the file's `layer_peak`."""


class ExportedImage(Frozen):
    """One image: its name in the suite, the SHA-256 of each of its files by path, and the peak of its layer."""

    name: str
    files: dict[str, str]
    layer_peak: float = Field(ge=0)


class Manifest(Frozen):
    """What an exported suite is: all that is needed to make it again, and hashes to see that nothing changed.

    `suite` is the name and the degradation; `backgrounds` the content hash of the clean images; `crop`, `seed` and
    `limit` as in `unseen.evaluate`.
    """

    format: str = FORMAT
    unseen: str
    suite: dict[str, Any]
    backgrounds: str
    crop: int
    seed: int
    limit: int | None
    images: tuple[ExportedImage, ...]


def export_suite(
    suite: Suite,
    images: Backgrounds,
    folder: str | Path,
    *,
    crop: int = 256,
    limit: int | None = None,
    seed: int = 0,
    progress: Callable[[int], None] | None = None,
) -> Path:
    """Write `input/`, `target/`, `layer/`, `mask/` (PNG) and `manifest.json` below `folder`; returns the manifest.

    `input` and `target` are 8-bit RGB, `mask` is 0 or 255, `layer` 16-bit grey (see `DEEP`). Reading the folder back
    as pairs gives the suite's scores, to 8-bit rounding. The same suite gives the same bytes. Raises ConfigError
    where the folder holds something else, DataError where it cannot be written.
    """
    from importlib.metadata import version

    folder = Path(folder)
    if folder.exists() and any(folder.iterdir()) and not (folder / MANIFEST).is_file():
        raise ConfigError(f"{folder} is not empty, and holds no exported suite. Choose another folder.")
    _remove_export(folder)
    exported: list[ExportedImage] = []
    for names, batch in suite.batches(images, crop, limit, seed):
        for index, name in enumerate(names):
            stem = PurePosixPath(name).with_suffix(".png").as_posix()
            layer = batch.layer[index, 0].numpy()
            peak = float(layer.max(initial=0.0))
            files: dict[str, str] = {}
            for kind, picture in (
                ("input", to_bytes(batch.degraded[index].permute(1, 2, 0).numpy())),
                ("target", to_bytes(batch.clean[index].permute(1, 2, 0).numpy())),
                ("mask", to_bytes(batch.mask[index, 0].numpy())),
            ):
                files[f"{kind}/{stem}"] = _written(folder / kind / stem, picture)
            deep = np.round(layer * (DEEP / peak if peak else 0.0)).astype(np.uint16)
            files[f"layer/{stem}"] = _written_deep(folder / "layer" / stem, deep)
            if any(other.files.keys() & files.keys() for other in exported):
                raise DataError(f"Two images of the suite would be written as {stem}: give them different names.")
            exported.append(ExportedImage(name=name, files=files, layer_peak=peak))
        if progress is not None:
            progress(len(names))
    manifest = Manifest(
        unseen=version("unseen"),
        suite=suite.model_dump(mode="json"),
        backgrounds=images.content_hash,
        crop=crop,
        seed=seed,
        limit=limit,
        images=tuple(exported),
    )
    path = folder / MANIFEST
    path.write_text(json.dumps(manifest.model_dump(mode="json"), indent=1) + "\n")
    return path


def _remove_export(folder: Path) -> None:
    """What an earlier export has written there, and nothing else."""
    path = folder / MANIFEST
    if not path.is_file():
        return
    try:
        manifest = Manifest.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise ConfigError(f"{path} cannot be read: {error.errors()[0]['msg']}. Choose another folder.") from error
    for name in (name for image in manifest.images for name in image.files):
        _inside(path, name).unlink(missing_ok=True)


def _inside(manifest: Path, name: str) -> Path:
    """The file that a manifest names. DataError where it lies elsewhere."""
    inside = PurePosixPath(name)
    if inside.is_absolute() or ".." in inside.parts:
        raise DataError(f"{manifest} names {name!r}, which lies outside its folder: it is not to be trusted.")
    return manifest.parent / name


def check_export(folder: str | Path) -> Manifest:
    """The manifest of an exported suite whose files are all as they were written; DataError lists what is not."""
    folder = Path(folder)
    path = folder / MANIFEST
    if not path.is_file():
        raise DataError(f"{folder} holds no {MANIFEST}: it is no exported suite. Make one with `unseen suite export`.")
    try:
        manifest = Manifest.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise DataError(f"{path} cannot be read: {error.errors()[0]['msg']}. Export the suite again.") from error
    if manifest.format != FORMAT:
        raise DataError(f"{path} has format {manifest.format!r}; expected {FORMAT!r}. Export the suite again.")
    wrong = []
    for image in manifest.images:
        for name, digest in image.files.items():
            file = _inside(path, name)
            if not file.is_file():
                wrong.append(f"{name} is missing")
            elif hashlib.sha256(file.read_bytes()).hexdigest() != digest:
                wrong.append(f"{name} has changed")
    named = {folder / name for image in manifest.images for name in image.files}
    for kind in ("input", "target", "mask", "layer"):
        found = find_images(folder / kind) if (folder / kind).is_dir() else []
        wrong += [f"{file.relative_to(folder).as_posix()} was not exported" for file in found if file not in named]
    if wrong:
        raise DataError(
            f"{len(wrong)} files of {folder} are not as they were exported: {'; '.join(wrong[:5])}. Export it again."
        )
    return manifest


def _written(path: Path, picture: np.ndarray) -> str:
    write_image(path, picture)
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _written_deep(path: Path, layer: np.ndarray) -> str:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(layer).save(path, format="PNG")
    except OSError as error:
        raise DataError(f"{path} could not be written: {cause_of(error)}") from error
    return hashlib.sha256(path.read_bytes()).hexdigest()
