"""benchmarks/reconstruct.py: its cases are what it says, and a stopped run goes on."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh

from mvdiff.cameras import ring
from mvdiff.rendering import Raycaster
from mvdiff.views.views import Views


@pytest.fixture(scope="module")
def folder():
    path = Path(__file__).parents[1]
    sys.path.insert(0, str(path))
    yield path
    sys.path.remove(str(path))


@pytest.fixture(scope="module")
def cases(folder):
    return importlib.import_module("reconstruct_cases")


@pytest.fixture(scope="module")
def views() -> Views:
    ball = trimesh.creation.icosphere(3, 0.4)
    ball.visual.face_colors = [150, 100, 60]
    cameras = ring(16, size=128)
    return Raycaster(ball).render(cameras, supersample=3, shading=None).views(cameras)


def test_clean_views_stay_as_they_are(cases, views):
    same = cases.spoil(views, "clean", "ball")
    assert (same.rgb - views.rgb).abs().max() < 0.01
    assert torch.equal(same.alpha, views.alpha)


def test_drift_changes_colors_by_view_and_no_silhouette(cases, views):
    drifted = cases.spoil(views, "drift", "ball")
    assert torch.equal(drifted.alpha, views.alpha)
    middle = drifted.images[:, :, 64, 64].float() - views.images[:, :, 64, 64].float()
    # Gain 0.06 of 150 at most, shift 0.03 of 255: a deviation of 6 to 12 levels a channel.
    assert 5 < middle.std(dim=0).mean() < 16
    corner = drifted.rgb[:, :, 2, 2]
    assert torch.equal(corner, torch.ones_like(corner))


def test_edges_move_by_up_to_two_pixels_of_256(cases, views):
    moved = cases.spoil(views, "edges", "ball").alpha[:, 0] > 127
    still = views.alpha[:, 0] > 127
    at = torch.arange(128)
    distance = ((at[:, None] - 63.5) ** 2 + (at - 63.5) ** 2).sqrt()
    changed = moved != still
    assert changed.flatten(1).any(dim=1).all()
    edge = distance[still[0]].max()
    # ±2 at 256² is ±1 along each axis at 128².
    assert (distance.expand(16, -1, -1)[changed] - edge).abs().max() < 2**0.5 + 1.5


def test_the_same_defects_come_again_and_others_elsewhere(cases, views):
    first, again = (cases.spoil(views, "generated", "ball") for _ in range(2))
    assert torch.equal(first.images, again.images)
    assert not torch.equal(first.images, cases.spoil(views, "generated", "cup").images)


def test_one_view_is_wrong(cases, views):
    other = Views(255 - views.images, views.alpha.flip(-1), views.cameras)
    wrong = cases.spoil(views, "wrong", "ball", other)
    at = cases.wrong_view("ball", 16)
    assert 0 < at < 16
    right = cases.spoil(views, "generated", "ball", other)
    changed = (wrong.rgb != right.rgb).flatten(1).any(dim=1).nonzero().flatten().tolist()
    assert changed == [at]
    assert (wrong.rgb[at] - other.rgb[at]).abs().max() < 0.01


def test_given_and_held_out_views_do_not_overlap(cases, views):
    ball = trimesh.creation.icosphere(2, 0.4)
    thing = cases.Object("ball", ball, np.zeros((1, 3)), views, None)
    assert len(thing.given(4)) == 4
    assert torch.equal(thing.given(4).cameras.w2c, ring(4).w2c)
    assert len(thing.held_out(4)) == 12
    assert thing.held_out(16) is None
    for camera in thing.given(4).cameras.w2c:
        assert (thing.held_out(4).cameras.w2c - camera).abs().amax(dim=(1, 2)).min() > 0.1


@pytest.fixture
def bench(folder, tmp_path, monkeypatch):
    """The script with two small objects and folders of its own."""
    module = importlib.import_module("reconstruct")
    monkeypatch.setattr(module, "RESULTS", tmp_path / "results")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "shared" / "meshes").mkdir(parents=True)
    for name, size in (("slab", (0.6, 0.6, 0.3)), ("tower", (0.3, 0.3, 0.8))):
        box = trimesh.creation.box(size)
        box.visual.face_colors = [90, 140, 200]
        box.export(tmp_path / "shared" / "meshes" / f"{name}.glb")

    def run(*more: str) -> list[dict]:
        args = ["reconstructors=hull", "hull.resolution=24", "views=4", "size=64", "name=t"]
        args += ["shared=shared"]
        monkeypatch.setattr(sys, "argv", ["reconstruct.py", *args, *more])
        module.main()
        return module.read(tmp_path / "results" / "reconstruct_t.jsonl")

    return run


@pytest.mark.slow
def test_run_stop_and_go_on(bench, tmp_path, capsys):
    pytest.importorskip("mesh2sdf")
    pytest.importorskip("matplotlib")
    first = bench("objects=slab", "defects=clean")
    assert "1 cases to run, 0 there" in capsys.readouterr().out
    both = bench("objects=slab,tower", "defects=clean")
    printed = capsys.readouterr().out
    assert "1 cases to run, 1 there" in printed
    assert [row["object"] for row in both] == ["slab", "tower"]
    assert both[0] == first[0]
    for row in both:
        assert 0.003 < row["chamfer_floor"] < row["chamfer"] < 0.1
        assert 0.3 < row["iou"] < 1
        assert 12 < row["psnr_object"] < row["psnr"] < 40
        assert row["seconds"] > 0
        assert row["peak_mb"] > 100
    summary = json.loads((tmp_path / "results" / "reconstruct_t.json").read_text())
    assert {"versions", "device", "commit", "threads"} <= set(summary)
    (group,) = summary["summary"]
    assert group["objects"] == 2
    assert group["chamfer"]["median"] == pytest.approx(np.median([r["chamfer"] for r in both]))
    assert (tmp_path / "results" / "reconstruct_t.png").stat().st_size > 5000
    assert (tmp_path / "outputs" / "reconstruct_t" / "sheet.png").is_file()
    assert "hull (resolution=24, 64²)" in printed


def test_no_new_case_after_the_time(bench, capsys):
    assert bench("objects=slab", "defects=clean", "minutes=0") == []
    assert "1 cases left for the next run" in capsys.readouterr().out


def test_unknown_arguments_are_refused(bench):
    for argument in ("object=slab", "neus.steps=5"):
        with pytest.raises(SystemExit, match="unknown argument"):
            bench(argument, "objects=slab")
    with pytest.raises(SystemExit, match="unknown defects"):
        bench("objects=slab", "defects=noisy")


def test_only_cases_that_all_finished_are_compared(folder):
    module = importlib.import_module("reconstruct_report")
    row = {"views": 16, "defects": "clean", "settings": "", "size": 256}
    rows = [
        {**row, "object": "a", "reconstructor": "hull", "chamfer": 1.0},
        {**row, "object": "b", "reconstructor": "hull", "chamfer": 3.0},
        {**row, "object": "a", "reconstructor": "neus", "chamfer": 2.0},
        {**row, "object": "b", "reconstructor": "neus", "error": "no object"},
    ]
    groups = module.summarise(rows)
    assert groups[16, "clean", "hull"]["chamfer"]["median"] == 2
    assert groups[16, "clean", "neus"]["failed"] == 1
    fair = module.summarise(module.common(rows))
    assert fair[16, "clean", "hull"]["chamfer"] == {
        "median": 1.0, "q1": 1.0, "q3": 1.0, "objects": 1,
    }  # fmt: skip


def test_named_wrong_views_are_counted(folder):
    module = importlib.import_module("reconstruct_report")
    row = {"views": 4, "settings": "", "size": 256, "reconstructor": "hull"}
    rows = [
        {**row, "worst": [2], "wrong_view": 2},
        {**row, "worst": [3, 1], "wrong_view": 2},
        {**row, "worst": []},
    ]
    # Of 12 views, 10 are right, and 2 of those were named.
    assert module.detection(rows) == {"hull": (1, 2, 0.2)}
