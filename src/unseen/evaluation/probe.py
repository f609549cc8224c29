"""Linear probes: what a network's features tell of the degradation, and what of the content, from the first layer to
the last. Did it learn rain, or images?

After Alain and Bengio, Understanding intermediate layers using linear classifier probes, arXiv 1610.01644: a linear
model is fitted from the features of one layer to a target, and judged on images that it was not fitted on. Targets of
every pixel are the clean luma and the steepness of it (content) and what the degradation changed (degradation); targets
of every image are the degradation's parameters, told from the mean and the deviation of each feature over the image.
"""

import math
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from unseen.backgrounds import Backgrounds
from unseen.degradations import Degradation
from unseen.errors import ConfigError
from unseen.evaluation.probes import Probe
from unseen.seeding import generator
from unseen.types import Batch, Images

PIXELS = 96
"""How many pixels of every patch are looked at."""

RIDGE = 1e-2
"""Weight of the squared coefficients, per sample, for features of variance 1: keeps fits to few samples in bounds."""

HELD_OUT = 3
"""Every third patch is judged on; the others are fitted to."""

OPENED = ("network", "encoder", "decoder", "body")
"""Parts that are looked into by their names."""

ACTIVATIONS = (nn.ReLU, nn.LeakyReLU, nn.GELU, nn.SiLU, nn.Sigmoid)
"""Parts that are no layers of their own."""

_LUMA = (0.299, 0.587, 0.114)

Progress = Callable[[int, int], None]
"""Told how many batches are done, and of how many."""


def probe(
    network: nn.Module,
    degradation: Degradation,
    images: Backgrounds,
    *,
    patches: int = 240,
    size: int = 48,
    batch: int = 24,
    seed: int = 0,
    progress: Progress | None = None,
) -> tuple[Probe, ...]:
    """R^2, on patches that were not fitted to, of every target from the features of every layer, in order of depth.

    `network` restores RGB in [0, 1]; it is judged where it is, in evaluation mode. Layers are the parts that it is made
    of (blocks, not what is inside of them) whose results are maps of features, and the input itself. R^2 is 1 where the
    target is told wholly, 0 where no better than by its mean, below 0 where worse. What does not vary is left out.

    ConfigError where the network has no such layers, or where `size` is not what it works in multiples of.
    """
    step = int(getattr(network, "multiple", 1))
    if size % step:
        raise ConfigError(
            f"This network works in steps of {step} pixels, and would grow patches of {size}: take {size - size % step}"
            f" or {size - size % step + step}."
            if size > step
            else f"This network works in steps of {step} pixels: take patches of {step} or more, not of {size}."
        )
    home = next((weight.device for weight in network.parameters()), torch.device("cpu"))
    points = dict(layers(network))
    if not points:
        raise ConfigError(f"{type(network).__name__} has no parts whose features could be probed.")
    orders: dict[str, tuple[int, ...]] = {}
    by_pixel: dict[str, list[Tensor]] = {}
    by_image: dict[str, list[Tensor]] = {}
    pixel_targets: dict[str, list[Tensor]] = {}
    image_targets: dict[str, list[Tensor]] = {}
    training, total = network.training, math.ceil(patches / batch)
    network.eval()
    try:
        for start in range(0, patches, batch):
            numbers = range(start, min(start + batch, patches))
            rngs = [generator(seed, "probe", number) for number in numbers]
            clean = images.patches(rngs, size)
            drawn = degradation.render(clean, degradation.sample((size, size), rngs))
            if not orders:
                orders = _orders(network, points, drawn.degraded[:1].to(home))
            found = _features(network, points, orders, drawn.degraded.to(home))
            for name, features in found.items():
                by_pixel.setdefault(name, []).append(_at_pixels(features, numbers, size, seed))
                both = torch.cat((features.mean((2, 3)), features.std((2, 3), correction=0)), 1)
                by_image.setdefault(name, []).append(both.double())
            for target, plane in _planes(drawn).items():
                pixel_targets.setdefault(target, []).append(_at_pixels(plane, numbers, size, seed))
            for target, values in _labels(drawn).items():
                image_targets.setdefault(target, []).append(values[:, None].double())
            if progress is not None:
                progress(start // batch + 1, total)
    finally:
        network.train(training)
    told = torch.arange(patches) % HELD_OUT == HELD_OUT - 1  # by patch: pixels of one patch are never on both sides
    pixels = told.repeat_interleave(PIXELS)
    lines = []
    for depth, name in enumerate(by_pixel):
        features = torch.cat(by_pixel[name])
        width = features.shape[1]
        for target, values in pixel_targets.items():
            kind = "degradation" if target == "change" else "content"
            score = _score(features, torch.cat(values), pixels)
            lines.append(Probe(name, depth, width, target, kind, score))
        features = torch.cat(by_image[name])
        for target, values in image_targets.items():
            score = _score(features, torch.cat(values), told)
            lines.append(Probe(name, depth, width, target, "parameter", score))
    return tuple(line for line in lines if math.isfinite(line.r2))


def layers(network: nn.Module, prefix: str = "") -> list[tuple[str, nn.Module]]:
    """The parts that a network is made of, in the order in which it lists them: lists and sequences are opened, and so
    are restorers and autoencoders inside of it; activations are left out. A prior's frozen decoder is one of
    them."""
    found = []
    home = next((weight.device for weight in network.parameters()), torch.device("cpu"))
    frozen: Callable[[torch.device], dict[str, nn.Module]] | None = getattr(network, "frozen", None)
    others = {} if frozen is None else frozen(home)
    for name, part in (*network.named_children(), *others.items()):
        path = f"{prefix}{name}"
        holds_others = isinstance(part, nn.Sequential | nn.ModuleList) or name in OPENED
        inside = layers(part, f"{path}.") if holds_others else []
        if not isinstance(part, ACTIVATIONS):  # one tells what the layer before it told
            found += inside or [(path, part)]
    return found


def _features(
    network: nn.Module, points: dict[str, nn.Module], orders: dict[str, tuple[int, ...]], degraded: Images
) -> dict[str, Tensor]:
    """The maps of features (b, f, h, w) that each part gave when it was last called, in the order of these calls."""
    return {
        name: result.permute(orders[name]).float().cpu()
        for name, result in _results(network, points, degraded).items()
        if name in orders
    }


def _results(network: nn.Module, points: dict[str, nn.Module], degraded: Images) -> dict[str, Tensor]:
    """The tensors of four axes that each part gave when it was last called, in the order of these calls."""
    found: dict[str, Tensor] = {"input": degraded}

    def keep(name: str) -> Any:
        def hook(part: nn.Module, inputs: Any, result: Any) -> None:
            if isinstance(result, Tensor) and result.ndim == 4:
                found.pop(name, None)
                found[name] = result.clone()  # what follows may write into it

        return hook

    with ExitStack() as hooks, torch.inference_mode():
        for name, part in points.items():
            hooks.enter_context(part.register_forward_hook(keep(name)))
        network(degraded)
    return found


def _orders(network: nn.Module, points: dict[str, nn.Module], degraded: Images) -> dict[str, tuple[int, ...]]:
    """How the axes of each part's result are to be ordered, channels first, then rows and columns. Channels are what
    does not grow where the image does: as many of them as the image has rows say nothing. Without parts whose results
    have no rows and columns as the image has."""
    small, large = (_results(network, points, image) for image in (degraded, degraded.repeat(1, 1, 2, 2)))
    orders = {}
    for name, result in small.items():
        for order in ((0, 1, 2, 3), (0, 3, 1, 2)):
            before, after = result.permute(order).shape[1:], large[name].permute(order).shape[1:]
            alike = abs(degraded.shape[2] / before[1] - degraded.shape[3] / before[2]) < 0.35
            if len(result) == 1 and before[0] == after[0] and before[1] < after[1] and before[2] < after[2] and alike:
                orders[name] = order
                break
    return orders


def _planes(batch: Batch) -> dict[str, Float[Tensor, "b 1 h w"]]:
    """What there is to tell at every pixel."""
    luma = batch.clean.new_tensor(_LUMA)[None, :, None, None]
    clean = (batch.clean * luma).sum(1, keepdim=True)
    change = ((batch.degraded - batch.clean) * luma).sum(1, keepdim=True)
    grown = functional.pad(clean, (0, 1, 0, 1), mode="replicate")
    steep = torch.hypot(grown[..., :-1, 1:] - clean, grown[..., 1:, :-1] - clean)
    return {"clean luma": clean, "clean edges": steep, "change": change}


def _labels(batch: Batch) -> dict[str, Float[Tensor, "b"]]:
    """The degradation's parameters, those that wrap as both of their coordinates."""
    found = {}
    for name, values in batch.labels.items():
        if name.split(".")[-1] == "direction":
            turned = torch.deg2rad(2 * values)
            found |= {f"{name} (cos)": turned.cos(), f"{name} (sin)": turned.sin()}
        elif name != "part":
            found[name] = values
    return found


def _at_pixels(planes: Float[Tensor, "b f h w"], numbers: Sequence[int], size: int, seed: int) -> Tensor:
    """(b * PIXELS, f): the values at seeded places, the same for every layer; of coarser maps that of the cell."""
    places = torch.stack([torch.rand(2, PIXELS, generator=generator(seed, "probe pixels", n)) for n in numbers])
    rows = (places[:, 0] * planes.shape[2]).long()
    columns = (places[:, 1] * planes.shape[3]).long()
    image = torch.arange(len(numbers))[:, None].expand_as(rows)
    return planes[image, :, rows, columns].flatten(0, 1).double()


def _score(features: Float[Tensor, "n f"], target: Float[Tensor, "n 1"], told: Tensor) -> float:
    """R^2 on the samples in `told` of a ridge regression fitted on the others; NaN where the target does not vary."""
    fit, judge = ~told, told
    known = target.isfinite()[:, 0]
    fit, judge = fit & known, judge & known
    if fit.sum() < 8 or judge.sum() < 4 or target[judge].std() < 1e-9 or target[fit].std() < 1e-9:
        return math.nan
    mean, spread = features[fit].mean(0), features[fit].std(0).clamp(min=1e-9)
    x, y = (features - mean) / spread, target - target[fit].mean()
    gram = x[fit].T @ x[fit] / fit.sum()
    weights = torch.linalg.solve(gram + RIDGE * torch.eye(len(gram), dtype=gram.dtype), x[fit].T @ y[fit] / fit.sum())
    wrong = (x[judge] @ weights - y[judge]).square().sum()
    return 1 - (wrong / (target[judge] - target[judge].mean()).square().sum()).item()
