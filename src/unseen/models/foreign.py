"""Models from elsewhere, held to the contract of a restorer."""

import math
from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from unseen.errors import CheckpointError, UnseenError
from unseen.tensors import first_line
from unseen.types import Images

MULTIPLES = (1, 2, 4, 8, 16, 32, 64)
"""Multiples of image sides that are tried, in this order."""


class Foreign:
    """Holds a model from elsewhere to the contract: any size in, the same size out, float32, finite.

    `call` maps images on `device` to images, or to several things of which the first of the images' shape counts.
    `batch` and `size` are what it can take only (None: any). Images are grown, at the right and the bottom, by
    reflection to the multiple that `call` needs, which is found by trying at the first use; what is larger than `size`
    is restored in tiles that overlap by a quarter. What it cannot do is a `CheckpointError`.
    """

    def __init__(
        self,
        source: str,
        call: Callable[[Images], object],
        *,
        device: str = "cpu",
        batch: int | None = None,
        size: tuple[int, int] | None = None,
    ) -> None:
        self.source, self.call, self.device, self.batch, self.size = source, call, device, batch, size
        self.multiple: int | None = None

    @torch.no_grad()
    def __call__(self, degraded: Images) -> Images:
        height, width = degraded.shape[-2:]
        images = degraded.to(self.device, torch.float32, copy=True)  # a model may write on its input
        try:
            if self.size is not None:
                return self._tiled(images, *self.size).to(degraded.device)
            if self.multiple is None:
                self.multiple = self._find_multiple()
            grown = _grown(images, height + -height % self.multiple, width + -width % self.multiple)
            return self._restored(grown)[..., :height, :width].to(degraded.device)
        except UnseenError:
            raise
        except Exception as error:
            raise CheckpointError(
                f"{self.source} failed on {len(images)} images of {width} x {height} pixels: {first_line(error)}."
            ) from error

    def _find_multiple(self) -> int:
        """The smallest multiple at which it restores a small image, whose sides are odd times that multiple."""
        last: Exception | None = None
        for multiple in MULTIPLES:
            height, width = (multiple * (math.ceil(side / multiple) | 1) for side in (33, 37))
            image = torch.linspace(0, 1, 3 * height * width, device=self.device).reshape(1, 3, height, width)
            try:
                self._restored(image)
            except UnseenError:
                raise
            except Exception as error:
                last = error
            else:
                return multiple
        raise CheckpointError(
            f"{self.source} restores no image: expected RGB (1, 3, h, w) in [0, 1] to become the same shape, at sides "
            f"that are multiples of {MULTIPLES[-1]} at least. With 64 x 64 pixels: {first_line(last) if last else ''}."
        ) from last

    def _restored(self, images: Images) -> Images:
        """What `call` makes of images of a size that it takes, in lots of `batch`; the last one is filled up."""
        lots = []
        for start in range(0, len(images), self.batch or len(images)):
            lot = images if self.batch is None else images[start : start + self.batch]
            filled = lot if self.batch is None else lot[torch.arange(self.batch).clamp_(max=len(lot) - 1)]
            found = list(_tensors(self.call(filled)))
            fitting = [tensor for tensor in found if tensor.shape == filled.shape]
            if not fitting:
                seen = ", ".join(str(tuple(tensor.shape)) for tensor in found[:3]) or "no tensor"
                raise ValueError(f"it returned {seen} for {tuple(filled.shape)}")
            restored = fitting[0][: len(lot)].float()
            if not restored.isfinite().all():
                raise CheckpointError(
                    f"{self.source} returned values that are not finite: its weights are damaged, or it needs another "
                    "input than RGB in [0, 1]."
                )
            lots.append(restored)
        return torch.cat(lots)

    def _tiled(self, images: Images, rows: int, columns: int) -> Images:
        height, width = images.shape[-2:]
        images = _grown(images, max(height, rows), max(width, columns))
        restored = torch.empty_like(images)
        for top, skip_rows in _starts(images.shape[-2], rows):
            for left, skip_columns in _starts(images.shape[-1], columns):
                tile = self._restored(images[..., top : top + rows, left : left + columns])
                restored[..., top + skip_rows : top + rows, left + skip_columns : left + columns] = tile[
                    ..., skip_rows:, skip_columns:
                ]
        return restored[..., :height, :width]


def _starts(side: int, tile: int) -> Iterator[tuple[int, int]]:
    """Where tiles begin that cover `side` pixels, and how many pixels at their beginning are left to the one before."""
    halo = tile // 8
    for start in [*range(0, side - tile, tile - 2 * halo), side - tile]:
        yield start, halo if start else 0


def _grown(images: Images, height: int, width: int) -> Float[Tensor, "b c grown_h grown_w"]:
    """Grow to `height` x `width` at the bottom and the right: by reflection, or repeating the border where an image
    is too small for it."""
    down, right = height - images.shape[-2], width - images.shape[-1]
    if not down and not right:
        return images
    reflects = down < images.shape[-2] and right < images.shape[-1]
    return F.pad(images, (0, right, 0, down), mode="reflect" if reflects else "replicate")


def _tensors(output: object) -> Iterator[Tensor]:
    if isinstance(output, Tensor):
        yield output
    elif isinstance(output, dict | list | tuple):
        for part in output.values() if isinstance(output, dict) else output:
            yield from _tensors(part)
