"""Mean and variance over the views that see a point: any number of views, in any order."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from ..cameras.camera import Cameras
from .base import VOLUMES
from .unprojected import UnprojectedVolume
from .unprojection import lift, seen


@VOLUMES.register("meanvar")
class MeanVarVolume(UnprojectedVolume):
    """Mean and variance over the views that see a point: any number of views, any cameras.

    The variance is MVSNet's cost (arXiv 1804.02505, equation 2); IBRNet (arXiv 2102.13090) pools
    by mean and variance, too. A view sees a point that lies in front of its camera and projects
    inside its picture; occlusion is not known. Two further channels hold n / views and 1 / n for
    the n views that see the point: how far to trust the mean. A point that one view sees has
    that view's features and variance 0; one that no view sees has zeros in all these channels
    (the photo's are beside them, as in every `UnprojectedVolume`).

    Settings as in `UnprojectedVolume`; the weights do not depend on `views`.
    """

    name = "meanvar"

    def joined_channels(self, features: int) -> int:
        return 2 * features + 2

    def join(
        self,
        features: Float[Tensor, "batch view channel height width"],
        cameras: Cameras,
        points: Float[Tensor, "plane row column 3"],
    ) -> Float[Tensor, "batch joined plane row column"]:
        batch, views = features.shape[:2]
        lifted = lift(features, cameras, points, self.offset, "border", self.grid_name)
        mask = seen(cameras, points, batch, views, self.offset, self.grid_name)
        mask = mask[:, :, None].to(lifted.dtype)
        count = mask.sum(dim=1)
        weight = mask / count.clamp(min=1)[:, None]
        mean = (lifted * weight).sum(dim=1)
        # in two passes: E[x²] - E[x]² cancels where the views agree
        variance = ((lifted - mean[:, None]).square() * weight).sum(dim=1)
        inverse = (count > 0) / count.clamp(min=1)
        return torch.cat([mean, variance, count / views, inverse], dim=1)
