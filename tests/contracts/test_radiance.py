"""The contract of every radiance field; new variants are tested without a change here."""

from __future__ import annotations

import pytest
import torch
from helpers.tiny_recipe import randomize, toy_config

from mvdiff.cameras import ring
from mvdiff.cameras.rigs import input_cameras
from mvdiff.config.groups import groups
from mvdiff.config.instantiate import instantiate
from mvdiff.latents.autoencoders import LATENTS
from mvdiff.radiance import RADIANCE, RadianceField

NAMES = sorted(set(groups()["radiance"]) - {"none"})
VARIANTS = [*NAMES, "voxels radiance.photo_head=8"]
CHANNELS, VIEWS, SIDE = 8, 4, 8
RIG = ring(VIEWS, size=32).resize(SIDE)


def make(variant: str, latents: str = "pixel_shuffle") -> RadianceField:
    config = toy_config(*f"radiance={variant}".split(), f"latents={latents}")
    kind = instantiate(LATENTS, config.latents)
    torch.manual_seed(0)
    field = instantiate(RADIANCE, config.radiance, latents=kind, channels=CHANNELS)
    return randomize(field).eval()


def volume(batch: int = 2) -> torch.Tensor:
    return torch.randn(batch, CHANNELS, 6, 6, 6, generator=torch.Generator().manual_seed(1))


def draw(
    field: RadianceField,
    world: torch.Tensor,
    index: torch.Tensor | None = None,
    latents: str = "pixel_shuffle",
    first: int = 0,
) -> torch.Tensor:
    """The views at `index`, each object's with a photo of its own at an elevation of its own."""
    channels = instantiate(LATENTS, toy_config(f"latents={latents}").latents).channels
    numbers = range(first, first + len(world))
    photos = [
        torch.randn(2, channels, SIDE, SIDE, generator=torch.Generator().manual_seed(n))
        for n in numbers
    ]
    elevation = torch.tensor([[10.0 * n, 20.0 * n] for n in numbers])
    azimuth = torch.tensor([0.0, 90.0]).repeat(len(world))
    cameras = input_cameras(RIG, elevation.flatten(), azimuth)
    index = torch.arange(VIEWS) if index is None else index
    return field(world, torch.stack(photos), cameras, RIG, index)


def test_every_registered_name_has_its_yaml():
    assert set(RADIANCE) <= set(NAMES)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("latents", groups()["latents"])
def test_latents_of_the_target_views(variant, latents):
    field = make(variant, latents)
    views = draw(field, volume(), latents=latents)
    kind = instantiate(LATENTS, toy_config(f"latents={latents}").latents)
    assert views.shape == (2, VIEWS, kind.channels, SIDE, SIDE)
    assert torch.isfinite(views).all()


@pytest.mark.parametrize("variant", VARIANTS)
def test_views_are_their_cameras_whatever_else_is_rendered(variant):
    field, world = make(variant), volume()
    every = draw(field, world)
    assert not torch.allclose(every[:, 0], every[:, 1], atol=1e-3)
    torch.testing.assert_close(draw(field, world, torch.tensor([2, 0])), every[:, [2, 0]])
    rows = draw(field, world, torch.tensor([[3, 1], [0, 2]]))
    torch.testing.assert_close(rows[0], every[0, [3, 1]])
    torch.testing.assert_close(rows[1], every[1, [0, 2]])


@pytest.mark.parametrize("variant", VARIANTS)
def test_objects_of_a_batch_do_not_see_each_other(variant):
    field, world = make(variant), volume()
    both = draw(field, world)
    alone = draw(field, world[1:], first=1)
    torch.testing.assert_close(alone[0], both[1], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("variant", VARIANTS)
def test_gradients_reach_every_parameter_and_the_volume(variant):
    field, world = make(variant), volume().requires_grad_()
    draw(field, world).square().mean().backward()
    assert [n for n, p in field.named_parameters() if p.grad is None or not p.grad.any()] == []
    assert world.grad.abs().mean() > 0


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_cameras_are_not_in_the_weights(variant):
    names = make(variant).state_dict()
    assert not [name for name in names if "camera" in name or "w2c" in name or "rig" in name]
