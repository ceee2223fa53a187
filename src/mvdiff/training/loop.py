"""The training loop: any model, any objective, exact resume, one process or many.

A step is a pure function of the weights, the optimizer's moments and (seed, step): batches,
the objective's generator and torch's global generator (dropout) are all seeded per step. A
resumed run therefore needs no replay and equals an uninterrupted one.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from PIL import Image
from torch import nn

from ..errors import ConfigError
from ..utils.prefetch import prefetch
from ..utils.timing import Stopwatch
from .averages import RunningMean
from .early_exit import GracefulStop
from .run_logger import RunLogger, TrainingProgress
from .trainer import AnyBatch, Hyperparameters, LossFn, Provenance, Trainer

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

    start, step, steps: the step resumed from, the last one done, and the goal.
    interrupted: by Ctrl-C, SIGTERM or SIGHUP.
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


@dataclass(frozen=True)
class RunOptions:
    """How a run is carried out; none of it changes what is computed.

    log_every, checkpoint_every, validate_every: steps; None turns one off.
    checkpoint_minutes: a checkpoint is also written when the last one is this old; None: never.
    keep: number of checkpoints kept.
    max_minutes: then a checkpoint is written and the run returns; None: no limit.
    tensorboard: True requires it, False does without, None uses it when installed.
    progress: print steps, loss and time left, every `progress_every` seconds off a terminal.
    device: "auto", "cpu" or "cuda". channels_last: memory layout of convolutions.
    """

    log_every: int = 50
    checkpoint_every: int | None = 1000
    checkpoint_minutes: float | None = 10.0
    validate_every: int | None = None
    keep: int = 2
    max_minutes: float | None = None
    tensorboard: bool | None = None
    progress: bool = True
    progress_every: float = 15.0
    device: str = "auto"
    channels_last: bool = False

    def __post_init__(self) -> None:
        if self.log_every < 1:
            raise ConfigError(f"log_every must be at least 1, got {self.log_every}")

    def is_due(self, what: str, step: int) -> bool:
        """Whether "log", "checkpoint" or "validate" comes after this step."""
        every = getattr(self, f"{what}_every")
        return bool(every) and step % every == 0

    def is_checkpoint_overdue(self, seconds: float) -> bool:
        """Whether a checkpoint comes now that the last one is this old."""
        return self.checkpoint_minutes is not None and seconds >= 60 * self.checkpoint_minutes


def train(
    model: nn.Module,
    objective: LossFn,
    data: BatchSource,
    hyperparameters: Hyperparameters,
    *,
    out: str | Path,
    options: RunOptions | None = None,
    param_groups: list[dict[str, Any]] | None = None,
    validate: Validate | None = None,
    resume: str | Path = "auto",
    provenance: Provenance | None = None,
) -> TrainResult:
    """Train `model` in place and return its average.

    model: parameters that need no gradient stay as they are, and out of averages and checkpoints.
    objective: gets (model, batch, generator) and returns scalars, "loss" among them; the others
        are logged. The generator lives on the CPU and is seeded by (seed, step): it is the same
        for every share of a batch (one process's part of one accumulation step), so what is
        drawn for single objects must also depend on `batch.index`.
    data: its batches are pure functions of (step, seed, share).
    hyperparameters: the numbers that decide what is computed. options: everything else.
    param_groups: the optimizer's groups, as torch takes them; None: all parameters alike.
    validate: gets (averaged model, step), returns metrics and images; runs every
        `options.validate_every` steps and at the end, on the main process, under autocast.
    resume: "auto" resumes from `out`'s newest readable checkpoint, "never" rejects an `out`
        that has some, a path resumes from that checkpoint; later ones in `out` are renamed.
    provenance: kept in the checkpoints, and compared when a run is resumed.
    Raises ConfigError on settings that cannot work, TrainingError on a diverged loss, WeightsError
    on a checkpoint of another model. Ctrl-C, SIGTERM and SIGHUP end the run after the current step,
    with a checkpoint.

    Example:
        >>> import tempfile, torch
        >>> class Ones:
        ...     def batch_at(self, step, *, batch_size, seed, shard, shards, device):
        ...         return torch.ones(batch_size // shards, 3, device=device)
        >>> def squared_error(model, batch, generator):
        ...     return {"loss": (model(batch) - batch).square().mean()}
        >>> numbers = Hyperparameters(steps=3, batch_size=2, lr=1e-2)
        >>> options = RunOptions(tensorboard=False, progress=False, device="cpu")
        >>> with tempfile.TemporaryDirectory() as out:
        ...     model = torch.nn.Linear(3, 3)
        ...     train(model, squared_error, Ones(), numbers, out=out, options=options).step
        3
    """
    # set up, and resume
    out, options = Path(out), options or RunOptions()
    bar = TrainingProgress(show=options.progress, every=options.progress_every)
    engine = Trainer(
        model,
        hyperparameters,
        out=out,
        keep=options.keep,
        device=options.device,
        channels_last=options.channels_last,
        param_groups=param_groups,
        provenance=provenance or Provenance(),
        say=bar.say,
    )
    bar.show = options.progress and engine.main
    engine.resume(resume)
    start, steps = engine.step, hyperparameters.steps
    if start >= steps:
        message = f"nothing to do: '{out}' has {start} of {steps} steps; raise steps to continue"
        bar.say(message)
        return TrainResult(
            start, start, steps, False, engine.ema.module, engine.checkpoint, message
        )
    engine.prepare(objective)
    engine.archive_later_checkpoints()

    # train; processes on one machine share a folder, so only the main one writes
    record = RunLogger(out, start, options.tensorboard) if engine.main else None
    try:
        with (
            GracefulStop(engine.accelerator, options.max_minutes) as stop,
            contextlib.closing(_batches(engine, data)) as batches,
        ):
            bar.start(start, steps)
            interrupted = _run(engine, batches, stop, options, record, bar, validate)
    finally:
        bar.close()
        if record:
            record.close()

    # report
    message = _summary(engine.step, steps, interrupted, engine.checkpoint)
    bar.say(message)
    interrupted = interrupted and engine.step < steps
    return TrainResult(
        start, engine.step, steps, interrupted, engine.ema.module, engine.checkpoint, message
    )


def _batches(engine: Trainer, data: BatchSource) -> Iterator[AnyBatch]:
    """This process's parts of the remaining steps, prepared ahead."""
    settings = engine.settings

    def load(part: int) -> AnyBatch:
        step, micro = divmod(part, settings.gradient_accumulation)
        return data.batch_at(
            step,
            batch_size=settings.batch_size,
            seed=settings.seed,
            shard=engine.shard(micro),
            shards=engine.shards,
            device=engine.device,
        )

    parts = range(
        engine.step * settings.gradient_accumulation,
        settings.steps * settings.gradient_accumulation,
    )
    return prefetch(load, parts)


def _run(
    engine: Trainer,
    batches: Iterator[AnyBatch],
    stop: GracefulStop,
    options: RunOptions,
    record: RunLogger | None,
    bar: TrainingProgress,
    validate: Validate | None,
) -> bool:
    """Steps until all are done or the run must stop; logs, checkpoints and validation between.

    Returns whether a signal ended it, sent to this process or another.
    """
    watch, since_save, logged = Stopwatch(), Stopwatch(), engine.step
    done = interrupted = False
    while not done:
        loss = engine.update(batches)
        step = engine.step
        done = step >= engine.settings.steps
        logs = done or options.is_due("log", step)

        # agree with the other processes; asking a GPU at each step would slow it
        overdue = engine.main and options.is_checkpoint_overdue(since_save.elapsed())
        interrupted = late = False
        alone = engine.accelerator.num_processes == 1
        if engine.can_read_loss_each_step or alone or step % 10 == 0 or logs:
            interrupted, late, overdue = stop.agree(overdue)
            done = done or interrupted or late

        # log
        if logs:
            means = engine.means()
            loss = means["loss"]
            if record:
                rates = _rates(engine.settings, step, watch.lap() / (step - logged))
                record.figures(step, {**means, **rates})
                logged = step
            engine.meter = RunningMean()
        bar.update(step, loss)

        # save
        if done or overdue or options.is_due("checkpoint", step):
            engine.save()
            since_save.lap()

        # validate; a person who interrupts waits for the checkpoint, not for images
        if validate and not interrupted and (done or options.is_due("validate", step)):
            with watch.paused():
                if record:
                    _validate(engine, validate, record, bar)
                engine.accelerator.wait_for_everyone()
    return interrupted


def _validate(
    engine: Trainer, validate: Validate, record: RunLogger, bar: TrainingProgress
) -> None:
    with torch.no_grad(), engine.accelerator.autocast():
        figures, images = validate(engine.ema.module, engine.step)
    record.figures(engine.step, dict(figures), group="validation")
    record.pictures(engine.step, images)
    shown = "  ".join(f"{name} {value:.4g}" for name, value in figures.items())
    bar.say(f"validation at step {engine.step}: {shown}")


def _rates(settings: Hyperparameters, step: int, each: float) -> dict[str, float]:
    """Of the log line after a step. each: seconds per step."""
    return {
        "lr": settings.lr * settings.rate(step - 1),
        "seconds_per_step": each,
        "samples_per_second": settings.batch_size / each,
    }


def _summary(step: int, steps: int, interrupted: bool, checkpoint: Path | None) -> str:
    if step >= steps:
        return f"finished: {steps} steps; checkpoint '{checkpoint}'"
    why = "interrupted" if interrupted else "stopped"
    return (
        f"{why} at step {step} of {steps}; run the same command again to resume from '{checkpoint}'"
    )
