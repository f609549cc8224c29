"""Images that some other tool has already restored, in a folder: judged like a restorer."""

from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import numpy as np
import torch

from unseen.errors import DataError
from unseen.images import PEAK, find_images, read_image
from unseen.types import Images


class RestoredFolder:
    """Restored images by suite and name: `folder/<suite>/<name>`, or `folder/<name>` where one suite is judged.

    Endings do not count, so that what was read as JPEG may have been restored to PNG. A restored image that is
    missing, or of another size than the degraded one, is a DataError that names it: none is skipped in silence.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self._found: dict[Path, dict[str, Path]] = {}

    def expect(self, suites: Sequence[str]) -> None:
        """Before any is judged: where there are several suites each has a folder of its own, or what was made of one
        would count for all. DataError names the first that has none."""
        lacking = [suite for suite in suites if not (self.folder / suite).is_dir()]
        if len(suites) > 1 and lacking:
            raise DataError(
                f"{self.folder} has no folder {lacking[0]}, and {len(suites)} suites are judged: put what was restored "
                f"of each into a folder of its name, or name one suite with --on."
            )

    def images(self, suite: str, names: Sequence[str], degraded: Images) -> Images:
        """The restored images of `names`, float32 (b, 3, h, w) in [0, 1], of the shape of `degraded`."""
        home = self.folder / suite if (self.folder / suite).is_dir() else self.folder
        if home not in self._found:
            self._found[home] = _by_stem(home)
        found = self._found[home]
        missing = [name for name in names if _stem(name) not in found]
        if missing:
            raise DataError(
                f"{home} lacks a restored image for {missing[0]!r} of suite {suite!r}; it holds {len(found)} images. "
                f"Expected one of the same name, with any ending, in {self.folder / suite} or {self.folder}."
            )
        arrays = [read_image(found[_stem(name)]) for name in names]
        expected = tuple(degraded.shape[2:])
        for name, array in zip(names, arrays, strict=True):
            if array.shape[:2] != expected:
                raise DataError(
                    f"{found[_stem(name)]} is {array.shape[1]} x {array.shape[0]} pixels, but the degraded image is "
                    f"{expected[1]} x {expected[0]}: restored images must keep the size."
                )
        return torch.from_numpy(np.stack(arrays)).permute(0, 3, 1, 2).float().div_(PEAK)


def _stem(name: str) -> str:
    return PurePosixPath(name).with_suffix("").as_posix()


def _by_stem(folder: Path) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for path in find_images(folder):
        stem = _stem(path.relative_to(folder).as_posix())
        if stem in found:
            raise DataError(f"{found[stem]} and {path} differ only in their ending: which is the restored image?")
        found[stem] = path
    return found
