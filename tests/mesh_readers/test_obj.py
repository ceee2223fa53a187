"""OBJ and MTL in the forms that programs write."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mvdiff.cameras import look_at
from mvdiff.data.meshes import load_mesh, normalize_to_rig
from mvdiff.errors import MvdiffError
from mvdiff.evaluation import evaluate_mesh
from mvdiff.mesh_readers import read_mesh_file
from mvdiff.rendering import Raycaster

SIZE = np.array([1.0, 0.6, 0.8])
CORNERS = np.array([[x, y, z] for x in (0, 1) for y in (0, 1) for z in (0, 1)]) * SIZE - SIZE / 2
#: Outward faces of the box, counted from 0.
QUADS = [[0, 1, 3, 2], [4, 6, 7, 5], [0, 4, 5, 1], [2, 3, 7, 6], [0, 2, 6, 4], [1, 5, 7, 3]]


def absolute() -> str:
    lines = ["v {} {} {}".format(*corner) for corner in CORNERS]
    return "\n".join(lines + ["f " + " ".join(str(i + 1) for i in quad) for quad in QUADS])


def relative() -> str:
    """Each face after its own four vertices, which it counts from the end."""
    lines = []
    for quad in QUADS:
        lines += ["v {} {} {}".format(*CORNERS[i]) for i in quad] + ["f -4 -3 -2 -1"]
    return "\n".join(lines)


def triangles(path: Path) -> np.ndarray:
    return np.concatenate([part.vertices[part.faces] for part in read_mesh_file(path).parts])


def volume(corners: np.ndarray) -> float:
    a, b, c = corners[:, 0], corners[:, 1], corners[:, 2]
    return float(np.einsum("ni,ni->n", a, np.cross(b, c)).sum() / 6)


def write(folder: Path, obj: str | bytes, name: str = "a.obj") -> Path:
    content = obj.encode() if isinstance(obj, str) else obj
    (folder / name).write_bytes(content)
    return folder / name


@pytest.mark.parametrize(
    "text",
    [
        absolute(),
        relative(),
        absolute().replace("\n", "\r\n"),
        absolute().replace(" ", "\t"),
        "\ufeff# a comment\no thing\ns 1\n" + absolute(),
        absolute().replace("f 1 2 4 3", "f 1 2 \\\n 4 3"),
        absolute().replace("f 1 2 4 3", "f 1// 2// 4// 3//  # a side"),
        absolute().replace("v -0.5 -0.3 -0.4\n", "v -0.5 -0.3 -0.4 1.0\n"),
        "vt 0 0\nvn 1 0 0\n" + absolute().replace("f 1 2 4 3", "f 1/1/1 2/1/1 4/1/1 3/1/1"),
    ],
)
def test_forms_of_one_box(tmp_path, text):
    corners = triangles(write(tmp_path, text))
    assert len(corners) == 12
    np.testing.assert_allclose(corners.min(axis=(0, 1)), -SIZE / 2)
    np.testing.assert_allclose(corners.max(axis=(0, 1)), SIZE / 2)
    assert volume(corners) == pytest.approx(np.prod(SIZE))


def test_evaluate_reads_relative_indices(tmp_path):
    """Equal boxes, one with relative indices: the distance is that of equal surfaces."""
    pred, truth = write(tmp_path, relative()), write(tmp_path, absolute(), "b.obj")
    figures = evaluate_mesh(pred, truth, iou=False)
    assert figures["chamfer"] == pytest.approx(0, abs=1e-9)


def test_concave_polygons(tmp_path):
    """An L of area 3 and an arrow (a concave quad) of area 1."""
    ell = "v 0 0 0\nv 2 0 0\nv 2 1 0\nv 1 1 0\nv 1 2 0\nv 0 2 0\nf 3 4 5 6 1 2\n"
    corners = triangles(write(tmp_path, ell))
    across = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    assert len(corners) == 4
    assert (across[:, 2] >= 0).all()
    assert across[:, 2].sum() / 2 == pytest.approx(3)
    arrow = "v 0 0 0\nv 1 2 0\nv 0 1 0\nv -1 2 0\nf 2 3 4 1\nf 3 4 1 2\nf 4 1 2 3\nf 1 2 3 4\n"
    corners = triangles(write(tmp_path, arrow))
    across = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])[:, 2]
    assert (across >= 0).all()
    assert across.sum() / 2 == pytest.approx(4)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("v 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 9\n", "vertex 8"),
        ("v 0 0 0\nv 1 0 0\nv 0 1 0\nf 0 1 2\n", "counts from 1"),
        ("v 0 0 0\nv 1 0 0\nv 0 1 0\nf -1 -2 -9\n", "counts back"),
        ("v 0 0 0\nv 1 0 0\nv 0 1 0\nf a b c\n", "f|face"),
        ("v 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 1e999\n", "face"),
        ("v 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 99999999999999999999\n", "face"),
        ("v 0 0 0\nv 1 0\nv 0 1 0\nf 1 2 3\n", "fewer than 3"),
        ("v 0 0 0\nv 1 x 0\nv 0 1 0\nf 1 2 3\n", "no numbers"),
        ("v 0 0 0\nv 1 0 0\nv 0 1 0\nf 1/9 2/9 3/9\n", "vt"),
        ("v 0 0 0\nv 1 0 0\nv nan 1 0\nf 1 2 3\n", "NaN"),
        ("v 0 0 0\nv 1 0 0\nv 0 1 0\n", "no usable faces"),
        ("", "empty"),
    ],
)
def test_damaged_files_are_refused(tmp_path, text, says):
    with pytest.raises(MvdiffError, match=says) as error:
        read_mesh_file(write(tmp_path, text))
    assert "a.obj" in str(error.value)


def seen(path: Path, azimuth: float, elevation: float = 0) -> list[int]:
    mesh = normalize_to_rig(load_mesh(path))
    camera = look_at([azimuth], [elevation], size=9)
    return Raycaster(mesh).render(camera, shading=None).color[0, :, 4, 4].tolist()


def two_materials(first: str, second: str, library: str) -> str:
    """The box: +x and the rest."""
    text = [f"mtllib {library}"] + ["v {} {} {}".format(*corner) for corner in CORNERS]
    text += ["vt 0 0", "vt 1 0", "vt 1 1", "vt 0 1"]
    for i, quad in enumerate(QUADS):
        text.append(f"usemtl {first if i == 1 else second}")
        text.append("f " + " ".join(f"{c + 1}/{k + 1}" for k, c in enumerate(quad)))
    return "\n".join(text)


@pytest.mark.parametrize("encoding", ["latin-1", "utf-8", "utf-16"])
def test_materials_with_umlauts(tmp_path, encoding):
    obj = two_materials("Türblatt außen", "grün", "möbel.mtl")
    mtl = "newmtl Türblatt außen\nKd 0.8 0.1 0.1\n\nnewmtl grün\nkd 0.1 0.6 0.1\nillum 2\n"
    write(tmp_path, obj.encode(encoding))
    write(tmp_path, mtl.encode(encoding), "möbel.mtl")
    assert seen(tmp_path / "a.obj", 0) == [204, 26, 26]
    assert seen(tmp_path / "a.obj", 180) == [26, 153, 26]
    assert load_mesh(tmp_path / "a.obj").metadata["notes"] == []


@pytest.mark.parametrize(
    "statement",
    [
        "map_Kd tex/wood 1.png",
        "map_Kd -s 1 1 1 tex/wood 1.png",
        "map_Kd -o 0 0 -s 1 1 -clamp on -bm 0.3 tex/wood 1.png",
        "map_Kd tex\\wood 1.png",
        "map_Kd TEX/Wood 1.PNG",
        "MAP_KD\ttex/wood 1.png",
        'map_Kd "tex/wood 1.png"',
        "map_Kd C:\\Users\\me\\wood 1.png",
        "map_Kd /home/me/wood 1.png",
    ],
)
def test_textures_however_they_are_named(tmp_path, statement):
    (tmp_path / "tex").mkdir()
    picture = Image.new("RGB", (8, 8), (10, 120, 240))
    picture.save(tmp_path / "tex" / "wood 1.png")
    if ":" in statement or "/home" in statement:
        picture.save(tmp_path / "wood 1.png")
    write(tmp_path, two_materials("a", "b", "A.MTL"))
    write(tmp_path, f"newmtl a\nKd 0 0 0\n{statement}\nnewmtl b\nKd 1 0 0\n", "a.mtl")
    assert seen(tmp_path / "a.obj", 0) == [10, 120, 240]
    assert seen(tmp_path / "a.obj", 180) == [255, 0, 0]
    assert load_mesh(tmp_path / "a.obj").metadata["notes"] == []


def test_opacity_maps_are_holes(tmp_path):
    Image.new("RGB", (8, 8), (10, 120, 240)).save(tmp_path / "c.png")
    mask = np.zeros((64, 64), np.uint8)
    mask[16:48, 16:48] = 255
    Image.fromarray(mask).save(tmp_path / "m.png")
    write(tmp_path, two_materials("a", "b", "a.mtl"))
    write(tmp_path, "newmtl a\nmap_Kd c.png\nmap_d m.png\nnewmtl b\nKd 1 0 0\n", "a.mtl")
    mesh = normalize_to_rig(load_mesh(tmp_path / "a.obj"))
    color = Raycaster(mesh).render(look_at([0], [0], size=65), shading=None).color[0]
    assert color[:, 32, 32].tolist() == [10, 120, 240]
    assert color[:, 32, 20].tolist() == [255, 0, 0]  # the far side, through the hole


@pytest.mark.parametrize(
    ("mtl", "says"),
    [
        (None, "gone.mtl"),
        ("newmtl a\nKd 1 0 0\nmap_Kd gone.png\nnewmtl b\n", "gone.png"),
        ("newmtl a\nKd 1 0 0\n", "materials b"),
        ("newmtl a\nKd 1 0 0\nmap_Kd text.png\nnewmtl b\n", "text.png"),
        ("newmtl a\nKd 1 0 0\nmap_Kd -s 3 3 1 t.png\nnewmtl b\n", "scale"),
        ("newmtl a\nKd 1 0 0\nd 0.4\nnewmtl b\n", "transparent"),
    ],
)
def test_what_is_missing_is_noted_once(tmp_path, mtl, says):
    (tmp_path / "text.png").write_text("no picture")
    Image.new("RGB", (4, 4)).save(tmp_path / "t.png")
    write(tmp_path, two_materials("a", "b", "gone.mtl" if mtl is None else "a.mtl"))
    if mtl is not None:
        write(tmp_path, mtl, "a.mtl")
    (note,) = load_mesh(tmp_path / "a.obj").metadata["notes"]
    assert says in note


def test_vertex_colors_as_floats_and_bytes(tmp_path):
    for scale in (1, 255):
        lines = [
            "v {} {} {} {} {} {}".format(*corner, 0.8 * scale, 0.2 * scale, 0) for corner in CORNERS
        ]
        faces = ["f " + " ".join(str(i + 1) for i in quad) for quad in QUADS]
        assert seen(write(tmp_path, "\n".join(lines + faces)), 0) == [204, 51, 0]
