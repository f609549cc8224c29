"""How close a restored image is to the clean one: PSNR and SSIM, in RGB and on luma, per image, in float64.

PSNR and SSIM in RGB take the images as they are, in [0, 1], without rounding. On luma they are what deraining papers
print: limited-range Y of BT.601, of RGB rounded to 8 bits, as MATLAB's `rgb2ycbcr`. Y of full range scores
20 log10(255 / 219) = 1.32 dB lower on the same images.

SSIM: Wang, Bovik, Sheikh, Simoncelli, "Image quality assessment: from error visibility to structural similarity",
IEEE TIP 2004, equation 13: an 11 x 11 Gaussian window of sigma 1.5, K1 0.01, K2 0.03; here with windows wholly inside
the image and population covariance.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from unseen.types import Images, Outcome

BYTE_PEAK = 255.0
"""The peak of Y: the scale of 8-bit values, although Y itself ends at 235 (as the field has it)."""

WINDOW = 11
"""Side of SSIM's window, pixels."""

SIGMA = 1.5
"""Standard deviation of SSIM's window, pixels."""

_VALUES_AT_ONCE = 2**18
"""Values of one SSIM pass, or one channel of one image: its dozen intermediates do not grow with the batch."""


def mse(images: Float[Tensor, "b c h w"], reference: Float[Tensor, "b c h w"]) -> Float[Tensor, "b"]:
    """Mean squared difference of each image, float64."""
    difference = images.double() - reference.double()
    return (difference * difference).mean(dim=(1, 2, 3))


def decibels(error: Float[Tensor, "b"], peak: float = 1.0) -> Float[Tensor, "b"]:
    """10 log10(peak^2 / error), dB; infinite where the error is 0."""
    return 10 * torch.log10(peak * peak / error)


def luma(images: Images) -> Float[Tensor, "b 1 h w"]:
    """Limited-range Y of BT.601 of RGB rounded to 8 bits: float64 in 16..235, itself not rounded."""
    red, green, blue = (images.double() * BYTE_PEAK).round_().div_(BYTE_PEAK).split(1, dim=1)
    return 16 + 65.481 * red + 128.553 * green + 24.966 * blue


def _window() -> list[float]:
    """One side of SSIM's window: it is separable. Sums to 1."""
    centre = WINDOW // 2
    weights = [math.exp(-((place - centre) ** 2) / (2 * SIGMA**2)) for place in range(WINDOW)]
    return [weight / sum(weights) for weight in weights]


def _blurred(planes: Float[Tensor, "n h w"], weights: list[float]) -> Float[Tensor, "n inner_h inner_w"]:
    """Gaussian means over the windows wholly inside. Shift and add: on a CPU, 20 times faster than a convolution."""
    for dim in (2, 1):
        inner = planes.shape[dim] - WINDOW + 1
        total = planes.narrow(dim, 0, inner) * weights[0]
        for place in range(1, WINDOW):
            total.add_(planes.narrow(dim, place, inner), alpha=weights[place])
        planes = total
    return planes


def ssim(
    images: Float[Tensor, "b c h w"], reference: Float[Tensor, "b c h w"], peak: float = 1.0
) -> Float[Tensor, "b"]:
    """Structural similarity of each image, mean over pixels and channels, float64. `peak` is the range of the data.

    NaN (undefined) where a side is below 11 pixels.
    """
    b, c, h, w = images.shape
    if min(h, w) < WINDOW:
        return torch.full((b,), torch.nan, dtype=torch.float64, device=images.device)
    weights = _window()
    low, high = (0.01 * peak) ** 2, (0.03 * peak) ** 2
    lot = max(1, _VALUES_AT_ONCE // (h * w))
    means = []
    for some, others in zip(
        images.reshape(b * c, h, w).split(lot), reference.reshape(b * c, h, w).split(lot), strict=True
    ):
        one, other = some.double(), others.double()
        # Equation 13 needs the two variances only as their sum: four blurs, not five.
        one_mean, other_mean = _blurred(one, weights), _blurred(other, weights)
        means_product = one_mean * other_mean
        means_energy = one_mean.square_().add_(other_mean.square_())
        covariance = _blurred(one * other, weights).sub_(means_product)
        variances = _blurred((one * one).addcmul_(other, other), weights).sub_(means_energy)
        over = means_product.mul_(2).add_(low).mul_(covariance.mul_(2).add_(high))
        under = means_energy.add_(low).mul_(variances.add_(high))
        means.append(over.div_(under).mean(dim=(1, 2)))
    return torch.cat(means).reshape(b, c).mean(dim=1)


def psnr_rgb(outcome: Outcome) -> Float[Tensor, "b"]:
    """10 log10(1 / mse) over all pixels and channels of each image, dB; the peak is 1."""
    return decibels(mse(outcome.restored, outcome.batch.clean))


def psnr_y(outcome: Outcome) -> Float[Tensor, "b"]:
    """PSNR on `luma`, dB; the peak is 255."""
    return decibels(mse(luma(outcome.restored), luma(outcome.batch.clean)), BYTE_PEAK)


def ssim_rgb(outcome: Outcome) -> Float[Tensor, "b"]:
    """SSIM in RGB, mean over channels; NaN where a side is below 11 pixels."""
    return ssim(outcome.restored, outcome.batch.clean)


def ssim_y(outcome: Outcome) -> Float[Tensor, "b"]:
    """SSIM on `luma`, range 255; NaN where a side is below 11 pixels."""
    return ssim(luma(outcome.restored), luma(outcome.batch.clean), BYTE_PEAK)
