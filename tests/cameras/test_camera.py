"""The camera convention: round trips for both projections."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mvdiff.cameras import Cameras, look_at
from mvdiff.errors import MvdiffError

seeds = st.integers(0, 2**31)
projections = st.sampled_from(["perspective", "orthographic"])


@settings(max_examples=40, deadline=None)
@given(seeds, projections)
def test_project_inverts_unproject(random_cameras, seed, projection):
    cameras = random_cameras(seed, projection)
    g = torch.Generator().manual_seed(seed)
    uv = torch.rand(3, 5, 7, 2, generator=g, dtype=torch.float64) * 40
    depth = torch.rand(3, 5, 7, generator=g, dtype=torch.float64) + 0.1
    points = cameras.unproject(uv, depth)
    for i in range(3):
        again, z = cameras[i].project(points[i])
        torch.testing.assert_close(again[0], uv[i])
        torch.testing.assert_close(z[0], depth[i])


@settings(max_examples=40, deadline=None)
@given(seeds, projections)
def test_unproject_inverts_project(random_cameras, seed, projection):
    cameras = random_cameras(seed, projection)
    g = torch.Generator().manual_seed(seed)
    # In front of every camera, so that pixel coordinates mean something.
    local = torch.randn(3, 6, 3, generator=g, dtype=torch.float64).abs() + 0.1
    points = torch.einsum("vji,vpj->vpi", cameras.R, local - cameras.t[:, None])
    uv, depth = cameras.project(points[0])
    torch.testing.assert_close(cameras[0].unproject(uv[:1], depth[:1])[0], points[0])


@settings(max_examples=30, deadline=None)
@given(seeds, projections, st.sampled_from([0.0, 0.5]))
def test_rays_pass_through_their_pixels(random_cameras, seed, projection, offset):
    cameras = random_cameras(seed, projection)
    origins, directions = cameras.rays(offset)
    torch.testing.assert_close(directions.norm(dim=-1), torch.ones_like(directions[..., 0]))
    for distance in (0.3, 2.0):
        for i in range(len(cameras)):
            uv, depth = cameras[i].project(origins[i] + distance * directions[i])
            torch.testing.assert_close(uv[0], cameras.pixel_grid(offset))
            assert (depth > 0).all()


@settings(max_examples=30, deadline=None)
@given(seeds, projections)
def test_pluecker_names_the_line_and_not_the_point(random_cameras, seed, projection):
    cameras = random_cameras(seed, projection)
    line = cameras.pluecker()
    direction, moment = line[:, :3], line[:, 3:]
    torch.testing.assert_close(
        (direction * moment).sum(dim=1), torch.zeros_like(line[:, 0]), atol=1e-12, rtol=0
    )
    origins, directions = cameras.rays()
    for distance in (-1.0, 0.7, 5.0):
        point = origins + distance * directions
        there = torch.linalg.cross(point, directions).permute(0, 3, 1, 2)
        torch.testing.assert_close(there, moment)


@settings(max_examples=30, deadline=None)
@given(seeds, projections, st.integers(1, 50), st.integers(1, 50))
def test_resize_keeps_directions_and_scales_pixels(random_cameras, seed, projection, height, width):
    cameras = random_cameras(seed, projection)
    small = cameras.resize(height, width)
    points = torch.randn(4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    (uv, depth), (resized, same) = cameras.project(points), small.project(points)
    scale = uv.new_tensor([width / cameras.width, height / cameras.height])
    torch.testing.assert_close(resized, uv * scale)
    torch.testing.assert_close(same, depth)
    torch.testing.assert_close(small.resize(cameras.height, cameras.width).K, cameras.K)


@settings(max_examples=30, deadline=None)
@given(seeds)
def test_centers_and_c2w_agree(random_cameras, seed):
    cameras = random_cameras(seed)
    torch.testing.assert_close(cameras.c2w[:, :3, 3], cameras.centers)
    torch.testing.assert_close(cameras.c2w[:, :3, :3], cameras.R.mT)


def test_axes_are_opencv():
    # From +x, looking at the origin: +y is to the right, +z up, depth grows away from us.
    camera = look_at([0.0], [0.0], distance=2.0, fov=90.0, size=100)
    uv, depth = camera.project(torch.eye(3))
    torch.testing.assert_close(depth[0], torch.tensor([1.0, 2.0, 2.0]))
    torch.testing.assert_close(uv[0], torch.tensor([[50.0, 50.0], [75.0, 50.0], [50.0, 25.0]]))


def test_orthographic_scale_does_not_depend_on_depth():
    camera = look_at([0.0], [0.0], distance=2.0, fov=90.0, size=100, projection="orthographic")
    uv, depth = camera.project(torch.tensor([[0.0, 1.0, 0.0], [1.0, 1.0, 0.0]]))
    torch.testing.assert_close(depth[0], torch.tensor([2.0, 1.0]))
    torch.testing.assert_close(uv[0], torch.tensor([[75.0, 50.0], [75.0, 50.0]]))


def test_pixel_centers_have_the_half():
    camera = look_at([0.0], [0.0], size=4)
    assert camera.pixel_grid()[0, 0].tolist() == [0.5, 0.5]
    assert camera.pixel_grid()[3, 1].tolist() == [1.5, 3.5]


def test_points_in_the_plane_of_the_camera_stay_finite():
    uv, depth = look_at([0.0], [0.0]).project(torch.tensor([[1.5, 0.3, 0.2]]))
    assert float(depth) == pytest.approx(0, abs=1e-6)
    assert uv.isfinite().all()


def test_indexing_joining_and_field_of_view(random_cameras):
    cameras = random_cameras(0, count=4)
    assert len(cameras[2]) == 1
    joined = Cameras.cat([cameras[:2], cameras[[2, 3]]])
    assert torch.equal(joined.w2c, cameras.w2c)
    assert look_at([0.0], [0.0], fov=33.0).fov_y == pytest.approx(33.0, abs=1e-4)
    with pytest.raises(MvdiffError, match="different image size"):
        Cameras.cat([cameras, cameras.resize(7)])


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("field", ["K", "w2c"])
def test_broken_numbers_are_refused(random_cameras, field, value):
    cameras = random_cameras(0)
    tensors = {"K": cameras.K.clone(), "w2c": cameras.w2c.clone()}
    tensors[field][0, 0, 0] = value
    with pytest.raises(MvdiffError, match="NaN or infinite"):
        Cameras(**tensors, height=4, width=4)
