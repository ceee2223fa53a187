"""Ranges of every number in the configs, checked when a config is composed.

A number outside its range would run forever, exhaust the memory, or quietly train or render
nonsense. Constructors check what only they know, such as how two numbers fit together.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Iterator
from typing import Any

from ..errors import MvdiffError
from ..utils.limits import (
    FINITE,
    NOT_NEGATIVE,
    POSITIVE,
    SHARE,
    SHARE_BELOW_1,
    Range,
    whole_numbers,
)

SEED = Range(0, 2**62, below_high=True, whole=True)
STEPS = whole_numbers(1, 10**9)
DEGREES_UP = Range(-90, 90)

#: setting (with wildcards) → range, for numbers and for every number in a list; the first that
#: matches counts. Numbers of no entry must be finite.
LIMITS: dict[str, Range] = {
    # the work and its size
    "seed": SEED,
    "seeds": Range(0, 2**31, below_high=True, whole=True),
    "shapes_seed": SEED,
    "samples": whole_numbers(1, 10**6),
    "objects": whole_numbers(1, 10**6),
    "batch": whole_numbers(1, 4096),
    "batch_views": whole_numbers(1, 4096),
    "jobs": whole_numbers(1, 10**5),
    "workers": whole_numbers(1, 1024),
    "shapes": whole_numbers(0, 10**7),
    "copies": whole_numbers(0, 1000),
    "inputs": whole_numbers(0, 4096),
    "supersample": whole_numbers(1, 16),
    "size": whole_numbers(8, 4096),
    "max_size": whole_numbers(16, 16384),
    "fill": Range(0, 1, above_low=True),
    "crop_size": whole_numbers(-1, 4096),
    "texture": whole_numbers(16, 16384),
    "faces": whole_numbers(4, 10**8),
    "val_fraction": SHARE,
    "input_elevation": DEGREES_UP,
    # training
    "accumulate": whole_numbers(1, 10**6),
    "log_every": STEPS,
    "checkpoint_every": STEPS,
    "validate_every": whole_numbers(0, 10**9),
    "validate_objects": whole_numbers(1, 10**6),
    "time_budget": POSITIVE,
    "timing": NOT_NEGATIVE,
    "budget.steps": STEPS,
    "budget.*": POSITIVE,
    "mix.*": NOT_NEGATIVE,
    "train.steps": STEPS,
    "train.batch": whole_numbers(1, 65536),
    "train.views": whole_numbers(1, 4096),
    "train.volume_views": whole_numbers(1, 4096),
    "train.photos": whole_numbers(1, 64),
    "train.lr": Range(0, 10**10, above_low=True),
    "train.groups.*.lr": Range(0, 10**10, above_low=True),
    "train.groups.*.weight_decay": NOT_NEGATIVE,
    "train.warmup": whole_numbers(0, 10**9),
    "train.weight_decay": NOT_NEGATIVE,
    "train.betas": SHARE_BELOW_1,
    "train.grad_clip": POSITIVE,
    "train.ema": SHARE_BELOW_1,
    "train.time_power": Range(0, 100, above_low=True),
    "train.scheduled_sampling": SHARE,
    "train.rendering": NOT_NEGATIVE,
    "train.drop.*": SHARE,
    "train.augment.mirror": SHARE,
    "train.augment.colour": SHARE,
    "train.augment.permute": SHARE,
    "train.augment.spoil": SHARE,
    "train.augment.hue": Range(0, 180),
    "train.augment.saturation": Range(1, 100),
    "train.augment.gain": Range(1, 100),
    "train.augment.gamma": Range(1, 100),
    "train.augment.shift": SHARE,
    "train.augment.scale": SHARE_BELOW_1,
    "train.augment.edge": NOT_NEGATIVE,
    "train.augment.blur": NOT_NEGATIVE,
    "train.augment.jpeg": whole_numbers(1, 100),
    # sampling
    "sampler.steps": whole_numbers(1, 10**5),
    "sampler.eta": Range(0, 10),
    "guidance.scale": Range(-1000, 1000),
    "guidance.interval": SHARE,
    "noise.num_train_timesteps": whole_numbers(1, 10**5),
    "noise.beta_*": Range(0, 1, above_low=True, below_high=True),
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
    "*.neighbours": whole_numbers(1, 4096),
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
    "sizes.unet_attention_levels": whole_numbers(0, 64),
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
    "reconstructor.rate": POSITIVE,
    "reconstructor.polish": whole_numbers(0, 10**4),
    "reconstructor.tolerance": whole_numbers(0, 4096),
    "reconstructor.pieces": SHARE,
    "reconstructor.faces": whole_numbers(4, 10**8),
    "reconstructor.seed": SEED,
}


def check_limits(config: Any) -> None:
    """Raise MvdiffError for the first number of a composed config that is out of its range."""
    from omegaconf import OmegaConf

    for key, value in _numbers(OmegaConf.to_container(config), ""):
        limit = next((r for k, r in LIMITS.items() if fnmatch.fnmatchcase(key, k)), None)
        if isinstance(value, bool):
            if limit is not None:
                raise MvdiffError(f"{key} must be {limit}, got {str(value).lower()}")
        elif value not in (limit or FINITE):
            raise MvdiffError(f"{key} must be {limit or FINITE}, got {value}")


def _numbers(node: Any, key: str) -> Iterator[tuple[str, float]]:
    """All numbers and truth values below a node, with the dotted key of their setting."""
    if isinstance(node, int | float):
        yield key, node
    elif isinstance(node, dict):
        for name, value in node.items():
            yield from _numbers(value, f"{key}.{name}" if key else str(name))
    elif isinstance(node, list):
        for index, value in enumerate(node):
            inner = f"{key}.{index}" if isinstance(value, dict) else key
            yield from _numbers(value, inner)
