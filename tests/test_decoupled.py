"""Removal and reconstruction apart: what known restorers must score."""

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from unseen.degradations.base import mask_of
from unseen.errors import ConfigError
from unseen.evaluation import quality
from unseen.evaluation.atoms import atoms
from unseen.evaluation.baselines import box, identity, median
from unseen.evaluation.decoupled import dilated, sums
from unseen.rows import ATOMS, quantities
from unseen.seeding import generator
from unseen.types import Batch, Outcome

MASKED = ("removal_ratio", "residual", "removal", "oracle_removal", "action_ratio")


def streaky(strength: float = 0.5, count: int = 3, size: int = 48) -> Batch:
    """Dim textured backgrounds under steep, bright, two-pixel streaks."""
    rng = generator(0, "test-decoupled")
    coarse = torch.rand(count, 3, 6, 6, generator=rng)
    clean = 0.1 + 0.25 * torch.nn.functional.interpolate(coarse, (size, size), mode="bilinear", align_corners=False)
    clean = clean + 0.15 * torch.rand(count, 3, size, size, generator=rng)
    row, column = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    layer = strength * ((row + 2 * column) % 16 < 4).float().expand(count, 1, size, size)
    degraded = (clean + layer).clamp(0, 1)
    return Batch(degraded, clean, layer, mask_of(degraded, clean))


def scores(batch: Batch, restored: torch.Tensor, dilation: int = 0) -> dict[str, float | None]:
    return quantities({k: v.numpy() for k, v in atoms(Outcome(batch, restored.clamp(0, 1)), dilation=dilation).items()})


def with_mask(batch: Batch, mask: torch.Tensor) -> Batch:
    """Any mask, even one that the shape checks of tests would refuse."""
    changed = dataclasses.replace(batch)
    object.__setattr__(changed, "mask", mask)
    return changed


def number(value: float | None) -> float:
    assert value is not None
    return value


def toward_clean(batch: Batch, share: float) -> torch.Tensor:
    """Removes `share` of the degradation and touches nothing else; above 1 it over-removes."""
    return batch.degraded + share * (batch.clean - batch.degraded)


def test_every_atom_comes_once_per_image_in_float64():
    batch = streaky()
    found = atoms(Outcome(batch, batch.degraded))
    assert list(found) == list(ATOMS)
    assert all(values.shape == (3,) and values.dtype == torch.float64 for values in found.values())
    short = atoms(Outcome(batch, batch.degraded), ssim_too=False)
    assert list(short) == [name for name in ATOMS if not name.startswith("ssim")]


def test_atoms_equal_the_metrics_of_an_outcome():
    batch = streaky()
    outcome = Outcome(batch, box(batch.degraded))
    found = atoms(outcome)
    for name in ("psnr_rgb", "psnr_y", "ssim_rgb", "ssim_y"):
        assert found[name].tolist() == pytest.approx(getattr(quality, name)(outcome).tolist(), rel=1e-12)
    before = Outcome(batch, batch.degraded)
    assert found["input_psnr_rgb"].tolist() == pytest.approx(quality.psnr_rgb(before).tolist(), rel=1e-12)
    assert found["input_psnr_y"].tolist() == pytest.approx(quality.psnr_y(before).tolist(), rel=1e-12)


def test_atoms_equal_their_formulas_in_numpy():
    batch = streaky()
    restored = median(batch.degraded)
    found = atoms(Outcome(batch, restored))
    for index in range(3):
        o, b, f = (images[index].double().numpy() for images in (batch.degraded, batch.clean, restored))
        m = np.broadcast_to(batch.mask[index].numpy(), o.shape) == 1
        expected = {
            "mse": np.mean((f - b) ** 2),
            "input_mse": np.mean((o - b) ** 2),
            "values": o.size,
            "mask_values": m.sum(),
            "mask_change": np.sum((f - o)[m] ** 2),
            "mask_degradation": np.sum((o - b)[m] ** 2),
            "mask_error": np.sum((f - b)[m] ** 2),
            "mask_projection": np.sum((o - f)[m] * (o - b)[m]),
            "clear_error": np.sum((f - b)[~m] ** 2),
            "degradation": np.sum((o - b) ** 2),
            "alignment": np.sum((f - b) * (o - b)),
        }
        assert {name: found[name][index].item() for name in expected} == pytest.approx(expected, rel=1e-12)


def test_the_identity_removes_nothing():
    batch = streaky()
    found = scores(batch, identity(batch.degraded))
    assert (found["removal"], found["removal_ratio"], found["action_ratio"], found["gain_rgb"]) == (0, 0, 0, 0)
    assert found["retention"] == 1
    assert found["residual"] == found["oracle_removal"]
    assert found["orthogonal_error"] == pytest.approx(0, abs=1e-8)


def test_the_oracle_removes_all():
    found = scores(streaky(), streaky().clean)
    assert (found["removal_ratio"], found["residual"], found["action_ratio"]) == (1, 0, 1)
    assert (found["reconstruction"], found["retention"], found["orthogonal_error"]) == (0, 0, 0)


@settings(deadline=None)
@given(share=st.floats(0, 1.1))
def test_the_removal_ratio_is_the_share_removed_even_beyond_one(share):
    batch = streaky()  # dark enough that over-removal is not clipped
    found = scores(batch, toward_clean(batch, share))
    assert found["removal_ratio"] == pytest.approx(share, abs=1e-6)
    assert found["action_ratio"] == pytest.approx(share, abs=1e-6)
    assert found["retention"] == pytest.approx(1 - share, abs=1e-6)
    assert found["orthogonal_error"] == pytest.approx(0, abs=1e-6)
    assert found["reconstruction"] == pytest.approx(0, abs=1e-6)


def test_half_way_is_half_and_over_removal_is_above_one():
    batch = streaky()
    half = scores(batch, toward_clean(batch, 0.5))
    assert (half["removal_ratio"], half["retention"]) == pytest.approx((0.5, 0.5), abs=1e-6)
    assert number(scores(batch, toward_clean(batch, 1.15))["removal_ratio"]) > 1.1


def test_adding_degradation_is_a_negative_removal_ratio():
    batch = streaky(strength=0.2)
    assert scores(batch, toward_clean(batch, -0.5))["removal_ratio"] == pytest.approx(-0.5, abs=1e-6)


def test_a_box_blur_changes_much_and_is_caught_by_the_residual():
    batch = streaky()
    blurred, partial = scores(batch, box(batch.degraded)), scores(batch, toward_clean(batch, 0.75))
    untouched = scores(batch, identity(batch.degraded))
    assert number(blurred["removal"]) > 0.5 * number(untouched["oracle_removal"])
    assert number(blurred["removal_ratio"]) > 0.5
    assert number(blurred["residual"]) > number(partial["residual"])
    assert number(blurred["reconstruction"]) > number(untouched["reconstruction"]) == 0
    assert number(blurred["orthogonal_error"]) > 0.05


def test_retention_is_one_less_the_removal_ratio_where_the_mask_is_everything():
    batch = streaky()
    everywhere = dataclasses.replace(batch, mask=torch.ones_like(batch.mask))
    found = scores(everywhere, box(batch.degraded))
    assert found["retention"] == pytest.approx(1 - number(found["removal_ratio"]), rel=1e-9)
    assert found["reconstruction"] is None


def test_empty_masks_make_masked_quantities_undefined():
    batch = streaky()
    found = scores(dataclasses.replace(batch, mask=torch.zeros_like(batch.mask)), box(batch.degraded))
    assert all(found[name] is None for name in MASKED)
    assert number(found["reconstruction"]) > 0
    assert number(found["retention"]) > 0


def test_a_clean_input_has_no_degradation_to_retain():
    batch = streaky(strength=0)
    found = scores(batch, box(batch.degraded))
    assert all(found[name] is None for name in (*MASKED, "retention", "orthogonal_error"))
    perfect = scores(batch, identity(batch.degraded))
    assert perfect["psnr_rgb"] == float("inf")
    assert perfect["gain_rgb"] is None


def test_the_error_splits_into_what_is_retained_and_what_is_orthogonal():
    batch = streaky()
    found = scores(batch, median(batch.degraded))
    error, degradation = median(batch.degraded).double() - batch.clean.double(), (batch.degraded - batch.clean).double()
    rest = error - number(found["retention"]) * degradation
    assert (rest * degradation).sum().item() == pytest.approx(0, abs=1e-3)
    assert found["orthogonal_error"] == pytest.approx(rest.square().mean().sqrt().item(), rel=1e-5)


def test_pooling_weighs_images_by_their_degradation():
    batch = streaky()
    faint = dataclasses.replace(batch, degraded=torch.cat([batch.degraded[:1], batch.clean[1:] + 0.03]))
    faint = dataclasses.replace(faint, mask=mask_of(faint.degraded, faint.clean))
    restored = torch.cat([batch.clean[:1], faint.degraded[1:]])  # all of the strong, none of the faint
    each = [
        scores(
            Batch(faint.degraded[k : k + 1], faint.clean[k : k + 1], faint.layer[k : k + 1], faint.mask[k : k + 1]),
            restored[k : k + 1],
        )["removal_ratio"]
        for k in range(3)
    ]
    assert each == pytest.approx([1, 0, 0])
    energy = (faint.degraded - faint.clean).double().square() * faint.mask
    assert scores(faint, restored)["removal_ratio"] == pytest.approx((energy[0].sum() / energy.sum()).item())
    assert number(scores(faint, restored)["removal_ratio"]) > 0.9


def test_dilation_moves_streak_borders_out_of_the_background():
    mask = torch.zeros(1, 1, 9, 9)
    mask[0, 0, 4, 4] = 1
    assert [int(dilated(mask, radius).sum()) for radius in (0, 1, 2, 20)] == [1, 9, 25, 81]
    batch = streaky()
    leaky = dataclasses.replace(batch, degraded=box(batch.degraded))  # borders blur beyond the mask
    plain, grown = sums(Outcome(leaky, leaky.degraded)), sums(Outcome(leaky, leaky.degraded), dilation=2)
    assert (grown["clear_error"] < plain["clear_error"]).all()
    assert torch.equal(grown["degradation"], plain["degradation"])
    with pytest.raises(ConfigError, match="-1 pixels"):
        dilated(mask, -1)


def test_an_outcome_that_breaks_its_contract_is_refused():
    batch = streaky()
    with pytest.raises(ConfigError, match="expected one shape"):
        atoms(Outcome(batch, batch.degraded[..., :-1]))
    with pytest.raises(ConfigError, match="The mask has shape"):
        atoms(Outcome(with_mask(batch, batch.clean), batch.degraded))
    with pytest.raises(ConfigError, match="Clip them"):
        atoms(Outcome(batch, batch.degraded + 0.5))
    broken = batch.degraded.clone()
    broken[1, 0, 0, 0] = torch.nan
    with pytest.raises(ConfigError, match="not finite for 1 of 3"):
        atoms(Outcome(batch, broken))


def test_a_real_pair_scores_as_published_sets_do(shared_data):
    from PIL import Image

    folder = shared_data / "pairs" / "rain100l"
    if not folder.is_dir():
        pytest.skip(f"{folder} is absent: put pairs of Rain100L there, input and target")
    name = sorted(path.name for path in (folder / "input").iterdir())[0]
    degraded, clean = (
        torch.from_numpy(np.array(Image.open(folder / side / name).convert("RGB"))).permute(2, 0, 1)[None] / 255
        for side in ("input", "target")
    )
    batch = Batch(degraded, clean, (degraded - clean).amax(1, keepdim=True).clamp(0), mask_of(degraded, clean))
    nothing, blurred = scores(batch, identity(degraded)), scores(batch, box(degraded))
    assert nothing["removal_ratio"] == 0
    assert 20 < number(nothing["psnr_y"]) < 35  # the input of Rain100L: 26.4 dB on average
    assert number(nothing["psnr_y"]) > number(nothing["psnr_rgb"])  # limited range, less colour noise
    assert 0 < number(blurred["removal_ratio"]) < 1.2
    assert number(blurred["reconstruction"]) > 0.01
