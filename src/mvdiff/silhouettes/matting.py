"""Keying: which pixels of pictures on a uniform background are object."""

from __future__ import annotations

import cv2
import numpy as np
import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor

from ..views.views import OPAQUE, Views

#: Enclosed gaps up to this share of the picture count as highlights, not holes, when keyed.
_GAP = 0.005

#: A pixel this far from the background's color, in any channel of [0, 1], is object.
_KEY = 0.025
#: In noisy pictures it is this many standard deviations of the noise,
_SIGMAS = 3.0
#: but no more than this.
_MOST = 0.12
#: Object this far from the background's color is told apart from any noise.
_STRONG = 0.15
#: JPEG rings around edges: measured within so many pixels of them, found within the second many
#: (its blocks of color are 16 pixels wide).
_RING, _BLOCK = 5, 16
#: What differs by this share of the ringing over 5×5 pixels is pale object.
_PALE = 0.4
#: In noisy pictures, pieces of fewer pixels, or of a smaller share of the picture, are specks.
_SPECK, _SPECK_SHARE = 8, 5e-4
#: Share of a picture's border that must have one color to be the background's,
_SHARED = 0.5
#: and in an opaque picture among transparent ones, which may as well be filled by the object.
_SHARED_OPAQUE = 0.9
#: A normal distribution has this share of its values within so many standard deviations.
_HALF, _THREE_QUARTERS = 0.6745, 1.1503


def object_mask(views: Views) -> Float[Tensor, "view 1 height width"]:
    """Opacity in [0, 1]: the views' alpha, or keyed from a uniform background with repairs.

    A key takes every tinted pixel as object, so pixels that are half background move the edge
    outwards. Those next to the background get their share instead: their distance from
    the background over the largest one around them. Small enclosed gaps are filled. Noise of
    the border and JPEG's ringing around edges raise the key, and specks are dropped then.

    Where some views are transparent, those that are opaque all over are keyed, too, if their
    border has one color and the key finds an object.
    """
    if views.alpha is None:
        return _keyed(views)
    mask, chosen = views.mask, _to_key(views)
    if chosen.any():
        found = _keyed(views[chosen.nonzero().flatten().tolist()])
        some = found.flatten(1).any(dim=1)[:, None, None, None]
        mask[chosen] = torch.where(some, found, mask[chosen])
    return mask


def background(views: Views) -> Float[Tensor, "view 3 1 1"]:
    """The color in [0, 1] that each view's object stands on, read from the border.

    White where the border has no color that most of its pixels share.
    """
    return _backdrop(views)[0]


def cut_out(views: Views) -> Views:
    """The same views with alpha; the background's part is taken out of keyed colors."""
    chosen = _to_key(views)
    if not chosen.any():
        return views
    mask, behind = object_mask(views), background(views)
    color = (views.images.float() / 255 - (1 - mask) * behind) / mask.clamp(min=1 / 255)
    images, alpha = ((x.clamp(0, 1) * 255).round().byte() for x in (color, mask))
    return Views(
        torch.where(chosen[:, None, None, None], images, views.images), alpha, views.cameras
    )


def _around(x: Tensor, side: int) -> Tensor:
    """The largest value in the square of `side` pixels around each pixel."""
    for shape in ((side, 1), (1, side)):
        padding = shape[0] // 2, shape[1] // 2
        x = torch.nn.functional.max_pool2d(x, shape, stride=1, padding=padding)
    return x


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


def _to_key(views: Views) -> Bool[Tensor, "view"]:
    """Views whose alpha says nothing of the object: `object_mask` tells which."""
    if views.alpha is None:
        return torch.ones(len(views), dtype=torch.bool)
    opaque = (views.alpha >= OPAQUE).flatten(1).all(dim=1)
    if opaque.all() or not opaque.any():
        return torch.zeros_like(opaque)
    return opaque & (_backdrop(views)[2] > _SHARED_OPAQUE)


def _backdrop(
    views: Views,
) -> tuple[Float[Tensor, "view 3 1 1"], Float[Tensor, "view"], Float[Tensor, "view"]]:
    """Color of the background, standard deviation of its noise, and its share of the border.

    White without noise where less than half of the border has one color.
    """
    border = _border(views.images.float() / 255)
    color = border.median(dim=-1, keepdim=True).values
    apart = border - color
    near = apart.abs().amax(dim=1, keepdim=True) < _STRONG
    # Quartiles bear a quarter of strays, and the farther one bears noise cut off at white.
    quartiles = torch.nanquantile(
        torch.where(near, apart, torch.nan), torch.tensor([0.25, 0.75]), dim=-1
    )
    noise = quartiles.abs().amax(dim=(0, 2)).nan_to_num() / _HALF
    within = (4 * noise).clamp(2 * _KEY, _STRONG)[:, None]
    share = (apart.abs().amax(dim=1) < within).float().mean(dim=-1)
    shared = share > _SHARED
    color = torch.where(shared[:, None, None], color, 1.0)[..., None]
    return color, torch.where(shared, noise, 0.0), share


def _border(x: Shaped[Tensor, "*any height width"]) -> Shaped[Tensor, "*any pixel"]:
    return torch.cat([x[..., 0, :], x[..., -1, :], x[..., 1:-1, 0], x[..., 1:-1, -1]], dim=-1)


def _keyed(views: Views) -> Float[Tensor, "view 1 height width"]:
    """Opacity from the distance to the background's color alone."""
    behind, noise, _ = _backdrop(views)
    apart = views.images.float() / 255 - behind
    distance = apart.abs().amax(dim=1, keepdim=True)
    solid = torch.stack([_solid(*each) for each in zip(apart, noise.tolist(), strict=True)])
    solid = _fill_gaps(solid)
    rim = solid & (_around(1 - solid.float(), 3) > 0)
    share = (distance / _around(distance, 5).clamp(min=1e-3)).clamp(0, 1)
    return torch.where(rim, share, solid.float())


def _solid(apart: Float[Tensor, "3 height width"], noise: float) -> Bool[Tensor, "1 height width"]:
    """Pixels of one picture that are object.

    apart: its difference from the background's color. noise: standard deviation of that.
    """
    distance = apart.abs().amax(dim=0, keepdim=True)
    ringing = _ringing(apart, noise)
    key = _key(noise, ringing)
    solid = distance > key
    if key.max() <= _KEY:
        return solid
    # Object fainter than the noise of a pixel still stands out in the mean of 5×5 pixels; what
    # stands out by an edge nearby is taken back.
    pale = _averaged(apart, 5) > (_PALE * ringing).clamp(min=max(_KEY, _SIGMAS * noise / 5))
    solid |= _around(1 - pale.float(), 5) == 0
    return _without_specks(solid)


def _key(noise: float, ringing: Float[Tensor, "1 height width"]) -> Float[Tensor, "1 height width"]:
    return (ringing + _SIGMAS * noise).clamp(_KEY, _MOST)


def _averaged(x: Float[Tensor, "3 height width"], side: int) -> Float[Tensor, "1 height width"]:
    """The largest channel, without sign, of the mean over squares of `side` pixels."""
    padded = torch.nn.functional.pad(x[None], (side // 2,) * 4, mode="replicate")
    mean = torch.nn.functional.avg_pool2d(padded, side, stride=1)
    return mean[0].abs().amax(dim=0, keepdim=True)


def _ringing(
    apart: Float[Tensor, "3 height width"], noise: float
) -> Float[Tensor, "1 height width"]:
    """How far JPEG's ringing may reach from the background's color; 0 in clean pictures.

    It is read from the background close to strong edges, as a share of the edges' contrast and
    in excess of what the border has. The larger it is, the more of it the first key took for
    object, hence the repetition. Background of even color, be it pale object, does not ring.
    """
    distance = apart.abs().amax(dim=0, keepdim=True)
    contrast = _averaged(apart, 3)
    edge, wide = _around(contrast, 2 * _RING + 1), _around(contrast, 2 * _BLOCK + 1)
    ringing = torch.zeros_like(distance)
    border = _border(distance)
    floor = border[border <= _key(noise, ringing)[0, 0, 0]]
    floor = float(np.quantile(floor.numpy(), 0.75)) if len(floor) else 0.0
    excess = (distance - floor).clamp(min=0) / edge.clamp(min=_STRONG)
    even = (apart[..., 1:] == apart[..., :-1]).all(dim=0, keepdim=True)
    for _ in range(4):
        outside = _outside(distance <= _key(noise, ringing)) & (edge > _STRONG)
        pairs = outside[..., 1:] & outside[..., :-1]
        if pairs.sum() < 50 or even[pairs].float().mean() > 0.75:
            break
        scale = float(np.quantile(excess[outside].numpy(), 0.75)) / _THREE_QUARTERS
        ringing = (_SIGMAS * scale * wide).clamp(max=_MOST)
    return ringing


def _outside(clear: Bool[Tensor, "1 height width"]) -> Bool[Tensor, "1 height width"]:
    """The part that is connected to the picture's border."""
    count, labels = cv2.connectedComponents(clear[0].numpy().astype(np.uint8), connectivity=4)
    outer = np.zeros(count, dtype=bool)
    outer[_border(torch.from_numpy(labels)).numpy()] = True
    outer[0] = False
    return torch.from_numpy(outer[labels])[None]


def _without_specks(
    solid: Bool[Tensor, "1 height width"],
) -> Bool[Tensor, "1 height width"]:
    _, labels, stats, _ = cv2.connectedComponentsWithStats(
        solid[0].numpy().astype(np.uint8), connectivity=8
    )
    large = stats[:, cv2.CC_STAT_AREA] >= max(_SPECK, _SPECK_SHARE * labels.size)
    large[0] = False
    return torch.from_numpy(large[labels])[None]
