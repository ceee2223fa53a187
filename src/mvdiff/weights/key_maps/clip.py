"""OpenAI's CLIP image tower, as its own code names it.

Queries, keys and values lie in one matrix there, and the projection is transposed.
"""

from __future__ import annotations

from .mapping import KeyMapping, KeyTable

_LAYER = {
    "self_attn.out_proj": "attn.out_proj",
    "layer_norm1": "ln_1",
    "layer_norm2": "ln_2",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
}
#: layers of the largest tower (ViT-bigG: 48)
_LAYERS = range(48)

#: `CLIPVisionModelWithProjection` of transformers → `CLIP` of OpenAI
IMAGE_TOWER: KeyTable = {
    "visual_projection.weight": KeyMapping("visual.proj", transpose=True),
    "vision_model.embeddings.class_embedding": "visual.class_embedding",
    "vision_model.embeddings.patch_embedding": "visual.conv1",
    "vision_model.embeddings.position_embedding.weight": "visual.positional_embedding",
    "vision_model.pre_layrnorm": "visual.ln_pre",
    "vision_model.post_layernorm": "visual.ln_post",
    **{
        f"vision_model.encoder.layers.{i}.{own}": f"visual.transformer.resblocks.{i}.{published}"
        for i in _LAYERS
        for own, published in _LAYER.items()
    },
    **{
        f"vision_model.encoder.layers.{i}.self_attn.{'qkv'[part]}_proj.{kind}": KeyMapping(
            f"visual.transformer.resblocks.{i}.attn.in_proj_{kind}", part, 3
        )
        for i in _LAYERS
        for part in range(3)
        for kind in ("weight", "bias")
    },
}
#: `CLIPTextModel` of transformers → the text tower of OpenAI's and OpenCLIP's `CLIP`
TEXT_MODEL: KeyTable = {
    "embeddings.token_embedding": "token_embedding",
    "embeddings.position_embedding.weight": "positional_embedding",
    "final_layer_norm": "ln_final",
    **{
        f"encoder.layers.{i}.{own}": f"transformer.resblocks.{i}.{published}"
        for i in _LAYERS
        for own, published in _LAYER.items()
    },
    **{
        f"encoder.layers.{i}.self_attn.{'qkv'[part]}_proj.{kind}": KeyMapping(
            f"transformer.resblocks.{i}.attn.in_proj_{kind}", part, 3
        )
        for i in _LAYERS
        for part in range(3)
        for kind in ("weight", "bias")
    },
}
#: what a CLIP file holds beside the image tower: the text tower, which nothing here reads
TEXT_TOWER = (
    "positional_embedding",
    "text_projection",
    "logit_scale",
    "token_embedding.weight",
    "ln_final.weight",
    "ln_final.bias",
    "transformer.",
)
