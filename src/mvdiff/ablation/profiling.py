"""What a variant costs: seconds, operations and memory of a training step and of a sample."""

from __future__ import annotations

import ctypes
import gc
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..errors import ConfigError, MvdiffError
from ..training.trainer import Hyperparameters, Provenance, Trainer
from ..utils.timing import Stopwatch


@dataclass(frozen=True)
class ProfiledRun:
    """Everything a training step needs.

    objective, data, groups: as `training.loop.train` takes them.
    """

    model: nn.Module
    objective: Callable[..., Any]
    data: Any
    groups: list[dict[str, Any]] | None


@dataclass(frozen=True)
class StepCosts:
    """Of one training step, measured before training.

    parameters, trained: numbers in the model, and those that learn.
    seconds, cpu_seconds: median over `steps` steps after warm-up, making the batch included;
        by the clock, and of the processor.
    flops: floating-point operations of matrix products, convolutions and attention, forward and
        backward (a multiplication and an addition count as two).
    memory: peak bytes above the start: weights, moments, averages, activations.
        None where the system does not tell.
    """

    parameters: int
    trained: int
    steps: int
    seconds: float
    cpu_seconds: float
    flops: int
    memory: int | None


WARM_UP = 3
MIN_STEPS = 5


def step_costs(
    make: Callable[[], ProfiledRun],
    settings: Hyperparameters,
    device: str,
    *,
    seconds: float,
    max_steps: int = 50,
) -> StepCosts:
    """Costs of a training step, measured on a fresh model that is then discarded.

    make: builds it. seconds: about how long to measure, with at least `MIN_STEPS` and at most
        `max_steps` steps.
    """

    def build_and_warm_up() -> tuple[ProfiledRun, Trainer]:
        setup = make()
        engine = Trainer(
            setup.model,
            settings,
            out=Path("unused"),
            keep=1,
            device=device,
            channels_last=False,
            param_groups=setup.groups,
            provenance=Provenance(),
            say=lambda line: None,
        )
        engine.prepare(setup.objective)
        for _ in range(WARM_UP):
            _step(engine, setup.data)
        return setup, engine

    # imports and lookup tables of kernels do not belong to a step's memory
    build_and_warm_up()
    # time steps, and record the peak memory
    with peak_memory(device) as memory:
        setup, engine = build_and_warm_up()
        wall_times: list[float] = []
        cpu_times: list[float] = []
        watch = Stopwatch()
        while len(wall_times) < MIN_STEPS or (
            len(wall_times) < max_steps and watch.elapsed() < seconds
        ):
            wall, cpu = _step(engine, setup.data)
            wall_times.append(wall)
            cpu_times.append(cpu)
    # count operations
    with count_flops() as flops:
        _step(engine, setup.data)
    weights = list(setup.model.parameters())
    return StepCosts(
        parameters=sum(p.numel() for p in weights),
        trained=sum(p.numel() for p in weights if p.requires_grad),
        steps=len(wall_times),
        seconds=statistics.median(wall_times),
        cpu_seconds=statistics.median(cpu_times),
        flops=flops(),
        memory=memory(),
    )


def steps_for(budget: dict[str, float], costs: StepCosts) -> int:
    """How many steps a budget buys, at least 1.

    budget: one of {"steps": n}, {"seconds": s} or {"cpu_seconds": s}.
    """
    ((kind, amount),) = budget.items()
    return int(amount) if kind == "steps" else max(1, int(amount / asdict(costs)[kind]))


def _step(engine: Trainer, data: Any) -> tuple[float, float]:
    """One training step as the loop does it; seconds by the clock and of the processor."""
    settings = engine.settings
    with timed(engine.device) as spent:
        parts = [
            data.batch_at(
                engine.step, batch_size=settings.batch_size, seed=settings.seed,
                shard=engine.shard(i), shards=engine.shards, device=engine.device,
            )
            for i in range(settings.gradient_accumulation)
        ]  # fmt: skip
        engine.update(iter(parts))
    return spent()


@contextmanager
def timed(device: torch.device | None) -> Iterator[Callable[[], tuple[float, float]]]:
    """Yields a function that tells, afterwards, the seconds by the clock and of the processor.

    device: whose queued work is waited for; None: none is.
    """
    _finish_queued(device)
    watch, cpu = Stopwatch(), time.process_time()
    spent = (0.0, 0.0)
    yield lambda: spent
    _finish_queued(device)
    spent = (watch.elapsed(), time.process_time() - cpu)


def _finish_queued(device: torch.device | None) -> None:
    if device is not None and device.type == "cuda":
        torch.cuda.synchronize(device)


@contextmanager
def count_flops() -> Iterator[Callable[[], int]]:
    """Yields a function that tells the operations done within, in this thread."""
    from torch.utils.flop_counter import (
        FlopCounterMode,
        flop_registry,
        sdpa_backward_flop_count,
        sdpa_flop_count,
    )

    # torch's own table leaves out the CPU's fused attention
    aten, custom = torch.ops.aten, {}
    forward = getattr(aten, "_scaled_dot_product_flash_attention_for_cpu", None)
    backward = getattr(aten, "_scaled_dot_product_flash_attention_for_cpu_backward", None)
    if forward is not None and forward not in flop_registry:
        custom[forward] = lambda q, k, v, *_, **__: sdpa_flop_count(q, k, v)
    if backward is not None and backward not in flop_registry:
        custom[backward] = lambda g, q, k, v, *_, **__: sdpa_backward_flop_count(g, q, k, v)
    with FlopCounterMode(display=False, custom_mapping=custom) as counter:
        yield lambda: int(counter.get_total_flops())


@contextmanager
def peak_memory(device: torch.device | str) -> Iterator[Callable[[], int | None]]:
    """Yields a function that tells the peak bytes above the start, on the device ("auto": found).

    Of a CPU it is the process's resident memory, reset before: Linux only, None elsewhere.
    """
    gc.collect()
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    where = torch.device(device)
    cuda = where.type == "cuda"
    if cuda:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(where)
        start: int | None = torch.cuda.memory_allocated(where)
    else:
        start = _reset_resident()
    result: list[int | None] = [None]
    yield lambda: result[0]
    if start is not None:
        peak = torch.cuda.max_memory_allocated(where) if cuda else _resident("VmHWM")
        result[0] = max(0, peak - start)


def _reset_resident() -> int | None:
    """Forget the highest resident memory so far; what is resident now, or None."""
    try:
        # what was freed goes back to the system: it would hide what is taken next
        ctypes.CDLL(None).malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5")
        return _resident("VmRSS")
    except (OSError, AttributeError, MvdiffError):
        return None


def _resident(field: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return 1024 * int(line.split()[1])
    raise ConfigError(f"the system tells no {field}")
