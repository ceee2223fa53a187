"""Whether neighboring views show the same colors at the same points of the surface.

No ground truth needed: the surface is the views' own visual hull.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ..cameras.epipolar import nearest_views
from ..errors import InputError
from ..rendering import Raycaster
from ..silhouettes.masks import reduced
from ..silhouettes.matting import cut_out
from ..views import Views
from .checks import check_views
from .hull import hull_mesh

#: A point this far behind the surface, as a share of the object's size, still counts as seen.
_SLACK = 0.02


def photometric_error(
    views: Views, *, neighbors: int = 2, resolution: int = 48, size: int = 64
) -> float:
    """Mean absolute color difference of views warped into each other; lower is better.

    The views' visual hull gives each view its depth. Through it, the colors of the nearest
    `neighbors` views (by angle) are warped into each view and compared with it on its
    foreground, in units of colors in [0, 1]: averaged over channels and pixels, then pairs.
    Pixels are left out where a neighbor does not see their point (depth test), and within a
    pixel of a silhouette's edge in either view. A foreground pixel that the hull does not
    reach counts as white background. A color differs as far as it lies outside of what the
    view shows within half a pixel (Birchfield and Tomasi, "A pixel dissimilarity measure that
    is insensitive to image sampling", 1998), so that resampling costs next to nothing.
    Compare with the truth's own figure: the hull fills hollows, where true views differ too,
    and loses parts thinner than its grid. Blurred views agree more easily, so read it beside a
    figure of quality. Of 4 views on a ring, hull and truth differ too much to notice small
    defects; 8 do.
    resolution: grid points along the hull's longest side.
    size: larger views are reduced to this side first, so that figures of different sizes
        can be compared.
    NaN when no view shows an object more than two pixels wide. Raises InputError for fewer
    than 3 views: the hull of two meets each view only where the other's silhouette ends.
    """
    warped = warp_neighbors(views, neighbors=neighbors, resolution=resolution, size=size)
    count = warped.counted.flatten(2).sum(dim=-1)
    total = (warped.error * warped.counted).flatten(2).sum(dim=-1)
    return float((total / count)[count > 0].mean())


@dataclass(frozen=True)
class Warped:
    """The nearest views warped into each view, and how they differ; to look at.

    views: as compared, with alpha. source: the numbers of the views warped into each view.
    color: what they show, in [0, 1]. error: absolute difference, mean over channels.
    counted: where it counts.
    """

    views: Views
    source: Int[Tensor, "view neighbor"]
    color: Float[Tensor, "view neighbor 3 height width"]
    error: Float[Tensor, "view neighbor height width"]
    counted: Bool[Tensor, "view neighbor height width"]


def warp_neighbors(
    views: Views, *, neighbors: int = 2, resolution: int = 48, size: int = 64
) -> Warped:
    """The pictures behind `photometric_error`; arguments and errors are the same."""
    check_views(views)
    if len(views) < 3:
        raise InputError(f"the photometric error needs at least 3 views, got {len(views)}")
    views = reduced(cut_out(views), size)
    cameras = views.cameras.to("cpu", torch.float32)
    hull = hull_mesh(views, resolution)
    depth, slack = torch.zeros(len(views), *views.images.shape[-2:]), 0.0
    if hull is not None:
        depth = Raycaster(hull).render(cameras, shading=None).depth
        slack = _SLACK * float(hull.extents.max())
    points = cameras.unproject(cameras.pixel_grid().expand(len(views), -1, -1, -1), depth)
    rgb, inside, certain = _certain(views)
    low, high = _half_pixel_range(rgb)
    shown = torch.cat([rgb, certain.float(), depth[:, None]], dim=1)
    source = nearest_views(cameras, neighbors)
    colors, errors, counts = [], [], []
    for i, others in enumerate(source):
        uv, z = cameras[others].project(points[i])
        grid = uv / uv.new_tensor([cameras.width, cameras.height]) * 2 - 1
        values = F.grid_sample(shown[others], grid, align_corners=False)
        seen = (values[:, 3] > 0.999) & (z > 0) & (z <= values[:, 4] + slack)
        empty = depth[i] == 0
        color = torch.where(empty, 1.0, values[:, :3])
        colors.append(color)
        errors.append(torch.maximum(low[i] - color, color - high[i]).clamp(min=0).mean(dim=1))
        counts.append(inside[i] & (seen | empty))
    return Warped(views, source, torch.stack(colors), torch.stack(errors), torch.stack(counts))


def _certain(
    views: Views,
) -> tuple[
    Float[Tensor, "view 3 height width"],
    Bool[Tensor, "view 1 height width"],
    Bool[Tensor, "view 1 height width"],
]:
    """Colors in [0, 1] (white outside), what is surely inside, and surely either.

    Sure are pixels whose eight neighbors lie on the same side of the silhouette.
    """
    mask = (views.mask > 0.5).float()
    inside, outside = (-F.max_pool2d(-x, 3, 1, 1) > 0 for x in (mask, 1 - mask))
    rgb = torch.where(mask > 0, views.images.float() / 255, 1.0)
    return rgb, inside, inside | outside


def _half_pixel_range(
    rgb: Float[Tensor, "view 3 height width"],
) -> tuple[Float[Tensor, "view 3 height width"], Float[Tensor, "view 3 height width"]]:
    """The least and largest color within half a pixel, by channel, as interpolation shows it."""
    padded = F.pad(rgb, (1, 1, 1, 1), mode="replicate")
    around = torch.stack([y for x in _halves(padded, -1) for y in _halves(x, -2)])
    return around.amin(dim=0), around.amax(dim=0)


def _halves(x: Tensor, axis: int) -> tuple[Tensor, Tensor, Tensor]:
    """Values half a pixel before, at, and half a pixel after each pixel but the border's."""
    size = x.shape[axis]
    middle = (x.narrow(axis, 0, size - 1) + x.narrow(axis, 1, size - 1)) / 2
    return (
        middle.narrow(axis, 0, size - 2),
        x.narrow(axis, 1, size - 2),
        middle.narrow(axis, 1, size - 2),
    )
