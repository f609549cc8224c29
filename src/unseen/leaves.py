"""Dead leaves: images made of overlapping discs, with complexity as a dial.

Discs with power-law radii that cover one another are a classic model of natural images: with exponent 3 it is
nearly scale-invariant and gives the statistics of occlusion, edges and flat areas (Lee, Mumford, Huang: Occlusion
models for natural images, IJCV 2001; for the geometry, Bordenave, Gousseau, Roueff: The dead leaves model, Advances
in Applied Probability 2006). Networks trained on them restore real photographs (Achddou, Gousseau, Ladjal: Synthetic
images as a regularity prior for image restoration neural networks, SSVM 2021). Noise textures follow the amplitude
spectra of natural images, about 1/f (Field, JOSA A 1987). How complexity maps to the parameters is our own choice.
"""

import math
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, model_validator

from unseen.images import Bytes, to_bytes
from unseen.ranges import Frozen
from unseen.seeding import generator

_CHUNK = 1 << 21  # covered pixels expanded at once: bounds the memory of large images
_COLUMNS = 12  # random numbers per leaf
Floats = NDArray[np.float32]


class DeadLeaves(Frozen):
    """`complexity`, in [0, 1], is the one dial; `r_min` and the shares below follow it unless they are given.

    `r_min`, `r_max`: radii in pixels; their density falls as `r ** -exponent`. `r_min` falls from 64 to 1.
    `cover`: how often a pixel is covered on average; what `exp(-cover)` leaves bare shows a ground leaf.
    `textured`: share of leaves with a texture, half of them sinusoidal gratings, half 1/f**alpha noise. Rises to 1.
    `contrast`: largest amplitude of a texture (noise: its standard deviation), in units of white. Rises to 0.25.
    `colour`: 0 is grey, 1 fully coloured. Rises from 0.25 to 1.
    `alphas`: exponents of the amplitude spectra of the noise textures.
    """

    complexity: float = Field(default=0.5, ge=0, le=1)
    r_min: float = Field(default=8.0, ge=0.5)
    r_max: float = Field(default=128.0, le=4096)
    exponent: float = Field(default=3.0, gt=1)
    cover: float = Field(default=6.0, gt=0, le=20)
    textured: float = Field(default=0.5, ge=0, le=1)
    contrast: float = Field(default=0.125, ge=0, le=1)
    colour: float = Field(default=0.625, ge=0, le=1)
    alphas: tuple[float, ...] = Field(default=(0.5, 1.0, 1.5), min_length=1)

    @model_validator(mode="before")
    @classmethod
    def _follow_the_dial(cls, given: Any) -> Any:
        """Any: whatever is to be validated. A dial that is out of range is left to the field's own check."""
        complexity = given.get("complexity") if isinstance(given, dict) else None
        if isinstance(complexity, int | float) and 0 <= complexity <= 1:
            return _dial(float(complexity)) | given
        return given

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.r_min >= self.r_max:
            raise ValueError(f"r_min is {self.r_min:g}, not below r_max, {self.r_max:g}: choose a smaller r_min")
        return self

    def draw(self, size: tuple[int, int], seed: int, index: int) -> Bytes:
        """Image `index` of a seed: uint8, (h, w, 3), for size (h, w) in pixels. A pure function of its arguments.

        A lens comes last, a 3 x 3 binomial filter: edges are sharp but, as in photographs, not stairs.
        """
        rng = generator(seed, "leaves", index)
        height, width = size
        area = (height + 2 * self.r_max) * (width + 2 * self.r_max)
        count = math.ceil(self.cover * area / self._mean_leaf())
        uniform = torch.rand(1 + count, _COLUMNS, generator=rng, dtype=torch.float64).numpy()  # leaf 0 is the ground
        top = (uniform[1:, 0] * (height + 2 * self.r_max)) - self.r_max
        left = (uniform[1:, 1] * (width + 2 * self.r_max)) - self.r_max
        labels = _cover(top, left, self._radii(uniform[1:, 2]), size)
        # From here on only leaves that are seen.
        seen, labels = np.unique(labels, return_inverse=True)
        leaves = uniform[seen].astype(np.float32)
        chroma = leaves[:, 4:7] - leaves[:, 4:7].mean(1, keepdims=True)
        colours = leaves[:, 3:4] + self.colour * chroma
        image = colours[labels].reshape(height, width, 3)
        if self.textured > 0 and self.contrast > 0:
            image += self._texture(leaves, labels.reshape(size), rng)[..., None]
        return to_bytes(_lens(np.clip(image, 0, 1)))

    def _mean_leaf(self) -> float:
        """Mean area of a leaf in pixels."""
        return math.pi * _moment(2 - self.exponent, self) / _moment(-self.exponent, self)

    def _radii(self, uniform: NDArray[np.float64]) -> NDArray[np.float64]:
        power = 1 - self.exponent
        low, high = self.r_min**power, self.r_max**power
        return (low + uniform * (high - low)) ** (1 / power)

    def _texture(self, leaves: Floats, labels: NDArray[np.intp], rng: torch.Generator) -> Floats:
        """What is added to all colours, (h, w): per leaf nothing, a grating, or a piece of a noise field."""
        height, width = labels.shape
        rows, columns = np.mgrid[:height, :width].astype(np.float32)
        amplitude = np.where(leaves[:, 7] < self.textured, self.contrast * leaves[:, 8], 0)[labels]
        # Gratings with a period of 3 to 32 pixels, log-uniform, and any direction.
        frequency = 2 * np.pi / (3 * (32 / 3) ** leaves[:, 9])
        angle = np.pi * leaves[:, 10]
        phase = 2 * np.pi * leaves[:, 11]
        along, across = (frequency * np.cos(angle))[labels], (frequency * np.sin(angle))[labels]
        grating = np.sin(along * columns + across * rows + phase[labels])
        # Noise: each leaf shows one of the fields, shifted by its own offset.
        fields = _noise(labels.shape, self.alphas, rng)
        which = (leaves[:, 9] * len(self.alphas)).astype(np.intp).clip(max=len(self.alphas) - 1)
        down, right = (leaves[:, 10] * height).astype(np.intp), (leaves[:, 11] * width).astype(np.intp)
        shifted = (np.arange(height)[:, None] + down[labels]) % height, (np.arange(width) + right[labels]) % width
        noise = fields[which[labels], *shifted]
        # Within the textured share, the lower half of the same number chooses.
        return amplitude * np.where((leaves[:, 7] < self.textured / 2)[labels], grating, noise)


def _dial(complexity: float) -> dict[str, float]:
    """The parameters that follow the dial; at 0.5 the defaults above."""
    return {
        "r_min": 64.0 ** (1 - complexity),
        "textured": complexity,
        "contrast": 0.25 * complexity,
        "colour": 0.25 + 0.75 * complexity,
    }


def _moment(power: float, leaves: DeadLeaves) -> float:
    """Integral of r**power between the radii."""
    if math.isclose(power, -1):
        return math.log(leaves.r_max / leaves.r_min)
    return (leaves.r_max ** (power + 1) - leaves.r_min ** (power + 1)) / (power + 1)


def _cover(
    top: NDArray[np.float64], left: NDArray[np.float64], radius: NDArray[np.float64], size: tuple[int, int]
) -> NDArray[np.int32]:
    """The leaf seen at each pixel, flat, (h * w): leaves count from 1, later ones lie on top, 0 is the ground.

    All at once: a disc is a run of pixels per row, so that rows are expanded from leaves and pixels from rows.
    """
    height, width = size
    first = np.ceil(top - radius).clip(0, height).astype(np.int64)
    last = np.floor(top + radius).clip(-1, height - 1).astype(np.int64)
    rows = np.where((left + radius < 0) | (left - radius > width - 1), 0, (last - first + 1).clip(0))
    leaf = np.repeat(np.arange(len(rows)), rows)
    row = np.arange(len(leaf)) + np.repeat(first - (np.cumsum(rows) - rows), rows)
    half = np.sqrt((radius[leaf] ** 2 - (row - top[leaf]) ** 2).clip(0))
    start = np.ceil(left[leaf] - half).clip(0, width).astype(np.int64)
    stop = np.floor(left[leaf] + half).clip(-1, width - 1).astype(np.int64) + 1
    runs = (stop - start).clip(0)
    covered = np.cumsum(runs)
    labels = np.zeros(height * width, dtype=np.int32)
    begin = 0
    while begin < len(runs):
        done = covered[begin - 1] if begin else 0
        end = max(begin + 1, int(np.searchsorted(covered, done + _CHUNK, side="right")))
        lengths = runs[begin:end]
        offset = row[begin:end] * width + start[begin:end] - (covered[begin:end] - lengths - done)
        pixels = np.arange(covered[end - 1] - done) + np.repeat(offset, lengths)
        np.maximum.at(labels, pixels, np.repeat((leaf[begin:end] + 1).astype(np.int32), lengths))
        begin = end
    return labels


def _noise(shape: tuple[int, ...], alphas: tuple[float, ...], rng: torch.Generator) -> Floats:
    """Periodic fields with amplitude spectrum 1/f**alpha, (alphas, h, w), mean 0 and standard deviation 1."""
    white = torch.randn(len(alphas), *shape, generator=rng)
    spectrum = torch.fft.rfft2(white)
    frequency = torch.hypot(torch.fft.fftfreq(shape[0])[:, None], torch.fft.rfftfreq(shape[1])[None])
    frequency[0, 0] = torch.inf  # no mean
    fields = torch.fft.irfft2(spectrum * torch.stack([frequency**-alpha for alpha in alphas]), s=shape)
    return (fields / fields.std((1, 2), correction=0, keepdim=True).clamp(min=1e-6)).numpy()


def _lens(image: Floats) -> Floats:
    """Binomial filter (1 2 1)/4 along rows and columns; edge pixels are repeated beyond the border."""
    wide = np.pad(image, ((1, 1), (1, 1), (0, 0)), mode="edge")
    tall = (wide[:-2] + 2 * wide[1:-1] + wide[2:]) / 4
    return ((tall[:, :-2] + 2 * tall[:, 1:-1] + tall[:, 2:]) / 4).astype(np.float32, copy=False)
