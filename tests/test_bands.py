"""Decoupling without a mask: octave by octave, and over draws of the noise."""

import math

import pytest
import torch
from scipy.fft import dctn
from torch import Tensor

from unseen.backgrounds import Backgrounds, BackgroundsConfig
from unseen.degradations import GaussianNoise, preset
from unseen.evaluation.bands import band_sums, cosines
from unseen.evaluation.draws import split
from unseen.evaluation.evaluate import evaluate
from unseen.evaluation.suites import Judge, Suite
from unseen.rows import BANDS, MORE_ATOMS, summarise
from unseen.types import Batch, Outcome


def outcome_of(restored: Tensor, clean: Tensor, degraded: Tensor) -> Outcome:
    nothing = torch.zeros_like(clean[:, :1])
    return Outcome(Batch(degraded=degraded, clean=clean, layer=nothing, mask=nothing), restored)


def wave(period: float, size: int = 64) -> Tensor:
    """A grating of whole pixels' period, (1, 3, size, size), mean 0.5."""
    across = torch.cos(math.pi * (2 * torch.arange(size) + 1) / period)  # a cosine of the DCT
    return (0.5 + 0.2 * across).expand(1, 3, size, size)


@pytest.mark.parametrize("size", [(16, 16), (15, 22), (1, 7)])
def test_the_transform_is_that_of_scipy(size: tuple[int, int]) -> None:
    planes = torch.rand(2, *size, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    expected = torch.from_numpy(dctn(planes.numpy(), axes=(-2, -1), norm="ortho"))
    assert torch.allclose(cosines(planes), expected, atol=1e-12)


def test_the_octaves_add_up_to_the_whole(photos: Tensor) -> None:
    restored = (photos + 0.1 * torch.randn(photos.shape, generator=torch.Generator().manual_seed(1))).clamp(0, 1)
    found = band_sums(outcome_of(restored, photos, photos.flip(-1)))
    error, degradation = (restored - photos).double(), (photos.flip(-1) - photos).double()
    for name, expected in (("error", error**2), ("degradation", degradation**2), ("alignment", error * degradation)):
        total = sum(found[f"{name}_{band}"] for band in BANDS)
        assert torch.allclose(torch.as_tensor(total), expected.sum(dim=(1, 2, 3)))


@pytest.mark.parametrize(("period", "band"), [(32, "over16"), (12.8, "8to16"), (6.4, "4to8"), (2.56, "under4")])
def test_a_grating_lies_in_its_octave(period: float, band: str) -> None:
    flat = torch.full((1, 3, 64, 64), 0.5)
    found = band_sums(outcome_of(wave(period), flat, flat))
    energy = {name: found[f"error_{name}"].item() for name in BANDS}
    assert energy[band] == pytest.approx(sum(energy.values()), rel=1e-6)


class TestDraws:
    """Closed forms, on grey in the middle of the range, where nothing is clipped."""

    @pytest.fixture(scope="class")
    @staticmethod
    def grey() -> Tensor:
        return torch.full((2, 3, 96, 96), 0.5)

    @pytest.fixture(scope="class")
    @staticmethod
    def noisy(grey: Tensor) -> list[Tensor]:
        rng = torch.Generator().manual_seed(3)
        return [grey + 0.1 * torch.randn(grey.shape, generator=rng) for _ in range(4)]

    def test_identity_has_the_variance_of_the_noise_and_no_bias(self, grey: Tensor, noisy: list[Tensor]) -> None:
        found = split(noisy, grey)
        values = grey[0].numel()
        assert torch.allclose(found["variance"] / values, torch.tensor(0.01, dtype=torch.float64), rtol=0.02)
        assert (found["bias"].abs() / values < 2e-4).all()

    def test_half_way_has_a_quarter_of_it(self, grey: Tensor, noisy: list[Tensor]) -> None:
        found = split([(some + grey) / 2 for some in noisy], grey)
        assert torch.allclose(found["variance"], split(noisy, grey)["variance"] / 4)

    def test_the_oracle_has_neither(self, grey: Tensor) -> None:
        found = split([grey, grey], grey)
        assert not found["variance"].any()
        assert not found["bias"].any()

    def test_over_smoothing_is_bias_alone(self, photos: Tensor) -> None:
        flat = photos.mean(dim=(2, 3), keepdim=True).expand_as(photos)
        found = split([flat, flat], photos)
        assert not found["variance"].any()
        assert torch.allclose(found["bias"], (flat - photos).double().square().sum(dim=(1, 2, 3)))

    def test_both_add_up_to_the_mean_error(self, grey: Tensor, noisy: list[Tensor]) -> None:
        found = split(noisy, grey)
        errors = torch.stack([(some - grey).double().square().sum(dim=(1, 2, 3)) for some in noisy])
        assert torch.allclose(found["bias"] + found["variance"], errors.mean(dim=0))

    def test_the_octaves_of_both_add_up_to_the_whole(self, photos: Tensor) -> None:
        rng = torch.Generator().manual_seed(4)
        draws = [photos.roll(1, -1) + 0.1 * torch.randn(photos.shape, generator=rng) for _ in range(3)]
        found = split(draws, photos, bands=True)
        for name in ("bias", "variance"):
            octaves = torch.stack([found[f"{name}_{band}"] for band in BANDS])
            assert torch.allclose(octaves.sum(dim=0), found[name])

    def test_white_noise_leaks_into_every_octave_by_its_size(self, grey: Tensor, noisy: list[Tensor]) -> None:
        found = split(noisy, grey, bands=True)
        sizes = {band: found[f"variance_{band}"].mean().item() / 0.01 / 3 / 96**2 for band in BANDS}
        sides = {"over16": 16, "8to16": 8, "4to8": 4}  # a quarter of a disk in the square of frequencies up to 1/2
        disks = [math.pi / 4 * (2 / side) ** 2 for side in sides.values()]
        expected = [disks[0], disks[1] - disks[0], disks[2] - disks[1], 1 - disks[2]]
        assert list(sizes.values()) == pytest.approx(expected, rel=0.1)

    def test_blotches_that_are_left_are_variance_in_the_coarse_octave(self, grey: Tensor, noisy: list[Tensor]) -> None:
        blotches = [grey + (some - grey).mean(dim=(2, 3), keepdim=True) for some in noisy]
        found = split(blotches, grey, bands=True)
        assert torch.allclose(found["variance_over16"], found["variance"])
        assert (found["variance"] > 0).all()

    def test_a_texture_that_is_smoothed_away_is_bias_in_its_octave(self) -> None:
        clean = wave(2.56)
        found = split([torch.full_like(clean, 0.5)] * 2, clean, bands=True)
        assert torch.allclose(found["bias_under4"], found["bias"])
        assert not found["variance_under4"].any()


@pytest.mark.parametrize(("left", "retention"), [(1.0, 1.0), (0.5, 0.5), (0.0, 0.0)])
def test_retention_by_octave_of_identity_half_way_and_oracle(photos: Tensor, left: float, retention: float) -> None:
    degraded = photos + 0.1 * torch.randn(photos.shape, generator=torch.Generator().manual_seed(5))
    found = band_sums(outcome_of(photos + left * (degraded - photos), photos, degraded))
    for band in BANDS:
        assert torch.allclose(
            found[f"alignment_{band}"] / found[f"degradation_{band}"],
            torch.full((len(photos),), retention, dtype=torch.float64),
            atol=1e-5,
        )


def test_over_smoothing_takes_the_noise_out_of_the_fine_octave_and_errs_there(photos: Tensor) -> None:
    degraded = photos + 0.1 * torch.randn(photos.shape, generator=torch.Generator().manual_seed(6))
    flat = degraded.mean(dim=(2, 3), keepdim=True).expand_as(photos)
    found = band_sums(outcome_of(flat, photos, degraded))
    assert ((found["alignment_under4"] / found["degradation_under4"]).abs() < 0.1).all()
    texture = cosines((photos - photos.mean(dim=(2, 3), keepdim=True)).double()).square().sum(dim=(1, 2, 3))
    errors = torch.stack([found[f"error_{band}"] for band in BANDS]).sum(dim=0)
    assert torch.allclose(errors, texture, rtol=0.01)


def test_noise_is_judged_by_octaves_and_draws_and_rain_is_not() -> None:
    images = Backgrounds(BackgroundsConfig(part="test"))
    noise = Suite(name="noise", degradation=GaussianNoise.preset("gaussian25"))
    rain = Suite(name="rain", degradation=preset("steep", 0.5))
    rows = evaluate(lambda degraded: degraded, [noise, rain], images, crop=64, limit=2, name="copy", baselines=False)
    assert set(MORE_ATOMS) <= set(rows.metric[rows.suite == "noise"])
    assert not set(MORE_ATOMS) & set(rows.metric[rows.suite == "rain"])
    found = summarise(rows).set_index("suite").loc["noise"]
    assert found.deviation == pytest.approx(25 / 255, rel=0.05)
    assert found.bias < 0.02  # clipping
    assert found.retention_under4 == pytest.approx(1)
    again = evaluate(lambda degraded: degraded, [noise], images, crop=64, limit=2, name="copy", baselines=False)
    assert again.value.tolist() == rows.value[rows.suite == "noise"].tolist()


def test_draws_are_no_part_of_a_judge_that_does_not_ask_for_them() -> None:
    assert Judge().id("x", ["a"]) == Judge(draws=None).id("x", ["a"]) != Judge(draws=3).id("x", ["a"])
