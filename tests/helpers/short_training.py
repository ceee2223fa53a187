"""Training runs of a dozen steps, and readers of what they write."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch

from helpers.toy_training import Noise, Toy, denoise, toy
from mvdiff.training.loop import RunOptions, TrainResult, train
from mvdiff.training.trainer import Hyperparameters, Provenance


def train_with(model: Any, objective: Any, data: Any, out: Path, **settings: Any) -> TrainResult:
    """`train` with the fields of its dataclasses as keyword arguments."""

    def take(kind: type) -> dict[str, Any]:
        names = [entry.name for entry in fields(kind) if entry.name in settings]
        return {name: settings.pop(name) for name in names}

    numbers, options = Hyperparameters(**take(Hyperparameters)), RunOptions(**take(RunOptions))
    provenance = Provenance(**take(Provenance))
    return train(
        model, objective, data, numbers, out=out, options=options, provenance=provenance, **settings
    )


def run(
    out: Path, model: Toy | None = None, objective: Any = denoise, **change: Any
) -> TrainResult:
    settings = {
        "out": out, "steps": 12, "batch_size": 4, "lr": 1e-2, "warmup": 3, "log_every": 1,
        "checkpoint_every": 4, "checkpoint_minutes": None, "tensorboard": False,
        "progress": False, "device": "cpu", **change,
    }  # fmt: skip
    return train_with(toy() if model is None else model, objective, Noise(), **settings)


def log(out: Path, kind: str | None = None) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    return [line for line in lines if line.get("kind") == kind]


def same_weights(a: torch.nn.Module, b: torch.nn.Module) -> bool:
    return all(torch.equal(x, b.state_dict()[name]) for name, x in a.state_dict().items())
