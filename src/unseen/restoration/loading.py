"""A model for images as they come: tensors, NumPy arrays and PIL images, each back as what it was."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, overload

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from unseen.errors import ConfigError
from unseen.models import Model, always_restoring, open_model, turned
from unseen.restoration.tiles import Tiler, tiler_for
from unseen.shipped import find_model

Array = TypeVar("Array", bound=np.ndarray)

OUTSIDE = 0.5
"""How far floating point may lie outside of [0, 1] before it is taken for something else."""


class ImageRestorer:
    """Restores an image and gives back the same kind. `model` is what is known of the model.

    - a tensor (b, 3, h, w) or (3, h, w), floating point in [0, 1]: at once, on the model's device, and back to its own;
    - an array (h, w, 3), or (h, w) for grey: uint8, uint16, or floating point in [0, 1]; in tiles where it is large
      (floating point may lie a little outside, as after resizing: it is clipped);
    - a PIL image: grey stays grey, transparency is left as it is, other colours become RGB. It is taken as it is
      stored: `ImageOps.exif_transpose` it first if it lies on its side.

    ConfigError says what else was given.
    """

    def __init__(self, model: Model, tiler: Tiler) -> None:
        self.model, self.tiler = model, tiler

    @overload
    def __call__(self, image: Tensor) -> Tensor: ...
    @overload
    def __call__(self, image: Array) -> Array: ...
    @overload
    def __call__(self, image: Image.Image) -> Image.Image: ...
    def __call__(self, image: Any) -> Any:  # Any: the overloads say which
        if isinstance(image, Tensor):
            return self._tensor(image)
        if isinstance(image, Image.Image):
            return self._picture(image)
        if isinstance(image, np.ndarray):
            return self._array(image)
        raise ConfigError(f"An image of {type(image).__name__}: expected a tensor, a NumPy array or a PIL image.")

    def _tensor(self, image: Tensor) -> Tensor:
        if not image.is_floating_point() or image.ndim not in (3, 4) or image.shape[-3] != 3:
            raise ConfigError(
                f"A tensor of {image.dtype}, {tuple(image.shape)}: expected floating point in [0, 1], (b, 3, h, w) or "
                "(3, h, w). An array (h, w, 3) may be of 8 or 16 bits."
            )
        images = image if image.ndim == 4 else image[None]
        if images.numel():
            _check_range(*(float(value) for value in images.aminmax()))
        with torch.no_grad():
            restored = self.model.restore(images.float()).clamp(0, 1).to(image.device, image.dtype)
        return restored.reshape(image.shape)

    def _array(self, image: NDArray[Any]) -> NDArray[Any]:
        known = image.dtype in (np.uint8, np.uint16) or np.issubdtype(image.dtype, np.floating)
        if not known or not (image.ndim == 2 or (image.ndim == 3 and image.shape[2] == 3)) or 0 in image.shape:
            raise ConfigError(
                f"An array of {image.dtype}, {image.shape}: expected uint8, uint16 or floating point in [0, 1], "
                "(h, w, 3) or (h, w). A batch is a tensor (b, 3, h, w)."
            )
        if np.issubdtype(image.dtype, np.floating):
            _check_range(float(image.min()), float(image.max()))
        stacked = image if image.ndim == 3 else image[..., None]
        return self.tiler.restore(stacked[None])[0].reshape(image.shape)

    def _picture(self, image: Image.Image) -> Image.Image:
        if image.mode.startswith("I"):
            values = np.asarray(image)
            if values.size and (values.min() < 0 or values.max() > np.iinfo(np.uint16).max):
                raise ConfigError(
                    f"An image of integers from {values.min()} to {values.max()}: expected 16 bits, 0 to 65535."
                )
            restored = Image.fromarray(self._array(values.astype(np.uint16)))
        elif image.mode == "F":
            restored = Image.fromarray(self._array(np.asarray(image)))
        else:
            grey = image.mode in ("1", "L", "LA", "La")
            clear = image.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info
            whole = image.convert("RGBA") if clear else image
            restored = Image.fromarray(self._array(np.asarray(whole.convert("L" if grey else "RGB"))))
            if clear:
                restored.putalpha(whole.getchannel("A"))
        restored.info = {name: value for name, value in image.info.items() if name != "transparency"}
        return restored


def _check_range(low: float, high: float) -> None:
    if not (low >= -OUTSIDE and high <= 1 + OUTSIDE):  # "not": also true of NaN
        raise ConfigError(
            f"Floating point from {low:g} to {high:g}: expected [0, 1]. Divide 8-bit values by 255, or give them as "
            "uint8."
        )


def load(
    source: str | Path | None = None,
    device: str = "cpu",
    precision: str = "fp32",
    *,
    trust: bool = False,
    always_restore: bool = False,
    priors: Sequence[str] = (),
    dials: Mapping[str, float] | None = None,
) -> ImageRestorer:
    """A model for images: of the weights that come with the package by name (None: "rain"), or whatever `open_model`
    opens.

    `precision` is that of our own networks: "fp32", "mixed" (bf16 convolutions) or "auto" (mixed where `device`
    multiplies bf16 in hardware). `trust` allows files that execute code. `always_restore`: also what the
    model takes for clean, and would leave as it is ("rain-better" does that). `priors`: where a checkpoint's priors lie
    now, if they have moved. `dials`: what to turn, such as {"features": 0.5} (docs/priors.md).
    ConfigError and CheckpointError say in one sentence what is wrong with the call, or with the file.
    """
    model = open_model(find_model(source), device=device, precision=precision, trust=trust, priors=priors)
    model = turned(model, dials) if dials else model
    if always_restore:
        model = always_restoring(model)
    return ImageRestorer(model, tiler_for(model.restore, model.device or device, model.config))
