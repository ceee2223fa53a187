"""Out of memory: the step is repeated with fewer views at a time, with the same result."""

from __future__ import annotations

import warnings

import pytest
import torch
from helpers.tiny_recipe import photos, toy_config, toy_model

from mvdiff import builders
from mvdiff.pipeline import generate_views
from mvdiff.utils.oom import AdaptiveChunk, is_out_of_memory

CUDA = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")
CPU = RuntimeError("[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory")


@pytest.mark.parametrize("error", [CUDA, CPU, MemoryError()])
def test_what_running_out_of_memory_looks_like(error):
    assert is_out_of_memory(error)
    assert not is_out_of_memory(RuntimeError("shapes do not fit"))
    assert not is_out_of_memory(ValueError("out of memory of ours"))


@pytest.mark.parametrize("error", [CUDA, CPU, MemoryError()])
def test_halved_until_it_fits_and_remembered(error):
    asked = []

    def call(count):
        asked.append(count)
        if count > 3:
            raise error
        return "done"

    views = AdaptiveChunk(16)
    with pytest.warns(UserWarning, match="not enough memory: going on with batch_views=") as caught:
        assert views.fit(call) == "done"
    assert asked == [16, 8, 4, 2]
    assert len(caught) == 3
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert views.fit(call) == "done"
    assert asked[4:] == [2]


@pytest.mark.parametrize(
    ("views", "error"),
    [
        (AdaptiveChunk(1), CUDA),
        (AdaptiveChunk(16, splits=False), CUDA),
        (AdaptiveChunk(16), RuntimeError("shapes do not fit")),
    ],
)
def test_other_errors_and_the_last_view_are_not_tried_again(views, error):
    calls = []

    def call(count):
        calls.append(count)
        raise error

    with pytest.raises(RuntimeError) as raised:
        views.fit(call)
    assert raised.value is error
    assert len(calls) == 1


@pytest.mark.parametrize("chosen", [[], ["sampler=ddpm", "guidance=cfg"]])
def test_sampling_goes_on_from_the_same_step(monkeypatch, chosen):
    model = toy_model()
    sampler = builders.build_sampler(toy_config(*chosen, "sampler.steps=3"))

    def run():
        steps, states = [], []

        def reported(step, total, x):
            steps.append(step)
            states.append(x)

        generate_views(model, sampler, photos(1), torch.tensor([10.0]), [3], callback=reported)
        return steps, states[-1]

    _, whole = run()
    forward, failed, passes = model.forward, [], []

    def short_of_memory(x, timestep, condition, *, batch_views, **kwargs):
        passes.append((float(timestep[0]), batch_views))
        # the second step finds less memory than the first one had
        if len(passes) > 1 and batch_views > 1:
            failed.append(batch_views)
            raise CPU
        return forward(x, timestep, condition, batch_views=batch_views, **kwargs)

    monkeypatch.setattr(model, "forward", short_of_memory)
    with pytest.warns(UserWarning, match="not enough memory"):
        steps, parts = run()
    assert steps == [1, 2, 3]
    assert failed == [4, 2]
    assert [count for _, count in passes] == [4, 4, 2, 1, 1]
    assert len({time for time, _ in passes}) == 3
    torch.testing.assert_close(parts, whole, atol=1e-5, rtol=1e-5)


def test_attention_that_needs_all_views_is_not_split():
    model = toy_model("attention=crossview")
    sampler = builders.build_sampler(toy_config("attention=crossview"))
    calls = []

    def never(*_, batch_views, **__):
        calls.append(batch_views)
        raise CPU

    model.forward = never
    with pytest.raises(RuntimeError, match="can't allocate"):
        generate_views(model, sampler, photos(1), torch.tensor([10.0]), [3])
    assert calls == [4]
