"""Schedulers and sampling settings, from a config."""

from __future__ import annotations

import functools
import inspect
import math
from typing import TYPE_CHECKING, Any

from ..config.instantiate import lookup, to_container
from ..errors import ConfigError

if TYPE_CHECKING:
    from ..pipeline import SamplerConfig

#: sampler name → diffusers class; schedulers are variants by configuration
SCHEDULERS = {
    "ddim": "DDIMScheduler",
    "ddim_syncdreamer": "SyncDreamerDDIMScheduler",
    "ddim_leading": "DDIMScheduler",
    "ddim_ldm": "LatentDiffusionDDIMScheduler",
    "ddim_zero123": "LatentDiffusionDDIMScheduler",
    "ddpm": "DDPMScheduler",
    "dpmpp": "DPMSolverMultistepScheduler",
    "euler": "EulerDiscreteScheduler",
    "unipc": "UniPCMultistepScheduler",
}


def build_scheduler(config: Any) -> Any:
    """The diffusers scheduler for `sampler` on the `noise` schedule."""
    import diffusers

    from ..diffusion import schedulers
    from ..latents.autoencoders import LATENTS

    name = config.sampler.name
    if name not in SCHEDULERS:
        raise ConfigError(f"unknown sampler '{name}'; choose from {', '.join(sorted(SCHEDULERS))}")
    variant = getattr(diffusers, SCHEDULERS[name], None) or getattr(schedulers, SCHEDULERS[name])
    options = to_container(config.sampler.get("options") or {})
    parameters = inspect.signature(variant.__init__).parameters
    unknown = [key for key in options if key not in parameters or key in ("self", "kwargs")]
    if unknown:
        choices = ", ".join(sorted(set(parameters) - {"self", "kwargs"}))
        raise ConfigError(
            f"unknown sampler.options.{unknown[0]} for '{name}'; choose from {choices}"
        )
    settings = {**to_container(config.noise), **options}
    kinds = ("epsilon", "sample", "v_prediction")
    kind = settings.setdefault("prediction_type", "epsilon")
    if kind not in kinds:
        raise ConfigError(f"unknown noise.prediction_type '{kind}'; choose from {', '.join(kinds)}")
    if "clip_sample" in parameters:
        # where latents are bounded, the predicted clean picture is kept in range
        bound = lookup(LATENTS, config.latents.name).clip
        settings |= {"clip_sample": bound is not None, "clip_sample_range": bound or 1.0}
    try:
        # not `from_config`, which imports every scheduler of diffusers to look for compatible ones
        return variant(**{k: v for k, v in settings.items() if k in parameters})
    except (TypeError, ValueError, NotImplementedError) as error:
        raise ConfigError(f"sampler '{name}' cannot be set up like this: {error}") from error


def build_sampler(config: Any) -> SamplerConfig:
    """Scheduler, steps and guidance as the config says."""
    from ..denoiser.guidance import parse_interval
    from ..pipeline import SamplerConfig

    build_scheduler(config)  # a bad setting is told now, not at the first step
    steps, most = config.sampler.steps, config.noise.num_train_timesteps
    if not 1 <= steps <= most:
        raise ConfigError(f"sampler.steps must lie in [1, {most}], got {steps}")
    scale, eta = config.guidance.scale, config.sampler.eta
    if not (math.isfinite(scale) and math.isfinite(eta)):
        raise ConfigError(
            f"guidance.scale and sampler.eta must be finite numbers, got {scale} and {eta}"
        )
    interval = parse_interval(to_container(config.guidance.get("interval")))
    return SamplerConfig(
        functools.partial(build_scheduler, config), steps, eta, guidance=scale, interval=interval
    )


def build_training_scheduler(config: Any) -> Any:
    """The noise schedule alone, for adding noise in training."""
    from diffusers import DDPMScheduler

    parameters = inspect.signature(DDPMScheduler.__init__).parameters
    return DDPMScheduler(**{k: v for k, v in to_container(config.noise).items() if k in parameters})
