"""What all tests share. Shapes in signatures are checked while tests run: a wrong one is an error."""

import math
import os
import signal
import tempfile
from pathlib import Path

import jaxtyping
import pytest
import torch

# Studies that run beside the tests have cores of their own to share out.
os.environ["UNSEEN_CORES"] = tempfile.mkdtemp(prefix="unseen-cores-")
# Before the first import of `unseen`.
jaxtyping.install_import_hook("unseen", "shapes.checked")
# Started in the background, a shell lets its children ignore Ctrl-C, and training respects that: the tests send it.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

torch.set_num_threads(1)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if not torch.cuda.is_available():
        for item in items:
            if "gpu" in item.keywords:
                item.add_marker(pytest.mark.skip(reason="there is no CUDA device: run on a machine that has one"))


def draw_photos(count: int = 4, size: int = 64) -> torch.Tensor:
    """Stand-ins for photographs, `(count, 3, size, size)` in [0, 1]: a coloured gradient, soft blobs, an edge and
    texture, all different, with no pixel at either end of the range."""
    rng = torch.Generator().manual_seed(20)
    rows, columns = torch.meshgrid(torch.linspace(0, 1, size), torch.linspace(0, 1, size), indexing="ij")

    def uniform(*shape: int) -> torch.Tensor:
        return torch.rand(*shape, generator=rng)

    photos = []
    for _ in range(count):
        turn = 2 * math.pi * uniform(1)
        ramp = rows * turn.cos() + columns * turn.sin()
        photo = 0.4 + 0.2 * uniform(3, 1, 1) + 0.2 * (uniform(3, 1, 1) - 0.5) * ramp
        for _ in range(6):
            row, column, radius = uniform(3)
            distance = ((rows - row) ** 2 + (columns - column) ** 2) / (0.05 + 0.25 * radius) ** 2
            photo = photo + 0.3 * (uniform(3, 1, 1) - 0.5) * torch.exp(-distance)
        edge = (ramp > ramp.mean()).float()
        waves = torch.sin(2 * math.pi * (6 + 10 * uniform(1)) * (rows - columns * uniform(1)))
        grain = uniform(1, size, size) - 0.5
        photo = photo + 0.1 * (edge - 0.5) + 0.05 * waves * edge + 0.06 * grain
        photos.append(photo.clamp(0.02, 0.98))
    return torch.stack(photos)


@pytest.fixture
def photos() -> torch.Tensor:
    """Four clean images, (4, 3, 64, 64), the same in every test."""
    return draw_photos()


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of public image sets that UNSEEN_DATA names."""
    folder = os.environ.get("UNSEEN_DATA")
    if not folder:
        pytest.skip("UNSEEN_DATA is not set: name the folder that holds the image sets")
    if not Path(folder).is_dir():
        pytest.skip(f"UNSEEN_DATA names {folder}, which is not a folder: name the one that holds the image sets")
    return Path(folder)
