"""Cross-view attention: every pixel attends to all pixels of all views.

MVDream's inflated self-attention (arXiv 2308.16512, section 3.1) and Wonder3D's multi-view
attention (arXiv 2310.15008, section 4.2). They tell views apart by an embedding of each camera;
here it is an embedding of each pixel's ray, so that any set of cameras will do.
"""

from __future__ import annotations

from functools import partial

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from ..errors import ConfigError
from .base import ATTENTION, PairwiseAttention, SlotSpec, ViewContext
from .encodings import Tokens, pixel_tokens
from .ray_tokens import RayTokens, TokenAttention


@ATTENTION.register("crossview")
class CrossViewAttention(PairwiseAttention):
    """Attention over the tokens of all views at once; does not depend on the views' order.

    heads: of the attention; they divide the feature map's channels.
    stride: keys and values are means of stride × stride pixels; queries stay as many.
    frequencies: of the rays' embedding, see `RayTokens`.
    rays: whether tokens hold their rays in world coordinates; False for a pose encoded in queries
        and keys alone (`pose=prope`, `pose=cape`).
    kernel: see `scaled_dot_product`; "math" keeps (view · height · width)² weights a head.
    """

    def __init__(
        self,
        slot: SlotSpec,
        heads: int,
        stride: int = 1,
        frequencies: int = 4,
        rays: bool = True,
        kernel: str = "auto",
    ) -> None:
        super().__init__(slot.channels, heads, kernel, "crossview")
        if stride < 1:
            raise ConfigError(f"attention 'crossview' needs a stride of at least 1, got {stride}")
        self.stride = stride
        self.tokens = RayTokens(slot.channels, frequencies, rays)
        self.mix = TokenAttention(slot.channels, heads)

    def forward(
        self, x: Float[Tensor, "batch view channel height width"], scene: ViewContext
    ) -> Float[Tensor, "batch view channel height width"]:
        views, _, height, width = x.shape[1:]
        h = self.tokens(x, scene.cameras)
        query = rearrange(h, "b v c h w -> b (v h w) c")
        key = query if self.stride == 1 else rearrange(self._pooled(h), "b v c h w -> b (v h w) c")
        at = pixel_tokens(views, height, width, like=x)
        of = at if self.stride == 1 else self._pooled_tokens(at, views, height)
        out = self.mix(query, key, attend=partial(self.attend, scene=scene, at=at, of=of))
        return x + rearrange(out, "b (v h w) c -> b v c h w", v=views, h=height, w=width)

    def _pooled(self, h: Tensor) -> Tensor:
        # a map narrower than the stride, or no multiple of it, still gives a key
        size = [-(-side // self.stride) for side in h.shape[-2:]]
        return F.adaptive_avg_pool2d(h.flatten(0, 1), size).unflatten(0, h.shape[:2])

    def _pooled_tokens(self, at: Tokens, views: int, height: int) -> Tokens:
        """Where the means of pixels stand: at the means of their positions."""
        maps = torch.stack([at.view.to(at.row), at.column, at.row], dim=-1)
        maps = rearrange(maps, "(v h w) c -> 1 v c h w", v=views, h=height)
        view, column, row = rearrange(self._pooled(maps), "1 v c h w -> c (v h w)")
        return Tokens(view.round().long(), column, row)
