"""Models that bring their own computation: ONNX graphs, TorchScript, torch.export and Python code."""

import importlib
import inspect
import os
import sys
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from unseen.errors import CheckpointError, ConfigError, UnseenError
from unseen.models.foreign import Foreign
from unseen.models.model import Model, count, hash_of_file, hash_of_weights, name_of
from unseen.tensors import first_line
from unseen.types import Images


def _fixed(source: str, shape: list[Any] | tuple[Any, ...]) -> tuple[int | None, tuple[int, int] | None]:
    """The batch and the size that a model's declared input is bound to (None: free). `shape` holds ints where bound."""
    told = ", ".join(str(side) if isinstance(side, int) else "any" for side in shape)
    if len(shape) != 4 or (isinstance(shape[1], int) and shape[1] != 3):
        raise CheckpointError(f"{source} takes an input of shape ({told}): expected RGB images, (b, 3, h, w).")
    batch, _, height, width = (side if isinstance(side, int) else None for side in shape)
    if (height is None) != (width is None) or 0 in (batch, height, width):
        raise CheckpointError(f"{source} takes images of shape ({told}): expected both sides fixed, or both free.")
    return batch, None if height is None or width is None else (height, width)


def _told(kind: str, size: tuple[int, int] | None) -> str:
    return kind if size is None else f"{kind}, in tiles of {size[1]} x {size[0]}"


def from_onnx(path: Path, device: str) -> Model:
    try:
        import onnxruntime
    except ImportError as error:
        raise ConfigError(f"{path} is an ONNX model: install the extra `onnx`, pip install 'unseen[onnx]'.") from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 4  # what fails is raised, and told once
    wanted = ("CUDAExecutionProvider",) if device.startswith("cuda") else ()
    providers = [name for name in wanted if name in onnxruntime.get_available_providers()]
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=[*providers, "CPUExecutionProvider"])
    except Exception as error:  # of a dozen classes without a common one
        raise CheckpointError(f"{path} cannot be read as an ONNX model ({first_line(error)}).") from error
    inputs = session.get_inputs()
    if len(inputs) != 1 or inputs[0].type != "tensor(float)":
        seen = ", ".join(f"{one.name}: {one.type}" for one in inputs) or "none"
        raise CheckpointError(f"{path} has the inputs {seen}: expected one image, tensor(float).")
    batch, size = _fixed(str(path), inputs[0].shape)

    def call(images: Images) -> list[Tensor]:
        outputs = session.run(None, {inputs[0].name: images.contiguous().cpu().numpy()})
        return [torch.from_numpy(output) for output in outputs if getattr(output, "shape", None)]

    return Model(
        name=name_of(path),
        restore=Foreign(str(path), call, batch=batch, size=size),
        kind=_told("ONNX", size),
        content=hash_of_file(path),
        path=path,
        device=None if set(wanted) <= set(session.get_providers()) else "cpu",
    )


def from_torchscript(path: Path, device: str) -> Model:
    try:
        with warnings.catch_warnings(action="ignore", category=DeprecationWarning):
            module = torch.jit.load(path, map_location=device)
    except Exception as error:
        raise CheckpointError(f"{path} cannot be read as TorchScript ({first_line(error)}).") from error
    return Model(
        name=name_of(path),
        restore=Foreign(str(path), module.eval(), device=device),
        kind="TorchScript",
        parameters=count(module),
        content=hash_of_file(path),
        path=path,
    )


def from_export(path: Path, device: str) -> Model:
    try:
        program = torch.export.load(path)
        module = program.module().to(device)
        names = set(program.graph_signature.user_inputs)
        (shape,) = (tuple(node.meta["val"].shape) for node in program.graph.nodes if node.name in names)
    except Exception as error:
        raise CheckpointError(
            f"{path} cannot be read as a torch.export of one image input ({first_line(error)})."
        ) from error
    batch, size = _fixed(str(path), shape)
    return Model(
        name=name_of(path),
        restore=Foreign(str(path), module, device=device, batch=batch, size=size),
        kind=_told("torch.export", size),
        parameters=count(module),
        content=hash_of_file(path),
        path=path,
    )


def from_python(source: str, device: str) -> Model:
    """`package.module:callable`: a module, a function on images, or what makes one when called without arguments."""
    package, _, attribute = source.partition(":")
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())  # and left there: a model may import more when it is used
    try:
        found: Any = importlib.import_module(package)
        for part in attribute.split("."):
            found = getattr(found, part)
        if not isinstance(found, nn.Module) and _needs_nothing(found):
            found = found()
    except UnseenError:
        raise
    except Exception as error:
        raise ConfigError(f"{source} cannot be used: {type(error).__name__}: {first_line(error)}.") from error
    if not callable(found):
        raise ConfigError(f"{source} is of {type(found).__name__}: expected a function on images, or a torch module.")
    module = found.to(device).eval() if isinstance(found, nn.Module) else None
    return Model(
        name=f"{package.rpartition('.')[2]}.{attribute}",
        restore=Foreign(source, found, device=device),
        kind="Python" if module is None else f"{type(module).__name__} (Python)",
        parameters=None if module is None else count(module),
        content=None if module is None else hash_of_weights(module),
    )


def _needs_nothing(found: Any) -> bool:
    """Whether it can be called without arguments: a class or a function that makes the restorer."""
    if isinstance(found, type):
        return True
    try:
        inspect.signature(found).bind()
    except (TypeError, ValueError):
        return False
    return True
