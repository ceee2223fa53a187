"""The log of a run: `log.jsonl`, TensorBoard, validation pictures, progress."""

from __future__ import annotations

import builtins
import io
import json
import math
import sys
from pathlib import Path

import pytest
from PIL import Image

from mvdiff.errors import MvdiffError
from mvdiff.training.run_logger import RunLogger, TrainingProgress


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
    (logged,) = events.Images("validation/held out/1")
    with Image.open(io.BytesIO(logged.encoded_image_string)) as image:
        assert (logged.step, image.getpixel((2, 2))) == (5, (255, 0, 0))
    with Image.open(tmp_path / "validation/00000005-held_out_1.png") as image:
        assert image.getcolors() == [(16, (255, 0, 0))]


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
    progress = TrainingProgress(every=0)
    progress.start(10, 20)
    progress.update(15, 0.5)
    progress.update(16, None)
    progress.close()
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("  ")[0] for line in lines] == ["step 15/20", "step 16/20"]
    assert all("loss 0.5000" in line and "left 0:00:0" in line for line in lines)
    quiet = TrainingProgress(show=False, every=0)
    quiet.start(0, 2)
    quiet.update(2, 1.0)
    quiet.say("hello")
    assert capsys.readouterr().out == ""


def test_a_terminal_gets_a_bar_with_lines_above_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for stream in (sys.stdout, sys.stderr):
        monkeypatch.setattr(stream, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "120")
    progress = TrainingProgress(every=0)
    progress.start(10, 20)
    progress.update(15, 0.5)
    progress.say("validation [at] step 15")
    progress.close()
    captured = capsys.readouterr()
    shown = captured.err
    assert captured.out == ""
    assert "validation [at] step 15" in shown
    assert "15/20" in shown
    assert "loss 0.5000" in shown
