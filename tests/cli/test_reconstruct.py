"""What `mvdiff reconstruct` records in mesh-run.json about the surface and its fit."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import trimesh
from helpers.tiny_recipe import ball_views

from mvdiff.cameras import ring
from mvdiff.cli.main import main
from mvdiff.cli.reconstruct import _closed
from mvdiff.recon import Mesh

QUICK = ["reconstructor.resolution=20", "reconstructor.max_faces=400", "turntable=false"]


@pytest.fixture
def ball(tmp_path) -> Path:
    ball_views(ring(8, size=32)).save(tmp_path / "ball")
    return tmp_path / "ball"


def record(views: Path, *settings: str) -> dict:
    assert main(["reconstruct", f"views={views}", *QUICK, *settings]) == 0
    return json.loads((views / "mesh-run.json").read_text(), parse_constant=pytest.fail)


def as_mesh(vertices: np.ndarray, faces: np.ndarray) -> Mesh:
    vertices = np.asarray(vertices, np.float32)
    return Mesh(vertices, np.asarray(faces, np.int64), np.zeros(vertices.shape, np.uint8))


def test_a_textured_mesh_is_closed_by_its_positions_with_a_note(ball, capsys):
    run = record(ball, "texture_size=32", "watertight=true")
    seams = "mesh.glb is watertight up to duplicated vertices"
    assert seams in capsys.readouterr().err
    assert run["watertight"] is True
    assert any(note.startswith(seams) for note in run["notes"])
    # the file's own vertices are split at the seams: merged, they are closed
    shape = trimesh.load(ball / "mesh.glb", force="mesh")
    assert not shape.is_watertight
    shape.merge_vertices(merge_tex=True, merge_norm=True)
    assert shape.is_watertight


def test_a_mesh_without_texture_is_closed_as_it_is(ball):
    run = record(ball, "texture_size=none", "watertight=true")
    assert (run["watertight"], run["notes"]) == (True, ["watertight: closed already"])
    assert run["fit"] is None
    assert trimesh.load(ball / "mesh.glb", force="mesh").is_watertight


def test_closed_is_judged_by_position():
    box = trimesh.creation.box()
    assert _closed(as_mesh(box.vertices, box.faces))
    soup = as_mesh(box.vertices[box.faces.ravel()], np.arange(36).reshape(-1, 3))
    assert _closed(soup)
    assert not _closed(as_mesh(box.vertices, box.faces[1:]))
    assert not _closed(as_mesh(box.vertices, np.vstack([box.faces[:1, ::-1], box.faces[1:]])))


def test_a_fit_leaves_its_steps_seconds_and_losses(ball):
    fit = ["steps=30", "rays=64", "samples=8", "coarse=16", "grid_levels=2", "color_levels=[8]"]
    settings = [f"reconstructor.{s}" for s in (*fit, "init_from_photohull=false", "device=cpu")]
    run = record(ball, "reconstructor=neus", "texture_size=none", *settings)
    assert run["fit"]["steps"] == 30
    assert 0 < run["fit"]["seconds"] < sum(run["seconds"].values())
    assert list(run["fit"]["losses"]) == ["color", "mask", "eikonal"]
    assert all(0 <= loss < 10 for loss in run["fit"]["losses"].values())
