"""Lift image features into a world grid, and look a world grid up along frusta."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from ..cameras.camera import Cameras


def grid_points(side: int, bound: float, like: Tensor) -> Float[Tensor, "depth height width 3"]:
    """Points of a cubic grid over [-bound, bound]³, corners included; tensor axes z, y, x."""
    axis = torch.linspace(-bound, bound, side, dtype=torch.float32, device=like.device)
    z, y, x = torch.meshgrid(axis, axis, axis, indexing="ij")
    return torch.stack([x, y, z], dim=-1)


def lift(
    features: Float[Tensor, "batch view channel height width"],
    cameras: Cameras,
    points: Float[Tensor, "plane row column 3"],
    offset: float = 0.5,
) -> Float[Tensor, "batch view channel plane row column"]:
    """Sample every view's features where the grid's points project to (section 4.1).

    cameras: one a view, shared by the batch; or, for one view an object, one an object
        (batch cameras and view = 1).
    offset: where a pixel's centre lies; 0 for the published weights.
    Points outside a picture get zeros.
    """
    batch, views = features.shape[:2]
    uv, _ = cameras.project(points)  # (camera, D, H, W, 2)
    scale = uv.new_tensor([cameras.width - 1, cameras.height - 1]).clamp(min=1)
    grid = (uv - offset) * 2 / scale - 1
    depth, height, width = grid.shape[1:4]
    if views == 1 and len(cameras) == batch:
        grid = grid[:, None]
    else:
        grid = grid.expand(batch, *grid.shape)
    grid = rearrange(grid, "b v d h w c -> (b v) (d h) w c")
    flat = rearrange(features, "b v c h w -> (b v) c h w").float()
    out = F.grid_sample(flat, grid, mode="bilinear", padding_mode="zeros", align_corners=True)
    return out.reshape(batch, views, -1, depth, height, width)


def look_up(
    volume: Float[Tensor, "batch channel depth height width"],
    points: Float[Tensor, "set plane row column 3"],
    bound: float,
    views: int | None = None,
) -> Float[Tensor, "batch view channel plane row column"]:
    """Trilinear samples of a volume over [-bound, bound]³ at world points; zeros outside.

    points: one set a view, shared by the batch; or batch · view sets, object by object.
    views: how many; default as many as sets.
    """
    batch, views = volume.shape[0], views or points.shape[0]
    # all views in one call: their depth planes are stacked
    grid = rearrange(points / bound, "(b v) p r c xyz -> b (v p) r c xyz", v=views)
    grid = grid.expand(batch, *grid.shape[1:])
    out = F.grid_sample(
        volume.float(), grid, mode="bilinear", padding_mode="zeros", align_corners=True
    )
    return rearrange(out, "b c (v p) r k -> b v c p r k", v=views)
