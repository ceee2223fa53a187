"""The running average of the weights, which is the model people use."""

from __future__ import annotations

import copy

import torch
from torch import nn


class EMA:
    """An exponential moving average of a model's weights, kept as a model of its own.

    The decay warms up: after k updates it is `min(decay, (1 + k) / (10 + k))`, so that early
    averages are not full of the random start. `module` is ready to use, in evaluation mode; it
    shares the frozen parameters with the model, which need no memory of their own.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        shared = {id(p): p for p in model.parameters() if not p.requires_grad}
        self.module = copy.deepcopy(model, shared).eval().requires_grad_(False)

    def decay_at(self, step: int) -> float:
        """The decay of the update after `step` earlier ones."""
        return min(self.decay, (1 + step) / (10 + step))

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        """Move the average towards `model`. step: how many updates came before."""
        weight = 1 - self.decay_at(step)
        averages, weights = [], []
        for mean, now in zip(self.module.parameters(), model.parameters(), strict=True):
            if now.requires_grad:
                averages.append(mean)
                weights.append(now.detach())
        torch._foreach_lerp_(averages, weights, weight)
        # Buffers (running statistics, tables) are states, not weights: the latest one counts.
        for mean, now in zip(self.module.buffers(), model.buffers(), strict=True):
            mean.copy_(now)
