"""OpenAI's CLIP in a file of its own → the weights of our image tower."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from ..errors import WeightsError
from .compatibility import check_floating
from .key_maps.syncdreamer import CLIP, syncdreamer_mapping

#: our names of the image tower
EMBEDDER = "embedder."


def is_clip(tensors: Mapping[str, Tensor]) -> bool:
    """Whether these are CLIP's weights alone, under OpenAI's names or ours."""
    alone = all(name.startswith(EMBEDDER) for name in tensors)
    return bool(tensors) and (alone or "visual.class_embedding" in tensors)


def clip_weights(model: nn.Module, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The image tower's weights under our names, in the model's type.

    model: the recipe `syncdreamer`; it says which names and shapes, and may be on meta.
    tensors: of `ViT-L-14.pt`, or of what `mvdiff convert` made of it.
    Raises WeightsError for CLIPs of another size and for other models.
    """
    weights, used = {}, set()
    for name, parameter in model.state_dict().items():
        if not name.startswith(EMBEDDER):
            continue
        origin, shape = syncdreamer_mapping(name), tuple(parameter.shape)
        published = origin.name.removeprefix(CLIP)
        used.add(published)
        tensor = tensors.get(name, tensors.get(published))
        if tensor is None:
            raise WeightsError(f"this is not OpenAI's CLIP ViT-L/14: '{published}' is missing")
        check_floating({published: tensor})
        whole = name not in tensors
        if not (origin.fits(tensor, shape) if whole else tuple(tensor.shape) == shape):
            needed = origin.shape(shape) if whole else shape
            raise WeightsError(
                f"this is a CLIP of another size: '{published}' has shape {tuple(tensor.shape)}, "
                f"the recipe's image tower (ViT-L/14) needs {needed}"
            )
        weights[name] = (origin.convert(tensor, shape) if whole else tensor).to(parameter.dtype)
    unknown = [n for n in tensors if n.startswith("visual.") and n not in used]
    if unknown:
        raise WeightsError(
            f"this is a CLIP of another size: '{unknown[0]}' has no place in the recipe's image "
            "tower (ViT-L/14)"
        )
    return weights
