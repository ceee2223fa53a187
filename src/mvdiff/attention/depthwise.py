"""SyncDreamer's depth-wise attention: each pixel attends along its own ray (section 4.2)."""

from __future__ import annotations

import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from ..errors import ConfigError
from .base import ATTENTION, SlotSpec, ViewAttention, ViewContext
from .sdpa import check_kernel, scaled_dot_product

GROUPS = 8


@ATTENTION.register("depthwise")
class DepthwiseAttention(ViewAttention):
    """A pixel's query against the frustum features at the same pixel, over depth.

    heads, head_ratio: heads have (frustum channels · head_ratio) channels each; the published
        model has 4 heads and a ratio of 1/2.
    kernel: see `scaled_dot_product`; with one query a pixel, "math" beats "sdpa" on a CPU.

    Two exact shortcuts, on unless set to False:
    folded_keys: keys and values are linear in the context, q·(K c) = (Kᵀ q)·c. So the query goes
        through the keys' matrix, and the mixed context through the values', once a pixel instead
        of once a depth plane: `planes` times fewer products, and no keys and values in memory.
    empty_volume: zero frusta (`ViewContext.empty`) make all planes' and pixels' contexts the same;
        whatever the weights of the softmax, its answer is the value, so that no query is needed
        and one map serves all views.
    """

    needs = frozenset({"frusta"})
    folded_keys = True
    empty_volume = True

    def __init__(
        self, slot: SlotSpec, heads: int = 4, head_ratio: float = 0.5, kernel: str = "math"
    ) -> None:
        super().__init__()
        if slot.factor not in slot.frustum_channels:
            raise ConfigError(
                f"attention 'depthwise' needs frusta {slot.factor}× smaller than the latents, the "
                f"volume offers {sorted(slot.frustum_channels) or 'none'}: choose a volume with "
                "frusta (volume=concat) or attention=none"
            )
        context = slot.frustum_channels[slot.factor]
        inner = heads * int(context * head_ratio)
        self.factor, self.heads, self.kernel = slot.factor, heads, check_kernel(kernel)
        self.query_in = nn.Sequential(
            nn.Conv2d(slot.channels, inner, 1), nn.GroupNorm(GROUPS, inner), nn.SiLU()
        )
        self.context_in = nn.Sequential(
            nn.Conv3d(context, context, 1, bias=False), nn.GroupNorm(GROUPS, context), nn.ReLU()
        )
        self.to_q = nn.Conv2d(inner, inner, 1, bias=False)
        self.to_k = nn.Conv3d(context, inner, 1, bias=False)
        self.to_v = nn.Conv3d(context, inner, 1, bias=False)
        self.to_out = nn.Conv2d(inner, inner, 1, bias=False)
        self.out = nn.Sequential(
            nn.GroupNorm(GROUPS, inner),
            nn.ReLU(),
            nn.Conv2d(inner, inner, 3, padding=1, bias=False),
            nn.GroupNorm(GROUPS, inner),
            nn.ReLU(),
            nn.Conv2d(inner, slot.channels, 3, padding=1, bias=False),
        )
        nn.init.zeros_(self.out[-1].weight)

    def forward(
        self, x: Float[Tensor, "batch view channel height width"], scene: ViewContext
    ) -> Float[Tensor, "batch view channel height width"]:
        batch = x.shape[0]
        flat = rearrange(x, "b v c h w -> (b v) c h w")
        if scene.empty and self.empty_volume:
            return x + self._answer_to_nothing(flat)
        frusta = rearrange(scene.frusta[self.factor], "b v ... -> (b v) ...")
        query = self.to_q(self.query_in(flat))
        mixed = self._folded(query, frusta) if self.folded_keys else self._plain(query, frusta)
        out = flat + self.out(self.to_out(mixed))
        return rearrange(out, "(b v) c h w -> b v c h w", b=batch)

    def _plain(self, query: Tensor, frusta: Tensor) -> Tensor:
        """The formula as written: one query a pixel, keys and values at its depth planes."""
        height, context = query.shape[-2], self.context_in(frusta)
        query = rearrange(query, "n (k c) h w -> n (h w) k 1 c", k=self.heads)
        key = rearrange(self.to_k(context), "n (k c) d h w -> n (h w) k d c", k=self.heads)
        value = rearrange(self.to_v(context), "n (k c) d h w -> n (h w) k d c", k=self.heads)
        mixed = scaled_dot_product(query, key, value, self.kernel)
        return rearrange(mixed, "n (h w) k 1 c -> n (k c) h w", h=height)

    def _folded(self, query: Tensor, frusta: Tensor) -> Tensor:
        """The same, with heads as the queries of a pixel and its context as keys and values."""
        height, heads = query.shape[-2], self.heads
        context = self._context(frusta)
        keys, values = (
            rearrange(conv.weight, "(k c) e 1 1 1 -> k c e", k=heads)
            for conv in (self.to_k, self.to_v)
        )
        query = rearrange(query, "n (k c) h w -> k (n h w) c", k=heads)
        # `scaled_dot_product` divides by the root of the context's channels, not of the heads'
        query = (query @ keys) * (keys.shape[2] / keys.shape[1]) ** 0.5
        query = rearrange(query, "k p e -> p 1 k e")
        mixed = scaled_dot_product(query, context, context, self.kernel)
        mixed = rearrange(mixed, "p 1 k e -> k p e") @ values.mT
        return rearrange(mixed, "k (n h w) c -> n (k c) h w", n=len(frusta), h=height)

    def _context(self, frusta: Tensor) -> Tensor:
        """`context_in` with a pixel's planes side by side: (view · pixel, 1, depth, channel)."""
        conv, norm, _ = self.context_in
        rows = rearrange(frusta, "n c d h w -> n d h w c").contiguous()
        context = F.linear(rows, conv.weight.flatten(1))
        context = F.relu(norm(rearrange(context, "n d h w c -> n c d h w")))
        return rearrange(context, "n c d h w -> (n h w) 1 d c").contiguous()

    def _answer_to_nothing(self, x: Tensor) -> Tensor:
        """What every view gets for zero frusta: (1, channel, height, width)."""
        height, width = x.shape[-2:]
        weight = self.to_k.weight
        # two planes, because a norm refuses a single number
        context = self.context_in(weight.new_zeros(1, weight.shape[1], 2, 1, 1))
        value = self.to_out(self.to_v(context)[:, :, 0])
        return self.out(value.expand(-1, -1, height, width).contiguous())
