"""What decides a small prior, as one frozen value. Its hash is its name."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from pydantic import Field, model_validator

from unseen.backgrounds import BackgroundsConfig
from unseen.errors import ConfigError
from unseen.experiment import settled_here
from unseen.prior_training.diffusion import Diffusion
from unseen.prior_training.recipe import PriorRecipe
from unseen.prior_training.vae import VAE
from unseen.prior_training.vqgan import VQGAN
from unseen.ranges import Frozen, one_of

ALL = (VAE, VQGAN, Diffusion)
KINDS = {kind.model_fields["kind"].default: kind for kind in ALL}

if TYPE_CHECKING:
    AnyKind = VAE | VQGAN | Diffusion
else:
    AnyKind = one_of(ALL)


class PriorExperiment(Frozen):
    """`prior`: what is trained; `backgrounds`: on which images, of which some are held out; `recipe`: how.

    The recipe's defaults differ from kind to kind. `content` is the hash of the backgrounds, which takes the place of
    their path in the name, and is filled in when it is resolved.
    """

    prior: AnyKind = VAE()
    backgrounds: BackgroundsConfig = BackgroundsConfig()
    recipe: PriorRecipe = PriorRecipe()
    seed: int = Field(default=0, ge=0)
    content: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _recipe_of_its_kind(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        prior, recipe = value.get("prior", {}), value.get("recipe", {})
        if isinstance(recipe, PriorRecipe):
            recipe = recipe.model_dump(exclude_unset=True)
        named = prior.get("kind", VAE.model_fields["kind"].default) if isinstance(prior, dict) else None
        kind = type(prior) if isinstance(prior, ALL) else KINDS.get(named)
        return (
            {**value, "recipe": {**kind.RECIPE, **recipe}} if kind is not None and isinstance(recipe, dict) else value
        )

    @model_validator(mode="after")
    def _judged(self) -> Self:
        stride = self.prior.stride
        if self.recipe.patch % stride:
            raise ValueError(f"recipe.patch is {self.recipe.patch}: expected a multiple of the prior's {stride} pixels")
        if self.recipe.patch < self.prior.smallest:
            raise ValueError(f"recipe.patch is {self.recipe.patch}: expected {self.prior.smallest} pixels or more")
        for part in self.backgrounds.sources:
            if part.source not in ("embedded", "leaves") and part.holdout == 0:
                raise ValueError(f"a prior is judged on images that it has not seen: hold out some of {part.source}")
        return self

    @property
    def id(self) -> str:
        """Twelve hexadecimal digits over what decides the prior. It must have been resolved."""
        recipe = self.recipe
        if self.content is None or "auto" in (recipe.device, recipe.precision) or recipe.threads is None:
            raise ConfigError("This prior has no name yet: resolve it first (unseen.prior_training.resolved).")
        value = self.model_dump(mode="json", exclude_none=True)
        for backgrounds in (value["backgrounds"], *value["backgrounds"].get("parts", ())):
            del backgrounds["source"]
        return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:12]


def resolved(experiment: PriorExperiment, content: str) -> PriorExperiment:
    """With what depends on the machine and on the images filled in, so that it has a name."""
    recipe = experiment.recipe
    settled = settled_here(recipe.device, recipe.precision, recipe.threads)
    return experiment.model_copy(update={"recipe": recipe.model_copy(update=settled), "content": content})


def told_apart(sources: Sequence[str]) -> list[str]:
    """A name for each: the last part of its path, or as many as tell all of them apart; a number where none do."""
    paths = [Path(source).parts for source in sources]
    for length in range(1, max(map(len, paths)) + 1):
        names = ["/".join(path[-length:]) for path in paths]
        if len(set(names)) == len(names):
            return names
    return [f"{Path(source).name} {number}" for number, source in enumerate(sources, 1)]
