"""Writing files so that a final name always holds a whole file, and one writer a folder."""

from __future__ import annotations

import contextlib
import json
import math
import os
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from .errors import MvdiffError


@contextlib.contextmanager
def atomic(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success rename it, on failure remove it.

    The temporary name keeps the suffix, since exporters choose the format by it.
    Raises MvdiffError with one sentence when the folder cannot be written to.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=".part-", suffix=path.suffix, dir=path.parent)
    except OSError as error:
        raise MvdiffError(
            f"cannot write to '{path.parent}' ({error.strerror}): choose another output folder"
        ) from error
    os.close(handle)
    part = Path(name)
    try:
        yield part
        part.chmod(0o644)
        os.replace(part, path)
    except OSError as error:
        raise _unwritable(path, error.strerror or str(error)) from error
    except Exception as error:
        # the writers of torch and safetensors wrap the system's refusal in errors of their own
        if type(error).__name__ == "SafetensorError" or "inline_container" in str(error):
            raise _unwritable(path, str(error).splitlines()[0]) from error
        raise
    finally:
        part.unlink(missing_ok=True)


def _unwritable(path: Path, why: str) -> MvdiffError:
    return MvdiffError(
        f"cannot write '{path}' ({why}): free some space or choose another output folder"
    )


def write_text(path: str | Path, text: str) -> None:
    """Write `text` (UTF-8) atomically."""
    with atomic(path) as part:
        part.write_text(text, encoding="utf-8")


def read_json(path: Path) -> Any:
    """What a file holds; None when it is missing or damaged."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def write_json(path: Path, content: Any) -> None:
    """Write JSON atomically; NaN and infinities, which JSON lacks, become null."""
    write_text(path, json.dumps(_finite(content), indent=1, allow_nan=False) + "\n")


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(v) for key, v in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def check_writable(folder: str | Path) -> None:
    """Raise MvdiffError now rather than after the work when `folder` cannot be written to."""
    with atomic(Path(folder) / ".writable"):
        pass
    (Path(folder) / ".writable").unlink(missing_ok=True)  # another process may be as far


@contextlib.contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Hold a folder until the end; MvdiffError when another process holds it.

    The system lets go of it when this process ends, however that happens. Where there are no
    locks (Windows, some network folders), nothing is held.
    """
    try:
        import fcntl
    except ImportError:
        yield
        return
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError) as error:  # the latter from Windows' shares
            raise MvdiffError(
                f"another process is working on '{folder}': wait for it, or choose another out="
            ) from error
        except OSError:
            pass
        yield
