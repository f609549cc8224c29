"""A frozen diffusion model as a guide: in the loss, and for what a restorer gives."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import TypeAdapter, ValidationError

from unseen.checkpoints import load_checkpoint, save_network
from unseen.errors import CheckpointError, ConfigError
from unseen.experiment import Experiment, Recipe
from unseen.losses import AnyLoss
from unseen.models import open_model, turned
from unseen.models.exporting import export
from unseen.networks import AnyNetworkConfig, NetworkConfig, Refined, RefinedConfig, ResNetConfig, build
from unseen.priors import DenoiserConfig, DiffusionL1
from unseen.restoration import Tiler
from unseen.seeding import generator, seeded
from unseen.types import Batch

LOSS: TypeAdapter[Any] = TypeAdapter(AnyLoss)
NETWORK: TypeAdapter[NetworkConfig] = TypeAdapter(AnyNetworkConfig)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> DenoiserConfig:
    """A tiny diffusion model with random weights, saved as diffusers saves one."""
    diffusers = pytest.importorskip("diffusers", reason="needs diffusers: pip install 'unseen[priors]'")
    folder = tmp_path_factory.mktemp("diffusion")
    with seeded(0, "model"):
        diffusers.UNet2DModel(
            block_out_channels=(4, 8), norm_num_groups=2, layers_per_block=1, add_attention=False,
            down_block_types=("DownBlock2D",) * 2, up_block_types=("UpBlock2D",) * 2,
        ).save_pretrained(folder)  # fmt: skip
    diffusers.EDMEulerScheduler(sigma_min=0.002, sigma_max=80.0, sigma_data=0.5).save_pretrained(folder)
    return DenoiserConfig(source=str(folder))


def images(*size: int, count: int = 4, seed: int = 0) -> torch.Tensor:
    return torch.rand(count, 3, *size, generator=generator(seed, "test"))


def batch_of(clean: torch.Tensor) -> Batch:
    mask = torch.zeros(len(clean), 1, *clean.shape[-2:])
    return Batch(degraded=clean, clean=clean, layer=mask, mask=mask)


def test_the_loss_under_noise_vanishes_on_clean_images_and_is_the_mean_of_its_parts(model: DenoiserConfig) -> None:
    clean, restored = images(8, 12), images(8, 12, seed=1).requires_grad_()
    loss = DiffusionL1(denoiser=model, weight=1, every=1)
    assert loss(clean, batch_of(clean)) == 0
    whole = loss(restored, batch_of(clean))
    halves = [loss(restored[part], batch_of(clean[part])) for part in (slice(2), slice(2, 4))]
    assert torch.allclose(whole, torch.stack(halves).mean(), atol=1e-6)
    assert whole > (restored - clean).abs().mean()
    whole.backward()
    assert restored.grad is not None and restored.grad.isfinite().all()
    assert LOSS.validate_json(loss.model_dump_json()) == loss
    with pytest.raises(ValidationError, match="above 0"):
        DiffusionL1(denoiser=model, sigma={"low": 0, "high": 1})  # pyright: ignore[reportArgumentType]


@torch.inference_mode()
def test_a_refined_restorer_is_drawn_once_more_where_it_changed_the_image(model: DenoiserConfig) -> None:
    config = RefinedConfig(network=ResNetConfig(width=4, blocks=1), denoiser=model, strength=0.2, steps=2)
    assert NETWORK.validate_json(config.model_dump_json()) == config
    network = build(config, 0)
    assert isinstance(network, Refined)
    for weight in network.network.get_submodule("tail").parameters():
        weight.zero_()
    degraded = images(11, 9, count=2)
    assert torch.equal(network.train()(degraded), degraded)
    assert torch.allclose(network.eval()(degraded), degraded, atol=1e-6)  # nothing was changed, nothing is drawn
    network.network.get_submodule("tail").bias.fill_(0.1)  # pyright: ignore[reportCallIssue, reportAttributeAccessIssue]
    restored = network.network(degraded).clamp(0, 1)
    drawn = network(degraded)
    assert not torch.allclose(drawn, restored, atol=1e-3) and torch.equal(drawn, network(degraded))
    assert torch.allclose(network(degraded[:1]), drawn[:1], atol=1e-5)
    network.strength = 0.0
    assert torch.equal(network(degraded), network.network(degraded))


@torch.inference_mode()
def test_in_tiles_a_refined_restorer_gives_what_it_gives_of_the_whole_image(model: DenoiserConfig) -> None:
    config = RefinedConfig(network=ResNetConfig(width=4, blocks=1), denoiser=model, strength=0.1, steps=2, masked=False)
    network = build(config, 0).eval()
    image = images(70, 200, count=1).permute(0, 2, 3, 1).numpy()

    def restore(degraded: torch.Tensor) -> torch.Tensor:
        return network(degraded)

    whole, tiled = (Tiler(restore, tile).restore(image) for tile in (512, 64))
    network.strength = 0.0
    alone = Tiler(restore, 512).restore(image)
    assert abs(tiled - whole).max() < 0.01  # its groups are normalised over what it sees
    assert abs(alone - whole).mean() > 0.02


def test_the_loss_of_a_batch_is_that_of_its_parts_on_several_processes(
    model: DenoiserConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    clean, restored = images(8, 8, count=6), images(8, 8, count=6, seed=1)
    loss = DiffusionL1(denoiser=model, weight=1, every=2)
    whole = loss(restored, batch_of(clean))
    for world in (2, 3, 6):
        monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
        monkeypatch.setattr(torch.distributed, "get_world_size", lambda world=world: world)
        found = []
        for rank in range(world):
            monkeypatch.setattr(torch.distributed, "get_rank", lambda rank=rank: rank)
            part = slice(rank * 6 // world, (rank + 1) * 6 // world)
            found.append(loss(restored[part], batch_of(clean[part])))
        assert torch.allclose(torch.stack(found).mean(), whole, atol=1e-6)
        monkeypatch.undo()


@pytest.mark.parametrize(
    ("levels", "said"),
    [
        ({"_class_name": "EDMEulerScheduler", "sigma_min": None}, "no numbers"),
        ({"_class_name": "DDPMScheduler", "beta_schedule": "foo"}, "holds no DDPMScheduler"),
        ({"_class_name": "DDPMScheduler", "num_train_timesteps": "x"}, "holds no DDPMScheduler"),
        ({"_class_name": "DDPMScheduler", "rescale_betas_zero_snr": True}, "finite ones that rise"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_scheduler_that_is_none_is_one_sentence(
    model: DenoiserConfig, tmp_path: Path, levels: dict[str, Any], said: str
) -> None:
    shutil.copytree(model.source, tmp_path / "model")
    (tmp_path / "model" / "scheduler_config.json").write_text(json.dumps(levels))
    with pytest.raises(CheckpointError, match=said):
        DenoiserConfig(source=str(tmp_path / "model"))


@torch.inference_mode()
def test_checkpoints_of_refined_restorers_hold_the_restorer_alone(model: DenoiserConfig, tmp_path: Path) -> None:
    config = RefinedConfig(network=ResNetConfig(width=4, blocks=1), denoiser=model, masked=False)
    network = build(config, 0).eval()
    assert {name.partition(".")[0] for name in network.state_dict()} == {"network"}
    save_network(tmp_path / "model.safetensors", network.state_dict(), Experiment(network=config), 1)
    degraded = images(8, 8, count=1)
    assert torch.equal(load_checkpoint(tmp_path).network(degraded), network(degraded))


def test_a_refined_restorer_is_exported_without_its_diffusion_model_or_not_at_all(
    model: DenoiserConfig, tmp_path: Path
) -> None:
    pytest.importorskip("onnxruntime", reason="needs onnxruntime: pip install 'unseen[onnx]'")
    config = RefinedConfig(network=ResNetConfig(width=4, blocks=1), denoiser=model)
    recipe = Recipe(device="cpu", threads=1)
    experiment = Experiment(network=config, recipe=recipe, content="0123")
    save_network(tmp_path / "net.safetensors", build(config, 0).state_dict(), experiment, 1)
    opened = open_model(tmp_path / "net.safetensors", precision="fp32")
    with pytest.raises(ConfigError, match="--dial strength=0"):
        export(opened, tmp_path / "net.onnx")
    alone = turned(opened, {"strength": 0.0})
    assert export(alone, tmp_path / "net.onnx").difference < 1e-4
    degraded = images(16, 16, count=1)
    assert torch.allclose(open_model(tmp_path / "net.onnx").restore(degraded), alone.restore(degraded), atol=1e-4)
