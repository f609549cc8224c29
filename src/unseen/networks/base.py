"""What all networks share, and what several are made of.

A network is a module from degraded to restored images of the same size, with

- `Config`: the class of its configuration, whose `kind` is the network's class name;
- `config`: the configuration that it was built from;
- `multiple`: the pixels to a multiple of which it grows images itself;
- `first` and `last`: the names of the module after which its features begin, and of the one that makes its output.
  What is done to features from outside (masks, dropout) is hooked in there;
- `random`, where it draws while it trains, by `unseen.seeding.drawn`: whether it does so;
- `dials`, where there are any: the names of those of its properties that are weights to turn after training;
- `frozen(device)`, where it works with parts that it does not hold (a prior's): these, by name;
- `grow(smaller)`, where it can go on from a smaller network of its kind: takes up its weights so as to do at first what
  that does, and says whether it could;
- `recognise(weights)`, where there are published weights: the configuration that their names and shapes tell, or None;
- `derived`, where published files hold more than weights: how the names of the rest end.
"""

from abc import abstractmethod
from collections.abc import Iterable

from jaxtyping import Float
from torch import Tensor, nn

from unseen.networks.abstention import Abstention
from unseen.ranges import Frozen


class NetworkConfig(Frozen):
    """Base of a network's configuration, which has a `kind`: the network's class name.

    `abstain`: which images are left as they are where the network is used (None: none). It plays no part in training.
    """

    abstain: Abstention | None = None

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


def count_under(prefix: str, names: Iterable[str]) -> int:
    """How many modules lie directly under `prefix`: 2 under "body." for body.0.weight, body.0.bias and body.1.bias."""
    return len({name.removeprefix(prefix).partition(".")[0] for name in names if name.startswith(prefix)})
