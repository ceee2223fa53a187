"""Writing files so that a final name always holds a whole file; reading JSON."""

from __future__ import annotations

import contextlib
import json
import math
import os
import platform
import re
import secrets
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

from ..errors import InputError, MvdiffError

T = TypeVar("T")

#: Temporary files are named .part-HOST-PID-RANDOM, so that the writer is known.
_PREFIX = ".part-"
_HOST = re.sub(r"[^A-Za-z0-9]", "", platform.node())[:32] or "localhost"
_checked_folders: set[str] = set()


@contextlib.contextmanager
def atomic(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success rename it, on failure remove it.

    The temporary name keeps the suffix, since exporters choose the format by it. Temporary files
    of processes that were killed are removed from the folder when it is first written to.
    Raises InputError with one sentence when the folder cannot be written to.
    """
    path = Path(path)
    if "\0" in str(path):
        raise InputError(f"cannot write to {str(path)!r}: no file name has a null character")
    part = path.parent / f"{_PREFIX}{_HOST}-{os.getpid()}-{secrets.token_hex(4)}{path.suffix}"
    try:
        _touch(part)
        _remove_abandoned(path.parent)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(
            f"cannot write to '{path.parent}' ({reason}): choose another output folder"
        ) from error
    try:
        yield part
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


def _touch(part: Path) -> None:
    """Make an empty file with the permissions that the umask gives, and its folders."""
    for attempt in range(3):
        try:
            part.parent.mkdir(parents=True, exist_ok=True)
            return part.touch(exist_ok=False)
        except FileNotFoundError:  # another process removed its empty folder just now
            if attempt == 2:
                raise


def _remove_abandoned(folder: Path) -> None:
    """Remove the temporary files that killed processes of this machine left in a folder."""
    key = os.path.abspath(folder)
    if key in _checked_folders:
        return
    _checked_folders.add(key)
    for part in folder.glob(f"{_PREFIX}{_HOST}-*"):
        pid = part.name.removeprefix(f"{_PREFIX}{_HOST}-").partition("-")[0]
        if pid.isdigit() and not _is_running(int(pid)):
            with contextlib.suppress(OSError):
                part.unlink()


def _is_running(pid: int) -> bool:
    if os.name == "nt":  # os.kill would end the process there
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True
    return True


def _unwritable(path: Path, why: str) -> MvdiffError:
    return MvdiffError(
        f"cannot write '{path}' ({why}): free some space or choose another output folder"
    )


def write_text(path: str | Path, text: str) -> None:
    """Write `text` (UTF-8) atomically."""
    with atomic(path) as part:
        part.write_text(text, encoding="utf-8")


#: Larger JSON files are not read: ours hold kilobytes, camera lists a few megabytes.
MAX_JSON_BYTES = 256 * 2**20


def read_json(path: Path, kind: type[T]) -> T | None:
    """What a JSON file of ours holds; None when it is missing, damaged or of another kind.

    kind: `dict` or `list`, the type of the outermost value.
    """
    try:
        return load_json(path, kind)
    except MvdiffError:
        return None


def load_json(path: Path, kind: type[T]) -> T:
    """What a JSON file holds. A byte order mark is skipped.

    kind: `dict` or `list`, the type that the outermost value must have.
    Raises InputError for a missing or unreadable file, for text that is not UTF-8 or not JSON,
    for a value of another type, and for files above `MAX_JSON_BYTES`.
    """
    try:
        if not path.is_file():
            raise InputError(f"no file at '{path}': check the path")
        if path.stat().st_size > MAX_JSON_BYTES:
            raise InputError(f"'{path}' is larger than {MAX_JSON_BYTES // 2**20} MiB: not read")
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except MvdiffError:
        raise
    except OSError as error:
        raise InputError(f"cannot read '{path}' ({error.strerror or error})") from error
    except UnicodeDecodeError as error:
        raise InputError(f"'{path}' is not UTF-8 text: save it as UTF-8 JSON") from error
    except RecursionError as error:
        raise InputError(f"'{path}' is not usable JSON: it is nested too deeply") from error
    except ValueError as error:  # bad JSON; also integers of thousands of digits
        raise InputError(f"'{path}' is not valid JSON ({error})") from error
    if not isinstance(content, kind):
        expected = {dict: "an object {…}", list: "a list […]"}.get(kind, kind.__name__)
        raise InputError(
            f"'{path}' must hold {expected}, got {type(content).__name__}: not a file of this kind"
        )
    return content


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
    """Raise InputError now rather than after the work when `folder` cannot be written to.

    Leaves nothing: a folder that was missing is missing afterwards.
    """
    missing = missing_folders(Path(folder).absolute())
    try:
        with atomic(Path(folder) / ".writable"):
            pass
        (Path(folder) / ".writable").unlink(missing_ok=True)  # another process may be as far
    finally:
        remove_empty_folders(missing)


def missing_folders(folder: Path) -> list[Path]:
    """An absolute path and its parents as far as they do not exist, the innermost first."""
    return [path for path in (folder, *folder.parents) if not os.path.lexists(path)]


def remove_empty_folders(folders: Iterable[Path]) -> None:
    """Remove those of the folders that are there and empty, in this order."""
    for folder in folders:
        with contextlib.suppress(OSError):
            folder.rmdir()
