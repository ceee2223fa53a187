"""The 2D backbone: Stable Diffusion's UNet with named sites for view attention."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from diffusers.models.downsampling import Downsample2D
from diffusers.models.embeddings import get_timestep_embedding
from diffusers.models.resnet import ResnetBlock2D
from diffusers.models.upsampling import Upsample2D
from einops import rearrange, repeat
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ..attention.base import PLACES, ViewAttention, ViewContext
from ..errors import ConfigError
from .transformer import SpatialTransformer


class MultiViewUNet(nn.Module):
    """Encoder, middle, decoder; view attention at named sites.

    inputs, outputs: channels of the (concatenated) latents in and of the prediction.
    width, mults: channels at level k are width · mults[k]; the map halves between levels.
    blocks: residual blocks per level (one more in the decoder).
    attention_levels: levels with a transformer block (self- and cross-attention).
    heads, head_width: of those: a number of heads (Stable Diffusion 1.x), or channels per head
        (2.x); one of them is None.
    linear_projection: of the transformers, on tokens (2.x), instead of 1×1 convolutions.
    context_dim: of the cross-attention's tokens.
    image_tokens: whether the cross-attention takes image tokens beside the context.
    groups: of every GroupNorm. kernel: see `attention.sdpa.scaled_dot_product`.
    slots: sites that get a view attention: "mid", a decoder block's "up0", "up1", … or an encoder
        block's "down0", …; ["all"] are all that the place allows.
    place: where at a site it stands, see `attention.PLACES`. All but "after" and "within" need a
        transformer.
    time_dim: of the embedding of the noise level; None: 4 · width, as published.
    make_slot: `SiteSpec` → module.
    Set `checkpointing` to compute blocks and slots again in the backward pass instead of keeping
    what happened inside them: the same gradients for less memory and more time.
    Raises ConfigError for sites that this UNet does not have.
    """

    checkpointing = False

    def __init__(
        self,
        *,
        inputs: int,
        outputs: int,
        width: int,
        mults: Sequence[int],
        blocks: int,
        attention_levels: Sequence[int],
        heads: int | None,
        context_dim: int,
        slots: Sequence[str],
        make_slot: Callable[[SiteSpec], ViewAttention],
        head_width: int | None = None,
        linear_projection: bool = False,
        image_tokens: bool = False,
        groups: int = 32,
        kernel: str = "auto",
        place: str = "after",
        time_dim: int | None = None,
    ) -> None:
        super().__init__()
        if (heads is None) == (head_width is None):
            raise ConfigError(
                "the UNet needs either unet.heads or unet.head_width, the other one null, got "
                f"heads={heads} and head_width={head_width}"
            )
        if place not in PLACES:
            raise ConfigError(f"unknown place '{place}'; choose from {', '.join(PLACES)}")
        widths = [width * mult for mult in mults]
        if head_width is not None and any(w % head_width for w in widths):
            raise ConfigError(
                f"unet.head_width must divide the UNet's widths {widths}, got {head_width}"
            )
        self.width, self.place = width, place
        self.block_channels: dict[str, int] = {}
        self.time_dim = time_dim = time_dim or 4 * width
        plan = _plan(width, mults, blocks, attention_levels, heads, head_width)
        sites = {block.site: block for block in plan if block.spec(place) is not None}
        chosen = list(sites) if list(slots) == ["all"] else list(slots)
        if unknown := [site for site in chosen if site not in sites]:
            raise ConfigError(
                f"unet.slots names '{unknown[0]}', but with place={place} this UNet's attention "
                f"sites are {', '.join(sites)}"
            )

        def transformer(block: _Block) -> nn.Module:
            replaced = place == "self" and block.site in chosen
            return SpatialTransformer(
                block.channels,
                block.heads,
                context_dim,
                groups,
                kernel,
                linear=linear_projection,
                self_attention=not replaced,
                image_tokens=image_tokens,
            )

        def layers(block: _Block) -> nn.ModuleList:
            made = [_residual(block.inputs, block.channels, time_dim, groups)]
            if block.transformer:
                made.append(transformer(block))
            if block.site == "mid":
                made.append(_residual(block.channels, block.channels, time_dim, groups))
            if block.upsampled:
                made.append(Upsample2D(block.channels, use_conv=True, out_channels=block.channels))
            return nn.ModuleList(made)

        self.time = nn.Sequential(
            nn.Linear(width, time_dim), nn.SiLU(), nn.Linear(time_dim, time_dim)
        )
        self.stem = nn.Conv2d(inputs, width, 3, padding=1)
        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        self.slots = nn.ModuleDict()
        for block in plan:
            if block.halves:
                halve = Downsample2D(
                    block.channels, use_conv=True, out_channels=block.channels, name="op"
                )
                self.down.append(nn.ModuleList([halve]))
                continue
            self.block_channels[block.site] = block.channels
            if block.site == "mid":
                self.middle = layers(block)
            else:
                (self.down if block.site.startswith("down") else self.up).append(layers(block))
            if block.site in chosen:
                self.slots[block.site] = make_slot(block.spec(place))
        self.out = nn.Sequential(
            nn.GroupNorm(groups, width), nn.SiLU(), nn.Conv2d(width, outputs, 3, padding=1)
        )
        nn.init.zeros_(self.out[-1].weight)
        nn.init.zeros_(self.out[-1].bias)

    def forward(
        self,
        x: Float[Tensor, "batch view channel height width"],
        timestep: Float[Tensor, "batch"],
        context: Float[Tensor, "batch view token context"],
        scene: ViewContext,
        stem_residual: Float[Tensor, "batch view features height width"] | None = None,
        time_residual: Float[Tensor, "batch view time"] | None = None,
        image_tokens: Float[Tensor, "batch view image context"] | None = None,
        pose_maps: Callable[[str, int, int], Tensor] | None = None,
    ) -> Float[Tensor, "batch view out height width"]:
        """The prediction for all views.

        stem_residual: added to the first feature map. time_residual: added to the embedding of
        the noise level. image_tokens: see `FusedAttnProcessor`. pose_maps: a block's site, height
        and width → (batch · view, channel, height, width) with the channels of `block_channels`,
        added to what the block's first residual layer gives.
        """
        batch, views = x.shape[:2]
        time = get_timestep_embedding(
            timestep, self.width, flip_sin_to_cos=True, downscale_freq_shift=0
        )
        time = repeat(self.time(time.to(self.stem.weight.dtype)), "b t -> (b v) t", v=views)
        if time_residual is not None:
            time = time + rearrange(time_residual, "b v t -> (b v) t")
        context = rearrange(context, "b v t c -> (b v) t c")
        if image_tokens is not None:
            image_tokens = rearrange(image_tokens, "b v t c -> (b v) t c")
        x = self.stem(rearrange(x, "b v c h w -> (b v) c h w"))
        if stem_residual is not None:
            x = x + rearrange(stem_residual, "b v c h w -> (b v) c h w")

        scene = replace(scene, unet_time=time.unflatten(0, (batch, views)))
        given = (time, context, image_tokens, pose_maps, scene, batch)
        skips = [x]
        for number, block in enumerate(self.down):
            x = self._call(f"down{number}", block, x, *given)
            skips.append(x)
        x = self._call("mid", self.middle, x, *given)
        for number, block in enumerate(self.up):
            x = self._call(f"up{number}", block, torch.cat([x, skips.pop()], dim=1), *given)
        return rearrange(self.out(x), "(b v) c h w -> b v c h w", b=batch)

    def _call(self, site: str, block: nn.ModuleList, x: Tensor, *arguments: Any) -> Tensor:
        if self.checkpointing and torch.is_grad_enabled():
            x = checkpoint(self._run, site, block, x, *arguments, use_reentrant=False)
            return checkpoint(self._after, site, x, *arguments[-2:], use_reentrant=False)
        return self._after(site, self._run(site, block, x, *arguments), *arguments[-2:])

    def _run(
        self,
        site: str,
        block: nn.ModuleList,
        x: Tensor,
        time: Tensor,
        context: Tensor,
        image_tokens: Tensor | None,
        pose_maps: Callable[[str, int, int], Tensor] | None,
        scene: ViewContext,
        batch: int,
    ) -> Tensor:
        """The layers of a block, a view attention inside its transformer included."""
        inside = site in self.slots and self.place not in ("after", "within")
        slot = self.slots[site] if inside else None

        def view_update(maps: Tensor) -> Tensor:
            views = rearrange(maps, "(b v) c h w -> b v c h w", b=batch)
            return rearrange(slot.update(views, scene), "b v c h w -> (b v) c h w")

        split = self._split(site, block)
        for number, layer in enumerate(block):
            if number == split:
                x = self._slot(site, x, scene, batch)
            if isinstance(layer, ResnetBlock2D):
                x = layer(x, time)
                if pose_maps is not None and number == 0:
                    x = x + pose_maps(site, *x.shape[-2:])
            elif isinstance(layer, SpatialTransformer):
                update = None if slot is None else view_update
                x = layer(x, context, image_tokens, self.place, update)
            else:
                x = layer(x)
        return x if split is None or split < len(block) else self._slot(site, x, scene, batch)

    def _split(self, site: str, block: nn.ModuleList) -> int | None:
        """The layer before which a view attention with place="within" stands."""
        if site not in self.slots or self.place != "within":
            return None
        if site == "mid":
            return 1  # between the first residual block and the transformer
        return len(block) - isinstance(block[-1], Upsample2D)

    def _after(self, site: str, x: Tensor, scene: ViewContext, batch: int) -> Tensor:
        """The view attention that follows a block."""
        if site not in self.slots or self.place != "after":
            return x
        return self._slot(site, x, scene, batch)

    def _slot(self, site: str, x: Tensor, scene: ViewContext, batch: int) -> Tensor:
        x = self.slots[site](rearrange(x, "(b v) c h w -> b v c h w", b=batch), scene)
        return rearrange(x, "b v c h w -> (b v) c h w")


@dataclass(frozen=True)
class SiteSpec:
    """A site of view attention: its name, its feature map, and the transformer's heads there.

    factor: how much smaller than the latents the map is.
    """

    name: str
    channels: int
    factor: int
    heads: int
    place: str


@dataclass(frozen=True)
class _Block:
    """A block of the UNet to be made; `factor` holds inside it, before an upsampling."""

    site: str
    inputs: int
    channels: int
    factor: int
    heads: int
    transformer: bool
    upsampled: bool = False
    halves: bool = False

    def spec(self, place: str) -> SiteSpec | None:
        """What a view attention here sees; None where it cannot stand here."""
        if self.halves or (place not in ("after", "within") and not self.transformer):
            return None
        factor = self.factor // 2 if place == "after" and self.upsampled else self.factor
        return SiteSpec(self.site, self.channels, factor, self.heads, place)


def _plan(
    width: int,
    mults: Sequence[int],
    blocks: int,
    attention_levels: Sequence[int],
    heads: int | None,
    head_width: int | None,
) -> list[_Block]:
    """The blocks in the order in which they are made and called."""

    def block(site: str, inputs: int, level: int, **settings: bool) -> _Block:
        channels = width * mults[level]
        count = heads if head_width is None else channels // head_width
        return _Block(site, inputs, channels, 2**level, count, **settings)

    plan, skips, channels, last = [], [width], width, len(mults) - 1
    for level, mult in enumerate(mults):
        for _ in range(blocks):
            plan.append(
                block(f"down{len(plan)}", channels, level, transformer=level in attention_levels)
            )
            channels = width * mult
            skips.append(channels)
        if level < last:
            plan.append(block(f"down{len(plan)}", channels, level, transformer=False, halves=True))
            skips.append(channels)
    plan.append(block("mid", channels, last, transformer=True))
    number = 0
    for level in reversed(range(len(mults))):
        for i in range(blocks + 1):
            plan.append(
                block(
                    f"up{number}",
                    channels + skips.pop(),
                    level,
                    transformer=level in attention_levels,
                    upsampled=bool(level) and i == blocks,
                )
            )
            channels, number = width * mults[level], number + 1
    return plan


# Residual branches end in zeros, as in the published UNet: each block starts as the identity.
def _residual(inputs: int, outputs: int, time_dim: int, groups: int) -> nn.Module:
    block = ResnetBlock2D(
        in_channels=inputs, out_channels=outputs, temb_channels=time_dim, groups=groups, eps=1e-5
    )
    nn.init.zeros_(block.conv2.weight)
    nn.init.zeros_(block.conv2.bias)
    return block
