"""SyncDreamer's published protocols (arXiv 2309.03453): views against views, mesh against mesh.

Nothing is aligned, scaled or resized unless a setting says so.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import trimesh
from jaxtyping import Float
from torch import Tensor

from ..cameras import Cameras, ring
from ..errors import InputError, MvdiffError
from ..mesh.io import read
from ..mesh.mesh import Mesh
from ..metrics import Lpips, hull_iou, volume_iou
from ..metrics.checks import check_views
from ..metrics.geometry import (
    chamfer_floor,
    merge,
    normalize_to_unit_box,
    point_chamfer,
    published_depths,
    unproject_depths,
)
from ..views import Views
from .scores import consistency_scores, measured, picture_scores

#: Largest sides that differ by more than this factor are taken for different units.
_UNITS = 1.5


def evaluate_views(
    pred: Views,
    truth: Views,
    *,
    resize: bool = False,
    lpips: Lpips | None = None,
    consistency: bool = False,
) -> dict[str, float]:
    """PSNR, SSIM and LPIPS of `pred` on white, its hull IoU, and the truth's as the ceiling.

    View i is compared with view i; figures are means over views. The keys that end in
    `_without_0` leave out view 0, which lies nearest to the input.
    resize: bring a prediction of another size to the truth's. The figures are then not
        comparable with published ones.
    consistency: also what `consistency_scores` gives of `pred`, where it can be measured.
    Raises InputError when numbers of views or sizes differ; warns when cameras do.
    """
    check_views(pred, "the prediction")
    check_views(truth, "the truth")
    if len(pred) != len(truth):
        raise InputError(
            f"view i is compared with view i, but there are {len(pred)} predicted and "
            f"{len(truth)} true views"
        )
    pred = _of_size(pred, truth.images.shape[-2:], resize)
    _warn_of_cameras(pred.cameras, truth.cameras)
    out: dict[str, float] = {}
    for key, score in picture_scores(pred.rgb, truth.rgb, lpips).items():
        out[key] = float(score.mean())
        if len(score) > 1:
            out[f"{key}_without_0"] = float(score[1:].mean())
    if len(pred) > 1:
        out["hull_iou"], out["hull_iou_truth"] = hull_iou(pred), hull_iou(truth)
    if consistency:
        out |= measured(consistency_scores(pred))
    return out


def evaluate_mesh(
    pred: trimesh.Trimesh | str | Path,
    truth: trimesh.Trimesh | str | Path,
    *,
    rotate_z: float = 0.0,
    normalize_reference: bool = False,
    depth: Float[Tensor, "16 256 256"] | None = None,
    iou: bool = True,
    left_out: Callable[[str], None] | None = None,
) -> dict[str, float]:
    """Chamfer distance and volume IoU by the published protocol (see `metrics.geometry`).

    pred: a mesh in the cameras' world, or a file; taken as it is.
    truth: likewise.
    normalize_truth: center the truth's box and scale its largest side to 1, as published.
    rotate_z: degrees by which the truth is turned about z after that, counter-clockwise seen
        from above.
    depth: the truth's depth maps in the published cameras (0 = nothing). The published
        protocol takes the true surface from them, untouched by the two settings above.
    iou: also the IoU, which needs mesh2sdf.
    left_out: called with a sentence where the IoU was asked for and cannot be measured (a mesh
        leaves [-1, 1]³ or encloses nothing, mesh2sdf is missing); default a warning.
    Returns chamfer, chamfer_floor (what a perfect surface typically gets) and, where it can be
    measured, iou.
    Raises InputError on empty meshes, on NaN, and when the published cameras see nothing.
    """
    pred, truth = _mesh(pred, "predicted"), _mesh(truth, "true")
    if normalize_reference:
        truth = normalize_to_unit_box(truth, rotate_z)
    elif rotate_z:
        turn = trimesh.transformations.rotation_matrix(math.radians(rotate_z), [0, 0, 1])
        truth = truth.copy().apply_transform(turn)
    sides = float(pred.extents.max()), float(truth.extents.max())
    if not 1 / _UNITS < sides[0] / max(sides[1], 1e-12) < _UNITS:
        warnings.warn(
            f"the predicted mesh is {sides[0]:.3g} large, the true one {sides[1]:.3g}: if their "
            "units differ, normalize_reference=true scales the truth to 1, as published",
            stacklevel=2,
        )
    trouble = _iou_trouble(pred, truth) if iou else None
    true_depth, cameras = published_depths(truth) if depth is None else (depth, ring(size=256))
    points = unproject_depths(true_depth, cameras)
    out = {
        "chamfer": point_chamfer(merge(unproject_depths(*published_depths(pred))), merge(points)),
        "chamfer_floor": chamfer_floor(points),
    }
    if iou and trouble is None:
        try:
            out["iou"] = volume_iou(pred, truth)
        except MvdiffError as error:
            trouble = str(error)
    if trouble is not None and left_out is not None:
        left_out(trouble)
    elif trouble is not None:
        warnings.warn(f"the IoU was left out: {trouble}", stacklevel=2)
    return out


def _iou_trouble(pred: trimesh.Trimesh, truth: trimesh.Trimesh) -> str | None:
    """Why the IoU cannot be measured, as far as that can be seen without measuring."""
    for mesh, which, cure in (
        (pred, "predicted", "scale it to size 1 around the origin"),
        (truth, "true", "normalize_reference=true scales it"),
    ):
        reach = float(np.abs(mesh.bounds).max())
        if reach > 1:
            return (
                f"the {which} mesh reaches {reach:.4g}, beyond [-1, 1]³, where the IoU is "
                f"measured: {cure}, or say iou=false"
            )
    return None


def _of_size(pred: Views, wanted: torch.Size, resize: bool) -> Views:
    have = pred.images.shape[-2:]
    if have == wanted:
        return pred
    shown = f"{have[1]}×{have[0]}", f"{wanted[1]}×{wanted[0]}"
    if not resize:
        raise InputError(
            f"predicted views of {shown[0]} cannot be compared with true ones of {shown[1]}: make "
            "them of one size, or say resize=true"
        )
    if wanted[0] != wanted[1]:
        raise InputError(f"cannot bring views of {shown[0]} to {shown[1]}: not square")
    warnings.warn(
        f"predicted views of {shown[0]} were resized to the truth's {shown[1]}", stacklevel=3
    )
    return pred.resize(wanted[-1])


def _warn_of_cameras(pred: Cameras, truth: Cameras) -> None:
    """Warn where view i was taken from elsewhere, turned, or with another lens."""
    a, b = pred.to(torch.float64), truth.to(torch.float64)
    far = (a.centers - b.centers).norm(dim=-1) / b.centers.norm(dim=-1).clamp(min=1e-9)
    turned = (a.R - b.R).flatten(1).norm(dim=-1)
    lens = (a.K[:, 0, 0] / b.K[:, 0, 0] - 1).abs()
    other = (torch.stack([far, turned, lens]).amax(dim=0) > 0.01).nonzero().flatten().tolist()
    if other or pred.projection != truth.projection:
        where = "all views" if len(other) in (0, len(pred)) else f"views {other}"
        warnings.warn(
            f"the cameras of {where} differ between prediction and truth: the figures compare "
            "pictures of different views",
            stacklevel=3,
        )


def _mesh(mesh: trimesh.Trimesh | str | Path, which: str) -> trimesh.Trimesh:
    """A mesh to measure, from itself or a file; InputError unless it has finite triangles."""
    if isinstance(mesh, str | Path):
        try:
            mesh = Mesh.from_trimesh(read(mesh, load_textures=False))
        except MvdiffError as error:
            raise InputError(f"the {which} mesh cannot be used: {error}") from error
    if isinstance(mesh, trimesh.Scene):
        mesh = Mesh.from_trimesh(mesh)
    if isinstance(mesh, Mesh):
        mesh = mesh.to_trimesh(textured=False)
    if not isinstance(mesh, trimesh.Trimesh):
        raise InputError(
            f"the {which} mesh must be a file or a trimesh.Trimesh, got {type(mesh).__name__}"
        )
    if not len(mesh.faces):
        raise InputError(f"the {which} mesh has no faces: expected at least one triangle")
    if not np.isfinite(mesh.vertices).all():
        raise InputError(f"the {which} mesh has NaN or infinite vertices: nothing to compare")
    return mesh
