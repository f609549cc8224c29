"""A guess from complexity alone, without training a restorer: how near the two sides are to balance.

The claim behind it (Hu et al., arXiv 2502.12600): a network fits the simpler of content and degradation, and
generalises best where the two are level. What each costs to learn is a prequential code length
(`unseen.complexity.learned`), in bits per value. That measure hardly sees how many images there are, so the content's
is scaled by the logarithm of the number of backgrounds, our own reading: content = bits log(1 + count) / log(1 + all).

The guess for an experiment is -|log(content / degradation)|: 0 is balance, and the lower the further from it. It is a
rank, not a gain in dB; how well it ranks is measured beside every search (`Balance.agreement`).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from unseen.backgrounds import Backgrounds
from unseen.balance.space import Params, Space
from unseen.complexity.learned import Budget, change, code_length, content
from unseen.degradations import Degradation, between

POINTS = (0.0, 0.5, 1.0)
"""Widenings at which the degradation is measured; between them it is interpolated."""


@dataclass(frozen=True)
class Prediction:
    """`content`: bits per value of all backgrounds. `degradation`: those of the degradation, by its widening, in all of
    its `factors`; in some of them it counts as widened by that share less, our own reading."""

    content: float
    degradation: dict[str, float]
    available: int
    factors: int = 1

    @classmethod
    def measure(cls, space: Space, progress: Callable[[str, int, int], None] | None = None) -> "Prediction":
        """Learn the content and the degradation, narrow, wide and between: some seconds each."""
        images = Backgrounds(space.trial(Params()).backgrounds)
        seed, budget = space.experiment.seed, Budget()

        def told(what: str) -> Callable[[int, int], None]:
            return lambda done, total: progress(what, done, total) if progress is not None else None

        paid = code_length(content(images.patches, budget, seed), budget, seed, told("learn the content"))
        found = {}
        for widening in POINTS:
            degradation = between(space.experiment.degradation, space.inner, widening)
            draw = change(images.patches, _degrade(degradation), budget, seed)
            what = f"learn the degradation, widened by {widening:g}"
            found[f"{widening:g}"] = code_length(draw, budget, seed, told(what)).bits
        return cls(paid.bits, found, len(images), space.wider)

    def degradation_at(self, params: Params) -> float:
        """Bits per value of what a trial meets: of its widening, mixed with the narrow one and with clean samples."""
        share = min(params.factors or self.factors, self.factors) / self.factors
        widening = params.widening * (params.whole + (1 - params.whole) * share)
        below = max(point for point in POINTS if point <= widening)
        above = min(point for point in POINTS if point >= widening)
        low, high = self.degradation[f"{below:g}"], self.degradation[f"{above:g}"]
        wide = low if above == below else low + (high - low) * (widening - below) / (above - below)
        met = params.narrow * self.degradation["0"] + (1 - params.narrow) * wide
        return (1 - params.clean) * met

    def content_at(self, params: Params) -> float:
        """Bits per value of a trial's backgrounds, scaled by how many they are."""
        count = self.available if params.count is None else min(params.count, self.available)
        return self.content * math.log1p(count) / math.log1p(self.available)

    def of(self, params: Params) -> float:
        """The guess: 0 at balance, lower the further from it."""
        content, degradation = self.content_at(params), self.degradation_at(params)
        return -abs(math.log(content / degradation)) if content > 0 and degradation > 0 else -math.inf

    def best(self, space: Space, points: int = 24) -> Params:
        """The most balanced point of a grid over the number of backgrounds and the widening; of equals, the widest."""
        least = min(space.fewest, self.available)
        counts = {round(least * (self.available / least) ** (place / (points - 1))) for place in range(points)}
        widest = (space.widening or (0.0, 0.0))[1]
        grid = [
            Params(count=None if count >= self.available else count, widening=widest * place / (points - 1))
            for count in sorted(counts)
            for place in range(points)
        ]
        return max(
            grid, key=lambda params: (round(self.of(params), 3), params.widening, params.count or self.available)
        )


def _degrade(degradation: Degradation) -> Any:
    def degrade(clean: Any, rngs: Any) -> Any:
        return degradation.render(clean, degradation.sample((clean.shape[2], clean.shape[3]), rngs))

    return degrade
