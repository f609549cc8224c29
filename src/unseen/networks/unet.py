"""A UNet of residual blocks (Ronneberger et al., MICCAI 2015; residual blocks as in `base.py`)."""

from typing import ClassVar, Literal, cast

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

    @torch.no_grad()
    def grow(self, smaller: nn.Module) -> bool:
        """Take up the weights of a trained UNet of fewer levels or blocks, and at first do exactly what it does (after
        Chen, Goodfellow and Shlens, Net2Net, ICLR 2016): what is new inside is not listened to yet, and new blocks add
        nothing. False, and nothing is changed, where `smaller` is none of the same width and output, or is larger.
        """
        if not isinstance(smaller, UNet):
            return False
        new, old = self.config, smaller.config
        fits = (new.width, new.skip) == (old.width, old.skip) and new.levels >= old.levels and new.blocks >= old.blocks
        if not fits:
            return False

        def take(stage: nn.Module, trained: nn.Module) -> None:
            for name in stage.load_state_dict(trained.state_dict(), strict=False).missing_keys:  # those of new blocks
                if ".second." in name:
                    stage.get_parameter(name).zero_()

        take(self.head, smaller.head)
        take(self.tail, smaller.tail)
        for level in range(old.levels):  # counted from full resolution, and on the way up from there too
            take(self.encoders[level], smaller.encoders[level])
            take(self.down[level], smaller.down[level])
            take(self.up[-1 - level], smaller.up[-1 - level])
            take(self.merge[-1 - level], smaller.merge[-1 - level])
            take(self.decoders[-1 - level], smaller.decoders[-1 - level])
        if new.levels == old.levels:
            take(self.middle, smaller.middle)
            return True
        level = old.levels  # what was in the middle is on the way down now, and passed on alone
        take(self.encoders[level], smaller.middle)
        merge, decode = cast(nn.Conv2d, self.merge[-1 - level]), cast(nn.Sequential, self.decoders[-1 - level])
        width = merge.out_channels
        merge.weight.copy_(torch.eye(width, 2 * width).roll(width, 1)[..., None, None])
        cast(torch.Tensor, merge.bias).zero_()
        for name, weight in decode.named_parameters():
            if ".second." in name:
                weight.zero_()
        return True
