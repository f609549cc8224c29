"""The map of generalisation: its cells lie where they should, differ by the factor only, and the page says what they
hold."""

import json
import math
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

import unseen.cli.map  # noqa: F401  the verb
from unseen import cli
from unseen.backgrounds import Backgrounds, BackgroundsConfig
from unseen.checkpoints import save_network
from unseen.degradations import GaussianNoise, Mixture, Rain, preset
from unseen.errors import ConfigError
from unseen.evaluation.baselines import identity
from unseen.evaluation.grid import UNITS, Map, Plane, axis_of
from unseen.evaluation.map import generalization_map, rains_of, why_no_map, with_ranges
from unseen.experiment import Experiment
from unseen.images import write_image
from unseen.networks import ResNetConfig
from unseen.report import map as report
from unseen.report.map import Stop, cells_table, draw_map, html, stops, tally, verdict, write_map
from unseen.rows import COLUMNS, read_rows
from unseen.types import Images

TRAINING = {name: Rain.preset(name, scale=scale) for name, scale in (("small", 1.0), ("medium", 0.5), ("large", 1.0))}
SIZE = 32
WIDTH = [("width", "length")]


@pytest.fixture
def folder(photos: torch.Tensor, tmp_path: Path) -> Path:
    for number, photo in enumerate(photos[:2, :, :SIZE, :SIZE]):
        write_image(tmp_path / "photos" / f"{number}.png", photo.permute(1, 2, 0).numpy())
    return tmp_path / "photos"


@pytest.fixture
def images(folder: Path) -> Backgrounds:
    return Backgrounds(BackgroundsConfig(source=str(folder)))


def clean_of(images: Backgrounds) -> Images:
    return torch.stack([torch.from_numpy(image.copy()).permute(2, 0, 1) for _, image in images.crops(SIZE)]) / 255


# --- axes and planes


@pytest.mark.parametrize("cells", [3, 8, 9, 49])
@pytest.mark.parametrize("name", TRAINING)
@pytest.mark.parametrize("factor", UNITS)
def test_a_cell_is_inside_exactly_where_its_rain_is_not_unseen(factor: str, name: str, cells: int) -> None:
    rain = TRAINING[name]
    ends = getattr(rain, factor)
    axis = axis_of(factor, ends.low, ends.high, cells, known=True)
    assert len(axis.points) == cells
    assert list(axis.points) == sorted(set(axis.points))
    assert axis.start <= axis.middle < axis.stop
    for place, point in enumerate(axis.points):
        apart = with_ranges(rain, {factor: (point, point)}).outside(rain)
        assert apart == (() if axis.start <= place < axis.stop else (factor,))


@pytest.mark.parametrize(
    ("low", "high"), [(-30.0, 30.0), (20.0, 60.0), (80.0, 100.0), (170.0, 190.0), (-200.0, -170.0), (15.0, 15.0)]
)
def test_directions_go_once_around_with_the_training_range_in_the_middle(low: float, high: float) -> None:
    axis = axis_of("direction", low, high, 9, known=True)
    assert 0 < axis.points[-1] - axis.points[0] < 180
    centre = (axis.points[0] + axis.points[-1]) / 2
    assert abs((centre - (low + high) / 2 + 90) % 180 - 90) < 0.6
    assert axis.start == len(axis.points) - axis.stop


def test_all_directions_trained_leaves_none_outside() -> None:
    axis = axis_of("direction", -90.0, 90.0, 9, known=True)
    assert (axis.start, axis.stop) == (0, 9)


def test_a_range_at_the_least_width_has_nothing_below_it() -> None:
    axis = axis_of("width", 1.0, 1.0, 5, known=True)
    assert (axis.points[0], axis.start, axis.stop) == (1.0, 0, 1)


def test_the_other_factors_are_held_at_the_centre_of_the_training_range(images: Backgrounds) -> None:
    found = generalization_map(identity, images, trained=TRAINING["medium"], cells=(3, 3), crop=SIZE)
    assert [plane.name for plane in found.planes] == ["direction x length", "width x quantity"]
    assert [plane.held for plane in found.planes] == [
        {"width": 2.5, "quantity": 17.5},
        {"direction": 0.0, "length": 15.0},
    ]


@pytest.mark.parametrize("trained", [None, {"length": (10.0, 20.0)}, TRAINING["medium"]], ids=["none", "length", "all"])
def test_what_is_not_known_of_the_training_has_no_frame(trained: Any, images: Backgrounds) -> None:
    planes = (("direction", "length"), ("direction", "width"))
    found = generalization_map(identity, images, trained=trained, planes=planes, cells=(3, 3), crop=SIZE)
    first, second = ([cell.inside for cell in plane.cells()] for plane in found.planes)
    if trained is None:
        assert found.trained is None
        assert set(first + second) == {None}
    elif trained is TRAINING["medium"]:
        assert found.trained == "direction -30 to 30, length 10 to 20, width 1.5, 2.5, 3.5, quantity 10 to 25"
        assert set(first) == set(second) == {True, False}
    else:
        assert found.trained == "length 10 to 20"
        assert [cell.inside for cell in found.planes[0].cells()] == [
            10 <= cell.factors["length"] <= 20 for cell in found.planes[0].cells()
        ]
        assert set(second) == {None}


# --- judging


def test_of_a_mixture_what_lies_in_any_of_its_rains_is_inside(images: Backgrounds) -> None:
    thin = with_ranges(Rain(), {"width": (2.0, 4.0), "length": (8.0, 20.0)})
    thick = with_ranges(Rain(), {"width": (6.0, 11.0), "length": (10.0, 40.0)})
    mixed = Mixture(parts=(GaussianNoise(), thin, thick, thin.model_copy(update={"blend": "screen"})))
    assert rains_of(mixed) == (thin, thick)
    found = generalization_map(identity, images, trained=mixed, planes=WIDTH, cells=(9, 7), crop=8)
    cells = list(found.planes[0].cells())
    assert {cell.inside for cell in cells} == {True, False}
    for cell in cells:
        width, length = cell.factors["width"], cell.factors["length"]
        within = (2 <= width <= 4 and 8 <= length <= 20) or (6 <= width <= 11 and 10 <= length <= 40)
        assert cell.inside is within, cell.factors
    alone = generalization_map(identity, images, trained=Mixture(parts=(thin,)), planes=WIDTH, cells=(9, 7), crop=8)
    assert alone.rows.equals(found.rows) and alone.trained != found.trained
    assert alone.planes[0].within is None and html(found) and draw_map(found) != draw_map(alone)
    noise = generalization_map(identity, images, trained=Mixture(parts=(GaussianNoise(),)), planes=WIDTH, crop=8)
    assert noise.trained is None and not noise.planes[0].known


def test_closed_forms_hold_in_every_cell(images: Backgrounds) -> None:
    clean = clean_of(images)

    def half_way(degraded: Images) -> Images:
        return (degraded + clean) / 2

    def oracle(degraded: Images) -> Images:
        return clean.clone()

    for restorer, ratio, gain in ((identity, 0, 0), (half_way, 0.5, 20 * math.log10(2)), (oracle, 1, math.inf)):
        found = generalization_map(restorer, images, planes=WIDTH, cells=(3, 3), crop=SIZE)
        for plane in found.planes:
            assert found.values(plane, "removal_ratio") == pytest.approx(np.full((3, 3), ratio), abs=1e-6)
            assert found.values(plane, "gain_rgb") == pytest.approx(np.full((3, 3), gain), abs=1e-4)
            assert (found.values(plane, "removal_ratio", "median") < 1).all()


def test_more_rain_is_the_same_rain_and_more(images: Backgrounds) -> None:
    seen = []

    def watch(degraded: Images) -> Images:
        seen.append(degraded.clone())
        return degraded

    found = generalization_map(watch, images, planes=[("quantity", "direction")], cells=(5, 3), crop=SIZE)
    cells = list(found.planes[0].cells())
    assert len(seen) == len(cells)
    for before, after, less, more in zip(cells, cells[1:], seen, seen[1:], strict=False):
        if before.y == after.y:
            assert (more >= less).all()
            assert (more > less).any()


def test_two_runs_give_identical_rows(images: Backgrounds) -> None:
    one, other = (generalization_map(identity, images, planes=WIDTH, cells=(3, 3), crop=SIZE) for _ in range(2))
    pd.testing.assert_frame_equal(one.rows, other.rows, check_exact=True)
    assert not one.rows["metric"].str.contains("ssim").any()
    another = generalization_map(identity, images, planes=WIDTH, cells=(3, 3), crop=SIZE, seed=1)
    assert not one.rows["value"].equals(another.rows["value"])


def test_images_of_several_sizes_are_judged_together(folder: Path, photos: torch.Tensor) -> None:
    write_image(folder / "wide.png", photos[2, :, :20, :40].permute(1, 2, 0).numpy())
    images = Backgrounds(BackgroundsConfig(source=str(folder)))
    found = generalization_map(identity, images, planes=WIDTH, cells=(3, 3), crop=SIZE, name="same")
    assert set(found.rows["image"]) == {"0.png", "1.png", "wide.png"}
    assert {line["images"] for line in found.summary.values()} == {3}


def test_progress_ends_with_the_last_cell(images: Backgrounds) -> None:
    told: list[tuple[int, int]] = []
    planes = [("width", "length"), ("length", "quantity")]
    generalization_map(
        identity, images, planes=planes, cells=(3, 4), crop=SIZE, progress=lambda *both: told.append(both)
    )
    assert told == [(done, 24) for done in range(1, 25)]


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"planes": [("direction", "direction")]}, "two different factors"),
        ({"planes": [("direction", "brightness")]}, "two different factors"),
        ({"planes": []}, "at least one plane"),
        ({"planes": [("width", "length"), ("length", "width")]}, "no two of the same"),
        ({"cells": (2, 5)}, "has 2 cells"),
        ({"cells": (5, 400)}, "has 400 cells"),
        ({"trained": {"brightness": (0.0, 1.0)}}, "no factor 'brightness'"),
        ({"trained": {"length": (9.0, 3.0)}}, "swap them"),
        ({"trained": {"width": (0.0, 3.0)}}, "width is 0 to 3"),
    ],
    ids=str,
)
def test_a_wrong_map_is_refused(wrong: dict[str, Any], reason: str, images: Backgrounds) -> None:
    with pytest.raises(ConfigError, match=reason):
        generalization_map(identity, images, crop=SIZE, **wrong)


# --- what the page says


def made(
    ratio: Callable[[dict[str, float]], float],
    known: bool = True,
    median: float = 0.2,
    cells: tuple[int, int] = (9, 7),
    name: str = "model",
    planes: int = 2,
) -> Map:
    """A map in which `ratio` of the rain was removed, by cell; NaN: there was none. The median removes the same share
    everywhere."""
    rain = TRAINING["medium"]
    ends = {factor: (getattr(rain, factor).low, getattr(rain, factor).high) for factor in UNITS}
    laid = [
        Plane(axis_of(x, *ends[x], cells[0], known), axis_of(y, *ends[y], cells[1], known), held)
        for x, y, held in (
            ("direction", "length", {"width": 2.5, "quantity": 17.5}),
            ("width", "quantity", {"direction": 0.0, "length": 15.0}),
        )[:planes]
    ]
    lines: list[tuple[Any, ...]] = []
    for cell in (cell for plane in laid for cell in plane.cells()):
        for who, share in ((name, ratio(cell.factors)), ("median", median)):
            energy, covered = (0.0, 0) if math.isnan(share) else (100.0, 900)
            share = 0.0 if math.isnan(share) else share
            atoms = {
                "psnr_rgb": 30 - 10 * (1 - share), "input_psnr_rgb": 20, "mse": 0.01 * (1 - share) ** 2,
                "values": 3000, "mask_values": covered, "mask_degradation": energy, "mask_projection": share * energy,
                "mask_error": (1 - share) ** 2 * energy, "mask_change": share**2 * energy, "clear_error": 1.0,
                "degradation": energy, "alignment": (1 - share) * energy,
            }  # fmt: skip
            lines += [(who, -1, cell.suite, "a.png", metric, float(value)) for metric, value in atoms.items()]
    rows = pd.DataFrame(lines, columns=list(COLUMNS))
    words = "direction -30 to 30, length 10 to 20, width 1.5 to 3.5, quantity 10 to 25" if known else None
    return Map(name, "median", tuple(laid), rows, ("a.png",), 64, 0, words, "brightness 0.3 to 0.9")


def blind(factors: dict[str, float]) -> float:
    """Works within 50 degrees and up to 5 pixels of width."""
    return 0.9 if abs(factors["direction"]) < 50 and factors["width"] < 5 else 0.1


def test_the_verdict_says_where_it_works_and_where_it_stops() -> None:
    found = made(blind)
    assert stops(found) == [
        Stop("direction", -60.0, 60.0, False),
        Stop("length", None, None, False),
        Stop("width", None, 5.28, False),
        Stop("quantity", None, None, False),
    ]
    inside, outside = tally(found, True), tally(found, False)
    assert (inside.cells, inside.works, outside.cells) == (18, 18, 108)
    assert outside.works == sum(
        blind(cell.factors) > 0.5 and cell.inside is False for plane in found.planes for cell in plane.cells()
    )
    first = verdict(found)[0]
    assert "in all 18 cells inside its training range" in first
    assert f"in {outside.works} of the 108 cells" in first
    assert "falls under 0.5 at direction -60 and 60 degrees and width 5.28 pixels" in first
    assert "along length and quantity nowhere on the map" in first


def test_the_verdict_on_one_that_does_nothing() -> None:
    first = verdict(made(lambda factors: 0.0))[0]
    assert "in none of the 18 cells inside" in first
    assert "even in the middle of the map its removal ratio is under 0.5" in first


def test_the_verdict_without_a_training_range_speaks_of_none() -> None:
    first = verdict(made(blind, known=False))[0]
    assert "training range" not in first
    assert re.search(r"in \d+ of the 126 cells", first)


def test_a_claim_that_the_median_would_also_pass_is_called_void() -> None:
    better, worse = made(lambda factors: 0.8, median=0.7), made(lambda factors: 0.6, median=0.7)
    assert (tally(better, True).void, tally(worse, True).void) == (0, 18)
    assert any("In 126 of the 126 cells in which it works, a 5 x 5 median" in said for said in verdict(worse))


def test_an_undefined_cell_is_a_dash_and_counts_for_nothing() -> None:
    found = made(lambda factors: math.nan if factors["quantity"] < 6 else 0.9, cells=(3, 3))
    assert tally(found, False).cells == 16 - 3
    assert np.isnan(found.values(found.planes[1], "removal_ratio")[0]).all()
    assert html(found).count("<td>-</td>") >= 3


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Map, Path]:
    found = made(blind, cells=(5, 4))
    return found, write_map(found, tmp_path_factory.mktemp("map") / "deep")


def test_the_page_stands_alone(written: tuple[Map, Path]) -> None:
    text = written[1].read_text()
    assert not re.search(r"""(src|href)=["'](?!data:|#)""", text)
    assert "url(http" not in text
    assert "training range</li>" in text
    assert verdict(written[0])[0].replace("-60", "\u221260") in text


def test_beside_the_page_are_a_picture_the_cells_and_the_rows(written: tuple[Map, Path]) -> None:
    found, page = written
    assert sorted(path.name for path in page.parent.iterdir()) == ["map.csv", "map.html", "map.png", "rows.parquet"]
    table = pd.read_csv(page.parent / "map.csv")
    assert len(table) == len(cells_table(found)) == 2 * 2 * 5 * 4
    mine = table[table["restorer"] == "model"]
    expected = [blind({factor: line[factor] for factor in UNITS}) for line in mine.to_dict("records")]
    assert mine["removal_ratio"].to_numpy() == pytest.approx(expected)
    assert int(mine["inside"].sum()) == tally(found, True).cells > 0
    pd.testing.assert_frame_equal(read_rows(page.parent / "rows.parquet"), found.rows)
    with Image.open(page.parent / "map.png") as picture:
        assert min(picture.size) > 1000


def test_without_a_training_range_there_is_no_frame() -> None:
    framed, bare = (html(made(blind, known, cells=(3, 3), planes=1)) for known in (True, False))
    assert "training range</li>" in framed
    assert "training range</li>" not in bare
    assert "The training range is not known" in bare
    assert framed.count("<path") > bare.count("<path")


def test_the_picture_is_the_same_every_time(written: tuple[Map, Path]) -> None:
    assert draw_map(made(blind, cells=(5, 4))) == (written[1].parent / "map.png").read_bytes()


def test_the_name_of_a_model_is_escaped() -> None:
    assert "<script>alert" not in html(made(blind, cells=(3, 3), name="<script>alert(1)</script>", planes=1))


# --- the command


Told = tuple[int, str, str]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Callable[..., Told]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr(report, "draw_map", lambda found: b"")  # what is drawn is looked at above
    monkeypatch.setattr(report.figures, "svg", lambda plot, name: "")

    def call(*arguments: str | Path) -> Told:
        capsys.readouterr()
        monkeypatch.setattr(sys, "argv", ["unseen", "map", *map(str, arguments)])
        try:
            cli.main()
            code: Any = 0
        except SystemExit as ended:
            code = ended.code or 0
        said = capsys.readouterr()
        assert "Traceback" not in said.err
        return code, said.out, said.err

    return call


FEW = ("--grid", "3", "--crop", "32", "--limit", "2", "--plane", "width,length")


@pytest.fixture
def network(folder: Path, tmp_path: Path) -> Path:
    """A run's folder: a tiny network, trained on `folder` as far as its header tells."""
    config = ResNetConfig(width=4, blocks=0)
    experiment = Experiment(
        network=config, degradation=Rain.preset("small"), backgrounds=BackgroundsConfig(source=str(folder))
    )
    (tmp_path / "tiny").mkdir()
    weights = {name: value.detach() * 0 for name, value in config.build().state_dict().items()}
    save_network(tmp_path / "tiny" / "model.safetensors", weights, experiment, step=7)
    return tmp_path / "tiny"


def test_the_command_maps_a_checkpoint_around_its_own_training_range(run: Callable[..., Told], network: Path) -> None:
    code, out, err = run(network, *FEW, "--json")
    assert code == 0, err
    told = json.loads(out)
    assert told["trained"] == "direction -5 to 5, length 30 to 31, width 5, quantity 10 to 25"
    assert told["model"]["step"] == 7
    assert len(told["map"]) == 2 * 9
    assert {cell["removal_ratio"] for cell in told["map"] if cell["restorer"] != "median"} == {0.0}
    assert Path(told["page"]).name == "map.html"
    assert Path(told["page"]).is_file()
    assert all(Path(file).is_file() for file in told["files"])


def test_the_command_maps_a_baseline_and_prints_the_path_of_the_page(run: Callable[..., Told]) -> None:
    code, out, err = run("median", *FEW, "--trained", "medium", "--trained", "width=2:3")
    assert code == 0, err
    assert out.strip() == "map-median/map.html"
    assert "map: 9 of 9" in err
    assert "inside its training range" in err
    text = Path("map-median/map.html").read_text()
    assert "width 2 to 3" in text
    assert "of a 5 x 5 median filter" not in text


def test_the_command_says_that_the_training_range_is_not_known(run: Callable[..., Told]) -> None:
    code, _, err = run("identity", *FEW)
    assert code == 0
    assert "the map has no frame" in err


@pytest.mark.parametrize(
    ("met", "said"),
    [
        (GaussianNoise(), "trained on noise: it has none"),
        (Mixture(parts=(GaussianNoise(), preset("motion"))), "trained on noise and blur: it has none"),
        (Mixture(parts=(preset("haze"), Rain())), ""),
    ],
    ids=["noise", "mixture", "rain too"],
)
def test_what_was_trained_on_no_rain_has_no_map(met: Any, said: str) -> None:
    experiment = Experiment(degradation=met)
    pairs = Experiment(degradation=met, pairs={"folders": ["pairs"], "share": 0.5})  # pyright: ignore[reportArgumentType]
    assert why_no_map("tiny", [experiment]) == (said and f"The map is of rain, and tiny was {said}.")
    assert why_no_map("tiny", [pairs]) == why_no_map("tiny", []) == ""


def test_the_command_refuses_what_was_trained_on_no_rain(run: Callable[..., Told], tmp_path: Path) -> None:
    experiment = Experiment(network=ResNetConfig(width=4, blocks=0), degradation=GaussianNoise())
    save_network(tmp_path / "quiet.safetensors", experiment.network.build().state_dict(), experiment, step=7)
    code, out, err = run("quiet.safetensors", *FEW, "--trained", "medium")
    assert (code, out) == (2, "")
    assert err == "Error: The map is of rain, and quiet was trained on noise: it has none.\n"
    assert not Path("map-quiet").exists()


def test_images_that_were_trained_on_are_refused(run: Callable[..., Told], network: Path, folder: Path) -> None:
    code, out, err = run(network, *FEW, "--images", folder)
    assert (code, out) == (1, "")
    assert "--allow-leaks" in err
    code, out, err = run(network, *FEW, "--images", folder, "--allow-leaks")
    assert code == 0
    assert "were trained on" in Path(out.strip()).read_text()


@pytest.mark.parametrize(
    ("arguments", "code", "reason"),
    [
        (("missing",), 1, "There is no model 'missing'"),
        (("identity", "--grid", "many"), 2, "--grid takes numbers"),
        (("identity", "--grid", "2"), 2, "has 2 cells"),
        (("identity", "--plane", "width"), 2, "--plane takes two factors"),
        (("identity", "--plane", "width,colour"), 2, "two different factors"),
        (("identity", "--trained", "mediun"), 2, "There is no"),
        (("identity", "--trained", "medium", "--trained", "large"), 2, "one named rain"),
        (("identity", "--trained", "length=a:b"), 2, "--trained takes numbers"),
        (("identity", "--trained", "colour=1:2"), 2, "no factor 'colour'"),
        (("identity", "--images", "missing"), 1, "missing does not exist"),
        (("identity", "--device", "gpu"), 2, "--device is auto"),
        (("json:loads",), 2, "--trust"),
    ],
    ids=str,
)
def test_wrong_usage_is_one_sentence(
    run: Callable[..., Told], arguments: tuple[str, ...], code: int, reason: str
) -> None:
    told = run(*arguments, "--limit", "1", "--crop", "32")
    assert told[:2] == (code, "")
    assert reason in told[2]
