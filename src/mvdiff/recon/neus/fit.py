"""Fitting the field to the pixels of all views by gradient descent."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import smooth_l1_loss

from ...utils.timing import Stopwatch
from .field import Field
from .rays import Rays
from .render import place_samples, render
from .settings import NeusSettings

#: Steps between two looks at the whole field, which tell where along a ray to sample. States
#: are saved at multiples of it, so that a resumed fit sees the same.
REFRESH = 25

#: The losses that are told, in the order `Fit._train_step` gives them: means over a step's rays.
LOSSES = ("color", "mask", "eikonal")


class Fit:
    """A field on its way: `run` takes it to the end; `state` and `restore` interrupt it.

    step: those taken. seconds: that they took, of earlier runs too.
    losses: `LOSSES` before their weights, means over the last `REFRESH` steps.
    """

    def __init__(self, field: Field, rays: Rays, settings: NeusSettings) -> None:
        self.field, self.rays, self.settings = field, rays, settings
        self.step, self.seconds = 0, 0.0
        self.losses: dict[str, float] = {}
        self.device = field.base.device
        count = len(field.gain)
        self.view_loss = torch.zeros(count, device=self.device)
        groups = [
            ([*field.levels], settings.lr),
            ([*field.features], 2e-2),
            ([*field.hidden.parameters(), *field.color.parameters(), field.sharpness], 5e-3),
            ([field.gain, field.offset], 2e-3),
        ]
        self.optimizer = torch.optim.Adam(
            [{"params": params, "lr": rate, "full": rate} for params, rate in groups],
            betas=(0.9, 0.99),
            eps=1e-12,
            fused=True,
        )

    def run(
        self,
        tick: Callable[[int, dict[str, float]], None],
        save: Callable[[int], None] | None = None,
    ) -> None:
        """Take all steps that are left.

        tick: called now and then with the steps done and the losses.
        save: called at multiples of `REFRESH` and at the end with the steps done.
        """
        dense = None
        steps, start = self.settings.steps, self.step
        total = torch.zeros(len(LOSSES), device=self.device)
        watch = Stopwatch()
        while self.step < steps:
            if dense is None or self.step % REFRESH == 0:
                with torch.no_grad():
                    shape = list(self.field.levels[-1].shape[2:])
                    dense = self.field.dense(shape, self._level_weights())
            total += self._train_step(dense)
            self.step += 1
            if self.step % REFRESH == 0 or self.step == steps:
                means = (total / (self.step - start)).tolist()
                self.losses = dict(zip(LOSSES, means, strict=True))
                start = self.step
                total.zero_()
                self.seconds += watch.lap()
                tick(self.step, self.losses)
                if save is not None:
                    save(self.step)

    def view_weights(self) -> Float[Tensor, "view"]:
        """How far each view is believed, in (0, 1]: less when its loss is above the median's."""
        if not self.settings.robust or self.step < 6 * REFRESH:
            return torch.ones_like(self.view_loss)
        return (1.5 * self.view_loss.median() / self.view_loss.clamp(min=1e-9)).clamp(max=1) ** 3

    def state(self) -> dict[str, object]:
        """All that `restore` needs: tensors and numbers."""
        return {
            "step": self.step,
            "field": self.field.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "view_loss": self.view_loss,
            "losses": self.losses,
            "seconds": self.seconds,
        }

    def restore(self, state: dict[str, object]) -> None:
        """Go on where `state` was taken, from a field and rays built alike."""
        self.field.load_state_dict(state["field"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.view_loss = state["view_loss"].to(self.device)
        self.step = int(state["step"])
        self.losses = dict(state.get("losses", {}))
        self.seconds = float(state.get("seconds", 0.0))

    def _level_weights(self) -> list[float]:
        """Finer levels come in one after the other, all within the first half."""
        count = len(self.field.levels)
        at = 2 * count * self.step / self.settings.steps
        return [1.0] + [min(1.0, max(0.0, at - i)) for i in range(1, count)]

    def _train_step(self, dense: Tensor) -> Float[Tensor, "loss"]:
        """One step; returns its `LOSSES`."""
        s, field, level_weights = self.settings, self.field, self._level_weights()
        # A generator for every step makes a resumed fit take the same ones.
        generator = torch.Generator().manual_seed(s.seed * 1_000_003 + self.step)
        chosen = torch.randint(len(self.rays), (s.rays,), generator=generator)
        rays = self.rays[chosen.to(self.device)]
        jitter, shift = self._random(generator, s.coarse), self._random(generator, 1)
        with torch.no_grad():
            depth = place_samples(
                rays,
                dense,
                field.size,
                field.sharpness.exp(),
                jitter=jitter,
                shift=shift,
                count=s.samples + 1,
            )
        color, opacity, points = render(field, rays, depth, level_weights)
        # Beside the colors of a solid pixel, a mixed one's would also pull at its opacity.
        target = rays.color * opacity.detach()[:, None]
        by_color = smooth_l1_loss(color, target, beta=s.huber_delta, reduction="none").sum(dim=-1)
        by_color = by_color * rays.opacity
        by_mask = smooth_l1_loss(opacity, rays.opacity, beta=0.1, reduction="none")
        by_ray = by_color + s.mask_weight * by_mask
        eikonal, bend = self._shape_losses(points.detach(), generator, level_weights)
        progress = self.step / s.steps
        loss = (self.view_weights()[rays.view] * by_ray).mean() + s.eikonal_weight * eikonal
        loss = loss + s.curvature_weight * (1 - 0.9 * progress) * bend
        loss = loss + 0.01 * (field.gain.square().mean() + field.offset.square().mean())
        self._set_rates(progress)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        with torch.no_grad():
            field.sharpness.clamp_(max=math.log(1500))
        self._update_view_loss(rays, (by_color + by_mask).detach())
        return torch.stack([by_color.mean(), by_mask.mean(), eikonal]).detach()

    def _random(self, generator: torch.Generator, count: int) -> Float[Tensor, "ray count"]:
        return torch.rand(self.settings.rays, count, generator=generator).to(self.device)

    def _shape_losses(
        self, points: Tensor, generator: torch.Generator, level_weights: list[float]
    ) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
        """Eikonal loss, and the mean size of the distance's Laplacian, near one sample a ray.

        By central differences as wide as the cells that matter by now, as in Neuralangelo
        (arXiv 2306.03092, section 3.2).
        """
        s = self.settings
        width = (1 if self.step > s.steps / 2 else 2) / s.resolution
        pick = torch.randint(points.shape[1], (len(points), 1, 1), generator=generator)
        points = points.gather(1, pick.to(self.device).expand(-1, 1, 3))[:, 0]
        noise = torch.randn(points.shape, generator=generator)
        points = points + 0.01 * noise.to(self.device)
        step = width * torch.eye(3, device=self.device)[:, None]
        around = self.field.distance(
            torch.cat([points + step, points - step, points[None]]), level_weights
        )
        ahead, behind, middle = around[:3], around[3:6], around[6]
        slope = ((ahead - behind) / (2 * width)).norm(dim=0)
        laplacian = (ahead.sum(dim=0) + behind.sum(dim=0) - 6 * middle) / width**2
        return (slope - 1).square().mean(), laplacian.abs().mean()

    def _set_rates(self, progress: float) -> None:
        """A short rise, then a cosine down to a twentieth."""
        share = min(1.0, (self.step + 1) / 50) * (0.525 + 0.475 * math.cos(math.pi * progress))
        for group in self.optimizer.param_groups:
            group["lr"] = group["full"] * share

    def _update_view_loss(self, rays: Rays, loss: Tensor) -> None:
        """Keep a running mean of every view's loss."""
        count = torch.zeros_like(self.view_loss).index_add_(0, rays.view, torch.ones_like(loss))
        total = torch.zeros_like(self.view_loss).index_add_(0, rays.view, loss)
        mean = torch.where(count > 0, total / count.clamp(min=1), self.view_loss)
        pace = 0.02 if self.step else 1.0
        self.view_loss = self.view_loss + pace * (mean - self.view_loss)
