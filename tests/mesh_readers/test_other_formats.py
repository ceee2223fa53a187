"""PLY, STL and OFF; damaged files of every kind; random damage."""

from __future__ import annotations

import io
import json
import random
import struct
import warnings
from pathlib import Path

import numpy as np
import pytest
import trimesh
from helpers.gltf_files import BOX, BOX_FACES, BOX_SIZE, GltfFile, box, square
from PIL import Image

from mvdiff.cameras import look_at
from mvdiff.data.meshes import load_mesh, normalize_to_rig
from mvdiff.errors import MvdiffError
from mvdiff.mesh_readers import read_mesh_file
from mvdiff.rendering import Raycaster


def painted() -> trimesh.Trimesh:
    mesh = trimesh.Trimesh(BOX, BOX_FACES, process=False)
    mesh.visual.vertex_colors = [204, 64, 26, 255]
    return mesh


def content(kind: str) -> bytes:
    options = {"ply-ascii": ("ply", {"encoding": "ascii"}), "stl-ascii": ("stl_ascii", {})}
    form, extra = options.get(kind, (kind, {}))
    data = painted().export(file_type=form, **extra)
    return data if isinstance(data, bytes) else data.encode()


@pytest.mark.parametrize("kind", ["ply", "ply-ascii", "stl", "stl-ascii", "off"])
def test_shapes(tmp_path, kind):
    path = tmp_path / f"a.{kind[:3].upper()}"
    path.write_bytes(content(kind))
    (part,) = read_mesh_file(path).parts
    corners = part.vertices[part.faces]
    np.testing.assert_allclose(np.ptp(corners.reshape(-1, 3), axis=0), BOX_SIZE, rtol=1e-6)
    assert len(part.faces) == 12


def test_ply_with_quads_doubles_and_float_colors(tmp_path):
    quads = [[0, 1, 3, 2], [4, 6, 7, 5], [0, 4, 5, 1], [2, 3, 7, 6], [0, 2, 6, 4], [1, 5, 7, 3]]
    header = ["ply", "format binary_little_endian 1.0", "element vertex 8"]
    header += [f"property double {axis}" for axis in "xyz"]
    header += [f"property float {name}" for name in ("red", "green", "blue")]
    header += ["element face 6", "property list uchar int vertex_indices", "end_header"]
    data = "\n".join(header).encode() + b"\n"
    data += b"".join(struct.pack("<3d3f", *row, 0.8, 0.25, 0.1) for row in BOX.tolist())
    data += b"".join(struct.pack("<B4i", 4, *quad) for quad in quads)
    (tmp_path / "a.ply").write_bytes(data)
    mesh = normalize_to_rig(load_mesh(tmp_path / "a.ply"))
    color = Raycaster(mesh).render(look_at([0], [0], size=9), shading=None).color[0, :, 4, 4]
    assert np.abs(color.numpy().astype(int) - [204, 64, 26]).max() <= 1
    assert len(mesh.faces) == 12


def test_diffuse_colors_of_a_ply(tmp_path):
    header = content("ply-ascii").decode()
    for channel in ("red", "green", "blue"):
        header = header.replace(f"uchar {channel}", f"uchar diffuse_{channel}")
    assert "diffuse_red" in header
    (tmp_path / "a.ply").write_text(header)
    mesh = normalize_to_rig(load_mesh(tmp_path / "a.ply"))
    color = Raycaster(mesh).render(look_at([0], [0], size=9), shading=None).color[0, :, 4, 4]
    assert np.abs(color.numpy().astype(int) - [204, 64, 26]).max() <= 1


ASCII_PLY = b"ply\nformat ascii 1.0\n"


@pytest.mark.parametrize(
    ("name", "data", "says"),
    [
        ("a.ply", b"ply\nformat binary_little_endian 1.0\nelement vertex 1000000000\n"
                  b"property float x\nend_header\n" + b"\0" * 900, "claims"),
        ("a.ply", ASCII_PLY + b"element vertex 99999999999999999999\nend_header\n", "claims"),
        ("a.ply", ASCII_PLY + b"element vertex 1000000000\nproperty float x\nend_header\n1\n",
         "claims"),
        ("a.ply", b"no header", "header"),
        ("a.stl", b"\0" * 80 + struct.pack("<I", 10**9) + b"\0" * 900, r"a\.stl"),
        ("a.off", b"OFF\n1000000000 1000000000 0\n0 0 0\n", "claims"),
        ("a.xyz", b"0 0 0\n", "ending in"),
    ],
)  # fmt: skip
def test_claims_beyond_the_file_are_refused(tmp_path, name, data, says):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(MvdiffError, match=says):
        read_mesh_file(tmp_path / name)


def test_point_clouds_have_no_faces(tmp_path):
    trimesh.PointCloud(BOX).export(tmp_path / "a.ply")
    with pytest.raises(MvdiffError, match="no usable faces"):
        read_mesh_file(tmp_path / "a.ply")


def rich_gltf() -> GltfFile:
    """A GLB with textures, colors, instances, sparse data and a skin."""
    file = GltfFile()
    out = io.BytesIO()
    Image.fromarray(np.arange(256, dtype=np.uint8).reshape(8, 8, 4)).save(out, "PNG")
    reference = {
        "index": file.image(out.getvalue()),
        "extensions": {"KHR_texture_transform": {"scale": [2, 2], "rotation": 0.3}},
    }
    pbr = {"baseColorTexture": reference}
    material = file.material(pbrMetallicRoughness=pbr, alphaMode="MASK", emissiveFactor=[0.1, 0, 0])
    file.mesh(square(file, material=material))
    colors = file.accessor(np.full((8, 4), 40_000, np.uint16), normalized=True)
    places = file.accessor(np.eye(3, dtype=np.float32))
    instances = {"EXT_mesh_gpu_instancing": {"attributes": {"TRANSLATION": places}}}
    file.mesh(box(file, COLOR_0=colors), scale=[-1, 2, 1], extensions=instances, skin=0)
    file.tree["skins"] = [{"joints": [0, 1]}]
    sparse = file.accessor(BOX)
    file.tree["accessors"][sparse]["sparse"] = {
        "count": 2,
        "indices": {"bufferView": file.view(b"\1\2"), "componentType": 5121},
        "values": {"bufferView": file.view(np.ones((2, 3), np.float32).tobytes())},
    }
    file.mesh(box(file, sparse))
    return file


def with_damaged_json(file: GltfFile, damage) -> bytes:
    text = damage(json.dumps(file.tree).encode())
    text += b" " * (-len(text) % 4)
    chunks = struct.pack("<II", len(text), 0x4E4F534A) + text
    chunks += struct.pack("<II", len(file.binary), 0x004E4942) + file.binary
    return struct.pack("<4sII", b"glTF", 2, 12 + len(chunks)) + chunks


OBJ = b"""mtllib a.mtl
v 0 0 0 1 0 0
v 1 0 0 0 1 0
v 1 1 0 0 0 1
v 0 1 0 1 1 1
vt 0 0
vt 1 0
vt 1 1
vn 0 0 1
usemtl a
f 1/1/1 2/2/1 3/3/1
usemtl b
f -4/-1/-1 -3//1 -2 -1
"""
MTL = b"newmtl a\nKd 0.8 0.1 0.1\nmap_Kd -s 1 1 1 t.png\nmap_d t.png\nnewmtl b\nKd .2 .3 1\nd .5\n"
WORDS = [
    b"99999999999",
    b"-1",
    b"1e400",
    b"nan",
    b"[]",
    b"{}",
    b"null",
    b"true",
    b"\xff" * 4,
    b"/../",
]


def damaged(data: bytes, rng: random.Random) -> bytes:
    out = bytearray(data)
    for _ in range(rng.randint(1, 5)):
        place, kind = rng.randrange(len(out) + 1), rng.randint(0, 4)
        if kind == 0:
            out[place : place + 1] = bytes([rng.randrange(256)])
        elif kind == 1:
            out[place:place] = rng.choice(WORDS)
        elif kind == 2:
            del out[place : place + rng.randint(1, 20)]
        elif kind == 3:
            out[place : place + 1] = rng.choice('0123456789-.e{}[]"/ ,nul').encode()
        elif rng.random() < 0.3:
            del out[place:]
    return bytes(out)


@pytest.mark.parametrize(
    "name", ["a.glb", "json.glb", "a.obj", "a.mtl", "a.ply", "b.ply", "a.stl", "a.off"]
)
def test_random_damage_ends_in_a_mesh_or_one_sentence(tmp_path, name):
    rng = random.Random(name)
    Image.new("RGBA", (4, 4)).save(tmp_path / "t.png")
    (tmp_path / "a.mtl").write_bytes(MTL)
    file = rich_gltf()
    whole = {
        "a.glb": file.glb(), "a.obj": OBJ, "a.mtl": MTL, "a.ply": content("ply"),
        "b.ply": content("ply-ascii"), "a.stl": content("stl"), "a.off": content("off"),
    }  # fmt: skip
    for _ in range(40):
        if name == "json.glb":
            data = with_damaged_json(file, lambda text: damaged(text, rng))
        else:
            data = damaged(whole[name], rng)
        (tmp_path / name).write_bytes(data)
        path = tmp_path / name
        if name == "a.mtl":
            path = Path(tmp_path / "a.obj")
            path.write_bytes(OBJ)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                mesh = load_mesh(path)
            except MvdiffError as error:
                assert path.name in str(error)  # noqa: PT017
            else:
                assert np.isfinite(mesh.vertices).all()
