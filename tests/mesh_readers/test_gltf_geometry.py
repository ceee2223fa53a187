"""glTF geometry comes out right, whatever the component types, modes, nodes and extensions."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import numpy as np
import pytest
from helpers.gltf_files import BOX, BOX_FACES, BOX_SIZE, GltfFile, box

from mvdiff.errors import MvdiffError
from mvdiff.mesh_readers import LoadedMesh, read_mesh_file
from mvdiff.mesh_readers.meshopt import decode_view


def bounds(mesh: LoadedMesh) -> np.ndarray:
    corners = np.concatenate([part.vertices[part.faces].reshape(-1, 3) for part in mesh.parts])
    return np.stack([corners.min(axis=0), corners.max(axis=0)])


def volume(mesh: LoadedMesh) -> float:
    """Signed: positive when the faces look outwards."""
    corners = np.concatenate([part.vertices[part.faces] for part in mesh.parts])
    a, b, c = corners[:, 0], corners[:, 1], corners[:, 2]
    return float(np.einsum("ni,ni->n", a, np.cross(b, c)).sum() / 6)


def assert_is_box(mesh: LoadedMesh, size: np.ndarray = BOX_SIZE, rel: float = 1e-6) -> None:
    np.testing.assert_allclose(bounds(mesh), [-size / 2, size / 2], rtol=rel)
    assert volume(mesh) == pytest.approx(float(np.prod(size)), rel=rel)


def test_a_plain_box(tmp_path):
    file = GltfFile()
    file.mesh(box(file))
    mesh = read_mesh_file(file.write(tmp_path / "a.glb"))
    assert_is_box(mesh)
    assert mesh.up == "y"
    assert mesh.notes == []


@pytest.mark.parametrize("kind", [np.int8, np.uint8, np.int16, np.uint16])
@pytest.mark.parametrize("normalized", [True, False])
def test_quantized_positions(tmp_path, kind, normalized):
    """Integers mean what glTF says, and the node's matrix undoes the quantization."""
    largest = np.iinfo(kind).max
    # ±size/2 as ±largest, or 0 to size as 0 to largest
    steps = np.where(BOX > 0, largest, -largest if np.iinfo(kind).min < 0 else 0).astype(kind)
    span = BOX_SIZE / 2 if np.iinfo(kind).min < 0 else BOX_SIZE
    file = GltfFile()
    scale = span if normalized else span / largest
    shift = np.zeros(3) if np.iinfo(kind).min < 0 else -BOX_SIZE / 2
    extra = {"normalized": True} if normalized else {}
    positions = file.accessor(steps, **extra)
    file.mesh(box(file, positions), scale=scale.tolist(), translation=shift.tolist())
    file.tree["extensionsRequired"] = ["KHR_mesh_quantization"]
    assert_is_box(read_mesh_file(file.write(tmp_path / "a.glb")), rel=1e-5)


def test_interleaved_attributes(tmp_path):
    file = GltfFile()
    rows = np.concatenate([BOX, np.full((8, 2), 7, np.float32)], axis=1)
    view = file.view(rows.tobytes(), byteStride=20)
    positions = file.accessor(BOX)
    file.tree["accessors"][positions].update(bufferView=view)
    file.mesh(box(file, positions))
    assert_is_box(read_mesh_file(file.write(tmp_path / "a.glb")))


@pytest.mark.parametrize("base", [True, False])
def test_sparse_accessors(tmp_path, base):
    """Two corners replaced, or all of them where there is no base."""
    changed = np.array([1, 6]) if base else np.arange(8)
    start = BOX.copy()
    start[changed] = 0
    file = GltfFile()
    positions = file.accessor(start)
    item = file.tree["accessors"][positions]
    if not base:
        del item["bufferView"]
    item["sparse"] = {
        "count": len(changed),
        "indices": {
            "bufferView": file.view(changed.astype("<u2").tobytes()),
            "componentType": 5123,
        },
        "values": {"bufferView": file.view(BOX[changed].tobytes())},
    }
    file.mesh(box(file, positions))
    assert_is_box(read_mesh_file(file.write(tmp_path / "a.glb")))


def test_strips_and_fans(tmp_path):
    """A unit square each, as list, strip and fan, all facing +z."""
    corners = np.array([[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]], np.float32)
    for mode, order in ((4, [0, 1, 2, 0, 2, 3]), (5, [0, 1, 3, 2]), (6, [0, 1, 2, 3])):
        file = GltfFile()
        file.mesh(
            {
                "attributes": {"POSITION": file.accessor(corners)},
                "indices": file.accessor(np.array(order, np.uint16)),
                "mode": mode,
            }
        )
        (part,) = read_mesh_file(file.write(tmp_path / "a.glb")).parts
        p = part.vertices[part.faces]
        across = np.cross(p[:, 1] - p[:, 0], p[:, 2] - p[:, 0])
        assert (across[:, 2] > 0).all(), mode
        assert across[:, 2].sum() / 2 == pytest.approx(1), mode


def test_unindexed_triangles(tmp_path):
    file = GltfFile()
    corners = BOX[BOX_FACES].reshape(-1, 3)
    file.mesh({"attributes": {"POSITION": file.accessor(corners)}})
    assert_is_box(read_mesh_file(file.write(tmp_path / "a.glb")))


def test_negative_scale_keeps_faces_and_normals_outwards(tmp_path):
    file = GltfFile()
    normals = (BOX / np.linalg.norm(BOX, axis=1, keepdims=True)).astype(np.float32)
    file.mesh(box(file, NORMAL=file.accessor(normals)), scale=[-2, 1, 1], translation=[5, 0, 0])
    (part,) = read_mesh_file(file.write(tmp_path / "a.glb")).parts
    center = np.array([5, 0, 0])
    corners = part.vertices[part.faces] - center
    across = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    assert (np.einsum("ni,ni->n", across, corners.mean(axis=1)) > 0).all()
    assert (np.einsum("nki,nki->nk", part.normals, corners) > 0).all()


def test_rotations_and_parents(tmp_path):
    """A quarter turn about z under a parent that moves and doubles."""
    file = GltfFile()
    child = file.mesh(box(file), rotation=[0, 0, np.sqrt(0.5), np.sqrt(0.5)])
    file.tree["nodes"].append({"children": [child], "translation": [1, 2, 3], "scale": [2, 2, 2]})
    file.tree["scenes"][0]["nodes"] = [1]
    expected = np.array([BOX_SIZE[1], BOX_SIZE[0], BOX_SIZE[2]])
    low, high = bounds(read_mesh_file(file.write(tmp_path / "a.glb")))
    np.testing.assert_allclose(high - low, 2 * expected, rtol=1e-6)
    np.testing.assert_allclose((high + low) / 2, [1, 2, 3], rtol=1e-6)


def test_the_default_scene_is_read(tmp_path):
    file = GltfFile()
    far = file.mesh(box(file), translation=[100, 0, 0])
    near = file.mesh(box(file))
    file.tree["scenes"] = [{"nodes": [far]}, {"nodes": [near]}]
    file.tree["scene"] = 1
    assert_is_box(read_mesh_file(file.write(tmp_path / "a.glb")))


def test_instances(tmp_path):
    file = GltfFile()
    places = np.array([[0, 0, 0], [10, 0, 0]], np.float32)
    scales = np.array([[1, 1, 1], [2, 2, 2]], np.float32)
    attributes = {"TRANSLATION": file.accessor(places), "SCALE": file.accessor(scales)}
    file.mesh(box(file), extensions={"EXT_mesh_gpu_instancing": {"attributes": attributes}})
    mesh = read_mesh_file(file.write(tmp_path / "a.glb"))
    assert len(mesh.parts) == 2
    np.testing.assert_allclose(bounds(mesh)[:, 0], [-0.5, 11], rtol=1e-6)
    assert volume(mesh) == pytest.approx(9 * np.prod(BOX_SIZE), rel=1e-5)


def test_skins_are_shown_in_rest_pose(tmp_path):
    """The joint stands at x = 3 and its bind matrix takes 1 off: the box comes to x = 2."""
    file = GltfFile()
    joints = np.zeros((8, 4), np.uint8)
    weights = np.tile(np.array([1, 0, 0, 0], np.float32), (8, 1))
    bind = np.eye(4, dtype=np.float32)
    bind[3, 0] = -1  # columns first
    primitive = box(file, JOINTS_0=file.accessor(joints), WEIGHTS_0=file.accessor(weights))
    file.mesh(primitive, skin=0, translation=[50, 0, 0])  # a skinned node's own place is void
    file.tree["nodes"].append({"translation": [3, 0, 0]})
    file.tree["scenes"][0]["nodes"].append(1)
    inverse = file.accessor(bind.reshape(1, 16))
    file.tree["skins"] = [{"joints": [1], "inverseBindMatrices": inverse}]
    mesh = read_mesh_file(file.write(tmp_path / "a.glb"))
    np.testing.assert_allclose(bounds(mesh)[:, 0], [1.5, 2.5], rtol=1e-6)
    assert any("rest pose" in note for note in mesh.notes)


def test_morph_targets_have_the_files_weights(tmp_path):
    file = GltfFile()
    primitive = box(file)
    moved = np.tile(np.array([4, 0, 0], np.float32), (8, 1))
    primitive["targets"] = [{"POSITION": file.accessor(moved)}]
    file.mesh(primitive)
    file.tree["meshes"][0]["weights"] = [0.25]
    mesh = read_mesh_file(file.write(tmp_path / "a.glb"))
    np.testing.assert_allclose(bounds(mesh)[:, 0], [0.5, 1.5], rtol=1e-6)
    assert any("morph" in note for note in mesh.notes)


def test_lines_and_points_are_left_out_and_named(tmp_path):
    file = GltfFile()
    file.mesh(box(file))
    far = file.accessor(np.array([[90, 0, 0], [0, 90, 0]], np.float32))
    file.mesh({"attributes": {"POSITION": far}, "mode": 1})
    mesh = read_mesh_file(file.write(tmp_path / "a.glb"))
    assert_is_box(mesh)
    assert any("lines" in note for note in mesh.notes)


def test_external_buffers_with_blanks_in_their_names(tmp_path):
    file = GltfFile()
    file.mesh(box(file))
    file.glb()
    (tmp_path / "my data.bin").write_bytes(file.binary)
    file.tree["buffers"][0]["uri"] = "my%20data.bin"
    (tmp_path / "a.gltf").write_text(json.dumps(file.tree))
    assert_is_box(read_mesh_file(tmp_path / "a.gltf"))
    file.tree["buffers"][0]["uri"] = "data:application/octet-stream;base64," + (
        base64.b64encode(file.binary).decode()
    )
    (tmp_path / "b.gltf").write_bytes(b"\xef\xbb\xbf" + json.dumps(file.tree).encode())
    assert_is_box(read_mesh_file(tmp_path / "b.gltf"))


def refusal(file: GltfFile, folder: Path) -> str:
    with pytest.raises(MvdiffError) as error:
        read_mesh_file(file.write(folder / "a.glb"))
    assert "a.glb" in str(error.value)
    return str(error.value)


@pytest.mark.parametrize(
    "uri",
    ["http://example.org/a.bin", "file:///etc/passwd", "/etc/passwd", "../a.bin", "%2e%2e/a.bin"],
)
def test_buffers_elsewhere_are_refused(tmp_path, uri):
    (tmp_path / "a.bin").write_bytes(b"x" * 10_000)
    (tmp_path / "in").mkdir()
    file = GltfFile()
    file.mesh(box(file))
    file.tree["buffers"][0]["uri"] = uri
    refusal(file, tmp_path / "in")


def test_pipes_are_refused(tmp_path):
    import os

    os.mkfifo(tmp_path / "pipe.bin")
    os.mkfifo(tmp_path / "pipe.obj")
    file = GltfFile()
    file.mesh(box(file))
    file.tree["buffers"][0]["uri"] = "pipe.bin"
    assert "pipe" in refusal(file, tmp_path)
    with pytest.raises(MvdiffError, match="pipe"):
        read_mesh_file(tmp_path / "pipe.obj")


@pytest.mark.parametrize(
    "name", ["KHR_texture_basisu", "ADOBE_unknown_thing", "KHR_gaussian_splatting"]
)
def test_required_extensions_that_are_not_read_are_named(tmp_path, name):
    file = GltfFile()
    file.mesh(box(file))
    file.tree["extensionsRequired"] = [name]
    assert name in refusal(file, tmp_path)


@pytest.mark.parametrize("required", [True, False])
def test_a_draco_part_beside_a_plain_one_is_never_left_out(tmp_path, monkeypatch, required):
    from mvdiff.mesh_readers import draco, gltf

    for module in (draco, gltf):
        monkeypatch.setattr(module, "is_draco_available", lambda: False)
    file = GltfFile()
    file.mesh(box(file))
    primitive = box(file)
    for accessor in (primitive["attributes"]["POSITION"], primitive["indices"]):
        del file.tree["accessors"][accessor]["bufferView"]
    draco_view = {"bufferView": file.view(b"DRACO" * 9), "attributes": {"POSITION": 0}}
    primitive["extensions"] = {"KHR_draco_mesh_compression": draco_view}
    file.mesh(primitive)
    if required:
        file.tree["extensionsRequired"] = ["KHR_draco_mesh_compression"]
    assert "KHR_draco_mesh_compression" in refusal(file, tmp_path)


def test_draco_is_decoded(tmp_path):
    DracoPy = pytest.importorskip("DracoPy")
    file = GltfFile()
    primitive = box(file)
    for accessor in (primitive["attributes"]["POSITION"], primitive["indices"]):
        del file.tree["accessors"][accessor]["bufferView"]
    data = DracoPy.encode(BOX, BOX_FACES.astype(np.uint32), quantization_bits=16)
    draco_view = {"bufferView": file.view(data), "attributes": {"POSITION": 0}}
    primitive["extensions"] = {"KHR_draco_mesh_compression": draco_view}
    file.mesh(primitive)
    file.tree["extensionsRequired"] = ["KHR_draco_mesh_compression"]
    mesh = read_mesh_file(file.write(tmp_path / "a.glb"))
    np.testing.assert_allclose(bounds(mesh), [-BOX_SIZE / 2, BOX_SIZE / 2], atol=1e-4)
    assert volume(mesh) == pytest.approx(np.prod(BOX_SIZE), rel=1e-3)


#: The box's positions and faces as meshoptimizer encodes them.
POSITIONS_STREAM = (
    "oAAAAAEAwAAA/wAAAAEMzAAA////AAAAAT//AAD/////////AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAC/zczMvpqZmb4="
)
FACES_STREAM = "4f4A/w8HFqECBxORBQ8G/wIEAgMAdodWZ3iphmWJaJgBaQAA"
SEQUENCE_STREAM = "0QAECAoMAggIBAoMBhIQBBIUDgQEEBIUAhYIEBYYBgoQCBYYDgAAAAA="


def test_meshopt_streams():
    data = decode_view(base64.b64decode(POSITIONS_STREAM), "ATTRIBUTES", 12, 8, "NONE")
    assert data == BOX.tobytes()
    data = decode_view(base64.b64decode(SEQUENCE_STREAM), "INDICES", 2, 36, "NONE")
    assert data == BOX_FACES.tobytes()
    data = decode_view(base64.b64decode(FACES_STREAM), "TRIANGLES", 4, 36, "NONE")
    triangles = np.frombuffer(data, "<u4").reshape(-1, 3)
    # the order of corners may be turned
    turned = [tuple(np.roll(t, -int(np.argmin(t)))) for t in triangles.tolist()]
    assert sorted(turned) == sorted(
        tuple(np.roll(t, -int(np.argmin(t)))) for t in BOX_FACES.tolist()
    )


def test_meshopt_filters():
    octahedral = np.array([[127, 0, 127, 1], [0, -127, 127, 2], [0, 0, 127, 3]], np.int8)
    from mvdiff.mesh_readers import meshopt

    out = meshopt._octahedral(octahedral.view(np.uint8))
    assert out.tolist() == [[127, 0, 0, 1], [0, -127, 0, 2], [0, 0, 127, 3]]
    exponential = np.array([[(-2 << 24) | 6], [(3 << 24) | 5]], np.int32)
    assert meshopt._exponential(exponential.view(np.uint8)).tolist() == [[1.5], [40.0]]


def test_meshopt_buffer_views_are_decoded(tmp_path):
    file = GltfFile()
    primitive = box(file)
    streams = (
        (primitive["attributes"]["POSITION"], POSITIONS_STREAM, "ATTRIBUTES", 12, 8),
        (primitive["indices"], SEQUENCE_STREAM, "INDICES", 2, 36),
    )
    file.tree["buffers"].append({"byteLength": 1000})  # the fallback buffer, without data
    for accessor, stream, mode, stride, count in streams:
        data = base64.b64decode(stream)
        compressed = file.tree["bufferViews"][file.view(data)]
        view = {**compressed, "mode": mode, "byteStride": stride, "count": count}
        file.tree["bufferViews"].append(
            {
                "buffer": 1,
                "byteLength": stride * count,
                "extensions": {"EXT_meshopt_compression": view},
            }
        )
        file.tree["accessors"][accessor]["bufferView"] = len(file.tree["bufferViews"]) - 1
    file.mesh(primitive)
    file.tree["extensionsRequired"] = ["EXT_meshopt_compression"]
    assert_is_box(read_mesh_file(file.write(tmp_path / "a.glb")))
    place = file.tree["bufferViews"][-1]["extensions"]["EXT_meshopt_compression"]["byteOffset"]
    file.binary = file.binary[:place] + b"\xd2" + file.binary[place + 1 :]
    assert "meshopt" in refusal(file, tmp_path)


@pytest.mark.parametrize(
    "harm",
    [
        lambda t: t["accessors"][0].update(count=10**9),
        lambda t: (
            t["accessors"][0].update(count=10**9, sparse={"count": 0})
            or (t["accessors"][0].pop("bufferView"))
        ),
        lambda t: t["accessors"][0].update(count=-1),
        lambda t: t["accessors"][0].update(count=1.5),
        lambda t: t["accessors"][0].update(bufferView=99),
        lambda t: t["accessors"][0].update(byteOffset=10**12),
        lambda t: t["accessors"][0].pop("bufferView"),
        lambda t: t["bufferViews"][0].update(byteLength=10**12),
        lambda t: t["bufferViews"][0].update(byteStride=1),
        lambda t: t["nodes"][0].update(children=[0]),
        lambda t: t["nodes"][0].update(scale=[1, "x", 1]),
        lambda t: t["nodes"][0].update(scale=[1, 1, float("nan")]),
        lambda t: t["scenes"][0].update(nodes=[7]),
        lambda t: t.update(meshes={}),
        lambda t: t.update(scenes=[None]),
        lambda t: t.update(asset=[]),
        lambda t: t.update(asset={"version": "1.0"}),
        lambda t: t["meshes"][0]["primitives"][0].update(mode=9),
        lambda t: t["meshes"][0].update(primitives=[]),
    ],
)
def test_damaged_files_are_refused_at_once(tmp_path, harm):
    file = GltfFile()
    file.mesh(box(file))
    harm(file.tree)
    refusal(file, tmp_path)


def test_nodes_that_double_again_and_again_are_refused(tmp_path):
    file = GltfFile()
    file.mesh(box(file))
    file.tree["nodes"] += [{"children": [i, i]} for i in range(40)]
    file.tree["scenes"][0]["nodes"] = [len(file.tree["nodes"]) - 1]
    assert "loop" in refusal(file, tmp_path)


def test_vertex_numbers_beyond_the_vertices_are_refused(tmp_path):
    file = GltfFile()
    primitive = box(file)
    primitive["indices"] = file.accessor(np.array([0, 1, 99], np.uint8))
    file.mesh(primitive)
    assert "99" in refusal(file, tmp_path)


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.glb", b"", "empty"),
        ("a.glb", b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n", "LFS"),
        ("a.gltf", b"<!DOCTYPE html><html></html>", "web page"),
        ("a.glb", b"DRACO\x02\x02" + b"\0" * 50, "Draco"),
        ("a.obj", b"PK\x03\x04" + b"\0" * 50, "archive"),
        ("a.ply", b"\x89PNG\r\n" + b"\0" * 50, "image"),
        ("a.glb", b"glTF\x02\0\0\0\xff\xff\0\0" + b"\0" * 20, "cut short"),
        ("a.gltf", b"[" * 200_000, "neither"),
        ("a.gltf", b'{"asset":' + b"[" * 200_000, "JSON"),
    ],
)
def test_what_is_no_mesh_is_reported(tmp_path, name, content, says):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(MvdiffError, match=says):
        read_mesh_file(tmp_path / name)
