"""What small autoencoders are measured against: classical coders that have as many numbers, or as many codes, for every
patch, fitted to the same images in seconds. A prior that gives images back worse than these has learned nothing of them
that neighbouring pixels do not tell.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from unseen.types import Images

Patches = Float[Tensor, "n d"]
"""Rows of all values of square patches."""

ROUNDS = 12
"""Of Lloyd's algorithm."""


class Coder(ABC):
    """Square patches of `side` pixels, each by itself."""

    side: int

    @abstractmethod
    def code(self, patches: Patches) -> Patches:
        """The patches as the coder gives them back."""


def reconstruct(coder: Coder, images: Images) -> Images:
    """The images as the coder gives them back, not clipped. They are grown at the right and the bottom to a multiple of
    `coder.side` by repeating the border, as `Prior.encode` grows them."""
    height, width = images.shape[2:]
    side = coder.side
    grown = F.pad(images, (0, -width % side, 0, -height % side), mode="replicate")
    columns = F.pixel_unshuffle(grown, side)
    patches = columns.permute(0, 2, 3, 1)
    coded = coder.code(patches.reshape(-1, patches.shape[-1])).view(patches.shape).permute(0, 3, 1, 2)
    return F.pixel_shuffle(coded, side)[..., :height, :width]


def patches_of(images: Images, side: int) -> Patches:
    """All patches of a regular grid; images in multiples of `side`."""
    columns = F.pixel_unshuffle(images, side)
    return columns.permute(0, 2, 3, 1).reshape(-1, columns.shape[1])


class PrincipalComponents(Coder):
    """The projection on the `numbers` directions along which patches vary most (Pearson 1901; Hotelling 1933): of all
    linear coders with so many numbers a patch the one with the least squared error."""

    def __init__(self, patches: Patches, side: int, numbers: int) -> None:
        self.side, self.mean = side, patches.mean(0)
        centred = (patches - self.mean).double()
        _, directions = torch.linalg.eigh(centred.T @ centred)  # the eigenvalues rise
        self.directions = directions[:, -numbers:].to(patches.dtype)

    def code(self, patches: Patches) -> Patches:
        return (patches - self.mean) @ self.directions @ self.directions.T + self.mean


class Codebook(Coder):
    """The nearest of `codes` patches (vector quantisation; Lloyd, IEEE Transactions on Information Theory 1982), which
    begin as patches drawn with `rng`, and become the means of those that choose them, `ROUNDS` times. One that none
    chooses stays."""

    def __init__(self, patches: Patches, side: int, codes: int, rng: torch.Generator) -> None:
        self.side = side
        chosen = torch.randperm(len(patches), generator=rng)[:codes]
        self.patches = patches[chosen].clone()
        for _ in range(ROUNDS):
            nearest = self._nearest(patches)
            count = torch.bincount(nearest, minlength=len(self.patches))
            total = torch.zeros_like(self.patches).index_add_(0, nearest, patches)
            met = count > 0
            self.patches[met] = total[met] / count[met, None]

    def _nearest(self, patches: Patches) -> Tensor:
        half = self.patches.square().sum(1) / 2
        return torch.cat([(half - part @ self.patches.T).argmin(1) for part in patches.split(8192)])

    def code(self, patches: Patches) -> Patches:
        return self.patches[self._nearest(patches)]


def fitted(
    draw: Callable[[int], Images], side: int, numbers: int | None, codes: int | None, rng: torch.Generator
) -> Coder:
    """A coder of patches of `side` pixels, with so many `numbers` each, or else so many `codes`, fitted to the crops
    that `draw` gives for 0 to 63, on the CPU."""
    patches = torch.cat([patches_of(draw(number).float().cpu(), side) for number in range(64)])
    patches = patches[torch.randperm(len(patches), generator=rng)[:65536]]
    if codes is None:
        return PrincipalComponents(patches, side, min(numbers or 1, patches.shape[1]))
    return Codebook(patches, side, codes, rng)
