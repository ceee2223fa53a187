"""Builders: the only readers of configs. Parts get plain arguments and built parts."""

from .inference import (
    build_framing,
    build_pipeline,
    build_reconstructor,
    build_segmenter,
    resolve_device,
)
from .model import (
    PUBLISHED,
    build_model,
    build_radiance,
    build_rig,
    build_unet,
    swapped_prefixes,
)
from .sampler import SCHEDULERS, build_sampler, build_scheduler, build_training_scheduler
from .training import (
    build_augment,
    build_encoders,
    build_loss,
    build_param_groups,
    input_image_counts,
    load_training_data,
)

__all__ = [
    "PUBLISHED",
    "SCHEDULERS",
    "build_augment",
    "build_encoders",
    "build_framing",
    "build_loss",
    "build_model",
    "build_param_groups",
    "build_pipeline",
    "build_radiance",
    "build_reconstructor",
    "build_rig",
    "build_sampler",
    "build_scheduler",
    "build_segmenter",
    "build_training_scheduler",
    "build_unet",
    "input_image_counts",
    "load_training_data",
    "resolve_device",
    "swapped_prefixes",
]
