"""Open whatever a user names as a model.

All are judged under one contract: RGB in [0, 1], (b, 3, h, w), float32, in; the same shape out. What executes code
(TorchScript, torch.export, a Python name) is opened only with `trust`; nothing else does.
"""

import re
from collections.abc import Sequence
from pathlib import Path

from unseen.errors import CheckpointError, ConfigError, cause_of
from unseen.experiment import best_device, has_bf16
from unseen.models.formats import from_export, from_onnx, from_python, from_torchscript
from unseen.models.model import Model
from unseen.models.networks import from_checkpoint, from_weights, is_ours
from unseen.shipped import find_model
from unseen.tensors import ACCEPTED, format_of


def open_model(
    source: str | Path,
    *,
    device: str = "cpu",
    precision: str = "auto",
    trust: bool = False,
    priors: Sequence[str] = (),
) -> Model:
    """Open what `source` names: a file, a run's folder, weights that come with the package ("rain") or, with `trust`,
    `package.module:callable`.

    `precision` is that of our own networks, published weights of them too: "fp32", "mixed" (bf16 convolutions)
    or "auto" (mixed where `device` multiplies bf16 in hardware). Models from elsewhere run in fp32.
    `priors` says where a checkpoint's priors lie, where that is not where they lay when it was trained.
    ConfigError and CheckpointError say in one sentence what is wrong with the call, or with the file.
    """
    kind = device.partition(":")[0]
    if kind not in ("cpu", best_device()):
        raise ConfigError(f"The device is {device!r}, and torch sees no such device here: use cpu.")
    if precision not in ("auto", "fp32", "mixed", "bf16"):
        raise ConfigError(f"The precision is {precision!r}: use auto, fp32, mixed or bf16.")
    if precision == "auto":
        precision = "mixed" if has_bf16(kind) else "fp32"
    path = Path(find_model(source)).expanduser()
    if path.is_dir():
        return from_checkpoint(path, device, precision, priors)
    if not path.exists() and re.fullmatch(r"[\w.]+:[\w.]+", str(source)):
        _need_trust(str(source), "Python code", trust)
        return from_python(str(source), device)
    if not path.is_file():
        raise CheckpointError(f"There is no model at {path}. Name {ACCEPTED}.")
    try:
        match format_of(path):
            case "onnx":
                return from_onnx(path, device)
            case "TorchScript" as what:
                _need_trust(str(path), f"a {what} model", trust)
                return from_torchscript(path, device)
            case "torch.export" as what:
                _need_trust(str(path), f"a {what} model", trust)
                return from_export(path, device)
            case "safetensors" if is_ours(path):
                return from_checkpoint(path, device, precision, priors)
            case _:
                return from_weights(path, device, precision)
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {cause_of(error)}") from error


def _need_trust(source: str, what: str, trust: bool) -> None:
    if not trust:
        raise ConfigError(
            f"{source} is {what}, and using it executes whatever its author wrote: if you trust where it comes from, "
            "allow it with --trust (in Python, trust=True)."
        )
