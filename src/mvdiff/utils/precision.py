"""Numeric precisions: their names, types, and which of them the hardware computes natively."""

from __future__ import annotations

import functools
import os
import timeit
from functools import partial

import torch

from ..errors import ConfigError

#: precision → type; "auto" is resolved by `resolve_precision`
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def check_precision(precision: str) -> torch.dtype:
    """The type of a precision. Raises ConfigError for an unknown precision."""
    if precision not in DTYPES:
        raise ConfigError(f"unknown precision '{precision}'; choose from {', '.join(DTYPES)}")
    return DTYPES[precision]


def resolve_precision(precision: str, device: torch.device | str) -> str:
    """The precision to use: "auto" becomes "bf16" where it is native on `device`, else "fp32".

    Raises ConfigError for an unknown precision.
    """
    if precision == "auto":
        return "bf16" if has_native_bfloat16(device) else "fp32"
    if precision not in DTYPES:
        raise ConfigError(f"unknown precision '{precision}'; choose from auto, {', '.join(DTYPES)}")
    return precision


def has_native_bfloat16(device: torch.device | str) -> bool:
    """Whether `device` multiplies bfloat16 in hardware, so that it is faster than float32.

    CUDA: compute capability 8.0 or newer. CPU: AVX512-BF16 or AMX on x86; elsewhere, and where
    oneDNN's instruction set is limited by an environment variable, a short measurement decides.
    Without hardware support a CPU's bfloat16 products are up to 60 times slower than float32.
    """
    device = torch.device(device)
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    return device.type == "cpu" and _cpu_has_native_bfloat16()


@functools.lru_cache(maxsize=1)
def _cpu_has_native_bfloat16() -> bool:
    limited = any(name in os.environ for name in ("DNNL_MAX_CPU_ISA", "ONEDNN_MAX_CPU_ISA"))
    flags = _x86_flags()
    if flags and not limited:
        return bool(flags & {"avx512_bf16", "amx_bf16"})
    return _measure_bfloat16_speedup() > 1.2


def _x86_flags() -> set[str]:
    """Instruction sets that Linux lists for an x86 CPU; empty where it does not list them."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as info:
            line = next((line for line in info if line.startswith("flags")), "")
    except OSError:
        return set()
    return set(line.partition(":")[2].split())


def _measure_bfloat16_speedup(size: int = 256, repeats: int = 5) -> float:
    """How much faster a bfloat16 matrix product is than one in float32; takes up to 0.1 s."""
    best = {}
    for dtype in (torch.float32, torch.bfloat16):
        matrix = torch.ones(size, size, dtype=dtype)
        best[dtype] = min(
            timeit.repeat(partial(torch.mm, matrix, matrix), number=1, repeat=repeats)
        )
    return best[torch.float32] / best[torch.bfloat16]


def describe_precision(precision: str, device: torch.device | str) -> str:
    """Why `precision=auto` became `precision`, e.g. "bf16 (native on this CPU)"."""
    kind = {"cuda": "GPU", "cpu": "CPU"}.get(torch.device(device).type, "device")
    native = "native" if precision == "bf16" else "bfloat16 is not native"
    return f"{precision} ({native} on this {kind})"
