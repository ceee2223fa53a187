"""What reconstructors share: from views to the carved hull, from a surface to the mesh."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import trimesh
from jaxtyping import Float
from torch import Tensor

from ..cameras.camera import Cameras
from ..errors import MvdiffError
from ..mesh.mesh import Mesh
from ..silhouettes.masks import CUTOFF, edge_distance, overlap
from ..silhouettes.vertex_colors import vertex_colors
from ..silhouettes.visual_hull import VoxelGrid, carve, dissenting_views, render_silhouettes
from ..utils.callbacks import ProgressCallback
from ..views import Views
from .height_bounds import supported_height_range
from .validation import check_cameras_outside, check_number, check_setting, validate_views


@dataclass(frozen=True)
class Carving:
    """How the hull is carved; the settings every reconstructor that starts from it has.

    resolution: grid points along the object's longest side.
    tolerance: how many views may miss a point without carving it away; None picks the number,
        up to a fifth of the views, whose hull agrees best with the silhouettes.
    smoothing: standard deviation, in grid steps, of the blur of the field before the surface
        is taken.
    bound: half side of the cube around the origin that is searched, world units; default
        what the cameras show at the origin's depth.
    pieces: loose parts smaller than this share of the largest one are dropped.
    trim: cut off what lies below or above the heights the silhouettes need.
    """

    resolution: int
    tolerance: int | None
    smoothing: float
    bound: float | None
    pieces: float
    trim: bool

    def check(self, owner: str) -> None:
        """Raise MvdiffError, in the name of `owner`, for settings out of range."""
        check_number(owner, "resolution", self.resolution, 8)
        wanted = "a whole number of views from 0, or null for the best"
        counted = self.tolerance is None or is_whole(self.tolerance, 0)
        check_setting(owner, counted, "tolerance", self.tolerance, wanted)
        check_number(owner, "smoothing", self.smoothing)
        given = self.bound is None or 0 < self.bound < float("inf")
        check_setting(owner, given, "bound", self.bound, "positive, or none")
        check_number(owner, "pieces", self.pieces, 0, 1)


def is_whole(value: object, least: int) -> bool:
    """Whether a setting is a whole number, and none below `least`."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


@dataclass(frozen=True)
class CarvedHull:
    """The visual hull with what it was carved from.

    views: with alpha. edges: signed distances to their silhouettes' edges.
    grid: the smoothed field, without loose parts.
    tolerance: the number of views that could be overruled.
    """

    views: Views
    edges: Float[Tensor, "view 1 fine_height fine_width"]
    grid: VoxelGrid
    tolerance: int


def carve_hull(views: Views, carving: Carving, report: ProgressCallback) -> CarvedHull:
    """Two or more views → hull; reports stages as shares of its own work.

    Raises MvdiffError as `validation.validate_views` does, when the silhouettes have no point in
    common, and when a camera stands inside the object.
    """
    if carving.tolerance is not None and carving.tolerance > max(0, len(views) - 2):
        raise MvdiffError(
            f"tolerance must leave at least 2 of the {len(views)} views, got {carving.tolerance}"
        )
    report("silhouettes", 0.0)
    views = validate_views(views)
    mask = views.mask
    edges = edge_distance(mask)
    check_cameras_outside(views.cameras, edges, carving.bound)
    tolerance = carving.tolerance
    if tolerance is None:
        tolerance = _best_tolerance(views.cameras, edges, mask, carving.bound)
    report("carving", 0.15)
    grid = carve(
        views.cameras,
        edges,
        resolution=carving.resolution,
        bound=carving.bound,
        tolerance=tolerance,
        tick=lambda done: report("carving", 0.15 + 0.75 * done),
    )
    if not (grid.field > 0).any():
        outside = dissenting_views(views.cameras, edges, carving.bound)
        raise MvdiffError(
            "the silhouettes have no point in common: where most views agree, views "
            f"{outside} show background; check their cameras, or raise tolerance to "
            f"{len(outside)}"
        )
    grid = _finish(grid, views.cameras, carving)
    report("carving", 1.0)
    return CarvedHull(views, edges, grid, tolerance)


def finish_mesh(
    surface: tuple[np.ndarray, np.ndarray],
    views: Views,
    edges: Float[Tensor, "view 1 fine_height fine_width"],
    *,
    faces: int,
    polish: int,
    power: float,
    trust: Float[Tensor, "view"] | None = None,
    tick: Callable[[], None] | None = None,
) -> Mesh:
    """A raw surface simplified, smoothed and coloured from the views.

    surface: vertices (vertex, 3) in the world and faces (face, 3).
    polish: steps of Taubin's smoothing, which evens ripples and keeps the volume.
    power, trust: see `color.vertex_colors`. tick: called before the colours.
    """
    vertices, triangles = surface
    mesh = Mesh(vertices, triangles, np.zeros(vertices.shape, np.uint8)).simplify(faces)
    shape = mesh.to_trimesh()
    if polish:
        trimesh.smoothing.filter_taubin(shape, lamb=0.5, nu=0.53, iterations=polish)
    if tick is not None:
        tick()
    colors = vertex_colors(views, shape, edges, power=power, trust=trust)
    return Mesh(np.array(shape.vertices, np.float32), mesh.faces, colors)


def drop_pieces(
    field: Float[np.ndarray, "depth height width"], share: float
) -> Float[np.ndarray, "depth height width"]:
    """The field with parts smaller than `share` of the largest one made outside."""
    from scipy import ndimage

    labels, count = ndimage.label(field > 0)
    if count < 2 or share == 0:
        return field
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    small = sizes < share * sizes.max()
    small[0] = False
    return np.where(small[labels], -np.abs(field), field)


def _finish(grid: VoxelGrid, cameras: Cameras, carving: Carving) -> VoxelGrid:
    """Cut off bottom and top, drop loose parts, smooth."""
    from scipy import ndimage

    field = grid.field.numpy()
    if carving.trim:
        height = grid.low[2].item() + grid.step * np.arange(len(field), dtype=np.float32)
        low, high = supported_height_range(grid, cameras)
        within = np.minimum(height - low, high - height) * CUTOFF / (4 * grid.step)
        field = np.minimum(field, within.clip(-CUTOFF, CUTOFF)[:, None, None])
    field = drop_pieces(field, carving.pieces)
    if carving.smoothing:
        field = ndimage.gaussian_filter(field, carving.smoothing)
    if not (field > 0).any():
        raise MvdiffError("the hull is thinner than the grid: raise resolution or lower smoothing")
    return VoxelGrid(torch.from_numpy(field), grid.low, grid.step)


def _best_tolerance(cameras: Cameras, edges: Tensor, mask: Tensor, bound: float | None) -> int:
    """The tolerance whose hull, seen by the cameras, overlaps best with the silhouettes.

    On distorted views this overlap ranks tolerances as the distance to the true shape does.
    """
    size = min(64, mask.shape[-1])
    cameras = cameras.resize(size)
    mask = torch.nn.functional.interpolate(mask, size=(size, size), mode="area")[:, 0]

    def score(tolerance: int) -> float:
        grid = carve(cameras, edges, resolution=48, bound=bound, tolerance=tolerance)
        return float(overlap(render_silhouettes(grid, cameras), mask).mean())

    best, chosen = score(0), 0
    for tolerance in range(1, len(cameras) // 5 + 1):
        value = score(tolerance)
        if value > best:
            best, chosen = value, tolerance
        elif best > 0:
            break
    return chosen
