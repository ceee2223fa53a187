"""The UNet's own transformer: self-attention of a view, cross-attention to the context."""

from __future__ import annotations

from collections.abc import Callable

import torch
from diffusers.models.attention import FeedForward
from diffusers.models.attention_processor import Attention
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from ..attention.sdpa import check_kernel, scaled_dot_product

#: features (batch · view, channel, height, width) → what a view attention adds to them
ViewUpdate = Callable[[Tensor], Tensor]


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
        image_tokens: Float[Tensor, "batch image context"] | None = None,
    ) -> Float[Tensor, "batch _query channel"]:
        """What the queries learn from the context, or from themselves; 1 answer for all of them
        where there is a single token.

        image_tokens: attended to with the same queries, in a softmax of their own, through
            `to_k_ip` and `to_v_ip` (decoupled cross-attention: IP-Adapter, arXiv 2308.06721).
        """
        of = hidden_states if encoder_hidden_states is None else encoder_hidden_states
        trained = torch.is_grad_enabled() and layer.to_q.weight.requires_grad
        if of.shape[1] == 1 and image_tokens is None and self.single_token and not trained:
            return layer.to_out[0](layer.to_v(of))
        query = layer.to_q(hidden_states)
        mixed = self._attend(layer, query, layer.to_k(of), layer.to_v(of))
        if image_tokens is not None:
            key, value = layer.to_k_ip(image_tokens), layer.to_v_ip(image_tokens)
            mixed = mixed + self._attend(layer, query, key, value)
        return layer.to_out[0](mixed)

    def _attend(self, layer: Attention, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        query, key, value = (
            rearrange(x, "b n (k c) -> b k n c", k=layer.heads) for x in (query, key, value)
        )
        mixed = scaled_dot_product(query, key, value, self.kernel)
        return rearrange(mixed, "b k n c -> b n (k c)")


class TransformerBlock(nn.Module):
    """Self-attention, cross-attention to the context, gated feed-forward; each behind a norm.

    The layers have the names of diffusers' `BasicTransformerBlock`. A view attention may stand
    inside, see `forward`.

    channels: of the tokens. heads, head_dim: of the attention. context_dim: of the context's
    tokens. kernel: see `scaled_dot_product`.
    self_attention: False leaves out `attn1`, for a view attention in its place.
    image_tokens: whether the cross-attention has keys and values for image tokens, too.
    """

    def __init__(
        self,
        channels: int,
        heads: int,
        head_dim: int,
        context_dim: int,
        kernel: str,
        *,
        self_attention: bool = True,
        image_tokens: bool = False,
    ) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(channels)
        self.attn1 = None
        if self_attention:
            self.attn1 = Attention(channels, heads=heads, dim_head=head_dim)
            self.attn1.set_processor(FusedAttnProcessor(kernel))
        self.norm2 = nn.LayerNorm(channels)
        self.attn2 = Attention(channels, context_dim, heads=heads, dim_head=head_dim)
        self.attn2.set_processor(FusedAttnProcessor(kernel))
        if image_tokens:
            self.attn2.to_k_ip = nn.Linear(context_dim, heads * head_dim, bias=False)
            self.attn2.to_v_ip = nn.Linear(context_dim, heads * head_dim, bias=False)
        self.norm3 = nn.LayerNorm(channels)
        self.ff = FeedForward(channels, activation_fn="geglu")

    def forward(
        self,
        x: Float[Tensor, "batch pixel channel"],
        context: Float[Tensor, "batch token context"],
        image_tokens: Float[Tensor, "batch image context"] | None = None,
        place: str = "after",
        view_update: ViewUpdate | None = None,
    ) -> Float[Tensor, "batch pixel channel"]:
        """The tokens of every view.

        place: where the view attention stands, see `mvdiff.attention.PLACES`.
        view_update: tokens → what the view attention adds to them; None: there is none here.
        """
        normed = self.norm1(x)
        if place == "self" and view_update is not None:
            x = x + view_update(normed)
        elif place == "decoupled" and view_update is not None:
            x = x + self.attn1(normed) + view_update(normed)
        else:
            x = x + self.attn1(normed)
        if place == "beside" and view_update is not None:
            x = x + view_update(x)
        if image_tokens is None:
            x = x + self.attn2(self.norm2(x), context)
        else:
            x = x + self.attn2(self.norm2(x), context, image_tokens=image_tokens)
        return x + self.ff(self.norm3(x))


class SpatialTransformer(nn.Module):
    """Self- and cross-attention over the pixels of a feature map (Stable Diffusion 1.x and 2.x).

    The layers have the names of diffusers' `Transformer2DModel`, so weights are interchangeable;
    that class is not used because its package imports every transformer of diffusers (1.5 s).
    The residual branch ends in zeros, as published: the block starts as the identity.

    channels: of the feature map, a multiple of `heads`. context_dim: of the context tokens.
    groups: of the group normalization. kernel: see `attention.sdpa.scaled_dot_product`.
    linear: projections act on tokens (Stable Diffusion 2.x), instead of 1×1 convolutions.
    self_attention, image_tokens: see `TransformerBlock`.
    """

    def __init__(
        self,
        channels: int,
        heads: int,
        context_dim: int,
        groups: int,
        kernel: str,
        *,
        linear: bool = False,
        self_attention: bool = True,
        image_tokens: bool = False,
    ) -> None:
        super().__init__()
        self.linear = linear
        self.norm = nn.GroupNorm(groups, channels, eps=1e-6)
        self.proj_in = _projection(channels, linear)
        block = TransformerBlock(
            channels,
            heads,
            channels // heads,
            context_dim,
            kernel,
            self_attention=self_attention,
            image_tokens=image_tokens,
        )
        self.transformer_blocks = nn.ModuleList([block])
        self.proj_out = _projection(channels, linear)
        nn.init.zeros_(self.proj_out.weight)
        nn.init.zeros_(self.proj_out.bias)

    def forward(
        self,
        x: Float[Tensor, "batch channel height width"],
        context: Float[Tensor, "batch token context"],
        image_tokens: Float[Tensor, "batch image context"] | None = None,
        place: str = "after",
        view_update: ViewUpdate | None = None,
    ) -> Float[Tensor, "batch channel height width"]:
        """As `TransformerBlock.forward`, for maps; `view_update` takes and gives maps, too."""
        height = x.shape[-2]

        def to_map(tokens: Tensor) -> Tensor:
            return rearrange(tokens, "b (h w) c -> b c h w", h=height).contiguous()

        def to_tokens(maps: Tensor) -> Tensor:
            return rearrange(maps, "b c h w -> b (h w) c")

        def update(tokens: Tensor) -> Tensor:
            return to_tokens(view_update(to_map(tokens)))

        h = self.norm(x)
        tokens = self.proj_in(to_tokens(h)) if self.linear else to_tokens(self.proj_in(h))
        for block in self.transformer_blocks:
            tokens = block(
                tokens, context, image_tokens, place, None if view_update is None else update
            )
        if self.linear:
            return x + to_map(self.proj_out(tokens))
        return x + self.proj_out(to_map(tokens))


def _projection(channels: int, linear: bool) -> nn.Module:
    return nn.Linear(channels, channels) if linear else nn.Conv2d(channels, channels, 1)
