"""Measures of complexity: closed forms, direct implementations, what they are invariant to, the dial; the command."""

import json
import math
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

import unseen.cli.complexity  # noqa: F401  the verb
from unseen import cli
from unseen.complexity import learned
from unseen.complexity.compression import compression
from unseen.complexity.gradients import gradient_entropy
from unseen.complexity.learned import Budget, change, code_length, content
from unseen.complexity.record import MEASURES, CodeLength, Survey, balance
from unseen.complexity.spectrum import spectral_slope
from unseen.complexity.structural import grain, structural
from unseen.complexity.survey import layer, measured
from unseen.degradations import Degradation, GaussianNoise, Quantisation, Rain
from unseen.errors import ConfigError
from unseen.images import write_image
from unseen.leaves import DeadLeaves
from unseen.ranges import Range
from unseen.report import figures
from unseen.report.complexity import Extremes, Found, html, lines, sentences, shown
from unseen.seeding import generator
from unseen.types import Batch, Images

SMALL = Budget(steps=30, batch=4, size=22)
FLAT = torch.full((2, 3, 32, 32), 0.3)


@cache
def drawn(complexity: float, size: int = 64, index: int = 0) -> torch.Tensor:
    """Dead leaves, (3, size, size) in [0, 1]."""
    image = DeadLeaves(complexity=complexity).draw((size, size), 0, index)
    return torch.from_numpy(image).permute(2, 0, 1) / 255


def noise(*shape: int, key: str = "noise") -> torch.Tensor:
    return torch.rand(*shape, generator=generator(0, "test", key))


def patches_of(images: Images) -> Callable[[Any, int], Images]:
    """Seeded square cuts of images, as `Backgrounds.patches` gives them."""

    def draw(rngs: Any, size: int) -> Images:
        cut = []
        for rng in rngs:
            which, top, left = torch.rand(3, generator=rng).tolist()
            row, column = (int(part * (images.shape[-1] - size + 1)) for part in (top, left))
            cut.append(images[int(which * len(images)), :, row : row + size, column : column + size])
        return torch.stack(cut)

    return draw


def degrade(degradation: Degradation) -> Callable[[Images, Any], Batch]:
    return lambda clean, rngs: degradation.render(clean, degradation.sample((clean.shape[-2], clean.shape[-1]), rngs))


# --- structural complexity


def by_formula(image: np.ndarray) -> list[float]:
    """C_k = 1/2 mean (f_{k+1} - f_k)^2, as it stands; (h, w, c)."""
    fine, scales = image.astype(np.float64), []
    while min(fine.shape[:2]) > 1:
        down, across = fine.shape[0] // 2, fine.shape[1] // 2
        fine = fine[: 2 * down, : 2 * across]
        coarse = fine.reshape(down, 2, across, 2, -1).mean((1, 3))
        scales.append(float(((coarse.repeat(2, 0).repeat(2, 1) - fine) ** 2).mean() / 2))
        fine = coarse
    return scales


@pytest.mark.parametrize("size", [(32, 32), (37, 50), (2, 9), (1, 8)], ids=str)
def test_structural_complexity_is_its_formula(size: tuple[int, int]) -> None:
    images = noise(5, 3, *size)
    expected = [by_formula(image.permute(1, 2, 0).numpy()) for image in images]
    assert structural(images).tolist() == [pytest.approx(each, rel=1e-5) for each in expected]


@pytest.mark.parametrize("cell", [1, 2, 8])
def test_a_checkerboard_has_one_scale_and_half_its_variance(cell: int) -> None:
    place = torch.arange(32) // cell
    board = ((place[:, None] + place) % 2).float().expand(1, 3, -1, -1)
    scales = structural(board)
    assert scales[0].tolist() == [pytest.approx(1 / 8 if 2**k == cell else 0, abs=1e-12) for k in range(5)]
    assert grain(scales).item() == pytest.approx(cell)


def test_over_all_scales_it_is_half_the_variance() -> None:
    images = noise(2, 3, 64, 64)
    per_channel = images.double().var((2, 3), correction=0).mean(1)
    assert torch.allclose(structural(images).sum(1), per_channel / 2, rtol=1e-5)


def test_a_flat_image_is_not_complex_by_any_measure() -> None:
    assert (structural(FLAT) == 0).all()
    assert (gradient_entropy(FLAT) == 0).all()
    assert (compression(FLAT) < 0.7).all()  # the header
    assert grain(structural(FLAT)).isnan().all()
    assert spectral_slope(FLAT).isnan().all()


def test_nothing_breaks_on_one_pixel() -> None:
    table = measured([("dot", torch.full((3, 1, 1), 0.5)), ("line", noise(3, 1, 40))])
    assert table["structural"].tolist() == [0, 0]
    assert table["gradient_entropy"].notna().all()
    assert table["spectral_slope"].isna().all()
    assert not [name for name in table if name.startswith("scale_")]


def test_large_images_are_measured_one_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    together = list[tuple[int, ...]]()

    def coded(images: torch.Tensor) -> torch.Tensor:
        together.append(tuple(images.shape))
        return compression(images)

    monkeypatch.setattr("unseen.complexity.survey._PIXELS", 3 * 16 * 16)
    monkeypatch.setattr("unseen.complexity.survey.compression", coded)
    images = [(str(number), noise(3, side, side)) for number, side in enumerate([16] * 4 + [40] * 2)]
    table = measured(images)
    assert together == [(3, 3, 16, 16), (1, 3, 16, 16), (1, 3, 40, 40), (1, 3, 40, 40)]
    assert table["image"].tolist() == list("012345")


def test_a_picture_that_cannot_be_measured_is_named() -> None:
    with pytest.raises(ConfigError, match=r"^wide\.png: The lossless coder takes sides"):
        measured([("small.png", noise(3, 8, 8)), ("wide.png", torch.zeros(3, 1, 16384))])


# --- the other measures of pictures


def test_entropy_of_gradients_has_closed_forms() -> None:
    ramp = (torch.arange(64.0) * 3 / 255).expand(1, 1, 16, -1)
    assert gradient_entropy(ramp).item() == 0  # every step is the same
    columns = torch.tensor([0.0, 0.0, 10.0, 10.0, 0.0]).div(255).expand(1, 1, 16, -1)  # steps 0, +10, 0, -10
    assert gradient_entropy(columns).item() == pytest.approx((1.5 + 0) / 2)
    levels = (noise(1, 1, 256, 256) < 0.5).float()  # steps -1, 0, 1 with 1/4, 1/2, 1/4
    assert gradient_entropy(levels).item() == pytest.approx(1.5, abs=0.01)


@pytest.mark.parametrize("alpha", [0.0, 1.0, 1.5])
def test_the_slope_of_a_made_spectrum_is_found(alpha: float) -> None:
    size = (128, 160)
    frequency = torch.hypot(torch.fft.fftfreq(size[0])[:, None], torch.fft.rfftfreq(size[1]))
    frequency[0, 0] = torch.inf
    white = torch.randn(4, 3, *size, generator=generator(0, "test", "spectrum"))
    white = white[:, :1].expand(-1, 3, -1, -1)
    fields = torch.fft.irfft2(torch.fft.rfft2(white) * frequency**-alpha, s=size)
    assert spectral_slope(fields).mean().item() == pytest.approx(alpha, abs=0.1)


def test_coding_noise_costs_all_its_bits_and_less_noise_costs_less() -> None:
    loud = noise(1, 3, 64, 64)
    assert compression(loud).item() == pytest.approx(24, rel=0.03)
    assert compression(loud / 16).item() < 14
    grey = compression(loud[:, :1]).item()
    assert grey == pytest.approx(8, rel=0.1)
    assert compression(loud[:, :1].expand(-1, 3, -1, -1)).item() == grey


def test_the_coder_says_what_it_does_not_take() -> None:
    with pytest.raises(ConfigError, match="16,383"):
        compression(torch.zeros(1, 1, 1, 16384))


def test_what_the_measures_are_invariant_to() -> None:
    image = drawn(0.6)[None] * 0.5 + 0.1
    turned, mirrored, brighter = image.rot90(1, (2, 3)), image.flip(3), image + 51 / 255
    for other in (turned, mirrored, brighter):
        assert torch.allclose(structural(other), structural(image), rtol=1e-4)
        assert torch.allclose(gradient_entropy(other), gradient_entropy(image), atol=0.02)
        assert torch.allclose(spectral_slope(other), spectral_slope(image), atol=1e-3)
    assert torch.allclose(structural(image / 2), structural(image) / 4, rtol=1e-4)
    assert torch.allclose(grain(structural(image / 2)), grain(structural(image)), rtol=1e-4)
    assert torch.allclose(spectral_slope(image / 2), spectral_slope(image), atol=1e-4)


def test_the_measures_follow_the_dial() -> None:
    table = measured((str(n), drawn(dial, 64, n)) for n, dial in enumerate(np.linspace(0, 0.9, 10)))
    for name in ("compression", "gradient_entropy"):
        assert table[name].corr(pd.Series(range(10)), method="spearman") > 0.8, name
    simple, busy = table.iloc[:3].mean(numeric_only=True), table.iloc[-3:].mean(numeric_only=True)
    assert busy["spectral_slope"] < simple["spectral_slope"]
    assert busy["grain"] < simple["grain"]
    assert busy["scale_1"] > simple["scale_1"]


# --- the learned measure


def test_learning_costs_more_the_higher_the_dial() -> None:
    lengths = [
        code_length(content(patches_of(torch.stack([drawn(dial, 64, n) for n in range(2)])), SMALL), SMALL).bits
        for dial in (0.0, 0.5, 0.9)
    ]
    assert lengths[0] + 0.5 < lengths[1] < lengths[2] - 0.5


def test_flat_content_costs_almost_nothing_and_noise_its_entropy() -> None:
    flat = code_length(content(patches_of(FLAT), SMALL), SMALL)
    assert flat.bits < 0.3
    assert flat.left < 0.05
    sigma = 25.0
    grey = torch.full((1, 3, 32, 32), 0.5)
    loud = degrade(GaussianNoise(sigma=Range(low=sigma, high=sigma)))
    noisy = code_length(change(patches_of(grey), loud, SMALL), SMALL)
    entropy = math.log2(sigma * math.sqrt(2 * math.pi * math.e))  # of a Gaussian in steps of 1, bits
    assert entropy - 0.1 < noisy.left < entropy + 0.3
    assert noisy.bits == pytest.approx(noisy.left + noisy.learning)


def test_a_code_length_is_decided_by_its_seed_alone(photos: torch.Tensor) -> None:
    budget = Budget(steps=4, batch=3, size=16)
    draw = content(patches_of(photos), budget)
    told: list[tuple[int, int]] = []
    one = code_length(draw, budget, progress=lambda *both: told.append(both))
    torch.rand(1, generator=torch.default_generator)
    assert code_length(draw, budget) == one
    assert code_length(draw, budget, seed=1) != one
    assert one.coded == 4 * 3 * 13 * 10
    assert told == [(step, 4) for step in range(1, 5)]


def test_what_a_degradation_changes_is_learned_on_the_same_patches(photos: torch.Tensor) -> None:
    budget = Budget(batch=6, size=32)
    rain = degrade(Rain.preset("medium", scale=0.5))
    clean = content(patches_of(photos), budget)(3)
    changed = change(patches_of(photos), rain, budget)(3)
    assert clean.shape == changed.shape == (6, 32, 32)
    assert (changed >= -0.51 / 255).all()
    assert ((clean + changed) <= 1.003).all()
    first = layer(rain, patches_of(photos), 0, 32)
    assert first.shape == (1, 32, 32)
    assert torch.equal(first, layer(rain, patches_of(photos), 0, 32))
    assert not torch.equal(first, layer(rain, patches_of(photos), 1, 32))


def test_a_degradation_that_changes_no_image_costs_nothing(photos: torch.Tensor) -> None:
    whole = (photos * 255).round() / 255
    nothing = degrade(Quantisation(bits=Range(low=8, high=8)))
    assert code_length(change(patches_of(whole), nothing, SMALL), SMALL).bits == 0


# --- what is said


def survey(name: str, bits: float, on: str = "", learning: float = 0.2, count: int = 5) -> Survey:
    images = [(f"{n}.png", drawn(0.8 * n / count, 32, n)) for n in range(count)]
    curve = (bits + 4 * learning,) * 2 + (bits - learning,) * 8
    return Survey(name, on, measured(images), CodeLength(curve, 1000))


def found(*surveys: Survey) -> Found:
    folders = tuple(one for one in surveys if not one.on)
    picture = np.zeros((8, 8, 3), np.uint8)
    ends = [Extremes(one, *(tuple((name, 1.5, picture) for name in end) for end in shown(one))) for one in surveys]
    return Found(folders, tuple(one for one in surveys if one.on), tuple(ends), 32, 0)


@pytest.mark.parametrize(
    ("bits", "learning", "words"),
    [
        (2.0, 0.2, "The balance of photos against rain is 2.00: 4.00 bits"),
        (2.0, 0.2, "ordinary training tends to fit it"),
        (3.95, 0.2, "Neither is the simpler"),
        (8.0, 0.2, "The images are the simpler"),
        (8.0, 0.01, "hardly anything to learn"),
        (0.0, 0.0, "changes nothing"),
    ],
)
def test_the_balance_is_said_in_words(bits: float, learning: float, words: str) -> None:
    assert words in sentences(found(survey("photos", 4.0), survey("rain", bits, "photos", learning)))[0]


def test_several_balances_are_counted_and_the_folders_ordered() -> None:
    one, other, rain, more = (
        survey("a", 4.0), survey("b", 1.0), survey("rain", 2.0, "a"), survey("rain", 2.0, "b"),
    )  # fmt: skip
    said = sentences(found(one, other, rain, more))
    assert said[0].startswith("In 1 of 2 pairs")
    assert "The balance of b is 0.50 against rain." in said
    assert said[-1].endswith("b 1.00 and a 4.00.")
    assert "No degradation was named" in sentences(found(one))[-1]
    assert balance(one, rain) == pytest.approx(2)
    heads, body = lines(found(one, other, rain, more))
    assert [line[-1] for line in body] == ["", "", "2.00", "0.50"]
    assert all(len(line) == len(heads) for line in body)


def test_the_ends_share_no_picture_and_names_are_escaped() -> None:
    simplest, most = shown(survey("a", 1.0, count=5))
    assert (len(simplest), len(most)) == (2, 2)
    assert not set(simplest) & set(most)
    assert shown(survey("a", 1.0, count=1)) == (["0.png"], [])
    page = html(found(survey("<b>", 3.0), survey("rain", 2.0, "<b>")))
    assert "&lt;b&gt;" in page
    assert "<b>" not in page
    assert page.count("<svg") >= 2 + len(MEASURES)
    assert "http" not in page.replace("http-equiv", "")


# --- the command

Told = tuple[int, str, str]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Callable[..., Told]:
    """Call the command in an empty folder: exit code, stdout, stderr. The learned budget is small."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(learned, "Budget", lambda: Budget(steps=3, batch=4, size=22))
    monkeypatch.setattr(figures, "svg", lambda plot, name: "")  # what is drawn is looked at above

    def call(*arguments: object) -> Told:
        monkeypatch.setattr(sys, "argv", ["unseen", "complexity", *map(str, arguments)])
        try:
            cli.main()
            code = 0
        except SystemExit as exit_:
            code = int(exit_.code or 0)
        out, err = capsys.readouterr()
        return code, out, err

    return call


def save(folder: Path, *images: torch.Tensor) -> Path:
    for number, image in enumerate(images):
        write_image(folder / f"{number}.png", image.permute(1, 2, 0).numpy())
    return folder


def test_the_command_weighs_folders_against_degradations(run: Callable[..., Told], tmp_path: Path) -> None:
    plain = save(tmp_path / "plain", *(drawn(0.0, 48, n) for n in range(3)))
    busy = save(tmp_path / "busy", *(drawn(0.8, 48, n) for n in range(3)), drawn(0.8, 40))
    asked = ("--degradation", "medium", "--scale", 0.5, "--size", 48, "--limit", 4)
    code, out, err = run(plain, busy, *asked, "--json")
    assert code == 0, err
    result = json.loads(out)
    first, second = result["folders"]
    assert (first["name"], second["name"], second["pictures"]) == ("plain", "busy", 4)
    assert first["medians"]["compression"] < second["medians"]["compression"]
    assert first["code_length"]["bits"] < second["code_length"]["bits"]
    low, high = (each["balance"] for each in result["degradations"])
    assert low < high
    assert low == pytest.approx(first["code_length"]["bits"] / result["degradations"][0]["code_length"]["bits"])
    assert "1 of 4 images are smaller than 48" in " ".join(result["notes"])
    table = pd.read_csv(Path(result["files"][0]))
    assert len(table) == 3 + 4 + 2 * 24
    assert {"survey", "on", "image", *MEASURES, "scale_1", "scale_16"} <= set(table)
    with Image.open(result["files"][2]) as sheet:
        assert sheet.width > 8 * 150
    assert "In " in result["sentences"][0]


def test_flat_grey_and_tiny_images_are_measured(run: Callable[..., Told], tmp_path: Path) -> None:
    odd = tmp_path / "odd"
    save(odd, torch.full((3, 20, 20), 0.5), noise(3, 3, 5))
    Image.fromarray((noise(30, 24).numpy() * 255).astype(np.uint8)).save(odd / "grey.png")
    save(tmp_path / "odd" / "dot", torch.zeros(3, 1, 1))
    code, out, err = run(odd, "-o", "page")
    assert code == 0, err
    assert out.strip() == "page/complexity.html"
    assert "2 of 4 images are flat" in err
    assert "No degradation was named" in err
    assert "odd" in (tmp_path / "page" / "complexity.html").read_text()


@pytest.mark.parametrize(
    ("arguments", "code", "reason"),
    [
        (("missing",), 1, "missing does not exist"),
        ((".",), 1, "No images in"),
        (("leaves",), 2, "endless"),
        (("embedded", "--degradation", "mediun"), 2, "no degradation called 'mediun'"),
    ],
    ids=str,
)
def test_wrong_usage_is_one_sentence(
    run: Callable[..., Told], arguments: tuple[str, ...], code: int, reason: str
) -> None:
    told = run(*arguments)
    assert told[:2] == (code, "")
    assert reason in told[2]
