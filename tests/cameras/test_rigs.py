"""Rings and angles; the published 16 views to 1e-6."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from mvdiff.cameras import look_at, ring, spherical
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
        centre = [math.cos(a) * math.cos(e), math.sin(a) * math.cos(e), math.sin(e)]
        expected = np.array([[*right, 0], [*down, 0], [*(-x for x in centre), 1.5]])
        assert np.abs(cameras.w2c[i].numpy() - expected).max() <= 1e-6
        assert np.abs(cameras.centers[i].numpy() - 1.5 * np.array(centre)).max() <= 1e-6
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
    azimuth, elevation, _ = spherical(ring())
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
    a, e, d = spherical(cameras)
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
    a = spherical(cameras)[0].double()
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
