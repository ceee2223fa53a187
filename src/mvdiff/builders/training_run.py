"""A whole training run from a config: its parts, and the call of the training loop."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from ..config.instantiate import to_container
from ..errors import ConfigError
from .model import build_model, swapped_prefixes
from .sampler import build_sampler, build_training_scheduler
from .training import (
    build_augment,
    build_encoders,
    build_loss,
    build_param_groups,
    input_image_counts,
    load_training_data,
)

if TYPE_CHECKING:
    from ..training.loop import TrainResult
    from ..training.trainer import Hyperparameters


@dataclass(frozen=True)
class TrainingSetup:
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


def build_training(config: Any) -> TrainingSetup:
    """Data, objective and the model with its starting weights."""
    from ..data.batch_source import DatasetBatches
    from ..training.distributed import place
    from ..training.param_groups import frozen_parameters
    from ..weights.initialize import init_for_training, sha256_of, zero_unread

    here = place(config.device)
    data = load_training_data(config, config.data, "train")
    validate = _validation(config)
    objective = build_loss(config)
    torch.manual_seed(config.seed)
    weights = _weights(config)
    start = init_for_training(
        lambda: build_model(config),
        weights,
        config.recipe_name,
        swapped=swapped_prefixes(config),
        betas=build_training_scheduler(config).betas,
        family=config.family,
    )
    model = start.model
    groups = build_param_groups(config, model)
    fixed = frozen_parameters(model)
    _check_start(config, weights, zero_unread(model, start.untrained), fixed)
    if start.summary and here[0] == 0:
        print(start.summary)
    if config.activation_checkpointing:
        for module in model.modules():
            if hasattr(module, "checkpointing"):
                module.checkpointing = True
    material = _encoded(config, model, data, *here)
    batches = DatasetBatches(
        material,
        augment=build_augment(config),
        mix=to_container(config.source_weights),
        photos=input_image_counts(config),
    )
    base = {"weights": str(weights), "sha256": sha256_of(fixed)} if fixed else None
    return TrainingSetup(model, objective, batches, groups, base, validate, data.fingerprint)


def hyperparameters(config: Any) -> Hyperparameters:
    """The numbers that decide the result of training."""
    from ..training.trainer import Hyperparameters

    settings = config.train
    return Hyperparameters(
        steps=settings.steps,
        batch_size=settings.batch_size,
        lr=settings.lr,
        warmup=settings.warmup,
        schedule=settings.schedule,
        weight_decay=settings.weight_decay,
        betas=list(settings.betas),
        grad_clip=settings.grad_clip,
        ema_decay=settings.ema_decay,
        optimizer=settings.optimizer,
        precision=resolved_precision(config),
        seed=config.seed,
        gradient_accumulation=config.gradient_accumulation,
    )


def resolved_precision(config: Any) -> str:
    """The precision of autocast; train.precision=auto is decided by the device."""
    from ..training.distributed import place
    from ..utils.precision import resolve_precision

    return resolve_precision(config.train.precision, place(config.device)[2])


def run_training(config: Any, setup: TrainingSetup, **options: Any) -> TrainResult:
    """Train what `build_training` made. options: further fields of `training.loop.RunOptions`."""
    from ..training.loop import RunOptions, train
    from ..training.trainer import Provenance

    return train(
        setup.model,
        setup.objective,
        setup.batches,
        hyperparameters(config),
        out=Path(config.out),
        options=RunOptions(
            log_every=config.log_every,
            checkpoint_every=config.checkpoint_every,
            validate_every=config.validate_every or None,
            max_minutes=config.max_minutes,
            tensorboard=config.tensorboard,
            device=config.device,
            **options,
        ),
        param_groups=setup.groups,
        validate=setup.validate,
        resume=config.resume,
        provenance=Provenance(to_container(config), setup.base, setup.data_fingerprint),
    )


def _validation(config: Any) -> Any:
    """The validation function, or None where none is wanted."""
    from ..data.syncdreamer import is_published
    from ..training.validation import make_validation

    if not config.validate_every:
        return None
    root = config.data if config.val_data is None else config.val_data
    if config.val_data is None and isinstance(root, str) and is_published(root):
        raise ConfigError(
            "the published layout holds no objects out for validation: pass "
            "val_data=FOLDER with others, or validate_every=0"
        )
    held_out = load_training_data(config, root, "val")
    return make_validation(held_out, build_sampler(config), config.validate_objects)


def _weights(config: Any) -> str | None:
    """The file to start from; None: random weights."""
    return None if config.weights in (None, "none") else str(config.weights)


def _check_start(
    config: Any, weights: str | None, untrained: tuple[str, ...], fixed: dict[str, Any]
) -> None:
    """What is frozen must come from a file: noise that is never trained teaches nothing."""
    random = [name for name in untrained if name in fixed]
    if random and not config.train.groups:
        raise ConfigError(
            f"'{random[0]}' is never trained here and starts without weights: pass weights that "
            f"hold it, or choose other latents than '{config.latents.name}'"
        )
    if random and weights is None:
        raise ConfigError(
            f"recipe '{config.recipe_name}' keeps most of its weights frozen ('{random[0]}', …): "
            "pass the ones to start from, weights=zero123.safetensors (mvdiff convert "
            "source=zero123-xl.ckpt output=zero123.safetensors), or train everything with "
            "train.groups=[]"
        )
    if random:
        raise ConfigError(
            f"'{random[0]}' is frozen, yet '{weights}' does not have it: add it to "
            "train.groups, or start from weights that have it"
        )


def _encoded(
    config: Any, model: Any, data: Any, process: int, processes: int, device: torch.device
) -> Any:
    """The data, encoded once where its encoders are frozen; made here on first use."""
    from ..data.latent_cache import CachedLatentDataset
    from ..utils.progress import ProgressDisplay

    if config.latent_cache == "none":
        return data
    encoders = build_encoders(config, model, device)
    if isinstance(encoders, str):
        if config.latent_cache != "auto":
            raise ConfigError(f"latent_cache={config.latent_cache} has nothing to keep: {encoders}")
        return data
    root = to_container(config.data)
    folder = (
        config.latent_cache
        if config.latent_cache != "auto"
        else root
        if isinstance(root, str)
        else root[0]
    )
    encoded = CachedLatentDataset(data, encoders, folder, config.latent_cache_dtype)
    if encoded.missing():
        if process == 0:
            print(f"encoding {len(data)} objects once, into '{encoded.folder}'", flush=True)
        with ProgressDisplay("encoding objects", show=process == 0, lines_every=10.0) as display:
            encoded.encode(process=process, processes=processes, progress=display.advance)
    return encoded
