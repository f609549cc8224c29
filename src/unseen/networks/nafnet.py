"""NAFNet, a UNet of blocks without activation functions: products of halves stand in for them.

Chen, Chu, Zhang, Sun, "Simple Baselines for Image Restoration", ECCV 2022 (arXiv 2204.04676). The parameters have the
names of the published weights, which therefore load as they are.
"""

from typing import Annotated, ClassVar, Literal, Self

import torch
from jaxtyping import Float
from pydantic import Field, model_validator
from torch import Tensor, nn

from unseen.networks.base import NetworkConfig, count_under
from unseen.networks.padding import pad_to_multiple
from unseen.types import Images

PARTS = {"intro", "encoders", "downs", "middle_blks", "ups", "decoders", "ending"}

Features = Float[Tensor, "b f h w"]
Blocks = tuple[Annotated[int, Field(ge=0, le=64)], ...]


class NAFNetConfig(NetworkConfig):
    """`width` channels at full resolution, doubled at each halving; as many halvings as `encoders` has numbers.

    `encoders` and `decoders`: blocks at each resolution, the order in which they are passed; `middle`: blocks at the
    lowest one. `skip`: the network predicts a change that is added to its input, instead of the image itself.
    """

    kind: Literal["NAFNet"] = "NAFNet"
    width: int = Field(default=24, ge=1, le=1024)
    encoders: Blocks = Field(default=(1, 1, 1), min_length=1, max_length=7)
    middle: int = Field(default=1, ge=0, le=64)
    decoders: Blocks = Field(default=(1, 1, 1), min_length=1, max_length=7)
    skip: bool = True

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if len(self.encoders) != len(self.decoders):
            raise ValueError(
                f"encoders has {len(self.encoders)} resolutions and decoders {len(self.decoders)}: "
                "what is halved must be doubled as often"
            )
        return self

    def build(self) -> "NAFNet":
        return NAFNet(self)


class NAFNet(nn.Module):
    """RGB in [0, 1] to RGB, the same size; any size from 1 x 1. The output is not clipped.

    Its channel attention averages over the whole image: every pixel reaches every other.
    """

    Config: ClassVar = NAFNetConfig
    first: ClassVar[str] = "intro"
    last: ClassVar[str] = "ending"

    def __init__(self, config: NAFNetConfig) -> None:
        super().__init__()
        self.config = config
        self.multiple = 2 ** len(config.encoders)
        widths = [config.width * 2**level for level in range(len(config.encoders) + 1)]
        raised = widths[-2::-1]

        def stage(width: int, blocks: int) -> nn.Sequential:
            return nn.Sequential(*(_Block(width) for _ in range(blocks)))

        self.intro = nn.Conv2d(3, config.width, 3, padding=1)
        self.encoders = nn.ModuleList(map(stage, widths[:-1], config.encoders))
        self.downs = nn.ModuleList(nn.Conv2d(width, 2 * width, 2, stride=2) for width in widths[:-1])
        self.middle_blks = stage(widths[-1], config.middle)
        self.ups = nn.ModuleList(
            nn.Sequential(nn.Conv2d(2 * width, 4 * width, 1, bias=False), nn.PixelShuffle(2)) for width in raised
        )
        self.decoders = nn.ModuleList(map(stage, raised, config.decoders))
        self.ending = nn.Conv2d(config.width, 3, 3, padding=1)

    @classmethod
    def recognise(cls, weights: dict[str, Tensor]) -> NAFNetConfig | None:
        """The configuration of published weights, from names and shapes; None where they are another network's."""
        intro, ending = weights.get("intro.weight"), weights.get("ending.weight")
        if intro is None or ending is None or intro.shape[1] != 3 or len(ending) != 3:
            return None
        if any(name.partition(".")[0] not in PARTS for name in weights):
            return None
        if not any(name.endswith(".sca.1.weight") for name in weights):
            return None
        levels = range(count_under("downs.", weights))
        return NAFNetConfig(
            width=len(intro),
            encoders=tuple(count_under(f"encoders.{level}.", weights) for level in levels),
            middle=count_under("middle_blks.", weights),
            decoders=tuple(count_under(f"decoders.{level}.", weights) for level in levels),
        )

    def forward(self, degraded: Images) -> Images:
        height, width = degraded.shape[-2:]
        features = self.intro(pad_to_multiple(degraded, self.multiple))
        passed = []
        for encode, down in zip(self.encoders, self.downs, strict=True):
            features = encode(features)
            passed.append(features)
            features = down(features)
        features = self.middle_blks(features)
        for up, decode in zip(self.ups, self.decoders, strict=True):
            features = decode(up(features) + passed.pop())
        change = self.ending(features)[..., :height, :width]
        return degraded + change if self.config.skip else change


class _Block(nn.Module):
    """Fig. 3d: a gated depth-wise convolution with channel attention, then a gated pair of 1 x 1 convolutions.

    What each half adds is scaled per channel by `beta` and `gamma`, which begin at 0: fresh blocks do nothing.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm1 = _ChannelNorm(width)
        self.conv1 = nn.Conv2d(width, 2 * width, 1)
        self.conv2 = nn.Conv2d(2 * width, 2 * width, 3, padding=1, groups=2 * width)
        self.sca = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(width, width, 1))
        self.conv3 = nn.Conv2d(width, width, 1)
        self.norm2 = _ChannelNorm(width)
        self.conv4 = nn.Conv2d(width, 2 * width, 1)
        self.conv5 = nn.Conv2d(width, width, 1)
        self.beta = nn.Parameter(torch.zeros(1, width, 1, 1))
        self.gamma = nn.Parameter(torch.zeros(1, width, 1, 1))

    def forward(self, features: Features) -> Features:
        gated = _gate(self.conv2(self.conv1(self.norm1(features))))
        features = features + self.beta * self.conv3(gated * self.sca(gated))
        return features + self.gamma * self.conv5(_gate(self.conv4(self.norm2(features))))


class _ChannelNorm(nn.LayerNorm):
    """Layer norm over the channels of each pixel."""

    def __init__(self, width: int) -> None:
        super().__init__(width, eps=1e-6)

    def forward(self, input: Features) -> Features:
        return super().forward(input.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


def _gate(features: Float[Tensor, "b f2 h w"]) -> Features:
    """The product of the first and the second half of the channels."""
    one, other = features.chunk(2, 1)
    return one * other
