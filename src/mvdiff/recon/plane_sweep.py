"""Plane sweep: how deep each view sees, judged by how alike other views look there."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import avg_pool2d, grid_sample

from ..cameras.camera import Cameras
from ..views import Views

#: Correlation from which patches count as the same.
_GOOD = 0.6
#: Planes behind the hull's that still count as the hull's own depth.
_SHALLOW = 3


@dataclass(frozen=True)
class DepthMaps:
    """Result of a plane sweep, for every pixel of the reduced views.

    depth: camera z of the surface, world units; 0 where the pixel is background.
    confidence: in [0, 1], how far better the views agree there than on the hull.
    cameras: those of the reduced views.
    """

    depth: Float[Tensor, "view height width"]
    confidence: Float[Tensor, "view height width"]
    cameras: Cameras


def sweep_planes(
    views: Views,
    front: Float[Tensor, "view height width"],
    *,
    search_depth: float,
    planes: int,
    num_neighbors: int,
    patch: int,
) -> DepthMaps:
    """The depths behind the hull's at which neighboring views agree best.

    views: with alpha. front: camera z at which each pixel's ray enters the hull, 0 beside it.
    search_depth: how far behind it is searched, world units, in `planes` equal steps.
    num_neighbors: views that each view is compared with, those nearest in direction.
    patch: side of the square of pixels compared, odd.
    Compared by normalized cross-correlation, which a drift of colors between views does not
    touch; per depth the better half of the neighbors counts, since the others may be hidden.
    """
    cameras = views.cameras
    mask = views.mask
    gray = (views.rgb * mask).mean(dim=1, keepdim=True)
    forward = cameras.R[:, 2]
    similarity = (forward @ forward.T).fill_diagonal_(-2)
    nearest = similarity.topk(min(num_neighbors, len(views) - 1), dim=1).indices
    steps = torch.arange(planes + 1) * (search_depth / planes)
    depth, confidence = torch.zeros_like(front), torch.zeros_like(front)
    for i in range(len(views)):
        hit = (front[i] > 0) & (mask[i, 0] > 0.5)
        if not hit.any():
            continue
        uv = cameras.pixel_grid().expand(planes + 1, -1, -1, -1)
        behind = front[i] + steps[:, None, None]
        points = cameras[i].unproject(uv[None], behind[None])[0]
        scores = torch.stack(
            [_ncc(gray[i], gray[j], mask[j], cameras[int(j)], points, patch) for j in nearest[i]]
        )
        keep = max(1, (len(scores) + 1) // 2)
        score = scores.topk(keep, dim=0).values.mean(dim=0)
        depth[i], confidence[i] = _argmax_with_parabola(score, behind, hit)
    return DepthMaps(depth, confidence, cameras)


def _ncc(
    mine: Tensor, theirs: Tensor, mask: Tensor, camera: Cameras, points: Tensor, patch: int
) -> Float[Tensor, "plane height width"]:
    """Correlation of each pixel's patch with the other view's, were the surface at `points`.

    -1 where the other view shows background. Patches without texture come out near 0.
    """
    uv, _ = camera.project(points)
    grid = uv[0] / uv.new_tensor([camera.width, camera.height]) * 2 - 1
    both = torch.cat([theirs, mask])[None].expand(len(grid), -1, -1, -1)
    sampled = grid_sample(both, grid, align_corners=False)
    other, inside = sampled[:, :1], sampled[:, 1]

    def mean(x: Tensor) -> Tensor:
        return avg_pool2d(x, patch, stride=1, padding=patch // 2, count_include_pad=False)

    a, b = mean(mine[None]), mean(other)
    cross = mean(mine[None] * other) - a * b
    spread = (mean(mine[None] ** 2) - a**2).clamp(min=0) * (mean(other**2) - b**2).clamp(min=0)
    # 1e-4 is the variance of 1 % noise: flatter patches cannot tell.
    return torch.where(inside > 0.5, (cross / (spread.sqrt() + 1e-4))[:, 0], -1.0)


def _argmax_with_parabola(
    score: Float[Tensor, "plane height width"],
    behind: Float[Tensor, "plane height width"],
    hit: Tensor,
) -> tuple[Float[Tensor, "height width"], Float[Tensor, "height width"]]:
    """The best plane, refined by a parabola, and how far it beats the hull's own depth."""
    best, plane = score.max(dim=0)
    inner = plane.clamp(1, len(score) - 2)
    before, at, after = (score.gather(0, (inner + k)[None])[0] for k in (-1, 0, 1))
    bow = (before - 2 * at + after).clamp(max=-1e-6)
    shift = ((before - after) / (2 * bow)).clamp(-0.5, 0.5)
    shift = torch.where(inner == plane, shift, 0.0)
    width = behind[1] - behind[0]
    depth = behind.gather(0, plane[None])[0] + shift * width
    # A sweep that ends at its last plane has found no peak.
    confidence = ((best - score[0]).clamp(0, 0.5) * 2) * (best > _GOOD) * (plane < len(score) - 1)
    # Differences as small as the noise of the depths speak for the hull, not against it.
    shallow = plane < _SHALLOW
    depth = torch.where(shallow, behind[0], depth)
    confidence = torch.where(shallow, 0.5 * (best > _GOOD), confidence)
    return torch.where(hit, depth, 0.0), torch.where(hit, confidence, 0.0)
