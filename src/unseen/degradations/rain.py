"""Rain as streaks: drops drawn out along a direction over a length, with a width and a brightness.

The model is linear superimposition, `O = clip(B + R)`, after Hu et al. (arXiv 2502.12600) and Gu et al.
(NeurIPS 2023), whose four factors are quantity, width, length and direction; the numbers of the presets are our
reading of those papers. Around it stand what real rain and other people's renderers add: screen blending, several
layers, brightness that varies between and along streaks, a veil of far rain, defocus, a change of tone.

A streak's profile is a smooth bump across, as wide as the streak at half its height, times a flat top along it
with ends as soft as its sides: a blurred drop drawn along a line, evaluated at pixel centres. Its peak is its
brightness, whatever its length and width, and the number of streaks is a density: nothing depends on the crop.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Self

import torch
from jaxtyping import Float, Int
from pydantic import Field, model_validator
from torch import Tensor

from unseen.degradations.base import Color, Degradation, mask_of
from unseen.errors import ConfigError, not_known
from unseen.ranges import Choice, Parameter, Range
from unseen.types import Batch, Images, Layers

CHUNK = 1 << 15
"""Streaks rendered at a time: bounds the memory for very large images."""

FIXED_POINT = float(1 << 22)
"""Brightness is added up in integers of this unit, so that the sum does not depend on the order of streaks."""


PRESETS: dict[str, dict[str, Any]] = {
    # Training ranges: our reading of the paper's.
    "small": {
        "width": Range(low=5, high=5), "length": Range(low=30, high=31), "direction": Range(low=-5, high=5),
    },
    "medium": {
        "width": Choice(values=(3, 5, 7)), "length": Range(low=20, high=40), "direction": Range(low=-30, high=30),
    },
    "large": {
        "width": Choice(values=(1, 3, 5, 7, 9)), "length": Range(low=5, high=60), "direction": Range(low=-70, high=70),
    },
    # Our own: wide in all that streaks are, and at any slant; six of the test rains lie outside of it all the same. No
    # change of tone: a network that undoes one changes the tone of clean photographs, too.
    "wide": {
        "quantity": Range(low=5, high=36), "width": Range(low=1, high=8), "length": Range(low=13, high=80),
        "direction": Range(low=-90, high=90), "brightness": Range(low=0.2, high=1.0),
        "layers": Range(low=1, high=3), "variation": Range(low=0, high=0.15), "veil": Range(low=0, high=0.2),
        "defocus": Range(low=0, high=1),
    },
    # Test rains.
    "steep": {"direction": Range(low=40, high=65), "length": Range(low=24, high=36), "width": Range(low=4, high=4)},
    "steeper": {"direction": Range(low=75, high=90), "length": Range(low=24, high=36), "width": Range(low=4, high=4)},
    "thick": {"width": Range(low=10, high=10), "quantity": Range(low=4, high=8)},
    "fine": {"width": Range(low=1, high=1), "quantity": Range(low=40, high=80), "length": Range(low=10, high=30)},
    "long": {
        "length": Range(low=50, high=70), "width": Range(low=3, high=3), "direction": Range(low=-10, high=10),
    },
    "short": {"length": Range(low=6, high=12), "width": Range(low=2, high=2), "quantity": Range(low=60, high=120)},
    "dense": {"quantity": Range(low=40, high=60)},
    "veiled": {"veil": Range(low=0.25, high=0.5), "defocus": Range(low=0, high=1)},
    "layered": {
        "layers": Range(low=3, high=3), "direction": Range(low=-60, high=60), "width": Choice(values=(1, 3, 5)),
        "length": Range(low=10, high=60), "variation": Range(low=0.2, high=0.6), "blend": "screen",
        "exposure": Range(low=0.8, high=1.0), "saturation": Range(low=0.7, high=1.0),
    },
}  # fmt: skip
"""Named rains, as changes to the defaults of `Rain` (which are those of `medium`)."""

TRAINING = ("small", "medium", "large", "wide")
TESTS = tuple(name for name in PRESETS if name not in TRAINING)


@dataclass(frozen=True, slots=True)
class RainParams:
    """What was drawn. Streaks of all images in one list (axis `s`); `image` says which is whose.

    `row`, `column`: centre of the streak in pixels, pixel centres at whole numbers, (0, 0) the first pixel.
    `direction`: degrees from vertical, positive leaning right at the top. `wave`: depth, cycles along the
    streak and phase (turns) of its variation in brightness.
    """

    image: Int[Tensor, "s"]
    row: Float[Tensor, "s"]
    column: Float[Tensor, "s"]
    length: Float[Tensor, "s"]
    width: Float[Tensor, "s"]
    direction: Float[Tensor, "s"]
    brightness: Float[Tensor, "s"]
    wave: Float[Tensor, "s 3"]
    defocus: Float[Tensor, "b"]
    veil: Float[Tensor, "b"]
    airlight: Float[Tensor, "b"]
    exposure: Float[Tensor, "b"]
    saturation: Float[Tensor, "b"]
    labels: dict[str, Float[Tensor, "b"]]


class Rain(Degradation):
    """Streaks of rain.

    `quantity` is in drops per 10,000 pixels and layer; `width` and `length` in pixels, drawn for every streak;
    `direction` in degrees from vertical, modulo 180, drawn for every layer, plus up to `spread` degrees for every
    streak; `brightness` is a streak's peak, in units of the image. `layers` is the number of superimposed rains.
    `variation` is how deep the brightness dips along a streak (0: not at all; 1: to black), after the oscillating
    drops of Garg and Nayar (ACM TOG 2006). `veil` blends the image towards a grey `airlight`. `defocus` softens
    streaks, in pixels added to their width and to the softness of their ends. `exposure` multiplies the clean image
    and `saturation` its colour, before the streaks. `blend` is "add" (`B + R`) or "screen" (`1 - (1 - B)(1 - R)`).

    A preset fills in the rest: `Rain.preset("medium", scale=0.5)`, in YAML
    `{kind: Rain, preset: medium, scale: 0.5, width: {values: [1, 2, 3]}}`. `scale` multiplies the widths and
    lengths of the preset, for small patches, down to the one pixel that is the least; drops per area stay.
    """

    factors: ClassVar[dict[str, float | None]] = {
        "quantity": None, "width": None, "length": None, "direction": 180.0, "brightness": None, "layers": None,
        "variation": None, "veil": None, "defocus": None, "exposure": None, "saturation": None, "blend": None,
    }  # fmt: skip
    companions: ClassVar[dict[str, tuple[str, ...]]] = {"direction": ("spread",), "veil": ("airlight",)}
    presets: ClassVar[dict[str, dict[str, Any]]] = PRESETS
    training: ClassVar[tuple[str, ...]] = TRAINING
    tests: ClassVar[tuple[str, ...]] = TESTS
    color: ClassVar[Color] = "y"
    sizes: ClassVar[tuple[str, ...]] = ("width", "length")
    whole: ClassVar[tuple[str, ...]] = ("layers",)
    widest: ClassVar[str | None] = "wide"

    kind: Literal["Rain"] = "Rain"
    quantity: Parameter = Range(low=10, high=25)
    width: Parameter = Choice(values=(3, 5, 7))
    length: Parameter = Range(low=20, high=40)
    direction: Parameter = Range(low=-30, high=30)
    brightness: Parameter = Range(low=0.3, high=0.9)
    layers: Parameter = Range(low=1, high=1)
    spread: float = Field(default=0.0, ge=0, le=90)
    variation: Parameter = Range(low=0, high=0)
    veil: Parameter = Range(low=0, high=0)
    airlight: Parameter = Range(low=0.7, high=0.9)
    defocus: Parameter = Range(low=0, high=0)
    exposure: Parameter = Range(low=1, high=1)
    saturation: Parameter = Range(low=1, high=1)
    blend: Literal["add", "screen"] = "add"

    def apart(self, other: Degradation) -> tuple[str, ...]:
        """The factors in which this lies wholly outside another rain; `spread` widens the directions."""
        if isinstance(other, Rain):
            return Degradation.apart(self._spread_out(), other._spread_out())
        return super().apart(other)

    def _fits_in(self, other: Degradation) -> bool:
        if isinstance(other, Rain):
            return Degradation._fits_in(self._spread_out(), other._spread_out())
        return False

    def _spread_out(self) -> Self:
        if not self.spread:
            return self
        around = Range(low=self.direction.low - self.spread, high=self.direction.high + self.spread)
        return self.model_copy(update={"direction": around})

    @classmethod
    def preset(cls, name: str, scale: float = 1.0, **changes: Any) -> Self:
        """A named rain. ConfigError where there is none of that name."""
        return cls.model_validate({"preset": name, "scale": scale, **changes})

    @model_validator(mode="before")
    @classmethod
    def _expand_preset(cls, value: Any) -> Any:
        if not isinstance(value, dict) or ("preset" not in value and "scale" not in value):
            return value
        given = dict(value)
        name, scale = given.pop("preset", "medium"), given.pop("scale", 1.0)
        if not isinstance(name, str) or name not in PRESETS:
            raise ConfigError(not_known("rain", name, PRESETS))
        if not isinstance(scale, int | float) or not 0 < scale <= 16:
            raise ConfigError(f"The scale of a rain is a number above 0 and at most 16, not {scale!r}.")
        fields: dict[str, Any] = {
            "width": cls.model_fields["width"].default,
            "length": cls.model_fields["length"].default,
        }
        fields |= PRESETS[name]
        fields |= {size: _at_least_a_pixel(fields[size].scaled(scale)) for size in ("width", "length")}
        fields.setdefault("name", name)
        return fields | given

    @model_validator(mode="after")
    def _in_bounds(self) -> Self:
        for field, low, high in (
            ("quantity", 0, 2000), ("width", 1, 400), ("length", 1, 4000), ("direction", -360, 360),
            ("brightness", 0, 4), ("layers", 0, 16), ("variation", 0, 1), ("veil", 0, 1), ("airlight", 0, 1),
            ("defocus", 0, 50), ("exposure", 0, 4), ("saturation", 0, 2),
        ):  # fmt: skip
            value = getattr(self, field)
            if value.low < low or value.high > high:
                raise ValueError(f"{field} is {value}; it must lie in {low} to {high}")
        return self

    def sample(self, size: tuple[int, int], rngs: Sequence[torch.Generator]) -> RainParams:
        """Every random choice for one image of `size` (h, w) per generator. Streaks may start outside the image.

        The number of drops of a layer is its density times the area, rounded up or down at random so that its
        mean is exact, over the image and a margin from which streaks can reach into it.
        """
        n, (height, width) = len(rngs), size
        most = math.floor(self.layers.high + 0.5)
        drawn = torch.stack([torch.rand(6 + 3 * most, generator=rng) for rng in rngs])
        layers = (self.layers.map(drawn[:, 0]) + 0.5).floor().long()
        kept = torch.arange(most) < layers[:, None]
        owner = torch.arange(n).repeat_interleave(layers)
        per_layer = drawn[:, 6:].view(n, most, 3)[kept]
        quantity, direction = self.quantity.map(per_layer[:, 0]), self.direction.map(per_layer[:, 1])

        margin = self.length.high / 2 + self.width.high + self.defocus.high + 1
        area = (height + 2 * margin) * (width + 2 * margin)
        drops = (quantity * (area / 10_000) + per_layer[:, 2]).floor().long()
        layer = torch.arange(len(owner)).repeat_interleave(drops)
        image = owner[layer]
        per_image = torch.zeros(n, dtype=torch.long).index_add_(0, owner, drops).tolist()
        per_streak = torch.cat([torch.rand((k, 9), generator=rng) for k, rng in zip(per_image, rngs, strict=True)])
        length, breadth = self.length.map(per_streak[:, 2]), self.width.map(per_streak[:, 3])
        depth = self.variation.map(per_streak[:, 6])

        means = torch.zeros(n, 6)
        turned = torch.deg2rad(direction[layer] * 2)  # a direction is the same half a turn on
        of_streaks = (direction[layer], length, breadth, turned.cos(), turned.sin(), torch.ones_like(length))
        means.index_add_(0, image, torch.stack(of_streaks, 1))
        means = means / means[:, 5:].clamp(min=1)
        around = torch.rad2deg(torch.atan2(means[:, 4], means[:, 3])) / 2

        return RainParams(
            image=image,
            row=per_streak[:, 0] * (height + 2 * margin) - margin - 0.5,
            column=per_streak[:, 1] * (width + 2 * margin) - margin - 0.5,
            length=length,
            width=breadth,
            direction=direction[layer] + self.spread * (2 * per_streak[:, 4] - 1),
            brightness=self.brightness.map(per_streak[:, 5]),
            wave=torch.stack((depth, 0.5 + 1.5 * per_streak[:, 7], per_streak[:, 8]), 1),
            defocus=self.defocus.map(drawn[:, 1]),
            veil=self.veil.map(drawn[:, 2]),
            airlight=self.airlight.map(drawn[:, 3]),
            exposure=self.exposure.map(drawn[:, 4]),
            saturation=self.saturation.map(drawn[:, 5]),
            labels={
                "quantity": torch.zeros(n).index_add_(0, owner, quantity),
                "direction": torch.where(layers > 1, around, means[:, 0]),
                "length": means[:, 1],
                "width": means[:, 2],
            },
        )

    def render(self, clean: Images, params: RainParams) -> Batch:
        """Degrade `clean` on its device. The layer is the streaks' brightness before blending and clipping."""
        layer = streaks(params, clean.shape[0], (clean.shape[2], clean.shape[3]), clean.device).to(clean.dtype)
        rained = clean
        if self.exposure != Range(low=1, high=1) or self.saturation != Range(low=1, high=1):
            grey = clean.mean(1, keepdim=True)
            rained = _per_image(params.exposure, clean) * (grey + _per_image(params.saturation, clean) * (clean - grey))
        rained = rained + layer if self.blend == "add" else 1 - (1 - rained) * (1 - layer.clamp(max=1))
        if self.veil.high > 0:
            veil = _per_image(params.veil, clean)
            rained = rained.clamp(max=1) * (1 - veil) + _per_image(params.airlight, clean) * veil
        degraded = rained.clamp(0, 1)
        return Batch(
            degraded=degraded,
            clean=clean,
            layer=layer,
            mask=mask_of(degraded, clean, self.mask_threshold),
            labels=params.labels,
        )


def _at_least_a_pixel(value: Range | Choice) -> Range | Choice:
    if isinstance(value, Choice):
        return Choice(values=tuple(max(1.0, v) for v in value.values))
    return Range(low=max(1.0, value.low), high=max(1.0, value.high))


def _per_image(values: Float[Tensor, "b"], images: Images) -> Float[Tensor, "b 1 1 1"]:
    return values.to(images)[:, None, None, None]


def streaks(params: RainParams, n: int, size: tuple[int, int], device: torch.device | str = "cpu") -> Layers:
    """Draw the streaks of `n` images of `size` (h, w) and add them up.

    Each streak is scanned along the axis it lies closer to: on every row (or column) it crosses, its cross-section is
    a short run of pixels. All runs of all streaks are evaluated at once and added into the images.
    """
    height, width = size
    total = torch.zeros(n * height * width, dtype=torch.int32, device=device)
    for start in range(0, len(params.image), CHUNK):
        part = slice(start, start + CHUNK)
        index, value = _pixels(params, part, height, width, device)
        total.index_add_(0, index, (value * FIXED_POINT).round_().to(torch.int32))
    return (total.to(torch.float32) / FIXED_POINT).view(n, 1, height, width)


def _smooth(rise: Float[Tensor, "p"]) -> Float[Tensor, "p"]:
    """From 0 at 0 to 1 at 1, with level ends: 3 u^2 - 2 u^3."""
    u = rise.clamp_(0, 1)
    return u * u * (3 - 2 * u)


def _pixels(
    params: RainParams, part: slice, height: int, width: int, device: torch.device | str
) -> tuple[Int[Tensor, "p"], Float[Tensor, "p"]]:
    """Every pixel that a streak touches: its place in the flattened batch, and the brightness there."""

    def chosen(values: Tensor) -> Tensor:
        return values[part].to(device)

    image, radians = chosen(params.image), torch.deg2rad(chosen(params.direction))
    defocus = params.defocus.to(device)[image]
    down, right = radians.cos(), -radians.sin()  # unit vector along the streak; leaning right at the top
    steep = down.abs() >= right.abs()  # scanned row by row; the others column by column

    # "along" is the axis of scanning, "across" the other one, for every streak.
    centre_along = torch.where(steep, chosen(params.row), chosen(params.column))
    centre_across = torch.where(steep, chosen(params.column), chosen(params.row))
    unit_along, unit_across = torch.where(steep, down, right), torch.where(steep, right, down)
    size_along = torch.where(steep, height, width)
    size_across = torch.where(steep, width, height)

    # The profile across reaches a whole width to either side; the ends are as soft as the sides.
    breadth, length = chosen(params.width) + defocus, chosen(params.length)
    end = torch.minimum(breadth, length)
    half_width, half_length = breadth, (length + end) / 2  # where it has faded out
    slope = unit_across / unit_along
    reach_along = half_length * unit_along.abs() + half_width * unit_across.abs()
    reach_across = half_width / unit_along.abs()

    # The scan lines of every streak that lie inside its image.
    first = (centre_along - reach_along).ceil().clamp_(min=0)
    last = torch.minimum((centre_along + reach_along).floor(), size_along - 1.0)
    lines = (last - first + 1).clamp_(min=0).long()
    streak = torch.arange(len(lines), device=device).repeat_interleave(lines)
    before = (lines.cumsum(0) - lines)[streak]
    line = first[streak] + (torch.arange(len(streak), device=device) - before)

    # On every line, the run of pixels around the streak's axis, cut to the image.
    ahead = line - centre_along[streak]
    axis = centre_across[streak] + ahead * slope[streak]
    reach = reach_across[streak]
    left = (axis - reach).ceil().clamp_(min=0)
    right_end = torch.minimum((axis + reach).floor(), size_across[streak] - 1.0)
    run = (right_end - left + 1).clamp_(min=0).long()
    owner = torch.arange(len(run), device=device).repeat_interleave(run)

    # What is equal along a run is worked out once per run and then handed to its pixels: that is most of the speed.
    begin = image[streak] * (height * width) + line.long() * torch.where(steep, width, 1)[streak]
    pace = torch.where(steep, 1, width)[streak]

    def per_pixel(of_runs: Tensor) -> Tensor:
        return of_runs.index_select(0, owner)

    place = torch.arange(len(owner), device=device) + per_pixel(left.long() - (run.cumsum(0) - run))
    index = per_pixel(begin) + place * per_pixel(pace)
    # The profile in the streak's own coordinates. The distance to the axis along a line, times the cosine, is the
    # distance across the streak.
    aside = place - per_pixel(axis)
    distance = aside * per_pixel(unit_along[streak])
    ahead = per_pixel(ahead / unit_along[streak]) + aside * per_pixel(unit_across[streak])
    across = _smooth(1 - distance.abs() * per_pixel((1 / breadth)[streak]))
    along = _smooth(per_pixel((half_length / end)[streak]) - ahead.abs() * per_pixel((1 / end)[streak]))
    value = per_pixel(chosen(params.brightness)[streak]) * across * along
    wave = chosen(params.wave)
    if bool((wave[:, 0] > 0).any()):
        streak = per_pixel(streak)
        depth, cycles, phase = wave[streak].unbind(1)
        turns = cycles * ahead / length[streak] + phase
        value = value * (1 - depth * (0.5 + 0.5 * torch.cos(2 * torch.pi * turns)))
    return index, value
