"""An experiment is one frozen value: what is trained, on what, how, from which seed. Its hash is its name."""

import hashlib
import json
from collections.abc import Sequence
from typing import Annotated, Any, Literal, Self

import torch
from pydantic import Field, model_validator

from unseen import priors
from unseen.backgrounds import BackgroundsConfig
from unseen.data import PairsConfig
from unseen.degradations import AnyDegradation, Degradation, Mixture, Rain, essence, swept
from unseen.errors import ConfigError
from unseen.losses import L1, AnyLoss
from unseen.networks import AnyNetworkConfig, ResNetConfig
from unseen.ranges import Frozen, Parameter
from unseen.regularisation import Consistency
from unseen.schedules import Course, Schedules

Decay = Annotated[float, Field(ge=0, lt=1)]
Precision = Literal["auto", "fp32", "mixed", "bf16"]


class Recipe(Frozen):
    """How a network is trained. `batch` counts all processes together; `patch` is the side of a sample in pixels.

    `optimiser`: with a `weight_decay` it is decoupled (AdamW, Loshchilov and Hutter, ICLR 2019), without one it is
    Adam. The learning rate rises over `warmup` steps and then falls along a half cosine to `final_rate` of itself.
    `ema` is the decay of an exponential moving average of the weights, which is then what is saved (None: none).
    `clip` bounds the norm of the gradient (None: not). At the steps in `snapshots` the weights are kept too, to judge
    a network along its training.

    Two earlier methods for the same end: `dropout` leaves out each channel that enters the last layer with this
    probability (Kong et al., CVPR 2022), and `masking` hides this share of the pixels, a number or a range from which
    it is drawn for every image, from all but the first layer (Chen et al., CVPR 2023). `consistency` wants the same of
    two renderings of one patch. See `unseen.regularisation`.

    `device`, `precision` and `threads` are resolved from the machine before the experiment is named ("auto", None):
    "mixed" where the hardware multiplies in bf16, else "fp32". "mixed" runs the convolutions in bf16 (autocast,
    channels-last) and keeps images, the global skip and the loss in fp32; "bf16" also rounds the images that enter
    the network and the restored ones to bf16, as Lightning's bf16-mixed does (some 60 dB below the image).
    """

    steps: int = Field(default=3000, ge=1)
    batch: int = Field(default=8, ge=1)
    patch: int = Field(default=48, ge=1)
    loss: AnyLoss = L1()
    learning_rate: float = Field(default=4e-4, gt=0)
    betas: tuple[Decay, Decay] = (0.9, 0.99)
    weight_decay: float = Field(default=0.0, ge=0)
    warmup: int = Field(default=0, ge=0)
    final_rate: float = Field(default=0.0, ge=0, le=1)
    ema: float | None = Field(default=None, gt=0, lt=1)
    clip: float | None = Field(default=None, gt=0)
    snapshots: tuple[int, ...] = ()
    dropout: float | None = Field(default=None, gt=0, lt=1)
    masking: Parameter | None = None
    consistency: Consistency | None = None
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    precision: Precision = "auto"
    threads: int | None = Field(default=None, ge=1)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.masking is not None and not 0 <= self.masking.low <= self.masking.high < 1:
            raise ValueError(f"masking is {self.masking}: the share of pixels that is hidden, from 0 to below 1")
        if self.warmup >= self.steps:
            raise ValueError(f"warmup is {self.warmup} steps, of {self.steps} in all: make it shorter")
        if len(set(self.snapshots)) < len(self.snapshots):
            raise ValueError(f"snapshots repeat a step: {list(self.snapshots)}")
        late = [step for step in self.snapshots if not 1 <= step <= self.steps]
        if late:
            raise ValueError(
                f"snapshots at {late} lie outside the steps 1 to {self.steps}: leave them out, or keep none with []"
            )
        return self


class Experiment(Frozen):
    """The whole of what decides a trained network.

    `pairs`: folders of pairs to train on, beside or (`share` 1) instead of synthetic ones (None: none).
    `clean`: the share of synthetic samples that are not degraded (None: none). `schedules`: dials that turn over the
    steps, and end where the experiment has them.
    `start_from` is a checkpoint to fine-tune (None: fresh weights). `content`, `pairs_content` and `start_content` are
    hashes of the backgrounds, of the pairs and of that checkpoint; they take the place of paths in the experiment's
    name, and are filled in when it is resolved.
    """

    backgrounds: BackgroundsConfig = BackgroundsConfig()
    degradation: AnyDegradation = Rain.preset("medium", scale=0.5)
    network: AnyNetworkConfig = ResNetConfig()
    recipe: Recipe = Recipe()
    pairs: PairsConfig | None = None
    clean: float | None = Field(default=None, gt=0, lt=1)
    schedules: Schedules | None = None
    start_from: str | None = None
    seed: int = Field(default=0, ge=0)
    content: str | None = None
    pairs_content: str | None = None
    start_content: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _seed_everything(cls, value: Any) -> Any:
        """Another seed also chooses other backgrounds, unless they were given a seed of their own."""
        if not isinstance(value, dict):
            return value
        backgrounds, seed = value.get("backgrounds", {}), value.get("seed", 0)
        if isinstance(backgrounds, BackgroundsConfig) and "seed" not in backgrounds.model_fields_set:
            backgrounds = {**backgrounds.model_dump(exclude_unset=True), "seed": seed}
        elif isinstance(backgrounds, dict) and "seed" not in backgrounds:
            backgrounds = {**backgrounds, "seed": seed}
        return {**value, "backgrounds": backgrounds}

    @model_validator(mode="after")
    def _renderable(self) -> Self:
        if self.recipe.consistency is not None and self.pairs is not None:
            raise ValueError("recipe.consistency renders every sample twice, which pairs of files cannot be: drop one")
        return self

    @model_validator(mode="after")
    def _of_samples_there_are(self) -> Self:
        if self.synthetic:
            return self
        dials = ("degradation", "clean", "count", "weights", "smooth", "shrink")
        turned = [f"schedules.{dial}" for dial in dials if getattr(self.schedules, dial, None) is not None]
        turned += ["clean"] if self.clean is not None else []
        if turned:
            raise ValueError(
                f"{turned[0]} is of synthetic samples, and with pairs.share 1 there are none: leave it out"
            )
        return self

    @model_validator(mode="after")
    def _schedulable(self) -> Self:
        if self.schedules is None:
            return self
        weights, parts = self.schedules.weights, self.backgrounds.parts
        if weights is not None and (self.backgrounds.weights is None or parts is None):
            raise ValueError("schedules.weights needs backgrounds.parts and backgrounds.weights, where they end")
        if weights is not None and parts is not None and len(weights.start) != len(parts):
            raise ValueError(f"schedules.weights starts with {len(weights.start)} weights for {len(parts)} backgrounds")
        if self.schedules.count is not None and parts and all(part.count for part in parts):
            raise ValueError(
                "schedules.count takes from the parts of backgrounds that have no count of their own, and all have one"
            )
        if parts is not None and (self.schedules.smooth or self.schedules.shrink):
            raise ValueError(
                "schedules.smooth and schedules.shrink are for one source: a mixture's parts have their own"
            )
        return self

    @property
    def degradations(self) -> tuple[Degradation, ...]:
        """What is met while training: the degradation, and what a schedule starts from, if there is one."""
        ramp = None if self.schedules is None else self.schedules.degradation
        return (self.degradation,) if ramp is None else (self.degradation, ramp.start)

    @property
    def met(self) -> Degradation:
        """All that is met while training, as one: what is unseen must lie outside of it. The degradation itself, unless
        a schedule starts from what does not lie within it, and passes through all between."""
        end, *starts = self.degradations
        if all(start.within(end) for start in starts):
            return end
        between = [each for start in starts for each in swept(start, end)]
        return Mixture(parts=(end, *starts, *between))

    def course(self, images: int) -> Course:
        """The dials at every step, with so many `images` to draw from."""
        return Course(
            self.schedules, self.recipe.steps, degradation=self.degradation, patch=self.recipe.patch,
            clean=self.clean or 0.0, images=images, weights=self.backgrounds.weights,
            smooth=self.backgrounds.smooth or 0.0, shrink=self.backgrounds.shrink or 1.0,
        )  # fmt: skip

    @property
    def synthetic(self) -> bool:
        """Whether some samples are synthetic. Without them backgrounds and degradation decide nothing."""
        return self.pairs is None or self.pairs.share < 1

    @property
    def id(self) -> str:
        """Twelve hexadecimal digits over the canonical JSON. The experiment must have been resolved."""
        known = (self.content is not None or not self.synthetic) and (
            self.pairs_content is not None or self.pairs is None
        )
        if not known or self.recipe.device == "auto" or self.recipe.threads is None:
            raise ConfigError("This experiment has no name yet: resolve it first (unseen.training.resolve).")
        return hashlib.sha256(self.canonical().encode()).hexdigest()[:12]

    def canonical(self) -> str:
        """JSON with sorted keys, without absent values, without paths and without what is only for people, or decides
        nothing. How the folders of pairs are laid out, and split, is told by their content."""
        value = self.model_dump(mode="json", exclude_none=True)
        for backgrounds in (value["backgrounds"], *value["backgrounds"].get("parts", ())):
            del backgrounds["source"]
        value["degradation"] = essence(value["degradation"], {"name"})
        value["network"] = priors.essence(value["network"])
        value["recipe"] = priors.essence(value["recipe"])
        if "degradation" in value.get("schedules", {}):
            value["schedules"]["degradation"] = essence(value["schedules"]["degradation"], {"name"})
        value.pop("start_from", None)
        if self.pairs is not None:
            del value["pairs"]["folders"]
        if not self.synthetic:
            del value["backgrounds"], value["degradation"]
            value.pop("clean", None)
            value.pop("content", None)
        return json.dumps(value, sort_keys=True, separators=(",", ":"))


def has_bf16(device: str) -> bool:
    """Whether `device` multiplies bf16 matrices in hardware."""
    if device == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device == "cpu":
        return any(getattr(torch.cpu, name, bool)() for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"))
    return False


def best_device() -> Literal["cpu", "cuda", "mps"]:
    """The fastest kind of device this machine has."""
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def settled_here(device: str, precision: str, threads: int | None) -> dict[str, Any]:
    """`device`, `precision` and `threads` of a recipe with what "auto" and None stand for on this machine. ConfigError
    where torch sees no such device."""
    device = best_device() if device == "auto" else device
    if device not in ("cpu", best_device()):
        raise ConfigError(f"The recipe asks for device {device}, and torch sees no such device here: use cpu or auto.")
    if precision == "auto":
        precision = "mixed" if has_bf16(device) else "fp32"
    return {"device": device, "precision": precision, "threads": threads or torch.get_num_threads()}


def resolve(
    experiment: Experiment,
    content: str | None,
    start_content: str | None = None,
    threads: int | None = None,
    *,
    pairs_content: str | None = None,
) -> Experiment:
    """Fill in what depends on the machine and on file contents, so that the experiment has its name.

    `content` is that of the backgrounds, None where no samples are synthetic. `threads` is what a cell may use where
    its recipe does not say (default: torch's own choice).
    """
    recipe = experiment.recipe
    settled = settled_here(recipe.device, recipe.precision, recipe.threads or threads)
    return experiment.model_copy(
        update={
            "recipe": recipe.model_copy(update=settled),
            "content": content,
            "pairs_content": pairs_content,
            "start_content": start_content,
        }
    )


def all_met(lineage: Sequence[Experiment]) -> Degradation | None:
    """All that is met in experiments that follow one another, as one (`Experiment.met`); None where nothing is
    synthetic."""
    met = {one.met.model_dump_json(): one.met for one in lineage if one.synthetic}
    return next(iter(met.values())) if len(met) == 1 else Mixture(parts=tuple(met.values())) if met else None
