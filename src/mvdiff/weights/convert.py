"""Published checkpoints → one file with our names.

SyncDreamer whole, Zero123 as a training's start, CLIP as the image tower of another file.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from ..cameras.rigs import to_spherical
from ..errors import WeightsError
from .clip import clip_weights, is_clip
from .compatibility import SWAPPABLE
from .epidiff import convert_epidiff, is_epidiff, unread_zeros
from .key_maps.syncdreamer import UNET, VOLUME
from .mvdream import convert_mvdream, family_of
from .syncdreamer import load_syncdreamer
from .zero123 import convert_zero123

#: parts of our model that Zero123 does not have: they start untrained
NOT_IN_ZERO123 = (*SWAPPABLE, "time.")


def convert(
    model: nn.Module,
    tensors: Mapping[str, Tensor],
    *,
    polar: bool = False,
    swapped: Sequence[str] = (),
    betas: Tensor | None = None,
) -> tuple[dict[str, Tensor], str]:
    """Weights under our names, and their kind: "syncdreamer", "zero123", "epidiff", "mvdream",
    "imagedream" or "clip".

    model: the recipe `syncdreamer` (or that of EpiDiff's, MVDream's and ImageDream's files), on
        the meta device; it says which names and shapes.
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
    if is_epidiff(tensors):
        weights, _ = convert_epidiff(model, tensors, swapped=swapped)
        return weights | unread_zeros(model), "epidiff"
    if family := family_of(tensors):
        return convert_mvdream(model, tensors, family, swapped=swapped), family
    if any(name.startswith(UNET) for name in tensors):
        weights = convert_zero123(model, tensors, NOT_IN_ZERO123)
        if polar:
            weights |= fold_polar(model, weights["project.weight"], weights["project.bias"])
        return weights, "zero123"
    if is_clip(tensors):
        return clip_weights(model, tensors), "clip"
    raise WeightsError(
        "this is neither SyncDreamer's, Zero123's nor CLIP's checkpoint: expected names that begin "
        f"with '{UNET}' or 'visual.', the first here is '{next(iter(tensors), 'none')}'"
    )


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
