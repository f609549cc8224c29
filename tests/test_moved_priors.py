"""A network whose prior has moved, whose dials are turned, and whose ceiling every report repeats."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import unseen
from small_priors import small_tae
from unseen.app.offers import offer_models
from unseen.backgrounds import BackgroundsConfig
from unseen.checkpoints import load_checkpoint, save_network, start
from unseen.cli import app
from unseen.cli.opening import models_named
from unseen.errors import CheckpointError, ConfigError
from unseen.evaluation.ceiling import priors_in
from unseen.evaluation.probe import layers
from unseen.experiment import Experiment
from unseen.images import read_image, write_image
from unseen.leaks import find_leaks, fingerprints, save_fingerprints
from unseen.models import open_model, turned
from unseen.networks import GuidedConfig, ResNetConfig, build
from unseen.priors import PriorConfig, source
from unseen.study.run import run_study
from unseen.study.study import Study
from unseen.training_images import met_by, of_prior


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, rng = tmp_path_factory.mktemp("photographs"), np.random.default_rng(0)
    for number in range(4):
        write_image(folder / f"{number}.png", np.kron(rng.uniform(0.1, 0.6, (6, 6, 3)), np.ones((8, 8, 1))))
    return folder


@pytest.fixture
def trained(tmp_path: Path, photographs: Path) -> Path:
    """A checkpoint of a Guided with ways for features that do something, beside its prior."""
    prior = PriorConfig(source=str(small_tae(tmp_path / "prior", seed=7)))
    config = GuidedConfig(prior=prior, width=4, features=1.0)
    network = build(config, 0)
    for way in network.ways:
        torch.nn.init.normal_(way[-1].weight, std=0.5)
    backgrounds = BackgroundsConfig(source=str(photographs), holdout=2)
    experiment = Experiment(network=config, backgrounds=backgrounds, content="0123")
    save_network(tmp_path / "net.safetensors", network.state_dict(), experiment, 1)
    return tmp_path / "net.safetensors"


def run(*words: object) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, [str(word) for word in words])
    said = str(result.exception) if isinstance(result.exception, ConfigError) else ""
    return result.exit_code, result.stdout, result.stderr + said


def test_a_prior_that_has_moved_is_found_where_it_is_said_to_be(trained: Path, tmp_path: Path) -> None:
    expected = load_checkpoint(trained).network(torch.full((1, 3, 8, 8), 0.5))
    (tmp_path / "prior").rename(tmp_path / "elsewhere")
    opened = load_checkpoint(trained, priors=[str(tmp_path / "elsewhere")])
    assert torch.equal(opened.network(torch.full((1, 3, 8, 8), 0.5)), expected)
    other = small_tae(tmp_path / "other", seed=8)
    with pytest.raises(ConfigError, match=r"was trained with [0-9a-f]{16}, which was at .*prior"):
        load_checkpoint(trained, priors=[str(other)])


def test_in_python_and_in_the_app_a_prior_is_named_as_well(trained: Path, tmp_path: Path) -> None:
    picture = np.full((16, 16, 3), 90, np.uint8)
    plain, turned_down = (unseen.load(trained, dials=dials)(picture) for dials in (None, {"features": 0.0}))
    assert not np.array_equal(plain, turned_down)
    with pytest.raises(ConfigError, match="strength"):
        unseen.load(trained, dials={"strength": 0.1})
    (tmp_path / "prior").rename(tmp_path / "elsewhere")
    moved = [str(tmp_path / "elsewhere")]
    assert np.array_equal(unseen.load(trained, priors=moved)(picture), plain)
    offered = offer_models([str(trained)], priors=moved)
    assert next(iter(offered.values())).tiler.halo == 64


def test_a_network_does_not_go_on_before_another_prior(trained: Path, tmp_path: Path) -> None:
    begun = load_checkpoint(trained)
    config = begun.experiment.network
    start(build(config, 1), begun)
    other = PriorConfig(source=str(small_tae(tmp_path / "other", seed=8)))
    with pytest.raises(CheckpointError, match="is to go on with the prior"):
        start(build(config.model_copy(update={"prior": other}), 1), begun)
    (tmp_path / "prior").rename(tmp_path / "elsewhere")  # the same elsewhere is the same
    same = config.model_copy(update={"prior": PriorConfig(source=str(tmp_path / "elsewhere"))})
    start(build(same, 1), load_checkpoint(trained, priors=[str(tmp_path / "elsewhere")]))


def test_without_it_the_message_says_how_to_name_it(trained: Path, tmp_path: Path, photographs: Path) -> None:
    (tmp_path / "prior").rename(tmp_path / "elsewhere")
    source._opened.cache_clear()  # pyright: ignore[reportPrivateUsage]  (what another process would not have)
    source._cached.cache_clear()  # pyright: ignore[reportPrivateUsage]
    call = ["restore", photographs / "0.png", "-m", trained, "-o", tmp_path / "out.png"]
    code, _, said = run(*call)
    assert code != 0 and "say where to with --prior" in said
    code, _, said = run(*call, "--prior", tmp_path / "elsewhere")
    assert code == 0, said


def test_dials_turn_on_the_command_line_and_make_another_model(
    trained: Path, tmp_path: Path, photographs: Path
) -> None:
    model = open_model(trained, precision="fp32")
    degraded = torch.full((1, 3, 8, 8), 0.5)
    whole = model.restore(degraded)
    half = turned(model, {"features": 0.5})
    assert half.content != model.content and half.name == "net-features-0.5" and set(half.dials) == {"features"}
    assert not torch.equal(half.restore(degraded), whole)
    for value in (0, 1):
        call = ["restore", photographs / "0.png", "-m", trained, "-o", tmp_path / f"{value}.png"]
        code, _, said = run(*call, "--dial", f"features={value}")
        assert code == 0, said
    assert not np.array_equal(read_image(tmp_path / "0.png"), read_image(tmp_path / "1.png"))
    for dial, expected in (
        ("features=2", "from 0 (the prior) to 1"),
        ("strength=0.1", "it has features"),
        ("x", "--dial x"),
    ):
        code, _, said = run("restore", photographs / "0.png", "-m", trained, "-o", tmp_path / "x.png", "--dial", dial)
        assert code != 0 and expected in said


def test_a_dial_without_a_model_is_refused(tmp_path: Path) -> None:
    code, _, said = run("evaluate", "--restored", tmp_path, "--dial", "features=1")
    assert code != 0 and "none is named" in said
    code, _, said = run("evaluate", "median", "--on", "clean", "--prior", small_tae(tmp_path / "prior"))
    assert code != 0 and "no model that is named works with this prior" in said


def test_models_with_different_priors_find_theirs_among_all_that_are_named(trained: Path, tmp_path: Path) -> None:
    priors = [tmp_path / "prior", small_tae(tmp_path / "second", seed=8)]
    config = GuidedConfig(prior=PriorConfig(source=str(priors[1])), width=4)
    experiment = load_checkpoint(trained).experiment.model_copy(update={"network": config})
    save_network(tmp_path / "other.safetensors", build(config, 0).state_dict(), experiment, 1)
    moved = [str(prior.rename(tmp_path / f"moved-{prior.name}")) for prior in priors]
    models = models_named([str(trained), str(tmp_path / "other.safetensors")], "cpu", priors=moved)
    assert [model.name for model in models] == ["net", "other"]
    with pytest.raises(ConfigError, match="no model that is named works with this prior"):
        models_named([str(trained)], "cpu", priors=[*moved[:1], str(small_tae(tmp_path / "third", seed=9))])


def test_what_a_prior_was_trained_on_counts_among_what_its_networks_met(
    trained: Path, photographs: Path, tmp_path: Path
) -> None:
    experiment = load_checkpoint(trained).experiment
    assert len(met_by(experiment)) == 2 and of_prior("hub:owner/name") is None
    test = read_image(photographs / "3.png")  # held out of the network's training, and not of the prior's
    save_fingerprints(tmp_path / "prior" / "fingerprints.safetensors", fingerprints([("portrait.png", test)]))
    (leak,) = find_leaks(met_by(experiment), fingerprints([("3.png", test)]))
    assert (leak.train, leak.test) == ("portrait.png", "3.png")
    (tmp_path / "prior").rename(tmp_path / "elsewhere")
    assert len(met_by(experiment)) == 2


def test_an_evaluation_repeats_the_ceiling(trained: Path, tmp_path: Path) -> None:
    call = ["evaluate", trained, "--on", "clean", "--crop", 32, "--device", "cpu", "-o", tmp_path / "page"]
    code, _, said = run(*call)
    assert code == 0, said
    (path,) = (tmp_path / "page" / "results").iterdir()
    notes = json.loads(path.read_text())["notes"]
    (note,) = [note for note in notes if note.startswith("The prior prior (")]
    assert "gives the 2 clean images back at" in note and note in said.replace("\n", " ")
    assert "the ceiling of what its decoder draws" in (tmp_path / "page" / "verdict.html").read_text()


def test_a_study_repeats_the_ceiling_of_every_prior(photographs: Path, tmp_path: Path) -> None:
    images = {"source": str(photographs), "holdout": 1}
    prior = {"source": str(small_tae(tmp_path / "prior", seed=9))}
    study = Study.model_validate(
        {
            "name": "tiny",
            "question": "Is it so?",
            "base": {
                "backgrounds": images,
                "network": {"kind": "ResNet", "width": 4, "blocks": 1},
                "recipe": {"steps": 2, "batch": 2, "patch": 16, "device": "cpu", "precision": "fp32", "threads": 1},
            },
            "variants": {"ordinary": {}, "guided": {"network": {"kind": "Guided", "prior": prior, "width": 4}}},
            "axes": {"seed": [0], "variant": ["ordinary", "guided"]},
            "curve": "variant",
            "reference": "ordinary",
            "judge": {"images": {**images, "part": "test"}, "crop": 32, "scale": 0.25, "suites": ["steep", "clean"]},
        }
    )  # fmt: skip
    record = run_study(study, tmp_path / "runs", workers=1)
    (note,) = record.notes
    assert note.startswith("The prior prior (") and "gives the 1 clean images back" in note


def test_priors_are_found_inside_of_networks_and_frozen_parts_among_layers(trained: Path) -> None:
    config = load_checkpoint(trained).experiment.network
    assert isinstance(config, GuidedConfig)
    assert priors_in(config) == [config.prior] and priors_in(ResNetConfig()) == []
    names = [name for name, _ in layers(load_checkpoint(trained).network)]
    assert {name.partition(".")[0] for name in names} == {"encoder", "ways", "gate", "decoder"}
