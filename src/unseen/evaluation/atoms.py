"""Every stored metric of an outcome, each computed once."""

from jaxtyping import Float
from torch import Tensor

from unseen.evaluation.bands import band_sums
from unseen.evaluation.decoupled import check, sums
from unseen.evaluation.quality import BYTE_PEAK, decibels, luma, mse, ssim
from unseen.rows import ATOMS
from unseen.types import Outcome


def atoms(
    outcome: Outcome, ssim_too: bool = True, dilation: int = 0, bands: bool = False
) -> dict[str, Float[Tensor, "b"]]:
    """All of `unseen.rows.ATOMS`, in its order, one float64 value per image, on the outcome's device.

    Without `ssim_too` the two SSIM are left out: most of the time goes there, and curves along training do
    without. With `bands` come the sums of each octave. `dilation`, pixels, grows the mask (see `sums`). PSNR is
    infinite for a perfect image; SSIM is NaN where a side is below 11 pixels. Raises ConfigError where the outcome
    breaks its contract (see `check`).
    """
    check(outcome)
    batch = outcome.batch
    clean_y, restored_y = luma(batch.clean), luma(outcome.restored)
    found = sums(outcome, dilation)
    found |= {
        "psnr_rgb": decibels(found["mse"]),
        "psnr_y": decibels(mse(restored_y, clean_y), BYTE_PEAK),
        "input_psnr_rgb": decibels(found["input_mse"]),
        "input_psnr_y": decibels(mse(luma(batch.degraded), clean_y), BYTE_PEAK),
    }
    if ssim_too:
        found["ssim_rgb"] = ssim(outcome.restored, batch.clean)
        found["ssim_y"] = ssim(restored_y, clean_y, BYTE_PEAK)
    ordered = {name: found[name] for name in ATOMS if name in found}
    return ordered | band_sums(outcome) if bands else ordered
