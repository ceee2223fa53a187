"""benchmarks/denoise_step.py with the small UNet: parts, errors, FLOP and the record."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

import pytest
import torch

from mvdiff.utils.precision import has_native_bfloat16

TOY = ["width=32", "views=1", "repeat=1", "golden=none", "name=toy"]


@pytest.fixture
def bench(tmp_path, monkeypatch):
    path = Path(__file__).parents[1] / "denoise_step.py"
    spec = importlib.util.spec_from_file_location("denoise_step", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "RESULTS", tmp_path)
    threads = torch.get_num_threads()

    def run(*args: str) -> dict:
        monkeypatch.setattr(sys, "argv", ["denoise_step.py", *TOY, *args])
        module.main()
        return json.loads((tmp_path / "denoise_step_toy.json").read_text())

    yield run
    torch.set_num_threads(threads)


@pytest.mark.slow
def test_every_variant_has_its_figures_and_the_plain_ones_answer(bench, capsys):
    record = bench("variants=plain,fast")
    plain, fast = record["rows"].values()
    for row in record["rows"].values():
        assert set(row["parts_s"]) == {"volume", "frusta", "conditional", "unconditional"}
        assert 0 < row["step_s"]["least"] <= row["step_s"]["median"]
        assert row["error_to_golden"] is None
    assert fast["step_tflop"] < plain["step_tflop"]  # what the shortcuts leave out is counted
    assert 0 < fast["error_to_plain"] < 1e-5
    assert {"versions", "commit", "device", "matrix_gflops", "wanted"} <= set(record)
    assert "| fast |" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.skipif(
    not has_native_bfloat16("cpu"), reason="emulated bfloat16 takes minutes on this CPU"
)
def test_autocast_does_the_same_operations_less_exactly(bench):
    _, fast, half = bench("variants=plain,fast,autocast")["rows"].values()
    assert half["step_tflop"] == pytest.approx(fast["step_tflop"], rel=1e-3)
    assert 1e-5 < half["error_to_plain"] < 0.1


def test_unknown_arguments_are_refused(bench):
    with pytest.raises(SystemExit, match=r"unknown arguments \['view'\]"):
        bench("view=2")
