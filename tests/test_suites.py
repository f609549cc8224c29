"""Suites are the same every time, whatever is judged beside them; a judge says what is seen and what is not."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from unseen.backgrounds import Backgrounds, BackgroundsConfig
from unseen.degradations import Rain, families, preset_names
from unseen.degradations.rain import TESTS
from unseen.errors import ConfigError
from unseen.evaluation import suites
from unseen.evaluation.alignment import LIMIT
from unseen.evaluation.baselines import identity
from unseen.evaluation.benchmark import Benchmark
from unseen.evaluation.evaluate import evaluate
from unseen.evaluation.suites import COLLECTIONS, PUBLIC, Judge, PairSuite, Suite, here, identity_of
from unseen.images import write_image
from unseen.pair_folder import PairFolderConfig
from unseen.rows import summarise
from unseen.study.study import checked, read_yaml
from unseen.types import Batch, Outcome

STEEP = Suite(name="steep", degradation=Rain.preset("steep", scale=0.25))
LISTS = sorted((Path(__file__).parents[1] / "suites").glob("*.yaml"))
SIZES = [(40, 40), (40, 40), (30, 50), (40, 40), (1, 1)]


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Backgrounds:
    """Of several sizes, one of them a single pixel."""
    folder, rng = tmp_path_factory.mktemp("images"), np.random.default_rng(0)
    for number, size in enumerate(SIZES):
        write_image(folder / f"{number}.png", rng.uniform(0, 0.8, (*size, 3)))
    return Backgrounds(BackgroundsConfig(source=str(folder)))


def by_name(batches: Iterator[tuple[list[str], Batch]]) -> dict[str, tuple[torch.Tensor, ...]]:
    return {
        name: (batch.degraded[index], batch.clean[index], batch.layer[index], batch.mask[index])
        for names, batch in batches
        for index, name in enumerate(names)
    }


def same(one: dict[str, tuple[torch.Tensor, ...]], other: dict[str, tuple[torch.Tensor, ...]]) -> bool:
    return list(one) == list(other) and all(
        torch.equal(mine, theirs) for name in one for mine, theirs in zip(one[name], other[name], strict=True)
    )


def test_a_suite_is_the_same_every_time(images: Backgrounds) -> None:
    assert same(by_name(STEEP.batches(images, 32)), by_name(STEEP.batches(images, 32)))


def test_every_image_is_there_once_in_order(images: Backgrounds) -> None:
    assert list(by_name(STEEP.batches(images, 32))) == images.names


@pytest.mark.parametrize("pixels", [1, 1024, 2 * 1024])
def test_an_image_is_degraded_alike_however_images_are_batched(
    images: Backgrounds, pixels: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = by_name(STEEP.batches(images, 32))
    monkeypatch.setattr(suites, "BATCH_PIXELS", pixels)
    assert same(by_name(STEEP.batches(images, 32)), whole)


@pytest.mark.parametrize("limit", [1, 3])
def test_a_limit_keeps_the_first_images_as_they_are(images: Backgrounds, limit: int) -> None:
    whole = by_name(STEEP.batches(images, 32))
    limited = by_name(STEEP.batches(images, 32, limit))
    assert same(limited, {name: whole[name] for name in images.names[:limit]})


@pytest.mark.parametrize("pixels", [1, 1024, 2 * 1024, 10**9])
def test_batches_are_of_one_size_and_no_larger_than_the_bound(
    images: Backgrounds, pixels: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(suites, "BATCH_PIXELS", pixels)
    for names, batch in STEEP.batches(images, 32):
        assert len(names) == len(batch)
        assert len(batch) == 1 or batch.mask.numel() <= pixels


def test_crops_are_centres_of_at_most_their_size(images: Backgrounds) -> None:
    sizes = [tuple(clean.shape[1:]) for _, clean, _, _ in by_name(STEEP.batches(images, 32)).values()]
    assert sizes == [(min(32, height), min(32, width)) for height, width in SIZES]


def test_another_seed_or_another_name_is_other_rain_on_the_same_images(images: Backgrounds) -> None:
    whole = by_name(STEEP.batches(images, 32))
    renamed = STEEP.model_copy(update={"name": "steeper"})
    for other in (by_name(STEEP.batches(images, 32, seed=1)), by_name(renamed.batches(images, 32))):
        name = images.names[0]
        assert not torch.equal(other[name][0], whole[name][0])
        assert torch.equal(other[name][1], whole[name][1])


def test_images_of_one_suite_get_rain_of_their_own(images: Backgrounds) -> None:
    layers = [layer for _, _, layer, _ in by_name(STEEP.batches(images, 32)).values()]
    assert not torch.equal(layers[0], layers[1])


def test_the_clean_suite_leaves_images_as_they_are(images: Backgrounds) -> None:
    for _, batch in Suite(name="clean", degradation=None).batches(images, 32):
        assert torch.equal(batch.degraded, batch.clean)
        assert not batch.mask.any()
        assert not batch.layer.any()


def test_groups_are_computed() -> None:
    medium = Rain.preset("medium", scale=0.25)
    assert STEEP.group(medium) == "unseen"
    assert STEEP.group(Rain.preset("large", scale=0.25)) == "seen"
    assert Suite(name="clean", degradation=None).group(medium) == "clean"
    assert Suite(name="x", degradation=medium).group(medium) == "seen"


def test_a_judge_resolves_names_and_what_is_spelt_out() -> None:
    trained = Rain.preset("small", scale=0.5)
    resolved = Judge(suites=("seen", "steep", STEEP.model_copy(update={"name": "mine"}), "clean")).resolve(trained)
    assert [suite.name for suite in resolved] == ["seen", "steep", "mine", "clean"]
    assert resolved[0].degradation == trained
    assert resolved[1].degradation == Rain.preset("steep", scale=0.5)
    assert resolved[2].degradation == STEEP.degradation
    assert resolved[3].degradation is None


def test_by_default_every_test_rain_is_judged() -> None:
    assert {suite.name for suite in Judge().resolve(Rain())} == {"seen", *TESTS, "clean"}


@pytest.mark.parametrize(
    ("names", "reason"),
    [
        (("seen", "stepe"), "no suite called 'stepe'"),
        (("steep", "clean", "steep"), r"must have different names; these repeat: \['steep'\]"),
    ],
)
def test_names_that_cannot_be_judged_are_refused(names: tuple[str, ...], reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        Judge(suites=names)


@pytest.mark.parametrize("wrong", [{"crop": 0}, {"limit": 0}, {"scale": 0}, {"suits": ["seen"]}])
def test_a_judge_that_makes_no_sense_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises((ValidationError, ConfigError)):
        Judge.model_validate(wrong)


def test_the_name_of_a_judge_depends_on_the_images_and_not_on_their_place() -> None:
    here, there = (Judge(images=BackgroundsConfig(source=folder)) for folder in ("here", "there"))
    assert here.id("content", ["a"]) == there.id("content", ["a"])
    assert len({here.id("content", ["a"]), here.id("other content", ["a"]), here.id("content", ["b"])}) == 3
    others = [Judge(crop=128), Judge(limit=2), Judge(along=2), Judge(scale=1), Judge(seed=1), Judge(suites=("seen",))]
    assert len({judge.id("content", ["a"]) for judge in (here, *others)}) == len(others) + 1


def test_a_judge_survives_json() -> None:
    judge = Judge(suites=("seen", STEEP, "clean"), limit=3)
    assert Judge.model_validate_json(judge.model_dump_json()) == judge


@pytest.fixture
def pairs(tmp_path: Path) -> PairSuite:
    rng = np.random.default_rng(0)
    for number, size in enumerate([(40, 40), (40, 40), (30, 50)]):
        clean = rng.uniform(0.1, 0.6, (*size, 3))
        degraded = clean.copy()
        degraded[10:20, 10:20] += 0.3
        write_image(tmp_path / "set" / "target" / f"{number}.png", clean)
        write_image(tmp_path / "set" / "input" / f"{number}.png", degraded)
    return PairSuite(name="set", pairs=PairFolderConfig(folder=str(tmp_path / "set")))


def test_pairs_are_read_as_they_are_with_an_estimated_mask(pairs: PairSuite) -> None:
    found = list(pairs.batches())
    assert [name for names, _ in found for name in names] == pairs.open().names
    assert [tuple(batch.clean.shape) for _, batch in found] == [(2, 3, 40, 40), (1, 3, 30, 50)]
    for _, batch in found:
        assert batch.mask.sum() == len(batch) * 100
        assert batch.layer[..., 10:20, 10:20].mean() == pytest.approx(0.3, abs=0.003)
    assert pairs.size() == 3
    assert pairs.size(limit=2) == 2


def test_pairs_and_rain_keep_only_the_images_asked_for(pairs: PairSuite, images: Backgrounds) -> None:
    names = pairs.open().names
    assert [name for some, _ in pairs.batches(only={names[2]}) for name in some] == [names[2]]
    alone = by_name(STEEP.batches(images, 32, only={images.names[1]}))
    assert same(alone, {name: its for name, its in by_name(STEEP.batches(images, 32)).items() if name in alone})


def test_a_border_is_not_scored(pairs: PairSuite) -> None:
    bordered = pairs.model_copy(update={"border": 10})
    _, batch = next(bordered.batches())
    scored = bordered.scored(Outcome(batch, batch.degraded))
    assert tuple(scored.restored.shape) == (2, 3, 20, 20)
    assert torch.equal(scored.batch.clean, batch.clean[..., 10:-10, 10:-10])
    with pytest.raises(ConfigError, match="none left inside a border of 20"):
        pairs.model_copy(update={"border": 20}).scored(Outcome(batch, batch.degraded))


def test_other_pairs_of_a_training_folder_are_seen_and_rain_is_not(pairs: PairSuite, images: Backgrounds) -> None:
    benchmark = Benchmark(Judge(suites=("steep", "clean", pairs)), images)

    def groups(folders: tuple[PairFolderConfig, ...] | None) -> list[str]:
        return [info.group for info in benchmark.infos(None, folders)]

    assert groups(None) == ["unknown", "clean", "unknown"]
    assert groups(()) == ["unseen", "clean", "unseen"]
    assert groups((pairs.pairs,)) == ["unseen", "clean", "seen"]
    gone = PairFolderConfig.model_construct(**{**dict(pairs.pairs), "folder": "${NOWHERE_AT_ALL}/x"})
    assert groups((gone,)) == ["unseen", "clean", "unseen"]


def test_what_others_have_seen_says_nothing_of_ours(pairs: PairSuite, images: Backgrounds) -> None:
    benchmark = Benchmark(Judge(suites=("steep", "long", "clean")), images, seen=("long",))
    assert [info.group for info in benchmark.infos(None)] == ["unseen", "seen", "clean"]
    assert [info.group for info in benchmark.infos(Rain.preset("medium", 0.5), ())] == ["unseen", "unseen", "clean"]


def test_pairs_are_unseen_for_whatever_was_trained_here(pairs: PairSuite) -> None:
    assert pairs.group(Rain()) == "unseen"
    assert pairs.outside(Rain()) == ("source",)


def test_every_family_has_its_collection() -> None:
    assert set(COLLECTIONS) == {f"unseen-{family}" for family in families()} >= {"unseen-rain", "unseen-haze"}
    assert COLLECTIONS["unseen-rain"] == (*TESTS, "rain100l", "rain100h")
    assert COLLECTIONS["unseen-noise"] == (*preset_names("noise", "tests"), "polyu_noise")
    assert COLLECTIONS["unseen-blur"] == (*preset_names("blur", "tests"), "lai_blur")
    assert COLLECTIONS["unseen-haze"] == preset_names("haze", "tests")
    assert {name for members in COLLECTIONS.values() for name in members} == {*preset_names(use="tests"), *PUBLIC}


@pytest.mark.parametrize("path", LISTS, ids=lambda path: path.stem)
def test_every_list_of_suites_is_a_judge(path: Path) -> None:
    judge = checked(Judge, read_yaml(path), str(path))
    assert f"unseen-{path.stem}" in judge.suites


def test_a_folder_that_was_not_exported_is_read_on_luma(pairs: PairSuite) -> None:
    assert (pairs.color, pairs.bands) == ("y", False)
    assert identity_of(pairs)["color"] == "y"
    elsewhere = PairSuite(name="set", pairs=PairFolderConfig(folder="${NOWHERE}/set"))
    assert elsewhere.color == "y"


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        (
            {"name": "a", "degradation": {"kind": "Rian"}},
            ["Suite.degradation: There is no kind called 'Rian': did you mean 'Rain'?"],
        ),
        ({"name": "a", "degradation": {"preset": "gaussian25", "sigma": 300}}, ["GaussianNoise: sigma is 300"]),
        ({"name": "a", "degradation": {"kind": "Rain", "width": {"low": 3, "high": 1}}}, ["width.Range: low is 3"]),
        ({"name": "a", "degradation": {"kind": "Rain", "width": "big"}}, ["width: a parameter is a number, {low: 1"]),
        (
            {"name": "a", "degradation": {"kind": "Mixture", "parts": [{"kind": "Rian"}]}},
            ["parts.0: There is no kind called 'Rian': did you mean 'Rain'?"],
        ),
        ({"name": "a", "pairs": {"folder": "x"}, "color": "z"}, ["PairSuite.color: Input should be 'y' or 'rgb'"]),
        ({"name": "a", "pair": {"folder": "x"}}, ["Suite.pair: there is no such key"]),
        (3, ["suites.0: a suite is a name, or a mapping"]),
    ],
)
def test_of_a_wrong_suite_only_what_was_meant_is_named(entry: Any, said: list[str]) -> None:
    with pytest.raises(ConfigError) as refused:
        checked(Judge, {"suites": [entry]}, "suites.yaml")
    lines = str(refused.value).splitlines()[1:]
    assert len(lines) == len(said)
    assert all(expected in line for expected, line in zip(said, lines, strict=True))


def test_the_collection_is_every_test_rain_and_the_public_sets_that_are_here(
    tmp_path: Path, pairs: PairSuite, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("UNSEEN_DATA", raising=False)
    judge = Judge(suites=("unseen-rain",))
    assert judge.absent == ("rain100l", "rain100h")
    assert [suite.name for suite in judge.resolve(Rain())] == list(TESTS)
    (tmp_path / "pairs").mkdir()
    (tmp_path / "set").rename(tmp_path / "pairs" / "rain100h")
    monkeypatch.setenv("UNSEEN_DATA", str(tmp_path))
    assert judge.absent == ("rain100l",)
    assert [suite.name for suite in judge.resolve(Rain())] == [*TESTS, "rain100h"]


def test_the_name_of_a_judge_depends_on_what_pairs_hold_and_not_on_where_they_are(
    tmp_path: Path, pairs: PairSuite
) -> None:
    here = Judge(suites=(pairs,)).id("", [])
    (tmp_path / "set").rename(tmp_path / "moved")
    moved = pairs.model_copy(update={"pairs": PairFolderConfig(folder=str(tmp_path / "moved"))})
    assert Judge(suites=(moved,)).id("", []) == here
    write_image(tmp_path / "moved" / "input" / "0.png", np.zeros((40, 40, 3)))
    suites._opened.cache_clear()
    assert Judge(suites=(moved,)).id("", []) != here


# --- the public sets, where they are


def public(name: str) -> PairSuite:
    if not here(PUBLIC[name]):
        pytest.skip(f"UNSEEN_DATA holds no pairs/{name}: put it where docs/data.md says")
    return PUBLIC[name]


def error(degraded: np.ndarray, clean: np.ndarray) -> float:
    """PSNR of bytes, over all colours, dB."""
    return -10 * np.log10(np.mean((degraded / 255.0 - clean / 255.0) ** 2))


@pytest.mark.usefixtures("shared_data")
def test_real_noise_is_judged_whole_and_in_all_colours() -> None:
    suite = public("polyu_noise")
    rows = evaluate(identity, [suite], limit=2, baselines=False).set_index(["metric", "image"])["value"]
    pairs = suite.open()
    assert list(rows["psnr_rgb"].index) == pairs.names[:2]
    for index, name in enumerate(pairs.names[:2]):
        pair = pairs.read(index)
        assert rows["psnr_rgb", name] == pytest.approx(error(pair.degraded, pair.clean), abs=1e-3)
    summary = summarise(evaluate(identity, [suite], limit=1, baselines=False)).iloc[0]
    assert summary.gain_rgb == 0
    assert summary.retention == pytest.approx(1)
    assert np.isfinite(summary.error_under4)


@pytest.mark.usefixtures("shared_data")
def test_blurred_pairs_are_judged_where_they_fit_and_inside_of_both_borders() -> None:
    suite = public("lai_blur")
    names, batch = next(suite.batches(limit=1))
    scored = suite.scored(Outcome(batch, batch.degraded))
    cut = LIMIT + 20  # the largest shift, and the border
    assert torch.equal(scored.batch.clean, batch.clean[..., cut:-cut, cut:-cut])
    rows = evaluate(identity, [suite], limit=1, baselines=False).set_index(["metric", "image"])["value"]
    unmoved = -10 * (batch.degraded - batch.clean)[..., cut:-cut, cut:-cut].square().mean().log10().item()
    assert rows["psnr_rgb", names[0]] > unmoved + 0.01
    assert rows["psnr_rgb", names[0]] == rows["input_psnr_rgb", names[0]]
    assert np.isfinite(rows["ssim_rgb", names[0]])
