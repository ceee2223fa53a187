"""Processes, precision and memory layout: what accelerate is asked for."""

from __future__ import annotations

import atexit
import contextlib
import os
import time
from typing import Any

import torch

from ..errors import DeviceError


def make_accelerator(precision: str, device: str) -> Any:
    """An `accelerate.Accelerator`; DeviceError when device or precision are not to be had."""
    from accelerate import Accelerator, DistributedDataParallelKwargs
    from accelerate.state import AcceleratorState, PartialState

    check_device(device)
    # The state is shared by a process's accelerators: without this, a second run here would
    # be held to the first one's device and precision.
    if PartialState._shared_state and PartialState().num_processes == 1:
        AcceleratorState._reset_state(reset_partial_state=True)
    # Dropped conditions leave some parameters without gradient in some steps.
    ddp = DistributedDataParallelKwargs(find_unused_parameters=True)
    try:
        accelerator = Accelerator(
            cpu=_on_cpu(device),
            mixed_precision="no" if precision == "fp32" else precision,
            kwargs_handlers=[ddp],
        )
    except ValueError as error:
        raise DeviceError(f"precision={precision} does not work here: {error}") from error
    launched = int(os.environ.get("WORLD_SIZE", "1"))
    if launched != accelerator.num_processes:
        raise DeviceError(
            f"{launched} processes were launched, and each of them is on its own: launch with "
            "`accelerate launch` or `torchrun`, on devices that can be joined (cpu, cuda)"
        )
    if accelerator.num_processes > 1:
        atexit.unregister(_leave)
        atexit.register(_leave)
    kind = accelerator.distributed_type.value
    if kind in ("FSDP", "DEEPSPEED", "MEGATRON_LM", "TP"):
        raise DeviceError(
            f"the launcher asks for {kind}, and training splits the batch only (DDP): launch "
            "without it; gradient_accumulation=2 and activation_checkpointing=true save memory"
        )
    return accelerator


def _leave() -> None:
    """Let go of the other processes: threads left to themselves can abort Python's exit.

    DDP keeps its group's threads alive whatever is destroyed. One that still has to free the last
    step's tensors while Python is going down aborts the process, so they are given a moment.
    """
    if torch.distributed.is_initialized():
        with contextlib.suppress(RuntimeError):
            torch.distributed.destroy_process_group()
        time.sleep(0.2)


def check_device(device: str) -> None:
    """Raise DeviceError unless `device` is "auto", "cpu", or "cuda" where there is one."""
    if device not in ("auto", "cpu", "cuda"):
        raise DeviceError(f"device must be auto, cpu or cuda, got '{device}'")
    if device == "cuda" and not torch.cuda.is_available():
        raise DeviceError("device=cuda, but torch sees no CUDA device: use device=auto or cpu")


def place(device: str) -> tuple[int, int, torch.device]:
    """This process's number, how many there are, and its device, under any launcher."""
    from accelerate.state import PartialState

    check_device(device)
    state = PartialState(cpu=_on_cpu(device))
    return state.process_index, state.num_processes, state.device


def _on_cpu(device: str) -> bool:
    """Told apart here: asked for whatever is there, accelerate joins CPU processes to nothing."""
    several = int(os.environ.get("WORLD_SIZE", "1")) > 1
    return device == "cpu" or (device == "auto" and several and not torch.cuda.is_available())
