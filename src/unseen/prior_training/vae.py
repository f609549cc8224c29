"""A small variational autoencoder (Kingma and Welling, ICLR 2014): diffusers' `AutoencoderKL`, built small."""

from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from unseen.prior_training.base import AbstractTrainee, Crops, Figures, Kind, reconstruction
from unseen.priors.diffusers import class_of
from unseen.seeding import generator, seeded
from unseen.types import Images

OFFSET = 8.0
"""What two channels of a group differ from the others by at first, either way (`pass_images`)."""

SETTLED = 16
"""Batches over which the spread of the latents is measured."""


class VAE(Kind):
    """`latent` channels come every 2^(resolutions - 1) pixels; the rest of its shape is in `Kind`.

    The loss is L1, `gradients` times the multi-scale difference of gradients over `scales` scales, and `kl` times the
    mean over latents of the divergence from the standard normal, in nats.
    """

    kind: Literal["vae"] = "vae"
    latent: int = Field(default=8, ge=1)
    gradients: float = Field(default=1.0, ge=0)
    scales: int = Field(default=3, ge=1)
    kl: float = Field(default=1e-4, ge=0)

    RECIPE: ClassVar[dict[str, Any]] = {"ema": 0.999}

    @property
    def smallest(self) -> int:
        return 2**self.scales

    def trainee(self, steps: int, seed: int) -> "VAETrainee":
        return VAETrainee(self, seed)


def autoencoder(
    name: str, config: Any, seed: int, settings: dict[str, Any]
) -> Any:  # Any: the classes of diffusers have no common type
    """A model of diffusers of these widths, with initial weights from the seed and no attention: it works on any size,
    at a cost in proportion to it."""
    count = len(config.widths)
    kind = class_of(name, f"training a small {config.kind}")
    with seeded(seed, "prior", "initial"):
        model = kind(
            in_channels=3,
            out_channels=3,
            down_block_types=("DownEncoderBlock2D",) * count,
            up_block_types=("UpDecoderBlock2D",) * count,
            block_out_channels=config.widths,
            layers_per_block=config.layers,
            norm_num_groups=config.groups,
            latent_channels=config.latent,
            mid_block_add_attention=False,
            **settings,
        )
        pass_images(model)
    return model


@torch.no_grad()
def pass_images(model: Any) -> None:
    """Initial weights under which images pass. Drawn from torch's global state.

    Residual branches begin at zero (as in Zhang, Dauphin, Ma: Fixup Initialization, ICLR 2019). The convolutions on the
    way have an orthogonal matrix at their centre and nothing around it (Xiao et al., Dynamical Isometry and a Mean
    Field Theory of CNNs, ICML 2018), those that halve one over two pixels by two. And the normalisation before the last
    convolution of the encoder, and of the decoder, which would take its brightness and contrast from an image, begins
    as hardly one: two channels of each group are raised and lowered by `OFFSET`, which then is nearly all of what their
    spread is, and lowered and raised again afterwards. The last is our own.
    """
    for name, module in model.named_modules():
        if not isinstance(module, nn.Conv2d) or module.bias is None:
            continue
        last = name.rpartition(".")[2]
        if last == "conv1":
            continue
        nn.init.zeros_(module.bias)
        nn.init.zeros_(module.weight)
        if last != "conv2":
            outputs, inputs, side, _ = module.weight.shape
            matrix = torch.empty(outputs, inputs * module.stride[0] ** 2)
            nn.init.orthogonal_(matrix)
            first = (side - 1) // 2 if module.stride[0] == 1 else 0
            reach = slice(first, first + module.stride[0])
            module.weight[:, :, reach, reach] = matrix.view(outputs, inputs, module.stride[0], module.stride[0])
    for half, before in ((model.encoder, model.encoder.mid_block), (model.decoder, model.decoder.up_blocks[-1])):
        norm = half.conv_norm_out
        many = norm.num_channels // norm.num_groups
        if many > 1:
            offset = torch.zeros(norm.num_groups, many)
            offset[:, 0], offset[:, 1] = OFFSET, -OFFSET
            before.resnets[-1].conv2.bias.copy_(offset.flatten())
            norm.weight.fill_(OFFSET * (2 / many) ** 0.5)
            norm.bias.copy_(-offset.flatten())


class VAETrainee(AbstractTrainee):
    """Latents are drawn anew in every step from `generator(seed, "prior", "latents", step)`."""

    def __init__(self, config: VAE, seed: int) -> None:
        super().__init__()
        self.config, self.seed = config, seed
        self.model: nn.Module = autoencoder("AutoencoderKL", config, seed, {"scaling_factor": 1.0})

    def loss(self, clean: Images, step: int) -> tuple[Float[Tensor, ""], Figures]:
        model: Any = self.model
        mean, spread = self.run(lambda images: model.quant_conv(model.encoder(images)), clean * 2 - 1).chunk(2, dim=1)
        spread = spread.clamp(-30, 20)  # log variance, bounded as diffusers bounds it
        rng = generator(self.seed, "prior", "latents", step)
        latents = mean + (spread / 2).exp() * torch.randn(mean.shape, generator=rng).to(mean)
        restored = self.run(lambda drawn: model.decoder(model.post_quant_conv(drawn)), latents) / 2 + 0.5
        kl = 0.5 * (mean.square() + spread.exp() - 1 - spread).mean()
        apart = reconstruction(restored, clean, self.config.gradients, self.config.scales)
        figures = {"l1": (restored - clean).abs().mean().detach(), "kl": kl.detach()}
        return apart + self.config.kl * kl, figures

    @torch.no_grad()
    def settle(self, crops: Crops) -> None:
        """Latents of the folder have mean zero and unit variance: `shift_factor` and `scaling_factor` say how."""
        model: Any = self.model
        found = [model.encode(crops(number) * 2 - 1).latent_dist.mean for number in range(SETTLED)]
        latents = torch.cat(found).cpu().double()  # not every accelerator has these
        model.register_to_config(shift_factor=float(latents.mean()), scaling_factor=float(1 / latents.std()))
