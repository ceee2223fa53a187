"""`mvdiff train`: config → parts → the training loop."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from .. import build
from ..errors import MvdiffError


def run(config: Any) -> int:
    """Train as the config says; goes on from a checkpoint in `out`."""
    from ..data.dataset import Batches, MultiViewSet
    from ..training.loop import train
    from ..training.validate import make_validation

    data = MultiViewSet(config.data, split="train")
    if data.view_count != config.rig.count or data.size != config.size:
        raise MvdiffError(
            f"the recipe wants {config.rig.count} views of {config.size}², '{config.data}' has "
            f"{data.view_count} of {data.size}²: render it again with those"
        )
    torch.manual_seed(config.seed)
    model = build.model(config)
    settings = config.train
    validate = None
    if config.validate_every:
        held_out = MultiViewSet(config.data, split="val")
        validate = make_validation(held_out, build.sampler(config), config.validate_objects)
    result = train(
        model,
        build.objective(config),
        Batches(data, mix=build.plain(config.mix)),
        out=Path(config.out),
        steps=settings.steps,
        batch_size=settings.batch,
        lr=settings.lr,
        warmup=settings.warmup,
        schedule=settings.schedule,
        weight_decay=settings.weight_decay,
        betas=tuple(settings.betas),
        grad_clip=settings.grad_clip,
        ema_decay=settings.ema,
        precision=settings.precision,
        seed=config.seed,
        accumulate=config.accumulate,
        log_every=config.log_every,
        checkpoint_every=config.checkpoint_every,
        validate=validate,
        validate_every=config.validate_every or None,
        resume=config.resume,
        time_budget=config.time_budget,
        tensorboard=config.tensorboard,
        device=config.device,
        config=build.plain(config),
    )
    return 130 if result.interrupted else 0
