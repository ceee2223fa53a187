"""Epipolar attention in a recipe: any set of views, precision, mode and cameras."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from helpers.epipolar_attentions import (
    BOTH,
    KINDS,
    RADIUS,
    SLOT,
    either,
    features,
    masked,
    sampled,
    scene,
)
from helpers.tiny_recipe import toy_config

from mvdiff.attention import ATTENTION, SlotSpec, epipolar, epipolar_masked
from mvdiff.attention.epipolar import EpipolarAttention
from mvdiff.attention.epipolar_masked import Bands, EpipolarMaskedAttention
from mvdiff.cameras import ring
from mvdiff.config.compose import compose
from mvdiff.config.instantiate import instantiate
from mvdiff.errors import MvdiffError


@pytest.mark.parametrize("projection", KINDS)
@pytest.mark.parametrize("variant", BOTH)
@pytest.mark.parametrize("num_neighbors", [1, 3])
def test_the_order_of_a_ring_with_ties_does_not_matter(projection, variant, num_neighbors):
    cameras = ring(6, size=32, projection=projection).resize(6, 4)
    module = sampled(num_neighbors) if variant == "epipolar" else masked()
    x, order = features(cameras, batch=2), [4, 0, 5, 2, 1, 3]
    out = module(x[:, order], scene(cameras[order]))
    torch.testing.assert_close(out, module(x, scene(cameras))[:, order], atol=1e-5, rtol=1e-5)


def test_a_view_that_is_alone():
    cameras = ring(1, size=6)
    x = features(cameras)
    assert torch.equal(sampled()(x, scene(cameras)), x)
    # the band's own view is not masked: plain self-attention
    free = masked()
    out = free(x, scene(cameras))
    assert not torch.allclose(out, x)
    assert Bands(cameras, 3.0).mask(0).all()


@pytest.mark.parametrize("variant", BOTH)
def test_gradients_are_right_for_several_objects(variant):
    cameras = ring(3, size=32).resize(2, 3).to(torch.float64)
    module = either(variant).double()
    x = features(cameras, batch=2).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: module(x, scene(cameras)), (x,), fast_mode=True)


@pytest.mark.parametrize("variant", BOTH)
@pytest.mark.parametrize("whole", [True, False], ids=["autocast", "weights"])
def test_half_precision_comes_near_full_precision(variant, whole):
    cameras = ring(5, size=16)
    module, x = either(variant), features(cameras, batch=2)
    exact = module(x, scene(cameras))
    if whole:
        with torch.autocast("cpu", torch.bfloat16):
            out = module(x, scene(cameras))
    else:
        out = module.bfloat16()(x.bfloat16(), scene(cameras))
        assert out.dtype == torch.bfloat16
    torch.testing.assert_close(out.float(), exact, atol=0.1, rtol=0.05)


@pytest.mark.parametrize("variant", BOTH)
def test_after_inference_with_the_same_cameras_training_goes_on(variant):
    cameras = ring(4, 17.0, size=6)
    module, x = either(variant), features(cameras)
    with torch.inference_mode():
        first = module(x, scene(cameras))
    out = module(x, scene(cameras))
    out.square().sum().backward()
    assert torch.equal(first, out)
    assert all(p.grad.any() for p in module.parameters())


@pytest.mark.parametrize("variant", BOTH)
def test_other_cameras_give_another_result(variant):
    module, cameras = either(variant), ring(4, size=6)
    x = features(cameras)
    first = module(x, scene(cameras))
    assert not torch.allclose(module(x, scene(ring(4, -40.0, size=6))), first, atol=1e-3)
    assert torch.equal(module(x, scene(ring(4, size=6))), first)


def counting(function: Callable, counts: list[int]) -> Callable:
    def counted(*arguments: object) -> object:
        counts.append(1)
        return function(*arguments)

    return counted


def test_slots_of_a_size_share_the_geometry_over_steps(monkeypatch):
    counts: list[int] = []
    monkeypatch.setattr(epipolar, "sample", counting(epipolar.sample, counts))
    rig = ring(4, 33.0, size=8)
    x, half = features(rig), features(rig.resize(4))
    modules = [sampled(), sampled(), sampled(samples=3)]
    for _ in range(2):
        these = scene(rig[[0, 1, 2, 3]])
        for module in modules:
            module(x, these)
        modules[0](half, these)
    assert len(counts) == 3  # two sizes, and another number of samples


def test_large_masks_are_made_a_view_at_a_time_with_the_same_result(monkeypatch):
    cameras = ring(4, size=6)
    module, x = masked(), features(cameras)
    small = module(x, scene(cameras))
    monkeypatch.setattr(epipolar_masked, "MASK_SIZE", 0)
    cameras = cameras.resize(12).resize(6)
    assert Bands(cameras, 3.0).masks is None
    monkeypatch.setattr(epipolar_masked, "_bands", type(epipolar_masked._bands)())
    torch.testing.assert_close(module(x, scene(cameras)), small)


@pytest.mark.parametrize("variant", BOTH)
def test_recipes_build_it_with_the_objects_radius(variant):
    for recipe, radius in (("tiny", 0.6), ("syncdreamer", 3**0.5 / 2)):
        given = ["image=none", f"recipe={recipe}", f"attention={variant}"]
        config = compose("generate", given)
        module = instantiate(ATTENTION, config.attention, slot=SlotSpec(16, 1, {}, 4))
        assert module.needs == {"all_views"}
        if variant == "epipolar":
            assert module.radius == pytest.approx(radius)
    without = toy_config("attention=epipolar", "volume=none").attention
    assert without.radius == 0.6


def test_bad_settings_are_reported():
    with pytest.raises(MvdiffError, match=r"num_neighbors ≥ 1.*got num_neighbors=0"):
        sampled(num_neighbors=0)
    with pytest.raises(MvdiffError, match="width > 0 pixels, got width=0"):
        masked(width=0)
    for variant in (EpipolarAttention, EpipolarMaskedAttention):
        settings = (2, 8, RADIUS) if variant is EpipolarAttention else (3.0,)
        with pytest.raises(MvdiffError, match="divide"):
            variant(SLOT, *settings, heads=3)
