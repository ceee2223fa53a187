"""A fixed number of tokens from any number: learned queries that attend to them."""

from __future__ import annotations

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from ..attention.sdpa import scaled_dot_product


class Resampler(nn.Module):
    """IP-Adapter's resampler as ImageDream has it (arXiv 2308.06721; 2312.02201, section 3.2).

    A perceiver resampler (Flamingo, arXiv 2204.14198): in each layer the queries attend to the
    tokens and to themselves.

    inputs, outputs: width of a token in and out. width: inside. tokens: how many come out.
    layers: attention and feed-forward each. heads, head_width: of the attention.
    """

    def __init__(
        self,
        *,
        inputs: int,
        outputs: int,
        width: int,
        tokens: int,
        layers: int,
        heads: int,
        head_width: int,
    ) -> None:
        super().__init__()
        self.latents = nn.Parameter(torch.randn(1, tokens, width) / width**0.5)
        self.proj_in = nn.Linear(inputs, width)
        self.layers = nn.ModuleList(
            nn.ModuleList([_PerceiverAttention(width, heads, head_width), _feed_forward(width)])
            for _ in range(layers)
        )
        self.proj_out = nn.Linear(width, outputs)
        self.norm_out = nn.LayerNorm(outputs)

    def forward(
        self, tokens: Float[Tensor, "batch token input"]
    ) -> Float[Tensor, "batch query output"]:
        x = self.proj_in(tokens)
        queries = self.latents.expand(len(x), -1, -1)
        for attention, feed_forward in self.layers:
            queries = queries + attention(x, queries)
            queries = queries + feed_forward(queries)
        return self.norm_out(self.proj_out(queries))


class _PerceiverAttention(nn.Module):
    """Queries attend to the tokens and, in the same softmax, to themselves."""

    def __init__(self, width: int, heads: int, head_width: int) -> None:
        super().__init__()
        self.heads = heads
        inner = heads * head_width
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.to_q = nn.Linear(width, inner, bias=False)
        self.to_kv = nn.Linear(width, 2 * inner, bias=False)
        self.to_out = nn.Linear(inner, width, bias=False)

    def forward(
        self, x: Float[Tensor, "batch token width"], queries: Float[Tensor, "batch query width"]
    ) -> Float[Tensor, "batch query width"]:
        queries = self.norm2(queries)
        key, value = self.to_kv(torch.cat([self.norm1(x), queries], dim=1)).chunk(2, dim=-1)
        query, key, value = (
            rearrange(each, "b n (k c) -> b k n c", k=self.heads)
            for each in (self.to_q(queries), key, value)
        )
        mixed = scaled_dot_product(query, key, value, "auto")
        return self.to_out(rearrange(mixed, "b k n c -> b n (k c)"))


def _feed_forward(width: int) -> nn.Sequential:
    return nn.Sequential(
        nn.LayerNorm(width),
        nn.Linear(width, 4 * width, bias=False),
        nn.GELU(),
        nn.Linear(4 * width, width, bias=False),
    )
