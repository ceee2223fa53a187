"""Carving: silhouettes and their cameras → a field over space, positive inside the visual hull.

The field is a distance to the silhouette's edge, not a yes or no, so that its zero level is
smooth between the points of the grid.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import trimesh
from jaxtyping import Float, Int
from torch import Tensor

from ..cameras.camera import Cameras
from ..rendering import Raycaster
from .masks import CUTOFF
from .scene_bounds import scene_cube

_CHUNK = 1 << 18
#: A hull that reaches the end of the searched cube is looked for in one so much larger; so many
#: cubes are searched at most.
_GROWTH, _TRIES = 1.5, 4


@dataclass(frozen=True)
class SignedField:
    """A field sampled at the points `low + step * (x, y, z)` of a box.

    field: positive inside, in picture widths; axes z, y, x.
    low: the first point, world units.
    step: distance of neighboring points, world units.
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


def silhouette_distance(
    cameras: Cameras,
    edges: Float[Tensor, "view 1 height width"],
    points: Float[Tensor, "point 3"],
    *,
    max_outlier_views: int = 0,
    margin: float = CUTOFF,
) -> Float[Tensor, "point"]:
    """How far inside the silhouettes each point lies, in picture widths.

    That is the smallest distance over the views, or, with `max_outlier_views` k, the smallest after
    the k most dissenting views are left out.
    edges: from `silhouettes.edge_distance`.
    margin: values below `-margin` need not be exact (they are upper bounds), which spares
        most of the work.
    Beside a picture counts what its border shows, so that an object cut off by the border
    goes on behind it. Points behind a camera are outside.
    """
    worst = points.new_full((max_outlier_views + 1, len(points)), CUTOFF)
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
        for rank in range(max_outlier_views + 1):
            held = worst[rank, alive]
            worst[rank, alive] = torch.minimum(held, value)
            value = torch.maximum(held, value)
        alive = alive[worst[max_outlier_views, alive] > -margin]
        if not len(alive):
            break
    return worst[max_outlier_views]


def carve(
    cameras: Cameras,
    edges: Float[Tensor, "view 1 height width"],
    *,
    resolution: int,
    bound: float | None = None,
    max_outlier_views: int = 0,
    tick: Callable[[float], None] | None = None,
) -> SignedField:
    """The visual hull as a field, on a grid that fits it tightly.

    edges: from `silhouettes.edge_distance`.
    resolution: grid points along the longest side of the hull's box.
    bound: half side of the cube around the origin that is searched, world units; default
        what the cameras see, see `scene_bounds.scene_cube`, and more if the hull is larger.
    tick: called with the share of the work done.
    The field's outermost layer is negative, so that a surface taken from it is closed.
    """
    cameras = cameras.to("cpu", torch.float32)
    low, high, scale = _box(cameras, edges, bound, max_outlier_views)
    step = float((high - low).amax()) / (resolution - 1)
    shape = [int(n) for n in ((high - low) / step).ceil() + 1]
    margin = min(CUTOFF * 0.99, 3 * step * scale)
    field = _fill(cameras, edges, low, step, tuple(shape), max_outlier_views, margin, tick)
    for axis in range(3):
        for end in (0, -1):
            field.select(axis, end).clamp_(max=-1e-4)
    return SignedField(field, low, step)


def _box(
    cameras: Cameras, edges: Tensor, bound: float | None, max_outlier_views: int
) -> tuple[Float[Tensor, "3"], Float[Tensor, "3"], float]:
    """The box that holds the hull, found on coarse grids, and `_widths_per_unit` around it."""
    center, half = scene_cube(cameras, bound)
    for _ in range(_TRIES):
        low, high = center - half, center + half
        scale = _widths_per_unit(cameras, center, half)
        inner = _shrink(cameras, edges, low, high, max_outlier_views, scale)
        whole = bool(((inner[0] > low) & (inner[1] < high)).all())
        if whole or not _may_grow(cameras, edges, bound, center, half):
            break
        half *= _GROWTH
    return *_shrink(cameras, edges, *inner, max_outlier_views, scale), scale


def _may_grow(
    cameras: Cameras, edges: Tensor, bound: float | None, center: Tensor, half: float
) -> bool:
    """Whether a larger cube is worth a look: the pictures end, and no camera would be in it."""
    if bound is not None:
        return False
    # an object that a picture's border cuts off goes on behind it, nobody knows how far
    border = [edges[..., 0, :], edges[..., -1, :], edges[..., :, 0], edges[..., :, -1]]
    if any(bool((side > 0).any()) for side in border):
        return False
    if cameras.projection == "orthographic":  # all of it must be before them
        return 3**0.5 * _GROWTH * half <= float(cameras.project(center[None])[1].amin())
    return _GROWTH * half < float((cameras.centers - center).norm(dim=-1).amin())


def _shrink(
    cameras: Cameras, edges: Tensor, low: Tensor, high: Tensor, max_outlier_views: int, scale: float
) -> tuple[Float[Tensor, "3"], Float[Tensor, "3"]]:
    """The part of a box that can hold the hull, found on a coarse grid."""
    step = float((high - low).amax()) / 47
    shape = tuple(int(n) for n in ((high - low) / step).ceil() + 1)
    field = _fill(cameras, edges, low, step, shape, max_outlier_views)
    # The hull is nowhere farther from a grid point than this many picture widths.
    reach = min(CUTOFF * 0.99, 0.87 * step * scale)
    near = (field > -reach).nonzero().flip(-1)
    if not len(near):
        return low, high
    return (
        torch.maximum(low, low + step * (near.amin(0) - 1)),
        torch.minimum(high, low + step * (near.amax(0) + 1)),
    )


def dissenting_views(
    cameras: Cameras, edges: Float[Tensor, "view 1 height width"], bound: float | None = None
) -> list[int]:
    """The views that shut out the point on which most views agree."""
    cameras = cameras.to("cpu", torch.float32)
    center, half = scene_cube(cameras, bound)
    points = _points(center - half, 2 * half / 47, (48, 48, 48), slice(None))
    outside = torch.stack(
        [
            silhouette_distance(cameras[i], edges[i : i + 1], points) <= 0
            for i in range(len(cameras))
        ]
    )
    best = outside.sum(dim=0).argmin()
    return outside[:, best].nonzero().flatten().tolist()


def render_silhouettes(grid: SignedField, cameras: Cameras) -> Float[Tensor, "view height width"]:
    """The hull's own silhouettes: the share of each pixel it covers, in quarters."""
    vertices, faces = grid.surface()
    if not len(faces):
        return torch.zeros(len(cameras), cameras.height, cameras.width)
    mesh = trimesh.Trimesh(vertices, faces, process=False)
    return Raycaster(mesh).render(cameras, supersample=2, shading=None).alpha[:, 0] / 255


def _widths_per_unit(cameras: Cameras, center: Tensor, half: float) -> float:
    """The largest scale at which any camera shows something within the cube."""
    focal = float(cameras.K[:, :2, :2].abs().amax()) / cameras.width
    if cameras.projection == "orthographic":
        return focal
    near = cameras.project(center[None])[1].amin() - half
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
    max_outlier_views: int,
    margin: float = CUTOFF,
    tick: Callable[[float], None] | None = None,
) -> Float[Tensor, "depth height width"]:
    field = torch.empty(shape[::-1])
    thick = max(1, _CHUNK // (shape[0] * shape[1]))
    for start in range(0, shape[2], thick):
        slab = slice(start, start + thick)
        points = _points(low, step, shape, slab)
        values = silhouette_distance(
            cameras, edges, points, max_outlier_views=max_outlier_views, margin=margin
        )
        field[slab] = values.reshape(-1, shape[1], shape[0])
        if tick is not None:
            tick(min(1.0, (start + thick) / shape[2]))
    return field
