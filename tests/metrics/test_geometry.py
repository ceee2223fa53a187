"""Chamfer distance and volume IoU of meshes whose difference is known."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch
import trimesh

from mvdiff.cameras import ring
from mvdiff.errors import MvdiffError
from mvdiff.metrics import chamfer, volume_iou
from mvdiff.metrics.geometry import (
    VOXEL,
    chamfer_floor,
    depth_points,
    normalize_to_unit_box,
    point_chamfer,
    visible_points,
)


def shifted(mesh: trimesh.Trimesh, by: list[float]) -> trimesh.Trimesh:
    out = mesh.copy()
    out.apply_translation(by)
    return out


def test_chamfer_of_equal_meshes_is_zero(chair):
    assert chamfer(chair, chair) == 0


def test_chamfer_of_concentric_spheres_is_their_distance():
    a = trimesh.creation.icosphere(subdivisions=4, radius=0.40)
    b = trimesh.creation.icosphere(subdivisions=4, radius=0.46)
    assert chamfer(a, b) == pytest.approx(0.06, abs=0.003)
    assert chamfer(a, b) == pytest.approx(chamfer(b, a))


def test_point_chamfer_is_the_mean_of_both_directions():
    a = np.array([[0.0, 0, 0], [1, 0, 0]])
    b = np.array([[0.0, 0, 3]])
    # From a: 3 and √10; from b: 3.
    assert point_chamfer(a, b) == pytest.approx(((3 + 10**0.5) / 2 + 3) / 2)


def test_floor_is_the_distance_of_a_line_to_itself_in_shifted_cubes():
    # One point a millimeter along x; cubes shifted along x give means 5 mm apart, but at the
    # two ends; other shifts change nothing, since the line has no extent there.
    line = np.zeros((1000, 3))
    line[:, 0] = np.arange(1000) / 1000
    assert chamfer_floor(line) == pytest.approx(4 / 7 * 0.005, rel=0.02)


def test_chamfer_counts_only_what_cameras_see():
    ball = trimesh.creation.icosphere(subdivisions=4, radius=0.45)
    stuffed = trimesh.util.concatenate([ball, trimesh.creation.box((0.3, 0.3, 0.3))])
    assert chamfer(stuffed, ball) == 0


def test_visible_points_lie_on_the_surface_one_to_a_cube():
    points = visible_points(trimesh.creation.icosphere(subdivisions=5, radius=0.4))
    assert np.abs(np.linalg.norm(points, axis=1) - 0.4).max() < 0.002
    # A sphere of radius 0.4 crosses about 1.5 × area / cube face cubes, less its unseen underside.
    assert 1.0 < len(points) / (4 * np.pi * 0.4**2 / VOXEL**2) < 1.6


def test_depth_points_are_means_of_their_cube():
    cameras = ring(1, 0.0, size=256)
    depth = torch.zeros(1, 256, 256)
    depth[0, 128, 128:130] = 1.5
    depth[0, 10, 99] = 1.5
    points = depth_points(depth, cameras)
    assert len(points) == 2
    near = points[np.linalg.norm(points, axis=1).argmin()]
    # Camera 0 looks along -x, its right is +y: the mean of u = 128.5 and 129.5 is 1 pixel right.
    assert near == pytest.approx([0, 1.5 / 280, -0.5 * 1.5 / 280], abs=1e-6)


def test_volume_iou_of_shifted_boxes():
    box = trimesh.creation.box((1.0, 1.0, 1.0))
    assert volume_iou(box, box) == 1
    assert volume_iou(box, shifted(box, [0.25, 0, 0])) == pytest.approx(0.75 / 1.25, abs=0.03)
    assert volume_iou(shifted(box, [-0.45, 0, 0]), box.copy().apply_scale(0.02)) < 0.01


def test_normalize_centers_scales_and_turns():
    box = shifted(trimesh.creation.box((4.0, 2.0, 1.0)), [10, 0, -3])
    out = normalize_to_unit_box(box, rotate_z=90)
    assert np.allclose(out.bounds, [[-0.25, -0.5, -0.125], [0.25, 0.5, 0.125]])
    # +x goes to +y.
    corner = box.vertices.argmax(axis=0)[0]
    assert out.vertices[corner, 1] == pytest.approx(0.5)
    assert np.allclose(box.bounds.mean(axis=0), [10, 0, -3])


def test_unseen_and_oversized_meshes_are_refused():
    box = trimesh.creation.box((0.2, 0.2, 0.2))
    with pytest.raises(MvdiffError, match="see nothing"):
        chamfer(shifted(box, [40, 40, 0]), box)
    with pytest.raises(MvdiffError, match="leaves"):
        volume_iou(shifted(box, [1, 0, 0]), box)
    with pytest.raises(MvdiffError, match="no extent"):
        normalize_to_unit_box(trimesh.Trimesh(np.zeros((3, 3)), [[0, 1, 2]], process=False))


def test_missing_mesh2sdf_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "mesh2sdf", None)
    box = trimesh.creation.box((0.2, 0.2, 0.2))
    with pytest.raises(MvdiffError, match=r"mvdiff\[evaluate\]"):
        volume_iou(box, box)


def test_normalized_scan_lies_where_the_shipped_depths_are(shared_dir):
    from PIL import Image

    from mvdiff.metrics.geometry import _directed
    from mvdiff.recon import Mesh

    folder = shared_dir / "data" / "chicken"
    raw = np.stack([np.array(Image.open(folder / f"{i:03d}-depth.png")) for i in range(16)])
    depth = raw.astype(np.float64) / 65535 * 1.8 + 0.6
    depth = torch.from_numpy(np.where((depth > 0.63) & (depth < 2.37), depth, 0)).float()
    shipped = depth_points(depth, ring(size=256))
    mesh = normalize_to_unit_box(Mesh.load(folder / "mesh.obj").to_trimesh(), rotate_z=-270)
    ours = visible_points(mesh)
    assert (_directed(shipped, ours) + _directed(ours, shipped)) / 2 < 3e-4
