"""The hull of objects whose shape and colors are known."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import trimesh

from mvdiff.cameras import Cameras, look_at, ring
from mvdiff.errors import MvdiffError
from mvdiff.recon import Hull
from mvdiff.views.views import Views


def clear(views: Views, index: int, region: slice) -> Views:
    alpha = views.alpha.clone()
    alpha[index, :, :, region] = 0
    return Views(views.images, alpha, views.cameras)


@pytest.fixture(scope="module")
def sphere(sphere_views):
    return Hull(resolution=64, max_outlier_views=0)(sphere_views)


def test_sphere_has_the_right_size(sphere):
    radius = np.linalg.norm(sphere.vertices, axis=1)
    assert abs(radius.mean() - 0.4) < 0.01
    assert radius.min() > 0.385
    assert sphere.to_trimesh().volume == pytest.approx(4 / 3 * np.pi * 0.4**3, rel=0.08)


def test_result_is_closed_and_faces_look_outward(sphere):
    mesh = sphere.to_trimesh()
    assert mesh.is_watertight
    assert mesh.volume > 0
    assert ((mesh.face_normals * mesh.triangles_center).sum(axis=1) > 0).mean() > 0.99


def test_colors_stand_where_they_were_seen(sphere):
    red = sphere.vertices[:, 0] > 0.06
    blue = sphere.vertices[:, 0] < -0.06
    assert np.abs(sphere.colors[red].astype(int) - [220, 30, 30]).max() <= 12
    assert np.abs(sphere.colors[blue].astype(int) - [30, 30, 220]).max() <= 12


def test_orthographic_box_comes_out_exactly(photograph):
    box = trimesh.creation.box((0.6, 0.4, 0.5))
    cameras = look_at([0, 90, 180, 0], [0, 0, 0, 90], size=64, projection="orthographic")
    mesh = Hull(resolution=96, blur_sigma=0, smoothing_iterations=0)(photograph(box, cameras))
    size = np.ptp(mesh.vertices, axis=0)
    assert np.abs(size - [0.6, 0.4, 0.5]).max() < 0.012
    assert np.abs(mesh.to_trimesh().bounds.mean(axis=0)).max() < 0.006


def test_flat_bottom_and_top_come_without_cones(photograph):
    box = trimesh.creation.box((0.5, 0.5, 0.6))
    views = photograph(box, ring(12, 30.0, size=64))
    trimmed = Hull(resolution=64, max_outlier_views=0)(views).to_trimesh().bounds[:, 2]
    whole = (
        Hull(resolution=64, max_outlier_views=0, trim_caps=False)(views).to_trimesh().bounds[:, 2]
    )
    assert np.abs(trimmed - [-0.3, 0.3]).max() < 0.02
    assert whole[0] < -0.4
    assert whole[1] > 0.36


def test_thin_tip_survives_trimming(photograph):
    ball = trimesh.creation.icosphere(subdivisions=3, radius=0.25)
    mast = trimesh.creation.cylinder(0.03, 0.3)
    mast.apply_translation([0.0, 0.0, 0.35])
    views = photograph(trimesh.util.concatenate([ball, mast]), ring(12, 30.0, size=64))
    mesh = Hull(resolution=80, max_outlier_views=0)(views)
    assert mesh.vertices[:, 2].max() == pytest.approx(0.5, abs=0.03)


def test_nothing_is_trimmed_where_a_camera_looks_up(sphere_views):
    cut = Hull(resolution=32, max_outlier_views=0)(sphere_views)
    whole = Hull(resolution=32, max_outlier_views=0, trim_caps=False)(sphere_views)
    assert np.array_equal(cut.vertices, whole.vertices)


def test_unseen_points_take_the_color_of_seen_neighbors(photograph):
    box = trimesh.creation.box((0.5, 0.5, 0.5))
    box.visual.face_colors = [40, 160, 80]
    mesh = Hull(resolution=48, max_outlier_views=0)(photograph(box, ring(8, 35.0, size=64)))
    below = mesh.vertices[:, 2] < mesh.vertices[:, 2].min() + 0.01
    assert below.sum() > 20
    assert np.abs(mesh.colors[below].astype(int) - [40, 160, 80]).max() <= 8


def test_one_wrong_view_is_overruled(sphere_views):
    broken = clear(sphere_views, 3, slice(0, 32))[list(range(1, 24, 2))]
    whole = 4 / 3 * np.pi * 0.4**3
    assert Hull(resolution=40, max_outlier_views=0)(broken).to_trimesh().volume < 0.6 * whole
    assert Hull(resolution=40)(broken).to_trimesh().volume == pytest.approx(whole, rel=0.12)


def test_white_background_serves_without_alpha(sphere_views):
    white = Views.from_white(sphere_views.rgb, None, sphere_views.cameras)
    mesh = Hull(resolution=48, max_outlier_views=0)(white)
    assert abs(np.linalg.norm(mesh.vertices, axis=1).mean() - 0.4) < 0.015
    red = mesh.vertices[:, 0] > 0.1
    assert np.abs(mesh.colors[red].astype(int) - [220, 30, 30]).mean() < 8


def test_loose_specks_are_dropped(photograph, cameras_around):
    ball = trimesh.creation.icosphere(subdivisions=3, radius=0.3)
    speck = trimesh.creation.icosphere(subdivisions=2, radius=0.045)
    speck.apply_translation([0.42, 0, 0.1])
    views = photograph(trimesh.util.concatenate([ball, speck]), cameras_around)
    assert (
        Hull(resolution=64, max_outlier_views=0, min_component_ratio=0)(views)
        .to_trimesh()
        .body_count
        == 2
    )
    assert (
        Hull(resolution=64, max_outlier_views=0, min_component_ratio=0.02)(views)
        .to_trimesh()
        .body_count
        == 1
    )


def test_two_views_are_enough(photograph):
    ball = trimesh.creation.icosphere(subdivisions=3, radius=0.3)
    cameras = look_at([0, 90], [0, 0], size=32, projection="orthographic")
    mesh = Hull(resolution=32)(photograph(ball, cameras))
    assert mesh.to_trimesh().is_watertight
    assert np.ptp(mesh.vertices, axis=0) == pytest.approx([0.6] * 3, abs=0.03)


def test_faces_limit_the_size(sphere_views):
    mesh = Hull(resolution=64, max_faces=2000, max_outlier_views=0)(sphere_views)
    assert len(mesh.faces) <= 2000
    assert mesh.to_trimesh().is_watertight


def test_progress_only_grows_and_ends_at_one(sphere_views):
    reported = []
    Hull(resolution=24, max_outlier_views=0)(
        sphere_views, progress=lambda stage, done: reported.append((stage, done))
    )
    shares = [done for _, done in reported]
    assert shares == sorted(shares)
    assert reported[-1] == ("done", 1.0)
    assert {"silhouettes", "carving", "surface", "colors"} <= {stage for stage, _ in reported}


def test_views_are_left_as_they_were(sphere_views):
    before = sphere_views.images.clone(), sphere_views.alpha.clone()
    Hull(resolution=24, max_outlier_views=0)(sphere_views)
    assert torch.equal(before[0], sphere_views.images)
    assert torch.equal(before[1], sphere_views.alpha)


def test_single_view_is_refused(sphere_views):
    with pytest.raises(MvdiffError, match="at least 2 views"):
        Hull()(sphere_views[0])


@pytest.mark.parametrize("keyed", [False, True])
def test_empty_views_are_named(sphere_views, keyed):
    broken = clear(clear(sphere_views, 2, slice(None)), 5, slice(None))
    if keyed:
        broken = Views.from_white(broken.rgb, None, broken.cameras)
    with pytest.raises(MvdiffError, match=r"views \[2, 5\] show no object"):
        Hull()(broken)


def test_pictures_without_background_are_refused(sphere_views):
    full = Views(
        sphere_views.images, torch.full_like(sphere_views.alpha, 255), sphere_views.cameras
    )
    with pytest.raises(MvdiffError, match="no silhouette"):
        Hull()(full)


def test_contradicting_views_are_named():
    alpha = torch.zeros(6, 1, 32, 32, dtype=torch.uint8)
    alpha[:, :, 12:20, 12:20] = 255
    alpha[4] = 0
    alpha[4, :, 0:5, 0:5] = 255
    views = Views(alpha.expand(-1, 3, -1, -1).clone(), alpha, ring(6, size=32))
    with pytest.raises(MvdiffError, match=r"views \[4\] show background"):
        Hull(resolution=32, max_outlier_views=0)(views)
    assert Hull(resolution=32)(views).to_trimesh().is_watertight


def test_cameras_that_look_away_are_refused(sphere_views):
    cameras = sphere_views.cameras
    flip = torch.diag(torch.tensor([-1.0, 1.0, -1.0]))
    away = Cameras(cameras.K, flip @ cameras.w2c, 64, 64)
    with pytest.raises(MvdiffError, match="do not look at a common point"):
        Hull()(Views(sphere_views.images, sphere_views.alpha, away))


@pytest.mark.parametrize(
    "setting",
    [
        {"resolution": 4},
        {"max_faces": 0},
        {"max_outlier_views": -1},
        {"blur_sigma": float("nan")},
        {"bound": 0.0},
        {"bound": float("nan")},
        {"min_component_ratio": 2.0},
        {"view_weight_power": -1.0},
        {"smoothing_iterations": -1},
    ],
)
def test_bad_settings_are_named(setting):
    with pytest.raises(MvdiffError, match=next(iter(setting))):
        Hull(**setting)


def test_tolerance_must_leave_two_views(sphere_views):
    with pytest.raises(MvdiffError, match="leave at least 2 of the 24 views"):
        Hull(max_outlier_views=23)(sphere_views)


def test_real_scan_meets_the_published_protocol(shared_dir):
    from PIL import Image

    from mvdiff.evaluation import evaluate_mesh

    folder = shared_dir / "data" / "chicken"
    pixels = [np.array(Image.open(folder / f"{i:03d}.png").convert("RGBA")) for i in range(16)]
    rgba = torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2).contiguous()
    views = Views(rgba[:, :3], rgba[:, 3:], ring(size=256))
    mesh = Hull()(views).to_trimesh()
    pytest.importorskip("mesh2sdf")
    figures = evaluate_mesh(mesh, folder / "mesh.obj", rotate_z=-270, normalize_reference=True)
    assert figures["chamfer"] <= 0.006
    assert figures["iou"] >= 0.85
