"""Objects at any place and of any size: the hull contains all that the views show."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
import trimesh

from mvdiff.cameras import Cameras, ring
from mvdiff.mesh.postprocess import postprocess
from mvdiff.recon import Hull, Mesh, Neus
from mvdiff.recon.view_consistency import view_agreement
from mvdiff.rendering import Raycaster
from mvdiff.views.views import Views

QUICK = {"resolution": 40, "trim_caps": False, "blur_sigma": 0.0, "smoothing_iterations": 0}


def ellipsoid(*radii: float) -> trimesh.Trimesh:
    ball = trimesh.creation.icosphere(4)
    ball.apply_scale(radii)
    return ball


def photograph(mesh: trimesh.Trimesh, cameras: Cameras) -> Views:
    return Raycaster(mesh).render(cameras, supersample=2, shading=None).views(cameras)


def volume(mesh: Mesh) -> float:
    return float(mesh.to_trimesh().volume)


def test_wide_pictures_show_wide_objects():
    narrow, truth = ring(8, size=64), ellipsoid(1.0, 0.3, 0.3)
    K = narrow.K.clone()
    K[:, 0, 2] = 64
    mesh = Hull(**QUICK)(photograph(truth, Cameras(K, narrow.w2c, 64, 128)))
    found = np.ptp(mesh.vertices, axis=0)
    assert found[:2] == pytest.approx(truth.extents[:2], rel=0.1)
    assert found[2] == pytest.approx(0.6, rel=0.25)  # of a hull seen from above


@pytest.mark.parametrize("by", [0.35, 2.0])
def test_the_scene_need_not_lie_at_the_origin(by):
    cameras, truth = ring(8, size=64), ellipsoid(0.5, 0.3, 0.3)
    here = Hull(**QUICK)(photograph(truth, cameras))
    shift = torch.tensor([by, 0.0, 0.0])
    w2c = cameras.w2c.clone()
    w2c[:, :, 3] -= cameras.R @ shift
    truth.apply_translation(shift.numpy())
    views = photograph(truth, replace(cameras, w2c=w2c))
    there = Hull(**QUICK)(views)
    assert volume(there) == pytest.approx(volume(here), rel=0.02)
    assert there.vertices.mean(axis=0)[0] == pytest.approx(by, abs=0.03)
    assert min(score.iou for score in view_agreement(there, views).per_view) > 0.93


@pytest.mark.parametrize("make", [Hull(**QUICK), Neus(steps=3, resolution=24, trim_caps=False)])
def test_where_an_orthographic_camera_stands_means_nothing(make):
    cameras, truth = ring(8, size=64, projection="orthographic"), ellipsoid(0.5, 0.3, 0.3)
    views = photograph(truth, cameras)
    w2c = cameras.w2c.clone()
    w2c[:, 2, 3] = 0  # in the middle of the object
    inside = replace(views, cameras=replace(cameras, w2c=w2c))
    far, near = make(views), make(inside)
    assert volume(near) == pytest.approx(volume(far), rel=0.02)
    assert min(score.iou for score in view_agreement(near, inside).per_view) > 0.9
    (textured, _), (expected, _) = (
        postprocess(far, v, faces=500, texture=64) for v in (inside, views)
    )
    apart = textured.texture.image.astype(float) - expected.texture.image
    assert np.abs(apart).mean() < 1
