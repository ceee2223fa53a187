"""A camera's view frustum as a grid: depth planes × pixels → world points."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from .camera import Cameras

#: Depth of planes that would lie behind the camera, world units.
NEAREST = 1e-4


def frustum_points(
    cameras: Cameras, planes: int, radius: float, offset: float = 0.5
) -> Float[Tensor, "view depth height width 3"]:
    """World points of every camera's frustum (SyncDreamer, section 4.2).

    planes: number of depth planes, linear over the origin's depth ± radius.
    radius: of the sphere around the origin that holds the object, world units. Planes that would
        lie behind a camera nearer than that lie at the camera.
    offset: 0.5 places a pixel's ray at its center; the published weights expect 0.
    """
    steps = torch.linspace(-radius, radius, planes, dtype=cameras.K.dtype, device=cameras.K.device)
    depths = (cameras.t[:, 2, None] + steps).clamp(min=NEAREST)  # (view, depth)
    shape = (len(cameras), planes, cameras.height, cameras.width)
    uv = cameras.pixel_grid(offset).expand(*shape, 2)
    return cameras.unproject(uv, depths[:, :, None, None].expand(shape))
