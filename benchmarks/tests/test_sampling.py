"""benchmarks/sampling.py and training_step.py at toy size."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.small_syncdreamer import QUICK, training_config

from mvdiff import builders
from mvdiff.ablation.profiling import count_flops


def load(name: str, monkeypatch) -> Any:
    path = Path(__file__).parents[1] / f"{name}.py"
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, name, module)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def sampling(tmp_path, monkeypatch):
    threads = torch.get_num_threads()
    module = load("sampling", monkeypatch)
    monkeypatch.setattr(module, "RESULTS", tmp_path)
    narrow = ["unet.width=16", "unet.groups=8"]
    monkeypatch.setattr(module, "SMALL", [*module.SMALL, *QUICK, *narrow])
    monkeypatch.setattr(module, "ODE_STEPS", (2, 6))
    monkeypatch.setattr(module, "REFERENCE", ("dpmpp", 12))
    yield module
    torch.set_num_threads(threads)


def test_more_steps_come_nearer_and_finished_cases_are_kept(
    sampling, tmp_path, monkeypatch, capsys
):
    measured, measure = [], sampling.Ode.measure
    monkeypatch.setattr(
        sampling.Ode, "measure", lambda self, case: measured.append(case) or measure(self, case)
    )
    words = ["sampling.py", "parts=ode,quality", "samplers=ddim,dpmpp", "name=toy"]
    monkeypatch.setattr(sys, "argv", words)
    with pytest.warns(UserWarning, match="not trained"):
        sampling.main()
    assert "quality: left out, it needs data=DIR" in capsys.readouterr().out
    rows = json.loads((tmp_path / "sampling_toy.json").read_text())["rows"]
    distance = {(r["sampler"], r["steps"]): r["distance"] for r in rows}
    assert distance.pop(("dpmpp", 12)) == 0
    assert set(distance) == {(s, n) for s in ("ddim", "dpmpp") for n in (2, 6)}
    for sampler in ("ddim", "dpmpp"):
        assert distance[sampler, 6] < distance[sampler, 2]
    assert len(measured) == 5
    with pytest.warns(UserWarning, match="not trained"):
        sampling.main()
    assert len(measured) == 5


def test_a_training_sample_is_the_sum_of_its_parts(tmp_path, monkeypatch):
    bench = load("training_step", monkeypatch)
    monkeypatch.setattr(bench, "RESULTS", tmp_path)
    config = training_config(*QUICK)
    model = builders.build_model(config)
    builders.build_param_groups(config, model)
    flops, seconds = bench.measure(config, model, 1, "fp32")
    assert all(len(times) == 1 and times[0] > 0 for times in seconds.values())
    pictures, _ = bench.inputs(config)
    with count_flops() as counted:
        bench.train(model, builders.build_loss(config), pictures)
    assert bench.encoding_too(flops) == counted()
    bench.report(flops, seconds, {"name": "toy"})
    record = json.loads((tmp_path / "training_step_toy.json").read_text())
    assert record["ratios"]["flops"] == counted() / flops["kept"]
