"""`mvdiff evaluate`: figures of views or meshes against the truth."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ..errors import MvdiffError
from ..files import write_text

MESHES = (".glb", ".gltf", ".obj", ".ply", ".stl")


def run(config: Any) -> int:
    """Print a table, and write JSON when asked to."""
    from rich.console import Console

    from ..evaluate import evaluate_folder, evaluate_mesh, table

    pred, truth = Path(str(config.pred)).expanduser(), Path(str(config.truth)).expanduser()
    for path in (pred, truth):
        if not path.exists():
            raise MvdiffError(f"nothing at '{path}': check the path")
    if pred.suffix.lower() in MESHES:
        row = evaluate_mesh(pred, truth, rotate_z=float(config.rotate_z))
        figures: dict[str, Any] = {"objects": {pred.stem: row}, "mean": row}
    else:
        figures = evaluate_folder(pred, truth)
    Console().print(table(figures))
    if config.out:
        write_text(config.out, json.dumps(figures, indent=1))
    return 0
