"""Dead leaves: deterministic, of any size, and more complex where the dial says so."""

import io
from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest
from PIL import Image
from pydantic import ValidationError

from unseen.leaves import DeadLeaves

DIAL = (0.0, 0.25, 0.5, 0.75, 1.0)


def png_bytes(image: np.ndarray) -> int:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")
    return len(file.getvalue())


def gradient(image: np.ndarray) -> float:
    return float(np.abs(np.diff(image.astype(float), axis=0)).mean())


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (9, 1), (2, 3), (64, 48)])
@pytest.mark.parametrize("complexity", [0.0, 1.0])
def test_any_size_is_drawn(size: tuple[int, int], complexity: float) -> None:
    image = DeadLeaves(complexity=complexity).draw(size, 0, 0)
    assert image.shape == (*size, 3)
    assert image.dtype == np.uint8


def test_an_image_is_a_function_of_its_address() -> None:
    leaves = DeadLeaves(complexity=0.8)
    first = leaves.draw((40, 50), 1, 2)
    leaves.draw((40, 50), 1, 3)
    assert np.array_equal(first, DeadLeaves(complexity=0.8).draw((40, 50), 1, 2))
    assert not np.array_equal(first, leaves.draw((40, 50), 1, 3))
    assert not np.array_equal(first, leaves.draw((40, 50), 2, 2))


@pytest.mark.parametrize("measure", [png_bytes, gradient])
def test_complexity_rises_with_the_dial(measure: Callable[[np.ndarray], float]) -> None:
    means = [np.mean([measure(DeadLeaves(complexity=c).draw((128, 128), 0, i)) for i in range(6)]) for c in DIAL]
    assert all(low < high for low, high in pairwise(means)), means


@pytest.mark.parametrize(("name", "low", "high"), [("textured", 0, 1), ("contrast", 0.05, 0.5), ("r_min", 32, 2)])
def test_each_parameter_alone_raises_complexity(name: str, low: float, high: float) -> None:
    fewer, more = (DeadLeaves.model_validate({"complexity": 0.5, name: value}) for value in (low, high))
    assert np.mean([png_bytes(fewer.draw((96, 96), 0, i)) for i in range(4)]) < np.mean(
        [png_bytes(more.draw((96, 96), 0, i)) for i in range(4)]
    )


def test_without_colour_leaves_are_grey_and_without_texture_flat() -> None:
    grey = DeadLeaves(complexity=1, colour=0).draw((32, 32), 0, 0).astype(int)
    assert np.ptp(grey, axis=2).max() == 0
    flat = DeadLeaves(r_min=60, r_max=120, textured=0).draw((64, 64), 0, 0)
    assert len(np.unique(flat[1:-1, 1:-1].reshape(-1, 3), axis=0)) < 64 * 64 / 8


def test_parameters_follow_the_dial_unless_given() -> None:
    assert DeadLeaves() == DeadLeaves(complexity=0.5)
    assert DeadLeaves(complexity=1).r_min == 1
    assert DeadLeaves(complexity=1, r_min=5).r_min == 5
    assert DeadLeaves(complexity=1, r_min=5).textured == 1
    again = DeadLeaves(complexity=0.3)
    assert DeadLeaves.model_validate(again.model_dump()) == again


@pytest.mark.parametrize("wrong", [{"complexity": 1.5}, {"r_min": 200}, {"exponent": 1}, {"radius": 3}])
def test_wrong_parameters_are_refused_with_one_reason(wrong: dict[str, float]) -> None:
    with pytest.raises(ValidationError) as caught:
        DeadLeaves.model_validate(wrong)
    assert caught.value.error_count() == 1


def test_radii_follow_the_power_law() -> None:
    """With exponent 3 the share of radii above r is (r**-2 - r_max**-2) / (r_min**-2 - r_max**-2)."""
    leaves = DeadLeaves(r_min=2, r_max=50)
    radii = leaves._radii(np.linspace(0, 1, 10001))
    assert radii.min() == pytest.approx(2)
    assert radii.max() == pytest.approx(50)
    assert np.mean(radii > 4) == pytest.approx((4**-2 - 50**-2) / (2**-2 - 50**-2), abs=1e-3)
    assert np.mean(np.pi * radii**2) == pytest.approx(leaves._mean_leaf(), rel=0.02)
