"""`unseen restore`: images, folders and videos."""

import sys
from contextlib import nullcontext
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Any

import typer

from unseen.cli.app import Json, app, duration, progress_bar, say, show
from unseen.cli.opening import Dials, Priors, device_named, models_named
from unseen.errors import ConfigError, ImageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from unseen.models import Model
    from unseen.restoration import Job, Result, Tiler

STDIN = "-"


@app.command()
def restore(
    files: Annotated[
        list[str],
        typer.Argument(help="Images, videos, folders of them, patterns in quotes; - reads one image from stdin."),
    ],
    model: Annotated[
        str | None,
        typer.Option(
            "--model", "-m", help="Shipped weights by name, a run's folder, or any model file.", show_default="rain"
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--out",
            help="Folder for what is restored; for a single file, also its name.",
            show_default="restored; stdout for -",
        ),
    ] = None,
    strength: Annotated[
        float, typer.Option(help="1 is what the model makes of it, 0 the input, between them a blend.", min=0, max=1)
    ] = 1.0,
    mask: Annotated[bool, typer.Option("--mask", help="Also write NAME-mask.png: white where it changed.")] = False,
    difference: Annotated[
        bool, typer.Option("--difference", help="Also write NAME-difference.png: what was taken out, four times.")
    ] = False,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
    always: Annotated[
        bool, typer.Option("--always", help="Also restore what the model takes for clean and would leave as it is.")
    ] = False,
    overwrite: Annotated[bool, typer.Option(help="Restore again what is already in the output folder.")] = False,
    dial: Dials = None,
    prior: Priors = None,
    trust: Annotated[bool, typer.Option("--trust", help="Allow model files that execute code.")] = False,
    json_: Json = False,
) -> None:
    """Restore images and videos; what is done already is skipped. Size, metadata and depth are kept.

    Example: `unseen restore rainy.jpg holiday/ "scans/**/*.tif" -o restored/`
    """
    from unseen.models import always_restoring
    from unseen.restoration import find_jobs, tiler_for

    chosen = device_named(device)
    piped = STDIN in files
    if piped:
        _check_pipe(files, out, mask or difference, json_)
    with TemporaryDirectory() if piped else nullcontext("") as folder:
        if piped:
            source = _from_stdin(Path(folder))
            jobs = find_jobs(
                [str(source)], out or source.with_name(f"restored{source.suffix}"), mask=mask, difference=difference
            )
            if jobs[0].target.exists() and not overwrite:  # of another image, for all that can be known
                raise ConfigError(f"{jobs[0].target} is there already: name another file, or replace it: --overwrite.")
        else:
            jobs = find_jobs(files, out or Path("restored"), mask=mask, difference=difference)
        opened = models_named([model], chosen, trust=trust, dials=dial, priors=prior)[0]
        opened = always_restoring(opened) if always else opened
        chosen = opened.device or chosen
        tiler = tiler_for(opened.restore, chosen, opened.config, strength=strength)
        outcome = _Outcome(jobs, opened, chosen, quiet=json_, hidden=folder)
        interrupted = False
        try:
            _run(jobs, tiler, outcome, overwrite, json_)
        except KeyboardInterrupt:
            interrupted = True
        if piped and out is None and outcome.count("restored"):
            sys.stdout.buffer.write(jobs[0].target.read_bytes())
            sys.stdout.buffer.flush()
    if json_:
        show(outcome.as_json())
    if interrupted:
        say(f"Interrupted. {outcome.sentence()} What is restored is whole; the same command goes on from there.")
        raise typer.Exit(130)
    if not json_:
        where = "" if piped else outcome.place(out or Path("restored"))
        say(f"{outcome.sentence()} {where}".rstrip())
        alone = outcome.left_alone()
        if alone:
            which = alone[0] if len(alone) == 1 else f"{len(alone)} pictures, such as {alone[0]},"
            verb = "is" if len(alone) == 1 else "are"
            say(f"{which} {verb} taken for clean, and left alone. --always restores such pictures too.")
        if outcome.count("skipped"):
            say("Skipped is what lies there already, whatever model made it: --overwrite restores it again.")
    if outcome.count("failed") or outcome.count("left"):
        raise typer.Exit(1)


def _check_pipe(files: list[str], out: Path | None, beside: bool, json_: bool) -> None:
    if len(files) > 1:
        raise ConfigError("- is one image from stdin, and goes alone: name other files in another call.")
    if out is None and json_:
        raise ConfigError("The image goes to stdout, and so would the JSON. Name a file for the image with -o.")
    if out is None and beside:
        raise ConfigError("--mask and --difference write files beside the image: name one with -o.")
    if out is None and sys.stdout.isatty():
        raise ConfigError("The image would be printed on this terminal. Name a file with -o, or redirect: > out.jpg")


def _from_stdin(folder: Path) -> Path:
    """The image that comes in through stdin, as a file with the suffix of its format."""
    from unseen.restoration.picture import suffix_of

    path = folder / "stdin"
    path.write_bytes(sys.stdin.buffer.read())
    try:
        return path.rename(path.with_suffix(suffix_of(path)))
    except ImageError as error:
        raise ImageError(str(error).replace(str(path), "stdin")) from error


def _run(jobs: "list[Job]", tiler: "Tiler", outcome: "_Outcome", overwrite: bool, quiet: bool) -> None:
    """Images first, in their order, then videos."""
    from unseen.restoration import Result, restore_files, restore_video
    from unseen.restoration.picture import is_full
    from unseen.restoration.run import failed

    waiting = []
    for job in jobs:
        if job.is_done and not overwrite:
            outcome.add(Result(job, "skipped"))
        else:
            waiting.append(job if overwrite else job.of_what_is_missing())
    images = [job for job in waiting if not job.is_video]
    outcome.start()
    with progress_bar(quiet) as draw:
        done = 0

        def drawn(result: "Result") -> None:
            nonlocal done
            done += 1
            outcome.add(result)
            draw("restore", done, len(images), result.job.source.name)

        results = restore_files(images, tiler, drawn)
        if any(result.status == "left" for result in results):
            return
        for job in waiting:
            if not job.is_video:
                continue
            try:
                report = _frames(draw, job.source.name)
                video = restore_video(job.source, job.target, tiler, report)
            except Exception as error:
                outcome.add(failed(job, error))
                if is_full(error):
                    return
                continue
            result = Result(job, "restored", None, video.notes, video.width, video.height)
            outcome.add(
                result,
                frames=video.frames,
                flicker={
                    "before": video.flicker.before,
                    "after": video.flicker.after,
                    "added": video.flicker.added,
                },
            )


def _frames(draw: "Callable[[str, int, int, str], None]", name: str) -> "Callable[[int, int], None]":
    return lambda done, total: draw(name, done, total, "frames")


class _Outcome:
    """What became of each job, and how fast. `hidden` is a folder that people need not read of."""

    def __init__(self, jobs: "list[Job]", model: "Model", device: str, *, quiet: bool, hidden: str) -> None:
        from unseen.restoration import Result

        self.jobs, self.model, self.device, self.quiet, self.hidden = jobs, model, device, quiet, hidden
        self.results: dict[Any, Result] = {job: Result(job) for job in jobs}
        self.more: dict[Any, dict[str, Any]] = {}
        self.start()

    def start(self) -> None:
        """The clock starts: what is skipped and the opening of the model take no part in the rate."""
        from unseen.restoration.run import Rate

        self.rate = Rate()

    def add(self, result: "Result", frames: int = 1, **more: Any) -> None:
        """Any: what is known of a video alone."""
        self.results[result.job] = result
        self.more[result.job] = more | ({"frames": frames} if more else {})
        name = self._shown(str(result.job.source))
        if result.status == "restored":
            self.rate.add(result.width, result.height, frames)
        if result.status == "failed":
            say(f"Error: {self._shown(result.message or '')}")
        elif result.notes and not self.quiet:
            say(f"{name}: {'; '.join(result.notes)}.")
        if more and not self.quiet:
            flicker = more["flicker"]
            say(
                f"{name}: {frames} frames; from one to the next pixels changed by {flicker['before']:.4f} of 1 before, "
                f"{flicker['after']:.4f} after; {flicker['added']:.4f} is new."
            )

    def count(self, status: str) -> int:
        return sum(result.status == status for result in self.results.values())

    def left_alone(self) -> list[str]:
        """The names of the pictures that are taken for clean."""
        spared = (result for result in self.results.values() if result.status == "restored" and result.taken == 0)
        return [self._shown(str(result.job.source)) for result in spared]

    def sentence(self) -> str:
        restored, skipped, failed, left = map(self.count, ("restored", "skipped", "failed", "left"))
        rate = ""
        if restored:
            seconds = self.rate.seconds
            rate = (
                f" in {duration(seconds)}, {self.rate.images / seconds:.3g} images and "
                f"{self.rate.megapixels / seconds:.3g} megapixels a second on {self._device_name()}"
            )
        rest = f", {left} not tried" if left else ""
        return f"{restored} restored{rate}, {skipped} skipped, {failed} failed{rest}."

    def place(self, out: Path) -> str:
        """Where that lies which is restored, now or before."""
        there = [job.target for job, result in self.results.items() if result.status in ("restored", "skipped")]
        return "" if not there else f"It is {there[0]}." if len(there) == 1 else f"They are in {out}."

    def as_json(self) -> dict[str, Any]:
        seconds = self.rate.seconds
        return {
            "model": self.model.path or self.model.name,
            "device": self.device,
            "device_name": self._device_name(),
            "seconds": seconds,
            "images_per_second": self.rate.images / seconds,
            "megapixels_per_second": self.rate.megapixels / seconds,
            "restored": self.count("restored"),
            "skipped": self.count("skipped"),
            "failed": self.count("failed"),
            "left": self.count("left"),
            "images": [self._line(self.results[job]) for job in self.jobs],
        }

    def _line(self, result: "Result") -> dict[str, Any]:
        job, there = result.job, result.status in ("restored", "skipped")
        message = None if result.message is None else self._shown(result.message)
        return {
            "input": self._shown(str(job.source)),
            "output": job.target if there else None,
            "mask": job.mask if there else None,
            "difference": job.difference if there else None,
            "status": result.status,
            "message": message,
            "notes": result.notes,
            **({"width": result.width, "height": result.height} if result.status == "restored" else {}),
            **({"taken": result.taken} if result.status == "restored" and not job.is_video else {}),
            **self.more.get(job, {}),
        }

    def _device_name(self) -> str:
        from unseen.training import processor

        if self.device == "cuda":
            import torch

            return torch.cuda.get_device_name()
        return "the Apple GPU" if self.device == "mps" else processor()

    def _shown(self, text: str) -> str:
        return text.replace(f"{self.hidden}/", "") if self.hidden else text
