"""The TAESD family of small autoencoders (O. Boer Bohan, github.com/madebyollin/taesd, MIT): TAESD, TAEF1, TAEF2, ...

Encoder and decoder are chains of convolutions, residual blocks and changes of resolution. What a chain is made of is
read off from the names and shapes of its weights, one word a module:

- `conv`: a 3 x 3 convolution; `plain`: one without bias; `down`: one without bias, of stride 2;
- `block`: relu(conv(x) + skip(x)), `conv` being three 3 x 3 convolutions with ReLU between them, and `skip` nothing or
  a 1 x 1 convolution; `pooled`: the same of x + pool(x), `pool` being a 1 x 1 convolution, a normalisation of four
  groups over the image, ReLU, and a 1 x 1 convolution (the middle blocks of TAEF2);
- `clamp`: 3 tanh(x / 3); `relu`; `up`: each value twice down and across.
"""

import json
import re
from collections.abc import Mapping
from itertools import pairwise

import torch
from torch import Tensor, nn

from unseen.errors import CheckpointError
from unseen.priors.base import Prior, Tap

CLASS = "TAE"
GROUPS = 4
LIMIT = 3.0
"""Latents are squeezed into [-3, 3] before they are decoded."""

Words = list[str]
"""A chain: each module as its kind, the channels that go in and come out, and those in the middle of a pooled one."""


MODULES = 256
"""As many as a network of the family may have: the largest published ones have a tenth of that."""


class Clamp(nn.Module):
    """3 tanh(x / 3)."""

    def forward(self, latents: Tensor) -> Tensor:
        return torch.tanh(latents / LIMIT) * LIMIT


class Block(nn.Module):
    """relu(conv(x) + skip(x)); with `middle` channels of pool(x) + x."""

    def __init__(self, inner: int, outer: int, middle: int | None = None) -> None:
        super().__init__()
        self.conv = nn.Sequential(
            nn.Conv2d(inner, outer, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(outer, outer, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(outer, outer, 3, padding=1),
        )
        self.skip = nn.Identity() if inner == outer else nn.Conv2d(inner, outer, 1, bias=False)
        self.pool = None if middle is None else nn.Sequential(
            nn.Conv2d(inner, middle, 1, bias=False),
            nn.GroupNorm(GROUPS, middle),
            nn.ReLU(inplace=True),
            nn.Conv2d(middle, inner, 1, bias=False),
        )  # fmt: skip

    def forward(self, features: Tensor) -> Tensor:
        if self.pool is not None:
            features = features + self.pool(features)
        return (self.conv(features) + self.skip(features)).relu_()


def words_of(weights: Mapping[str, Tensor], path: object, *, decoder: bool) -> Words:
    """What a chain is made of. CheckpointError where the names or shapes are not of this family."""
    try:
        return _words(weights, decoder)
    except (KeyError, ValueError, IndexError) as error:
        raise CheckpointError(
            f"The weights in {path} are not of the TAESD family ({error}): expected modules numbered from "
            f"{'1' if decoder else '0'}, with 3 x 3 convolutions (0.weight) and residual blocks (1.conv.0.weight)."
        ) from error


def _words(weights: Mapping[str, Tensor], decoder: bool) -> Words:
    places: dict[int, set[str]] = {}
    for name in weights:
        place, _, rest = name.partition(".")
        places.setdefault(int(place), set()).add(rest)
    words: Words = []
    if max(places) >= MODULES:
        raise ValueError(f"a module has the number {max(places)}")
    for place in range(max(places) + 1):
        held = places.get(place)
        if held is None:
            if not decoder:
                raise ValueError(f"module {place} is missing")
            words.append("clamp" if place == 0 else "relu" if place == 2 else "up")
        elif "conv.0.weight" in held:
            outer, inner = weights[f"{place}.conv.0.weight"].shape[:2]
            middle = weights[f"{place}.pool.0.weight"].shape[0] if "pool.0.weight" in held else None
            words.append(f"block {inner} {outer}" if middle is None else f"pooled {inner} {outer} {middle}")
        else:
            outer, inner, *_ = weights[f"{place}.weight"].shape
            kind = "conv" if "bias" in held else "plain" if decoder else "down"
            words.append(f"{kind} {inner} {outer}")
    return words


def _module(word: str) -> nn.Module:
    kind, *numbers = word.split()
    sizes = [int(number) for number in numbers]
    match kind, sizes:
        case "conv", [inner, outer]:
            return nn.Conv2d(inner, outer, 3, padding=1)
        case "plain", [inner, outer]:
            return nn.Conv2d(inner, outer, 3, padding=1, bias=False)
        case "down", [inner, outer]:
            return nn.Conv2d(inner, outer, 3, padding=1, stride=2, bias=False)
        case "block", [inner, outer]:
            return Block(inner, outer)
        case "pooled", [inner, outer, middle]:
            return Block(inner, outer, middle)
        case "clamp", []:
            return Clamp()
        case "relu", []:
            return nn.ReLU(inplace=True)
        case "up", []:
            return nn.Upsample(scale_factor=2)
    raise ValueError(f"there is no module {word!r}")


def architecture(encoder: Words, decoder: Words) -> str:
    """Both chains as JSON."""
    return json.dumps({"class": CLASS, "encoder": encoder, "decoder": decoder}, separators=(",", ":"))


def blank(encoder: Words, decoder: Words) -> Prior:
    """A prior of these chains with fresh weights. Raises ValueError where they do not fit together."""
    taps = _taps(encoder, decoder)
    colours = _outer(decoder[-1]), int(encoder[0].split()[1])
    if colours != (3, 3):
        raise ValueError(f"it has {colours[1]} channels of images in and {colours[0]} out: expected RGB")
    chain = [word.split() for word in (*encoder, *decoder) if len(word.split()) > 1]
    for before, after in pairwise(chain):
        if before[2] != after[1]:
            raise ValueError(
                f"'{' '.join(before)}' gives {before[2]} channels, and '{' '.join(after)}' takes {after[1]}"
            )
    return Prior(
        architecture(encoder, decoder),
        nn.Sequential(*map(_module, encoder)),
        nn.Sequential(*map(_module, decoder)),
        stride=2 ** len(taps),
        channels=_outer(encoder[-1]),
        first="0",
        last=str(len(encoder) - 1),
        taps=taps,
    )


def _outer(word: str) -> int:
    """The channels that a module gives."""
    return int(word.split()[2])


def _taps(encoder: Words, decoder: Words) -> tuple[Tap, ...]:
    """Before each halving of the encoder, and after the convolution that follows the doubling back."""
    downs = [place for place, word in enumerate(encoder) if word.startswith("down")]
    ups = [place for place, word in enumerate(decoder) if word == "up"]
    if len(downs) != len(ups):
        raise ValueError(f"the encoder halves {len(downs)} times and the decoder doubles {len(ups)} times")
    return tuple(
        Tap(2**level, str(down - 1), str(up + 1), _outer(encoder[down - 1]), _outer(decoder[up + 1]))
        for level, (down, up) in enumerate(zip(downs, reversed(ups), strict=True))
    )


def from_weights(encoder: Mapping[str, Tensor], decoder: Mapping[str, Tensor], path: object) -> Prior:
    """The prior whose weights these are. Raises CheckpointError."""
    chains = words_of(encoder, path, decoder=False), words_of(decoder, path, decoder=True)
    try:
        with torch.device("meta"):
            prior = blank(*chains)
        prior.encoder.load_state_dict(dict(encoder), assign=True)
        prior.decoder.load_state_dict(dict(decoder), assign=True)
    except (RuntimeError, ValueError, IndexError) as error:
        said = " ".join(str(error).split())[:200]
        raise CheckpointError(f"The weights in {path} are not of the TAESD family: {said}.") from error
    return prior.requires_grad_()


def from_tiny(weights: Mapping[str, Tensor], config: Mapping[str, object], path: object) -> Prior:
    """The prior in a folder of diffusers' `AutoencoderTiny`, which is of this family: its decoder's modules are
    numbered without the clamp. Raises CheckpointError."""
    expected = {"act_fn": "relu", "upsample_fn": "nearest", "upsampling_scaling_factor": 2}
    for key, value in expected.items():
        if config.get(key, value) != value:
            raise CheckpointError(f"The AutoencoderTiny in {path} has {key} {config[key]!r}: expected {value!r}.")

    def part(name: str, shift: int) -> dict[str, Tensor]:
        inside = re.compile(rf"{name}\.layers\.(\d+)\.(.+)")
        matches = [(match, value) for key, value in weights.items() if (match := inside.fullmatch(key))]
        return {f"{int(match[1]) + shift}.{match[2]}": value for match, value in matches}

    return from_weights(part("encoder", 0), part("decoder", 1), path)
