"""Cross-view attention within a band around the epipolar lines (SPAD, arXiv 2402.05235)."""

from __future__ import annotations

import torch
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor, nn

from ..cameras.cache import CameraCache
from ..cameras.camera import Cameras
from ..cameras.epipolar import EpipolarLines, epipolar_lines
from ..errors import ConfigError
from .base import ATTENTION, PairwiseAttention, SlotSpec, ViewContext
from .encodings import pixel_tokens
from .epipolar import PixelTokens, pixel_rays
from .sdpa import scaled_dot_product

#: Masks of up to this many entries (bytes) are remembered, larger ones made a view at a time.
MASK_SIZE = 2**25

_bands = CameraCache()


class Bands:
    """Which pixels a pixel may look at: its own view's, and other views' near its epipolar line.

    cameras: at the size of the feature map. width: of the band, in its pixels.
    """

    def __init__(self, cameras: Cameras, width: float) -> None:
        self.rays = pixel_rays(cameras)
        self.width = width
        self.grid = cameras.pixel_grid().flatten(0, 1)
        self.lines: EpipolarLines = epipolar_lines(cameras)
        views, pixels = len(cameras), cameras.height * cameras.width
        small = (views * pixels) ** 2 <= MASK_SIZE
        self.masks = [self._make(i) for i in range(views)] if small else None

    def mask(self, view: int) -> Bool[Tensor, "pixel key"]:
        """For the pixels of one view: True at the pixels of all views they may look at."""
        return self._make(view) if self.masks is None else self.masks[view]

    def _make(self, view: int) -> Tensor:
        near = self.lines.distance(view, self.grid) <= self.width / 2
        near[:, :, view] = True
        return rearrange(near, "h w v p -> (h w) (v p)")


@ATTENTION.register("epipolar_mask")
class EpipolarMaskedAttention(PairwiseAttention):
    """A pixel's query against all pixels of its own view and those near its epipolar lines.

    As in SPAD, the own view is not masked: a pixel always has something to look at, and a view
    that is alone attends to itself.

    width: of the band, in pixels of the feature map. Pixels that show the same point lie up to
        1.81 px off each other's lines, 99 % of them within 1.0 px, since both are rounded
        (points of a ball of radius 0.6 seen by 16 cameras around it, 16² and 32² pixels).
    heads: of the attention; they divide the feature map's channels.
    rays: whether tokens hold their rays in world coordinates; False for a pose encoded in queries
        and keys alone (`pose=prope`, `pose=cape`).
    kernel: see `scaled_dot_product`.
    """

    def __init__(
        self,
        slot: SlotSpec,
        width: float,
        heads: int,
        rays: bool = True,
        kernel: str = "auto",
    ) -> None:
        super().__init__(slot.channels, heads, kernel, "epipolar_mask")
        if not width > 0:
            raise ConfigError(
                f"attention 'epipolar_mask' needs a band of width > 0 pixels, got width={width}"
            )
        self.width = width
        self.tokens = PixelTokens(slot.channels, rays)
        self.to_q = nn.Linear(slot.channels, slot.channels, bias=False)
        self.to_kv = nn.Linear(slot.channels, 2 * slot.channels, bias=False)
        self.out = nn.Linear(slot.channels, slot.channels, bias=False)
        nn.init.zeros_(self.out.weight)

    def forward(
        self, x: Float[Tensor, "batch view channel height width"], scene: ViewContext
    ) -> Float[Tensor, "batch view channel height width"]:
        height, width = x.shape[-2:]
        bands = _bands(
            (height, width, self.width),
            scene.cameras,
            lambda cameras: Bands(cameras.resize(height, width), self.width),
        )
        tokens = self.tokens(x, bands.rays)
        query = rearrange(self.to_q(tokens), "b v p (k c) -> b k (v p) c", k=self.heads)
        key, value = rearrange(
            self.to_kv(tokens), "b v p (two k c) -> two b k (v p) c", two=2, k=self.heads
        )
        at = pixel_tokens(x.shape[1], height, width, like=x)
        query, key, value = self.encode(query, key, value, scene, at, at)
        # a view's queries at a time: the mask is as large as all pairs of pixels
        mixed = [
            scaled_dot_product(q, key, value, self.kernel, bands.mask(i))
            for i, q in enumerate(query.split(height * width, dim=-2))
        ]
        mixed = self.decode(torch.cat(mixed, dim=-2), scene, at)
        out = self.out(rearrange(mixed, "b k (v p) c -> b v p (k c)", v=x.shape[1]))
        return x + rearrange(out, "b v (h w) c -> b v c h w", h=height)
