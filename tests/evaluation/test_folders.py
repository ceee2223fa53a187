"""Metrics of views, meshes and folders."""

from __future__ import annotations

import csv
import io
import json
import math
import sys

import numpy as np
import pytest
import torch
import trimesh
from helpers.gltf_files import GltfFile
from helpers.gltf_files import box as gltf_box
from PIL import Image
from rich.console import Console

from mvdiff.cameras import ring
from mvdiff.cli.main import main
from mvdiff.errors import MvdiffError
from mvdiff.evaluation import (
    control_scores,
    evaluate_folder,
    evaluate_mesh,
    evaluate_views,
    notes,
    score_views,
    table,
    write,
)
from mvdiff.evaluation.folders import read_depths
from mvdiff.metrics import Lpips
from mvdiff.metrics.geometry import normalize_to_unit_box
from mvdiff.recon import Mesh
from mvdiff.rendering import Raycaster
from mvdiff.views.views import Views


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


def test_other_size_is_refused_unless_resizing_is_asked_for(views):
    with pytest.raises(MvdiffError, match="of 24×24 cannot be compared with true ones of 48×48"):
        evaluate_views(views.resize(24), views)
    with pytest.warns(UserWarning, match="of 24×24 were resized to the truth's 48×48"):
        figures = evaluate_views(views.resize(24), views, resize=True)
    assert 20 < figures["psnr"] < 60


def test_view_0_is_reported_in_and_out():
    cameras = ring(4, size=32)
    truth = Views(torch.full((4, 3, 32, 32), 100, dtype=torch.uint8), None, cameras)
    pred = Views(truth.images.clone(), None, cameras)
    pred.images[1:] += 51  # a fifth of the range: 20 log10(5) dB
    figures = evaluate_views(pred, truth)
    assert figures["psnr_without_0"] == pytest.approx(20 * math.log10(5), abs=1e-4)
    assert figures["psnr"] == pytest.approx((100 + 3 * 20 * math.log10(5)) / 4, abs=1e-4)
    # SSIM of constant pictures a, b is (2ab + C) / (a² + b² + C) with C = 0.01².
    a, b = 100 / 255, 151 / 255
    constant = (2 * a * b + 1e-4) / (a * a + b * b + 1e-4)
    assert figures["ssim_without_0"] == pytest.approx(constant, abs=3e-4)
    assert figures["ssim"] == pytest.approx((1 + 3 * constant) / 4, abs=3e-4)


def test_alpha_is_composited_on_white():
    cameras = ring(2, size=16)
    opacity = torch.full((2, 1, 16, 16), 102, dtype=torch.uint8)  # 0.4
    black = Views(torch.zeros((2, 3, 16, 16), dtype=torch.uint8), opacity, cameras)
    gray = Views(torch.full((2, 3, 16, 16), 153, dtype=torch.uint8), None, cameras)  # 0.6
    assert evaluate_views(black, gray)["psnr"] == pytest.approx(100, abs=0.01)


def test_other_cameras_are_noticed(views):
    turned = Views(views.images, views.alpha, ring(6, azimuth=10, size=48))
    with pytest.warns(UserWarning, match="cameras of all views differ"):
        evaluate_views(turned, views)
    one = Views(views.images, views.alpha, views.cameras[[0, 2, 2, 3, 4, 5]])
    with pytest.warns(UserWarning, match=r"cameras of views \[1\] differ"):
        evaluate_views(one, views)


def test_a_single_view_has_no_figure_without_view_0(views):
    assert set(evaluate_views(views[0], views[0])) == {"psnr", "ssim"}


def test_other_count_is_refused(views):
    with pytest.raises(MvdiffError, match="5 predicted and 6 true"):
        evaluate_views(views[list(range(5))], views)


def test_nothing_is_aligned_unless_asked(box, tmp_path):
    pytest.importorskip("mesh2sdf")
    path = Mesh.from_trimesh(box).export(tmp_path / "pred.glb")
    turned = evaluate_mesh(path, box, rotate_z=90)
    assert turned["chamfer"] > 0.02
    assert turned["iou"] == pytest.approx(0.16 / 0.32, abs=0.06)  # 0.4² of 2 · 0.24 − 0.4²
    large = box.copy().apply_scale(7).apply_translation([3, -2, 5])
    figures = evaluate_mesh(path, large, normalize_reference=True)
    assert figures["chamfer"] < 1e-4 < figures["chamfer_floor"] < 0.005
    assert figures["iou"] > 0.99
    small = box.copy().apply_scale(0.2)
    with pytest.warns(UserWarning, match=r"1 large, the true one 0\.2: if their units differ"):
        assert evaluate_mesh(path, small, iou=False)["chamfer"] > 0.1


def test_chicken_reaches_the_floor_of_the_protocol(shared_dir):
    folder = shared_dir / "data" / "chicken"
    scan = normalize_to_unit_box(Mesh.load(folder / "mesh.obj").to_trimesh(), rotate_z=-270)
    depth = read_depths(folder)
    figures = evaluate_mesh(scan, scan, depth=depth, iou=False)
    # The cubes of the scan and of its depth maps start at the same corner, to 3e-5…
    assert figures["chamfer"] < 3e-4
    # …those of a reconstruction do not.
    assert figures["chamfer_floor"] == pytest.approx(0.0036, abs=2e-4)


def test_bad_meshes_are_refused_in_a_sentence(box, tmp_path):
    empty = trimesh.Trimesh(np.zeros((3, 3)), np.zeros((0, 3), int), process=False)
    with pytest.raises(MvdiffError, match="the predicted mesh has no faces"):
        evaluate_mesh(empty, box)
    broken = box.copy()
    broken.vertices[0] = np.nan
    with pytest.raises(MvdiffError, match="the true mesh has NaN"):
        evaluate_mesh(box, broken)
    flat = trimesh.Trimesh(np.zeros((3, 3)), [[0, 1, 2]], process=False)
    with pytest.raises(MvdiffError, match="no faces"):
        evaluate_mesh(flat, box)
    (tmp_path / "points.obj").write_text("v 0 0 0\nv 1 0 0\n")
    with pytest.raises(MvdiffError, match=r"the predicted mesh .*points\.obj' has no usable faces"):
        evaluate_mesh(tmp_path / "points.obj", box)


def test_missing_mesh2sdf_leaves_the_chamfer(box, monkeypatch):
    monkeypatch.setitem(sys.modules, "mesh2sdf", None)
    with pytest.warns(UserWarning, match=r"IoU was left out: .*mvdiff\[evaluate\].*iou=false"):
        figures = evaluate_mesh(box, box)
    assert figures["chamfer"] == 0
    assert "iou" not in figures
    assert evaluate_mesh(box, box, iou=False) == figures


@pytest.mark.parametrize(("large", "word"), [("pred", "predicted"), ("truth", "true")])
def test_a_mesh_beyond_the_grid_of_the_iou_keeps_its_chamfer(box, monkeypatch, large, word):
    monkeypatch.setattr("mvdiff.evaluation.protocol.volume_iou", lambda *_: pytest.fail("too late"))
    moved = {"pred": box, "truth": box, large: box.copy().apply_translation([0, 0, 0.6])}
    reasons = []
    figures = evaluate_mesh(**moved, left_out=reasons.append)
    assert set(figures) == {"chamfer", "chamfer_floor"}
    assert 0.01 < figures["chamfer"] < 0.6
    (sentence,) = reasons
    assert sentence.startswith(f"the {word} mesh reaches 1.1, beyond [-1, 1]³")
    assert "iou=false" in sentence
    with pytest.warns(UserWarning, match=f"the IoU was left out: the {word} mesh reaches"):
        evaluate_mesh(**moved)


def test_an_iou_left_out_is_noted_beside_the_other_figures(box, tmp_path, capsys):
    for side in ("pred", "truth"):
        (tmp_path / side).mkdir()
        for name in ("cup", "mug"):
            box.export(tmp_path / side / f"{name}.ply")
    box.copy().apply_translation([0, 0, 0.6]).export(tmp_path / "pred" / "mug.ply")
    args = [
        f"pred={tmp_path / 'pred'}",
        f"reference={tmp_path / 'truth'}",
        f"out={tmp_path / 'out'}",
    ]
    assert main(["evaluate", *args]) == 0
    err = capsys.readouterr().err
    assert "note: no IoU for mug: the predicted mesh reaches 1.1" in err
    assert "left out" not in err
    figures = json.loads((tmp_path / "out" / "evaluate.json").read_text())
    assert figures["failed"] == {}
    assert "mug" in figures["without_iou"]
    cup, mug = figures["objects"]["cup"], figures["objects"]["mug"]
    assert "iou" not in mug
    assert mug["chamfer"] > 0.01
    assert figures["mean"]["chamfer"] == pytest.approx((cup["chamfer"] + mug["chamfer"]) / 2)


def test_folders_are_paired_by_name(views, tmp_path):
    views.save(tmp_path / "truth" / "a" / "target")
    views.save(tmp_path / "truth" / "b" / "target")
    views.save(tmp_path / "truth" / "d" / "target")
    views.save(tmp_path / "pred" / "a", subfolder="views")
    darker(views).save(tmp_path / "pred" / "b", subfolder="views")
    views.save(tmp_path / "pred" / "c")
    figures = evaluate_folder(tmp_path / "pred", tmp_path / "truth")
    assert list(figures["objects"]) == ["a", "b"]
    assert figures["missing"] == {"truth": ["c"], "pred": ["d"]}
    assert notes(figures) == ["no truth for 'c'", "no prediction for 'd'"]
    a, b = figures["objects"]["a"], figures["objects"]["b"]
    assert a["psnr"] == 100 > b["psnr"]
    assert figures["mean"]["psnr"] == pytest.approx((a["psnr"] + b["psnr"]) / 2)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["pred", "truth"]


def test_samples_as_generate_writes_them_are_averaged(views, box, tmp_path):
    for sample, result in (("sample-0", views), ("sample-1", darker(views))):
        result.save(tmp_path / "pred" / "cup" / sample, subfolder="views")
        Mesh.from_trimesh(box).export(tmp_path / "pred" / "cup" / sample / "mesh.glb")
    views.save(tmp_path / "truth" / "cup" / "target")
    box.export(tmp_path / "truth" / "cup" / "mesh.ply")
    figures = evaluate_folder(tmp_path / "pred", tmp_path / "truth", iou=False)
    first, second = figures["samples"]["cup"].values()
    assert first["psnr"] == 100 > second["psnr"]
    cup = figures["objects"]["cup"]
    assert cup["samples"] == 2
    assert cup["psnr"] == pytest.approx((first["psnr"] + second["psnr"]) / 2)
    assert cup["chamfer"] == 0
    (path,) = write(figures, tmp_path / "f.csv")
    with path.open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["object"], row["sample"]) for row in rows] == [
        ("cup", "sample-0"),
        ("cup", "sample-1"),
    ]
    assert float(rows[1]["psnr"]) == second["psnr"]
    assert "samples" in shown(figures)


def test_single_pair_and_meshes(views, box, tmp_path):
    pytest.importorskip("mesh2sdf")
    for side in ("one", "other"):
        views.save(tmp_path / side)
        Mesh.from_trimesh(box).export(tmp_path / side / "mesh.glb")
    figures = evaluate_folder(tmp_path / "one", tmp_path / "other")
    shared = {"samples", "hull_iou", "hull_iou_truth", "chamfer", "chamfer_floor", "iou"}
    images = {"psnr", "psnr_without_0", "ssim", "ssim_without_0"}
    assert set(figures["objects"]["one"]) == shared | images


def test_lone_mesh_files_are_objects(box, tmp_path):
    for name in ("cup", "box"):
        for side in ("pred", "truth"):
            (tmp_path / side).mkdir(exist_ok=True)
            box.export(tmp_path / side / f"{name}.ply")
    angles = {"cup": 90.0}
    figures = evaluate_folder(tmp_path / "pred", tmp_path / "truth", rotate_z=angles, iou=False)
    assert figures["objects"]["box"]["chamfer"] == 0
    assert figures["objects"]["cup"]["chamfer"] > 0.02
    with pytest.raises(MvdiffError, match=r"rotate_z names 'mug'.*box, cup"):
        evaluate_folder(tmp_path / "pred", tmp_path / "truth", rotate_z={"mug": 1.0})


def test_published_renders_need_no_camera_file(views, shared_dir):
    chicken = shared_dir / "data" / "chicken"
    figures = evaluate_folder(chicken, chicken, iou=False, normalize_reference=True)
    row = figures["objects"]["chicken"]
    assert row["psnr"] == 100
    assert row["hull_iou"] > 0.97
    # taken as it is, the scan is small and not where the depth maps are
    assert row["chamfer"] > 0.1


def test_a_strip_and_lone_files_are_taken_as_one_object(box, tmp_path):
    cameras = ring(size=32)
    views = Raycaster(box).render(cameras).views(cameras)
    views.strip().save(tmp_path / "strip.png")
    views.save(tmp_path / "truth")
    figures = evaluate_folder(tmp_path / "strip.png", tmp_path / "truth")
    assert figures["objects"]["strip"]["psnr"] == 100
    box.export(tmp_path / "truth" / "mesh.ply")
    box.export(tmp_path / "other.stl")
    figures = evaluate_folder(tmp_path / "truth", tmp_path / "other.stl", iou=False)
    assert figures["objects"]["truth"]["chamfer"] < 1e-6
    assert "psnr" not in figures["objects"]["truth"]


def test_one_broken_object_does_not_stop_the_others(views, tmp_path):
    for name in ("good", "broken"):
        views.save(tmp_path / "truth" / name)
        views.save(tmp_path / "pred" / name)
    (tmp_path / "pred" / "broken" / "003.png").unlink()
    figures = evaluate_folder(tmp_path / "pred", tmp_path / "truth")
    assert list(figures["objects"]) == ["good"]
    assert "003.png' is listed but missing" in figures["failed"]["broken"]
    assert notes(figures) == [f"broken was left out: {figures['failed']['broken']}"]
    with pytest.raises(MvdiffError, match=r"broken: the view '.*003.png' is listed but missing"):
        evaluate_folder(tmp_path / "pred" / "broken", tmp_path / "truth" / "broken")


def test_a_broken_first_picture_of_a_published_ring_is_reported(tmp_path):
    for name in ("good", "broken"):
        for side in ("pred", "truth"):
            (tmp_path / side / name).mkdir(parents=True)
            for i in range(16):
                Image.new("RGB", (16, 16), (9, i, 9)).save(tmp_path / side / name / f"{i:03d}.png")
    (tmp_path / "pred" / "broken" / "000.png").write_bytes(b"no picture")
    figures = evaluate_folder(tmp_path / "pred", tmp_path / "truth")
    assert list(figures["objects"]) == ["good"]
    assert "000.png" in figures["failed"]["broken"]


def test_nothing_to_compare_is_refused(views, tmp_path):
    views.save(tmp_path / "pred" / "a")
    views.save(tmp_path / "truth" / "b")
    with pytest.raises(MvdiffError, match="nothing to compare"):
        evaluate_folder(tmp_path / "pred", tmp_path / "truth")
    with pytest.raises(
        MvdiffError, match=r"nothing at '.*none': expected a folder or file of truth"
    ):
        evaluate_folder(tmp_path / "pred", tmp_path / "none")


def test_views_against_a_mesh_alone_are_refused(views, box, tmp_path):
    views.save(tmp_path / "pred" / "a")
    (tmp_path / "truth" / "a").mkdir(parents=True)
    box.export(tmp_path / "truth" / "a" / "mesh.ply")
    with pytest.raises(MvdiffError, match="a: one side has only views and the other only a mesh"):
        evaluate_folder(tmp_path / "pred", tmp_path / "truth")


def test_depth_maps_of_other_sizes_are_left_out_with_a_warning(tmp_path):
    for i in range(16):
        Image.new("I;16", (32, 32)).save(tmp_path / f"{i:03d}-depth.png")
    with pytest.warns(UserWarning, match="are not 256×256: the true mesh's surface is used"):
        assert read_depths(tmp_path) is None
    (tmp_path / "004-depth.png").write_bytes(b"no picture")
    with pytest.raises(MvdiffError, match=r"cannot read '.*004-depth\.png'"):
        read_depths(tmp_path)


def test_figures_are_written_as_json_csv_or_both(tmp_path):
    row = {"psnr": 20.0}
    figures = {"objects": {"mug": row}, "samples": {"mug": {"sample-0": row}}, "mean": row}
    assert json.loads(write(figures, tmp_path / "a.json")[0].read_text()) == figures
    assert write(figures, tmp_path / "a.csv")[0].read_text() == (
        "object,sample,psnr\nmug,sample-0,20.0\n"
    )
    assert [p.name for p in write(figures, tmp_path / "new")] == ["evaluate.json", "evaluate.csv"]
    with pytest.raises(MvdiffError, match=r"choose \.json, \.csv or a folder"):
        write(figures, tmp_path / "a.xlsx")


def test_table_shows_every_object_and_the_mean():
    row = {"psnr": 21.236, "chamfer": 0.01234}
    mean = {"psnr": 20.118, "chamfer": 0.01234}
    objects = {"mug": row, "cat": {"psnr": 19.0}}
    text = shown({"objects": objects, "mean": mean})
    # the mean of Chamfer is of one object only
    for part in ("mug", "21.24", "19.00", "0.0123 (1)", "20.12 ", "mean of 2", "PSNR", " - "):
        assert part in text
    assert "SSIM" not in text
    assert np.all([len(line) <= 100 for line in text.splitlines()])
    partly = {"objects": {**objects, "dog": {"chamfer": 0.1}}, "mean": mean}
    assert notes(partly) == [
        "views are missing on one side of 'dog'",
        "meshes are missing on one side of 'cat'",
    ]


def test_command_takes_an_angle_an_object_and_tells_what_failed(box, tmp_path, capsys):
    for side in ("pred", "truth"):
        (tmp_path / side).mkdir()
        for name in ("cup", "box", "mug"):
            box.export(tmp_path / side / f"{name}.ply")
    (tmp_path / "pred" / "mug.ply").write_text("no mesh")
    args = ["evaluate", f"pred={tmp_path / 'pred'}", f"reference={tmp_path / 'truth'}", "iou=false"]
    out = tmp_path / "figures"
    assert main([*args, "rotate_z={cup: 90}", f"out={out}"]) == 1
    printed = capsys.readouterr()
    assert "note: mug was left out: the predicted mesh" in printed.err
    assert "mean of 2" in printed.out
    figures = json.loads((out / "evaluate.json").read_text())
    assert figures["objects"]["cup"]["chamfer"] > 0.02 > figures["objects"]["box"]["chamfer"] == 0
    assert figures["settings"]["rotate_z"] == {"cup": 90}
    assert (out / "evaluate.csv").read_text().count("\n") == 3


@pytest.mark.parametrize(
    ("setting", "sentence"),
    [
        ("rotate_z=left", "rotate_z must be a number of degrees, or {object: degrees, …}"),
        ("rotate_z={cup: .nan}", "got '.nan' for 'cup'"),
        ("out=figures.xlsx", "out=figures.xlsx is not .json, .csv or a folder"),
        ("lpips=none.pth", "no LPIPS weights at 'none.pth'"),
        ("normalize_reference=7", "normalize_reference must be true or false"),
    ],
)
def test_command_refuses_bad_settings_in_a_sentence(box, tmp_path, capsys, setting, sentence):
    path = tmp_path / "box.ply"
    box.export(path)
    assert main(["evaluate", f"pred={path}", f"reference={path}", setting]) == 2
    err = capsys.readouterr().err
    assert sentence in err
    assert err.count("\n") == 1


@pytest.mark.parametrize("out", ["file/x", "file/x.json", "file"])
def test_an_output_that_cannot_be_written_is_refused_before_the_work(
    box, tmp_path, capsys, monkeypatch, out
):
    monkeypatch.setattr(
        "mvdiff.evaluation.evaluate_folder", lambda *_, **__: pytest.fail("too late")
    )
    (tmp_path / "file").write_text("no folder")
    box.export(tmp_path / "box.ply")
    args = [f"pred={tmp_path / 'box.ply'}", f"reference={tmp_path / 'box.ply'}"]
    assert main(["evaluate", *args, f"out={tmp_path / out}"]) == 2
    printed = capsys.readouterr()
    assert printed.err.startswith(f"mvdiff: cannot write to '{tmp_path / 'file'}")
    assert printed.err.count("\n") == 1
    assert printed.out == ""
    assert (tmp_path / "file").read_text() == "no folder"


def test_scores_are_one_flat_row(views):
    row = score_views(views, views)
    assert list(row) == [
        *("psnr", "ssim", "hull_iou"),
        *("photometric", "self_chamfer", "self_psnr"),
    ]
    assert row["psnr"] == 100
    assert all(math.isfinite(figure) for figure in row.values())
    alone = score_views(views)
    assert alone == {key: row[key] for key in list(row)[2:]}
    assert list(score_views(views, consistency=False)) == ["hull_iou"]
    perceptual = score_views(views, views, lpips=Constant(), consistency=False)
    assert perceptual["lpips"] == pytest.approx(0.25)


def test_figures_of_too_few_views_are_nan(views):
    three = score_views(views[[0, 1, 2]])
    assert [key for key, figure in three.items() if math.isnan(figure)] == [
        "self_chamfer",
        "self_psnr",
    ]
    one = score_views(views[0], views[0])
    assert {key for key, figure in one.items() if not math.isnan(figure)} == {"psnr", "ssim"}


def test_every_control_scores_worse_than_the_truth(box):
    cameras = ring(16, size=32)
    views = Raycaster(box).render(cameras, supersample=3).views(cameras)
    rows = control_scores(views)
    truth = rows.pop("truth")
    assert list(rows) == ["shifted", "rolled", "tinted"]
    assert truth == score_views(views, views)
    for row in rows.values():
        assert row["psnr"] < truth["psnr"]
        assert row["photometric"] > 2 * truth["photometric"]
        assert row["self_psnr"] < truth["self_psnr"]
    assert rows["rolled"]["hull_iou"] < truth["hull_iou"] - 0.05
    assert rows["tinted"]["hull_iou"] == pytest.approx(truth["hull_iou"], abs=1e-6)
    assert control_scores(views, seed=1)["shifted"] != rows["shifted"]


def test_command_reports_consistency_controls_and_diversity(views, tmp_path, capsys):
    views.save(tmp_path / "truth" / "cup")
    views[[0, 1, 2]].save(tmp_path / "truth" / "mug")
    views[[0, 1, 2]].save(tmp_path / "pred" / "mug")
    for sample, result in (("sample-0", views), ("sample-1", darker(views))):
        result.save(tmp_path / "pred" / "cup" / sample)
    args = [
        f"pred={tmp_path / 'pred'}",
        f"reference={tmp_path / 'truth'}",
        f"out={tmp_path / 'out'}",
    ]
    assert main(["evaluate", *args, "consistency_metrics=true", "corrupted_controls=true"]) == 0
    printed = capsys.readouterr()
    for part in ("self-", "diver-", "truth, shifted", "truth, tinted"):
        assert part in printed.out
    assert "note: no controls for mug: controls need at least 4 views, got 3" in printed.err
    figures = json.loads(
        (tmp_path / "out" / "evaluate.json").read_text(), parse_constant=pytest.fail
    )
    cup, mug = figures["objects"]["cup"], figures["objects"]["mug"]
    assert cup["diversity"] == pytest.approx(difference(views, darker(views)), abs=1e-6)
    assert "self_psnr" in cup
    assert "photometric" in mug
    assert not {"self_psnr", "diversity"} & set(mug)
    assert list(figures["controls"]) == ["truth", "shifted", "rolled", "tinted"]
    assert figures["object_controls"]["cup"] == figures["controls"]
    truth = figures["controls"]["truth"]
    assert truth["photometric"] == figures["samples"]["cup"]["sample-0"]["photometric"]
    with (tmp_path / "out" / "evaluate.csv").open() as file:
        rows = {(row["object"], row["sample"]): row for row in csv.DictReader(file)}
    assert float(rows["cup", "control:truth"]["self_psnr"]) == truth["self_psnr"]
    assert rows["mug", "sample-0"]["self_psnr"] == ""
    assert ("mug", "control:truth") not in rows


def test_neither_consistency_nor_controls_unless_asked_for(views, tmp_path):
    for side in ("pred", "truth"):
        views.save(tmp_path / side / "a")
    figures = evaluate_folder(tmp_path / "pred", tmp_path / "truth")
    assert not {"photometric", "self_psnr", "diversity"} & set(figures["mean"])
    assert "controls" not in figures
    figures = evaluate_folder(tmp_path / "pred", tmp_path / "truth", controls=True)
    assert set(figures["controls"]["tinted"]) == {"psnr", "ssim", "hull_iou"}


class Constant(Lpips):
    """A stand-in for LPIPS with weights."""

    def __init__(self):
        torch.nn.Module.__init__(self)

    def forward(self, pred, truth):
        return torch.full((len(pred),), 0.25)


def difference(a: Views, b: Views) -> float:
    """Root mean square difference of the views but the first."""
    return float((a.rgb - b.rgb)[1:].square().flatten(1).mean(dim=1).sqrt().mean())


def darker(views: Views) -> Views:
    return Views(views.images // 2, views.alpha, views.cameras)


def shown(figures: dict) -> str:
    console = Console(width=100, record=True, file=io.StringIO())
    console.print(table(figures))
    return console.export_text()


def test_a_glb_without_geometry_at_its_root_is_refused(box, tmp_path):
    """A scene whose only node has no mesh is an error, not a row without metrics."""
    file = GltfFile()
    file.tree["nodes"], file.tree["scenes"] = [{"name": "empty"}], [{"nodes": [0]}]
    with pytest.raises(MvdiffError, match=r"void\.glb.* no usable faces"):
        evaluate_mesh(file.write(tmp_path / "void.glb"), box, iou=False)


def test_shapes_are_compared_whatever_the_textures(box, tmp_path, recwarn):
    """A missing texture changes no metric and gives no warning."""
    file = GltfFile()
    file.tree["images"], file.tree["textures"] = [{"uri": "gone.png"}], [{"source": 0}]
    look = file.material(pbrMetallicRoughness={"baseColorTexture": {"index": 0}})
    file.mesh({**gltf_box(file), "material": look})
    path = file.write(tmp_path / "a.glb")
    assert evaluate_mesh(path, path, iou=False)["chamfer"] == 0
    assert not [w for w in recwarn if "gone" in str(w.message)]
