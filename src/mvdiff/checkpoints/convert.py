"""Published checkpoints → one file with our names: SyncDreamer whole, Zero123 as a start."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from ..errors import MvdiffError
from .load import load_published
from .sources import CLIP, VAE, source

#: parts of our model that Zero123 does not have: they start untrained
NOT_IN_ZERO123 = ("unet.slots.", "volume.", "time.")
_UNET = "model.diffusion_model."
_EMA = "model_ema."
#: where Zero123 keeps its image tower
_CLIP_THERE = "cond_stage_model.model."


def convert(model: nn.Module, tensors: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], str]:
    """Weights under our names, and their kind: "syncdreamer" or "zero123".

    model: the recipe `syncdreamer`, on the meta device; it says which names and shapes.
    tensors: of a published file.
    Raises MvdiffError when the file is neither, or lacks something.
    """
    if any(name.startswith("spatial_volume.") for name in tensors):
        load_published(model, tensors)
        return dict(model.state_dict()), "syncdreamer"
    if any(name.startswith(_UNET) for name in tensors):
        return _zero123(model, tensors), "zero123"
    raise MvdiffError(
        "this is neither SyncDreamer's nor Zero123's checkpoint: expected names that begin with "
        f"'{_UNET}', the first here is '{next(iter(tensors), 'none')}'"
    )


def zero123_names(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Zero123's tensors under SyncDreamer's names; the UNet's running average where it is there.

    Zero123 was released with both; the average is what it samples with.
    """
    found = {}
    for name, tensor in tensors.items():
        if name.startswith(_UNET):
            average = _EMA + name.removeprefix("model.").replace(".", "")
            found[name] = tensors.get(average, tensor)
        elif name.startswith(_CLIP_THERE):
            found[CLIP + name.removeprefix(_CLIP_THERE)] = tensor
        elif name.startswith((VAE, "cc_projection.")):
            found[name] = tensor
    return found


def _zero123(model: nn.Module, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    found = zero123_names(tensors)
    weights = {}
    for name, parameter in model.state_dict().items():
        if name.startswith(NOT_IN_ZERO123):
            continue
        origin, shape = source(name), tuple(parameter.shape)
        if origin.name not in found:
            raise MvdiffError(f"this is not a whole Zero123 checkpoint: '{origin.name}' is missing")
        if not origin.fits(found[origin.name], shape):
            raise MvdiffError(
                f"this is not a Zero123 checkpoint: '{origin.name}' has shape "
                f"{tuple(found[origin.name].shape)}, expected {origin.shape(shape)}"
            )
        weights[name] = origin.take(found[origin.name], shape)
    return weights
