"""Training of the network that reads a picture's elevation; see `mvdiff.preprocessing.elevation`.

    python -m mvdiff.training.train_elevation data=DIR out=runs/elevation [steps=3000]

DIR is a folder of `mvdiff render`. Goes on where it stopped; at the end the error on
the held-out objects is printed beside that of a constant answer (`within` as the network states it;
then the spread is scaled so that 68 % of these errors lie within it), and the averaged weights are
written to `weights` (default: OUT/elevation.safetensors).
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from ..data.augment import Augment, apply
from ..data.dataset import MultiViewDataset, RenderedDataset, move
from ..data.shuffled_order import ShuffledOrder
from ..errors import ConfigError, MvdiffError
from ..preprocessing.elevation import ElevationNet, crop
from ..utils.files import atomic
from ..utils.precision import resolve_precision

#: Pictures of one object in a batch: they are recolored together.
EACH = 8


@dataclass(frozen=True)
class Pictures:
    """Cropped pictures and their elevations, degrees."""

    rgba: Float[Tensor, "batch 4 64 64"]
    elevation: Float[Tensor, "batch"]

    def __len__(self) -> int:
        return len(self.rgba)


@dataclass(frozen=True)
class Inputs:
    """Batches of augmented input pictures: pure functions of (step, seed, share).

    augment: of colors and orientation. rough: whether edges, sharpness and light are disturbed,
        as in photos whose background was keyed out.
    """

    data: MultiViewDataset
    augment: Augment
    rough: bool = True

    def batch_at(
        self, step: int, *, batch_size: int, seed: int, shard: int, shards: int, device: Any
    ) -> Pictures:
        objects = batch_size // shards // EACH
        order = ShuffledOrder(self.data.sources)
        numbers = [step * (batch_size // EACH) + shard * objects + k for k in range(objects)]
        parts = [self._object(order(seed, number), [seed, 5, number]) for number in numbers]
        rgba, elevation = (torch.cat(x) for x in zip(*parts, strict=True))
        return Pictures(rgba.to(device), elevation.to(device))

    def _object(self, index: int, seed: list[int]) -> tuple[Tensor, Tensor]:
        random = np.random.default_rng(seed)
        sample, draw = self.data[index], self.augment.sample_params(random, self.data.view_count)
        some = random.choice(self.data.view_count, EACH, replace=False)
        pictures = sample.inputs.numpy()[some][..., :: -1 if draw.mirror else 1]
        pictures = move(np.ascontiguousarray(pictures), "cpu")
        rgba = apply(pictures[None], pictures[:1], [draw])[0][0]
        if self.rough:
            rgba = _roughen(rgba, random)
        return crop(rgba), sample.input_elevation[torch.from_numpy(some)]


def _roughen(rgba: Tensor, random: np.random.Generator) -> Tensor:
    """Blur, a light from one side, noise, and edges of the mask moved by half a pixel."""
    side, u = rgba.shape[-1], random.random(6)
    if u[0] < 0.5:
        small = max(24, int(side * (0.5 + u[1])))
        rgba = F.interpolate(rgba, size=small, mode="bilinear", antialias=True)
        rgba = F.interpolate(rgba, size=side, mode="bilinear", antialias=True)
    color, alpha = rgba[:, :3], rgba[:, 3:]
    if u[2] < 0.5:
        moved = F.max_pool2d(alpha, 3, 1, 1) if u[3] < 0.5 else -F.max_pool2d(-alpha, 3, 1, 1)
        alpha = torch.lerp(alpha, moved, float(u[3]) % 0.5)
    ramp = torch.linspace(-1, 1, side)
    light = 1 + 0.25 * (u[4] - 0.5) * ramp + 0.25 * (u[5] - 0.5) * ramp[:, None]
    noise = torch.from_numpy(random.standard_normal(color.shape).astype(np.float32)) * 0.02
    color = 1 - (1 - (color * light + noise)) * (alpha > 0)
    return torch.cat([color, alpha], dim=1).clamp(0, 1).float()


def objective(
    model: torch.nn.Module, batch: Pictures, generator: torch.Generator
) -> dict[str, Tensor]:
    """Negative log-likelihood of a normal distribution, in units of 10°; mean error, degrees."""
    mean, spread = model(batch.rgba)
    error = (mean.float() - batch.elevation) / 10
    spread = spread.float() / 10
    return {
        "loss": (spread.log() + 0.5 * (error / spread).square()).mean(),
        "degrees": 10 * error.detach().abs().mean(),
    }


@torch.no_grad()
def answers(model: ElevationNet, data: MultiViewDataset) -> tuple[Tensor, Tensor, Tensor]:
    """Estimates, their spreads and the true elevations: (object, picture) each, degrees."""
    device, rows = model.calibration.device, []
    for index in range(len(data)):
        sample = data[index]
        mean, spread = model(crop(apply_none(sample.inputs)).to(device))
        rows.append(torch.stack([mean.float().cpu(), spread.float().cpu(), sample.input_elevation]))
    found, spread, true = torch.stack(rows, dim=1)
    return found, spread, true


def errors(model: ElevationNet, data: MultiViewDataset) -> dict[str, float]:
    """Errors over all input pictures of a set, degrees, each object counting the same.

    `error` is the mean absolute one, `median` and `p90` its quantiles over pictures, `constant`
    that of always answering the set's median; `spread` the mean one the network states, and
    `within` the share of pictures within it (0.68 where it is right).
    """
    found, spread, true = answers(model, data)
    error, constant = (found - true).abs(), (true - true.median()).abs()
    return {
        "error": float(error.mean()),
        "median": float(error.median()),
        "p90": float(error.flatten().quantile(0.9)),
        "constant": float(constant.mean()),
        "spread": float(spread.mean()),
        "within": float((error < spread).float().mean()),
    }


def calibrate(model: ElevationNet, data: MultiViewDataset) -> None:
    """Scale the stated spread so that 68 % of the errors on `data` lie within it."""
    found, spread, true = answers(model, data)
    model.calibration *= float(((found - true).abs() / spread).flatten().quantile(0.6827))


def apply_none(pictures: Tensor) -> Tensor:
    """Straight RGBA bytes → colors on white and alpha, in [0, 1]."""
    still = Augment.none().sample_params(np.random.default_rng(0), 2)
    return apply(pictures[None], pictures[:1], [still])[0][0]


def main(args: list[str]) -> None:
    """Train, tell the held-out error, write the weights."""
    from safetensors.torch import save_file

    from .loop import RunOptions, train
    from .trainer import Hyperparameters

    given = dict(a.partition("=")[::2] for a in args)
    unknown = set(given) - {"data", "out", "steps", "weights", "batch_size"}
    if unknown or "data" not in given:
        raise ConfigError(
            "usage: python -m mvdiff.training.train_elevation data=DIR [out=DIR] [steps=N] "
            f"[batch_size=N] [weights=FILE]; got {' '.join(args) or 'nothing'}"
        )
    out = Path(given.get("out", "runs/elevation"))
    held_out, data = RenderedDataset(given["data"], "val"), RenderedDataset(given["data"], "train")
    try:
        steps, batch = int(given.get("steps", 3000)), int(given.get("batch_size", 16 * EACH))
    except ValueError as error:
        raise ConfigError(f"steps and batch_size must be whole numbers: {error}") from error
    if steps < 1 or batch < EACH or batch % EACH or data.view_count < EACH:
        raise ConfigError(
            f"expected steps ≥ 1, a batch in multiples of {EACH} and objects of at least {EACH} "
            f"images, got steps={steps}, batch_size={batch} and {data.view_count} images per object"
        )
    torch.manual_seed(0)
    result = train(
        ElevationNet(),
        objective,
        Inputs(data, Augment()),
        Hyperparameters(
            steps=steps,
            batch_size=batch,
            lr=2e-3,
            warmup=100,
            ema_decay=0.998,
            precision=resolve_precision("auto", "cpu"),
        ),
        out=out,
        options=RunOptions(log_every=50, validate_every=500),
        validate=lambda model, _: (errors(model, held_out), {}),
    )
    if not result.finished:
        return
    found = errors(result.ema, held_out)
    calibrate(result.ema, held_out)
    weights = {k: v.half().contiguous() for k, v in result.ema.state_dict().items()}
    with atomic(Path(given.get("weights", out / "elevation.safetensors"))) as part:
        save_file(weights, part)
    for name, value in found.items():
        print(f"{name:>10}  {value:.2f}")


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except MvdiffError as error:
        sys.exit(f"mvdiff: {error}")
