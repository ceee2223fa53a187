"""SyncDreamer's volume: the views' features lie side by side in the channels."""

from __future__ import annotations

from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from ..cameras.camera import Cameras
from ..errors import ConfigError
from .base import VOLUMES
from .unprojected import UnprojectedVolume
from .unprojection import lift


@VOLUMES.register("concat")
class ConcatVolume(UnprojectedVolume):
    """Features of N views, unprojected and concatenated: bound to N and their order (section 4.1).

    Settings as in `UnprojectedVolume`.
    """

    name = "concat"
    any_views = False

    def joined_channels(self, features: int) -> int:
        return self.views * features

    def views_of(self, channels: int) -> int | None:
        views, rest = divmod(channels - self.photo_features, self.features)
        return None if rest else views

    def join(
        self,
        features: Float[Tensor, "batch view channel height width"],
        cameras: Cameras,
        points: Float[Tensor, "plane row column 3"],
    ) -> Float[Tensor, "batch joined plane row column"]:
        if features.shape[1] != self.views:
            raise ConfigError(
                f"volume 'concat' is bound to {self.views} views by its weights, got "
                f"{features.shape[1]}: use a rig of {self.views} cameras, or train with "
                "volume=meanvar, which takes any number"
            )
        lifted = lift(features, cameras, points, self.offset, known_as=self.grid_name)
        return rearrange(lifted, "b v c ... -> b (v c) ...")
