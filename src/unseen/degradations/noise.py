"""Noise: eight kinds, each a small class, and all that they share.

Every kind changes the sRGB-encoded image `B`, in [0, 1], into `O`, which is clipped to [0, 1]. Sensor noise alone is
made in linear light. The formula of each stands in its docstring; `u` is uniform and `n` standard normal, one number
for every value of the image. They are drawn on the CPU in `sample`, from the image's own generator, and the levels
before them: the same address with another level gives the same pattern, stronger or weaker. Rendering turns them into
noise on any device; it adds no randomness.

Levels are ranges (`unseen.ranges`), drawn once for every image (`Levelled`). The batch's layer is the largest change
over colour, either way, after clipping; the mask (`mask_of`) covers nearly all of most images.

The file stays whole, though long: a family is a file, and each kind a page of its own.
"""

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Self

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from pydantic import model_validator
from torch import Tensor
from torch.nn.functional import pad

from unseen.degradations.base import Levelled, Levels, each, normal
from unseen.images import PEAK, to_bytes
from unseen.ranges import Parameter, Range
from unseen.types import Batch, Images

Matrix = tuple[tuple[float, float, float], tuple[float, float, float], tuple[float, float, float]]

FEW = 12.0
"""Counts of at most this mean are inverted exactly; above it, one in 2,500 may be off by one."""


@dataclass(frozen=True, slots=True)
class NoiseParams:
    """What was drawn: the levels, and the numbers for the pixels (uniform or normal; None: the kind needs none)."""

    labels: Levels
    field: Float[Tensor, "b planes rows columns"] | None = None


def _drawn(params: NoiseParams, clean: Images) -> Float[Tensor, "b planes rows columns"]:
    """The numbers for the pixels, on the device of the images, single precision."""
    assert params.field is not None
    return params.field.to(clean.device, non_blocking=True)


def _clipped(noisy: Float[Tensor, "b c h w"], clean: Images) -> Images:
    return noisy.clamp(0, 1).to(clean.dtype)


class Noise(Levelled):
    """What the kinds of noise share. Abstract. A second draw tells what of it leaks through."""

    draws: ClassVar[int] = 2
    widest: ClassVar[str | None] = "gaussian-range"


class GaussianNoise(Noise):
    """`O = clip(B + sigma / 255 * n)`. `sigma` is the standard deviation before clipping, in 8-bit levels."""

    factors: ClassVar[dict[str, float | None]] = {"sigma": None}
    bounds: ClassVar[dict[str, tuple[float, float]]] = {"sigma": (0, PEAK)}
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "gaussian15": {"sigma": 15},
        "gaussian25": {"sigma": 25},
        "gaussian50": {"sigma": 50},
        "gaussian-range": {"sigma": Range(low=5, high=50)},
        "gaussian75": {"sigma": 75},
    }
    training: ClassVar[tuple[str, ...]] = ("gaussian15", "gaussian25", "gaussian50", "gaussian-range")
    tests: ClassVar[tuple[str, ...]] = ("gaussian75",)

    kind: Literal["GaussianNoise"] = "GaussianNoise"
    sigma: Parameter = Range(low=25, high=25)

    def sample(self, size: tuple[int, int], rngs: Sequence[torch.Generator]) -> NoiseParams:
        return NoiseParams(self.levels(rngs), normal(size, rngs))

    def render(self, clean: Images, params: NoiseParams) -> Batch:
        noisy = clean.float() + each(params.labels["sigma"] / PEAK, clean) * _drawn(params, clean)
        return self.changed(clean, _clipped(noisy, clean), params.labels)


class PoissonNoise(Noise):
    """`O = clip(K / photons)`, K Poisson distributed with mean `photons * B`: mean B, variance `B / photons`.

    `photons` is the mean count at white. The image is taken as it is, sRGB-encoded, as tests of denoisers do; counts
    of linear light are in `CameraNoise`. Whole counts, from normal numbers: `counts`.
    """

    factors: ClassVar[dict[str, float | None]] = {"photons": None}
    bounds: ClassVar[dict[str, tuple[float, float]]] = {"photons": (0.1, 1e6)}
    presets: ClassVar[dict[str, dict[str, Any]]] = {"poisson": {"photons": 50}, "poisson-dark": {"photons": 10}}
    tests: ClassVar[tuple[str, ...]] = ("poisson", "poisson-dark")

    kind: Literal["PoissonNoise"] = "PoissonNoise"
    photons: Parameter = Range(low=50, high=50)

    def sample(self, size: tuple[int, int], rngs: Sequence[torch.Generator]) -> NoiseParams:
        return NoiseParams(self.levels(rngs), normal(size, rngs))

    def render(self, clean: Images, params: NoiseParams) -> Batch:
        photons = each(params.labels["photons"], clean)
        noisy = counts(clean.float() * photons, _drawn(params, clean)) / photons
        return self.changed(clean, _clipped(noisy, clean), params.labels)


class SpeckleNoise(Noise):
    """`O = clip(B * (1 + strength * n))`: mean B, standard deviation `strength * B`, before clipping."""

    factors: ClassVar[dict[str, float | None]] = {"strength": None}
    bounds: ClassVar[dict[str, tuple[float, float]]] = {"strength": (0, 4)}
    presets: ClassVar[dict[str, dict[str, Any]]] = {"speckle": {"strength": 0.2}}
    tests: ClassVar[tuple[str, ...]] = ("speckle",)

    kind: Literal["SpeckleNoise"] = "SpeckleNoise"
    strength: Parameter = Range(low=0.2, high=0.2)

    def sample(self, size: tuple[int, int], rngs: Sequence[torch.Generator]) -> NoiseParams:
        return NoiseParams(self.levels(rngs), normal(size, rngs))

    def render(self, clean: Images, params: NoiseParams) -> Batch:
        noisy = clean.float() * (1 + each(params.labels["strength"], clean) * _drawn(params, clean))
        return self.changed(clean, _clipped(noisy, clean), params.labels)


class SaltAndPepper(Noise):
    """A `share` of all values (each colour of a pixel by itself) is replaced, half of them by 0 and half by 1:
    `O = 0` where `u < share / 2`, 1 where `u >= 1 - share / 2`, B elsewhere."""

    factors: ClassVar[dict[str, float | None]] = {"share": None}
    bounds: ClassVar[dict[str, tuple[float, float]]] = {"share": (0, 1)}
    presets: ClassVar[dict[str, dict[str, Any]]] = {"salt-and-pepper": {"share": 0.05}}
    tests: ClassVar[tuple[str, ...]] = ("salt-and-pepper",)

    kind: Literal["SaltAndPepper"] = "SaltAndPepper"
    share: Parameter = Range(low=0.05, high=0.05)

    def sample(self, size: tuple[int, int], rngs: Sequence[torch.Generator]) -> NoiseParams:
        labels = self.levels(rngs)
        return NoiseParams(labels, torch.stack([torch.rand((3, *size), generator=rng) for rng in rngs]))

    def render(self, clean: Images, params: NoiseParams) -> Batch:
        uniform, half = _drawn(params, clean), each(params.labels["share"] / 2, clean)
        noisy = clean.masked_fill(uniform < half, 0).masked_fill_(uniform >= 1 - half, 1)
        return self.changed(clean, noisy, params.labels)


class CorrelatedNoise(Noise):
    """`O = clip(B + sigma / 255 * g)`: `g` is white noise, filtered with a Gaussian and brought back to variance 1.

    `sigma` is in 8-bit levels. `length` is the correlation length in pixels: at a distance d the correlation is
    `exp(-(d / length)^2)`, and the standard deviation of the filter is `length / 2`. The filter is sampled at whole
    pixels: at length 1 its nearest neighbours correlate by .26 instead of .37, from 1.5 on to within .01. Colours are
    independent. The field reaches beyond the image, whose borders are no different from its middle.
    """

    factors: ClassVar[dict[str, float | None]] = {"sigma": None, "length": None}
    bounds: ClassVar[dict[str, tuple[float, float]]] = {"sigma": (0, PEAK), "length": (1, 64)}
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "correlated": {"sigma": 25, "length": 2},
        "blotchy": {"sigma": 25, "length": 8},
    }
    tests: ClassVar[tuple[str, ...]] = ("correlated", "blotchy")

    kind: Literal["CorrelatedNoise"] = "CorrelatedNoise"
    sigma: Parameter = Range(low=25, high=25)
    length: Parameter = Range(low=2, high=2)

    def sample(self, size: tuple[int, int], rngs: Sequence[torch.Generator]) -> NoiseParams:
        labels = self.levels(rngs)
        field = torch.empty(len(rngs), 3, *size)
        for length in labels["length"].unique().tolist():
            mine = (labels["length"] == length).nonzero()[:, 0]
            field[mine] = _filtered_noise(size, length, [rngs[image] for image in mine.tolist()])
        return NoiseParams(labels, field)

    def render(self, clean: Images, params: NoiseParams) -> Batch:
        noisy = clean.float() + each(params.labels["sigma"] / PEAK, clean) * _drawn(params, clean)
        return self.changed(clean, _clipped(noisy, clean), params.labels)


def _filtered_noise(size: tuple[int, int], length: float, rngs: Sequence[torch.Generator]) -> Float[Tensor, "b 3 h w"]:
    """Gaussian noise of variance 1 with a correlation length in pixels."""
    reach = math.ceil(2 * length)  # four standard deviations of the filter
    weights = [math.exp(-2 * (place / length) ** 2) for place in range(-reach, reach + 1)]
    energy = math.sqrt(sum(weight * weight for weight in weights))
    field = normal((size[0] + 2 * reach, size[1] + 2 * reach), rngs)
    for dim, side in ((2, size[0]), (3, size[1])):
        total = torch.zeros_like(field.narrow(dim, 0, side))
        for place, weight in enumerate(weights):
            total.add_(field.narrow(dim, place, side), alpha=weight / energy)
        field = total
    return field


class Quantisation(Noise):
    """`O = round(B * (2^bits - 1)) / (2^bits - 1)`, every colour by itself; `bits` are rounded to a whole number.

    No randomness beyond that of `bits`. Where the image varies by many steps the error is uniform, of variance
    `1 / (12 (2^bits - 1)^2)`.
    """

    factors: ClassVar[dict[str, float | None]] = {"bits": None}
    bounds: ClassVar[dict[str, tuple[float, float]]] = {"bits": (1, 16)}
    presets: ClassVar[dict[str, dict[str, Any]]] = {"quantised": {"bits": 3}}
    tests: ClassVar[tuple[str, ...]] = ("quantised",)

    kind: Literal["Quantisation"] = "Quantisation"
    bits: Parameter = Range(low=3, high=3)

    def sample(self, size: tuple[int, int], rngs: Sequence[torch.Generator]) -> NoiseParams:
        return NoiseParams({"bits": (self.levels(rngs)["bits"] + 0.5).floor()})

    def render(self, clean: Images, params: NoiseParams) -> Batch:
        steps = each(2 ** params.labels["bits"] - 1, clean)
        return self.changed(clean, _clipped((clean.float() * steps).round() / steps, clean), params.labels)


class JPEG(Noise):
    """What is left of the image after JPEG (ITU-T T.81) at a `quality` of 1 to 100, rounded to a whole number.

    Pillow's encoder and decoder, whose scale of quality is libjpeg's. `subsampling` is that of colour: "4:2:0" halves
    its resolution, "4:4:4" does not. The image is rounded to 8 bits before. On the CPU, one image after the other.
    Another build of libjpeg may differ in the last bit.
    """

    factors: ClassVar[dict[str, float | None]] = {"quality": None, "subsampling": None}
    bounds: ClassVar[dict[str, tuple[float, float]]] = {"quality": (1, 100)}
    presets: ClassVar[dict[str, dict[str, Any]]] = {"jpeg": {"quality": 10}}
    tests: ClassVar[tuple[str, ...]] = ("jpeg",)

    kind: Literal["JPEG"] = "JPEG"
    quality: Parameter = Range(low=10, high=10)
    subsampling: Literal["4:2:0", "4:4:4"] = "4:2:0"

    def sample(self, size: tuple[int, int], rngs: Sequence[torch.Generator]) -> NoiseParams:
        return NoiseParams({"quality": (self.levels(rngs)["quality"] + 0.5).floor()})

    def render(self, clean: Images, params: NoiseParams) -> Batch:
        pixels = to_bytes(clean.float().permute(0, 2, 3, 1).cpu().numpy())
        kept = np.stack([
            self._recoded(image, int(quality))
            for image, quality in zip(pixels, params.labels["quality"].tolist(), strict=True)
        ])  # fmt: skip
        degraded = torch.from_numpy(kept).to(clean.device).permute(0, 3, 1, 2).float().contiguous() / PEAK
        return self.changed(clean, degraded.to(clean.dtype), params.labels)

    def _recoded(self, image: np.ndarray, quality: int) -> np.ndarray:
        """(h, w, 3) uint8, through the file format and back."""
        file = io.BytesIO()
        Image.fromarray(image).save(file, "JPEG", quality=quality, subsampling=self.subsampling)
        with Image.open(file) as decoded:
            return np.array(decoded)


class CameraNoise(Noise):
    """Sensor noise: light comes in photons, and reading them out adds noise of its own; both in linear light.

    The Poissonian-Gaussian model of Foi et al. ("Practical Poissonian-Gaussian noise modeling and fitting for
    single-image raw-data", IEEE TIP 2008), with the counts taken as normal, in a raw pipeline after Brooks et al.
    ("Unprocessing images for learned raw denoising", CVPR 2019), without its tone curve:

    1. To linear light: the inverse of sRGB's curve (IEC 61966-2-1).
    2. To the camera's colours: the inverse of `matrix`, then red and blue divided by their gains.
    3. `mosaic` "rggb": of every pixel one colour is kept, red at (0, 0), green at (0, 1) and (1, 0), blue at (1, 1).
    4. Noise: `y = x + sqrt(shot * x + read^2) * n`. `shot` is the variance at full light, `read` a standard deviation.
       Raw values are not clipped: cameras record a black level above zero.
    5. Back: bilinear demosaicing, gains, matrix, clipping to [0, 1], sRGB's curve.

    `matrix` takes the camera's colours to linear sRGB (None: they are the same); its rows sum to 1, so that white stays
    white. Like `airlight` for rain, it does not count as a factor. With a mosaic, fine detail is lost even without
    noise: that is part of the degradation.
    """

    factors: ClassVar[dict[str, float | None]] = {
        "shot": None, "read": None, "red_gain": None, "blue_gain": None, "mosaic": None,
    }  # fmt: skip
    bounds: ClassVar[dict[str, tuple[float, float]]] = {
        "shot": (0, 1), "read": (0, 1), "red_gain": (0.1, 10), "blue_gain": (0.1, 10),
    }  # fmt: skip
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "camera": {"shot": Range(low=0.004, high=0.012), "read": Range(low=0.005, high=0.015)},
        "camera-raw": {
            "shot": Range(low=0.004, high=0.012), "read": Range(low=0.005, high=0.015),
            "red_gain": Range(low=1.9, high=2.4), "blue_gain": Range(low=1.5, high=1.9), "mosaic": "rggb",
            "matrix": ((1.6, -0.4, -0.2), (-0.2, 1.5, -0.3), (0.0, -0.5, 1.5)),
        },
    }  # fmt: skip
    tests: ClassVar[tuple[str, ...]] = ("camera", "camera-raw")

    kind: Literal["CameraNoise"] = "CameraNoise"
    shot: Parameter = Range(low=0.01, high=0.01)
    read: Parameter = Range(low=0.01, high=0.01)
    red_gain: Parameter = Range(low=1, high=1)
    blue_gain: Parameter = Range(low=1, high=1)
    mosaic: Literal["none", "rggb"] = "none"
    matrix: Matrix | None = None

    @model_validator(mode="after")
    def _white_stays_white(self) -> Self:
        if self.matrix is not None:
            if any(abs(sum(row) - 1) > 1e-3 for row in self.matrix):
                raise ValueError(f"the rows of matrix sum to {[round(sum(row), 4) for row in self.matrix]}, not to 1")
            if abs(np.linalg.det(np.array(self.matrix))) < 1e-3:
                raise ValueError("matrix has no inverse (its determinant is 0)")
        return self

    def sample(self, size: tuple[int, int], rngs: Sequence[torch.Generator]) -> NoiseParams:
        labels = self.levels(rngs)
        if self.mosaic == "rggb":
            return NoiseParams(labels, normal((size[0] + 2 * _RIM, size[1] + 2 * _RIM), rngs, planes=1))
        return NoiseParams(labels, normal(size, rngs))

    def render(self, clean: Images, params: NoiseParams) -> Batch:
        shot, read, red, blue = (each(params.labels[name], clean) for name in self.bounds)
        gains = torch.cat((red, torch.ones_like(red), blue), 1)
        light = to_linear(clean.float())
        if self.matrix is not None:
            light = _recoloured(light, np.linalg.inv(np.array(self.matrix)).tolist())
        raw = light / gains
        if self.mosaic == "rggb":
            raw = mosaicked(pad(raw, (_RIM, _RIM, _RIM, _RIM), mode="replicate"))
        raw = raw + (shot * raw + read.square()).clamp_(min=0).sqrt_() * _drawn(params, clean)
        if self.mosaic == "rggb":
            raw = demosaicked(raw)[..., _RIM:-_RIM, _RIM:-_RIM]
        light = raw * gains
        if self.matrix is not None:
            light = _recoloured(light, self.matrix)
        return self.changed(clean, to_srgb(light.clamp(0, 1)).to(clean.dtype), params.labels)


NOISES = (
    GaussianNoise, PoissonNoise, SpeckleNoise, SaltAndPepper, CorrelatedNoise, Quantisation, JPEG, CameraNoise,
)  # fmt: skip

_RIM = 2
"""Pixels repeated around an image before it is demosaicked, so that every pixel has neighbours of every colour."""


def to_linear(images: Float[Tensor, "*n"]) -> Float[Tensor, "*n"]:
    """sRGB-encoded values in [0, 1] to linear light in [0, 1] (IEC 61966-2-1)."""
    return torch.where(images <= 0.04045, images / 12.92, ((images.clamp(min=0) + 0.055) / 1.055) ** 2.4)


def to_srgb(light: Float[Tensor, "*n"]) -> Float[Tensor, "*n"]:
    """The inverse of `to_linear`."""
    return torch.where(light <= 0.0031308, light * 12.92, 1.055 * light.clamp(min=0.0031308) ** (1 / 2.4) - 0.055)


def _recoloured(images: Float[Tensor, "b c h w"], matrix: Sequence[Sequence[float]]) -> Float[Tensor, "b c h w"]:
    """Every pixel times a 3 x 3 matrix. Written out: the same on every device, alone and in a batch."""
    red, green, blue = images.split(1, 1)
    return torch.cat([row[0] * red + row[1] * green + row[2] * blue for row in matrix], 1)


def mosaicked(images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 1 h w"]:
    """One colour of every pixel: red at (0, 0), green at (0, 1) and (1, 0), blue at (1, 1), and so on."""
    raw = images[:, 1:2].clone()
    raw[..., ::2, ::2] = images[:, 0:1, ::2, ::2]
    raw[..., 1::2, 1::2] = images[:, 2:3, 1::2, 1::2]
    return raw


def demosaicked(raw: Float[Tensor, "b 1 h w"]) -> Float[Tensor, "b 3 h w"]:
    """Bilinear: a colour that a pixel lacks is the mean of its nearest neighbours that have it.

    At the outermost pixels what lies beyond the border counts as 0.
    """
    red, green, blue = torch.zeros_like(raw), raw.clone(), torch.zeros_like(raw)
    red[..., ::2, ::2], blue[..., 1::2, 1::2] = raw[..., ::2, ::2], raw[..., 1::2, 1::2]
    green[..., ::2, ::2], green[..., 1::2, 1::2] = 0, 0
    across, down = _neighbours(green, 3), _neighbours(green, 2)
    green = green + (across + down) / 4
    # Red and blue lie on every second row and column: halves of both neighbours along each axis are means there,
    # and add nothing where the colour was measured, whose neighbours are empty.
    red, blue = (plane + _neighbours(plane, 3) / 2 for plane in (red, blue))
    red, blue = (plane + _neighbours(plane, 2) / 2 for plane in (red, blue))
    return torch.cat((red, green, blue), 1)


def _neighbours(plane: Float[Tensor, "b 1 h w"], dim: int) -> Float[Tensor, "b 1 h w"]:
    """The sum of the pixels before and after, along an axis."""
    total = torch.zeros_like(plane)
    inner = plane.shape[dim] - 1
    total.narrow(dim, 0, inner).add_(plane.narrow(dim, 1, inner))
    total.narrow(dim, 1, inner).add_(plane.narrow(dim, 0, inner))
    return total


def counts(mean: Float[Tensor, "*n"], normal: Float[Tensor, "*n"]) -> Float[Tensor, "*n"]:
    """Poisson counts of each `mean` (at least 0), by inversion: the smallest k with `P(K <= k) >= P(N <= normal)`.

    Where the mean is at most `FEW` the distribution is summed up; above it the count is the asymptotic expansion of
    its inverse, floored: Giles, "Algorithm 955: approximation of the inverse Poisson cumulative distribution function",
    ACM TOMS 2016. Unlike sampling by rejection it runs on every device, and a little more light is a little more
    counts. In double precision where the device has it, so that devices agree.
    """
    precision = torch.float32 if mean.device.type == "mps" else torch.float64
    rate, w = mean.to(precision).flatten(), normal.to(precision).flatten()
    root, square = rate.clamp(min=FEW).sqrt_(), w * w
    counted = rate + root * w + (1 / 3 + square / 6)
    counted -= w * (1 / 36 + square / 72) / root
    counted += (-8 / 405 + square * (7 / 810 + square / 270)) / (root * root)
    counted = counted.floor_()
    few = (rate <= FEW).nonzero()[:, 0]
    counted.index_copy_(0, few, _summed_up(rate.index_select(0, few), torch.special.ndtr(w.index_select(0, few))))
    return counted.to(mean.dtype).view_as(mean)


def _summed_up(mean: Float[Tensor, "k"], below: Float[Tensor, "k"]) -> Float[Tensor, "k"]:
    """How many of the sums P(K <= 0), P(K <= 1), ... lie below `below`. Those that are done drop out."""
    count = torch.zeros_like(mean)
    left = torch.arange(len(mean), device=mean.device)
    term = torch.exp(-mean)
    summed = term.clone()
    for reached in range(0, _MOST, _AT_ONCE):
        here = torch.zeros_like(mean)
        for k in range(reached + 1, reached + 1 + _AT_ONCE):
            here += below > summed
            term.mul_(mean).mul_(1 / k)
            summed += term
        count.index_add_(0, left, here)
        more = (below > summed).nonzero()[:, 0]
        left, mean, below, term, summed = (values.index_select(0, more) for values in (left, mean, below, term, summed))
    return count


_AT_ONCE = 6
"""Sums of Poisson probabilities between two looks at which of them are done."""

_MOST = 48
"""A count of mean `FEW` reaches this less than once in 10^13 draws."""
