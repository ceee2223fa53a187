"""Silhouettes: where a mask's edge lies, and how well two sets of masks overlap."""

from __future__ import annotations

import cv2
import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ..views import Views

#: Distances to the edge are counted in widths of the picture, so that views of any size carve
#: alike, and are cut off here.
CUTOFF = 1 / 16


#: Enclosed gaps up to this share of the picture count as highlights, not holes, when keyed.
_GAP = 0.005


def object_mask(views: Views) -> Float[Tensor, "view 1 height width"]:
    """Opacity in [0, 1]: the views' alpha, or keyed from white with repairs.

    A key takes every tinted pixel as object, so pixels that are half background move the edge
    outwards. Those next to the background get their share instead: their distance from
    white over the largest one around them. Small enclosed white spots are filled.
    """
    if views.alpha is not None:
        return views.mask
    distance = (1 - views.images.float() / 255).amax(dim=1, keepdim=True)
    solid = _fill_gaps(views.mask > 0.5)
    rim = solid & (_around(1 - solid.float(), 3) > 0)
    share = (distance / _around(distance, 5).clamp(min=1e-3)).clamp(0, 1)
    return torch.where(rim, share, solid.float())


def edge_distance(
    mask: Float[Tensor, "view 1 height width"],
) -> Float[Tensor, "view 1 fine_height fine_width"]:
    """Signed distance to the edge (opacity 0.5) of every mask, in widths; positive inside.

    Soft masks are enlarged first, since their grey edge tells where, within a pixel, the
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
        # Both count from pixel centre to pixel centre; the edge lies half a pixel before.
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


def _around(x: Tensor, side: int) -> Tensor:
    """The largest value in the square of `side` pixels around each pixel."""
    return torch.nn.functional.max_pool2d(x, side, stride=1, padding=side // 2)


def _fill_gaps(
    solid: Bool[Tensor, "view 1 height width"],
) -> Bool[Tensor, "view 1 height width"]:
    most = _GAP * solid.shape[-2] * solid.shape[-1]
    out = solid.clone()
    for i, picture in enumerate(solid[:, 0].numpy()):
        _, labels, stats, _ = cv2.connectedComponentsWithStats(
            (~picture).astype(np.uint8), connectivity=4
        )
        x, y, width, height, area = stats.T
        touches = (x == 0) | (y == 0) | (x + width == picture.shape[1])
        touches |= y + height == picture.shape[0]
        gap = (area <= most) & ~touches
        gap[0] = False
        out[i, 0] |= torch.from_numpy(gap[labels])
    return out
