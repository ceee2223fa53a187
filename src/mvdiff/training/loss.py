"""The training objective: one noise level for all views of an object, some target views a step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from einops import rearrange
from torch import Tensor

from ..cameras.rigs import to_spherical
from ..data.dataset import Batch
from ..data.latent_cache import DiagonalGaussian, EncodedBatch
from ..denoiser.guidance import Condition, drop
from ..errors import MvdiffError
from .optim import derive_seed

POSTERIORS = ("mean", "sample")


@dataclass(frozen=True)
class MultiViewDiffusionLoss:
    """Mean squared error of the prediction (SyncDreamer, equation 6), and of the rendering.

    scheduler: a diffusers scheduler; its betas and prediction type define the task.
    views: target views an object and step; all of them share one volume (published: 1).
    volume_views: (fewest, most) noisy views that the volume is built from: one number a step,
        drawn evenly, for the target views and others at random, as if those alone were being
        generated. None: all of the rig's, as published. Only for volumes with `any_views`.
    time_power: times are drawn as T · u^(1/time_power), u uniform: 1 is the published uniform
        draw, larger values favour high noise.
    drop: probabilities of `guidance.drop`.
    rendering: weight of the error of the radiance field's rendering against the clean latents, for
        models that have one beside a UNet.
    scheduled_sampling: share of steps whose noisy views are made of the model's own answer to pure
        noise, as they are in sampling, instead of the truth (arXiv 1506.03099; in diffusion this
        meets the exposure bias of arXiv 2308.15321): what few-step samplers feed back. Not for
        models that predict noise.
    posterior: "sample" draws latents from the autoencoder's posterior, as published; "mean"
        takes its mean. Latents without a posterior are what they are.
    """

    scheduler: Any
    views: int
    time_power: float
    drop: dict[str, float]
    posterior: str = "mean"
    rendering: float = 0.0
    volume_views: tuple[int, int] | None = None
    scheduled_sampling: float = 0.0

    def __post_init__(self) -> None:
        if self.posterior not in POSTERIORS:
            raise MvdiffError(
                f"unknown posterior '{self.posterior}'; choose from {', '.join(POSTERIORS)}"
            )
        if not 0 <= self.scheduled_sampling <= 1:
            raise MvdiffError(
                f"train.scheduled_sampling must lie in [0, 1], got {self.scheduled_sampling}"
            )
        if self.scheduled_sampling and self.scheduler.config.prediction_type == "epsilon":
            raise MvdiffError(
                "train.scheduled_sampling needs an answer to pure noise, and predicted noise holds "
                "none: choose noise.prediction_type=sample or v_prediction, or 0"
            )

    def __call__(
        self, model: torch.nn.Module, batch: Batch | EncodedBatch, generator: torch.Generator
    ) -> dict[str, Tensor]:
        """Loss of one batch.

        generator: on the CPU; its seed belongs to the step. What is drawn for an object depends
        on that seed and `batch.index` alone, however the batch is shared between processes.
        """
        net = getattr(model, "module", model)  # distributed wrappers hide the model's own methods
        own = _generators(batch, generator)
        device = batch.elevation.device
        steps = self.scheduler.config.num_train_timesteps
        draw = torch.cat([torch.rand(1, generator=g) for g in own]) ** (1 / self.time_power)
        timestep = (draw * steps).long().clamp(max=steps - 1).to(device)
        wanted = self._wanted(net, own, generator)

        # what is known of the object: its clean latents, and the condition
        with torch.no_grad():
            clean, photo = self._latents(net, batch, own)
        encoded = isinstance(batch, EncodedBatch)
        token = batch.token if encoded else net.embedder(batch.photo)
        condition = self._condition(net, batch, token, photo)
        condition = drop(condition, **self.drop, generator=own)

        noise = _normal(clean, own)
        noisy = self.scheduler.add_noise(clean, noise, timestep)
        some = {}
        if self.volume_views is not None:
            some = {"volume_views": self._sources(net, wanted, own, generator)}
        if self.scheduled_sampling and torch.rand(1, generator=generator) < self.scheduled_sampling:
            guess = self._own_answer(net, noise, condition, **some)
            noisy = self.scheduler.add_noise(guess, noise, timestep)
        if net.radiance is not None:
            some["with_rendering"] = True
        prediction = model(noisy, timestep.float(), condition, wanted=wanted, **some)
        prediction, rendering = prediction if some.get("with_rendering") else (prediction, None)
        rows = torch.arange(len(own))[:, None]
        wanted = wanted.expand(len(own), -1)
        error = (prediction.float() - self.target(clean, noise, timestep)[rows, wanted]).square()
        if rendering is None:
            return {"loss": error.mean()}
        rendered = (rendering.float() - clean[rows, wanted]).square().mean()
        return {"loss": error.mean() + self.rendering * rendered, "rendered": rendered.detach()}

    @torch.no_grad()
    def _own_answer(self, net: Any, noise: Tensor, condition: Condition, **some: Any) -> Tensor:
        """Clean latents of all views, as the model sees them in pure noise."""
        last = self.scheduler.config.num_train_timesteps - 1
        time = torch.full((len(noise),), last, device=noise.device)
        answer = net(noise, time.float(), condition, **some).to(noise.dtype)
        if self.scheduler.config.prediction_type == "v_prediction":
            kept = self.scheduler.alphas_cumprod[last].to(noise)
            answer = kept.sqrt() * noise - (1 - kept).sqrt() * answer
        clip = net.latents.clip
        return answer if clip is None else answer.clamp(-clip, clip)

    def _condition(
        self, net: Any, batch: Batch | EncodedBatch, token: Tensor, photo: Tensor
    ) -> Condition:
        """The condition, with what further input pictures there are."""
        if isinstance(batch, EncodedBatch) or batch.more is None:
            return net.condition_from(token, photo, batch.elevation)
        more = batch.more
        latents = net.latents.condition(rearrange(more.photos, "b p ... -> (b p) ..."))
        latents = rearrange(latents, "(b p) ... -> b p ...", b=len(batch))
        degrees = torch.rad2deg(to_spherical(net.rig)[0]).to(more.elevation)
        places = torch.cat([torch.zeros_like(more.views[:, :1]), more.views], dim=1)
        return net.condition_from(
            token,
            torch.cat([photo[:, None], latents], dim=1),
            torch.cat([batch.elevation[:, None], more.elevation], dim=1),
            degrees[places],
        )

    def target(self, clean: Tensor, noise: Tensor, timestep: Tensor) -> Tensor:
        """What the network is asked for, by the scheduler's prediction type."""
        kind = self.scheduler.config.prediction_type
        if kind == "sample":
            return clean
        if kind == "epsilon":
            return noise
        return self.scheduler.get_velocity(clean, noise, timestep)

    def _wanted(self, net: Any, own: list[torch.Generator], shared: torch.Generator) -> Tensor:
        """Target views: a row an object; one row for all where attention needs whole sets."""
        sources = [shared] if net.all_views else own
        views = [torch.randperm(len(net.rig), generator=g)[: self.views] for g in sources]
        return views[0] if net.all_views else torch.stack(views)

    def _sources(
        self, net: Any, wanted: Tensor, own: list[torch.Generator], shared: torch.Generator
    ) -> Tensor:
        """Views the volume is built from: the wanted ones and others, a row an object."""
        low, high = self.volume_views
        count = int(torch.randint(low, high + 1, (1,), generator=shared))
        rows = []
        for row, g in zip(wanted.expand(len(own), -1), own, strict=True):
            order = torch.randperm(len(net.rig), generator=g)
            rows.append(torch.cat([row, order[~torch.isin(order, row)]])[:count])
        return torch.stack(rows)

    def _latents(
        self, net: Any, batch: Batch | EncodedBatch, own: list[torch.Generator]
    ) -> tuple[Tensor, Tensor]:
        """Clean latents of the targets, and the photo's as it is laid beside them."""
        if isinstance(batch, EncodedBatch):
            targets, photo = batch.targets, batch.photo
        else:
            count = len(batch)
            views = rearrange(batch.views, "b v c h w -> (b v) c h w")
            if not hasattr(net.latents, "posterior"):
                clean = rearrange(net.latents.encode(views), "(b v) ... -> b v ...", b=count)
                return clean, net.latents.condition(batch.photo)
            numbers = [x.unflatten(0, (count, -1)) for x in net.latents.posterior(views)]
            targets, photo = (
                DiagonalGaussian(*numbers),
                DiagonalGaussian(*net.latents.posterior(batch.photo)),
            )
        # Zero123's weights know the photo's latent unscaled
        return self._draw(targets, own) * net.latents.scale, self._draw(photo, own)

    def _draw(self, posterior: DiagonalGaussian, own: list[torch.Generator]) -> Tensor:
        if self.posterior == "mean":
            return posterior.mean
        return posterior.mean + (0.5 * posterior.logvar).exp() * _normal(posterior.mean, own)


def _generators(batch: Batch | EncodedBatch, generator: torch.Generator) -> list[torch.Generator]:
    """One an object, seeded by the step's generator and the object's number in the run."""
    numbers = range(len(batch)) if batch.index is None else batch.index.tolist()
    step = generator.initial_seed()
    return [torch.Generator().manual_seed(derive_seed(step, number)) for number in numbers]


def _normal(like: Tensor, own: list[torch.Generator]) -> Tensor:
    """Normal numbers of a batch's shape, each object's from its own generator."""
    return torch.stack([torch.randn(like.shape[1:], generator=g) for g in own]).to(like.device)
