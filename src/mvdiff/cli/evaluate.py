"""`mvdiff evaluate`: figures of views or meshes against the truth, by the published protocols."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..config.instantiate import to_container
from ..errors import MvdiffError


def run(config: Any) -> int:
    """Print a table and notes, and write figures when asked to; 1 when some objects failed."""
    from rich.console import Console

    pred, truth = Path(str(config.pred)).expanduser(), Path(str(config.truth)).expanduser()
    for path in (pred, truth):
        if not path.exists():
            raise MvdiffError(f"nothing at '{path}': check the path")
    angle = _angle(to_container(config.rotate_z))
    if config.out and Path(str(config.out)).suffix.lower() not in ("", ".json", ".csv"):
        raise MvdiffError(f"out={config.out} is not .json, .csv or a folder: choose one of them")

    from ..evaluation import check_target, evaluate_folder, notes, table, write
    from ..metrics import Lpips
    from ..utils.progress import ProgressDisplay

    lpips = None if config.lpips is None else Lpips.load(to_container(config.lpips))
    if config.out:
        check_target(str(config.out))
    with ProgressDisplay("evaluate") as stages:

        def told(name: str, done: int, total: int) -> None:
            stages.start(f"evaluate {name}", total)
            stages.advance(done, total)

        figures = evaluate_folder(
            pred,
            truth,
            rotate_z=angle,
            normalise_truth=bool(config.normalise_truth),
            resize=bool(config.resize),
            lpips=lpips,
            iou=bool(config.iou),
            consistency=bool(config.consistency),
            controls=bool(config.controls),
            seed=int(config.seed),
            told=told,
        )
    figures["settings"] = {
        "pred": str(pred),
        "truth": str(truth),
        "rotate_z": angle,
        "normalise_truth": bool(config.normalise_truth),
        "resize": bool(config.resize),
        "consistency": bool(config.consistency),
        "controls": bool(config.controls),
        "seed": int(config.seed),
    }
    console = Console(width=None if sys.stdout.isatty() else 140)
    console.print(table(figures))
    for note in notes(figures):
        print(f"note: {note}", file=sys.stderr)
    if config.out:
        write(figures, str(config.out))
    return 1 if figures["failed"] else 0


def _angle(value: Any) -> float | dict[str, float]:
    """Degrees for all objects, or a mapping of them by name; none is 0."""
    if value is None:
        return 0.0
    angles = value if isinstance(value, Mapping) else {"": value}
    for name, angle in angles.items():
        number = isinstance(angle, int | float) and not isinstance(angle, bool)
        if not (number and math.isfinite(angle)):
            raise MvdiffError(
                "rotate_z must be a number of degrees, or {object: degrees, …}; got "
                f"'{angle}'" + (f" for '{name}'" if name else "")
            )
    if isinstance(value, Mapping):
        return {str(name): float(angle) for name, angle in angles.items()}
    return float(value)
