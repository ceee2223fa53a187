"""Epipolar attention on real geometry: a change in one view reaches the matching pixels."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from helpers.epipolar_attentions import (
    CHANNELS,
    KINDS,
    RADIUS,
    features,
    masked,
    sampled,
    scene,
)
from helpers.tiny_recipe import toy_config
from torch import Tensor

from mvdiff.attention import epipolar
from mvdiff.attention.base import ViewAttention
from mvdiff.attention.epipolar import interpolate, sample
from mvdiff.attention.epipolar_masked import Bands
from mvdiff.cameras import Cameras, look_at, ring
from mvdiff.cameras.epipolar import into_views, nearest_views, ray_samples


def moved(module: ViewAttention, cameras: Cameras, view: int, row: int, column: int) -> Tensor:
    """(view, height, width): where the output moves when one pixel's features change."""
    x = features(cameras)
    planted = x.clone()
    planted[0, view, :, row, column] += torch.linspace(-2, 2, CHANNELS).sin() * 3
    change = (module(planted, scene(cameras)) - module(x, scene(cameras))).abs().amax(dim=2)[0]
    return change > 1e-7


def place(cameras: Cameras, point: tuple[float, float, float], view: int) -> tuple[int, int]:
    """Row and column of the pixel that shows a world point."""
    u, v = cameras[view].project(torch.tensor(point, dtype=cameras.K.dtype))[0][0].tolist()
    return int(v), int(u)


def line_distance(cameras: Cameras, j: int, row: int, column: int, i: int) -> Tensor:
    """(height, width): pixels of view i to the image of a pixel's ray of view j.

    Two points of the ray at known depths span the line: no homogeneous coordinates, no
    fundamental matrix.
    """
    cameras = cameras.to(torch.float64)
    uv = torch.tensor([[[column + 0.5, row + 0.5]] * 2]).double()
    depth = cameras.t[j, 2] + torch.tensor([[-0.5, 0.5]]).double()
    a, b = cameras[i].project(cameras[j].unproject(uv, depth)[0])[0][0]
    along = (b - a) / (b - a).norm()
    away = cameras.pixel_grid() - a
    return (away[..., 0] * along[1] - away[..., 1] * along[0]).abs()


POINTS = [(0.15, 0.1, 0.05), (-0.2, 0.25, -0.15), (0.0, -0.3, 0.2)]


@pytest.mark.parametrize("projection", KINDS)
@pytest.mark.parametrize("point", POINTS)
def test_sampling_carries_a_point_to_its_pixel_and_to_no_far_one(projection, point):
    cameras = ring(8, size=64, projection=projection).resize(16, 20)
    j, near = 3, [2, 4]
    change = moved(sampled(), cameras, j, *place(cameras, point, j))
    for i in range(8):
        if i == j:
            # its own query moves, at its own pixel
            assert change[i].nonzero().tolist() == [list(place(cameras, point, j))]
        elif i in near:
            assert change[i][place(cameras, point, i)]
            # bilinear samples reach one pixel far in each direction of view j
            away = line_distance(cameras, j, *place(cameras, point, j), i)
            assert float(away[change[i]].max()) < 1.6
            assert int(change[i].sum()) < 16 * 20 / 4
        else:
            assert not change[i].any()


@pytest.mark.parametrize("projection", KINDS)
@pytest.mark.parametrize("point", POINTS)
def test_the_band_moves_where_a_pixel_lies_near_the_line_and_nowhere_else(projection, point):
    # few pixels, so that no softmax weight drowns in rounding
    cameras = ring(4, size=64, projection=projection).resize(8, 10)
    module, j = masked(), 1
    row, column = place(cameras, point, j)
    change = moved(module, cameras, j, row, column)
    assert change[j].all()  # the own view is not masked
    for i in (0, 2, 3):
        assert change[i][place(cameras, point, i)]
        # the band belongs to the querying pixel's line: ask each pixel of view i for its line
        allowed = torch.zeros(8, 10, dtype=torch.bool)
        for r in range(8):
            for c in range(10):
                allowed[r, c] = line_distance(cameras, i, r, c, j)[row, column] <= 1.5
        assert torch.equal(change[i], allowed)
        assert 0.1 < allowed.float().mean() < 0.9


@pytest.mark.parametrize("projection", KINDS)
def test_samples_show_the_near_view_where_the_point_is(projection):
    """Half a pixel off, or a view mistaken for another, would show here."""
    cameras = ring(6, size=64, projection=projection).resize(12, 15).to(torch.float64)
    places = sample(cameras, 3, 5, RADIUS)
    # features that are the pixel's own coordinates and view: interpolation keeps them exact
    grid = cameras.pixel_grid().flatten(0, 1)
    near = nearest_views(cameras, 3)
    points, _ = ray_samples(cameras, 5, RADIUS)
    uv, _, seen = into_views(cameras, points, near)
    for i in range(6):
        rows = torch.cat(
            [torch.cat([grid, torch.full_like(grid[:, :1], j)], 1) for j in places.near[i]]
        )
        got = interpolate(rows[None], places.pixels[i], places.weights[i])[0]
        got = got.reshape(12, 15, 3, 5, 3).movedim(2, 0)
        views = near[i].double()[:, None, None, None].expand(got.shape[:-1])
        torch.testing.assert_close(got[..., 2], views)
        size = torch.tensor([15.0, 12.0])
        inside = ((uv[i] >= 0.5) & (uv[i] <= size - 0.5)).all(-1)
        assert inside.float().mean() > 0.7
        torch.testing.assert_close(got[..., :2][inside], uv[i][inside])
        flags = places.seen[i].reshape(12, 15, 3, 5).movedim(2, 0)
        assert torch.equal(flags, seen[i])


@pytest.mark.parametrize("projection", KINDS)
def test_a_pixels_result_by_the_plain_formula(projection):
    """Head by head with grid_sample and exp; two objects, of which each sees itself alone."""
    cameras = ring(5, size=64, projection=projection).resize(6, 7).to(torch.float64)
    module = sampled(num_neighbors=2, samples=3).double()
    x = features(cameras, batch=2).double()
    out = module(x, scene(cameras))
    near = nearest_views(cameras, 2)
    points, position = ray_samples(cameras, 3, RADIUS)
    uv, depth, seen = into_views(cameras, points, near)
    tokens = module.tokens(x, epipolar.pixel_rays(cameras))
    q, k, v = (to(tokens) for to in (module.to_q, module.to_k, module.to_v))
    at_origin = cameras.project(torch.zeros(3).double())[1]
    for b, i, r, c in [(0, 0, 2, 3), (1, 3, 4, 1), (1, 4, 0, 6)]:
        keys, values = [], []
        for n, j in enumerate(near[i].tolist()):
            place = uv[i, n, r, c] / torch.tensor([7, 6]) * 2 - 1
            far = (depth[i, n, r, c] - at_origin[j]) / RADIUS
            both = torch.stack([position[i, r, c], far], dim=-1)
            waves = [f(both * torch.pi * 2**o) for f in (torch.sin, torch.cos) for o in range(4)]
            # one number's octaves after the other's
            rows = [torch.stack(w, -1).flatten(-2) for w in (waves[:4], waves[4:])]
            code = torch.cat([both, *rows], dim=-1)
            for maps, layer, found in ((k, module.depth_k, keys), (v, module.depth_v, values)):
                image = maps[b, j].T.reshape(1, CHANNELS, 6, 7)
                at = F.grid_sample(
                    image, place[None, None], align_corners=False, padding_mode="border"
                )
                found.append((at[0, :, 0].T + layer(code))[seen[i, n, r, c]])
        key, value, query = torch.cat(keys), torch.cat(values), q[b, i, r * 7 + c]
        width = CHANNELS // 2
        heads = []
        for h in (slice(0, width), slice(width, CHANNELS)):
            weight = (key[:, h] @ query[h] / width**0.5).exp()
            heads.append((weight[:, None] * value[:, h]).sum(0) / weight.sum())
        expected = x[b, i, :, r, c] + module.out(torch.cat(heads))
        torch.testing.assert_close(out[b, i, :, r, c], expected)


def ball(count: int, seed: int = 0) -> Tensor:
    g = torch.Generator().manual_seed(seed)
    points = torch.randn(count, 3, generator=g)
    return points / points.norm(dim=1, keepdim=True) * RADIUS * torch.rand(count, 1, generator=g)


@pytest.mark.parametrize("projection", KINDS)
@pytest.mark.parametrize("shape", [(16, 16), (8, 12)])
def test_the_band_of_the_recipe_loses_no_match(projection, shape):
    """Every point's pixel in any view lies in the band of its pixel in any other."""
    width = toy_config("attention=epipolar_mask").attention.width
    side = max(shape)
    cameras = ring(16, size=side, projection=projection).resize(*shape)
    bands = Bands(cameras, width)
    uv, _ = cameras.project(ball(200))
    column, row = uv[..., 0].long(), uv[..., 1].long()
    size = torch.tensor([shape[1], shape[0]])
    inside = ((uv >= 0) & (uv < size)).all(-1)
    number = row * shape[1] + column
    for i in range(16):
        allowed = bands.mask(i).reshape(shape[0] * shape[1], 16, -1)
        both = inside[i] & inside
        hits = torch.stack([allowed[number[i], j, number[j]] for j in range(16)])
        assert hits[both].all()
        assert allowed.float().mean() < 0.5


def test_a_points_pixel_is_among_the_samples():
    cameras = ring(16, size=16)
    points = ball(100)
    places = sample(cameras, 4, 8, RADIUS)
    uv, _ = cameras.project(points)
    column, row = uv[..., 0].long(), uv[..., 1].long()
    inside = ((uv >= 0) & (uv < 16)).all(-1)
    grid = cameras.pixel_grid()
    u = interpolate(grid.reshape(1, -1, 2).repeat(1, 4, 1), places.pixels[0], places.weights[0])
    samples = u.reshape(256, 4, 8, 2)
    found = 0
    for p in inside[0].nonzero()[:, 0].tolist():
        for k, j in enumerate(places.near[0]):
            if inside[j, p]:
                at = samples[int(row[0, p]) * 16 + int(column[0, p]), k]
                assert float((at - uv[j, p]).norm(dim=-1).min()) < 1.9
                found += 1
    assert found > 200


@pytest.mark.parametrize("projection", KINDS)
def test_views_that_see_nothing_of_the_ray_leave_the_features(projection):
    cameras = look_at([0, 90], [0, 0], size=8, projection=projection)
    away = cameras.w2c.clone()
    away[1, 0, 3] += 50  # far to the side, the sphere out of its picture
    cameras = replace(cameras, w2c=away)
    x = features(cameras)
    out = sampled(num_neighbors=1)(x, scene(cameras))
    assert torch.equal(out[:, 0], x[:, 0])


def test_unseen_samples_do_not_count():
    # a near view whose picture shows a part of the sphere alone
    cameras = ring(2, size=16)
    K = cameras.K.clone()
    K[1, 0, 2] += 10
    cameras = replace(cameras, K=K)
    places = sample(cameras, 1, 8, RADIUS)
    seen = places.seen[0].any(-1).reshape(16, 16)
    assert 0.1 < seen.float().mean() < 0.9
    x = features(cameras)
    out = sampled(num_neighbors=1)(x, scene(cameras))
    unchanged = (out[0, 0] == x[0, 0]).all(dim=0)
    assert torch.equal(unchanged, ~seen)
