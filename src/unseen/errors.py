"""Errors that a user can act on. Each says what was seen, what was expected, and what to do.

The command line prints the message without a traceback and leaves with `exit_code`:
2 where the call or its configuration is wrong, 1 where the work failed.
"""

import errno
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path


class UnseenError(Exception):
    """Anything that is not a fault of this package."""

    exit_code = 1


class ConfigError(UnseenError):
    """A value, key or name in a configuration, or an argument, that cannot be used."""

    exit_code = 2


class ImageError(UnseenError):
    """A file that cannot be read or written as an image."""


class DataError(UnseenError):
    """A folder of images that does not hold what is needed."""


class CheckpointError(UnseenError):
    """A weight file that cannot be loaded, or does not fit."""


class LockError(UnseenError):
    """A folder on a file system without locks, where they are needed."""


class TrainingError(UnseenError):
    """Training cannot go on: the loss is not finite, the state does not fit the experiment."""


class NotFiniteError(TrainingError):
    """A loss, or what a network restores, is not finite: its training has diverged, or its weights are broken."""


class StudyError(UnseenError):
    """A study that cannot be run or reported as it stands."""


def not_known(what: str, name: object, known: Iterable[str]) -> str:
    """The sentences for a name that is none of those known, with the nearest of them where one is near."""
    names = list(known)
    lower = {one.lower(): one for one in names}
    near = get_close_matches(name.lower(), lower, n=1) if isinstance(name, str) else []
    meant = f": did you mean {lower[near[0]]!r}?" if near else "."
    return f"There is no {what} called {name!r}{meant} Known: {', '.join(names) or 'none'}."


def cause_of(error: OSError, otherwise: str = "it failed") -> str:
    """What the operating system says, and what to do: the end of a sentence that names the file. `otherwise` is said
    of errors that are not of the system but of what read or wrote the file."""
    if isinstance(error, FileNotFoundError):
        return "no such file."
    if isinstance(error, PermissionError):
        return "permission denied. Change its permissions or choose another place."
    if isinstance(error, IsADirectoryError):
        return "a folder is in its place."
    if isinstance(error, FileExistsError | NotADirectoryError):
        return "a parent of it is a file, not a folder."
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "the disk (or the quota on it) is full. Free some space or choose another place."
    if error.errno == errno.EROFS:
        return "nothing can be written to that disk. Choose another place."
    if error.errno is None:
        return f"{otherwise} ({error})."
    return f"{error.strerror}."


def check_readable(path: Path) -> None:
    """Raises the OSError that says why a file cannot be read: safetensors says of each that there is none."""
    with path.open("rb"):
        pass


@contextmanager
def writing(path: str | Path) -> Iterator[None]:
    """What the system says against writing `path` as an error that names it: a full disk names nothing itself."""
    try:
        yield
    except FileNotFoundError:  # of something that was read for it
        raise
    except OSError as error:
        raise UnseenError(f"Cannot write {path}: {cause_of(error)}") from error
