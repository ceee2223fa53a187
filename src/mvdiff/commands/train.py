"""`mvdiff train`: config → parts → the training loop."""

from __future__ import annotations

import sys
import time
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from .. import build, build_training
from ..errors import MvdiffError
from ..files import alone

if TYPE_CHECKING:
    from ..training.loop import Result


@dataclass(frozen=True)
class Parts:
    """What a training run is made of.

    groups, base, data_fingerprint: as `training.loop.train` takes them.
    """

    model: Any
    objective: Any
    batches: Any
    groups: list[dict[str, Any]] | None
    base: dict[str, str] | None
    validate: Any
    data_fingerprint: str | None = None


def run(config: Any) -> int:
    """Train as the config says; goes on from a checkpoint in `out`."""
    from ..training.devices import place
    from ..training.state import candidates
    from ..utils.precision import describe_precision

    main = place(config.device)[0] == 0
    with alone(Path(config.out)) if main else nullcontext():
        candidates(config.out, config.resume)  # a wrong word is told before the long work
        if main and config.train.precision == "auto":
            chosen = precision(config)
            print(f"precision=auto: {describe_precision(chosen, place(config.device)[2])}")
        return 130 if train_parts(config, parts(config)).interrupted else 0


def parts(config: Any) -> Parts:
    """Data, objective and the model with its starting weights."""
    from ..checkpoints.start import digest, start_model
    from ..data.batches import Batches
    from ..training.devices import place
    from ..training.groups import frozen

    here = place(config.device)
    data = build_training.training_data(config, config.data, "train")
    validate = _validation(config)
    objective = build.objective(config)
    torch.manual_seed(config.seed)
    weights = _weights(config)
    start = start_model(
        lambda: build.model(config),
        weights,
        config.recipe_name,
        swapped=build.swapped(config),
        betas=build.training_scheduler(config).betas,
    )
    model = start.model
    groups = build_training.param_groups(config, model)
    fixed = frozen(model)
    _check_start(config, weights, start.untrained, fixed)
    if start.said and here[0] == 0:
        print(start.said)
    if config.activation_checkpointing:
        for module in model.modules():
            if hasattr(module, "checkpointing"):
                module.checkpointing = True
    material = _encoded(config, model, data, *here)
    batches = Batches(
        material,
        augment=build_training.augment(config),
        mix=build.plain(config.mix),
        photos=build_training.photos(config),
    )
    base = {"weights": str(weights), "sha256": digest(fixed)} if fixed else None
    return Parts(model, objective, batches, groups, base, validate, data.fingerprint)


def numbers(config: Any) -> dict[str, Any]:
    """What decides the result of training, as `training.loop.train` takes it."""
    settings = config.train
    return {
        "steps": settings.steps,
        "batch_size": settings.batch,
        "lr": settings.lr,
        "warmup": settings.warmup,
        "schedule": settings.schedule,
        "weight_decay": settings.weight_decay,
        "betas": list(settings.betas),
        "grad_clip": settings.grad_clip,
        "ema_decay": settings.ema,
        "optimizer": settings.optimizer,
        "precision": precision(config),
        "seed": config.seed,
        "accumulate": config.accumulate,
    }


def precision(config: Any) -> str:
    """The precision of autocast; train.precision=auto is decided by the device."""
    from ..training.devices import place
    from ..utils.precision import resolve_precision

    return resolve_precision(config.train.precision, place(config.device)[2])


def train_parts(config: Any, parts: Parts, **how: Any) -> Result:
    """Train them. how: further arguments of `training.loop.train`, such as `progress`."""
    from ..training.loop import train

    return train(
        parts.model,
        parts.objective,
        parts.batches,
        out=Path(config.out),
        **numbers(config),
        param_groups=parts.groups,
        log_every=config.log_every,
        checkpoint_every=config.checkpoint_every,
        validate=parts.validate,
        validate_every=config.validate_every or None,
        resume=config.resume,
        time_budget=config.time_budget,
        tensorboard=config.tensorboard,
        device=config.device,
        config=build.plain(config),
        base=parts.base,
        data_fingerprint=parts.data_fingerprint,
        **how,
    )


def _validation(config: Any) -> Any:
    """The validation function, or None where none is wanted."""
    from ..data.published import is_published
    from ..training.validate import make_validation

    if not config.validate_every:
        return None
    root = config.data if config.val_data is None else config.val_data
    if config.val_data is None and isinstance(root, str) and is_published(root):
        raise MvdiffError(
            "the published layout holds no objects out for validation: pass "
            "val_data=FOLDER with others, or validate_every=0"
        )
    held_out = build_training.training_data(config, root, "val")
    return make_validation(held_out, build.sampler(config), config.validate_objects)


def _weights(config: Any) -> str | None:
    """What to start from: `weights=`, or `checkpoint=` where a recipe calls it so."""
    for given in (config.weights, config.get("checkpoint")):
        if given not in (None, "none"):
            return str(given)
    return None


def _check_start(
    config: Any, weights: str | None, untrained: tuple[str, ...], fixed: dict[str, Any]
) -> None:
    """What is frozen must come from a file: noise that is never trained teaches nothing."""
    random = [name for name in untrained if name in fixed]
    if random and not config.train.groups:
        raise MvdiffError(
            f"'{random[0]}' is never trained here and starts without weights: pass weights that "
            f"hold it, or choose other latents than '{config.latents.name}'"
        )
    if random and weights is None:
        raise MvdiffError(
            f"recipe '{config.recipe_name}' keeps most of its weights frozen ('{random[0]}', …): "
            "pass the ones to start from, weights=zero123.safetensors (mvdiff convert "
            "in=zero123-xl.ckpt out=zero123.safetensors), or train everything with train.groups=[]"
        )
    if random:
        raise MvdiffError(
            f"'{random[0]}' is frozen, yet '{weights}' does not have it: add it to "
            "train.groups, or start from weights that have it"
        )


def _encoded(
    config: Any, model: Any, data: Any, process: int, processes: int, device: torch.device
) -> Any:
    """The data, encoded once where its encoders are frozen; made here on first use."""
    from ..data.encoded import EncodedSet

    if config.cache == "none":
        return data
    encoders = build_training.encoders(config, model, device)
    if isinstance(encoders, str):
        if config.cache != "auto":
            raise MvdiffError(f"cache={config.cache} has nothing to keep: {encoders}")
        return data
    root = build.plain(config.data)
    folder = config.cache if config.cache != "auto" else root if isinstance(root, str) else root[0]
    encoded = EncodedSet(data, encoders, folder, config.cache_precision)
    if encoded.missing():
        if process == 0:
            print(f"encoding {len(data)} objects once, into '{encoded.folder}'", flush=True)
        encoded.encode(
            process=process, processes=processes, progress=_Progress() if process == 0 else None
        )
    return encoded


class _Progress:
    """A line every so often: how much is done, and how long the rest will take."""

    def __init__(self, every: float = 10.0) -> None:
        self.every, self.begun = every, time.monotonic()
        self.last = self.begun

    def __call__(self, done: int, total: int) -> None:
        now = time.monotonic()
        if now - self.last < self.every and done < total:
            return
        self.last = now
        left = (now - self.begun) / done * (total - done)
        print(f"encoded {done} of {total} objects  left {left:.0f} s", flush=True, file=sys.stdout)
