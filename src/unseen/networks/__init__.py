"""Networks: one architecture a file, its configuration beside it. Adding one is its file and its entry here."""

from typing import Annotated

from pydantic import Field
from torch import nn

from unseen.networks.padding import pad_to_multiple
from unseen.networks.resnet import ResNet, ResNetConfig
from unseen.networks.unet import UNet, UNetConfig
from unseen.seeding import seeded

ALL: tuple[type[nn.Module], ...] = (ResNet, UNet)

AnyNetworkConfig = Annotated[ResNetConfig | UNetConfig, Field(discriminator="kind")]
"""What a configuration may hold where a network is expected, told apart by `kind`."""


def build(config: ResNetConfig | UNetConfig, seed: int) -> nn.Module:
    """A network with fresh weights that depend on `seed` alone."""
    with seeded(seed, "weights"):
        return config.build()


__all__ = ["ALL", "AnyNetworkConfig", "ResNet", "ResNetConfig", "UNet", "UNetConfig", "build", "pad_to_multiple"]
