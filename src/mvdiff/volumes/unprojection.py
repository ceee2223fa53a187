"""Lift image features into a world grid, and look a world grid up along frusta."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Literal

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor

from ..cameras.cache import CameraCache
from ..cameras.camera import Cameras

_projected = CameraCache()


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
    edge: Literal["zeros", "border"] = "zeros",
    known_as: Hashable = None,
) -> Float[Tensor, "batch view channel plane row column"]:
    """Sample every view's features where the grid's points project to (section 4.1).

    cameras: one per view, shared by the batch; or batch · view of them, object by object.
    offset: where a pixel's center lies; 0 for the published weights.
    edge: points outside a picture and behind a camera get zeros; with "border" they get
        something, for callers that mask by `seen`, and what lies between the outermost pixel
        centers and the edge does not fade.
    known_as: see `project`.
    """
    batch, views = features.shape[:2]
    uv, depth = project(cameras, points, known_as)  # (camera, D, H, W, 2)
    scale = uv.new_tensor([cameras.width - 1, cameras.height - 1]).clamp(min=1)
    grid = (uv - offset) * 2 / scale - 1
    shape = grid.shape[1:4]
    if edge == "zeros":  # far outside, where the sampler finds them
        grid = grid.masked_fill((depth <= 0)[..., None], 4.0)
    grid = rearrange(_per_object(grid, batch, views), "b v d h w c -> (b v) (d h) w c")
    flat = wide(rearrange(features, "b v c h w -> (b v) c h w"))
    out = F.grid_sample(
        flat, grid.to(flat.dtype), mode="bilinear", padding_mode=edge, align_corners=True
    )
    return out.reshape(batch, views, -1, *shape)


def seen(
    cameras: Cameras,
    points: Float[Tensor, "plane row column 3"],
    batch: int,
    views: int,
    offset: float = 0.5,
    known_as: Hashable = None,
) -> Bool[Tensor, "batch view plane row column"]:
    """Which points lie in front of a camera and project inside its picture.

    cameras, offset: as in `lift`. known_as: see `project`.
    """
    uv, depth = project(cameras, points, known_as)
    edge = offset - 0.5  # of the first pixel
    size = uv.new_tensor([cameras.width, cameras.height])
    inside = ((uv >= edge) & (uv <= size + edge)).all(dim=-1) & (depth > 0)
    return _per_object(inside, batch, views)


def project(
    cameras: Cameras, points: Float[Tensor, "plane row column 3"], known_as: Hashable = None
) -> tuple[
    Float[Tensor, "camera plane row column 2"],
    Float[Tensor, "camera plane row column"],
]:
    """Pixel coordinates and depth in every camera.

    known_as: names these points; with it, what they project to is remembered for cameras that
        come again.
    """
    if known_as is None:
        return cameras.project(points)
    key = (known_as, points.dtype)
    return _projected(key, cameras, lambda cameras: cameras.project(points))


def wide(x: Tensor) -> Tensor:
    """At least float32: half precision is too coarse for sampling positions."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def _per_object(x: Tensor, batch: int, views: int) -> Tensor:
    """(camera, …) → (batch, view, …), whichever cameras `lift` was given."""
    if len(x) == batch * views:
        return x.reshape(batch, views, *x.shape[1:])
    return x.expand(batch, *x.shape)


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
    volume = wide(volume)
    out = F.grid_sample(
        volume, grid.to(volume.dtype), mode="bilinear", padding_mode="zeros", align_corners=True
    )
    return rearrange(out, "b c (v p) r k -> b v c p r k", v=views)
