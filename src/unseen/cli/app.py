"""The one Typer application, what its verbs share, and the entry point's care for errors."""

import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from unseen.errors import UnseenError, cause_of


class Stopped(UnseenError):
    """Ctrl-C where nothing else is said of it."""

    exit_code = 130


class Verbs(TyperGroup):
    """All verbs. Typer ends in silence where Ctrl-C reaches it, so it is turned into an error of ours before."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as error:
            raise Stopped("Interrupted.") from error


app = typer.Typer(
    name="unseen",
    cls=Verbs,
    help="Image restoration that holds on degradations it has never seen.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
)
study_app = typer.Typer(help="Plan, run and report studies: one experiment varied along axes.", no_args_is_help=True)
app.add_typer(study_app, name="study")

Json = Annotated[bool, typer.Option("--json", help="Print the result, and nothing else, on stdout as JSON.")]
Runs = Annotated[Path, typer.Option(help="Folder that holds all runs.")]
Set = Annotated[
    list[str], typer.Option("--set", metavar="KEY=VALUE", help="Change one value, e.g. recipe.steps=100. Repeatable.")
]
SetBase = Annotated[
    list[str],
    typer.Option("--set", metavar="KEY=VALUE", help="Change one value, e.g. base.recipe.steps=100. Repeatable."),
]
"""The same of studies and toys, whose experiment is their `base`."""


def _say_version(asked: bool) -> bool:
    """While the options are read: what follows needs a verb."""
    if asked:
        from importlib.metadata import version

        print(f"unseen {version('unseen')}")
        raise typer.Exit
    return asked


@app.callback()
def _before_every_verb(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version, and leave.", callback=_say_version, is_eager=True)
    ] = False,
) -> None:
    pass


def main() -> None:
    """Entry point: errors a user can act on are printed without a traceback; exit code 2 for usage, 1 for failure."""
    try:
        app()
    except UnseenError as error:
        say(f"{'' if error.exit_code == 130 else 'Error: '}{error}")
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        say("Interrupted.")
        sys.exit(130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except OSError as error:
        say(f"Error: {error.filename or 'what is written'}: {cause_of(error)}")
        sys.exit(1)


def say(message: str = "") -> None:
    """A line for people: on stderr, so that stdout holds results alone."""
    print(message, file=sys.stderr, flush=True)


def show(value: Any) -> None:
    """A result as JSON on stdout; not-a-number and infinities are null."""
    print(json.dumps(_plain(value), indent=2))


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, float):
        return value if value - value == 0 else None
    return value


@contextmanager
def progress_bar(quiet: bool = False) -> Iterator[Callable[[str, int, int, str], None]]:
    """A function (task, done, total, note) that draws bars with the time left; log lines where there is no terminal."""
    if quiet:
        yield lambda task, done, total, note="": None
    elif sys.stderr.isatty():
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
        )
        with Progress(*columns, console=Console(stderr=True)) as progress:
            tasks: dict[str, Any] = {}

            def draw(task: str, done: int, total: int, note: str = "") -> None:
                if task not in tasks:
                    tasks[task] = progress.add_task(task, total=total, completed=done, note=note)
                progress.update(tasks[task], completed=done, total=total, note=note)

            yield draw
    else:
        began: dict[str, tuple[float, int]] = {}
        spoke: dict[str, float] = {}

        def line(task: str, done: int, total: int, note: str = "") -> None:
            now = time.monotonic()
            start, first = began.setdefault(task, (now, done))  # what was done before took no time of ours
            if done < total and now - spoke.get(task, start) < 15:
                return
            spoke[task] = now
            left = f", {duration((now - start) * (total - done) / (done - first))} left" if first < done < total else ""
            say(f"{task}: {done:,.0f} of {total:,.0f}{left}  {note}".rstrip())

        yield line


def duration(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {seconds:02} s" if minutes else f"{seconds} s"
