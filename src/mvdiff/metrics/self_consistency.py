"""Whether two halves of the views make the same object; no ground truth needed."""

from __future__ import annotations

import math

import torch
import trimesh
from jaxtyping import Float
from torch import Tensor

from ..errors import InputError
from ..rendering import Raycaster
from ..silhouettes.masks import reduced
from ..silhouettes.matting import cut_out
from ..views import Views
from .checks import check_views
from .geometry import depth_points, point_chamfer
from .hull import hull_mesh
from .images import view_psnr

#: Side of the depth maps whose points are compared, pixels.
_DEPTH = 128


def self_consistency(views: Views, *, resolution: int = 48, size: int = 64) -> dict[str, float]:
    """The object made of the even views against the one made of the odd views.

    Each half is reconstructed on its own: its colored visual hull, where one view's veto
    suffices. Views must be in an order in which even and odd ones surround the object alike,
    as on a ring.
    resolution: grid points along a hull's longest side.
    size: larger views are reduced to this side first, so that figures of different sizes
        can be compared.
    Returns
        self_chamfer: of the surfaces that all the views' cameras see, world units: the mean of
            both directed mean nearest distances, not squared; lower is better. NaN when a half
            has no hull.
        self_psnr: each half's object rendered for the other half's cameras against the views
            there, both on white, dB, the mean over views; higher is better. A half without a
            hull renders as white.
    Compare with the truth's own figures: the hull of half of the views is larger than the
    object. Smooth shapes have a smaller self_chamfer than jagged ones, so below the truth's it
    means nothing; it cannot see colors, nor exchanged views of a body of revolution. Of 4 views
    (2 a half) neither figure notices small defects; of 8 both do.
    Raises InputError for fewer than 4 views.
    """
    check_views(views)
    if len(views) < 4:
        raise InputError(
            f"self-consistency needs at least 4 views, two for each half; got {len(views)}"
        )
    views = reduced(cut_out(views), size)
    halves = views[0::2], views[1::2]
    meshes = [hull_mesh(half, resolution, colored=True) for half in halves]
    scores = [view_psnr(_seen(meshes[1 - i], half), half.rgb) for i, half in enumerate(halves)]
    return {"self_chamfer": _chamfer(meshes, views), "self_psnr": float(torch.cat(scores).mean())}


def _seen(mesh: trimesh.Trimesh | None, views: Views) -> Float[Tensor, "view 3 height width"]:
    """The mesh on white as the views' cameras see it."""
    if mesh is None:
        return torch.ones_like(views.rgb)
    cameras = views.cameras
    return Raycaster(mesh).render(cameras, supersample=2, shading=None).views(cameras).rgb


def _chamfer(meshes: list[trimesh.Trimesh | None], views: Views) -> float:
    if None in meshes:
        return math.nan
    cameras = views.cameras.to("cpu", torch.float32).resize(_DEPTH)
    clouds = [
        depth_points(Raycaster(mesh).render(cameras, shading=None).depth, cameras)
        for mesh in meshes
    ]
    return point_chamfer(*clouds)
