"""Errors in measuring an image that say which it was."""

from collections.abc import Iterator
from contextlib import contextmanager

from unseen.errors import DataError, UnseenError


@contextmanager
def measuring(image: str) -> Iterator[None]:
    """What a measure refuses, or has no memory for, as an error that begins with the image's name."""
    try:
        yield
    except UnseenError as error:
        raise type(error)(f"{image}: {error}") from error
    except (MemoryError, OSError, RuntimeError) as error:  # torch and the coder say this where memory ends
        said = str(error).partition("\n")[0] or type(error).__name__
        raise DataError(f"{image} cannot be measured ({said}). Scale it down or cut it up.") from error
