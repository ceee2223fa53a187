"""The contract of volumes that take any number of views, any cameras and any precision."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from helpers.toy_volumes import PROJECTIONS, SIDE, VARIANTS, VIEWS, cut, inputs_for, make, one
from torch import Tensor

from mvdiff.cameras import Cameras, look_at, ring
from mvdiff.errors import MvdiffError


def far_and_near(count: int, projection: str = "perspective") -> Cameras:
    """Off the ring: two elevations, distances from within the volume to far off."""
    return look_at(
        [37.0 * i for i in range(count)],
        [70.0 if i % 2 else -25.0 for i in range(count)],
        distance=[0.4 + 0.7 * (i % 4) for i in range(count)],
        size=SIDE,
        projection=projection,
    )


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("views", [1, 5, 16, 24])
def test_any_number_of_views_or_a_sentence(variant, views):
    volume, inputs = make(variant), inputs_for(1, cameras=ring(views, size=SIDE))
    if not volume.any_views:
        with pytest.raises(MvdiffError, match=rf"bound to {VIEWS} views.*got {views}") as caught:
            volume.build(inputs)
        assert "\n" not in str(caught.value)
        return
    world = volume.build(inputs)
    assert torch.isfinite(world).all()
    assert world.shape == make(variant, views=16).build(inputs_for(1)).shape
    for level in cut(volume, world, inputs).values():
        assert level.shape[:2] == (1, views)
        assert torch.isfinite(level).all()


@pytest.mark.parametrize("variant", VARIANTS)
def test_weights_do_not_know_the_number_of_views_where_any_will_do(variant):
    def shapes(views: int) -> dict[str, torch.Size]:
        return {name: p.shape for name, p in make(variant, views=views).state_dict().items()}

    assert (shapes(4) == shapes(9)) is make(variant).any_views


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("projection", PROJECTIONS)
def test_the_order_of_views_does_not_matter_where_any_will_do(variant, projection):
    volume, inputs = make(variant), inputs_for(cameras=far_and_near(VIEWS, projection))
    order = [2, 0, 3, 1]
    turned = replace(
        inputs,
        latents=inputs.latents[:, order],
        cameras=inputs.cameras[order],
        pose=inputs.pose[:, order],
    )
    world, again = volume.build(inputs), volume.build(turned)
    if not volume.any_views:
        assert not torch.allclose(again, world, atol=1e-3)
        return
    torch.testing.assert_close(again, world, atol=1e-4, rtol=1e-4)
    every = cut(volume, world, inputs)
    for factor, level in cut(volume, again, turned).items():
        torch.testing.assert_close(level, every[factor][:, order], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("projection", PROJECTIONS)
def test_cameras_off_the_ring_even_within_the_volume(variant, projection):
    volume, inputs = make(variant), inputs_for(cameras=far_and_near(VIEWS, projection))
    world = volume.build(inputs)
    assert torch.isfinite(world).all()
    for level in cut(volume, world, inputs).values():
        assert torch.isfinite(level).all()
        assert level.abs().max() < 100 * level.abs().median()


@pytest.mark.parametrize("variant", VARIANTS)
def test_cameras_of_its_own_for_each_object(variant):
    sets = [ring(VIEWS, size=SIDE), far_and_near(VIEWS)]
    volume = make(variant)
    inputs = replace(inputs_for(), cameras=Cameras.cat(sets))
    world = volume.build(inputs)
    frusta = volume.frusta(world, inputs.cameras, inputs.time, inputs.pose)
    for i, cameras in enumerate(sets):
        mine = replace(one(inputs, i), cameras=cameras)
        torch.testing.assert_close(volume.build(mine)[0], world[i], atol=1e-4, rtol=1e-4)
        for factor, level in cut(volume, world[i : i + 1], mine).items():
            torch.testing.assert_close(level[0], frusta[factor][i], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("variant", VARIANTS)
def test_pictures_that_are_not_square(variant):
    volume, inputs = make(variant), inputs_for(cameras=ring(VIEWS, size=SIDE).resize(SIDE, 12))
    for factor, level in cut(volume, volume.build(inputs), inputs).items():
        assert level.shape[-2:] == (SIDE // factor, 12 // factor)
        assert torch.isfinite(level).all()


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_view_reaches_every_views_frustum(variant):
    volume, inputs = make(variant), inputs_for(1)
    before = cut(volume, volume.build(inputs), inputs)
    for j in range(VIEWS):
        changed = inputs.latents.clone()
        changed[:, j] += 1.0
        after = cut(volume, volume.build(replace(inputs, latents=changed)), inputs)
        assert set(after) == set(volume.frustum_channels)
        for factor, level in after.items():
            change = (level - before[factor]).abs().amax(dim=(0, 2, 3, 4, 5))
            assert (change > 1e-4).all()


# Numbers


@pytest.mark.parametrize("variant", VARIANTS)
def test_gradients_in_double_precision(variant):
    volume = make(variant, "sizes.volume_side=4", "sizes.planes=2", views=2).double()
    cameras = look_at([0.0, 100.0], [30.0, -10.0], size=4)
    inputs = inputs_for(1, cameras=cameras)
    fixed = {name: getattr(inputs, name).double() for name in ("time", "pose")}

    def features(latents: Tensor, photos: Tensor) -> tuple[Tensor, ...]:
        given = replace(inputs, latents=latents, photos=photos, **fixed)
        world = volume.build(given)
        assert world.dtype == torch.float64
        return world, *cut(volume, world, given).values()

    free = [x.double().requires_grad_() for x in (inputs.latents, inputs.photos)]
    if not volume.frustum_channels:
        assert features(*free)[0].numel() == 0
        return
    assert torch.autograd.gradcheck(features, free, fast_mode=True)


@pytest.mark.parametrize("variant", VARIANTS)
def test_half_precision_is_near_and_leaves_geometry_alone(variant):
    volume, inputs = make(variant), inputs_for()
    world = volume.build(inputs)
    exact = cut(volume, world, inputs)
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        again = volume.build(inputs)
        half = cut(volume, again, inputs)
    for a, b in [(again, world), *((half[f], exact[f]) for f in exact)]:
        assert torch.isfinite(a).all()
        assert (a.float() - b).norm() <= 0.05 * b.norm()


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("sizes.volume_side=13", "side must be a multiple of 2"),
        ("sizes.volume_side=0", r"volume.side.*got 0"),
        ("sizes.planes=5", "planes a multiple of 2"),
        ("sizes.volume_dims=[]", "at least one level"),
        ("sizes.bound=0", r"volume.bound.*got 0"),
        ("sizes.view_width=3", "cannot be built with these settings"),
    ],
)
def test_settings_that_cannot_be_are_one_sentence(variant, setting, words):
    if not make(variant).frustum_channels:
        pytest.skip("has no settings")
    with pytest.raises(MvdiffError, match=words) as caught:
        make(variant, setting)
    assert variant in str(caught.value) or "got 0" in words
    assert "\n" not in str(caught.value)
