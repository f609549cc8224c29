"""What is found out about complexity: measures by name, code lengths, surveys, the balance. Imports no torch."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd

LAST = 0.2
"""Share of a loss curve at its end whose mean is what is left to pay once the learning is done."""


@dataclass(frozen=True)
class Measure:
    """`more`: whether more complex is "higher" or "lower"."""

    title: str
    unit: str
    more: Literal["higher", "lower"]
    decimals: int


MEASURES = {
    "compression": Measure("Compression", "bits per pixel", "higher", 2),
    "structural": Measure("Structural complexity", "white squared", "higher", 4),
    "grain": Measure("Grain of the structure", "pixels", "lower", 2),
    "spectral_slope": Measure("Spectral slope", "alpha of 1/f^alpha", "lower", 2),
    "gradient_entropy": Measure("Entropy of gradients", "bits per difference", "higher", 2),
}
"""The measures of single pictures. Images are ordered by the first."""


@dataclass(frozen=True)
class CodeLength:
    """`curve`: bits per value at every step, paid before learning from it. `coded`: values in all."""

    curve: tuple[float, ...]
    coded: int

    @property
    def bits(self) -> float:
        """Prequential code length, bits per value: the mean of the curve, which is the area under it per step."""
        return float(np.mean(self.curve))

    @property
    def left(self) -> float:
        """Bits per value at the end of the budget: what this network does not learn to predict."""
        return float(np.mean(self.curve[-max(1, round(LAST * len(self.curve))) :]))

    @property
    def learning(self) -> float:
        """Bits per value paid for having to learn: `bits` less `left`."""
        return self.bits - self.left


@dataclass(frozen=True)
class Survey:
    """A folder (`on` is ""), or a degradation on the images of a folder.

    `table`: a line per image, or per drawn layer, with its name, height, width, the `MEASURES`, and `scale_1`,
    `scale_2`, `scale_4`, ...: structural complexity by the side of the cells in pixels; NaN where undefined.
    """

    name: str
    on: str
    table: pd.DataFrame
    learned: CodeLength

    @property
    def title(self) -> str:
        return f"{self.name} on {self.on}" if self.on else self.name

    def median(self, measure: str) -> float:
        """Over the images in which it is defined; NaN where in none."""
        return float(self.table[measure].median())

    def scales(self) -> dict[int, float]:
        """Mean structural complexity by the side of the cells in pixels, over the images that have that scale."""
        names = [name for name in self.table.columns if name.startswith("scale_")]
        return {int(name.removeprefix("scale_")): float(self.table[name].mean()) for name in names}

    def ordered(self) -> pd.DataFrame:
        """The lines from the simplest to the most complex, by the first of the `MEASURES`."""
        return self.table.sort_values([next(iter(MEASURES)), "image"], kind="stable")


def balance(content: Survey, degradation: Survey) -> float:
    """Code length of the content over that of the degradation, both per value; NaN where the degradation costs nothing.

    Above 1 the content is the more complex of the two, and the degradation the simpler thing to fit: the shortcut of
    ordinary training. Below 1 the content is the simpler one. Simpler backgrounds lower it, wider degradations too; how
    many backgrounds there are it hardly sees (`unseen.balance.predict` scales the content's by their number). It
    compares what one small network pays for both under one budget; for noise, nearly all of which is paid for what
    nobody can predict, read `CodeLength.learning` beside it.
    """
    paid = degradation.learned.bits
    return content.learned.bits / paid if paid > 0 else float("nan")
