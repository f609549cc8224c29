"""Losses: closed forms, and the mean over parts of a batch is the loss of the whole."""

import math

import pytest
import torch
from pydantic import TypeAdapter, ValidationError

from unseen.losses import ALL, L1, PSNR, AnyLoss, Charbonnier, Decoupled, DiffusionL1, PriorL1
from unseen.seeding import generator
from unseen.types import Batch

LOSS: TypeAdapter[L1 | Charbonnier | PSNR | Decoupled] = TypeAdapter(AnyLoss)

every_loss = pytest.mark.parametrize(
    "loss", [kind() for kind in ALL if kind not in (PriorL1, DiffusionL1)] + [Decoupled(removal=3)], ids=repr
)


def made(count: int = 4) -> tuple[torch.Tensor, Batch]:
    """What a network might return, and the truth."""
    rng = generator(0, "test")
    restored, degraded, clean = (torch.rand(count, 3, 8, 6, generator=rng, dtype=torch.float64) for _ in range(3))
    layer = torch.rand(count, 1, 8, 6, generator=rng, dtype=torch.float64)
    return restored, Batch(degraded, clean, layer, (layer > 0.7).double())


@every_loss
def test_a_perfect_image_has_the_least_loss(loss: L1) -> None:
    restored, batch = made()
    least = loss(batch.clean, batch)
    assert least.shape == ()
    assert 0 <= least <= 1.001e-3  # Charbonnier's epsilon
    assert loss(restored, batch) > 0.1


@every_loss
def test_the_mean_over_equal_parts_is_the_loss_of_the_whole(loss: L1) -> None:
    restored, batch = made()
    parts = [
        loss(restored[part], Batch(batch.degraded[part], batch.clean[part], batch.layer[part], batch.mask[part]))
        for part in (slice(0, 1), slice(1, 2), slice(2, 3), slice(3, 4))
    ]
    assert torch.stack(parts).mean().item() == pytest.approx(loss(restored, batch).item(), rel=1e-12)


@every_loss
def test_a_loss_can_be_descended(loss: L1) -> None:
    restored, batch = made()
    guess = restored.requires_grad_()
    before = loss(guess, batch)
    (gradient,) = torch.autograd.grad(before, guess)
    assert gradient.isfinite().all()
    assert loss(guess - gradient / gradient.norm(), batch) < before


@every_loss
def test_a_loss_survives_json(loss: L1) -> None:
    assert LOSS.validate_json(loss.model_dump_json()) == loss


def test_l1_of_an_offset_is_the_offset() -> None:
    _, batch = made()
    assert L1()(batch.clean + 0.1, batch).item() == pytest.approx(0.1)
    assert L1()(batch.clean - 0.1, batch).item() == pytest.approx(0.1)


def test_charbonnier_is_epsilon_at_zero_and_l1_far_away() -> None:
    _, batch = made()
    assert Charbonnier(epsilon=0.02)(batch.clean, batch).item() == pytest.approx(0.02)
    assert Charbonnier(epsilon=0.3)(batch.clean + 0.4, batch).item() == pytest.approx(0.5)
    assert Charbonnier()(batch.clean + 100, batch).item() == pytest.approx(100)


def test_a_decibel_is_worth_the_same_on_every_image_to_the_psnr_loss() -> None:
    _, batch = made()
    worth = PSNR(epsilon=1e-12)
    for error in (0.3, 0.03):
        once, halved = (worth(batch.clean + factor * error, batch).item() for factor in (1, 0.5))
        assert once - halved == pytest.approx(math.log(4))  # 6.02 dB
    assert PSNR(epsilon=0.01)(batch.clean + 0.1, batch).item() == pytest.approx(math.log(2))
    errors = torch.tensor([0.1, 0.2, 0.3, 0.4], dtype=torch.float64)[:, None, None, None]
    each = [math.log1p(error.item() ** 2 / 1e-5) for error in errors]
    assert PSNR()(batch.clean + errors, batch).item() == pytest.approx(sum(each) / 4)


def test_decoupled_at_one_and_one_is_l1() -> None:
    restored, batch = made()
    assert Decoupled()(restored, batch).item() == L1()(restored, batch).item()


def test_decoupled_counts_each_side_of_the_mask_by_its_weight() -> None:
    restored, batch = made()
    error = (restored - batch.clean).abs()
    inside = (error * batch.mask).mean().item()
    outside = (error * (1 - batch.mask)).mean().item()
    assert Decoupled(removal=1, reconstruction=0)(restored, batch).item() == pytest.approx(inside)
    assert Decoupled(removal=0, reconstruction=1)(restored, batch).item() == pytest.approx(outside)
    assert Decoupled(removal=3, reconstruction=0.5)(restored, batch).item() == pytest.approx(3 * inside + 0.5 * outside)


def test_with_a_power_small_errors_count_for_more() -> None:
    _, batch = made()
    clean = batch.clean[:2]
    two = Batch(clean, clean, batch.layer[:2], batch.mask[:2])
    errors = torch.tensor([0.016, 0.256])[:, None, None, None]
    restored = (clean + errors).requires_grad_()
    loss = Decoupled(power=0.5)(restored, two)
    assert loss.item() == pytest.approx((math.sqrt(0.017) + math.sqrt(0.257)) / 2, rel=1e-4)
    faint, strong = torch.autograd.grad(loss, restored)[0].abs().flatten(1).sum(1)
    assert (faint / strong).item() == pytest.approx(math.sqrt(0.257 / 0.017), rel=1e-3)
    flat = Decoupled(removal=2, power=1)(restored, two)
    assert flat.item() == pytest.approx(Decoupled(removal=2)(restored, two).item() + 1e-3, rel=1e-4)
    still = clean.clone().requires_grad_()  # no error at all: the slope is finite
    assert torch.autograd.grad(Decoupled(power=0.3)(still, two), still)[0].isfinite().all()


@pytest.mark.parametrize(
    "wrong",
    [
        {"kind": "Charbonnier", "epsilon": 0},
        {"kind": "Decoupled", "removal": -1},
        {"kind": "Decoupled", "power": 0},
        {"kind": "PSNR", "epsilon": 0},
        {"kind": "L2"},
        {"epsilon": 1},
    ],
)
def test_configurations_that_fit_no_loss_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        LOSS.validate_python(wrong)


def test_without_a_kind_the_first_loss_is_meant() -> None:
    assert LOSS.validate_python({}) == L1()
