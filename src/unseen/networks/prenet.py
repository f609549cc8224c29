"""PReNet, the progressive recurrent network for deraining.

Ren, Zuo, Hu, Zhu, Meng, "Progressive Image Deraining Networks: A Better and Simpler Baseline", CVPR 2019. One small
network is unrolled over stages with the same weights; a convolutional LSTM carries what it has seen from stage to
stage. The parameters have the names of the published weights, which therefore load as they are.
"""

from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from unseen.networks.base import NetworkConfig
from unseen.types import Images

State = Float[Tensor, "b f h w"]


class PReNetConfig(NetworkConfig):
    """`stages`: how often the network is applied; `blocks`: residual blocks of each stage, of two convolutions.

    `skip`: each stage predicts a change that is added to the degraded image, instead of the image itself.
    """

    kind: Literal["PReNet"] = "PReNet"
    width: int = Field(default=32, ge=1, le=1024)
    stages: int = Field(default=6, ge=1, le=64)
    blocks: int = Field(default=5, ge=0, le=64)
    skip: bool = True

    def build(self) -> "PReNet":
        return PReNet(self)


class PReNet(nn.Module):
    """RGB in [0, 1] to RGB, the same size; any size from 1 x 1. The output is the last stage's, not clipped.

    Each stage reaches 3 + 2 `blocks` pixels further: 78 in all for the published weights.
    """

    Config: ClassVar = PReNetConfig
    first: ClassVar[str] = "conv0"
    last: ClassVar[str] = "conv"
    multiple: int = 1

    def __init__(self, config: PReNetConfig) -> None:
        super().__init__()
        self.config = config
        width = config.width

        def convolution(inputs: int, outputs: int) -> nn.Conv2d:
            return nn.Conv2d(inputs, outputs, 3, padding=1)

        self.conv0 = nn.Sequential(convolution(6, width), nn.ReLU(inplace=True))
        for name in self._block_names():
            layers = (convolution(width, width), nn.ReLU(inplace=True), convolution(width, width))
            self.add_module(name, nn.Sequential(*layers, nn.ReLU(inplace=True)))
        # The LSTM's input and forget gates, candidate and output gate.
        self.conv_i = nn.Sequential(convolution(2 * width, width))
        self.conv_f = nn.Sequential(convolution(2 * width, width))
        self.conv_g = nn.Sequential(convolution(2 * width, width))
        self.conv_o = nn.Sequential(convolution(2 * width, width))
        self.conv = nn.Sequential(convolution(width, 3))

    @classmethod
    def recognise(cls, weights: dict[str, Tensor]) -> PReNetConfig | None:
        """The configuration of published weights, from their names; None where they are another network's.

        The number of stages cannot be seen in weights that all stages share: it is the paper's. A single block is that
        of PReNet_r, which is applied several times in each stage: another network.
        """
        blocks = sum(name.startswith("res_conv") and name.endswith(".0.weight") for name in weights)
        names = {"conv0.0.weight", "conv_i.0.weight", "conv_f.0.weight", "conv_g.0.weight", "conv.0.weight"}
        if blocks < 2 or not names <= weights.keys():
            return None
        return PReNetConfig(width=len(weights["conv0.0.weight"]), blocks=blocks)

    def _block_names(self) -> list[str]:
        return [f"res_conv{number}" for number in range(1, self.config.blocks + 1)]

    def forward(self, degraded: Images) -> Images:
        blocks = [self.get_submodule(name) for name in self._block_names()]
        restored, hidden, cell = degraded, None, None
        for _ in range(self.config.stages):
            hidden, cell = self._remember(self.conv0(torch.cat((degraded, restored), 1)), hidden, cell)
            features = hidden
            for block in blocks:
                features = F.relu_(features + block(features))
            change = self.conv(features)
            restored = degraded + change if self.config.skip else change
        if (
            self.training and self.config.stages == 1
        ):  # nothing is forgotten, and every weight gets its gradient all the same
            restored = restored + 0 * torch.stack([weight.sum() for weight in self.conv_f.parameters()]).sum()
        return restored

    def _remember(self, seen: State, hidden: State | None, cell: State | None) -> tuple[State, State]:
        """The LSTM's next hidden state and cell. At the first stage (None) both are zero, and their share of the
        sums is left out: 5 % of all the work."""
        inputs = seen if hidden is None else torch.cat((seen, hidden), 1)

        def gate(convolution: nn.Sequential) -> State:
            weight, bias = convolution.parameters()
            return F.conv2d(inputs, weight[:, : inputs.shape[1]], bias, padding=1)

        news = gate(self.conv_i).sigmoid_() * gate(self.conv_g).tanh_()
        cell = news if cell is None else torch.addcmul(news, gate(self.conv_f).sigmoid_(), cell)
        return gate(self.conv_o).sigmoid_() * cell.tanh(), cell
