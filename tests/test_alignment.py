"""Alignment: known shifts come back, nothing gets worse, the clean image stays where it is."""

import math
from pathlib import Path

import numpy as np
import pytest
import skimage.data
import torch
from skimage.registration import phase_cross_correlation
from torch import Tensor

from unseen.degradations import mask_of
from unseen.errors import ConfigError
from unseen.evaluation.alignment import LIMIT, _grey, _subpixel, align, aligned, cropped, moved_by
from unseen.evaluation.decoupled import check
from unseen.evaluation.quality import mse
from unseen.evaluation.suites import PairSuite
from unseen.images import PEAK, write_image
from unseen.pair_folder import PairFolderConfig
from unseen.types import Batch, Outcome

SHIFTS = [(0.0, 0.0), (0.5, 0.25), (-2.3, 6.7), (-7.75, -4.0)]


ASIDE = 20  # pixels around the scene: what moves and blurs into it is picture, too


@pytest.fixture(scope="module")
def wide() -> Tensor:
    """A photograph, (1, 3, 200, 216), softened by 0.7 pixels: as much detail as cameras leave, and hardly any alias."""
    photo = torch.from_numpy(skimage.data.astronaut()[:200, 110:326].copy())
    return blurred(photo.permute(2, 0, 1)[None] / PEAK, 0.7)


@pytest.fixture(scope="module")
def scene(wide: Tensor) -> Tensor:
    """(1, 3, 160, 176)."""
    return cropped(wide, ASIDE)


def displaced(images: Tensor, down: float, right: float) -> Tensor:
    return moved_by(images.double(), torch.tensor([[float(down), float(right)]])).float()


def blurred(images: Tensor, sigma: float) -> Tensor:
    offsets = torch.arange(-16.0, 17)
    kernel = torch.exp(-(offsets**2) / (2 * sigma**2))
    kernel = (kernel / kernel.sum()).expand(3, 1, 1, -1)
    padded = torch.nn.functional.pad(images, (16, 16, 16, 16), mode="reflect")
    across = torch.nn.functional.conv2d(padded, kernel, groups=3)
    return torch.nn.functional.conv2d(across, kernel.mT, groups=3)


def noisy(images: Tensor, sigma: float, seed: int = 1) -> Tensor:
    noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(seed))
    return (images + sigma * noise).clamp(0, 1)


DEGRADED = {
    "plain": lambda images: images,
    "blur": lambda images: blurred(images, 2),
    "heavy blur": lambda images: blurred(images, 4),
    "noise": lambda images: noisy(images, 0.1),
    "blur and noise": lambda images: noisy(blurred(images, 2), 0.04),
    "haze": lambda images: 0.5 * images + 0.4,
}


@pytest.mark.parametrize("degrade", DEGRADED.values(), ids=DEGRADED)
@pytest.mark.parametrize("shift", SHIFTS, ids=str)
def test_known_shifts_are_found(wide: Tensor, scene: Tensor, shift: tuple[float, float], degrade) -> None:
    degraded = cropped(degrade(displaced(wide, *shift)), ASIDE).clamp(0, 1)
    found = align(degraded, scene, limit=12)
    assert found.shift.shape == (1, 2)
    if degrade is DEGRADED["haze"] and (found.shift == 0).all():  # where moving would not lower the error
        shift = (0, 0)
    assert (found.shift + torch.tensor(shift)).abs().max() < 0.1
    before, after = (mse(cropped(some, 12), cropped(scene, 12)) for some in (degraded, found.images))
    assert (after <= before).all()


def smooth_scene() -> Tensor:
    """Little to go by: three waves of 40 pixels and more, (1, 3, 160, 176)."""
    rows, columns = torch.meshgrid(torch.arange(160.0), torch.arange(176.0), indexing="ij")
    waves = torch.sin(rows / 9 + columns / 13) + torch.cos(columns / 7 - rows / 20) + torch.sin(rows / 15)
    return (0.5 + 0.08 * waves).expand(1, 3, -1, -1)


@pytest.mark.parametrize("smooth", [False, True], ids=["detail", "smooth"])
def test_noise_costs_no_more_than_it_must(scene: Tensor, smooth: bool) -> None:
    """The Cramer-Rao bound: no unbiased estimate has a smaller root mean square error."""
    clean, sigma, limit, count = smooth_scene() if smooth else scene, 0.1, 12, 24
    seen = torch.cat([noisy(clean, sigma, seed) for seed in range(count)])
    error = _subpixel(_grey(seen), _grey(clean).expand(count, -1, -1, -1), torch.zeros(count, 2).double(), limit)
    slopes = torch.stack([cropped(one, limit).flatten() for one in torch.gradient(_grey(clean), dim=(2, 3))])
    grey_sigma = sigma * math.hypot(0.299, 0.587, 0.114)
    bound = torch.linalg.inv(slopes @ slopes.mT / grey_sigma**2).diagonal().sqrt()
    assert (error.square().mean(0).sqrt() < 1.4 * bound).all()  # of 24: 15 % of it is chance
    assert (error.mean(0).abs() < 3 * bound / math.sqrt(count)).all()


def test_scikit_image_finds_the_same_shift(scene: Tensor) -> None:
    fading = torch.from_numpy(np.hanning(160)[:, None] * np.hanning(176)).float()
    scene = 0.5 + fading * (scene - 0.5)  # flat at the edges: what leaves on one side is what enters on the other
    degraded = displaced(scene, -2.3, 4.6)
    found = align(degraded, scene)
    expected, *_ = phase_cross_correlation(scene.numpy()[0].mean(0), degraded.numpy()[0].mean(0), upsample_factor=100)
    assert np.abs(found.shift[0].numpy() - expected).max() < 0.02


def test_what_fits_already_is_kept_bit_by_bit(photos: Tensor) -> None:
    found = align(photos, photos)
    assert (found.shift == 0).all()
    assert torch.equal(found.images, photos)
    rng = torch.Generator().manual_seed(0)
    noise = (photos + 0.05 * torch.randn(photos.shape, generator=rng)).clamp(0, 1)
    assert align(noise, photos).shift.abs().max() < 0.2


def test_alignment_never_raises_the_error(photos: Tensor) -> None:
    others = [photos.flip(0), photos.flip(3), 1 - photos, torch.zeros_like(photos), torch.rand_like(photos)]
    for other in others:
        found = align(other, photos, limit=8)
        before, after = (mse(cropped(some, 8), cropped(photos, 8)) for some in (other, found.images))
        assert (after <= before).all()
        assert found.shift.isfinite().all()
        assert found.images.amin() >= 0
        assert found.images.amax() <= 1


def test_flat_images_are_not_moved() -> None:
    flat = torch.full((1, 3, 64, 64), 0.4)
    assert (align(flat, flat).shift == 0).all()
    stripes = flat + 0.2 * torch.sin(torch.arange(64.0))[:, None]
    found = align(stripes.roll(2, 2), stripes)
    assert found.shift[0, 1] == 0


def test_each_image_of_a_batch_is_aligned_by_itself(scene: Tensor) -> None:
    degraded = torch.cat([displaced(scene, *shift) for shift in SHIFTS])
    together = align(degraded, scene.expand(len(SHIFTS), -1, -1, -1))
    for index in range(len(SHIFTS)):
        alone = align(degraded[index : index + 1], scene)
        assert torch.allclose(alone.shift[0], together.shift[index], atol=0.01)
    assert torch.equal(together.images[0], degraded[0])


def test_moving_keeps_the_power_of_noise() -> None:
    noise = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    half = moved_by(noise, torch.tensor([[0.5, 0.5]]))
    assert abs(half.var() / noise.var() - 1) < 0.05
    whole = moved_by(noise, torch.tensor([[3.0, -2.0]]))
    assert torch.allclose(whole[..., 3:, :-2], noise[..., :-3, 2:], atol=1e-12)


def test_an_outcome_is_aligned_and_cut_as_a_whole(scene: Tensor) -> None:
    degraded, restored = displaced(noisy(scene, 0.05), 2, 3), displaced(scene, 1.5, -2)
    layer = torch.rand(1, 1, 160, 176, generator=torch.Generator().manual_seed(2))
    outcome = Outcome(Batch(degraded, scene, layer, layer.round(), {"name": torch.ones(1)}), restored)
    found, shift = aligned(outcome)
    check(found)
    assert (shift - torch.tensor([[-1.5, 2.0]])).abs().max() < 0.05
    assert torch.equal(found.batch.clean, cropped(scene, LIMIT))
    assert torch.equal(found.batch.mask, cropped(layer.round(), LIMIT))
    assert torch.equal(found.batch.layer, cropped(layer, LIMIT))
    assert found.batch.labels == outcome.batch.labels
    assert mse(found.restored, found.batch.clean) < 1e-5
    assert mse(found.batch.degraded, found.batch.clean) < mse(cropped(degraded, LIMIT), found.batch.clean)


def test_images_too_small_are_refused(photos: Tensor) -> None:
    align(photos, photos, limit=24)
    for limit in (25, 0):
        with pytest.raises(ConfigError, match=r"64 x 64 pixels cannot be aligned .* Set a smaller limit"):
            align(photos, photos, limit=limit)


def test_the_mask_of_pairs_that_are_aligned_is_that_of_the_aligned_ones(scene: Tensor, tmp_path: Path) -> None:
    rainy = scene.clone()
    rainy[..., 40:100, 60:64] = 1.0
    shifted = displaced(rainy, 3, 2)
    for name, degraded in (("straight", rainy), ("shifted", shifted)):
        for kind, image in (("input", degraded), ("target", scene)):
            write_image(tmp_path / name / kind / "a.png", image[0].clamp(0, 1).permute(1, 2, 0).numpy())
    shares = []
    for name in ("straight", "shifted"):
        suite = PairSuite(name=name, pairs=PairFolderConfig(folder=str(tmp_path / name)), align=True)
        ((_, batch),) = suite.batches()
        scored = suite.scored(Outcome(batch, batch.degraded))
        shares.append(float(scored.batch.mask.mean()))
        assert torch.equal(scored.batch.mask, mask_of(scored.batch.degraded, scored.batch.clean))
    assert shares[1] == pytest.approx(shares[0], abs=0.03)
    assert float(batch.mask.mean()) > 5 * shares[0]  # without it everything would seem degraded
