"""Networks of ours as files that run without this package: ONNX graphs, and programs of torch.export.

Such a file takes RGB in [0, 1], float32, (b, 3, h, w), as "degraded" and gives the same shape, clipped to [0, 1], as
"restored". What is written is opened again and compared with the network before it gets its name.
"""

import copy
import json
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.fx.experimental import _config as symbolic

from unseen import __version__
from unseen.checkpoints import replace_with
from unseen.errors import CheckpointError, ConfigError
from unseen.models.model import Model
from unseen.networks import Guided, NetworkConfig, Refined, SwinIR
from unseen.priors import Prior, open_prior
from unseen.seeding import generator
from unseen.tensors import first_line
from unseen.types import Images

FORMATS = {".onnx": "onnx", ".pt2": "torch"}
"""What is written, by the suffix of the file."""

OPSET = 17
"""Of ONNX: the first in which layer normalisation is one operation. onnxruntime reads it from 1.12."""

LIMIT = 1e-3
"""The largest difference from the network, of 1, with which a file is kept."""

SIZES = ((1, 16, 16), (1, 17, 23), (1, 1, 1), (2, 8, 40), (3, 33, 9))
"""Images, rows and columns at which it is looked for."""

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Exported:
    """What was written. `size` is the one that it takes, (h, w); None: any of at least `smallest` pixels a side.

    `differences` holds the largest difference from the network, of 1, for each (images, rows, columns) that was tried.
    `prior` is the name of the content prior whose weights are in the file, if any: its licence holds for the file.
    """

    path: Path
    format: str
    size: tuple[int, int] | None
    smallest: int
    differences: dict[tuple[int, int, int], float]
    prior: str | None = None

    @property
    def difference(self) -> float:
        return max(self.differences.values())


def export(
    model: Model, path: Path, *, size: tuple[int, int] | None = None, progress: Progress | None = None
) -> Exported:
    """Write the network of `model`, in fp32, as the format that the suffix of `path` names (`FORMATS`).

    `size`, (h, w): for images of that size only, which SwinIR needs. Raises ConfigError for what cannot be exported so,
    and CheckpointError where the file cannot be written or differs by more than `LIMIT`; then there is no file.
    """
    kind = FORMATS.get(path.suffix.lower())
    if kind is None:
        raise ConfigError(f"{path} names no format by its suffix: expected one of {', '.join(FORMATS)}.")
    if model.network is None:
        raise ConfigError(
            f"{model.name} ({model.kind}) has no network to export: expected a checkpoint, a run's folder, or "
            "published weights of a network that is built in (docs/models.md)."
        )
    if isinstance(model.network, Refined):
        model = _without_diffusion(model, model.network)
    assert model.network is not None
    _check_kind(model.network, kind, size)
    if kind == "onnx":
        _onnx()
    whole = Whole(model.network)
    # Of images that it leaves alone nothing tells of the network: that is also compared without the rule.
    bare = None if whole.abstain is None else _without_abstaining(model, path, size)
    steps = _Steps(progress, 2 + (len(SIZES) if size is None else 2))
    facts = _facts(model, whole, size)
    with torch.no_grad(), warnings.catch_warnings(action="ignore"):  # of ways of exporting, and of what is traced
        try:
            if size is not None:
                whole(torch.zeros(1, 3, *size))  # what a network keeps for a size is made now, not while it is traced
            data, smallest = (_as_onnx if kind == "onnx" else _as_program)(whole, size, facts)
        except Exception as error:  # what cannot be traced ends in any error
            free = " with free sides: name one size with --size, or another network" if size is None else ""
            raise CheckpointError(
                f"{model.name} ({model.kind}) cannot be exported{free} ({first_line(error)})."
            ) from error
        steps.done()
        sizes = [(images, max(rows, smallest), max(columns, smallest)) for images, rows, columns in SIZES]
        differences: dict[tuple[int, int, int], float] = {}

        def write(temporary: Path) -> None:
            temporary.write_bytes(data)
            steps.done()
            call = (_session if kind == "onnx" else _program)(temporary, path)
            for tried in sizes if size is None else [(1, *size), (2, *size)]:
                differences[tried] = _difference(whole, call, tried, path)
                steps.done()

        replace_with(path, write)
    if bare is not None:
        differences = {tried: max(found, bare[tried]) for tried, found in differences.items()}
    return Exported(path, kind, size, smallest, differences, None if whole.prior is None else whole.prior.name)


class Whole(nn.Module):
    """A network with all that comes after it, clipping and leaving alone: a frozen copy in plain memory order."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = copy.deepcopy(network).to("cpu", torch.float32, memory_format=torch.contiguous_format)  # pyright: ignore[reportCallIssue]
        self.prior: Prior | None = open_prior(network.config.prior) if isinstance(network, Guided) else None
        self.abstain = getattr(getattr(network, "config", None), "abstain", None)
        self.eval().requires_grad_(False)

    def forward(self, degraded: Images) -> Images:
        return self.spare(degraded, self.network(degraded).clamp(0, 1))

    def spare(self, degraded: Images, restored: Images) -> Images:
        """`restored`, but for what is to be left as it is."""
        return restored if self.abstain is None else self.abstain(degraded, restored)


class _Grown(nn.Module):
    """The same, but images are grown and cropped here, by indices: in the network, whether to do so is a branch on
    their size, and torch.export takes one of its ways only. To networks that grow images first and crop them last it
    makes no difference."""

    def __init__(self, whole: Whole) -> None:
        super().__init__()
        self.whole, self.multiple = whole, int(getattr(whole.network, "multiple", 1))

    def forward(self, degraded: Images) -> Images:
        if self.multiple == 1:
            return self.whole(degraded)
        height, width = degraded.shape[-2:]
        rows, columns = (
            torch.arange((side + self.multiple - 1) // self.multiple * self.multiple).clamp(max=side - 1)
            for side in (height, width)
        )
        restored = self.whole.network(degraded.index_select(2, rows).index_select(3, columns)).clamp(0, 1)
        restored = restored.index_select(2, torch.arange(height)).index_select(3, torch.arange(width))
        return self.whole.spare(degraded, restored)


def _without_abstaining(model: Model, path: Path, size: tuple[int, int] | None) -> dict[tuple[int, int, int], float]:
    """How far a file of the same network that leaves nothing alone is from it."""
    assert model.network is not None and model.config is not None
    network = copy.copy(model.network)
    vars(network)["config"] = model.config.model_copy(update={"abstain": None})
    with TemporaryDirectory() as folder:
        return export(replace(model, network=network), Path(folder, path.name), size=size).differences


def _without_diffusion(model: Model, network: Refined) -> Model:
    """What a Refined is where its diffusion model takes no part: the restorer inside."""
    if network.strength:
        raise ConfigError(
            f"{model.name} is a Refined, whose result a diffusion model draws in many steps: that cannot be exported. "
            "`--dial strength=0` exports the restorer inside, whose result is not drawn again."
        )
    inner = copy.copy(network.network)
    config: NetworkConfig = vars(inner)["config"]
    vars(inner)["config"] = config.model_copy(update={"abstain": network.config.abstain})
    return replace(model, network=inner, kind=type(inner).__name__)


def _check_kind(network: nn.Module, kind: str, size: tuple[int, int] | None) -> None:
    if isinstance(network, SwinIR) and size is None:
        raise ConfigError(
            "The windows of a SwinIR are laid for one size, and so is a file of it: name it with --size, such as "
            "--size 64,64. `unseen evaluate` and `unseen restore` then restore in tiles of that size."
        )
    if not isinstance(network, Guided):
        return
    if kind == "torch":
        raise ConfigError("A Guided restorer cannot be exported by torch.export: export it to ONNX, -o NAME.onnx.")
    if open_prior(network.config.prior).discrete:
        raise ConfigError(
            f"The prior of this Guided restorer, {open_prior(network.config.prior).name}, has a codebook, which cannot "
            "be exported: keep the checkpoint, and use it by `unseen restore --model`."
        )


def _facts(model: Model, whole: Whole, size: tuple[int, int] | None) -> dict[str, str]:
    """What a file says of itself, for people and programs."""
    shape = "(b, 3, h, w)" if size is None else f"(b, 3, {size[0]}, {size[1]})"
    facts = {
        "unseen": __version__,
        "name": model.name,
        "kind": model.kind,
        "degraded": f"RGB, sRGB-encoded, in [0, 1], float32, {shape}",
        "restored": "the same, clipped to [0, 1]",
        "content": model.content or "",
        "network": whole.network.config.model_dump_json(exclude={"prior": {"source"}}),
    }
    if model.experiment is not None:
        facts |= {"experiment": model.experiment.id, "step": str(model.step)}
    if whole.prior is not None:
        name = whole.prior.name
        facts |= {"prior": f"{name} ({whole.prior.content}): its weights are in this file, under its licence"}
    return facts


def _example(whole: Whole, size: tuple[int, int] | None) -> Images:
    """Zeros whose sides are no multiples of what the network needs: what is traced then grows and crops them."""
    multiple = int(getattr(whole.network, "multiple", 1))
    return torch.zeros(2, 3, *(size or (2 * multiple + 3, 3 * multiple + 5)))


def _as_onnx(whole: Whole, size: tuple[int, int] | None, facts: dict[str, str]) -> tuple[bytes, int]:
    """By torch's older exporter, which traces: it takes a second where the one on torch.export takes ten, and gives
    the same results."""
    onnx, _ = _onnx()
    free = {0: "b"} if size is not None else {0: "b", 2: "h", 3: "w"}
    with TemporaryDirectory() as folder:
        traced = Path(folder) / "traced.onnx"
        torch.onnx.export(
            whole, (_example(whole, size),), traced, dynamo=False, opset_version=OPSET, input_names=["degraded"],
            output_names=["restored"], dynamic_axes={"degraded": free, "restored": free},
        )  # fmt: skip
        graph = onnx.load(traced)
    graph.producer_name, graph.producer_version = "unseen", __version__
    onnx.helper.set_model_props(graph, facts)
    onnx.checker.check_model(graph)
    return graph.SerializeToString(), 1


def _as_program(whole: Whole, size: tuple[int, int] | None, facts: dict[str, str]) -> tuple[bytes, int]:
    """The program, and the smallest side that it takes."""
    free = torch.export.Dim.DYNAMIC
    axes = {0: free} if size is not None else {0: free, 2: free, 3: free}
    example = _example(whole, size)
    with symbolic.patch(backed_size_oblivious=True):  # pyright: ignore[reportAttributeAccessIssue]  (sides of 1 too)
        program = torch.export.export(whole if size is not None else _Grown(whole), (example,), dynamic_shapes=(axes,))
    program.example_inputs = None  # with them, the file would refuse what they are not, such as a single image
    bounds = [int(bound.lower) for bound in program.range_constraints.values()]
    smallest = max(bounds, default=1)
    buffer = BytesIO()
    torch.export.save(program, buffer, extra_files={"unseen.json": json.dumps(facts)})
    return buffer.getvalue(), smallest if smallest > 2 else 1  # torch's 2 means any


def _session(written: Path, path: Path) -> Callable[[Images], Tensor]:
    _, onnxruntime = _onnx()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(str(written), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # of a dozen classes without a common one
        raise CheckpointError(f"{path} was not kept: onnxruntime cannot open it ({first_line(error)}).") from error
    return lambda images: torch.from_numpy(session.run(["restored"], {"degraded": images.numpy()})[0])


def _program(written: Path, path: Path) -> Callable[[Images], Tensor]:
    try:
        with written.open("rb") as file:
            return torch.export.load(file).module()  # pyright: ignore[reportArgumentType]
    except Exception as error:
        raise CheckpointError(f"{path} was not kept: torch cannot open it ({first_line(error)}).") from error


def _difference(whole: Whole, call: Callable[[Images], Tensor], tried: tuple[int, int, int], path: Path) -> float:
    """The largest difference of a file from its network, of 1, for noise of so many images, rows and columns."""
    images, rows, columns = tried
    degraded: Float[Tensor, "b 3 h w"] = torch.rand(
        images, 3, rows, columns, generator=generator(0, "export", images, rows, columns)
    )
    told = f"{images} x 3 x {rows} x {columns}"
    expected = whole(degraded)
    try:
        found = call(degraded)
    except Exception as error:
        raise CheckpointError(f"{path} was not kept: it fails on {told} ({first_line(error)}).") from error
    if found.shape != expected.shape:
        raise CheckpointError(f"{path} was not kept: of {told} it makes {tuple(found.shape)}, expected the same shape.")
    difference = float((found - expected).abs().max())
    if not difference <= LIMIT:  # "not": also true of NaN
        raise CheckpointError(
            f"{path} was not kept: on {told} it differs from the network by {difference:.2g}, and {LIMIT:g} is the "
            "limit. Please report it, with the network's configuration."
        )
    return difference


def _onnx() -> tuple[Any, Any]:
    """The packages onnx and onnxruntime. Any: modules."""
    try:
        import onnx
        import onnxruntime
    except ImportError as error:
        raise ConfigError(
            f"Writing ONNX needs the extra `onnx` ({error.name} is missing): pip install 'unseen[onnx]'."
        ) from error
    return onnx, onnxruntime


class _Steps:
    def __init__(self, progress: Progress | None, total: int) -> None:
        self.progress, self.total, self.count = progress, total, 0

    def done(self) -> None:
        self.count += 1
        if self.progress is not None:
            self.progress(self.count, self.total)
