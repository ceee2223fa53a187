"""The photo hull: hollows where views agree, the hull where they do not."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from helpers.dented_box import dented_box, floor_height

from mvdiff.cameras import look_at
from mvdiff.errors import MvdiffError
from mvdiff.recon import RECONSTRUCTORS, Hull, PhotoHull
from mvdiff.recon.plane_sweep import sweep_planes
from mvdiff.views.views import Views

QUICK = {"resolution": 48, "max_image_side": 64, "planes": 32}


@pytest.fixture(scope="module")
def dented(photograph) -> Views:
    cameras = look_at([30.0 * i for i in range(12)], [50.0, 65.0] * 6, size=64)
    return photograph(dented_box(), cameras)


def test_photohull_is_registered():
    assert RECONSTRUCTORS["photohull"] is PhotoHull


def test_hollow_is_carved_where_the_hull_is_filled(dented):
    filled, hollow = (
        floor_height(Hull(resolution=48)(dented)),
        floor_height(PhotoHull(**QUICK)(dented)),
    )
    assert filled > 0.24
    assert hollow < filled - 0.05


def test_outer_sides_stay_where_they_are(dented):
    mesh, hull = PhotoHull(**QUICK)(dented), Hull(resolution=48)(dented)
    assert np.abs(mesh.to_trimesh().bounds - hull.to_trimesh().bounds).max() < 0.03


def test_plain_objects_keep_their_hull(sphere_views):
    views = sphere_views[list(range(0, 24, 2))]
    hull = Hull(resolution=48, max_outlier_views=0)(views).to_trimesh()
    mesh = PhotoHull(**QUICK, max_outlier_views=0)(views).to_trimesh()
    assert mesh.volume == pytest.approx(hull.volume, rel=0.02)
    radius = np.linalg.norm(mesh.vertices, axis=1)
    assert abs(radius.mean() - 0.4) < 0.01


def test_views_whose_colors_have_nothing_in_common_keep_the_hull(dented):
    noise = torch.rand(dented.images.shape, generator=torch.Generator().manual_seed(0)) * 255
    views = Views(noise.byte(), dented.alpha, dented.cameras)
    hull = Hull(resolution=48)(views).to_trimesh()
    mesh = PhotoHull(**QUICK)(views).to_trimesh()
    assert mesh.volume > 0.95 * hull.volume


def test_drift_of_brightness_between_views_changes_little(dented):
    gain = torch.linspace(0.7, 1.1, len(dented))[:, None, None, None]
    views = Views((dented.images * gain).clamp(0, 255).byte(), dented.alpha, dented.cameras)
    clean, drifted = (floor_height(PhotoHull(**QUICK)(v)) for v in (dented, views))
    assert drifted == pytest.approx(clean, abs=0.03)


def test_sweep_finds_a_plane_behind_the_front():
    """A checkered wall at depth 1.5 seen by 4 orthographic cameras, searched from depth 1.3."""
    cameras = look_at([0.0, 12.0, -12.0, 6.0], [0.0, 0.0, 0.0, 10.0], size=64, fov=45.0)
    origins, directions = cameras.rays()
    along = -origins[..., 0] / directions[..., 0]
    hit = origins + along[..., None] * directions
    shade = (torch.sin(hit[..., 1] * 23) * torch.sin(hit[..., 2] * 19 + 1) * 90 + 128).byte()
    alpha = torch.full((4, 1, 64, 64), 255, dtype=torch.uint8)
    views = Views(shade[:, None].expand(-1, 3, -1, -1).clone(), alpha, cameras)
    front = torch.full((4, 64, 64), 1.3)
    found = sweep_planes(views, front, search_depth=0.4, planes=32, num_neighbors=3, patch=5)
    middle = slice(16, 48)
    sure = found.confidence[0, middle, middle] > 0.3
    assert sure.float().mean() > 0.7
    assert (found.depth[0, middle, middle][sure] - 1.5).abs().median() < 0.01
    nothing = sweep_planes(views, front * 0, search_depth=0.4, planes=32, num_neighbors=3, patch=5)
    assert (nothing.confidence == 0).all()


@pytest.mark.parametrize(
    "setting",
    [{"search_depth": 0.0}, {"planes": 1}, {"patch": 4}, {"votes": -1.0}, {"num_neighbors": 0}],
)
def test_bad_settings_are_named(setting):
    with pytest.raises(MvdiffError, match=f"photohull: {next(iter(setting))}"):
        PhotoHull(**setting)
