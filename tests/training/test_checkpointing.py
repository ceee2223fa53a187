"""Weights and checkpoints on disk: whole, readable, and of the right model."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from helpers.toy_training import Toy, toy
from safetensors import safe_open

from mvdiff.errors import MvdiffError
from mvdiff.training.checkpointing import (
    CheckpointManager,
    CorruptCheckpoint,
    first_loadable,
    latest_checkpoint,
    load_weights,
    read_average,
    read_checkpoint,
    save_weights,
)


def save(out: Path, step: int, keep: int = 2, width: int = 8) -> Path:
    model = toy(step, width=width)
    return CheckpointManager(out, keep).save(
        step, model, model, {"optimizer": {}, "scaler": None}, {}
    )


def test_weights_round_trip_with_metadata(tmp_path: Path) -> None:
    model = toy()
    path = save_weights(model.state_dict(), tmp_path / "a/w.safetensors", {"steps": "10"})
    other = toy(1)
    load_weights(other, path)
    for name, tensor in model.state_dict().items():
        assert torch.equal(other.state_dict()[name], tensor), name
    with safe_open(path, "pt") as file:
        assert file.metadata() == {"steps": "10"}


def test_weights_may_be_halved_and_share_memory(tmp_path: Path) -> None:
    shared = torch.randn(4, 4)
    weights = {"a": shared, "b": shared.T, "count": torch.tensor(3)}
    path = save_weights(weights, tmp_path / "w.safetensors", precision="bf16")
    with safe_open(path, "pt") as file:
        assert file.get_tensor("a").dtype == torch.bfloat16
        assert torch.equal(file.get_tensor("b"), shared.T.bfloat16())
        assert file.get_tensor("count").dtype == torch.int64
    with pytest.raises(MvdiffError, match=r"int8.*fp32, bf16, fp16"):
        save_weights(weights, path, precision="int8")


def test_weights_that_do_not_fit_give_one_sentence(tmp_path: Path) -> None:
    path = save_weights(toy(width=4).state_dict(), tmp_path / "w.safetensors")
    with pytest.raises(
        MvdiffError, match=r"another model: 'first.weight' has shape \(4, 4, 3, 3\)"
    ):
        load_weights(Toy(), path)
    with pytest.raises(MvdiffError, match="no weights at"):
        load_weights(Toy(), tmp_path / "none.safetensors")
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(MvdiffError, match="not a readable safetensors file"):
        load_weights(Toy(), path)


def test_only_the_newest_checkpoints_stay(tmp_path: Path) -> None:
    for step in (5, 10, 100):
        save(tmp_path, step)
    store = CheckpointManager(tmp_path)
    assert [p.name for p in store.all()] == ["step-00000010", "step-00000100"]
    assert latest_checkpoint(tmp_path) == store.all()[-1]
    assert latest_checkpoint(tmp_path / "elsewhere") is None


def test_a_copy_by_hand_is_no_checkpoint_and_counts_for_nothing(tmp_path: Path) -> None:
    first = save(tmp_path, 5)
    copy = first.with_name("step-00000005-good")
    shutil.copytree(first, copy)
    for step in (10, 99_999_999, 100_000_000):
        save(tmp_path, step)
    assert copy.is_dir()
    assert [p.name for p in CheckpointManager(tmp_path).all()] == [
        "step-99999999",
        "step-100000000",
    ]


def test_later_checkpoints_are_archived_under_free_names(tmp_path: Path) -> None:
    store = CheckpointManager(tmp_path, keep=9)
    for _ in range(2):
        current = save(tmp_path, 5, keep=9)
        save(tmp_path, 10, keep=9)
        save(tmp_path, 15, keep=9)
        store.archive_later(5, current)
        assert store.all() == [current]
    names = [f"aside-step-000000{n}{end}" for n in (10, 15) for end in ("", "-2")]
    assert sorted(p.name for p in store.folder.iterdir()) == [*names, current.name]
    assert read_checkpoint(store.folder / names[-1], toy(), toy())[1]["step"] == 15
    # one of the same step from another folder is not the one a run goes on from
    elsewhere = save(tmp_path / "other", 5)
    assert store.archive_later(5, elsewhere) == {current.name: f"aside-{current.name}"}


def test_the_first_readable_one_is_taken(tmp_path: Path) -> None:
    older, newer = save(tmp_path, 5), save(tmp_path, 10)
    (newer / "ema.safetensors").write_bytes(b"cut")
    said: list[str] = []
    weights, state = first_loadable([newer, older], read_average, said.append)
    assert state["step"] == 5
    assert torch.equal(weights["first.weight"], toy(5).first.weight)
    assert len(said) == 1
    assert f"'{newer}' cannot be read" in said[0]
    (older / "state.json").write_text("{")
    with pytest.raises(CorruptCheckpoint, match="step-00000005' cannot be read"):
        first_loadable([newer, older], read_average, said.append)
    assert first_loadable([], read_average, said.append) is None


def test_a_kill_while_writing_leaves_nothing_to_pick_up(tmp_path: Path) -> None:
    save(tmp_path, 5)
    # What a kill leaves: the temporary folder, at any stage of completeness.
    part = tmp_path / "checkpoints" / ".part-1-step-00000010"
    part.mkdir()
    (part / "state.json").write_text(json.dumps({"step": 10}))
    assert latest_checkpoint(tmp_path).name == "step-00000005"
    save(tmp_path, 15)
    assert not part.exists(), "the next save clears it away"


def test_a_failed_write_keeps_the_older_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = save(tmp_path, 5)

    def full(*args: object, **kwargs: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(MvdiffError, match=r"No space left.*older checkpoints are untouched"):
        save(tmp_path, 10)
    assert sorted(p.name for p in (tmp_path / "checkpoints").iterdir()) == [kept.name]


@pytest.mark.parametrize("name", ["model.safetensors", "ema.safetensors", "optimizer.pt"])
def test_damage_is_distinguished_from_another_model(tmp_path: Path, name: str) -> None:
    path = save(tmp_path, 5)
    with pytest.raises(MvdiffError, match="holds another model") as other:
        read_checkpoint(path, Toy(width=4), Toy(width=4))
    assert not isinstance(other.value, CorruptCheckpoint)
    (path / name).write_bytes((path / name).read_bytes()[:50])
    with pytest.raises(CorruptCheckpoint, match="cannot be read"):
        read_checkpoint(path, Toy(), Toy())


def test_a_missing_checkpoint_says_what_is_expected(tmp_path: Path) -> None:
    with pytest.raises(MvdiffError, match=r"no checkpoint at .*step-00001000"):
        read_checkpoint(tmp_path, Toy(), Toy())


def test_checkpoints_execute_nothing(tmp_path: Path) -> None:
    path = save(tmp_path, 5)

    class Evil:
        def __reduce__(self) -> tuple:
            return (Path.touch, (tmp_path / "executed",))

    torch.save({"optimizer": Evil(), "scaler": None}, path / "optimizer.pt")
    with pytest.raises(CorruptCheckpoint):
        read_checkpoint(path, Toy(), Toy())
    assert not (tmp_path / "executed").exists()
