"""Degradations: one member, one file. Adding one is its file and its entry in `ALL`."""

from typing import TYPE_CHECKING

from unseen.degradations.base import MASK_THRESHOLD, Degradation, mask_of
from unseen.degradations.rain import Rain
from unseen.ranges import one_of

ALL: tuple[type[Degradation], ...] = (Rain,)

if TYPE_CHECKING:
    AnyDegradation = Degradation
else:
    AnyDegradation = one_of(ALL)

__all__ = ["ALL", "MASK_THRESHOLD", "AnyDegradation", "Degradation", "Rain", "mask_of"]
