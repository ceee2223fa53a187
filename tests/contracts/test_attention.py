"""The contract of every view attention; new variants are tested without a change here.

`python tests/helpers/contract_matrix.py` prints the checks as a table with one column per variant.
"""

from __future__ import annotations

import re
import sys
from dataclasses import replace

import pytest
import torch
from helpers.attention_variants import (
    HOME,
    ORTHOGRAPHIC,
    PACKAGE,
    THEIRS,
    VARIANTS,
    cameras_for,
    chosen,
    close,
    converted,
    features,
    heard,
    make,
    news,
    random_one,
    refused,
    remedy,
    scene_for,
    take,
)
from helpers.tiny_recipe import photos, toy_config, toy_model
from torch import Tensor

from mvdiff import builders
from mvdiff.attention import ATTENTION
from mvdiff.attention.sdpa import KERNELS
from mvdiff.errors import MvdiffError


@pytest.fixture(scope="module", autouse=True)
def their_package():
    sys.path.insert(0, str(HOME))
    yield
    sys.path.remove(str(HOME))
    ATTENTION._entries.pop(THEIRS, None)
    sys.modules.pop(PACKAGE, None)


every = pytest.mark.parametrize("variant", VARIANTS)


@every
@pytest.mark.parametrize("factor", [1, 2])
def test_identity_at_start(variant, factor):
    x = features(height=8 // factor, width=8 // factor)
    out = make(variant, factor)(x, scene_for(variant, height=8, width=8))
    assert torch.equal(out, x)


@every
def test_a_change_in_one_view_reaches_all_others_if_it_needs_them(variant):
    module, x, scene = random_one(variant), features(), scene_for(variant)
    assert module.needs <= {"frusta", "all_views"}
    out = module(x, scene)
    for j in range(3):
        expected = [i == j or "all_views" in module.needs for i in range(3)]
        assert heard(module(news(x, j), scene), out) == expected


@every
def test_views_exchange_in_the_denoiser_if_it_needs_anything(variant):
    needs = make(variant).needs
    # without a volume nothing but the attention can carry news from view to view
    volume = [] if "frusta" in needs else ["volume=none"]
    model = toy_model(*chosen(variant), *remedy(variant), *volume)
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(model.latent_shape(1), generator=generator)
    other = x.clone()
    other[:, 2] += 1
    condition = model.condition(photos(1), torch.tensor([20.0]))
    both = [model(noisy, torch.tensor([300.0]), condition) for noisy in (x, other)]
    assert heard(*both) == [i == 2 or bool(needs) for i in range(len(model.rig))]


@every
def test_permuted_views_give_the_permuted_result_where_claimed(variant):
    module, x, scene = random_one(variant), features(), scene_for(variant)
    order = [1, 0, 2]  # no rotation of the ring
    out, permuted = module(x, scene)[:, order], module(x[:, order], take(scene, order))
    if module.equivariant:
        close(permuted, out)
    else:
        assert not torch.allclose(permuted, out, atol=1e-4), "claims less than it does"


@every
def test_objects_of_a_batch_do_not_see_each_other(variant):
    module, x, scene = random_one(variant), features(), scene_for(variant)
    together = module(x, scene)
    for i in range(2):
        frusta = {f: level[i : i + 1] for f, level in scene.frusta.items()}
        alone = module(x[i : i + 1], replace(scene, frusta=frusta, time=scene.time[i : i + 1]))
        close(alone[0], together[i])


SIZES = {
    "B=1": (1, 3, 4, 4),
    "N=1": (2, 1, 4, 4),
    "N=16": (1, 16, 4, 4),
    "wide": (1, 2, 2, 6),
    "high": (2, 3, 6, 2),
    "odd": (1, 2, 5, 3),
}


@every
@pytest.mark.parametrize("shape", SIZES.values(), ids=SIZES)
def test_any_number_of_objects_views_and_pixels(variant, shape):
    x = features(*shape)
    out = random_one(variant)(x, scene_for(variant, *shape))
    assert out.shape == x.shape
    assert out.dtype == x.dtype
    assert torch.isfinite(out).all()


@every
def test_fewer_views_than_the_rig_has(variant):
    module, x, scene = random_one(variant), features(), scene_for(variant)
    some = [2, 0]
    out = module(x[:, some], take(scene, some))
    if "all_views" in module.needs:
        other = module(news(x, 0)[:, some], take(scene, some))
        assert heard(other, out) == [True, True]
    else:
        close(out, module(x, scene)[:, some])
    model = toy_model(*chosen(variant), *remedy(variant))
    noisy = torch.randn(model.latent_shape(2), generator=torch.Generator().manual_seed(0))
    condition = model.condition(photos(2), torch.tensor([20.0, 0.0]))
    assert model(noisy, torch.tensor([9.0, 300.0]), condition, target_views=some).shape[1] == 2


@every
@pytest.mark.parametrize("how", ["bfloat16", "autocast", "float64"])
def test_other_precisions_keep_their_type_and_the_answer(variant, how):
    module, x, scene = random_one(variant), features(), scene_for(variant)
    expected = module(x, scene)
    dtype = {"bfloat16": torch.bfloat16, "float64": torch.float64}.get(how, torch.float32)
    module = random_one(variant).to(dtype)
    with torch.autocast("cpu", torch.bfloat16, enabled=how == "autocast"):
        out = module(x.to(dtype), converted(scene, dtype))
    assert out.dtype == dtype
    error = (out.double() - expected.double()).square().mean().sqrt() / expected.std()
    assert error < (1e-5 if how == "float64" else 0.03)


@every
def test_gradients_reach_every_parameter_and_the_features(variant):
    module = random_one(variant).train()
    x = features().requires_grad_()
    # squared, since sums over groups of a normalized map are constant
    module(x, scene_for(variant)).square().sum().backward()
    assert x.grad.abs().sum() > 0
    silent = [n for n, p in module.named_parameters() if p.grad is None or not p.grad.any()]
    assert silent == []


@every
def test_gradients_are_right_in_float64(variant):
    module = random_one(variant).double()
    scene = converted(scene_for(variant, 1, 2, 2, 2), torch.float64)
    x = features(1, 2, 2, 2).double().requires_grad_()
    frusta = [level.requires_grad_() for level in scene.frusta.values()]

    def run(x: Tensor, *levels: Tensor) -> Tensor:
        return module(x, replace(scene, frusta=dict(zip(scene.frusta, levels, strict=True))))

    # fast mode checks a random direction of the whole Jacobian
    assert torch.autograd.gradcheck(run, (x, *frusta), fast_mode=True)


@every
def test_kernels_agree_and_others_are_refused(variant):
    if "kernel" not in toy_config(*chosen(variant)).attention:
        pytest.skip("no choice of kernels")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    x, scene = features().to(device), scene_for(variant)
    frusta = {f: level.to(device) for f, level in scene.frusta.items()}
    scene = replace(
        scene, cameras=scene.cameras.to(device), frusta=frusta, time=scene.time.to(device)
    )
    results = {}
    for kernel in KERNELS:
        module = random_one(variant, kernel=kernel).to(device)
        if kernel == "xformers" and device == "cpu":
            with pytest.raises(MvdiffError, match=r"needs tensors on a CUDA device.*kernel=auto"):
                module(x, scene)
            continue
        inner = x.clone().requires_grad_()
        out = module(inner, scene)
        out.square().sum().backward()
        results[kernel] = torch.stack([out.detach(), inner.grad])
    assert len(results) >= 3
    for kernel, result in results.items():
        torch.testing.assert_close(result, results["math"], atol=1e-4, rtol=1e-4, msg=kernel)
    with pytest.raises(MvdiffError, match=r"unknown attention kernel 'fast'; choose from auto"):
        make(variant, kernel="fast")


@every
def test_orthographic_cameras(variant):
    module, x = random_one(variant), features()
    cameras = cameras_for(variant, 3, ORTHOGRAPHIC)
    assert cameras.projection == "orthographic"
    out = module(x, scene_for(variant, cameras=cameras))
    changed = heard(module(news(x, 1), scene_for(variant, cameras=cameras)), out)
    assert torch.isfinite(out).all()
    assert changed == ([True] * 3 if "all_views" in module.needs else [False, True, False])


@every
def test_cameras_it_cannot_take_are_refused_with_settings_that_help(variant):
    for settings in ([], ["rig.elevation=0"], [ORTHOGRAPHIC], ["rig.elevation=90"]):
        refusal = refused(variant, builders.build_rig(toy_config("rig.count=3", *settings)))
        if refusal:
            assert re.search(rf"^attention '{variant}' needs .*: use .*rig\.", refusal)
            assert "\n" not in refusal
            assert remedy(variant)
    assert not refused(variant, cameras_for(variant))


@every
def test_what_it_says_it_needs_makes_a_difference(variant):
    module, x, scene = random_one(variant), features(), scene_for(variant)
    other = replace(scene, frusta=scene_for(variant, seed=9).frusta)
    changed = not torch.allclose(module(x, scene), module(x, other), atol=1e-4)
    assert changed == ("frusta" in module.needs)


@every
def test_without_frusta_it_works_or_says_what_is_missing(variant):
    if "frusta" in make(variant).needs:
        with pytest.raises(MvdiffError, match=r"needs frusta.*choose a volume"):
            make(variant, frusta={})
    else:
        x = features()
        assert make(variant, frusta={})(x, scene_for(variant, frusta={})).shape == x.shape


@every
def test_inputs_are_not_changed(variant):
    module, x, scene = random_one(variant), features(), scene_for(variant)
    before = x.clone(), {f: level.clone() for f, level in scene.frusta.items()}
    module(x, scene)
    assert torch.equal(x, before[0])
    assert all(torch.equal(level, before[1][f]) for f, level in scene.frusta.items())
