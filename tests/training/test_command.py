"""`mvdiff train` and `mvdiff export` at toy size: one run a folder, and what is exported."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from helpers.toy_training import toy
from safetensors import safe_open
from safetensors.torch import load_file

from mvdiff.cli.main import main
from mvdiff.training.checkpointing import CheckpointManager
from mvdiff.utils.files import exclusive_lock


def words(out: Path, *more: str) -> list[str]:
    """A run that is refused by its data, if by nothing before that."""
    data = Path(f"{out}-no-data")
    data.mkdir(exist_ok=True)
    (data / "index.json").write_text("{}")
    return ["train", f"data={data}", f"out={out}", "device=cpu", *more]


def told(capsys: pytest.CaptureFixture[str]) -> str:
    """The one line of the error."""
    (line,) = capsys.readouterr().err.splitlines()
    return line


def test_a_second_run_in_a_folder_is_refused_at_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    with exclusive_lock(out):
        assert main(words(out)) == 2
        assert f"another process is working on '{out}': wait for it" in told(capsys)
    assert main(words(out)) == 2
    assert "no-data" in told(capsys), "let go of, the folder can be used"


def test_only_the_main_process_holds_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(
        "mvdiff.training.distributed.place", lambda device: (1, 2, torch.device("cpu"))
    )
    with exclusive_lock(tmp_path):  # by process 0 of the same run
        assert main(words(tmp_path)) == 2
    assert "no-data" in told(capsys)


def test_a_wrong_resume_is_told_before_the_data_is_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words(tmp_path, "resume=nver")) == 2
    sentence = "no checkpoint at 'nver': resume takes auto, never or the path of a checkpoint"
    assert sentence in told(capsys)
    save(tmp_path, 5)
    assert main(words(tmp_path, "resume=never")) == 2
    assert "already holds the checkpoint 'step-00000005'" in told(capsys)


def save(out: Path, step: int) -> Path:
    model = toy(step)
    return CheckpointManager(out).save(
        step, model, model, {"optimizer": {}}, {"config": {"size": 16}}
    )


@pytest.mark.parametrize("name", ["ema.safetensors", "state.json"])
def test_a_damaged_newest_checkpoint_is_not_exported(
    tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    save(tmp_path, 5)
    newest, out = save(tmp_path, 10), tmp_path / "weights.safetensors"
    export = ["export", f"run={tmp_path}", f"out={out}", "precision=fp32"]
    (newest / name).write_bytes((newest / name).read_bytes()[:20])
    assert main(export) == 0
    said = capsys.readouterr().out
    assert "step-00000010' cannot be read" in said
    assert f"step 5 of '{tmp_path}'" in said
    assert torch.equal(load_file(out)["first.weight"], toy(5).first.weight)
    with safe_open(out, "pt") as file:
        assert file.metadata()["step"] == "5"
        assert json.loads(file.metadata()["config"]) == {"size": 16}

    shutil.rmtree(tmp_path / "checkpoints/step-00000005")
    assert main(export) == 2
    assert "step-00000010' cannot be read" in told(capsys)
    shutil.rmtree(newest)
    assert main(export) == 2
    assert "no checkpoint in" in told(capsys)
