"""The volume slot's interface."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor, nn

from ..cameras.camera import Cameras
from ..registry import Registry

VOLUMES = Registry("volume")

#: Frustum features by how much smaller than the latents they are: 1, 2, 4, …
Frusta = Mapping[int, Float[Tensor, "batch view _channel _depth _height _width"]]


@dataclass(frozen=True)
class VolumeInputs:
    """What a volume is built from.

    latents: noisy latents of all views.
    cameras: of those views, at the latents' resolution: one per view, shared by the batch; or
        batch · view of them, object by object.
    time: embedding of the noise level.
    pose: of each view relative to the photo: angles and their sine and cosine.
    photos: clean latents of the input pictures, in any order.
    photo_cameras: theirs, batch · photo of them, at the latents' resolution.
    """

    latents: Float[Tensor, "batch view channel height width"]
    cameras: Cameras
    time: Float[Tensor, "batch time"]
    pose: Float[Tensor, "batch view pose"]
    photos: Float[Tensor, "batch photo channel height width"]
    photo_cameras: Cameras


class Volume(nn.Module, ABC):
    """Builds a world volume from noisy views and cuts out each wanted camera's frustum.

    name: as registered, for messages.
    any_views: whether `build` takes any number of views, in any order (then the volume is the
        same for every order); False: exactly the number and order it was made for.
    channels: of the world volume.
    frustum_channels: of the frustum at each reduction factor; empty when there are no frusta.

    Example:
        >>> import torch
        >>> from mvdiff.cameras import ring
        >>> from mvdiff.volumes import VOLUMES, VolumeInputs
        >>> from mvdiff.volumes.base import Volume
        >>> from mvdiff.volumes.unprojection import grid_points, lift
        >>> @VOLUMES.register("mean")
        ... class MeanVolume(Volume):
        ...     name, channels, frustum_channels = "mean", 4, {}
        ...
        ...     def build(self, inputs):  # what the views show at each point of a grid of 8³
        ...         points = grid_points(8, 0.5, inputs.latents)
        ...         return lift(inputs.latents, inputs.cameras, points).mean(dim=1)
        ...
        ...     def frusta(self, volume, cameras, time, pose):
        ...         return {}
        >>> inputs = VolumeInputs(
        ...     latents=torch.rand(2, 6, 4, 16, 16),  # batch, view, channel, height, width
        ...     cameras=ring(6, size=16),
        ...     time=torch.zeros(2, 32),
        ...     pose=torch.zeros(2, 6, 4),
        ...     photos=torch.rand(2, 1, 4, 16, 16),
        ...     photo_cameras=ring(2, size=16),
        ... )
        >>> MeanVolume().build(inputs).shape
        torch.Size([2, 4, 8, 8, 8])
    """

    name: str
    any_views: bool = True
    channels: int = 0
    frustum_channels: Mapping[int, int]

    @abstractmethod
    def build(self, inputs: VolumeInputs) -> Float[Tensor, "batch channel depth height width"]:
        """World volume, axes z, y, x."""

    @abstractmethod
    def frusta(
        self,
        volume: Float[Tensor, "batch channel depth height width"],
        cameras: Cameras,
        time: Float[Tensor, "batch time"],
        pose: Float[Tensor, "batch view pose"],
    ) -> Frusta:
        """Frustum features for `cameras` (any subset of the rig, at the latents' resolution).

        cameras: one per view, shared by the batch; or batch · view of them, object by object.
        """
