"""How high the camera of a picture stood, for those who do not know it.

SyncDreamer's networks ask for the picture's elevation (arXiv 2309.03453, section 4.1). A small
network reads it from the cut-out object; the user's own number always wins.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from importlib import resources
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from .elevation_settings import check_elevation, is_auto
from .photo import PreparedImage

__all__ = [
    "Elevation",
    "ElevationNet",
    "check_elevation",
    "crop",
    "estimate_elevation",
    "is_auto",
    "read_elevation",
]

#: Side of the pictures the network reads, and how much of it the object's longer side fills.
SIDE, FILL = 64, 0.85
#: Elevations in the training data, degrees; estimates are kept within.
LOW, HIGH = -10.0, 40.0
_CENTRE, _SCALE = (LOW + HIGH) / 2, (HIGH - LOW) / 2


@dataclass(frozen=True)
class Elevation:
    """Where a picture was taken from.

    degrees: of the camera above the object, in [-90, 90].
    spread: standard deviation of the estimate, degrees; 0 where the user said it.
    estimated: whether the network said it.
    """

    degrees: float
    spread: float = 0.0
    estimated: bool = False


class ElevationNet(nn.Module):
    """Strided convolutions, then a normal distribution over the elevation.

    widths: channels of the four levels (32², 16², 8², 4²), multiples of 8.
    """

    def __init__(self, widths: tuple[int, int, int, int] = (24, 48, 96, 96)) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = 4
        for width in widths:
            layers += [*_block(channels, width, 2), *_block(width, width, 1)]
            channels = width
        self.net = nn.Sequential(*layers)
        # The 4×4 map is kept apart, not averaged: where things stand in the picture tells.
        self.out = nn.Sequential(
            nn.Conv2d(channels, 16, 1), nn.Flatten(), nn.SiLU(), nn.Linear(16 * 16, 2)
        )
        # networks are too sure of themselves on kinds they never saw: measured after training
        self.register_buffer("calibration", torch.ones(()))

    def forward(
        self, pictures: Float[Tensor, "batch 4 64 64"]
    ) -> tuple[Float[Tensor, "batch"], Float[Tensor, "batch"]]:
        """Mean and standard deviation, degrees.

        pictures: from `crop`.
        """
        mean, spread = self.out(self.net(pictures * 2 - 1)).unbind(dim=1)
        return _CENTRE + _SCALE * mean, self.calibration * _SCALE * (F.softplus(spread) + 0.02)


def _block(inputs: int, outputs: int, stride: int) -> list[nn.Module]:
    return [
        nn.Conv2d(inputs, outputs, 3, stride, padding=1),
        nn.GroupNorm(8, outputs),
        nn.SiLU(),
    ]


def crop(pictures: Float[Tensor, "batch 4 height width"]) -> Float[Tensor, "batch 4 64 64"]:
    """Each object centered and scaled alike, whatever its framing was.

    pictures: RGBA in [0, 1], colors on white. Pictures without an object stay as they are.
    """
    boxes = torch.stack([_box(alpha) for alpha in pictures[:, 3] > 0.05])
    height, width = pictures.shape[-2:]
    side = torch.maximum(boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]) / FILL
    center = (boxes[:, :2] + boxes[:, 2:]) / 2
    zero = torch.zeros_like(side)
    theta = torch.stack(
        [
            torch.stack([side / width, zero, 2 * center[:, 0] / width - 1], dim=-1),
            torch.stack([zero, side / height, 2 * center[:, 1] / height - 1], dim=-1),
        ],
        dim=1,
    )
    # Sampled finer and averaged, so that large pictures are not aliased.
    finer = SIDE * max(1, min(8, round(max(height, width) / SIDE)))
    grid = F.affine_grid(theta, [len(pictures), 4, finer, finer], align_corners=False)
    white = pictures.new_tensor([1.0, 1.0, 1.0, 0.0]).view(1, 4, 1, 1)
    cut = F.grid_sample(pictures - white, grid.to(pictures), align_corners=False) + white
    return F.interpolate(cut, size=(SIDE, SIDE), mode="area")


def _box(inside: Tensor) -> Tensor:
    """Left, top, right, bottom of what is True, pixels."""
    rows, columns = inside.any(dim=1).nonzero(), inside.any(dim=0).nonzero()
    if not len(rows):
        return torch.tensor([0.0, 0.0, inside.shape[1], inside.shape[0]])
    edges = [columns[0, 0], rows[0, 0], columns[-1, 0] + 1, rows[-1, 0] + 1]
    return torch.stack(edges).float().cpu()


@torch.no_grad()
def estimate_elevation(photo: PreparedImage) -> Elevation:
    """The elevation of a picture, by the network that ships with the package.

    photo: framed or not; its alpha says what the object is.
    The network knows elevations from -10° to 40°, and answers within them. Its error on objects
    of kinds it never saw stands in the model card.
    """
    mean, spread = _shipped()(crop(photo.rgba[None].float().cpu()))
    return Elevation(float(mean.clamp(LOW, HIGH)), float(spread), estimated=True)


def read_elevation(value: Any, photo: PreparedImage) -> Elevation:
    """The user's elevation, or the estimate where it is "auto" (or None).

    Raises MvdiffError unless it is one of them, or a number of degrees in [-90, 90].
    """
    if is_auto(value):
        return estimate_elevation(photo)
    return Elevation(check_elevation(value))


@functools.cache
def _shipped() -> ElevationNet:
    from safetensors.torch import load_file

    net = ElevationNet()
    file = resources.files("mvdiff.assets") / "elevation.safetensors"
    with resources.as_file(file) as path:
        net.load_state_dict({k: v.float() for k, v in load_file(path).items()})
    return net.eval().requires_grad_(False)
