"""Weights of networks that are known here: our own checkpoints, published weights, and what spandrel recognises."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from unseen.checkpoints import fill, load_checkpoint, restorer
from unseen.errors import CheckpointError, ConfigError
from unseen.models.foreign import Foreign
from unseen.models.model import Model, count, hash_of_file, name_of
from unseen.networks import ALL
from unseen.tensors import first_line, read_weights

PREFIXES = ("module.", "net_g.", "netG.", "model.", "_orig_mod.")
"""What trainers put before the names of a network's weights."""


def is_ours(path: Path) -> bool:
    try:
        with safe_open(path, framework="pt") as file:
            return "unseen" in (file.metadata() or {})
    except SafetensorError:
        return False  # reading it as weights says why


def from_checkpoint(path: Path, device: str, precision: str, priors: Sequence[str] = ()) -> Model:
    checkpoint = load_checkpoint(path, device, priors)
    return Model(
        name=name_of(checkpoint.path),
        restore=restorer(checkpoint.network, device, precision),
        kind=type(checkpoint.network).__name__,
        parameters=checkpoint.parameters,
        content=checkpoint.content,
        experiment=checkpoint.experiment,
        before=checkpoint.before,
        step=checkpoint.step,
        path=checkpoint.path,
        network=checkpoint.network,
    )


def from_weights(path: Path, device: str, precision: str) -> Model:
    """Weights alone: the network is known by their names. Ours know their own (`recognise`), spandrel many more."""
    weights = read_weights(path)
    for named in _unprefixed(weights):
        for kind in ALL:
            recognise = getattr(kind, "recognise", None)
            try:
                config = recognise(named) if recognise is not None else None
            except (IndexError, TypeError, ValueError) as error:
                raise CheckpointError(
                    f"The weights in {path} have the names of a {kind.__name__}, in shapes that none has."
                ) from error
            if config is not None:
                with torch.device("meta"):
                    network = config.build()
                derived = getattr(kind, "derived", ())
                fill(
                    network, {name: value.float() for name, value in named.items() if not name.endswith(derived)}, path
                )
                return Model(
                    name=name_of(path),
                    restore=restorer(network, device, precision),
                    kind=kind.__name__,
                    parameters=count(network),
                    content=hash_of_file(path),
                    path=path,
                    network=network,
                )
    return _from_zoo(weights, path, device)


def _unprefixed(weights: dict[str, Tensor], depth: int = 3) -> Iterator[dict[str, Tensor]]:
    """The weights as they are, and those of each part that a trainer's prefix marks, without it."""
    yield weights
    for prefix in PREFIXES if depth else ():
        part = {name.removeprefix(prefix): value for name, value in weights.items() if name.startswith(prefix)}
        if part:
            yield from _unprefixed(part, depth - 1)


def _from_zoo(weights: dict[str, Tensor], path: Path, device: str) -> Model:
    unknown = (
        f"The weights in {path} ({len(weights)} tensors, the first {next(iter(weights))!r}) are of no network here"
    )
    try:
        from spandrel import (  # pyright: ignore[reportMissingImports]
            ImageModelDescriptor,
            ModelLoader,
            UnsupportedModelError,
        )
    except ImportError as error:
        if (error.name or "").partition(".")[0] == "spandrel":
            raise CheckpointError(
                f"{unknown}. Some forty more are recognised with the extra `zoo`: pip install 'unseen[zoo]', and "
                "torchvision from where torch came from (docs/models.md)."
            ) from error
        raise ConfigError(
            f"{unknown}, and the extra `zoo` is not whole ({first_line(error)}): pip install 'unseen[zoo]', and "
            "torchvision from where torch came from (docs/models.md)."
        ) from error
    except RuntimeError as error:  # torchvision of another build than torch
        raise ConfigError(
            f"{unknown}, and the extra `zoo` cannot be used ({first_line(error)}): torchvision does not fit torch. "
            "Install both from the same index, at versions that belong together (docs/models.md)."
        ) from error
    for named in _unprefixed(weights):
        try:
            found = ModelLoader(device).load_from_state_dict(named)
        except UnsupportedModelError:
            continue
        except Exception as error:
            raise CheckpointError(
                f"The weights in {path} look like a network that spandrel knows, but do not fit: {first_line(error)}."
            ) from error
        what = found.architecture.name
        if not isinstance(found, ImageModelDescriptor) or found.scale != 1:
            does = f"enlarges {found.scale} times" if found.scale != 1 else "needs more than an image"
            raise CheckpointError(f"{path} holds {what}, which {does}: expected a restorer that keeps the size.")
        if (found.input_channels, found.output_channels) != (3, 3):
            raise CheckpointError(
                f"{path} holds {what} from {found.input_channels} to {found.output_channels} channels: expected RGB."
            )
        found.float().eval()
        return Model(
            name=name_of(path),
            restore=Foreign(str(path), found, device=device, batch=1),
            kind=f"{what} (spandrel)",
            parameters=count(found.model),
            content=hash_of_file(path),
            path=path,
        )
    raise CheckpointError(f"{unknown}, nor of one that spandrel knows. Export the network to ONNX (docs/models.md).")
