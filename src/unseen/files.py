"""Files that are written whole or not at all. Imports nothing but the standard library."""

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """A hidden name beside `path`, with its suffix, renamed to it when all went well; gone where it did not.

    Folders above it are made. What the system says against any of this is raised as it is (OSError).
    """
    temporary = path.parent / f".{secrets.token_hex(8)}{path.suffix}"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        os.replace(temporary, path)
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
