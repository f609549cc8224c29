"""How a small prior is trained: the part that is the same for every kind."""

from typing import Literal

from pydantic import Field

from unseen.experiment import Decay, Recipe
from unseen.ranges import Frozen


class PriorRecipe(Frozen):
    """`batch` crops of `patch` pixels a side in each of `steps` steps, with Adam (AdamW with a `weight_decay`).

    The learning rate rises over the share `warmup` of the steps, then falls along a half cosine to `final_rate` of
    itself. `clip` bounds the norm of the gradient (None: not). `ema` is the decay of a moving average of the weights,
    which is then what is saved (None: none); while steps are few it averages over a tenth of them.

    `device`, `precision` and `threads` are settled before the prior gets its name ("auto", None). "mixed", where the
    hardware multiplies in bf16, runs the networks' convolutions in bf16 (autocast); images, latents, codes, noise and
    losses stay in fp32, and so does judging.
    """

    steps: int = Field(default=4000, ge=1)
    batch: int = Field(default=8, ge=1)
    patch: int = Field(default=64, ge=1)
    learning_rate: float = Field(default=1e-3, gt=0)
    betas: tuple[Decay, Decay] = (0.9, 0.99)
    weight_decay: float = Field(default=0.0, ge=0)
    warmup: float = Field(default=0.02, ge=0, lt=1)
    final_rate: float = Field(default=0.0, ge=0, le=1)
    ema: float | None = Field(default=None, gt=0, lt=1)
    clip: float | None = Field(default=1.0, gt=0)
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    precision: Literal["auto", "fp32", "mixed"] = "auto"
    threads: int | None = Field(default=None, ge=1)

    @property
    def plain(self) -> Recipe:
        """The same as the recipe of a restorer: what sets the learning rate and makes the optimiser."""
        return Recipe(
            steps=self.steps,
            learning_rate=self.learning_rate,
            betas=self.betas,
            weight_decay=self.weight_decay,
            warmup=int(self.warmup * self.steps),
            final_rate=self.final_rate,
        )

    def decay(self, step: int) -> float:
        """Of the moving average after a step: what is older than a tenth of the steps so far hardly counts."""
        return min(self.ema or 0.0, (1 + step) / (10 + step))
