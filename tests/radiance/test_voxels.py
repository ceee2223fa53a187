"""Voxel fields: known solids are rendered correctly, by the cited formula."""

from __future__ import annotations

import pytest
import torch

from mvdiff import builders
from mvdiff.cameras import ring
from mvdiff.cameras.rigs import input_cameras
from mvdiff.errors import MvdiffError
from mvdiff.latents.autoencoders import PixelUnshuffleCodec
from mvdiff.radiance.voxels import DENSITY, GAIN, THIN, VoxelField, composite
from mvdiff.volumes.unprojection import grid_points

from helpers.tiny_recipe import photos, toy_config  # isort: skip

SOLID, EMPTY = 8.0, -20.0


def field(grid: torch.Tensor, *, side: int = 32, alpha: bool = True, bound: float = 0.6):
    """A field whose raw values are `grid`: (1, density and colors, depth, height, width)."""
    made = VoxelField(
        channels=8,
        latents=PixelUnshuffleCodec(4, alpha),
        bound=bound,
        radius=0.6,
        planes=64,
        split=1,
    )
    rig = ring(8, size=side)
    return made.render(grid, rig.resize(side // 4), torch.arange(8)), rig, made


def ball(radius: float, side: int = 48) -> torch.Tensor:
    points = grid_points(side, 0.6, torch.zeros(()))
    inside = points.norm(dim=-1) < radius
    color = torch.where(points[..., 2] > 0, 1.0, -1.0)  # upper half light, lower half dark
    density = torch.where(inside, SOLID, EMPTY)
    return torch.stack([density, color, color, color])[None]


def made_latents(images: torch.Tensor) -> torch.Tensor:
    return PixelUnshuffleCodec(4).encode(images)


def pictures(latents: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    rgb, alpha = PixelUnshuffleCodec(4).decode(latents[0])
    return rgb, alpha[:, 0]


def test_a_ball_is_a_disc_of_its_size_in_every_view():
    side, radius = 32, 0.4
    latents, rig, _ = field(ball(radius), side=side)
    _, alpha = pictures(latents)
    uv = rig.pixel_grid(0.5)
    away = (uv - side / 2).norm(dim=-1)
    # the silhouette's cone touches the ball: sin = radius / distance
    edge = rig.K[0, 0, 0] * radius / (1.5**2 - radius**2) ** 0.5
    away = away.expand(8, side, side)
    assert alpha[away < edge - 1.5].min() > 0.95
    assert alpha[away > edge + 1.5].max() < 0.05


def test_what_is_up_in_the_world_is_up_in_the_views():
    rgb, _ = pictures(field(ball(0.4))[0])
    assert (rgb[:, :, 8, 16] > 0.95).all()
    assert (rgb[:, :, 23, 16] < 0.05).all()


def test_color_stays_at_its_side():
    """A cube at +x is seen by the camera at azimuth 0 in front, hidden from the one behind it."""
    points = grid_points(32, 0.6, torch.zeros(()))
    density = torch.where(points.norm(dim=-1) < 0.45, SOLID, EMPTY)
    red = torch.where(points[..., 0] > 0, 1.0, -1.0)
    grid = torch.stack([density, red, -torch.ones_like(red), -torch.ones_like(red)])[None]
    rgb, _ = pictures(field(grid)[0])
    assert rgb[0, 0, 16, 16] > 0.95
    assert rgb[4, 0, 16, 16] < 0.05


@pytest.mark.parametrize(
    "latents", [PixelUnshuffleCodec(4), PixelUnshuffleCodec(8), PixelUnshuffleCodec(4, False)]
)
def test_the_photo_colors_what_it_sees(latents):
    """With the gate open, a gray ball shows the photo, each object its own, from its camera."""
    size, elevation = 64, torch.tensor([0.0, 40.0])
    made = VoxelField(
        channels=8, latents=latents, bound=0.6, radius=0.6, planes=64, split=2, photo_head=8
    )
    density = ball(0.4)[:, :1].expand(2, -1, -1, -1, -1)
    gate = torch.full_like(density, 5.0)
    raw = torch.cat([density, *[torch.zeros_like(density)] * 3, gate], 1) / GAIN
    made.head.forward = lambda _: raw
    photos = torch.zeros(2, 4, size, size)
    photos[0, 0, :, : size // 2] = 1.0  # the first is red at its left, black at its right
    photos[1, 1, : size // 2] = 1.0  # the second is green above, black below
    photos[:, 3] = 1.0
    rig = ring(4, size=size)
    cameras = input_cameras(rig, elevation)
    encoded = latents.encode(photos)[:, None]
    world = torch.zeros(2, 8, 24, 24, 24)
    views = made(
        world, encoded, cameras.resize(size // latents.patch), rig.resize(size // latents.patch),
        torch.arange(4),
    )  # fmt: skip
    assert views.shape == (2, 4, *encoded.shape[2:])
    own = made.render(
        made.decode(world, encoded, cameras.resize(size // latents.patch))[1:],
        cameras[1:].resize(size // latents.patch),
        torch.arange(1),
    )
    red, _ = latents.decode(views[0, :1])
    assert red[0, 0, 32, 24] > 0.95
    assert red[0, :, 32, 40].max() < 0.05
    green, _ = latents.decode(own[0])
    assert green[0, 1, 27, 32] > 0.95
    assert green[0, :, 37, 32].max() < 0.05


@pytest.mark.parametrize("count", [1, 2])
def test_the_photo_does_not_color_what_it_cannot_see(count):
    """A ball's far side keeps its own color; with a second picture behind, it shows that one."""
    size = 64
    made = VoxelField(
        channels=8, latents=PixelUnshuffleCodec(4), bound=0.6, radius=0.6, planes=64, split=2,
        photo_head=8, visibility=True,
    )  # fmt: skip
    density = ball(0.4)[:, :1]
    gate = torch.full_like(density, 5.0)
    raw = torch.cat([density, *[torch.zeros_like(density)] * 3, gate], 1) / GAIN
    made.head.forward = lambda _: raw
    photos = torch.zeros(count, 4, size, size)
    photos[0, 0] = 1.0  # red from the front, green from behind
    photos[1:, 1] = 1.0
    photos[:, 3] = 1.0
    rig = ring(4, elevation=0.0, size=size)
    cameras = rig[[0, 2][:count]].resize(size // 4)
    encoded = made_latents(photos)[None]
    views = made(
        torch.zeros(1, 8, 24, 24, 24), encoded, cameras, rig.resize(size // 4), torch.arange(4)
    )
    rgb, _ = pictures(views)
    front, back = rgb[0, :, 32, 32], rgb[2, :, 32, 32]
    torch.testing.assert_close(front, torch.tensor([1.0, 0.0, 0.0]), atol=0.07, rtol=0)
    behind = [0.5, 0.5, 0.5] if count == 1 else [0.0, 1.0, 0.0]
    torch.testing.assert_close(back, torch.tensor(behind), atol=0.07, rtol=0)


def test_empty_space_is_the_background():
    grid = torch.full((1, 4, 8, 8, 8), EMPTY)
    latents, rig, made = field(grid)
    rgb, alpha = pictures(latents)
    torch.testing.assert_close(rgb, torch.ones_like(rgb), atol=1e-3, rtol=0)
    assert alpha.max() < 1e-3
    made.background.data.fill_(-1.0)
    latents = made.render(grid, rig.resize(8), torch.arange(8))
    assert pictures(latents)[0].max() < 1e-3


def test_nothing_shows_outside_the_world_volume():
    """A dense volume is a cube: rays that miss it see the background."""
    grid = torch.full((1, 4, 8, 8, 8), SOLID)
    rig = ring(8, size=32)
    _, alpha = pictures(field(grid, bound=0.25)[0])
    assert alpha[:, 16, 16].min() > 0.95
    corners = torch.tensor(
        [[x, y, z] for x in (-0.25, 0.25) for y in (-0.25, 0.25) for z in (-0.25, 0.25)]
    )
    u = rig.project(corners)[0][..., 0]
    for view in range(8):
        left, right = int(u[view].min()), int(u[view].max())
        outside = torch.cat(
            [alpha[view, :, : max(left - 1, 0)], alpha[view, :, right + 2 :]], dim=1
        )
        assert outside.shape[1] >= 4
        assert outside.max() < 1e-3


@pytest.mark.parametrize("distance", [1.5, 0.56, 0.54, 0.5, 0.4])
def test_a_solid_is_solid_for_near_cameras(distance):
    made = VoxelField(
        channels=8, latents=PixelUnshuffleCodec(4), bound=0.6, radius=0.6, planes=48, split=1
    )
    rig = ring(4, size=32, distance=distance, elevation=20.0)
    _, alpha = pictures(made.render(ball(0.25), rig.resize(8), torch.arange(4)))
    assert alpha[:, 15:17, 15:17].min() > 0.99


def test_composite_is_the_formula():
    generator = torch.Generator().manual_seed(0)
    raw = torch.randn(1, 1, 5, 1, 1, generator=generator)
    colors = torch.randn(1, 1, 2, 5, 1, 1, generator=generator)
    lengths = torch.rand(1, 1, 5, 1, 1, generator=generator)
    background = torch.tensor([0.3, -0.7])
    density = torch.nn.functional.softplus(raw - THIN) * DENSITY
    light, left = torch.zeros(2), 1.0
    for k in range(5):
        alpha = 1 - torch.exp(-density[0, 0, k, 0, 0] * lengths[0, 0, k, 0, 0])
        light = light + left * alpha * colors[0, 0, :, k, 0, 0]
        left = left * (1 - alpha)
    out = composite(raw, colors, lengths, background)[0, 0, :, 0, 0]
    torch.testing.assert_close(out[:2], light + left * background)
    torch.testing.assert_close(out[2], 1 - 2 * left)


def test_latents_without_alpha_hold_the_same_colors():
    grid = ball(0.3)
    with_alpha, without = field(grid)[0], field(grid, alpha=False)[0]
    assert without.shape[2] == 3 * 16
    torch.testing.assert_close(without, with_alpha[:, :, : 3 * 16])


@pytest.mark.parametrize("wrong", [{"planes": 1}, {"split": 0}, {"coarser": 3}, {"coarser": 0}])
def test_settings_that_cannot_work_are_refused(wrong):
    settings = {"bound": 0.6, "radius": 0.6, "planes": 8, "split": 1, **wrong}
    with pytest.raises(MvdiffError, match="patch of 4"):
        VoxelField(channels=8, latents=PixelUnshuffleCodec(4), **settings)


def test_a_new_model_starts_with_the_rendering_and_the_unet_adds_to_it():
    model = builders.build_model(toy_config("radiance=voxels")).eval()
    condition = model.condition(photos(1), torch.tensor([10.0]))
    noisy, time = torch.randn(model.latent_shape(1)), torch.tensor([3.0])
    with torch.no_grad():
        out = model(noisy, time, condition)
        model.residual = False
        torch.testing.assert_close(model(noisy, time, condition), torch.zeros_like(out))
        model.residual = True
        model.unet.out[-1].bias += 0.25
        changed = model(noisy, time, condition) - out
    color, opacity = changed.split([3 * 16, 16], dim=2)
    torch.testing.assert_close(color, torch.full_like(color, 0.25))
    assert not opacity.any(), "outlines are the solid's"


def test_other_predictions_see_the_rendering_without_adding_to_it():
    model = builders.build_model(toy_config("radiance=voxels", "noise.prediction_type=epsilon"))
    assert not model.residual
    x, condition = torch.randn(model.latent_shape(1)), model.condition(photos(1), torch.zeros(1))
    torch.nn.init.ones_(model.unet.out[-1].weight)
    before = model(x, torch.tensor([3.0]), condition)
    torch.nn.init.normal_(model.radiance_stem.weight)
    assert not torch.allclose(model(x, torch.tensor([3.0]), condition), before)


def test_no_volume_no_rendering():
    model = builders.build_model(toy_config("radiance=voxels", "volume=none", "attention=none"))
    assert model.radiance is None
    assert model.radiance_stem is None
