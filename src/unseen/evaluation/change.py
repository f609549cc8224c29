"""What a restorer changed, where there is no truth to compare with: numbers that need the image before and after only.

None of them is a quality. They say how much was changed, along which directions, in details of which size, and what
became of the contrast: a blind restorer, a blur and a good derainer differ in them, a good and a bad derainer may not.
Imports no torch. Images are 8-bit and differences are in their levels, from 0 to the largest of the format.

Spectra are Welch's (IEEE Trans. Audio Electroacoust. 1967): squared Fourier transforms of windows of `WINDOW` pixels,
tapered by a Hann window and overlapping by half, averaged over windows and colour channels and divided by the mean
square of the taper, so that they sum to the (tapered) mean square of the layer, by Parseval's theorem. Memory does
not grow with the image.
"""

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from jaxtyping import Complex, Float, Int, UInt8
from numpy.typing import NDArray
from skimage.measure import blur_effect

from unseen.errors import DataError

LEVELS = 2
"""A pixel counts as changed where one of its channels changed by more than so many levels."""

NOTHING = 1.0
"""A change below so many levels, root mean square, is called practically nothing: rounding to 8 bits alone is 0.29."""

BAND = 15
"""Width of a band of directions, degrees."""

DIRECTIONS = tuple(range(-90, 90, BAND))
"""Centres of the bands: the direction of streaks in degrees from vertical, positive leaning right at the top, as in
`Rain`. The first is horizontal."""

SCALES = ("over 32 px", "16 to 32 px", "8 to 16 px", "4 to 8 px", "under 4 px")
"""Octaves of detail by its period, coarse to fine. The first holds the tone, the last what lies beyond 1/4 cycle per
pixel, diagonals included."""

WINDOW = 256
"""Side of the windows of a spectrum, pixels (less where the image is smaller)."""

LEAST = 64
"""Images with a shorter side, in pixels, have no spectra: NaN."""

BLUR_SIDE = 2048
"""The blur is measured on the central so many pixels a side."""

_LOW, _HIGH = 1 / 32, 1 / 2  # the annulus of directions, cycles per pixel: beyond 1/2 only diagonals go on


@dataclass(frozen=True)
class Spectrum:
    """The energy of an image or layer, mean square in levels squared; `scale` sums to that of the whole layer.

    `by_direction`: by the direction of the streaks that have such energy (`DIRECTIONS`), within details of 2 to 32
    pixels. A streak along a direction has its energy across it, so a frequency (right, down) = r (cos d, sin d) goes to
    the direction d from vertical. `direction` is the mean of these energies as axes (of their doubled angles), in
    [-90, 90) degrees, and `concentration` the length of that mean: 0 for all directions alike, 1 for a single one.
    `by_scale`: by the period of details (`SCALES`).
    """

    by_direction: Float[NDArray, "directions"]
    by_scale: Float[NDArray, "scales"]
    direction: float
    concentration: float

    @property
    def direction_shares(self) -> Float[NDArray, "directions"]:
        """Each band's share of the energy of all bands; NaN where there is none."""
        return _shares(self.by_direction)

    @property
    def scale_shares(self) -> Float[NDArray, "scales"]:
        return _shares(self.by_scale)


@dataclass(frozen=True)
class Look:
    """An image by itself. `blur` is the blur effect of Crete et al. (SPIE 2007) on grey, 0 sharp to 1 blurred, by
    scikit-image; noise and streaks count as sharpness. NaN for images below `LEAST`."""

    spectrum: Spectrum
    blur: float


@dataclass(frozen=True)
class Change:
    """From the image before, `O`, to the one after, `f`, both 8-bit; `removed` is of the layer `O - f`.

    `rms`: root mean square of `f - O` over pixels and channels, levels. `changed`: share of pixels with a channel
    changed by more than `LEVELS`. `shift`: mean of `f - O`, levels; below 0 it became darker. `darkening`: the share
    of the squared change where `f < O`, near 1 where only bright things were taken out, 1/2 for symmetric noise; NaN
    where nothing changed.
    """

    rms: float
    changed: float
    shift: float
    darkening: float
    removed: Spectrum
    before: Look
    after: Look

    @property
    def nothing(self) -> bool:
        """Practically nothing was changed: the RMS is below `NOTHING`."""
        return self.rms < NOTHING

    @property
    def contrast_kept(self) -> Float[NDArray, "scales"]:
        """Contrast (root mean square) after, relative to before, by `SCALES`; NaN where there was none. 1: unchanged,
        below 1: smoothed, above 1: sharpened or with texture added."""
        before, after = self.before.spectrum.by_scale, self.after.spectrum.by_scale
        return np.sqrt(np.divide(after, before, out=np.full_like(after, math.nan), where=before > 0))


def measure_change(
    before: UInt8[NDArray, "h w 3"], after: UInt8[NDArray, "after_h after_w 3"], seen: Look | None = None
) -> Change:
    """What happened between two images of one size. `seen` is `look(before)` if it is known already.

    Raises DataError where the sizes differ.
    """
    if before.shape != after.shape:
        raise DataError(
            f"The restored image is {after.shape[1]} x {after.shape[0]} pixels, the original "
            f"{before.shape[1]} x {before.shape[0]}: restored images must keep the size."
        )
    removed = before.astype(np.int16) - after
    squares = np.square(removed, dtype=np.int32)
    total = int(squares.sum(dtype=np.int64))
    return Change(
        rms=math.sqrt(total / removed.size),
        changed=float((np.abs(removed) > LEVELS).any(axis=2).mean()),
        shift=-float(removed.mean(dtype=np.float64)),
        darkening=int(squares.sum(where=removed > 0, dtype=np.int64)) / total if total else math.nan,
        removed=spectrum(removed),
        before=look(before) if seen is None else seen,
        after=look(after),
    )


def look(image: UInt8[NDArray, "h w 3"]) -> Look:
    """The spectrum and the blur of one image."""
    height, width = image.shape[:2]
    if min(height, width) < LEAST:
        return Look(spectrum(image), math.nan)
    top, left = max(0, height - BLUR_SIDE) // 2, max(0, width - BLUR_SIDE) // 2
    centre = image[top : top + BLUR_SIDE, left : left + BLUR_SIDE].mean(axis=2)
    flat = centre.min() == centre.max()  # no edges to be sharp or blurred
    return Look(spectrum(image), math.nan if flat else float(np.mean(blur_effect(centre))))


def spectrum(layer: UInt8[NDArray, "h w 3"] | Int[NDArray, "h w 3"]) -> Spectrum:
    """Where the energy of an image, or of a difference of images, lies. NaN for sides below `LEAST`."""
    height, width = layer.shape[:2]
    if min(height, width) < LEAST:
        unknown = np.full(len(DIRECTIONS), math.nan), np.full(len(SCALES), math.nan)
        return Spectrum(*unknown, math.nan, math.nan)
    size = min(height, WINDOW), min(width, WINDOW)
    plan = _plan(*size)
    power = np.zeros(plan.weight.shape)
    tops, lefts = _starts(height, size[0]), _starts(width, size[1])
    for top in tops:
        for left in lefts:
            window = layer[top : top + size[0], left : left + size[1]] * plan.taper[..., None]
            waves = np.fft.rfft2(window, axes=(0, 1))
            power += (waves.real**2 + waves.imag**2).sum(axis=2)
    power *= plan.weight / (len(tops) * len(lefts) * layer.shape[2])
    energy = power.ravel()
    by_direction = np.bincount(plan.direction, energy, len(DIRECTIONS) + 1)[:-1]
    axis = complex((energy * plan.doubled).sum())
    total = float(by_direction.sum())
    angle = math.degrees(math.atan2(axis.imag, axis.real)) / 2 if total > 0 else math.nan
    return Spectrum(
        by_direction=by_direction,
        by_scale=np.bincount(plan.scale, energy, len(SCALES)),
        direction=(angle + 90) % 180 - 90,
        concentration=abs(axis) / total if total > 0 else math.nan,
    )


@dataclass(frozen=True)
class _Plan:
    """Of one window size; axis `f`: the frequencies of a real transform, flattened.

    `direction` is the band (one past the last: outside the annulus), `doubled` the unit number of the doubled angle
    (0 outside), `weight` turns squared transforms into shares of the mean square.
    """

    taper: Float[NDArray, "h w"]
    weight: Float[NDArray, "h half_w"]
    direction: Int[NDArray, "f"]
    doubled: Complex[NDArray, "f"]
    scale: Int[NDArray, "f"]


@lru_cache(maxsize=8)
def _plan(height: int, width: int) -> _Plan:
    down, right = np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None]
    radius = np.hypot(down, right)
    angle = np.degrees(np.arctan2(down, right + 0 * down))  # -90 to 90: right is never below 0
    inside = (radius >= _LOW) & (radius <= _HIGH)
    band = np.floor((angle + 90) / BAND + 0.5).astype(np.intp) % len(DIRECTIONS)
    octave = np.clip(np.floor(np.log2(np.maximum(radius, _LOW / 2) / _LOW)) + 1, 0, len(SCALES) - 1).astype(np.intp)
    taper = np.outer(*(np.sin(np.pi * (np.arange(side) + 0.5) / side) ** 2 for side in (height, width)))
    # Half of the frequencies stand for their mirror images too, all but the first column and, of even sides, the last.
    once = np.arange(right.size) * 2 % width == 0
    weight = np.where(once, 1.0, 2.0) / (height * width * np.square(taper).sum())
    return _Plan(
        taper=taper,
        weight=np.broadcast_to(weight, radius.shape),
        direction=np.where(inside, band, len(DIRECTIONS)).ravel(),
        doubled=np.where(inside, np.exp(2j * np.radians(angle)), 0).ravel(),
        scale=octave.ravel(),
    )


def _starts(length: int, size: int) -> list[int]:
    """Where windows begin: evenly from the first pixel to the last, overlapping by half at least."""
    count = 1 if length == size else 1 + math.ceil((length - size) / (size // 2))
    return [round(start) for start in np.linspace(0, length - size, count)]


def _shares(energy: Float[NDArray, "n"]) -> Float[NDArray, "n"]:
    total = energy.sum()
    return energy / total if total > 0 else np.full_like(energy, math.nan)
