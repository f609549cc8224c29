"""A UNet of residual blocks (Ronneberger et al., MICCAI 2015; residual blocks as in `base.py`)."""

from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import nn

from unseen.networks.base import Block, NetworkConfig
from unseen.networks.padding import pad_to_multiple
from unseen.types import Images


class UNetConfig(NetworkConfig):
    """`width` channels at full resolution, doubled at each of `levels` halvings; `blocks` per resolution and way."""

    kind: Literal["UNet"] = "UNet"
    width: int = Field(default=24, ge=1, le=1024)
    levels: int = Field(default=3, ge=1, le=7)
    blocks: int = Field(default=1, ge=1, le=64)
    skip: bool = True

    def build(self) -> "UNet":
        return UNet(self)


class UNet(nn.Module):
    """RGB in [0, 1] to RGB, the same size; any size from 1 x 1. The output is not clipped.

    Halves by strided convolutions, doubles by pixel shuffling (Shi et al., CVPR 2016), joins the two ways by
    concatenation and a 1 x 1 convolution.
    """

    Config: ClassVar = UNetConfig
    first: ClassVar[str] = "head"
    last: ClassVar[str] = "tail"

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        self.config = config
        self.multiple = 2**config.levels
        widths = [config.width * 2**level for level in range(config.levels + 1)]

        def stage(width: int) -> nn.Sequential:
            return nn.Sequential(*(Block(width) for _ in range(config.blocks)))

        self.head = nn.Conv2d(3, config.width, 3, padding=1)
        self.encoders = nn.ModuleList(stage(width) for width in widths[:-1])
        self.down = nn.ModuleList(nn.Conv2d(w, 2 * w, 2, stride=2) for w in widths[:-1])
        self.middle = stage(widths[-1])
        self.up = nn.ModuleList(
            nn.Sequential(nn.Conv2d(2 * w, 4 * w, 1), nn.PixelShuffle(2)) for w in reversed(widths[:-1])
        )
        self.merge = nn.ModuleList(nn.Conv2d(2 * w, w, 1) for w in reversed(widths[:-1]))
        self.decoders = nn.ModuleList(stage(width) for width in reversed(widths[:-1]))
        self.tail = nn.Conv2d(config.width, 3, 3, padding=1)

    def forward(self, degraded: Images) -> Images:
        height, width = degraded.shape[-2:]
        features = self.head(pad_to_multiple(degraded, self.multiple))
        passed = []
        for encode, down in zip(self.encoders, self.down, strict=True):
            features = encode(features)
            passed.append(features)
            features = down(features)
        features = self.middle(features)
        for up, merge, decode in zip(self.up, self.merge, self.decoders, strict=True):
            features = decode(merge(torch.cat((up(features), passed.pop()), 1)))
        change = self.tail(features)[..., :height, :width]
        return degraded + change if self.config.skip else change
