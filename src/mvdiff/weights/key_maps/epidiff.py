"""EpiDiff's checkpoint: its blocks, and the (Stable-)Zero123 they stand on, in diffusers' names."""

from __future__ import annotations

from ...errors import WeightsError
from .diffusers import UNET
from .mapping import KeyMapping, KeyTable, mapping_for, with_prefixes

#: prefixes of the parts in EpiDiff's file
UNET_PREFIX = "mv_model.unet."
BLOCKS = "mv_model.cp_blocks_"
VAE = "vae."
CLIP = "image_encoder."
PROJECTION = "clip_camera_projection.proj."

#: sites of the blocks: the middle, and the last block of each of the decoder's levels
_SITES = {"mid": "mid.0", **{f"up{3 * i + 2}": f"decoder.{i}" for i in range(4)}}
_LAYERS = range(8)

#: `EpiDiffBlock` → one of the published blocks
BLOCK: KeyTable = {
    "resnet.norm1": "resnet1.in_layers.0",
    "resnet.conv1": "resnet1.in_layers.2",
    "resnet.time": "resnet1.emb_layers.1",
    "resnet.norm2": "resnet1.out_layers.0",
    "resnet.conv2": "resnet1.out_layers.3",
    "time": "T1.t_proj",
    "proj_in": "T1.proj_in",
    "proj_out": "T1.proj_out",
    "weight": "t1_point_fc",
    **{f"layers.{i}": f"T1.transformer_blocks.{i}" for i in _LAYERS},
    **{
        f"layers.{i}.attn{n}.out": f"T1.transformer_blocks.{i}.attn{n}.to_out.0"
        for i in _LAYERS
        for n in (1, 2)
    },
}

#: `MultiViewDenoiser` of the recipe `epidiff` → the published checkpoint
EPIDIFF: KeyTable = {
    "project": PROJECTION.removesuffix("."),
    **with_prefixes("unet.", UNET_PREFIX, UNET),
    **{
        f"unet.slots.{site}.{own}": f"{BLOCKS}{block}.{published}"
        for site, block in _SITES.items()
        for own, published in BLOCK.items()
    },
    "latents.net": VAE.removesuffix("."),
    "embedder.net": CLIP.removesuffix("."),
}


def epidiff_mapping(name: str) -> KeyMapping:
    """Where a parameter of `MultiViewDenoiser` built as recipe `epidiff` is published.

    Raises WeightsError for a parameter that the published model does not have.
    """
    try:
        return mapping_for(name, EPIDIFF)
    except KeyError as error:
        raise WeightsError(
            f"EpiDiff's files lack '{name}', which this model needs: use recipe=epidiff with its "
            "sizes"
        ) from error
