"""COLMAP's text model: round trips, the files' form, broken files."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mvdiff.cameras import ring
from mvdiff.cameras.colmap import (
    quaternion_to_rotation,
    read_colmap,
    rotation_to_quaternion,
    write_colmap,
)
from mvdiff.errors import MvdiffError

NAMES = ["a.png", "b/c.png", "d.png"]


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**31))
def test_round_trip(tmp_path_factory, random_cameras, seed):
    folder, cameras = tmp_path_factory.mktemp("c"), random_cameras(seed).to(torch.float32)
    write_colmap(folder, cameras, NAMES)
    again, names = read_colmap(folder)
    assert names == NAMES
    assert torch.equal(again.K, cameras.K)
    torch.testing.assert_close(again.w2c, cameras.w2c, atol=2e-6, rtol=0)
    assert torch.equal(again.t, cameras.t)
    assert (again.height, again.width) == (cameras.height, cameras.width)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(-1, 1), min_size=4, max_size=4).filter(lambda q: any(map(abs, q))))
def test_quaternions(q):
    q = torch.tensor([q], dtype=torch.float64)
    q = q / q.abs().max()  # tiny lengths would underflow
    R = quaternion_to_rotation(q)
    torch.testing.assert_close(R @ R.mT, torch.eye(3, dtype=torch.float64)[None])
    assert float(torch.linalg.det(R)) == pytest.approx(1)
    torch.testing.assert_close(quaternion_to_rotation(rotation_to_quaternion(R)), R)


def test_a_quarter_turn_about_z_has_the_known_quaternion():
    R = torch.tensor([[[0.0, -1, 0], [1, 0, 0], [0, 0, 1]]], dtype=torch.float64)
    expected = torch.tensor([[0.5**0.5, 0, 0, 0.5**0.5]], dtype=torch.float64)
    torch.testing.assert_close(rotation_to_quaternion(R), expected)
    torch.testing.assert_close(quaternion_to_rotation(expected), R)


def test_the_files_have_colmap_s_form(tmp_path):
    write_colmap(tmp_path, ring(2), ["a.png", "b.png"])
    lens = (tmp_path / "cameras.txt").read_text().splitlines()
    assert lens[1:] == ["1 PINHOLE 256 256 280.0 280.0 128.0 128.0"]
    images = (tmp_path / "images.txt").read_text().splitlines()[1:]
    assert [line.split()[8:] for line in images[::2]] == [["1", "a.png"], ["1", "b.png"]]
    assert images[1::2] == ["", ""]
    assert (tmp_path / "points3D.txt").exists()


def test_simple_pinhole_points_and_order(tmp_path):
    (tmp_path / "cameras.txt").write_text("# lenses\n7 SIMPLE_PINHOLE 20 10 15 10 5\n")
    (tmp_path / "images.txt").write_text(
        "# images\n2 1 0 0 0 0 0 1 7 two.png\n3.5 4.5 -1 7.5 1.5 12\n"
        "1 2 0 0 0 0.5 0 1 7 one.png\n\n"
    )
    cameras, names = read_colmap(tmp_path)
    assert names == ["one.png", "two.png"]
    assert cameras.K[0].tolist() == [[15, 0, 10], [0, 15, 5], [0, 0, 1]]
    assert torch.equal(cameras.R[0], torch.eye(3))  # the quaternion's length does not matter
    assert cameras.t[0].tolist() == [0.5, 0, 1]


def test_what_colmap_cannot_hold_is_refused(tmp_path):
    cameras = ring(1)
    with pytest.raises(MvdiffError, match="no orthographic camera"):
        write_colmap(tmp_path, ring(1, projection="orthographic"), ["a.png"])
    with pytest.raises(MvdiffError, match="without blanks"):
        write_colmap(tmp_path, cameras, ["a b.png"])
    with pytest.raises(MvdiffError, match="1 cameras need as many"):
        write_colmap(tmp_path, cameras, [])
    skewed = cameras.K.clone()
    skewed[:, 0, 1] = 1
    with pytest.raises(MvdiffError, match="no skew"):
        write_colmap(tmp_path, type(cameras)(skewed, cameras.w2c, 256, 256), ["a.png"])
    with pytest.raises(MvdiffError, match="rotations only"):
        write_colmap(tmp_path, type(cameras)(cameras.K, -cameras.w2c, 256, 256), ["a.png"])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("file", "text", "words"),
    [
        ("cameras.txt", "1 OPENCV 8 8 9 9 4 4 .1 0 0 0\n", "lens distortion"),
        ("cameras.txt", "1 FOV 8 8 9 9 4 4 .1\n", "model FOV"),
        ("cameras.txt", "1 THIN_PRISM_FISHEYE 8 8 9 9 4 4 0 0 0 0 0 0 0 0\n", "model THIN_PRISM"),
        ("cameras.txt", "1 PINHOLE 0 8 1 1 4 4\n", "size 0×8"),
        ("cameras.txt", "1 PINHOLE -8 8 1 1 4 4\n", "size -8×8"),
        ("cameras.txt", f"1 PINHOLE {'9' * 400} 8 1 1 4 4\n", "size a huge number×8"),
        ("cameras.txt", f"1 PINHOLE {'9' * 5000} 8 1 1 4 4\n", "broken camera line"),
        ("cameras.txt", "1 PINHOLE 8 8 1e400 1 4 4\n", "finite numbers"),
        ("cameras.txt", "1 PINHOLE 8 8 1e-310 1 4 4\n", "focal lengths"),
        ("cameras.txt", "1 PINHOLE 8 8 1 1 4\n", "PINHOLE takes 4"),
        ("cameras.txt", "1 PINHOLE wide 8 1 1 4 4\n", "broken camera line"),
        ("cameras.txt", "1\n", "expected one of .*PINHOLE"),
        ("cameras.txt", "9 PINHOLE 8 8 1 1 4 4\n", "camera 1, which cameras.txt does not list"),
        ("images.txt", "1 1 0 0\n\n", "broken image line"),
        ("images.txt", "1 0 0 0 0 0 0 1 1 a.png\n\n", "no usable pose"),
        ("images.txt", "1 1 0 0 0 0 0 1e300 1 a.png\n\n", "coordinates"),
        ("images.txt", "1 nan 0 0 0 0 0 1 1 a.png\n\n", "no usable pose"),
        ("images.txt", "# nothing\n", "lists no images"),
    ],
)
def test_broken_files_are_refused_in_one_sentence(tmp_path, file, text, words):
    write_colmap(tmp_path, ring(1, size=8), ["a.png"])
    (tmp_path / file).write_text(text)
    with pytest.raises(MvdiffError, match=words) as caught:
        read_colmap(tmp_path)
    assert "\n" not in str(caught.value)


def test_missing_files_and_mixed_sizes_are_refused(tmp_path):
    with pytest.raises(MvdiffError, match=r"expected a model with cameras\.txt"):
        read_colmap(tmp_path)
    (tmp_path / "cameras.txt").write_text("1 PINHOLE 8 8 1 1 4 4\n2 PINHOLE 9 8 1 1 4 4\n")
    (tmp_path / "images.txt").write_text("1 1 0 0 0 0 0 1 1 a.png\n\n2 1 0 0 0 0 0 1 2 b.png\n\n")
    with pytest.raises(MvdiffError, match="share one image size, got 8×8, 9×8"):
        read_colmap(tmp_path)
