"""Degradations: one member, one file. Adding one is its file and its entry in `ALL`."""

from typing import Annotated

from pydantic import Field

from unseen.degradations.base import MASK_THRESHOLD, Degradation, mask_of
from unseen.degradations.rain import Rain

ALL: tuple[type[Degradation], ...] = (Rain,)

AnyDegradation = Annotated[Rain, Field()]
"""What a configuration may hold where a degradation is expected, told apart by `kind`."""

__all__ = ["ALL", "MASK_THRESHOLD", "AnyDegradation", "Degradation", "Rain", "mask_of"]
