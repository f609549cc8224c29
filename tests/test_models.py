"""Any model is one restorer: what opens keeps the contract, and what does not is refused in one clear sentence."""

import importlib.util
import os
import pickle
import sys
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
import torch.nn.functional as F
from onnx import TensorProto, helper, numpy_helper
from safetensors.torch import save_file
from torch import Tensor, nn

from unseen.checkpoints import load_checkpoint, save_network
from unseen.errors import CheckpointError, ConfigError, UnseenError
from unseen.experiment import Experiment
from unseen.images import write_image
from unseen.models import Foreign, Model, open_model, read_weights
from unseen.networks import PReNetConfig, ResNetConfig, build
from unseen.seeding import generator

PRENET = PReNetConfig(width=4, blocks=2)
EXPERIMENT = Experiment(network=ResNetConfig(width=4, blocks=1), seed=3)


def images(*size: int, count: int = 1) -> Tensor:
    return torch.rand(count, 3, *size, generator=generator(0, "test"))


def prenet_weights() -> dict[str, Tensor]:
    return build(PRENET, 0).state_dict()


def refusal(source: str | Path, **options: Any) -> str:
    """The sentence that `source` is refused with: one line, which names it."""
    with pytest.raises(UnseenError) as caught:
        model = open_model(source, **options)
        model.restore(images(9, 9))
    assert type(caught.value) in (CheckpointError, ConfigError)
    message = str(caught.value)
    assert str(source) in message
    assert "\n" not in message
    return message


# Ours, and published weights


@pytest.mark.parametrize("by_folder", [True, False])
def test_a_checkpoint_of_ours_knows_its_experiment(tmp_path: Path, by_folder: bool) -> None:
    path = tmp_path / "0123456789ab" / "model.safetensors"
    save_network(path, build(EXPERIMENT.network, 0).state_dict(), EXPERIMENT, 30)
    model = open_model(str(path.parent if by_folder else path), precision="fp32")
    checkpoint = load_checkpoint(path)
    assert (model.name, model.kind, model.step) == ("0123456789ab", "ResNet", 30)
    assert model.experiment == EXPERIMENT
    assert (model.content, model.parameters, model.path) == (checkpoint.content, checkpoint.parameters, path)
    degraded = images(9, 7, count=2)
    with torch.no_grad():
        assert torch.allclose(model.restore(degraded), checkpoint.network(degraded).clamp(0, 1), atol=1e-6)


def within_wrappers(weights: dict[str, Tensor], path: Path) -> None:
    torch.save({"epoch": 3, "state_dict": {"params_ema": weights, "params": {}}}, path)


def with_prefixes(weights: dict[str, Tensor], path: Path) -> None:
    torch.save({f"net_g.module.{name}": value for name, value in weights.items()}, path)


def beside_another_network(weights: dict[str, Tensor], path: Path) -> None:
    named = {f"model.{name}": value for name, value in weights.items()}
    torch.save({"state_dict": {**named, "critic.weight": torch.zeros(3)}, "epoch": 3}, path)


def in_half_precision(weights: dict[str, Tensor], path: Path) -> None:
    torch.save({name: value.half().float().half() for name, value in weights.items()}, path)


def in_the_old_format(weights: dict[str, Tensor], path: Path) -> None:
    torch.save(weights, path, _use_new_zipfile_serialization=False)


def as_safetensors(weights: dict[str, Tensor], path: Path) -> None:
    save_file(weights, path)


@pytest.mark.parametrize(
    ("write", "suffix"),
    [
        *((torch.save, suffix) for suffix in (".pth", ".pt", ".ckpt", ".bin", "", ".safetensors")),
        (as_safetensors, ".safetensors"),
        (as_safetensors, ".pt"),
        (within_wrappers, ".ckpt"),
        (with_prefixes, ".pth"),
        (beside_another_network, ".ckpt"),
        (in_the_old_format, ".pth"),
        (in_half_precision, ".pth"),
    ],
)
def test_published_weights_open_whatever_is_around_them(
    tmp_path: Path, write: Callable[[dict[str, Tensor], Path], None], suffix: str
) -> None:
    path = tmp_path / f"rain{suffix}"
    write(prenet_weights(), path)
    model = open_model(path, precision="fp32")
    assert (model.name, model.kind, model.step, model.experiment) == ("rain", "PReNet", -1, None)
    degraded = images(9, 7)
    network = build(PRENET, 0)
    with torch.no_grad():
        expected = network(degraded).clamp(0, 1)
    assert torch.allclose(model.restore(degraded), expected, atol=1e-2 if write is in_half_precision else 1e-6)
    assert model.parameters == sum(value.numel() for value in network.parameters())
    assert model.config == PRENET  # by which tiles are laid out: of an unknown network they are small
    assert model.content is not None
    assert len(model.content) == 64


def test_a_file_name_that_says_nothing_gives_way_to_its_folder(tmp_path: Path) -> None:
    (tmp_path / "PReNet_r").mkdir()
    torch.save(prenet_weights(), tmp_path / "PReNet_r" / "net_g_latest.pth")
    assert open_model(tmp_path / "PReNet_r" / "net_g_latest.pth").name == "PReNet_r"


def test_published_prenet_opens_by_its_path_alone(shared_data: Path) -> None:
    model = open_model(str(shared_data / "weights" / "prenet" / "Rain100L.pth"))
    assert (model.name, model.kind, model.parameters) == ("Rain100L", "PReNet", 168_963)


# ONNX


def write_onnx(path: Path, *, shape: tuple[object, ...] = ("b", 3, "h", "w"), multiple: int = 1, **spoil: Any) -> Path:
    """A graph that halves its input and blurs it over 3 x 3 pixels; with a `multiple`, through pixels unshuffled by it.

    The Gaussian is 1 2 1 both ways, without the border: zeros lie around it."""
    taps = torch.tensor([1.0, 2.0, 1.0])
    blur = (taps[:, None] * taps / 32 * spoil.get("scale", 1.0)).expand(3, 1, 3, 3).contiguous()
    nodes = [helper.make_node("Conv", ["image", "blur"], ["blurred"], pads=[1, 1, 1, 1], group=3)]
    if multiple > 1:
        nodes.append(helper.make_node("SpaceToDepth", ["blurred"], ["packed"], blocksize=multiple))
        nodes.append(helper.make_node("DepthToSpace", ["packed"], ["restored"], blocksize=multiple))
    else:
        nodes.append(helper.make_node("Identity", ["blurred"], ["restored"]))
    kind = spoil.get("kind", TensorProto.FLOAT)
    graph = helper.make_graph(
        nodes,
        "blur",
        [helper.make_tensor_value_info("image", kind, list(shape))],
        [helper.make_tensor_value_info("restored", kind, None)],
        [numpy_helper.from_array(blur.numpy().astype("float16" if kind == TensorProto.FLOAT16 else "float32"), "blur")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def blurred(degraded: Tensor) -> Tensor:
    taps = torch.tensor([1.0, 2.0, 1.0])
    return F.conv2d(degraded, (taps[:, None] * taps / 32).expand(3, 1, 3, 3), padding=1, groups=3)


@pytest.mark.parametrize("size", [(1, 1), (9, 14), (70, 33)], ids=str)
def test_an_onnx_model_of_free_size_is_the_graph_it_holds(tmp_path: Path, size: tuple[int, int]) -> None:
    model = open_model(write_onnx(tmp_path / "blur.onnx"))
    assert (model.name, model.kind, model.parameters) == ("blur", "ONNX", None)
    degraded = images(*size, count=2)
    assert torch.allclose(model.restore(degraded), blurred(degraded), atol=1e-6)


@pytest.mark.parametrize("multiple", [2, 8, 64])
def test_the_multiple_an_onnx_model_needs_is_found_and_padded_to(tmp_path: Path, multiple: int) -> None:
    model = open_model(write_onnx(tmp_path / "blur.onnx", multiple=multiple))
    degraded = images(31, 70, count=2)
    restored = model.restore(degraded)
    assert isinstance(model.restore, Foreign)
    assert model.restore.multiple == multiple
    assert restored.shape == degraded.shape
    assert torch.allclose(restored[..., :-1, :-1], blurred(degraded)[..., :-1, :-1], atol=1e-6)


@pytest.mark.parametrize("size", [(5, 7), (24, 16), (50, 40), (25, 90)], ids=str)
@pytest.mark.parametrize("batch", [1, 2])
def test_an_onnx_model_of_fixed_size_restores_in_tiles_without_seams(
    tmp_path: Path, size: tuple[int, int], batch: int
) -> None:
    model = open_model(write_onnx(tmp_path / "blur.onnx", shape=(batch, 3, 24, 16)))
    assert model.kind == "ONNX, in tiles of 16 x 24"
    degraded = images(*size, count=3)
    restored = model.restore(degraded)
    assert restored.shape == degraded.shape
    assert torch.allclose(restored[..., :-1, :-1], blurred(degraded)[..., :-1, :-1], atol=1e-6)


@pytest.mark.parametrize(
    ("graph", "reason"),
    [
        ({"shape": ("b", 1, "h", "w")}, r"takes an input of shape \(any, 1, any, any\): expected RGB"),
        ({"shape": ("b", 3, "h")}, r"takes an input of shape \(any, 3, any\): expected RGB|cannot be read as an ONNX"),
        ({"shape": ("b", 3, 16, "w")}, "expected both sides fixed, or both free"),
        ({"kind": TensorProto.FLOAT16}, r"inputs image: tensor\(float16\): expected one image"),
        ({"scale": float("nan")}, "values that are not finite"),
    ],
    ids=["grey", "no image", "half fixed", "float16", "NaN"],
)
def test_onnx_models_that_are_no_restorers_are_refused(tmp_path: Path, graph: dict[str, Any], reason: str) -> None:
    assert_matches(reason, refusal(write_onnx(tmp_path / "blur.onnx", **graph)))


def assert_matches(reason: str, message: str) -> None:
    with pytest.raises(UnseenError, match=reason):
        raise UnseenError(message)


def test_a_damaged_onnx_file_is_refused(tmp_path: Path) -> None:
    path = write_onnx(tmp_path / "blur.onnx")
    path.write_bytes(path.read_bytes()[:-40])
    assert "cannot be read as an ONNX model" in refusal(path)


def test_an_onnx_model_without_its_extra_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_onnx(tmp_path / "blur.onnx")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert "pip install 'unseen[onnx]'" in refusal(path)


def test_onnx_weights_in_a_file_beside_count_for_the_content(tmp_path: Path) -> None:
    path = write_onnx(tmp_path / "blur.onnx")
    alone = open_model(path).content
    path.with_name("blur.onnx.data").write_bytes(b"weights")
    assert open_model(path).content != alone


# What executes code


class Halved(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.tensor(0.5))

    def forward(self, degraded: Tensor) -> Tensor:
        return degraded * self.gain


def as_torchscript(path: Path) -> None:
    with warnings.catch_warnings(action="ignore"):
        torch.jit.save(torch.jit.script(Halved()), path)


def as_export(path: Path) -> None:
    free = {0: torch.export.Dim.AUTO, 2: torch.export.Dim.AUTO, 3: torch.export.Dim.AUTO}
    torch.export.save(torch.export.export(Halved(), (images(16, 18, count=2),), dynamic_shapes=(free,)), path)


def as_export_of_one_size(path: Path) -> None:
    torch.export.save(torch.export.export(Halved(), (images(16, 24),)), path)


slow = pytest.mark.slow  # torch.export imports a compiler


@pytest.mark.parametrize(
    ("write", "kind"),
    [
        (as_torchscript, "TorchScript"),
        pytest.param(as_export, "torch.export", marks=slow),
        pytest.param(as_export_of_one_size, "torch.export, in tiles of 24 x 16", marks=slow),
    ],
)
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
def test_programs_open_with_trust_alone(tmp_path: Path, write: Callable[[Path], None], kind: str) -> None:
    path = tmp_path / "halved.pt"
    write(path)
    assert "executes whatever its author wrote" in refusal(path)
    assert "--trust" in refusal(path)
    model = open_model(path, trust=True)
    assert (model.name, model.kind, model.parameters) == ("halved", kind, 1)
    degraded = images(21, 30, count=2)
    assert torch.allclose(model.restore(degraded), degraded / 2)


CODE = """
from pathlib import Path
import torch
from torch import nn

Path("imported").touch()

class Net(nn.Module):
    def __init__(self, width=3):
        super().__init__()
        self.gain = nn.Parameter(torch.tensor(0.5))
    def forward(self, image):
        assert not self.training
        return image * self.gain

net = Net()
number = 3

def halve(images):
    return images.mul_(0.5)

def several(images):
    return {"small": images[..., ::2, ::2], "all": [images / 2, images * 0]}

def make(path="weights"):
    return Net()

def make_number():
    return 3

def enlarge(images):
    return images.repeat_interleave(2, -1)

def fail(images):
    raise ValueError("no such thing\\nas this")

def nothing(images):
    return None

def not_finite(images):
    return images / 0

class Needy(nn.Module):
    def __init__(self, width):
        super().__init__()

class Holder:
    restore = staticmethod(halve)
"""


@pytest.fixture
def code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with a package of somebody's own."""
    (tmp_path / "own_code").mkdir()
    (tmp_path / "own_code" / "__init__.py").touch()
    (tmp_path / "own_code" / "models.py").write_text(CODE)
    (tmp_path / "own_code" / "broken.py").write_text("import a_module_that_is_not_there")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    for name in [name for name in sys.modules if name.partition(".")[0] == "own_code"]:
        monkeypatch.delitem(sys.modules, name)
    return tmp_path


@pytest.mark.parametrize("name", ["net", "Net", "make", "halve", "several", "Holder.restore"])
def test_a_python_name_opens_with_trust_alone(code: Path, name: str) -> None:
    source = f"own_code.models:{name}"
    assert "--trust" in refusal(source)
    assert not (code / "imported").exists()
    model = open_model(source, trust=True)
    assert (model.name, model.path) == (f"models.{name}", None)
    degraded = images(9, 7, count=2)
    before = degraded.clone()
    assert torch.allclose(model.restore(degraded), degraded / 2)
    assert torch.equal(degraded, before)
    if name in ("net", "Net", "make"):
        assert (model.parameters, model.kind) == (1, "Net (Python)")
        assert model.content == open_model("own_code.models:net", trust=True).content
    else:
        assert (model.parameters, model.content, model.kind) == (None, None, "Python")


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("own_code.models:absent", "has no attribute 'absent'"),
        ("own_code.absent:net", "No module named"),
        ("own_code.broken:net", "No module named 'a_module_that_is_not_there'"),
        ("own_code.models:number", "is of int: expected a function on images, or a torch module"),
        ("own_code.models:make_number", "is of int"),
        ("own_code.models:Needy", "missing 1 required positional argument: 'width'"),
        ("own_code.models:enlarge", r"it returned \(1, 3, 64, 128\) for \(1, 3, 64, 64\)"),
        ("own_code.models:fail", "no such thing"),
        ("own_code.models:nothing", "it returned no tensor"),
        ("own_code.models:not_finite", "values that are not finite"),
    ],
)
def test_code_that_restores_nothing_is_refused_with_the_reason(code: Path, source: str, reason: str) -> None:
    assert_matches(reason, refusal(source, trust=True))


# Foreign


def test_the_multiple_is_searched_for_once_and_only_when_used() -> None:
    shapes = []

    def needs_four(degraded: Tensor) -> Tensor:
        shapes.append(degraded.shape[-2:])
        return F.interpolate(F.avg_pool2d(degraded, 4), scale_factor=4.0)

    restore = Foreign("a model", needs_four)
    assert not shapes
    restored = restore(images(30, 41))
    assert restored.shape[-2:] == (30, 41)
    assert restore.multiple == 4
    searched = len(shapes)
    restore(images(33, 41))
    assert [tuple(shape) for shape in shapes[searched:]] == [(36, 44)]


def test_what_fails_later_is_told_with_the_size() -> None:
    def only_small(degraded: Tensor) -> Tensor:
        if degraded.shape[-1] > 50:
            raise MemoryError("no room")
        return degraded

    restore = Foreign("a model", only_small)
    restore(images(20, 20))
    with pytest.raises(CheckpointError, match=r"a model failed on 2 images of 60 x 20 pixels: no room"):
        restore(images(20, 60, count=2))


def test_a_model_may_use_gradients() -> None:
    def ascend(degraded: Tensor) -> Tensor:
        with torch.enable_grad():
            start = degraded.clone().requires_grad_()
            (slope,) = torch.autograd.grad(start.square().sum() / 4, start)
        return slope

    degraded = images(5, 5)
    assert torch.allclose(Foreign("a model", ascend)(degraded), degraded / 2)


# What is refused


class Code:
    """Pickled, this touches a file where it is unpickled."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return os.mkdir, (str(self.canary),)


def pickled_raw(content: object, path: Path) -> None:
    path.write_bytes(pickle.dumps(content, protocol=2))


@pytest.mark.parametrize("write", [torch.save, in_the_old_format, pickled_raw], ids=lambda write: write.__name__)
@pytest.mark.parametrize(
    ("suffix", "trust"), [(".pth", False), (".pth", True), (".pt", True), (".safetensors", True), (".onnx", True)]
)
def test_a_pickle_with_code_in_it_is_refused_and_not_executed(
    tmp_path: Path, write: Callable[[Any, Path], None], suffix: str, trust: bool
) -> None:
    canary, path = tmp_path / "canary", tmp_path / f"model{suffix}"
    write({"extra": Code(canary), **prenet_weights()}, path)
    message = refusal(path, trust=trust)
    assert not canary.exists()
    if suffix != ".onnx":
        assert_matches(r"holds more than weights: unpickling it would run code \((posix|nt)\.mkdir\)", message)
        assert "was not done" in message
    pickle.loads(pickle.dumps(Code(canary)))  # the canary would have sung
    assert canary.exists()


def test_a_whole_pickled_module_is_refused_with_what_to_do(tmp_path: Path) -> None:
    torch.save(nn.Conv2d(3, 3, 3), tmp_path / "net.pth")
    assert "save its state_dict() alone" in refusal(tmp_path / "net.pth")


def without_end(path: Path) -> None:
    torch.save(prenet_weights(), path)
    path.write_bytes(path.read_bytes()[:-200])


def without_end_in_the_old_format(path: Path) -> None:
    in_the_old_format(prenet_weights(), path)
    path.write_bytes(path.read_bytes()[:-200])


def of_a_huge_header(path: Path) -> None:
    path.write_bytes((1 << 62).to_bytes(8, "little") + b"{}")


def of_a_header_beyond_its_end(path: Path) -> None:
    path.write_bytes((1 << 20).to_bytes(8, "little") + b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}')


def of_noise(path: Path) -> None:
    path.write_bytes(b"\x80\x02" + bytes(range(256)) * 4)


def of_an_image(path: Path) -> None:
    write_image(path.with_suffix(".png"), images(4, 4)[0].permute(1, 2, 0).numpy())
    path.with_suffix(".png").rename(path)


def of_an_archive(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("notes.txt", "nothing")


def of_zeros_packed_small(path: Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x/data.pkl", b"\0" * 10_000_000)


def of_one_value_spread_wide(path: Path) -> None:
    torch.save({**prenet_weights(), "conv.0.bias": torch.zeros(1).expand(10**12)}, path)


def of_a_program(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("model/archive_format", "pt2")


def of_itself(path: Path) -> None:
    weights: dict[str, Any] = {}
    weights["model"] = weights
    torch.save(weights, path)


def with_changes(**changes: Tensor | None) -> Callable[[Path], None]:
    """The weights of a PReNet, with some replaced or (None) left out."""

    def write(path: Path) -> None:
        weights: dict[str, Tensor | None] = {**prenet_weights()}
        weights |= {name.replace("__", "."): value for name, value in changes.items()}
        torch.save({name: value for name, value in weights.items() if value is not None}, path)

    return write


@pytest.mark.parametrize(
    ("write", "reason"),
    [
        (lambda path: path.write_text("learning rate: 3\n" * 9), "is no model: it is a text file. Expected a run's"),
        (lambda path: path.write_text("<!doctype html><p>Not found"), "a web page: the download went wrong"),
        (lambda path: path.write_text("version https://git-lfs.github.com/spec/v1\n"), "git lfs pull"),
        (lambda path: path.write_bytes(b""), "is empty"),
        (of_an_image, "is no model: it is an image"),
        (of_an_archive, "is a zip archive and holds no model"),
        (of_noise, "is no weight file of PyTorch, or is damaged"),
        (without_end, "is cut short, or damaged"),
        (without_end_in_the_old_format, "is no weight file of PyTorch, or is damaged"),
        (of_a_huge_header, "is not a safetensors file, or is damaged"),
        (of_a_header_beyond_its_end, "is not a safetensors file, or is damaged"),
        (of_zeros_packed_small, "claims 10000000 bytes, more than it holds"),
        (of_one_value_spread_wide, r"claims more weights than it holds, the first in conv\.0\.bias"),
        (of_a_program, "is a torch.export model, and using it executes"),
        (of_itself, "holds no weights by name"),
        (lambda path: torch.save([torch.zeros(3)], path), "holds no weights by name"),
        (lambda path: torch.save({"epoch": 3}, path), "holds no weights by name"),
        (with_changes(conv__0__bias=torch.zeros(4)), r"conv\.0\.bias \(4,\) \(expected \(3,\)\); 1 in all"),
        (with_changes(conv__0__bias=None), r"conv\.0\.bias missing \(expected \(3,\)\); 1 in all"),
        (with_changes(extra=torch.zeros(4)), r"extra \(4,\) \(not expected\); 1 in all"),
        (with_changes(conv__0__bias=torch.tensor([0.0, torch.nan, 0.0])), r"are not finite: conv\.0\.bias"),
        (with_changes(conv0__0__weight=torch.tensor(1.0)), "the names of a PReNet, in shapes that none has"),
        (with_changes(conv0__0__weight=torch.zeros(5000, 1)), "the names of a PReNet, in shapes that none has"),
    ],
    ids=["text", "web page", "LFS pointer", "empty", "image", "archive", "noise", "truncated", "truncated, old format",
         "huge header", "header beyond the end", "zip bomb", "spread", "program", "itself", "list", "numbers", "shape",
         "missing", "extra", "NaN", "no shape", "too wide"],
)  # fmt: skip
@pytest.mark.parametrize("name", ["model.pth", "model.safetensors"])
def test_files_that_hold_no_model_are_refused_with_the_reason(
    tmp_path: Path, write: Callable[[Path], object], reason: str, name: str
) -> None:
    path = tmp_path / name
    write(path)
    assert_matches(reason, refusal(path))


def test_weights_of_a_network_that_nobody_knows_are_named(tmp_path: Path) -> None:
    torch.save({"head.weight": torch.zeros(3), "tail.weight": torch.zeros(3)}, tmp_path / "other.pth")
    message = refusal(tmp_path / "other.pth")
    assert "2 tensors, the first 'head.weight'" in message
    assert "zoo" in message or "spandrel" in message


@pytest.mark.parametrize("broken", ["spandrel", "torchvision"])
def test_without_the_zoo_its_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: str) -> None:
    torch.save({"head.weight": torch.zeros(3)}, tmp_path / "other.pth")
    if broken == "spandrel":
        monkeypatch.setitem(sys.modules, "spandrel", None)
    else:  # a package that fails as spandrel does beside a torchvision of another build
        (tmp_path / "spandrel.py").write_text('raise RuntimeError("operator torchvision::nms does not exist")')
        monkeypatch.syspath_prepend(tmp_path)
        monkeypatch.delitem(sys.modules, "spandrel", raising=False)
    message = refusal(tmp_path / "other.pth")
    expected = "pip install 'unseen[zoo]'" if broken == "spandrel" else "torchvision does not fit torch"
    assert expected in message


@pytest.mark.skipif(
    importlib.util.find_spec("spandrel") is None, reason="spandrel is not installed: pip install 'unseen[zoo]'"
)
def test_what_spandrel_recognises_is_opened(tmp_path: Path) -> None:
    from spandrel.architectures.SCUNet import SCUNet  # pyright: ignore[reportMissingImports]

    network = SCUNet(in_nc=3, config=[1] * 7, dim=16)
    torch.save(network.state_dict(), tmp_path / "net.pth")
    model = open_model(tmp_path / "net.pth")
    assert model.kind == "SCUNet (spandrel)"
    degraded = images(33, 47, count=2)
    assert model.restore(degraded).shape == degraded.shape


def test_nothing_there_is_told_with_what_could_be(tmp_path: Path) -> None:
    assert "There is no model at" in refusal(tmp_path / "absent.pth")
    assert "There is no checkpoint at" in refusal(tmp_path)


@pytest.mark.parametrize("options", [{"device": "warp"}, {"device": "meta"}, {"precision": "fp8"}])
def test_options_that_are_none_are_refused(tmp_path: Path, options: dict[str, str]) -> None:
    torch.save(prenet_weights(), tmp_path / "rain.pth")
    with pytest.raises(ConfigError, match="use "):
        open_model(tmp_path / "rain.pth", **options)


def test_weights_can_be_read_alone(tmp_path: Path) -> None:
    torch.save({"params": prenet_weights()}, tmp_path / "rain.pth")
    read = read_weights(tmp_path / "rain.pth")
    assert all(torch.equal(read[name], value) for name, value in prenet_weights().items())


def test_a_model_is_a_frozen_value() -> None:
    model = Model(name="identity", restore=lambda degraded: degraded, kind="baseline")
    with pytest.raises(AttributeError):
        model.name = "other"  # type: ignore[misc]
