"""The UNet's own transformer block: self-attention of a view, cross-attention to the context."""

from __future__ import annotations

import torch
from diffusers.models.attention_processor import Attention
from diffusers.models.transformers.transformer_2d import Transformer2DModel
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from ..attention.core import attend, check_kernel


class Attend:
    """How diffusers' attention layers compute here: by `attend`, with a choice of kernel.

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
        mixed = attend(query, key, value, self.kernel)
        return layer.to_out[0](rearrange(mixed, "b k n c -> b n (k c)"))


def transformer(
    channels: int, heads: int, context_dim: int, groups: int, kernel: str
) -> Transformer2DModel:
    """One block of Stable Diffusion 1.x; its residual branch ends in zeros, as published."""
    block = Transformer2DModel(
        num_attention_heads=heads,
        attention_head_dim=channels // heads,
        in_channels=channels,
        num_layers=1,
        cross_attention_dim=context_dim,
        norm_num_groups=groups,
    )
    for module in block.modules():
        if hasattr(module, "set_processor"):
            module.set_processor(Attend(kernel))
    nn.init.zeros_(block.proj_out.weight)
    nn.init.zeros_(block.proj_out.bias)
    return block
