"""SwinIR, a residual network of windowed self-attention, at full resolution.

Liang, Cao, Sun, Zhang, Van Gool, Timofte, "SwinIR: Image Restoration Using Swin Transformer", ICCVW 2021 (arXiv
2108.10257), on the blocks of Liu et al., "Swin Transformer", ICCV 2021. This is the network for images that keep their
size: denoising, JPEG, deraining. The parameters have the names of the published weights, which therefore load as they
are. Stochastic depth, with which those were trained, has no parameters and is left out.

Letters: `b` images, `h` and `w` sides in pixels (a token is a pixel), `f` channels of a token.
"""

from collections import OrderedDict
from functools import lru_cache
from math import isqrt
from typing import Annotated, ClassVar, Literal, Self

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from pydantic import Field, model_validator
from torch import Tensor, nn

from unseen.networks.base import NetworkConfig, count_under
from unseen.networks.padding import pad_to_multiple
from unseen.seeding import drawn, generator
from unseen.types import Images

MEAN = (0.4488, 0.4371, 0.4040)
"""Mean colour (sRGB-encoded) of DIV2K, as published: it is taken off before the first convolution."""

PARTS = {"conv_first", "patch_embed", "layers", "norm", "conv_after_body", "conv_last"}
TABLE = "attn.relative_position_bias_table"

Tokens = Float[Tensor, "b h w f"]


class SwinIRConfig(NetworkConfig):
    """`depths`: blocks of each layer, every second shifted by half a window; `heads`: attention heads of each layer.

    `window`: side in pixels. `mlp_ratio`: hidden over outer channels. `convolution`: that at the end of each layer, one
    ("1conv") or three through a quarter of the channels ("3conv"). `skip`: the network predicts a change that is added
    to its input, instead of the image itself.

    `attention_mask`: the share of tokens that each self-attention sees replaced by a learned one, in training and
    afterwards alike (Chen et al., "Masked Image Training for Generalizable Deep Image Denoising", CVPR 2023).
    """

    kind: Literal["SwinIR"] = "SwinIR"
    width: int = Field(default=48, ge=4, le=4096)
    depths: tuple[Annotated[int, Field(ge=1, le=64)], ...] = Field(default=(4, 4), min_length=1, max_length=64)
    heads: tuple[Annotated[int, Field(ge=1, le=256)], ...] = Field(default=(4, 4), min_length=1, max_length=64)
    window: int = Field(default=8, ge=2, le=64)
    mlp_ratio: float = Field(default=2, gt=0, le=16)
    convolution: Literal["1conv", "3conv"] = "1conv"
    skip: bool = True
    attention_mask: float = Field(default=0, ge=0, lt=1)

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if len(self.depths) != len(self.heads):
            raise ValueError(
                f"depths has {len(self.depths)} layers and heads {len(self.heads)}: give one number for each layer"
            )
        uneven = [heads for heads in self.heads if self.width % heads]
        if uneven:
            raise ValueError(
                f"width {self.width} cannot be shared by {uneven[0]} heads: choose a multiple of the heads"
            )
        return self

    def build(self) -> "SwinIR":
        return SwinIR(self)


class SwinIR(nn.Module):
    """RGB in [0, 1] to RGB, the same size; any size from 1 x 1. The output is not clipped.

    Images are grown at the right and the bottom to a multiple of the window by reflection, or by repeating the border
    where they are too small to reflect, and cropped back. A block reaches a window less one pixel further at most, a
    3 x 3 convolution one.
    """

    Config: ClassVar = SwinIRConfig
    first: ClassVar[str] = "conv_first"
    last: ClassVar[str] = "conv_last"
    derived: ClassVar[tuple[str, ...]] = (".attn_mask", ".attn.relative_position_index")
    """How names end in published files that are no weights, but follow from the configuration."""

    def __init__(self, config: SwinIRConfig) -> None:
        super().__init__()
        self.config = config
        self.multiple = config.window
        width = config.width
        self.conv_first = nn.Conv2d(3, width, 3, padding=1)
        self.patch_embed = nn.Sequential(OrderedDict(norm=nn.LayerNorm(width)))
        self.layers = nn.Sequential(*(_Layer(config, number) for number in range(len(config.depths))))
        self.norm = nn.LayerNorm(width)
        self.conv_after_body = _convolution(config)
        self.conv_last = nn.Conv2d(width, 3, 3, padding=1)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)

    @classmethod
    def recognise(cls, weights: dict[str, Tensor]) -> SwinIRConfig | None:
        """The configuration of published weights, from names and shapes; None where they are another network's.

        Those that enlarge and those for grey images are others. So are windows of 7: these are the published weights
        for JPEG, whose numbers run up to an 8-bit image's peak, which weights do not say.
        """
        block = "layers.0.residual_group.blocks.0"
        table, hidden = weights.get(f"{block}.{TABLE}"), weights.get(f"{block}.mlp.fc1.weight")
        first, last = weights.get("conv_first.weight"), weights.get("conv_last.weight")
        if table is None or hidden is None or first is None or last is None:
            return None
        if any(name.partition(".")[0] not in PARTS or ".conv_block." in name for name in weights):
            return None
        window = (isqrt(len(table)) + 1) // 2
        if first.shape[1] != 3 or len(last) != 3 or window == 7:
            return None
        groups = [f"layers.{number}.residual_group.blocks." for number in range(count_under("layers.", weights))]
        return SwinIRConfig(
            width=len(first),
            depths=tuple(count_under(group, weights) for group in groups),
            heads=tuple(weights.get(f"{group}0.{TABLE}", table).shape[1] for group in groups),
            window=window,
            mlp_ratio=len(hidden) / max(len(first), 1),
            convolution="1conv" if "conv_after_body.weight" in weights else "3conv",
        )

    @property
    def random(self) -> bool:
        """Whether it draws while it trains (`unseen.seeding.drawn`)."""
        return self.config.attention_mask > 0

    def forward(self, degraded: Images) -> Images:
        height, width = degraded.shape[-2:]
        mean = degraded.new_tensor(MEAN).view(3, 1, 1)
        shallow = self.conv_first(pad_to_multiple(degraded, self.multiple, mirror=True) - mean)
        tokens = self.patch_embed(shallow.permute(0, 2, 3, 1))
        deep = self.norm(self.layers(tokens)).permute(0, 3, 1, 2)
        change = self.conv_last(self.conv_after_body(deep) + shallow)[..., :height, :width]
        return degraded + change if self.config.skip else change


class _Layer(nn.Module):
    """Blocks, a convolution and a way around both: a residual Swin transformer block of the paper."""

    def __init__(self, config: SwinIRConfig, number: int) -> None:
        super().__init__()
        blocks = nn.Sequential(*(_Block(config, number, block) for block in range(config.depths[number])))
        self.residual_group = nn.Sequential(OrderedDict(blocks=blocks))
        self.conv = _convolution(config)

    def forward(self, tokens: Tokens) -> Tokens:
        return tokens + self.conv(self.residual_group(tokens).permute(0, 3, 1, 2)).permute(0, 2, 3, 1)


class _Block(nn.Module):
    """x + attention(norm(x)), then x + mlp(norm(x))."""

    def __init__(self, config: SwinIRConfig, layer: int, number: int) -> None:
        super().__init__()
        hidden = round(config.width * config.mlp_ratio)
        self.norm1 = nn.LayerNorm(config.width)
        self.attn = _Attention(config, layer, number)
        self.norm2 = nn.LayerNorm(config.width)
        widen, narrow = nn.Linear(config.width, hidden), nn.Linear(hidden, config.width)
        self.mlp = nn.Sequential(OrderedDict(fc1=widen, act=nn.GELU(), fc2=narrow))

    def forward(self, tokens: Tokens) -> Tokens:
        tokens = tokens + self.attn(self.norm1(tokens))
        return tokens + self.mlp(self.norm2(tokens))


class _Attention(nn.Module):
    """Self-attention within windows, with a learned bias for each distance of two tokens; odd blocks shift the windows.

    With `attention_mask`, tokens that enter are replaced by `mask_token`; the way around attention keeps them. Which:
    in training each with that probability, drawn for each sample (`unseen.seeding.drawn`); afterwards a pattern that is
    fixed for the block and the size, so that an image has one result. Our reading: that the tokens are replaced before
    queries, keys and values are made, that each attention has its own learned token, and that the pattern is fixed.
    """

    def __init__(self, config: SwinIRConfig, layer: int, number: int) -> None:
        super().__init__()
        self.heads, self.window, self.share = config.heads[layer], config.window, config.attention_mask
        self.shift = config.window // 2 if number % 2 else 0
        self.place = layer, number
        table = torch.empty((2 * config.window - 1) ** 2, self.heads)
        self.relative_position_bias_table = nn.Parameter(nn.init.trunc_normal_(table, std=0.02))
        self.qkv = nn.Linear(config.width, 3 * config.width)
        self.proj = nn.Linear(config.width, config.width)
        self.mask_token = nn.Parameter(torch.zeros(config.width)) if self.share else None

    def forward(self, tokens: Tokens) -> Tokens:
        if self.mask_token is not None:
            tokens = torch.where(self._masked(tokens), self.mask_token.to(tokens.dtype), tokens)
        if self.shift:
            tokens = tokens.roll((-self.shift, -self.shift), (1, 2))
        batch, height, width, channels = tokens.shape
        side, inside = self.window, self.window**2
        grid = batch, height // side, width // side
        windows = tokens.view(batch, height // side, side, width // side, side, channels).transpose(2, 3)
        parts = self.qkv(windows.reshape(batch, -1, inside, channels)).unflatten(-1, (3, self.heads, -1))
        parts = parts.permute(3, 0, 1, 4, 2, 5)  # (3, b, windows, heads, inside, channels of a head)

        bias = self.relative_position_bias_table[_distances(side, tokens.device)].permute(2, 0, 1)[None]
        if self.shift:  # the bias differs from window to window, and is the same for all images
            bias = bias.masked_fill(_apart(height, width, side, self.shift, tokens.device)[:, None], -torch.inf)
            bias, parts = bias.flatten(0, 1)[None], parts.flatten(2, 3)
        else:
            parts = parts.flatten(1, 2)
        query, key, value = parts
        seen = attention(query, key, value, bias.to(query.dtype))

        seen = seen.reshape(batch, -1, self.heads, inside, channels // self.heads).transpose(2, 3).flatten(3)
        tokens = (
            self.proj(seen).view(*grid, side, side, channels).transpose(2, 3).reshape(batch, height, width, channels)
        )
        return tokens.roll((self.shift, self.shift), (1, 2)) if self.shift else tokens

    def _masked(self, tokens: Tokens) -> Bool[Tensor, "#b h w 1"]:
        if self.training:
            return (drawn(*tokens.shape[:3]) < self.share)[..., None].to(tokens.device)
        return _pattern(self.share, self.place, tokens.shape[1], tokens.shape[2], tokens.device)


def attention(query: Tensor, key: Tensor, value: Tensor, bias: Tensor) -> Tensor:
    """softmax(query key^T / sqrt(channels) + bias) value, over the last two axes. On a CPU, and where gradients are
    taken, written out: torch's own then has no fused kernel for a bias that learns, and also looks for rows without
    any entry, of which there are none here."""
    if query.device.type == "cpu" and torch.is_grad_enabled() and bias.requires_grad:
        return (query * query.shape[-1] ** -0.5 @ key.mT + bias).softmax(-1) @ value
    return F.scaled_dot_product_attention(query, key, value, attn_mask=bias)


def _convolution(config: SwinIRConfig) -> nn.Module:
    width = config.width
    if config.convolution == "1conv":
        return nn.Conv2d(width, width, 3, padding=1)
    return nn.Sequential(
        nn.Conv2d(width, width // 4, 3, padding=1),
        nn.LeakyReLU(0.2, inplace=True),
        nn.Conv2d(width // 4, width // 4, 1),
        nn.LeakyReLU(0.2, inplace=True),
        nn.Conv2d(width // 4, width, 3, padding=1),
    )


# What depends on sizes alone is kept. It must not be made as inference's, for training would then not accept it.


@lru_cache(maxsize=16)
@torch.inference_mode(False)
def _distances(side: int, device: torch.device) -> Int[Tensor, "inside inside"]:
    """For each two tokens of a window the row of the bias table for the distance of the first from the second."""
    row, column = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    row, column = row.flatten(), column.flatten()
    down, right = row[:, None] - row + side - 1, column[:, None] - column + side - 1
    return (down * (2 * side - 1) + right).to(device)


@lru_cache(maxsize=2)
@torch.inference_mode(False)
def _apart(
    height: int, width: int, side: int, shift: int, device: torch.device
) -> Bool[Tensor, "windows inside inside"]:
    """Which two tokens of a shifted window are no neighbours: the shift has brought them together round the border."""

    def region(length: int) -> Int[Tensor, "length"]:
        place = torch.arange(length)
        return (place >= length - side).int() + (place >= length - shift).int()

    regions = 3 * region(height)[:, None] + region(width)
    windows = regions.view(height // side, side, width // side, side).transpose(1, 2).reshape(-1, side * side)
    return (windows[:, :, None] != windows[:, None]).to(device)


@lru_cache(maxsize=128)
@torch.inference_mode(False)
def _pattern(
    share: float, place: tuple[int, int], height: int, width: int, device: torch.device
) -> Bool[Tensor, "1 h w 1"]:
    """The tokens that are masked after training, for the block at `place` (layer, block) and a size."""
    drawn = torch.rand(height, width, generator=generator(0, "attention mask", *place, height, width))
    return (drawn < share)[None, :, :, None].to(device)
