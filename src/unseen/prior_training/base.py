"""What a small prior is while it is trained, and the loss that autoencoders share."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar, Self

import torch
import torch.nn.functional as F
from jaxtyping import Float
from pydantic import Field, model_validator
from torch import Tensor, nn

from unseen.ranges import Frozen
from unseen.types import Images

Figures = dict[str, Tensor]
"""Numbers to be logged, by name: tensors without axes or gradients."""

Crops = Callable[[int], Images]
"""The clean crops of a step."""


class Kind(Frozen):
    """What every kind of small prior has. `widths`: the channels at full resolution, at half, and so on; `layers`
    residual blocks at each (a decoder has one more); normalisations have `groups`. Members have a `kind`."""

    widths: tuple[int, ...] = Field(default=(32, 64, 96), min_length=2)
    layers: int = Field(default=1, ge=1)
    groups: int = Field(default=8, ge=1)

    RECIPE: ClassVar[dict[str, Any]] = {}
    """How the recipe's defaults differ for this kind."""

    @model_validator(mode="after")
    def _grouped(self) -> Self:
        wrong = [width for width in self.widths if width < 1 or width % self.groups]
        if wrong:
            raise ValueError(f"a width is {wrong[0]}, which is no multiple of the {self.groups} groups: change either")
        return self

    @property
    def stride(self) -> int:
        """Pixels a side to a multiple of which crops are to be cut."""
        return 2 ** (len(self.widths) - 1)

    @property
    def smallest(self) -> int:
        """The smallest crops that it can be trained on, pixels a side."""
        return self.stride

    @abstractmethod
    def trainee(self, steps: int, seed: int) -> "AbstractTrainee":
        """The model, with fresh weights from the seed, to be trained for so many steps."""


class AbstractTrainee(nn.Module, ABC):
    """A model of diffusers and what is trained beside it. All that a step changes is in the state of this module and
    of the optimisers, so that training can go on from them.

    `model` is what is saved. `critic`, where there is one, has an optimiser and a loss of its own.
    """

    model: nn.Module
    critic: nn.Module | None = None
    mixed: bool = False
    """Whether `run` multiplies in bf16."""

    def run(self, network: Callable[..., Tensor], *given: Tensor) -> Tensor:
        """What a network makes of fp32 tensors, in fp32."""
        with torch.autocast(given[0].device.type, torch.bfloat16, enabled=self.mixed):
            return network(*given).float()

    @abstractmethod
    def loss(self, clean: Images, step: int) -> tuple[Float[Tensor, ""], Figures]:
        """What the model is to lower, and what is worth knowing beside it. Images are in [0, 1]."""

    def critic_loss(self, step: int) -> Float[Tensor, ""] | None:
        """What the critic is to lower, of the images of the last `loss`; None where it does not take part yet."""
        return None

    def after(self, step: int) -> Figures:
        """What is done when the optimisers have taken their step."""
        return {}

    def settle(self, crops: Crops) -> None:
        """The last thing before the model, with its final weights, is saved. `crops` are of the data trained on."""

    def save(self, folder: str) -> None:
        """Write the model as diffusers does."""
        self.model.save_pretrained(folder)  # pyright: ignore[reportCallIssue]


def multiscale(restored: Images, clean: Images, scales: int) -> Float[Tensor, ""]:
    """Mean over scales of the mean of |differences of restored - differences of clean|, between neighbours downwards
    and to the right; each scale is half the one before, by averaging (multi-scale gradient matching: Li and Snavely,
    MegaDepth, CVPR 2018, Eq. 4, here of colours). Edges count at every size, which L1 alone blurs."""
    error, total = restored - clean, restored.new_zeros(())
    for scale in range(scales):
        down, right = error.diff(dim=2).abs().mean(), error.diff(dim=3).abs().mean()
        total = total + (down + right) / 2
        if scale + 1 < scales:
            error = F.avg_pool2d(error, 2)
    return total / scales


def reconstruction(restored: Images, clean: Images, weight: float, scales: int) -> Float[Tensor, ""]:
    """L1, and `weight` times the multi-scale difference of gradients."""
    return (restored - clean).abs().mean() + weight * multiscale(restored, clean, scales)
