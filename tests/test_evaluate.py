"""Figures of views, meshes and folders."""

from __future__ import annotations

import numpy as np
import pytest
import trimesh
from rich.console import Console

from mvdiff.cameras import ring
from mvdiff.errors import MvdiffError
from mvdiff.evaluate import evaluate_folder, evaluate_mesh, evaluate_views, table
from mvdiff.recon import Mesh
from mvdiff.rendering import Raycaster
from mvdiff.views import Views


@pytest.fixture(scope="module")
def box() -> trimesh.Trimesh:
    box = trimesh.creation.box((0.6, 0.4, 1.0))
    box.visual.face_colors = [200, 120, 40]
    return box


@pytest.fixture(scope="module")
def views(box) -> Views:
    cameras = ring(6, size=48)
    return Raycaster(box).render(cameras, supersample=2).views(cameras)


def test_truth_against_itself(views):
    figures = evaluate_views(views, views)
    assert figures["psnr"] == 100
    assert figures["ssim"] == pytest.approx(1, abs=1e-5)
    assert figures["hull_iou"] == figures["hull_iou_truth"] > 0.95


def test_other_size_is_resized_with_a_warning(views):
    with pytest.warns(UserWarning, match="side 24 were resized to the truth's side 48"):
        figures = evaluate_views(views.resize(24), views)
    assert 20 < figures["psnr"] < 60


def test_other_count_is_refused(views):
    with pytest.raises(MvdiffError, match="5 predicted and 6 true"):
        evaluate_views(views[list(range(5))], views)


def test_mesh_is_compared_with_the_normalised_truth(box, tmp_path):
    pytest.importorskip("mesh2sdf")
    large = box.copy()
    large.apply_scale(7)
    large.apply_translation([3, -2, 5])
    path = Mesh.from_trimesh(box).export(tmp_path / "pred.glb")
    figures = evaluate_mesh(path, large)
    assert figures["chamfer"] < 1e-4
    assert figures["iou"] > 0.99
    as_is = evaluate_mesh(path, box, normalise_truth=False, rotate_z=90)
    assert as_is["chamfer"] > 0.02
    assert 0.4 < as_is["iou"] < 0.6


def test_folders_are_paired_by_name(views, tmp_path):
    views.save(tmp_path / "truth" / "a" / "target")
    views.save(tmp_path / "truth" / "b" / "target")
    views.save(tmp_path / "pred" / "a", subfolder="views")
    darker = Views(views.images // 2, views.alpha, views.cameras)
    darker.save(tmp_path / "pred" / "b", subfolder="views")
    views.save(tmp_path / "pred" / "c")
    figures = evaluate_folder(tmp_path / "pred", tmp_path / "truth")
    assert list(figures["objects"]) == ["a", "b"]
    assert figures["missing"] == ["c"]
    a, b = figures["objects"]["a"], figures["objects"]["b"]
    assert a["psnr"] == 100 > b["psnr"]
    assert figures["mean"]["psnr"] == pytest.approx((a["psnr"] + b["psnr"]) / 2)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["pred", "truth"]


def test_single_pair_and_meshes(views, box, tmp_path):
    pytest.importorskip("mesh2sdf")
    for side in ("one", "other"):
        views.save(tmp_path / side)
        Mesh.from_trimesh(box).export(tmp_path / side / "mesh.glb")
    figures = evaluate_folder(tmp_path / "one", tmp_path / "other")
    assert set(figures["objects"]["one"]) == {
        "psnr",
        "ssim",
        "hull_iou",
        "hull_iou_truth",
        "chamfer",
        "iou",
    }


def test_nothing_to_compare_is_refused(views, tmp_path):
    views.save(tmp_path / "pred" / "a")
    views.save(tmp_path / "truth" / "b")
    with pytest.raises(MvdiffError, match="nothing to compare"):
        evaluate_folder(tmp_path / "pred", tmp_path / "truth")
    with pytest.raises(MvdiffError, match="no folder of truth"):
        evaluate_folder(tmp_path / "pred", tmp_path / "none")


def test_table_shows_every_object_and_the_mean():
    row = {"psnr": 21.236, "chamfer": 0.01234}
    figures = {"objects": {"mug": row, "cat": {"psnr": 19.0}}, "mean": row, "missing": []}
    console = Console(width=100, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(table(figures))
    text = console.export_text()
    for part in ("mug", "cat", "21.24", "19.00", "0.0123", "mean of 2", "PSNR", "Chamfer", " - "):
        assert part in text
    assert "SSIM" not in text
    assert np.all([len(line) <= 100 for line in text.splitlines()])
