"""What help and documentation say to type does what they say. What costs minutes is read and checked, not run."""

import re
import shlex
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import typer.main

from unseen import cli
from unseen.cli.train import read_experiment
from unseen.study.run import plan
from unseen.study.study import load_study
from unseen.toy.config import load_toy

ROOT = Path(__file__).parents[1]


def examples() -> list[str]:
    """Every command that the help of a verb has as an example."""

    def within(command: Any) -> list[str]:
        lines = re.findall(r"^Example: (.*(?:\n\S.*)*)", command.help or "", re.MULTILINE)
        found = [typed for line in lines for typed in re.findall(r"`([^`]+)`", line)]
        return found + [typed for inner in getattr(command, "commands", {}).values() for typed in within(inner)]

    return within(typer.main.get_command(cli.app))


def documented(*names: str) -> list[str]:
    """Every command of studies in the documentation, in its blocks and in its sentences."""
    found = []
    for name in names:
        text = (ROOT / "docs" / name).read_text().replace("\\\n", " ")
        found += re.findall(r"^(unseen study (?:plan|run) studies/.*?)(?:\s+#.*)?$", text, re.MULTILINE)
        for changes in re.findall(r"`(--set [^`]+)`", text.replace("\n", " ")):
            found.append(f"unseen study run studies/quickstart.yaml {changes}")
    return found


def parsed(typed: str) -> tuple[str, dict[str, Any]]:
    """The verb of a command, and its values as the command line reads them. An error where it cannot be typed so."""
    first, *words = shlex.split(typed)
    assert first == "unseen"
    command: Any = typer.main.get_command(cli.app)
    verb = []
    while hasattr(command, "commands"):
        verb.append(words.pop(0))
        command = command.commands[verb[-1]]
    return " ".join(verb), command.make_context(" ".join(verb), words).params


@pytest.mark.parametrize("typed", examples())
def test_every_example_of_the_help_can_be_typed(typed: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("UNSEEN_DATA", "data")
    verb, values = parsed(typed)
    if verb == "train" and values["recipe"] != "content":  # that needs a prior, which is not in the repository
        folder = values["backgrounds"]
        read_experiment(values["config"], {"backgrounds.source": folder and str(folder)}, values["set_"])
    if verb == "toy":
        load_toy(values["file"], values["set_"])


@pytest.mark.parametrize(
    "typed",
    [*(one for one in examples() if re.match("unseen study (plan|run)", one)), *documented("studies.md", "cluster.md")],
)
def test_every_study_that_is_told_to_be_run_can_be_planned(
    typed: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(ROOT)
    _, values = parsed(typed)
    if values["file"] == Path("studies/quickstart.yaml"):  # the others are of photographs that are not here
        assert plan(load_study(values["file"], values["set_"]), tmp_path).missing


def imported() -> list[tuple[str, str]]:
    """Every module and name that the documentation imports from here."""
    pages = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("**/*.md"))]
    line = r"^[ >]*from (unseen(?:\.\w+)*) import (?:\(([^)]+)\)|(.+))$"
    found = {
        (module, name.split(" as ")[0].strip())
        for page in pages
        for module, many, few in re.findall(line, page.read_text(), re.MULTILINE)
        for name in (many or few).partition("#")[0].split(",")
        if name.strip()
    }
    return sorted(found - {("unseen.degradations.fade", "Fade")})  # the one that CONTRIBUTING.md says how to write


@pytest.mark.parametrize(("module", "name"), imported())
def test_what_the_documentation_imports_is_there(module: str, name: str) -> None:
    assert hasattr(import_module(module), name)
