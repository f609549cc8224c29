"""Priors in diffusers' folder format: `AutoencoderKL` and `VQModel`. Needs the extra `priors`.

Diffusers takes images in [-1, 1]. The latent of an `AutoencoderKL` is the mean of what its encoder says, less
`shift_factor`, times `scaling_factor` (about unit variance); of a `VQModel` it is left as its codebook has it.
"""

import json
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from unseen.errors import CheckpointError
from unseen.hub import missing_extra
from unseen.priors.base import Codebook, Prior, Tap
from unseen.priors.files import EXTRA

if TYPE_CHECKING:
    from unseen.types import Images

CLASSES = ("AutoencoderKL", "VQModel")


class Encoder(nn.Module):
    """From images in [0, 1]. `project` is the 1 x 1 convolution after the encoder, where there is one."""

    def __init__(self, body: nn.Module, project: nn.Module | None, channels: int, scale: float, shift: float) -> None:
        super().__init__()
        self.body, self.project = body, project
        self.channels, self.scale, self.shift = channels, scale, shift

    def forward(self, images: "Images") -> Tensor:
        features = self.body(images * 2 - 1)
        if self.project is not None:
            features = self.project(features)
        return (features[:, : self.channels] - self.shift) * self.scale


class Decoder(nn.Module):
    """To images in [0, 1]. With `spatial` its normalisations look at the latents (MoVQ)."""

    def __init__(self, body: nn.Module, project: nn.Module | None, scale: float, shift: float, spatial: bool) -> None:
        super().__init__()
        self.body, self.project = body, project
        self.scale, self.shift, self.spatial = scale, shift, spatial

    def forward(self, latents: Tensor) -> Tensor:
        latents = latents / self.scale + self.shift
        features = latents if self.project is None else self.project(latents)
        return self.body(features, latents if self.spatial else None) / 2 + 0.5


def class_of(name: str, source: object) -> Any:
    """A class of diffusers by name. Any: they have no common type. ConfigError where it is not installed; `source` is
    what needs it."""
    try:
        with warnings.catch_warnings(action="ignore"):  # of what it would rather have beside it
            import diffusers

            return getattr(diffusers, name)
    except ImportError as error:
        raise missing_extra(source, EXTRA) from error


LARGEST = {
    "layers_per_block": 16, "block_out_channels": 4096, "latent_channels": 1024, "vq_embed_dim": 1024,
    "num_vq_embeddings": 2**20, "norm_num_groups": 4096,
}  # fmt: skip
"""The largest settings of which an architecture is built."""

LONGEST = 12
"""How many levels it may have."""


def blank(config: Mapping[str, Any]) -> Prior:
    """A prior as `config` has it, with fresh weights. ValueError where it is larger than any that is known: it may come
    with a checkpoint from elsewhere."""
    settings = {key: value for key, value in config.items() if key != "class"}
    for key, most in LARGEST.items():
        values = settings.get(key, 0)
        several = values if isinstance(values, list | tuple) else [values]
        if len(several) > LONGEST or any(isinstance(value, int | float) and value > most for value in several):
            raise ValueError(f"{key} is {str(values)[:80]}, where {most} is the most that is built")
    return _wrapped(class_of(config["class"], config["class"]).from_config(settings), config)


def _wrapped(model: Any, config: Mapping[str, Any]) -> Prior:
    settings, discrete = model.config, config["class"] == "VQModel"
    scale, shift = (1.0, 0.0) if discrete else (settings.scaling_factor, settings.get("shift_factor") or 0.0)
    widths = tuple(settings.block_out_channels)
    codebook = None
    if discrete:
        codebook = Codebook(*model.quantize.embedding.weight.shape)
        codebook.weight = model.quantize.embedding.weight
    channels = codebook.weight.shape[1] if codebook is not None else settings.latent_channels
    encoder = Encoder(model.encoder, model.quant_conv, channels, scale, shift)
    spatial = settings.get("norm_type") == "spatial"
    downs, ups = model.encoder.down_blocks, len(widths) - 1
    return Prior(
        json.dumps(dict(config), sort_keys=True, separators=(",", ":")),
        encoder,
        Decoder(model.decoder, model.post_quant_conv, scale, shift, spatial),
        stride=2**ups,
        channels=channels,
        first="body.conv_in",
        last="body.conv_out" if model.quant_conv is None else "project",
        taps=tuple(
            Tap(
                2**level,
                f"body.down_blocks.{level}.resnets.{len(downs[level].resnets) - 1}",
                f"body.up_blocks.{ups - 1 - level}",
                widths[level],
                widths[level + 1],
            )
            for level in range(ups)
        ),
        codebook=codebook,
    )


def whole(kind: Any, folder: Path) -> Any:
    """A model of diffusers with the weights in its folder, in fp32: all that it has, finite, and no others, where
    diffusers itself would warn, and begin with whatever lay in memory. Only safetensors are read. CheckpointError says
    what is wrong with them."""
    try:
        with warnings.catch_warnings(action="ignore"):  # of faster ways to load large models
            model, told = kind.from_pretrained(
                folder, use_safetensors=True, local_files_only=True, low_cpu_mem_usage=False, output_loading_info=True
            )
    except Exception as error:  # files missing, cut short or of another model: an error for each
        said = " ".join(str(error).split())[:200]
        raise CheckpointError(
            f"{folder} does not hold the weights that its config.json describes, as safetensors ({said})."
        ) from error
    wrong = [f"{name} (missing)" for name in told["missing_keys"]]
    wrong += [f"{name} (not expected)" for name in told["unexpected_keys"]]
    if wrong:
        raise CheckpointError(
            f"The weights in {folder} do not fit its config.json: {'; '.join(wrong[:3])}; {len(wrong)} in all. "
            "Fetch them again."
        )
    model = model.float()
    if broken := [name for name, value in model.state_dict().items() if not value.isfinite().all()]:
        raise CheckpointError(f"The weights in {folder} are not finite: {', '.join(broken[:3])}. Fetch them again.")
    return model


def from_folder(folder: Path, config: Mapping[str, Any]) -> Prior:
    """The prior in a folder whose `config.json` says `config`. Only safetensors are read. Raises CheckpointError."""
    model = whole(class_of(config["_class_name"], folder), folder)
    settings = {key: value for key, value in config.items() if not key.startswith("_")}
    return _wrapped(model, {"class": config["_class_name"], **settings})
