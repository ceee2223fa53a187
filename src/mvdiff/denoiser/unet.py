"""The 2D backbone: Stable Diffusion 1.x's UNet with named slots for view attention."""

from __future__ import annotations

from collections.abc import Callable, Sequence
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

from ..attention.base import ViewAttention, ViewContext
from ..errors import ConfigError
from .transformer import SpatialTransformer


class MultiViewUNet(nn.Module):
    """Encoder, middle, decoder; a view-attention slot after the middle and the decoder blocks.

    inputs, outputs: channels of the (concatenated) latents in and of the prediction.
    width, mults: channels at level k are width · mults[k]; the map halves between levels.
    blocks: residual blocks a level (one more in the decoder).
    attention_levels: levels with a transformer block (self- and cross-attention).
    heads, context_dim: of those. groups: of every GroupNorm. kernel: see `attention.core.attend`.
    slots: attention sites that get a module: "mid", or a decoder block's "up0", "up1", ….
    make_slot: (name, channels, factor) → module.
    Set `checkpointing` to compute blocks and slots again in the backward pass instead of keeping
    what happened inside them: the same gradients for less memory and more time.
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
        heads: int,
        context_dim: int,
        slots: Sequence[str],
        make_slot: Callable[[str, int, int], ViewAttention],
        groups: int = 32,
        kernel: str = "auto",
    ) -> None:
        super().__init__()
        time_dim = 4 * width
        self.width = width
        self.time = nn.Sequential(
            nn.Linear(width, time_dim), nn.SiLU(), nn.Linear(time_dim, time_dim)
        )

        def resnet(i: int, o: int) -> nn.Module:
            return _residual(i, o, time_dim, groups)

        def mixer(channels: int) -> nn.Module:
            return SpatialTransformer(channels, heads, context_dim, groups, kernel)

        self.stem = nn.Conv2d(inputs, width, 3, padding=1)
        self.down = nn.ModuleList()
        skips, channels = [width], width
        for level, mult in enumerate(mults):
            for _ in range(blocks):
                block = [resnet(channels, width * mult)]
                channels = width * mult
                if level in attention_levels:
                    block.append(mixer(channels))
                self.down.append(nn.ModuleList(block))
                skips.append(channels)
            if level < len(mults) - 1:
                halve = Downsample2D(channels, use_conv=True, out_channels=channels, name="op")
                self.down.append(nn.ModuleList([halve]))
                skips.append(channels)

        factor = 2 ** (len(mults) - 1)
        self.middle = nn.ModuleList(
            [resnet(channels, channels), mixer(channels), resnet(channels, channels)]
        )
        self.slots = nn.ModuleDict()
        if "mid" in slots:
            self.slots["mid"] = make_slot("mid", channels, factor)

        self.up = nn.ModuleList()
        for level, mult in reversed(list(enumerate(mults))):
            for i in range(blocks + 1):
                block = [resnet(channels + skips.pop(), width * mult)]
                channels = width * mult
                if level in attention_levels:
                    block.append(mixer(channels))
                if level and i == blocks:
                    block.append(Upsample2D(channels, use_conv=True, out_channels=channels))
                    factor //= 2
                name = f"up{len(self.up)}"
                self.up.append(nn.ModuleList(block))
                if name in slots:
                    self.slots[name] = make_slot(name, channels, factor)

        self.out = nn.Sequential(
            nn.GroupNorm(groups, width), nn.SiLU(), nn.Conv2d(width, outputs, 3, padding=1)
        )
        nn.init.zeros_(self.out[-1].weight)
        nn.init.zeros_(self.out[-1].bias)
        if unknown := [name for name in slots if name not in self.slots]:
            sites = ["mid", *(f"up{i}" for i in range(len(self.up)))]
            raise ConfigError(
                f"unet.slots names '{unknown[0]}': this UNet's attention sites are {sites}"
            )

    def forward(
        self,
        x: Float[Tensor, "batch view channel height width"],
        timestep: Float[Tensor, "batch"],
        context: Float[Tensor, "batch view token context"],
        scene: ViewContext,
        stem_residual: Float[Tensor, "batch view features height width"] | None = None,
    ) -> Float[Tensor, "batch view out height width"]:
        batch, views = x.shape[:2]
        time = get_timestep_embedding(
            timestep, self.width, flip_sin_to_cos=True, downscale_freq_shift=0
        )
        time = repeat(self.time(time.to(self.stem.weight.dtype)), "b t -> (b v) t", v=views)
        context = rearrange(context, "b v t c -> (b v) t c")
        x = self.stem(rearrange(x, "b v c h w -> (b v) c h w"))
        if stem_residual is not None:
            x = x + rearrange(stem_residual, "b v c h w -> (b v) c h w")

        skips = [x]
        for block in self.down:
            x = self._call(_run, block, x, time, context)
            skips.append(x)
        x = self._call(_run, self.middle, x, time, context)
        x = self._call(self._slot, "mid", x, scene, batch)
        for number, block in enumerate(self.up):
            x = self._call(_run, block, torch.cat([x, skips.pop()], dim=1), time, context)
            x = self._call(self._slot, f"up{number}", x, scene, batch)
        return rearrange(self.out(x), "(b v) c h w -> b v c h w", b=batch)

    def _call(self, function: Callable[..., Tensor], *arguments: Any) -> Tensor:
        if self.checkpointing and torch.is_grad_enabled():
            return checkpoint(function, *arguments, use_reentrant=False)
        return function(*arguments)

    def _slot(self, name: str, x: Tensor, scene: ViewContext, batch: int) -> Tensor:
        if name not in self.slots:
            return x
        x = self.slots[name](rearrange(x, "(b v) c h w -> b v c h w", b=batch), scene)
        return rearrange(x, "b v c h w -> (b v) c h w")


# Residual branches end in zeros, as in the published UNet: each block starts as the identity.
def _residual(inputs: int, outputs: int, time_dim: int, groups: int) -> nn.Module:
    block = ResnetBlock2D(
        in_channels=inputs, out_channels=outputs, temb_channels=time_dim, groups=groups, eps=1e-5
    )
    nn.init.zeros_(block.conv2.weight)
    nn.init.zeros_(block.conv2.bias)
    return block


def _run(block: nn.ModuleList, x: Tensor, time: Tensor, context: Tensor) -> Tensor:
    for layer in block:
        if isinstance(layer, ResnetBlock2D):
            x = layer(x, time)
        elif isinstance(layer, SpatialTransformer):
            x = layer(x, context)
        else:
            x = layer(x)
    return x
