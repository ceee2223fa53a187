"""Closing meshes with holes."""

from __future__ import annotations

import numpy as np
import pytest
import trimesh

from mvdiff.mesh.postprocess import postprocess
from mvdiff.mesh.repair import make_watertight
from mvdiff.recon import Mesh


def as_mesh(shape: trimesh.Trimesh) -> Mesh:
    colors = np.full((len(shape.vertices), 3), [10, 200, 30], np.uint8)
    return Mesh(np.array(shape.vertices, np.float32), np.array(shape.faces, np.int64), colors)


@pytest.fixture
def ball() -> trimesh.Trimesh:
    return trimesh.creation.icosphere(subdivisions=3, radius=0.4)


def without(shape: trimesh.Trimesh, gone: np.ndarray) -> trimesh.Trimesh:
    return trimesh.Trimesh(shape.vertices, shape.faces[~gone], process=False)


def test_closed_meshes_are_left_alone(ball):
    mesh = as_mesh(ball)
    assert make_watertight(mesh) == (mesh, "closed already")
    # split at every face, as files may be: the same surface is closed by position
    soup = as_mesh(
        trimesh.Trimesh(ball.vertices[ball.faces.ravel()], np.arange(3840).reshape(-1, 3))
    )
    assert make_watertight(soup) == (soup, "closed already")


def test_holes_get_flat_lids(ball):
    middle = ball.triangles_center
    mesh, done = make_watertight(
        as_mesh(without(ball, (middle[:, 2] > 0.3) | (middle[:, 0] > 0.3)))
    )
    shape = mesh.to_trimesh()
    assert done == "filled 2 holes"
    assert shape.is_watertight
    assert shape.is_winding_consistent
    assert 0.85 * ball.volume < shape.volume < ball.volume
    assert (mesh.colors == [10, 200, 30]).all()


def test_one_missing_face(ball):
    gone = np.arange(len(ball.faces)) == 17
    mesh, done = make_watertight(as_mesh(without(ball, gone)))
    assert done == "filled 1 hole"
    assert mesh.to_trimesh().volume == pytest.approx(ball.volume, rel=1e-4)


def test_faces_that_disagree_are_turned(ball):
    faces = ball.faces.copy()
    faces[700:] = faces[700:, ::-1]
    mesh, done = make_watertight(as_mesh(trimesh.Trimesh(ball.vertices, faces[20:], process=False)))
    assert done.startswith("filled ")
    assert abs(mesh.to_trimesh().volume) == pytest.approx(ball.volume, rel=0.05)


def test_a_fin_makes_it_be_rebuilt():
    box = trimesh.creation.box((1.0, 0.7, 0.5))
    vertices = np.concatenate([box.vertices, [[0, 0, 0.6]]])
    faces = np.concatenate([box.faces, [[0, 1, 8]]])
    mesh, done = make_watertight(as_mesh(trimesh.Trimesh(vertices, faces, process=False)))
    shape = mesh.to_trimesh()
    assert done.startswith("rebuilt")
    assert shape.is_watertight
    assert shape.volume == pytest.approx(box.volume, rel=0.04)
    assert np.abs(shape.bounds[:, :2] - box.bounds[:, :2]).max() < 0.01
    assert (mesh.colors == [10, 200, 30]).all()


def test_a_rebuilt_mesh_keeps_to_the_faces_allowed(sphere_views):
    box = trimesh.creation.box((0.6, 0.4, 0.3))
    vertices = np.concatenate([box.vertices, [[0, 0, 0.36]]])
    faces = np.concatenate([box.faces, [[0, 1, 8]]])
    fin = as_mesh(trimesh.Trimesh(vertices, faces, process=False))
    mesh, notes = postprocess(fin, sphere_views, faces=800, watertight=True)
    assert notes[0].startswith("watertight: rebuilt")
    assert mesh.to_trimesh().is_watertight
    assert len(mesh.faces) <= 840 or "fewer would open it again" in notes[0]
