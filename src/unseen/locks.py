"""Locks on files. The system lets go of them when their process ends, however it ends.

filelock has something to fall back to where a file system has none, a file that is there or not: it would stay when its
process is killed, and is not used.
"""

import errno
from pathlib import Path

from filelock import BaseFileLock, FileLock, Timeout

from unseen.errors import LockError

_NONE = (errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK)


def taken(path: Path) -> BaseFileLock | None:
    """A lock on the file, held until its `release`; None where it is held already. Its folder is made.

    LockError where the file system has no locks; OSError where the file cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path, fallback_to_soft=False)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return None
    except OSError as error:
        if error.errno not in _NONE:
            raise
        raise LockError(
            f"Files in {path.parent} cannot be locked, and two processes could write them at once: its file system has "
            f"no locks ({error.strerror}). Put the folder on another file system."
        ) from error
    return lock
