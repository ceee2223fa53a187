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
from ..errors import ReconstructionError
from ..mesh.mesh import Mesh
from ..silhouettes.masks import CUTOFF, edge_distance, overlap
from ..silhouettes.vertex_colors import vertex_colors
from ..silhouettes.visual_hull import SignedField, carve, dissenting_views, render_silhouettes
from ..utils.callbacks import ProgressCallback
from ..views import Views
from .base import RECONSTRUCTORS
from .height_bounds import supported_height_range
from .validation import check_cameras_outside, check_number, check_setting, validate_views


@dataclass(kw_only=True)
class HullSettings:
    """Settings of every reconstructor that starts from the visual hull; checked when made.

    resolution: grid points along the object's longest side.
    max_faces: triangles kept by simplification.
    max_outlier_views: how many views may exclude a point without carving it away; None chooses
        the number, up to a fifth of the views, whose hull agrees best with the silhouettes.
    blur_sigma: standard deviation, in grid steps, of the blur of the field before the surface
        is taken.
    bound: half side of the cube around the origin that is searched, world units; None: what the
        cameras show at the origin's depth.
    min_component_ratio: components smaller than this share of the largest one are dropped.
    trim_caps: cut off what lies below or above the heights that the silhouettes need. Cameras
        on a ring leave a cone under every flat bottom and on every flat top. From above a round
        bottom looks the same, so it is cut flat, too: False for balls.
    smoothing_iterations: of Taubin's smoothing, which evens ripples and keeps the volume.
    view_weight_power: how strongly a vertex prefers the colors of views that face it.
    Raises ConfigError for values out of range.
    """

    resolution: int = 128
    max_faces: int = 40_000
    max_outlier_views: int | None = None
    blur_sigma: float = 0.5
    bound: float | None = None
    min_component_ratio: float = 0.02
    trim_caps: bool = True
    smoothing_iterations: int = 10
    view_weight_power: float = 6.0

    def __post_init__(self) -> None:
        self.check_number("resolution", 8)
        self.check_number("max_faces", 4)
        outliers = self.max_outlier_views
        expected = "a whole number of views from 0, or null for the best"
        self.check("max_outlier_views", outliers is None or is_int(outliers, 0), expected)
        self.check_number("blur_sigma")
        bound = self.bound
        self.check("bound", bound is None or 0 < bound < float("inf"), "positive, or none")
        self.check_number("min_component_ratio", 0, 1)
        self.check_number("smoothing_iterations")
        self.check_number("view_weight_power")

    def check_number(self, name: str, least: float = 0.0, most: float = float("inf")) -> None:
        """Raise ConfigError unless the setting is finite and in [least, most]."""
        check_number(self._label(), name, getattr(self, name), least, most)

    def check(self, name: str, holds: bool, expected: str) -> None:
        """Raise ConfigError, which says what was expected, unless the setting `holds`."""
        check_setting(self._label(), holds, name, getattr(self, name), expected)

    def _label(self) -> str:
        """The registered name, for messages."""
        kind = type(self)
        return next((n for n in RECONSTRUCTORS if RECONSTRUCTORS[n] is kind), kind.__name__)


def is_int(value: object, least: int) -> bool:
    """Whether a setting is a whole number, at least `least`."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


@dataclass(frozen=True)
class VisualHull:
    """The visual hull with what it was carved from.

    views: with alpha. edges: signed distances to their silhouettes' edges.
    grid: the smoothed field, without loose parts.
    max_outlier_views: the number of views that could be overruled.
    """

    views: Views
    edges: Float[Tensor, "view 1 fine_height fine_width"]
    grid: SignedField
    max_outlier_views: int


def build_visual_hull(views: Views, settings: HullSettings, report: ProgressCallback) -> VisualHull:
    """Two or more views → hull; reports stages as shares of its own work.

    Raises as `validation.validate_views` does, when the silhouettes have no point in
    common, and when a camera stands inside the object.
    """
    outliers = settings.max_outlier_views
    if outliers is not None and outliers > max(0, len(views) - 2):
        raise ReconstructionError(
            f"max_outlier_views must leave at least 2 of the {len(views)} views, got {outliers}"
        )
    report("silhouettes", 0.0)
    views = validate_views(views)
    mask = views.mask
    edges = edge_distance(mask)
    check_cameras_outside(views.cameras, edges, settings.bound)
    if outliers is None:
        outliers = _best_max_outlier_views(views.cameras, edges, mask, settings.bound)
    report("carving", 0.15)
    grid = carve(
        views.cameras,
        edges,
        resolution=settings.resolution,
        bound=settings.bound,
        max_outlier_views=outliers,
        tick=lambda done: report("carving", 0.15 + 0.75 * done),
    )
    if not (grid.field > 0).any():
        outside = dissenting_views(views.cameras, edges, settings.bound)
        raise ReconstructionError(
            "the silhouettes have no point in common: where most views agree, views "
            f"{outside} show background; check their cameras, or raise max_outlier_views to "
            f"{len(outside)}"
        )
    grid = _trim_and_blur(grid, views.cameras, settings)
    report("carving", 1.0)
    return VisualHull(views, edges, grid, outliers)


def mesh_from_surface(
    surface: tuple[np.ndarray, np.ndarray],
    views: Views,
    edges: Float[Tensor, "view 1 fine_height fine_width"],
    settings: HullSettings,
    *,
    view_weights: Float[Tensor, "view"] | None = None,
    tick: Callable[[], None] | None = None,
) -> Mesh:
    """A raw surface simplified, smoothed and colored from the views.

    surface: vertices (vertex, 3) in the world and faces (face, 3).
    polish: steps of Taubin's smoothing, which evens ripples and keeps the volume.
    power, trust: see `color.vertex_colors`. tick: called before the colors.
    """
    vertices, triangles = surface
    mesh = Mesh(vertices, triangles, np.zeros(vertices.shape, np.uint8)).simplify(
        settings.max_faces
    )
    shape = mesh.to_trimesh()
    if settings.smoothing_iterations:
        trimesh.smoothing.filter_taubin(
            shape, lamb=0.5, nu=0.53, iterations=settings.smoothing_iterations
        )
    if tick is not None:
        tick()
    colors = vertex_colors(
        views, shape, edges, power=settings.view_weight_power, view_weights=view_weights
    )
    return Mesh(np.array(shape.vertices, np.float32), mesh.faces, colors)


def drop_small_components(
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


def _trim_and_blur(grid: SignedField, cameras: Cameras, settings: HullSettings) -> SignedField:
    """Cut off bottom and top, drop loose parts, smooth."""
    from scipy import ndimage

    field = grid.field.numpy()
    if settings.trim_caps:
        height = grid.low[2].item() + grid.step * np.arange(len(field), dtype=np.float32)
        low, high = supported_height_range(grid, cameras)
        within = np.minimum(height - low, high - height) * CUTOFF / (4 * grid.step)
        field = np.minimum(field, within.clip(-CUTOFF, CUTOFF)[:, None, None])
    field = drop_small_components(field, settings.min_component_ratio)
    if settings.blur_sigma:
        field = ndimage.gaussian_filter(field, settings.blur_sigma)
    if not (field > 0).any():
        raise ReconstructionError(
            "the hull is thinner than the grid: raise resolution or lower blur_sigma"
        )
    return SignedField(torch.from_numpy(field), grid.low, grid.step)


def _best_max_outlier_views(
    cameras: Cameras, edges: Tensor, mask: Tensor, bound: float | None
) -> int:
    """The number of outlier views whose hull, seen by the cameras, overlaps best with the masks.

    On distorted views this overlap ranks the numbers as the distance to the true shape does.
    """
    size = min(64, mask.shape[-1])
    cameras = cameras.resize(size)
    mask = torch.nn.functional.interpolate(mask, size=(size, size), mode="area")[:, 0]

    def score(outliers: int) -> float:
        grid = carve(cameras, edges, resolution=48, bound=bound, max_outlier_views=outliers)
        return float(overlap(render_silhouettes(grid, cameras), mask).mean())

    best_score, best = score(0), 0
    for outliers in range(1, len(cameras) // 5 + 1):
        value = score(outliers)
        if value > best_score:
            best_score, best = value, outliers
        elif best_score > 0:
            break
    return best
