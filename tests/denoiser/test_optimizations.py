"""Every exact shortcut is taken, and gives the output and gradients of the plain path."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest
import torch
from helpers.small_syncdreamer import small_config, small_model
from helpers.tiny_recipe import photos, randomize, toy_model
from torch.utils.flop_counter import FlopCounterMode

from mvdiff import builders
from mvdiff.attention import SlotSpec, ViewContext
from mvdiff.attention.depthwise import DepthwiseAttention
from mvdiff.cameras import Cameras, ring
from mvdiff.denoiser.multiview_denoiser import MultiViewDenoiser
from mvdiff.denoiser.optimizations import REFERENCE, Optimizations
from mvdiff.denoiser.transformer import SpatialTransformer
from mvdiff.errors import MvdiffError
from mvdiff.weights.load_model import init_on_meta
from mvdiff.weights.synthetic import fill_synthetic

NAMES = [field.name for field in fields(Optimizations)]


def error(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    return float((ours - theirs).detach().norm() / theirs.detach().norm())


@pytest.fixture(scope="module")
def published() -> MultiViewDenoiser:
    """A small model of the published structure."""
    return fill_synthetic(small_model()).eval().requires_grad_(False)


@torch.no_grad()
def predict(model: MultiViewDenoiser, guidance: float = 2.0, **settings) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    noisy = torch.randn(model.latent_shape(2), generator=generator)
    photo = torch.rand(2, 4, model.rig.height, model.rig.width, generator=generator)
    known = model.condition(photo, torch.tensor([30.0, 5.0]))
    return model(noisy, torch.tensor([700.0, 120.0]), known, guidance=guidance, **settings)


def flop(model: MultiViewDenoiser) -> int:
    with FlopCounterMode(display=False) as counter:
        predict(model, target_views=[0, 5, 11])
    return counter.get_total_flops()


@pytest.mark.parametrize("name", [*NAMES, "all"])
def test_a_shortcut_gives_the_result_of_the_plain_path(published, name):
    REFERENCE.set(published)
    plain = predict(published, target_views=[0, 5, 11])
    chosen = Optimizations() if name == "all" else replace(REFERENCE, **{name: True})
    chosen.set(published)
    for again in range(2):  # the second call finds what the first one left
        assert error(predict(published, target_views=[0, 5, 11]), plain) <= 1e-5, again
    if name == "all":
        assert error(predict(published, target_views=[0, 5, 11], batch_views=2), plain) <= 1e-5


def test_shortcuts_of_the_tiny_recipe_agree_with_its_plain_path():
    model = toy_model()
    known = model.condition(photos(2), torch.tensor([20.0, -5.0]))
    noisy = torch.randn(model.latent_shape(2), generator=torch.Generator().manual_seed(0))
    answers = []
    for chosen in (REFERENCE, Optimizations()):
        chosen.set(model)
        with torch.no_grad():
            answers.append(model(noisy, torch.tensor([700.0, 120.0]), known, guidance=1.5))
    assert error(answers[1], answers[0]) <= 1e-5


def test_all_are_taken_unless_switched_off(published):
    fresh = small_model()
    REFERENCE.set(published)
    plain = flop(published)
    for name in ("single_token", "folded_keys", "empty_volume"):
        replace(REFERENCE, **{name: True}).set(published)
        assert flop(published) < plain, name
    Optimizations().set(published)
    assert flop(fresh) == flop(published)


def test_geometry_is_computed_once_for_a_rig(monkeypatch):
    model = fill_synthetic(small_model()).eval()
    model.rig = ring(16, elevation=17.0, size=64)  # nobody has asked for it before
    calls = {"project": 0, "unproject": 0}
    for name in calls:
        method = getattr(Cameras, name)

        def counted(self, *args, name=name, method=method):
            calls[name] += 1
            return method(self, *args)

        monkeypatch.setattr(Cameras, name, counted)
    predict(model)
    assert calls == {"project": 1, "unproject": 1}
    predict(model)
    assert calls == {"project": 1, "unproject": 1}
    model.rig = ring(16, elevation=18.0, size=64)
    moved = predict(model)
    assert calls == {"project": 2, "unproject": 2}
    REFERENCE.set(model)
    assert error(moved, predict(model)) <= 1e-5


def test_the_branch_without_condition_asks_nothing_of_the_frusta(published):
    Optimizations().set(published)
    free = predict(published, guidance=0.0)
    REFERENCE.set(published)
    assert error(free, predict(published, guidance=0.0)) <= 1e-5


def attention(**flags: bool) -> DepthwiseAttention:
    module = randomize(DepthwiseAttention(SlotSpec(8, 1, {1: 16}, 4)))
    for name, value in flags.items():
        setattr(module, name, value)
    return module


def gradients(module: torch.nn.Module, frusta: torch.Tensor) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(1, 2, 8, 4, 4, generator=generator, requires_grad=True)
    frusta = frusta.clone().requires_grad_()
    scene = ViewContext(ring(2, size=4), {1: frusta}, torch.zeros(1, 4), torch.arange(2))
    out = module(x, scene)
    out.backward(torch.randn(out.shape, generator=generator))
    return [x.grad, frusta.grad, *(p.grad for p in module.parameters())]


def test_folded_keys_train_like_keys_and_values():
    frusta = torch.randn(1, 2, 16, 6, 4, 4, generator=torch.Generator().manual_seed(0))
    folded = gradients(attention(folded_keys=True), frusta)
    plain = gradients(attention(folded_keys=False), frusta)
    for ours, theirs in zip(folded, plain, strict=True):
        assert error(ours, theirs) <= 1e-4


@pytest.mark.parametrize("kernel", ["math", "sdpa"])
def test_folded_keys_take_any_kernel(kernel):
    frusta = torch.randn(1, 2, 16, 6, 4, 4, generator=torch.Generator().manual_seed(0))
    x = torch.randn(1, 2, 8, 4, 4)
    scene = ViewContext(ring(2, size=4), {1: frusta}, torch.zeros(1, 4), torch.arange(2))
    plain = attention(folded_keys=False)(x, scene)
    module = attention()
    module.kernel = kernel
    assert error(module(x, scene), plain) <= 1e-5


def cross_attention(trained: bool) -> torch.nn.Module:
    block = randomize(SpatialTransformer(16, 2, 12, 8, "auto"))
    return block.requires_grad_(trained)


@pytest.mark.parametrize("trained", [True, False])
def test_one_token_gives_the_same_gradients_with_queries_and_without(trained):
    results = []
    for single_token in (True, False):
        block = cross_attention(trained)
        replace(Optimizations(), single_token=single_token).set(block)
        generator = torch.Generator().manual_seed(0)
        x = torch.randn(2, 16, 4, 4, generator=generator, requires_grad=True)
        context = torch.randn(2, 1, 12, generator=generator, requires_grad=True)
        out = block(x, context)
        out.sum().backward()
        # a distributed trainer waits for the gradient of every trained weight
        assert all((p.grad is not None) == trained for p in block.parameters())
        results.append([out.detach(), x.grad, context.grad])
    for ours, theirs in zip(*results, strict=True):
        assert error(ours, theirs) <= 1e-5


def test_the_unets_own_attention_takes_a_kernel(published):
    chosen = init_on_meta(lambda: builders.build_model(small_config("unet.kernel=math"))).unet
    processors = [m.processor for m in chosen.modules() if hasattr(m, "processor")]
    assert {processor.kernel for processor in processors} == {"math"}
    sdpa = predict(published, target_views=[0])
    for module in published.modules():
        if hasattr(module, "processor"):
            module.processor.kernel = "math"
    assert error(predict(published, target_views=[0]), sdpa) <= 1e-5
    with pytest.raises(MvdiffError, match="unknown attention kernel 'flash'; choose from auto"):
        builders.build_model(small_config("unet.kernel=flash"))
