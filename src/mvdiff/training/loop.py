"""The training loop: any model, any objective, exact resume, one process or many.

A step is a pure function of the weights, the optimizer's moments and (seed, step): batches,
the objective's generator and torch's global generator (dropout) are all seeded per step. A
resumed run therefore needs no replay and equals an uninterrupted one.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from PIL import Image
from torch import nn

from ..errors import MvdiffError
from ..utils.prefetch import prefetch
from .averages import RunningMean
from .early_exit import GracefulStop
from .run_logger import Progress, RunLogger
from .trainer import AnyBatch, LossFn, TrainConfig, Trainer

Validate = Callable[[nn.Module, int], tuple[Mapping[str, float], Mapping[str, Image.Image]]]


@runtime_checkable
class BatchSource(Protocol):
    """Where batches come from; `mvdiff.data.batch_source.DatasetBatches` is one."""

    def batch_at(
        self, step: int, *, batch_size: int, seed: int, shard: int, shards: int, device: Any
    ) -> Any: ...


@dataclass(frozen=True)
class TrainResult:
    """How a run ended.

    start, step, steps: gone on from, done, and wanted. interrupted: by Ctrl-C, SIGTERM or SIGHUP.
    ema: the averaged model, on the CPU or GPU it was trained on.
    checkpoint: the newest one. message: one sentence for people.
    """

    start: int
    step: int
    steps: int
    interrupted: bool
    ema: nn.Module
    checkpoint: Path | None
    message: str

    @property
    def finished(self) -> bool:
        return self.step >= self.steps


def train(
    model: nn.Module,
    objective: LossFn,
    data: BatchSource,
    *,
    out: str | Path,
    steps: int,
    batch_size: int,
    lr: float,
    warmup: int = 0,
    schedule: str = "cosine",
    final_lr: float = 0.0,
    weight_decay: float = 0.01,
    betas: Sequence[float] = (0.9, 0.999),
    grad_clip: float | None = 1.0,
    ema_decay: float = 0.999,
    optimizer: str = "adamw",
    precision: str = "fp32",
    seed: int = 0,
    accumulate: int = 1,
    param_groups: list[dict[str, Any]] | None = None,
    log_every: int = 50,
    checkpoint_every: int | None = 1000,
    checkpoint_minutes: float | None = 10.0,
    keep: int = 2,
    validate: Validate | None = None,
    validate_every: int | None = None,
    resume: str | Path = "auto",
    time_budget: float | None = None,
    tensorboard: bool | None = None,
    progress: bool = True,
    progress_every: float = 15.0,
    config: Mapping[str, Any] | None = None,
    base: Mapping[str, str] | None = None,
    data_fingerprint: str | None = None,
    device: str = "auto",
    channels_last: bool = False,
) -> TrainResult:
    """Train `model` in place and return its average.

    model: parameters that need no gradient stay as they are, and out of averages and checkpoints.
    objective: gets (model, batch, generator) and returns scalars, "loss" among them; the rest
        is logged. The generator lives on the CPU and is seeded by (seed, step): it is the same
        for every share of a batch (one process's part of one accumulation step), so what is
        drawn for single objects must also depend on `batch.index`.
    data: its batches are pure functions of (step, seed, share).
    batch_size: samples a step over all processes and accumulation steps together.
    lr: of every group without its own. warmup: steps. schedule: "cosine" or "constant".
    final_lr: where the cosine ends, as a fraction of lr.
    optimizer: "adamw", or "muon" (see `muon.Muon`).
    ema_decay: in [0, 1). precision: "fp32", "bf16" or "fp16" (autocast; weights stay fp32).
    accumulate: parts a process works through one after the other, to save memory.
    checkpoint_every, checkpoint_minutes: whichever comes first; None turns one off.
    validate: gets (averaged model, step), returns figures and pictures; runs every
        `validate_every` steps and at the end, on the main process, under autocast.
    resume: "auto" goes on from `out`'s newest readable checkpoint, "never" refuses an `out`
        that has some, a path goes on from that checkpoint; later ones in `out` are renamed.
    time_budget: minutes; then a checkpoint is written and the run returns.
    tensorboard: True insists, False does without, None uses it when installed.
    config: anything JSON can hold; kept in the checkpoints.
    base: where the frozen weights come from: {"weights": file, "sha256": their digest}; kept in
        the checkpoints, and a checkpoint with another digest is refused.
    data_fingerprint: stands for the content of the data; kept in the checkpoints, and a note says
        when a run is resumed on other data.
    device: "auto", "cpu" or "cuda".
    Raises MvdiffError on settings that cannot work, a diverged loss or a checkpoint of another
    model. Ctrl-C, SIGTERM and SIGHUP end the run after the step, with a checkpoint.
    """
    if log_every < 1:
        raise MvdiffError(f"log_every must be at least 1, got {log_every}")
    out = Path(out)
    settings = TrainConfig(
        steps=steps, batch_size=batch_size, lr=lr, warmup=warmup, schedule=schedule,
        final_lr=final_lr, weight_decay=weight_decay, betas=list(betas), grad_clip=grad_clip,
        ema_decay=ema_decay, precision=precision, seed=seed, accumulate=accumulate,
        optimizer=optimizer,
    )  # fmt: skip
    bar = Progress(show=progress, every=progress_every)
    engine = Trainer(
        model, settings, out=out, keep=keep, device=device, channels_last=channels_last,
        param_groups=param_groups, config=config or {}, base=base,
        data_fingerprint=data_fingerprint,
        say=bar.say,
    )  # fmt: skip
    bar.show = progress and engine.main
    engine.resume(resume)
    start = engine.step
    if start >= steps:
        message = f"nothing to do: '{out}' has {start} of {steps} steps; raise steps to go on"
        bar.say(message)
        return TrainResult(
            start, start, steps, False, engine.ema.module, engine.checkpoint, message
        )
    engine.prepare(objective)
    engine.set_aside()
    # Processes on one machine share a folder, so only the main one writes.
    record = RunLogger(out, start, tensorboard) if engine.main else None
    due = _Due(log_every, checkpoint_every, checkpoint_minutes, validate_every, steps)
    try:
        with (
            GracefulStop(engine.accelerator, time_budget) as stop,
            contextlib.closing(_batches(engine, data)) as batches,
        ):
            bar.start(start, steps)
            interrupted = _run(engine, batches, stop, due, record, bar, validate)
    finally:
        bar.close()
        if record:
            record.close()
    message = _farewell(engine.step, steps, interrupted, engine.checkpoint)
    bar.say(message)
    interrupted = interrupted and engine.step < steps
    return TrainResult(
        start, engine.step, steps, interrupted, engine.ema.module, engine.checkpoint, message
    )


@dataclass(frozen=True)
class _Due:
    """What happens how often; steps, except `checkpoint_minutes`."""

    log: int
    checkpoint: int | None
    checkpoint_minutes: float | None
    validate: int | None
    steps: int


def _batches(engine: Trainer, data: BatchSource) -> Iterator[AnyBatch]:
    """This process's parts of the remaining steps, prepared ahead."""
    settings = engine.settings

    def load(part: int) -> AnyBatch:
        step, micro = divmod(part, settings.accumulate)
        return data.batch_at(
            step,
            batch_size=settings.batch_size,
            seed=settings.seed,
            shard=engine.shard(micro),
            shards=engine.shards,
            device=engine.device,
        )

    parts = range(engine.step * settings.accumulate, settings.steps * settings.accumulate)
    return prefetch(load, parts)


def _run(
    engine: Trainer,
    batches: Iterator[AnyBatch],
    stop: GracefulStop,
    due: _Due,
    record: RunLogger | None,
    bar: Progress,
    validate: Validate | None,
) -> bool:
    """Steps until all are done or the run is to stop; log, save and validate in between.

    Returns whether a signal ended it, to this process or another.
    """
    clock = _Clock(engine.step)
    done = interrupted = False
    while not done:
        loss = engine.update(batches)
        step = engine.step
        done = step >= due.steps
        logs = done or step % due.log == 0

        # Processes must agree on what is to be done; asking a GPU each step would slow it.
        old = engine.main and clock.since_save_over(due.checkpoint_minutes)
        interrupted = late = False
        if engine.eager or engine.accelerator.num_processes == 1 or step % 10 == 0 or logs:
            interrupted, late, old = stop.agree(old)
            done = done or interrupted or late

        if logs:
            means = engine.means()
            loss = means["loss"]
            if record:
                record.figures(step, {**means, **clock.lap(step, engine.settings)})
            engine.meter = RunningMean()
        bar.update(step, loss)
        if done or old or (due.checkpoint and step % due.checkpoint == 0):
            engine.save()
            clock.saved()
        # A person who interrupts waits for the checkpoint, not for pictures.
        if validate and not interrupted and (done or (due.validate and step % due.validate == 0)):
            with clock.paused():
                if record:
                    _validate(engine, validate, record, bar)
                engine.accelerator.wait_for_everyone()
    return interrupted


def _validate(engine: Trainer, validate: Validate, record: RunLogger, bar: Progress) -> None:
    with torch.no_grad(), engine.accelerator.autocast():
        figures, images = validate(engine.ema.module, engine.step)
    record.figures(engine.step, dict(figures), group="validation")
    record.pictures(engine.step, images)
    shown = "  ".join(f"{name} {value:.4g}" for name, value in figures.items())
    bar.say(f"validation at step {engine.step}: {shown}")


class _Clock:
    """Seconds a step, without validation, and since the last checkpoint."""

    def __init__(self, step: int) -> None:
        self._step = step
        self._lap = self._saved = time.monotonic()

    def lap(self, step: int, settings: TrainConfig) -> dict[str, float]:
        """The log line's rates since the last one."""
        now = time.monotonic()
        each = (now - self._lap) / (step - self._step)
        self._lap, self._step = now, step
        return {
            "lr": settings.lr * settings.rate(step - 1),
            "seconds_per_step": each,
            "samples_per_second": settings.batch_size / each,
        }

    def saved(self) -> None:
        self._saved = time.monotonic()

    def since_save_over(self, minutes: float | None) -> bool:
        return minutes is not None and time.monotonic() - self._saved >= 60 * minutes

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        begun = time.monotonic()
        yield
        self._lap += time.monotonic() - begun


def _farewell(step: int, steps: int, interrupted: bool, checkpoint: Path | None) -> str:
    if step >= steps:
        return f"finished: {steps} steps; checkpoint '{checkpoint}'"
    why = "interrupted" if interrupted else "stopped"
    return (
        f"{why} at step {step} of {steps}; run the same command again to go on from '{checkpoint}'"
    )
