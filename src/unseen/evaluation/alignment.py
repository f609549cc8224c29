"""Sub-pixel alignment before scoring: real pairs are often shifted against each other, and PSNR punishes that first.

A translation is estimated per image, on luma, as the maximum of the zero-mean normalised cross-correlation with the
clean image over a fixed inner window: at whole pixels by FFT and sums over boxes (Lewis, "Fast normalized
cross-correlation", Vision Interface 1995), then between them by least squares on gradients, iterated (Lucas and Kanade,
"An iterative image registration technique", IJCAI 1981). Under white noise it is as exact as an unbiased estimate can
be (the Cramer-Rao bound); what a heavy blur takes away acts like more noise. Phase correlation, the other common choice
(Guizar-Sicairos, Thurman, Fienup, Optics Letters 33(2), 2008), weighs all frequencies alike and fails where blur has
left none of the high ones.

It is the restored or degraded image that moves, never the clean one, and it moves by a phase ramp in the Fourier domain
of its mirrored continuation: unlike bicubic interpolation, that keeps noise and detail as they are. A smoothing
interpolation would be a denoiser, and the score would rise for it.

A shift is kept only where it lowers the mean squared error. Since the window is fixed by `limit`, and not by the shift,
every restorer is scored on the same pixels.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from unseen.errors import ConfigError
from unseen.evaluation.quality import mse
from unseen.types import Batch, Images, Outcome

LIMIT = 16
"""Largest shift looked for, pixels in each direction; and the border that is not scored."""

LEAST = 0.05
"""Shifts below this many pixels, in both directions, count as none: images stay as they are, bit by bit."""

_STEPS = 8  # Newton's iterations, at most
_CLOSE = 0.002  # pixels: a smaller step ends them
_ASTRAY = 2  # pixels from the whole shift: farther, they are not believed
_INNER = 16  # pixels of a side that must be left to compare


@dataclass(frozen=True, slots=True)
class Alignment:
    """`images`, moved into the frame of the clean ones, of unchanged size, in [0, 1].

    `shift` is by how many pixels each was moved (down, right). Pixels within `border` of an edge are not valid.
    """

    images: Images
    shift: Float[Tensor, "b two"]
    border: int


def align(images: Images, clean: Images, limit: int = LIMIT) -> Alignment:
    """Move each of the images by the shift, at most `limit` pixels each way, that fits it to its clean image best.

    The mean squared error within the border is never larger than without. An image that has nothing to go by (it is
    flat), or fits best at the very end of the range, is not moved. Raises `ConfigError` for images too small.
    """
    check_size(images, limit)
    shift = _subpixel(_grey(images), _grey(clean), _whole(_grey(images), _grey(clean), limit), limit)
    shift = torch.where(shift.abs().amax(dim=1, keepdim=True) < LEAST, 0.0, shift)
    moved = images.clone()
    for index in shift.any(dim=1).nonzero().flatten().tolist():
        one = slice(index, index + 1)
        candidate = moved_by(images[one].double(), shift[one]).clamp(0, 1).to(images.dtype)
        before, after = (mse(cropped(some, limit), cropped(clean[one], limit)) for some in (images[one], candidate))
        if after < before:
            moved[one] = candidate
        else:
            shift[one] = 0
    return Alignment(moved, shift, limit)


def aligned(outcome: Outcome, limit: int = LIMIT) -> tuple[Outcome, Float[Tensor, "b two"]]:
    """The outcome with restored and degraded images each aligned to the clean ones, all cut by the border.

    Returns with it the shifts of the restored images, pixels (down, right). Layer and mask are cut, not moved: they
    are taken to lie in the clean image's frame. A mask that was estimated from the pair must be estimated anew.
    """
    batch = outcome.batch
    restored, degraded = align(outcome.restored, batch.clean, limit), align(batch.degraded, batch.clean, limit)
    cut = Batch(
        degraded=cropped(degraded.images, limit),
        clean=cropped(batch.clean, limit),
        layer=cropped(batch.layer, limit),
        mask=cropped(batch.mask, limit),
        labels=batch.labels,
    )
    return Outcome(cut, cropped(restored.images, limit)), restored.shift


def check_size(images: Images, limit: int) -> None:
    """Raises `ConfigError` where the border would leave too little of the images."""
    height, width = images.shape[-2:]
    if limit < 1 or min(height, width) < 2 * limit + _INNER:
        raise ConfigError(
            f"Images of {width} x {height} pixels cannot be aligned with shifts of up to {limit} pixels: "
            f"{2 * limit + _INNER} a side are needed, and a limit of at least 1. Set a smaller limit, or do not align."
        )


def cropped(images: Float[Tensor, "b c h w"], border: int) -> Float[Tensor, "b c inner_h inner_w"]:
    """Less `border` pixels at each edge."""
    height, width = images.shape[-2:]
    return images[..., border : height - border, border : width - border]


def moved_by(images: Float[Tensor, "b c h w"], shift: Float[Tensor, "b two"]) -> Float[Tensor, "b c h w"]:
    """Images moved (down, right) by any fraction of pixels; what comes in at the edges is a mirror image.

    One direction at a time: the Fourier transform of the image and its mirror image, times a phase ramp.
    """
    for dim, distance in ((2, shift[:, 0]), (3, shift[:, 1])):
        size = images.shape[dim]
        spectrum = torch.fft.rfft(torch.cat((images, images.flip(dim)), dim=dim), dim=dim)
        frequency = torch.arange(size + 1, device=images.device, dtype=images.dtype) * (math.pi / size)
        angle = -distance.to(images.dtype)[:, None] * frequency
        ramp = torch.polar(torch.ones_like(angle), angle)
        ramp = ramp[:, None, :, None] if dim == 2 else ramp[:, None, None, :]
        images = torch.fft.irfft(spectrum * ramp, n=2 * size, dim=dim).narrow(dim, 0, size)
    return images


def _grey(images: Images) -> Float[Tensor, "b 1 h w"]:
    """Luma of BT.601, not rounded, float64."""
    weights = torch.tensor([0.299, 0.587, 0.114], dtype=torch.float64, device=images.device)
    return (images.double() * weights[:, None, None]).sum(dim=1, keepdim=True)


def _whole(grey: Float[Tensor, "b 1 h w"], clean: Float[Tensor, "b 1 h w"], limit: int) -> Float[Tensor, "b two"]:
    """The best shift in whole pixels; 0 where the correlation has no maximum inside the range."""
    height, width = grey.shape[-2:]
    inner = cropped(clean, limit)
    rows, columns = inner.shape[-2:]
    template = inner - inner.mean(dim=(2, 3), keepdim=True)
    grey = grey - grey.mean(dim=(2, 3), keepdim=True)
    # Cut at (row, column), a window of the image lies where a shift of (limit - row, limit - column) puts it.
    spectrum = torch.fft.rfft2(grey) * torch.fft.rfft2(template, s=(height, width)).conj()
    places = 2 * limit + 1
    product = torch.fft.irfft2(spectrum, s=(height, width))[..., :places, :places]
    count = rows * columns
    mean, energy = (_box_sums(some, rows, columns) / count for some in (grey, grey.square()))
    spread = (energy - mean.square()).clamp(min=0) * count * template.square().sum(dim=(2, 3), keepdim=True)
    correlation = torch.where(spread > 1e-12, product / spread.clamp(min=1e-12).sqrt(), 0.0)
    place = torch.arange(places, device=grey.device) - limit
    distance = (place[:, None].square() + place.square()) / limit**2
    best = (correlation - 1e-6 * distance).flatten(1).argmax(dim=1)  # among equals, the nearest
    shift = torch.stack((limit - best // places, limit - best % places), dim=1)
    return torch.where(shift.abs().amax(dim=1, keepdim=True) == limit, 0, shift).double()


def _box_sums(grey: Float[Tensor, "b 1 h w"], rows: int, columns: int) -> Float[Tensor, "b 1 places places"]:
    """The sum over every window of `rows` x `columns`, by cumulative sums."""
    sums = torch.nn.functional.pad(grey, (1, 0, 1, 0)).cumsum(dim=2).cumsum(dim=3)
    sums = sums[..., rows:, :] - sums[..., :-rows, :]
    return sums[..., columns:] - sums[..., :-columns]


def _subpixel(
    grey: Float[Tensor, "b 1 h w"], clean: Float[Tensor, "b 1 h w"], start: Float[Tensor, "b two"], limit: int
) -> Float[Tensor, "b two"]:
    """The shift refined; `start` where the iteration leaves its neighbourhood.

    Solved for: what is left of the moved image, when the clean one and its Laplacian (what a slight blur takes away)
    are fitted to it, does not correlate with the clean gradients.
    """

    def gradients(images: Float[Tensor, "b 1 h w"]) -> Float[Tensor, "b two n"]:
        """Central differences, (down, right), within the border."""
        down, right = torch.gradient(images, dim=(2, 3))
        return torch.cat((cropped(down, limit), cropped(right, limit)), dim=1).flatten(2)

    def centred(images: Float[Tensor, "b 1 h w"]) -> Float[Tensor, "b 1 n"]:
        inner = cropped(images, limit).flatten(2)
        return inner - inner.mean(dim=2, keepdim=True)

    down, right = (torch.gradient(torch.gradient(clean, dim=dim)[0], dim=dim)[0] for dim in (2, 3))
    explained = torch.cat((centred(clean), centred(down + right)), dim=1)
    slopes = gradients(clean)
    small = 1e-9 * torch.eye(2, dtype=torch.float64, device=grey.device)
    power = explained @ explained.mT + small
    shift = start.clone()
    for _ in range(_STEPS):
        moved = moved_by(grey, shift)
        inner = centred(moved)
        # The clean image is fitted to the moved one, not the other way: noise in it then does not bias the shift.
        gains = torch.linalg.solve(power, explained @ inner.mT)
        # Moving the image by d changes it by -d times its gradient.
        curvature = slopes @ gradients(moved).mT + small
        step = torch.linalg.solve(curvature, slopes @ (inner - gains.mT @ explained).mT).squeeze(2)
        step = step.nan_to_num().clamp(-0.5, 0.5)
        shift = shift + step
        if step.abs().max() < _CLOSE:
            break
    lost = (shift - start).abs().amax(dim=1, keepdim=True) > _ASTRAY
    return torch.where(lost, start, shift)
