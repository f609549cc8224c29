"""One set of laws for every degradation, and what rain promises besides.

A new member of `ALL` is tested by being listed: with its first preset, or its defaults where it has none, by all laws,
and with each of its presets by those that could fail for one of them alone.
"""

import math
import re
from dataclasses import fields
from itertools import combinations
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import TypeAdapter, ValidationError

import unseen.degradations
from unseen.degradations import (
    ALL,
    AnyDegradation,
    Degradation,
    KernelBlur,
    Mixture,
    Rain,
    between,
    families,
    mask_of,
    preset,
    preset_names,
    shortly,
    unseen_by,
)
from unseen.degradations.rain import PRESETS, TESTS, TRAINING, RainParams, streaks
from unseen.errors import ConfigError
from unseen.images import write_image
from unseen.ranges import Choice, Range
from unseen.seeding import generator
from unseen.types import Batch

FOLDER = TemporaryDirectory()
for number, side in enumerate((3, 6)):
    write_image(Path(FOLDER.name) / f"{number}.png", np.tri(side, dtype=np.uint8) * 80)

EVERY: list[Degradation] = [preset(name) for name in preset_names()]
"""Every named degradation."""

MEMBERS: list[Degradation] = [
    *(preset(next(iter(kind.presets))) if kind.presets else kind() for kind in ALL if kind is not KernelBlur),
    KernelBlur(folder=FOLDER.name, name="from files"),
    Rain.preset("veiled"),
    Rain.preset("layered"),
    Rain(name="a screen", blend="screen", length=12, width={"values": [1, 2, 3]}),
    Rain(name="now and then", spread=20, variation=0.5, layers={"values": [0, 2]}),
    preset("camera-raw"),
    preset("gaussian-oval"),
    Mixture(
        name="mixtures of mixtures",
        parts=(preset("noise-chain"), Mixture(parts=(preset("blur-chain"), preset("noises"), Rain()))),
    ),
]
"""One of every kind, and some that take ways of their own."""

CONTRIBUTING = (Path(__file__).parents[1] / "CONTRIBUTING.md").read_text(encoding="utf-8")


def written(first: str) -> str:
    """The example in CONTRIBUTING.md that begins so."""
    return next(code for code in re.findall(r"```python\n(.*?)```", CONTRIBUTING, re.DOTALL) if code.startswith(first))


def from_contributing() -> type[Degradation]:
    """The least of all degradations, as its file would have it."""
    module = ModuleType("unseen.degradations.fade")
    exec(written('"""Fade'), module.__dict__)
    return module.Fade


FADE = from_contributing()
FADES: list[Degradation] = [FADE.preset(name) for name in FADE.presets]

SIZES = [(1, 1), (7, 33), (128, 96)]

DEGRADATION: TypeAdapter[Degradation] = TypeAdapter(AnyDegradation)


def name_of(degradation: Degradation) -> str:
    return degradation.name or type(degradation).__name__


every_kind = pytest.mark.parametrize("degradation", [*MEMBERS, *FADES[:1]], ids=name_of)
every_degradation = pytest.mark.parametrize("degradation", [*dict.fromkeys([*EVERY, *MEMBERS]), *FADES], ids=name_of)


def rngs(count: int, *address: str | int) -> list[torch.Generator]:
    return [generator(0, "test", *address, index) for index in range(count)]


def clean_of(size: tuple[int, int], count: int = 2, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return 0.9 * torch.rand(count, 3, *size, generator=generator(0, "clean"), dtype=dtype)


def degraded(degradation: Degradation, clean: torch.Tensor) -> Batch:
    size = (clean.shape[2], clean.shape[3])
    return degradation.render(clean, degradation.sample(size, rngs(len(clean))))


def tensors(batch: Batch) -> dict[str, torch.Tensor]:
    return {field.name: getattr(batch, field.name) for field in fields(Batch) if field.name != "labels"} | batch.labels


# --- laws of every degradation


@every_degradation
def test_a_degradation_degrades_stays_in_range_and_tells_where_it_did(
    degradation: Degradation, photos: torch.Tensor
) -> None:
    before = photos.clone()
    batch = degraded(degradation, photos)
    change = (batch.degraded - batch.clean).abs().amax(1, keepdim=True)
    assert (change[batch.mask == 0] <= degradation.mask_threshold).all()
    assert (change[batch.mask == 1] > degradation.mask_threshold).all()
    assert batch.mask.unique().tolist() in ([0, 1], [1])
    assert batch.mask.mean() > 0.02
    assert batch.degraded.min() >= 0
    assert batch.degraded.max() <= 1
    assert batch.layer.min() >= 0
    assert torch.equal(photos, before)
    assert torch.equal(batch.clean, before)


@every_degradation
def test_a_degradation_is_its_own_configuration(degradation: Degradation) -> None:
    adapter = TypeAdapter(FADE) if degradation in FADES else DEGRADATION
    assert adapter.validate_json(degradation.model_dump_json()) == degradation
    assert degradation.describe().startswith(name_of(degradation))
    assert degradation.outside(degradation) == ()


@every_kind
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_any_size_is_degraded(degradation: Degradation, size: tuple[int, int]) -> None:
    batch = degraded(degradation, clean_of(size))
    assert batch.degraded.shape == (2, 3, *size)
    assert batch.layer.shape == batch.mask.shape == (2, 1, *size)
    assert batch.degraded.isfinite().all()
    assert all(values.shape == (2,) and values.isfinite().all() for values in batch.labels.values())


@every_kind
def test_the_same_address_gives_the_same_pixels_alone_and_in_a_batch(
    degradation: Degradation, photos: torch.Tensor
) -> None:
    params = degradation.sample((64, 64), rngs(4))
    together = tensors(degradation.render(photos, params))
    assert torch.equal(degradation.render(photos, params).degraded, together["degraded"])
    for index in (0, 3):
        params = degradation.sample((64, 64), [rngs(4)[index]])
        alone = tensors(degradation.render(photos[index : index + 1], params))
        for name, values in alone.items():
            assert torch.equal(values[0], together[name][index]), name


@every_kind
def test_sampling_leaves_the_global_state_of_randomness_alone(degradation: Degradation) -> None:
    before = torch.get_rng_state()
    degraded(degradation, clean_of((32, 32)))
    assert torch.equal(torch.get_rng_state(), before)


@every_kind
@pytest.mark.parametrize("dtype", [torch.float64, torch.float16], ids=str)
def test_rendering_keeps_the_type_of_the_images(degradation: Degradation, dtype: torch.dtype) -> None:
    clean = clean_of((40, 40)).to(dtype)
    params = degradation.sample((40, 40), rngs(2))
    single, other = degradation.render(clean.float(), params), degradation.render(clean, params)
    assert {other.degraded.dtype, other.layer.dtype, other.mask.dtype} == {dtype}
    assert torch.allclose(other.degraded.float(), single.degraded, atol=1e-6 if dtype == torch.float64 else 5e-3)


@pytest.mark.gpu
@every_kind
def test_a_gpu_renders_what_the_cpu_renders(degradation: Degradation, photos: torch.Tensor) -> None:
    params = degradation.sample((64, 64), rngs(4))
    here, there = degradation.render(photos, params), degradation.render(photos.cuda(), params)
    assert {there.degraded.device.type, there.layer.device.type, there.mask.device.type} == {"cuda"}
    assert torch.allclose(there.degraded.cpu(), here.degraded, atol=1e-4)


def test_outside_is_mutual() -> None:
    for one, other in combinations(dict.fromkeys([*EVERY, *MEMBERS]), 2):
        assert one.outside(other) == other.outside(one)


@pytest.mark.parametrize("kind", [*ALL, FADE], ids=lambda kind: kind.__name__)
def test_every_kind_is_named_after_its_class_and_refuses_unknown_keys(kind: type[Degradation]) -> None:
    assert kind.model_fields["kind"].default == kind.__name__
    assert set(kind.factors) <= set(kind.model_fields)
    assert {*kind.training, *kind.tests} <= set(kind.presets)
    assert not set(kind.training) & set(kind.tests)
    assert kind is Mixture or (kind.color in ("y", "rgb") and kind.draws >= 1)  # a mixture has those of its parts
    assert kind.widest is None or kind.widest in preset_names(use="training")
    with pytest.raises(ValidationError, match="widht"):
        kind.model_validate({"widht": 3})


def test_the_example_of_a_degradation_is_complete() -> None:
    """What CONTRIBUTING.md says to write beside it is what stands in the package, and its presets are of its family."""
    imported, _, listed = written("from unseen.degradations.fade").strip().partition("\n\n")
    there = (Path(unseen.degradations.__file__)).read_text(encoding="utf-8")
    assert imported.replace("fade", "haze").replace("Fade", "Haze") in there
    assert listed.replace("Fade, ", "") in there
    assert {fade.family for fade in FADES} == {"fade"}
    assert FADES[1].outside(FADES[0]) == ("share",)


def test_another_kind_is_outside_in_its_kind() -> None:
    class Other(Degradation):
        pass

    assert Other().outside(Rain()) == ("kind",)


def test_no_name_is_used_twice() -> None:
    names = [name for kind in ALL for name in kind.presets]
    assert len(set(names)) == len(names)
    assert sorted(preset_names()) == sorted(names)


def test_a_named_degradation_is_found_over_all_kinds_and_written_without_its_kind() -> None:
    for name in preset_names():
        found = preset(name)
        assert found.name == name
        assert name in type(found).presets
        assert name in preset_names(found.family)
        assert DEGRADATION.validate_python({"preset": name}) == found
        assert DEGRADATION.validate_python({"preset": name, "kind": type(found).__name__}) == found
        assert preset(name, 0.5) == type(found).preset(name, scale=0.5)


def test_names_of_a_family_and_of_a_use_are_listed() -> None:
    assert families()[:3] == ("rain", "noise", "blur")
    assert preset_names("rain") == tuple(PRESETS)
    assert preset_names("rain", "training") == TRAINING
    assert preset_names("rain", "tests") == TESTS
    assert set(preset_names(use="tests")) == {name for family in families() for name in preset_names(family, "tests")}


@pytest.mark.parametrize("scale", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("family", families())
def test_every_test_of_a_family_is_unseen_for_some_training_preset(family: str, scale: float) -> None:
    table = unseen_by(family, scale)
    assert set(table) == set(preset_names(family, "tests"))
    assert all(any(row.values()) for row in table.values())


def test_the_scale_of_a_preset_multiplies_sizes_in_pixels_and_no_others() -> None:
    shake, half = preset("shake"), preset("shake", 0.5)
    assert half == shake.model_copy(update={"length": Range(low=10, high=20)})
    assert preset("blurs", 2.0).parts[2].radius == Range(low=6, high=12)  # pyright: ignore[reportAttributeAccessIssue]
    assert preset("poisson", 0.5) == preset("poisson")
    given = DEGRADATION.validate_python({"preset": "motion", "scale": 0.5, "length": 7})
    assert given.model_dump()["length"] == {"low": 7, "high": 7}
    with pytest.raises(ConfigError, match=r"above 0 and at most 16, not 17.0"):
        preset("motion", 17.0)


def test_an_unknown_name_or_family_is_refused_with_the_ones_there_are() -> None:
    with pytest.raises(ConfigError, match=r"called 'poison': did you mean 'poisson'\? Known: small, .*, poisson,"):
        preset("poison")
    with pytest.raises(ConfigError, match="no degradation called 3"):
        DEGRADATION.validate_python({"preset": 3})
    with pytest.raises(ConfigError, match=r"no family of degradations called 'snow'\. Known: rain, noise, blur"):
        preset_names("snow")
    with pytest.raises(ConfigError, match=r"no PoissonNoise called 'steep'\. Known: poisson, poisson-dark\."):
        DEGRADATION.validate_python({"kind": "PoissonNoise", "preset": "steep"})


def test_the_mask_is_where_any_colour_changed_by_more_than_the_threshold() -> None:
    clean = torch.full((1, 3, 1, 4), 0.5, dtype=torch.float64)
    rained = clean.clone()
    rained[0, 1, 0] += torch.tensor([0.0, 0.0199, 0.0201, -0.0201], dtype=torch.float64)
    assert mask_of(rained, clean).flatten().tolist() == [0, 0, 1, 1]
    assert mask_of(rained, clean, 0.01).flatten().tolist() == [0, 1, 1, 1]


# --- rain, streak by streak


def one_streak(
    row: float = 40, column: float = 40, *, length: float = 20, width: float = 4, direction: float = 0,
    brightness: float = 0.5, wave: tuple[float, float, float] = (0.0, 1.0, 0.0), defocus: float = 0,
) -> RainParams:  # fmt: skip
    one = torch.ones(1)
    return RainParams(
        image=torch.zeros(1, dtype=torch.long), row=row * one, column=column * one, length=length * one,
        width=width * one, direction=direction * one, brightness=brightness * one, wave=torch.tensor([wave]),
        defocus=defocus * one, veil=0 * one, airlight=one, exposure=one, saturation=one, labels={},
    )  # fmt: skip


def drawn(params: RainParams, size: tuple[int, int] = (81, 81)) -> torch.Tensor:
    return streaks(params, 1, size)[0, 0].double()


def moments(layer: torch.Tensor) -> torch.Tensor:
    """Second central moments, rows first, (2, 2)."""
    places = torch.stack(torch.meshgrid(*(torch.arange(side).double() for side in layer.shape), indexing="ij")).flatten(
        1
    )
    weight = layer.flatten() / layer.sum()
    apart = places - (places * weight).sum(1, keepdim=True)
    return (apart * weight) @ apart.T


@pytest.mark.parametrize("length", [1, 2, 5, 20, 60])
@pytest.mark.parametrize("width", [1, 2, 4.5, 9])
def test_the_peak_of_a_streak_does_not_depend_on_its_length_or_width(length: float, width: float) -> None:
    layer = drawn(one_streak(length=length, width=width, brightness=0.5))
    assert layer.max() == 0.5
    assert layer[40, 40] == 0.5


def test_a_streak_has_its_width_and_its_length_at_half_its_height() -> None:
    layer = drawn(one_streak(length=24, width=6, brightness=1))
    assert layer[40, 40 + 3] == pytest.approx(0.5, abs=1e-5)
    assert layer[40 + 12, 40] == pytest.approx(0.5, abs=1e-5)
    assert layer[40, 40 + 6] == 0
    assert layer[40 + 15, 40] == 0


@pytest.mark.parametrize("direction", [-80, -45, -20, 0, 30, 45, 60, 90])
def test_the_brightness_of_a_streak_in_all_does_not_depend_on_its_direction(direction: float) -> None:
    upright = drawn(one_streak(length=24, width=4)).sum().item()
    assert drawn(one_streak(length=24, width=4, direction=direction)).sum().item() == pytest.approx(upright, rel=0.02)


@pytest.mark.parametrize("direction", [-85, -60, -44, -10, 0, 10, 44, 46, 60, 90])
def test_a_streak_lies_along_its_direction(direction: float) -> None:
    """The main axis of its second moments; at 0 it is vertical, and positive leans right at the top."""
    spread = moments(drawn(one_streak(length=40, width=2, direction=direction)))
    values, axes = torch.linalg.eigh(spread)
    down, right = axes[:, 1].tolist()
    assert values[1] > 20 * values[0]
    found = math.degrees(math.atan2(-right, down))
    assert (found - direction + 90) % 180 - 90 == pytest.approx(0, abs=0.5)


def test_a_streak_at_0_is_vertical_and_at_90_horizontal() -> None:
    upright, lying = drawn(one_streak(length=40, width=2)), drawn(one_streak(length=40, width=2, direction=90))
    assert (upright > 0).any(1).sum() > 35
    assert (upright > 0).any(0).sum() < 5
    assert torch.allclose(lying, upright.T, atol=1e-4)


def test_a_positive_direction_leans_right_at_the_top() -> None:
    lit = drawn(one_streak(length=40, width=2, direction=30)) > 0.2
    top, bottom = lit[:30].any(0).nonzero().double().mean(), lit[51:].any(0).nonzero().double().mean()
    assert top > 40 > bottom


def test_directions_repeat_after_half_a_turn() -> None:
    assert torch.allclose(drawn(one_streak(direction=20)), drawn(one_streak(direction=200)), atol=1e-4)


def test_a_streak_is_cut_by_the_border_and_not_moved() -> None:
    whole = drawn(one_streak(direction=25, length=50))
    for top, left in ((0, 35), (37, 0), (30, 42)):
        moved = one_streak(40 - top, 40 - left, direction=25, length=50)
        assert torch.allclose(drawn(moved, (30, 30)), whole[top : top + 30, left : left + 30], atol=1e-5)


def test_a_streak_outside_the_image_leaves_nothing() -> None:
    for row, column in ((-60, 40), (40, -60), (160, 40), (40, 160)):
        assert not drawn(one_streak(row, column, direction=30)).any()


def test_a_wave_only_darkens() -> None:
    plain, waved = drawn(one_streak(length=40)), drawn(one_streak(length=40, wave=(0.6, 1.5, 0.2)))
    assert (waved <= plain + 1e-6).all()
    assert (waved >= 0.4 * plain - 1e-6).all()
    assert waved.sum() < 0.9 * plain.sum()


def test_defocus_widens_a_streak_and_keeps_its_peak() -> None:
    sharp, soft = drawn(one_streak(width=3)), drawn(one_streak(width=3, defocus=3))
    assert soft.max() == sharp.max()
    assert moments(soft)[1, 1] > 2 * moments(sharp)[1, 1]


def reordered(params: RainParams, order: torch.Tensor) -> RainParams:
    count = len(params.image)
    values: dict[str, Any] = {field.name: getattr(params, field.name) for field in fields(RainParams)}
    per_streak = ("image", "row", "column", "length", "width", "direction", "brightness", "wave")
    assert all(len(values[name]) == count for name in per_streak)
    return RainParams(**(values | {name: values[name][order] for name in per_streak}))


@pytest.mark.parametrize("name", ["dense", "layered"])
def test_the_order_of_streaks_does_not_change_a_bit(name: str) -> None:
    params = Rain.preset(name).sample((48, 48), rngs(3))
    order = torch.randperm(len(params.image), generator=generator(0, "order"))
    assert torch.equal(streaks(params, 3, (48, 48)), streaks(reordered(params, order), 3, (48, 48)))


def test_streaks_are_drawn_alike_in_one_go_and_in_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    params = Rain.preset("layered").sample((48, 48), rngs(3))
    at_once = streaks(params, 3, (48, 48))
    monkeypatch.setattr("unseen.degradations.rain.CHUNK", 7)
    assert torch.equal(streaks(params, 3, (48, 48)), at_once)


def test_streaks_that_overlap_add_up() -> None:
    one = one_streak()
    both = RainParams(
        **{
            field.name: torch.cat((getattr(one, field.name),) * 2)
            if field.name in ("image", "row", "column", "length", "width", "direction", "brightness", "wave")
            else getattr(one, field.name)
            for field in fields(RainParams)
        }
    )
    assert torch.equal(drawn(both), 2 * drawn(one))


# --- rain, drop by drop


@pytest.mark.parametrize("size", [(16, 16), (40, 90), (128, 128)], ids=str)
@pytest.mark.parametrize("quantity", [3, 20])
def test_the_number_of_drops_per_area_does_not_depend_on_the_crop(size: tuple[int, int], quantity: float) -> None:
    rain = Rain(quantity=quantity)
    images = 400
    params = rain.sample(size, rngs(images, "drops"))
    inside = (
        (params.row >= -0.5) & (params.row < size[0] - 0.5) & (params.column >= -0.5) & (params.column < size[1] - 0.5)
    ).sum()
    expected = images * quantity * size[0] * size[1] / 10_000
    assert abs(inside.item() - expected) < 4 * expected**0.5
    assert params.labels["quantity"].unique().tolist() == [quantity]


def test_the_rain_in_a_crop_is_as_dense_as_in_the_whole() -> None:
    """Streaks that begin outside reach in: without them small crops would be drier at their borders."""
    rain = Rain(length=30, width=3, quantity=15, brightness=0.5, direction=0)
    means = {
        side: streaks(rain.sample((side, side), rngs(count, "dense")), count, (side, side)).mean((1, 2, 3))
        for side, count in ((16, 1500), (96, 60))
    }
    errors = {side: values.std().item() / len(values) ** 0.5 for side, values in means.items()}
    apart = means[16].mean().item() - means[96].mean().item()
    assert abs(apart) < 4 * math.hypot(errors[16], errors[96])


def test_every_drop_is_drawn_from_its_range() -> None:
    rain = Rain.preset("layered", spread=10)
    params = rain.sample((64, 64), rngs(50))
    for name in ("length", "width", "brightness"):
        values, parameter = getattr(params, name), getattr(rain, name)
        assert values.min() >= parameter.low
        assert values.max() <= parameter.high
    assert params.direction.min() >= rain.direction.low - 10
    assert params.direction.max() <= rain.direction.high + 10
    assert params.width.unique().tolist() == [1, 3, 5]


def test_labels_are_the_means_over_an_images_drops() -> None:
    params = Rain.preset("large").sample((64, 64), rngs(3))
    for index in range(3):
        mine = params.image == index
        for name in ("length", "width", "direction"):
            expected = getattr(params, name)[mine].double().mean().item()
            assert params.labels[name][index].item() == pytest.approx(expected, abs=1e-3)


def test_without_drops_the_image_is_clean(photos: torch.Tensor) -> None:
    batch = degraded(Rain(quantity=0), photos)
    assert torch.equal(batch.degraded, photos)
    assert not batch.mask.any()
    assert all(values.isfinite().all() for values in batch.labels.values())


# --- rain on images


def test_adding_is_the_clipped_sum(photos: torch.Tensor) -> None:
    batch = degraded(Rain.preset("dense"), photos)
    assert torch.equal(batch.degraded, (batch.clean + batch.layer).clamp(0, 1))


def test_screen_blending_never_exceeds_adding_nor_white(photos: torch.Tensor) -> None:
    added = degraded(Rain.preset("dense"), photos)
    screened = degraded(Rain.preset("dense", blend="screen"), photos)
    assert torch.equal(added.layer, screened.layer)
    assert added.layer.max() > 1  # several streaks, so that the bound says something
    assert (screened.degraded <= added.degraded + 1e-6).all()
    assert (screened.degraded >= photos - 1e-6).all()
    assert torch.allclose(screened.degraded, 1 - (1 - photos) * (1 - added.layer.clamp(max=1)), atol=1e-6)


def test_a_full_veil_is_the_airlight(photos: torch.Tensor) -> None:
    assert torch.allclose(degraded(Rain(veil=1, airlight=0.7), photos).degraded, torch.tensor(0.7))


def test_exposure_and_saturation_change_the_tone(photos: torch.Tensor) -> None:
    assert torch.allclose(degraded(Rain(quantity=0, exposure=0.5), photos).degraded, photos / 2, atol=1e-6)
    grey = degraded(Rain(quantity=0, saturation=0), photos).degraded
    assert torch.allclose(grey, photos.mean(1, keepdim=True).expand_as(photos), atol=1e-6)


# --- named rains


def test_scaling_a_preset_scales_sizes_down_to_a_pixel_and_nothing_else() -> None:
    whole, half = Rain.preset("large"), Rain.preset("large", scale=0.5)
    assert half.width == Choice(values=(1, 1.5, 2.5, 3.5, 4.5))
    assert half.length == Range(low=2.5, high=30)
    assert whole.model_copy(update={"width": half.width, "length": half.length}) == half
    assert Rain.preset("short", scale=1 / 16).length == Range(low=1, high=1)


def test_what_is_given_beside_a_preset_is_not_scaled() -> None:
    rain = Rain.model_validate({"kind": "Rain", "preset": "medium", "scale": 0.5, "width": {"values": [1, 2, 3]}})
    assert rain.width == Choice(values=(1, 2, 3))
    assert rain.length == Range(low=10, high=20)
    assert rain.name == "medium"


def test_the_defaults_are_the_medium_rain() -> None:
    assert Rain(name="medium") == Rain.preset("medium")


def test_what_is_unseen_is_computed() -> None:
    table = unseen_by("rain")
    assert set(table) == set(TESTS)
    assert all(set(row) == set(TRAINING) for row in table.values())
    assert "direction" in table["steep"]["small"]
    assert "direction" in table["steep"]["medium"]
    assert table["steep"]["large"] == ()
    assert all("direction" in table["steeper"][train] for train in ("small", "medium", "large"))
    assert table["steeper"]["wide"] == ()
    assert all("width" in table["thick"][train] for train in TRAINING)
    assert "width" in table["fine"]["medium"]
    assert "quantity" in table["dense"]["large"]
    assert "veil" in table["veiled"]["large"]
    assert {"layers", "blend", "variation"} <= set(table["layered"]["large"])


@pytest.mark.parametrize("name", ["steep", "steeper"])
@pytest.mark.parametrize("train", TRAINING)
def test_unseen_rain_is_apart_in_what_is_drawn_too(name: str, train: str) -> None:
    mine = Rain.preset(name).sample((96, 96), rngs(20)).direction
    theirs = Rain.preset(train)
    meet = ((mine >= theirs.direction.low) & (mine <= theirs.direction.high)).any()
    assert bool(meet) is ("direction" not in Rain.preset(name).outside(theirs))


def test_a_misspelt_preset_is_refused_with_the_ones_there_are() -> None:
    with pytest.raises(
        ConfigError, match=r"no rain called 'mediun': did you mean 'medium'\? Known: small, medium, large, wide, steep"
    ):
        Rain.preset("mediun")


@pytest.mark.parametrize("scale", [0, -1, 17, "half"])
def test_a_scale_that_makes_no_sense_is_refused(scale: Any) -> None:
    with pytest.raises(ConfigError, match="scale of a rain"):
        Rain.model_validate({"preset": "medium", "scale": scale})


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"lenght": 3}, "lenght"),
        ({"width": 0}, "width is 0; it must lie in 1 to 400"),
        ({"quantity": -1}, "quantity is -1; it must lie in 0 to 2000"),
        ({"length": {"low": 9, "high": 3}}, "low is 9, above high, 3"),
        ({"veil": 1.5}, "veil"),
        ({"blend": "multiply"}, "blend"),
        ({"spread": 100}, "spread"),
        ({"preset": "steep", "widht": 3}, "widht"),
    ],
)
def test_values_that_make_no_rain_are_refused_with_their_name(wrong: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValidationError, match=reason):
        Rain.model_validate(wrong)


@pytest.mark.parametrize(
    ("name", "scale", "said"),
    [("shake-long", 4.0, "at scale 4: length is 200 to 280"), ("gaussian-blur", 0.02, r"at scale 0\.02: sigma is")],
)
def test_a_scale_that_a_preset_does_not_bear_is_one_sentence(name: str, scale: float, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        preset(name, scale)


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        ({"from": {"preset": "medium"}}, "to: Field required"),
        ({"from": {"preset": "medium"}, "to": {"preset": "wide"}, "factor": 3}, "factor: Extra inputs"),
        ({"from": {"preset": "medium"}, "to": {"preset": "wide"}, "widening": 2}, "widening: Input should be less"),
        (
            {"from": {"preset": "medium"}, "to": {"preset": "gaussian25"}, "factors": 3},
            "factors is for two degradations",
        ),
        ({"from": {"preset": "blurs"}, "to": {"preset": "noises"}, "whole": 0.5}, "whole is for two degradations"),
        ({"kind": "Mixture", "scale": 0.5, "parts": [{"preset": "medium"}]}, "give each part its own"),
        (
            {"kind": "Mixture", "parts": [{"preset": "medium"}, {"preset": "large", "mask_threshold": 0.1}]},
            r"differs from part to part \(0\.02, 0\.1\)",
        ),
    ],
    ids=str,
)
def test_a_way_from_one_to_another_that_is_none_is_refused(raw: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        DEGRADATION.validate_python(raw)


def test_a_way_from_one_to_another_is_what_is_mixed() -> None:
    ends = {"from": {"preset": "medium", "scale": 0.5}, "to": {"preset": "wide", "scale": 0.5}}
    narrow, wide = preset("medium", 0.5), preset("wide", 0.5)
    assert DEGRADATION.validate_python(ends) == wide
    assert DEGRADATION.validate_python({**ends, "widening": 0.5}) == between(narrow, wide, 0.5)
    half = DEGRADATION.validate_python({**ends, "narrow": 0.5})
    assert half == Mixture(parts=(narrow, wide), weights=(0.5, 0.5))
    few = DEGRADATION.validate_python({**ends, "factors": 3, "whole": 0.25, "narrow": 0.2})
    assert isinstance(few, Mixture) and few.parts[:2] == (narrow, wide)
    assert few.weights is not None and sum(few.weights) == pytest.approx(1)
    assert few.weights[:2] == pytest.approx((0.2, 0.2)) and len(few.parts) == 14
    assert DEGRADATION.validate_json(few.model_dump_json()) == few
    assert shortly(narrow) == {"preset": "medium", "scale": 0.5}
    assert DEGRADATION.validate_python(shortly(few)) == few


def test_what_goes_with_a_factor_widens_with_it_and_kernels_stay_where_they_lie(tmp_path: Path) -> None:
    few = DEGRADATION.validate_python(
        {"from": {"preset": "medium"}, "to": {"preset": "wide", "spread": 30, "airlight": 0.5}, "factors": 3}
    )
    assert isinstance(few, Mixture)
    narrow = preset("medium")
    for part in few.parts:
        assert isinstance(narrow, Rain) and isinstance(part, Rain)
        assert part.spread == (0 if part.direction == narrow.direction else 30)
        assert part.airlight == (narrow.airlight if part.veil == narrow.veil else Range(low=0.5, high=0.5))
    for side in (3, 5):
        write_image(tmp_path / str(side) / "0.png", np.full((side, side), 255, dtype=np.uint8))
    one, other = ({"kind": "KernelBlur", "folder": str(tmp_path / side)} for side in ("3", "5"))
    few = DEGRADATION.validate_python({"from": {**one, "noise": 0}, "to": {**other, "noise": 3}, "factors": 1})
    assert isinstance(few, Mixture) and len(few.parts) == 2
    for part in few.parts:
        part.sample((8, 8), rngs(2))


def test_a_mixture_has_the_threshold_of_its_parts() -> None:
    ends = {"from": {"preset": "medium", "mask_threshold": 0.1}, "to": {"preset": "wide", "mask_threshold": 0.1}}
    assert DEGRADATION.validate_python({**ends, "narrow": 0.5}).mask_threshold == 0.1
    alike = Mixture(parts=(Rain(mask_threshold=0.1), Rain(mask_threshold=0.1, spread=3)))
    assert alike.mask_threshold == 0.1 and DEGRADATION.validate_json(alike.model_dump_json()) == alike
    start, end = Rain(mask_threshold=0.1), preset("gaussian25")
    assert between(start, end, 0.5).mask_threshold == pytest.approx(0.06)


def test_the_spread_of_directions_counts_both_ways() -> None:
    narrow, spread = Rain(), Rain(direction=Range(low=-10, high=10), spread=60)
    assert not spread.within(narrow) and Rain(direction=Range(low=-10, high=10), spread=20).within(narrow)


def test_the_direction_of_several_layers_is_that_of_the_line() -> None:
    flat = Rain(direction={"values": [-85, 85]}, layers={"low": 3, "high": 3})  # pyright: ignore[reportArgumentType]
    assert (flat.sample((64, 64), rngs(30)).labels["direction"].abs() > 84.9).all()


def test_numbers_that_yaml_takes_for_text_are_numbers() -> None:
    assert DEGRADATION.validate_python({"kind": "CameraNoise", "shot": "1e-2"}) == DEGRADATION.validate_python(
        {"kind": "CameraNoise", "shot": 0.01}
    )
