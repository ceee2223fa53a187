"""From the world volume to one camera's frustum, and a 3D U-Net over that frustum."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from einops import rearrange, repeat
from jaxtyping import Float
from torch import Tensor, nn

from ..cameras.cache import CameraCache
from ..cameras.camera import Cameras
from ..cameras.frustum import frustum_points
from .base import Frusta
from .unet3d import UNet3D
from .unprojection import look_up

#: One entry for every set of views that the UNet takes at a time.
_known = CameraCache(size=32)


class FrustumNet(nn.Module):
    """View frustum volumes with features at several resolutions (section 4.2).

    channels: of the world volume.
    dims: of the levels; level k is 2^k times smaller than the latents.
    planes, radius: depth planes and the half range they span, see `frustum_points`.
    bound: half side of the world volume.
    known_geometry: remember the frusta's points for cameras that come again; not in training,
        which picks other views at every step.
    """

    known_geometry = True

    def __init__(
        self,
        channels: int,
        dims: Sequence[int],
        planes: int,
        radius: float,
        bound: float,
        time_dim: int,
        pose_dim: int,
        level_blocks: int = 1,
        offset: float = 0.5,
    ) -> None:
        super().__init__()
        self.planes, self.radius, self.bound, self.offset = planes, radius, bound, offset
        self.net = UNet3D(
            channels, dims, time_dim, pose_dim, stem_blocks=0, level_blocks=level_blocks
        )
        self.channels = {2**k: dim for k, dim in enumerate(dims)}

    def forward(
        self,
        volume: Float[Tensor, "batch channel depth height width"],
        cameras: Cameras,
        time: Float[Tensor, "batch time"],
        pose: Float[Tensor, "batch view pose"],
    ) -> Frusta:
        views = pose.shape[1]
        points = self._points(cameras)
        samples = rearrange(look_up(volume, points, self.bound, views), "b v ... -> (b v) ...")
        levels = self.net(
            samples,
            repeat(time, "b t -> (b v) t", v=views),
            rearrange(pose, "b v e -> (b v) e"),
        )
        return {
            2**k: rearrange(level, "(b v) ... -> b v ...", v=views)
            for k, level in enumerate(levels)
        }

    def _points(self, cameras: Cameras) -> Tensor:
        where = (self.planes, self.radius, self.offset)
        if not self.known_geometry or torch.is_grad_enabled():
            return frustum_points(cameras, *where)
        return _known(where, cameras, lambda cameras: frustum_points(cameras, *where))
