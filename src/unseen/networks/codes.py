"""Which code of a codebook a clean image would have, told from the latents of a degraded one.

After Zhou et al., "Towards Robust Blind Face Restoration with Codebook Lookup Transformer" (NeurIPS 2022), section 3.2:
a transformer between an encoder and a frozen codebook, trained by cross entropy towards the codes of the clean image.
Ours begins as the codebook's own choice of the nearest code and learns where that is wrong; and it takes any size,
because places are told by depth-wise convolutions (Chu et al., "Conditional Positional Encodings for Vision
Transformers", arXiv 2102.10882) instead of a table.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from pydantic import Field, model_validator
from torch import Tensor, nn

from unseen.priors import Latents
from unseen.ranges import Frozen

Scores = Float[Tensor, "b codes rows columns"]
Tokens = Float[Tensor, "b tokens width"]


class CodesConfig(Frozen):
    """`layers` of a transformer of `width` channels and `heads`; the `weight` of the cross entropy in the loss (0.5 in
    that paper)."""

    width: int = Field(default=128, ge=1, le=4096)
    layers: int = Field(default=4, ge=1, le=48)
    heads: int = Field(default=4, ge=1, le=64)
    weight: float = Field(default=0.5, gt=0)

    @model_validator(mode="after")
    def _divides(self) -> "CodesConfig":
        if self.width % self.heads:
            raise ValueError(f"width is {self.width} and heads {self.heads}: make one a multiple of the other")
        return self


class Block(nn.Module):
    """A transformer's layer, normalised first (Xiong et al., ICML 2020): every token attends to every other, then
    passes through two layers. The matrix of attention is never laid out whole, as `nn.TransformerEncoderLayer` lays it
    out on a processor: memory grows with the tokens, not with their square."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.asked = nn.Linear(width, 3 * width)
        self.answered = nn.Linear(width, width)
        self.through = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))

    def forward(self, tokens: Tokens) -> Tokens:
        asked = self.asked(self.norm1(tokens)).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        found = F.scaled_dot_product_attention(*asked.unbind(0))
        tokens = tokens + self.answered(found.transpose(1, 2).flatten(2))
        return tokens + self.through(self.norm2(tokens))


class Codes(nn.Module):
    """Latents of `channels` to a score for each of `codes` at each place: the log-odds of being the clean image's code.

    What the transformer adds starts at 0, so that the best score is the nearest code's.
    """

    def __init__(self, config: CodesConfig, codes: int, channels: int) -> None:
        super().__init__()
        self.enter = nn.Conv2d(channels, config.width, 1)
        self.places = nn.ModuleList(
            nn.Conv2d(config.width, config.width, 3, padding=1, groups=config.width) for _ in range(config.layers)
        )
        self.layers = nn.ModuleList(Block(config.width, config.heads) for _ in range(config.layers))
        self.leave = nn.Conv2d(config.width, codes, 1)
        nn.init.zeros_(self.leave.weight)
        nn.init.zeros_(self.leave.bias)  # type: ignore[arg-type]

    def forward(self, latents: Latents, codebook: Float[Tensor, "codes channels"]) -> Scores:
        features = self.enter(latents)
        for place, layer in zip(self.places, self.layers, strict=True):
            features = features + place(features)
            tokens = layer(features.flatten(2).transpose(1, 2))
            features = tokens.transpose(1, 2).reshape(features.shape)
        return self.leave(features) - _distances(latents, codebook)


def chosen(scores: Scores, codebook: Float[Tensor, "codes channels"], training: bool) -> Latents:
    """The codes of the best scores. In training the gradient is that of their mean under the softmax of the scores."""
    best = F.embedding(scores.argmax(1), codebook).permute(0, 3, 1, 2).to(scores.dtype)
    if not training:
        return best
    mean = torch.einsum("bkhw,kc->bchw", scores.softmax(1), codebook.to(scores.dtype))
    return best + mean - mean.detach()


def _distances(latents: Latents, codebook: Float[Tensor, "codes channels"]) -> Scores:
    """Squared distances to all codes, in units of the codebook's own variance."""
    with torch.autocast(latents.device.type, enabled=False):
        latents, codebook = latents.float(), codebook.float()
        square = latents.square().sum(1, keepdim=True) + codebook.square().sum(1)[None, :, None, None]
        cross = torch.einsum("bchw,kc->bkhw", latents, codebook)
        return (square - 2 * cross) / codebook.var(0, unbiased=False).sum().clamp_min(1e-12)
