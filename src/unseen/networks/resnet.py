"""A plain residual network without batch normalisation, at full resolution.

After the residual blocks of EDSR (Lim et al., CVPRW 2017, Fig. 2c), without upsampling: the network that the paper
and its predecessor train most.
"""

from typing import ClassVar, Literal

from pydantic import Field
from torch import nn

from unseen.networks.base import Block, NetworkConfig
from unseen.types import Images


class ResNetConfig(NetworkConfig):
    """`skip`: the network predicts a change that is added to its input, instead of the image itself."""

    kind: Literal["ResNet"] = "ResNet"
    width: int = Field(default=32, ge=1, le=4096)
    blocks: int = Field(default=8, ge=0, le=512)
    skip: bool = True

    def build(self) -> "ResNet":
        return ResNet(self)


class ResNet(nn.Module):
    """RGB in [0, 1] to RGB, the same size; any size from 1 x 1. The output is not clipped."""

    Config: ClassVar = ResNetConfig
    first: ClassVar[str] = "head"
    last: ClassVar[str] = "tail"
    multiple: int = 1

    def __init__(self, config: ResNetConfig) -> None:
        super().__init__()
        self.config = config
        self.head = nn.Conv2d(3, config.width, 3, padding=1)
        self.body = nn.Sequential(*(Block(config.width) for _ in range(config.blocks)))
        self.tail = nn.Conv2d(config.width, 3, 3, padding=1)

    def forward(self, degraded: Images) -> Images:
        change = self.tail(self.body(self.head(degraded)))
        return degraded + change if self.config.skip else change
