"""Weight files of others, read without executing anything in them.

Safetensors holds no code, and pickles are read by torch's restricted reader, which refuses all that is not a plain
value or a tensor.
"""

import re
import warnings
import zipfile
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from unseen.errors import CheckpointError

WRAPPERS = ("params_ema", "params", "state_dict", "model_state_dict", "model", "net")
"""Keys under which published files keep their weights; the first that is there is taken."""

NO_MODELS = {
    b"\x89PNG": "an image",
    b"\xff\xd8\xff": "an image",
    b"RIFF": "an image",
    b"GIF8": "an image",
    b"version https://git-lfs": "a pointer to a file that Git LFS keeps elsewhere: fetch it with `git lfs pull`",
    b"\x89HDF": "an HDF5 file",
}

ACCEPTED = (
    "a run's folder or its model.safetensors, plain weights (.pth, .pt, .ckpt, .safetensors) or ONNX; with --trust "
    "also TorchScript, torch.export (.pt2) and package.module:callable"
)


def first_line(error: BaseException) -> str:
    """The first line of what a library says, with the next where it only leads up to that; not too long."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    told = " ".join(lines[:2]) if lines[0].endswith(":") else lines[0]
    return told[:300].rstrip(".")


def read_weights(path: str | Path) -> dict[str, Tensor]:
    """The tensors of a published weight file by name, on the CPU, without the wrapping that trainers put around them.

    Raises `CheckpointError` where it is none, is damaged, or holds more than numbers: nothing in it is executed.
    """
    path = Path(path)
    if format_of(path) == "safetensors":
        try:
            with safe_open(path, framework="pt") as file:
                loaded: Any = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except SafetensorError as error:
            raise CheckpointError(
                f"{path} is not a safetensors file, or is damaged ({first_line(error)}). Fetch it again."
            ) from error
    else:
        loaded = _unpickled(path)
    for _ in range(4):  # a file that holds itself has no end
        inner = [loaded[key] for key in WRAPPERS if isinstance(loaded, dict) and isinstance(loaded.get(key), dict)]
        loaded = inner[0] if inner else loaded
    weights = {
        name: value
        for name, value in (loaded.items() if isinstance(loaded, dict) else ())
        if isinstance(name, str)
        and isinstance(value, Tensor)
        and value.layout is torch.strided
        and not (value.is_quantized or value.is_complex())
    }
    if not weights:
        raise CheckpointError(f"{path} can be read, but holds no weights by name: expected a PyTorch state dict.")
    size = path.stat().st_size
    inflated = [name for name, value in weights.items() if value.is_meta or value.nbytes > size]
    if inflated:
        raise CheckpointError(f"{path} claims more weights than it holds, the first in {inflated[0]}: it is damaged.")
    broken = [
        name for name, value in weights.items() if value.is_floating_point() and not value.float().isfinite().all()
    ]
    if broken:
        raise CheckpointError(
            f"The weights in {path} are not finite: {', '.join(broken[:3])}. Training has diverged, or it is damaged."
        )
    return weights


def _unpickled(path: Path) -> Any:
    """What a file of torch.save holds. Only plain values and tensors are made; anything else is refused unmade."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            claimed = sum(member.file_size for member in archive.infolist())
        if claimed > path.stat().st_size:  # torch stores without compressing
            raise CheckpointError(f"{path} claims {claimed} bytes, more than it holds: it is damaged.")
    try:
        # Warnings are of old formats, and of what is about to be refused. Given a path, torch goes by its suffix.
        with warnings.catch_warnings(action="ignore"), path.open("rb") as file:
            return torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # a hostile pickle can end in any error
        asked = re.search(r"(?:GLOBAL|function|class) ([\w.]+)", str(error))
        if asked is not None:
            raise CheckpointError(
                f"{path} holds more than weights: unpickling it would run code ({asked[1]}), which is refused and was "
                "not done. Where you trust it, load it in a program of your own and save its state_dict() alone."
            ) from error
        told = re.search(r"WeightsUnpickler error:\s*(\S.*)", str(error))
        reason = told[1] if told else first_line(error)
        raise CheckpointError(f"{path} is no weight file of PyTorch, or is damaged ({reason}).") from error


def format_of(path: Path) -> str:
    """Of what format a file is, by its first bytes (ONNX has no mark: by its suffix)."""
    with path.open("rb") as file:
        start = file.read(512)
    if not start:
        raise CheckpointError(f"{path} is empty. Fetch or train it again.")
    if start.startswith(b"PK\x03\x04"):
        try:
            with zipfile.ZipFile(path) as archive:
                members = {name.partition("/")[2] or name for name in archive.namelist()}
        except (zipfile.BadZipFile, NotImplementedError) as error:
            raise CheckpointError(f"{path} is cut short, or damaged: its end is missing. Fetch it again.") from error
        if "constants.pkl" in members:
            return "TorchScript"
        if "data.pkl" in members:
            return "weights"
        if "archive_format" in members or "serialized_exported_program.json" in members:
            return "torch.export"
        raise CheckpointError(f"{path} is a zip archive and holds no model that is known here. Expected {ACCEPTED}.")
    seen = next((what for magic, what in NO_MODELS.items() if start.startswith(magic)), None)
    if seen is None and all(letter.isprintable() or letter.isspace() for letter in start.decode(errors="replace")):
        seen = "a web page: the download went wrong" if start.lstrip()[:1] == b"<" else "a text file"
    if seen is not None:
        raise CheckpointError(f"{path} is no model: it is {seen}. Expected {ACCEPTED}.")
    if path.suffix.lower() == ".onnx":
        return "onnx"
    if start[8:9] == b"{" or (path.suffix.lower() == ".safetensors" and start[:1] != b"\x80"):
        return "safetensors"
    return "weights"
