"""The learned measure: how quickly a small network learns to reconstruct a content, or a degradation.

Prequential code length (Dawid: Statistical theory, the prequential approach, JRSS A 147(2), 1984; with networks,
Blier, Ollivier: The description length of deep learning models, NeurIPS 2018): a network predicts the next values,
pays -log2 of the probability that it gave them, and only then learns from them. What it pays in all is a description
that a receiver with the same untrained network could decode, and the area under its loss curve. Two things make it
long: what can never be predicted, and what takes long to learn; `CodeLength` keeps them apart.

Here a value is one pixel of one colour plane in steps of 1/255. The network sees 24 neighbours that come before it in
reading order, three rows and columns away at most, and answers with a mixture of discretised logistic distributions
(Salimans et al.: PixelCNN++, ICLR 2017). Architecture, budget and learning rate are our own choice, and the unit of the
measure: the same for whatever is measured. How *many* images there are it hardly sees: it knows them by their patches.
"""

import math
from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from unseen.complexity.record import CodeLength
from unseen.complexity.threads import one_thread
from unseen.images import PEAK
from unseen.ranges import Frozen
from unseen.seeding import generator, seeded
from unseen.types import Batch, Images

Patches = Callable[[Sequence[torch.Generator], int], Images]
"""One clean patch of a size in pixels per generator: `Backgrounds.patches` is one."""

Degrade = Callable[[Images, Sequence[torch.Generator]], Batch]
"""A degradation, drawn and rendered: one generator per image."""

Planes = Float[Tensor, "b size size"]
Draw = Callable[[int], Planes]
"""The patches of a step, one colour plane of each, in multiples of 1/255."""

REACH = 3
"""How far the network looks, pixels up, left and right."""

_NEIGHBOURS = 2 * REACH * (REACH + 1)
_LEFT, _ABOVE = _NEIGHBOURS - 1, (REACH - 1) * (2 * REACH + 1) + REACH  # where among them the nearest two are
_MIXED = 4  # logistic distributions
_SURPRISE = 1e-3  # probability spread evenly over all values, so that none costs more than 19 bits
_LEAST = 0.5 / PEAK  # half a step: what flat neighbours count as lying apart
_STEEPEST = 5.0  # a logistic is at most exp(5) times as narrow as its neighbours lie apart


class Budget(Frozen):
    """How much is learned, and with what. Code lengths compare only under the same budget."""

    steps: int = 100
    batch: int = 16
    size: int = 38
    width: int = 32
    learning_rate: float = 1e-2

    @property
    def values(self) -> int:
        """How many values are coded in all."""
        return self.steps * self.batch * (self.size - REACH) * (self.size - 2 * REACH)


@one_thread()
def code_length(
    draw: Draw, budget: Budget | None = None, seed: int = 0, progress: Callable[[int, int], None] | None = None
) -> CodeLength:
    """Bits per value to describe what `draw` gives, learning as it goes.

    Unit: bits per value of a colour plane. Invariant to brightness (the network sees differences to its neighbours);
    contrast adds about its logarithm, mirroring changes it little. Nothing but zeros costs nothing: there is nothing to
    describe, as of a degradation that changes no image. A pure function of its arguments on the same kind of
    machine; computed on one thread. Cost: 2 to 3 s with the default budget.
    """
    budget = Budget() if budget is None else budget
    with seeded(seed, "complexity", "network"):
        network = _Predictor(budget.width)
    optimiser = torch.optim.Adam(network.parameters(), lr=budget.learning_rate, betas=(0.9, 0.99))
    curve, anything = [], False
    for step in range(budget.steps):
        planes = draw(step)
        anything = anything or bool(planes.any())
        seen, values = _contexts(planes)
        bits = network(seen, values).mean()
        curve.append(bits.item())  # paid before it is learned
        optimiser.zero_grad(set_to_none=True)
        bits.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        if progress is not None:
            progress(step + 1, budget.steps)
    return CodeLength(tuple(curve) if anything else (0.0,) * budget.steps, budget.values)


def content(patches: Patches, budget: Budget | None = None, seed: int = 0) -> Draw:
    """The content: patches drawn as in training, a colour plane of each, in turn."""
    budget = Budget() if budget is None else budget

    def draw(step: int) -> Planes:
        return _planes(_whole(patches(_addresses(budget, seed, step, "content"), budget.size)))

    return draw


def change(patches: Patches, degrade: Degrade, budget: Budget | None = None, seed: int = 0) -> Draw:
    """A degradation: what it changes, `degraded - clean`, signed and after clipping, on the same patches as `content`.

    The two add up to what a network is shown, value by value, which makes their code lengths comparable.
    """
    budget = Budget() if budget is None else budget

    def draw(step: int) -> Planes:
        clean = _whole(patches(_addresses(budget, seed, step, "content"), budget.size))
        batch = degrade(clean, _addresses(budget, seed, step, "degradation"))
        return _planes(_whole(batch.degraded) - clean)

    return draw


def _whole(images: Images) -> Images:
    """In multiples of 1/255: what is smoothed, scaled down or degraded lies between them, and would cost too little."""
    return (images * PEAK).round() / PEAK


def _addresses(budget: Budget, seed: int, step: int, what: str) -> list[torch.Generator]:
    start = step * budget.batch
    return [generator(seed, "complexity", what, index) for index in range(start, start + budget.batch)]


def _planes(images: Images) -> Planes:
    """Of each image a colour plane: the first of the first image, the second of the second, and so on."""
    which = torch.arange(len(images))
    return images[which, which % images.shape[1]]


def _contexts(planes: Planes) -> tuple[Float[Tensor, "n neighbours"], Float[Tensor, "n"]]:
    """For every value with all of its neighbours: those in reading order, and the value."""
    across = 2 * REACH + 1
    around = planes.unfold(1, REACH + 1, 1).unfold(2, across, 1).reshape(-1, (REACH + 1) * across)
    return around[:, :_NEIGHBOURS], around[:, _NEIGHBOURS]


class _Predictor(nn.Module):
    """From 24 neighbours to what the next value costs, in bits. Two hidden layers, which see and answer in units of how
    far the neighbours lie from the mean of the nearest two: learning is then as steady for flat content as for busy."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = nn.Linear(_NEIGHBOURS + 1, width)
        self.second = nn.Linear(width, width)
        self.last = nn.Linear(width, 3 * _MIXED)

    def forward(self, seen: Float[Tensor, "n neighbours"], values: Float[Tensor, "n"]) -> Float[Tensor, "n"]:
        near = (seen[:, _LEFT] + seen[:, _ABOVE])[:, None] / 2
        apart = seen - near
        unit = (apart.square().mean(1, keepdim=True) + _LEAST**2).sqrt()
        hidden = functional.relu(self.first(torch.cat([apart / unit, unit.log() + 4], 1)))
        hidden = hidden + functional.relu(self.second(hidden))
        weight, shift, scale = self.last(hidden).chunk(3, 1)
        log_scale = unit.log() + (scale - 1).clamp(-_STEEPEST, 2)
        step = torch.exp(-log_scale) / PEAK  # width of a value's bin, in scales
        middle = (values[:, None] - near - shift * unit) * torch.exp(-log_scale)
        # log of the mass in the bin, sigmoid(middle + step / 2) - sigmoid(middle - step / 2), without cancellation
        mass = (
            torch.log(-torch.expm1(-step))
            - functional.softplus(-middle - step / 2)
            - functional.softplus(middle - step / 2)
        )
        nats = torch.logsumexp(functional.log_softmax(weight, 1) + mass, 1)
        even = nats.new_tensor(math.log(_SURPRISE / (2 * PEAK + 1)))
        return -torch.logaddexp(nats + math.log(1 - _SURPRISE), even) / math.log(2)
