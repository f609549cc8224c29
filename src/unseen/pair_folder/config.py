"""Which folder of pairs, and how to read it."""

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from unseen.backgrounds import expanded
from unseen.errors import ConfigError
from unseen.ranges import Frozen


class PairFolderConfig(Frozen):
    """Which pairs.

    `folder`: may hold ${VARIABLES} of the environment and `~`.
    `layout`: "folders" (degraded and clean images in two folders), "names" (told apart by their file names),
    "side-by-side" (halves of one file), or "auto" to find out.
    `degraded`, `clean`: what the two sides are called, both or neither. For "folders" the names of folders ("input"),
    or their paths in `folder` ("train/input"); for "names" patterns with one `{}` for what a pair has in common, and
    `*` for what it has not ("{}_real.JPG", "rain-{}.png", "hazy/{}_*"). A pattern without a suffix fits every suffix.
    `degraded_side`: the half of a side-by-side file that is degraded; None is to find out.
    `holdout`: the last so many clean images in sorted order, with all their degraded versions, are for testing only;
    `part` chooses them ("test") or the rest ("train"), less copies of those; None is everything.
    """

    folder: str = Field(min_length=1)
    layout: Literal["auto", "folders", "names", "side-by-side"] = "auto"
    degraded: str | None = Field(default=None, min_length=1)
    clean: str | None = Field(default=None, min_length=1)
    degraded_side: Literal["left", "right"] | None = None
    holdout: int = Field(default=0, ge=0)
    part: Literal["train", "test"] | None = None

    @property
    def place(self) -> Path | str:
        """Where the folder lies; as it is written where that cannot be told on this machine."""
        try:
            return expanded(self.folder).resolve()
        except ConfigError:
            return self.folder

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        given = [value for value in (self.degraded, self.clean) if value is not None]
        patterns = [value for value in given if "{}" in value]
        if len(given) == 1:
            raise ValueError("give both degraded and clean, or neither")
        if any(value.count("{}") > 1 for value in given):
            raise ValueError("a pattern holds {} once: what the two files of a pair have in common")
        if len(patterns) == 1:
            raise ValueError("degraded and clean must both be names of folders, or both patterns with {}")
        if given and self.layout == "side-by-side":
            raise ValueError("side-by-side files have no degraded and clean names: give degraded_side")
        if patterns and self.layout == "folders":
            raise ValueError("layout 'folders' takes names of folders without {}; for patterns set layout to 'names'")
        if given and not patterns and self.layout == "names":
            raise ValueError("layout 'names' takes patterns with one {}, such as 'rain-{}.png'")
        if self.degraded_side is not None and (given or self.layout in ("folders", "names")):
            raise ValueError("degraded_side is for side-by-side files only")
        if self.part == "test" and self.holdout == 0:
            raise ValueError("part is 'test', but nothing is held out: set holdout to a number above 0")
        return self
