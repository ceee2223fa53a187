"""Attention along epipolar lines, by sampling near views (EpiDiff, arXiv 2312.06725)."""

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
from ..cameras.epipolar import corners, into_views, nearest_views, ray_samples
from ..errors import ConfigError
from .base import ATTENTION, PairwiseAttention, SlotSpec, ViewContext
from .encodings import Tokens
from .ray_tokens import embed_rays

#: Octaves of the sines and cosines that encode rays and depths.
OCTAVES = 4

_samples = CameraCache()


@dataclass(frozen=True)
class Samples:
    """Where the samples of every pixel's ray lie in the near views.

    near: the near views of each view.
    rays: embeddings of every pixel's ray.
    pixels: the four pixels around each sample, numbered through the near views one by one.
    weights: of those four.
    depths: of the sample on the ray and in the near view, in radii from where the origin is.
    seen: whether the near view sees it.
    """

    near: list[list[int]]
    rays: Float[Tensor, "view pixel embedding"]
    pixels: Int[Tensor, "view pixel sample 4"]
    weights: Float[Tensor, "view pixel sample 4"]
    depths: Float[Tensor, "view pixel sample 2"]
    seen: Bool[Tensor, "view pixel sample"]


def sample(cameras: Cameras, num_neighbors: int, count: int, radius: float) -> Samples:
    """`count` points a ray, seen by `neighbors` near views: neighbors · count samples a pixel.

    cameras: at the size of the feature map. radius: of the object's sphere, world units.
    """
    near = nearest_views(cameras, num_neighbors)
    points, position = ray_samples(cameras, count, radius)
    uv, depth, seen = into_views(cameras, points, near)
    pixels, weights = corners(uv, cameras.height, cameras.width)
    first = torch.arange(near.shape[1], device=pixels.device) * cameras.height * cameras.width
    pixels = pixels + first[:, None, None, None, None]
    depth = (depth - cameras.t[near, 2][:, :, None, None, None]) / radius
    depths = torch.stack([position[:, None].expand_as(depth), depth], dim=-1)
    return Samples(
        near=near.tolist(),
        rays=pixel_rays(cameras),
        pixels=rearrange(pixels, "v n h w s c -> v (h w) (n s) c").int(),
        weights=rearrange(weights, "v n h w s c -> v (h w) (n s) c"),
        depths=rearrange(depths, "v n h w s d -> v (h w) (n s) d"),
        seen=rearrange(seen, "v n h w s -> v (h w) (n s)"),
    )


def pixel_rays(cameras: Cameras) -> Float[Tensor, "view pixel embedding"]:
    """Embeddings of every pixel's ray, a row a pixel."""
    return rearrange(embed_rays(cameras, OCTAVES), "v c h w -> v (h w) c")


def encode(x: Float[Tensor, "*numbers n"]) -> Float[Tensor, "*numbers encoding"]:
    """Numbers (…, n) about [-1, 1] as themselves, sines and cosines: (…, n · (1 + 2 · OCTAVES))."""
    scale = math.pi * 2.0 ** torch.arange(OCTAVES, dtype=x.dtype, device=x.device)
    waves = (x[..., None] * scale).flatten(-2)
    return torch.cat([x, waves.sin(), waves.cos()], dim=-1)


class PixelTokens(nn.Module):
    """A token a pixel: its normalized features and its ray, see `embed_rays`.

    Normalized over channels alone: a pixel's token says nothing about pixels off the line.

    rays: False leaves the ray out.
    """

    def __init__(self, channels: int, rays: bool = True) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)
        self.ray = nn.Linear(6 * (1 + 2 * OCTAVES), channels, bias=False) if rays else None

    def forward(
        self,
        x: Float[Tensor, "batch view channel height width"],
        rays: Float[Tensor, "view pixel embedding"],
    ) -> Float[Tensor, "batch view pixel channel"]:
        tokens = self.norm(rearrange(x, "b v c h w -> b v (h w) c"))
        return tokens if self.ray is None else tokens + self.ray(rays.to(x.dtype))


@ATTENTION.register("epipolar")
class EpipolarAttention(PairwiseAttention):
    """A pixel's query against features of the other views along its ray.

    The ray is sampled inside the object's sphere, the samples are projected into the near views
    and their features interpolated there; keys and values carry the near view's ray and the
    sample's depth, on the ray and in the near view. Samples no view sees are left out; pixels
    without any, and a view that is alone, keep their features.

    EpiDiff's released code samples the pixel's own view in place of the near ones, so that views
    learn nothing from each other; here they do.

    num_neighbors: near views, by angle as seen from the origin; all others where there are fewer.
    samples: points per ray.
    radius: of the sphere around the origin that holds the object, world units.
    heads: of the attention; they divide the feature map's channels.
    rays: whether tokens hold their rays in world coordinates; False for a pose encoded in queries
        and keys alone (`pose=prope`, `pose=cape`).
    kernel: see `scaled_dot_product`.
    """

    def __init__(
        self,
        slot: SlotSpec,
        num_neighbors: int,
        samples: int,
        radius: float,
        heads: int,
        rays: bool = True,
        kernel: str = "auto",
    ) -> None:
        super().__init__(slot.channels, heads, kernel, "epipolar")
        if num_neighbors < 1 or samples < 1 or not 0 < radius < math.inf:
            raise ConfigError(
                "attention 'epipolar' needs num_neighbors ≥ 1, samples ≥ 1 and a positive radius, "
                f"got num_neighbors={num_neighbors}, samples={samples}, radius={radius}"
            )
        self.num_neighbors, self.samples, self.radius = num_neighbors, samples, radius
        self.tokens = PixelTokens(slot.channels, rays)
        self.to_q = nn.Linear(slot.channels, slot.channels, bias=False)
        self.to_k = nn.Linear(slot.channels, slot.channels, bias=False)
        self.to_v = nn.Linear(slot.channels, slot.channels, bias=False)
        self.depth_k = nn.Linear(2 * (1 + 2 * OCTAVES), slot.channels, bias=False)
        self.depth_v = nn.Linear(2 * (1 + 2 * OCTAVES), slot.channels, bias=False)
        self.out = nn.Linear(slot.channels, slot.channels, bias=False)
        nn.init.zeros_(self.out.weight)

    def forward(
        self, x: Float[Tensor, "batch view channel height width"], scene: ViewContext
    ) -> Float[Tensor, "batch view channel height width"]:
        views, height, width = x.shape[1], *x.shape[-2:]
        if views == 1:
            return x
        places = self._places(scene.cameras, height, width)
        tokens = self.tokens(x, places.rays)
        query, key, value = (to(tokens).unbind(1) for to in (self.to_q, self.to_k, self.to_v))
        # a view at a time, computed again for the gradient: the samples are many times the map
        mixed = [
            self._mix_lean(
                query[i], [key[j] for j in near], [value[j] for j in near], places, i, scene, width
            )
            for i, near in enumerate(places.near)
        ]
        out = self.out(torch.stack(mixed, dim=1))
        return x + rearrange(out, "b v (h w) c -> b v c h w", h=height)

    def _places(self, cameras: Cameras, height: int, width: int) -> Samples:
        settings = (self.num_neighbors, self.samples, self.radius)
        return _samples(
            (height, width, *settings),
            cameras,
            lambda cameras: sample(cameras.resize(height, width), *settings),
        )

    def _mix_lean(self, *arguments: Any) -> Tensor:
        if torch.is_grad_enabled():
            return checkpoint(self._mix, *arguments, use_reentrant=False)
        return self._mix(*arguments)

    def _mix(
        self,
        query: Tensor,
        key: list[Tensor],
        value: list[Tensor],
        places: Samples,
        view: int,
        scene: ViewContext,
        width: int,
    ) -> Tensor:
        """One view's queries (batch, pixel, channel) against its near views' keys and values."""
        query = rearrange(query, "b p (k c) -> b p k 1 c", k=self.heads)
        key = self._at_samples(key, self.depth_k.weight, places, view)
        value = self._at_samples(value, self.depth_v.weight, places, view)
        mask = places.seen[view][None, :, None, None, :]
        at, of = _tokens(places, view, width)
        mixed = self.attend(query, key, value, scene, at, of, mask)
        return rearrange(mixed, "b p k 1 c -> b p (k c)")

    def _at_samples(self, near: list[Tensor], weight: Tensor, places: Samples, view: int) -> Tensor:
        """Keys or values of the near views at the samples, with the samples' depths."""
        rows = torch.cat(near, dim=1)
        sampled = interpolate(rows, places.pixels[view], places.weights[view])
        depth = encode(places.depths[view]).flatten(0, 1).to(rows.dtype)
        both = (x.expand(len(rows), -1, -1) for x in (depth, weight.T.to(rows.dtype)))
        sampled = sampled.baddbmm_(*both)  # in place: memory traffic is what takes the time
        pixels = len(places.pixels[view])
        return rearrange(sampled, "b (p s) (k c) -> b p k s c", p=pixels, k=self.heads)


def _tokens(places: Samples, view: int, width: int) -> tuple[Tokens, Tokens]:
    """Where the queries of a view and the samples of its pixels stand, for maps this wide."""
    pixels, weights = places.pixels[view], places.weights[view]
    count, near = len(pixels), places.near[view]
    own = torch.arange(count, device=pixels.device)
    at = Tokens(own.new_tensor(view), *_column_and_row(own[:, None, None], width, weights.dtype))
    column, row = _column_and_row(pixels % count, width, weights.dtype)
    seen_by = own.new_tensor(near).repeat_interleave(pixels.shape[1] // len(near))
    # between the pixels that a sample is interpolated from
    of = Tokens(seen_by, *((weights * x).sum(dim=-1)[:, None] for x in (column, row)))
    return at, of


def _column_and_row(pixel: Tensor, width: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    row = torch.div(pixel, width, rounding_mode="floor")
    return (pixel % width).to(dtype), row.to(dtype)


def interpolate(
    rows: Float[Tensor, "batch row channel"],
    pixels: Int[Tensor, "pixel sample 4"],
    weights: Float[Tensor, "pixel sample 4"],
) -> Float[Tensor, "batch pixel*sample channel"]:
    """Weighted sums of four rows each, the same of every object."""
    batch, count = rows.shape[:2]
    first = torch.arange(batch, dtype=pixels.dtype, device=pixels.device) * count
    out = F.embedding_bag(
        (pixels.reshape(1, -1, 4) + first[:, None, None]).flatten(0, 1),
        rows.flatten(0, 1),
        per_sample_weights=weights.reshape(-1, 4).to(rows.dtype).repeat(batch, 1),
        mode="sum",
    )
    return out.unflatten(0, (batch, -1))
