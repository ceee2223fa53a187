"""`train.volume_views`: volumes of fewer views, drawn by the step and the sample's number."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.short_training import train_with
from helpers.tiny_recipe import toy_config
from torch import nn

from mvdiff import builders
from mvdiff.data.dataset import Batch
from mvdiff.errors import MvdiffError
from mvdiff.training.loop import TrainResult

VIEWS, SIZE = 9, 32
MEANVAR = ("volume=meanvar", f"rig.count={VIEWS}", "train.views=2")


def config(*overrides: str) -> Any:
    return toy_config(*MEANVAR, *overrides, command="train")


class Pictures:
    """Batches of random pictures, a pure function of the sample's number in the run."""

    def batch_at(
        self,
        step: int,
        *,
        batch_size: int,
        seed: int = 0,
        shard: int = 0,
        shards: int = 1,
        device: Any = "cpu",
    ) -> Batch:
        each = batch_size // shards
        index = torch.arange(each) + step * batch_size + shard * each
        pixels = torch.stack(
            [
                torch.rand(VIEWS + 1, 4, SIZE, SIZE, generator=torch.Generator().manual_seed(n))
                for n in index.tolist()
            ]
        )
        return Batch(pixels[:, 1:], pixels[:, 0], 5.0 * index, ("thing",) * each, index)


class Spy(nn.Module):
    """Wraps a denoiser and records its arguments."""

    def __init__(self) -> None:
        super().__init__()
        self.module, self.calls = builders.build_model(config()).eval().requires_grad_(False), []

    def forward(self, noisy: Any, timestep: Any, condition: Any, **chosen: Any) -> Any:
        self.calls.append({"noisy": noisy, "timestep": timestep, **chosen})
        zeros = torch.zeros(len(noisy), chosen["target_views"].shape[-1], *noisy.shape[2:])
        return (zeros, zeros) if chosen.get("with_rendering") else zeros

    def asked(self, setting: str, batch: Batch, seed: int = 5) -> dict[str, Any]:
        objective = builders.build_loss(config(f"train.volume_views={setting}"))
        objective(self, batch, torch.Generator().manual_seed(seed))
        return self.calls[-1]


@pytest.fixture(scope="module")
def spy() -> Spy:
    return Spy()


@pytest.fixture(scope="module")
def batch() -> Batch:
    return Pictures().batch_at(0, batch_size=4)


def test_the_target_views_and_others_each_once(spy: Spy, batch: Batch) -> None:
    counts = set()
    for seed in range(12):
        asked = spy.asked("[3,5]", batch, seed)
        rows, targets = asked["volume_views"], asked["target_views"]
        counts.add(rows.shape[1])
        for row, mine in zip(rows.tolist(), targets.tolist(), strict=True):
            assert set(mine) <= set(row) <= set(range(VIEWS))
            assert len(set(row)) == len(row)
        assert len({tuple(sorted(row)) for row in rows.tolist()}) > 1, "each object has its own"
    assert counts == {3, 4, 5}


def test_as_many_as_there_are_is_all_of_them(spy: Spy, batch: Batch) -> None:
    rows = spy.asked(f"[{VIEWS},{VIEWS}]", batch)["volume_views"]
    assert [sorted(row) for row in rows.tolist()] == [list(range(VIEWS))] * len(batch)


def test_step_and_number_decide_however_the_batch_is_shared(spy: Spy, batch: Batch) -> None:
    whole = spy.asked("[3,7]", batch)
    assert torch.equal(spy.asked("[3,7]", batch)["volume_views"], whole["volume_views"])
    for chosen in ([0, 1], [3]):
        part = replace(
            batch,
            views=batch.views[chosen],
            photo=batch.photo[chosen],
            elevation=batch.elevation[chosen],
            names=batch.names[: len(chosen)],
            index=batch.index[chosen],
        )
        mine = spy.asked("[3,7]", part)
        for name in ("volume_views", "target_views"):
            assert torch.equal(mine[name], whole[name][chosen])
    assert not torch.equal(
        spy.asked("[4,4]", batch, 6)["volume_views"], spy.asked("[4,4]", batch)["volume_views"]
    )


def test_all_other_draws_are_what_they_are_without_it(spy: Spy, batch: Batch) -> None:
    plain, some = spy.asked("null", batch), spy.asked("[3,5]", batch)
    assert "volume_views" not in plain
    for name in ("noisy", "timestep", "target_views"):
        assert torch.equal(plain[name], some[name])


def test_attention_over_all_views_gets_one_choice_the_volume_one_an_object(
    spy: Spy, batch: Batch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spy.module, "all_views", True)
    asked = spy.asked("[4,4]", batch)
    assert asked["target_views"].shape == (2,)
    assert asked["volume_views"].shape == (4, 4)
    for row in asked["volume_views"].tolist():
        assert row[:2] == asked["target_views"].tolist()
    assert len({tuple(row) for row in asked["volume_views"].tolist()}) > 1


def test_fewer_views_change_the_loss_and_gradients_arrive(batch: Batch) -> None:
    losses = []
    for setting in ("null", "[2,2]"):
        torch.manual_seed(0)
        model = builders.build_model(config())
        nn.init.normal_(model.unet.out[-1].weight)  # zero at start: nothing would be heard
        for slot in model.unet.slots.values():
            nn.init.normal_(slot.out[-1].weight)
        objective = builders.build_loss(config(f"train.volume_views={setting}"))
        loss = objective(model, batch, torch.Generator().manual_seed(1))["loss"]
        loss.backward()
        assert model.volume.net.stem.weight.grad.any()
        losses.append(float(loss.detach()))
    assert losses[0] != losses[1]


def run(out: Path, objective: Any = None, accumulate: int = 1) -> tuple[nn.Module, TrainResult]:
    torch.manual_seed(0)
    model = builders.build_model(config())
    made = builders.build_loss(config("train.volume_views=[2,8]"))
    result = train_with(
        model,
        objective or made,
        Pictures(),
        out=out,
        steps=5,
        batch_size=2,
        lr=1e-2,
        log_every=1,
        checkpoint_every=2,
        checkpoint_minutes=None,
        tensorboard=False,
        progress=False,
        device="cpu",
        gradient_accumulation=accumulate,
    )
    return model, result


def test_an_interrupted_run_goes_on_bit_for_bit(tmp_path: Path) -> None:
    made = builders.build_loss(config("train.volume_views=[2,8]"))

    class Enough(Exception):
        pass

    def stop_at_3(model: nn.Module, batch: Batch, generator: torch.Generator) -> dict[str, Any]:
        if batch.index[0] == 3 * 2:
            raise Enough
        return made(model, batch, generator)

    whole, _ = run(tmp_path / "whole")
    with pytest.raises(Enough):
        run(tmp_path / "cut", stop_at_3)
    again, result = run(tmp_path / "cut")
    assert result.step == 5
    assert all(torch.equal(p, again.state_dict()[name]) for name, p in whole.state_dict().items())


def test_accumulated_steps_draw_the_same(tmp_path: Path) -> None:
    drawn: dict[str, list[Any]] = {"one": [], "two": []}
    for name, parts in (("one", 1), ("two", 2)):

        def watch(model: nn.Module, batch: Batch, generator: torch.Generator, name=name) -> Any:
            spy = Spy()
            asked = spy.asked("[2,8]", batch, generator.initial_seed())
            drawn[name] += asked["volume_views"].tolist()
            return {"loss": sum(p.sum() for p in model.parameters()) * 0.0}

        run(tmp_path / name, watch, parts)
    assert drawn["one"] == drawn["two"]


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (("volume=concat", "train.volume_views=[2,4]"), r"'concat' is bound to all 9 views"),
        (("train.volume_views=[1,4]",), r"\[fewest,most\] within \[2, 9\].*got \[1, 4\]"),
        (("train.volume_views=[4,10]",), r"within \[2, 9\]"),
        (("train.volume_views=[5,4]",), r"\[fewest,most\]"),
        (("train.volume_views=4",), r"train.volume_views .*list.*got 4"),
        (("train.volume_views=[2.5,4]",), r"train.volume_views .*got \[2.5"),
        (("train.volume_views=[true,4]",), r"train.volume_views .*got \[True"),
        (("train.volume_views=[4]",), r"\[fewest,most\]"),
    ],
)
def test_settings_out_of_range_are_one_sentence(overrides: tuple[str, ...], words: str) -> None:
    with pytest.raises(MvdiffError, match=words) as caught:
        builders.build_loss(config(*overrides))
    assert "\n" not in str(caught.value)


def test_concat_takes_null() -> None:
    assert builders.build_loss(config("volume=concat")).volume_views is None
