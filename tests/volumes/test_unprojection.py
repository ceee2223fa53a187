"""Lifting and looking up are exact on functions that linear interpolation reproduces."""

from __future__ import annotations

import torch
from helpers.tiny_recipe import randomize

from mvdiff.cameras import Cameras, look_at, ring
from mvdiff.cameras.frustum import frustum_points
from mvdiff.volumes.frustum_net import FrustumNet
from mvdiff.volumes.unprojection import grid_points, lift, look_up, seen

SIDE = 16


def ramp(cameras: Cameras, offset: float = 0.5) -> torch.Tensor:
    """Each pixel holds its own (u, v): what lifting samples there is where the point projects."""
    return cameras.pixel_grid(offset).permute(2, 0, 1)[None, None]


def well_inside(uv: torch.Tensor, margin: float = 1.0) -> torch.Tensor:
    return ((uv > margin) & (uv < SIDE - margin)).all(dim=-1)


def test_grid_points_include_the_corners_and_have_axes_z_y_x():
    points = grid_points(5, 0.6, torch.zeros(1))
    assert points.shape == (5, 5, 5, 3)
    assert points[0, 0, 0].tolist() == points.new_tensor([-0.6, -0.6, -0.6]).tolist()
    torch.testing.assert_close(points[4, 1, 2], torch.tensor([0.0, -0.3, 0.6]))


def test_every_view_is_sampled_where_its_camera_projects_to():
    for projection in ("perspective", "orthographic"):
        cameras = ring(3, size=SIDE, projection=projection)
        points = grid_points(6, 0.4, torch.zeros(1))
        features = ramp(cameras).expand(2, 3, 2, SIDE, SIDE)
        lifted = lift(features, cameras, points)
        assert lifted.shape == (2, 3, 2, 6, 6, 6)
        uv, _ = cameras.project(points)
        inside = well_inside(uv)
        assert inside.float().mean() > 0.5
        found = lifted[1].permute(0, 2, 3, 4, 1)
        torch.testing.assert_close(found[inside], uv[inside], atol=1e-4, rtol=0)


def test_the_published_offset_takes_pixel_centers_at_whole_numbers():
    cameras = ring(1, size=SIDE)
    points = grid_points(4, 0.3, torch.zeros(1))
    lifted = lift(ramp(cameras, 0.0), cameras, points, offset=0.0)[0, 0]
    uv, _ = cameras.project(points)
    torch.testing.assert_close(lifted.permute(1, 2, 3, 0), uv[0], atol=1e-4, rtol=0)


def test_points_outside_a_picture_get_zeros():
    cameras = look_at([0.0], [0.0], size=SIDE, fov=10.0)
    points = grid_points(5, 0.5, torch.zeros(1))
    lifted = lift(torch.ones(1, 1, 1, SIDE, SIDE), cameras, points)
    assert lifted[0, 0, 0, 2, 2, 2] == 1
    assert lifted[0, 0, 0, 2, 0, 2] == 0
    assert lifted[0, 0, 0, 4, 2, 2] == 0


def test_points_behind_a_camera_get_zeros():
    # the camera stands on +x within the grid, the point behind it projects into the picture
    cameras = look_at([0.0], [0.0], distance=0.2, size=SIDE)
    points = torch.tensor([[[[0.1, 0.0, 0.0], [0.4, 0.0, 0.0]]]])
    lifted = lift(torch.ones(1, 1, 1, SIDE, SIDE), cameras, points)
    assert lifted.flatten().tolist() == [1, 0]
    assert seen(cameras, points, 1, 1).flatten().tolist() == [True, False]


def test_a_view_sees_to_the_edge_of_its_picture_and_no_further():
    cameras = look_at([0.0], [0.0], size=SIDE, projection="orthographic")
    half = SIDE / 2 / float(cameras.K[0, 0, 0])  # world units from the axis to the edge
    at = torch.tensor([0.0, 0.99, 1.01, -0.99, -1.01]) * half
    for axis in (1, 2):
        points = torch.zeros(1, 1, 5, 3)
        points[..., axis] = at
        found = seen(cameras, points, 2, 1)
        assert found.shape == (2, 1, 1, 1, 5)
        assert found[1].flatten().tolist() == [True, True, False, True, False]
        # within the edge, what lies beyond the last pixel's center does not fade
        ones = torch.ones(1, 1, 1, SIDE, SIDE)
        assert lift(ones, cameras, points, edge="border")[0, 0, 0, 0, 0, :2].tolist() == [1, 1]
        assert lift(ones, cameras, points)[0, 0, 0, 0, 0, 1] < 0.7


def test_half_precision_does_not_reach_the_geometry():
    cameras, points = ring(3, size=SIDE), grid_points(6, 0.4, torch.zeros(1))
    features = ramp(cameras).expand(1, 3, 2, SIDE, SIDE)
    with torch.autocast("cpu", torch.bfloat16):
        lifted, frustum = lift(features, cameras, points), frustum_points(cameras, 4, 0.5)
    assert torch.equal(lifted, lift(features, cameras, points))
    assert torch.equal(frustum, frustum_points(cameras, 4, 0.5))


def test_cameras_for_each_object_and_view():
    sets = [ring(3, size=SIDE), ring(3, elevation=-20.0, azimuth=50.0, size=SIDE)]
    points = grid_points(4, 0.3, torch.zeros(1))
    features = ramp(sets[0]).expand(2, 3, 2, SIDE, SIDE)
    lifted = lift(features, Cameras.cat(sets), points)
    for i, cameras in enumerate(sets):
        assert torch.equal(lifted[i], lift(features[:1], cameras, points)[0])


def test_one_view_an_object_uses_that_objects_camera():
    cameras = look_at([0.0, 90.0], [10.0, 40.0], size=SIDE)
    points = grid_points(4, 0.3, torch.zeros(1))
    lifted = lift(ramp(cameras).expand(2, 1, 2, SIDE, SIDE), cameras, points)
    uv, _ = cameras.project(points)
    torch.testing.assert_close(lifted[:, 0].permute(0, 2, 3, 4, 1), uv, atol=1e-4, rtol=0)


def test_looking_up_a_linear_field_is_exact_inside_and_zero_outside():
    points = grid_points(7, 0.5, torch.zeros(1))
    slope = torch.tensor([1.0, -2.0, 3.0])
    field = torch.stack([points @ slope, points @ slope + 1])[None]
    cameras = ring(3, size=8)
    where = frustum_points(cameras, 6, 0.5)
    found = look_up(field, where, bound=0.5)
    assert found.shape == (1, 3, 2, 6, 8, 8)
    inside = (where.abs() < 0.5).all(dim=-1)
    assert 0.1 < inside.float().mean() < 0.9
    torch.testing.assert_close(found[0, :, 0][inside], (where @ slope)[inside], atol=1e-5, rtol=0)
    outside = (where.abs() > 0.7).any(dim=-1)
    assert found[0, :, 1][outside].abs().max() == 0


def test_frustum_planes_span_the_ball_around_the_origin():
    cameras = ring(3, size=8, distance=1.5)
    points = frustum_points(cameras, 5, 0.6)
    for i in range(3):
        uv, depth = cameras[i].project(points[i])
        expected = torch.linspace(0.9, 2.1, 5)[:, None, None].expand(5, 8, 8)
        torch.testing.assert_close(depth[0], expected, atol=1e-5, rtol=0)
        grid = cameras.pixel_grid().expand(5, 8, 8, 2)
        torch.testing.assert_close(uv[0], grid, atol=1e-4, rtol=0)


def test_planes_behind_a_near_camera_lie_at_it():
    cameras = look_at([0.0], [0.0], distance=0.3, size=4)
    points = frustum_points(cameras, 5, 0.6)  # depths -0.3, 0, 0.3, 0.6, 0.9
    _, depth = cameras.project(points)
    expected = torch.tensor([1e-4, 1e-4, 0.3, 0.6, 0.9])[:, None, None].expand(5, 4, 4)
    torch.testing.assert_close(depth[0, 0], expected, atol=1e-6, rtol=0)
    center = cameras.centers[0].expand(4, 4, 3)
    torch.testing.assert_close(points[0, 0], center, atol=1e-3, rtol=0)


def test_lifted_and_looked_up_again_a_mark_lies_on_its_own_ray():
    """A mark in one view, carried into space and back, is seen by that view at the same pixel."""
    cameras = ring(4, size=SIDE)
    features = torch.zeros(1, 4, 1, SIDE, SIDE)
    features[0, 2, 0, 8, 5] = 1
    points = grid_points(32, 0.5, features)
    world = lift(features, cameras, points).sum(dim=1)
    seen = look_up(world, frustum_points(cameras[2], 12, 0.5), 0.5)[0, 0, 0].sum(dim=0)
    assert divmod(int(seen.argmax()), SIDE) == (8, 5)


def test_frusta_halve_in_every_axis_from_level_to_level():
    net = randomize(
        FrustumNet(
            channels=8, dims=[8, 16, 24], planes=8, radius=0.5, bound=0.5, time_dim=4, pose_dim=4
        )
    )
    levels = net(torch.rand(2, 8, 8, 8, 8), ring(3, size=8), torch.rand(2, 4), torch.rand(2, 3, 4))
    shapes = {factor: tuple(level.shape) for factor, level in levels.items()}
    assert shapes == {1: (2, 3, 8, 8, 8, 8), 2: (2, 3, 16, 4, 4, 4), 4: (2, 3, 24, 2, 2, 2)}
    assert net.channels == {1: 8, 2: 16, 4: 24}
