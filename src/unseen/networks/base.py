"""What all networks share, and what several are made of."""

from abc import abstractmethod

from jaxtyping import Float
from torch import Tensor, nn

from unseen.ranges import Frozen


class NetworkConfig(Frozen):
    """Base of a network's configuration, which has a `kind`: the network's class name."""

    @abstractmethod
    def build(self) -> nn.Module:
        """The network, with fresh weights from torch's global state of randomness."""


class Block(nn.Module):
    """x + conv(relu(conv(x)))."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(width, width, 3, padding=1)
        self.relu = nn.ReLU(inplace=True)
        self.second = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, features: Float[Tensor, "b f h w"]) -> Float[Tensor, "b f h w"]:
        return features + self.second(self.relu(self.first(features)))
