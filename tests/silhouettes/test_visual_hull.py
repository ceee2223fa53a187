"""Silhouettes and the field carved from them."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from mvdiff.cameras import Cameras, look_at, ring
from mvdiff.errors import MvdiffError
from mvdiff.silhouettes.masks import CUTOFF, edge_distance, overlap
from mvdiff.silhouettes.matting import object_mask
from mvdiff.silhouettes.scene_bounds import look_at_point, move_cameras_back, scene_cube
from mvdiff.silhouettes.visual_hull import carve, silhouette_distance
from mvdiff.views.views import Views


def disc(size: int, radius: float) -> torch.Tensor:
    """A disc with a soft edge in the middle of a picture; radius in picture widths."""
    grid = (torch.arange(size) + 0.5) / size - 0.5
    r = (grid[:, None] ** 2 + grid[None] ** 2).sqrt()
    return ((radius - r) * size + 0.5).clamp(0, 1)[None, None]


@pytest.mark.parametrize("size", [48, 160])
def test_edge_distance_is_the_distance(size):
    grid = edge_distance(disc(size, 0.3))[0, 0]
    fine = (torch.arange(len(grid)) + 0.5) / len(grid) - 0.5
    expected = 0.3 - (fine[:, None] ** 2 + fine[None] ** 2).sqrt()
    near = expected.abs() < CUTOFF - 0.01
    assert (grid - expected)[near].abs().max() < 0.5 / size
    assert grid.min() == -CUTOFF
    assert grid.max() == CUTOFF


def test_agreement_leaves_out_the_dissenting_views():
    cameras = ring(5, size=32)
    mask = torch.zeros(5, 1, 32, 32)
    mask[:3] = 1
    points = torch.zeros(1, 3)
    inside = [
        float(silhouette_distance(cameras, edge_distance(mask), points, max_outlier_views=k)) > 0
        for k in range(5)
    ]
    assert inside == [False, False, True, True, True]


def test_skipping_settled_points_changes_nothing_near_the_surface():
    cameras = ring(8, size=48)
    edges = edge_distance(disc(48, 0.3).expand(8, -1, -1, -1))
    points = torch.rand(4000, 3, generator=torch.Generator().manual_seed(0)) - 0.5
    exact = silhouette_distance(cameras, edges, points, max_outlier_views=1)
    quick = silhouette_distance(cameras, edges, points, max_outlier_views=1, margin=0.01)
    near = exact > -0.01
    assert 0 < near.sum() < len(points)
    assert torch.equal(exact[near], quick[near])
    assert (quick[~near] <= -0.01).all()


def test_points_behind_a_camera_are_outside():
    cameras = look_at([0.0], [0.0], distance=1.0, size=16)
    edges = edge_distance(torch.ones(1, 1, 16, 16))
    points = torch.tensor([[0.0, 0, 0], [2.0, 0, 0]])
    assert (silhouette_distance(cameras, edges, points) > 0).tolist() == [True, False]


def test_grid_fits_the_object_tightly():
    cameras = ring(12, 0.0, size=64, projection="orthographic")
    grid = carve(cameras, edge_distance(disc(64, 0.1).expand(12, -1, -1, -1)), resolution=40)
    radius = 0.1 * 2 * scene_cube(cameras)[1]
    assert max(grid.field.shape) in (40, 41)
    assert float(grid.high.max()) < 2 * radius
    inside = (grid.field > 0).nonzero().flip(-1) * grid.step + grid.low
    assert inside.abs().amax(dim=0).tolist() == pytest.approx([radius] * 3, abs=2 * grid.step)


@pytest.mark.parametrize("projection", ["perspective", "orthographic"])
def test_what_is_searched_is_what_the_lens_shows(projection):
    cameras = ring(4, size=64, projection=projection)
    center, half = scene_cube(cameras)
    assert center.tolist() == [0, 0, 0]
    assert half == pytest.approx(1.5 * 16 / 35, rel=1e-5)
    assert scene_cube(cameras, 0.4)[1] == 0.4
    wide = replace(cameras, width=128)
    wide.K[:, 0, 2] = 64
    assert scene_cube(wide)[1] == pytest.approx(2 * half)


def moved(cameras: Cameras, by: torch.Tensor) -> Cameras:
    """The same pictures of a scene moved by a vector."""
    w2c = cameras.w2c.clone()
    w2c[:, :, 3] -= cameras.R @ by
    return replace(cameras, w2c=w2c)


@pytest.mark.parametrize("projection", ["perspective", "orthographic"])
def test_a_scene_anywhere_has_the_same_hull(projection):
    cameras, by = ring(8, size=64, projection=projection), torch.tensor([3.0, -2.0, 0.7])
    edges = edge_distance(disc(64, 0.3).expand(8, -1, -1, -1))
    here = carve(cameras, edges, resolution=32)
    there = carve(moved(cameras, by), edges, resolution=32)
    torch.testing.assert_close(look_at_point(moved(cameras, by)), by, rtol=0, atol=1e-4)
    torch.testing.assert_close(there.low - by, here.low, rtol=0, atol=1e-3)
    torch.testing.assert_close(there.high - by, here.high, rtol=0, atol=1e-3)


def test_a_hull_wider_than_the_lens_at_the_middle_is_whole():
    cameras = look_at([0.0, 90.0], [0.0, 0.0], distance=1.5, size=64)
    mask = torch.zeros(2, 1, 64, 64)
    mask[:, :, 20:44, 1:-1] = 1  # as wide as the picture: beside the axis it goes farther back
    grid = carve(cameras, edge_distance(mask), resolution=64)
    half = scene_cube(cameras)[1]
    inside = (grid.field > 0).nonzero().flip(-1) * grid.step + grid.low
    assert inside.abs().amax() > 1.1 * half
    within = carve(cameras, edge_distance(mask), resolution=64, bound=half)
    assert within.high.amax() <= half + within.step


def test_what_a_border_cuts_off_is_not_looked_for_beyond():
    cameras = ring(4, 0.0, size=64)
    grid = carve(cameras, edge_distance(torch.ones(4, 1, 64, 64)), resolution=24)
    half = scene_cube(cameras)[1]
    assert grid.high.amax() == pytest.approx(half, abs=2 * grid.step)


def test_cameras_that_look_at_nothing_together_are_reported():
    away = look_at([0.0, 180.0], [0.0, 0.0], distance=1.5, size=16)
    away.w2c[:, :, 3] *= -1  # back to back
    with pytest.raises(MvdiffError, match="do not look at a common point"):
        scene_cube(away)


def test_orthographic_cameras_stand_back_and_see_the_same():
    cameras = ring(6, size=64, projection="orthographic")
    near = replace(cameras, w2c=cameras.w2c.clone())
    near.w2c[:, 2, 3] = 0
    back = move_cameras_back(near)
    points = torch.rand(50, 3, generator=torch.Generator().manual_seed(0)) - 0.5
    torch.testing.assert_close(back.project(points)[0], near.project(points)[0])
    assert back.project(points)[1].min() > 0
    assert all(move_cameras_back(fine) is fine for fine in (back, cameras, ring(6, size=64)))


def test_overlap_of_soft_masks():
    a = torch.zeros(3, 4, 4)
    b = torch.zeros(3, 4, 4)
    a[0, :2], b[0] = 1, 1
    a[1, :2], b[1, 2:] = 1, 1
    assert overlap(a, b).tolist() == [0.5, 0, 1]


def test_keyed_mask_finds_the_true_edge_and_fills_highlights():
    alpha = disc(64, 0.3)
    rgb = 1 - alpha * torch.tensor([0.2, 0.9, 0.6])[None, :, None, None]
    rgb[:, :, 30:33, 30:33] = 1
    views = Views.from_white(rgb, None, ring(1, size=64))
    repaired = object_mask(views)
    assert (repaired - alpha).abs().max() < 0.1
    assert (repaired - alpha).abs().mean() < 0.25 * (views.mask - alpha).abs().mean()


def test_large_holes_stay_open():
    ringlike = disc(64, 0.4) - disc(64, 0.2)
    views = Views.from_white(1 - ringlike.expand(-1, 3, -1, -1), None, ring(1, size=64))
    assert object_mask(views)[0, 0, 32, 32] == 0
