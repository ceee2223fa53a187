"""Whether a command's inputs exist and may be what they should be.

Asked before torch and diffusers are imported, so that mistakes are told at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import MvdiffError
from ..utils.sniff import describe_impostor
from .compose import exists

#: command → setting that names an input → what lies there
INPUTS: dict[str, dict[str, str]] = {
    "generate": {"weights": "weights", "checkpoint": "weights", "clip": "weights"},
    "reconstruct": {"views": "views"},
    "train": {"data": "data", "val_data": "data", "weights": "weights", "checkpoint": "weights"},
    "render": {"meshes": "mesh folder", "held_out": "file of names"},
    "export": {"run": "training run", "weights": "weights"},
    "convert": {"in": "checkpoint"},
    "evaluate": {"pred": "views or mesh", "truth": "views or mesh", "lpips": "LPIPS weights"},
    "ablate": {"data": "data", "val_data": "data", "lpips": "LPIPS weights"},
}
#: values that are words, not paths
_WORDS = ("none", "embedded", "rule", "auto")


def check_input_paths(command: str, config: Mapping[str, Any]) -> None:
    """Raise MvdiffError for the first input of a command that does not exist.

    A sweep's report reads no data, so with `report=…` nothing is checked.
    """
    if config.get("report"):
        return
    for key, noun in INPUTS.get(command, {}).items():
        value = config.get(key)
        for path in value if isinstance(value, list) else [value]:
            if isinstance(path, str) and path not in _WORDS and not exists(path):
                raise MvdiffError(f"no {noun} at '{path}' ({key}): check the path")
            if isinstance(path, str) and path not in _WORDS:
                _check_content(noun, path)


def _check_content(noun: str, name: str) -> None:
    """Raise MvdiffError for data folders without an index and for weight files that are none."""
    path = Path(name)
    if noun == "data" and path.is_dir():
        known = ("index.json", "uid_set.pkl", "target", "input")
        if not any((path / entry).exists() for entry in known):
            raise MvdiffError(
                f"no index.json in '{path}': expected a folder written by `mvdiff render`"
            )
    if noun == "mesh folder" and not path.is_dir():
        raise MvdiffError(f"no mesh folder at '{path}': expected a folder of GLB, OBJ, PLY or STL")
    if noun in ("weights", "checkpoint") and path.is_dir():
        raise MvdiffError(f"expected a weight file, but '{path}' is a folder: name a file in it")
    if noun in ("weights", "checkpoint") and path.is_file():
        impostor = describe_impostor(path)
        if impostor:
            raise MvdiffError(f"'{path}' holds no weights: {impostor}")
