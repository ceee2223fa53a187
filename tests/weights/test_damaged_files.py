"""Damaged weight files and records end in MvdiffError, whatever was damaged."""

from __future__ import annotations

import json
import os
import random
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from mvdiff.errors import MvdiffError
from mvdiff.training.checkpointing import CheckpointManager, read_checkpoint
from mvdiff.weights.safe_load import read_weights

#: more for a long run: MVDIFF_FUZZ=3000 python -m pytest tests/weights/test_damaged_files.py
COUNT = int(os.environ.get("MVDIFF_FUZZ", "60"))

STATE = {"a.weight": torch.arange(12.0).reshape(3, 4), "a.bias": torch.ones(3), "b": torch.ones(1)}


def _safetensors(path: Path) -> Path:
    save_file(STATE, path.with_suffix(".safetensors"), {"recipe": "tiny"})
    return path.with_suffix(".safetensors")


def _lightning(path: Path) -> Path:
    content = {"state_dict": STATE, "epoch": 3, "callbacks": {"x": [1, 2.0, "y", None]}}
    torch.save(content, path.with_suffix(".ckpt"))
    return path.with_suffix(".ckpt")


def _torchscript(path: Path) -> Path:
    module = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.ReLU())
    torch.jit.save(torch.jit.script(module), str(path.with_suffix(".pt")))
    return path.with_suffix(".pt")


def damage(content: bytes, rng: random.Random) -> bytes:
    """Cut, flip, overwrite, insert or repeat some bytes."""
    data = bytearray(content)
    for _ in range(rng.choice([1, 1, 2, 5, 20])):
        at = rng.randrange(max(len(data), 1))
        kind = rng.randrange(6)
        if kind == 0 and data:
            data[at] ^= 1 << rng.randrange(8)
        elif kind == 1 and data:
            data[at] = rng.choice([0, 1, 0x7F, 0x80, 0xFF])
        elif kind == 2:
            del data[at:]
        elif kind == 3:
            data[at:at] = rng.randbytes(rng.choice([1, 4, 64]))
        elif kind == 4:
            del data[at : at + rng.choice([1, 4, 64])]
        else:
            data[at : at + 8] = rng.choice([b"\xff" * 8, b"\0" * 8, (2**40).to_bytes(8, "little")])
    return bytes(data)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("make", [_safetensors, _lightning, _torchscript])
def test_damaged_weights(tmp_path: Path, make: Callable[[Path], Path]) -> None:
    whole = make(tmp_path / "whole")
    content = whole.read_bytes()
    readable = 0
    for seed in range(COUNT):
        path = tmp_path / f"damaged{whole.suffix}"
        path.unlink(missing_ok=True)  # mapped files must not change under their tensors
        path.write_bytes(damage(content, random.Random(seed)))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                tensors, _ = read_weights(path)
            except MvdiffError:
                continue
        readable += 1
        assert all(isinstance(tensor, torch.Tensor) for tensor in tensors.values())
    assert readable < COUNT


WRONG = [None, True, -1, 10**400, 1e308, "x", [], {}, [[]], {"step": {}}]


@pytest.mark.parametrize("key", ["step", "settings", "meter", "config", "base", None])
def test_records_of_another_kind(tmp_path: Path, key: str | None) -> None:
    """A checkpoint's state.json with any value of any type."""
    model = torch.nn.Linear(2, 2)
    optimizer = {"optimizer": {}, "scaler": None}
    path = CheckpointManager(tmp_path).save(
        1, model, model, optimizer, {"settings": {}, "meter": {}}
    )
    state = json.loads((path / "state.json").read_text())
    for value in WRONG:
        content = value if key is None else {**state, key: value}
        text = json.dumps(content)
        (path / "state.json").write_text(text)
        try:
            _, read = read_checkpoint(path, model, model)
        except MvdiffError:
            continue
        assert type(read["step"]) is int
        assert type(read["settings"]) is dict
