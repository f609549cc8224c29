"""Networks: one architecture a file, its configuration beside it. Adding one is its file and its entry here.

`Refined` is none of `ALL`: it holds any of them, and lets a diffusion model draw what that gives once more.
"""

from typing import TYPE_CHECKING

from torch import nn

from unseen.networks.base import NetworkConfig
from unseen.networks.guided import Guided, GuidedConfig
from unseen.networks.nafnet import NAFNet, NAFNetConfig
from unseen.networks.padding import pad_to_multiple
from unseen.networks.prenet import PReNet, PReNetConfig
from unseen.networks.refined import Refined, RefinedConfig
from unseen.networks.resnet import ResNet, ResNetConfig
from unseen.networks.swinir import SwinIR, SwinIRConfig
from unseen.networks.unet import UNet, UNetConfig
from unseen.ranges import one_of
from unseen.seeding import seeded

ALL = (ResNet, UNet, PReNet, SwinIR, NAFNet, Guided)

if TYPE_CHECKING:
    AnyNetworkConfig = NetworkConfig
else:
    AnyNetworkConfig = one_of((*(network.Config for network in ALL), RefinedConfig))
    RefinedConfig.model_rebuild(_types_namespace={"AnyNetworkConfig": AnyNetworkConfig})


def build(config: NetworkConfig, seed: int) -> nn.Module:
    """A network with fresh weights that depend on `seed` alone."""
    with seeded(seed, "weights"):
        return config.build()


__all__ = [
    "ALL",
    "AnyNetworkConfig",
    "Guided",
    "GuidedConfig",
    "NAFNet",
    "NAFNetConfig",
    "NetworkConfig",
    "PReNet",
    "PReNetConfig",
    "Refined",
    "RefinedConfig",
    "ResNet",
    "ResNetConfig",
    "SwinIR",
    "SwinIRConfig",
    "UNet",
    "UNetConfig",
    "build",
    "pad_to_multiple",
]
