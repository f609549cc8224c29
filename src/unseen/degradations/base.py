"""What every degradation is: draw on the CPU, render anywhere, tell the whole truth.

To add one: a file beside `rain.py`, a class with `kind`, `sample` and `render`, and one entry in `ALL`
(`degradations/__init__.py`). Its tests come from being listed.
"""

from collections.abc import Sequence
from typing import Any, ClassVar

import torch

from unseen.ranges import Frozen, overlaps
from unseen.types import Batch, Images, Masks

MASK_THRESHOLD = 0.02
"""A pixel is degraded where the largest change over colour exceeds this (our reading of the paper)."""


def mask_of(degraded: Images, clean: Images, threshold: float = MASK_THRESHOLD) -> Masks:
    """1 where `max over colour of |degraded - clean| > threshold`, after clipping."""
    return ((degraded - clean).abs().amax(1, keepdim=True) > threshold).to(clean.dtype)


class Degradation(Frozen):
    """Frozen, and its own configuration.

    `name` is for people (a preset's name). `mask_threshold` is part of the value because masks decide losses and
    metrics. Subclasses give `factors`: the fields in which two degradations can differ, with the period of
    those that wrap (directions: 180) or None.
    """

    factors: ClassVar[dict[str, float | None]] = {}

    name: str = ""
    mask_threshold: float = MASK_THRESHOLD

    def sample(self, size: tuple[int, int], rngs: Sequence[torch.Generator]) -> Any:
        """Every random choice, on the CPU, for one image of `size` (h, w) per generator.

        An image's choices come from its own generator alone: they do not depend on its neighbours in the batch.
        """
        raise NotImplementedError

    def render(self, clean: Images, params: Any) -> Batch:
        """Degrade `clean`, on its device. Deterministic and vectorised."""
        raise NotImplementedError

    def describe(self) -> str:
        """Its name, and the factors that differ from the defaults of its kind, in words."""
        parts = []
        for factor in self.factors:
            value = getattr(self, factor)
            if value != type(self).model_fields[factor].default:
                parts.append(f"{factor} {value}")
        return f"{self.name or type(self).__name__}: {', '.join(parts) or 'the defaults'}"

    def outside(self, trained: "Degradation") -> tuple[str, ...]:
        """The factors in which this lies wholly outside what `trained` draws from; ("kind",) for another kind.

        Empty: not unseen for a network trained on `trained`.
        """
        if type(self) is not type(trained):
            return ("kind",)
        apart = []
        for factor, period in self.factors.items():
            mine, theirs = getattr(self, factor), getattr(trained, factor)
            if isinstance(mine, str):
                if mine != theirs:
                    apart.append(factor)
            elif not overlaps(mine, theirs, period):
                apart.append(factor)
        return tuple(apart)
