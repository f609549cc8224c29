"""Noise against its theory, over the whole range of grey, clipping included; and mixtures.

The laws that hold for every degradation are in test_degradations.py, with every named noise and mixture among them.
"""

import io
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pydantic import ValidationError
from scipy.stats import norm, poisson

from unseen.degradations import (
    JPEG,
    CameraNoise,
    CorrelatedNoise,
    Degradation,
    GaussianNoise,
    Mixture,
    PoissonNoise,
    Quantisation,
    Rain,
    SaltAndPepper,
    SpeckleNoise,
    preset,
    preset_names,
    unseen_by,
)
from unseen.degradations.noise import counts, demosaicked, mosaicked, to_linear, to_srgb
from unseen.images import PEAK
from unseen.ranges import Range
from unseen.seeding import generator
from unseen.types import Batch

GREYS = [0.0, 0.02, 0.1, 0.25, 0.5, 0.75, 0.9, 0.98, 1.0]
"""Black, white, and between."""

SIDE = 112
"""Side of a grey image: with its colours 37,632 draws."""

ERRORS = 5
"""How many standard errors a measured moment may lie from its theory."""

MATRIX = preset("camera-raw").matrix  # pyright: ignore[reportAttributeAccessIssue]


def rngs(count: int, *address: str | int) -> list[torch.Generator]:
    return [generator(0, "noise", *address, index) for index in range(count)]


def degraded(degradation: Degradation, clean: torch.Tensor, *address: str | int) -> Batch:
    size = (clean.shape[2], clean.shape[3])
    return degradation.render(clean, degradation.sample(size, rngs(len(clean), *address)))


def grey(value: float, side: int = SIDE, count: int = 1) -> torch.Tensor:
    return torch.full((count, 3, side, side), value)


def assert_moments(values: torch.Tensor, mean: float, variance: float) -> None:
    """The mean and variance of independent draws lie within sampling error of theory."""
    drawn = values.double().flatten().numpy()
    apart = (drawn - mean) ** 2
    assert abs(drawn.mean() - mean) <= ERRORS * np.sqrt(variance / drawn.size) + 1e-6
    assert abs(apart.mean() - variance) <= ERRORS * apart.std() / np.sqrt(drawn.size) + 1e-8


def clipped_normal(mean: float, deviation: float) -> tuple[float, float]:
    """Mean and variance of a normal number, clipped to [0, 1]."""
    if deviation == 0:
        return mean, 0.0
    low, high = -mean / deviation, (1 - mean) / deviation
    inside, above = norm.cdf(high) - norm.cdf(low), norm.sf(high)
    first = mean * inside + deviation * (norm.pdf(low) - norm.pdf(high)) + above
    second = (mean**2 + deviation**2) * inside + above
    second += 2 * mean * deviation * (norm.pdf(low) - norm.pdf(high))
    second += deviation**2 * (low * norm.pdf(low) - high * norm.pdf(high))
    return float(first), float(second - first**2)


def greys() -> torch.Tensor:
    return torch.tensor(GREYS)[:, None, None, None].expand(-1, 3, SIDE, SIDE).contiguous()


# --- moments over the range of grey


@pytest.mark.parametrize("sigma", [15, 50])
def test_gaussian_noise_has_its_mean_and_variance(sigma: float) -> None:
    for value, image in zip(GREYS, degraded(GaussianNoise(sigma=sigma), greys()).degraded, strict=True):
        assert_moments(image, *clipped_normal(value, sigma / PEAK))


@pytest.mark.parametrize("photons", [4, 30, 1000])
def test_poisson_noise_has_its_mean_and_variance(photons: float) -> None:
    for value, image in zip(GREYS, degraded(PoissonNoise(photons=photons), greys()).degraded, strict=True):
        mean = value * photons
        found = np.arange(0, poisson.isf(1e-15, mean) + 2 if value else 2)
        share, seen = poisson.pmf(found, mean), np.minimum(found / photons, 1)
        first = float((share * seen).sum())
        assert_moments(image, first, float((share * (seen - first) ** 2).sum()))
        if mean + 5 * mean**0.5 < photons:
            assert_moments(image, value, value / photons)


@pytest.mark.parametrize("strength", [0.05, 0.3])
def test_speckle_has_its_mean_and_variance(strength: float) -> None:
    for value, image in zip(GREYS, degraded(SpeckleNoise(strength=strength), greys()).degraded, strict=True):
        assert_moments(image, *clipped_normal(value, strength * value))


@pytest.mark.parametrize(("shot", "read"), [(0.01, 0.01), (0.002, 0.05), (0.05, 0.0)])
def test_camera_noise_has_its_mean_and_variance_in_linear_light(shot: float, read: float) -> None:
    for value, image in zip(GREYS, degraded(CameraNoise(shot=shot, read=read), greys()).degraded, strict=True):
        light = to_linear(torch.tensor(value)).item()
        deviation = (shot * light + read**2) ** 0.5
        assert_moments(to_linear(image.double()), *clipped_normal(light, deviation))


def test_camera_noise_after_gains_has_its_mean_and_variance_in_linear_light() -> None:
    shot, read, gains = 0.01, 0.01, (2.0, 1.0, 1.6)
    camera = CameraNoise(shot=shot, read=read, red_gain=gains[0], blue_gain=gains[2])
    for value, image in zip(GREYS, degraded(camera, greys()).degraded, strict=True):
        light = to_linear(torch.tensor(value)).item()
        for gain, colour in zip(gains, to_linear(image.double()), strict=True):
            assert_moments(colour, *clipped_normal(light, gain * (shot * light / gain + read**2) ** 0.5))


@pytest.mark.parametrize("share", [0.05, 0.4])
def test_salt_and_pepper_have_their_mean_and_variance(share: float) -> None:
    for value, image in zip(GREYS, degraded(SaltAndPepper(share=share), greys()).degraded, strict=True):
        mean = (1 - share) * value + share / 2
        assert_moments(image, mean, (1 - share) * value**2 + share / 2 - mean**2)


@pytest.mark.parametrize(("sigma", "length"), [(15, 2), (50, 2), (25, 5)])
def test_correlated_noise_has_its_mean_and_variance(sigma: float, length: float) -> None:
    apart = int(3 * length)  # pixels, at which values correlate by 1e-4: draws that are independent for all we measure
    for value in GREYS:
        images = degraded(CorrelatedNoise(sigma=sigma, length=length), grey(value, count=4), str(value)).degraded
        assert_moments(images[..., ::apart, ::apart], *clipped_normal(value, sigma / PEAK))


def test_camera_noise_after_gains_and_matrix_has_its_covariance() -> None:
    shot, read, gains = 0.001, 0.004, np.array([2.0, 1.0, 1.6])
    camera = CameraNoise(shot=shot, read=read, red_gain=2.0, blue_gain=1.6, matrix=MATRIX)
    light = to_linear(torch.tensor(0.6)).item()
    drawn = to_linear(degraded(camera, grey(0.6)).degraded.double())[0].flatten(1).numpy()
    variances = gains**2 * (shot * light / gains + read**2)
    expected = np.array(MATRIX) @ np.diag(variances) @ np.array(MATRIX).T
    error = np.sqrt((np.outer(expected.diagonal(), expected.diagonal()) + expected**2) / drawn.shape[1])
    assert (np.abs(np.cov(drawn) - expected) < ERRORS * error).all()
    assert (np.abs(drawn.mean(1) - light) < ERRORS * np.sqrt(expected.diagonal() / drawn.shape[1])).all()


def test_behind_a_mosaic_a_colour_is_as_noisy_as_the_mean_of_its_neighbours() -> None:
    shot, read = 0.001, 0.005
    light = to_linear(torch.tensor(0.6)).item()
    variance = shot * light + read**2
    drawn = to_linear(degraded(CameraNoise(shot=shot, read=read, mosaic="rggb"), grey(0.6)).degraded.double())[0]
    neighbours = {0: ((1, 2), (2, 4)), 1: ((4, 1), (1, 4)), 2: ((4, 2), (2, 1))}
    for colour, rows in neighbours.items():
        for row, columns in enumerate(rows):
            for column, count in enumerate(columns):
                assert_moments(drawn[colour, row::2, column::2], light, variance / count)


def test_salt_and_pepper_replace_their_share_and_leave_the_rest(photos: torch.Tensor) -> None:
    share, values = 0.1, degraded(SaltAndPepper(share=0.1), grey(0.25)).degraded
    for value in (0, 1):
        found = (values == value).double().mean().item()
        assert abs(found - share / 2) < ERRORS * (share / 2 * (1 - share / 2) / values.numel()) ** 0.5
    assert values.unique().tolist() == [0, 0.25, 1]
    assert degraded(SaltAndPepper(share=1), photos).degraded.unique().tolist() == [0, 1]
    assert torch.equal(degraded(SaltAndPepper(share=0), photos).degraded, photos)


# --- counts


@pytest.mark.parametrize("mean", [0, 0.7, 11.9, 12.1, 60, 500])
def test_counts_are_poisson_distributed(mean: float) -> None:
    share = (np.arange(40_000) + 0.5) / 40_000  # evenly over all draws, so that a share of them is exact
    normal = torch.from_numpy(norm.ppf(share))
    found, exact = counts(torch.full_like(normal, mean), normal).numpy(), poisson.ppf(share, mean)
    assert np.abs(found - exact).max() <= 1
    assert (found != exact).mean() < (1 / 2500 if mean > 12 else 1e-9)


@settings(max_examples=25, deadline=None)
@given(
    st.floats(0, 40), st.floats(0, 40), st.floats(-5, 5, allow_subnormal=False), st.floats(-5, 5, allow_subnormal=False)
)
def test_more_light_is_never_fewer_counts(mean: float, more: float, normal: float, higher: float) -> None:
    means, normals = torch.tensor([mean, more]).sort().values, torch.tensor([normal, higher]).sort().values
    found = counts(means.repeat(2), normals.repeat_interleave(2)).view(2, 2)
    assert (found.diff(dim=0) >= 0).all()
    assert (found.diff(dim=1) >= 0).all()
    assert (found >= 0).all()
    assert torch.equal(found, found.round())


# --- correlation, steps, blocks


def correlation(field: torch.Tensor, lag: int, dim: int) -> float:
    one, other = field.narrow(dim, lag, field.shape[dim] - lag), field.narrow(dim, 0, field.shape[dim] - lag)
    return ((one * other).mean() / (field * field).mean()).item()


@pytest.mark.parametrize("length", [1.5, 5])
def test_correlated_noise_has_its_correlation_along_both_axes(length: float) -> None:
    noise = degraded(CorrelatedNoise(sigma=10, length=length), grey(0.5, 512)).degraded.double() - 0.5
    for dim in (2, 3):
        for lag in (1, 2, 3, 6, 12):
            expected = np.exp(-((lag / length) ** 2))
            assert correlation(noise, lag, dim) == pytest.approx(expected, abs=0.01 + 0.005 * length)


def test_correlated_noise_has_its_variance_up_to_the_border_and_independent_colours() -> None:
    noise = (degraded(CorrelatedNoise(sigma=12, length=2), grey(0.5, 32, 200)).degraded.double() - 0.5) * PEAK / 12
    middle, border = noise[..., 16].square().mean().item(), noise[..., 0].square().mean().item()
    assert middle == pytest.approx(1, abs=0.06)
    assert border == pytest.approx(1, abs=0.06)
    assert noise.square().mean().item() == pytest.approx(1, abs=0.03)
    assert (noise[:, 0] * noise[:, 1]).mean().item() == pytest.approx(0, abs=0.03)


def test_the_error_of_quantisation_is_uniform_over_a_step() -> None:
    bits = 3
    clean = torch.rand(1, 3, SIDE, SIDE, generator=generator(0, "steps"))
    batch = degraded(Quantisation(bits=bits), clean)
    step = 1 / (2**bits - 1)
    error = (batch.degraded - clean).double()
    assert_moments(error, 0, step**2 / 12)
    assert error.abs().max() <= step / 2 + 1e-6
    assert len(batch.degraded.unique()) == 2**bits
    assert torch.equal(degraded(Quantisation(bits=bits), batch.degraded).degraded, batch.degraded)


def test_bits_and_quality_are_whole_numbers() -> None:
    for degradation, label in (
        (Quantisation(bits=Range(low=2, high=5)), "bits"),
        (JPEG(quality=Range(low=3, high=90)), "quality"),
    ):
        drawn = degradation.sample((4, 4), rngs(40)).labels[label]
        assert torch.equal(drawn, drawn.round())
        assert len(drawn.unique()) >= 4


def test_jpeg_is_what_pillow_makes_of_the_image(photos: torch.Tensor) -> None:
    batch = degraded(JPEG(quality=30), photos[:1])
    pixels = (photos[0] * PEAK).round().byte().permute(1, 2, 0).numpy()
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=30)
    expected = torch.from_numpy(np.array(Image.open(file))).permute(2, 0, 1).float() / PEAK
    assert torch.equal(batch.degraded[0], expected)


def test_jpeg_of_higher_quality_is_closer(photos: torch.Tensor) -> None:
    def error(**given: Any) -> float:
        return (degraded(JPEG(**given), photos).degraded - photos).square().mean().item()

    errors = [error(quality=quality) for quality in (5, 20, 60, 95)]
    assert errors == sorted(errors, reverse=True)
    assert error(quality=60, subsampling="4:4:4") < error(quality=60)
    assert error(quality=100, subsampling="4:4:4") ** 0.5 < 1 / PEAK


# --- the raw pipeline


def test_linear_light_and_back_is_the_same() -> None:
    values = torch.linspace(0, 1, 1001, dtype=torch.float64)
    assert torch.allclose(to_srgb(to_linear(values)), values, atol=1e-7)
    assert to_linear(torch.tensor([0.0, 0.5, 1.0])).tolist() == pytest.approx([0, 0.2140411, 1], abs=1e-6)


def test_without_noise_the_pipeline_gives_the_image_back(photos: torch.Tensor) -> None:
    camera = CameraNoise(shot=0, read=0, red_gain=2.1, blue_gain=1.7, matrix=MATRIX)
    assert torch.allclose(degraded(camera, photos).degraded, photos, atol=1e-5)


@pytest.mark.parametrize("size", [(7, 6)], ids=str)
def test_demosaicking_gives_planes_of_even_slope_back(size: tuple[int, int]) -> None:
    rows, columns = torch.meshgrid(*(torch.arange(side).float() for side in size), indexing="ij")
    slopes = torch.tensor([[0.01, 0.02, 0.1], [-0.03, 0.01, 0.5], [0.02, -0.01, 0.3]])
    plane = (slopes[:, 0, None, None] * rows + slopes[:, 1, None, None] * columns + slopes[:, 2, None, None])[None]
    found = demosaicked(mosaicked(plane))
    assert torch.allclose(found[..., 1:-1, 1:-1], plane[..., 1:-1, 1:-1], atol=1e-6)


def test_a_mosaic_keeps_what_was_measured() -> None:
    images = torch.rand(2, 3, 7, 9, generator=generator(0, "mosaic"))
    raw, back = mosaicked(images), demosaicked(mosaicked(images))
    assert torch.equal(back[:, 0, ::2, ::2], raw[:, 0, ::2, ::2])
    assert torch.equal(back[:, 1, ::2, 1::2], raw[:, 0, ::2, 1::2])
    assert torch.equal(back[:, 1, 1::2, ::2], raw[:, 0, 1::2, ::2])
    assert torch.equal(back[:, 2, 1::2, 1::2], raw[:, 0, 1::2, 1::2])


@pytest.mark.parametrize("size", [(1, 1), (1, 4), (3, 3)], ids=str)
def test_a_mosaic_leaves_flat_images_flat_at_every_size(size: tuple[int, int]) -> None:
    clean = torch.tensor([0.2, 0.5, 0.8])[None, :, None, None].expand(1, 3, *size).contiguous()
    camera = CameraNoise(shot=0, read=0, mosaic="rggb")
    assert torch.allclose(degraded(camera, clean).degraded, clean, atol=1e-5)


# --- draws


def test_black_and_white_images_stay_in_range() -> None:
    for name in preset_names("noise"):
        for value in (0.0, 1.0):
            found = degraded(preset(name), grey(value, 9)).degraded
            assert ((found >= 0) & (found <= 1)).all()


def test_where_there_is_no_light_there_is_no_noise() -> None:
    for name in ("poisson", "poisson-dark", "speckle"):
        assert not degraded(preset(name), grey(0.0, 16)).degraded.any()


def test_another_level_at_the_same_address_is_the_same_noise_stronger() -> None:
    weak, strong = (degraded(GaussianNoise(sigma=sigma), grey(0.5)).degraded - 0.5 for sigma in (5, 10))
    assert torch.allclose(strong, 2 * weak, atol=1e-6)


def test_other_addresses_give_other_draws_of_the_noise(photos: torch.Tensor) -> None:
    """What a split of errors into bias and variance rests on: independent draws on one clean image."""
    for name in preset_names("noise"):
        one, other = (degraded(preset(name), photos[:2, :, :24, :24], draw).degraded for draw in ("a", "b"))
        assert ((one != other).double().mean() > 0.05).item() is (name not in ("quantised", "jpeg"))


def test_levels_are_drawn_from_their_range_and_kept_as_labels() -> None:
    batch = degraded(preset("gaussian-range"), grey(0.5, 32, 60))
    sigma = batch.labels["sigma"]
    assert sigma.min() >= 5
    assert sigma.max() <= 50
    assert sigma.max() - sigma.min() > 30
    measured = (batch.degraded - 0.5).flatten(1).std(1) * PEAK
    assert torch.allclose(measured, sigma, rtol=0.1)


@pytest.mark.parametrize(
    ("kind", "wrong", "reason"),
    [
        (GaussianNoise, {"sigma": -1}, "sigma is -1; it must lie in 0 to 255"),
        (PoissonNoise, {"photons": 0}, "photons is 0; it must lie in 0.1 to"),
        (SaltAndPepper, {"share": {"low": 0.5, "high": 2}}, "share is 0.5 to 2; it must lie in 0 to 1"),
        (CameraNoise, {"mosaic": "bggr"}, "mosaic"),
        (CameraNoise, {"matrix": ((1, 0, 0), (0, 1, 0), (0, 0, 2))}, r"sum to \[1.0, 1.0, 2.0\], not to 1"),
        (CameraNoise, {"matrix": ((1, 0, 0), (1, 0, 0), (0, 0, 1))}, "no inverse"),
    ],
)
def test_values_that_make_no_noise_are_refused_with_their_name(
    kind: type[Degradation], wrong: dict[str, Any], reason: str
) -> None:
    with pytest.raises(ValidationError, match=reason):
        kind.model_validate(wrong)


# --- what is unseen


def test_what_is_unseen_is_computed() -> None:
    table = unseen_by("noise")
    assert table["gaussian75"]["gaussian-range"] == ("sigma",)
    assert all(table[test]["gaussian25"] == ("kind",) for test in ("poisson", "correlated", "camera", "jpeg"))
    assert table["poisson"]["noises"] == ()
    assert table["poisson-dark"]["noises"] == ("photons",)
    assert table["camera"]["noises"] == ("kind",)
    assert table["noise-chain"]["gaussian25"] == ("chain",)
    assert preset("camera-raw").outside(preset("camera")) == ("red_gain", "blue_gain", "mosaic")
    assert preset("gaussian15").outside(preset("gaussian-range")) == ()


def test_a_mixture_is_unseen_only_where_all_of_its_parts_are() -> None:
    medium, steep, noise = Rain.preset("medium"), Rain.preset("steep"), preset("gaussian25")
    mixed = Mixture(parts=(medium, noise))
    assert mixed.outside(medium) == medium.outside(mixed) == ()
    assert steep.outside(mixed) == ("direction",)
    assert preset("gaussian50").outside(mixed) == ("sigma",)
    assert preset("poisson").outside(mixed) == ("kind",)
    assert Mixture(parts=(steep, preset("gaussian50"))).outside(mixed) == ("direction", "sigma")
    assert Mixture(parts=(steep, noise)).outside(mixed) == ()


def test_a_sequence_is_unseen_where_one_of_its_parts_is() -> None:
    def chain(*names: str) -> Mixture:
        return Mixture(parts=tuple(preset(name) for name in names), mode="sequence")

    assert chain("medium", "gaussian25").outside(chain("medium", "gaussian-range")) == ()
    assert chain("medium", "gaussian75").outside(chain("medium", "gaussian-range")) == ("sigma",)
    assert chain("gaussian25", "medium").outside(chain("medium", "gaussian25")) == ("kind",)
    assert chain("gaussian25").outside(preset("gaussian25")) == ()
    either = Mixture(parts=(preset("gaussian25"), chain("medium", "gaussian25")))
    assert chain("medium", "gaussian25").outside(either) == ()
    assert chain("medium", "gaussian50").outside(either) == ("sigma",)


# --- mixtures


def test_parts_come_as_often_as_their_weights_say() -> None:
    names = ("gaussian25", "salt-and-pepper", "quantised")
    mixed = Mixture(parts=tuple(preset(name) for name in names), weights=(5, 3, 2))
    drawn = mixed.sample((1, 1), rngs(1000, "weights")).labels["part"]
    for part, share in enumerate((0.5, 0.3, 0.2)):
        found = (drawn == part).double().mean().item()
        assert abs(found - share) < ERRORS * (share * (1 - share) / 1000) ** 0.5


def test_each_image_meets_the_part_that_its_label_names() -> None:
    mixed = Mixture(parts=(Quantisation(bits=1), SaltAndPepper(share=0.5), GaussianNoise(sigma=10)))
    batch = degraded(mixed, grey(0.6, 32, 30))
    values = [len(image.unique()) for image in batch.degraded]
    assert set(batch.labels["part"].tolist()) == {0, 1, 2}
    for part, count in zip(batch.labels["part"].tolist(), values, strict=True):
        assert {0: count == 1, 1: count == 3, 2: count > 100}[int(part)]


def test_a_sequence_is_its_parts_one_after_the_other(photos: torch.Tensor) -> None:
    parts = (preset("gaussian25"), preset("medium"), preset("quantised"))
    mixed = Mixture(parts=parts, mode="sequence")
    params = mixed.sample((64, 64), rngs(4))
    expected = photos
    for part, (_, drawn) in zip(parts, params.parts, strict=True):
        expected = part.render(expected, drawn).degraded
    batch = mixed.render(photos, params)
    assert torch.equal(batch.degraded, expected)
    assert {"0.sigma", "1.direction", "2.bits"} <= set(batch.labels)


@pytest.mark.parametrize("mode", ["one", "sequence"])
def test_a_change_to_one_part_leaves_the_draws_of_the_others(mode: Any) -> None:
    def fields(first: Degradation) -> list[torch.Tensor]:
        params = Mixture(parts=(first, preset("gaussian25")), mode=mode).sample((8, 8), rngs(12))
        images, drawn = params.parts[1]
        return [images, drawn.field]

    one, other = fields(preset("dense")), fields(preset("poisson"))
    assert torch.equal(one[0], other[0])
    assert torch.equal(one[1], other[1])


def test_parts_draw_independently() -> None:
    both = Mixture(parts=(GaussianNoise(sigma=10), GaussianNoise(sigma=10)), mode="sequence")
    assert_moments(degraded(both, grey(0.5)).degraded, 0.5, 2 * (10 / 255) ** 2)


@pytest.mark.parametrize(
    ("parts", "family"),
    [(("poisson", "noise-chain"), "noise"), (("medium", "steep"), "rain"), (("medium", "poisson"), "mixture")],
)
def test_a_mixture_belongs_to_the_family_of_its_parts(parts: tuple[str, ...], family: str) -> None:
    mixture = Mixture(parts=tuple(preset(name) for name in parts))
    assert mixture.family == family
    assert mixture.color == ("y" if family == "rain" else "rgb")
    assert mixture.draws == (2 if family == "noise" else 1)
    assert mixture.families == (("rain", "noise") if family == "mixture" else (family,))


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"parts": ()}, "parts"),
        ({"parts": ({"kind": "GaussianNoise"},), "weights": (1, 2)}, "2 weights for 1 parts"),
        ({"parts": ({"kind": "JPEG"}, {"kind": "JPEG"}), "weights": (1, 0)}, "a weight is 0"),
        ({"parts": ({"preset": "jpeg"},), "weights": (1,), "mode": "sequence"}, "takes all of its parts"),
        ({"parts": ({"kind": "Snow"},)}, "Snow"),
    ],
)
def test_values_that_make_no_mixture_are_refused(wrong: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValidationError, match=reason):
        Mixture.model_validate(wrong)
