"""Content priors: what is read is what is used, nothing of it is trained, and nothing in a file is executed."""

import json
import os
import pickle
import shutil
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from pydantic import ValidationError
from safetensors.torch import load_file, save_file
from torch.nn import functional
from typer.testing import CliRunner

from small_priors import small_chains, small_tae, small_weights
from unseen.backgrounds import Backgrounds, BackgroundsConfig
from unseen.errors import CheckpointError, ConfigError, UnseenError
from unseen.images import to_bytes, write_image
from unseen.networks import Guided, GuidedConfig, build
from unseen.priors import DenoiserConfig, Prior, PriorConfig, PriorL1, blank, essence, open_denoiser, open_prior, tae
from unseen.priors.files import WEIGHTS, located
from unseen.restoration.tiles import tiler_for
from unseen.seeding import generator, seeded
from unseen.shipped import shipped_priors
from unseen.types import Batch


def opened(source: Path) -> Prior:
    return open_prior(PriorConfig(source=str(source)))


def images(*size: int, count: int = 2) -> torch.Tensor:
    return torch.rand(count, 3, *size, generator=generator(0, "test"))


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_tae(tmp_path_factory.mktemp("prior"))


def test_the_chain_is_read_off_from_names_and_shapes(small: Path) -> None:
    prior = opened(small)
    encoder, decoder = small_chains()
    assert json.loads(prior.architecture) == {"class": "TAE", "encoder": encoder, "decoder": decoder}
    assert (prior.stride, prior.channels, prior.discrete) == (4, 3, False)
    assert [tap.stride for tap in prior.taps] == [1, 2]


def test_encoding_is_the_formula_written_out(small: Path) -> None:
    """Block by block with functions, from the weights in the file: conv, down, block, down, pooled, conv."""
    weights, _ = small_weights()

    def conv(name: str, features: torch.Tensor, **options: Any) -> torch.Tensor:
        weight = weights[f"{name}.weight"]
        padding = weight.shape[-1] // 2
        return functional.conv2d(features, weight, weights.get(f"{name}.bias"), padding=padding, **options)

    def block(name: str, features: torch.Tensor) -> torch.Tensor:
        inner = conv(f"{name}.conv.2", conv(f"{name}.conv.0", features).relu()).relu()
        return (conv(f"{name}.conv.4", inner) + features).relu()

    clean = images(8, 8)
    features = block("2", conv("1", conv("0", clean), stride=2))
    features = conv("3", features, stride=2)
    pooled = conv("4.pool.0", features)
    pooled = functional.group_norm(pooled, 4, weights["4.pool.1.weight"], weights["4.pool.1.bias"]).relu()
    features = block("4", features + conv("4.pool.3", pooled))
    assert torch.allclose(opened(small).encode(clean), conv("5", features), atol=1e-5)


@pytest.mark.parametrize("size", [(1, 1), (7, 10), (16, 8)], ids=str)
def test_any_size_comes_back_and_has_latents_for_every_started_square(small: Path, size: tuple[int, int]) -> None:
    prior = opened(small)
    clean = images(*size)
    assert prior.encode(clean).shape == (2, 3, -(-size[0] // 4), -(-size[1] // 4))
    assert prior.reconstruct(clean).shape == clean.shape


def test_it_is_frozen_and_gradients_pass_through_it(small: Path) -> None:
    prior = opened(small).train()
    prior.requires_grad_(True)
    assert not any(module.training for module in prior.modules())
    assert not any(weight.requires_grad for weight in prior.parameters())
    clean = images(8, 8).requires_grad_()
    prior.reconstruct(clean).sum().backward()
    assert clean.grad is not None and clean.grad.any()


def test_opened_in_inference_it_serves_training(tmp_path: Path) -> None:
    config = PriorConfig(source=str(small_tae(tmp_path / "other", seed=3)))
    with torch.inference_mode():
        prior = open_prior(config)
    assert prior is open_prior(config, torch.device("cpu"))
    degraded = images(8, 8).requires_grad_()
    prior.encode(degraded).sum().backward()
    assert degraded.grad is not None


def test_the_content_is_of_the_weights_whatever_holds_them(small: Path, tmp_path: Path) -> None:
    for which, weights in zip(("encoder", "decoder"), small_weights(), strict=True):
        save_file(weights, tmp_path / f"renamed_{which}.safetensors")
    one, same = PriorConfig(source=str(small)), PriorConfig(source=str(tmp_path / "renamed_decoder.safetensors"))
    assert one.content == same.content
    assert PriorConfig(source=str(small_tae(tmp_path / "other", seed=1))).content != one.content
    dumped = {"network": {"prior": one.model_dump(), "width": 3}, "source": "kept"}
    assert essence(dumped) == {"network": {"prior": {"content": one.content}, "width": 3}, "source": "kept"}


def test_with_its_content_a_configuration_reads_nothing_and_another_prior_is_refused(tmp_path: Path) -> None:
    known = PriorConfig(source=str(small_tae(tmp_path / "known")))
    gone = PriorConfig(**{**known.model_dump(), "source": str(tmp_path / "gone")})
    with torch.device("meta"):
        assert blank(gone.architecture).stride == 4
    with pytest.raises(ConfigError, match="There is no prior at"):
        open_prior(gone)
    other = small_tae(tmp_path / "other", seed=1)
    with pytest.raises(ConfigError, match="is not the one"):
        open_prior(PriorConfig(**{**known.model_dump(), "source": str(other)}))
    with pytest.raises(ConfigError, match="is not the one"):
        PriorConfig(source=str(other), content=known.content)


def test_a_prior_of_the_package_is_found_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "package"
    monkeypatch.setattr("unseen.shipped.files", lambda name: package)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match="none in this installation"):
        located("small-vae")
    home = package / "weights" / "small-vae"
    home.mkdir(parents=True)
    (home / "config.json").write_text("{}")
    assert shipped_priors() == {"small-vae": home} and located("small-vae") == home
    with pytest.raises(ConfigError, match=r"comes with the package \(small-vae\)"):
        located("small-vqgan")
    (tmp_path / "small-vae").mkdir()
    assert located("small-vae") == home  # an empty folder, or one of something else, is no prior
    (tmp_path / "small-vae" / "encoder.pth").touch()
    assert located("small-vae") == Path("small-vae")


@torch.inference_mode()
def test_those_of_the_package_draw_what_they_have_not_been_trained_on() -> None:
    pytest.importorskip("diffusers")
    assert set(shipped_priors()) == {"small-vae", "small-vqgan", "small-diffusion"}
    embedded = Backgrounds(BackgroundsConfig(part="test"))
    clean = torch.stack([torch.from_numpy(embedded.image(index)[:96, :96].copy()) for index in range(4)])
    clean = clean.permute(0, 3, 1, 2) / 255

    def psnr(found: torch.Tensor) -> float:
        return -10 * (found.clamp(0, 1) - clean).square().mean().log10().item()

    for name, least in (("small-vae", 27), ("small-vqgan", 22)):
        assert psnr(open_prior(PriorConfig(source=name)).reconstruct(clean)) > least, name
    noisy = clean + 0.1 * torch.randn(clean.shape, generator=torch.Generator().manual_seed(0))
    denoised = open_denoiser(DenoiserConfig(source="small-diffusion")).denoise(noisy, torch.full((4,), 0.1))
    assert psnr(denoised) > psnr(noisy) + 5


def test_a_prior_whose_files_have_changed_is_read_again(tmp_path: Path) -> None:
    folder = small_tae(tmp_path / "prior", seed=0)
    before = PriorConfig(source=str(folder)).content
    assert PriorConfig(source=str(folder)).content == before
    small_tae(folder, seed=1)
    assert PriorConfig(source=str(folder)).content != before


@pytest.mark.parametrize("name", shipped_priors())
def test_a_prior_that_is_shipped_opens_and_is_small_and_described(name: str) -> None:
    pytest.importorskip("diffusers")
    home = shipped_priors()[name]
    assert sum(file.stat().st_size for file in home.iterdir()) < 12e6
    assert "licence of the data" in (home / "README.md").read_text()
    if (home / "scheduler_config.json").is_file():
        prior = open_denoiser(DenoiserConfig(source=name))
        noisy = torch.rand(1, 3, 32, 32, generator=generator(0, "test"))
        assert prior.denoise(noisy, torch.full((1,), 0.1)).shape == noisy.shape
    else:
        prior = open_prior(PriorConfig(source=name))
        assert prior.reconstruct(torch.full((1, 3, 32, 32), 0.5)).sub(0.5).abs().mean() < 0.05
    assert prior.name == name


class Stranger:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("executed",)


@pytest.mark.parametrize(("protocol", "said"), [(2, "refused"), (4, "is no weight file")])  # torch writes 2
def test_nothing_in_a_pickle_is_executed(
    protocol: int, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    small_tae(tmp_path / "prior")
    (tmp_path / "prior" / "small_encoder.pth").write_bytes(pickle.dumps({"0.weight": Stranger()}, protocol))
    with pytest.raises(CheckpointError, match=said):
        PriorConfig(source=str(tmp_path / "prior"))
    assert not (tmp_path / "executed").exists()


def test_what_is_no_prior_is_said(tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(CheckpointError, match=r"found none"):
        PriorConfig(source=str(empty))
    (empty / "config.json").write_text('{"_class_name": "UNet2DModel"}')
    with pytest.raises(CheckpointError, match="UNet2DModel"):
        PriorConfig(source=str(empty))
    with pytest.raises(ConfigError, match="no name on the hub"):
        located("hub:only-one-part")


def test_a_repository_of_the_hub_without_a_model_says_where_one_may_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub = types.ModuleType("huggingface_hub")
    monkeypatch.setattr(hub, "snapshot_download", lambda *_, **__: str(tmp_path / "none matched"), raising=False)
    monkeypatch.setitem(sys.modules, "huggingface_hub", hub)
    with pytest.raises(CheckpointError, match=r"holds none of config.json.*hub:owner/pipeline/vae"):
        located("hub:owner/pipeline")
    encoder, decoder = small_weights()
    for name, wrong in {
        "shape": {**encoder, "0.weight": torch.zeros(8, 3, 5, 5)},
        "gap": {name: value for name, value in encoder.items() if not name.startswith("3.")},
        "names": {"layer": torch.zeros(1)},
    }.items():
        folder = tmp_path / name
        folder.mkdir()
        torch.save(wrong, folder / "encoder.pth")
        torch.save(decoder, folder / "decoder.pth")
        with pytest.raises(CheckpointError, match="TAESD family"):
            PriorConfig(source=str(folder))
    for wrong in ("", '{"class": "Other"}', '{"class": "TAE", "encoder": ["conv 3"], "decoder": ["conv 8 3"]}'):
        with pytest.raises(ConfigError, match="architecture"):
            blank(wrong)
    for key, value in {"layers_per_block": 2000, "block_out_channels": [64] * 40, "latent_channels": 10**9}.items():
        with pytest.raises(ConfigError, match=f"{key} is .*the most that is built"):
            blank(json.dumps({"class": "AutoencoderKL", key: value}))
    with pytest.raises(ValidationError):
        PriorConfig(source="")


def test_an_encoder_beside_a_decoder_of_other_latents_is_refused(tmp_path: Path) -> None:
    chains = small_chains(latent=4)
    encoder, _ = small_weights()
    torch.save(encoder, tmp_path / "encoder.pth")
    torch.save(tae.blank(*chains).decoder.state_dict(), tmp_path / "decoder.pth")
    with pytest.raises(CheckpointError, match="'conv 8 3' gives 3 channels, and 'conv 4 8' takes 4"):
        PriorConfig(source=str(tmp_path))


def test_the_loss_in_latents_vanishes_on_clean_images_and_reaches_the_network(small: Path) -> None:
    clean = images(8, 8)
    mask = torch.zeros(2, 1, 8, 8)
    batch = Batch(degraded=clean, clean=clean, layer=mask, mask=mask)
    config, prior = PriorConfig(source=str(small)), opened(small)
    assert PriorL1(prior=config)(clean, batch) == 0
    for every in (1, 2):
        restored = (clean + 0.1).requires_grad_()
        found = PriorL1(prior=config, weight=0.5, every=every)(restored, batch)
        apart = prior.encode(restored[::every]) - prior.encode(clean[::every])
        assert torch.allclose(found, 0.1 + 0.5 * apart.abs().mean())
        found.backward()
        assert restored.grad is not None and restored.grad.any()


def test_check_writes_the_ceiling(small: Path, tmp_path: Path, photos: torch.Tensor) -> None:
    from unseen.cli import app

    (tmp_path / "photos").mkdir()
    for number, photo in enumerate(photos[:2]):
        write_image(tmp_path / "photos" / f"{number}.png", to_bytes(photo[:, :32, :28].permute(1, 2, 0).numpy()))
    call = ["prior", "check", str(small), "--on", str(tmp_path / "photos"), "-o", str(tmp_path / "out"), "--json"]
    result = CliRunner().invoke(app, call)
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    clean, rain, noise = found["reconstruction"]
    assert [clean["suite"], rain["suite"], noise["suite"]] == ["clean", "medium", "gaussian25"]
    prior = opened(small)
    with torch.inference_mode():
        cut = torch.from_numpy(to_bytes(photos[:2, :, :32, :28].numpy())).float() / 255
        error = (prior.reconstruct(cut).clamp(0, 1) - cut).double().square().mean((1, 2, 3))
    assert clean["psnr_rgb"] == pytest.approx((-10 * error.log10()).mean().item(), abs=1e-3)
    assert clean["reconstruction"] == pytest.approx(error.mean().sqrt().item(), rel=1e-4)
    assert found["restoration"][1]["residual"] > 0
    assert found["content"] == prior.content and found["seconds_per_megapixel"]["encode"] > 0
    assert "gives back 2 images" in found["sentences"][0]
    assert (tmp_path / "out" / "prior.html").stat().st_size > 5000


def test_check_takes_images_of_any_kind_and_says_which_cannot_be_read(small: Path, tmp_path: Path) -> None:
    from unseen.cli import app

    folder, ramp = tmp_path / "photos", np.arange(20 * 24, dtype=np.uint16).reshape(20, 24)
    folder.mkdir()
    grey = (ramp // 2).astype(np.uint8)
    Image.fromarray(grey).save(folder / "grey.png")
    Image.fromarray(ramp * 100).save(folder / "sixteen.png")
    Image.fromarray(np.dstack([grey] * 4)).save(folder / "alpha.png")
    Image.fromarray(np.dstack([grey] * 4), "CMYK").save(folder / "ink.jpg")
    Image.fromarray(grey[:1, :1]).save(folder / "one.png")
    call = ["prior", "check", str(small), "--on", str(folder), "-o", str(tmp_path / "out"), "--json"]
    result = CliRunner().invoke(app, call)
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert found["images"] == 5 and np.isfinite(found["reconstruction"][0]["psnr_rgb"])
    (folder / "broken.png").write_bytes((folder / "grey.png").read_bytes()[:50])
    result = CliRunner().invoke(app, call)
    assert isinstance(result.exception, UnseenError) and "broken.png" in str(result.exception)


def taef2_on(shared_data: Path, count: int, crop: int = 256) -> float:
    """The mean PSNR in RGB, dB, over the last `count` test photographs, cut to their centres."""
    from unseen.backgrounds import Backgrounds, BackgroundsConfig
    from unseen.evaluation.ceiling import RECONSTRUCTION, ceiling
    from unseen.evaluation.suites import Suite

    prior = opened(shared_data / "weights" / "taef2")
    assert (prior.stride, prior.channels) == (8, 32)
    config = BackgroundsConfig(source=str(shared_data / "backgrounds" / "natural"), holdout=count, part="test")
    rows = ceiling(prior, Backgrounds(config), [Suite(name="clean")], crop=crop).rows
    return float(rows[(rows.metric == "psnr_rgb") & (rows.experiment == RECONSTRUCTION)].value.mean())


def test_taef2_is_read_from_its_weights_and_gives_photographs_back(shared_data: Path) -> None:
    assert taef2_on(shared_data, 4, crop=64) > 24


@pytest.mark.slow
def test_taef2_gives_the_test_photographs_back_at_its_ceiling(shared_data: Path) -> None:
    assert taef2_on(shared_data, 48) >= 27.5


# Folders of diffusers.


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Tiny random models, saved as diffusers saves them."""
    diffusers = pytest.importorskip("diffusers", reason="needs diffusers: pip install 'unseen[priors]'")
    folder = tmp_path_factory.mktemp("diffusers")
    plain: dict[str, Any] = {
        "down_block_types": ("DownEncoderBlock2D",) * 2, "up_block_types": ("UpDecoderBlock2D",) * 2,
        "block_out_channels": (4, 8), "norm_num_groups": 2, "latent_channels": 3,
    }  # fmt: skip
    tiny = {"encoder_block_out_channels": (4, 4), "decoder_block_out_channels": (4, 4), "latent_channels": 3}
    blocks = {"num_encoder_blocks": (1, 1), "num_decoder_blocks": (1, 1)}
    with seeded(0, "models"):
        made = {
            "AutoencoderKL": diffusers.AutoencoderKL(**plain, scaling_factor=0.5, shift_factor=0.25),
            "VQModel": diffusers.VQModel(**plain, num_vq_embeddings=16),
            "AutoencoderTiny": diffusers.AutoencoderTiny(**tiny, **blocks),
        }
        made["VQModel"].quantize.embedding.weight.data.normal_(0, 0.5)  # spread, so that several are met
    for name, model in made.items():
        model.save_pretrained(folder / name)
    return {name: folder / name for name in made}


@pytest.mark.parametrize("kind", ["AutoencoderKL", "VQModel"])
def test_weights_that_are_missing_are_no_guess(models: dict[str, Path], kind: str, tmp_path: Path) -> None:
    folder = tmp_path / kind
    shutil.copytree(models[kind], folder)
    weights = load_file(folder / WEIGHTS)
    for changed, said in (({"other": torch.zeros(1)}, "other .not expected"), ({}, "conv_in.weight .missing")):
        kept = {name: value for name, value in weights.items() if changed or name != "encoder.conv_in.weight"}
        save_file({**kept, **changed}, folder / WEIGHTS)
        with pytest.raises(CheckpointError, match=said):
            opened(folder)


def test_opening_a_prior_leaves_the_random_numbers_of_others_alone(models: dict[str, Path], tmp_path: Path) -> None:
    folder = tmp_path / "VQModel"
    shutil.copytree(models["VQModel"], folder)  # a path that no one has opened yet
    torch.manual_seed(0)
    wanted = torch.rand(1)
    torch.manual_seed(0)
    opened(folder)
    assert torch.equal(torch.rand(1), wanted)


@torch.inference_mode()
def test_a_folder_of_diffusers_gives_what_diffusers_gives(models: dict[str, Path]) -> None:
    import diffusers

    clean = images(8, 12)
    for kind, folder in models.items():
        prior, model = opened(folder), getattr(diffusers, kind).from_pretrained(folder)
        said = model.encode(clean * 2 - 1)
        latents = said.latent_dist.mean if kind == "AutoencoderKL" else said.latents
        expected = model.decode(latents).sample / 2 + 0.5
        assert torch.allclose(prior.reconstruct(clean), expected, atol=1e-5), kind
        assert (prior.stride, prior.channels, prior.discrete) == (2, 3, kind == "VQModel")
        if kind == "AutoencoderKL":
            assert torch.allclose(prior.encode(clean), (latents - 0.25) * 0.5, atol=1e-6)
        if kind == "VQModel":
            numbers = model.quantize(latents)[2][2].reshape(2, 4, 6)
            assert torch.equal(prior.codes(prior.embed(clean)), numbers)
            assert torch.allclose(prior.quantise(prior.encode(clean)), prior.encode(clean))
        else:
            with pytest.raises(ConfigError, match="codebook"):
                prior.codes(latents)


def test_discrete_latents_let_gradients_pass(models: dict[str, Path]) -> None:
    degraded = images(8, 8).requires_grad_()
    opened(models["VQModel"]).reconstruct(degraded).sum().backward()
    assert degraded.grad is not None and degraded.grad.any()


def test_a_folder_without_safetensors_is_refused(models: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text((models["VQModel"] / "config.json").read_text())
    with pytest.raises(CheckpointError, match="as safetensors"):
        PriorConfig(source=str(tmp_path))


def test_guided_networks_work_before_a_quantised_decoder(models: dict[str, Path]) -> None:
    config = GuidedConfig(prior=PriorConfig(source=str(models["VQModel"])), width=4, features=1.0)
    network = build(config, 0)
    degraded = images(7, 9)
    restored = network(degraded)
    assert restored.shape == degraded.shape
    with torch.device("meta"):
        described = config.build()
    shapes = {name: value.shape for name, value in described.state_dict().items()}
    assert shapes == {name: value.shape for name, value in network.state_dict().items()}
    restored.sum().backward()
    assert all(weight.grad is not None for weight in network.parameters())


def test_codes_are_told_from_the_degraded_image_and_begin_as_the_nearest_ones(models: dict[str, Path]) -> None:
    prior = opened(models["VQModel"])
    settings = {"prior": PriorConfig(source=str(models["VQModel"])), "gate": False, "codes": {"width": 8, "layers": 1}}
    network = build(GuidedConfig.model_validate(settings), 0)
    assert isinstance(network, Guided)
    tiler = tiler_for(network, "cpu", GuidedConfig.model_validate(settings))
    assert tiler.tile == 256  # what places make of each other depends on it: it is the same on every machine
    degraded, clean = images(7, 9), images(7, 9).flip(-1)
    mask = torch.zeros(2, 1, 7, 9)
    batch = Batch(degraded=degraded, clean=clean, layer=mask, mask=mask)
    with torch.inference_mode():
        assert torch.allclose(network.eval()(degraded), prior.reconstruct(degraded), atol=1e-5)
    network.train()
    optimiser = torch.optim.Adam(network.parameters(), 0.02)
    found = []
    for _ in range(25):
        restored = network(degraded)
        loss = network.auxiliary(batch)
        assert loss is not None and restored.shape == degraded.shape
        optimiser.zero_grad()
        (loss + restored.sum() * 1e-9).backward()
        assert all(weight.grad is not None for weight in network.parameters())
        optimiser.step()
        found.append(loss.item())
    assert found[-1] < found[0] / 2
    settings["prior"] = PriorConfig(source=str(small_tae()))
    with pytest.raises(ConfigError, match="codebook"):
        GuidedConfig.model_validate(settings).build()
