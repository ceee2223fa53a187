"""EpiDiff's block: samples on every pixel's ray, seen from the near cameras (arXiv 2312.06725).

Written after what the released code computes (huanngzh/EpiDiff: feature_aggregator.py and
project.py), which differs from the paper's text.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ..cameras.cache import CameraCache
from ..cameras.camera import Cameras
from ..cameras.epipolar import corners, into_views, nearest_views
from ..errors import ConfigError
from .base import ATTENTION, SlotSpec, ViewAttention, ViewContext
from .epipolar import interpolate
from .sdpa import check_kernel, scaled_dot_product

#: Octaves of the sines and cosines that encode rays and depths.
OCTAVES = 6
#: Numbers of a code: a ray's (6 Plücker coordinates) and a sample's depth.
CODE = (6 + 1) * (1 + 2 * OCTAVES)
#: Farthest projected position that is kept, in sides of the picture.
_FAR_OUTSIDE = 10.0

_rays = CameraCache(16)


@dataclass(frozen=True)
class RaySamples:
    """Where the samples of every pixel's ray lie in its own and in the near views.

    near: the views that see each view's samples, itself first.
    codes: of the pixel's ray and of the sample's depth.
    position: row and column in the view, both in [0, 1] inside the picture.
    seen: whether the view sees the sample.
    pixels: the four pixels around each sample in one map.
    weights: of those four.
    """

    near: list[list[int]]
    codes: Float[Tensor, "view pixel sample code"]
    position: Float[Tensor, "view near pixel sample 2"]
    seen: Bool[Tensor, "view near pixel sample"]
    pixels: Int[Tensor, "view near pixel sample 4"]
    weights: Float[Tensor, "view near pixel sample 4"]


def ray_samples(
    cameras: Cameras, num_neighbors: int | None, count: int, near: float, far: float
) -> RaySamples:
    """`count` points a ray between two distances from the camera, seen by the near views.

    Pixels are taken at the picture mirrored along its diagonal, rows for columns, and positions
    are mirrored back (project.py of the released code). Positions in a map have aligned corners,
    though pixel centers are at +0.5: a view's own samples lie between its pixels.

    cameras: at the size of the feature map. num_neighbors: other views; None: all.
    near, far: distances along the ray, world units; both ends are samples.
    """
    height, width = cameras.height, cameras.width
    others = nearest_views(cameras, len(cameras) if num_neighbors is None else num_neighbors)
    own = torch.arange(len(cameras), device=others.device)[:, None]
    views = torch.cat([own, others], dim=1)
    # a map of height × width asks for the rays of a picture of width × height, mirrored
    origins, along = (part.transpose(1, 2) for part in cameras.resize(width, height).rays())
    share = torch.linspace(0, 1, count, dtype=origins.dtype, device=origins.device)
    reach = near + (far - near) * share
    points = origins[..., None, :] + along[..., None, :] * reach[:, None]
    uv, _, seen = into_views(cameras, points, views)
    position = uv / uv.new_tensor([width, height])
    position = position.clamp(-_FAR_OUTSIDE, _FAR_OUTSIDE)
    last = position.new_tensor([height - 1, width - 1])
    pixels, weights = corners((position * last).flip(-1) + 0.5, height, width)
    ray = encode(torch.cat([along, torch.linalg.cross(origins, along)], dim=-1))
    ray = ray[..., None, :].expand(*points.shape[:-1], -1)
    depth = encode(share[:, None]).expand(*points.shape[:-1], -1)
    return RaySamples(
        near=views.tolist(),
        codes=torch.cat([ray, depth], dim=-1).flatten(1, 2),
        position=position.flatten(2, 3),
        seen=seen.flatten(2, 3),
        pixels=pixels.flatten(2, 3).int(),
        weights=weights.flatten(2, 3),
    )


def encode(x: Float[Tensor, "*numbers n"]) -> Float[Tensor, "*numbers encoding"]:
    """Sines, cosines and the numbers themselves: (…, n · (1 + 2 · OCTAVES)), number by number."""
    waves = (x[..., None] * 2.0 ** torch.arange(OCTAVES, dtype=x.dtype, device=x.device)).flatten(
        -2
    )
    return torch.cat([waves.sin(), waves.cos(), x], dim=-1)


class TimedResidual(nn.Module):
    """A residual block whose second norm is scaled and shifted by the noise level."""

    def __init__(self, channels: int, time_dim: int) -> None:
        super().__init__()
        groups = math.gcd(32, channels)
        self.norm1, self.norm2 = nn.GroupNorm(groups, channels), nn.GroupNorm(groups, channels)
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        self.time = nn.Linear(time_dim, 2 * channels)

    def forward(
        self, x: Float[Tensor, "map channel height width"], time: Float[Tensor, "map time"]
    ) -> Float[Tensor, "map channel height width"]:
        scale, shift = self.time(F.silu(time))[..., None, None].chunk(2, dim=1)
        h = self.conv1(F.silu(self.norm1(x)))
        return x + self.conv2(F.silu(self.norm2(h) * (1 + scale) + shift))


class TimedNorm(nn.Module):
    """Layer normalization, scaled and shifted by the noise level; no SiLU before the layer."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.linear = nn.Linear(channels, 2 * channels)

    def forward(
        self, x: Float[Tensor, "map pixel sample channel"], time: Float[Tensor, "map channel"]
    ) -> Float[Tensor, "map pixel sample channel"]:
        scale, shift = self.linear(time)[:, None, None].chunk(2, dim=-1)
        return F.layer_norm(x, x.shape[-1:]) * (1 + scale) + shift


class SampleAttention(nn.Module):
    """Attention from a pixel's samples to tokens; queries, keys and values without biases."""

    def __init__(self, channels: int, context: int, heads: int, kernel: str) -> None:
        super().__init__()
        self.heads, self.kernel = heads, kernel
        self.to_q = nn.Linear(channels, channels, bias=False)
        self.to_k = nn.Linear(context, channels, bias=False)
        self.to_v = nn.Linear(context, channels, bias=False)
        self.out = nn.Linear(channels, channels)

    def forward(
        self,
        query: Float[Tensor, "map pixel sample channel"],
        key: Float[Tensor, "map pixel token channel"],
        value: Float[Tensor, "map pixel token channel"],
        seen: Bool[Tensor, "pixel token"] | None = None,
    ) -> Float[Tensor, "map pixel sample channel"]:
        """seen: which tokens count; a pixel without any averages all of them evenly."""
        query, mask = self.to_q(query), None
        if seen is not None:
            blind = ~seen.any(dim=-1, keepdim=True)
            # a query of zeros weighs all tokens alike
            query = query.masked_fill(blind[..., None], 0)
            mask = (seen | blind)[None, :, None, None]
        query, key, value = (
            rearrange(x, "b p s (k c) -> b p k s c", k=self.heads) for x in (query, key, value)
        )
        mixed = scaled_dot_product(query, key, value, self.kernel, mask)
        return self.out(rearrange(mixed, "b p k s c -> b p s (k c)"))


class SampleLayer(nn.Module):
    """Attention among a pixel's samples, attention to the near views', gated feed-forward."""

    def __init__(self, channels: int, heads: int, kernel: str) -> None:
        from diffusers.models.attention import FeedForward

        super().__init__()
        self.norm1, self.norm2, self.norm3 = (TimedNorm(channels) for _ in range(3))
        self.attn1 = SampleAttention(channels, channels, heads, kernel)
        self.attn2 = SampleAttention(channels, channels + CODE, heads, kernel)
        self.ff = FeedForward(channels, activation_fn="geglu")

    def forward(
        self,
        h: Float[Tensor, "map pixel sample channel"],
        time: Float[Tensor, "map channel"],
        context: tuple[Tensor, Tensor, Tensor] | None,
    ) -> Float[Tensor, "map pixel sample channel"]:
        """context: keys, values and which of them are seen; None: no other view is there."""
        normed = self.norm1(h, time)
        h = h + self.attn1(normed, self.attn1.to_k(normed), self.attn1.to_v(normed))
        if context is not None:
            h = h + self.attn2(self.norm2(h, time), *context)
        return h + self.ff(self.norm3(h, time))


@ATTENTION.register("epidiff")
class EpiDiffBlock(ViewAttention):
    """EpiDiff's block: a pixel's samples attend to the samples that the near cameras see.

    Samples stand at fixed distances from the camera. Each is a token of features (interpolated in
    a map), a code of the pixel's ray, and a code of its depth. After two layers, a weighted sum
    over the samples gives the pixel's features. A view that is alone keeps its features.

    faithful: True samples the view's OWN map at the positions in the near views, as the released
        code does: views learn nothing from each other but where their cameras stand. False samples
        the near views' maps, as the paper says.
    residual: whether the result is added to the features (starts as the identity), or replaces
        them, as in the released configuration; None: as `slot` says.
    num_neighbors: other views, by angle seen from the origin; None: all, as published.
    samples: on a ray. near, far: their first and last distance from the camera, world units.
    layers: of the transformer. head_width: channels of a head; narrower maps have one head.
    kernel: see `scaled_dot_product`.
    Raises ConfigError for numbers that make no sense.
    """

    needs = frozenset({"all_views"})

    def __init__(
        self,
        slot: SlotSpec,
        faithful: bool = False,
        residual: bool | None = None,
        num_neighbors: int | None = None,
        samples: int = 8,
        near: float = 0.5,
        far: float = 2.8,
        layers: int = 2,
        head_width: int = 64,
        kernel: str = "auto",
    ) -> None:
        super().__init__()
        few = num_neighbors is not None and num_neighbors < 1
        if few or min(samples, layers, head_width) < 1 or not 0 < near < far < math.inf:
            raise ConfigError(
                "attention 'epidiff' needs num_neighbors (or null), samples, layers and head_width "
                f"of at least 1 and 0 < near < far, got num_neighbors={num_neighbors}, "
                f"samples={samples}, layers={layers}, head_width={head_width}, near={near}, "
                f"far={far}"
            )
        channels, heads = slot.channels, max(1, slot.channels // head_width)
        if channels % heads:
            raise ConfigError(
                f"attention 'epidiff' needs a feature map of a multiple of {head_width} channels, "
                f"got {channels}: change unet.width or attention.head_width"
            )
        check_kernel(kernel)
        residual = slot.residual if residual is None else residual
        self.faithful, self.residual, self.num_neighbors = faithful, residual, num_neighbors
        self.samples, self.near, self.far = samples, near, far
        time_dim = slot.unet_time_dim or slot.time_dim
        self.resnet = TimedResidual(channels, time_dim)
        self.time = nn.Linear(time_dim, channels)
        self.proj_in = nn.Linear(channels + CODE, channels, bias=False)
        self.layers = nn.ModuleList(SampleLayer(channels, heads, kernel) for _ in range(layers))
        self.proj_out = nn.Linear(channels, channels, bias=False)
        self.weight = nn.Linear(channels, 1, bias=False)
        if residual:
            nn.init.zeros_(self.proj_out.weight)

    def forward(
        self, x: Float[Tensor, "batch view channel height width"], scene: ViewContext
    ) -> Float[Tensor, "batch view channel height width"]:
        batch, views, _, height, width = x.shape
        if views == 1:
            return x
        rays = self._rays(scene.cameras, height, width)
        time = scene.time[:, None].expand(-1, views, -1)
        if scene.unet_time is not None:
            time = scene.unet_time
        maps = self.resnet(x.flatten(0, 1), time.flatten(0, 1)).unflatten(0, (batch, views))
        rows = rearrange(maps, "b v c h w -> b v (h w) c")
        # a view at a time, computed again for the gradient: the samples are many times the map
        out = [self._mix_lean(rows, self.time(time[:, i]), rays, i) for i in range(views)]
        out = rearrange(torch.stack(out, dim=1), "b v (h w) c -> b v c h w", h=height)
        return x + out if self.residual else out

    def samples_of(
        self,
        rows: Float[Tensor, "batch view pixel channel"],
        time: Float[Tensor, "batch channel"],
        rays: RaySamples,
        view: int,
    ) -> Float[Tensor, "batch pixel sample channel"]:
        """The transformer's answer for the samples of one view's rays."""
        codes = rays.codes[view].to(rows.dtype)
        sources = [view] * len(rays.near[view]) if self.faithful else rays.near[view]
        own = self._at_samples([rows[:, view]], rays, view, slice(1))
        tokens = torch.cat([own, codes.expand(len(rows), -1, -1, -1)], dim=-1)
        h = self.proj_in(tokens)
        seen = rearrange(rays.seen[view, 1:], "n p s -> p (n s)")
        for layer in self.layers:
            keys, values = (
                self._context([rows[:, j] for j in sources[1:]], to.weight, codes, rays, view)
                for to in (layer.attn2.to_k, layer.attn2.to_v)
            )
            h = layer(h, time, (keys, values, seen))
        return self.proj_out(h)

    def _context(
        self, near: list[Tensor], weight: Tensor, codes: Tensor, rays: RaySamples, view: int
    ) -> Tensor:
        """Keys or values of the near views' samples, neighbor by neighbor.

        Linear in features and codes, so features are projected once a pixel, before they are
        interpolated, and codes once for all neighbors: the same numbers for far less work.
        """
        features, code = weight[:, :-CODE], weight[:, -CODE:]
        distinct = {id(rows): rows for rows in near}
        projected = {key: F.linear(rows, features) for key, rows in distinct.items()}
        near = [projected[id(rows)] for rows in near]
        sampled = self._at_samples(near, rays, view, slice(1, None))
        coded = F.linear(codes, code)
        count = coded.shape[1]
        sampled = sampled.unflatten(2, (-1, count)) + coded[:, None]
        return sampled.flatten(2, 3)

    def _at_samples(
        self, near: list[Tensor], rays: RaySamples, view: int, chosen: slice
    ) -> Float[Tensor, "batch pixel token channel"]:
        """Rows of the near views' maps, interpolated at the samples, neighbor by neighbor."""
        pixels, weights = rays.pixels[view, chosen], rays.weights[view, chosen]
        count = near[0].shape[1]
        if all(rows is near[0] for rows in near):
            near = near[:1]
        else:
            first = torch.arange(len(near), dtype=pixels.dtype, device=pixels.device) * count
            pixels = pixels + first[:, None, None, None]
        pixels, weights = (rearrange(x, "n p s c -> p (n s) c") for x in (pixels, weights))
        sampled = interpolate(torch.cat(near, dim=1), pixels, weights)
        return sampled.unflatten(1, (count, -1))

    def _mix_lean(self, *arguments: Any) -> Tensor:
        if torch.is_grad_enabled():
            return checkpoint(self._mix, *arguments, use_reentrant=False)
        return self._mix(*arguments)

    def _mix(self, rows: Tensor, time: Tensor, rays: RaySamples, view: int) -> Tensor:
        """The pixels of one view: its samples, summed by learned weights."""
        samples = self.samples_of(rows, time, rays, view)
        scores = self.weight(samples)[..., 0]
        unseen = ~rays.seen[view, 1:].any(dim=0)
        scores = scores.masked_fill(unseen, torch.finfo(scores.dtype).min)
        return (scores.softmax(dim=-1).to(samples.dtype)[..., None] * samples).sum(dim=-2)

    def _rays(self, cameras: Cameras, height: int, width: int) -> RaySamples:
        settings = (self.num_neighbors, self.samples, self.near, self.far)
        return _rays(
            (height, width, *settings),
            cameras,
            lambda cameras: ray_samples(cameras.resize(height, width), *settings),
        )
