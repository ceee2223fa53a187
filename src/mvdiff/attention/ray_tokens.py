"""Pixels of views as tokens that know their rays, and multi-head attention between them."""

from __future__ import annotations

import math

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from ..cameras.cache import CameraCache
from ..cameras.camera import Cameras
from ..errors import ConfigError
from .sdpa import check_kernel, head_width, scaled_dot_product

_rays = CameraCache()


class RayTokens(nn.Module):
    """Normalized features plus an embedding of each pixel's ray.

    Rays are Plücker coordinates (direction, moment), as in light field networks (Sitzmann et
    al., arXiv 2106.02634), with NeRF's frequencies (arXiv 2003.08934, equation 4).

    channels: of the features.
    frequencies: sines and cosines at π, 2π, 4π, …; 0 keeps the coordinates alone.
    """

    def __init__(self, channels: int, frequencies: int) -> None:
        super().__init__()
        if frequencies < 0:
            raise ConfigError(f"attention needs frequencies ≥ 0 of its rays, got {frequencies}")
        self.frequencies = frequencies
        self.norm = nn.GroupNorm(math.gcd(32, channels), channels)
        self.ray_in = nn.Conv2d(6 * (1 + 2 * frequencies), channels, 1)

    def forward(
        self, x: Float[Tensor, "batch view channel height width"], cameras: Cameras
    ) -> Float[Tensor, "batch view channel height width"]:
        """cameras: of the views, shared by the batch, at any resolution."""
        height, width = x.shape[-2:]
        rays = _rays(
            (height, width, self.frequencies),
            cameras,
            lambda cameras: embed_rays(cameras.resize(height, width), self.frequencies),
        )
        h = self.norm(rearrange(x, "b v c h w -> (b v) c h w"))
        return h.unflatten(0, x.shape[:2]) + self.ray_in(rays.to(x.dtype))


def embed_rays(cameras: Cameras, frequencies: int) -> Float[Tensor, "view channel height width"]:
    """Plücker coordinates of every pixel's ray and their waves: 6 · (1 + 2 · frequencies)."""
    rays = cameras.pluecker()
    waves = [rays * (math.pi * 2**k) for k in range(frequencies)]
    return torch.cat([rays, *(f(w) for w in waves for f in (torch.sin, torch.cos))], dim=1)


class TokenAttention(nn.Module):
    """Queries, keys and values from tokens; a zero-initialised way out.

    channels: of the tokens. heads: they divide the channels. kernel: see `scaled_dot_product`.
    variant: whose attention it is, for messages.
    """

    def __init__(self, channels: int, heads: int, kernel: str, variant: str) -> None:
        super().__init__()
        head_width(channels, heads, variant)
        self.heads, self.kernel = heads, check_kernel(kernel)
        self.to_q = nn.Linear(channels, channels, bias=False)
        self.to_k = nn.Linear(channels, channels, bias=False)
        self.to_v = nn.Linear(channels, channels, bias=False)
        self.out = nn.Linear(channels, channels)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(
        self, tokens: Float[Tensor, "*batch query channel"], of: Float[Tensor, "*batch key channel"]
    ) -> Float[Tensor, "*batch query channel"]:
        """What `tokens` learn from the tokens `of`."""
        parts = self.to_q(tokens), self.to_k(of), self.to_v(of)
        query, key, value = (rearrange(x, "... n (k c) -> ... k n c", k=self.heads) for x in parts)
        mixed = scaled_dot_product(query, key, value, self.kernel)
        return self.out(rearrange(mixed, "... k n c -> ... n (k c)"))
