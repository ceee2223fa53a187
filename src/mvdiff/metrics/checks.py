"""What metrics are given: pictures, views and meshes, or one sentence on what came instead."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import trimesh

from ..errors import InputError
from ..views import Views


def check_comparable(pred: Any, truth: Any) -> None:
    """Raise InputError unless both are pictures of one shape with colors in [0, 1]."""
    for picture, name in ((pred, "the first"), (truth, "the second")):
        _check_pictures(picture, name)
    if pred.shape != truth.shape or pred.ndim != 4:
        raise InputError(
            "pictures to compare must share one shape (view, 3, height, width); got "
            f"{tuple(pred.shape)} and {tuple(truth.shape)}"
        )
    if pred.device != truth.device or pred.dtype != truth.dtype:
        raise InputError(
            f"pictures to compare must share device and type; got {pred.dtype} on {pred.device} "
            f"and {truth.dtype} on {truth.device}"
        )
    if not pred.numel():
        raise InputError(f"the pictures are empty: their shape is {tuple(pred.shape)}")
    for picture in (pred, truth):
        if not torch.isfinite(picture).all():
            raise InputError("the pictures contain NaN or infinite numbers: nothing to compare")
        low, high = float(picture.min()), float(picture.max())
        if low < -1e-3 or high > 1 + 1e-3:
            raise InputError(
                f"colors must lie in [0, 1], got {low:.3g} to {high:.3g}: scale the pictures first"
            )


def _check_pictures(picture: Any, name: str) -> None:
    if not isinstance(picture, torch.Tensor):
        hint = ": torch.from_numpy makes a tensor" if isinstance(picture, np.ndarray) else ""
        raise InputError(
            f"pictures must be float tensors; {name} is of type {type(picture).__name__}{hint}"
        )
    if picture.layout != torch.strided or picture.is_meta:
        what = "a meta tensor without data" if picture.is_meta else f"{picture.layout}"
        raise InputError(f"pictures must be dense tensors; {name} is {what}")
    if not picture.dtype.is_floating_point:
        raise InputError(
            f"pictures must be float tensors with colors in [0, 1]; {name} is {picture.dtype}: "
            "divide 8-bit colors by 255"
        )


def check_views(views: Any, name: str = "views") -> None:
    """Raise InputError unless it is `Views`."""
    if not isinstance(views, Views):
        raise InputError(
            f"{name} must be mvdiff.Views (Views.load reads a folder), got {type(views).__name__}"
        )


def check_mesh(mesh: Any, name: str = "the mesh") -> None:
    """Raise InputError unless it is a trimesh with finite vertices."""
    if not isinstance(mesh, trimesh.Trimesh):
        hint = ": call its to_trimesh()" if hasattr(mesh, "to_trimesh") else ""
        raise InputError(f"{name} must be a trimesh.Trimesh, got {type(mesh).__name__}{hint}")
    if len(mesh.faces) and not np.isfinite(np.asarray(mesh.vertices)).all():
        raise InputError(f"{name} has NaN or infinite vertices: nothing to compare")
