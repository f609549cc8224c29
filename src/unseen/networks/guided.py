"""A restorer that a content prior holds on the manifold of images: a trained encoder before a frozen decoder.

After Hu et al., arXiv 2502.12600, who tune an encoder before the decoder of a VQGAN; the details are our reading. What
the decoder cannot draw cannot pass, rain least of all, and neither can detail finer than the prior knows. Three ways to
win that back: a gate that chooses, per pixel, between the image as it came and as it was decoded; residual blocks that
see both and finish what the gate made of them; and features of the encoder that are led past the latents into the
decoder, as much as a dial says (after Zhou et al., "Towards Robust Blind Face Restoration with Codebook Lookup
Transformer", NeurIPS 2022, Eq. 5).

Checkpoints hold the encoder, the gate, the blocks, the ways past and the choice of codes, never the prior: it is opened
where the network runs, by its configuration, and must be the same then.
"""

import copy
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from unseen.errors import ConfigError
from unseen.networks.base import Block, NetworkConfig
from unseen.networks.codes import Codes, CodesConfig, chosen
from unseen.networks.padding import pad_to_multiple
from unseen.priors import Prior, PriorConfig, Tap, blank, open_prior
from unseen.types import Batch, Images


class GuidedConfig(NetworkConfig):
    """`gate`: choose per pixel between the input and the decoded image, with three convolutions of `width` channels
    that see both and their difference; without it the decoded image is the result. `blocks`: so many residual blocks of
    `width` channels see both and the result, and change it (None: they do not). `features`: lead the encoder's
    features into the decoder with this weight in (0, 1] (None: there is no such way; at 0 it would never learn); after
    training it is a dial between the prior (0) and fidelity. `latent`: the weight, in training, of the distance between
    the latents and those of the clean image (0.1 is our suggestion). `codes`: of a prior with a codebook, a transformer
    chooses the codes (`unseen.networks.codes`; None: they are the nearest ones). `choice`: the weight, in training, of
    telling the gate which of its two images is nearer to the clean one (None: it is not told).
    """

    kind: Literal["Guided"] = "Guided"
    prior: PriorConfig
    gate: bool = True
    width: int = Field(default=16, ge=1, le=4096)
    blocks: int | None = Field(default=None, ge=1, le=512)
    features: float | None = Field(default=None, gt=0, le=1)
    latent: float = Field(default=0.0, ge=0)
    codes: CodesConfig | None = None
    choice: float | None = Field(default=0.25, gt=0)

    def build(self) -> "Guided":
        return Guided(self)


class Guided(nn.Module):
    """RGB in [0, 1] to RGB, the same size; any size from 1 x 1. The output is not clipped.

    `encoder` starts as the prior's own and is trained. The gate starts at one half everywhere, whatever it sees: there
    both images, and the choice between them, get the strongest gradients, while a gate that starts shut would not learn
    to open (its gradient falls as g (1 - g)). It may shut all the same, while the encoder has not learned to take
    anything away and the input is the better of the two nearly everywhere: then it gives every image back as it came,
    and neither learns any more. `choice` is against that. Blocks and ways past the latents start by adding nothing. So
    fresh weights depend on the seed in all of these but their last layers, and nowhere else.

    `features` may be set at any time, to a weight in [0, 1]. Built on the meta device, nothing of the prior is read
    before the first image.
    """

    Config: ClassVar = GuidedConfig
    first: str = "encoder.0"
    last: str = "gate.4"

    def __init__(self, config: GuidedConfig) -> None:
        super().__init__()
        self.config = config
        with torch.device("meta"):
            plan = blank(config.prior.architecture)
        self.multiple, self.taps = plan.stride, plan.taps if config.features is not None else ()
        self._features = config.features or 0.0
        described = torch.empty(0).is_meta
        self.encoder = plan.encoder if described else copy.deepcopy(open_prior(config.prior).encoder)
        self.encoder.requires_grad_(True).train()
        self.ways = nn.ModuleList(map(_way, self.taps))
        self.codes = None if config.codes is None else _codes(config.codes, plan)
        self.gate = _gate(config.width) if config.gate else None
        self.finish = None if config.blocks is None else _finish(config.width, config.blocks)
        self.first = f"encoder.{plan.first}"
        self.last = "gate.4" if config.gate else f"encoder.{plan.last}"
        if self.finish is not None:
            self.last = f"finish.{len(self.finish) - 1}"
        self._latents: Tensor | None = None
        self._scores: Tensor | None = None
        self._gated: tuple[Tensor, Tensor] | None = None

    @property
    def dials(self) -> tuple[str, ...]:
        """What may be turned after training."""
        return () if self.config.features is None else ("features",)

    def frozen(self, device: torch.device | str = "cpu") -> dict[str, nn.Module]:
        """What it works with and does not hold: the prior's decoder, by its name here."""
        return {"decoder": open_prior(self.config.prior, device).decoder}

    @property
    def features(self) -> float:
        """How much the encoder's features enter the decoder: a dial in [0, 1]."""
        return self._features

    @features.setter
    def features(self, weight: float) -> None:
        if self.config.features is None:
            raise ConfigError("This network has no ways for features: train one with network.features set.")
        if not 0 <= weight <= 1:
            raise ConfigError(f"features is {weight:g}: a weight from 0 (the prior) to 1 (fidelity).")
        self._features = weight

    def forward(self, degraded: Images) -> Images:
        height, width = degraded.shape[-2:]
        prior = open_prior(self.config.prior, degraded.device)
        with self._ways_open(prior):
            latents = self.encoder(pad_to_multiple(degraded, self.multiple))
            drawn, scores = latents, None
            if self.codes is not None and prior.codebook is not None:
                scores = self.codes(latents, prior.codebook.weight)
                drawn = chosen(scores, prior.codebook.weight, self.training)
            decoded = prior.decode(drawn)[..., :height, :width]
        self._latents = latents if self.training and self.config.latent else None
        self._scores = scores if self.training else None
        restored = decoded
        if self.gate is not None:
            odds = self.gate(torch.cat([degraded, decoded, (degraded - decoded).abs()], 1))
            self._gated = (odds, decoded.detach()) if self.training and self.config.choice else None
            share = torch.sigmoid(odds)
            restored = share * degraded + (1 - share) * decoded
        if self.finish is not None:
            restored = restored + self.finish(torch.cat([degraded, decoded, restored], 1))
        return restored

    def auxiliary(self, batch: Batch) -> Float[Tensor, ""] | None:
        """What is to be added to the loss of the last forward pass in training: `latent` times the mean of |latents -
        encode(clean)|, `codes.weight` times the cross entropy between the scores and the clean image's codes, and
        `choice` times `_choice`; None where there is none of them. Of a prior with a codebook, the clean latents are
        its codes."""
        latents, scores, gated = self._latents, self._scores, self._gated
        self._latents = self._scores = self._gated = None
        if latents is None and scores is None and gated is None:
            return None
        found = batch.clean.new_zeros(())
        if gated is not None and self.config.choice is not None:
            found = self.config.choice * _choice(*gated, batch)
        if latents is None and scores is None:
            return found
        prior = open_prior(self.config.prior, batch.clean.device)
        with torch.no_grad():
            wanted = prior.embed(batch.clean)
        if latents is not None:
            found = found + self.config.latent * (latents.float() - prior.quantise(wanted)).abs().mean()
        if scores is not None and self.config.codes is not None:
            found = found + self.config.codes.weight * F.cross_entropy(scores.float(), prior.codes(wanted))
        return found

    @contextmanager
    def _ways_open(self, prior: Prior) -> Iterator[None]:
        """The encoder's features are kept as it makes them, and enter the decoder's where they have the same size."""
        kept: dict[int, Tensor] = {}

        def keep(stride: int) -> Any:
            def hook(module: nn.Module, inputs: Any, features: Tensor) -> None:
                kept[stride] = features

            return hook

        def join(stride: int, way: nn.Module) -> Any:
            def hook(module: nn.Module, inputs: Any, features: Tensor) -> Tensor:
                return features + self.features * way(torch.cat([kept[stride], features], 1))

            return hook

        with ExitStack() as hooks:
            for tap, way in zip(self.taps, self.ways, strict=True):
                source, goal = self.encoder.get_submodule(tap.encoder), prior.decoder.get_submodule(tap.decoder)
                hooks.enter_context(source.register_forward_hook(keep(tap.stride)))
                hooks.enter_context(goal.register_forward_hook(join(tap.stride, way)))
            yield


def _choice(odds: Float[Tensor, "b 1 h w"], decoded: Images, batch: Batch) -> Float[Tensor, ""]:
    """How wrongly the gate chooses: the cross entropy of its log-odds for the input, where that is nearer to the clean
    image than `decoded`, or else against it, each pixel weighted by how much there is in it, the difference of both
    distances (mean absolute differences over the channels). Its gradient, (g - t) times the weight, is what that of
    L1 would be without the factor g (1 - g), which vanishes where the gate has decided, be it wrongly."""
    to_input, to_decoded = ((image - batch.clean).abs().mean(1, keepdim=True) for image in (batch.degraded, decoded))
    nearer = (to_input < to_decoded).float()
    return F.binary_cross_entropy_with_logits(odds.float(), nearer, (to_input - to_decoded).abs())


def _gate(width: int) -> nn.Sequential:
    gate = nn.Sequential(
        nn.Conv2d(9, width, 3, padding=1),
        nn.ReLU(inplace=True),
        nn.Conv2d(width, width, 3, padding=1),
        nn.ReLU(inplace=True),
        nn.Conv2d(width, 1, 3, padding=1),
    )
    _silence(gate[-1])
    return gate


def _finish(width: int, blocks: int) -> nn.Sequential:
    first, last = nn.Conv2d(9, width, 3, padding=1), nn.Conv2d(width, 3, 3, padding=1)
    _silence(last)
    return nn.Sequential(first, *(Block(width) for _ in range(blocks)), last)


def _way(tap: Tap) -> nn.Sequential:
    """From both features at a tap to what is added to the decoder's."""
    way = nn.Sequential(
        nn.Conv2d(tap.encoder_channels + tap.decoder_channels, tap.decoder_channels, 1),
        nn.ReLU(inplace=True),
        nn.Conv2d(tap.decoder_channels, tap.decoder_channels, 1),
    )
    _silence(way[-1])
    return way


def _codes(config: CodesConfig, plan: Prior) -> Codes:
    if plan.codebook is None:
        raise ConfigError("codes asks for a prior with a codebook, and this one has none: name a VQModel.")
    codes, channels = plan.codebook.weight.shape
    return Codes(config, codes, channels)


def _silence(layer: nn.Module) -> None:
    for weight in layer.parameters():
        nn.init.zeros_(weight)
