"""Small text towers with the weights by rule, under published names."""

from __future__ import annotations

from torch import Tensor

from mvdiff.weights.synthetic import rule_weight


def synthetic_text_tower(prefix: str, layers: int, width: int = 64) -> dict[str, Tensor]:
    """OpenCLIP's text tower: prefix → its tensors."""
    shapes = {
        "positional_embedding": (77, width),
        "text_projection": (width, width),
        "token_embedding.weight": (49408, width),
        "ln_final.weight": (width,),
        "ln_final.bias": (width,),
    }
    for i in range(layers):
        block = f"transformer.resblocks.{i}."
        for norm in ("ln_1", "ln_2"):
            shapes |= {f"{block}{norm}.{kind}": (width,) for kind in ("weight", "bias")}
        shapes |= {
            f"{block}attn.in_proj_weight": (3 * width, width),
            f"{block}attn.in_proj_bias": (3 * width,),
            f"{block}attn.out_proj.weight": (width, width),
            f"{block}attn.out_proj.bias": (width,),
            f"{block}mlp.c_fc.weight": (4 * width, width),
            f"{block}mlp.c_fc.bias": (4 * width,),
            f"{block}mlp.c_proj.weight": (width, 4 * width),
            f"{block}mlp.c_proj.bias": (width,),
        }
    return {prefix + name: rule_weight(prefix + name, shape) for name, shape in shapes.items()}
