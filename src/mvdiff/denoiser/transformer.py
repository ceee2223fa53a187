"""The UNet's own transformer block: self-attention of a view, cross-attention to the context."""

from __future__ import annotations

import torch
from diffusers.models.attention import BasicTransformerBlock
from diffusers.models.attention_processor import Attention
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from ..attention.sdpa import check_kernel, scaled_dot_product


class FusedAttnProcessor:
    """Attention of diffusers' layers by `scaled_dot_product`, with a choice of kernel.

    single_token: an exact shortcut, on unless set to False. The softmax over one context token is
        1 for every query, so that each pixel gets out(value(token)) whatever it asks. Left
        out where the queries' weights are trained: their gradient is zero, but must exist.
    """

    def __init__(self, kernel: str) -> None:
        self.kernel = check_kernel(kernel)
        self.single_token = True

    def __call__(
        self,
        layer: Attention,
        hidden_states: Float[Tensor, "batch query channel"],
        encoder_hidden_states: Float[Tensor, "batch key context"] | None = None,
        attention_mask: None = None,
    ) -> Float[Tensor, "batch _query channel"]:
        """What the queries learn from the context, or from themselves; 1 answer for all of them
        where there is a single token."""
        of = hidden_states if encoder_hidden_states is None else encoder_hidden_states
        trained = torch.is_grad_enabled() and layer.to_q.weight.requires_grad
        if of.shape[1] == 1 and self.single_token and not trained:
            return layer.to_out[0](layer.to_v(of))
        parts = layer.to_q(hidden_states), layer.to_k(of), layer.to_v(of)
        query, key, value = (rearrange(x, "b n (k c) -> b k n c", k=layer.heads) for x in parts)
        mixed = scaled_dot_product(query, key, value, self.kernel)
        return layer.to_out[0](rearrange(mixed, "b k n c -> b n (k c)"))


class SpatialTransformer(nn.Module):
    """Self- and cross-attention over the pixels of a feature map (Stable Diffusion 1.x).

    The layers have the names of diffusers' `Transformer2DModel`, so weights are interchangeable;
    that class is not used because its package imports every transformer of diffusers (1.5 s).
    The residual branch ends in zeros, as published: the block starts as the identity.

    channels: of the feature map, a multiple of `heads`. context_dim: of the context tokens.
    groups: of the group normalization. kernel: see `attention.core.attend`.
    """

    def __init__(
        self, channels: int, heads: int, context_dim: int, groups: int, kernel: str
    ) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(groups, channels, eps=1e-6)
        self.proj_in = nn.Conv2d(channels, channels, 1)
        block = BasicTransformerBlock(
            channels, heads, channels // heads, cross_attention_dim=context_dim
        )
        self.transformer_blocks = nn.ModuleList([block])
        self.proj_out = nn.Conv2d(channels, channels, 1)
        for module in block.modules():
            if isinstance(module, Attention):
                module.set_processor(FusedAttnProcessor(kernel))
        nn.init.zeros_(self.proj_out.weight)
        nn.init.zeros_(self.proj_out.bias)

    def forward(
        self,
        x: Float[Tensor, "batch channel height width"],
        context: Float[Tensor, "batch token context"],
    ) -> Float[Tensor, "batch channel height width"]:
        height = x.shape[-2]
        tokens = rearrange(self.proj_in(self.norm(x)), "b c h w -> b (h w) c")
        for block in self.transformer_blocks:
            tokens = block(tokens, encoder_hidden_states=context)
        return x + self.proj_out(rearrange(tokens, "b (h w) c -> b c h w", h=height).contiguous())
