"""Stable Diffusion's UNet as diffusers names it (`UNet2DConditionModel`).

The layers inside residual blocks and transformers have the same names as ours, and so have the
autoencoder and CLIP's image tower, which are diffusers' and transformers' own classes.
"""

from __future__ import annotations

from .mapping import KeyTable

#: levels, and residual blocks of a level in encoder and decoder, as in all published models
_LEVELS, _BLOCKS = 4, 2

#: `MultiViewUNet` → `UNet2DConditionModel`
UNET: KeyTable = {
    "time.0": "time_embedding.linear_1",
    "time.2": "time_embedding.linear_2",
    "stem": "conv_in",
    "out.0": "conv_norm_out",
    "out.2": "conv_out",
    "middle.0": "mid_block.resnets.0",
    "middle.1": "mid_block.attentions.0",
    "middle.2": "mid_block.resnets.1",
    **{
        f"down.{(_BLOCKS + 1) * level + i}.{part}": f"down_blocks.{level}.{kind}.{i}"
        for level in range(_LEVELS)
        for i in range(_BLOCKS)
        for part, kind in enumerate(("resnets", "attentions"))
    },
    **{
        f"down.{(_BLOCKS + 1) * level + _BLOCKS}.0": f"down_blocks.{level}.downsamplers.0"
        for level in range(_LEVELS - 1)
    },
    **{
        f"up.{(_BLOCKS + 1) * level + i}.{part}": f"up_blocks.{level}.{kind}.{i}"
        for level in range(_LEVELS)
        for i in range(_BLOCKS + 1)
        for part, kind in enumerate(("resnets", "attentions"))
    },
    # the coarsest level of the decoder has no transformers, so its upsampling comes second
    f"up.{_BLOCKS}.1": "up_blocks.0.upsamplers.0",
    **{
        f"up.{(_BLOCKS + 1) * level + _BLOCKS}.2": f"up_blocks.{level}.upsamplers.0"
        for level in range(1, _LEVELS - 1)
    },
}
