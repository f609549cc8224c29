"""The gallery: numbers that need no truth, and the page that shows them."""

import base64
import csv
import io
import json
import math
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import unseen.cli.gallery  # noqa: F401  registers the verb
from unseen.cli.app import main
from unseen.degradations.rain import Rain
from unseen.errors import DataError
from unseen.evaluation.baselines import box
from unseen.evaluation.change import DIRECTIONS, LEAST, SCALES, WINDOW, look, measure_change, spectrum
from unseen.images import Bytes, read_image, to_bytes, write_image
from unseen.report import gallery as page
from unseen.report.gallery import DETAIL, Gallery, Source, fitted, most_changed, removed
from unseen.restoration import restore_image
from unseen.seeding import generator

GREY = 90


def numbers() -> np.random.Generator:
    return np.random.default_rng(7)


def grey(height: int = 96, width: int = 128) -> Bytes:
    return np.full((height, width, 3), GREY, np.uint8)


def textured(height: int = 96, width: int = 128) -> Bytes:
    return numbers().integers(60, 160, (height, width, 3)).astype(np.uint8)


def rained(direction: float, width: float = 2, size: tuple[int, int] = (256, 320)) -> tuple[Bytes, Bytes]:
    """A grey image with streaks of one direction, and without."""
    rain = Rain.model_validate({"direction": direction, "width": width, "length": 40, "brightness": 0.4})
    clean = torch.full((1, 3, *size), GREY / 255)
    batch = rain.render(clean, rain.sample(size, [generator(3, "gallery", str(direction))]))
    before, after = (to_bytes(images[0].permute(1, 2, 0).numpy()) for images in (batch.degraded, batch.clean))
    return before, after


# What is measured


def test_nothing_changed_is_nothing():
    image = textured()
    change = measure_change(image, image.copy())
    assert (change.rms, change.changed, change.shift) == (0, 0, 0)
    assert change.nothing
    assert math.isnan(change.darkening) and math.isnan(change.removed.direction)
    assert change.contrast_kept == pytest.approx(1)
    assert not change.removed.by_scale.any()


@pytest.mark.parametrize(("by", "changed"), [(2, 0), (3, 1), (-3, 1)])
def test_a_constant_shift_is_tone_and_nothing_else(by, changed):
    change = measure_change(grey(), np.full_like(grey(), GREY + by))
    assert change.rms == pytest.approx(abs(by)) and change.shift == pytest.approx(by)
    assert change.changed == changed
    assert change.darkening == (by < 0)
    assert change.removed.by_scale == pytest.approx([by**2, 0, 0, 0, 0], abs=1e-9)


def test_a_pixel_counts_once_however_many_of_its_channels_changed():
    after = grey(100, 100)
    after[:10, :, 0] += 50
    after[:5, :, 1] += 50
    assert measure_change(grey(100, 100), after).changed == pytest.approx(0.1)


def test_the_rms_is_that_of_floating_point():
    before, after = textured(70, 90), textured(70, 90)[::-1]
    expected = np.sqrt(np.mean((after.astype(float) - before) ** 2))
    assert measure_change(before, after).rms == pytest.approx(expected)


def test_the_extremes_of_eight_bits_do_not_overflow():
    black, white = np.zeros((64, 64, 3), np.uint8), np.full((64, 64, 3), 255, np.uint8)
    assert measure_change(black, white).shift == 255
    assert measure_change(white, black).rms == 255


@pytest.mark.parametrize("width", [1, 3])
@pytest.mark.parametrize("direction", [-75, -40, -15, 0, 20, 45, 90])
def test_the_direction_of_removed_streaks_is_found(direction, width):
    found = measure_change(*rained(direction, width)).removed
    error = (found.direction - direction + 90) % 180 - 90
    assert abs(error) < 4
    assert found.concentration > 0.7
    strongest = DIRECTIONS[int(found.by_direction.argmax())]
    assert abs((strongest - direction + 90) % 180 - 90) <= 8


def test_a_mirrored_streak_has_the_opposite_direction():
    before, after = rained(30)
    one, other = measure_change(before, after).removed, measure_change(before[:, ::-1], after[:, ::-1]).removed
    assert other.direction == pytest.approx(-one.direction, abs=0.5)


def test_taking_out_bright_streaks_darkens():
    change = measure_change(*rained(10))
    assert change.darkening == 1 and change.shift < 0


def test_noise_has_no_direction_and_its_energy_is_its_variance():
    noise = numbers().integers(-9, 10, (300, 500, 3)).astype(np.int16)
    found = spectrum(noise)
    assert found.by_scale.sum() == pytest.approx(np.mean(noise.astype(float) ** 2), rel=0.02)
    assert found.direction_shares * len(DIRECTIONS) == pytest.approx(1, abs=0.1)
    assert found.concentration < 0.02


@pytest.mark.parametrize(("period", "place"), [(3, 4), (6, 3), (12, 2), (24, 1), (60, 0)])
@pytest.mark.parametrize("upright", [False, True])
def test_a_wave_lies_in_the_octave_of_its_period(period, place, upright):
    wave = 40 * np.sin(2 * np.pi * np.arange(300) / period)
    layer = np.rint(np.broadcast_to(wave[:, None, None], (300, 300, 3))).astype(np.int16)
    found = spectrum(layer.transpose(1, 0, 2) if upright else layer)
    assert found.scale_shares[place] > 0.95
    assert found.by_scale.sum() == pytest.approx(800, rel=0.1)
    if period < 32:
        assert DIRECTIONS[int(found.by_direction.argmax())] == (0 if upright else -90)


@pytest.mark.parametrize("size", [(64, 64), (65, 200), (WINDOW, WINDOW), (WINDOW + 1, 2 * WINDOW + 3)])
def test_sizes_of_all_kinds_have_a_spectrum(size):
    noise = numbers().integers(-20, 21, (*size, 3)).astype(np.int16)
    assert spectrum(noise).by_scale.sum() == pytest.approx(140, rel=0.1)


def test_every_part_of_a_large_image_is_seen():
    layer = np.zeros((WINDOW + 70, 2 * WINDOW + 90, 3), np.int16)
    layer[-20:-12, -60:-52] = 100
    assert spectrum(layer).by_scale.sum() > 0


def test_an_image_too_small_for_a_spectrum_has_the_rest():
    small = textured(LEAST - 1, 200)
    change = measure_change(small, (small + 4).astype(np.uint8))
    assert change.rms == pytest.approx(4)
    assert np.isnan(change.removed.by_scale).all() and np.isnan(change.contrast_kept).all()
    assert math.isnan(change.before.blur)


def test_a_blur_lowers_fine_contrast_and_shows_in_the_blur_effect():
    image = textured(128, 128)
    change = measure_change(image, restore_image(box, image))
    assert change.contrast_kept[-1] < 0.2 < 0.9 < change.contrast_kept[0]
    assert change.after.blur > change.before.blur + 0.1


def test_a_known_look_changes_nothing():
    before, after = rained(10, size=(96, 96))
    assert measure_change(before, after, look(before)).before.blur == measure_change(before, after).before.blur


def test_images_of_different_sizes_cannot_be_compared():
    with pytest.raises(DataError, match=r"128 x 64 .* 128 x 96"):
        measure_change(grey(), grey(64))


# What is shown


def test_the_map_is_grey_where_nothing_changed_and_light_where_something_bright_was_taken_out():
    before, after = grey(), grey()
    before[0, 0], after[1, 1] = GREY + 10, GREY + 10
    shown = removed(before, after)
    assert (shown[0, 0] == 128 + 10 * page.AMPLIFIED).all()
    assert (shown[1, 1] == 128 - 10 * page.AMPLIFIED).all()
    assert (shown[2:] == 128).all()


@pytest.mark.parametrize("place", [(0, 0), (700, 900), (350, 20)])
def test_the_detail_lies_where_most_was_changed(place):
    before = grey(800, 1000)
    after = before.copy()
    after[place[0] : place[0] + 40, place[1] : place[1] + 40] += 9
    after[400, 500] += 1
    top, left = most_changed(before, [after, before])
    assert 0 <= top <= 800 - DETAIL and 0 <= left <= 1000 - DETAIL
    assert (after != before)[top : top + DETAIL, left : left + DETAIL].sum() >= 40 * 40 * 3


@pytest.mark.parametrize("size", [(100, 2000), (401, 399), (10, 10)])
def test_a_detail_fits_into_any_image(size):
    top, left = most_changed(grey(*size), [textured(*size)])
    assert 0 <= top <= max(0, size[0] - DETAIL) and 0 <= left <= max(0, size[1] - DETAIL)


def test_pictures_fit_into_their_allowance_or_are_left_out():
    images = [textured(200, 300), textured(200, 300)]
    whole = sum(map(len, fitted(images, 10**7)))
    assert 0 < sum(map(len, fitted(images, whole // 3))) <= whole // 3
    assert fitted(images, 100) == ["", ""]


def test_details_are_cut_where_images_are_scaled():
    noise = textured(DETAIL, DETAIL)
    image, detail = fitted([noise], 30_000, [noise])
    shown, cut = (Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))) for uri in (image, detail))
    assert shown.size == cut.size < noise.shape[:2]
    top = (DETAIL - cut.height) // 2
    expected = Image.fromarray(noise[top : top + cut.height, top : top + cut.width])
    assert np.abs(np.asarray(cut.convert("L"), float) - np.asarray(expected.convert("L"))).mean() < 15
    assert np.asarray(shown.convert("L")).std() < np.asarray(cut.convert("L")).std()


def made(names: tuple[str, ...] = ("blind", "eager"), count: int = 3, budget: int = page.BUDGET) -> Gallery:
    """Images with streaks; "blind" leaves all, the others take all out."""
    found = Gallery("What changed", tuple(Source(name, "a <note>") for name in names), count, budget)
    for number in range(count):
        rain, dry = rained(20, size=(96, 128))
        rain[: 30 * number] = GREY  # ever less
        clean = textured()
        before = clean + (rain - dry)
        afters = {name: before if name == "blind" else clean for name in names}
        found.add(f"{number}.png", before, afters, {name: measure_change(before, a) for name, a in afters.items()})
    return found


def test_a_sentence_for_each_source_says_how_much_it_does():
    blind, eager = made().summaries()
    assert blind["sentences"] == ["blind changes nothing at all: all 3 images are as before."]
    assert re.match(r"eager changes [\d.]+ levels RMS on the median image \([\d.]+ to [\d.]+\);", eager["sentences"][0])
    assert "practically nothing (less than 1) on 0 of 3." in eager["sentences"][0]
    assert "% lies along streaks at about 15 degrees from vertical" in eager["sentences"][1]
    assert (blind["practically_nothing"], eager["practically_nothing"]) == (3, 0)


def test_directions_like_those_of_the_images_are_not_called_own():
    found = Gallery("", (Source("half"),), 1)
    before = textured()
    after = ((before.astype(int) + GREY) // 2).astype(np.uint8)
    found.add("a", before, {"half": after}, {"half": measure_change(before, after)})
    assert found.summaries()[0]["sentences"][1].endswith("its directions are much like those of the images themselves.")


def test_the_page_is_self_contained_and_claims_no_quality():
    text = made().html("unseen gallery")
    assert "Nothing here says whether an image became better." in text
    assert not re.search(r"(src|href)=\"(?!data:|#)", text)
    assert "a &lt;note&gt;" in text and "<note>" not in text
    assert text.count("<article") == 3
    assert not re.search(r"\bnan\b", text.lower())


def test_the_most_changed_images_come_first():
    found = made(("eager",))
    order = re.findall(r'data-number="(\d)"', found.html())
    by_change = sorted(found.changes("eager"), key=lambda item: -item[1].rms)
    assert [f"{number}.png" for number in order] == [name for name, _ in by_change]


def test_names_are_escaped():
    found = Gallery("<b>", (Source("<i>"),), 1)
    found.add("<u>.png", grey(), {"<i>": grey()}, {"<i>": measure_change(grey(), grey())})
    found.fail("<s>.png", "because <of>")
    assert not re.search(r"<(i|u|s|of)>", found.html())


def test_names_that_are_no_text_are_written_all_the_same(tmp_path: Path):
    found = made(("caf\udce9",))
    assert found.write(tmp_path).is_file()


def test_a_page_without_room_keeps_the_numbers_and_says_so():
    found = made(budget=10)
    assert found.without_pictures == 3
    assert "no room for pictures of 3 of 3 images" in found.html()
    assert len(found.rows()) == 6


def test_what_one_image_leaves_of_the_budget_is_for_the_others():
    found = Gallery("", (Source("a"),), 2, 60_000)
    for image in (grey(300, 300), textured(300, 300)):
        found.add("x", image, {"a": image}, {"a": measure_change(image, image)})
    assert len(found.cards[1].before) + len(found.cards[1].shots["a"].after) > 30_000
    assert found.without_pictures == 0


def test_a_large_image_is_shown_with_a_detail_and_a_small_one_without():
    found, change = Gallery("", (Source("a"),), 2), measure_change(grey(), grey())
    for size in ((100, 1000), (96, 128)):
        found.add("x", grey(*size), {"a": grey(*size)}, {"a": change})
    assert [bool(card.detail) for card in found.cards] == [True, False]


# The command


@dataclass(frozen=True)
class Result:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Run = Callable[..., Result]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Run:
    """Run the verb in this process, in a folder of its own that holds `photos/` with two images."""
    monkeypatch.chdir(tmp_path)
    write_image("photos/a.png", rained(20, size=(80, 100))[0])
    write_image("photos/inner/b.jpg", textured(90, 70))
    monkeypatch.setenv("COLUMNS", "200")

    def call(*arguments: str | Path) -> Result:
        capsys.readouterr()
        monkeypatch.setattr(sys, "argv", ["unseen", "gallery", *map(str, arguments)])
        code: Any = 0
        try:
            main()
        except SystemExit as ended:
            code = ended.code or 0
        said = capsys.readouterr()
        assert "Traceback" not in said.err
        return Result(code, said.out, said.err)

    return call


def test_baselines_are_shown_and_measured(run):
    result = run("photos", "-m", "identity", "-m", "median", "-o", "seen")
    assert result.code == 0
    assert result.out == "seen/gallery.html\n"
    assert "identity changes nothing at all: all 2 images are as before." in result.err
    with Path("seen/changes.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["image"], row["model"]) for row in rows] == [
        (image, model) for image in ("a.png", "inner/b.jpg") for model in ("identity", "median")
    ]
    assert all(f"removed, {scale}" in rows[0] for scale in SCALES)


def test_json_holds_every_number(run):
    found = run("photos", "-m", "box", "--limit", 1, "--json").json
    assert found["failed"] == [] and len(found["images"]) == 1
    assert found["models"][0]["images"] == 1
    assert found["models"][0]["rms_median"] == found["images"][0]["rms"] > 0
    assert set(found["models"][0]["contrast_kept"]) == set(SCALES)


def test_what_is_saved_is_what_was_measured_and_no_input_of_the_next_run(run):
    for _ in range(2):
        result = run("photos", "-m", "box", "-o", "photos/seen", "--save", "--json")
        assert [row["image"] for row in result.json["images"]] == ["a.png", "inner/b.jpg"]
    saved = read_image("photos/seen/restored/box/inner/b.png")
    assert (saved == restore_image(box, read_image("photos/inner/b.jpg"))).all()


def test_saved_images_of_one_stem_are_told_apart_and_found_again(run):
    write_image("photos/a.bmp", grey(80, 100))
    first = run("photos", "-m", "box", "-o", "seen", "--save", "--json").json["images"]
    assert {path.name for path in Path("seen/restored/box").iterdir()} == {"a.png.png", "a.bmp.png", "inner"}
    again = run("photos", "--restored", "seen/restored/box", "--json")
    assert again.code == 0 and again.json["images"] == first


def test_images_that_another_tool_restored_are_found_by_their_stem(run):
    write_image("tool/a.bmp", grey(80, 100))
    write_image("tool/inner/b.png", textured(90, 70))
    found = run("photos", "--restored", "tool", "--json")
    assert found.code == 0
    assert [row["model"] for row in found.json["images"]] == ["tool", "tool"]


def test_what_fails_is_listed_with_its_reason_and_stops_nothing(run):
    Path("photos/broken.png").write_bytes(b"no image")
    write_image("tool/inner/b.png", grey(20, 30))
    result = run("photos", "--restored", "tool", "-m", "identity", "--json")
    assert result.code == 1
    reasons = {(item["image"], item["model"]): item["message"] for item in result.json["failed"]}
    assert set(reasons) == {("broken.png", None), ("a.png", "tool"), ("inner/b.jpg", "tool")}
    assert "no image of that name" in reasons["a.png", "tool"]
    assert "30 x 20" in reasons["inner/b.jpg", "tool"]
    assert [row["image"] for row in result.json["images"]] == ["a.png", "inner/b.jpg"]
    assert "Not shown" in Path("gallery/gallery.html").read_text()


def test_restored_images_that_differ_in_their_ending_only_are_ambiguous(run):
    for ending in ("bmp", "ppm"):
        write_image(f"tool/a.{ending}", grey(80, 100))
    write_image("tool/inner/b.jpg", textured(90, 70))
    write_image("tool/inner/b.png", textured(90, 70))
    failed = run("photos", "--restored", "tool", "--json").json["failed"]
    assert [item["image"] for item in failed] == ["a.png"]  # of the other, one has the very same name
    assert "which is the restored image" in failed[0]["message"]


def test_one_image_is_a_gallery_too(run):
    result = run("photos/a.png", "-m", "median", "--json")
    assert [row["image"] for row in result.json["images"]] == ["a.png"]


def test_two_sources_of_one_name_are_told_apart(run):
    result = run("photos", "-m", "box", "-m", "box", "--limit", 1, "--json")
    assert [model["model"] for model in result.json["models"]] == ["box", "box (2)"]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["photos"], 2, "Nothing to show"),
        (["photos", "-m", "box", "--device", "tpu"], 2, "--device is"),
        (["photos", "-m", "missing.pth"], 1, "There is no model 'missing.pth'"),
        (["nowhere", "-m", "box"], 1, "does not exist"),
        (["photos", "--restored", "nowhere"], 1, "does not exist"),
    ],
)
def test_mistakes_are_one_clear_sentence(run, arguments, code, message):
    result = run(*arguments)
    assert result.code == code
    assert message in result.err and result.out == ""


def test_a_folder_of_saved_images_alone_is_a_mistake(run):
    run("photos", "-m", "box", "-o", "seen", "--save")
    result = run("seen/restored", "-m", "box", "-o", "seen")
    assert result.code == 2 and "are restored ones" in result.err


def test_a_published_derainer_takes_streaks_out_of_real_rain(run, shared_data, tmp_path):
    write_image("real/1.png", read_image(shared_data / "real" / "rain" / "100.jpg")[:96, :96])
    weights = shared_data / "weights" / "prenet" / "Rain100L.pth"
    found = run("real", "-m", weights, "--json").json
    assert found["models"][0]["note"].startswith("PReNet")
    assert found["images"][0]["rms"] > 0
