"""The training objective: one noise level for all views, several target views a step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from einops import rearrange
from torch import Tensor

from ..denoiser.guidance import drop

if TYPE_CHECKING:
    from ..data.dataset import Batch


@dataclass(frozen=True)
class Objective:
    """Mean squared error of the prediction (SyncDreamer, equation 6).

    scheduler: a diffusers scheduler; its betas and prediction type define the task.
    views: target views a step; all of them share one volume (published: 1).
    time_power: times are drawn as T · u^(1/time_power), u uniform: 1 is the published uniform
        draw, larger values favour high noise.
    drop: probabilities of `guidance.drop`.
    """

    scheduler: Any
    views: int
    time_power: float
    drop: dict[str, float]

    def __call__(
        self, model: torch.nn.Module, batch: Batch, generator: torch.Generator
    ) -> dict[str, Tensor]:
        """Loss of one batch. `generator` lives on the CPU and makes every random choice."""
        net = getattr(model, "module", model)  # distributed wrappers hide the model's own methods
        count, views = batch.views.shape[:2]
        device = batch.views.device
        steps = self.scheduler.config.num_train_timesteps
        draw = torch.rand(count, generator=generator) ** (1 / self.time_power)
        timestep = (draw * steps).long().clamp(max=steps - 1).to(device)
        wanted = torch.randperm(views, generator=generator)[: self.views]

        with torch.no_grad():
            clean = net.latents.encode(rearrange(batch.views, "b v c h w -> (b v) c h w"))
            clean = rearrange(clean, "(b v) c h w -> b v c h w", b=count)
        noise = torch.randn(clean.shape, generator=generator).to(device)
        noisy = self.scheduler.add_noise(clean, noise, timestep)
        condition = net.condition(batch.photo, batch.elevation)
        condition = drop(condition, **self.drop, generator=generator)
        prediction = model(noisy, timestep.float(), condition, wanted=wanted.tolist())
        target = self.target(clean, noise, timestep)[:, wanted]
        error = (prediction.float() - target).square()
        return {"loss": error.mean()}

    def target(self, clean: Tensor, noise: Tensor, timestep: Tensor) -> Tensor:
        """What the network is asked for, by the scheduler's prediction type."""
        kind = self.scheduler.config.prediction_type
        if kind == "sample":
            return clean
        if kind == "epsilon":
            return noise
        return self.scheduler.get_velocity(clean, noise, timestep)
