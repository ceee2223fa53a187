"""Rings and angles; the published 16 views to 1e-6."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from mvdiff.cameras import is_ring, look_at, ring, to_spherical
from mvdiff.cameras.rigs import custom, sphere, spiral
from mvdiff.errors import MvdiffError


def test_the_default_ring_is_the_published_one():
    cameras = ring()
    assert (len(cameras), cameras.width, cameras.height) == (16, 256, 256)
    e = math.radians(30)
    for i in range(16):
        # Written out from the specification, section 1, in double precision.
        a = math.radians(22.5 * i)
        right = [-math.sin(a), math.cos(a), 0]
        down = [math.sin(e) * math.cos(a), math.sin(e) * math.sin(a), -math.cos(e)]
        center = [math.cos(a) * math.cos(e), math.sin(a) * math.cos(e), math.sin(e)]
        expected = np.array([[*right, 0], [*down, 0], [*(-x for x in center), 1.5]])
        assert np.abs(cameras.w2c[i].numpy() - expected).max() <= 1e-6
        assert np.abs(cameras.centers[i].numpy() - 1.5 * np.array(center)).max() <= 1e-6
        K = np.array([[280, 0, 128], [0, 280, 128], [0, 0, 1]])
        assert np.abs(cameras.K[i].numpy() - K).max() <= 1e-4
        uv, depth = cameras[i].project(torch.zeros(1, 3))
        assert uv.flatten().tolist() == pytest.approx([128, 128], abs=1e-4)
        assert float(depth) == pytest.approx(1.5)


def test_intrinsics_follow_the_size():
    assert torch.allclose(ring(size=32).K, ring().resize(32).K, atol=1e-5)
    assert ring(size=32).K[0, 0, 0] == pytest.approx(35)


def test_published_view_embedding_has_our_angles(shared_dir):
    golden = np.load(shared_dir / "golden" / "spatial_volume.npz")
    azimuth, elevation, _ = to_spherical(ring())
    embedding = golden["view_embedding"][0]
    ours = np.stack(
        [
            float(golden["elevation_rad"][0]) - elevation.numpy(),
            np.sin(azimuth.numpy() - float(azimuth[0])),
            np.cos(azimuth.numpy() - float(azimuth[0])),
            np.zeros(16),
        ],
        axis=1,
    )
    assert np.abs(ours - embedding).max() <= 1e-6


@settings(max_examples=80, deadline=None)
@given(st.floats(-720, 720), st.floats(-90, 90), st.floats(0.2, 10), st.booleans())
def test_spherical_inverts_look_at(azimuth, elevation, distance, flat):
    projection = "orthographic" if flat else "perspective"
    cameras = look_at([azimuth], [elevation], distance=distance, projection=projection)
    a, e, d = to_spherical(cameras)
    difference = (math.degrees(float(a)) - azimuth) % 360
    assert min(difference, 360 - difference) < 1e-3
    assert math.degrees(float(e)) == pytest.approx(elevation, abs=1e-3)
    assert float(d) == pytest.approx(distance, rel=1e-5)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 40), st.floats(-89, 89), st.floats(-360, 360), st.floats(10, 120))
def test_a_ring_is_even_and_looks_at_the_origin(count, elevation, azimuth, fov):
    cameras = ring(count, elevation, azimuth=azimuth, fov=fov, size=64)
    assert len(cameras) == count
    uv, depth = cameras.project(torch.zeros(1, 3))
    torch.testing.assert_close(uv, torch.full_like(uv, 32.0), atol=1e-3, rtol=0)
    torch.testing.assert_close(depth, torch.full_like(depth, 1.5))
    assume(count > 1)
    a = to_spherical(cameras)[0].double()
    step = (a.roll(-1) - a) % (2 * math.pi)
    torch.testing.assert_close(step, torch.full_like(step, 2 * math.pi / count), atol=1e-4, rtol=0)


def test_orthographic_shows_what_perspective_shows_at_the_origin():
    point = torch.tensor([[0.0, 0.3, 0.1]])  # at the origin's depth for a camera on +x
    flat, _ = look_at([0.0], [0.0], projection="orthographic").project(point)
    deep, _ = look_at([0.0], [0.0]).project(point)
    torch.testing.assert_close(flat, deep)


@pytest.mark.parametrize("elevation", [90.001, -91, math.nan, math.inf])
def test_elevation_out_of_range_is_refused(elevation):
    with pytest.raises(MvdiffError, match=r"elevation must lie in \[-90, 90\] degrees, got"):
        look_at([0.0], [elevation])
    with pytest.raises(MvdiffError, match="elevation"):
        ring(elevation=elevation)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"distance": 0.0}, "distance > 0"),
        ({"distance": math.nan}, "distance > 0"),
        ({"fov": 180.0}, "fov < 180"),
        ({"size": 0}, "size > 0"),
        ({"azimuth": math.nan}, "azimuths must be finite"),
        ({"count": 0}, "at least 1 camera"),
        ({"count": 10**12}, "at most"),
        ({"projection": "fisheye"}, r"'perspective'.*'orthographic'"),
    ],
)
def test_other_bad_numbers_are_refused(change, words):
    with pytest.raises(Exception, match=words) as caught:
        ring(**change)
    if "projection" not in change:  # the shape checker may get to a wrong literal first
        assert isinstance(caught.value, MvdiffError)


def test_angles_must_pair_up():
    with pytest.raises(MvdiffError, match="as many azimuths as elevations"):
        look_at([0.0, 1.0], [0.0])


def angles(cameras) -> tuple[list[float], list[float], list[float]]:
    azimuth, elevation, distance = to_spherical(cameras)
    return (
        (torch.rad2deg(azimuth) % 360).tolist(),
        torch.rad2deg(elevation).tolist(),
        distance.tolist(),
    )


def test_each_camera_may_have_its_own_distance():
    cameras = look_at([0.0, 90.0], [10.0, 20.0], distance=[1.0, 2.5], size=64)
    assert angles(cameras)[2] == pytest.approx([1.0, 2.5])
    assert torch.equal(cameras.K[0], cameras.K[1])
    flat = look_at([0.0, 90.0], [10.0, 20.0], distance=[1.0, 2.5], projection="orthographic")
    # each shows at the origin's depth what its perspective camera would
    assert float(flat.K[0, 0, 0] / flat.K[1, 0, 0]) == pytest.approx(2.5)
    with pytest.raises(MvdiffError, match=r"one distance, or as many.*got 3 distances and 2"):
        look_at([0.0, 90.0], [10.0, 20.0], distance=[1.0, 2.5, 3.0])
    with pytest.raises(MvdiffError, match="distance > 0"):
        look_at([0.0, 90.0], [10.0, 20.0], distance=[1.0, -1.0])


def test_a_spiral_climbs_evenly_and_goes_round():
    cameras = spiral(9, [-10.0, 30.0], 2.0, azimuth=15.0, distance=2.0, size=32)
    azimuth, elevation, distance = angles(cameras)
    expected = [(15 + 80 * i) % 360 for i in range(9)]
    assert azimuth == pytest.approx(expected, abs=1e-3)
    assert elevation == pytest.approx([-10 + 5 * i for i in range(9)], abs=1e-3)
    assert distance == pytest.approx([2.0] * 9)
    clockwise = angles(spiral(4, [60.0, 0.0], -1.0))
    assert clockwise[0] == pytest.approx([0, 270, 180, 90], abs=1e-3)
    assert clockwise[1] == pytest.approx([60, 40, 20, 0], abs=1e-3)
    assert angles(spiral(1, [20.0, 50.0], 1.0))[1] == pytest.approx([20], abs=1e-3)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 60), st.floats(-85, 85), st.floats(-85, 85))
def test_a_sphere_stays_between_its_elevations(count, first, last):
    azimuth, elevation, _ = angles(sphere(count, [first, last], azimuth=30.0))
    low, high = min(first, last), max(first, last)
    assert all(low - 1e-2 <= e <= high + 1e-2 for e in elevation)
    assert azimuth[0] == pytest.approx(30, abs=1e-3)


def test_a_sphere_is_covered_evenly():
    """No direction is farther from a camera than 1.7 times what equal patches would allow."""
    centers = sphere(64, [-90.0, 90.0], distance=1.0).centers
    generator = torch.Generator().manual_seed(0)
    directions = torch.nn.functional.normalize(torch.randn(2000, 3, generator=generator), dim=-1)
    nearest = torch.rad2deg(torch.acos((directions @ centers.T).amax(dim=1).clamp(max=1)))
    patch = math.degrees(math.acos(1 - 2 / 64))  # radius of a cap of 1/64 of the sphere
    assert float(nearest.max()) < 1.7 * patch
    # a ring of as many leaves the poles alone
    ringed = torch.rad2deg(torch.acos((directions @ ring(64, distance=1.0).centers.T).amax(dim=1)))
    assert float(ringed.max()) > 3 * float(nearest.max())


def test_free_cameras_are_where_they_are_put():
    cameras = custom([10.0, 200.0, 355.0], [0.0, -30.0, 80.0], [1.0, 1.5, 2.0], size=32)
    azimuth, elevation, distance = angles(cameras)
    assert azimuth == pytest.approx([10, 200, 355], abs=1e-3)
    assert elevation == pytest.approx([0, -30, 80], abs=1e-3)
    assert distance == pytest.approx([1.0, 1.5, 2.0])
    assert angles(custom([0.0, 5.0], 12.5))[1:] == (
        pytest.approx([12.5] * 2, abs=1e-3),
        pytest.approx([1.5] * 2),
    )
    assert torch.equal(custom([0.0, 180.0]).w2c, ring(2).w2c)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: custom([]), "at least one azimuth"),
        (
            lambda: custom([0.0, 1.0], [1.0, 2.0, 3.0]),
            r"rig.elevation must be.*got 3 for 2 azimuths",
        ),
        (lambda: custom([0.0], distance=[1.0, 2.0]), r"rig.distance must be.*got 2 for 1"),
        (lambda: custom([0.0], 91.0), r"elevation must lie in \[-90, 90\]"),
        (lambda: spiral(4, [0.0], 1.0), r"rig 'spiral' needs elevation=\[first,last\]"),
        (lambda: sphere(4, [0.0, 95.0]), r"elevation must lie in \[-90, 90\] degrees, got 95"),
        (lambda: sphere(0, [0.0, 9.0]), "at least 1 camera, got count=0"),
        (lambda: spiral(0, [0.0, 9.0], 1.0), "at least 1 camera, got count=0"),
        (lambda: spiral(2, [0.0, 9.0], math.nan), "azimuths must be finite"),
    ],
)
def test_rigs_that_cannot_be_are_one_sentence(make, words):
    with pytest.raises(MvdiffError, match=words) as caught:
        make()
    assert "\n" not in str(caught.value)


def test_what_an_even_ring_is():
    assert is_ring(ring(7, 12.0, azimuth=200.0))
    assert is_ring(ring(1))
    assert not is_ring(ring(8)[[0, 1, 2, 3, 4, 5, 7, 6]])
    assert not is_ring(ring(8)[:7])
    assert not is_ring(look_at([0.0, 180.0], [10.0, 11.0]))
    assert not is_ring(look_at([0.0, 180.0], [10.0, 10.0], distance=[1.5, 1.6]))
    assert not is_ring(sphere(8, [-20.0, 60.0]))
