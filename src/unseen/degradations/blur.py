"""Blur: five kinds of kernel, and all that they share.

The model is uniform: `O = clip(K * B + noise / 255 * n)`, the convolution of the sRGB-encoded image `B`, every colour
by itself, with a kernel `K` that is at least 0 and sums to 1, and a little normal noise `n` for every value. What a
kind adds is its kernel. Directions are those of rain: degrees from vertical, positive leaning right at the top.

Kernels have an odd side and their centre of mass in their middle, to within rounding (those from files: to within
half a pixel), so that blur moves nothing. They are drawn with sub-pixel accuracy: a density is integrated over each
pixel; a path lays each of its points on the four pixels around it, as bilinear interpolation weighs them.

Borders: the image is continued by reflection, without repeating its edge. What lies within `border` pixels of an edge,
the reach of the largest kernel of the range, thus shows made-up content, and is left out of scores.

Levels are drawn once for every image (`Levelled`), and like the shape of a path and the noise on the CPU. Kernels are
made and applied for a whole batch at once, on any device. The layer is the largest change over colour, either way,
after clipping: blur lays nothing on top.
"""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from pydantic import model_validator
from torch import Tensor

from unseen.backgrounds import expanded
from unseen.degradations.base import Levelled, Levels, each, normal
from unseen.errors import ConfigError, DataError
from unseen.images import PEAK, find_images, read_image
from unseen.ranges import Parameter, Range
from unseen.types import Batch, Images

Kernels = Float[Tensor, "b side side"]

STEPS = 256
"""Points of a path."""

ROWS = 16
"""Chords of a disk in each row of pixels."""


@dataclass(frozen=True, slots=True)
class BlurParams:
    """What was drawn: the levels; the shapes of the kernels, where levels do not tell them (paths of length 1, down and
    right; kernels from files); and the noise (None: there is none)."""

    labels: Levels
    shapes: Tensor | None = None
    noise: Float[Tensor, "b 3 h w"] | None = None


class Blur(Levelled):
    """What the kinds of blur share. Abstract. `noise` is a standard deviation in 8-bit levels."""

    widest: ClassVar[str | None] = "blurs"

    noise: Parameter = Range(low=0, high=2)

    def shapes(self, labels: Levels, rngs: Sequence[torch.Generator]) -> Tensor | None:
        """What is drawn of the kernels beside their levels."""
        return None

    def kernels(self, params: BlurParams, device: torch.device | str = "cpu") -> Kernels:
        """The kernel of every image, of side `2 * border + 1`: at least 0, summing to 1."""
        raise NotImplementedError

    def sample(self, size: tuple[int, int], rngs: Sequence[torch.Generator]) -> BlurParams:
        labels = self.levels(rngs)
        shapes = self.shapes(labels, rngs)
        return BlurParams(labels, shapes, normal(size, rngs) if self.noise.high > 0 else None)

    def render(self, clean: Images, params: BlurParams) -> Batch:
        blurred = convolved(clean.float(), self.kernels(params, clean.device))
        if params.noise is not None:
            blurred = blurred + each(params.labels["noise"] / PEAK, clean) * params.noise.to(clean.device)
        return self.changed(clean, blurred.clamp(0, 1).to(clean.dtype), params.labels)


class MotionBlur(Blur):
    """A straight path of `length` pixels, at one speed; `direction` in degrees from vertical, modulo 180."""

    factors: ClassVar[dict[str, float | None]] = {"length": None, "direction": 180.0, "noise": None}
    bounds: ClassVar[dict[str, tuple[float, float]]] = {
        "length": (0, 160), "direction": (-360, 360), "noise": (0, PEAK),
    }  # fmt: skip
    sizes: ClassVar[tuple[str, ...]] = ("length",)
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "motion": {},
        "motion-narrow": {"direction": Range(low=-30, high=30)},
        "motion-across": {"direction": Range(low=50, high=90)},
        "motion-short": {"length": Range(low=4, high=8)},
        "motion-long": {"length": Range(low=30, high=40)},
        "motion-noisy": {"noise": Range(low=8, high=12)},
    }
    training: ClassVar[tuple[str, ...]] = ("motion", "motion-narrow")
    tests: ClassVar[tuple[str, ...]] = ("motion-across", "motion-short", "motion-long", "motion-noisy")

    kind: Literal["MotionBlur"] = "MotionBlur"
    length: Parameter = Range(low=10, high=25)
    direction: Parameter = Range(low=-90, high=90)

    @property
    def border(self) -> int:
        return math.ceil(self.length.high / 2)

    def kernels(self, params: BlurParams, device: torch.device | str = "cpu") -> Kernels:
        radians = torch.deg2rad(params.labels["direction"].to(device))
        heading = torch.stack((radians.cos(), -radians.sin()), 1) * params.labels["length"].to(device)[:, None]
        places = (torch.arange(STEPS, device=device) + 0.5) / STEPS - 0.5
        return traced(heading[:, None] * places[:, None], self.border)


class CameraShake(Blur):
    """A random path of `length` pixels, run through at one speed, after the model of camera shake of Boracchi and Foi
    ("Modeling the performance of image restoration from motion blur", IEEE TIP 2012) as Kupyn et al. use it
    ("DeblurGAN", CVPR 2018): a particle whose velocity is perturbed at random, is pulled back to where it began, and
    is now and then thrown around. Its units are our own, for a path of length 1 run through in a time of 1, in steps
    of `1 / STEPS`; speed stays 1, so that the velocity `v` is a direction:

        v <- unit(v + jitter sqrt(1 / STEPS) n - pull / STEPS x),    x <- x + v / STEPS

    `x` is the place from where it began, `n` normal, both axes by themselves. `jitter` thus is about the angle, in
    radians, by which the direction has wandered in the end. With probability `shakes / STEPS` a step instead turns
    `v` around, to within 30 degrees: `shakes` is how often, on average. The path is then moved so that its centre of
    mass lies in the middle. The first direction is any.
    """

    factors: ClassVar[dict[str, float | None]] = {
        "length": None, "jitter": None, "pull": None, "shakes": None, "noise": None,
    }  # fmt: skip
    bounds: ClassVar[dict[str, tuple[float, float]]] = {
        "length": (0, 160), "jitter": (0, 10), "pull": (0, 200), "shakes": (0, 16), "noise": (0, PEAK),
    }  # fmt: skip
    sizes: ClassVar[tuple[str, ...]] = ("length",)
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "shake": {},
        "shake-long": {"length": Range(low=50, high=70)},
    }
    tests: ClassVar[tuple[str, ...]] = ("shake", "shake-long")

    kind: Literal["CameraShake"] = "CameraShake"
    length: Parameter = Range(low=20, high=40)
    jitter: Parameter = Range(low=0.5, high=2)
    pull: Parameter = Range(low=0, high=40)
    shakes: Parameter = Range(low=0, high=2)

    @property
    def border(self) -> int:
        return math.ceil(self.length.high / 2)  # no point of a path lies farther from its centre of mass

    def shapes(self, labels: Levels, rngs: Sequence[torch.Generator]) -> Tensor:
        """Paths of length 1, centred: down and right."""
        drawn = [(torch.randn((STEPS, 2), generator=rng), torch.rand((STEPS + 1, 2), generator=rng)) for rng in rngs]
        # Complex numbers, down + i right; in double precision, an axis of steps, then one of images.
        push = torch.view_as_complex(torch.stack([numbers for numbers, _ in drawn], 1).double()).numpy()
        uniform = torch.stack([numbers for _, numbers in drawn], 1).double()
        angles = torch.pi * (1 + (uniform[:-1, :, 1] - 0.5) / 3)
        turns = torch.polar(torch.ones_like(angles), angles).numpy()
        heading = 2 * torch.pi * uniform[-1, :, 0]
        velocity = torch.polar(torch.ones_like(heading), heading).numpy()
        jitter, pull, shakes = (labels[name].double().numpy() / STEPS for name in ("jitter", "pull", "shakes"))
        shaken = uniform[:-1, :, 0].numpy() < shakes
        push = push * (jitter * STEPS**0.5)
        place, path = np.zeros_like(velocity), np.empty_like(push)
        for step in range(STEPS):
            velocity = np.where(shaken[step], velocity * turns[step], velocity + push[step] - pull * place)
            velocity /= np.maximum(np.abs(velocity), 1e-12)
            place = place + velocity / STEPS
            path[step] = place
        return torch.view_as_real(torch.from_numpy(path - path.mean(0))).transpose(0, 1).float()

    def kernels(self, params: BlurParams, device: torch.device | str = "cpu") -> Kernels:
        assert params.shapes is not None
        length = params.labels["length"].to(device)[:, None, None]
        return traced(params.shapes.to(device) * length, self.border)


class GaussianBlur(Blur):
    """A Gaussian: `sigma` pixels is its standard deviation along `direction` (degrees from vertical, modulo 180),
    `aspect` times that across. At aspect 1 it is isotropic. It is cut at the square of four `sigma`."""

    factors: ClassVar[dict[str, float | None]] = {"sigma": None, "aspect": None, "direction": 180.0, "noise": None}
    bounds: ClassVar[dict[str, tuple[float, float]]] = {
        "sigma": (0.05, 32), "aspect": (0.05, 1), "direction": (-360, 360), "noise": (0, PEAK),
    }  # fmt: skip
    sizes: ClassVar[tuple[str, ...]] = ("sigma",)
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "gaussian-blur": {},
        "gaussian-oval": {"sigma": Range(low=3, high=5), "aspect": Range(low=0.2, high=0.5)},
    }
    tests: ClassVar[tuple[str, ...]] = ("gaussian-blur", "gaussian-oval")

    kind: Literal["GaussianBlur"] = "GaussianBlur"
    sigma: Parameter = Range(low=1.5, high=3)
    aspect: Parameter = Range(low=1, high=1)
    direction: Parameter = Range(low=-90, high=90)

    @property
    def border(self) -> int:
        return math.ceil(4 * self.sigma.high)

    def kernels(self, params: BlurParams, device: torch.device | str = "cpu") -> Kernels:
        sigma, aspect, direction = (
            params.labels[name].to(device)[:, None, None] for name in ("sigma", "aspect", "direction")
        )
        inside = torch.tensor(_PLACES, device=device) / 2
        places = (torch.arange(-self.border, self.border + 1, device=device)[:, None] + inside).flatten()
        down, right = places[:, None], places
        radians = torch.deg2rad(direction)
        along = radians.cos() * down - radians.sin() * right
        across = radians.sin() * down + radians.cos() * right
        density = torch.exp(-((along / sigma) ** 2 + (across / (sigma * aspect)) ** 2) / 2)
        side = 2 * self.border + 1
        weights = torch.tensor(_WEIGHTS, device=device, dtype=density.dtype)
        kernels = density.view(-1, side, 3, side, 3) * (weights[:, None, None] * weights)
        return _normalised(kernels.sum((2, 4)))


class DefocusBlur(Blur):
    """A disk of `radius` pixels, all of one brightness: what a lens with a round opening makes of a point out of focus.
    Each pixel has the share of it that the disk covers."""

    factors: ClassVar[dict[str, float | None]] = {"radius": None, "noise": None}
    bounds: ClassVar[dict[str, tuple[float, float]]] = {"radius": (0.1, 64), "noise": (0, PEAK)}
    sizes: ClassVar[tuple[str, ...]] = ("radius",)
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "defocus": {},
        "defocus-far": {"radius": Range(low=8, high=12)},
    }
    tests: ClassVar[tuple[str, ...]] = ("defocus", "defocus-far")

    kind: Literal["DefocusBlur"] = "DefocusBlur"
    radius: Parameter = Range(low=3, high=6)

    @property
    def border(self) -> int:
        return math.ceil(self.radius.high)

    def kernels(self, params: BlurParams, device: torch.device | str = "cpu") -> Kernels:
        radius, side = params.labels["radius"].to(device)[:, None], 2 * self.border + 1
        rows = (torch.arange(side * ROWS, device=device) + 0.5) / ROWS - side / 2
        half = (radius**2 - rows**2).clamp(min=0).sqrt_()[..., None]  # of the chord at each row
        column = torch.arange(side, device=device) - self.border
        covered = (torch.minimum(column + 0.5, half) - torch.maximum(column - 0.5, -half)).clamp_(min=0)
        kernels = covered.view(-1, side, ROWS, side).sum(2)
        return _normalised(kernels + kernels.transpose(1, 2))  # exactly as wide as it is high


class KernelBlur(Blur):
    """Kernels from pictures in `folder`, one for each image, equally often; `${VARIABLES}` in its path are filled in.

    A picture's grey values, the mean over colours, become a kernel: divided by their sum, and moved by whole pixels to
    where the centre of mass is in the middle. `content` is the hash of the kernels. It is filled in; where it is given
    (a checkpoint gives it) the folder is read only when kernels are drawn, and must then be as it was.

    Raises DataError and ImageError for what is wrong with the folder, ConfigError where its content is another.
    """

    factors: ClassVar[dict[str, float | None]] = {"content": None, "noise": None}
    companions: ClassVar[dict[str, tuple[str, ...]]] = {"content": ("folder",)}  # the kernels lie where they did
    bounds: ClassVar[dict[str, tuple[float, float]]] = {"noise": (0, PEAK)}

    kind: Literal["KernelBlur"] = "KernelBlur"
    folder: str
    content: str = ""

    @model_validator(mode="before")
    @classmethod
    def _with_content(cls, value: Any) -> Any:
        if isinstance(value, dict) and isinstance(value.get("folder"), str) and not value.get("content"):
            return {**value, "content": _read(expanded(value["folder"]))[1]}
        return value

    @property
    def files(self) -> Kernels:
        """All kernels of the folder, in one size."""
        kernels, content = _read(expanded(self.folder))
        if content != self.content:
            raise ConfigError(
                f"The kernels in {self.folder} are not those that this blur was made with: their content is "
                f"{content}, not {self.content}. Put the old ones back, or leave content out."
            )
        return kernels

    @property
    def border(self) -> int:
        return self.files.shape[-1] // 2

    def shapes(self, labels: Levels, rngs: Sequence[torch.Generator]) -> Kernels:
        """The kernels that were drawn."""
        chosen = torch.stack([torch.rand((), generator=rng) for rng in rngs])
        return self.files[(chosen * len(self.files)).long()]

    def kernels(self, params: BlurParams, device: torch.device | str = "cpu") -> Kernels:
        assert params.shapes is not None
        return params.shapes.to(device)


BLURS = (MotionBlur, CameraShake, GaussianBlur, DefocusBlur, KernelBlur)

_PLACES, _WEIGHTS = (numbers.tolist() for numbers in np.polynomial.legendre.leggauss(3))
"""Points in [-1, 1] and their weights, to integrate a smooth density over a pixel (Gauss-Legendre)."""


def _normalised(kernels: Kernels) -> Kernels:
    return kernels / kernels.sum((1, 2), keepdim=True)


def traced(path: Float[Tensor, "b steps 2"], reach: int) -> Kernels:
    """The kernels of paths: points (down, right) in pixels from the middle, all of one weight, at most `reach` away.

    A point lies on the four pixels around it, by the weights of bilinear interpolation, which keep its place: the
    centre of mass of a kernel is that of its path.
    """
    pixels = torch.arange(-reach, reach + 1, device=path.device)
    weights = (1 - (path[..., None] - pixels).abs()).clamp_(min=0)
    return _normalised(weights[:, :, 0].transpose(1, 2) @ weights[:, :, 1])


def convolved(images: Images, kernels: Kernels) -> Images:
    """Each image convolved with its kernel, every colour by itself, in the size that it has: continued by reflection.

    By Fourier transforms: their wrap-around falls on what is cut off.
    """
    reach = kernels.shape[-1] // 2
    rows, columns = (_reflected(side, reach).to(images.device) for side in images.shape[2:])
    wide = images.index_select(2, rows).index_select(3, columns)
    size = (_quick(len(rows)), _quick(len(columns)))
    spectrum = torch.fft.rfft2(wide, s=size) * torch.fft.rfft2(kernels, s=size)[:, None]
    return torch.fft.irfft2(spectrum, s=size)[..., 2 * reach : len(rows), 2 * reach : len(columns)]


def _quick(side: int) -> int:
    """The next number without a prime factor above 5: transforms of other lengths can take ten times as long."""
    while 60 ** side.bit_length() % side:
        side += 1
    return side


def _reflected(side: int, reach: int) -> Int[Tensor, "_"]:
    """Indices into `side` pixels and `reach` beyond either end, where they turn back, without repeating the end."""
    period = max(1, 2 * (side - 1))
    index = torch.arange(-reach, side + reach) % period
    return torch.minimum(index, period - index) if side > 1 else index


@lru_cache(maxsize=16)
def _read(folder: Path) -> tuple[Kernels, str]:
    """The kernels in a folder, in one size, and their hash."""
    found = []
    for file in find_images(folder):
        grey = read_image(file).mean(2)
        if not grey.any():
            raise DataError(f"{file} is black, and no kernel: a kernel has light somewhere. Remove it.")
        found.append(grey / grey.sum())
    moved = []
    for kernel in found:
        places = np.argwhere(kernel)
        middle = np.array([(kernel.sum(1 - axis) * np.arange(kernel.shape[axis])).sum() for axis in (0, 1)])
        moved.append((kernel, places - np.floor(middle + 0.5).astype(int)))
    reach = max(int(np.abs(places).max()) for _, places in moved)
    kernels = np.zeros((len(found), 2 * reach + 1, 2 * reach + 1), np.float32)
    for number, (kernel, places) in enumerate(moved):
        kernels[number, places[:, 0] + reach, places[:, 1] + reach] = kernel[kernel > 0]
    content = hashlib.sha256(repr(kernels.shape).encode() + kernels.tobytes()).hexdigest()
    return torch.from_numpy(kernels), content[:16]
