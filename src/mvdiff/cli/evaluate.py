"""`mvdiff evaluate`: figures of views or meshes against the truth, by the published protocols."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..config.settings import MISSING, setting
from ..errors import ConfigError, InputError
from ..utils.limits import SEED
from .command import Command


@dataclass
class EvaluateConfig:
    """`mvdiff evaluate`."""

    pred: str = setting(
        MISSING, "views (one object, or a folder per object), or a mesh file", path="views or mesh"
    )
    reference: str = setting(MISSING, "the same for the ground truth", path="views or mesh")
    normalize_reference: bool = setting(
        False, "center the true meshes and scale their largest side to 1, as SyncDreamer does"
    )
    rotate_z: Any = setting(
        None, "degrees by which the true meshes are then rotated about z, or {name: degrees}"
    )
    resize: bool = setting(False, "resize predicted views to the size of the true ones")
    iou: bool = setting(True, "also the IoU of meshes within [-1, 1]³ (needs mesh2sdf)")
    consistency_metrics: bool = setting(
        False,
        "also the consistency of the views and the diversity of samples (about 1 s per sample)",
    )
    corrupted_controls: bool = setting(
        False,
        "also 4 control rows: the true views as they are, shifted, rolled, tinted; a metric that "
        "does not separate them says nothing",
    )
    seed: int = setting(0, "random seed of the controls", limit=SEED)
    lpips: Any = setting(
        None, "LPIPS-VGG weights: a file, or [vgg16.pth, vgg.pth]", path="LPIPS weights"
    )
    out: str | None = setting(
        None, "also write the metrics: .json, .csv, or a folder for both", path="output"
    )


def run(config: EvaluateConfig) -> int:
    """Print a table and notes, and write metrics when asked to; 1 when some objects failed."""
    from rich.console import Console

    from ..config.instantiate import to_container

    pred, truth = Path(str(config.pred)).expanduser(), Path(str(config.reference)).expanduser()
    for path in (pred, truth):
        if not path.exists():
            raise InputError(f"nothing at '{path}': check the path")
    angle = _angle(to_container(config.rotate_z))
    if config.out and Path(str(config.out)).suffix.lower() not in ("", ".json", ".csv"):
        raise ConfigError(f"out={config.out} is not .json, .csv or a folder: choose one of them")

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
            normalize_reference=bool(config.normalize_reference),
            resize=bool(config.resize),
            lpips=lpips,
            iou=bool(config.iou),
            consistency=bool(config.consistency_metrics),
            controls=bool(config.corrupted_controls),
            seed=int(config.seed),
            told=told,
        )
    figures["settings"] = {
        "pred": str(pred),
        "reference": str(truth),
        "rotate_z": angle,
        "normalize_reference": bool(config.normalize_reference),
        "resize": bool(config.resize),
        "consistency_metrics": bool(config.consistency_metrics),
        "corrupted_controls": bool(config.corrupted_controls),
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
            raise ConfigError(
                "rotate_z must be a number of degrees, or {object: degrees, …}; got "
                f"'{angle}'" + (f" for '{name}'" if name else "")
            )
    if isinstance(value, Mapping):
        return {str(name): float(angle) for name, angle in angles.items()}
    return float(value)


COMMAND = Command(
    name="evaluate",
    summary="PSNR, SSIM, hull IoU of views; Chamfer and IoU of meshes",
    description="Views or meshes against the ground truth, by SyncDreamer's protocols; add "
    "consistency_metrics=true and corrupted_controls=true for sanity checks.",
    config=EvaluateConfig,
    run=run,
    examples=(
        "mvdiff evaluate pred=outputs/cup/sample-0 reference=data/cup/target",
        "mvdiff evaluate pred=mesh.glb reference=scan.obj",
    ),
)
