"""Figures of results against truth: of views, of meshes, of folders of both."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import trimesh

from .errors import MvdiffError
from .metrics import chamfer, hull_iou, psnr, ssim, volume_iou
from .metrics.geometry import normalise
from .recon.mesh import Mesh
from .views import Views

if TYPE_CHECKING:
    from rich.table import Table

#: Column titles and number formats, in the order of the table.
COLUMNS = {
    "psnr": ("PSNR (dB)", "{:.2f}"),
    "ssim": ("SSIM", "{:.3f}"),
    "hull_iou": ("hull IoU", "{:.3f}"),
    "hull_iou_truth": ("hull IoU of truth", "{:.3f}"),
    "chamfer": ("Chamfer", "{:.4f}"),
    "iou": ("volume IoU", "{:.3f}"),
}
_MESHES = ("mesh.glb", "mesh.obj", "mesh.ply", "mesh.stl")


def evaluate_views(pred: Views, truth: Views) -> dict[str, float]:
    """PSNR, SSIM and hull IoU of `pred`, and the hull IoU of `truth`, which is the ceiling.

    View i is compared with view i. A prediction of another size is resized to the truth's,
    with a warning. Raises MvdiffError when the numbers of views differ.
    """
    if len(pred) != len(truth):
        raise MvdiffError(
            f"view i is compared with view i, but there are {len(pred)} predicted and "
            f"{len(truth)} true views"
        )
    have, wanted = pred.images.shape[-2:], truth.images.shape[-2:]
    if wanted[0] != wanted[1] and have != wanted:
        raise MvdiffError(f"cannot bring {tuple(have)} views to {tuple(wanted)}: not square")
    if have != wanted:
        warnings.warn(
            f"predicted views of side {have[-1]} were resized to the truth's side {wanted[-1]}",
            stacklevel=2,
        )
        pred = pred.resize(wanted[-1])
    return {
        "psnr": psnr(pred.rgb, truth.rgb),
        "ssim": ssim(pred.rgb, truth.rgb),
        "hull_iou": hull_iou(pred),
        "hull_iou_truth": hull_iou(truth),
    }


def evaluate_mesh(
    pred: trimesh.Trimesh | str | Path,
    truth: trimesh.Trimesh | str | Path,
    *,
    rotate_z: float = 0.0,
    normalise_truth: bool = True,
) -> dict[str, float]:
    """Chamfer distance and volume IoU by the published protocol (see `metrics.geometry`).

    pred: a mesh in the cameras' world, or a file; taken as it is.
    truth: likewise; centred and scaled to largest side 1 unless `normalise_truth` is off.
    rotate_z: degrees by which the truth is turned about z after that.
    """
    pred, truth = _mesh(pred), _mesh(truth)
    if normalise_truth:
        truth = normalise(truth, rotate_z)
    elif rotate_z:
        turn = trimesh.transformations.rotation_matrix(math.radians(rotate_z), [0, 0, 1])
        truth = truth.copy().apply_transform(turn)
    return {"chamfer": chamfer(pred, truth), "iou": volume_iou(pred, truth)}


def evaluate_folder(pred: str | Path, truth: str | Path) -> dict[str, Any]:
    """Figures of every object in `pred` that `truth` has too, paired by folder name.

    Both are either one object's folder or a folder of such. An object's views lie in its
    folder or in its `target/` or `views/`; its mesh, if any, is `mesh.glb` (or .obj, .ply,
    .stl), and meshes are compared where both sides have one.
    Returns {"objects": {name: figures}, "mean": figures, "missing": names without truth}.
    Raises MvdiffError when nothing pairs up.
    """
    pred, truth = Path(pred), Path(truth)
    for folder, which in ((pred, "predictions"), (truth, "truth")):
        if not folder.is_dir():
            raise MvdiffError(f"no folder of {which} at '{folder}'")
    if _has_result(pred) and _has_result(truth):
        pairs, missing = {pred.name: (pred, truth)}, []
    else:
        names = sorted(p.name for p in pred.iterdir() if p.is_dir() and _has_result(p))
        pairs = {n: (pred / n, truth / n) for n in names if _has_result(truth / n)}
        missing = [n for n in names if n not in pairs]
    objects = {name: figures for name, pair in pairs.items() if (figures := _figures(*pair))}
    if not objects:
        raise MvdiffError(
            f"nothing to compare between '{pred}' and '{truth}': expected subfolders of the same "
            "names with views (transforms.json or meta.pkl) or meshes (mesh.glb)"
        )
    return {"objects": objects, "mean": mean(objects.values()), "missing": missing}


def mean(figures: Iterable[dict[str, float]]) -> dict[str, float]:
    """The mean of each figure over the objects that have it."""
    figures = list(figures)
    out = {}
    for key in COLUMNS:
        values = [f[key] for f in figures if key in f]
        if values:
            out[key] = sum(values) / len(values)
    return out


def table(figures: dict[str, Any]) -> Table:
    """The result of `evaluate_folder` as a table to print with rich."""
    from rich.table import Table

    keys = [key for key in COLUMNS if key in figures["mean"]]
    out = Table(box=None, header_style="bold")
    out.add_column("object")
    for key in keys:
        out.add_column(COLUMNS[key][0], justify="right")
    for name, row in figures["objects"].items():
        out.add_row(name, *(_number(key, row) for key in keys))
    count = len(figures["objects"])
    if count > 1:
        out.add_section()
        out.add_row(
            f"mean of {count}", *(_number(key, figures["mean"]) for key in keys), style="bold"
        )
    return out


def _number(key: str, row: dict[str, float]) -> str:
    return COLUMNS[key][1].format(row[key]) if key in row else "-"


def _figures(pred: Path, truth: Path) -> dict[str, float]:
    out: dict[str, float] = {}
    views = _views_folder(pred), _views_folder(truth)
    if all(views):
        out |= evaluate_views(*(Views.load(folder) for folder in views))
    meshes = _mesh_file(pred), _mesh_file(truth)
    if all(meshes):
        out |= evaluate_mesh(*meshes)
    return out


def _has_result(folder: Path) -> bool:
    return bool(_views_folder(folder) or _mesh_file(folder))


def _views_folder(folder: Path) -> Path | None:
    for place in (folder, folder / "target", folder / "views", folder / "sample-0"):
        if (place / "transforms.json").is_file() or (place / "meta.pkl").is_file():
            return place
    return None


def _mesh_file(folder: Path) -> Path | None:
    return next((folder / name for name in _MESHES if (folder / name).is_file()), None)


def _mesh(mesh: trimesh.Trimesh | str | Path) -> trimesh.Trimesh:
    return Mesh.load(mesh).to_trimesh() if isinstance(mesh, str | Path) else mesh
