"""Held-out objects during training: figures and a picture people can judge."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image

from ..pipeline import Sampler, generate_views

if TYPE_CHECKING:
    from ..data.dataset import MultiViewSet


def make_validation(
    held_out: MultiViewSet, sampler: Sampler, objects: int, seed: int = 0
) -> Callable[[Any, int], tuple[dict[str, float], dict[str, Image.Image]]]:
    """A validation function for `training.loop.train`.

    held_out: the data set's "val" split; `objects` of it are used, evenly spread.
    sampler: how views are drawn. Figures, both PSNR on white averaged over views and objects:
        `psnr_sampled` of the views, `psnr_one_step` of the clean picture predicted from pure
        noise (the blurred mean; an upper bound of what sampling usually reaches).
    """
    count = min(objects, len(held_out))
    index = np.linspace(0, len(held_out) - 1, count).round().astype(int).tolist()
    batch = held_out.batch(index)

    def psnr(rgb: torch.Tensor) -> float:
        error = (rgb.clamp(0, 1) - batch.views[:, :, :3]).square().mean(dim=(2, 3, 4))
        return float((-10 * torch.log10(error.clamp(min=1e-10))).mean())

    def validate(model: Any, step: int) -> tuple[dict[str, float], dict[str, Image.Image]]:
        seeds = [seed + i for i in range(count)]
        views = generate_views(model, sampler, batch.photo, batch.elevation, seeds)
        sampled = torch.stack([v.rgb for v in views])
        one_step = Sampler(sampler.scheduler, steps=1)
        mean = generate_views(model, one_step, batch.photo, batch.elevation, seeds)
        figures = {
            "psnr_sampled": psnr(sampled),
            "psnr_one_step": psnr(torch.stack([v.rgb for v in mean])),
        }
        return figures, {"views": _grid(batch.photo, batch.views, sampled)}

    return validate


def _grid(photo: torch.Tensor, truth: torch.Tensor, ours: torch.Tensor, every: int = 2) -> Any:
    """One object a pair of rows: photo, true views; below, the generated ones."""
    rows = []
    for p, t, o in zip(photo[:, :3], truth[:, :, :3], ours, strict=True):
        blank = torch.ones_like(p)
        rows.append(torch.cat([p, *t[::every]], dim=-1))
        rows.append(torch.cat([blank, *o[::every]], dim=-1))
    pixels = (torch.cat(rows, dim=-2).clamp(0, 1) * 255).round().byte().permute(1, 2, 0)
    return Image.fromarray(np.ascontiguousarray(pixels.cpu().numpy()))
