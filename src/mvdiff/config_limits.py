"""Ranges of every number in the configs, checked when a config is composed.

A number outside its range would run forever, exhaust the memory, or quietly train or render
nonsense. Constructors check what only they know, such as how two numbers fit together.
"""

from __future__ import annotations

import fnmatch
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from .errors import MvdiffError


@dataclass(frozen=True)
class Range:
    """The numbers a setting may have.

    low, high: the ends; None where there is none. above_low, below_high: whether an end itself
        is excluded. whole: integers only.
    """

    low: float | None = None
    high: float | None = None
    above_low: bool = False
    below_high: bool = False
    whole: bool = False

    def __contains__(self, value: float) -> bool:
        if not math.isfinite(value) or (self.whole and value != int(value)):
            return False
        if self.low is not None and (value < self.low or (self.above_low and value == self.low)):
            return False
        return (
            self.high is None or value < self.high or (not self.below_high and value == self.high)
        )

    def __str__(self) -> str:
        unlimited = self.low is None and self.high is None
        kind = "a whole number" if self.whole else "a finite number" if unlimited else "a number"
        if self.low is None or self.high is None:
            if self.low is None:
                return kind
            return f"{kind} {'above' if self.above_low else 'of at least'} {self.low}"
        left, right = "(" if self.above_low else "[", ")" if self.below_high else "]"
        return f"{kind} in {left}{self.low}, {self.high}{right}"


def _whole(low: int, high: int) -> Range:
    return Range(low, high, whole=True)


FINITE = Range()
SHARE = Range(0, 1)
SHARE_BELOW_1 = Range(0, 1, below_high=True)
POSITIVE = Range(0, above_low=True)
NOT_NEGATIVE = Range(0)
SEED = Range(0, 2**62, below_high=True, whole=True)
STEPS = _whole(1, 10**9)
DEGREES_UP = Range(-90, 90)

#: setting (with wildcards) → range, for numbers and for every number in a list; the first that
#: matches counts. Numbers of no entry must be finite.
LIMITS: dict[str, Range] = {
    # the work and its size
    "seed": SEED,
    "seeds": Range(0, 2**31, below_high=True, whole=True),
    "shapes_seed": SEED,
    "samples": _whole(1, 10**6),
    "objects": _whole(1, 10**6),
    "batch": _whole(1, 4096),
    "batch_views": _whole(1, 4096),
    "jobs": _whole(1, 10**5),
    "workers": _whole(1, 1024),
    "shapes": _whole(0, 10**7),
    "copies": _whole(0, 1000),
    "inputs": _whole(0, 4096),
    "supersample": _whole(1, 16),
    "size": _whole(8, 4096),
    "max_size": _whole(16, 16384),
    "fill": Range(0, 1, above_low=True),
    "crop_size": _whole(-1, 4096),
    "texture": _whole(16, 16384),
    "faces": _whole(4, 10**8),
    "val_fraction": SHARE,
    "input_elevation": DEGREES_UP,
    # training
    "accumulate": _whole(1, 10**6),
    "log_every": STEPS,
    "checkpoint_every": STEPS,
    "validate_every": _whole(0, 10**9),
    "validate_objects": _whole(1, 10**6),
    "time_budget": POSITIVE,
    "timing": NOT_NEGATIVE,
    "budget.steps": STEPS,
    "budget.*": POSITIVE,
    "mix.*": NOT_NEGATIVE,
    "train.steps": STEPS,
    "train.batch": _whole(1, 65536),
    "train.views": _whole(1, 4096),
    "train.volume_views": _whole(1, 4096),
    "train.photos": _whole(1, 64),
    "train.lr": POSITIVE,
    "train.groups.*.lr": POSITIVE,
    "train.groups.*.weight_decay": NOT_NEGATIVE,
    "train.warmup": _whole(0, 10**9),
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
    "train.augment.jpeg": _whole(1, 100),
    # sampling
    "sampler.steps": _whole(1, 10**5),
    "sampler.eta": Range(0, 10),
    "guidance.scale": Range(-1000, 1000),
    "guidance.interval": SHARE,
    "noise.num_train_timesteps": _whole(1, 10**5),
    "noise.beta_*": Range(0, 1, above_low=True, below_high=True),
    # cameras
    "rig.count": _whole(1, 4096),
    "rig.elevation": DEGREES_UP,
    "rig.fov": Range(0, 180, above_low=True, below_high=True),
    "rig.distance": Range(0, 10**6, above_low=True),
    # parts of the network
    "*.heads": _whole(1, 4096),
    "*_heads": _whole(1, 4096),
    "*.groups": _whole(1, 4096),
    "*_groups": _whole(1, 4096),
    "*.stride": _whole(1, 64),
    "*.kernel_size": _whole(1, 64),
    "*.neighbours": _whole(1, 4096),
    "*.frequencies": _whole(0, 64),
    "*.head_ratio": Range(0, 64, above_low=True),
    "attention.width": POSITIVE,
    "attention.samples": _whole(1, 4096),
    "*.patch": _whole(1, 256),
    "*.bound": Range(0, 10**6, above_low=True),
    "*.radius": Range(0, 10**6, above_low=True),
    "*.planes": _whole(2, 4096),
    "*.side": _whole(1, 1024),
    "sizes.volume_side": _whole(1, 1024),
    "sizes.photo_features": _whole(0, 65536),
    "volume.photo_features": _whole(0, 65536),
    "sizes.lifted_finer": _whole(1, 64),
    "sizes.pixel_offset": FINITE,
    "sizes.unet_attention_levels": _whole(0, 64),
    "sizes.*": _whole(1, 65536),
    "volume.finer": _whole(1, 64),
    "volume.*dims": _whole(1, 65536),
    "volume.*features": _whole(1, 65536),
    "volume.*_blocks": _whole(0, 256),
    "unet.attention_levels": _whole(0, 64),
    "unet.mults": _whole(1, 1024),
    "unet.blocks": _whole(1, 64),
    "*.width": _whole(1, 65536),
    "*.dim": _whole(1, 65536),
    "*.channels": _whole(1, 65536),
    "latents.scale": POSITIVE,
    "radiance.photo_head": _whole(0, 65536),
    "radiance.split": _whole(1, 16),
    "radiance.coarser": _whole(1, 64),
    # meshes
    "reconstructor.resolution": _whole(8, 1024),
    "reconstructor.steps": _whole(1, 10**7),
    "reconstructor.rays": _whole(1, 10**6),
    "reconstructor.samples": _whole(1, 4096),
    "reconstructor.coarse": _whole(1, 4096),
    "reconstructor.rate": POSITIVE,
    "reconstructor.polish": _whole(0, 10**4),
    "reconstructor.tolerance": _whole(0, 4096),
    "reconstructor.pieces": SHARE,
    "reconstructor.faces": _whole(4, 10**8),
    "reconstructor.seed": SEED,
}


def check_limits(config: Any) -> None:
    """Raise MvdiffError for the first number of a composed config that is out of its range."""
    from omegaconf import OmegaConf

    for key, value in _numbers(OmegaConf.to_container(config), ""):
        limit = next((r for k, r in LIMITS.items() if fnmatch.fnmatchcase(key, k)), FINITE)
        if value not in limit:
            raise MvdiffError(f"{key} must be {limit}, got {value}")


def _numbers(node: Any, key: str) -> Iterator[tuple[str, float]]:
    """All numbers below a node, with the dotted key of their setting."""
    if isinstance(node, bool):
        return
    if isinstance(node, int | float):
        yield key, node
    elif isinstance(node, dict):
        for name, value in node.items():
            yield from _numbers(value, f"{key}.{name}" if key else str(name))
    elif isinstance(node, list):
        for index, value in enumerate(node):
            inner = f"{key}.{index}" if isinstance(value, dict) else key
            yield from _numbers(value, inner)
