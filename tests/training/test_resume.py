"""Resuming in one process: exact results, the choice of the checkpoint, what is kept."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.short_training import log, run, same_weights
from helpers.toy_training import Toy, denoise, toy

from mvdiff.errors import MvdiffError


def test_an_interrupted_run_goes_on_bit_for_bit(tmp_path: Path) -> None:
    whole = toy()
    result = run(tmp_path / "whole", whole, log_every=5)

    class Enough(Exception):
        pass

    def stop_at_7(model: Toy, batch: Any, generator: torch.Generator) -> dict[str, torch.Tensor]:
        if batch.index[0] == 7 * 4:
            raise Enough
        return denoise(model, batch, generator)

    cut = tmp_path / "cut"
    with pytest.raises(Enough):
        run(cut, objective=stop_at_7, log_every=5)
    model = toy(99)
    again = run(cut, model, log_every=5)
    assert again.step == 12
    # The cut run's checkpoint of step 4 lies within a log window, whose mean must be the same.
    keys = ("step", "loss", "worst", "grad_norm", "lr")
    expected = [[line[k] for k in keys] for line in log(tmp_path / "whole")]
    assert [[line[k] for k in keys] for line in log(cut)] == expected
    assert same_weights(model, whole)
    assert same_weights(again.ema, result.ema)


def test_a_finished_run_says_so_and_more_steps_go_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(tmp_path)
    done = run(tmp_path)
    assert "nothing to do" in done.message
    more = run(tmp_path, steps=16, lr=5e-3, progress=True)
    said = capsys.readouterr().out
    assert more.step == 16
    assert "resuming from" in said
    assert "note: steps=16 from here on (was 12)" in said
    assert "note: lr=0.005 from here on (was 0.01)" in said
    assert log(tmp_path)[12]["lr"] < 5e-3 * 0.5, "the schedule is that of 16 steps, at step 12"


def test_a_damaged_checkpoint_falls_back_to_the_one_before(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result = run(tmp_path)
    (result.checkpoint / "ema.safetensors").write_bytes(b"cut")
    again = run(tmp_path, progress=True)
    said = capsys.readouterr().out
    assert "step-00000012' cannot be read" in said
    assert "at step 8" in said
    assert same_weights(again.ema, result.ema)
    # the damaged one keeps no place of the newest two
    names = sorted(p.name for p in (tmp_path / "checkpoints").iterdir())
    assert names == ["aside-step-00000012", "step-00000008", "step-00000012"]


def test_who_goes_back_keeps_new_work_and_the_old(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = run(tmp_path).checkpoint.parent
    early = folder / "step-00000008"
    cut = {"max_minutes": 0.0, "lr": 5e-3}
    back = run(tmp_path, resume=early, progress=True, **cut)
    message = (
        "resuming from step 8; later checkpoints are renamed: step-00000012 → aside-step-00000012"
    )
    assert capsys.readouterr().out.count(message) == 1
    assert back.checkpoint.name == "step-00000009"
    assert back.checkpoint.is_dir(), "its number is lower than that of the one left behind"
    assert (folder / "aside-step-00000012/state.json").is_file()
    model = toy()
    again = run(tmp_path, model, resume="auto", progress=True, **cut)
    assert again.step == 10
    assert f"resuming from '{back.checkpoint}'" in capsys.readouterr().out
    assert sorted(p.name for p in folder.iterdir()) == [
        "aside-step-00000012", "step-00000009", "step-00000010",
    ]  # fmt: skip
    # and what was left behind can be gone on from
    other = run(tmp_path, resume=folder / "aside-step-00000012", steps=14)
    assert (other.step, other.checkpoint.name) == (14, "step-00000014")


def test_nothing_is_renamed_without_need(tmp_path: Path) -> None:
    folder = run(tmp_path).checkpoint.parent
    there = sorted(folder.iterdir())
    run(tmp_path, resume=folder / "step-00000008", steps=8)  # nothing to do
    assert sorted(folder.iterdir()) == there
    relative = Path(os.path.relpath(folder / "step-00000012"))
    run(tmp_path, resume=relative, steps=13)
    assert not list(folder.glob("aside-*"))


def test_resume_never_protects_and_a_path_is_followed(tmp_path: Path) -> None:
    result = run(tmp_path / "a")
    with pytest.raises(MvdiffError, match="already holds the checkpoint 'step-00000012'"):
        run(tmp_path / "a", resume="never")
    earlier = result.checkpoint.with_name("step-00000008")
    other = run(tmp_path / "b", resume=earlier)
    assert [line["step"] for line in log(tmp_path / "b")] == [9, 10, 11, 12]
    assert same_weights(other.ema, result.ema)
    for wrong in (tmp_path / "nowhere", "nver"):
        sentence = "no checkpoint at .*: resume takes auto, never or the path of a checkpoint"
        with pytest.raises(MvdiffError, match=sentence):
            run(tmp_path / "c", resume=wrong)
    with pytest.raises(MvdiffError, match=r"no checkpoint at .*expected a folder such as"):
        run(tmp_path / "c", resume=tmp_path)


def test_a_checkpoint_of_another_model_is_refused(tmp_path: Path) -> None:
    run(tmp_path)
    with pytest.raises(MvdiffError, match=r"another model: 'first.weight' has shape"):
        run(tmp_path, toy(width=4))
