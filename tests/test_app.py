"""The page: what it shows and gives back is right, bad files are told, and in a real browser it works."""

import importlib.util
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from unseen.app import Offer, blended, listening, offer_models, restore_again, restore_upload, saved, shown
from unseen.app import serving as serving_module
from unseen.app.offers import find_map
from unseen.app.serving import address_of, check_gradio, is_local
from unseen.checkpoints import save_network
from unseen.degradations import GaussianNoise, Mixture, Rain
from unseen.errors import ConfigError, ImageError, UnseenError
from unseen.experiment import Experiment
from unseen.images import read_image
from unseen.networks import ResNetConfig, build
from unseen.networks.abstention import Abstaining, Abstention
from unseen.restoration import Tiler, read_picture, restore_image
from unseen.restoration.run import removed

TINY = ResNetConfig(width=4, blocks=1)
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


def noise(*shape: int, dtype: Any = np.uint8) -> np.ndarray:
    return np.random.default_rng(3).integers(0, np.iinfo(dtype).max + 1, shape, dtype=dtype)


def checkpoint(path: Path, **values: Any) -> Path:
    save_network(path, build(TINY, 0).state_dict(), Experiment(network=TINY, **values), 7)
    return path


@pytest.fixture
def half() -> Offer:
    """A model whose result is known."""
    return Offer("half", Tiler(lambda images: images * 0.5), "Halves.")


# --- from an uploaded file to what is shown and given back


def test_what_is_given_back_is_what_unseen_restore_writes(half: Offer, tmp_path: Path) -> None:
    pixels = noise(20, 30, 4)
    Image.fromarray(pixels).save(tmp_path / "a.png", dpi=(300, 300))
    found = restore_upload(tmp_path / "a.png", half)
    path, lost = saved(found, 1.0, tmp_path)
    assert (path.name, lost) == ("a-restored.png", [])
    written = read_picture(path)
    assert np.array_equal(written.pixels, restore_image(lambda images: images * 0.5, pixels[..., :3]))
    assert written.alpha is not None and np.array_equal(written.alpha, pixels[..., 3])
    assert written.own == found.picture.own


def test_what_the_model_takes_for_clean_is_told(tmp_path: Path) -> None:
    careful = Offer("careful", Tiler(Abstaining(lambda images: images, Abstention(low=0.1, high=0.2))), "Careful.")
    Image.fromarray(noise(20, 30, 3)).save(tmp_path / "a.png")
    found = restore_upload(tmp_path / "a.png", careful)
    assert found.notes == ("it is taken for clean, and left as it is; another model may not",)


def test_a_picture_on_its_side_is_restored_and_shown_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(noise(20, 30, 3)).save(tmp_path / "side.jpeg", exif=exif)
    sizes = []

    def seen(images: Any) -> Any:
        sizes.append(tuple(images.shape[2:]))
        return images

    found = restore_upload(tmp_path / "side.jpeg", Offer("seen", Tiler(seen), ""))
    assert sizes == [found.size] == [(30, 20)]
    assert read_image(shown(found, 1.0, tmp_path).after).shape == (30, 20, 3)
    path, _ = saved(found, 1.0, tmp_path)
    assert path.name == "side-restored.jpeg"
    assert read_picture(path).orientation == 6


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_strength_blends_what_is_there(dtype: Any) -> None:
    before, after = noise(150, 5, 3, dtype=np.uint16), noise(150, 5, 3, dtype=np.uint16)[::-1]
    before, after = ((values / 65535).astype(dtype) if dtype == np.float32 else values.astype(dtype)
                     for values in (before, after))  # fmt: skip
    assert blended(before, after, 0.0) is before
    assert blended(before, after, 1.0) is after
    found = blended(before, after, 0.25)
    expected = before.astype(float) * 0.75 + after.astype(float) * 0.25
    assert found.dtype == dtype
    assert np.abs(found - expected).max() <= (1e-6 if dtype == np.float32 else 0.51)


def test_the_dial_asks_no_model_and_is_that_of_unseen_restore_up_to_rounding(tmp_path: Path) -> None:
    asked = []

    def darker(images: Any) -> Any:
        asked.append(1)
        return images * 0.7

    image = noise(40, 40, 3)
    Image.fromarray(image).save(tmp_path / "a.png")
    found = restore_upload(tmp_path / "a.png", Offer("darker", Tiler(darker), ""))
    path, _ = saved(found, 0.3, tmp_path)
    shown(found, 0.3, tmp_path)
    assert asked == [1]
    expected = Tiler(darker, strength=0.3).restore(image[None])[0]
    assert np.abs(read_image(path).astype(int) - expected).max() <= 1


def test_what_is_shown_is_before_after_and_the_difference(half: Offer, tmp_path: Path) -> None:
    image = np.full((40, 60, 3), (200, 100, 40), np.uint8)
    Image.fromarray(image).save(tmp_path / "a.bmp")
    files = shown(restore_upload(tmp_path / "a.bmp", half), 1.0, tmp_path)
    for path, expected in (
        (files.before, image),
        (files.after, image // 2),
        (files.removed, removed(image, image // 2)),
    ):
        assert np.abs(read_image(path).astype(int) - expected).max() <= 3, path.name


def test_large_deep_and_transparent_pictures_are_shown_small_in_8_bits_on_white(half: Offer, tmp_path: Path) -> None:
    Image.fromarray(np.full((10, 3000), 40000, np.uint16)).save(tmp_path / "wide.png")
    files = shown(restore_upload(tmp_path / "wide.png", half), 1.0, tmp_path)
    assert read_image(files.after).shape == (9, 2560, 3)
    assert abs(int(read_image(files.after)[4, 4, 0]) - 78) <= 2
    Image.fromarray(np.zeros((10, 10, 4), np.uint8)).save(tmp_path / "clear.png")
    files = shown(restore_upload(tmp_path / "clear.png", half), 1.0, tmp_path)
    assert read_image(files.before).min() >= 253


def test_another_model_restores_the_same_picture(half: Offer, tmp_path: Path) -> None:
    Image.fromarray(noise(10, 10, 3)).save(tmp_path / "a.gif")
    found = restore_upload(tmp_path / "a.gif", half)
    (tmp_path / "a.gif").unlink()
    again = restore_again(found, Offer("same", Tiler(lambda images: images), ""))
    assert again.model == "same"
    assert np.array_equal(again.pixels, again.picture.pixels)
    assert saved(again, 1.0, tmp_path)[0].name == "a-restored.png"


def test_one_pixel_is_a_picture(half: Offer, tmp_path: Path) -> None:
    Image.new("RGB", (1, 1), "white").save(tmp_path / "one.png")
    found = restore_upload(tmp_path / "one.png", half)
    assert found.size == (1, 1)
    assert read_image(shown(found, 1.0, tmp_path).after).shape == (1, 1, 3)


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("text.png", "Cannot read text.png: its content is not an image"),
        ("cut.jpg", "Cannot read cut.jpg: damaged or incomplete"),
        ("huge.pgm.ppm", "400,000,000 pixels"),
    ],
)
def test_a_bad_file_is_told_by_its_name_alone(half: Offer, tmp_path: Path, name: str, told: str) -> None:
    path = tmp_path / name
    if name == "cut.jpg":
        Image.fromarray(noise(64, 64, 3)).save(path)
        path.write_bytes(path.read_bytes()[:900])
    else:
        path.write_bytes(b"P6 20000 20000 255\n" if "huge" in name else b"no picture\n")
    with pytest.raises(ImageError, match=re.escape(told)) as caught:
        restore_upload(path, half)
    assert str(tmp_path) not in str(caught.value)


# --- the models


def test_models_are_offered_by_name_and_say_what_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = checkpoint(tmp_path / "one.safetensors")
    noises = Mixture(parts=(GaussianNoise(sigma=10), GaussianNoise(sigma=20)))
    other = checkpoint(tmp_path / "deep" / "one.safetensors", degradation=noises)
    weights = checkpoint(tmp_path / "rain.safetensors", degradation=Rain.preset("large"))
    monkeypatch.setattr("unseen.app.offers.shipped", lambda: {"rain": weights})
    monkeypatch.setattr("unseen.shipped.shipped", lambda: {"rain": weights})
    (tmp_path / "rain-map.png").write_bytes(b"")
    found = offer_models([str(one), str(other)], precision="fp32")
    assert list(found) == ["one", str(other), "rain"]
    about = [offer.about for offer in found.values()]
    parameters = f"ResNet, {sum(weight.numel() for weight in build(TINY, 0).parameters()):,} parameters"
    assert about[0] == f"one: {parameters}, trained on medium rain, 7 steps."
    assert "trained on 2 kinds of noise" in about[1]
    assert found["rain"].map == tmp_path / "rain-map.png"
    assert found["one"].no_map.endswith(f"unseen map {one} -o {tmp_path / 'one-map'}")
    assert "trained on noise: it has none" in found[str(other)].no_map


def test_a_model_with_the_name_of_a_shipped_one_takes_nothing_from_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine, theirs = (checkpoint(tmp_path / folder / "rain.safetensors") for folder in ("mine", "theirs"))
    monkeypatch.setattr("unseen.app.offers.shipped", lambda: {"rain": theirs})
    monkeypatch.setattr("unseen.shipped.shipped", lambda: {"rain": theirs})
    monkeypatch.chdir(tmp_path)
    Path("rain").mkdir()  # no model was named, and this is none
    assert list(offer_models(precision="fp32")) == ["rain"]
    found = offer_models([str(mine)], precision="fp32")
    assert list(found) == ["rain", "rain (shipped)"]
    assert str(mine) in found["rain"].no_map and str(theirs) in found["rain (shipped)"].no_map


def test_without_any_model_it_says_how_to_get_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("unseen.app.offers.shipped", dict)
    monkeypatch.setattr("unseen.shipped.shipped", dict)
    with pytest.raises(ConfigError, match="--model"):
        offer_models()


def test_a_map_is_found_beside_the_file_of_its_model(tmp_path: Path) -> None:
    run = tmp_path / "run" / "model.safetensors"
    assert find_map(run) is None
    for model, place in (
        (run, "run/map.png"),
        (run.parent, "run/map/map.png"),
        (tmp_path / "net.onnx", "net-map/map.png"),
        (tmp_path / "net.onnx", "net-map.png"),
    ):
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / place).touch()
        assert find_map(model) == tmp_path / place
    (tmp_path / "map.png").touch()
    assert find_map(tmp_path / "another.onnx") is None


# --- where it listens


def test_a_port_in_use_is_told_or_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    with listening("127.0.0.1", 0) as first:
        port = first.getsockname()[1]
        assert is_local(first)
        assert address_of(first) == f"http://127.0.0.1:{port}/"
        with pytest.raises(ConfigError, match=f"Port {port} of 127.0.0.1 is in use"):
            listening("127.0.0.1", port)
        monkeypatch.setattr(serving_module, "PORT", port)
        with listening("127.0.0.1", None) as second:
            assert second.getsockname()[1] > port


@pytest.mark.parametrize(("host", "port", "told"), [("192.0.2.1", 0, "no address of this machine"),
                                                    ("127.0.0.1", 70000, "0 to 65535")])  # fmt: skip
def test_an_address_that_cannot_be_is_told(host: str, port: int, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        listening(host, port)


def test_without_gradio_it_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UnseenError, match=re.escape("pip install 'unseen[app]'")) as caught:
        check_gradio()
    assert caught.value.exit_code == 2


# --- in a browser


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    """`unseen app` in a process of its own, which deletes what it wrote when it ends."""
    (tmp_path / "temporary").mkdir()
    program = "import sys; from unseen.cli import main; sys.exit(main())"
    model = checkpoint(tmp_path / "tiny.safetensors")
    call = [sys.executable, "-c", program, "app", "--model", str(model), "--port", "0", "--no-browser"]
    environment = os.environ | {"TMPDIR": str(tmp_path / "temporary"), "PYTHONWARNINGS": "ignore"}
    with subprocess.Popen(call, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None and process.stderr is not None
        yield process.stdout.readline().strip()
        process.send_signal(signal.SIGTERM)
        said = process.stderr.read()
        assert process.wait(60) == 0, said
    assert "Traceback" not in said
    assert not list((tmp_path / "temporary").glob("unseen-app-*"))


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("gradio") is None, reason="there is no Gradio: pip install 'unseen[app]'")
@pytest.mark.skipif(
    importlib.util.find_spec("playwright") is None or CHROMIUM is None,
    reason="there is no browser: install Chromium, and pip install playwright",
)
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
def test_in_a_browser_a_picture_is_restored_and_a_bad_one_is_told(address: str, tmp_path: Path) -> None:
    from playwright.sync_api import sync_playwright

    pixels = noise(60, 80, 3)
    Image.fromarray(pixels).save(tmp_path / "rainy.png")
    (tmp_path / "text.png").write_text("no picture")
    switches = "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking"
    more = "--disable-component-update --disable-sync"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=f"{switches} {more}".split())
        page = browser.new_page()
        page.set_default_timeout(120_000)
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))

        def put(name: str, said: str) -> None:
            """Upload a file, and wait until that is said."""
            page.set_input_files("#picture input[type=file]", tmp_path / name)
            page.wait_for_function("said => document.querySelector('#said').innerText.includes(said)", arg=said)

        page.goto(address)
        page.wait_for_selector("#picture input[type=file]", state="attached")
        assert "tiny: ResNet" in page.inner_text("#about")
        put("rainy.png", "rainy.png: 80 x 60 pixels, restored by tiny")
        page.wait_for_selector("text=Download rainy-restored.png")
        with page.expect_download() as download:
            page.click("#download")
        assert download.value.suggested_filename == "rainy-restored.png"
        expected = restore_image(build(TINY, 0).eval(), pixels)
        assert np.abs(read_image(download.value.path()).astype(int) - expected).max() <= 1

        page.fill("input[type=number]", "0")
        after = page.get_attribute("#both img >> nth=1", "src")
        page.keyboard.press("Tab")
        page.wait_for_function(
            "src => document.querySelectorAll('#both img')[1]?.getAttribute('src') != src", arg=after
        )
        page.get_by_role("tab", name="Removed").click()
        page.wait_for_selector("#removed img")
        page.get_by_role("tab", name="Map").click()
        assert "unseen map" in page.inner_text("#map-told")

        put("text.png", "Cannot read text.png: its content is not an image")
        put("rainy.png", "rainy.png: 80 x 60 pixels")
        browser.close()
    elsewhere = [url for url in asked if not url.startswith((address, "data:", "blob:"))]
    assert not elsewhere, "the page asks other machines"
