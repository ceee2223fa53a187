"""Whether a command's inputs exist, asked before torch and diffusers are imported."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..errors import MvdiffError
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
