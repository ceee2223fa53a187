"""What every reconstructor asks of its views, said in one sentence each."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from ..cameras.camera import Cameras
from ..errors import ConfigError, ReconstructionError
from ..silhouettes.matting import cut_out
from ..silhouettes.scene_bounds import move_cameras_back, scene_cube
from ..silhouettes.visual_hull import silhouette_distance
from ..views import Views

#: Cameras closer than this in direction and place, relative to their distance, are the same.
_SAME = 1e-3


def check_setting(owner: str, holds: bool, name: str, value: object, wanted: str) -> None:
    """Raise ConfigError unless a constructor's setting holds."""
    if not holds:
        raise ConfigError(f"{owner}: {name} must be {wanted}, got {value}")


def check_number(
    owner: str, name: str, value: float, least: float = 0.0, most: float = math.inf
) -> None:
    """Raise ConfigError unless `least` ≤ value ≤ `most` and value is finite."""
    wanted = f"at least {least:g}" if most == math.inf else f"within [{least:g}, {most:g}]"
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    holds = number and least <= value <= most and math.isfinite(value)
    check_setting(owner, holds, name, value, wanted)


def validate_views(views: Views) -> Views:
    """The views with alpha, on the CPU, fit to be reconstructed from.

    Orthographic cameras stand back far enough (`scene_bounds.move_cameras_back`).

    Raises ReconstructionError for fewer than 2 views, for cameras that are all the same, for views
    without an object, and when no view shows any background.
    """
    if len(views) < 2:
        raise ReconstructionError(
            f"a reconstruction needs at least 2 views from different directions, got {len(views)}"
        )
    views = Views(views.images, views.alpha, views.cameras.to("cpu", torch.float32))
    if not _differ(views.cameras):
        raise ReconstructionError(
            f"all {len(views)} views have the same camera: a reconstruction needs views from "
            "different directions, mend the poses"
        )
    views = replace(views, cameras=move_cameras_back(views.cameras))
    keyed = views.alpha is None
    views = cut_out(views)
    solid = views.mask[:, 0] > 0.5
    empty = (~solid.flatten(1).any(dim=1)).nonzero().flatten().tolist()
    if empty:
        why = "their pixels are all like the background" if keyed else "their alpha is clear"
        raise ReconstructionError(
            f"views {empty} show no object ({why}): remove them or re-render them"
        )
    if solid.all():
        raise ReconstructionError(
            "no view shows any background, so there is no silhouette: give pictures with alpha "
            "or on a plain background"
        )
    return views


def check_cameras_outside(
    cameras: Cameras,
    edges: Float[Tensor, "view 1 fine_height fine_width"],
    bound: float | None = None,
) -> None:
    """Raise ReconstructionError when cameras stand where all others see the object.

    edges: from `silhouettes.edge_distance`. bound: half side of the cube around the origin
    that may hold the object; default what the other cameras show. Two views alone, and
    orthographic cameras, which have no place along their axis, cannot be judged.
    """
    if cameras.projection == "orthographic" or len(cameras) < 3:
        return
    wrong = []
    for i, center in enumerate(cameras.centers):
        others = [j for j in range(len(cameras)) if j != i]
        middle, half = scene_cube(cameras[others], bound)
        if not (center - middle).abs().amax() < half:
            continue
        if silhouette_distance(cameras[others], edges[others], center[None]) > 0:
            wrong.append(i)
    if wrong:
        raise ReconstructionError(
            f"cameras {wrong} stand inside the object: move them away, or check the poses' units "
            "and that they are world-to-camera"
        )


def _differ(cameras: Cameras) -> bool:
    """Whether any two cameras stand or look differently."""
    moved = (cameras.t - cameras.t[:1]).norm(dim=-1) / cameras.t.norm(dim=-1).mean().clamp(min=1e-6)
    turned = (cameras.R - cameras.R[:1]).flatten(1).norm(dim=-1)
    return bool((moved + turned > _SAME).any())
