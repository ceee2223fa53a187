"""Which heights the silhouettes need; the rest of a hull is what no camera could deny.

A ring of cameras that look down leaves a cone under every flat bottom and a pyramid on every
flat top. Their rays descend, so a silhouette's pixel stays covered by what is left above a
plane as long as the point where its ray enters the hull lies above it, and by what is left
below a plane as long as the point where its ray leaves the hull lies below it.
"""

from __future__ import annotations

import math

import torch
import trimesh

from ..cameras.camera import Cameras
from ..rendering import Raycaster
from ..silhouettes.visual_hull import SignedField

_SIZE = 128
#: Share of the unneeded height that is kept on top: round tops rise above where they are last
#: seen, flat ones do not.
_KEPT = 0.1


def supported_height_range(grid: SignedField, cameras: Cameras) -> tuple[float, float]:
    """Lowest and highest height (world z) without which some silhouette would shrink.

    Views that disagree need different heights: a quarter of them may be overruled. Unless all
    cameras look down, the whole of the hull is needed.
    """
    cameras = cameras.to("cpu", torch.float32)
    vertices, faces = grid.surface()
    if not len(faces) or not bool((cameras.R[:, 2, 2] < 0).all()):
        return -math.inf, math.inf
    low = _lowest_entry(trimesh.Trimesh(vertices, faces, process=False), cameras)
    high = _highest_exit(grid, cameras)
    return low, high + _KEPT * max(0.0, float(vertices[:, 2].max()) - high)


def _lowest_entry(mesh: trimesh.Trimesh, cameras: Cameras) -> float:
    """Height of the lowest point at which a pixel's ray enters the hull, less half a pixel.

    A view's lowest 0.2 % of pixels do not count.
    """
    cameras = cameras.resize(_SIZE)
    depth = Raycaster(mesh).render(cameras, shading=None).depth
    uv = cameras.pixel_grid().expand(len(cameras), -1, -1, -1)
    heights = cameras.unproject(uv, depth)[..., 2]
    seen = [z[d > 0] for z, d in zip(heights, depth, strict=True) if (d > 0).any()]
    if not seen:
        return -math.inf
    lowest = torch.stack([z.quantile(0.002) for z in seen])
    return float(lowest.quantile(0.25)) - 0.5 * _footprint(cameras)


def _highest_exit(grid: SignedField, cameras: Cameras) -> float:
    """Height of the highest point at which a pixel's ray leaves the hull.

    Found by projecting all inner grid points, so pixels must be larger than grid steps. All
    pixels count, since a tip may be a pixel wide.
    """
    size = min(_SIZE, int(_SIZE * _footprint(cameras.resize(_SIZE)) / (2 * grid.step)))
    cameras = cameras.resize(max(8, size))
    points = grid.low + grid.step * (grid.field > 0).nonzero().flip(-1).float()
    uv, _ = cameras.project(points)
    column, row = uv.floor().long().clamp(0, cameras.width - 1).unbind(dim=-1)
    highest = []
    for pixel in row * cameras.width + column:
        lowest = torch.full((cameras.width**2,), math.inf)
        lowest.scatter_reduce_(0, pixel, points[:, 2], "amin")
        highest.append(lowest[lowest < math.inf].amax())
    return float(torch.stack(highest).quantile(0.75))


def _footprint(cameras: Cameras) -> float:
    """Side of a pixel at the origin's depth, world units."""
    side = 1 / float(cameras.K[:, 1, 1].min())
    if cameras.projection == "orthographic":
        return side
    return side * float(cameras.project(torch.zeros(1, 3))[1].median())
