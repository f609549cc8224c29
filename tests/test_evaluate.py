"""Evaluation: a restorer in, rows out, and nothing that breaks its contract passes."""

from typing import Any

import numpy as np
import pandas
import pytest
import torch

from unseen.backgrounds import Backgrounds, BackgroundsConfig
from unseen.degradations import Rain
from unseen.errors import UnseenError
from unseen.evaluation import suites
from unseen.evaluation.baselines import BASELINES, identity
from unseen.evaluation.evaluate import apply, evaluate
from unseen.evaluation.suites import Suite
from unseen.images import write_image
from unseen.rows import ATOMS, COLUMNS, summarise
from unseen.types import Images, Restorer

STEEP = Suite(name="steep", degradation=Rain.preset("steep", scale=0.25))
CLEAN = Suite(name="clean", degradation=None)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Backgrounds:
    folder, rng = tmp_path_factory.mktemp("images"), np.random.default_rng(0)
    for number, size in enumerate([(40, 40), (40, 40), (30, 50)]):
        write_image(folder / f"{number}.png", rng.uniform(0.1, 0.6, (*size, 3)))
    return Backgrounds(BackgroundsConfig(source=str(folder)))


def oracle(images: Backgrounds, suite: Suite) -> dict[tuple[int, ...], torch.Tensor]:
    """The clean images of a suite by the shape of their batch."""
    return {tuple(batch.clean.shape): batch.clean for _, batch in suite.batches(images, 32)}


def judged(restorer: Restorer, suites: list[Suite], images: Backgrounds, **options: Any) -> pandas.DataFrame:
    """The rows of the restorer alone."""
    return evaluate(restorer, suites, images, crop=32, baselines=False, **options)


def test_every_image_of_every_suite_has_every_atom(images: Backgrounds) -> None:
    rows = judged(identity, [STEEP, CLEAN], images, name="identity", step=7)
    assert list(rows.columns) == list(COLUMNS)
    assert set(rows.experiment) == {"identity"}
    assert set(rows.step) == {7}
    expected = {(suite, image, atom) for suite in ("steep", "clean") for image in images.names for atom in ATOMS}
    assert set(zip(rows.suite, rows.image, rows.metric, strict=True)) == expected
    assert len(rows) == len(expected)


def test_the_baselines_stand_beside_a_restorer_with_the_rows_they_have_alone(images: Backgrounds) -> None:
    table = evaluate(lambda degraded: degraded / 2, [STEEP, CLEAN], images, crop=32, name="half", step=7)
    assert dict.fromkeys(table.experiment) == dict.fromkeys(["half", *BASELINES])
    assert set(table[table.experiment != "half"].step) == {-1}
    for name, baseline in BASELINES.items():
        alone = judged(baseline, [STEEP, CLEAN], images, name=name)
        assert table[table.experiment == name].reset_index(drop=True).equals(alone)


def test_a_baseline_is_not_judged_twice(images: Backgrounds) -> None:
    table = evaluate(identity, [STEEP], images, crop=32, name="identity")
    assert not table.duplicated(["experiment", "suite", "image", "metric"]).any()
    assert set(table.experiment) == set(BASELINES)


def test_without_ssim_only_ssim_is_left_out(images: Backgrounds) -> None:
    whole, quick = (judged(identity, [STEEP], images, ssim=ssim) for ssim in (True, False))
    kept = whole[~whole.metric.str.startswith("ssim")].reset_index(drop=True)
    assert set(whole.metric) - set(quick.metric) == {"ssim_rgb", "ssim_y"}
    assert kept.equals(quick)


def test_the_identity_has_no_gain_and_removes_nothing(images: Backgrounds) -> None:
    summary = summarise(judged(identity, [STEEP], images)).iloc[0]
    assert summary.gain_rgb == 0
    assert summary.gain_y == 0
    assert summary.removal_ratio == 0
    assert summary.removal == 0
    assert summary.reconstruction < 0.02  # what lies below the threshold of the mask
    assert summary.residual == summary.oracle_removal > 0.1


def test_the_truth_removes_everything(images: Backgrounds) -> None:
    truth = oracle(images, STEEP)
    summary = summarise(judged(lambda degraded: truth[tuple(degraded.shape)], [STEEP], images)).iloc[0]
    assert summary.removal_ratio == 1
    assert summary.residual == summary.reconstruction == 0
    assert summary.psnr_rgb == float("inf")
    assert summary.ssim_rgb == pytest.approx(1)


def test_on_clean_images_the_identity_does_no_harm_and_rain_is_undefined(images: Backgrounds) -> None:
    summary = summarise(judged(identity, [CLEAN], images)).iloc[0]
    assert summary.mse == 0
    assert summary.mask_empty == len(images)
    assert np.isnan([summary.removal_ratio, summary.residual, summary.removal]).all()


@pytest.mark.parametrize("name", BASELINES)
def test_rows_do_not_depend_on_how_images_are_batched(
    images: Backgrounds, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = judged(BASELINES[name], [STEEP], images)
    monkeypatch.setattr(suites, "BATCH_PIXELS", 1)
    alone = judged(BASELINES[name], [STEEP], images)
    keys = ["suite", "image", "metric"]
    merged = whole.merge(alone, on=keys, validate="one_to_one")
    assert len(merged) == len(whole)
    assert np.allclose(merged.value_x, merged.value_y, rtol=1e-9, atol=1e-12)


def test_rows_do_not_depend_on_the_limit(images: Backgrounds) -> None:
    whole = judged(BASELINES["box"], [STEEP], images)
    first = judged(BASELINES["box"], [STEEP], images, limit=1)
    expected = whole[whole.image == images.names[0]].reset_index(drop=True)
    assert list(first.metric) == list(expected.metric)
    assert np.allclose(first.value, expected.value, rtol=1e-9)


def test_evaluating_twice_gives_the_same_rows(images: Backgrounds) -> None:
    assert judged(identity, [STEEP], images).equals(judged(identity, [STEEP], images))


def test_without_suites_there_are_no_rows(images: Backgrounds) -> None:
    rows = evaluate(identity, [], images)
    assert rows.empty
    assert list(rows.columns) == list(COLUMNS)
    assert summarise(rows).empty


def test_progress_counts_every_image(images: Backgrounds) -> None:
    told: list[tuple[str, int]] = []
    judged(identity, [STEEP, CLEAN], images, progress=lambda *news: told.append(news))
    for suite in ("steep", "clean"):
        assert sum(count for name, count in told if name == suite) == len(images)


def test_a_restorer_never_sees_more_than_a_batch(images: Backgrounds, monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory is bounded by the batch, whatever the suite's size."""
    monkeypatch.setattr(suites, "BATCH_PIXELS", 1100)
    seen: list[int] = []

    def watching(degraded: Images) -> Images:
        seen.append(degraded[:, 0].numel())
        return degraded

    judged(watching, [STEEP], images)
    assert max(seen) <= 1100
    assert len(seen) == 3


def test_a_restorer_runs_without_gradients(images: Backgrounds) -> None:
    def watching(degraded: Images) -> Images:
        assert not torch.is_grad_enabled()
        return degraded

    judged(watching, [STEEP], images, limit=1)


def test_what_is_restored_is_clipped() -> None:
    degraded = torch.rand(1, 3, 4, 4)
    restored = apply(lambda images: 3 * images - 1, degraded)
    assert torch.equal(restored, (3 * degraded - 1).clamp(0, 1))


def test_a_restorer_that_changes_the_shape_is_refused(images: Backgrounds) -> None:
    with pytest.raises(UnseenError, match=r"\(2, 3, 32, 32\) into \(2, 3, 31, 32\): it must keep the shape"):
        judged(lambda degraded: degraded[:, :, 1:], [STEEP], images)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_restorer_that_returns_what_is_not_finite_is_refused(images: Backgrounds, value: float) -> None:
    def broken(degraded: Images) -> Images:
        return degraded.clone().index_fill_(3, torch.tensor([5]), value)

    with pytest.raises(UnseenError, match="not finite"):
        judged(broken, [STEEP], images)
