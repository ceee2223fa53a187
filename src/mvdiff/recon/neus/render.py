"""Volume rendering of a signed distance: NeuS (arXiv 2106.10689), section 3."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import grid_sample

from .field import Field
from .rays import Rays

#: Samples of less weight than this get no color, which spares half of the network's work.
_FAINT = 2e-3


def weights(
    distance: Float[Tensor, "ray sample"], sharpness: Float[Tensor, "*ray"]
) -> Float[Tensor, "ray section"]:
    """How much each section between neighboring samples adds to a pixel (equations 10, 13).

    sharpness: inverse width of the logistic density around the surface, one for all rays or
        (ray, 1). The result sums up, ray by ray, to the opacity.
    """
    outside = torch.sigmoid(distance * sharpness)
    before, after = outside[:, :-1], outside[:, 1:]
    alpha = ((before - after) / before.clamp(min=1e-6)).clamp(0, 1)
    clear = torch.cumprod(1 - alpha + 1e-7, dim=1)
    return alpha * torch.cat([torch.ones_like(clear[:, :1]), clear[:, :-1]], dim=1)


def place_samples(
    rays: Rays,
    dense: Float[Tensor, "1 1 depth height width"],
    half: Float[Tensor, "3"],
    sharpness: Float[Tensor, ""],
    *,
    jitter: Float[Tensor, "ray coarse"],
    shift: Float[Tensor, "ray 1"],
    count: int,
) -> Float[Tensor, "ray count"]:
    """DepthMaps of `count` samples a ray, most of them where the surface is; ascending.

    dense: signed distances, which may be some steps old.
    jitter, shift: random numbers in [0, 1) that move the coarse and the fine samples.
    """
    coarse = jitter.shape[1]
    length = rays.far - rays.near
    u = (torch.arange(coarse, device=jitter.device) + jitter) / coarse
    depth = rays.near[:, None] + length[:, None] * u
    points = rays.origin[:, None] + rays.direction[:, None] * depth[..., None]
    distance = grid_sample(
        dense, (points / half)[None, None], padding_mode="border", align_corners=True
    )
    # A density narrower than the coarse samples' spacing could be missed altogether.
    blunt = torch.minimum(sharpness, 1.5 * coarse / length[:, None])
    weight = weights(distance.reshape(depth.shape), blunt) + 1e-3
    cdf = (weight / weight.sum(dim=1, keepdim=True)).cumsum(dim=1)
    cdf = torch.cat([torch.zeros_like(cdf[:, :1]), cdf], dim=1)
    u = (torch.arange(count, device=shift.device) + shift) / count
    k = torch.searchsorted(cdf, u.contiguous(), right=True).clamp(1, coarse - 1)
    c0, c1 = cdf.gather(1, k - 1), cdf.gather(1, k)
    z0, z1 = depth.gather(1, k - 1), depth.gather(1, k)
    return z0 + (z1 - z0) * ((u - c0) / (c1 - c0).clamp(min=1e-9)).clamp(0, 1)


def render(
    field: Field, rays: Rays, depth: Float[Tensor, "ray sample"], level_weights: list[float]
) -> tuple[Float[Tensor, "ray 3"], Float[Tensor, "ray"], Float[Tensor, "ray sample 3"]]:
    """Color (multiplied by opacity, as the ray's own view shows it), opacity, and the samples."""
    points = rays.origin[:, None] + rays.direction[:, None] * depth[..., None]
    weight = weights(field.distance(points, level_weights), field.sharpness.exp())
    opacity = weight.sum(dim=1)
    bright: Bool[Tensor, "ray section"] = weight.detach() > _FAINT
    middle = (points[:, 1:] + points[:, :-1]) / 2
    color = torch.zeros_like(middle).index_put(
        bright.nonzero(as_tuple=True), field.radiance(middle[bright])
    )
    gain, offset = field.corrections()
    color = (weight[..., None] * color).sum(dim=1) * gain[rays.view]
    return color + offset[rays.view] * opacity[:, None], opacity, points
