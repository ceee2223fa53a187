"""Silhouettes: where a mask's edge lies, and how well two sets of masks overlap."""

from __future__ import annotations

import cv2
import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ..views import Views

#: Distances to the edge are counted in widths of the picture, so that views of any size carve
#: alike, and are cut off here.
CUTOFF = 1 / 16


def reduced(views: Views, size: int) -> Views:
    """Views (with alpha) whose longest side is at most `size`, averaged down where larger."""
    height, width = views.images.shape[-2:]
    scale = size / max(height, width)
    if scale >= 1:
        return views
    shape = max(1, round(height * scale)), max(1, round(width * scale))
    mask = views.mask
    both = torch.cat([views.images * mask, mask], dim=1)
    both = torch.nn.functional.interpolate(both, size=shape, mode="area")
    alpha = both[:, 3:]
    images = (both[:, :3] / alpha.clamp(min=1e-6)).round().byte()
    return Views(images, (alpha * 255).round().byte(), views.cameras.resize(*shape))


def edge_distance(
    mask: Float[Tensor, "view 1 height width"],
) -> Float[Tensor, "view 1 fine_height fine_width"]:
    """Signed distance to the edge (opacity 0.5) of every mask, in widths; positive inside.

    Soft masks are enlarged first, since their gray edge tells where, within a pixel, the
    object ends; the result has that finer size. Cut off at ±`CUTOFF`.
    """
    factor = 2 if max(mask.shape[-2:]) > 128 else 4
    fine = torch.nn.functional.interpolate(
        mask, scale_factor=factor, mode="bicubic", align_corners=False
    )
    inside = (fine[:, 0] > 0.5).numpy().astype(np.uint8)
    width = inside.shape[-1]
    out = []
    for picture in inside:
        to_edge = cv2.distanceTransform(picture, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
        to_object = cv2.distanceTransform(1 - picture, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
        # Both count from pixel center to pixel center; the edge lies half a pixel before.
        signed = np.where(picture > 0, to_edge - 0.5, 0.5 - to_object)
        out.append(torch.from_numpy((signed / width).clip(-CUTOFF, CUTOFF)).float())
    return torch.stack(out)[:, None]


def overlap(
    seen: Float[Tensor, "view height width"], mask: Float[Tensor, "view height width"]
) -> Float[Tensor, "view"]:
    """Intersection over union of soft silhouettes, view by view; 1 where both are empty."""
    both = torch.minimum(seen, mask).flatten(1).sum(dim=1)
    either = torch.maximum(seen, mask).flatten(1).sum(dim=1)
    return torch.where(either > 0, both / either.clamp(min=1e-9), 1.0)
