"""A lock on a file that vanishes with the process that holds it, however that ends."""

from __future__ import annotations

import errno
from pathlib import Path

import filelock

_NOT_SUPPORTED = {errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP}


class FileLock:
    """Held by one process at a time, until it lets go of it, forgets this object, or ends.

    A file system that refuses locks, as some of clusters do, lets everybody through; where it has none at all, newer
    versions of filelock use the file itself as a mark that names its holder.

    Args:
        path: path of the file, which stays behind, empty; missing parent folders are made.
    """

    def __init__(self, path: Path) -> None:
        self._lock = filelock.FileLock(path, thread_local=False)

    def acquire(self, *, wait: bool = False) -> bool:
        """Take the lock, now or, with `wait`, when whoever holds it lets go; returns whether it is held now."""
        try:
            self._lock.acquire(blocking=wait)
        except filelock.Timeout:
            return False
        except NotImplementedError:  # what filelock raised where there are no locks, before it used marks
            return True
        except OSError as error:
            if error.errno not in _NOT_SUPPORTED:
                raise
        return True

    def release(self) -> None:
        """Let go of it, if it is held."""
        self._lock.release()

    def __enter__(self) -> None:
        self.acquire(wait=True)

    def __exit__(self, *_: object) -> None:
        self.release()
