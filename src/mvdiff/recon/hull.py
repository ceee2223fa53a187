"""The visual hull: the largest shape whose silhouettes lie inside all the views' masks.

Laurentini, "The Visual Hull Concept for Silhouette-Based Image Understanding", 1994.
Hollows that no silhouette shows (the inside of a bowl) stay filled.
"""

from __future__ import annotations

import math

import numpy as np
import torch
import trimesh
from jaxtyping import Float
from torch import Tensor

from ..cameras.camera import Cameras
from ..errors import MvdiffError
from ..views import Views
from .base import RECONSTRUCTORS, Progress
from .carve import VoxelGrid, carve, dissent, seen_silhouettes
from .color import vertex_colors
from .mesh import Mesh
from .silhouettes import CUTOFF, edge_distance, object_mask, overlap
from .trim import needed_heights


@RECONSTRUCTORS.register("hull")
class Hull:
    """Smooth coloured visual hull; closed (watertight), in the cameras' world.

    resolution: grid points along the object's longest side.
    faces: triangles kept by simplification.
    tolerance: how many views may miss a point without carving it away; None picks the number,
        up to a fifth of the views, whose hull agrees best with the silhouettes.
    smoothing: standard deviation, in grid steps, of the blur of the field before the surface
        is taken.
    bound: half side of the cube around the origin that is searched, world units; default
        what the cameras show at the origin's depth.
    pieces: loose parts smaller than this share of the largest one are dropped.
    power: how strongly a vertex prefers the colours of views that face it.
    trim: cut off what lies below or above the heights the silhouettes need: cameras on a ring
        leave a cone under every flat bottom and on every flat top.
    polish: steps of Taubin's smoothing, which evens ripples and keeps the volume.
    """

    def __init__(
        self,
        resolution: int = 128,
        faces: int = 40_000,
        tolerance: int | None = None,
        smoothing: float = 0.5,
        bound: float | None = None,
        pieces: float = 0.02,
        power: float = 6.0,
        trim: bool = True,
        polish: int = 10,
    ) -> None:
        _check(resolution >= 8, "resolution", resolution, "at least 8")
        _check(faces >= 4, "faces", faces, "at least 4")
        _check(tolerance is None or tolerance >= 0, "tolerance", tolerance, "at least 0, or none")
        _check(0 <= smoothing < math.inf, "smoothing", smoothing, "at least 0")
        _check(bound is None or 0 < bound < math.inf, "bound", bound, "positive, or none")
        _check(0 <= pieces <= 1, "pieces", pieces, "within [0, 1]")
        _check(polish >= 0, "polish", polish, "at least 0")
        _check(0 <= power < math.inf, "power", power, "at least 0")
        self.resolution, self.faces, self.tolerance = resolution, faces, tolerance
        self.trim, self.polish = trim, polish
        self.smoothing, self.bound, self.pieces, self.power = smoothing, bound, pieces, power

    def __call__(self, views: Views, *, progress: Progress | None = None) -> Mesh:
        """Two or more views → mesh.

        Raises MvdiffError for fewer views, for views without an object or without a
        background, and when the silhouettes have no point in common.
        """
        if self.tolerance is not None and self.tolerance > max(0, len(views) - 2):
            raise MvdiffError(
                f"hull: tolerance must leave at least 2 of the {len(views)} views, "
                f"got {self.tolerance}"
            )
        report = progress or (lambda stage, fraction: None)
        report("silhouettes", 0.0)
        mask = _checked_mask(views)
        edges = edge_distance(mask)
        tolerance = self.tolerance
        if tolerance is None:
            tolerance = _best_tolerance(views.cameras, edges, mask, self.bound)
        report("carving", 0.1)
        grid = carve(
            views.cameras,
            edges,
            resolution=self.resolution,
            bound=self.bound,
            tolerance=tolerance,
            tick=lambda done: report("carving", 0.1 + 0.5 * done),
        )
        if not (grid.field > 0).any():
            outside = dissent(views.cameras, edges, self.bound)
            raise MvdiffError(
                "the silhouettes have no point in common: where most views agree, views "
                f"{outside} show background; check their cameras, or raise tolerance to "
                f"{len(outside)}"
            )
        report("surface", 0.6)
        vertices, faces = self._finish(grid, views.cameras).surface()
        mesh = Mesh(vertices, faces, np.zeros(vertices.shape, np.uint8)).simplify(self.faces)
        shape = mesh.to_trimesh()
        if self.polish:
            trimesh.smoothing.filter_taubin(shape, lamb=0.5, nu=0.53, iterations=self.polish)
        report("colours", 0.8)
        colors = vertex_colors(views, shape, edges, power=self.power)
        report("done", 1.0)
        return Mesh(np.array(shape.vertices, np.float32), mesh.faces, colors)

    def _finish(self, grid: VoxelGrid, cameras: Cameras) -> VoxelGrid:
        """Cut off bottom and top, drop loose parts, smooth."""
        from scipy import ndimage

        field = grid.field.numpy()
        if self.trim:
            height = grid.low[2].item() + grid.step * np.arange(len(field), dtype=np.float32)
            low, high = needed_heights(grid, cameras)
            within = np.minimum(height - low, high - height) * CUTOFF / (4 * grid.step)
            field = np.minimum(field, within.clip(-CUTOFF, CUTOFF)[:, None, None])
        field = _drop_pieces(field, self.pieces)
        if self.smoothing:
            field = ndimage.gaussian_filter(field, self.smoothing)
        if not (field > 0).any():
            raise MvdiffError(
                "the hull is thinner than the grid: raise resolution or lower smoothing"
            )
        return VoxelGrid(torch.from_numpy(field), grid.low, grid.step)


def _check(holds: bool, name: str, value: object, wanted: str) -> None:
    if not holds:
        raise MvdiffError(f"hull: {name} must be {wanted}, got {value}")


def _checked_mask(views: Views) -> Float[Tensor, "view 1 height width"]:
    if len(views) < 2:
        raise MvdiffError(
            f"a hull needs at least 2 views from different directions, got {len(views)}"
        )
    mask = object_mask(views)
    solid = mask[:, 0] > 0.5
    empty = (~solid.flatten(1).any(dim=1)).nonzero().flatten().tolist()
    if empty:
        why = "their pixels are all near white" if views.alpha is None else "their alpha is clear"
        raise MvdiffError(f"views {empty} show no object ({why}): leave them out or make them anew")
    if solid.all():
        raise MvdiffError(
            "no view shows any background, so there is no silhouette: give pictures with alpha "
            "or on white"
        )
    return mask


def _best_tolerance(cameras: Cameras, edges: Tensor, mask: Tensor, bound: float | None) -> int:
    """The tolerance whose hull, seen by the cameras, overlaps best with the silhouettes.

    On distorted views this overlap ranks tolerances as the distance to the true shape does.
    """
    size = min(64, mask.shape[-1])
    cameras = cameras.resize(size)
    mask = torch.nn.functional.interpolate(mask, size=(size, size), mode="area")[:, 0]

    def score(tolerance: int) -> float:
        grid = carve(cameras, edges, resolution=48, bound=bound, tolerance=tolerance)
        return float(overlap(seen_silhouettes(grid, cameras), mask).mean())

    best, chosen = score(0), 0
    for tolerance in range(1, len(cameras) // 5 + 1):
        value = score(tolerance)
        if value > best:
            best, chosen = value, tolerance
        elif best > 0:
            break
    return chosen


def _drop_pieces(field: np.ndarray, share: float) -> np.ndarray:
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
