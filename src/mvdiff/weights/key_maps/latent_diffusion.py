"""Stable Diffusion's UNet and autoencoder as latent-diffusion's code names them.

All published families that are single files (Zero123, SyncDreamer, MVDream, ImageDream) use these
names, under prefixes of their own.
"""

from __future__ import annotations

from .mapping import KeyTable

#: parts of a residual block; a strided convolution is called `op`
_BLOCK = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
#: blocks of the encoder, the middle and the decoder; an entry too many does no harm
_DOWN, _MIDDLE, _UP, _LAYERS = range(11), range(3), range(12), range(3)

#: `MultiViewUNet` → `UNetModel`
UNET: KeyTable = {
    "time": "time_embed",
    "stem": "input_blocks.0.0",
    "out": "out",
    **{f"down.{i}": f"input_blocks.{i + 1}" for i in _DOWN},
    **{f"down.{i}.0.conv": f"input_blocks.{i + 1}.0.op" for i in _DOWN},
    **{
        f"down.{i}.0.{ours}": f"input_blocks.{i + 1}.0.{theirs}"
        for i in _DOWN
        for ours, theirs in _BLOCK.items()
    },
    **{f"middle.{i}": f"middle_block.{i}" for i in _MIDDLE},
    **{
        f"middle.{i}.{ours}": f"middle_block.{i}.{theirs}"
        for i in _MIDDLE
        for ours, theirs in _BLOCK.items()
    },
    **{f"up.{i}": f"output_blocks.{i}" for i in _UP},
    **{
        f"up.{i}.0.{ours}": f"output_blocks.{i}.0.{theirs}"
        for i in _UP
        for ours, theirs in _BLOCK.items()
    },
}

#: a UNet's attention site with `place=self` → the self-attention that is replaced there
SELF_ATTENTION: KeyTable = {
    "mid": "middle_block.1.transformer_blocks.0.attn1",
    **{f"down{i}": f"input_blocks.{i + 1}.1.transformer_blocks.0.attn1" for i in _DOWN},
    **{f"up{i}": f"output_blocks.{i}.1.transformer_blocks.0.attn1" for i in _UP},
}

#: levels of the autoencoder; latent-diffusion numbers the decoder's from the finest
_LEVELS = range(4)
_VAE_ATTENTION = {
    "group_norm": "norm",
    "to_q": "q",
    "to_k": "k",
    "to_v": "v",
    "to_out.0": "proj_out",
}

#: diffusers' `AutoencoderKL` → `AutoencoderKL` of latent-diffusion
VAE: KeyTable = {
    "quant_conv": "quant_conv",
    "post_quant_conv": "post_quant_conv",
    **{
        f"{half}.{ours}": f"{half}.{theirs}"
        for half in ("encoder", "decoder")
        for ours, theirs in {
            "conv_in": "conv_in",
            "conv_norm_out": "norm_out",
            "conv_out": "conv_out",
            "mid_block.resnets.0": "mid.block_1",
            "mid_block.resnets.1": "mid.block_2",
            **{f"mid_block.attentions.0.{o}": f"mid.attn_1.{t}" for o, t in _VAE_ATTENTION.items()},
        }.items()
    },
    **{
        f"{half}_blocks.{level}.{ours}": f"{half}.{level if way == 'down' else 3 - level}.{theirs}"
        for half, way in (("encoder.down", "down"), ("decoder.up", "up"))
        for level in _LEVELS
        for ours, theirs in {
            f"{way}samplers.0": f"{way}sample",
            **{f"resnets.{n}": f"block.{n}" for n in _LAYERS},
            **{f"resnets.{n}.conv_shortcut": f"block.{n}.nin_shortcut" for n in _LAYERS},
        }.items()
    },
}
