"""The average, schedules, figures, prefetching and the log, each on its own."""

from __future__ import annotations

import builtins
import json
import math
import sys
import threading
import time
from pathlib import Path

import pytest
import torch
from helpers.toy_training import toy
from PIL import Image

from mvdiff.errors import MvdiffError
from mvdiff.training.averages import RunningMean
from mvdiff.training.ema import EMA
from mvdiff.training.optim import derive_seed, lr_schedule, make_optimizer
from mvdiff.training.run_logger import Progress, RunLogger
from mvdiff.utils.prefetch import prefetch

# Average


def test_the_average_follows_its_formula() -> None:
    model = toy()
    ema = EMA(model, decay=0.9)
    expected = model.first.weight.detach().clone()
    for step in range(200):
        with torch.no_grad():
            model.first.weight.add_(1.0)
            model.seen.fill_(step)
        decay = min(0.9, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * model.first.weight.detach()
        ema.update(model, step)
    torch.testing.assert_close(ema.module.first.weight.detach(), expected)
    assert float(ema.module.seen) == 199, "buffers are copied"
    assert (ema.decay_at(0), ema.decay_at(10**6)) == (0.1, 0.9)


def test_the_average_is_a_frozen_model_of_its_own() -> None:
    model = toy()
    model.last.requires_grad_(False)
    ema = EMA(model, decay=0.5)
    before = model.last.weight.clone()
    assert ema.module.last.weight is model.last.weight, "frozen weights need no second memory"
    assert ema.module.first.weight is not model.first.weight
    with torch.no_grad():
        model.first.weight.add_(1)
    ema.update(model, 0)
    assert torch.equal(model.last.weight, before), "frozen weights are not averaged"
    assert not ema.module.training
    assert not any(p.requires_grad for p in ema.module.parameters())


# Learning rate, seeds, optimizer


def test_the_rate_warms_up_and_follows_a_cosine() -> None:
    def at(step: int, **change: object) -> float:
        return lr_schedule(
            step, **{"steps": 110, "warmup": 10, "schedule": "cosine", "floor": 0.1, **change}
        )

    assert [at(0), at(4), at(9)] == [0.1, 0.5, 1.0]
    assert at(10) == 1.0
    assert at(60) == pytest.approx(0.55)
    assert at(110) == pytest.approx(0.1)
    assert at(10**6) == pytest.approx(0.1)
    assert at(10**6, schedule="constant") == 1.0
    assert at(0, warmup=0) == 1.0


def test_seeds_of_neighbors_differ_and_fit() -> None:
    seeds = {
        derive_seed(0, tag, step, share) for tag in (3, 4) for step in range(50) for share in (0, 1)
    }
    assert len(seeds) == 200
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_norms_and_biases_do_not_decay() -> None:
    model = toy()
    optimizer = make_optimizer(
        model, lr=1e-3, weight_decay=0.1, betas=(0.9, 0.99), param_groups=None, fused=False
    )
    decayed = {id(p) for g in optimizer.param_groups if g["weight_decay"] for p in g["params"]}
    assert decayed == {id(model.first.weight), id(model.last.weight)}


def test_a_frozen_model_is_refused() -> None:
    model = toy().requires_grad_(False)
    with pytest.raises(MvdiffError, match="no trainable parameter"):
        make_optimizer(
            model, lr=1e-3, weight_decay=0, betas=(0.9, 0.99), param_groups=None, fused=False
        )


# Meter


def test_figures_are_averaged_over_their_own_counts() -> None:
    meter = RunningMean()
    meter.add({"loss": torch.tensor(1.0), "rare": 8.0})
    meter.add({"loss": torch.tensor([3.0, 5.0])})
    assert meter.means() == {"loss": 2.5, "rare": 8.0}
    again = RunningMean()
    again.load(json.loads(json.dumps(meter.state())))
    again.add({"loss": 4.0})
    assert again.means() == {"loss": 3.0, "rare": 8.0}


# Prefetch


def test_prefetching_keeps_order_and_stays_bounded() -> None:
    made: list[int] = []

    def make(key: int) -> int:
        made.append(key)
        return key * key

    stream = prefetch(make, range(3, 20), depth=2)
    assert next(stream) == 9
    time.sleep(0.2)
    assert len(made) <= 5
    assert list(stream) == [k * k for k in range(4, 20)]


def test_an_error_comes_where_the_result_was_due() -> None:
    def make(key: int) -> int:
        if key == 2:
            raise MvdiffError("no such picture")
        return key

    stream = prefetch(make, range(5))
    assert [next(stream), next(stream)] == [0, 1]
    with pytest.raises(MvdiffError, match="no such picture"):
        next(stream)


def test_closing_ends_the_thread() -> None:
    stream = prefetch(lambda key: key, range(10**6))
    next(stream)
    assert any(t.name == "mvdiff-prefetch" for t in threading.enumerate())
    stream.close()
    assert not any(t.name == "mvdiff-prefetch" for t in threading.enumerate())


# Record


def test_the_log_drops_steps_that_are_done_again(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    lines = [{"step": 10, "loss": 1.0}, {"step": 20, "loss": 0.5}, {"step": 30, "loss": 0.4}]
    log.write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"step": 40, "lo')
    record = RunLogger(tmp_path, start=20, tensorboard=False)
    record.figures(30, {"loss": math.nan, "lr": 0.1})
    record.figures(30, {"psnr": 20.0}, group="validation")
    record.close()
    assert [json.loads(line) for line in log.read_text().splitlines()] == [
        *lines[:2],
        {"step": 30, "loss": None, "lr": 0.1},
        {"step": 30, "kind": "validation", "psnr": 20.0},
    ]


def test_curves_and_pictures_reach_tensorboard(tmp_path: Path) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    record = RunLogger(tmp_path, start=0, tensorboard=True)
    record.figures(5, {"loss": 0.25})
    record.pictures(5, {"held out/1": Image.new("RGB", (4, 4), "red")})
    record.close()
    events = accumulator.EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert [(e.step, e.value) for e in events.Scalars("train/loss")] == [(5, 0.25)]
    assert events.Tags()["images"] == ["validation/held out/1"]
    with Image.open(tmp_path / "validation/00000005-held_out_1.png") as image:
        assert image.size == (4, 4)


def test_missing_tensorboard_is_a_note_or_names_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    real = builtins.__import__

    def without(name: str, *args: object, **kwargs: object) -> object:
        if name.startswith("torch.utils.tensorboard"):
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(MvdiffError, match=r"mvdiff\[train\]"):
        RunLogger(tmp_path, start=0, tensorboard=True)
    RunLogger(tmp_path, start=0, tensorboard=None).figures(1, {"loss": 1.0})
    assert "mvdiff[train]" in capsys.readouterr().out
    assert (tmp_path / "log.jsonl").is_file()


def test_progress_prints_plain_lines_off_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    progress = Progress(every=0)
    progress.start(10, 20)
    progress.update(15, 0.5)
    progress.update(16, None)
    progress.close()
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("  ")[0] for line in lines] == ["step 15/20", "step 16/20"]
    assert all("loss 0.5000" in line and "left 0:00:0" in line for line in lines)
    quiet = Progress(show=False, every=0)
    quiet.start(0, 2)
    quiet.update(2, 1.0)
    quiet.say("hello")
    assert capsys.readouterr().out == ""


def test_a_terminal_gets_a_bar_with_lines_above_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "120")
    progress = Progress(every=0)
    progress.start(10, 20)
    progress.update(15, 0.5)
    progress.say("validation [at] step 15")
    progress.close()
    shown = capsys.readouterr().out
    assert "validation [at] step 15" in shown
    assert "15/20" in shown
    assert "loss 0.5000" in shown
