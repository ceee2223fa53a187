"""A model of a few hundred parameters and random batches, also for subprocesses of tests."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn

from mvdiff.data.dataset import Batch


class Toy(nn.Module):
    """A small network with dropout, so that global randomness matters."""

    def __init__(self, width: int = 8, dropout: float = 0.1) -> None:
        super().__init__()
        self.first = nn.Conv2d(4, width, 3, padding=1)
        self.norm = nn.GroupNorm(2, width)
        self.drop = nn.Dropout(dropout)
        self.last = nn.Conv2d(width, 4, 3, padding=1)
        self.register_buffer("seen", torch.zeros(()))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.training:
            self.seen += 1
        return self.last(self.drop(torch.relu(self.norm(self.first(x)))))


def toy(seed: int = 0, **kwargs: Any) -> Toy:
    torch.manual_seed(seed)
    return Toy(**kwargs)


class Noise:
    """Batches as a pure function, as `mvdiff.data.batch_source.DatasetBatches` gives them."""

    def batch_at(
        self,
        step: int,
        *,
        batch_size: int,
        seed: int = 0,
        shard: int = 0,
        shards: int = 1,
        device: Any = "cpu",
    ) -> Batch:
        each = batch_size // shards
        start = step * batch_size + shard * each
        numbers = range(start, start + each)
        pixels = np.stack(
            [
                np.random.default_rng([seed, n]).random((3, 4, 8, 8), dtype=np.float32)
                for n in numbers
            ]
        )
        views = torch.from_numpy(pixels)
        return Batch(
            views=views[:, 1:],
            photo=views[:, 0],
            elevation=torch.zeros(each),
            names=tuple(str(n) for n in numbers),
            index=torch.tensor(list(numbers)),
        ).to(device)


def denoise(model: nn.Module, batch: Batch, generator: torch.Generator) -> dict[str, torch.Tensor]:
    """An objective that draws noise from the generator, as a real one does."""
    clean = batch.views.flatten(0, 1)
    noise = torch.randn(clean.shape, generator=generator)
    error = (model(clean + noise) - clean).square()
    return {"loss": error.mean(), "worst": error.detach().amax()}


def copy_photo(
    model: nn.Module, batch: Batch, generator: torch.Generator
) -> dict[str, torch.Tensor]:
    """An objective without noise: the same however a batch is split."""
    return {"loss": (model(batch.photo) - batch.views[:, 0]).square().mean()}
