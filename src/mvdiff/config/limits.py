"""Ranges of the numbers of components, checked when a config is composed.

A number outside its range would run forever, exhaust the memory, or quietly train or render
nonsense. The ranges of a command's own settings stand with them, in its dataclass. Types of a
component's settings are those of its constructor (`instantiate`), which also checks how two
numbers fit together.
"""

from __future__ import annotations

import fnmatch
from typing import Any

from ..errors import ConfigError
from ..utils.limits import (
    FINITE,
    NOT_NEGATIVE,
    POSITIVE,
    SEED,
    SHARE,
    Range,
    whole_numbers,
)
from .settings import format_value, leaves

DEGREES_UP = Range(-90, 90)

#: setting (with wildcards) → range, for numbers and for every number in a list; the first that
#: matches counts. Numbers of no entry must be finite.
LIMITS: dict[str, Range] = {
    "train.groups.*.lr": Range(0, 10**10, above_low=True),
    "train.groups.*.weight_decay": NOT_NEGATIVE,
    # sampling
    "sampler.steps": whole_numbers(1, 10**5),
    "sampler.eta": Range(0, 10),
    "guidance.scale": Range(-1000, 1000),
    "guidance.interval": SHARE,
    "noise.num_train_timesteps": whole_numbers(1, 10**5),
    "noise.beta_start": Range(0, 1, above_low=True, below_high=True),
    "noise.beta_end": Range(0, 1, above_low=True, below_high=True),
    # cameras
    "rig.count": whole_numbers(1, 4096),
    "rig.elevation": DEGREES_UP,
    "rig.fov": Range(0, 180, above_low=True, below_high=True),
    "rig.distance": Range(0, 10**6, above_low=True),
    # parts of the network
    "*.heads": whole_numbers(1, 4096),
    "*_heads": whole_numbers(1, 4096),
    "*.groups": whole_numbers(1, 4096),
    "*_groups": whole_numbers(1, 4096),
    "*.stride": whole_numbers(1, 64),
    "*.kernel_size": whole_numbers(1, 64),
    "*.num_neighbors": whole_numbers(1, 4096),
    "*.frequencies": whole_numbers(0, 64),
    "*.head_ratio": Range(0, 64, above_low=True),
    "attention.width": POSITIVE,
    "attention.samples": whole_numbers(1, 4096),
    "*.patch": whole_numbers(1, 256),
    "*.bound": Range(0, 10**6, above_low=True),
    "*.radius": Range(0, 10**6, above_low=True),
    "*.planes": whole_numbers(2, 4096),
    "*.side": whole_numbers(1, 1024),
    "sizes.volume_side": whole_numbers(1, 1024),
    "sizes.photo_features": whole_numbers(0, 65536),
    "volume.photo_features": whole_numbers(0, 65536),
    "sizes.lifted_finer": whole_numbers(1, 64),
    "sizes.pixel_offset": FINITE,
    "sizes.*": whole_numbers(1, 65536),
    "volume.finer": whole_numbers(1, 64),
    "volume.*dims": whole_numbers(1, 65536),
    "volume.*features": whole_numbers(1, 65536),
    "volume.*_blocks": whole_numbers(0, 256),
    "unet.attention_levels": whole_numbers(0, 64),
    "unet.mults": whole_numbers(1, 1024),
    "unet.blocks": whole_numbers(1, 64),
    "*.width": whole_numbers(1, 65536),
    "*.dim": whole_numbers(1, 65536),
    "*.channels": whole_numbers(1, 65536),
    "latents.scale": POSITIVE,
    "radiance.photo_head": whole_numbers(0, 65536),
    "radiance.split": whole_numbers(1, 16),
    "radiance.coarser": whole_numbers(1, 64),
    # meshes
    "reconstructor.resolution": whole_numbers(8, 1024),
    "reconstructor.steps": whole_numbers(1, 10**7),
    "reconstructor.rays": whole_numbers(1, 10**6),
    "reconstructor.samples": whole_numbers(1, 4096),
    "reconstructor.coarse": whole_numbers(1, 4096),
    "reconstructor.lr": POSITIVE,
    "reconstructor.smoothing_iterations": whole_numbers(0, 10**4),
    "reconstructor.max_outlier_views": whole_numbers(0, 4096),
    "reconstructor.min_component_ratio": SHARE,
    "reconstructor.max_faces": whole_numbers(4, 10**8),
    "reconstructor.seed": SEED,
}


def check_limits(config: Any) -> None:
    """Raise ConfigError for the first number of a composed config that is out of its range.

    A text in place of a number that has a range is an error, too.
    """
    from omegaconf import OmegaConf

    for key, value in leaves(OmegaConf.to_container(config), ""):
        limit = next((r for k, r in LIMITS.items() if fnmatch.fnmatchcase(key, k)), None)
        if isinstance(value, str | bool):
            if limit is not None and "." in key:
                raise ConfigError(f"{key} must be {limit}, got {format_value(value)}")
        elif value not in (limit or FINITE):
            raise ConfigError(f"{key} must be {limit or FINITE}, got {value}")
