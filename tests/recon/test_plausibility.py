"""Cameras that do not match their pictures are reported."""

from __future__ import annotations

import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers.ellipsoids import intrinsics, render, ring, write_json, write_scene

import mvdiff
from mvdiff.cameras import Cameras
from mvdiff.cli.main import main
from mvdiff.errors import MvdiffError
from mvdiff.recon.plausibility import better_projection, hull_agreement, judge
from mvdiff.recon.view_consistency import Agreement, ViewScore
from mvdiff.views.views import Views

SIDE, FOCAL, DISTANCE = 64, 70.0, 2.0
QUICK = ["texture_size=none", "reconstructor.resolution=48", "reconstructor.max_faces=4000"]
FLIP = np.diag([1.0, -1.0, -1.0, 1.0])


def views_of(projection: str = "perspective", count: int = 9) -> Views:
    orthographic = projection == "orthographic"
    K = intrinsics(FOCAL / DISTANCE if orthographic else FOCAL, SIDE, SIDE)
    poses = ring(count, DISTANCE)
    pixels = np.stack([render(p, K, SIDE, SIDE, orthographic=orthographic) for p in poses])
    rgba = torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous()
    w2c = np.stack([np.linalg.inv(pose)[:3] for pose in poses])
    cameras = Cameras(
        torch.from_numpy(K).float().repeat(count, 1, 1),
        torch.from_numpy(w2c).float(),
        SIDE,
        SIDE,
        projection,
    )
    return Views(rgba[:, :3], rgba[:, 3:], cameras)


@pytest.fixture(scope="module")
def views() -> Views:
    return views_of()


def test_right_views_pass_without_a_word(views):
    assert hull_agreement(views) > 0.96
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        mvdiff.reconstruct(views, overrides=QUICK)


@pytest.mark.parametrize(
    ("change", "name"),
    [
        (lambda pose: pose, "camera-to-world with OpenCV axes"),
        (lambda pose: np.linalg.inv(pose @ FLIP), "world-to-camera with OpenGL axes"),
        (lambda pose: np.linalg.inv(pose), "world-to-camera with OpenCV axes"),
        (
            lambda pose: pose @ np.diag([-1.0, -1.0, 1.0, 1.0]),
            "camera-to-world with PyTorch3D axes",
        ),
    ],
)
def test_other_matrices_in_transforms_json_are_named(tmp_path, capsys, change, name):
    poses = ring(9, DISTANCE)
    meta = write_scene(tmp_path, poses, intrinsics(FOCAL, SIDE, SIDE), SIDE, SIDE)
    for frame, pose in zip(meta["frames"], poses, strict=True):
        frame["transform_matrix"] = change(pose).tolist()
    write_json(tmp_path, meta)
    assert main(["reconstruct", f"views={tmp_path}", *QUICK]) == 2
    stderr = capsys.readouterr().err
    assert name in stderr
    assert "OpenGL axes (x right, y up" in stderr
    assert not list(tmp_path.glob("mesh*"))


def test_other_matrices_from_python_are_named(views):
    w2c = views.cameras.w2c
    R = w2c[:, :, :3].mT
    c2w = torch.cat([R, -R @ w2c[:, :, 3:]], dim=-1)
    wrong = replace(views, cameras=replace(views.cameras, w2c=c2w))
    with pytest.raises(MvdiffError, match="read as camera-to-world with OpenCV axes"):
        mvdiff.reconstruct(wrong, overrides=QUICK)


def test_views_that_all_disagree_alike_are_reported_or_refused(views):
    """No view stands out, since every one is wrong."""
    rolled = replace(views, images=views.images.roll(1, 0), alpha=views.alpha.roll(1, 0))
    with pytest.warns(UserWarning, match=r"probably wrong: check the lens .* poses .* masks"):
        mvdiff.reconstruct(rolled, overrides=QUICK)
    shifted = replace(views, images=views.images.roll(8, -1), alpha=views.alpha.roll(8, -1))
    with pytest.raises(MvdiffError, match=r"agree to 0\.[2-5]\d only.* min_agreement="):
        mvdiff.reconstruct(shifted, overrides=QUICK)
    with pytest.warns(UserWarning, match=r"agree to 0\.[2-5]\d only"):
        mvdiff.reconstruct(shifted, overrides=[*QUICK, "min_agreement=0"])


@pytest.mark.parametrize("projection", ["perspective", "orthographic"])
def test_the_other_projection_is_reported(projection):
    made = views_of(projection)
    assert better_projection(made, hull_agreement(made)) is None
    scale = 1 / DISTANCE if projection == "perspective" else DISTANCE
    K = made.cameras.K.clone()
    K[:, :2, :2] *= scale
    other = "orthographic" if projection == "perspective" else "perspective"
    wrong = replace(made, cameras=replace(made.cameras, K=K, projection=other))
    with pytest.warns(UserWarning, match=f"the views look {projection} .* are {other}"):
        mvdiff.reconstruct(wrong, overrides=QUICK)


@pytest.mark.parametrize(
    ("iou", "least", "words"),
    [(0.99, 0.6, None), (0.9, 0.6, "doubtful"), (0.7, 0.6, "probably wrong"), (0.4, 0.3, "wrong")],
)
def test_thresholds_are_absolute(views, iou, least, words):
    agreement = Agreement([ViewScore(i, iou, 20.0) for i in range(9)], [])
    notes = judge(agreement, views, "", least)
    assert [words in note for note in notes] == ([] if words is None else [True])
    if words:
        with pytest.raises(MvdiffError, match="min_agreement"):
            judge(agreement, views, "", iou + 0.05)


def test_a_background_that_is_not_recognized_is_refused(views):
    """A busy one with a few white pixels, which are taken for the background."""
    rng = np.random.default_rng(0)
    busy = torch.from_numpy(rng.integers(0, 200, (len(views), 3, SIDE, SIDE), dtype=np.uint8))
    busy[:, :, 28:31, 2:6] = 255
    images = torch.where(views.alpha > 127, views.images, busy)
    with pytest.raises(MvdiffError, match=r"fills \d+% of the pictures' borders"):
        judge_of(Views(images, None, views.cameras))


def test_an_object_that_the_border_cuts_off_is_reported(views):
    moved = Views(views.images.roll(25, -1), views.alpha.roll(25, -1), views.cameras)
    K = views.cameras.K.clone()
    K[:, 0, 2] += 25
    notes = judge_of(replace(moved, cameras=replace(views.cameras, K=K)))
    assert any("reaches the border of 9 of 9 pictures" in note for note in notes)


def judge_of(views: Views) -> list[str]:
    return judge(Agreement([ViewScore(i, 0.99, 20.0) for i in range(len(views))], []), views, "")
