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
from mvdiff.errors import InputError
from mvdiff.training.checkpointing import CheckpointManager
from mvdiff.utils.locking import exclusive_lock


def words(out: Path, *more: str) -> list[str]:
    """A command whose data is missing: the last thing that is checked."""
    data = Path(f"{out}-no-data")
    data.mkdir(exist_ok=True)
    (data / "index.json").write_text("{}")
    return ["train", f"data={data}", f"out={out}", "device=cpu", *more]


def stderr_of(capsys: pytest.CaptureFixture[str]) -> str:
    """The single line of the error message."""
    (line,) = capsys.readouterr().err.splitlines()
    return line


def test_a_second_run_in_a_folder_is_refused_at_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    with exclusive_lock(out):
        assert main(words(out)) == 2
        assert f"another process is working on '{out}': wait for it" in stderr_of(capsys)
    assert main(words(out)) == 2
    assert "no-data" in stderr_of(capsys), "let go of, the folder can be used"


def test_unusable_data_leaves_no_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "runs" / "first"
    (tmp_path / "runs-kept").mkdir()
    data = tmp_path / "data"
    data.mkdir()
    (data / "index.json").write_text("{}")
    for folder in (out, tmp_path / "runs-kept" / "first"):
        assert main(["train", f"data={data}", f"out={folder}", "device=cpu"]) == 2
        assert "is not a rendered folder's index" in capsys.readouterr().err
    assert sorted(p.name for p in tmp_path.iterdir()) == ["data", "runs-kept"]
    assert not list((tmp_path / "runs-kept").iterdir())


def test_only_the_main_process_holds_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(
        "mvdiff.training.distributed.place", lambda device: (1, 2, torch.device("cpu"))
    )
    with exclusive_lock(tmp_path):  # by process 0 of the same run
        assert main(words(tmp_path)) == 2
    assert "no-data" in stderr_of(capsys)


def test_a_wrong_resume_is_refused_before_the_data_is_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words(tmp_path, "resume=nver")) == 2
    sentence = "no checkpoint at 'nver': resume takes auto, never or the path of a checkpoint"
    assert sentence in stderr_of(capsys)
    save(tmp_path, 5)
    assert main(words(tmp_path, "resume=never")) == 2
    assert "already holds the checkpoint 'step-00000005'" in stderr_of(capsys)


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
    export = ["export", f"run_dir={tmp_path}", f"out={out}", "precision=fp32"]
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
    assert "step-00000010' cannot be read" in stderr_of(capsys)
    shutil.rmtree(newest)
    assert main(export) == 2
    assert "no checkpoint in" in stderr_of(capsys)


def record_runs(monkeypatch: pytest.MonkeyPatch, fail: str = "") -> list[dict[str, object]]:
    """Record what would be trained instead of training; runs with `fail` in `out` fail."""
    runs: list[dict[str, object]] = []

    def run(config):
        runs.append({"out": config.out, "lr": config.train.lr, "attention": config.attention.name})
        if fail and fail in config.out:
            raise InputError("no such data")
        return 0

    monkeypatch.setattr("mvdiff.cli.train.run", run)
    return runs


def test_multirun_trains_every_point_in_a_folder_named_by_its_overrides(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = record_runs(monkeypatch)
    sweep = ["-m", "train.lr=1e-3,3e-4", "attention=none,depthwise", "train.views=2"]
    assert main(words(tmp_path / "lr", *sweep)) == 0
    assert runs == [
        {
            "out": str(tmp_path / "lr" / f"train.lr={lr},attention={attention}"),
            "lr": float(lr),
            "attention": attention,
        }
        for lr in ("0.001", "0.0003")
        for attention in ("none", "depthwise")
    ]
    assert capsys.readouterr().out.count(": done") == 4


def test_a_failed_point_of_a_multirun_is_named_and_the_others_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = record_runs(monkeypatch, fail="attention=none")
    assert main(words(tmp_path, "--multirun", "attention=none,depthwise")) == 1
    assert [run["attention"] for run in runs] == ["none", "depthwise"]
    printed = capsys.readouterr()
    assert "run 'attention=none': no such data" in printed.err
    assert f"{tmp_path / 'attention=none'}: failed" in printed.out
    assert f"{tmp_path / 'attention=depthwise'}: done" in printed.out


def test_a_wrong_value_of_a_multirun_is_reported_before_any_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = record_runs(monkeypatch)
    assert main(words(tmp_path, "-m", "attention=none,nothing")) == 2
    assert "unknown attention 'nothing'" in capsys.readouterr().err
    assert main(words(tmp_path, "-m", "train.lr=interval(0,1)")) == 2
    assert "no list of values" in capsys.readouterr().err
    assert runs == []


def test_the_run_folder_of_hydra_is_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = record_runs(monkeypatch)
    assert main([*words(tmp_path / "a"), f"hydra.run.dir={tmp_path / 'b'}"]) == 0
    assert [run["out"] for run in runs] == [str(tmp_path / "b")]
    assert main(words(tmp_path, "hydra/launcher=basic")) == 2
    assert "sweep with -m" in capsys.readouterr().err
