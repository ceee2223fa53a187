"""SyncDreamer's depth-wise attention: each pixel attends along its own ray (section 4.2)."""

from __future__ import annotations

from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from ..errors import MvdiffError
from .base import ATTENTION, Scene, SlotSpec, ViewAttention
from .core import attend, check_kernel

GROUPS = 8


@ATTENTION.register("depthwise")
class DepthwiseAttention(ViewAttention):
    """A pixel's query against the frustum features at the same pixel, over depth.

    heads, head_ratio: heads have (frustum channels · head_ratio) channels each; the published
        model has 4 heads and a ratio of 1/2.
    kernel: see `attend`; with one query a pixel, "math" beats "sdpa" on a CPU.
    """

    needs = frozenset({"frusta"})

    def __init__(
        self, slot: SlotSpec, heads: int = 4, head_ratio: float = 0.5, kernel: str = "math"
    ) -> None:
        super().__init__()
        if slot.factor not in slot.frustum_channels:
            raise MvdiffError(
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
        self, x: Float[Tensor, "batch view channel height width"], scene: Scene
    ) -> Float[Tensor, "batch view channel height width"]:
        batch, height = x.shape[0], x.shape[-2]
        flat = rearrange(x, "b v c h w -> (b v) c h w")
        context = self.context_in(rearrange(scene.frusta[self.factor], "b v ... -> (b v) ..."))
        # one query a pixel against the depth planes of the same pixel
        query = rearrange(
            self.to_q(self.query_in(flat)), "n (k c) h w -> n (h w) k 1 c", k=self.heads
        )
        key = rearrange(self.to_k(context), "n (k c) d h w -> n (h w) k d c", k=self.heads)
        value = rearrange(self.to_v(context), "n (k c) d h w -> n (h w) k d c", k=self.heads)
        mixed = attend(query, key, value, self.kernel)
        mixed = rearrange(mixed, "n (h w) k 1 c -> n (k c) h w", h=height)
        out = flat + self.out(self.to_out(mixed))
        return rearrange(out, "(b v) c h w -> b v c h w", b=batch)
