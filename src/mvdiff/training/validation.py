"""Held-out objects during training: figures and a picture people can judge."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image

from ..data.dataset import MultiViewDataset
from ..pipeline import SamplerConfig, generate_views
from ..visualization import contact_sheet


def make_validation(
    held_out: MultiViewDataset, sampler: SamplerConfig, objects: int, seed: int = 0
) -> Callable[[Any, int], tuple[dict[str, float], dict[str, Image.Image]]]:
    """A validation function for `training.loop.train`.

    held_out: objects that are not trained on; `objects` of it are used, evenly spread.
    sampler: how views are drawn. Figures, both PSNR on white averaged over views and objects:
        `psnr_sampled` of the views, `psnr_one_step` of the clean picture predicted from pure
        noise (the blurred mean; an upper bound of what sampling usually reaches).
    """
    count = min(objects, len(held_out))
    index = np.linspace(0, len(held_out) - 1, count).round().astype(int).tolist()
    batch = held_out.batch(index)
    names = [str(held_out.names[i]) for i in index]

    def psnr(rgb: torch.Tensor) -> float:
        error = (rgb.clamp(0, 1) - batch.views[:, :, :3]).square().mean(dim=(2, 3, 4))
        return float((-10 * torch.log10(error.clamp(min=1e-10))).mean())

    def validate(model: Any, step: int) -> tuple[dict[str, float], dict[str, Image.Image]]:
        def views(how: SamplerConfig) -> torch.Tensor:
            # One object at a time: validation must fit beside the training's own memory.
            found = [
                generate_views(model, how, photo[None], elevation[None], [seed + i])[0].rgb
                for i, (photo, elevation) in enumerate(
                    zip(batch.photo, batch.elevation, strict=True)
                )
            ]
            return torch.stack(found)

        sampled = views(sampler)
        mean = views(SamplerConfig(lambda: trailing_scheduler(sampler.scheduler()), steps=1))
        figures = {"psnr_sampled": psnr(sampled), "psnr_one_step": psnr(mean)}
        return figures, {"views": _sheet(names, batch.photo, batch.views, sampled)}

    return validate


def trailing_scheduler(scheduler: Any) -> Any:
    """The diffusers scheduler, with its single step at the highest noise level.

    With "leading" spacing, as the published sampler has it, one step would lie at the lowest:
    pure noise would be taken for a nearly clean picture.
    """
    return type(scheduler).from_config(scheduler.config, timestep_spacing="trailing")


def _sheet(
    names: Sequence[str],
    photo: torch.Tensor,
    truth: torch.Tensor,
    generated: torch.Tensor,
    every: int = 2,
) -> Image.Image:
    """A labeled contact sheet: per object a row of true views and one of generated views.

    names: one per object. photo: (object, 3 or 4, height, width). truth, generated: (object, view,
    3 or 4, height, width), in [0, 1] on white. every: only each k-th view is shown.
    """
    rows, labels = [], []
    for name, p, t, g in zip(names, photo[:, :3], truth[:, :, :3], generated, strict=True):
        rows.append([_to_pil(view) for view in (p, *t[::every])])
        rows.append([_to_pil(view) for view in (torch.ones_like(p), *g[::every])])
        labels += [f"{name}\ntruth", "generated"]
    columns = ["input", *(f"view {i}" for i in range(0, truth.shape[1], every))]
    return contact_sheet(rows, row_labels=labels, column_labels=columns, cell=96)


def _to_pil(pixels: torch.Tensor) -> Image.Image:
    array = (pixels.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).cpu().numpy()
    return Image.fromarray(np.ascontiguousarray(array))
