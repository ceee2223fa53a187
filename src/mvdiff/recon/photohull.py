"""The photo hull: the visual hull hollowed out where neighbouring views agree on it.

A plane sweep (Collins, "A space-sweep approach to true multi-image matching", 1996) finds how
far behind the hull each view sees; the depths vote on every point in front of them, as in
Curless and Levoy, "A volumetric method for building complex models from range images", 1996.
"""

from __future__ import annotations

import numpy as np
import torch
import trimesh
from jaxtyping import Float
from torch import Tensor

from ..mesh.mesh import Mesh
from ..rendering import Raycaster
from ..silhouettes.masks import CUTOFF, overlap, reduced
from ..silhouettes.visual_hull import VoxelGrid, render_silhouettes
from ..utils.callbacks import ProgressCallback
from ..views import Views
from .base import RECONSTRUCTORS
from .hull_steps import CarvedHull, Carving, carve_hull, drop_pieces, finish_mesh
from .plane_sweep import Depths, sweep
from .validation import check_number, check_setting

#: Votes reach this many grid steps to both sides of a depth.
_TRUNCATION = 4
#: Mean overlap with the silhouettes that the hollowed hull may lose and still be kept.
_LOSS = 0.01


@RECONSTRUCTORS.register("photohull")
class PhotoHull:
    """Coloured visual hull with hollows that its silhouettes cannot show.

    Where patches have no texture, or too few views agree, the hull stays as it is; so it does
    as a whole when the hollowed shape would no longer fill the silhouettes.

    reach: how deep behind the hull's surface is searched, as a share of the longest side.
    planes: depths tried.
    pictures: larger views are averaged down to this longest side for the sweep.
    neighbours: views that each view is compared with.
    patch: side of the square of pixels compared, odd.
    votes: views, weighed by how sure they are, that must see through a point to carve it away;
        twice as many when the silhouettes contradict each other.
    The rest as for `hull`.
    """

    def __init__(
        self,
        reach: float = 0.3,
        planes: int = 48,
        pictures: int = 128,
        neighbours: int = 4,
        patch: int = 5,
        votes: float = 1.0,
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
        self.carving = Carving(resolution, tolerance, smoothing, bound, pieces, trim)
        self.carving.check("photohull")
        check_number("photohull", "reach", reach, 0.001, 1)
        check_number("photohull", "planes", planes, 3)
        check_number("photohull", "pictures", pictures, 16)
        check_number("photohull", "neighbours", neighbours, 1)
        check_setting("photohull", patch > 1 and patch % 2 == 1, "patch", patch, "odd, at least 3")
        check_number("photohull", "votes", votes)
        check_number("photohull", "faces", faces, 4)
        check_number("photohull", "polish", polish)
        check_number("photohull", "power", power)
        self.reach, self.planes, self.pictures = reach, planes, pictures
        self.neighbours, self.patch, self.votes = neighbours, patch, votes
        self.faces, self.polish, self.power = faces, polish, power

    def __call__(self, views: Views, *, progress: ProgressCallback | None = None) -> Mesh:
        """Two or more views → mesh. Raises MvdiffError as `hull` does."""
        report = progress or (lambda stage, fraction: None)
        hull = carve_hull(views, self.carving, lambda stage, done: report(stage, 0.3 * done))
        report("plane sweep", 0.3)
        grid = self.hollowed(hull)
        report("surface", 0.8)
        mesh = finish_mesh(
            grid.surface(),
            hull.views,
            hull.edges,
            faces=self.faces,
            polish=self.polish,
            power=self.power,
            tick=lambda: report("colours", 0.9),
        )
        report("done", 1.0)
        return mesh

    def _depths(self, hull: CarvedHull) -> Depths:
        views = reduced(hull.views, self.pictures)
        vertices, faces = hull.grid.surface()
        shape = trimesh.Trimesh(vertices, faces, process=False)
        front = Raycaster(shape).render(views.cameras, shading=None).depth
        return sweep(
            views,
            front,
            reach=self.reach * float(np.ptp(vertices, axis=0).max()),
            planes=self.planes,
            neighbours=self.neighbours,
            patch=self.patch,
        )

    def hollowed(self, hull: CarvedHull) -> VoxelGrid:
        """The hull without what its views see through, if it still fills the silhouettes."""
        from scipy import ndimage

        depths = self._depths(hull)
        grid = hull.grid
        inside = (grid.field > 0).nonzero()
        points = grid.low + grid.step * inside.flip(-1).float()
        votes = self.votes * (2 if hull.tolerance else 1)
        value = _fuse(depths, points, _TRUNCATION * grid.step, votes)
        seen = torch.full_like(grid.field, 1.0)
        seen[tuple(inside.T)] = value
        smooth = torch.from_numpy(ndimage.gaussian_filter(seen.numpy(), 1.0))
        field = torch.minimum(grid.field, smooth * CUTOFF).numpy()
        field = drop_pieces(_fill_bubbles(field), self.carving.pieces)
        carved = VoxelGrid(torch.from_numpy(field), grid.low, grid.step)
        small = reduced(hull.views, 64)
        before, after = (
            overlap(render_silhouettes(g, small.cameras), small.mask[:, 0]).mean()
            for g in (grid, carved)
        )
        return carved if after >= before - _LOSS else grid


def _fuse(
    depths: Depths, points: Float[Tensor, "point 3"], reach: float, votes: float
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
        sure = depths.sure[i, v, u] * (behind < 1)
        total += sure * behind.clamp(-1, 1)
        weight += sure
    return torch.where(weight >= votes, total / weight.clamp(min=1e-6), 1.0)


def _fill_bubbles(
    field: Float[np.ndarray, "depth height width"],
) -> Float[np.ndarray, "depth height width"]:
    """The field with outside parts that nobody could look into made inside."""
    from scipy import ndimage

    labels, _ = ndimage.label(np.pad(field, 1, constant_values=-1) <= 0)
    hidden = (labels[1:-1, 1:-1, 1:-1] != labels[0, 0, 0]) & (field <= 0)
    return np.where(hidden, np.abs(field) + 1e-4, field)
