"""Schedulers that diffusers lacks."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from diffusers import DDIMScheduler
from diffusers.configuration_utils import register_to_config
from torch import Tensor


class SyncDreamerDDIMScheduler(DDIMScheduler):
    """DDIM as SyncDreamer samples: the last step adds no fresh noise, whatever eta is.

    The last step's direction is still shortened by its sigma, as in the released code.
    """

    def step(
        self,
        model_output: Tensor,
        timestep: Any,
        sample: Tensor,
        eta: float = 0.0,
        generator: Any = None,
        variance_noise: Tensor | None = None,
    ) -> Any:
        """As diffusers' `step`, without noise where the walk ends.

        variance_noise: the fresh noise itself, instead of a generator's.
        """
        if int(timestep) < self.config.num_train_timesteps // self.num_inference_steps:
            variance_noise = torch.zeros_like(sample)
        if variance_noise is not None:
            generator = None
        return super().step(
            model_output,
            timestep,
            sample,
            eta=eta,
            generator=generator,
            variance_noise=variance_noise,
        )


class LatentDiffusionDDIMScheduler(DDIMScheduler):
    """DDIM at the times that latent-diffusion's code visits (Zero123, MVDream, ImageDream).

    These are 1, 1 + c, 1 + 2c, … below 1000 with c = 1000 // steps: more than `steps` of them
    where `steps` does not divide 1000. The last step goes to the first noise level, not to 0.

    skip_noisiest: leave out the noisiest of these times, as Zero123's demo does: 50 steps make 49
        evaluations, the first at t = 961.
    """

    @register_to_config
    def __init__(
        self,
        num_train_timesteps: int = 1000,
        beta_start: float = 0.00085,
        beta_end: float = 0.012,
        beta_schedule: str = "scaled_linear",
        clip_sample: bool = False,
        clip_sample_range: float = 1.0,
        prediction_type: str = "epsilon",
        skip_noisiest: bool = False,
    ) -> None:
        super().__init__(
            num_train_timesteps=num_train_timesteps,
            beta_start=beta_start,
            beta_end=beta_end,
            beta_schedule=beta_schedule,
            clip_sample=clip_sample,
            clip_sample_range=clip_sample_range,
            prediction_type=prediction_type,
            set_alpha_to_one=False,
            steps_offset=1,
        )
        self.register_to_config(skip_noisiest=skip_noisiest)

    def set_timesteps(self, num_inference_steps: int, device: Any = None) -> None:
        """The times to visit, noisiest first."""
        times = self.config.num_train_timesteps
        if not 2 <= num_inference_steps < times:
            raise ValueError(f"steps must lie in [2, {times - 1}], got {num_inference_steps}")
        self.num_inference_steps = num_inference_steps
        table = np.arange(0, times, times // num_inference_steps) + 1
        table = table[table < times]
        if self.config.skip_noisiest and len(table) > 1:
            table = table[:-1]
        self.timesteps = torch.from_numpy(table[::-1].copy()).to(device)
