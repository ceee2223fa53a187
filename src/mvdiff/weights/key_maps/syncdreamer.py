"""SyncDreamer's checkpoint: Zero123's parts, the volume networks and the depth attention.

Tables for `MultiViewDenoiser` with volume "concat" and attention "depthwise". Zero123's files use
the same names for the parts that they have, but for the image tower's prefix.
"""

from __future__ import annotations

from collections.abc import Iterable

from ...errors import WeightsError
from . import clip, latent_diffusion
from .mapping import KeyMapping, KeyTable, mapping_for, with_prefixes

#: prefixes of the parts in SyncDreamer's file
UNET = "model.diffusion_model."
VAE = "first_stage_model."
CLIP = "clip_image_encoder.model."
VOLUME = "spatial_volume."

#: parts of a 3D block; the transposed ones of the way up call their norm differently
_DOWN3D = {"time": "t_conv", "pose": "v_conv", "norm": "bn", "conv": "conv"}
_UP3D = {**_DOWN3D, "norm": "norm"}
#: blocks of the world volume's network, by our (level, number)
_WORLD_DOWN = {
    f"{level}.{number}": name
    for level in range(3)
    for number, name in enumerate(
        (f"conv{2 * level + 1}", f"conv{2 * level + 2}_0", f"conv{2 * level + 2}_1")
    )
}
#: parts of a depth-wise attention block
_DEPTHWISE = {
    "": ".depth_attn",
    ".query_in": ".proj_in",
    ".context_in": ".proj_context",
    ".out": ".proj_out",
}
#: sites of attention: the decoder's from its block 3 on
_SITES = {
    "mid": "middle_conditions",
    **{f"up{i}": f"output_conditions.{i - 3}" for i in range(3, 12)},
}

_ATTENTION: KeyTable = {
    f"{site}{ours}": f"{published}{theirs}"
    for site, published in _SITES.items()
    for ours, theirs in _DEPTHWISE.items()
}
_ENCODER: KeyTable = {
    "stem": "init_conv",
    "out": "final_out",
    **{f"time.{i}": f"out_conv{i}.time_embed" for i in range(3)},
    **{f"pose.{i}": f"out_conv{i}.view_embed" for i in range(3)},
    **{f"blocks.{i}": f"out_conv{i}.conv" for i in range(3)},
}
_WORLD_NET: KeyTable = {
    "stem": "init_conv",
    **{f"stem_blocks.0.{o}": f"conv0.{t}" for o, t in _DOWN3D.items()},
    **{
        f"down.{place}.{o}": f"{name}.{t}"
        for place, name in _WORLD_DOWN.items()
        for o, t in _DOWN3D.items()
    },
    **{f"up.{i}.{o}": f"conv{7 + i}.{t}" for i in range(3) for o, t in _UP3D.items()},
}
_FRUSTUM_NET: KeyTable = {
    "stem": "conv0",
    **{
        f"down.{level}.{number}.{o}": f"conv{2 * level + 1 + number}.{t}"
        for level in range(3)
        for number in range(2)
        for o, t in _DOWN3D.items()
    },
    **{f"up.{i}.{o}": f"up{i}.{t}" for i in range(3) for o, t in _UP3D.items()},
}

#: `MultiViewDenoiser` of the recipe `syncdreamer` → the published checkpoint
SYNCDREAMER: KeyTable = {
    "time": "time_embed",
    "project": "cc_projection",
    **with_prefixes("unet.", UNET, latent_diffusion.UNET),
    **with_prefixes("unet.slots.", UNET, _ATTENTION),
    **with_prefixes("latents.net.", VAE, latent_diffusion.VAE),
    **with_prefixes("embedder.net.", CLIP, clip.IMAGE_TOWER),
    **with_prefixes("volume.encoder.", f"{VOLUME}target_encoder.", _ENCODER),
    **with_prefixes("volume.net.", f"{VOLUME}spatial_volume_feats.", _WORLD_NET),
    **with_prefixes("volume.frustum_net.net.", f"{VOLUME}frustum_volume_feats.", _FRUSTUM_NET),
}


def syncdreamer_mapping(name: str) -> KeyMapping:
    """Where a parameter of `MultiViewDenoiser` built as recipe `syncdreamer` is published.

    Raises WeightsError for a parameter that the published model does not have.
    """
    try:
        return mapping_for(name, SYNCDREAMER)
    except KeyError as error:
        raise WeightsError(
            f"published weights lack '{name}', which this model needs: use recipe=syncdreamer with "
            "its sizes; of its parts, attention, volume and radiance may be swapped"
        ) from error


def is_published(names: Iterable[str]) -> bool:
    """Whether these are names of SyncDreamer's checkpoint or Zero123's.

    "state_dict." begins all names in some conversions to safetensors.
    """
    return any(name.startswith((UNET, VOLUME, "state_dict.")) for name in names)
