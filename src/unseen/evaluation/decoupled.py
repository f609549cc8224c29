"""Removal and reconstruction apart: was the degradation removed, and was the rest left alone?

One PSNR hides which of the two failed (Hu et al., arXiv 2502.12600, "Revisiting the Generalization Problem of
Low-level Vision Models"). Here are the per-image sums; `unseen.rows.QUANTITIES` makes from them the removal ratio,
residual, E_R, E_B, action ratio, retention and orthogonal error, pooled over images: the paper gives no formulas that
we know of, these are our reading.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from unseen.errors import ConfigError
from unseen.types import Masks, Outcome


def check(outcome: Outcome) -> None:
    """The contract of an outcome: images of one shape "b 3 h w", a mask "b 1 h w", `restored` in [0, 1] and finite.

    Raises ConfigError. The caller clips; a restorer whose output holds NaN has failed, and no mean may hide that.
    """
    batch, restored = outcome.batch, outcome.restored
    shape = tuple(restored.shape)
    if len(shape) != 4 or shape[1] != 3 or shape != tuple(batch.clean.shape) or shape != tuple(batch.degraded.shape):
        raise ConfigError(
            f"Restored images have shape {shape}, degraded ones {tuple(batch.degraded.shape)} and clean ones "
            f"{tuple(batch.clean.shape)}; expected one shape, (images, 3, rows, columns). Use a restorer that keeps it."
        )
    if tuple(batch.mask.shape) != (shape[0], 1, *shape[2:]):
        raise ConfigError(f"The mask has shape {tuple(batch.mask.shape)}; expected {(shape[0], 1, *shape[2:])}.")
    finite = restored.isfinite().flatten(1).all(dim=1)
    if not finite.all():
        raise ConfigError(
            f"The restorer returned values that are not finite for {int((~finite).sum())} of {shape[0]} images. "
            f"Look for a diverged training or too low a precision."
        )
    if restored.numel() and not (restored.amin() >= 0 and restored.amax() <= 1):
        raise ConfigError(
            f"Restored values lie in [{restored.amin().item():g}, {restored.amax().item():g}]; metrics expect [0, 1]. "
            f"Clip them: restored.clamp(0, 1)."
        )


def dilated(mask: Masks, radius: int) -> Masks:
    """The mask grown by `radius` pixels in each direction and diagonally (a square of side 2 radius + 1)."""
    if radius < 0:
        raise ConfigError(f"A mask cannot be dilated by {radius} pixels; expected 0 (off) or more.")
    if radius == 0:
        return mask
    grown = torch.nn.functional.max_pool2d(mask, (2 * radius + 1, 1), stride=1, padding=(radius, 0))
    return torch.nn.functional.max_pool2d(grown, (1, 2 * radius + 1), stride=1, padding=(0, radius))


def sums(outcome: Outcome, dilation: int = 0) -> dict[str, Float[Tensor, "b"]]:
    """Per image, in float64: every atom of `unseen.rows.ATOMS` that is a mean square, a count or a sum.

    `restored` must be clipped to [0, 1] (see `check`, which the caller runs). `dilation`, pixels, grows M first: the
    blurry borders of a streak otherwise count as background. Off by default; never compare figures with and without.
    """
    degraded, clean = outcome.batch.degraded.double(), outcome.batch.clean.double()
    restored = outcome.restored.double()
    degradation, error, change = degraded - clean, restored - clean, restored - degraded

    def over_colour(one: Tensor, other: Tensor) -> Float[Tensor, "b n"]:
        red, green, blue = (one * other).unbind(dim=1)  # a sum over dim 1 takes three times as long
        return red.add(green).add_(blue).flatten(1)

    inside = dilated(outcome.batch.mask, dilation).double().flatten(1)
    outside = 1 - inside
    error_energy, degradation_energy = over_colour(error, error), over_colour(degradation, degradation)
    count = float(clean[0].numel()) if len(clean) else 0.0
    return {
        "mse": error_energy.sum(dim=1) / count,
        "input_mse": degradation_energy.sum(dim=1) / count,
        "values": torch.full_like(inside[:, 0], count),
        "mask_values": inside.sum(dim=1) * clean.shape[1],
        "mask_change": (over_colour(change, change) * inside).sum(dim=1),
        "mask_degradation": (degradation_energy * inside).sum(dim=1),
        "mask_error": (error_energy * inside).sum(dim=1),
        "mask_projection": (over_colour(change, -degradation) * inside).sum(dim=1),
        "clear_error": (error_energy * outside).sum(dim=1),
        "degradation": degradation_energy.sum(dim=1),
        "alignment": over_colour(error, degradation).sum(dim=1),
    }
