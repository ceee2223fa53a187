"""One string for the content of a folder to train on, to compare runs by."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from ..errors import DataError
from .memmap import read_index

_PARTS = ("target", "input")


def data_fingerprint(folder: str | Path) -> str:
    """A hash of what a training folder holds, as 64 hexadecimal digits.

    Of a folder written by `mvdiff render`: of picture size, cameras, and each object's name,
    split, hash of its pictures when they were rendered, and names and sizes of the pictures that
    are there now. Of SyncDreamer's layout: of all objects' names and of names and sizes of their
    files. Times do not count, so a copy of a folder has the same fingerprint. Pictures are not
    read, so this takes microseconds a file.
    Raises DataError when the folder is neither.
    """
    folder = Path(folder)
    digest = hashlib.sha256()
    if (folder / "index.json").is_file():
        index, _ = read_index(folder)
        _add(digest, "rendered", index["size"], index.get("cameras"))
        for entry in sorted(index["objects"], key=lambda entry: entry["name"]):
            _add(digest, entry["name"], entry.get("split"), entry.get("pictures"))
            for part in _PARTS:
                _add(digest, *file_sizes(folder / entry["name"] / part))
        return digest.hexdigest()
    if not all((folder / part).is_dir() for part in _PARTS):
        raise DataError(
            f"no training data in '{folder}': expected index.json, written by `mvdiff render`, or "
            "the folders target/ and input/"
        )
    _add(digest, "syncdreamer")
    for part in _PARTS:
        for name in sorted(os.listdir(folder / part)):
            _add(digest, part, name, *file_sizes(folder / part / name))
    return digest.hexdigest()


def _add(digest: hashlib._Hash, *values: object) -> None:
    digest.update((repr(values) + "\n").encode())


def file_sizes(folder: Path) -> list[tuple[str, int]]:
    """Names and sizes of a folder's files; nothing where there is none."""
    try:
        with os.scandir(folder) as entries:
            return sorted(
                (entry.name, entry.stat().st_size)
                for entry in entries
                if not entry.name.startswith(".") and entry.is_file()
            )
    except OSError:
        return []
