"""One denoising loop over any diffusers scheduler. It knows no cameras."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

#: (noisy latents, timestep of each object) → prediction
Denoise = Callable[[Tensor, Tensor], Tensor]


def sample(
    denoise: Denoise,
    scheduler: Any,
    noise: Float[Tensor, "batch *latent"],
    *,
    steps: int,
    eta: float = 0.0,
    generators: list[torch.Generator] | None = None,
    callback: Callable[[int, int, Tensor], None] | None = None,
) -> Float[Tensor, "batch *latent"]:
    """Walk from pure noise to a clean latent.

    scheduler: a diffusers scheduler; it says which times are visited.
    noise: standard normal, the start.
    eta: share of fresh noise a step, for schedulers that take one (DDIM: 1 is ancestral).
    generators: one an object, for the fresh noise, so that a sample does not depend on its
        neighbors in the batch.
    callback: called after every step with (step, steps, latents).
    """
    scheduler.set_timesteps(steps, device=noise.device)
    accepted = inspect.signature(scheduler.step).parameters
    extra: dict[str, Any] = {"eta": eta} if "eta" in accepted else {}
    if "generator" in accepted and generators is not None:
        extra["generator"] = generators
    x = noise * scheduler.init_noise_sigma
    for i, t in enumerate(scheduler.timesteps):
        model_input = scheduler.scale_model_input(x, t)
        prediction = denoise(model_input, t.to(x.dtype).expand(len(x)))
        x = scheduler.step(prediction, t, x, **extra).prev_sample
        if callback is not None:
            callback(i + 1, len(scheduler.timesteps), x)
    return x


def initial_noise(
    shape: tuple[int, ...], seeds: list[int], device: torch.device | str = "cpu"
) -> tuple[Float[Tensor, "batch *latent"], list[torch.Generator]]:
    """Standard normal noise from one CPU generator a sample, and those generators.

    Drawn on the CPU so that a seed means the same picture on every device.
    """
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    noise = torch.stack([torch.randn(shape[1:], generator=g) for g in generators])
    return noise.to(device), generators
