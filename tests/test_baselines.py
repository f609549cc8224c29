"""Restorers that know nothing: exact filters, any size, any float type."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import convolve, generic_filter, median_filter

from unseen.evaluation import baselines
from unseen.evaluation.baselines import BASELINES, box, identity, median
from unseen.seeding import generator


def noise(*shape: int) -> torch.Tensor:
    return torch.rand(*shape, generator=generator(0, "test-baselines", *shape))


@pytest.mark.parametrize("name", BASELINES)
@pytest.mark.parametrize("size", [(17, 23), (3, 3), (2, 9), (9, 1), (1, 1)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_a_baseline_keeps_shape_type_and_range_and_its_input(name, size, dtype):
    degraded = noise(2, 3, *size).to(dtype)
    before = degraded.clone()
    restored = BASELINES[name](degraded)
    assert restored.shape == degraded.shape
    assert restored.dtype == dtype
    assert restored.min() >= 0 and restored.max() <= 1
    assert torch.equal(degraded, before)


def test_the_identity_changes_nothing():
    assert torch.equal(identity(noise(2, 3, 8, 8)), noise(2, 3, 8, 8))


@settings(deadline=None)
@given(height=st.integers(3, 20), width=st.integers(3, 20))
def test_filters_agree_with_scipy_up_to_the_border(height, width):
    degraded = noise(2, 3, height, width)
    window = (1, 1, 5, 5)  # scipy calls torch's "reflect" "mirror"
    assert torch.equal(median(degraded), torch.from_numpy(median_filter(degraded.numpy(), window, mode="mirror")))
    expected = convolve(degraded.double().numpy(), np.full(window, 1 / 25), mode="mirror")
    assert box(degraded).numpy() == pytest.approx(expected, abs=1e-6)


def test_the_median_does_not_depend_on_its_bands(monkeypatch):
    degraded = noise(2, 3, 19, 11)
    whole = median(degraded)
    monkeypatch.setattr(baselines, "_VALUES_AT_ONCE", 200)
    assert torch.equal(median(degraded), whole)


def test_the_median_drops_a_thin_streak_and_the_box_smears_it():
    background = torch.full((1, 3, 15, 15), 0.25)
    streak = background.clone()
    streak[..., 7] = 1
    assert torch.equal(median(streak), background)
    assert box(streak)[0, 0, 7, 7].item() == pytest.approx(0.25 + 0.75 / 5)


@pytest.mark.parametrize("name", BASELINES)
def test_a_flat_image_stays_flat(name):
    flat = torch.full((1, 3, 6, 7), 0.3)
    assert torch.allclose(BASELINES[name](flat), flat, atol=1e-6)


def test_small_axes_are_replicated():
    row = noise(1, 3, 1, 9)
    middle = generic_filter(row[0, 0, 0].numpy(), lambda values: sorted(values)[2], size=5, mode="mirror")
    assert median(row)[0, 0, 0].numpy() == pytest.approx(middle)
