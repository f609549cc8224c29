"""Studies: the product of their axes, each cell done once, whatever stops them."""

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pytest
import yaml
from filelock import FileLock
from PIL import Image
from pydantic import ValidationError

from unseen.errors import ConfigError, DataError, StudyError
from unseen.images import write_image
from unseen.rows import ATOMS
from unseen.study.cores import FOLDER
from unseen.study.record import BASELINES, StudyRecord, read_study
from unseen.study.run import Event, plan, run_study, write_study
from unseen.study.study import Study, apply_changes, load_study, read_yaml, with_value
from unseen.training import Interrupted

SUITES = ("seen", "steep", "clean")


@pytest.fixture(scope="module", autouse=True)
def own_cores(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Cores that studies on this machine have taken are none of these tests' business."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(FOLDER, str(tmp_path_factory.mktemp("cores")))
        yield


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four to train on and two to test on."""
    folder, rng = tmp_path_factory.mktemp("photographs"), np.random.default_rng(0)
    for number in range(6):
        write_image(folder / f"{number}.png", np.kron(rng.uniform(0.1, 0.6, (6, 6, 3)), np.ones((8, 8, 1))))
    return folder


def described(photographs: Path, **changes: Any) -> dict[str, Any]:
    """A study of seconds, as a mapping."""
    images = {"source": str(photographs), "holdout": 2}
    return {
        "name": "tiny",
        "question": "Is it so?",
        "base": {
            "backgrounds": images,
            "degradation": {"kind": "Rain", "preset": "medium", "scale": 0.25},
            "network": {"kind": "ResNet", "width": 4, "blocks": 1},
            "recipe": {
                "steps": 10, "batch": 2, "patch": 16, "snapshots": [5],
                "device": "cpu", "precision": "fp32", "threads": 1,
            },
        },
        "axes": {"backgrounds.count": [1, None], "seed": [0, 1]},
        "judge": {
            "images": {**images, "part": "test"}, "crop": 32, "limit": 1, "scale": 0.25, "suites": list(SUITES),
        },
        **changes,
    }  # fmt: skip


def study_of(photographs: Path, **changes: Any) -> Study:
    return Study.model_validate(described(photographs, **changes))


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def ran(photographs: Path, runs: Path) -> StudyRecord:
    """The study, run once with one worker."""
    return run_study(study_of(photographs), runs, workers=1, command="unseen study run tiny.yaml")


def times(runs: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in sorted(runs.rglob("*")) if path.suffix not in ("", ".lock")}


def same_rows(one: StudyRecord, other: StudyRecord) -> bool:
    """The same cells with the same rows, bit for bit."""
    return one.baselines.equals(other.baselines) and all(
        mine.id == theirs.id and mine.rows is not None and theirs.rows is not None and mine.rows.equals(theirs.rows)
        for mine, theirs in zip(one.cells, other.cells, strict=True)
    )


# --- what a study is


def test_cells_are_the_product_of_the_axes_the_last_varying_fastest(photographs: Path) -> None:
    cells = study_of(photographs, axes={"backgrounds.count": [1, None], "seed": [0, 1, 2]}).cells()
    assert [tuple(axes.values()) for axes, _ in cells] == [(1, 0), (1, 1), (1, 2), (None, 0), (None, 1), (None, 2)]
    for axes, experiment in cells:
        assert experiment.backgrounds.count == axes["backgrounds.count"]
        assert experiment.seed == axes["seed"]
        assert experiment.backgrounds.seed == axes["seed"]
        assert experiment.network.width == 4


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"axes": {"backgrounds.cuont": [1, 2]}}, r"backgrounds\.cuont: there is no such key"),
        ({"axes": {"network.depth": [1, 2]}}, r"depth: there is no such key"),
        ({"axes": {"sede": [1, 2]}}, "sede: there is no such key"),
        ({"axes": {"seed": [0, -1]}}, "seed: .*greater than or equal to 0.*-1"),
        ({"axes": {"seed": []}}, "axis seed has no values"),
        ({"reference": 5}, r"reference is 5, which is not a value of axis backgrounds\.count: \[1, null\]"),
        ({"axes": {"backgrounds.count": [1, 2]}, "reference": None}, "reference is null, which is not a value"),
        ({"basis": {}}, "basis: there is no such key"),
        ({"base": {"recipie": {}}}, "recipie: there is no such key"),
        ({"base": {"degradation": {"kind": "Rain", "preset": "mediun"}}}, "no rain called 'mediun'"),
        ({"judge": {"suits": ["seen"]}}, r"judge\.suits: there is no such key"),
        ({"judge": {"suites": ["stepe"]}}, "no suite called 'stepe'"),
        ({"name": "No Name"}, "name"),
    ],
)
def test_what_is_wrong_in_a_study_is_named(
    photographs: Path, tmp_path: Path, changes: dict[str, Any], reason: str
) -> None:
    path = tmp_path / "study.yaml"
    path.write_text(yaml.safe_dump(described(photographs, **changes)))
    with pytest.raises(ConfigError, match=reason):
        load_study(path)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("name: [", "is not YAML"),
        ("- a\n- b\n", "holds list, expected a mapping: keys, each with its value"),
        ("", "expected a mapping"),
        ("\x00", "is not YAML"),
    ],
)
def test_a_file_that_is_no_study_is_a_clear_error(tmp_path: Path, text: str, reason: str) -> None:
    path = tmp_path / "study.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=reason):
        load_study(path)


def test_a_study_that_is_not_there_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="There is no study at"):
        load_study(tmp_path / "study.yaml")


def test_changes_are_laid_over_the_file(photographs: Path, tmp_path: Path) -> None:
    path = tmp_path / "study.yaml"
    path.write_text(yaml.safe_dump(described(photographs)))
    changes = ["base.recipe.steps=7", "axes.seed=[4]", "judge.limit=null", "base.network={kind: UNet}"]
    study = load_study(path, [*changes, "base.recipe.snapshots=[]"])
    assert len(study.cells()) == 2
    assert {experiment.recipe.steps for _, experiment in study.cells()} == {7}
    assert {experiment.seed for _, experiment in study.cells()} == {4}
    assert {experiment.network.kind for _, experiment in study.cells()} == {"UNet"}
    assert study.judge.limit is None


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ("base.recipe.steps", "--set takes key=value"),
        ("=3", "--set takes key=value"),
        ("name.first=3", "'name' is 'tiny', not a mapping"),
        ("name=[", "is not YAML"),
    ],
)
def test_a_change_that_cannot_be_made_is_a_clear_error(photographs: Path, change: str, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        apply_changes(described(photographs), [change])


def test_setting_a_value_leaves_the_original_alone() -> None:
    raw = {"a": {"b": 1}, "c": 2}
    assert with_value(raw, "a.b", 3) == {"a": {"b": 3}, "c": 2}
    assert with_value(raw, "d.e.f", 4) == {**raw, "d": {"e": {"f": 4}}}
    assert raw == {"a": {"b": 1}, "c": 2}


def test_a_variable_that_is_not_set_is_named(photographs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOWHERE", raising=False)
    study = study_of(photographs, axes={"backgrounds.source": ["${NOWHERE}/photographs"]}, curve="backgrounds.source",
                     reference="${NOWHERE}/photographs")  # fmt: skip
    with pytest.raises(ConfigError, match="NOWHERE"):
        plan(study)


def test_a_variable_stands_for_its_folder(
    photographs: Path, runs: Path, ran: StudyRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PHOTOGRAPHS", str(photographs))
    todo = plan(study_of(Path("${PHOTOGRAPHS}")), runs)
    assert [cell.id for cell in todo.cells] == [cell.id for cell in ran.cells]
    assert not todo.missing


@pytest.mark.parametrize(
    "path",
    [path for path in sorted((Path(__file__).parent.parent / "studies").glob("**/*.yaml")) if path.stem != "toy"],
    ids=lambda p: p.stem,
)
def test_every_study_of_the_repository_can_be_read(path: Path) -> None:
    if "/weights/" in path.read_text() and "UNSEEN_DATA" not in os.environ:
        pytest.skip("UNSEEN_DATA is not set: name the folder that holds the weights of priors")
    study = load_study(path)
    assert study.name == ("gpu-" if path.parent.stem == "gpu" else "") + path.stem
    assert len(study.cells()) > 1
    assert read_yaml(path)["question"] == study.question


# --- running one


def test_every_cell_has_rows_for_every_suite_image_and_step(ran: StudyRecord) -> None:
    assert [cell.axes for cell in ran.cells] == [
        {"backgrounds.count": count, "seed": seed} for count in (1, None) for seed in (0, 1)
    ]
    assert len({cell.id for cell in ran.cells}) == 4
    for cell in ran.cells:
        assert cell.rows is not None
        assert set(cell.rows.experiment) == {cell.id}
        assert set(cell.rows.step) == {5, 10}
        final = cell.rows[cell.rows.step == 10]
        assert set(zip(final.suite, final.metric, strict=True)) == {(suite, atom) for suite in SUITES for atom in ATOMS}
        assert set(cell.rows.image) == {"4.png"}
        assert set(cell.pictures) == set(SUITES)
        assert cell.log is not None
        assert cell.seconds is not None


def test_a_study_leaves_its_question_its_suites_and_its_baselines(ran: StudyRecord) -> None:
    assert (ran.name, ran.question, ran.command) == ("tiny", "Is it so?", "unseen study run tiny.yaml")
    assert {suite.name: suite.group for suite in ran.suites} == {"seen": "seen", "steep": "unseen", "clean": "clean"}
    assert next(suite for suite in ran.suites if suite.name == "steep").outside == ("direction",)
    assert set(ran.baselines.experiment) == set(BASELINES)
    assert set(ran.baselines.suite) == set(SUITES)
    assert {suite: set(kinds) for suite, kinds in ran.pictures.items()} == {
        suite: {"degraded", "clean", "mask"} for suite in SUITES
    }


def test_different_cells_train_different_networks(ran: StudyRecord) -> None:
    values = [cell.rows.value.to_numpy() for cell in ran.cells if cell.rows is not None]
    assert not any(np.array_equal(values[one], values[other]) for one in range(4) for other in range(one))


def test_a_finished_study_is_not_done_again(photographs: Path, runs: Path, ran: StudyRecord) -> None:
    before, news = times(runs), list[Event]()
    again = run_study(study_of(photographs), runs, workers=1, report=news.append)
    after = times(runs)
    rewritten = {path for path in after if after[path] != before.get(path)}
    assert rewritten <= {runs / "studies" / "tiny" / "study.json"}
    assert news == []
    assert same_rows(again, ran)


def test_a_study_with_another_cell_trains_that_cell_alone(photographs: Path, runs: Path, ran: StudyRecord) -> None:
    before, news = times(runs), list[Event]()
    wider = study_of(photographs, name="wider", axes={"backgrounds.count": [1, None, 2], "seed": [0]})
    record = run_study(wider, runs, workers=1, report=news.append)
    assert {event.cell for event in news if event.kind == "train"} == {"count 2, seed 0"}
    after = times(runs)
    assert all(after[path] == time for path, time in before.items())
    assert record.cells[0].id == ran.cells[0].id


def test_the_same_study_in_another_folder_gives_the_same_rows(
    photographs: Path, ran: StudyRecord, tmp_path: Path
) -> None:
    assert same_rows(run_study(study_of(photographs), tmp_path, workers=1), ran)


@pytest.mark.slow
def test_side_by_side_cells_give_the_same_rows(photographs: Path, ran: StudyRecord, tmp_path: Path) -> None:
    news = list[Event]()
    assert same_rows(run_study(study_of(photographs), tmp_path, workers=2, report=news.append), ran)
    assert sum(event.kind == "done" and event.cell != "baselines" for event in news) == 4


def test_an_interrupted_study_goes_on_where_it_stopped(photographs: Path, ran: StudyRecord, tmp_path: Path) -> None:
    seen = list[str]()

    def stop(event: Event) -> None:
        if event.cell != "baselines" and event.kind == "judge":
            if event.cell not in seen:
                seen.append(event.cell)
            if len(seen) == 3:  # Ctrl-C in the third cell, which is trained but not judged
                os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(Interrupted, match="Run the same command again to go on"):
        run_study(study_of(photographs), tmp_path, workers=1, report=stop)
    todo = plan(study_of(photographs), tmp_path)
    assert [todo.finished(cell) for cell in todo.cells] == [True, True, False, False]
    half = read_study(tmp_path, "tiny")
    assert [cell.rows is not None for cell in half.cells] == [True, True, False, False]
    before = times(tmp_path)
    assert same_rows(run_study(study_of(photographs), tmp_path, workers=1), ran)
    after = times(tmp_path)
    trained = [path for path in before if path.name in ("model.safetensors", "rows.parquet", "log.csv")]
    assert len(trained) == 3 + 2 + 3
    assert all(after[path] == before[path] for path in trained)


def failing(photographs: Path) -> Study:
    """Its second cell diverges."""
    base = {**described(photographs)["base"], "seed": 0}
    base["recipe"] = {**base["recipe"], "steps": 30}
    return study_of(
        photographs,
        base=base,
        axes={"recipe.learning_rate": [1e-3, 1e30, 1e-4]},
        curve="recipe.learning_rate",
        reference=1e-3,
    )


def test_a_cell_that_fails_does_not_hold_up_the_others(photographs: Path, tmp_path: Path) -> None:
    news = list[Event]()
    with pytest.raises(StudyError, match=r"1 of 3 cells failed; the others are finished.*1e\+30.*diverged"):
        run_study(failing(photographs), tmp_path, workers=1, report=news.append)
    assert [event.cell for event in news if event.kind == "failed"] == ["learning_rate 1e+30"]
    record = read_study(tmp_path, "tiny")
    assert [cell.rows is not None for cell in record.cells] == [True, False, True]


@pytest.mark.slow
def test_a_cell_that_fails_side_by_side_does_not_hold_up_the_others(photographs: Path, tmp_path: Path) -> None:
    with pytest.raises(StudyError, match=r"1 of 3 cells failed; the others are finished.*1e\+30.*diverged"):
        run_study(failing(photographs), tmp_path, workers=2)
    assert [cell.rows is not None for cell in read_study(tmp_path, "tiny").cells] == [True, False, True]


def test_a_cell_that_another_process_works_on_is_left_alone(photographs: Path, tmp_path: Path) -> None:
    study = study_of(photographs, axes={"seed": [0]})
    (cell,) = plan(study, tmp_path).cells
    (tmp_path / cell.id).mkdir()
    with (
        FileLock(tmp_path / cell.id / ".lock"),
        pytest.raises(StudyError, match="Another process is training in"),
    ):
        run_study(study, tmp_path, workers=1)


# --- reading one back


def test_a_study_reads_back_as_it_was_returned(runs: Path, ran: StudyRecord) -> None:
    again = read_study(runs, "tiny")
    assert same_rows(again, ran)
    assert (again.axes, again.suites, again.pictures) == (ran.axes, ran.suites, ran.pictures)


def test_a_study_does_not_judge_on_what_its_cells_train_on(photographs: Path, tmp_path: Path) -> None:
    for path in sorted(photographs.iterdir())[:2]:  # of those trained on, under another name, in another format
        (tmp_path / "copies").mkdir(exist_ok=True)
        Image.open(path).save(tmp_path / "copies" / f"other-{path.stem}.webp", quality=90)
    changes = described(photographs, axes={"seed": [0]})
    changes["judge"] |= {"images": {"source": str(tmp_path / "copies")}, "suites": ["steep"]}
    leaking, runs = Study.model_validate(changes), tmp_path / "runs"
    with pytest.raises(DataError, match=r"(?s)2 test images are among .*other-0.*--allow-leaks"):
        run_study(leaking, runs, workers=1)
    assert not list(runs.rglob("model.safetensors"))
    record = run_study(leaking, runs, workers=1, allow_leaks=True)
    renamed = leaking.model_copy(update={"name": "renamed"})  # finished, and not looked through under this name
    with pytest.raises(DataError, match="2 test images are among"):
        run_study(renamed, runs, workers=1)
    assert run_study(renamed, runs, workers=1, allow_leaks=True).notes == record.notes
    assert run_study(leaking, runs, workers=1).notes == record.notes
    assert "LEAKS WERE ALLOWED: 2 test images" in record.notes[0]
    assert run_study(leaking, runs, workers=1).notes == record.notes  # finished: noted for good


def test_a_study_that_was_not_run_is_a_clear_error(runs: Path, ran: StudyRecord, tmp_path: Path) -> None:
    with pytest.raises(StudyError, match=r"There is no study 'tyni' in .*There are: .*tiny"):
        read_study(runs, "tyni")
    with pytest.raises(StudyError, match="Run one first: unseen study run FILE"):
        read_study(tmp_path, "tiny")


def test_a_damaged_study_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "studies" / "tiny").mkdir(parents=True)
    (tmp_path / "studies" / "tiny" / "study.json").write_text("{")
    with pytest.raises(StudyError, match=r"cannot be read .*Run the study again"):
        read_study(tmp_path, "tiny")


def test_planning_trains_nothing(photographs: Path, tmp_path: Path) -> None:
    todo = plan(study_of(photographs), tmp_path)
    assert len(todo.missing) == len(todo.cells) == 4
    assert list(tmp_path.iterdir()) == []


def test_rows_survive_parquet(ran: StudyRecord) -> None:
    cell = ran.cells[0]
    assert cell.rows is not None
    assert isinstance(cell.rows, pandas.DataFrame)
    assert np.isfinite(cell.rows.value[cell.rows.metric == "mse"]).all()


def test_judging_on_training_images_is_refused(photographs: Path, tmp_path: Path) -> None:
    study = study_of(photographs, axes={"seed": [0]}, judge={"images": {"source": str(photographs)}})
    with pytest.raises(ConfigError, match="unseen means disjoint"):
        plan(study, tmp_path)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"axes": {"seed": [0, 0]}}, "repeats a value"),
        ({"axes": {"seed": [0]}, "curve": "backgrounds.cuont"}, "is not an axis"),
        ({"judge": {"suites": [{"name": "seen"}]}}, "is a suite already"),
        ({"judge": {"suites": [{"name": "../../x"}]}}, "pattern"),
    ],
)
def test_what_would_silently_mislead_is_refused(change: dict[str, Any], said: str) -> None:
    with pytest.raises((ConfigError, ValidationError), match=said):
        Study.model_validate({"name": "tiny", "question": "?", **change})


def test_pairs_that_were_trained_on_are_seen_and_mixed_where_some_cells_have_not(
    photographs: Path, tmp_path: Path
) -> None:
    for half in ("input", "target"):
        for number, photo in enumerate(sorted(photographs.iterdir())[:4]):
            path = tmp_path / "set" / half / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(photo.read_bytes())
    folder = str(tmp_path / "set")
    judge = {**described(photographs)["judge"], "suites": ["steep", {"name": "set", "pairs": {"folder": folder}}]}
    ours = {"pairs": {"folders": [{"folder": f"{tmp_path}/set/../set"}]}}  # the same, written otherwise

    def groups(**variants: Any) -> list[str]:
        axes = {"variant": list(variants), "seed": [0]}
        todo = plan(study_of(photographs, judge=judge, variants=variants, axes=axes, name="-".join(variants)), tmp_path)
        todo.folder.mkdir(parents=True, exist_ok=True)
        write_study(todo, None)
        return [suite["group"] for suite in json.loads((todo.folder / "study.json").read_text())["suites"]]

    assert groups(rain={}) == ["unseen", "unseen"]
    assert groups(ours=ours) == ["unseen", "seen"]
    assert groups(rain={}, ours=ours) == ["unseen", "mixed"]
