"""What a content prior is: a pretrained autoencoder that is used, never trained.

Images are RGB in [0, 1] on both sides, whatever range the weights were trained in; latents have the range that their
source says they have (about unit variance where it says how to get there).
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from unseen.errors import ConfigError
from unseen.priors.source import Pretrained
from unseen.types import Images

Latents = Float[Tensor, "b latent rows columns"]
"""One column of `channels` numbers for every square of `stride` pixels a side."""


class Tap(NamedTuple):
    """Two places with features of one resolution, every `stride` pixels: the names of the modules that make them, in
    the encoder and in the decoder, and their channels."""

    stride: int
    encoder: str
    decoder: str
    encoder_channels: int
    decoder_channels: int


class Prior(Pretrained):
    """An autoencoder, frozen.

    `encoder` maps images in [0, 1], whose sides are multiples of `stride`, to latents of `channels` channels, and
    `decoder` maps those back; both are differentiable. With a `codebook` latents are discrete: each is replaced by the
    nearest of its codes before it is decoded.

    `architecture` says how it is built (`unseen.priors.blank` builds it). `first` and `last` are the encoder's modules
    after which its features begin, and that gives the latents; `taps` go from fine to coarse.
    """

    def __init__(
        self,
        architecture: str,
        encoder: nn.Module,
        decoder: nn.Module,
        *,
        stride: int,
        channels: int,
        first: str,
        last: str,
        taps: tuple[Tap, ...],
        codebook: "Codebook | None" = None,
    ) -> None:
        super().__init__(architecture)
        self.stride, self.channels, self.first, self.last, self.taps = stride, channels, first, last, taps
        self.encoder, self.decoder, self.codebook = encoder, decoder, codebook
        self.freeze()

    @property
    def discrete(self) -> bool:
        return self.codebook is not None

    def embed(self, images: Images) -> Latents:
        """What the encoder says, before any codebook. Images of any size: grown at the right and the bottom to
        multiples of `stride` by repeating the border."""
        down, right = (-side % self.stride for side in images.shape[-2:])
        return self.encoder(F.pad(images, (0, right, 0, down), mode="replicate") if down or right else images)

    def quantise(self, latents: Latents) -> Latents:
        """The nearest codes, where there is a codebook; gradients pass as if nothing had happened. Else the latents."""
        return latents if self.codebook is None else self.codebook(latents)

    def codes(self, latents: Latents) -> Int[Tensor, "b rows columns"]:
        """The numbers of the nearest codes. ConfigError where there is no codebook."""
        if self.codebook is None:
            raise ConfigError(f"The prior {self.name} has no codebook: name a VQModel for codes.")
        return self.codebook.nearest(latents)

    def encode(self, images: Images) -> Latents:
        """Latents of images of any size, quantised where there is a codebook."""
        return self.quantise(self.embed(images))

    def decode(self, latents: Latents) -> Float[Tensor, "b 3 grown_h grown_w"]:
        """Images, not clipped, of `stride` times as many pixels a side. Latents are quantised first where there is a
        codebook: those that are already do not change."""
        return self.decoder(self.quantise(latents))

    def reconstruct(self, images: Images) -> Images:
        """Encoded and decoded: the same size, not clipped. What is lost is what the prior does not know."""
        height, width = images.shape[-2:]
        return self.decode(self.encode(images))[..., :height, :width]


class Codebook(nn.Module):
    """`weight` holds the codes, one a row (VQ-VAE: van den Oord et al., NeurIPS 2017)."""

    def __init__(self, codes: int, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(codes, width))

    def nearest(self, latents: Latents) -> Int[Tensor, "b rows columns"]:
        """By Euclidean distance."""
        batch, width, rows, columns = latents.shape
        found = [  # image by image: the table of distances is large
            torch.cdist(one.reshape(width, -1).T.float(), self.weight).argmin(1) for one in latents.detach()
        ]
        return torch.stack(found).reshape(batch, rows, columns)

    def forward(self, latents: Latents) -> Latents:
        codes = F.embedding(self.nearest(latents), self.weight).permute(0, 3, 1, 2).to(latents.dtype)
        return latents + (codes - latents).detach()  # the straight-through estimator of that paper's section 3.2
