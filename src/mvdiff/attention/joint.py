"""Joint self-attention: the tokens of all views in one sequence (MVDream's inflated attention).

MVDream (arXiv 2308.16512, section 3.1) puts it in the place of every self-attention of a
pretrained UNet, with that attention's weights: `place=self`. Nothing tells the views apart but
their features, so that the camera must reach the network elsewhere (`pose=`).
"""

from __future__ import annotations

from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from .base import ATTENTION, SlotSpec, ViewAttention, ViewContext
from .sdpa import check_kernel, head_width, scaled_dot_product


@ATTENTION.register("joint")
class JointAttention(ViewAttention):
    """Self-attention over all pixels of all views, without an embedding of views or pixels.

    In place "self" it has the layers of the self-attention that it replaces and takes its
    weights; elsewhere a norm of its own and zero-initialized output, so that it starts as the
    identity.

    heads: None takes as many as the UNet's own attention.
    kernel: see `scaled_dot_product`; "math" keeps (view · height · width)² weights per head.
    """

    needs = frozenset({"all_views"})
    reads_cameras = False

    def __init__(self, slot: SlotSpec, heads: int | None = None, kernel: str = "auto") -> None:
        super().__init__()
        self.heads, self.kernel = slot.heads if heads is None else heads, check_kernel(kernel)
        head_width(slot.channels, self.heads, "joint")
        in_place = slot.place == "self"
        self.norm = nn.Identity() if in_place else nn.LayerNorm(slot.channels)
        self.to_q = nn.Linear(slot.channels, slot.channels, bias=False)
        self.to_k = nn.Linear(slot.channels, slot.channels, bias=False)
        self.to_v = nn.Linear(slot.channels, slot.channels, bias=False)
        self.to_out = nn.ModuleList([nn.Linear(slot.channels, slot.channels)])
        if not in_place:
            nn.init.zeros_(self.to_out[0].weight)
            nn.init.zeros_(self.to_out[0].bias)

    def forward(
        self, x: Float[Tensor, "batch view channel height width"], scene: ViewContext
    ) -> Float[Tensor, "batch view channel height width"]:
        return x + self.update(x, scene)

    def update(
        self, x: Float[Tensor, "batch view channel height width"], scene: ViewContext
    ) -> Float[Tensor, "batch view channel height width"]:
        views, _, height, _ = x.shape[1:]
        tokens = self.norm(rearrange(x, "b v c h w -> b (v h w) c"))
        query, key, value = (
            rearrange(to(tokens), "b n (k c) -> b k n c", k=self.heads)
            for to in (self.to_q, self.to_k, self.to_v)
        )
        mixed = scaled_dot_product(query, key, value, self.kernel)
        out = self.to_out[0](rearrange(mixed, "b k n c -> b n (k c)"))
        return rearrange(out, "b (v h w) c -> b v c h w", v=views, h=height)
