"""Near views, samples along rays and epipolar lines, against formulas written independently."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from mvdiff.cameras import Cameras, look_at, ring
from mvdiff.cameras.epipolar import (
    GRAZE,
    corners,
    epipolar_lines,
    into_views,
    nearest_views,
    ray_samples,
)

KINDS = ["perspective", "orthographic"]


def pinhole(
    *places: tuple[float, float, float],
    projection: str = "perspective",
    height: int = 6,
    width: int = 9,
) -> Cameras:
    """Cameras at these places that look along world z, with world axes."""
    K = torch.tensor([[10.0, 0, width / 2], [0, 8.0, height / 2], [0, 0, 1]]).double()
    w2c = torch.eye(3, 4).double().repeat(len(places), 1, 1)
    w2c[:, :, 3] = -torch.tensor(places).double()
    return Cameras(K.repeat(len(places), 1, 1), w2c, height, width, projection)


def turned(cameras: Cameras, angle: float) -> Cameras:
    """The same cameras at the same places, turned about their vertical axis."""
    c, s = math.cos(angle), math.sin(angle)
    turn = torch.tensor([[c, 0, s], [0, 1, 0], [-s, 0, c]], dtype=cameras.w2c.dtype)
    return Cameras(cameras.K, turn @ cameras.w2c, cameras.height, cameras.width, cameras.projection)


@pytest.mark.parametrize("projection", KINDS)
def test_near_views_wrap_around_the_ring(projection):
    near = nearest_views(ring(16, size=8, projection=projection), 4)
    assert near.shape == (16, 4)
    for i, row in enumerate(near.tolist()):
        # counter-clockwise first
        assert row == [(i + k) % 16 for k in (1, -1, 2, -2)]


def test_near_views_are_chosen_by_angle_not_by_distance():
    cameras = Cameras.cat(
        [look_at([0, 50], [0, 0], size=8), look_at([40, 180], [0, 0], distance=9, size=8)]
    )
    assert nearest_views(cameras, 3)[0].tolist() == [2, 1, 3]


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_near_views_do_not_depend_on_the_order_of_the_set(count):
    cameras = Cameras.cat([ring(6, size=8), ring(6, -20.0, azimuth=30, size=8)])
    order = torch.randperm(12, generator=torch.Generator().manual_seed(0))
    near, shuffled = nearest_views(cameras, count), nearest_views(cameras[order], count)
    assert torch.equal(order[shuffled], near[order])


def test_near_views_of_small_sets():
    assert nearest_views(ring(3, size=8), 5).shape == (3, 2)
    assert nearest_views(ring(1, size=8), 5).shape == (1, 0)
    at_origin = pinhole((0, 0, 0), (0, 0, -1), (0, 0, 1))
    # the one at the origin turns its back to -z, as the second stands there
    assert nearest_views(at_origin, 1)[0].tolist() == [1]


@pytest.mark.parametrize("projection", KINDS)
@pytest.mark.parametrize("seed", range(4))
def test_samples_lie_on_the_ray_of_their_pixels_center(random_cameras, projection, seed):
    cameras = random_cameras(seed, projection)
    points, position = ray_samples(cameras, 5, 0.8)
    assert points.dtype == torch.float64
    v, u = torch.meshgrid(
        torch.arange(cameras.height) + 0.5, torch.arange(cameras.width) + 0.5, indexing="ij"
    )
    for i in range(len(cameras)):
        uv, depth = cameras[i].project(points[i])
        ahead = depth[0] > 1e-6 if projection == "perspective" else torch.ones_like(depth[0]) > 0
        expected = torch.stack([u, v], dim=-1)[:, :, None].expand_as(uv[0]).double()
        torch.testing.assert_close(uv[0][ahead], expected[ahead], atol=1e-6, rtol=0)
    assert (position.diff(dim=-1) >= 0).all()


@pytest.mark.parametrize("projection", KINDS)
def test_samples_are_the_middles_of_equal_pieces_inside_the_sphere(projection):
    cameras = ring(5, size=12, projection=projection).to(torch.float64)
    points, position = ray_samples(cameras, 4, 0.6)
    origins, along = cameras.rays()
    apart = torch.linalg.cross(origins, along).norm(dim=-1)
    hit = apart < 0.55
    assert hit.any()
    assert (apart > 0.65).any()
    half = (0.36 - apart[hit] ** 2).sqrt()
    middle = -(origins * along).sum(-1)[hit]
    for k, share in enumerate((-0.75, -0.25, 0.25, 0.75)):
        expected = origins[hit] + along[hit] * (middle + share * half)[:, None]
        torch.testing.assert_close(points[hit][:, k], expected)
        torch.testing.assert_close(position[hit][:, k], share * half / 0.6)
    # a piece of half / 4 beyond the outermost samples lies the sphere itself
    ends = points[hit][:, -1] + along[hit] * half[:, None] / 4
    torch.testing.assert_close(ends.norm(dim=-1), torch.full_like(half, 0.6))


@pytest.mark.parametrize("projection", KINDS)
def test_rays_that_miss_the_sphere_are_sampled_where_they_come_nearest(projection):
    cameras = ring(3, size=12, projection=projection).to(torch.float64)
    points, _ = ray_samples(cameras, 3, 0.3)
    origins, along = cameras.rays()
    apart = torch.linalg.cross(origins, along).norm(dim=-1)
    miss = apart > 0.3
    # the middle one is the nearest point itself, the others lie by the stretch's third from it
    torch.testing.assert_close(points[miss][:, 1].norm(dim=-1), apart[miss])
    step = (points[miss][:, 2] - points[miss][:, 1]).norm(dim=-1)
    torch.testing.assert_close(step, torch.full_like(step, 2 * GRAZE * 0.3 / 3))


def test_a_camera_inside_the_sphere_samples_what_lies_before_it():
    cameras = pinhole((0, 0, 0.1))
    points, _ = ray_samples(cameras, 4, 1.0)
    depth = cameras.project(points[0])[1]
    assert (depth > 0).all()
    along = cameras.rays()[1][0]
    last = points[0][..., -1, :] - points[0][..., -2, :]
    torch.testing.assert_close(F.normalize(last, dim=-1), along)
    ends = points[0][..., -1, :] + last / 2
    torch.testing.assert_close(ends.norm(dim=-1), torch.ones_like(ends[..., 0]))


def test_into_views_by_hand():
    # view 1 stands one unit to the right of view 0; view 2 looks on from beyond the point
    cameras = pinhole((0, 0, -2), (1, 0, -2), (0, 0, 5))
    points = torch.tensor([0.5, 0.25, 0.0]).double().expand(3, 3)[:, None]
    uv, depth, seen = into_views(cameras, points, torch.tensor([[1, 2], [0, 2], [0, 1]]))
    # u = 10 · x/z + 4.5, v = 8 · y/z + 3
    torch.testing.assert_close(uv[0, 0, 0], torch.tensor([10 * -0.5 / 2 + 4.5, 4.0]).double())
    torch.testing.assert_close(uv[1, 0, 0], torch.tensor([10 * 0.5 / 2 + 4.5, 4.0]).double())
    assert depth[:, 0, 0].tolist() == [2, 2, 2]
    # view 2 has the point behind it: it sees nothing, and its own rays do not lead there
    assert seen[..., 0].tolist() == [[True, False], [True, False], [False, False]]
    # u = -0.5 lies outside of view 1, which stands too far to the right
    far = pinhole((0, 0, -2), (1.5, 0, -2))
    uv, _, seen = into_views(far, points[:2], torch.tensor([[1], [0]]))
    assert float(uv[0, 0, 0, 0]) == pytest.approx(-0.5)
    assert seen[:, 0, 0].tolist() == [False, True]


def test_orthographic_cameras_see_what_perspective_ones_would_have_behind_them():
    cameras = pinhole((0, 0, 5), (0.1, 0, 5), projection="orthographic")
    points = torch.zeros(2, 1, 3).double()
    uv, depth, seen = into_views(cameras, points, torch.tensor([[1], [0]]))
    assert seen.all()
    assert (depth == -5).all()
    torch.testing.assert_close(uv[0, 0, 0], torch.tensor([3.5, 3.0]).double())


@pytest.mark.parametrize(("height", "width"), [(5, 7), (1, 4), (3, 1)])
def test_corners_interpolate_as_grid_sample(height, width):
    g = torch.Generator().manual_seed(0)
    image = torch.randn(1, 2, height, width, generator=g).double()
    uv = torch.rand(50, 2, generator=g).double() * 2 * torch.tensor([width, height]) - 0.5
    number, weight = corners(uv, height, width)
    ours = (image.flatten(2)[0][:, number] * weight).sum(-1)
    grid = uv / torch.tensor([width, height]) * 2 - 1
    theirs = F.grid_sample(image, grid[None, None], padding_mode="border", align_corners=False)
    torch.testing.assert_close(ours, theirs[0, :, 0])


def test_corners_at_a_pixels_center_are_that_pixel():
    number, weight = corners(torch.tensor([[2.5, 1.5]]), 4, 6)
    assert weight[0].tolist() == [1, 0, 0, 0]
    assert int(number[0, 0]) == 1 * 6 + 2


def fundamental(cameras: Cameras, i: int, j: int) -> torch.Tensor:
    """F with x_jᵀ F x_i = 0 for perspective cameras: K_j⁻ᵀ [t]ₓ R K_i⁻¹."""
    R = cameras.R[j] @ cameras.R[i].T
    t = cameras.t[j] - R @ cameras.t[i]
    x, y, z = t
    zero = torch.zeros_like(x)
    cross = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero]).reshape(3, 3)
    return torch.linalg.inv(cameras.K[j]).T @ cross @ R @ torch.linalg.inv(cameras.K[i])


@pytest.mark.parametrize("seed", range(4))
def test_distances_are_those_of_the_fundamental_matrix(random_cameras, seed):
    cameras = random_cameras(seed)
    lines = epipolar_lines(cameras)
    uv = torch.rand(20, 2, generator=torch.Generator().manual_seed(seed)).double() * 40
    x = torch.cat([cameras.pixel_grid(), torch.ones_like(cameras.pixel_grid()[..., :1])], -1)
    q = torch.cat([uv, torch.ones(20, 1)], -1)
    for i in range(3):
        ours = lines.distance(i, uv)
        for j in range(3):
            if i == j:
                continue
            line = x @ fundamental(cameras, i, j).T
            expected = (line @ q.T).abs() / line[..., :2].norm(dim=-1, keepdim=True)
            torch.testing.assert_close(ours[:, :, j], expected, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("projection", KINDS)
@pytest.mark.parametrize("seed", range(4))
def test_what_a_pixel_may_show_lies_on_its_lines(random_cameras, projection, seed):
    cameras = random_cameras(seed, projection)
    lines = epipolar_lines(cameras)
    uv = cameras.pixel_grid().expand(3, -1, -1, -1)
    for depth in (0.3, 1.0, 4.0):
        points = cameras.unproject(uv, torch.full(uv.shape[:3], depth).double())
        for i in range(3):
            seen, z = cameras.project(points[i])
            for j in range(3):
                ahead = z[j] > 0.05 if projection == "perspective" else torch.ones_like(z[j]) > 0
                for r, c in ahead.nonzero()[::23].tolist():
                    away = lines.distance(i, seen[j, r, c])[r, c, j]
                    assert float(away) < 1e-6


@pytest.mark.parametrize("projection", KINDS)
def test_cameras_side_by_side_have_rows_for_lines(projection):
    cameras = pinhole((0, 0, -2), (0.3, 0, -2), projection=projection)
    if projection == "orthographic":  # in parallel their rays would be points
        cameras = Cameras.cat([cameras[0], turned(cameras, 0.4)[1]])
    away = epipolar_lines(cameras).distance(0, cameras.pixel_grid())[:, :, 1]
    rows = torch.arange(6).double()
    expected = (rows[:, None] - rows).abs()[:, None, :, None].expand_as(away)
    torch.testing.assert_close(away, expected, atol=1e-9, rtol=0)


def test_a_camera_that_moves_ahead_has_lines_through_its_center():
    cameras = pinhole((0, 0, -2), (0, 0, -1))
    away = epipolar_lines(cameras).distance(0, torch.tensor([4.5, 3.0]).double())
    torch.testing.assert_close(away[:, :, 1], torch.zeros(6, 9).double(), atol=1e-9, rtol=0)


@pytest.mark.parametrize("kind", ["same", "parallel orthographic", "turned in place"])
def test_rays_seen_end_on_are_points(kind):
    if kind == "parallel orthographic":
        cameras = pinhole((0, 0, -2), (0.3, 0, -1), projection="orthographic")
        shift = torch.tensor([-3.0, 0.0]).double()
    else:
        cameras, shift = pinhole((0, 0, -2), (0, 0, -2)), torch.zeros(2).double()
    expected = (cameras.pixel_grid() + shift).expand(1, -1, -1, -1)[0]
    if kind == "turned in place":
        cameras = Cameras.cat([cameras[0], turned(cameras, 0.2)[1]])
        # the homography of a turn, at any depth
        points = cameras[0].unproject(cameras.pixel_grid()[None], torch.full((1, 6, 9), 3.0))
        expected = cameras[1].project(points[0])[0][0]
    away = epipolar_lines(cameras).distance(0, cameras.pixel_grid())[:, :, 1]
    direct = (expected[:, :, None, None] - cameras.pixel_grid()).norm(dim=-1)
    torch.testing.assert_close(away, direct, atol=1e-6, rtol=0)


@pytest.mark.parametrize("projection", KINDS)
def test_in_its_own_view_a_ray_is_its_pixel(projection):
    cameras = ring(4, size=8, projection=projection)
    away = epipolar_lines(cameras).distance(2, cameras.pixel_grid())[:, :, 2]
    grid = cameras.pixel_grid()
    direct = (grid[:, :, None, None] - grid).norm(dim=-1)
    torch.testing.assert_close(away, direct, atol=1e-4, rtol=0)


def test_a_ray_without_an_image_is_infinitely_far():
    # the middle ray of view 0 runs in the plane of view 1's center across its axis
    cameras = pinhole((0, 0, -2), (0, 0, 0), width=9, height=5)
    cameras = Cameras.cat([cameras[0], turned(cameras, math.pi / 2)[1]])
    sideways = Cameras(cameras.K, cameras.w2c.clone(), 5, 9)
    sideways.w2c[1, :, 3] = torch.tensor([0.0, 0.3, 0.0])  # beside the ray, in its plane
    away = epipolar_lines(sideways).distance(0, sideways.pixel_grid())
    assert not away.isnan().any()
    assert (away[2, 4, 1] > 1e6).all()


@pytest.mark.parametrize("projection", KINDS)
def test_float32_is_as_good_as_float64_on_the_ring(projection):
    cameras = ring(16, size=16, projection=projection)
    precise = cameras.to(torch.float64)
    for i in (0, 5):
        ours = epipolar_lines(cameras).distance(i, cameras.pixel_grid())
        exact = epipolar_lines(precise).distance(i, precise.pixel_grid())
        assert float((ours - exact).abs().max()) < 1e-3
