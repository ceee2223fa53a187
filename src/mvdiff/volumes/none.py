"""No volume: views exchange nothing through space (the ablation's lower bound)."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from ..cameras.camera import Cameras
from .base import VOLUMES, Frusta, Volume, VolumeInputs


@VOLUMES.register("none")
class NoVolume(Volume):
    """An empty volume without frusta; goes with attention variants that need none."""

    name = "none"

    def __init__(self, **_sizes: object) -> None:
        super().__init__()
        self.frustum_channels = {}

    def build(self, inputs: VolumeInputs) -> Float[Tensor, "batch channel depth height width"]:
        return inputs.latents.new_zeros(inputs.latents.shape[0], 0, 1, 1, 1)

    def frusta(
        self,
        volume: Float[Tensor, "batch channel depth height width"],
        cameras: Cameras,
        time: Float[Tensor, "batch time"],
        pose: Float[Tensor, "batch view pose"],
    ) -> Frusta:
        return {}
