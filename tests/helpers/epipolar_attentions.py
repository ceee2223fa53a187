"""Small epipolar attentions with random weights, and features to feed them."""

from __future__ import annotations

import torch
from torch import Tensor

from helpers.tiny_recipe import randomize
from mvdiff.attention import SlotSpec, ViewContext
from mvdiff.attention.base import ViewAttention
from mvdiff.attention.epipolar import EpipolarAttention
from mvdiff.attention.epipolar_masked import EpipolarMaskedAttention
from mvdiff.cameras import Cameras

CHANNELS = 8
SLOT = SlotSpec(CHANNELS, 1, {}, 4)
RADIUS = 0.6
BOTH = ["epipolar", "epipolar_mask"]
KINDS = ["perspective", "orthographic"]


def sampled(num_neighbors: int = 2, samples: int = 8, **settings: object) -> EpipolarAttention:
    module = EpipolarAttention(SLOT, num_neighbors, samples, RADIUS, heads=2, **settings)
    return randomize(module).eval()


def masked(width: float = 3.0, **settings: object) -> EpipolarMaskedAttention:
    return randomize(EpipolarMaskedAttention(SLOT, width, heads=2, **settings)).eval()


def either(variant: str) -> ViewAttention:
    return sampled() if variant == "epipolar" else masked()


def scene(cameras: Cameras) -> ViewContext:
    return ViewContext(cameras, {}, torch.zeros(1, 4), torch.arange(len(cameras)))


def features(cameras: Cameras, batch: int = 1) -> Tensor:
    g = torch.Generator().manual_seed(0)
    shape = (batch, len(cameras), CHANNELS, cameras.height, cameras.width)
    return torch.randn(shape, generator=g)
