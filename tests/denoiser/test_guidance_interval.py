"""Guidance in an interval of the schedule, and conditions joined into a batch."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from helpers.tiny_recipe import photos, toy_config, toy_model

from mvdiff import builders
from mvdiff.denoiser.guidance import concat_conditions
from mvdiff.errors import MvdiffError
from mvdiff.pipeline import generate_views


@pytest.fixture(scope="module")
def model():
    return toy_model()


def sampled(model, monkeypatch, *overrides: str):
    """The final latents, and (timestep / 1000, guidance) of every step."""
    calls, states, forward = [], [], model.forward

    def noting(x, timestep, condition, *, guidance, **kwargs):
        calls.append((float(timestep[0]) / 1000, guidance))
        return forward(x, timestep, condition, guidance=guidance, **kwargs)

    monkeypatch.setattr(model, "forward", noting)
    sampler = builders.build_sampler(toy_config(*overrides))
    keep = states.append
    generate_views(
        model, sampler, photos(1), torch.tensor([5.0]), [1], callback=lambda i, n, x: keep(x)
    )
    monkeypatch.undo()
    return states[-1], calls


CFG = ("guidance=cfg", "sampler.steps=5")


def test_outside_the_interval_a_step_is_not_guided(model, monkeypatch):
    guided, always = sampled(model, monkeypatch, *CFG)
    some, calls = sampled(model, monkeypatch, *CFG, "guidance.interval=[0.3,0.7]")
    free, never = sampled(model, monkeypatch, "guidance=none", "sampler.steps=5")
    assert {scale for _, scale in always} == {2.0}
    assert {scale for _, scale in never} == {1.0}
    assert [scale for _, scale in calls] == [2.0 if 0.3 <= t <= 0.7 else 1.0 for t, _ in calls]
    assert {scale for _, scale in calls} == {1.0, 2.0}
    assert (some - guided).abs().max() > 1e-3
    assert (some - free).abs().max() > 1e-3


def test_the_whole_schedule_is_every_step(model, monkeypatch):
    guided, _ = sampled(model, monkeypatch, *CFG)
    whole, _ = sampled(model, monkeypatch, *CFG, "guidance.interval=[0,1]")
    assert torch.equal(whole, guided)


def test_a_step_without_guidance_takes_one_pass(model, monkeypatch):
    passes, forward = [], model.unet.forward

    def counting(*args, **kwargs):
        passes.append(args[0].shape)
        return forward(*args, **kwargs)

    def rows(*overrides: str) -> int:
        passes.clear()
        monkeypatch.setattr(model.unet, "forward", counting)
        sampler = builders.build_sampler(toy_config(*overrides))
        generate_views(model, sampler, photos(1), torch.tensor([5.0]), [1])
        monkeypatch.undo()
        return sum(shape[0] for shape in passes)

    none = rows("guidance=none", "sampler.steps=4")
    assert rows("guidance=cfg", "sampler.steps=4") == 2 * none
    # trailing times 999, 749, 499, 249: the middle two are guided
    assert rows("guidance=cfg", "sampler.steps=4", "guidance.interval=[0.3,0.8]") == 1.5 * none


@pytest.mark.parametrize(
    "interval",
    ["[0.8,0.2]", "[0.2]", "[0.2,1.5]", "[-0.1,0.5]", "0.5", "high", "[a,b]", "[0,.nan]"],
)
def test_intervals_that_are_none_are_refused(interval):
    words = r"guidance.interval must be (\[lowest,highest\]|a number in \[0, 1\])"
    with pytest.raises(MvdiffError, match=words):
        builders.build_sampler(toy_config("guidance=cfg", f"guidance.interval={interval}"))


def test_conditions_join_into_the_batch_they_would_have_been(model):
    elevation = torch.tensor([5.0, -10.0, 30.0])
    together = model.condition(photos(3), elevation)
    alone = [model.condition(photos(3)[i : i + 1], elevation[i : i + 1]) for i in range(3)]
    joined = concat_conditions(alone)
    for field in dataclasses.fields(joined):
        one, other = (getattr(c, field.name) for c in (joined, together))
        if field.name == "cameras":
            assert len(one) == len(other)
            torch.testing.assert_close(one.w2c, other.w2c)
            torch.testing.assert_close(one.K, other.K)
        else:
            torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)


def test_conditions_of_other_sizes_do_not_join(model):
    one = model.condition(photos(1), torch.tensor([5.0]))
    wide = dataclasses.replace(one, token=torch.zeros(1, 3))
    with pytest.raises(MvdiffError, match="do not fit into one batch"):
        concat_conditions([one, wide])
