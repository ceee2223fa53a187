"""Meshes: their checks, their files, their simplification."""

from __future__ import annotations

import errno
import json
import pathlib
import struct

import numpy as np
import pytest
import torch
import trimesh
from PIL import Image

from mvdiff.cameras import look_at
from mvdiff.data.meshes import load_mesh, normalize_to_rig
from mvdiff.errors import MvdiffError
from mvdiff.mesh import io as mesh_files
from mvdiff.mesh.mesh import Texture
from mvdiff.recon import Mesh
from mvdiff.rendering import Raycaster


@pytest.fixture
def mesh() -> Mesh:
    """A box with three different sides, colored by position, dark tones included."""
    box = trimesh.creation.box((0.2, 0.4, 0.9)).subdivide().subdivide()
    box.apply_translation([0.1, 0.0, 0.3])
    colors = ((box.vertices - box.bounds[0]) / np.ptp(box.bounds, axis=0) * 255).round()
    return Mesh(box.vertices.astype(np.float32), np.array(box.faces), colors.astype(np.uint8))


#: Colors of the textured square's corners: left and right below, right and left above.
CORNERS = np.array([[250, 20, 20], [20, 240, 20], [20, 20, 230], [240, 240, 30]], np.uint8)


@pytest.fixture
def square() -> Mesh:
    """A square facing −y whose texture has a plain color in each quarter, but not at its seam."""
    vertices = np.array([[-0.4, 0, -0.4], [0.4, 0, -0.4], [0.4, 0, 0.4], [-0.4, 0, 0.4]])
    faces = np.array([[0, 1, 2], [0, 2, 3]])
    uv = np.array([[0, 0], [1, 0], [1, 1], [0, 1]], np.float32)[faces]
    below, above = CORNERS[[0, 1]], CORNERS[[3, 2]]
    image = np.stack([above, below]).repeat(32, axis=0).repeat(32, axis=1)
    return Mesh(vertices.astype(np.float32), faces, CORNERS.copy(), Texture(uv, image))


def seen_corners(mesh: Mesh) -> np.ndarray:
    """Colors near the square's corners, seen from the front, in the order of its vertices."""
    camera = look_at([-90], [0], size=64)
    color = Raycaster(mesh.to_trimesh()).render(camera, shading=None).color[0]
    uv, _ = camera.project(torch.tensor([[x, 0.0, z] for x, z in WITHIN]))
    column, row = uv[0].long().T
    return color[:, row, column].T.numpy()


WITHIN = [(-0.2, -0.2), (0.2, -0.2), (0.2, 0.2), (-0.2, 0.2)]


def gltf(path) -> dict:
    data = path.read_bytes()
    length = struct.unpack("<I", data[12:16])[0]
    return json.loads(data[20 : 20 + length])


def ordered(vertices: np.ndarray, *more: np.ndarray) -> list[np.ndarray]:
    order = np.lexsort(np.round(vertices, 4).T)
    return [vertices[order], *(m[order] for m in more)]


@pytest.mark.parametrize("suffix", [".glb", ".ply", ".obj"])
def test_files_keep_positions_and_colors(mesh, tmp_path, suffix):
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


def test_glb_colors_are_linear_and_not_metal(mesh, tmp_path):
    tree = gltf(mesh.export(tmp_path / "m.glb"))
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
    stop = lambda mesh: (_ for _ in ()).throw(KeyboardInterrupt)  # noqa: E731
    monkeypatch.setattr(mesh_files, "_glb", stop)
    with pytest.raises(KeyboardInterrupt):
        mesh.export(tmp_path / "m.glb")
    assert not list(tmp_path.iterdir())


def test_simplify_keeps_shape_and_colors():
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
    with pytest.raises(MvdiffError, match="max_faces=3"):
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


def test_simplified_meshes_stay_closed(sphere_views):
    from mvdiff.recon import Hull

    mesh = Hull(resolution=64, max_outlier_views=0)(sphere_views)
    for faces in (6000, 4000, 2500, 1500):
        small = mesh.simplify(faces)
        assert small.to_trimesh().is_watertight, faces
        assert len(np.unique(small.faces)) == len(small.vertices)


def test_texture_shows_as_painted(square):
    assert np.array_equal(seen_corners(square), CORNERS)


@pytest.mark.parametrize("suffix", [".glb", ".obj"])
def test_textured_files_look_the_same_when_read(square, tmp_path, suffix):
    back = Mesh.load(square.export(tmp_path / f"s{suffix}"))
    assert len(back.vertices) == 4
    assert np.array_equal(back.texture.image, square.texture.image)
    assert np.array_equal(seen_corners(back), CORNERS)
    # and by trimesh alone, the glTF's axes turned by hand
    raw = trimesh.load_scene(tmp_path / f"s{suffix}").to_geometry()
    place = np.asarray(raw.vertices) @ ([[1, 0, 0], [0, 0, 1], [0, -1, 0]])
    place = place if suffix == ".glb" else np.asarray(raw.vertices)
    for (x, _, z), uv in zip(place, raw.visual.uv, strict=True):
        assert tuple(uv > 0.5) == (x > 0, z > 0)


def test_textured_glb_is_plain_gltf(square, tmp_path):
    tree = gltf(square.export(tmp_path / "s.glb"))
    (primitive,) = tree["meshes"][0]["primitives"]
    assert set(primitive["attributes"]) == {"POSITION", "NORMAL", "TEXCOORD_0"}
    material = tree["materials"][primitive["material"]]["pbrMetallicRoughness"]
    assert material["metallicFactor"] == 0
    texture = tree["textures"][material["baseColorTexture"]["index"]]
    assert tree["images"][texture["source"]]["mimeType"] == "image/png"
    for node in tree["nodes"]:
        matrix = np.array(node.get("matrix", np.eye(4).ravel())).reshape(4, 4)
        assert np.linalg.det(matrix) > 0
    position = tree["accessors"][primitive["attributes"]["POSITION"]]
    assert position["min"] == pytest.approx([-0.4, -0.4, 0])
    assert position["max"] == pytest.approx([0.4, 0.4, 0])
    # glTF counts v from the top: the vertex at the left below has v = 1
    raw = trimesh.load_scene(tmp_path / "s.glb").to_geometry()
    assert raw.face_normals == pytest.approx(np.tile([0, 0, 1], (2, 1)))


def test_obj_names_files_that_are_there(square, tmp_path):
    path = square.export(tmp_path / "my square.obj")
    assert {p.name for p in tmp_path.iterdir()} == {
        "my square.obj",
        "my_square.mtl",
        "my_square_texture.png",
    }
    assert "mtllib my_square.mtl\n" in path.read_text()
    assert "map_Kd my_square_texture.png\n" in (tmp_path / "my_square.mtl").read_text()
    with Image.open(tmp_path / "my_square_texture.png") as picture:
        assert np.array_equal(np.array(picture), square.texture.image)
    assert np.array_equal(seen_corners(Mesh.load(path)), CORNERS)


@pytest.mark.parametrize("suffix", [".ply", ".stl"])
def test_formats_without_textures_get_vertex_colors(square, tmp_path, suffix):
    back = Mesh.load(square.export(tmp_path / f"s{suffix}"))
    assert back.texture is None
    assert len(back.faces) == 2
    if suffix == ".ply":
        assert np.array_equal(*(ordered(m.vertices, m.colors)[1] for m in (back, square)))


@pytest.mark.parametrize("suffix", mesh_files.FORMATS)
@pytest.mark.parametrize("earlier", [False, True])
def test_a_full_disk_leaves_what_was_there(square, tmp_path, monkeypatch, suffix, earlier):
    path = tmp_path / f"s{suffix}"
    if earlier:
        square.export(path)
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}

    def full(*args, **kwargs):
        raise OSError(errno.ENOSPC, "No space left on device")

    # the last write of each format
    monkeypatch.setattr(pathlib.Path, "write_text", full)
    monkeypatch.setattr(pathlib.Path, "write_bytes", full)
    monkeypatch.setattr(trimesh.Trimesh, "export", full)
    with pytest.raises(MvdiffError, match=r"cannot write .*No space left .*: free some space"):
        square.export(path)
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before


def test_seams_split_no_vertices_but_those_of_trimesh(mesh):
    corner = np.random.default_rng(0).random((len(mesh.faces), 3, 2)).astype(np.float32)
    image = np.zeros((8, 8, 3), np.uint8)
    textured = Mesh(mesh.vertices, mesh.faces, mesh.colors, Texture(corner, image))
    shape = textured.to_trimesh()
    assert len(shape.vertices) == 3 * len(mesh.faces)
    assert textured.to_trimesh(textured=False).is_watertight
    # the normals are those of the whole, so that seams do not show in the light
    normals = mesh.to_trimesh().vertex_normals[mesh.faces.ravel()]
    assert np.allclose(shape.vertex_normals[shape.faces.ravel()], normals, atol=1e-6)


def test_texture_lookup_is_bilinear_between_texel_centers():
    image = np.zeros((2, 4, 3), np.uint8)
    image[0, 1], image[0, 2] = 100, 200
    texture = Texture(np.zeros((1, 3, 2), np.float32), image)
    uv = np.array([[1.5 / 4, 0.75], [2 / 4, 0.75], [2.5 / 4, 0.75], [2.5 / 4, 0.5]])
    assert texture.at(uv)[:, 0].tolist() == [100, 150, 200, 100]


def test_texture_must_fit_the_faces(square):
    with pytest.raises(MvdiffError, match=r"needs uv of shape \(2, 3, 2\), got \(1, 3, 2\)"):
        Mesh(
            square.vertices,
            square.faces,
            square.colors,
            Texture(square.texture.uv[:1], square.texture.image),
        )


def test_simplifying_drops_the_texture(mesh):
    uv = np.zeros((len(mesh.faces), 3, 2), np.float32)
    textured = Mesh(
        mesh.vertices, mesh.faces, mesh.colors, Texture(uv, np.zeros((4, 4, 3), np.uint8))
    )
    assert textured.simplify(50).texture is None
    assert textured.simplify(10**6) is textured


def test_colors_of_a_written_glb_are_rendered(mesh, tmp_path):
    """What `texture_size=none` writes (16-bit linear colors beside a material) looks as it was."""
    back = normalize_to_rig(load_mesh(mesh.export(tmp_path / "m.glb")))
    own = normalize_to_rig(mesh.to_trimesh())
    camera = look_at([40], [20], size=48)
    a, b = (Raycaster(m).render(camera, shading=None) for m in (back, own))
    inside = (a.alpha == 255) & (b.alpha == 255)
    difference = (a.color.float() - b.color.float()).abs()[inside.expand_as(a.color)]
    assert inside.sum() > 300
    assert difference.mean() < 1
    assert difference.max() <= 2


def test_what_was_not_used_of_a_file_is_warned_of(tmp_path):
    (tmp_path / "a.obj").write_text(
        "mtllib gone.mtl\nv 0 0 0\nv 1 0 0\nv 0 1 0\nusemtl a\nf 1 2 3\n"
    )
    with pytest.warns(UserWarning, match=r"gone\.mtl"):
        assert len(Mesh.load(tmp_path / "a.obj").faces) == 1
