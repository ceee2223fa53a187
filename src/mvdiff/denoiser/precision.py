"""The type of a model's weights."""

from __future__ import annotations

import torch
from torch import nn

from ..utils.precision import check_precision
from .layout import channels_last


def cast_weights(model: nn.Module, precision: str) -> nn.Module:
    """A denoiser with all its weights in a precision's type; in place.

    In half precision volume and UNet have their channels last, which is faster. On the meta device
    as well: weights that are loaded later take type and layout of the parameter. Such a model is
    called under autocast, which takes activations to the weights' type; with float32 weights it
    would convert the weights at every call. Float32 stay the sampler's latents, cameras and what
    is sampled by them, and what PyTorch keeps so inside (norms' sums, autocast's list).
    Raises MvdiffError for an unknown precision.
    """
    dtype = check_precision(precision)
    for parameter in model.parameters():
        parameter.data = parameter.data.to(dtype)
    if dtype != torch.float32:
        channels_last(model.volume, model.unet)
    return model
