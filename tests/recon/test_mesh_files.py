"""Meshes: their checks, their files, their simplification."""

from __future__ import annotations

import json
import struct

import numpy as np
import pytest
import trimesh

from mvdiff.errors import MvdiffError
from mvdiff.recon import Mesh


@pytest.fixture
def mesh() -> Mesh:
    """A box with three different sides, coloured by position, dark tones included."""
    box = trimesh.creation.box((0.2, 0.4, 0.9)).subdivide().subdivide()
    box.apply_translation([0.1, 0.0, 0.3])
    colors = ((box.vertices - box.bounds[0]) / np.ptp(box.bounds, axis=0) * 255).round()
    return Mesh(box.vertices.astype(np.float32), np.array(box.faces), colors.astype(np.uint8))


def ordered(vertices: np.ndarray, *more: np.ndarray) -> list[np.ndarray]:
    order = np.lexsort(np.round(vertices, 4).T)
    return [vertices[order], *(m[order] for m in more)]


@pytest.mark.parametrize("suffix", [".glb", ".ply", ".obj"])
def test_files_keep_positions_and_colours(mesh, tmp_path, suffix):
    back = Mesh.load(mesh.export(tmp_path / f"m{suffix}"))
    assert len(back.faces) == len(mesh.faces)
    for got, expected in zip(
        ordered(back.vertices, back.colors), ordered(mesh.vertices, mesh.colors), strict=True
    ):
        assert np.allclose(got, expected, atol=1e-5)


def test_stl_keeps_the_shape(mesh, tmp_path):
    back = Mesh.load(mesh.export(tmp_path / "m.stl")).to_trimesh()
    assert back.volume == pytest.approx(0.2 * 0.4 * 0.9, rel=1e-4)
    assert np.allclose(back.bounds, mesh.to_trimesh().bounds, atol=1e-6)


def test_glb_is_y_up(mesh, tmp_path):
    raw = trimesh.load_scene(mesh.export(tmp_path / "m.glb"))
    low, high = mesh.to_trimesh().bounds
    assert np.allclose(raw.bounds, [[low[0], low[2], -high[1]], [high[0], high[2], -low[1]]])
    assert raw.to_geometry().volume > 0


def test_glb_colours_are_linear_and_not_metal(mesh, tmp_path):
    data = mesh.export(tmp_path / "m.glb").read_bytes()
    length = struct.unpack("<I", data[12:16])[0]
    tree = json.loads(data[20 : 20 + length])
    primitive = tree["meshes"][0]["primitives"][0]
    accessor = tree["accessors"][primitive["attributes"]["COLOR_0"]]
    assert accessor["normalized"] is True
    assert accessor["componentType"] == 5123
    assert set(primitive["attributes"]) == {"POSITION", "NORMAL", "COLOR_0"}
    material = tree["materials"][primitive["material"]]["pbrMetallicRoughness"]
    assert material["metallicFactor"] == 0
    raw = next(iter(trimesh.load_scene(tmp_path / "m.glb").geometry.values()))
    linear = np.sort(raw.visual.vertex_attributes["color"][:, 0] / 65535)
    # sRGB 128 is 0.2159 of the light.
    assert linear[np.searchsorted(linear, 0.2)] == pytest.approx(0.2159, abs=1e-3)


def test_suffix_may_be_upper_case(mesh, tmp_path):
    assert mesh.export(tmp_path / "M.PLY").read_bytes()[:3] == b"ply"


def test_unknown_format_lists_the_known(mesh, tmp_path):
    with pytest.raises(MvdiffError, match="GLB, OBJ, PLY or STL"):
        mesh.export(tmp_path / "m.fbx")
    assert not list(tmp_path.iterdir())


def test_failed_export_leaves_nothing(mesh, tmp_path, monkeypatch):
    monkeypatch.setattr(Mesh, "_glb", lambda self: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        mesh.export(tmp_path / "m.glb")
    assert not list(tmp_path.iterdir())


def test_simplify_keeps_shape_and_colours():
    ball = trimesh.creation.icosphere(subdivisions=4, radius=0.5)
    colors = np.where(ball.vertices[:, 2:] > 0, [200, 0, 0], [0, 0, 200]).astype(np.uint8)
    mesh = Mesh(ball.vertices.astype(np.float32), np.array(ball.faces), colors)
    small = mesh.simplify(500)
    assert len(small.faces) <= 500
    assert small.to_trimesh().is_watertight
    assert small.to_trimesh().volume == pytest.approx(ball.volume, rel=0.03)
    top, bottom = small.vertices[:, 2] > 0.1, small.vertices[:, 2] < -0.1
    assert (small.colors[top] == [200, 0, 0]).all()
    assert (small.colors[bottom] == [0, 0, 200]).all()
    assert mesh.simplify(10**6) is mesh
    with pytest.raises(MvdiffError, match="faces=3"):
        mesh.simplify(3)


def test_scenes_are_joined_in_place():
    a, b = trimesh.creation.box(), trimesh.creation.icosphere(subdivisions=1)
    a.visual.face_colors, b.visual.vertex_colors = [255, 0, 0], [0, 255, 0]
    scene = trimesh.Scene()
    scene.add_geometry(a)
    scene.add_geometry(b, transform=trimesh.transformations.translation_matrix([3, 0, 0]))
    mesh = Mesh.from_trimesh(scene)
    assert len(mesh.faces) == len(a.faces) + len(b.faces)
    right = mesh.vertices[:, 0] > 1
    assert (mesh.colors[right] == [0, 255, 0]).all()
    assert (mesh.colors[~right] == [255, 0, 0]).all()
    assert mesh.vertices[:, 0].max() == pytest.approx(4, abs=0.01)


def test_bad_meshes_are_refused(tmp_path, mesh):
    with pytest.raises(MvdiffError, match="NaN"):
        Mesh(np.full_like(mesh.vertices, np.nan), mesh.faces, mesh.colors)
    with pytest.raises(MvdiffError, match="no mesh at"):
        Mesh.load(tmp_path / "none.glb")
    (tmp_path / "bad.glb").write_bytes(b"not a mesh")
    with pytest.raises(MvdiffError, match=r"cannot read the mesh .*bad\.glb"):
        Mesh.load(tmp_path / "bad.glb")
    with pytest.raises(MvdiffError, match="no triangles"):
        Mesh.from_trimesh(trimesh.Trimesh())
