"""Pixels of views as tokens that know their rays, and multi-head attention between them."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from ..cameras.cache import CameraCache
from ..cameras.camera import Cameras
from ..errors import ConfigError

_rays = CameraCache()


class RayTokens(nn.Module):
    """Normalized features plus an embedding of each pixel's ray.

    Rays are Plücker coordinates (direction, moment), as in light field networks (Sitzmann et
    al., arXiv 2106.02634), with NeRF's frequencies (arXiv 2003.08934, equation 4).

    channels: of the features.
    frequencies: sines and cosines at π, 2π, 4π, …; 0 keeps the coordinates alone.
    rays: False leaves the embedding out.
    """

    def __init__(self, channels: int, frequencies: int, rays: bool = True) -> None:
        super().__init__()
        if frequencies < 0:
            raise ConfigError(f"attention needs frequencies ≥ 0 of its rays, got {frequencies}")
        self.frequencies = frequencies
        self.norm = nn.GroupNorm(math.gcd(32, channels), channels)
        self.ray_in = nn.Conv2d(6 * (1 + 2 * frequencies), channels, 1) if rays else None

    def forward(
        self, x: Float[Tensor, "batch view channel height width"], cameras: Cameras
    ) -> Float[Tensor, "batch view channel height width"]:
        """cameras: of the views, shared by the batch, at any resolution."""
        h = self.norm(rearrange(x, "b v c h w -> (b v) c h w")).unflatten(0, x.shape[:2])
        if self.ray_in is None:
            return h
        height, width = x.shape[-2:]
        rays = _rays(
            (height, width, self.frequencies),
            cameras,
            lambda cameras: embed_rays(cameras.resize(height, width), self.frequencies),
        )
        return h + self.ray_in(rays.to(x.dtype))


def embed_rays(cameras: Cameras, frequencies: int) -> Float[Tensor, "view channel height width"]:
    """Plücker coordinates of every pixel's ray and their waves: 6 · (1 + 2 · frequencies)."""
    rays = cameras.pluecker()
    waves = [rays * (math.pi * 2**k) for k in range(frequencies)]
    return torch.cat([rays, *(f(w) for w in waves for f in (torch.sin, torch.cos))], dim=1)


class TokenAttention(nn.Module):
    """Queries, keys and values from tokens; a zero-initialised way out.

    channels: of the tokens. heads: they divide the channels.
    """

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.to_q = nn.Linear(channels, channels, bias=False)
        self.to_k = nn.Linear(channels, channels, bias=False)
        self.to_v = nn.Linear(channels, channels, bias=False)
        self.out = nn.Linear(channels, channels)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(
        self,
        tokens: Float[Tensor, "*batch query channel"],
        of: Float[Tensor, "*batch key channel"],
        attend: Callable[[Tensor, Tensor, Tensor], Tensor],
    ) -> Float[Tensor, "*batch query channel"]:
        """What `tokens` learn from the tokens `of`.

        attend: queries, keys, values (*batch, head, token, channel) → the values' means.
        """
        parts = self.to_q(tokens), self.to_k(of), self.to_v(of)
        mixed = attend(*(rearrange(x, "... n (k c) -> ... k n c", k=self.heads) for x in parts))
        return self.out(rearrange(mixed, "... k n c -> ... n (k c)"))
