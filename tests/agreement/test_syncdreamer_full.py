"""Sixteen views denoised together, and the UNet at its full width, as the original computes them.

Minutes each, and the full width takes about 8 GB of memory: run by `make test-full`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.golden import assert_agrees
from torch import Tensor

from mvdiff import builders
from mvdiff.config.compose import compose
from mvdiff.denoiser.multiview_denoiser import MultiViewDenoiser
from mvdiff.diffusion.sampling import sample
from mvdiff.diffusion.schedulers import SyncDreamerDDIMScheduler
from mvdiff.weights.load_model import init_on_meta
from mvdiff.weights.synthetic import fill_synthetic

pytestmark = pytest.mark.slow

#: the encoders are replaced by their golden results, so theirs may be small
ENCODERS = [
    "latents.widths=[32,32,32,32]",
    "embedder.width=32",
    "embedder.layers=1",
    "embedder.heads=2",
]


def read(shared_dir: Path, name: str) -> dict[str, Tensor]:
    with np.load(shared_dir / "golden" / f"{name}.npz") as file:
        return {key: torch.from_numpy(file[key]) for key in file.files}


def made(*overrides: str) -> tuple[MultiViewDenoiser, Any]:
    """The recipe's model by rule, and its config."""
    config = compose("generate", ["recipe=syncdreamer", "image=none", *ENCODERS, *overrides])
    model = fill_synthetic(init_on_meta(lambda: builders.build_model(config)))
    return model.eval().requires_grad_(False), config


def condition(model: MultiViewDenoiser, golden: dict[str, Tensor], elevation: Tensor) -> Any:
    """From the golden latent (scaled) and embedding of the photo."""
    model.latents.condition = lambda rgba: golden["input_latent"] / 0.18215
    model.embedder.forward = lambda rgba: golden["clip_embed"].reshape(1, 768)
    return model.condition(torch.zeros(1, 4, 256, 256), torch.rad2deg(elevation.float()))


class GivenNoise(SyncDreamerDDIMScheduler):
    """The original's fresh noise, step by step."""

    given: Tensor
    done = 0

    def step(self, model_output: Tensor, timestep: Any, sample: Tensor, eta: float = 0.0) -> Any:
        noise = self.given[:, self.done] if self.done < self.given.shape[1] else None
        self.done += 1
        return super().step(model_output, timestep, sample, eta=eta, variance_noise=noise)


def test_four_joint_steps_over_sixteen_views(shared_dir: Path) -> None:
    golden = read(shared_dir, "sampling_small")
    model, config = made("unet.width=32")
    known = condition(model, golden, golden["elevation_rad"])
    scheduler = GivenNoise.from_config(builders.build_scheduler(config).config)
    scheduler.given = golden["injected_noise"]
    states: list[Tensor] = []
    scale = float(golden["cfg_scale"])
    sample(
        lambda x, t: model(x, t, known, guidance=scale, batch_views=4),
        scheduler,
        golden["initial"],
        steps=4,
        eta=config.sampler.eta,
        callback=lambda step, steps, x: states.append(x),
    )
    assert scheduler.timesteps.tolist() == golden["timesteps"].tolist()[::-1]
    for step, state in enumerate(states):
        assert_agrees(f"16 views after step {step + 1} of 4", state, golden["states"][:, step])


def test_noise_of_the_full_width(shared_dir: Path) -> None:
    golden, start = read(shared_dir, "unet_full"), read(shared_dir, "spatial_volume")
    photo = read(shared_dir, "sampling_small")
    model, _ = made()
    known = condition(model, photo, start["elevation_rad"])
    noise = model(
        start["latents"],
        golden["timestep"].float(),
        known,
        target_views=golden["view_indices"][0].tolist(),
    )
    assert_agrees("noise, full-width UNet", noise, golden["noise_cond"])
