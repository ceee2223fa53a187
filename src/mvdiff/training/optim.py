"""Learning rates and seeds as pure functions of the step, and the optimizer they drive."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from ..errors import ConfigError
from .muon import Muon, muon_groups

SCHEDULES = ("cosine", "constant")
OPTIMIZERS = ("adamw", "muon")


def lr_schedule(step: int, *, steps: int, warmup: int, schedule: str, floor: float = 0.0) -> float:
    """What the learning rate of step `step` (from 0) is multiplied with, in [0, 1].

    Linear warm-up over `warmup` steps, then constant, or a half cosine down to `floor` at
    `steps`.
    """
    if step < warmup:
        return (step + 1) / warmup
    if schedule == "constant":
        return 1.0
    done = min((step - warmup) / max(steps - warmup, 1), 1.0)
    return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * done))


def derive_seed(*parts: int) -> int:
    """One 63-bit seed from several numbers; neighbors give unrelated seeds."""
    return int(np.random.SeedSequence(parts).generate_state(1, np.uint64)[0] >> np.uint64(1))


def make_optimizer(
    model: nn.Module,
    *,
    lr: float,
    weight_decay: float,
    betas: Sequence[float],
    param_groups: list[dict[str, Any]] | None,
    fused: bool,
    name: str = "adamw",
) -> torch.optim.Optimizer:
    """The optimizer over the trainable parameters.

    name: "adamw"; or "muon", see `muon.Muon`.
    param_groups: as torch takes them, each with its own `lr` if it needs one. Without them,
    weights decay, and biases and norms (fewer than 2 dimensions) do not.
    """
    if param_groups is None:
        trained = [p for p in model.parameters() if p.requires_grad]
        param_groups = [
            {"params": [p for p in trained if p.ndim >= 2], "weight_decay": weight_decay},
            {"params": [p for p in trained if p.ndim < 2], "weight_decay": 0.0},
        ]
    groups = [{**g, "params": [p for p in g["params"] if p.requires_grad]} for g in param_groups]
    groups = [g for g in groups if g["params"]]
    if not groups:
        raise ConfigError("the model has no trainable parameter: nothing to train")
    first, second = betas
    if name == "muon":
        return Muon(muon_groups(groups), lr=lr, weight_decay=weight_decay, betas=(first, second))
    # A fused update is one pass over the weights, on CPU and CUDA alike.
    return torch.optim.AdamW(
        groups, lr=lr, weight_decay=weight_decay, betas=(first, second), fused=fused
    )


def load_optimizer(optimizer: torch.optim.Optimizer, state: dict[str, Any], path: object) -> None:
    """Take over moments, but keep this run's learning rates, decays and betas."""
    settings = [{k: v for k, v in g.items() if k != "params"} for g in optimizer.param_groups]
    try:
        optimizer.load_state_dict(state)
    except ValueError as error:
        raise ConfigError(
            f"the optimizer in '{path}' has other parameter groups ({error}): keep the groups, "
            "or start from the weights in another output folder"
        ) from error
    for group, kept in zip(optimizer.param_groups, settings, strict=True):
        group.update(kept)
