"""Zero123's checkpoints: Zero123, Zero123-XL and Stable-Zero123, whose names are the same."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from torch import Tensor, nn

from ..errors import WeightsError
from .key_maps import KeyMapping
from .key_maps.clip import TEXT_TOWER
from .key_maps.syncdreamer import CLIP, UNET, VAE, syncdreamer_mapping
from .published import convert_matched, match_keys

#: the UNet's running average, and where Zero123 keeps its image tower
EMA = "model_ema."
ZERO123_CLIP = "cond_stage_model.model."
#: beginnings of names that hold no weights of this model: schedule tables, the text tower
_IGNORED = (
    EMA,
    *(ZERO123_CLIP + name for name in TEXT_TOWER),
    "betas",
    "alphas_cumprod",
    "sqrt_",
    "log_one_minus",
    "posterior_",
    "scale_factor",
    "logvar",
)


def zero123_mapping(name: str) -> KeyMapping:
    """Where a parameter of ours lies in Zero123's files; WeightsError for one that it lacks."""
    mapping = syncdreamer_mapping(name)
    if mapping.name.startswith(CLIP):
        return replace(mapping, name=ZERO123_CLIP + mapping.name.removeprefix(CLIP))
    return mapping


def rename_zero123(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Zero123's tensors under SyncDreamer's names; the UNet's running average where it is there.

    Zero123 was released with both; the average is what it samples with.
    """
    renamed = {}
    for name, tensor in tensors.items():
        if name.startswith(UNET):
            average = EMA + name.removeprefix("model.").replace(".", "")
            renamed[name] = tensors.get(average, tensor)
        elif name.startswith(ZERO123_CLIP):
            renamed[CLIP + name.removeprefix(ZERO123_CLIP)] = tensor
        elif name.startswith((VAE, "cc_projection.")):
            renamed[name] = tensor
    return renamed


def convert_zero123(
    model: nn.Module, tensors: Mapping[str, Tensor], skip: tuple[str, ...]
) -> dict[str, Tensor]:
    """The weights under our names, of all of the model's parameters but those of some parts.

    skip: prefixes of our parts that Zero123 does not have.
    Raises WeightsError when something is missing, unknown or of another shape.
    """
    own = {n: p for n, p in model.state_dict().items() if not n.startswith(skip)}
    renamed = rename_zero123(tensors)
    match = match_keys(own, renamed, syncdreamer_mapping)
    if match.missing:
        raise WeightsError(
            f"this is not a whole Zero123 checkpoint: '{match.missing[0]}' is missing"
        )
    if match.mismatched:
        name, shape, needed = match.mismatched[0]
        raise WeightsError(
            f"this is not a Zero123 checkpoint: '{name}' has shape {shape}, expected {needed}"
        )
    unknown = [n for n in match.unused if not n.startswith(tuple(CLIP + t for t in TEXT_TOWER))]
    expected = (UNET, VAE, ZERO123_CLIP, "cc_projection.", *_IGNORED)
    unknown += [n for n in tensors if not n.startswith(expected)]
    if unknown:
        raise WeightsError(f"this is not a Zero123 checkpoint: '{unknown[0]}' is unknown to it")
    return convert_matched(match, own, renamed)


def looks_like_stable_zero123(path: Path) -> bool:
    """Whether a file is called like Stable-Zero123's, whose weights do not tell."""
    return "stablezero123" in path.name.lower().replace("-", "").replace("_", "")
