"""Kernels against closed forms, edges that stay, borders as stated, and paths that stay in reach.

The laws that hold for every degradation are in test_degradations.py, with every named blur among them.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from scipy.ndimage import convolve

from unseen.degradations import (
    CameraShake,
    DefocusBlur,
    GaussianBlur,
    KernelBlur,
    Mixture,
    MotionBlur,
    preset,
    preset_names,
    unseen_by,
)
from unseen.degradations.blur import Blur, traced
from unseen.errors import ConfigError, DataError
from unseen.images import PEAK, write_image
from unseen.seeding import generator
from unseen.types import Batch


def rngs(count: int, *address: str | int) -> list[torch.Generator]:
    return [generator(0, "blur", *address, index) for index in range(count)]


def kernel_of(blur: Blur) -> torch.Tensor:
    return blur.kernels(blur.sample((1, 1), rngs(1)))[0].double()


def blurred(blur: Blur | Mixture, clean: torch.Tensor) -> Batch:
    return blur.render(clean, blur.sample((clean.shape[2], clean.shape[3]), rngs(len(clean))))


def moments(kernels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Centres of mass from the middle, (b, 2), and covariances, (b, 2, 2), in pixels; rows first."""
    reach = kernels.shape[-1] // 2
    places = torch.arange(-reach, reach + 1).double()
    at = torch.stack(torch.meshgrid(places, places, indexing="ij")).flatten(1)
    weights = kernels.double().flatten(1)
    centre = weights @ at.T
    return centre, torch.einsum("bp,ip,jp->bij", weights, at, at) - centre[:, :, None] * centre[:, None]


def turned(along: float, across: float, degrees: float) -> torch.Tensor:
    """A covariance: variances along a direction (degrees from vertical, leaning right at the top) and across it."""
    radians = torch.deg2rad(torch.tensor(degrees, dtype=torch.float64))
    unit = torch.stack((radians.cos(), -radians.sin()))
    return along * torch.outer(unit, unit) + across * (torch.eye(2) - torch.outer(unit, unit))


@pytest.mark.parametrize("name", [name for name in preset_names("blur") if isinstance(preset(name), Blur)])
def test_kernels_are_positive_sum_to_one_and_are_centred(name: str) -> None:
    blur = preset(name)
    assert isinstance(blur, Blur)
    kernels = blur.kernels(blur.sample((1, 1), rngs(6)))
    assert kernels.shape == (6, 2 * blur.border + 1, 2 * blur.border + 1)
    assert kernels.min() >= 0
    assert (kernels.double().sum((1, 2)) - 1).abs().max() < 1e-6
    assert moments(kernels)[0].abs().max() < 1e-4


@pytest.mark.parametrize(("length", "direction"), [(17.3, 0), (17.3, 90), (12, 33.3), (30.7, -71)])
def test_straight_motion_has_the_spread_of_a_line_along_its_direction(length: float, direction: float) -> None:
    spread = moments(kernel_of(MotionBlur(length=length, direction=direction))[None])[1][0]
    # Bilinear interpolation adds f (1 - f) to the variance along each axis, f the part of a pixel: 0 to 1/4.
    extra = (spread - turned(length**2 / 12, 0, direction)).diagonal()
    assert (extra > -0.01).all()
    assert (extra < 0.26).all()
    assert spread[0, 1] == pytest.approx(turned(length**2 / 12, 0, direction)[0, 1].item(), abs=0.05)


@pytest.mark.parametrize(("sigma", "aspect", "direction"), [(0.6, 1, 0), (2.5, 1, 0), (4, 0.3, 25), (3, 0.5, -60)])
def test_a_gaussian_has_its_covariance(sigma: float, aspect: float, direction: float) -> None:
    spread = moments(kernel_of(GaussianBlur(sigma=sigma, aspect=aspect, direction=direction))[None])[1][0]
    # Integrated over pixels: a twelfth more along each axis. Cut at four sigma: 0.1 % less.
    expected = turned(sigma**2, (sigma * aspect) ** 2, direction) + torch.eye(2) / 12
    assert torch.allclose(spread, expected, rtol=5e-3, atol=0.01)


@pytest.mark.parametrize("radius", [1, 2.3, 7.5])
def test_a_disk_covers_its_area_and_is_round(radius: float) -> None:
    kernel = kernel_of(DefocusBlur(radius=radius))
    side, fine = len(kernel), 50
    places = (torch.arange(side * fine) + 0.5).double() / fine - side / 2
    covered = (places[:, None] ** 2 + places**2 < radius**2).double().view(side, fine, side, fine).mean((1, 3))
    assert (kernel * torch.pi * radius**2 - covered).abs().max() < 0.01
    for mirrored in (kernel.flip(0), kernel.flip(1), kernel.T):
        assert torch.allclose(kernel, mirrored, atol=1e-7)


@pytest.mark.parametrize("direction", [0, 90, 45])
def test_a_disk_moves_no_edge(direction: int) -> None:
    rows, columns = torch.meshgrid(*[torch.arange(41.0) - 20] * 2, indexing="ij")
    place = {0: columns, 90: rows, 45: rows + columns}[direction]
    edge = (0.5 + 0.6 * place.sign() / 2).expand(1, 3, -1, -1)  # 0.2, and 0.5 on the line itself, and 0.8
    found = blurred(DefocusBlur(radius=4.7, noise=0), edge.contiguous()).degraded[0, 0, 6:-6, 6:-6]
    place = place[6:-6, 6:-6]
    assert torch.allclose(found[place == 0], torch.tensor(0.5), atol=1e-6)
    assert (found[place > 0] > 0.5).all()
    assert (found[place < 0] < 0.5).all()


@pytest.mark.parametrize("blur", [MotionBlur(length=0, noise=0), GaussianBlur(sigma=0.05, noise=0)], ids=str)
def test_no_blur_leaves_the_image(blur: Blur, photos: torch.Tensor) -> None:
    assert torch.allclose(blurred(blur, photos).degraded, photos, atol=1e-6)


@pytest.mark.parametrize("name", ["shake", "gaussian-oval", "defocus"])
def test_blur_is_convolution_of_the_reflected_image(name: str, photos: torch.Tensor) -> None:
    blur = preset(name).model_copy(update={"noise": MotionBlur(noise=0).noise})
    assert isinstance(blur, Blur)
    params = blur.sample((23, 64), rngs(2))
    clean = photos[:2, :, :23].contiguous()
    found, kernels = blur.render(clean, params).degraded, blur.kernels(params)
    for image in range(2):
        for colour in range(3):
            expected = convolve(clean[image, colour].double().numpy(), kernels[image].double().numpy(), mode="mirror")
            assert np.abs(found[image, colour].double().numpy() - expected).max() < 2e-6


def test_what_lies_within_the_border_alone_depends_on_what_lies_beyond(photos: torch.Tensor) -> None:
    blur = preset("motion", 0.5)
    border, params = blur.border, blur.sample((64, 64), rngs(4))
    params = type(params)(params.labels, params.shapes, None)
    whole = blur.render(photos, params).degraded[..., 10:50, 8:56]
    part = blur.render(photos[..., 10:50, 8:56].contiguous(), params).degraded
    inner = (..., slice(border, -border), slice(border, -border))
    assert torch.allclose(whole[inner], part[inner], atol=1e-6)
    assert not torch.allclose(whole, part, atol=1e-2)


def test_the_noise_comes_after_the_blur() -> None:
    batch = blurred(MotionBlur(noise=5), torch.full((8, 3, 32, 32), 0.5))
    assert (batch.degraded - 0.5).std().item() * PEAK == pytest.approx(5, rel=0.02)
    assert (batch.degraded[..., 1:] - batch.degraded[..., :-1]).std().item() * PEAK == pytest.approx(50**0.5, rel=0.02)


# --- camera shake


def test_a_path_has_its_length_and_stays_within_reach() -> None:
    shake = CameraShake(length=40, jitter=10, pull=200, shakes=16)
    path = shake.sample((1, 1), rngs(20)).shapes
    assert path is not None
    assert torch.allclose(path.diff(dim=1).norm(dim=2), torch.tensor(1 / 256), atol=1e-6)
    assert path.mean(1).abs().max() < 1e-6
    assert path.norm(dim=2).max() <= 0.5


def test_without_chance_a_path_is_straight_and_with_more_it_is_shorter_across() -> None:
    def extent(**given: Any) -> float:
        path = CameraShake(**{"jitter": 0, "pull": 0, "shakes": 0, **given}).sample((1, 1), rngs(40)).shapes
        assert path is not None
        return (path[:, -1] - path[:, 0]).norm(dim=1).mean().item()

    assert extent() == pytest.approx(255 / 256, abs=1e-5)
    assert extent(jitter=0.2) > extent(jitter=1) > extent(jitter=4)
    assert extent(jitter=0.5) > extent(jitter=0.5, pull=10) > extent(jitter=0.5, pull=40)
    assert extent(shakes=0.5) > extent(shakes=3)


def test_a_longer_path_of_the_same_address_is_the_same_path_larger() -> None:
    short, long = (preset("shake", scale).sample((1, 1), rngs(3)) for scale in (1.0, 2.0))
    assert torch.equal(short.shapes, long.shapes)
    assert torch.allclose(2 * short.labels["length"], long.labels["length"])


def test_a_point_lies_on_its_four_pixels() -> None:
    kernel = traced(torch.tensor([[[0.25, -0.5]]]), 1)[0]
    assert torch.allclose(kernel, torch.tensor([[0, 0, 0], [0.375, 0.375, 0], [0.125, 0.125, 0]]))


# --- kernels from files


def test_kernels_from_files_are_normalised_centred_and_drawn_alike(tmp_path: Path) -> None:
    corner = np.zeros((9, 6), np.uint8)
    corner[:2, :3] = 60
    write_image(tmp_path / "a.png", corner)
    write_image(tmp_path / "b.png", np.eye(5, dtype=np.uint8) * 255)
    blur = KernelBlur(folder=str(tmp_path), noise=0)
    assert blur.border == 2
    assert torch.allclose(blur.files.sum((1, 2)), torch.ones(2))
    assert torch.allclose(blur.files[1], torch.eye(5) / 5)
    assert moments(blur.files)[0].abs().max() < 0.5 + 1e-6
    drawn = blur.sample((1, 1), rngs(200)).shapes
    assert drawn is not None
    assert (drawn == blur.files[0]).all((1, 2)).float().mean().item() == pytest.approx(0.5, abs=0.15)


def test_a_blur_from_files_is_known_by_their_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("one", 200), ("same", 100), ("other", 50)):
        kernel = np.full((3, 3), value, np.uint8)
        kernel[0] //= 2 if name == "other" else 1
        write_image(tmp_path / name / "kernel.png", kernel)
    monkeypatch.setenv("KERNELS", str(tmp_path))
    one, same, other = (KernelBlur(folder=f"${{KERNELS}}/{name}") for name in ("one", "same", "other"))
    assert one.content == same.content != other.content
    assert other.outside(one) == ("content",)
    assert KernelBlur(folder="/nowhere", content=one.content).outside(one) == ()  # as a checkpoint tells it
    with pytest.raises(ConfigError, match=r"are not those that this blur was made with"):
        KernelBlur(folder=other.folder, content=one.content).sample((1, 1), rngs(1))
    with pytest.raises(DataError, match="does not exist"):
        KernelBlur(folder=str(tmp_path / "none"))
    write_image(tmp_path / "black" / "kernel.png", np.zeros((3, 3), np.uint8))
    with pytest.raises(DataError, match="is black, and no kernel"):
        KernelBlur(folder=str(tmp_path / "black"))


# --- names and values


def test_what_is_unseen_is_computed() -> None:
    table = unseen_by("blur")
    assert table["motion-across"] == {"motion": (), "motion-narrow": ("direction",), "blurs": ()}
    assert table["motion-long"]["blurs"] == table["motion-short"]["motion"] == ("length",)
    assert table["motion-noisy"]["motion"] == ("noise",)
    assert table["defocus-far"] == {"motion": ("kind",), "motion-narrow": ("kind",), "blurs": ("radius",)}
    assert table["gaussian-oval"]["blurs"] == ("aspect",)
    assert table["shake"]["blurs"] == ("kind",)
    assert table["blur-chain"]["motion"] == ("chain",)


def test_the_border_of_a_mixture_holds_those_of_its_parts() -> None:
    parts = (preset("defocus"), preset("gaussian25"), preset("motion"))
    assert preset("gaussian25").border == preset("medium").border == 0
    assert Mixture(parts=parts).border == 13
    assert Mixture(parts=parts, mode="sequence").border == 6 + 13


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"kind": "MotionBlur", "length": -1}, "length is -1; it must lie in 0 to 160"),
        ({"kind": "GaussianBlur", "aspect": 2}, "aspect is 2; it must lie in 0.05 to 1"),
        ({"kind": "DefocusBlur", "radius": 0}, "radius is 0"),
        ({"kind": "CameraShake", "noise": 300}, "noise is 300"),
        ({"kind": "KernelBlur"}, "folder"),
    ],
)
def test_values_that_make_no_blur_are_refused_with_their_name(wrong: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValidationError, match=reason):
        Mixture.model_validate({"parts": (wrong,)})
