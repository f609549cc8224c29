"""Networks: one architecture a file, its configuration beside it. Adding one is its file and its entry here."""

from typing import TYPE_CHECKING

from torch import nn

from unseen.networks.base import NetworkConfig
from unseen.networks.guided import Guided, GuidedConfig
from unseen.networks.nafnet import NAFNet, NAFNetConfig
from unseen.networks.padding import pad_to_multiple
from unseen.networks.prenet import PReNet, PReNetConfig
from unseen.networks.resnet import ResNet, ResNetConfig
from unseen.networks.swinir import SwinIR, SwinIRConfig
from unseen.networks.unet import UNet, UNetConfig
from unseen.ranges import one_of
from unseen.seeding import seeded

ALL = (ResNet, UNet, PReNet, SwinIR, NAFNet, Guided)

if TYPE_CHECKING:
    AnyNetworkConfig = NetworkConfig
else:
    AnyNetworkConfig = one_of(tuple(network.Config for network in ALL))


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
    "ResNet",
    "ResNetConfig",
    "SwinIR",
    "SwinIRConfig",
    "UNet",
    "UNetConfig",
    "build",
    "pad_to_multiple",
]
