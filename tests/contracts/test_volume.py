"""The contract of every volume; new variants are tested without a change here."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from helpers.toy_volumes import PROJECTIONS, SIDE, VARIANTS, VIEWS, cut, inputs_for, make, one
from torch import Tensor

from mvdiff.cameras import Cameras
from mvdiff.volumes import VOLUMES


def test_every_registered_name_has_its_yaml():
    assert set(VOLUMES) <= set(VARIANTS)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("projection", PROJECTIONS)
@pytest.mark.parametrize("batch", [1, 2])
def test_frusta_of_every_promised_factor(variant, projection, batch):
    volume, inputs = make(variant), inputs_for(batch, projection)
    world = volume.build(inputs)
    assert world.ndim == 5
    assert world.shape[0] == batch
    assert torch.isfinite(world).all()
    frusta = cut(volume, world, inputs)
    assert set(frusta) == set(volume.frustum_channels)
    for factor, channels in volume.frustum_channels.items():
        level = frusta[factor]
        assert level.shape[:3] == (batch, VIEWS, channels)
        assert level.shape[-2:] == (SIDE // factor, SIDE // factor)
        assert torch.isfinite(level).all()


@pytest.mark.parametrize("variant", VARIANTS)
def test_objects_of_a_batch_do_not_see_each_other(variant):
    volume, inputs = make(variant), inputs_for()
    world = volume.build(inputs)
    frusta = cut(volume, world, inputs)
    for i in range(2):
        alone = volume.build(one(inputs, i))
        torch.testing.assert_close(alone[0], world[i], atol=1e-4, rtol=1e-4)
        levels = cut(volume, alone, one(inputs, i))
        for factor, level in levels.items():
            torch.testing.assert_close(level[0], frusta[factor][i], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("projection", PROJECTIONS)
def test_a_subset_of_cameras_gives_the_same_frusta(variant, projection):
    volume, inputs = make(variant), inputs_for(projection=projection)
    world = volume.build(inputs)
    every = cut(volume, world, inputs)
    some = [3, 1]
    for factor, level in cut(volume, world, inputs, some).items():
        torch.testing.assert_close(level, every[factor][:, some], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("variant", VARIANTS)
def test_each_noisy_view_and_the_time_reach_the_volume(variant):
    volume, inputs = make(variant), inputs_for()
    world = volume.build(inputs)
    if not volume.frustum_channels:
        assert world.numel() == 0
        return
    for i in range(VIEWS):
        changed = inputs.latents.clone()
        changed[:, i] += 1.0
        assert not torch.allclose(volume.build(replace(inputs, latents=changed)), world, atol=1e-4)
    assert not torch.allclose(volume.build(replace(inputs, time=-inputs.time)), world, atol=1e-4)


@pytest.mark.parametrize("variant", VARIANTS)
def test_frusta_depend_on_the_camera_and_its_pose(variant):
    volume, inputs = make(variant), inputs_for()
    world = volume.build(inputs)
    if not volume.frustum_channels:
        pytest.skip("no frusta")
    here = volume.frusta(world, inputs.cameras[0], inputs.time, inputs.pose[:, :1])
    there = volume.frusta(world, inputs.cameras[1], inputs.time, inputs.pose[:, :1])
    turned = volume.frusta(world, inputs.cameras[0], inputs.time, inputs.pose[:, 1:2])
    for factor in here:
        assert not torch.allclose(here[factor], there[factor], atol=1e-4)
        assert not torch.allclose(here[factor], turned[factor], atol=1e-4)


@pytest.mark.parametrize("variant", VARIANTS)
def test_gradients_reach_every_parameter(variant):
    volume, inputs = make(variant), inputs_for()
    world = volume.build(inputs)
    frusta = cut(volume, world, inputs)
    if not frusta:
        assert list(volume.parameters()) == []
        return
    sum(level.square().mean() for level in frusta.values()).backward()
    assert [n for n, p in volume.named_parameters() if p.grad is None] == []
    # an embedding of something that is always zero may be without effect, but no more than that
    silent = sum(p.numel() for p in volume.parameters() if not p.grad.any())
    assert silent < 0.01 * sum(p.numel() for p in volume.parameters())


@pytest.mark.parametrize("variant", VARIANTS)
def test_inputs_are_not_changed(variant):
    volume, inputs = make(variant), inputs_for()
    before = inputs.latents.clone(), inputs.photos.clone(), inputs.cameras.K.clone()
    cut(volume, volume.build(inputs), inputs)
    assert torch.equal(inputs.latents, before[0])
    assert torch.equal(inputs.photos, before[1])
    assert torch.equal(inputs.cameras.K, before[2])


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_cameras_are_not_in_the_weights(variant):
    names = make(variant).state_dict()
    assert not [name for name in names if "camera" in name or "w2c" in name or "rig" in name]


def move(cameras: Cameras, by: Tensor) -> Cameras:
    w2c = cameras.w2c.clone()
    w2c[:, :, 3] -= torch.einsum("vij,j->vi", cameras.R, by)
    return replace(cameras, w2c=w2c)


@pytest.mark.parametrize("variant", VARIANTS)
def test_cameras_are_read_as_cameras(variant):
    """Cameras that stand elsewhere see the same pictures at other points of space."""
    volume, inputs = make(variant), inputs_for()
    if not volume.frustum_channels:
        pytest.skip("no volume")
    world = volume.build(inputs)
    moved = replace(inputs, cameras=move(inputs.cameras, torch.tensor([0.2, 0.0, 0.0])))
    assert not torch.allclose(volume.build(moved), world, atol=1e-4)
