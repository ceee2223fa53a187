"""Published checkpoints → one file with our names.

SyncDreamer whole, Zero123 as a training's start, CLIP as the image tower of another file.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from ..cameras.rigs import to_spherical
from ..errors import WeightsError
from .clip import clip_weights, is_clip
from .compatibility import SWAPPABLE
from .key_maps.syncdreamer import CLIP, UNET, VAE, VOLUME, syncdreamer_mapping
from .published import convert_matched, match_keys
from .syncdreamer import load_syncdreamer

#: parts of our model that Zero123 does not have: they start untrained
NOT_IN_ZERO123 = (*SWAPPABLE, "time.")
_EMA = "model_ema."
#: where Zero123 keeps its image tower
_ZERO123_CLIP = "cond_stage_model.model."


def convert(
    model: nn.Module,
    tensors: Mapping[str, Tensor],
    *,
    polar: bool = False,
    swapped: Sequence[str] = (),
    betas: Tensor | None = None,
) -> tuple[dict[str, Tensor], str]:
    """Weights under our names, and their kind: "syncdreamer", "zero123" or "clip".

    model: the recipe `syncdreamer`, on the meta device; it says which names and shapes.
    tensors: of a published file.
    polar: Zero123's fourth camera value is the input's polar angle, see `fold_polar`.
    swapped, betas: as in `load_syncdreamer`; swapped parts are left out. Cameras and schedules of
        the file that differ are named in warnings.
    Raises WeightsError when the file is none of them, or lacks something.
    """
    if any(name.startswith(VOLUME) for name in tensors):
        report = load_syncdreamer(model, tensors, swapped=swapped, betas=betas)
        for difference in report.differences:
            warnings.warn(f"{difference}, which are what will be used", stacklevel=2)
        own = model.state_dict()
        return {n: t for n, t in own.items() if n not in report.untrained}, "syncdreamer"
    if any(name.startswith(UNET) for name in tensors):
        weights = _zero123(model, tensors)
        if polar:
            weights |= fold_polar(model, weights["project.weight"], weights["project.bias"])
        return weights, "zero123"
    if is_clip(tensors):
        return clip_weights(model, tensors), "clip"
    raise WeightsError(
        "this is neither SyncDreamer's, Zero123's nor CLIP's checkpoint: expected names that begin "
        f"with '{UNET}' or 'visual.', the first here is '{next(iter(tensors), 'none')}'"
    )


def looks_like_stable_zero123(path: Path) -> bool:
    """Whether a file is called like Stable-Zero123's, whose weights do not tell."""
    return "stablezero123" in path.name.lower().replace("-", "").replace("_", "")


def fold_polar(model: nn.Module, weight: Tensor, bias: Tensor) -> dict[str, Tensor]:
    """Stable-Zero123's projection for the camera values of Zero123.

    Both put (elevation difference d, sin, cos, fourth value) behind CLIP's embedding. Zero123's
    fourth value is 0 at a fixed distance; Stable-Zero123's is the input's polar angle, which is
    π/2 − e − d where all targets stand at elevation e: linear in d, so the projection takes it
    over exactly.
    weight: (context, embedding + 4). bias: (context,).
    Raises WeightsError when the model's targets stand at several elevations.
    """
    elevation = to_spherical(model.rig)[1]
    if not torch.allclose(elevation, elevation[0], atol=1e-4):
        raise WeightsError(
            "Stable-Zero123's camera values can be converted for targets at one elevation only: "
            "use a ring of cameras"
        )
    weight, polar = weight.clone(), weight[:, -1]
    bias = bias + polar * (math.pi / 2 - float(elevation[0]))
    weight[:, -4] -= polar
    weight[:, -1] = 0
    return {"project.weight": weight, "project.bias": bias}


def zero123_names(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Zero123's tensors under SyncDreamer's names; the UNet's running average where it is there.

    Zero123 was released with both; the average is what it samples with.
    """
    renamed = {}
    for name, tensor in tensors.items():
        if name.startswith(UNET):
            average = _EMA + name.removeprefix("model.").replace(".", "")
            renamed[name] = tensors.get(average, tensor)
        elif name.startswith(_ZERO123_CLIP):
            renamed[CLIP + name.removeprefix(_ZERO123_CLIP)] = tensor
        elif name.startswith((VAE, "cc_projection.")):
            renamed[name] = tensor
    return renamed


def _zero123(model: nn.Module, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    own = {n: p for n, p in model.state_dict().items() if not n.startswith(NOT_IN_ZERO123)}
    renamed = zero123_names(tensors)
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
    return convert_matched(match, own, renamed)
