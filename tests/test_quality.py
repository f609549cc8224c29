"""PSNR and SSIM against closed forms and an independent implementation."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from unseen.evaluation.quality import decibels, luma, mse, psnr_rgb, psnr_y, ssim, ssim_rgb, ssim_y
from unseen.seeding import generator
from unseen.types import Batch, Outcome


def photo(*address: str | int, size: tuple[int, int] = (40, 52), count: int = 2) -> torch.Tensor:
    """Smooth colour with some grain, in [0, 1]."""
    rng = generator(0, "test-quality", *address)
    coarse = torch.rand(count, 3, 5, 5, generator=rng)
    smooth = torch.nn.functional.interpolate(coarse, size, mode="bilinear", align_corners=False)
    return (0.9 * smooth + 0.1 * torch.rand(count, 3, *size, generator=rng)).clamp(0, 1)


def outcome_of(restored: torch.Tensor, clean: torch.Tensor) -> Outcome:
    return Outcome(Batch(clean, clean, clean[:, :1] * 0, clean[:, :1] * 0), restored)


def luma_by_hand(image: torch.Tensor) -> np.ndarray:
    """The published formula in numpy, for one image "c h w"."""
    red, green, blue = np.round(image.double().numpy() * 255) / 255
    return 16 + 65.481 * red + 128.553 * green + 24.966 * blue


def test_an_offset_of_a_tenth_is_twenty_decibels():
    clean = torch.full((2, 3, 16, 16), 0.5, dtype=torch.float64)
    assert psnr_rgb(outcome_of(clean + 0.1, clean)).tolist() == pytest.approx([20, 20])


def test_an_offset_of_one_level_on_luma_is_known():
    clean = torch.full((1, 3, 16, 16), 100 / 255)
    found = psnr_y(outcome_of(clean + 1 / 255, clean)).item()
    assert found == pytest.approx(20 * math.log10(255 / (219 / 255)), abs=1e-9)  # 219 levels of Y for 255 of grey


def test_a_perfect_image_is_infinite_and_wholly_similar():
    outcome = outcome_of(photo("perfect"), photo("perfect"))
    assert psnr_rgb(outcome).tolist() == psnr_y(outcome).tolist() == [math.inf, math.inf]
    assert ssim_rgb(outcome).tolist() == pytest.approx([1, 1], abs=1e-12)
    assert ssim_y(outcome).tolist() == pytest.approx([1, 1], abs=1e-12)


def test_luma_runs_from_16_to_235_and_rounds_to_bytes_first():
    ends = torch.stack([torch.zeros(3, 2, 2), torch.ones(3, 2, 2)])
    assert luma(ends).flatten(1).unique(dim=1).flatten().tolist() == pytest.approx([16, 235])
    assert luma(ends).dtype == torch.float64
    assert torch.equal(luma(ends * 0.5), luma(ends * 0.5 + 0.4 / 255 * ends))  # 127.5 and 127.9 are both 128


@pytest.mark.parametrize("size", [(40, 52), (11, 11), (12, 31)])
def test_rgb_agrees_with_scikit_image(size):
    clean, restored = photo("clean", size=size), photo("restored", size=size)
    outcome = outcome_of(restored, clean)
    for index in range(2):
        one, other = restored[index].double().numpy(), clean[index].double().numpy()
        assert psnr_rgb(outcome)[index].item() == pytest.approx(
            peak_signal_noise_ratio(other, one, data_range=1), abs=1e-9
        )
        expected = structural_similarity(
            other, one, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=1, channel_axis=0
        )
        assert ssim_rgb(outcome)[index].item() == pytest.approx(expected, abs=1e-4)


def test_luma_agrees_with_the_formula_and_scikit_image():
    clean, restored = photo("clean"), photo("restored")
    outcome = outcome_of(restored, clean)
    for index in range(2):
        one, other = luma_by_hand(restored[index]), luma_by_hand(clean[index])
        assert luma(restored)[index, 0].numpy() == pytest.approx(one, abs=1e-12)
        assert psnr_y(outcome)[index].item() == pytest.approx(
            peak_signal_noise_ratio(other, one, data_range=255), abs=1e-4
        )
        expected = structural_similarity(
            other, one, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=255
        )
        assert ssim_y(outcome)[index].item() == pytest.approx(expected, abs=1e-4)


def test_full_range_luma_scores_1_32_decibels_lower():
    clean, restored = photo("clean"), photo("restored")
    full = [(luma(images) - 16) * (255 / 219) for images in (restored, clean)]
    lower = psnr_y(outcome_of(restored, clean)) - decibels(mse(*full), 255.0)
    assert lower.tolist() == pytest.approx([20 * math.log10(255 / 219)] * 2)
    assert lower[0].item() == pytest.approx(1.32, abs=0.005)


@pytest.mark.parametrize("size", [(10, 40), (40, 10), (1, 1)])
def test_ssim_of_images_smaller_than_its_window_is_undefined(size):
    outcome = outcome_of(photo("small", size=size), photo("other", size=size))
    assert ssim_rgb(outcome).isnan().all()
    assert ssim_y(outcome).isnan().all()
    assert psnr_rgb(outcome).isfinite().all()


def test_a_large_batch_scores_as_its_images_do():
    clean, restored = photo("clean", size=(200, 200), count=7), photo("restored", size=(200, 200), count=7)
    alone = torch.cat([ssim(restored[index : index + 1], clean[index : index + 1]) for index in range(7)])
    assert ssim(restored, clean).tolist() == alone.tolist()


@settings(deadline=None)
@given(seed=st.integers(0, 10_000), count=st.integers(1, 3))
def test_scores_are_symmetric_and_bounded(seed, count):
    one, other = photo("one", seed, size=(12, 13), count=count), photo("other", seed, size=(12, 13), count=count)
    assert ssim(one, other).tolist() == pytest.approx(ssim(other, one).tolist(), abs=1e-12)
    assert (ssim(one, other).abs() <= 1).all()
    assert torch.equal(mse(one, other), mse(other, one))


def test_inputs_are_left_alone():
    clean, restored = photo("clean").double(), photo("restored").double()
    before = clean.clone(), restored.clone()
    outcome = outcome_of(restored, clean)
    for metric in (psnr_rgb, psnr_y, ssim_rgb, ssim_y):
        assert metric(outcome).dtype == torch.float64
    assert torch.equal(clean, before[0]) and torch.equal(restored, before[1])
