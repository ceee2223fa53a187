"""How far the views' silhouettes can all belong to one object; no ground truth needed."""

from __future__ import annotations

import torch

from ..errors import InputError
from ..silhouettes.masks import edge_distance, overlap
from ..silhouettes.matting import object_mask
from ..silhouettes.visual_hull import carve, render_silhouettes
from ..views import Views
from .checks import check_views


def hull_iou(views: Views, *, resolution: int = 64, size: int = 64) -> float:
    """How far the silhouettes can all belong to one object, in [0, 1]; higher is better.

    The visual hull of all masks is carved (no tolerance: one view's veto suffices), its
    silhouettes are rendered for the views' cameras, and their intersection over union with
    the soft masks is averaged over the views. The hull lies inside every mask, so what is
    missing is what some other view denies. Views of a real object reach about 0.98 (the
    rest is the grid).
    resolution: grid points along the hull's longest side.
    size: larger views are reduced to this side first, so that figures of different sizes
        can be compared.
    Views that show no object count 0. Colors do not matter. Raises InputError for fewer
    than 2 views.
    """
    check_views(views)
    if len(views) < 2:
        raise InputError(f"agreement needs at least 2 views, got {len(views)}")
    mask, cameras = object_mask(views), views.cameras.to("cpu", torch.float32)
    if mask.shape[-1] > size:
        mask = torch.nn.functional.interpolate(mask, size=(size, size), mode="area")
        cameras = cameras.resize(size)
    if not (mask > 0.5).any():
        return 0.0
    grid = carve(cameras, edge_distance(mask), resolution=resolution)
    agreed = overlap(render_silhouettes(grid, cameras), mask[:, 0])
    # an empty view denies everything the others show: it must not count as agreement
    shown = (mask[:, 0] > 0.5).flatten(1).any(dim=1)
    return float(torch.where(shown, agreed, 0.0).mean())
