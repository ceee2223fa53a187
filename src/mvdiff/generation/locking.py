"""One process per result folder, without a lock file that stays behind."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from ..errors import MvdiffError

#: Times that a folder, or a lock, may vanish while it is being taken.
_RETRIES = 100


@contextlib.contextmanager
def hold_folder(folder: Path) -> Iterator[None]:
    """Hold a folder, which is made where it is missing; MvdiffError when another process has it.

    The system lets go of it when this process ends, however that happens. Afterwards the lock file
    is gone, and so is the folder if nothing was put into it. Where there are no locks (Windows,
    some network folders), nothing is held.
    """
    try:
        import fcntl
    except ImportError:
        yield
        return
    path = folder / ".lock"
    for attempt in range(_RETRIES):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0)
            descriptor = os.open(path, flags, 0o666)
        except FileNotFoundError:
            if attempt == _RETRIES - 1:
                raise
            continue  # its last holder removed the empty folder just now
        except OSError as error:
            raise MvdiffError(
                f"cannot write to '{folder}' ({error.strerror}): choose another output folder"
            ) from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError) as error:  # the latter from Windows' shares
            os.close(descriptor)
            raise MvdiffError(
                f"another process is working on '{folder}': wait for it, or choose another out="
            ) from error
        except OSError:
            break  # no locks here
        if _is_same_file(descriptor, path):
            break
        os.close(descriptor)  # its last holder removed the file: another process may have a new one
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            path.unlink()
        os.close(descriptor)
        with contextlib.suppress(OSError):
            folder.rmdir()  # only where it is empty


def _is_same_file(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except OSError:
        return False
