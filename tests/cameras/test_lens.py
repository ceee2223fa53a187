"""Lens models against OpenCV's own, and undistortion against an analytic scene."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from helpers.ellipsoids import (
    intrinsics,
    on,
    render,
    ring,
    silhouette_iou,
    write_json,
    write_scene,
)
from PIL import Image

from mvdiff.cameras.lens import Lens, from_coefficients, from_colmap
from mvdiff.cameras.undistortion import needed_margins, undistort
from mvdiff.errors import MvdiffError
from mvdiff.views.loading import load_views

SIDE, FOCAL = 120, 60.0


def opencv(coefficients: list[float]):
    """OpenCV's inverse of k1 k2 p1 p2 k3 k4 k5 k6."""

    def undistort(points: np.ndarray) -> np.ndarray:
        criteria = (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, 100, 1e-10)
        out = cv2.undistortPoints(
            points[:, None], np.eye(3), np.array(coefficients), criteria=criteria
        )
        return out[:, 0]

    return undistort


def fisheye(coefficients: list[float]):
    """The exact inverse of an equidistant lens; by bisection where there are coefficients."""

    def undistort(points: np.ndarray) -> np.ndarray:
        radius = np.linalg.norm(points, axis=1)
        low, high = np.zeros_like(radius), np.full_like(radius, 1.5)
        for _ in range(50):
            middle = (low + high) / 2
            powers = sum(k * middle ** (2 * i + 2) for i, k in enumerate(coefficients))
            below = middle * (1 + powers) < radius
            low, high = np.where(below, middle, low), np.where(below, high, middle)
        return points * (np.tan(low) / np.maximum(radius, 1e-12))[:, None]

    return undistort


@pytest.mark.parametrize("seed", range(3))
def test_distortion_is_opencv_s(seed):
    rng = np.random.default_rng(seed)
    points = rng.uniform(-0.6, 0.6, (50, 2))
    k1, k2, p1, p2, k3, k4, k5, k6 = rng.uniform(-0.1, 0.1, 8)
    homogeneous = np.concatenate([points, np.ones((50, 1))], axis=1)
    lens = Lens((k1, k2, k3), (k4, k5, k6), (p1, p2))
    zero = np.zeros(3)
    order = np.array([k1, k2, p1, p2, k3, k4, k5, k6])
    expected = cv2.projectPoints(homogeneous, zero, zero, np.eye(3), order)[0][:, 0]
    found = np.stack(lens.distort(points[:, 0], points[:, 1]), axis=1)
    np.testing.assert_allclose(found, expected, atol=1e-12)
    wide = cv2.fisheye.distortPoints(points[:, None], np.eye(3), np.array([k1, k2, k3, k4]))[:, 0]
    lens = Lens((k1, k2, k3, k4), fisheye=True)
    found = np.stack(lens.distort(points[:, 0], points[:, 1]), axis=1)
    np.testing.assert_allclose(found, wide, atol=1e-12)


def test_k4_alone_is_nerfstudio_s_and_with_k5_opencv_s():
    keys = {"k1": 0.1, "k4": 0.3}
    lens = from_coefficients("OPENCV", lambda key: keys.get(key, 0.0), False, "x")
    x, y = lens.distort(np.array([0.8]), np.array([0.0]))
    assert (x[0], y[0]) == pytest.approx((0.8 * (1 + 0.1 * 0.8**2 + 0.3 * 0.8**8), 0))
    keys["k5"] = 0.2
    lens = from_coefficients("OPENCV", lambda key: keys.get(key, 0.0), False, "x")
    x, _ = lens.distort(np.array([0.8]), np.array([0.0]))
    ratio = (1 + 0.1 * 0.8**2) / (1 + 0.3 * 0.8**2 + 0.2 * 0.8**4)
    assert x[0] == pytest.approx(0.8 * ratio)


def test_a_lens_that_folds_back_is_cut_there():
    lens = Lens((-0.5,))  # r (1 - r²/2) rises up to r = sqrt(2/3)
    assert lens.valid_radius() == pytest.approx((2 / 3) ** 0.5, abs=2e-3)
    assert Lens((0.1, 0.1)).valid_radius() > 10
    margins = needed_margins(intrinsics(50, 100, 100), lens, 100, 100)
    assert max(margins.left, margins.top) <= 50


@pytest.mark.parametrize(
    ("fields", "undistort"),
    [
        (
            {"camera_model": "OPENCV", "k1": -0.3, "k2": 0.1, "p1": 0.004, "p2": -0.003},
            opencv([-0.3, 0.1, 0.004, -0.003]),
        ),
        (
            {"distortion_params": [-0.3, 0.1, 0.02, 0, 0.004, -0.003]},
            opencv([-0.3, 0.1, 0.004, -0.003, 0.02]),
        ),
        ({"camera_model": "SIMPLE_RADIAL", "k1": -0.15}, opencv([-0.15, 0, 0, 0])),
        ({"camera_model": "RADIAL", "k1": -0.2, "k2": 0.05}, opencv([-0.2, 0.05, 0, 0])),
        (
            {"camera_model": "FULL_OPENCV", "k1": 0.1, "k4": 0.25, "k5": 0.05, "k6": 0.01},
            opencv([0.1, 0, 0, 0, 0, 0.25, 0.05, 0.01]),
        ),
        ({"is_fisheye": True, "k1": 0, "k2": 0}, fisheye([])),
        (
            {"camera_model": "OPENCV_FISHEYE", "k1": 0.05, "k2": -0.02},
            fisheye([0.05, -0.02]),
        ),
    ],
    ids=["k1", "list", "simple", "radial", "rational", "is_fisheye", "fisheye"],
)
@pytest.mark.parametrize("max_size", [None, 60])
def test_undistorted_pictures_are_a_pinhole_camera_s(tmp_path, fields, undistort, max_size):
    """With the object off the picture's center, where lenses show most."""
    K = intrinsics(FOCAL, SIDE, SIDE)
    K[0, 2] += 3
    poses = ring(2, 1.5, center=(0.5, 0.5, 0.35))
    write_scene(tmp_path, poses, K, SIDE, SIDE, undistort=undistort, **fields)
    loaded = load_views(tmp_path, max_size=max_size)
    views = loaded.views
    assert any("distortion was removed from 2 pictures" in note for note in loaded.notes)
    scale = float(views.cameras.K[0, 0, 0]) / FOCAL
    assert scale == 1 if max_size is None else 0.25 < scale <= 0.5
    assert max_size is None or max(views.images.shape[2:]) <= max_size
    size = views.cameras.width, views.cameras.height
    for i, pose in enumerate(poses):
        true = render(pose, views.cameras.K[i].numpy(), *size)[..., 3]
        found = silhouette_iou(views.alpha[i, 0].numpy(), true)
        assert found > (0.96 if max_size is None else 0.9)
        as_it_was = render(pose, views.cameras.K[i].numpy(), *size, undistort)[..., 3]
        assert silhouette_iou(as_it_was, true) < found - 0.01 or max_size is not None


def test_colors_at_the_edge_bring_no_background(tmp_path):
    """Clear pixels are black here: mixing must not darken the object's edge."""
    K = intrinsics(FOCAL, SIDE, SIDE)
    write_scene(tmp_path, ring(1, 1.4), K, SIDE, SIDE, undistort=fisheye([]), is_fisheye=True)
    views = load_views(tmp_path).views
    edge = (views.alpha[0, 0] > 20) & (views.alpha[0, 0] < 200)
    assert float(views.images[0].amax(dim=0)[edge].float().min()) > 100


def test_opaque_pictures_stay_on_their_background(tmp_path):
    K = intrinsics(FOCAL, SIDE, SIDE)
    gray = (128, 128, 128)
    write_scene(
        tmp_path, ring(1, 1.4), K, SIDE, SIDE, undistort=fisheye([]), background=gray,
        is_fisheye=True,
    )  # fmt: skip
    views = load_views(tmp_path).views
    assert views.alpha is None
    assert views.cameras.width > SIDE  # the lens shows more than a pinhole picture of this size
    assert (views.images[0, :, [0, -1]].float() - 128).abs().max() <= 1


@pytest.mark.parametrize("background", [0, 255])
def test_interpolation_does_not_wrap_around_at_the_edge(background):
    """Cubic interpolation overshoots white and black: those values must be clipped."""
    picture = np.full((SIDE, SIDE, 3), background, dtype=np.uint8)
    picture[45:75, 45:75] = 255 - background
    lens = Lens((0.2, -0.1))
    pixels = undistort(picture, intrinsics(FOCAL, SIDE, SIDE), lens, 0, 0, SIDE, SIDE)
    row = pixels[SIDE // 2, :, 0].astype(int)
    steps = np.sign(np.diff(row)[np.abs(np.diff(row)) > 20])
    assert np.count_nonzero(np.diff(steps)) == 1  # one edge up and one down, nothing between
    # the lens magnifies, so the square of 30 pixels was smaller, by about 1 + 0.2 (15 / 60)²
    inside = np.abs(row - background) > 127
    assert inside.sum() == pytest.approx(30 / 1.0122, abs=1.1)


def test_masks_are_undistorted_with_their_pictures(tmp_path):
    K = intrinsics(FOCAL, SIDE, SIDE)
    poses = ring(2, 1.4)
    meta = write_scene(tmp_path, poses, K, SIDE, SIDE, undistort=fisheye([]), is_fisheye=True)
    rng = np.random.default_rng(0)
    for i, frame in enumerate(meta["frames"]):
        rgba = np.array(Image.open(tmp_path / frame["file_path"]))
        frame["mask_path"] = f"mask{i}.png"
        Image.fromarray(rgba[..., 3]).save(tmp_path / frame["mask_path"])
        busy = rng.integers(0, 256, (SIDE, SIDE, 3))
        alpha = rgba[..., 3:] / 255
        mixed = rgba[..., :3] * alpha + busy * (1 - alpha)
        Image.fromarray(mixed.astype(np.uint8)).save(tmp_path / frame["file_path"])
    write_json(tmp_path, meta)
    views = load_views(tmp_path).views
    size = views.cameras.width, views.cameras.height
    for i, pose in enumerate(poses):
        true = render(pose, views.cameras.K[i].numpy(), *size)[..., 3]
        assert silhouette_iou(views.alpha[i, 0].numpy(), true) > 0.95


def test_colmap_models_have_colmap_s_parameters():
    focal, lens = from_colmap("SIMPLE_RADIAL", [50, 10, 20, 0.1], "x")
    assert focal == (50, 50, 10, 20)
    assert lens == Lens((0.1,))
    focal, lens = from_colmap("OPENCV", [50, 60, 10, 20, 0.1, 0.2, 0.3, 0.4], "x")
    assert (focal, lens) == ((50, 60, 10, 20), Lens((0.1, 0.2), (), (0.3, 0.4)))
    _, lens = from_colmap("FULL_OPENCV", [50, 60, 10, 20, 1, 2, 3, 4, 5, 6, 7, 8], "x")
    assert lens == Lens((1, 2, 5), (6, 7, 8), (3, 4))
    _, lens = from_colmap("RADIAL_FISHEYE", [50, 10, 20, 0.1, 0.2], "x")
    assert lens == Lens((0.1, 0.2), fisheye=True)
    assert from_colmap("OPENCV", [50, 60, 10, 20, 0, 0, 0, 0], "x")[1].is_pinhole
    for model in ("FOV", "THIN_PRISM_FISHEYE", "EUCM", "EQUIRECTANGULAR"):
        with pytest.raises(MvdiffError, match=model):
            from_colmap(model, [1.0] * 12, "x")


def test_a_fisheye_has_no_tangential_coefficients():
    with pytest.raises(MvdiffError, match="fisheye"):
        from_coefficients("PINHOLE", lambda key: float(key == "p1"), True, "x")


def test_on_paints_a_background():
    assert (on(np.zeros((2, 2, 4), np.uint8), (1, 2, 3))[0, 0] == (1, 2, 3)).all()
