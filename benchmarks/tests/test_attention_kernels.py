"""benchmarks/attention_kernels.py at toy size: every variant, skipping with a reason, going on."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

import pytest

from mvdiff.config.groups import groups

TOY = ["sizes=8", "views=2", "channels=16", "device=cpu", "name=toy"]


@pytest.fixture
def bench(tmp_path, monkeypatch):
    path = Path(__file__).parents[1] / "attention_kernels.py"
    spec = importlib.util.spec_from_file_location("attention_kernels", path)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "attention_kernels", module)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "RESULTS", tmp_path)
    # in this process: starting one for each case takes seconds
    monkeypatch.setattr(module, "in_child", module.measure)
    monkeypatch.setattr(module.resource, "setrlimit", lambda *_: None)

    def run(*args: str) -> dict:
        monkeypatch.setattr(sys, "argv", ["attention_kernels.py", *TOY, *args])
        module.main()
        return json.loads((tmp_path / "attention_kernels_toy.json").read_text())

    module.run = run
    return module


@pytest.mark.slow
def test_every_variant_and_kernel_has_figures(bench, capsys):
    record = bench.run("repeat=2")
    rows = {(r["variant"], r["kernel"]): r for r in record["rows"]}
    variants = set(groups()["attention"]) - {"none"}
    assert set(rows) == {(v, k) for v in variants for k in ("sdpa", "math")}
    for row in rows.values():
        assert len(row["runs"]) == 2
        for what in ("forward", "training"):
            figures = row[f"{what}_ms"]
            assert 0 < figures["least"] <= figures["median"] <= figures["most"]
            assert row[f"{what}_gb"] >= 0
    assert rows["rowwise", "sdpa"]["runs"][0]["cameras"] == "level orthographic ring"
    assert rows["crossview", "sdpa"]["runs"][0]["cameras"] == "published ring"
    assert {"versions", "commit", "device", "threads"} <= set(record)
    assert "| 2 | 8² | crossview | math |" in capsys.readouterr().out


def test_a_stopped_run_goes_on_where_it_stopped(bench, capsys):
    few = ["variants=rowwise,crossview+stride=2", "repeat=2"]
    bench.run(*few, "minutes=0")
    assert "run again to go on" in capsys.readouterr().out
    first = bench.run("variants=rowwise", "repeat=1")
    record = bench.run(*few)
    assert {len(r["runs"]) for r in record["rows"]} == {2}
    assert record["rows"][0]["runs"][0] == first["rows"][0]["runs"][0]
    capsys.readouterr()
    bench.run(*few)
    assert "round" not in capsys.readouterr().out


def test_what_does_not_fit_is_left_out_with_the_reason(bench, monkeypatch, capsys):
    def full(*_given):
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory")

    monkeypatch.setattr(bench, "timed", full)
    record = bench.run("variants=rowwise", "memory=2")
    assert {r["skipped"] for r in record["rows"]} == {"does not fit in 2.0 GB"}
    assert "rowwise | sdpa | does not fit in 2.0 GB" in capsys.readouterr().out


def test_a_case_has_a_process_and_a_limit_of_its_own(bench, monkeypatch):
    monkeypatch.syspath_prepend(str(Path(bench.__file__).parent))
    fresh = importlib.util.module_from_spec(bench.__spec__)
    fresh.__spec__.loader.exec_module(fresh)
    monkeypatch.setitem(sys.modules, "attention_kernels", fresh)
    case = fresh.plan(dict(fresh.DEFAULTS, variants="crossview", sizes="32", views="8"), "cpu")[1]
    assert case["kernel"] == "math"
    found = fresh.in_child(case, {"device": "cpu", "timeout": 60.0, "memory": 0.5})
    # (8 · 32²)² weights of 8 heads are 2 GB
    assert found == {"skipped": "does not fit in 0.5 GB"}
    found = fresh.in_child(case, {"device": "cpu", "timeout": 0.5, "memory": 0.5})
    assert found == {"skipped": "takes more than 0.5 s"}
