"""Volumes at toy size, and inputs for them."""

from __future__ import annotations

import torch
from torch import Tensor

from helpers.tiny_recipe import randomize, toy_config
from mvdiff.cameras import Cameras, look_at, ring
from mvdiff.config.groups import groups
from mvdiff.config.instantiate import instantiate
from mvdiff.volumes import VOLUMES, VolumeInputs
from mvdiff.volumes.base import Volume

CHANNELS, VIEWS, SIDE, TIME = 6, 4, 8, 16
VARIANTS = groups()["volume"]
PROJECTIONS = ["perspective", "orthographic"]


def make(variant: str, *overrides: str, views: int = VIEWS) -> Volume:
    config = toy_config(f"volume={variant}", *overrides)
    parts = {"latent_channels": CHANNELS, "views": views, "time_dim": TIME}
    torch.manual_seed(0)
    return randomize(instantiate(VOLUMES, config.volume, **parts)).eval()


def inputs_for(
    batch: int = 2, projection: str = "perspective", cameras: Cameras | None = None
) -> VolumeInputs:
    """Random latents of the views of these cameras, by default of a ring."""
    generator = torch.Generator().manual_seed(0)
    if cameras is None:
        cameras = ring(VIEWS, size=SIDE, projection=projection)
    views, size = len(cameras), (cameras.height, cameras.width)

    def random(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    return VolumeInputs(
        latents=random(batch, views, CHANNELS, *size),
        cameras=cameras,
        time=random(batch, TIME),
        pose=random(batch, views, 4),
        photos=random(batch, 1, CHANNELS, *size),
        photo_cameras=look_at(
            [0.0] * batch,
            [5.0 + 20 * i for i in range(batch)],
            size=SIDE,
            projection=cameras.projection,
        ).resize(*size),
    )


def one(inputs: VolumeInputs, i: int) -> VolumeInputs:
    """Object i alone."""
    return VolumeInputs(
        latents=inputs.latents[i : i + 1],
        cameras=inputs.cameras,
        time=inputs.time[i : i + 1],
        pose=inputs.pose[i : i + 1],
        photos=inputs.photos[i : i + 1],
        photo_cameras=inputs.photo_cameras[i],
    )


def cut(volume: Volume, world: Tensor, inputs: VolumeInputs, views: list[int] | None = None):
    views = list(range(len(inputs.cameras))) if views is None else views
    return volume.frusta(world, inputs.cameras[views], inputs.time, inputs.pose[:, views])
