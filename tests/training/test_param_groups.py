"""Parameter groups by name: learning rates, frozen weights, averages and checkpoints."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.short_training import train_with
from helpers.toy_training import Noise, copy_photo, toy
from safetensors.torch import load_file

from mvdiff.errors import MvdiffError
from mvdiff.training.param_groups import eval_frozen_modules, frozen_parameters, make_param_groups


def rates(model: torch.nn.Module, groups: list[dict[str, Any]]) -> dict[str, tuple]:
    names = {id(p): name for name, p in model.named_parameters()}
    return {names[id(p)]: (g.get("lr"), g["weight_decay"]) for g in groups for p in g["params"]}


def test_groups_take_what_they_name_and_the_rest_is_frozen() -> None:
    model = toy()
    groups = make_param_groups(
        model, [{"match": "first.", "lr": 1e-3}, {"match": ["norm.", "*.bias"]}], weight_decay=0.1
    )
    assert rates(model, groups) == {
        "first.weight": (1e-3, 0.1),
        "first.bias": (1e-3, 0.0),  # the first group that matches has it
        "norm.weight": (None, 0.0),
        "norm.bias": (None, 0.0),
        "last.bias": (None, 0.0),
    }
    assert list(frozen_parameters(model)) == ["last.weight"]
    everything = make_param_groups(model, [{"match": "", "weight_decay": 0.3}], weight_decay=0.1)
    assert set(rates(model, everything).values()) == {(None, 0.3)}
    assert not frozen_parameters(model), "what was frozen before can be trained again"


@pytest.mark.parametrize(
    ("group", "sentence"),
    [
        ({"match": "slots."}, r"matches 'slots\.'; choose from first\., norm\., last\."),
        ({"match": ["first.", "fist.*"]}, r"'fist\.\*'"),
        ({"lr": 1.0}, "a parameter group has match.*got lr"),
        ({"match": "first.", "rate": 1.0}, "got match, rate"),
    ],
)
def test_groups_that_make_no_sense_name_the_choices(group: dict, sentence: str) -> None:
    with pytest.raises(MvdiffError, match=sentence):
        make_param_groups(toy(), [group], weight_decay=0.0)


def test_frozen_parts_rest_and_the_others_train() -> None:
    model = torch.nn.Sequential(toy(), toy())
    model[0].requires_grad_(False)
    eval_frozen_modules(model.train())
    assert (model.training, model[0].training, model[0].drop.training) == (True, False, False)
    assert (model[1].training, model[1].drop.training) == (True, True)


def run(out: Path, sha: str, **change: Any) -> Any:
    model = toy(dropout=0.0)
    groups = make_param_groups(
        model, [{"match": ["first.", "norm."], "lr": 1e-2}], weight_decay=0.0
    )
    settings = {
        "steps": 4, "batch_size": 2, "lr": 1e-3, "checkpoint_every": 2, "tensorboard": False,
        "progress": False, "device": "cpu", "param_groups": groups, "ema_decay": 0.5, **change,
    }  # fmt: skip
    base = {"weights": "zero.safetensors", "sha256": sha}
    return model, train_with(model, copy_photo, Noise(), out=out, base=base, **settings)


def test_checkpoints_hold_what_is_trained_and_name_the_rest(tmp_path: Path) -> None:
    model, result = run(tmp_path, "abc")
    for name in ("model", "ema"):
        kept = load_file(result.checkpoint / f"{name}.safetensors")
        assert set(kept) == {"first.weight", "first.bias", "norm.weight", "norm.bias", "seen"}
    state = json.loads((result.checkpoint / "state.json").read_text())
    assert state["base"] == {"weights": "zero.safetensors", "sha256": "abc"}
    again, more = run(tmp_path, "abc", steps=6)
    whole, _ = run(tmp_path / "whole", "abc", steps=6)
    assert more.step == 6
    # the cosine knows the last step, so only a run towards the same one is the same
    assert torch.equal(again.last.weight, whole.last.weight)
    assert not torch.equal(again.first.weight, model.first.weight)


def test_a_run_of_frozen_weights_goes_on_exactly(tmp_path: Path) -> None:
    whole, _ = run(tmp_path / "whole", "abc", schedule="constant")
    run(tmp_path / "cut", "abc", schedule="constant", steps=2)
    again, result = run(tmp_path / "cut", "abc", schedule="constant")
    assert result.step == 4
    assert all(torch.equal(p, again.state_dict()[n]) for n, p in whole.state_dict().items())


def test_other_frozen_weights_are_refused(tmp_path: Path) -> None:
    run(tmp_path, "abc")
    with pytest.raises(MvdiffError, match=r"other frozen weights, those of 'zero.safetensors'"):
        run(tmp_path, "xyz", steps=6)
