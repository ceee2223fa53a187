"""The photo hull: the visual hull hollowed out where neighboring views agree on it.

A plane sweep (Collins, "A space-sweep approach to true multi-image matching", 1996) finds how
far behind the hull each view sees; the depths vote on every point in front of them, as in
Curless and Levoy, "A volumetric method for building complex models from range images", 1996.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import trimesh
from jaxtyping import Float
from torch import Tensor

from ..mesh.mesh import Mesh
from ..rendering import Raycaster
from ..silhouettes.masks import CUTOFF, overlap, reduced
from ..silhouettes.visual_hull import SignedField, render_silhouettes
from ..utils.callbacks import ProgressCallback
from ..views import Views
from .base import RECONSTRUCTORS
from .hull_steps import (
    HullSettings,
    VisualHull,
    build_visual_hull,
    drop_small_components,
    mesh_from_surface,
)
from .plane_sweep import DepthMaps, sweep_planes

#: Votes reach this many grid steps to both sides of a depth.
_TRUNCATION = 4
#: Mean overlap with the silhouettes that the hollowed hull may lose and still be kept.
_LOSS = 0.01


@RECONSTRUCTORS.register("photohull")
@dataclass(kw_only=True)
class PhotoHull(HullSettings):
    """Colored visual hull with hollows that its silhouettes cannot show.

    Where patches have no texture, or too few views agree, the hull stays as it is; so it does
    as a whole when the hollowed shape would no longer fill the silhouettes.

    search_depth: how deep behind the hull's surface is searched, as a share of the longest side.
    planes: depths tried.
    max_image_side: larger views are averaged down to this longest side for the sweep.
    num_neighbors: views that each view is compared with.
    patch: side of the compared square of pixels, odd.
    votes: views, weighted by their confidence, that must see through a point to carve it away;
        twice as many when the silhouettes contradict each other.
    Further settings: see `HullSettings`.
    """

    search_depth: float = 0.3
    planes: int = 48
    max_image_side: int = 128
    num_neighbors: int = 4
    patch: int = 5
    votes: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_number("search_depth", 0.001, 1)
        self.check_number("planes", 3)
        self.check_number("max_image_side", 16)
        self.check_number("num_neighbors", 1)
        self.check("patch", self.patch > 1 and self.patch % 2 == 1, "odd, at least 3")
        self.check_number("votes")

    def __call__(self, views: Views, *, progress: ProgressCallback | None = None) -> Mesh:
        """Two or more views → mesh. Raises MvdiffError as `hull` does."""
        report = progress or (lambda stage, fraction: None)
        hull = build_visual_hull(views, self, lambda stage, done: report(stage, 0.3 * done))
        report("plane sweep", 0.3)
        grid = self.hollowed(hull)
        report("surface", 0.8)
        mesh = mesh_from_surface(
            grid.surface(),
            hull.views,
            hull.edges,
            self,
            tick=lambda: report("colors", 0.9),
        )
        report("done", 1.0)
        return mesh

    def _depths(self, hull: VisualHull) -> DepthMaps:
        views = reduced(hull.views, self.max_image_side)
        vertices, faces = hull.grid.surface()
        shape = trimesh.Trimesh(vertices, faces, process=False)
        front = Raycaster(shape).render(views.cameras, shading=None).depth
        return sweep_planes(
            views,
            front,
            search_depth=self.search_depth * float(np.ptp(vertices, axis=0).max()),
            planes=self.planes,
            num_neighbors=self.num_neighbors,
            patch=self.patch,
        )

    def hollowed(self, hull: VisualHull) -> SignedField:
        """The hull without what its views see through, if it still fills the silhouettes."""
        from scipy import ndimage

        depths = self._depths(hull)
        grid = hull.grid
        inside = (grid.field > 0).nonzero()
        points = grid.low + grid.step * inside.flip(-1).float()
        votes = self.votes * (2 if hull.max_outlier_views else 1)
        value = _fuse(depths, points, _TRUNCATION * grid.step, votes)
        seen = torch.full_like(grid.field, 1.0)
        seen[tuple(inside.T)] = value
        smooth = torch.from_numpy(ndimage.gaussian_filter(seen.numpy(), 1.0))
        field = torch.minimum(grid.field, smooth * CUTOFF).numpy()
        field = drop_small_components(_fill_bubbles(field), self.min_component_ratio)
        carved = SignedField(torch.from_numpy(field), grid.low, grid.step)
        small = reduced(hull.views, 64)
        before, after = (
            overlap(render_silhouettes(g, small.cameras), small.mask[:, 0]).mean()
            for g in (grid, carved)
        )
        return carved if after >= before - _LOSS else grid


def _fuse(
    depths: DepthMaps, points: Float[Tensor, "point 3"], reach: float, votes: float
) -> Float[Tensor, "point"]:
    """How far behind the seen surfaces each point lies, in [-1, 1] times `reach`.

    1 where fewer views than `votes` have an opinion. A view has none on what lies behind its
    surface by more than `reach`.
    """
    cameras = depths.cameras
    total, weight = torch.zeros(len(points)), torch.zeros(len(points))
    for i in range(len(cameras)):
        uv, z = cameras[i].project(points)
        u = uv[0, :, 0].floor().long().clamp(0, cameras.width - 1)
        v = uv[0, :, 1].floor().long().clamp(0, cameras.height - 1)
        behind = (z[0] - depths.depth[i, v, u]) / reach
        confidence = depths.confidence[i, v, u] * (behind < 1)
        total += confidence * behind.clamp(-1, 1)
        weight += confidence
    return torch.where(weight >= votes, total / weight.clamp(min=1e-6), 1.0)


def _fill_bubbles(
    field: Float[np.ndarray, "depth height width"],
) -> Float[np.ndarray, "depth height width"]:
    """The field with outside parts that nobody could look into made inside."""
    from scipy import ndimage

    labels, _ = ndimage.label(np.pad(field, 1, constant_values=-1) <= 0)
    hidden = (labels[1:-1, 1:-1, 1:-1] != labels[0, 0, 0]) & (field <= 0)
    return np.where(hidden, np.abs(field) + 1e-4, field)
