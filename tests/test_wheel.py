"""The wheel, built as a release is, installed into an empty environment, and used without a network."""

import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

from unseen.images import read_image, write_image

ROOT = Path(__file__).parents[1]

OFFLINE = """
import socket, sys

def refuse(*_):
    raise OSError("the network was asked for")

socket.socket.connect = socket.socket.connect_ex = socket.getaddrinfo = refuse
from unseen.cli import main
sys.exit(main())
"""


def call(*words: str | Path, folder: Path) -> str:
    done = subprocess.run([str(word) for word in words], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.mark.network
def test_the_wheel_restores_in_an_empty_environment_without_a_network(tmp_path: Path) -> None:
    call(sys.executable, "-m", "pip", "wheel", "--no-deps", "--wheel-dir", tmp_path, ROOT, folder=tmp_path)
    (wheel,) = tmp_path.glob("unseen-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    assert {f"unseen/weights/rain{end}" for end in (".safetensors", ".md", "-map.png")} | {"unseen/py.typed"} <= names
    call(sys.executable, "-m", "venv", tmp_path / "empty", folder=tmp_path)
    python = tmp_path / "empty" / "bin" / "python"
    torch = next(line for line in (ROOT / "constraints.txt").read_text().splitlines() if line.startswith("torch=="))
    call(python, "-m", "pip", "install", torch, folder=tmp_path)  # first, or pip takes the build with CUDA
    call(python, "-m", "pip", "install", wheel, folder=tmp_path)
    rng = np.random.default_rng(0)
    write_image(tmp_path / "photo.png", rng.random((48, 64, 3)).astype(np.float32))
    call(python, "-c", OFFLINE, "restore", "photo.png", "-o", "restored.png", folder=tmp_path)
    assert read_image(tmp_path / "restored.png").shape == (48, 64, 3)
    assert "rain" in call(python, "-c", OFFLINE, "doctor", folder=tmp_path)
