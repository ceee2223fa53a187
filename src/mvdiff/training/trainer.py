"""What a run carries from step to step, and the step itself."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..denoiser.layout import channels_last as use_channels_last
from ..errors import ConfigError, TrainingError
from ..utils.limits import NOT_NEGATIVE, POSITIVE, SHARE, SHARE_BELOW_1, Range
from ..utils.precision import DTYPES
from .averages import RunningMean
from .checkpointing import (
    CheckpointManager,
    first_loadable,
    read_checkpoint,
    resume_candidates,
    trained_state,
)
from .distributed import make_accelerator
from .ema import EMA
from .optim import OPTIMIZERS, SCHEDULES, derive_seed, load_optimizer, lr_schedule, make_optimizer
from .param_groups import eval_frozen_modules

#: what a `BatchSource` makes and a `LossFn` takes; the loop passes it on
AnyBatch = Any
LossFn = Callable[[nn.Module, Any, torch.Generator], Mapping[str, Tensor]]


@dataclass(frozen=True)
class Hyperparameters:
    """The numbers that decide what a run computes.

    batch_size: samples per step, over all processes and accumulation steps together.
    lr: of every group without its own. warmup: steps. schedule: "cosine" or "constant".
    final_lr: where the cosine ends, as a fraction of lr.
    optimizer: "adamw", or "muon" (see `muon.Muon`).
    ema_decay: in [0, 1). precision: "fp32", "bf16" or "fp16" (autocast; weights stay fp32).
    gradient_accumulation: parts that a process works through one after the other, to save memory.
    Raises ConfigError on values that are out of range.
    """

    steps: int
    batch_size: int
    lr: float
    warmup: int = 0
    schedule: str = "cosine"
    final_lr: float = 0.0
    weight_decay: float = 0.01
    betas: list[float] = field(default_factory=lambda: [0.9, 0.999])
    grad_clip: float | None = 1.0
    ema_decay: float = 0.999
    precision: str = "fp32"
    seed: int = 0
    gradient_accumulation: int = 1
    optimizer: str = "adamw"

    def __post_init__(self) -> None:
        for name, least in (
            ("steps", 1),
            ("batch_size", 1),
            ("gradient_accumulation", 1),
            ("seed", 0),
        ):
            if getattr(self, name) < least:
                raise ConfigError(f"{name} must be at least {least}, got {getattr(self, name)}")
        kinds = {"schedule": SCHEDULES, "precision": DTYPES, "optimizer": OPTIMIZERS}
        for name, choices in kinds.items():
            if getattr(self, name) not in choices:
                raise ConfigError(
                    f"unknown {name} '{getattr(self, name)}'; choose from {', '.join(choices)}"
                )
        ranges = {
            "ema_decay": SHARE_BELOW_1,
            "lr": POSITIVE,
            "warmup": Range(0, whole=True),
            "final_lr": SHARE,
            "weight_decay": NOT_NEGATIVE,
            "grad_clip": POSITIVE,
        }
        for name, allowed in ranges.items():
            value = getattr(self, name)
            if value is not None and value not in allowed:
                raise ConfigError(f"{name} must be {allowed}, got {value}")
        if len(self.betas) != 2 or any(beta not in SHARE_BELOW_1 for beta in self.betas):
            raise ConfigError(f"betas must be two numbers in [0, 1), got {list(self.betas)}")

    def rate(self, step: int) -> float:
        """What learning rates are multiplied with at a step (from 0)."""
        return lr_schedule(
            step, steps=self.steps, warmup=self.warmup, schedule=self.schedule, floor=self.final_lr
        )


@dataclass(frozen=True)
class Provenance:
    """What a run's checkpoints say about where it comes from.

    config: anything that JSON can hold.
    base: where the frozen weights come from, {"weights": file, "sha256": their digest}; a
        checkpoint with another digest is rejected.
    data_fingerprint: of the content of the data; a note says when a run is resumed on other data.
    """

    config: Mapping[str, Any] = field(default_factory=dict)
    base: Mapping[str, str] | None = None
    data_fingerprint: str | None = None


class Trainer:
    """Model, average, optimizer and step count of a run.

    model: moved to the device and trained in place.
    out, keep: where checkpoints go and how many stay. param_groups: as in `loop.train`.
    provenance: kept in the checkpoints. say: prints one line for people.
    """

    def __init__(
        self,
        model: nn.Module,
        settings: Hyperparameters,
        *,
        out: Path,
        keep: int,
        device: str,
        channels_last: bool,
        param_groups: list[dict[str, Any]] | None,
        provenance: Provenance,
        say: Callable[[str], None],
    ) -> None:
        self.settings, self.out, self.say = settings, out, say
        self.config, self.data_fingerprint = dict(provenance.config), provenance.data_fingerprint
        self.base = dict(provenance.base) if provenance.base else None
        self.accelerator = accelerator = make_accelerator(settings.precision, device)
        self.shards = accelerator.num_processes * settings.gradient_accumulation
        if settings.batch_size % self.shards:
            raise ConfigError(
                f"batch_size={settings.batch_size} cannot be split over "
                f"{accelerator.num_processes} process(es) of {settings.gradient_accumulation} "
                f"accumulation step(s): choose a multiple of {self.shards}"
            )
        self.main: bool = accelerator.is_main_process
        self.device: torch.device = accelerator.device
        #: whether reading the loss each step costs nothing
        self.can_read_loss_each_step = self.device.type == "cpu"
        self.model = model.to(self.device).train()
        eval_frozen_modules(model)
        if channels_last:
            use_channels_last(model)
        self.optimizer = make_optimizer(
            model,
            lr=settings.lr,
            weight_decay=settings.weight_decay,
            betas=settings.betas,
            param_groups=param_groups,
            fused=settings.precision != "fp16" and self.device.type in ("cpu", "cuda"),
            name=settings.optimizer,
        )
        self.ema = EMA(model, settings.ema_decay)
        self.store = CheckpointManager(out, keep)
        self.meter = RunningMean()
        self.step = 0
        self.checkpoint: Path | None = None
        self._scaler: dict[str, Any] | None = None

    def resume(self, resume: str | Path) -> None:
        """Load the checkpoint to resume from, if there is one; `resume` as in `loop.train`."""
        first_loadable(resume_candidates(self.out, resume), self._load, self.say)

    def _load(self, path: Path) -> None:
        optimizer, state = read_checkpoint(path, self.model, self.ema.module, self.base)
        load_optimizer(self.optimizer, optimizer["optimizer"], path)
        self._scaler = optimizer["scaler"]
        self.meter.load(state["meter"])
        self.step, self.checkpoint = int(state["step"]), path
        self.say(f"resuming from '{path}' at step {self.step}")
        previous_data = state.get("data_fingerprint")
        if previous_data and self.data_fingerprint and previous_data != self.data_fingerprint:
            self.say(
                "note: the training data changed since the last step (other objects, or images "
                "rendered again): this run continues with the present data"
            )
        for name, now in asdict(self.settings).items():
            before = state["settings"].get(name)
            if before != now:
                self.say(f"note: {name}={now} from here on (was {before})")

    def prepare(self, objective: LossFn) -> None:
        """Wrap model and optimizer for precision and processes; call after `resume`."""
        for group in self.optimizer.param_groups:
            group["base_lr"] = float(group["lr"])
        wrapped = _LossModule(self.model, objective)
        self._wrapped, self._driver = self.accelerator.prepare(wrapped, self.optimizer)
        if self._scaler and self.accelerator.scaler is not None:
            self.accelerator.scaler.load_state_dict(self._scaler)

    def archive_later_checkpoints(self) -> None:
        """Rename checkpoints of later steps than the resumed one; call after `prepare`."""
        # Another process may still be reading one of them.
        self.accelerator.wait_for_everyone()
        moved = self.store.archive_later(self.step, self.checkpoint) if self.main else {}
        if moved:
            names = ", ".join(f"{old} → {new}" for old, new in moved.items())
            self.say(
                f"note: resuming from step {self.step}; later checkpoints are renamed: {names}"
            )

    def shard(self, micro: int) -> int:
        """Which share of the whole batch is this process's accumulation step `micro`."""
        return self.accelerator.process_index * self.settings.gradient_accumulation + micro

    def update(self, batches: Iterator[AnyBatch]) -> float | None:
        """One step; returns the loss where reading it is free, else None."""
        settings, accelerator = self.settings, self.accelerator
        for group in self.optimizer.param_groups:
            group["lr"] = group["base_lr"] * settings.rate(self.step)
        losses = []
        for micro in range(settings.gradient_accumulation):
            batch, share = next(batches), self.shard(micro)
            torch.manual_seed(derive_seed(settings.seed, 3, self.step, share))
            generator = torch.Generator().manual_seed(derive_seed(settings.seed, 4, self.step))
            # Processes exchange gradients once a step, with the last part.
            last = micro == settings.gradient_accumulation - 1
            quiet = contextlib.nullcontext() if last else accelerator.no_sync(self._wrapped)
            with quiet:
                figures = self._wrapped(batch, generator)
                accelerator.backward(figures["loss"] / settings.gradient_accumulation)
            self.meter.add(figures)
            losses.append(figures["loss"].detach())
        limit = math.inf if settings.grad_clip is None else settings.grad_clip
        norm = accelerator.clip_grad_norm_(self.model.parameters(), limit)
        self.meter.add({"grad_norm": norm})
        loss = sum(map(float, losses)) / len(losses) if self.can_read_loss_each_step else None
        if loss is not None:
            self._check(float(norm), loss, shared=accelerator.num_processes == 1)
        self._driver.step()
        self._driver.zero_grad(set_to_none=True)
        self.ema.update(self.model, self.step)
        self.step += 1
        return loss

    def means(self) -> dict[str, float]:
        """The window's figures over all processes; TrainingError when they are not finite."""
        self.meter.gather(self.accelerator.num_processes)
        means = self.meter.means()
        if means:
            self._check(means["grad_norm"], means["loss"], shared=True)
        return means

    def _check(self, norm: float, loss: float, shared: bool) -> None:
        """shared: whether all processes see this loss."""
        # Half precision has infinite gradients now and then; its scaler skips such steps.
        overflow = self.settings.precision != "fp16" and not math.isfinite(norm)
        # The gradient's norm is the same everywhere, so processes that judge by it stop together.
        if overflow or (shared and not math.isfinite(loss)):
            raise TrainingError(
                f"the loss diverged near step {self.step + 1} (loss {loss:.4g}, gradient "
                f"{norm:.4g}): lower lr or raise warmup; {self._last_checkpoint()}"
            )

    def _check_weights(self) -> None:
        """Raise TrainingError for weights, averages or moments that are not finite."""
        moments = self.optimizer.state_dict()["state"]
        named = {
            "weight": trained_state(self.model),
            "averaged weight": trained_state(self.ema.module, of=self.model),
            "moment of parameter": {
                f"{number} ({name})": tensor
                for number, state in moments.items()
                for name, tensor in state.items()
                if isinstance(tensor, Tensor)
            },
        }
        for kind, tensors in named.items():
            for name, tensor in tensors.items():
                if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
                    raise TrainingError(
                        f"training diverged by step {self.step}: the {kind} {name} holds NaN or "
                        f"infinite numbers; lower lr or raise warmup; {self._last_checkpoint()}"
                    )

    def _last_checkpoint(self) -> str:
        if self.checkpoint is None:
            return "no checkpoint had been written"
        return f"the last good checkpoint is '{self.checkpoint}'"

    def save(self) -> None:
        """Write a checkpoint; a diverged model never becomes one.

        Raises TrainingError when the loss, a weight, an average or a moment is not finite.
        """
        self.means()
        self._check_weights()
        if self.main:
            scaler = self.accelerator.scaler
            optimizer = {
                "optimizer": self.optimizer.state_dict(),
                "scaler": None if scaler is None else scaler.state_dict(),
            }
            state = {
                "settings": asdict(self.settings),
                "config": self.config,
                **({"base": self.base} if self.base else {}),
                "data_fingerprint": self.data_fingerprint,
                "meter": self.meter.state(),
                "torch": torch.__version__,
            }
            self.checkpoint = self.store.save(
                self.step, self.model, self.ema.module, optimizer, state
            )
        self.accelerator.wait_for_everyone()


class _LossModule(nn.Module):
    """Model and objective as one module, so that DDP sees a single forward pass."""

    def __init__(self, model: nn.Module, objective: LossFn) -> None:
        super().__init__()
        self.model = model
        self.objective = objective

    def forward(self, batch: AnyBatch, generator: torch.Generator) -> dict[str, Tensor]:
        return dict(self.objective(self.model, batch, generator))
