"""Where in a published checkpoint each of our parameters lies.

Most are one tensor under another name. The image tower's attention is the exception: OpenAI's
file keeps queries, keys and values in one matrix, and the projection transposed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from torch import Tensor

from ..errors import WeightsError
from .key_map import published_name

#: the published prefixes of the parts around the denoiser
VAE = "first_stage_model."
CLIP = "clip_image_encoder.model."
#: how names of published checkpoints begin ("state_dict.": as some write them in safetensors)
_PUBLISHED = ("model.diffusion_model.", "spatial_volume.", "state_dict.")


def is_published(names: Iterable[str]) -> bool:
    """Whether these are a published checkpoint's names, SyncDreamer's or Zero123's."""
    return any(name.startswith(_PUBLISHED) for name in names)


@dataclass(frozen=True)
class KeyMapping:
    """A published tensor and what to take of it.

    name: published. part, parts: the part-th of so many equal blocks of rows.
    transpose: the published matrix is ours transposed.
    """

    name: str
    part: int = 0
    parts: int = 1
    transpose: bool = False

    def shape(self, own: tuple[int, ...]) -> tuple[int, ...]:
        """Shape of the published tensor, but for trailing ones, for our parameter's shape."""
        if self.transpose:
            return own[::-1]
        return (own[0] * self.parts, *own[1:])

    def fits(self, tensor: Tensor, own: tuple[int, ...]) -> bool:
        """Whether the published tensor holds a parameter of our shape."""
        return _core(tuple(tensor.shape)) == _core(self.shape(own))

    def take(self, tensor: Tensor, own: tuple[int, ...]) -> Tensor:
        """Our parameter; a view of the published tensor where possible."""
        if self.transpose:
            return tensor.T.contiguous()
        return tensor.chunk(self.parts)[self.part].reshape(own)


def _core(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Without the trailing ones of 1×1 convolutions, which we keep as Linear layers."""
    while len(shape) > 2 and shape[-1] == 1:
        shape = shape[:-1]
    return shape


def source(name: str) -> KeyMapping:
    """The source of a parameter of `MultiViewDenoiser` built as the recipe `syncdreamer`.

    Raises WeightsError for a parameter the published model does not have.
    """
    for pattern, build in _RULES:
        match = re.fullmatch(pattern, name)
        if match:
            return build(*match.groups())
    try:
        return KeyMapping(published_name(name))
    except KeyError as error:
        raise WeightsError(
            f"published weights lack '{name}', which this model needs: use recipe=syncdreamer with "
            "its sizes; of its parts, attention, volume and radiance may be swapped"
        ) from error


_VAE_RESIDUAL = {"conv_shortcut": "nin_shortcut"}
_VAE_ATTENTION = {
    "group_norm": "norm",
    "to_q": "q",
    "to_k": "k",
    "to_v": "v",
    "to_out.0": "proj_out",
}
_VAE_ENDS = {"conv_in": "conv_in", "conv_norm_out": "norm_out", "conv_out": "conv_out"}
#: the decoder's levels are numbered from the finest in the published file
_LAST_LEVEL = 3

_CLIP_LAYER = {
    "self_attn.out_proj": "attn.out_proj",
    "layer_norm1": "ln_1",
    "layer_norm2": "ln_2",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
}
_CLIP_TOP = {
    "embeddings.class_embedding": "class_embedding",
    "embeddings.patch_embedding.weight": "conv1.weight",
    "embeddings.position_embedding.weight": "positional_embedding",
    "pre_layrnorm.weight": "ln_pre.weight",
    "pre_layrnorm.bias": "ln_pre.bias",
    "post_layernorm.weight": "ln_post.weight",
    "post_layernorm.bias": "ln_post.bias",
}


def _vae_level(half: str, way: str, level: str, kind: str, number: str, rest: str) -> KeyMapping:
    level = str(_LAST_LEVEL - int(level)) if way == "up" else level
    head, _, tail = rest.partition(".")
    place = f"{VAE}{half}.{way}.{level}."
    if kind == "resnets":
        return KeyMapping(f"{place}block.{number}.{_VAE_RESIDUAL.get(head, head)}.{tail}")
    return KeyMapping(f"{place}{way}sample.{rest}")


def _clip_layer(number: str, place: str, kind: str) -> KeyMapping:
    layer = f"{CLIP}visual.transformer.resblocks.{number}."
    if place.endswith(("q_proj", "k_proj", "v_proj")):
        part = "qkv".index(place[-len("q_proj")])
        return KeyMapping(f"{layer}attn.in_proj_{kind}", part, 3)
    return KeyMapping(f"{layer}{_CLIP_LAYER[place]}.{kind}")


_V = r"latents\.net\."
_C = r"embedder\.net\."
_RULES = (
    (rf"{_V}(\w*quant_conv\.\w+)", lambda rest: KeyMapping(f"{VAE}{rest}")),
    (
        rf"{_V}(encoder|decoder)\.(conv_in|conv_norm_out|conv_out)\.(\w+)",
        lambda half, place, kind: KeyMapping(f"{VAE}{half}.{_VAE_ENDS[place]}.{kind}"),
    ),
    (
        rf"{_V}(encoder|decoder)\.mid_block\.resnets\.(\d)\.(.+)",
        lambda half, number, rest: KeyMapping(f"{VAE}{half}.mid.block_{int(number) + 1}.{rest}"),
    ),
    (
        rf"{_V}(encoder|decoder)\.mid_block\.attentions\.0\.(.+)\.(\w+)",
        lambda half, place, kind: KeyMapping(
            f"{VAE}{half}.mid.attn_1.{_VAE_ATTENTION[place]}.{kind}"
        ),
    ),
    (
        rf"{_V}(encoder|decoder)\.(down|up)_blocks\.(\d)\.(resnets|\w+samplers)\.(\d)\.(.+)",
        _vae_level,
    ),
    (rf"{_C}visual_projection\.weight", lambda: KeyMapping(f"{CLIP}visual.proj", transpose=True)),
    (rf"{_C}vision_model\.encoder\.layers\.(\d+)\.(.+)\.(\w+)", _clip_layer),
    (
        rf"{_C}vision_model\.(embeddings\..+|pre_layrnorm\.\w+|post_layernorm\.\w+)",
        lambda rest: KeyMapping(f"{CLIP}visual.{_CLIP_TOP[rest]}"),
    ),
)
