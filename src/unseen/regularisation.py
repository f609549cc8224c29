"""What is done to any network while it trains, and not when it restores: earlier methods against blindness to the
unseen (dropout before the last layer, masked training), and consistency between two renderings.

All work by hooks on the layers that a network calls its `first` and its `last`.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, Self

import torch
from jaxtyping import Float
from pydantic import Field, model_validator
from torch import Tensor, distributed, nn

from unseen.errors import ConfigError
from unseen.ranges import Choice, Frozen, Range
from unseen.seeding import generator, of_samples
from unseen.types import Images


class Consistency(Frozen):
    """Two renderings of one clean patch, degraded by different draws, must give the same: what tells them apart is the
    degradation. Weights of two terms beside the loss, which is then the mean of both renderings': `output`, the mean
    |f(O) - f(O')|, and `features`, that of what enters the last layer, in units of its own mean absolute value.
    `features` is for networks whose last layer draws the image: before one that draws what is to be taken away lies the
    degradation, and made the same for both it is nothing (docs/controls.md).

    A step costs twice. Our own reading of decoupled representation, near to the consistency of semi-supervised learning
    (Sajjadi, Javanmardi, Tasdizen, NeurIPS 2016).
    """

    output: float = Field(default=0.0, ge=0)
    features: float = Field(default=0.0, ge=0)

    @model_validator(mode="after")
    def _some(self) -> Self:
        if self.output == self.features == 0:
            raise ValueError("both weights are 0: give output, features or both a weight, or leave consistency out")
        return self

    def __call__(self, one: Images, other: Images, features: tuple[Tensor, ...] | None = None) -> Float[Tensor, ""]:
        """The terms, weighed. `features` of both, where they have a weight."""
        total = self.output * (one - other).abs().mean()
        if self.features > 0:
            assert features is not None
            mine, theirs = features
            unit = over_processes(torch.cat(features).detach().abs().mean()).clamp(min=1e-6)
            total = total + self.features * (mine - theirs).abs().mean() / unit
        return total


def over_processes(mean: Float[Tensor, ""]) -> Float[Tensor, ""]:
    """The mean over all processes that train together, of equal shares of a batch: that of the whole batch."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return mean
    total = mean.clone()
    distributed.all_reduce(total)
    return total / distributed.get_world_size()


class Regulariser:
    """Draws anew for every sample, by its address: a run resumed, or shared by processes, draws what one run does.

    `dropout`: whole channels of what enters the last layer are zero with this probability, and the others scaled to
    keep the mean (Kong, Liu, Gu, Qiao, Dong: Reflash Dropout in Image Super-Resolution, CVPR 2022, which recommends
    channels, this place and, for a residual network, 0.7).

    `masking`: the features that the first layer gives are zero at this share of the pixels, the same in all channels
    (the input mask of Chen et al., Masked Image Training for Generalizable Deep Image Denoising, CVPR 2023, at shares
    of 0.75 to 0.85; that what is hidden becomes zero is our reading). The other half of that method, masks inside
    self-attention, is a setting of SwinIR.
    """

    def __init__(
        self,
        network: nn.Module,
        dropout: float | None,
        masking: Range | Choice | None,
        seed: int,
        keep_features: bool = False,
    ) -> None:
        self.dropout, self.masking, self.seed = dropout, masking, seed
        self._indices: Sequence[int] = ()
        self._first = _layer(network, "first") if masking is not None else None
        self._last = _layer(network, "last") if dropout is not None or keep_features else None
        self._keep = keep_features
        self.features: Tensor | None = None
        """What entered the last layer in the last pass, where it was asked for."""
        self._random = bool(getattr(network, "random", False))  # draws itself while it trains

    @contextmanager
    def drawing(self, indices: Sequence[int]) -> Iterator[None]:
        """For one forward pass, over the samples with these numbers."""
        self._indices = indices
        with ExitStack() as hooks:
            if self._first is not None:
                hooks.enter_context(self._first.register_forward_hook(self._mask))
            if self._last is not None:
                hooks.enter_context(self._last.register_forward_pre_hook(self._drop))
            if self._random:
                hooks.enter_context(of_samples([generator(self.seed, "network", index) for index in indices]))
            yield

    def _mask(self, layer: nn.Module, inputs: Any, features: Float[Tensor, "b f h w"]) -> Float[Tensor, "b f h w"]:
        assert self.masking is not None
        kept = []
        for index in self._indices:
            rng = generator(self.seed, "masking", index)
            share = self.masking.map(torch.rand(1, generator=rng))
            kept.append(torch.rand(features.shape[2:], generator=rng) >= share)
        return features * torch.stack(kept).unsqueeze(1).to(features)

    def _drop(self, layer: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        features = inputs[0]
        if self._keep:
            self.features = features
        if self.dropout is None:
            return inputs
        rngs = [generator(self.seed, "dropout", index) for index in self._indices]
        kept = torch.stack([torch.rand(features.shape[1], generator=rng) >= self.dropout for rng in rngs])
        return (features * (kept / (1 - self.dropout))[..., None, None].to(features), *inputs[1:])


def _layer(network: nn.Module, which: str) -> nn.Module:
    name = getattr(network, which, None)
    if name is None:
        raise ConfigError(f"{type(network).__name__} does not say which of its layers is the {which}: it has no hooks.")
    return network.get_submodule(name)
