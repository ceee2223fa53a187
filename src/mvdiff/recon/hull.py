"""The visual hull: the largest shape whose silhouettes lie inside all the views' masks.

Laurentini, "The Visual Hull Concept for Silhouette-Based Image Understanding", 1994.
Hollows that no silhouette shows (the inside of a bowl) stay filled.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..mesh.mesh import Mesh
from ..utils.callbacks import ProgressCallback
from ..views import Views
from .base import RECONSTRUCTORS
from .hull_steps import HullSettings, build_visual_hull, mesh_from_surface


@RECONSTRUCTORS.register("hull")
@dataclass(kw_only=True)
class Hull(HullSettings):
    """Smooth colored visual hull; closed (watertight), in the cameras' world.

    Settings: see `HullSettings`.
    """

    def __call__(self, views: Views, *, progress: ProgressCallback | None = None) -> Mesh:
        """Two or more views → mesh.

        Raises ReconstructionError for fewer views, for views without an object or without a
        background, for cameras that are all the same or inside the object, and when the
        silhouettes have no point in common.
        """
        report = progress or (lambda stage, fraction: None)
        hull = build_visual_hull(views, self, lambda stage, done: report(stage, 0.6 * done))
        report("surface", 0.6)
        mesh = mesh_from_surface(
            hull.grid.surface(),
            hull.views,
            hull.edges,
            self,
            tick=lambda: report("colors", 0.8),
        )
        report("done", 1.0)
        return mesh
