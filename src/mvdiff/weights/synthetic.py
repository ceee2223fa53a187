"""Weights by rule from the published names: for tests and benchmarks, never for pictures."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..denoiser.prompts import PromptEmbeddings
from ..errors import MvdiffError
from .key_maps import KeyMapping
from .key_maps.syncdreamer import syncdreamer_mapping


def rule_weight(name: str, shape: tuple[int, ...]) -> Tensor:
    """Normal numbers seeded by the name's CRC, scaled so that signals keep their size.

    The golden files were computed with these numbers for every published parameter.
    """
    r = torch.randn(shape, generator=torch.Generator().manual_seed(zlib.crc32(name.encode())))
    if len(shape) >= 2:
        return r * 0.7 / r[0].numel() ** 0.5
    return 1 + 0.1 * r if name.endswith(("weight", "logit_scale")) else 0.1 * r


def fill_synthetic(
    model: nn.Module,
    prefix: str = "",
    mapping_for: Callable[[str], KeyMapping] = syncdreamer_mapping,
) -> nn.Module:
    """Set every parameter of a model, in place: by published name, or ours where there is none.

    prefix: of the parameters' names in the whole model, for a part of it ("latents.", …).
    mapping_for: our name → the published one.
    Parameters on the meta device get memory.
    """
    weights = {}
    for name, parameter in model.named_parameters():
        own = tuple(parameter.shape)
        try:
            origin = mapping_for(prefix + name)
        except MvdiffError:
            origin = KeyMapping(prefix + name)
        made = origin.convert(rule_weight(origin.name, origin.shape(own)), own)
        weights[name] = torch.empty_like(parameter.detach(), device=made.device).copy_(made)
    model.load_state_dict(weights, strict=False, assign=True)
    return model


@dataclass(frozen=True)
class SyntheticText:
    """Numbers by rule for a text, in place of its embedding. shape: (token, context)."""

    shape: tuple[int, int]

    def __call__(self, text: str) -> Tensor:
        """About unit normal."""
        return rule_weight(f"prompt.{text}", self.shape) * self.shape[1] ** 0.5 / 0.7


def set_synthetic_prompts(model: nn.Module) -> None:
    """Let a model with synthetic weights, where it reads texts, read any; in place."""
    context = getattr(model, "context", None)
    if context is not None:
        encode = SyntheticText(tuple(context.positive.shape))
        context.positive.data.copy_(encode("positive"))
        context.negative.data.copy_(encode("negative"))
        context.prompts = PromptEmbeddings(encode=encode)
