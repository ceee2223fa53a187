"""The visual hull: the largest shape whose silhouettes lie inside all the views' masks.

Laurentini, "The Visual Hull Concept for Silhouette-Based Image Understanding", 1994.
Hollows that no silhouette shows (the inside of a bowl) stay filled.
"""

from __future__ import annotations

from ..mesh.mesh import Mesh
from ..utils.callbacks import ProgressCallback
from ..views import Views
from .base import RECONSTRUCTORS
from .hull_steps import Carving, carve_hull, finish_mesh
from .validation import check_number


@RECONSTRUCTORS.register("hull")
class Hull:
    """Smooth coloured visual hull; closed (watertight), in the cameras' world.

    faces: triangles kept by simplification.
    power: how strongly a vertex prefers the colours of views that face it.
    polish: steps of Taubin's smoothing, which evens ripples and keeps the volume.
    The rest as in `shape.Carving`. Cameras on a ring leave a cone under every flat bottom and
    on every flat top, which `trim` cuts off; from above, a round bottom looks the same, so it is
    cut flat, too: `trim=False` for balls.
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
        self.carving = Carving(resolution, tolerance, smoothing, bound, pieces, trim)
        self.carving.check("hull")
        check_number("hull", "faces", faces, 4)
        check_number("hull", "polish", polish)
        check_number("hull", "power", power)
        self.faces, self.polish, self.power = faces, polish, power

    def __call__(self, views: Views, *, progress: ProgressCallback | None = None) -> Mesh:
        """Two or more views → mesh.

        Raises MvdiffError for fewer views, for views without an object or without a
        background, for cameras that are all the same or inside the object, and when the
        silhouettes have no point in common.
        """
        report = progress or (lambda stage, fraction: None)
        hull = carve_hull(views, self.carving, lambda stage, done: report(stage, 0.6 * done))
        report("surface", 0.6)
        mesh = finish_mesh(
            hull.grid.surface(),
            hull.views,
            hull.edges,
            faces=self.faces,
            polish=self.polish,
            power=self.power,
            tick=lambda: report("colours", 0.8),
        )
        report("done", 1.0)
        return mesh
