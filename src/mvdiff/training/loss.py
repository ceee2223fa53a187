"""The training objective: one noise level per object; a subset of target views per step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from einops import rearrange
from torch import Tensor

from ..cameras.rigs import to_spherical
from ..data.dataset import Batch
from ..data.latent_cache import DiagonalGaussian, EncodedBatch
from ..denoiser.guidance import Condition, drop_conditions
from ..errors import ConfigError
from .optim import derive_seed

POSTERIORS = ("mean", "sample")


@dataclass(frozen=True)
class MultiViewDiffusionLoss:
    """Mean squared error of the prediction (SyncDreamer, equation 6), and of the rendering.

    scheduler: a diffusers scheduler; its betas and prediction type define the task.
    views: target views per object and step; all of them share one volume (SyncDreamer: 1).
    opacity_entropy: weight of 4α(1 - α), averaged over the rendered opacity α: half-transparent
        pixels cost something, so that outlines become those of one solid where the squared error
        alone would average over several. 0: none. Only for latents with opacity.
    volume_views: (fewest, most) noisy views that the volume is built from: one number per step,
        drawn uniformly; the target views and random others, as if only those were generated.
        None: all views of the rig, as in SyncDreamer. Only for volumes with `any_views`.
    time_power: times are drawn as T · u^(1/time_power), u uniform: 1 is the usual uniform
        draw, larger values favor high noise.
    drop: probabilities of `guidance.drop`.
    rendering: weight of the error of the radiance field's rendering against the clean latents, for
        models that have one beside a UNet.
    scheduled_sampling: share of steps whose noisy views come from the model's own prediction from
        pure noise, as in sampling, instead of the ground truth (arXiv 1506.03099; in diffusion this
        meets the exposure bias of arXiv 2308.15321): it is what few-step samplers feed back.
        Not for models that predict noise.
    posterior: "sample" draws latents from the autoencoder's posterior, as SyncDreamer; "mean"
        takes its mean. No effect on latents without a posterior.
    """

    scheduler: Any
    views: int
    time_power: float
    drop: dict[str, float]
    posterior: str = "mean"
    rendering: float = 0.0
    opacity_entropy: float = 0.0
    volume_views: tuple[int, int] | None = None
    scheduled_sampling: float = 0.0

    def __post_init__(self) -> None:
        if self.posterior not in POSTERIORS:
            raise ConfigError(
                f"unknown posterior '{self.posterior}'; choose from {', '.join(POSTERIORS)}"
            )
        if not 0 <= self.scheduled_sampling <= 1:
            raise ConfigError(
                f"train.scheduled_sampling must lie in [0, 1], got {self.scheduled_sampling}"
            )
        if self.scheduled_sampling and self.scheduler.config.prediction_type == "epsilon":
            raise ConfigError(
                "train.scheduled_sampling needs a clean prediction from pure noise, which models "
                "that predict noise do not give: choose noise.prediction_type=sample or "
                "v_prediction, or 0"
            )

    def __call__(
        self, model: torch.nn.Module, batch: Batch | EncodedBatch, generator: torch.Generator
    ) -> dict[str, Tensor]:
        """Loss of one batch.

        generator: on the CPU; its seed belongs to the step. What is drawn for an object depends
        on that seed and `batch.index` alone, however the batch is shared between processes.
        """
        net = getattr(model, "module", model)  # distributed wrappers hide the model's own methods
        generators = _generators(batch, generator)

        # draw the noise level and the target views
        steps = self.scheduler.config.num_train_timesteps
        uniform = torch.cat([torch.rand(1, generator=g) for g in generators])
        level = uniform ** (1 / self.time_power)
        timestep = (level * steps).long().clamp(max=steps - 1).to(batch.elevation.device)
        target_views = self._target_views(net, generators, generator)

        # encode the targets and the condition
        with torch.no_grad():
            clean, input_latent = self._latents(net, batch, generators)
        encoded = isinstance(batch, EncodedBatch)
        token = batch.token if encoded else net.embedder(batch.photo)
        condition = self._condition(net, batch, token, input_latent)
        condition = drop_conditions(condition, **self.drop, generator=generators)

        # corrupt the targets
        noise = _normal(clean, generators)
        noisy = self.scheduler.add_noise(clean, noise, timestep)
        kwargs = {}
        if self.volume_views is not None:  # drawn last, so that other draws do not depend on it
            kwargs["volume_views"] = self._draw_volume_views(
                net, target_views, generators, generator
            )
        if self.scheduled_sampling and torch.rand(1, generator=generator) < self.scheduled_sampling:
            guess = self._self_prediction(net, noise, condition, **kwargs)
            noisy = self.scheduler.add_noise(guess, noise, timestep)

        # predict, and compare
        if net.radiance is not None:
            kwargs["with_rendering"] = True
        prediction = model(noisy, timestep.float(), condition, target_views=target_views, **kwargs)
        prediction, rendering = prediction if net.radiance is not None else (prediction, None)
        rows = torch.arange(len(generators))[:, None]
        views = target_views.expand(len(generators), -1)
        error = (prediction.float() - self.target(clean, noise, timestep)[rows, views]).square()
        losses = {"loss": error.mean()}
        if rendering is not None:
            losses["rendered"] = (rendering.float() - clean[rows, views]).square().mean()
            losses["loss"] = losses["loss"] + self.rendering * losses["rendered"]
        if self.opacity_entropy and net.radiance is not None:
            # without a UNet the rendering is the prediction
            rendering = prediction if rendering is None else rendering
            losses["opacity_entropy"] = self._opacity_entropy(net, rendering.float())
            losses["loss"] = losses["loss"] + self.opacity_entropy * losses["opacity_entropy"]
        return {name: x if name == "loss" else x.detach() for name, x in losses.items()}

    def _opacity_entropy(self, net: Any, rendering: Tensor) -> Tensor:
        """Mean of 4α(1 - α) over the rendered pixels: 0 for opaque and empty ones, 1 between."""
        alpha = net.latents.decode(rendering.flatten(0, 1))[1]
        if alpha is None:
            raise ConfigError(
                "train.opacity_entropy needs latents with opacity (latents.alpha=true), or 0"
            )
        return (4 * alpha * (1 - alpha)).mean()

    @torch.no_grad()
    def _self_prediction(
        self, net: Any, noise: Tensor, condition: Condition, **kwargs: Any
    ) -> Tensor:
        """Clean latents of all views, predicted by the model from pure noise."""
        last = self.scheduler.config.num_train_timesteps - 1
        time = torch.full((len(noise),), last, device=noise.device)
        clean = net(noise, time.float(), condition, **kwargs).to(noise.dtype)
        if self.scheduler.config.prediction_type == "v_prediction":
            alpha = self.scheduler.alphas_cumprod[last].to(noise)
            clean = alpha.sqrt() * noise - (1 - alpha).sqrt() * clean
        clip = net.latents.clip
        return clean if clip is None else clean.clamp(-clip, clip)

    def _condition(
        self, net: Any, batch: Batch | EncodedBatch, token: Tensor, photo: Tensor
    ) -> Condition:
        """The condition, of all input images."""
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
        """The target of the prediction, by the scheduler's prediction type."""
        kind = self.scheduler.config.prediction_type
        if kind == "sample":
            return clean
        if kind == "epsilon":
            return noise
        return self.scheduler.get_velocity(clean, noise, timestep)

    def _target_views(
        self, net: Any, generators: list[torch.Generator], shared: torch.Generator
    ) -> Tensor:
        """Target views: a row per object; one row for all where attention needs whole sets."""
        sources = [shared] if net.all_views else generators
        views = [torch.randperm(len(net.rig), generator=g)[: self.views] for g in sources]
        return views[0] if net.all_views else torch.stack(views)

    def _draw_volume_views(
        self,
        net: Any,
        target_views: Tensor,
        generators: list[torch.Generator],
        shared: torch.Generator,
    ) -> Tensor:
        """Views that the volume is built from: the targets and others, a row per object."""
        low, high = self.volume_views
        count = int(torch.randint(low, high + 1, (1,), generator=shared))
        rows = []
        for targets, g in zip(target_views.expand(len(generators), -1), generators, strict=True):
            order = torch.randperm(len(net.rig), generator=g)
            rows.append(torch.cat([targets, order[~torch.isin(order, targets)]])[:count])
        return torch.stack(rows)

    def _latents(
        self, net: Any, batch: Batch | EncodedBatch, generators: list[torch.Generator]
    ) -> tuple[Tensor, Tensor]:
        """Clean latents of the targets, and the input image's latent beside them."""
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
        # Zero123's weights expect the input image's latent unscaled
        condition = self._draw(photo, generators) * net.latents.condition_scale
        return self._draw(targets, generators) * net.latents.scale, condition

    def _draw(self, posterior: DiagonalGaussian, generators: list[torch.Generator]) -> Tensor:
        if self.posterior == "mean":
            return posterior.mean
        return posterior.mean + (0.5 * posterior.logvar).exp() * _normal(posterior.mean, generators)


def _generators(batch: Batch | EncodedBatch, generator: torch.Generator) -> list[torch.Generator]:
    """One per object, seeded by the step's generator and the object's number in the run."""
    numbers = range(len(batch)) if batch.index is None else batch.index.tolist()
    step = generator.initial_seed()
    return [torch.Generator().manual_seed(derive_seed(step, number)) for number in numbers]


def _normal(like: Tensor, generators: list[torch.Generator]) -> Tensor:
    """Standard normal noise of a batch's shape, each object's from its own generator.

    On a GPU it is drawn there, from generators seeded by these: drawing on the CPU would take
    longer than the step. So CPU and GPU runs see different noise.
    """
    shape, device = like.shape[1:], like.device
    if device.type == "cpu":
        return torch.stack([torch.randn(shape, generator=g) for g in generators])
    seeds = [int(torch.randint(2**62, (1,), generator=g)) for g in generators]
    local = [torch.Generator(device).manual_seed(seed) for seed in seeds]
    return torch.stack([torch.randn(shape, generator=g, device=device) for g in local])
