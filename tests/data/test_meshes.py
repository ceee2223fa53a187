"""Mesh files of every kind come in as one colored mesh, z up, and whole in every view."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import trimesh
from PIL import Image

from mvdiff.cameras import look_at
from mvdiff.data.meshes import DIAGONAL, find_meshes, load_mesh, normalize_to_rig
from mvdiff.errors import MvdiffError
from mvdiff.rendering import Raycaster


def seen_color(mesh: trimesh.Trimesh, azimuth: float = 0, elevation: float = 0) -> list[int]:
    """The bare color at the middle of a picture."""
    cameras = look_at([azimuth], [elevation], size=9)
    return (
        Raycaster(normalize_to_rig(mesh)).render(cameras, shading=None).color[0, :, 4, 4].tolist()
    )


def painted_box(extents=(1, 1, 1), rgb=(250, 30, 60)) -> trimesh.Trimesh:
    mesh = trimesh.creation.box(extents=extents)
    mesh.visual.vertex_colors = np.tile([*rgb, 255], (8, 1))
    return mesh


@pytest.mark.parametrize("suffix", ["glb", "obj", "ply"])
def test_vertex_colors_survive_every_format(tmp_path, suffix):
    path = tmp_path / f"box.{suffix}"
    painted_box().export(path)
    mesh = load_mesh(path)
    assert len(mesh.faces) == 12
    assert np.abs(np.array(seen_color(mesh)) - [250, 30, 60]).max() <= 1


@pytest.mark.parametrize(
    ("suffix", "up", "axis"),
    [("glb", "auto", 2), ("ply", "auto", 1), ("ply", "y", 2), ("glb", "z", 1), ("obj", "auto", 1)],
)
def test_up_axis(tmp_path, suffix, up, axis):
    path = tmp_path / f"post.{suffix}"
    post = painted_box((1, 5, 1))
    post.apply_translation([0, 2.5, 0])
    post.export(path)
    mesh = load_mesh(path, up=up)
    assert np.argmax(mesh.extents) == axis
    # Up stays up: the post stands on its origin.
    assert mesh.bounds[0, axis] == pytest.approx(0, abs=1e-6)
    assert mesh.bounds[1, axis] == pytest.approx(5, abs=1e-6)


def test_scenes_are_flattened_with_their_transforms(tmp_path):
    scene = trimesh.Scene()
    place = trimesh.transformations.translation_matrix
    scene.add_geometry(painted_box(rgb=(255, 0, 0)), transform=place([3, 0, 0]))
    scene.add_geometry(painted_box(rgb=(0, 0, 255)), transform=place([-3, 0, 0]))
    scene.export(tmp_path / "two.glb")
    mesh = load_mesh(tmp_path / "two.glb")
    assert len(mesh.faces) == 24
    np.testing.assert_allclose(mesh.extents, [7, 1, 1], atol=1e-6)
    assert seen_color(mesh, azimuth=0) == [255, 0, 0]
    assert seen_color(mesh, azimuth=180) == [0, 0, 255]


def test_material_colors_and_smooth_normals_are_kept(tmp_path):
    ball = trimesh.creation.icosphere(subdivisions=2)
    material = trimesh.visual.material.PBRMaterial(baseColorFactor=[255, 0, 55, 255])
    ball.visual = trimesh.visual.TextureVisuals(uv=np.zeros((162, 2)), material=material)
    assert len(ball.vertex_normals) == 162
    ball.export(tmp_path / "ball.glb", include_normals=True)
    mesh = load_mesh(tmp_path / "ball.glb")
    assert np.abs(np.array(seen_color(mesh)) - [255, 0, 128]).max() <= 1
    normal = mesh.vertex_attributes["normal"]
    np.testing.assert_allclose(
        normal, mesh.vertices / np.linalg.norm(mesh.vertices, axis=1)[:, None], atol=1e-2
    )


def export_textured(path, pixels: np.ndarray, uv: list) -> None:
    material = trimesh.visual.material.PBRMaterial(baseColorTexture=Image.fromarray(pixels))
    corners = [[0, -0.5, -0.5], [0, 0.5, -0.5], [0, 0.5, 0.5], [0, -0.5, 0.5]]
    visual = trimesh.visual.TextureVisuals(uv=uv, material=material)
    mesh = trimesh.Trimesh(corners, [[0, 1, 2], [0, 2, 3]], visual=visual, process=False)
    mesh.export(path)


def test_palette_textures_become_colors(tmp_path):
    pixels = np.zeros((64, 64, 3), dtype=np.uint8)
    pixels[:32], pixels[32:] = [20, 200, 90], [250, 10, 10]
    export_textured(tmp_path / "a.glb", pixels, [[0.2, 0.8], [0.3, 0.8], [0.3, 0.9], [0.2, 0.9]])
    mesh = load_mesh(tmp_path / "a.glb", up="z")
    assert mesh.visual.kind == "vertex"
    assert seen_color(mesh) == [20, 200, 90]


def test_detailed_textures_are_kept(tmp_path):
    pixels = np.zeros((64, 64, 3), dtype=np.uint8)
    pixels[:32], pixels[32:] = [20, 200, 90], [250, 10, 10]
    export_textured(tmp_path / "a.glb", pixels, [[0, 0], [1, 0], [1, 1], [0, 1]])
    mesh = load_mesh(tmp_path / "a.glb", up="z")
    picture = (
        Raycaster(normalize_to_rig(mesh)).render(look_at([0], [0], size=33), shading=None).color[0]
    )
    assert picture[:, 10, 16].tolist() == [20, 200, 90]
    assert picture[:, 22, 16].tolist() == [250, 10, 10]


def test_detailed_textures_and_plain_parts_share_one_mesh(tmp_path):
    pixels = np.zeros((64, 64, 3), dtype=np.uint8)
    pixels[:32], pixels[32:] = [20, 200, 90], [250, 10, 10]
    export_textured(tmp_path / "a.glb", pixels, [[0, 0], [1, 0], [1, 1], [0, 1]])
    scene = trimesh.load(tmp_path / "a.glb", force="scene")
    box = painted_box((0.1, 0.1, 0.1), (10, 20, 230))
    scene.add_geometry(box, transform=trimesh.transformations.translation_matrix([-1, 0, 0]))
    scene.export(tmp_path / "b.glb")
    mesh = load_mesh(tmp_path / "b.glb", up="z")
    assert len(mesh.faces) == 14
    assert np.abs(np.array(seen_color(mesh, azimuth=180)) - [10, 20, 230]).max() <= 2
    front = (
        Raycaster(normalize_to_rig(mesh)).render(look_at([0], [0], size=33), shading=None).color[0]
    )
    assert np.abs(front[:, 13, 16].numpy().astype(int) - [20, 200, 90]).max() <= 2
    assert np.abs(front[:, 19, 16].numpy().astype(int) - [250, 10, 10]).max() <= 2


def test_broken_files_are_named(tmp_path):
    (tmp_path / "junk.glb").write_bytes(b"glTF this is not")
    (tmp_path / "empty.ply").write_bytes(b"")
    (tmp_path / "empty.obj").write_text("# nothing\n")
    trimesh.PointCloud(np.eye(3)).export(tmp_path / "points.ply")
    for name in ("junk.glb", "empty.ply", "empty.obj", "points.ply", "missing.glb"):
        with pytest.raises(MvdiffError, match=name):
            load_mesh(tmp_path / name)


def test_infinite_vertices_are_refused(tmp_path):
    (tmp_path / "nan.obj").write_text("v nan 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 3\n")
    with pytest.raises(MvdiffError, match=r"nan\.obj"):
        load_mesh(tmp_path / "nan.obj")


def test_unknown_options_are_refused(tmp_path):
    with pytest.raises(MvdiffError, match="'auto', 'y' or 'z'"):
        load_mesh(tmp_path / "a.glb", up="x")
    with pytest.raises(MvdiffError, match="'diagonal' or 'extent'"):
        normalize_to_rig(painted_box(), normalization="volume")


def test_find_meshes(tmp_path):
    (tmp_path / "deep").mkdir()
    for name in ("b.GLB", "a.ply", "deep/c.obj", "notes.txt", ".hidden.glb"):
        (tmp_path / name).write_bytes(b"x")
    found = [p.relative_to(tmp_path).as_posix() for p in find_meshes(tmp_path)]
    assert found == ["a.ply", "b.GLB", "deep/c.obj"]
    with pytest.raises(MvdiffError, match="no mesh folder"):
        find_meshes(tmp_path / "nowhere")
    (tmp_path / "void").mkdir()
    with pytest.raises(MvdiffError, match="no meshes"):
        find_meshes(tmp_path / "void")


def test_extent_is_as_published():
    mesh = painted_box((2, 4, 1))
    mesh.apply_translation([7, 8, 9])
    scaled = normalize_to_rig(mesh, normalization="extent")
    np.testing.assert_allclose(scaled.bounds, [[-0.25, -0.5, -0.125], [0.25, 0.5, 0.125]])
    assert mesh.extents.max() == 4


@pytest.mark.parametrize("extents", [(1, 1, 1), (1, 1, 0.01), (5, 1, 1), (9, 0.1, 0.1), (3, 2, 1)])
def test_by_the_diagonal_every_view_is_whole(extents):
    mesh = normalize_to_rig(painted_box(extents))
    assert np.linalg.norm(mesh.extents) <= DIAGONAL + 1e-9
    assert mesh.extents.max() <= 1 + 1e-9
    angles = np.random.default_rng(0).uniform([0, -90], [360, 90], (40, 2)).T.tolist()
    alpha = Raycaster(mesh).render(look_at(*angles, size=64), supersample=3).alpha[:, 0]
    assert (alpha > 0).flatten(1).any(dim=1).all()
    edge = torch.cat([alpha[:, 0], alpha[:, -1], alpha[:, :, 0], alpha[:, :, -1]], dim=1)
    assert edge.max() == 0


def test_stray_vertices_do_not_move_the_object():
    mesh = painted_box()
    stray = trimesh.Trimesh(np.vstack([mesh.vertices, [[100, 0, 0]]]), mesh.faces, process=False)
    np.testing.assert_allclose(
        normalize_to_rig(stray).vertices[:8], normalize_to_rig(mesh).vertices, atol=1e-12
    )


def test_a_mesh_without_extent_is_refused():
    with pytest.raises(MvdiffError, match="without extent"):
        normalize_to_rig(trimesh.Trimesh())
