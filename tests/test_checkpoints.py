"""Checkpoints: what is written is what is read, and whatever else lies there is refused in one clear sentence."""

import json
import os
import resource
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from unseen.checkpoints import FORMAT, fill, load_checkpoint, replace_with, restorer, save_network
from unseen.errors import CheckpointError
from unseen.experiment import Experiment, has_bf16
from unseen.networks import ResNetConfig, UNetConfig, build
from unseen.seeding import generator

EXPERIMENT = Experiment(network=ResNetConfig(width=4, blocks=1), seed=3)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "run" / "model.safetensors"
    save_network(path, build(EXPERIMENT.network, 0).state_dict(), EXPERIMENT, 30)
    return path


@contextmanager
def full_disk(limit: int = 512) -> Iterator[None]:
    """No file may grow beyond `limit` bytes: the system refuses, as it does on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


@pytest.mark.parametrize("network", [ResNetConfig(width=4, blocks=1), UNetConfig(width=4, levels=1)], ids=repr)
def test_what_is_written_is_read_back(tmp_path: Path, network: ResNetConfig | UNetConfig) -> None:
    experiment = EXPERIMENT.model_copy(update={"network": network})
    weights = build(network, 0).state_dict()
    save_network(tmp_path / "model.safetensors", weights, experiment, 30)
    for path in (tmp_path, tmp_path / "model.safetensors", str(tmp_path)):
        checkpoint = load_checkpoint(path)
        assert checkpoint.experiment == experiment
        assert checkpoint.step == 30
        assert checkpoint.path == tmp_path / "model.safetensors"
        assert not checkpoint.network.training
        assert checkpoint.parameters == sum(value.numel() for value in weights.values())
        read = checkpoint.network.state_dict()
        assert all(torch.equal(read[name], weights[name]) for name in weights)


def test_the_content_names_the_weights_and_not_the_place(saved: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy.safetensors"
    copy.write_bytes(saved.read_bytes())
    assert load_checkpoint(copy).content == load_checkpoint(saved).content
    save_network(copy, build(EXPERIMENT.network, 1).state_dict(), EXPERIMENT, 30)
    assert load_checkpoint(copy).content != load_checkpoint(saved).content


def test_the_same_network_gives_the_same_bytes(saved: Path, tmp_path: Path) -> None:
    for number in range(5):
        path = tmp_path / f"{number}.safetensors"
        save_network(path, build(EXPERIMENT.network, 0).state_dict(), EXPERIMENT, 30)
        assert path.read_bytes() == saved.read_bytes()


def test_channels_last_weights_are_written_too(tmp_path: Path) -> None:
    network = build(EXPERIMENT.network, 0).to(memory_format=torch.channels_last)
    save_network(tmp_path / "model.safetensors", network.state_dict(), EXPERIMENT, 1)
    read = load_checkpoint(tmp_path).network.state_dict()
    assert all(torch.equal(read[name], value) for name, value in network.state_dict().items())


def test_a_restorer_maps_images_to_images(saved: Path) -> None:
    degraded = torch.rand(2, 3, 9, 7, generator=generator(0, "test"))
    restored = restorer(load_checkpoint(saved).network)(degraded)
    assert restored.shape == degraded.shape
    assert restored.min() >= 0
    assert restored.max() <= 1
    assert not restored.requires_grad
    network = load_checkpoint(saved).network
    assert torch.allclose(restored, network(degraded).clamp(0, 1), atol=1e-6)


def test_values_that_are_not_finite_are_an_error_and_no_black_image(saved: Path) -> None:
    network = load_checkpoint(saved).network
    for weight in network.parameters():
        weight.data *= 1e20
    with pytest.raises(CheckpointError, match="not finite"):
        restorer(network)(torch.rand(1, 3, 8, 8, generator=generator(0, "test")))


def test_weights_of_half_precision_are_used_in_full(saved: Path, tmp_path: Path) -> None:
    with safe_open(saved, "pt") as file:
        halves, header = {name: file.get_tensor(name).half() for name in file.keys()}, file.metadata()  # noqa: SIM118
    save_file(halves, tmp_path / "half.safetensors", metadata=header)
    degraded = torch.rand(1, 3, 8, 8, generator=generator(0, "test"))
    one, other = (restorer(load_checkpoint(path).network)(degraded) for path in (saved, tmp_path / "half.safetensors"))
    assert torch.allclose(one, other, atol=1e-2)


@pytest.mark.skipif(not has_bf16("cpu"), reason="this processor has no bf16 arithmetic: run on one that has")
def test_a_restorer_in_bf16_agrees_to_its_precision(saved: Path) -> None:
    degraded = torch.rand(2, 3, 9, 7, generator=generator(0, "test"))
    exact, rough = (restorer(load_checkpoint(saved).network, precision=precision) for precision in ("fp32", "bf16"))
    assert rough(degraded).dtype == torch.float32
    assert torch.allclose(exact(degraded), rough(degraded), atol=0.02)


def rewritten(path: Path, *, header: dict[str, Any] | None = None, **changes: torch.Tensor | None) -> None:
    """Write the file again with another header, with tensors replaced or (None) left out."""
    weights: dict[str, torch.Tensor | None] = {**load_checkpoint(path).network.state_dict()}
    weights |= {name.replace("_", "."): value for name, value in changes.items()}
    usual = {"format": FORMAT, "experiment": EXPERIMENT.model_dump(mode="json"), "step": 30}
    kept = {name: value for name, value in weights.items() if value is not None}
    save_file(kept, path, metadata={"unseen": json.dumps({**usual, **(header or {})})})


def as_text(path: Path) -> None:
    path.write_text("this is no checkpoint\n")


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def emptied(path: Path) -> None:
    path.write_bytes(b"")


def claiming_a_huge_header(path: Path) -> None:
    path.write_bytes((1 << 62).to_bytes(8, "little") + b"{}")


def pickled(path: Path) -> None:
    torch.save({"weight": torch.zeros(3)}, path)


def of_someone_else(path: Path) -> None:
    save_file({"weight": torch.zeros(3)}, path)


def of_another_version(path: Path) -> None:
    rewritten(path, header={"format": "unseen-99"})


def with_an_unknown_experiment(path: Path) -> None:
    rewritten(path, header={"experiment": {**EXPERIMENT.model_dump(mode="json"), "wisdom": 3}})


def with_an_experiment_that_is_none(path: Path) -> None:
    rewritten(path, header={"experiment": "a good one"})


def with_a_header_that_is_no_json(path: Path) -> None:
    save_file({"weight": torch.zeros(3)}, path, metadata={"unseen": "{"})


def with_a_header_that_is_a_list(path: Path) -> None:
    save_file({"weight": torch.zeros(3)}, path, metadata={"unseen": "[]"})


def with_a_step_that_is_no_number(path: Path) -> None:
    rewritten(path, header={"step": "many"})


def without_a_step(path: Path) -> None:
    rewritten(path, header={"step": None})


def of_another_shape(path: Path) -> None:
    rewritten(path, tail_bias=torch.zeros(4))


def with_one_missing(path: Path) -> None:
    rewritten(path, tail_bias=None)


def with_one_too_many(path: Path) -> None:
    rewritten(path, tail_scale=torch.zeros(4))


def with_a_nan(path: Path) -> None:
    rewritten(path, tail_bias=torch.tensor([0.0, float("nan"), 0.0]))


def removed(path: Path) -> None:
    path.unlink()


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (as_text, "is not a safetensors file, or is damaged"),
        (cut_short, "is not a safetensors file, or is damaged"),
        (emptied, "is not a safetensors file, or is damaged"),
        (claiming_a_huge_header, "is not a safetensors file, or is damaged"),
        (pickled, "is not a safetensors file, or is damaged"),
        (of_someone_else, "header says format None, expected 'unseen-1'"),
        (of_another_version, "header says format 'unseen-99', expected 'unseen-1'"),
        (with_an_unknown_experiment, "experiment in the header of .* cannot be read.*wisdom"),
        (with_an_experiment_that_is_none, "experiment in the header of .* cannot be read"),
        (with_a_header_that_is_no_json, "header says format None, expected 'unseen-1'"),
        (with_a_header_that_is_a_list, "header says format None, expected 'unseen-1'"),
        (without_a_step, "in the header of .* cannot be read"),
        (with_a_step_that_is_no_number, "in the header of .* cannot be read.*many"),
        (of_another_shape, r"do not fit the network: tail.bias \(4,\) \(expected \(3,\)\); 1 in all"),
        (with_one_missing, r"do not fit the network: tail.bias missing \(expected \(3,\)\); 1 in all"),
        (with_one_too_many, r"do not fit the network: tail.scale \(4,\) \(not expected\); 1 in all"),
        (with_a_nan, "are not finite: tail.bias"),
        (removed, "There is no checkpoint at .*Train one with"),
    ],
)  # fmt: skip
def test_what_is_no_checkpoint_is_refused_with_the_reason(
    saved: Path, spoil: Callable[[Path], None], reason: str
) -> None:
    spoil(saved)
    with pytest.raises(CheckpointError, match=f"(?s){reason}") as caught:
        load_checkpoint(saved)
    assert str(saved) in str(caught.value)


def test_a_folder_without_a_checkpoint_is_refused_with_the_name_it_should_have(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"There is no checkpoint at .*model\.safetensors"):
        load_checkpoint(tmp_path)


def test_weights_that_do_not_fit_leave_the_network_alone() -> None:
    network = build(EXPERIMENT.network, 0)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    with pytest.raises(CheckpointError, match="do not fit"):
        fill(network, build(ResNetConfig(width=8, blocks=1), 0).state_dict(), Path("other.safetensors"))
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())


def test_a_full_disk_leaves_the_old_checkpoint_intact(saved: Path) -> None:
    before = saved.read_bytes()
    weights = build(EXPERIMENT.network, 1).state_dict()
    with pytest.raises(CheckpointError, match=f"{saved} could not be written"), full_disk():
        save_network(saved, weights, EXPERIMENT, 60)
    assert saved.read_bytes() == before
    assert os.listdir(saved.parent) == [saved.name]


def test_a_full_disk_leaves_the_old_state_intact(tmp_path: Path) -> None:
    """States are written by `torch.save`, whose errors are of another kind."""
    path = tmp_path / "state.pt"
    replace_with(path, lambda temporary: torch.save(torch.zeros(3), temporary))
    before = path.read_bytes()
    with pytest.raises(CheckpointError, match=f"{path} could not be written"), full_disk():
        replace_with(path, lambda temporary: torch.save(torch.zeros(3000), temporary))
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == [path.name]


def test_an_interrupted_write_leaves_nothing_behind(saved: Path) -> None:
    before = saved.read_bytes()

    def interrupted(temporary: Path) -> None:
        temporary.write_bytes(b"half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        replace_with(saved, interrupted)
    assert saved.read_bytes() == before
    assert os.listdir(saved.parent) == [saved.name]


def test_a_place_that_cannot_be_written_is_a_clear_error(saved: Path) -> None:
    with pytest.raises(CheckpointError, match="could not be written"):
        save_network(saved / "inside" / "model.safetensors", {}, EXPERIMENT, 1)


def test_a_file_that_replaces_another_is_readable_by_others(saved: Path) -> None:
    assert saved.stat().st_mode & 0o777 == 0o644
