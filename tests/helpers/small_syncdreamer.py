"""The recipe `syncdreamer` with every published part, at sizes that tests can afford."""

from __future__ import annotations

import functools
from typing import Any

from torch import Tensor, nn

from mvdiff import builders
from mvdiff.config.compose import compose
from mvdiff.weights.key_maps.syncdreamer import syncdreamer_mapping
from mvdiff.weights.synthetic import rule_weight

#: all levels and blocks as published, so that the names are; only widths and sides are small
SMALL = [
    "size=64",
    "crop_size=50",
    "sizes.time_dim=16",
    "sizes.context_dim=24",
    "sizes.volume_side=8",
    "sizes.volume_dims=[8,8,16,16]",
    "sizes.view_features=8",
    "sizes.frustum_dims=[8,16,16,16]",
    "sizes.planes=8",
    "unet.width=16",
    "unet.groups=8",
    "latents.widths=[8,8,16,16]",
    "latents.groups=4",
    "embedder.dim=24",
    "embedder.width=32",
    "embedder.layers=2",
    "embedder.heads=2",
    "embedder.size=28",
    "sampler.steps=2",
]


def small_config(*overrides: str) -> Any:
    """The composed config of `generate`."""
    return compose("generate", ["recipe=syncdreamer", "image=none", *SMALL, *overrides])


def published_state(model: nn.Module) -> dict[str, Tensor]:
    """A state dict under published names that fits the model, by the golden rule."""
    state = {}
    for name, parameter in model.named_parameters():
        origin = syncdreamer_mapping(name)
        state[origin.name] = rule_weight(origin.name, origin.shape(tuple(parameter.shape)))
    return state


def small_model() -> Any:
    """Freshly initialized."""
    return builders.build_model(_config())


@functools.cache
def _config() -> Any:
    return small_config()


#: fewer levels and blocks on top of SMALL: quick to train, without published names
QUICK = [
    "sizes.volume_dims=[8,16]",
    "sizes.frustum_dims=[8,16]",
    "unet.mults=[1,2]",
    "unet.blocks=1",
    "unet.attention_levels=[1]",
    "unet.slots=[mid,up0,up1,up2,up3]",
    "latents.blocks=1",
]
#: as SMALL, for commands that do not sample
TRAIN = [override for override in SMALL if not override.startswith(("sampler.", "crop_size"))]


def training_config(*overrides: str) -> Any:
    """The composed config of `train`."""
    return compose("train", ["recipe=syncdreamer", "data=none", *TRAIN, *overrides])
