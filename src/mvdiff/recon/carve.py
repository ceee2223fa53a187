"""Carving: silhouettes and their cameras → a field over space, positive inside the visual hull.

The field is a distance to the silhouette's edge, not a yes or no, so that its zero level is
smooth between the points of the grid.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import trimesh
from jaxtyping import Float, Int
from torch import Tensor

from ..cameras.camera import Cameras
from ..errors import MvdiffError
from ..rendering import Raycaster
from .silhouettes import CUTOFF

_CHUNK = 1 << 18


@dataclass(frozen=True)
class VoxelGrid:
    """A field sampled at the points `low + step * (x, y, z)` of a box.

    field: positive inside, in picture widths; axes z, y, x.
    low: the first point, world units.
    step: distance of neighbouring points, world units.
    """

    field: Float[Tensor, "depth height width"]
    low: Float[Tensor, "3"]
    step: float

    @property
    def high(self) -> Float[Tensor, "3"]:
        """The last point, world units."""
        return self.low + self.step * (self.low.new_tensor(self.field.shape[::-1]) - 1)

    def sample(self, points: Float[Tensor, "point 3"]) -> Float[Tensor, "point"]:
        """The field at world points, interpolated; -`CUTOFF` beyond the grid."""
        at = (points.to(self.low) - self.low) / (self.high - self.low) * 2 - 1
        values = torch.nn.functional.grid_sample(
            self.field[None, None], at[None, None, None], align_corners=True
        ).reshape(-1)
        return torch.where((at.abs() <= 1).all(dim=-1), values, -CUTOFF)

    def surface(self) -> tuple[Float[np.ndarray, "vertex 3"], Int[np.ndarray, "face 3"]]:
        """The zero level as a closed triangle mesh, faces outward; empty when nothing is inside."""
        from skimage.measure import marching_cubes

        field = np.pad(self.field.numpy(), 1, constant_values=-CUTOFF)
        if not (field > 0).any():
            return np.zeros((0, 3), np.float32), np.zeros((0, 3), np.int64)
        vertices, faces, _, _ = marching_cubes(field, 0.0, gradient_direction="descent")
        vertices = (vertices[:, ::-1] - 1) * self.step + self.low.numpy()
        return vertices.astype(np.float32), faces.astype(np.int64)


def agreement(
    cameras: Cameras,
    edges: Float[Tensor, "view 1 height width"],
    points: Float[Tensor, "point 3"],
    *,
    tolerance: int = 0,
    margin: float = CUTOFF,
) -> Float[Tensor, "point"]:
    """How far inside the silhouettes each point lies, in picture widths.

    That is the smallest distance over the views, or, with `tolerance` k, the smallest after
    the k most dissenting views are left out.
    edges: from `silhouettes.edge_distance`.
    margin: values below `-margin` need not be exact (they are upper bounds), which spares
        most of the work.
    Beside a picture counts what its border shows, so that an object cut off by the border
    goes on behind it. Points behind a camera are outside.
    """
    worst = points.new_full((tolerance + 1, len(points)), CUTOFF)
    alive = torch.arange(len(points))
    size = points.new_tensor([cameras.width, cameras.height])
    for i in range(len(cameras)):
        uv, depth = cameras[i].project(points[alive])
        grid = uv[0] / size * 2 - 1
        value = torch.nn.functional.grid_sample(
            edges[i][None], grid[None, None], padding_mode="border", align_corners=False
        ).reshape(-1)
        value = torch.where(depth[0] > 0, value, -CUTOFF)
        # Insert the new value into the sorted list of the smallest ones.
        for rank in range(tolerance + 1):
            held = worst[rank, alive]
            worst[rank, alive] = torch.minimum(held, value)
            value = torch.maximum(held, value)
        alive = alive[worst[tolerance, alive] > -margin]
        if not len(alive):
            break
    return worst[tolerance]


def carve(
    cameras: Cameras,
    edges: Float[Tensor, "view 1 height width"],
    *,
    resolution: int,
    bound: float | None = None,
    tolerance: int = 0,
    tick: Callable[[float], None] | None = None,
) -> VoxelGrid:
    """The visual hull as a field, on a grid that fits it tightly.

    edges: from `silhouettes.edge_distance`.
    resolution: grid points along the longest side of the hull's box.
    bound: half side of the cube around the origin that is searched, world units; default
        what the narrowest camera shows at the origin's depth.
    tick: called with the share of the work done.
    The field's outermost layer is negative, so that a surface taken from it is closed.
    """
    cameras = cameras.to("cpu", torch.float32)
    bound = visible_bound(cameras) if bound is None else bound
    low, high = torch.full((3,), -bound), torch.full((3,), bound)
    for _ in range(2):
        low, high = _shrink(cameras, edges, low, high, tolerance, _widths_per_unit(cameras, bound))
    step = float((high - low).amax()) / (resolution - 1)
    shape = [int(n) for n in ((high - low) / step).ceil() + 1]
    margin = min(CUTOFF * 0.99, 3 * step * _widths_per_unit(cameras, bound))
    field = _fill(cameras, edges, low, step, tuple(shape), tolerance, margin, tick)
    for axis in range(3):
        for end in (0, -1):
            field.select(axis, end).clamp_(max=-1e-4)
    return VoxelGrid(field, low, step)


def _shrink(
    cameras: Cameras, edges: Tensor, low: Tensor, high: Tensor, tolerance: int, scale: float
) -> tuple[Float[Tensor, "3"], Float[Tensor, "3"]]:
    """The part of a box that can hold the hull, found on a coarse grid."""
    step = float((high - low).amax()) / 47
    shape = tuple(int(n) for n in ((high - low) / step).ceil() + 1)
    field = _fill(cameras, edges, low, step, shape, tolerance)
    # The hull is nowhere farther from a grid point than this many picture widths.
    reach = min(CUTOFF * 0.99, 0.87 * step * scale)
    near = (field > -reach).nonzero().flip(-1)
    if not len(near):
        return low, high
    return (
        torch.maximum(low, low + step * (near.amin(0) - 1)),
        torch.minimum(high, low + step * (near.amax(0) + 1)),
    )


def dissent(
    cameras: Cameras, edges: Float[Tensor, "view 1 height width"], bound: float | None = None
) -> list[int]:
    """The views that shut out the point on which most views agree."""
    cameras = cameras.to("cpu", torch.float32)
    bound = visible_bound(cameras) if bound is None else bound
    points = _points(torch.full((3,), -bound), 2 * bound / 47, (48, 48, 48), slice(None))
    outside = torch.stack(
        [agreement(cameras[i], edges[i : i + 1], points) <= 0 for i in range(len(cameras))]
    )
    best = outside.sum(dim=0).argmin()
    return outside[:, best].nonzero().flatten().tolist()


def seen_silhouettes(grid: VoxelGrid, cameras: Cameras) -> Float[Tensor, "view height width"]:
    """The hull's own silhouettes: the share of each pixel it covers, in quarters."""
    vertices, faces = grid.surface()
    if not len(faces):
        return torch.zeros(len(cameras), cameras.height, cameras.width)
    mesh = trimesh.Trimesh(vertices, faces, process=False)
    return Raycaster(mesh).render(cameras, supersample=2, shading=None).alpha[:, 0] / 255


def visible_bound(cameras: Cameras) -> float:
    """Half the side of the square that every camera shows at the origin's depth, world units."""
    _, depth = cameras.project(torch.zeros(1, 3, dtype=cameras.K.dtype))
    half = cameras.K.new_tensor([cameras.width, cameras.height]) / 2
    focal = torch.stack([cameras.K[:, 0, 0], cameras.K[:, 1, 1]], dim=-1)
    sides = half / focal
    if cameras.projection == "perspective":
        sides = sides * depth
    bound = float(sides.amin())
    if not (math.isfinite(bound) and bound > 0):
        raise MvdiffError(
            "the cameras do not look towards the origin, so the object's place is unknown: "
            "move the scene to the origin or give `bound`"
        )
    return bound


def _widths_per_unit(cameras: Cameras, bound: float) -> float:
    """The largest scale at which any camera shows something within the cube."""
    focal = float(cameras.K[:, :2, :2].abs().amax()) / cameras.width
    if cameras.projection == "orthographic":
        return focal
    near = cameras.project(torch.zeros(1, 3))[1].amin() - bound
    return focal / max(float(near), 1e-2)


def _points(
    low: Tensor, step: float, shape: tuple[int, int, int], slab: slice
) -> Float[Tensor, "point 3"]:
    """Grid points of a slab of z-planes, x fastest; `shape` counts (x, y, z)."""
    x, y, z = (low[i] + step * torch.arange(shape[i]) for i in range(3))
    z, y, x = torch.meshgrid(z[slab], y, x, indexing="ij")
    return torch.stack([x, y, z], dim=-1).reshape(-1, 3)


def _fill(
    cameras: Cameras,
    edges: Tensor,
    low: Tensor,
    step: float,
    shape: tuple[int, int, int],
    tolerance: int,
    margin: float = CUTOFF,
    tick: Callable[[float], None] | None = None,
) -> Float[Tensor, "depth height width"]:
    field = torch.empty(shape[::-1])
    thick = max(1, _CHUNK // (shape[0] * shape[1]))
    for start in range(0, shape[2], thick):
        slab = slice(start, start + thick)
        points = _points(low, step, shape, slab)
        values = agreement(cameras, edges, points, tolerance=tolerance, margin=margin)
        field[slab] = values.reshape(-1, shape[1], shape[0])
        if tick is not None:
            tick(min(1.0, (start + thick) / shape[2]))
    return field
