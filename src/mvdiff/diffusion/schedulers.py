"""Schedulers that diffusers lacks."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import DDIMScheduler
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
