"""The loop in one process: what it computes, writes and refuses."""

from __future__ import annotations

import json
import math
import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.short_training import log, run, same_weights
from helpers.toy_training import Noise, Toy, copy_photo, denoise, toy
from PIL import Image

from mvdiff.errors import MvdiffError
from mvdiff.training.early_exit import GracefulStop
from mvdiff.training.trainer import Trainer


def test_a_plain_run_equals_the_textbook(tmp_path: Path) -> None:
    model = toy(dropout=0.0)
    run(tmp_path, model, copy_photo, weight_decay=0.0, grad_clip=None, schedule="constant")
    book = toy(dropout=0.0)
    optimizer = torch.optim.AdamW(book.parameters(), lr=1e-2, weight_decay=0.0)
    losses = []
    for step in range(12):
        for group in optimizer.param_groups:
            group["lr"] = 1e-2 * min((step + 1) / 3, 1)
        loss = copy_photo(book, Noise().batch_at(step, batch_size=4), torch.Generator())["loss"]
        losses.append(float(loss.detach()))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert [line["loss"] for line in log(tmp_path)] == pytest.approx(losses, rel=1e-5)
    torch.testing.assert_close(model.first.weight, book.first.weight, rtol=1e-4, atol=1e-6)


def test_the_log_has_losses_rates_and_speed(tmp_path: Path) -> None:
    result = run(tmp_path, log_every=5, config={"recipe": "toy"})
    lines = log(tmp_path)
    assert [line["step"] for line in lines] == [5, 10, 12]
    assert set(lines[0]) == {
        "step", "loss", "worst", "grad_norm", "lr", "seconds_per_step", "samples_per_second",
    }  # fmt: skip
    assert lines[-1]["loss"] < lines[0]["loss"]
    assert (result.step, result.finished, result.interrupted) == (12, True, False)
    assert "finished: 12 steps" in result.message
    state = json.loads((result.checkpoint / "state.json").read_text())
    assert state["config"] == {"recipe": "toy"}
    assert state["settings"]["batch_size"] == 4


def test_logged_losses_are_means_over_their_window(tmp_path: Path) -> None:
    run(tmp_path / "each", log_every=1)
    run(tmp_path / "window", log_every=6)
    each = [line["loss"] for line in log(tmp_path / "each")]
    assert [line["loss"] for line in log(tmp_path / "window")] == pytest.approx(
        [sum(each[:6]) / 6, sum(each[6:]) / 6]
    )


def test_accumulated_gradients_are_those_of_the_whole_batch(tmp_path: Path) -> None:
    whole, parts = toy(dropout=0.0), toy(dropout=0.0)
    run(tmp_path / "a", whole, copy_photo, steps=3)
    run(tmp_path / "b", parts, copy_photo, steps=3, gradient_accumulation=4)
    torch.testing.assert_close(whole.first.weight, parts.first.weight, rtol=0, atol=1e-5)
    norms = [[line["grad_norm"] for line in log(tmp_path / name)] for name in "ab"]
    assert norms[0] == pytest.approx(norms[1], rel=1e-4)


def test_gradients_are_clipped(tmp_path: Path) -> None:
    model, start = toy(), toy()
    # Plain gradients of this size move Adam as far as any; clipped to nothing, they do not.
    run(tmp_path, model, steps=1, grad_clip=1e-12, weight_decay=0.0, warmup=0)
    assert (model.first.weight - start.first.weight).abs().max() < 1e-5
    assert log(tmp_path)[0]["grad_norm"] > 1e-3, "the norm before clipping is logged"


def test_groups_keep_their_rates_and_frozen_weights_stay(tmp_path: Path) -> None:
    model, start = toy(), toy()
    model.last.requires_grad_(False)
    groups = [
        {"params": list(model.first.parameters()), "lr": 1e-9},
        {"params": [*model.norm.parameters(), *model.last.parameters()]},
    ]
    run(tmp_path, model, param_groups=groups, weight_decay=0.0)
    assert torch.equal(model.last.weight, start.last.weight)
    assert (model.first.weight - start.first.weight).abs().max() < 1e-7
    assert (model.norm.weight - start.norm.weight).abs().max() > 1e-3


def test_bf16_trains_with_fp32_weights(tmp_path: Path) -> None:
    kinds = set()

    def objective(model: Toy, batch: Any, generator: torch.Generator) -> dict[str, torch.Tensor]:
        out = model(batch.photo)
        kinds.add(out.dtype)
        return {"loss": (out.float() - batch.views[:, 0]).square().mean()}

    model = toy()
    run(tmp_path, model, objective, precision="bf16")
    assert kinds == {torch.bfloat16}
    assert model.first.weight.dtype == torch.float32
    assert log(tmp_path)[-1]["loss"] < log(tmp_path)[0]["loss"]


def test_channels_last_changes_nothing_but_layout(tmp_path: Path) -> None:
    model = toy(dropout=0.0)
    run(tmp_path / "a", model, copy_photo, channels_last=True)
    assert model.first.weight.is_contiguous(memory_format=torch.channels_last)
    run(tmp_path / "b", toy(dropout=0.0), copy_photo)
    losses = [[line["loss"] for line in log(tmp_path / name)] for name in "ab"]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


# Ending early


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_run_after_its_step_with_a_checkpoint(
    tmp_path: Path, number: int
) -> None:
    before = signal.getsignal(number)

    def objective(model: Toy, batch: Any, generator: torch.Generator) -> dict[str, torch.Tensor]:
        if batch.index[0] == 5 * 4:
            os.kill(os.getpid(), number)
        return denoise(model, batch, generator)

    calls = []

    def validate(model: torch.nn.Module, step: int) -> tuple[dict, dict]:
        calls.append(step)
        return {}, {}

    result = run(tmp_path, objective=objective, checkpoint_every=None, validate=validate)
    assert (result.step, result.interrupted, result.finished) == (6, True, False)
    assert result.checkpoint.name == "step-00000006"
    assert "interrupted at step 6 of 12; run the same command again" in result.message
    assert calls == [], "whoever interrupts does not wait for validation"
    assert signal.getsignal(number) == before
    assert run(tmp_path).finished


def test_a_signal_to_another_process_ends_this_one_alike(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Processes stop together: any of them may have received the signal."""
    agreed = iter([False, False, True])
    monkeypatch.setattr(GracefulStop, "agree", lambda self, old: (next(agreed), False, old))
    result = run(tmp_path)
    assert (result.step, result.interrupted, result.finished) == (3, True, False)
    assert "interrupted at step 3 of 12" in result.message


def test_a_time_budget_ends_the_run(tmp_path: Path) -> None:
    result = run(tmp_path, max_minutes=0.0)
    assert (result.step, result.interrupted, result.finished) == (1, False, False)
    assert "stopped at step 1 of 12" in result.message
    assert result.checkpoint.is_dir()


def test_checkpoints_also_follow_the_clock(tmp_path: Path) -> None:
    run(tmp_path, steps=3, checkpoint_every=None, checkpoint_minutes=0.0)
    assert [p.name for p in sorted((tmp_path / "checkpoints").glob("step-*"))] == [
        "step-00000002", "step-00000003",
    ]  # fmt: skip


@pytest.mark.parametrize("where", ["loss", "gradient"])
def test_a_diverged_run_stops_and_keeps_the_last_good_checkpoint(
    tmp_path: Path, where: str
) -> None:
    def objective(model: Toy, batch: Any, generator: torch.Generator) -> dict[str, torch.Tensor]:
        values = denoise(model, batch, generator)
        if batch.index[0] == 6 * 4:
            zero = 0 * values["loss"]
            # The square root's slope at zero is infinite, its value is not.
            values["loss"] = zero / zero if where == "loss" else zero.sqrt()
        return values

    model = toy()
    with pytest.raises(MvdiffError, match=r"diverged near step 7 .* lower lr .*step-00000004'"):
        run(tmp_path, model, objective)
    assert all(torch.isfinite(p).all() for p in model.parameters())
    assert [line["step"] for line in log(tmp_path)] == [1, 2, 3, 4, 5, 6]
    assert run(tmp_path).finished


@pytest.mark.parametrize("what", ["weight", "average", "moment"])
def test_weights_that_diverged_never_become_a_checkpoint(tmp_path: Path, what: str) -> None:
    """The loss of the last step is finite, but the weights after it are not."""

    def objective(model: Toy, batch: Any, generator: torch.Generator) -> dict[str, torch.Tensor]:
        return denoise(model, batch, generator)

    update = Trainer.update

    def poisoned(engine: Trainer, batches: Any) -> float | None:
        loss = update(engine, batches)
        if engine.step == 8:
            parameter = next(engine.model.parameters())
            moments = engine.optimizer.state[parameter]
            moment = next(m for m in moments.values() if m.ndim)
            average = next(engine.ema.module.parameters())
            broken = {"weight": parameter.data, "average": average.data, "moment": moment}[what]
            broken.view(-1)[0] = math.nan
        return loss

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "update", poisoned)
        with pytest.raises(MvdiffError, match=r"diverged by step 8.*step-00000004'"):
            run(tmp_path, toy(), objective)
    (kept,) = (tmp_path / "checkpoints").glob("step-*")
    assert kept.name == "step-00000004"
    assert run(tmp_path).finished


def test_resuming_on_other_data_is_said(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    run(tmp_path, steps=4, data_fingerprint="a", progress=True)
    run(tmp_path, steps=6, data_fingerprint="a", progress=True)
    assert "training data" not in capsys.readouterr().out
    run(tmp_path, steps=8, data_fingerprint="b", progress=True)
    assert "the training data changed" in capsys.readouterr().out


# Validation


def test_validation_uses_the_average_and_disturbs_nothing(tmp_path: Path) -> None:
    seen = []

    def validate(model: torch.nn.Module, step: int) -> tuple[dict, dict]:
        assert not model.training
        assert not torch.is_grad_enabled()
        torch.randn(3)  # global randomness that training must not feel
        seen.append((step, model.first.weight.clone()))
        return {"psnr": 20.0 + step}, {"grid": Image.new("RGB", (8, 4))}

    model, plain = toy(), toy()
    result = run(tmp_path / "a", model, validate=validate, validate_every=5)
    assert [step for step, _ in seen] == [5, 10, 12]
    assert torch.equal(seen[-1][1], result.ema.first.weight)
    assert not torch.equal(seen[-1][1], model.first.weight)
    assert [line["psnr"] for line in log(tmp_path / "a", "validation")] == [25, 30, 32]
    assert sorted(p.name for p in (tmp_path / "a/validation").iterdir()) == [
        "00000005-grid.png", "00000010-grid.png", "00000012-grid.png",
    ]  # fmt: skip
    run(tmp_path / "b", plain)
    assert same_weights(model, plain)


# Settings


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"steps": 0}, "steps must be at least 1, got 0"),
        ({"seed": -1}, "seed must be at least 0, got -1"),
        ({"log_every": 0}, "log_every must be at least 1"),
        ({"schedule": "linear"}, "unknown schedule 'linear'; choose from cosine, constant"),
        ({"precision": "int8"}, "unknown precision 'int8'; choose from fp32, bf16, fp16"),
        ({"ema_decay": 1.0}, r"ema_decay must be a number in \[0, 1\)"),
        (
            {"batch_size": 5, "gradient_accumulation": 2},
            "batch_size=5 cannot be split.*multiple of 2",
        ),
        ({"device": "tpu"}, "auto, cpu or cuda, got 'tpu'"),
    ],
)
def test_impossible_settings_are_refused(tmp_path: Path, wrong: dict, sentence: str) -> None:
    with pytest.raises(MvdiffError, match=sentence):
        run(tmp_path, **wrong)
    assert not (tmp_path / "log.jsonl").exists()
