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

#: A pixel this far from the background's colour, in any channel of [0, 1], is object.
_KEY = 0.025
#: Share of a picture's border that must have one colour to be the background's.
_SHARED = 0.5


def object_mask(views: Views) -> Float[Tensor, "view 1 height width"]:
    """Opacity in [0, 1]: the views' alpha, or keyed from a uniform background with repairs.

    A key takes every tinted pixel as object, so pixels that are half background move the edge
    outwards. Those next to the background get their share instead: their distance from
    the background over the largest one around them. Small enclosed gaps are filled.
    """
    if views.alpha is not None:
        return views.mask
    distance = (views.images.float() / 255 - background(views)).abs().amax(dim=1, keepdim=True)
    solid = _fill_gaps(distance > _KEY)
    rim = solid & (_around(1 - solid.float(), 3) > 0)
    share = (distance / _around(distance, 5).clamp(min=1e-3)).clamp(0, 1)
    return torch.where(rim, share, solid.float())


def background(views: Views) -> Float[Tensor, "view 3 1 1"]:
    """The colour in [0, 1] that each view's object stands on, read from the border.

    White where the border has no colour that most of its pixels share.
    """
    x = views.images.float() / 255
    border = torch.cat([x[..., 0, :], x[..., -1, :], x[..., 1:-1, 0], x[..., 1:-1, -1]], dim=-1)
    color = border.median(dim=-1, keepdim=True).values
    shared = ((border - color).abs().amax(dim=1) < 2 * _KEY).float().mean(dim=-1) > _SHARED
    return torch.where(shared[:, None, None], color, 1.0)[..., None]


def cut_out(views: Views) -> Views:
    """The same views with alpha; the background's part is taken out of keyed colours."""
    if views.alpha is not None:
        return views
    mask, behind = object_mask(views), background(views)
    color = (views.images.float() / 255 - (1 - mask) * behind) / mask.clamp(min=1 / 255)
    images, alpha = ((x.clamp(0, 1) * 255).round().byte() for x in (color, mask))
    return Views(images, alpha, views.cameras)


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
