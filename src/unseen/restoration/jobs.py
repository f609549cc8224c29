"""What is to be restored, and where it goes: files, folders and patterns made into a list without clashes."""

import glob
import os
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

from unseen.errors import ConfigError, DataError
from unseen.images import EXTENSIONS, find_images
from unseen.restoration.picture import FORMATS

VIDEOS = (
    ".mp4",
    ".m4v",
    ".mov",
    ".mkv",
    ".webm",
    ".avi",
    ".mpg",
    ".mpeg",
    ".ts",
    ".mts",
    ".m2ts",
    ".wmv",
    ".flv",
    ".3gp",
)
"""Lower-case suffixes of the files that count as videos."""

KEPT_VIDEOS = (".mp4", ".m4v", ".mov", ".mkv")
"""Of these, the restored one has the same; all others become .mkv, which holds whatever their audio is."""


@dataclass(frozen=True, slots=True)
class Job:
    """A file to restore, and the files that are made of it; `mask` and `difference` only where they are asked for.
    `kept` are those that are there already, and stay as they are."""

    source: Path
    target: Path
    mask: Path | None = None
    difference: Path | None = None
    kept: frozenset[Path] = field(default=frozenset(), compare=False)

    @property
    def is_video(self) -> bool:
        return self.source.suffix.lower() in VIDEOS

    @property
    def outputs(self) -> tuple[Path, ...]:
        return tuple(path for path in (self.target, self.mask, self.difference) if path is not None)

    @property
    def is_done(self) -> bool:
        return all(path.is_file() for path in self.outputs)

    def of_what_is_missing(self) -> "Job":
        """The same job, which writes over nothing."""
        return replace(self, kept=frozenset(path for path in self.outputs if path.is_file()))


def find_jobs(inputs: Iterable[str], out: Path, *, mask: bool = False, difference: bool = False) -> list[Job]:
    """A job for each file that `inputs` name: files, folders with all that is in them, patterns such as "in/**/*.jpg".

    `out` is a folder, in which that of the input is repeated below the folder or the fixed part of the pattern; or,
    for a single file, the name of the restored one. What already lies in the folder `out` is no input.

    DataError where a folder or a pattern holds nothing; ConfigError where a file would be written twice, or over an
    input.
    """
    inputs = list(inputs)
    named = len(inputs) == 1 and not Path(inputs[0]).is_dir() and _is_file_name(out)
    jobs = []
    for source, below in _found(inputs, out):
        target = out if named else out / _renamed(below, source)
        if named and target.suffix.lower() not in (KEPT_VIDEOS if source.suffix.lower() in VIDEOS else FORMATS):
            kinds = ", ".join(KEPT_VIDEOS if source.suffix.lower() in VIDEOS else FORMATS)
            raise ConfigError(f"{source} cannot be restored to {target}: give it one of the suffixes {kinds}.")
        job = Job(source, target)
        if not job.is_video:
            beside = target.with_suffix("")
            job = Job(
                source,
                target,
                beside.with_name(f"{beside.name}-mask.png") if mask else None,
                beside.with_name(f"{beside.name}-difference.png") if difference else None,
            )
        jobs.append(job)
    if named and len(jobs) > 1:
        raise ConfigError(f"{inputs[0]} names {len(jobs)} files, and {out} is the name of one. Give a folder with -o.")
    _refuse_clashes(jobs)
    return jobs


def _found(inputs: list[str], out: Path) -> Iterable[tuple[Path, Path]]:
    """Every file, and its path below the output folder."""
    inner = Path(os.path.realpath(out))  # Path.resolve ends with an error where links go in a circle
    for given in inputs:
        path = Path(given)
        if path.is_dir():
            # What was restored before is not an input.
            repeated = Path(os.path.realpath(path)) in inner.parents
            for found in _inside(path):
                if not (repeated and inner in Path(os.path.realpath(found)).parents):
                    yield found, found.relative_to(path)
        elif glob.has_magic(given) and not path.exists():
            root = _fixed_part(path)
            found = [Path(name) for name in sorted(glob.glob(given, recursive=True))]
            files = [name for name in found if name.suffix.lower() in EXTENSIONS + VIDEOS and name.is_file()]
            files = [name for name in files if inner not in Path(os.path.realpath(name)).parents]
            if not files:
                raise DataError(f"Nothing matches {given}: no image or video has such a name.")
            yield from ((name, name.relative_to(root)) for name in files)
        else:
            yield path, Path(path.name)


def _inside(folder: Path) -> list[Path]:
    """The images and videos in a folder, at any depth, sorted."""
    videos = [
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in VIDEOS
        and path.is_file()
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    ]
    try:
        images = find_images(folder)
    except DataError as error:
        if not videos or isinstance(error.__cause__, OSError):  # a folder that cannot be listed is not an empty one
            raise
        images = []
    return sorted([*images, *videos], key=lambda path: path.relative_to(folder).as_posix())


def _fixed_part(pattern: Path) -> Path:
    """The folder in which a pattern begins: "a/b" for "a/b/*/c*.png"."""
    fixed = []
    for part in pattern.parts[:-1]:
        if glob.has_magic(part):
            break
        fixed.append(part)
    return Path(*fixed)


def _is_file_name(out: Path) -> bool:
    return not out.is_dir() and out.suffix.lower() in (*EXTENSIONS, *VIDEOS)


def _renamed(below: Path, source: Path) -> Path:
    suffix = source.suffix.lower()
    if suffix in VIDEOS:
        return below if suffix in KEPT_VIDEOS else below.with_suffix(".mkv")
    return below if suffix in FORMATS else below.with_suffix(".png")


def _refuse_clashes(jobs: list[Job]) -> None:
    """No file is written twice, and none over an input: links and `..` do not hide it."""
    sources = {os.path.realpath(job.source): job.source for job in jobs}
    made: dict[str, Path] = {}
    for job in jobs:
        for path in job.outputs:
            place = os.path.realpath(path)
            if place in sources:
                raise ConfigError(
                    f"{sources[place]} would be overwritten by its restored image. Choose another folder with -o."
                    if sources[place] == job.source
                    else f"{sources[place]} would be overwritten by what is made of {job.source}. Choose another "
                    "folder with -o."
                )
            if place in made:
                raise ConfigError(
                    f"{made[place]} and {job.source} would both be written to {path}. "
                    "Restore them to different folders."
                )
            made[place] = job.source
