"""Training: whatever interrupts it, the weights are those of a run left alone, bit for bit."""

import csv
import json
import math
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from unseen import training
from unseen.backgrounds import Backgrounds, BackgroundsConfig
from unseen.checkpoints import load_checkpoint, save_network
from unseen.cli.app import app
from unseen.data import StoredPairs
from unseen.degradations import Rain
from unseen.errors import CheckpointError, ConfigError, TrainingError
from unseen.experiment import Experiment, Recipe, all_met, best_device, has_bf16, resolve
from unseen.images import write_image
from unseen.losses import L1
from unseen.networks import ResNetConfig, UNetConfig, build
from unseen.seeding import generator
from unseen.study.run import plan, run_study
from unseen.study.study import Study
from unseen.training import LOG_EVERY, Trained, learning_rate, train

STEPS = 60

needs_bf16 = pytest.mark.skipif(
    not has_bf16("cpu"), reason="this processor has no bf16 arithmetic: run on one that has"
)


def tiny(precision: str = "fp32", seed: int = 0, start_from: str | None = None, **recipe: Any) -> Experiment:
    """An experiment of a second."""
    return Experiment.model_validate(
        {
            "backgrounds": {"source": "leaves", "count": 3, "complexity": 0.3},
            "degradation": Rain.preset("medium", scale=0.25),
            "network": {"kind": "ResNet", "width": 4, "blocks": 1},
            "recipe": {
                "steps": STEPS, "batch": 2, "patch": 16, "learning_rate": 2e-3, "device": "cpu",
                "precision": precision, "threads": 1, **recipe,
            },
            "seed": seed,
            "start_from": start_from,
        }
    )  # fmt: skip


@pytest.fixture(scope="module")
def backgrounds() -> Backgrounds:
    return Backgrounds(tiny().backgrounds)


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory, backgrounds: Backgrounds) -> dict[str, Trained]:
    """One run left alone for each precision, with everything that has a state: average, warm-up, snapshots."""
    runs = tmp_path_factory.mktemp("alone")
    return {
        precision: train(full(precision), runs, backgrounds=backgrounds)
        for precision in (["fp32", "mixed"] if has_bf16("cpu") else ["fp32"])
    }


def full(precision: str) -> Experiment:
    return tiny(precision, ema=0.9, warmup=5, weight_decay=0.01, clip=1.0, snapshots=(20, 40))


def losses(trained: Trained | Path) -> list[tuple[str, str]]:
    """Steps and losses, as written in the log."""
    folder = trained.folder if isinstance(trained, Trained) else trained
    with (folder / "log.csv").open(newline="") as file:
        return [(row["step"], row["loss"]) for row in csv.DictReader(file)]


def weights(trained: Trained | Path) -> dict[str, torch.Tensor]:
    return load_checkpoint(trained.checkpoint if isinstance(trained, Trained) else trained).network.state_dict()


def same_bits(one: Trained, other: Trained) -> bool:
    mine, theirs = weights(one), weights(other)
    return all(torch.equal(mine[name], theirs[name]) for name in mine) and losses(one) == losses(other)


def run_script(script: str, *arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", script, *arguments], capture_output=True, text=True, timeout=300, check=False, **options
    )


# --- the schedule


def test_the_learning_rate_warms_up_and_then_falls_along_a_half_cosine() -> None:
    recipe = Recipe(steps=110, warmup=10, learning_rate=1.0)
    rates = [learning_rate(recipe, step) for step in range(111)]
    assert rates[:10] == pytest.approx([(step + 1) / 10 for step in range(10)])
    assert rates[10] == 1
    assert rates[60] == pytest.approx(0.5)
    assert rates[35] == pytest.approx(0.5 * (1 + math.sqrt(0.5)))
    assert rates[110] == pytest.approx(0)
    assert all(before > after for before, after in pairwise(rates[10:]))


def test_without_warm_up_the_rate_begins_at_its_peak_and_ends_at_the_final_rate() -> None:
    recipe = Recipe(steps=100, learning_rate=2e-3, final_rate=0.1)
    assert learning_rate(recipe, 0) == 2e-3
    assert learning_rate(recipe, 100) == pytest.approx(2e-4)
    constant = Recipe(steps=100, learning_rate=2e-3, final_rate=1)
    assert {learning_rate(constant, step) for step in range(100)} == {2e-3}


# --- a run left alone


def test_training_lowers_the_loss(tmp_path: Path, backgrounds: Backgrounds) -> None:
    trained = train(tiny(steps=150, learning_rate=5e-3), tmp_path, backgrounds=backgrounds, tensorboard=False)
    logged = [float(loss) for _, loss in losses(trained)]
    assert logged[-1] < 0.8 * logged[0]


def test_a_run_leaves_its_experiment_its_log_and_its_weights(alone: dict[str, Trained]) -> None:
    folder = alone["fp32"].folder
    assert folder.name == alone["fp32"].experiment.id
    left = {path.name for path in folder.iterdir() if path.name != ".lock"}
    assert left == {
        "experiment.json",
        "environment.json",
        "fingerprints.safetensors",
        "log.csv",
        "model.safetensors",
        "snapshots",
        "tensorboard",
    }
    assert Experiment.model_validate_json((folder / "experiment.json").read_text()) == alone["fp32"].experiment
    assert [step for step, _ in losses(alone["fp32"])] == ["25", "50", "60"]
    assert load_checkpoint(folder).experiment == alone["fp32"].experiment
    assert load_checkpoint(folder).step == STEPS


def test_the_logged_loss_is_the_mean_since_the_last_row(tmp_path: Path, backgrounds: Backgrounds) -> None:
    """With a learning rate of nothing every step's loss can be computed apart."""
    experiment = tiny(learning_rate=1e-30, steps=LOG_EVERY + 5)
    told: list[tuple[int, float]] = []
    train(experiment, tmp_path, backgrounds=backgrounds, tensorboard=False, progress=lambda *news: told.append(news))
    pairs = training.Pairs(backgrounds, experiment.degradation, patch=16, batch=2, seed=0)
    network = build(experiment.network, 0)
    with torch.inference_mode():
        apart = [L1()(network(pairs[step].degraded), pairs[step]).item() for step in range(LOG_EVERY + 5)]
    assert [step for step, _ in told] == [LOG_EVERY, LOG_EVERY + 5]
    assert told[0][1] == pytest.approx(sum(apart[:LOG_EVERY]) / LOG_EVERY, rel=1e-5)
    assert told[1][1] == pytest.approx(sum(apart[LOG_EVERY:]) / 5, rel=1e-5)


def test_snapshots_are_kept_and_the_last_one_is_the_result(tmp_path: Path, backgrounds: Backgrounds) -> None:
    trained = train(tiny(steps=30, snapshots=(10, 30)), tmp_path, backgrounds=backgrounds, tensorboard=False)
    snapshots = {path.name: load_checkpoint(path) for path in (trained.folder / "snapshots").iterdir()}
    assert {name: snapshot.step for name, snapshot in snapshots.items()} == {"10.safetensors": 10, "30.safetensors": 30}
    last, early = snapshots["30.safetensors"].network.state_dict(), snapshots["10.safetensors"].network.state_dict()
    assert all(torch.equal(last[name], value) for name, value in weights(trained).items())
    assert not all(torch.equal(early[name], value) for name, value in weights(trained).items())


def test_the_average_of_the_weights_is_what_is_saved(tmp_path: Path, backgrounds: Backgrounds) -> None:
    """Over three steps it can be made by hand from the snapshots of the same run without an average."""
    plain = train(tiny(steps=3, snapshots=(1, 2, 3)), tmp_path, backgrounds=backgrounds, tensorboard=False)
    averaged = train(tiny(steps=3, ema=0.6), tmp_path, backgrounds=backgrounds, tensorboard=False)
    expected = build(plain.experiment.network, 0).state_dict()
    for step in (1, 2, 3):
        now = weights(plain.folder / "snapshots" / f"{step}.safetensors")
        expected = {name: 0.6 * value + 0.4 * now[name] for name, value in expected.items()}
    assert all(torch.allclose(value, expected[name], atol=1e-6) for name, value in weights(averaged).items())


def test_a_finished_run_is_not_done_again(alone: dict[str, Trained], backgrounds: Backgrounds) -> None:
    before = {path: path.stat().st_mtime_ns for path in sorted(alone["fp32"].folder.rglob("*"))}
    again = train(full("fp32"), alone["fp32"].folder.parent, backgrounds=backgrounds, progress=lambda *news: 1 / 0)
    assert again == alone["fp32"]
    assert {path: path.stat().st_mtime_ns for path in sorted(alone["fp32"].folder.rglob("*"))} == before


def test_another_seed_trains_another_network(tmp_path: Path, backgrounds: Backgrounds) -> None:
    one, other = (
        train(tiny(steps=2, seed=seed), tmp_path, backgrounds=backgrounds, tensorboard=False) for seed in (0, 1)
    )
    assert one.folder != other.folder
    assert not torch.equal(weights(one)["tail.bias"], weights(other)["tail.bias"])


def test_the_moving_average_does_not_remember_the_steps(
    tmp_path: Path, backgrounds: Backgrounds, monkeypatch: pytest.MonkeyPatch
) -> None:
    lerp, averages = torch._foreach_lerp_, list[torch.Tensor]()
    monkeypatch.setattr(torch, "_foreach_lerp_", lambda mean, *more: (lerp(mean, *more), averages.extend(mean)))
    train(tiny(steps=2, ema=0.6), tmp_path, backgrounds=backgrounds, tensorboard=False)
    assert averages and all(mean.grad_fn is None for mean in averages)


def test_fine_tuning_goes_on_from_a_checkpoint(tmp_path: Path, backgrounds: Backgrounds) -> None:
    first = train(tiny(steps=10), tmp_path, backgrounds=backgrounds, tensorboard=False)
    still = tiny(steps=1, learning_rate=1e-30, start_from=str(first.folder))
    second = train(still, tmp_path, backgrounds=backgrounds, tensorboard=False)
    assert second.folder != first.folder
    assert all(torch.equal(value, weights(first)[name]) for name, value in weights(second).items())


def test_what_was_met_before_fine_tuning_is_seen_ever_after(tmp_path: Path, backgrounds: Backgrounds) -> None:
    steep = tiny(steps=1).model_copy(update={"degradation": Rain.preset("steep", scale=0.5)})
    first = train(steep, tmp_path, backgrounds=backgrounds, tensorboard=False)
    second = train(tiny(steps=1, start_from=str(first.folder)), tmp_path, backgrounds=backgrounds, tensorboard=False)
    third = tiny(steps=2, snapshots=(1,), start_from=str(second.folder))
    tuned = train(third, tmp_path, backgrounds=backgrounds, tensorboard=False)
    for file in (tuned.checkpoint, tuned.folder / "snapshots" / "1.safetensors"):
        read = load_checkpoint(file)
        assert read.lineage == (first.experiment, second.experiment, tuned.experiment)
    met = all_met(read.lineage)
    assert met is not None and len(met.alternatives()) == 2
    assert steep.degradation.outside(read.experiment.met) and not steep.degradation.outside(met)
    assert Rain.preset("long", scale=0.5).outside(met)
    assert all_met(load_checkpoint(first.folder).lineage) == steep.degradation and all_met(()) is None


def test_fine_tuning_another_network_is_refused(tmp_path: Path, backgrounds: Backgrounds) -> None:
    network = ResNetConfig(width=8, blocks=1)
    save_network(tmp_path / "wide.safetensors", build(network, 0).state_dict(), Experiment(network=network), 1)
    with pytest.raises(CheckpointError, match="do not fit the network"):
        train(tiny(start_from=str(tmp_path / "wide.safetensors")), tmp_path, backgrounds=backgrounds, tensorboard=False)


def test_a_larger_unet_goes_on_from_a_smaller_one(tmp_path: Path, backgrounds: Backgrounds) -> None:
    small, large = (tiny(steps=1, learning_rate=1e-30).model_copy(update={"network": UNetConfig(width=4, levels=n)})
                    for n in (1, 2))  # fmt: skip
    first = train(small, tmp_path, backgrounds=backgrounds, tensorboard=False)
    large = large.model_copy(update={"start_from": str(first.folder)})
    grown = load_checkpoint(train(large, tmp_path, backgrounds=backgrounds, tensorboard=False).folder)
    assert grown.network.config.levels == 2 and grown.before == (first.experiment,)
    degraded = torch.rand(1, 3, 16, 24, generator=generator(0, "test"))
    assert torch.allclose(grown.network(degraded), load_checkpoint(first.folder).network(degraded), atol=1e-6)


def test_threads_are_as_before_after_training(alone: dict[str, Trained]) -> None:
    assert torch.get_num_threads() == 1
    with training.using_threads(2):
        assert torch.get_num_threads() == 2
    assert torch.get_num_threads() == 1


# --- a run killed and resumed

DYING = """
import os, signal, sys
from unseen import checkpoints, training
from unseen.experiment import Experiment

experiment, runs, moment = Experiment.model_validate_json(sys.argv[1]), sys.argv[2], sys.argv[3]
count = int(sys.argv[4])

def die():
    os.kill(os.getpid(), signal.SIGKILL)

if moment == "step":  # in the middle of a step
    pairs = training.Pairs.__getitem__
    training.Pairs.__getitem__ = lambda self, step: die() if step == count else pairs(self, step)
else:  # in the middle of saving: the file is written, but not in its place
    replace, saved = os.replace, []

    def dying(source, target):
        saved.append(target)
        return die() if len(saved) == count else replace(source, target)

    checkpoints.os.replace = dying
training.train(experiment, runs, save_every=10, progress=lambda step, loss: print(step, loss, flush=True))
"""


@pytest.mark.parametrize(("precision", "moment"), [("fp32", "step"), pytest.param("mixed", "save", marks=needs_bf16)])
def test_a_run_that_was_killed_and_resumed_has_the_same_bits(
    precision: str, moment: str, alone: dict[str, Trained], tmp_path: Path, backgrounds: Backgrounds
) -> None:
    count = random.SystemRandom().randrange(31, 59) if moment == "step" else 8  # the fourth state
    died = run_script(DYING, full(precision).model_dump_json(), str(tmp_path), moment, str(count))
    assert died.returncode == -signal.SIGKILL, died.stderr
    assert died.stdout.startswith("25 ")
    (folder,) = tmp_path.iterdir()
    assert (folder / "state" / "state.pt").is_file()
    assert not (folder / "model.safetensors").exists()
    told: list[int] = []
    resumed = train(full(precision), tmp_path, backgrounds=backgrounds, progress=lambda step, loss: told.append(step))
    assert told[0] > 25, f"killed at {moment} {count}, and the saved state was not used"
    assert same_bits(resumed, alone[precision]), f"killed at {moment} {count}"
    assert not (folder / "state").exists()


def test_a_run_resumed_after_every_saved_state_has_the_same_bits(
    alone: dict[str, Trained], tmp_path: Path, backgrounds: Backgrounds, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same in one process, many times over: stopped at random steps until it is finished."""
    pairs = training.Pairs.__getitem__
    for stop in (3, 17, 18, 41, 59, None):

        def failing(self: training.Pairs, step: int, stop: int | None = stop) -> Any:
            if step == stop:
                raise MemoryError
            return pairs(self, step)

        monkeypatch.setattr(training.Pairs, "__getitem__", failing)
        try:
            resumed = train(full("fp32"), tmp_path, backgrounds=backgrounds, save_every=4, tensorboard=False)
        except MemoryError:
            continue
    assert same_bits(resumed, alone["fp32"])


def wait_for(path: Path, process: "subprocess.Popen[str]") -> None:
    for _ in range(3000):
        if path.exists():
            return
        assert process.poll() is None, process.stderr.read() if process.stderr else ""
        time.sleep(0.05)
    raise AssertionError(f"{path} did not appear")


STOPPABLE = """
import os, sys, time
from pathlib import Path
from unseen import cli, training

pairs, ready = training.Pairs.__getitem__, Path(sys.argv.pop(1))

def waiting(self, step):
    if step == 33:
        ready.touch()
        while ready.exists():
            time.sleep(0.02)
    return pairs(self, step)

training.Pairs.__getitem__ = waiting
cli.main()
"""


def test_ctrl_c_saves_says_how_to_go_on_and_resuming_gives_the_same_bits(
    alone: dict[str, Trained], tmp_path: Path, backgrounds: Backgrounds
) -> None:
    config, ready = tmp_path / "experiment.yaml", tmp_path / "ready"
    config.write_text(full("fp32").model_dump_json(exclude_none=True))  # JSON is YAML
    process = subprocess.Popen(
        [sys.executable, "-c", STOPPABLE, ready, "train", config, "--runs", tmp_path / "runs"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    wait_for(ready, process)
    process.send_signal(signal.SIGINT)
    ready.unlink()
    out, err = process.communicate(timeout=120)
    assert process.returncode == 130, err
    assert out == ""
    assert "Traceback" not in err
    assert "Stopped after step 34 of 60; everything is saved in" in err
    assert "Run the same command again to go on." in err
    resumed = train(full("fp32"), tmp_path / "runs", backgrounds=backgrounds)
    assert same_bits(resumed, alone["fp32"])


def test_a_request_to_terminate_saves_after_the_step(
    alone: dict[str, Trained], tmp_path: Path, backgrounds: Backgrounds, monkeypatch: pytest.MonkeyPatch
) -> None:
    pairs = training.Pairs.__getitem__

    def asking(self: training.Pairs, step: int) -> Any:
        if step == 12:
            os.kill(os.getpid(), signal.SIGTERM)
        return pairs(self, step)

    with monkeypatch.context() as patch, pytest.raises(training.Interrupted, match="Stopped after step 13 of 60"):
        patch.setattr(training.Pairs, "__getitem__", asking)
        train(full("fp32"), tmp_path, backgrounds=backgrounds)
    assert same_bits(train(full("fp32"), tmp_path, backgrounds=backgrounds), alone["fp32"])


def test_what_is_interrupted_while_it_is_watched_is_saved(
    alone: dict[str, Trained], tmp_path: Path, backgrounds: Backgrounds
) -> None:
    def judge(step: int, path: Path) -> bool:
        raise training.Interrupted("Stopped while judging.")

    told = list[int]()
    with pytest.raises(training.Interrupted, match="while judging"):
        train(full("fp32"), tmp_path, backgrounds=backgrounds, watch=judge)
    (path,) = tmp_path.glob("*/state/state.pt")
    assert torch.load(path, weights_only=True)["step"] == 20
    resumed = train(full("fp32"), tmp_path, backgrounds=backgrounds, progress=lambda step, loss: told.append(step))
    assert told == [25, 50, 60]
    assert same_bits(resumed, alone["fp32"])


def test_signals_mean_what_they_did_before_once_training_is_over() -> None:
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with training.stopping() as stop:
        os.kill(os.getpid(), signal.SIGINT)
        assert stop.wait(5)
        with pytest.raises(KeyboardInterrupt):  # the second one does not wait
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(5)
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


# --- what can go wrong


def interrupted(experiment: Experiment, runs: Path, backgrounds: Backgrounds) -> Path:
    """A run stopped after some steps; the file of its state."""

    def stop(step: int, loss: float) -> None:
        raise MemoryError

    with pytest.raises(MemoryError):
        train(experiment, runs, backgrounds=backgrounds, save_every=10, tensorboard=False, progress=stop)
    return next(runs.glob("*/state/state.pt"))


def test_a_loss_that_is_not_finite_ends_training_with_the_step_and_a_way_out(
    tmp_path: Path, backgrounds: Backgrounds
) -> None:
    with pytest.raises(TrainingError, match=r"by step 25: training has diverged\. Lower the learning rate") as caught:
        train(tiny(learning_rate=1e30), tmp_path, backgrounds=backgrounds, tensorboard=False)
    assert "clip the gradient" in str(caught.value)
    assert not list(tmp_path.glob("*/model.safetensors"))


def test_a_diverged_state_is_not_saved(tmp_path: Path, backgrounds: Backgrounds) -> None:
    with pytest.raises(TrainingError, match="diverged"):
        train(tiny(learning_rate=1e30), tmp_path, backgrounds=backgrounds, save_every=3, tensorboard=False)
    state = next(tmp_path.glob("*/state/state.pt"), None)
    if state is not None:
        assert math.isfinite(torch.load(state, weights_only=True)["total"].item())


@pytest.mark.parametrize("damage", [lambda data: data[:200], lambda data: b"", lambda data: b"not a state"])
def test_a_damaged_state_is_a_clear_error(tmp_path: Path, backgrounds: Backgrounds, damage: Any) -> None:
    state = interrupted(tiny(), tmp_path, backgrounds)
    state.write_bytes(damage(state.read_bytes()))
    with pytest.raises(CheckpointError, match=r"The state in .*state\.pt cannot be read .*Remove it") as caught:
        train(tiny(), tmp_path, backgrounds=backgrounds, tensorboard=False)
    assert "weights_only" not in str(caught.value)  # torch advises to execute what is in the file


def test_the_state_of_another_experiment_is_refused(tmp_path: Path, backgrounds: Backgrounds) -> None:
    state = interrupted(tiny(seed=1), tmp_path, backgrounds)
    mine = training.named(tiny(), backgrounds.content_hash)
    state.parent.parent.rename(tmp_path / mine.id)
    with pytest.raises(TrainingError, match=f"belongs to experiment {state.parent.parent.name}, not {mine.id}"):
        train(tiny(), tmp_path, backgrounds=backgrounds, tensorboard=False)


def test_a_batch_that_processes_cannot_share_is_refused(tmp_path: Path, backgrounds: Backgrounds) -> None:
    with pytest.raises(ConfigError, match="batch of 2 cannot be shared by 3 processes"):
        train(tiny(), tmp_path, backgrounds=backgrounds, processes=3, tensorboard=False)


def test_a_device_that_is_not_there_is_refused() -> None:
    device = "mps" if best_device() != "mps" else "cuda"
    with pytest.raises(ConfigError, match=f"asks for device {device}, and torch sees no such device here"):
        resolve(Experiment(recipe=Recipe(device=device)), "content")


@pytest.mark.parametrize(
    ("recipe", "reason"),
    [
        ({"steps": 10, "warmup": 10}, "warmup is 10 steps, of 10 in all"),
        ({"steps": 10, "snapshots": [5, 11]}, r"snapshots at \[11\] lie outside the steps 1 to 10"),
        ({"steps": 0}, "steps"),
        ({"learning_rate": float("nan")}, "learning_rate"),
        ({"ema": 1}, "ema"),
    ],
)
def test_recipes_that_make_no_sense_are_refused(recipe: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        Recipe.model_validate(recipe)


# --- the name of an experiment


def folder_of_photos(folder: Path, photos: torch.Tensor) -> Path:
    for number, photo in enumerate(photos):
        write_image(folder / f"{number}.png", photo.permute(1, 2, 0).numpy())
    return folder


def name_of(experiment: Experiment) -> str:
    return training.named(experiment, Backgrounds(experiment.backgrounds).content_hash).id


def test_the_name_depends_on_what_the_images_are_and_not_on_where(tmp_path: Path, photos: torch.Tensor) -> None:
    def on(folder: Path) -> str:
        return name_of(tiny().model_copy(update={"backgrounds": BackgroundsConfig(source=str(folder))}))

    here, there = (on(folder_of_photos(tmp_path / name, photos)) for name in ("here", "there"))
    assert here == there
    assert on(folder_of_photos(tmp_path / "other", 1 - photos)) != here


def test_the_name_changes_with_everything_that_decides_the_weights() -> None:
    changed = [
        tiny(), tiny("bf16"), tiny("mixed"), tiny(seed=1), tiny(steps=61), tiny(learning_rate=1e-3), tiny(threads=2),
        tiny(ema=0.9),
        tiny().model_copy(update={"degradation": Rain.preset("large")}),
        tiny().model_copy(update={"network": ResNetConfig(width=5, blocks=1)}),
    ]  # fmt: skip
    assert len({name_of(experiment) for experiment in changed}) == len(changed)


def test_what_a_rain_is_called_does_not_change_the_name() -> None:
    rain = tiny().degradation
    called = tiny().model_copy(update={"degradation": rain.model_copy(update={"name": "drizzle"})})
    assert name_of(called) == name_of(tiny())


def test_the_name_depends_on_the_checkpoint_it_starts_from_and_not_on_where_that_lies(tmp_path: Path) -> None:
    network = tiny().network
    for name, seed in (("one", 0), ("copy", 0), ("other", 1)):
        save_network(tmp_path / f"{name}.safetensors", build(network, seed).state_dict(), tiny(), 1)
    one, copy, other = (
        name_of(tiny(start_from=str(tmp_path / f"{name}.safetensors"))) for name in ("one", "copy", "other")
    )
    assert one == copy
    assert len({one, other, name_of(tiny())}) == 3


def test_an_experiment_without_its_machine_has_no_name() -> None:
    with pytest.raises(ConfigError, match="resolve it first"):
        _ = Experiment().id


def test_another_seed_chooses_other_backgrounds_unless_they_have_their_own() -> None:
    assert Experiment(seed=3).backgrounds.seed == 3
    assert Experiment.model_validate({"seed": 3, "backgrounds": {"seed": 0}}).backgrounds.seed == 0
    assert Experiment(seed=3, backgrounds=BackgroundsConfig(count=2)).backgrounds == BackgroundsConfig(count=2, seed=3)
    assert Experiment(seed=3, backgrounds=BackgroundsConfig(seed=1)).backgrounds.seed == 1


# --- several processes


@pytest.mark.parametrize("launcher", ["fabric", pytest.param("torchrun", marks=pytest.mark.slow)])
def test_two_processes_train_what_one_does(launcher: str, tmp_path: Path, backgrounds: Backgrounds) -> None:
    """The same batch, shared: the same weights but for rounding."""
    experiment = tiny(batch=4, steps=30, learning_rate=1e-3)
    one = train(experiment, tmp_path / "one", backgrounds=backgrounds, tensorboard=False)
    config = tmp_path / "experiment.yaml"
    config.write_text(experiment.model_dump_json(exclude_none=True))
    command = ["-m", "unseen.cli", "train", str(config), "--runs", str(tmp_path / "two")]
    started = {
        "fabric": [*command, "--processes", "2"],
        "torchrun": ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", *command],
    }
    done = subprocess.run(
        [sys.executable, *started[launcher]], capture_output=True, text=True, timeout=300, check=False,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    two = tmp_path / "two" / one.folder.name
    assert done.stdout == f"{two / 'model.safetensors'}\n"
    assert "Traceback" not in done.stderr
    found = weights(two)
    assert all(torch.allclose(value, found[name], atol=1e-5) for name, value in weights(one).items())
    for mine, theirs in zip(losses(one), losses(two), strict=True):
        assert mine[0] == theirs[0]
        assert float(mine[1]) == pytest.approx(float(theirs[1]), rel=1e-4)


# --- pairs from folders


@pytest.fixture(scope="module")
def rainy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five pairs: blocks of colour, and the same with a bright line across."""
    root, rng = tmp_path_factory.mktemp("rainy"), np.random.default_rng(0)
    for number in range(5):
        clean = np.kron(rng.uniform(0.1, 0.5, (4, 4, 3)), np.ones((8, 8, 1)))
        degraded = clean.copy()
        degraded[4 + 4 * number] += 0.4
        write_image(root / "target" / f"{number}.png", clean)
        write_image(root / "input" / f"{number}.png", degraded)
    return root


def on_pairs(folder: Path, share: float = 1.0, **options: Any) -> Experiment:
    pairs = {"folders": [{"folder": str(folder), "holdout": 1}], "share": share}
    return Experiment.model_validate({**tiny(**options).model_dump(), "pairs": pairs})


def name_with(experiment: Experiment) -> str:
    assert experiment.pairs is not None
    content = Backgrounds(experiment.backgrounds).content_hash if experiment.synthetic else None
    return training.named(experiment, content, pairs_content=StoredPairs(experiment.pairs).content_hash).id


def test_experiments_without_pairs_are_called_what_they_always_were() -> None:
    recipe = Recipe(device="cpu", precision="fp32", threads=1)
    assert resolve(Experiment(recipe=recipe), "a" * 64).id == "8ff10d884a81"
    backgrounds = BackgroundsConfig(source="/data", count=8, holdout=3)
    tuned = Experiment(recipe=recipe, start_from="x", seed=3, backgrounds=backgrounds)
    assert resolve(tuned, "b" * 64, "c" * 64).id == "611cd659185f"


def test_training_on_pairs_lowers_the_loss(tmp_path: Path, rainy: Path) -> None:
    trained = train(on_pairs(rainy, steps=100, learning_rate=5e-3), tmp_path, tensorboard=False)
    logged = [float(loss) for _, loss in losses(trained)]
    assert logged[-1] < 0.8 * logged[0]
    assert load_checkpoint(trained.folder).experiment == trained.experiment


def test_a_mixed_run_that_was_stopped_and_resumed_has_the_same_bits(
    tmp_path: Path, rainy: Path, backgrounds: Backgrounds, monkeypatch: pytest.MonkeyPatch
) -> None:
    experiment = on_pairs(rainy, 0.5, steps=30, ema=0.9)
    left_alone = train(experiment, tmp_path / "alone", backgrounds=backgrounds, tensorboard=False)
    pairs = training.Pairs.__getitem__
    for stop in (7, 22, None):

        def failing(self: training.Pairs, step: int, stop: int | None = stop) -> Any:
            if step == stop:
                raise MemoryError
            return pairs(self, step)

        monkeypatch.setattr(training.Pairs, "__getitem__", failing)
        try:
            resumed = train(experiment, tmp_path, backgrounds=backgrounds, save_every=4, tensorboard=False)
        except MemoryError:
            continue
    assert same_bits(resumed, left_alone)


def test_fine_tuning_on_pairs_goes_on_from_a_checkpoint(tmp_path: Path, rainy: Path, backgrounds: Backgrounds) -> None:
    first = train(tiny(steps=10), tmp_path, backgrounds=backgrounds, tensorboard=False)
    still = on_pairs(rainy, steps=1, learning_rate=1e-30, start_from=str(first.folder))
    second = train(still, tmp_path, tensorboard=False)
    assert all(torch.equal(value, weights(first)[name]) for name, value in weights(second).items())
    tuned = train(on_pairs(rainy, steps=20, start_from=str(first.folder)), tmp_path, tensorboard=False)
    assert not torch.equal(weights(tuned)["tail.bias"], weights(first)["tail.bias"])


def test_pairs_alone_need_no_backgrounds_and_have_a_name_without_them(
    tmp_path: Path, rainy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(training, "Backgrounds", lambda *_: pytest.fail("backgrounds were read"))
        trained = train(on_pairs(rainy, steps=2), tmp_path, tensorboard=False)
        assert train(on_pairs(rainy, steps=2), tmp_path, tensorboard=False) == trained
    alone = on_pairs(rainy, steps=2)
    changes = {"backgrounds": BackgroundsConfig(count=2), "degradation": Rain.preset("large")}
    assert name_with(alone) == name_with(alone.model_copy(update=changes)) == trained.folder.name
    both = on_pairs(rainy, 0.5, steps=2)
    assert len({name_with(both), *(name_with(both.model_copy(update={k: v})) for k, v in changes.items())}) == 3


def test_the_name_depends_on_the_pairs_and_not_on_where_they_are(tmp_path: Path, rainy: Path) -> None:
    copy = shutil.copytree(rainy, tmp_path / "copy")
    assert name_with(on_pairs(copy)) == name_with(on_pairs(rainy))
    names = {name_with(on_pairs(rainy)), name_with(on_pairs(rainy, 0.5)), name_with(on_pairs(rainy, 0.6))}
    write_image(copy / "input" / "0.png", np.zeros((32, 32, 3)))
    names.add(name_with(on_pairs(copy)))
    assert len(names) == 4


def test_an_experiment_without_the_content_of_its_pairs_has_no_name(rainy: Path) -> None:
    with pytest.raises(ConfigError, match="resolve it first"):
        _ = resolve(on_pairs(rainy), None).id


def test_the_command_line_trains_on_pairs_and_says_what_they_are(tmp_path: Path, rainy: Path) -> None:
    folder = shutil.copytree(rainy, tmp_path / "pairs")
    write_image(folder / "input" / "alone.png", np.zeros((32, 32, 3)))
    write_image(folder / "target" / "0.png", np.zeros((31, 32, 3)))
    config = tmp_path / "experiment.yaml"
    config.write_text(tiny(steps=3).model_dump_json(exclude_none=True))
    command = ["train", str(config), "--runs", str(tmp_path / "runs"), "--pairs", str(folder), "--pairs", str(rainy)]
    done = CliRunner().invoke(app, [*command, "--share", "0.5"], catch_exceptions=False)
    assert done.exit_code == 0
    assert f"{folder}: 4 pairs: " in done.stderr
    assert f"{rainy}: 5 pairs: " in done.stderr
    assert "22% of the samples." in done.stderr  # 4 of 9, times 0.5
    assert "left out, in no pair: 1 (input/alone.png" in done.stderr
    assert "left out, of different sizes: 1 (" in done.stderr
    trained = Path(done.stdout.strip())
    pairs = load_checkpoint(trained).experiment.pairs
    assert pairs is not None
    assert ([each.folder for each in pairs.folders], pairs.share) == ([str(folder), str(rainy)], 0.5)


def test_a_study_varies_the_share_of_pairs(tmp_path: Path, rainy: Path) -> None:
    base = tiny(steps=2).model_dump(mode="json", exclude={"seed"}, exclude_none=True)
    study = Study.model_validate(
        {
            "name": "shares", "question": "Do pairs help?",
            "base": {**base, "pairs": {"folders": [{"folder": str(rainy), "holdout": 1}]}},
            "axes": {"pairs.share": [0.5, 1.0]}, "curve": "pairs.share", "reference": 1.0,
            "judge": {
                "images": {"source": "leaves", "count": 1, "part": "test"}, "crop": 32, "scale": 0.25,
                "suites": ["seen", "clean"],
            },
        }
    )  # fmt: skip
    half, whole = plan(study, tmp_path).cells
    assert (half.backgrounds, whole.backgrounds) == (3, 0)
    assert half.experiment.pairs_content == whole.experiment.pairs_content
    assert whole.experiment.content is None
    record = run_study(study, tmp_path, workers=1)
    assert all(cell.rows is not None for cell in record.cells)
    assert plan(study, tmp_path).missing == ()
    groups = {
        suite["name"]: suite["group"]
        for suite in json.loads((tmp_path / "studies/shares/study.json").read_text())["suites"]
    }
    assert groups == {"seen": "mixed", "clean": "clean"}  # the network of pairs alone has seen no synthetic rain


@pytest.mark.slow
@pytest.mark.parametrize("share", [0.5, 1.0])
def test_two_processes_train_on_pairs_what_one_does(share: float, tmp_path: Path, rainy: Path) -> None:
    experiment = on_pairs(rainy, share, batch=4, steps=30, learning_rate=1e-3)
    one = train(experiment, tmp_path / "one", tensorboard=False)
    config = tmp_path / "experiment.yaml"
    config.write_text(experiment.model_dump_json(exclude_none=True))
    done = subprocess.run(
        [sys.executable, "-m", "unseen.cli", "train", config, "--runs", tmp_path / "two", "--processes", "2"],
        capture_output=True, text=True, timeout=300, check=False, env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("5 pairs") + done.stderr.count("4 pairs") == 1  # one process speaks
    found = weights(tmp_path / "two" / one.folder.name)
    assert all(torch.allclose(value, found[name], atol=1e-5) for name, value in weights(one).items())
