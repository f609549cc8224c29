"""Small priors of our own: what their training computes, and what lies in the folder that comes of it."""

import csv
import json
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from conftest import draw_photos
from unseen.backgrounds import Backgrounds, BackgroundsConfig
from unseen.cli.app import app
from unseen.cli.prior import _prior_experiment
from unseen.errors import CheckpointError, ConfigError, TrainingError
from unseen.images import write_image
from unseen.prior_training import VAE, PriorExperiment, PriorRecipe, loop, train_prior
from unseen.prior_training.base import multiscale
from unseen.prior_training.classical import Codebook, PrincipalComponents, reconstruct
from unseen.prior_training.experiment import told_apart
from unseen.prior_training.vae import autoencoder
from unseen.prior_training.vqgan import MovingCodebook, adaptive_weight, hinge
from unseen.priors import DenoiserConfig, PriorConfig, edm, open_denoiser, open_prior
from unseen.priors.denoiser import Discrete
from unseen.seeding import generator
from unseen.training import Interrupted

KINDS = ("vae", "vqgan", "diffusion")
PRIOR: dict[str, dict[str, Any]] = {
    "vae": {"latent": 3, "scales": 2},
    "vqgan": {"latent": 3, "scales": 2, "codes": 16, "critic_width": 4, "codes_start": 0.34},
    "diffusion": {},
}
RECIPE = {"steps": 6, "batch": 2, "patch": 16, "ema": 0.9, "device": "cpu", "threads": 1}


def needs_diffusers() -> Any:
    return pytest.importorskip("diffusers", reason="needs diffusers: pip install 'unseen[priors]'")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five photographs."""
    path = tmp_path_factory.mktemp("photos")
    for number, photo in enumerate(draw_photos(5, 24)):
        write_image(path / f"{number}.png", photo.permute(1, 2, 0).numpy())
    return path


def tiny(kind: str, folder: Path, **recipe: Any) -> PriorExperiment:
    return PriorExperiment.model_validate(
        {
            "prior": {"kind": kind, "widths": (4, 8), "groups": 2, **PRIOR[kind]},
            "backgrounds": {"source": str(folder), "holdout": 2},
            "recipe": {**RECIPE, **recipe},
        }
    )


@pytest.fixture(scope="module")
def trained(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One of each kind."""
    needs_diffusers()
    home = tmp_path_factory.mktemp("trained")
    return {kind: train_prior(tiny(kind, folder), home / kind, command="the command").folder for kind in KINDS}


def weights(folder: Path) -> bytes:
    return (folder / "diffusion_pytorch_model.safetensors").read_bytes()


@pytest.mark.parametrize("kind", KINDS)
def test_stopped_and_resumed_it_is_the_same_to_the_bit(
    kind: str, trained: dict[str, Path], folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    rate = loop.learning_rate

    def stopping_at_3(recipe: Any, step: int) -> float:
        seen.append(step)
        if seen == [0, 1, 2, 3]:
            signal.raise_signal(signal.SIGINT)
        return rate(recipe, step)

    monkeypatch.setattr(loop, "learning_rate", stopping_at_3)
    out = tmp_path / "prior"
    with pytest.raises(Interrupted, match="Stopped after step 4 of 6"):
        train_prior(tiny(kind, folder), out)
    train_prior(tiny(kind, folder), out)
    assert seen == [0, 1, 2, 3, 4, 5]
    assert weights(out) == weights(trained[kind])
    logs = [list(csv.DictReader((path / "log.csv").read_text().splitlines())) for path in (out, trained[kind])]
    for row in (*logs[0], *logs[1]):
        del row["seconds"]
    assert logs[0] == logs[1]
    assert not (out / "state").exists()
    train_prior(tiny(kind, folder), out)
    assert len(seen) == 6, "nothing is done again"


@torch.inference_mode()
def test_autoencoders_open_here_and_in_diffusers(trained: dict[str, Path], photos: torch.Tensor) -> None:
    diffusers = needs_diffusers()
    for kind, name in (("vae", "AutoencoderKL"), ("vqgan", "VQModel")):
        prior = open_prior(PriorConfig(source=str(trained[kind])))
        model = getattr(diffusers, name).from_pretrained(trained[kind])
        assert (prior.stride, prior.channels, prior.discrete) == (2, 3, kind == "vqgan")
        said = model.encode(photos * 2 - 1)
        latents = said.latent_dist.mean if kind == "vae" else said.latents
        expected = model.decode(latents).sample / 2 + 0.5
        assert torch.allclose(prior.reconstruct(photos), expected, atol=1e-5)


@torch.inference_mode()
def test_latents_of_a_trained_vae_have_unit_variance(trained: dict[str, Path], folder: Path) -> None:
    prior = open_prior(PriorConfig(source=str(trained["vae"])))
    images = Backgrounds(BackgroundsConfig(source=str(folder), holdout=2))
    latents = prior.encode(images.patches([generator(0, "test", at) for at in range(32)], 16))
    assert abs(latents.mean()) < 0.2 and abs(latents.std() - 1) < 0.2


@torch.inference_mode()
def test_a_diffusion_model_denoises_as_its_scheduler_in_diffusers_has_it(
    trained: dict[str, Path], photos: torch.Tensor
) -> None:
    diffusers = needs_diffusers()
    config = DenoiserConfig(source=str(trained["diffusion"]))
    denoiser = open_denoiser(config)
    assert denoiser is open_denoiser(config) and denoiser.low == 0.001 and denoiser.high == 40
    unet = diffusers.UNet2DModel.from_pretrained(trained["diffusion"])
    levels = diffusers.EDMEulerScheduler.from_pretrained(trained["diffusion"])
    noisy, sigma = photos * 2 - 1, torch.full((4,), 0.3)
    inside = sigma[0] * 2
    said = unet(levels.precondition_inputs(noisy, inside), levels.precondition_noise(inside)).sample
    expected = levels.precondition_outputs(noisy, said, inside) / 2 + 0.5
    assert torch.allclose(denoiser.denoise(photos, sigma), expected, atol=1e-5)
    assert denoiser.denoise(photos[..., :7, :9], sigma).shape == (4, 3, 7, 9)
    assert denoiser.sample(1, 8, generator(0, "test"), steps=2).shape == (1, 3, 8, 8)
    with pytest.raises(CheckpointError, match="expected a folder of diffusers with a UNet2DModel"):
        open_denoiser(DenoiserConfig(source=str(trained["vae"])))


@torch.no_grad()
def test_an_autoencoder_begins_as_one_that_images_pass_at_their_brightness(photos: torch.Tensor) -> None:
    needs_diffusers()
    model = autoencoder("AutoencoderKL", VAE(widths=(16, 32)), 0, {})
    dark, bright = (model.encoder(images) for images in (photos / 4, photos))
    assert (dark * 4 - bright).abs().mean() < 0.1 * bright.abs().mean()
    dark, bright = (model.decoder(latents) for latents in (dark[:, :8], bright[:, :8]))
    assert (dark * 4 - bright).abs().mean() < 0.1 * bright.abs().mean()


def test_the_folder_tells_what_it_is(trained: dict[str, Path]) -> None:
    for kind, path in trained.items():
        card, found = (path / "README.md").read_text(), json.loads((path / "figures.json").read_text())
        assert (
            card.startswith("# A small ") and "the command" in card and "| licence of the data | not stated |" in card
        )
        assert "3 images, and 2 more held out" in card and f"| parameters | {found['parameters']:,} |" in card
        assert (path / "picture.png").is_file() and found["figures"]["images"] == 2
        assert str(path.parent) not in card
        if kind == "diffusion":
            assert [line["psnr_noisy"] for line in found["figures"]["denoising"]] == pytest.approx(
                [26.02, 20, 13.98, 7.96], abs=0.3
            )
        else:
            figures = found["figures"]
            assert f"| all | {figures['psnr']:.2f} | {figures['psnr_classical']:.2f} |" in card


def test_what_lies_in_a_folder_already_is_not_written_over(folder: Path, tmp_path: Path) -> None:
    needs_diffusers()
    (tmp_path / "README.md").write_text("mine")
    with pytest.raises(ConfigError, match=r"holds a README\.md already"):
        train_prior(tiny("vae", folder), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["README.md"]


def test_the_folders_of_the_command_line_leave_the_rest_of_the_file_as_it_is(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "vae.yaml").write_text("backgrounds: {source: elsewhere, holdout: 3, mirror: true, smooth: 1.0}")
    found = _prior_experiment("vae", [str(folder)], [1], tmp_path / "vae.yaml", None, None, []).backgrounds
    assert (found.source, found.holdout, found.mirror, found.smooth) == (str(folder), 1, True, 1.0)
    (tmp_path / "vae.yaml").write_text(
        "backgrounds: {parts: [{source: a}, {source: b}], weights: [3, 1], mirror: true}"
    )
    found = _prior_experiment("vae", [str(folder), "leaves"], [1, 0], tmp_path / "vae.yaml", None, None, []).backgrounds
    assert [part.source for part in found.sources] == [str(folder), "leaves"]
    assert found.weights == (3, 1) and found.mirror
    alone = _prior_experiment("vae", [str(folder)], [1], tmp_path / "vae.yaml", None, None, []).backgrounds
    assert alone.parts is None and alone.weights is None


def test_folders_are_told_apart() -> None:
    assert told_apart(["data/photos", "more/comics"]) == ["photos", "comics"]
    assert told_apart(["a/photos", "b/photos", "b/faces"]) == ["a/photos", "b/photos", "b/faces"]
    assert told_apart(["photos", "photos"]) == ["photos 1", "photos 2"]


def test_from_the_command_line(folder: Path, tmp_path: Path) -> None:
    needs_diffusers()
    sizes = ["prior.widths=[4,8]", "prior.groups=2", "prior.scales=2", "recipe.batch=1", "recipe.patch=8"]
    command = ["prior", "train", "vae", "--on", str(folder), "--steps", "1", "--licence", "CC0", "--json"]
    command += [part for size in sizes for part in ("--set", size)]
    result = CliRunner().invoke(app, [*command, "-o", str(tmp_path / "small")], catch_exceptions=False)
    found = json.loads(result.stdout)
    assert found["folder"] == str(tmp_path / "small") and found["steps"] == 1
    assert "| licence of the data | CC0 |" in (tmp_path / "small" / "README.md").read_text()
    assert "4 images, and 1 more held out" in (tmp_path / "small" / "README.md").read_text()
    with pytest.raises(ConfigError, match="choose one of vae, vqgan, diffusion"):
        CliRunner().invoke(app, ["prior", "train", "gan"], catch_exceptions=False)
    with pytest.raises(ConfigError, match=r"prior\.vae\.codes: there is no such key"):
        CliRunner().invoke(app, [*command, "--set", "prior.codes=4"], catch_exceptions=False)
    with pytest.raises(TrainingError, match="belongs to the prior"):
        again = [*command, "--seed", "1", "-o", str(tmp_path / "small")]
        CliRunner().invoke(app, again, catch_exceptions=False)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"prior": {"kind": "vae", "widths": (12, 20)}}, "no multiple of the 8 groups"),
        ({"recipe": {"patch": 30}}, "expected a multiple of the prior's 4 pixels"),
        ({"prior": {"kind": "vqgan"}, "recipe": {"patch": 8}}, "expected 12 pixels or more"),
        ({"backgrounds": {"source": "photos"}}, "hold out some of photos"),
        ({"prior": {"kind": "vqgan", "codes_start": 0.6}}, "before codes_start"),
        ({"prior": {"kind": "diffusion", "sigma_min": 2, "sigma_max": 1}}, "not below sigma_max"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_nonsense_is_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        PriorExperiment.model_validate(changes)


def test_a_loss_that_is_not_finite_stops_training(folder: Path, tmp_path: Path) -> None:
    needs_diffusers()
    with pytest.raises(TrainingError, match="training has diverged"):
        train_prior(tiny("vae", folder, learning_rate=1e30, clip=None, warmup=0), tmp_path / "prior", save_every=2)


@pytest.mark.parametrize("kind", KINDS)
def test_mixed_precision_multiplies_in_bf16_and_computes_losses_in_fp32(kind: str, folder: Path) -> None:
    needs_diffusers()
    experiment = tiny(kind, folder)
    losses: dict[bool, torch.Tensor] = {}
    for mixed in (False, True):
        trainee = experiment.prior.trainee(6, 0)
        trainee.mixed = mixed
        clean = torch.rand(2, 3, 16, 16, generator=generator(0, "test"))
        for step in (0, 5):  # the last one with codes and critic
            losses[mixed], figures = trainee.loss(clean, step)
        assert losses[mixed].dtype == torch.float32 and all(each.dtype == torch.float32 for each in figures.values())
        losses[mixed].backward()
        assert all(weight.grad is None or weight.grad.dtype == torch.float32 for weight in trainee.parameters())
    assert not torch.equal(losses[True], losses[False])
    assert torch.allclose(losses[True], losses[False], rtol=0.05, atol=0.01)


def test_the_name_is_of_the_images_not_of_their_place_and_defaults_are_of_the_kind() -> None:
    settled = {"device": "cpu", "precision": "fp32", "threads": 1}
    ids = {
        PriorExperiment.model_validate(
            {"backgrounds": {"source": source, "holdout": 2}, "recipe": {**settled, "steps": steps}, "content": "a"}
        ).id
        for source, steps in (("here", 4), ("there", 4), ("there", 5))
    }
    assert len(ids) == 2
    assert PriorExperiment.model_validate({"prior": {"kind": "diffusion"}}).recipe.ema == 0.999
    assert PriorExperiment.model_validate({"prior": {"kind": "vqgan"}}).recipe.ema is None
    assert PriorRecipe(ema=0.9).decay(0) == 0.1 and PriorRecipe(ema=0.9).decay(1000) == 0.9


# What is computed.


def test_scalings_are_those_of_table_1() -> None:
    """Edm's appendix B.6: unit variance of what goes in and of what is to come out, and each level weighs the same."""
    sigma, data = torch.tensor([0.01, 0.5, 3.0, 80.0], dtype=torch.float64), 0.4
    by = edm.scalings(sigma, data)
    assert torch.allclose(by.into.square() * (sigma.square() + data**2), torch.ones(4, dtype=torch.float64))
    target = ((1 - by.skip).square() * data**2 + by.skip.square() * sigma.square()) / by.out.square()
    assert torch.allclose(target, torch.ones(4, dtype=torch.float64))
    assert torch.allclose(edm.weight(sigma, data) * by.out.square(), torch.ones(4, dtype=torch.float64))
    assert torch.allclose(by.noise.exp() ** 4, sigma)
    assert torch.allclose(by.skip + by.out.square() / data**2, torch.ones(4, dtype=torch.float64))


def test_heun_gives_a_gaussian_its_variance_and_errs_by_the_second_order() -> None:
    """Of images that are Gaussian the denoiser is x s^2 / (s^2 + sigma^2), and the path is x sqrt(s^2 + sigma^2)."""
    spread, high = 0.3, 20.0
    noisy = high * torch.randn(2, 3, 64, 64, generator=generator(0, "test"), dtype=torch.float64)

    def denoise(images: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        return images * (spread**2 / (spread**2 + sigma.square()))[:, None, None, None]

    exact = spread / (spread**2 + high**2) ** 0.5
    errors = []
    for steps in (16, 32):
        levels = edm.sigmas(steps, 1e-3, high)
        assert len(levels) == steps + 1 and levels[-1] == 0 and levels[0] == pytest.approx(high, rel=1e-6)
        found = edm.heun(denoise, noisy, levels)
        errors.append(abs(float((found / noisy).mean()) / exact - 1))
    assert float(found.std()) == pytest.approx(spread, rel=0.02)
    assert errors[1] < 0.02 and errors[1] < errors[0] / 3


def test_a_model_of_numbered_levels_is_asked_as_its_scheduler_has_it(photos: torch.Tensor) -> None:
    """x0 of DDPM, at a whole number, and between numbers in between."""
    diffusers = needs_diffusers()
    levels = diffusers.DDPMScheduler(num_train_timesteps=50)
    kept = levels.alphas_cumprod

    class Told(torch.nn.Module):
        def forward(self, images: torch.Tensor, number: torch.Tensor) -> Any:
            self.number = number
            return type("Said", (), {"sample": images.flip(-1)})

    told = Told()
    body = Discrete(told, ((1 - kept) / kept).sqrt())
    sigma = body.levels[[7]].expand(4)
    found = body(photos, sigma)
    assert torch.allclose(told.number, torch.full((4,), 7.0), atol=1e-4)
    scaled = photos * kept[7].sqrt()
    expected = (scaled - (1 - kept[7]).sqrt() * scaled.flip(-1)) / kept[7].sqrt()
    assert torch.allclose(found, expected, atol=1e-5)
    assert 7 < float(body.number((body.levels[7:8] + body.levels[8:9]) / 2)) < 8


def test_the_codebook_follows_its_latents_by_moving_averages() -> None:
    """Two codes, decay 0.5: the first is chosen twice and the second never, computed by hand."""
    book = MovingCodebook(torch.nn.Parameter(torch.tensor([[0.0], [9.0]])), decay=0.5, dead=0.6)
    book.count.copy_(torch.tensor([2.0, 1.0]))
    book.total.copy_(torch.tensor([[2.0], [9.0]]))
    book.hits.copy_(torch.tensor([2.0, 1.0]))
    book.follow(torch.tensor([[3.0], [5.0]]), torch.tensor([0, 0]))
    assert book.count.tolist() == [2.0, 0.5]  # 0.5 * 2 + 0.5 * 2, 0.5 * 1
    assert book.total.tolist() == [[5.0], [4.5]]  # 0.5 * 2 + 0.5 * 8, 0.5 * 9
    assert book.book.weight.tolist() == [[2.5], [9.0]]
    assert float(book.perplexity()) == pytest.approx(torch.tensor([0.8, 0.2]).log().neg().mul(
        torch.tensor([0.8, 0.2])
    ).sum().exp().item())  # fmt: skip
    assert book.restart(torch.tensor([[4.0]]), generator(0, "test")) == 1
    assert book.book.weight.tolist() == [[2.5], [4.0]] and book.count.tolist() == [2.0, 1.0]
    assert book.hits.tolist() == [2.0, 0.5]  # to be put elsewhere is not to be chosen
    assert not book.book.weight.requires_grad


def test_a_codebook_that_collapses_is_told() -> None:
    book = MovingCodebook(torch.nn.Parameter(torch.zeros(64, 1)), decay=0.9, dead=0.05)
    latents = torch.tensor([0.0, 1.0, 2.0, 3.0]).repeat(8)[:, None]
    book.restart(latents, generator(0, "codes"))
    for step in range(40):
        book.follow(latents, book.book.nearest(latents.T[None, :, None]).reshape(-1))
        book.restart(latents, generator(0, "restart", step))
    assert 4 / 64 <= float(book.used()) < 0.2  # four, and those that were so some steps ago
    assert 4 <= float(book.perplexity()) < 8


def test_the_adaptive_weight_is_the_ratio_of_gradients_and_the_critic_wants_a_margin() -> None:
    last = torch.tensor([1.0, 1.0], requires_grad=True)
    wanted, adversarial = (last * torch.tensor([3.0, 4.0])).sum(), (last * torch.tensor([0.0, 2.0])).sum()
    assert float(adaptive_weight(wanted, adversarial, last, 1e4)) == pytest.approx(2.5)
    assert float(adaptive_weight(wanted, adversarial, last, 2.0)) == 2.0
    assert float(hinge(torch.tensor([2.0, 0.0]), torch.tensor([-3.0, 1.0]))) == pytest.approx((0.5 + 1.0) / 2)


def test_the_multiscale_loss_is_blind_to_a_shift_and_sees_a_step_at_every_scale() -> None:
    clean = torch.zeros(1, 3, 8, 8)
    assert multiscale(clean + 0.3, clean, 3) == 0
    step = clean.clone()
    step[..., 4:] = 1.0
    # One column in 7, in 3 and in 1 differs from its neighbour by 1; downwards none does.
    assert float(multiscale(step, clean, 3)) == pytest.approx((1 / 7 + 1 / 3 + 1) / 6)


def test_the_defaults_of_a_kind_hold_however_it_is_given() -> None:
    for given in (
        {"prior": VAE()}, {"prior": {"kind": "vae"}}, {"prior": VAE(), "recipe": PriorRecipe(steps=5)},
        {"prior": {"kind": "vae"}, "recipe": {"steps": 5}},
    ):  # fmt: skip
        assert PriorExperiment.model_validate(given).recipe.ema == VAE.RECIPE["ema"]
    assert PriorExperiment(prior=VAE(), recipe=PriorRecipe(ema=None)).recipe.ema is None


def test_principal_components_are_the_least_error_of_a_linear_coder() -> None:
    rng = generator(0, "patches")
    few = torch.randn(3, 48, generator=rng)
    patches = torch.randn(400, 3, generator=rng) @ few + 0.5
    assert torch.allclose(PrincipalComponents(patches, 4, 3).code(patches), patches, atol=1e-4)
    centred = (patches - patches.mean(0)).double()
    lost = torch.linalg.svdvals(centred)[2].square() / centred.numel()
    found = (PrincipalComponents(patches, 4, 2).code(patches) - patches).square().mean()
    assert found.item() == pytest.approx(lost.item(), rel=1e-3)


def test_a_codebook_finds_the_few_patches_there_are() -> None:
    colours = torch.tensor([0.0, 0.3, 1.0])
    near = 0.001 * torch.randn(60, 12, generator=generator(0, "near"))
    coder = Codebook(colours.repeat(20)[:, None] + near, 2, 30, generator(1, "codes"))
    images = colours[[0, 2, 1]].view(3, 1, 1, 1).expand(3, 3, 7, 9)
    assert torch.allclose(reconstruct(coder, images), images, atol=0.01)
