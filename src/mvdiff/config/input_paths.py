"""Whether a command's inputs exist and may be what they should be.

Checked before torch and diffusers are imported, so that mistakes are reported at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..utils.sniff import describe_impostor
from .overrides import path_exists, path_settings
from .settings import PATH_WORDS


def check_input_paths(command: str, config: Mapping[str, Any]) -> None:
    """Raise InputError for the first input of a command that does not exist.

    A sweep's report reads no data, so with `report=…` nothing is checked; images are checked
    where they are listed.
    """
    if config.get("report"):
        return
    for key, entry in path_settings(command).items():
        if entry.path in ("output", "image"):
            continue
        value = config.get(key)
        for path in value if isinstance(value, list) else [value]:
            if not isinstance(path, str) or path in PATH_WORDS:
                continue
            if not path_exists(path):
                raise InputError(f"no {entry.path} at '{path}' ({key}): check the path")
            _check_content(entry.path, path)


def _check_content(noun: str, name: str) -> None:
    """Raise InputError for data folders without an index and for files that hold no weights."""
    path = Path(name)
    if noun == "data" and path.is_dir():
        entries = ("index.json", "uid_set.pkl", "target", "input")
        if not any((path / entry).exists() for entry in entries):
            raise InputError(
                f"no index.json in '{path}': expected a folder written by `mvdiff render`"
            )
    if noun == "mesh folder" and not path.is_dir():
        raise InputError(f"no mesh folder at '{path}': expected a folder of GLB, OBJ, PLY or STL")
    if noun in ("weights", "checkpoint") and path.is_dir():
        raise InputError(f"expected a weight file, but '{path}' is a folder: name a file in it")
    if noun in ("weights", "checkpoint") and path.is_file():
        impostor = describe_impostor(path)
        if impostor:
            raise InputError(f"'{path}' holds no weights: {impostor}")
