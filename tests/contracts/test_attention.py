"""What every view attention must hold to. A new variant is tested without a change here."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from tiny_recipe import randomise, toy_config
from torch import Tensor

from mvdiff import build
from mvdiff.attention import ATTENTION, Scene, SlotSpec
from mvdiff.attention.base import ViewAttention
from mvdiff.cameras import Cameras, ring
from mvdiff.config import groups

CHANNELS, FRUSTA, TIME = 8, {1: 8, 2: 16}, 6
VARIANTS = groups()["attention"]


def test_every_registered_name_has_its_yaml():
    assert set(ATTENTION) <= set(VARIANTS)


def make(variant: str, factor: int = 1, frusta: dict[int, int] = FRUSTA) -> ViewAttention:
    slot = SlotSpec(CHANNELS, factor, frusta, TIME)
    config = toy_config(f"attention={variant}")
    torch.manual_seed(0)
    return build.construct(ATTENTION, config.attention, slot=slot)


def scene_for(
    batch: int = 2,
    views: int = 3,
    height: int = 4,
    width: int = 4,
    depth: int = 5,
    seed: int = 0,
    frusta: dict[int, int] = FRUSTA,
    rig: Cameras | None = None,
) -> Scene:
    """Random frusta for maps of height × width at factor 1."""
    generator = torch.Generator().manual_seed(seed)

    def random(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    cameras = ring(views, size=16) if rig is None else rig
    levels = {
        f: random(batch, views, c, max(1, depth // f), height // f, width // f)
        for f, c in frusta.items()
    }
    cameras = cameras.resize(height, width)
    return Scene(cameras, levels, random(batch, TIME), torch.arange(views))


def features(batch: int = 2, views: int = 3, height: int = 4, width: int = 4) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(batch, views, CHANNELS, height, width, generator=generator)


def take(scene: Scene, views: list[int]) -> Scene:
    frusta = {f: x[:, views] for f, x in scene.frusta.items()}
    return Scene(scene.cameras[views], frusta, scene.time, scene.index[views])


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("factor", [1, 2])
def test_a_fresh_module_is_the_identity(variant, factor):
    module = make(variant, factor)
    x = features(height=8 // factor, width=8 // factor)
    out = module(x, scene_for(height=8, width=8))
    assert torch.equal(out, x)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize(
    "shape", [(2, 3, 4, 4), (1, 3, 4, 4), (2, 1, 4, 4), (1, 1, 2, 6), (2, 3, 6, 2)]
)
def test_shape_and_kind_are_kept_for_any_set(variant, shape):
    batch, views, height, width = shape
    module = randomise(make(variant))
    x = features(*shape)
    out = module(x, scene_for(batch, views, height, width))
    assert out.shape == x.shape
    assert out.dtype == x.dtype
    assert torch.isfinite(out).all()
    precise = module.double()(x.double(), to_double(scene_for(batch, views, height, width)))
    assert precise.dtype == torch.float64


def to_double(scene: Scene) -> Scene:
    frusta = {f: x.double() for f, x in scene.frusta.items()}
    return replace(
        scene, cameras=scene.cameras.to(torch.float64), frusta=frusta, time=scene.time.double()
    )


@pytest.mark.parametrize("variant", VARIANTS)
def test_objects_of_a_batch_do_not_see_each_other(variant):
    module = randomise(make(variant)).eval()
    x, scene = features(), scene_for()
    together = module(x, scene)
    for i in range(2):
        frusta = {f: level[i : i + 1] for f, level in scene.frusta.items()}
        alone = module(x[i : i + 1], replace(scene, frusta=frusta, time=scene.time[i : i + 1]))
        torch.testing.assert_close(alone[0], together[i], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("variant", VARIANTS)
def test_permuted_views_give_the_permuted_result(variant):
    module = randomise(make(variant)).eval()
    x, scene = features(), scene_for()
    order = [2, 0, 1]
    out = module(x[:, order], take(scene, order))
    torch.testing.assert_close(out, module(x, scene)[:, order], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_subset_gives_the_same_unless_all_views_are_asked_for(variant):
    module = randomise(make(variant)).eval()
    if "all_views" in module.needs:
        pytest.skip("this variant mixes views: the denoiser hands it all of them")
    x, scene = features(), scene_for()
    some = [2, 0]
    out = module(x[:, some], take(scene, some))
    torch.testing.assert_close(out, module(x, scene)[:, some], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("variant", VARIANTS)
def test_inputs_are_not_changed(variant):
    module = randomise(make(variant))
    x, scene = features(), scene_for()
    before = x.clone(), {f: level.clone() for f, level in scene.frusta.items()}
    module(x, scene)
    assert torch.equal(x, before[0])
    assert all(torch.equal(level, before[1][f]) for f, level in scene.frusta.items())


@pytest.mark.parametrize("variant", VARIANTS)
def test_gradients_reach_every_parameter_and_the_features(variant):
    module = randomise(make(variant)).train()
    x, scene = features().requires_grad_(), scene_for()
    # squared, since sums over groups of a normalised map are constant
    module(x, scene).square().sum().backward()
    assert x.grad.abs().sum() > 0
    silent = [n for n, p in module.named_parameters() if p.grad is None or not p.grad.any()]
    assert silent == []


@pytest.mark.parametrize("variant", VARIANTS)
def test_what_it_says_it_needs_makes_a_difference(variant):
    module = randomise(make(variant)).eval()
    x, scene = features(), scene_for()
    other = replace(scene, frusta=scene_for(seed=9).frusta)
    changed = not torch.allclose(module(x, scene), module(x, other), atol=1e-4)
    assert changed == ("frusta" in module.needs)


@pytest.mark.parametrize("variant", VARIANTS)
def test_gradients_are_right_in_float64(variant):
    module = randomise(make(variant)).double().eval()
    sizes = {"batch": 1, "views": 2, "height": 2, "width": 2}
    scene = to_double(scene_for(**sizes, depth=3))
    x = features(**sizes).double().requires_grad_()
    frusta = [level.requires_grad_() for level in scene.frusta.values()]

    def run(x: Tensor, *levels: Tensor) -> Tensor:
        return module(x, replace(scene, frusta=dict(zip(scene.frusta, levels, strict=True))))

    # fast mode checks a random direction of the whole Jacobian
    assert torch.autograd.gradcheck(run, (x, *frusta), fast_mode=True)


@pytest.mark.parametrize("variant", VARIANTS)
def test_kernels_agree(variant):
    module = randomise(make(variant)).eval()
    if not hasattr(module, "kernel"):
        pytest.skip("no choice of kernels")
    x, scene = features(), scene_for()
    results = []
    for kernel in ("math", "sdpa"):
        module.kernel = kernel
        results.append(module(x, scene))
    torch.testing.assert_close(results[0], results[1], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("variant", VARIANTS)
def test_without_frusta_it_works_or_says_what_is_missing(variant):
    from mvdiff.errors import MvdiffError

    needs = ATTENTION[toy_config(f"attention={variant}").attention.name].needs
    if "frusta" in needs:
        with pytest.raises(MvdiffError, match=r"needs frusta.*choose a volume"):
            make(variant, frusta={})
    else:
        x = features()
        assert make(variant, frusta={})(x, scene_for(frusta={})).shape == x.shape
