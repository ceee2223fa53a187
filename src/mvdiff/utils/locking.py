"""One process per folder or file, by the `filelock` package."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from ..errors import InputError
from .files import missing_folders, remove_empty_folders

#: What systems answer where a file system has no locks, as some network folders.
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP)
#: Seconds in which a folder whose last holder is leaving becomes free, and tries to make it.
_PATIENCE, _TRIES = 0.1, 10


@contextlib.contextmanager
def exclusive_lock(folder: Path) -> Iterator[None]:
    """Hold a folder, which is made where it is missing; InputError when another process has it.

    The system releases it when this process ends, however that happens. Afterwards the lock file
    is gone, and so are the folders that were made here if nothing was put into them. On file
    systems without locks, nothing is held. Any thread may leave the context.
    """
    made, path = missing_folders(folder.absolute()), folder.absolute() / ".lock"
    lock = _lock(path)
    try:
        _take(lock, path.parent)
    except Timeout as error:
        raise InputError(
            f"another process is working on '{folder}': wait for it, or choose another out="
        ) from error
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            remove_empty_folders(made)
            remedy = f"remove '{path}' or " if os.path.lexists(path) else ""
            raise InputError(
                f"cannot lock '{folder}' ({error.strerror}): {remedy}choose another out="
            ) from error
    try:
        yield
    finally:
        _release(lock)
        remove_empty_folders(made)


@contextlib.contextmanager
def file_lock(path: Path) -> Iterator[None]:
    """Wait for a lock file and hold it; afterwards the file is gone.

    Where there are no locks or the file cannot be made, nothing is held.
    """
    lock = _lock(path.absolute())
    with contextlib.suppress(OSError):
        lock.acquire()
    try:
        yield
    finally:
        _release(lock)


def _lock(path: Path) -> FileLock:
    # filelock's fallback to a lock without the system's would outlive a process that is killed
    return FileLock(path, thread_local=False, fallback_to_soft=False)


def _take(lock: FileLock, folder: Path) -> None:
    for attempt in range(_TRIES):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            lock.acquire(timeout=_PATIENCE, poll_interval=_PATIENCE / 10)
            return
        except FileNotFoundError:  # the last holder removed the empty folder just now
            if attempt == _TRIES - 1:
                raise


def _release(lock: FileLock) -> None:
    """Remove the lock file while it is held, so that nobody else's is removed, and release it."""
    if lock.is_locked:
        with contextlib.suppress(OSError):
            os.unlink(lock.lock_file)
        lock.release()
