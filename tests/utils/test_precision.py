"""`precision=auto` follows the hardware; emulated half precision gives a warning."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch

from mvdiff.errors import MvdiffError
from mvdiff.training.muon import orthogonal
from mvdiff.utils import precision


@pytest.fixture
def native(monkeypatch):
    def pretend(value: bool) -> None:
        monkeypatch.setattr(precision, "_cpu_has_native_bfloat16", lambda: value)

    return pretend


def test_auto_takes_bfloat16_only_where_it_is_native(native):
    native(True)
    assert precision.resolve_precision("auto", "cpu") == "bf16"
    native(False)
    assert precision.resolve_precision("auto", "cpu") == "fp32"


def test_an_explicit_precision_is_kept(native):
    native(False)
    assert precision.resolve_precision("bf16", "cpu") == "bf16"


def test_unknown_names_are_rejected():
    with pytest.raises(MvdiffError, match=r"fp8.*auto, fp32, bf16, fp16"):
        precision.resolve_precision("fp8", "cpu")


@pytest.mark.parametrize(("capability", "expected"), [((7, 5), "fp32"), ((8, 0), "bf16")])
def test_gpus_are_judged_by_their_compute_capability(monkeypatch, capability, expected):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert precision.resolve_precision("auto", "cuda") == expected


@pytest.mark.parametrize(
    ("flags", "expected"),
    [("fpu avx2", False), ("fpu avx512f avx512_bf16", True), ("fpu amx_tile amx_bf16", True)],
)
def test_x86_cpus_are_judged_by_their_flags(monkeypatch, flags, expected):
    monkeypatch.delenv("DNNL_MAX_CPU_ISA", raising=False)
    monkeypatch.delenv("ONEDNN_MAX_CPU_ISA", raising=False)
    monkeypatch.setattr(precision, "_x86_flags", lambda: set(flags.split()))
    precision._cpu_has_native_bfloat16.cache_clear()
    try:
        assert precision._cpu_has_native_bfloat16() is expected
    finally:
        precision._cpu_has_native_bfloat16.cache_clear()


@pytest.mark.skipif(not precision._x86_flags(), reason="limits oneDNN's instructions on x86 Linux")
def test_a_cpu_limited_to_avx2_is_measured_as_not_native():
    code = "from mvdiff.utils.precision import resolve_precision as r; print(r('auto', 'cpu'))"
    limits = {"DNNL_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2"}
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, **limits}, capture_output=True, text=True
    )
    assert done.stdout.strip() == "fp32", done.stderr


def test_muon_is_orthogonal_in_either_type(native):
    matrix = torch.randn(24, 40, generator=torch.Generator().manual_seed(0))
    for value in (True, False):
        native(value)
        singular = torch.linalg.svdvals(orthogonal(matrix))
        assert orthogonal(matrix).dtype == torch.float32
        assert 0.6 < singular.min() <= singular.max() < 1.3
