"""Photometric error: 0 for views of one object, as large as the colors that disagree."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import trimesh

from mvdiff.cameras import ring
from mvdiff.cameras.epipolar import nearest_views
from mvdiff.errors import MvdiffError
from mvdiff.metrics import corrupt, photometric_error
from mvdiff.metrics.photometric import warp_neighbors
from mvdiff.rendering import Raycaster
from mvdiff.views.views import Views


def recolored(views: Views, index: slice | int, step: int) -> Views:
    images = views.images.clone()
    images[index] += step
    return Views(images, views.alpha, views.cameras)


def test_views_of_one_object_agree(ball_views, painted_views):
    assert photometric_error(ball_views) < 1e-4
    # the chair's colors change from face to face, and its parts hide each other
    assert photometric_error(painted_views) < 0.01


def test_a_known_difference_is_found(ball_views):
    # on a ring of 8, all neighbors of even views are odd
    assert photometric_error(recolored(ball_views, slice(1, None, 2), 51)) == pytest.approx(
        0.2, abs=1e-4
    )
    # view 3 takes part in 4 of the 16 pairs
    assert photometric_error(recolored(ball_views, 3, 51)) == pytest.approx(0.2 / 4, abs=1e-4)


def test_tints_are_found_at_their_size(ball_views):
    tinted = corrupt(ball_views)["tinted"]
    color = tinted.images[:, :, 24, 24].float() / 255
    source = nearest_views(ball_views.cameras, 2)
    expected = (color[:, None] - color[source]).abs().mean()
    assert photometric_error(tinted) == pytest.approx(float(expected), abs=1e-4)
    assert expected > 0.04


def test_every_control_is_worse_than_the_truth(painted_views):
    floor = photometric_error(painted_views)
    for name, views in corrupt(painted_views).items():
        assert photometric_error(views) > 4 * floor, name


def test_hidden_points_are_not_compared(monkeypatch):
    # a small red ball before a large blue one, seen past each other from the sides
    blue, red = (trimesh.creation.icosphere(subdivisions=3, radius=r) for r in (0.3, 0.12))
    blue.visual.vertex_colors = [0, 0, 255]
    red.visual.vertex_colors = [255, 0, 0]
    red.apply_translation((0.5, 0, 0))
    cameras = ring(16, elevation=0, size=64)
    scene = trimesh.util.concatenate([blue, red])
    views = Raycaster(scene).render(cameras, supersample=3, shading=None).views(cameras)
    warped = warp_neighbors(views)
    # from the front red stands before blue; view 1 sees past it what view 0 cannot
    front = (warped.source[1] == 0).nonzero().item()
    behind_red = (warped.color[1, front, 0] > 0.9) & (views.images[1, 2] > 250)
    assert behind_red.sum() > 10
    assert not (warped.counted[1, front] & behind_red).any()
    error = photometric_error(views)
    assert error < 0.01
    monkeypatch.setattr("mvdiff.metrics.photometric._SLACK", 1e3)  # all is seen
    assert photometric_error(views) > 2 * error


def test_resampling_costs_next_to_nothing():
    # stripes two pixels wide: sampled elsewhere, they are far from equal without the half pixel
    stripes = trimesh.creation.uv_sphere(radius=0.4, count=[48, 96])
    dark = np.floor(stripes.triangles_center[:, 2] / 0.05).astype(int) % 2
    stripes.visual.face_colors = np.where(dark[:, None], [60, 60, 60], [200, 200, 200]).astype(
        np.uint8
    )
    cameras = ring(16, size=64)
    views = Raycaster(stripes).render(cameras, supersample=3, shading=None).views(cameras)
    assert photometric_error(views) < 0.02


def test_figures_hardly_depend_on_the_size(painted_views, ball):
    small = painted_views.resize(32)
    assert photometric_error(small) < 0.02
    assert photometric_error(corrupt(small)["rolled"]) > 0.1
    cameras = ring(8, size=192)
    large = Raycaster(ball).render(cameras, shading=None).views(cameras)
    assert photometric_error(recolored(large, slice(1, None, 2), 51)) == pytest.approx(
        0.2, abs=1e-3
    )


def test_orthographic_and_keyed_views(ball):
    cameras = ring(8, size=48, projection="orthographic")
    views = Raycaster(ball).render(cameras, supersample=3, shading=None).views(cameras)
    assert photometric_error(recolored(views, slice(1, None, 2), 51)) == pytest.approx(
        0.2, abs=1e-3
    )
    white = Views.from_white(views.rgb, None, cameras)
    assert photometric_error(white) < 0.002


def test_what_no_hull_explains_counts_as_white(ball_views):
    alpha = ball_views.alpha.clone()
    alpha[2] = 0  # this view's veto leaves no hull
    blank = Views(ball_views.images, alpha, ball_views.cameras)
    assert photometric_error(blank) == pytest.approx(0.6, abs=1e-4)


def test_views_without_an_object_have_no_figure():
    empty = Views(torch.full((4, 3, 32, 32), 255, dtype=torch.uint8), None, ring(4, size=32))
    assert math.isnan(photometric_error(empty))


def test_three_views_are_enough_and_two_are_not(ball_views):
    three = ball_views[[0, 1, 2]]
    assert photometric_error(three) < 1e-4
    assert photometric_error(recolored(three, 1, 51)) > 0.05
    with pytest.raises(MvdiffError, match="at least 3 views, got 2"):
        photometric_error(ball_views[[0, 1]])


def test_the_figure_is_reproducible(painted_views):
    assert photometric_error(painted_views) == photometric_error(painted_views)


def test_neighbors_are_the_nearest_by_angle():
    source = nearest_views(ring(16, size=32), 2)
    assert [sorted(row) for row in source.tolist()] == [
        sorted(((i - 1) % 16, (i + 1) % 16)) for i in range(16)
    ]
    assert nearest_views(ring(3, size=32), 5).shape == (3, 2)
