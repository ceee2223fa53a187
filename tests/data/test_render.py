"""Rendering objects to a data folder: layout, split, resuming, broken meshes, exact images."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
import trimesh
from helpers.rendering import SMALL, render_objects
from PIL import Image

from mvdiff.cameras import to_spherical
from mvdiff.data.meshes import load_mesh, normalize_to_rig, stretched
from mvdiff.data.render import run as render_module
from mvdiff.data.render.plan import plan_jobs, read_patterns
from mvdiff.data.render.settings import ObjectSelection
from mvdiff.errors import MvdiffError
from mvdiff.rendering import Raycaster
from mvdiff.views.views import Views


@pytest.fixture
def meshes(tmp_path):
    """Three sound meshes and a broken one."""
    folder = tmp_path / "meshes"
    folder.mkdir()
    for i, name in enumerate(("cup-a", "cup-b", "post")):
        mesh = trimesh.creation.cylinder(radius=0.2 + 0.1 * i, height=1)
        mesh.visual.vertex_colors = [200, 40 * i, 30, 255]
        mesh.export(folder / f"{name}.glb")
    (folder / "broken.glb").write_bytes(b"not a mesh")
    return folder


def names(index: dict, split: str) -> list[str]:
    return [o["name"] for o in index["objects"] if o["split"] == split]


def test_layout_index_and_skipped_meshes(tmp_path, meshes):
    out = tmp_path / "out"
    index = render_objects(out, meshes=meshes, num_shapes=2, held_out=["cup*  # a kind"], **SMALL)
    assert index == json.loads((out / "index.json").read_text())
    assert index["version"] == 1
    assert index["size"] == 16
    assert names(index, "val") == ["cup-a", "cup-b"]
    shapes = [o for o in index["objects"] if o["source"] == "shape"]
    assert names(index, "train") == ["post", *(o["name"] for o in shapes)]
    assert all(o["name"] == f"shape-{o['family']}-{i:07d}" for i, o in enumerate(shapes))
    assert [s["name"] for s in index["skipped"]] == ["broken"]
    assert "broken.glb" in index["skipped"][0]["reason"]
    assert not (out / "broken").exists()
    for o in index["objects"]:
        for part in ("target", "input"):
            files = sorted(p.name for p in (out / o["name"] / part).iterdir())
            assert files == ["000.png", "001.png", "002.png", "003.png", "transforms.json"]


def test_pictures_are_those_of_the_cameras(tmp_path, meshes):
    out = tmp_path / "out"
    render_objects(out, meshes=meshes, depth=True, normals=True, **SMALL)
    target = Views.load(out / "post" / "target")
    torch.testing.assert_close(target.cameras.w2c, SMALL["rig"].w2c, atol=1e-6, rtol=0)
    torch.testing.assert_close(target.cameras.K, SMALL["rig"].K, atol=1e-4, rtol=0)
    raycaster = Raycaster(normalize_to_rig(load_mesh(meshes / "post.glb")))
    true = raycaster.render(target.cameras)
    assert torch.equal(target.alpha, true.alpha)
    stored = np.array(Image.open(out / "post" / "target" / "002-depth.png"))
    hit = true.depth[2].numpy() > 0
    assert ((stored > 0) == hit).all()
    index = json.loads((out / "index.json").read_text())["depth"]
    depth = stored / 65535 * index["range"] + index["offset"]
    assert index["range"] == 1.8
    assert index["offset"] == pytest.approx(0.6, abs=1e-6)
    assert np.abs(depth - true.depth[2].numpy())[hit].max() < 2e-5
    normal = np.array(Image.open(out / "post" / "target" / "002-normal.png")) / 127.5 - 1
    assert np.abs(normal - true.normals[2].permute(1, 2, 0).numpy())[hit].max() < 0.01


def test_inputs_share_the_targets_azimuths_and_vary_in_elevation(tmp_path, meshes):
    out = tmp_path / "out"
    render_objects(out, meshes=meshes, input_elevation=(-10, 40), **SMALL)
    cameras = Views.load(out / "post" / "input").cameras
    azimuth, elevation, distance = to_spherical(cameras)
    turn = azimuth - to_spherical(SMALL["rig"])[0]
    assert torch.sin(turn).abs().max() < 1e-5
    assert torch.cos(turn).min() > 0.99
    degrees = torch.rad2deg(elevation)
    assert degrees.min() >= -10
    assert degrees.max() <= 40
    assert degrees.std() > 1
    torch.testing.assert_close(distance, torch.full((4,), 1.5), atol=1e-5, rtol=0)
    other = Views.load(out / "cup-a" / "input").cameras
    assert not torch.allclose(other.w2c, cameras.w2c)


def test_any_number_of_processes_gives_the_same_bits(tmp_path, meshes):
    one = {**SMALL, "meshes": meshes, "num_shapes": 1}
    a = render_objects(tmp_path / "a", **one)
    b = render_objects(tmp_path / "b", **{**one, "workers": 2})
    assert a == b
    for o in a["objects"]:
        for part in ("target", "input"):
            first, second = (Views.load(tmp_path / x / o["name"] / part) for x in "ab")
            assert torch.equal(first.images, second.images)
            assert torch.equal(first.cameras.w2c, second.cameras.w2c)


def count_rendered(monkeypatch) -> list[str]:
    """Names of the objects that are really rendered from now on."""
    rendered, real = [], render_module.render_object

    def counting(out, job, settings):
        rendered.append(job.name)
        return real(out, job, settings)

    monkeypatch.setattr(render_module, "render_object", counting)
    return rendered


def test_complete_objects_are_not_rendered_again(tmp_path, meshes, monkeypatch):
    out = tmp_path / "out"
    first = render_objects(out, meshes=meshes, **SMALL)
    (out / "post" / "input" / "transforms.json").unlink()
    rendered = count_rendered(monkeypatch)
    assert render_objects(out, meshes=meshes, **SMALL) == first
    assert sorted(rendered) == ["broken", "post"]


def test_a_second_call_adds_to_the_folder(tmp_path, meshes, monkeypatch):
    out = tmp_path / "out"
    render_objects(out, meshes=meshes, **SMALL)
    rendered = count_rendered(monkeypatch)
    index = render_objects(out, num_shapes=2, first_shape_seed=7, **SMALL)
    assert len(rendered) == 2
    assert len(index["objects"]) == 5
    assert [s["name"] for s in index["skipped"]] == ["broken"]


def test_copies_are_stretched_trained_on_and_added_to_what_is_there(tmp_path, meshes, monkeypatch):
    out = tmp_path / "out"
    held_out = ["cup-b"]
    render_objects(out, meshes=meshes, held_out=held_out, **SMALL)
    rendered = count_rendered(monkeypatch)
    index = render_objects(out, meshes=meshes, held_out=held_out, num_stretched_copies=2, **SMALL)
    assert sorted(rendered) == sorted(
        ["broken", *(f"{name}~{i}" for name in ("broken", "cup-a", "post") for i in (1, 2))]
    )
    assert names(index, "val") == ["cup-b"]
    post = {o["name"]: o for o in index["objects"] if o["family"] == "post"}
    assert sorted(post) == ["post", "post~1", "post~2"]
    assert {o["source"] for o in post.values()} == {"mesh"}
    seen = [Views.load(out / name / "target").mask for name in sorted(post)]
    assert all((a != b).any() for i, a in enumerate(seen) for b in seen[:i])


def test_copies_of_what_is_held_out_later_are_not_trained_on(tmp_path, meshes):
    out = tmp_path / "out"
    render_objects(out, meshes=meshes, held_out=[], num_stretched_copies=1, **SMALL)
    index = render_objects(out, meshes=meshes, held_out=["cup-a"], **SMALL)
    assert names(index, "val") == ["cup-a"]
    assert names(index, "train") == ["cup-b", "cup-b~1", "post", "post~1"]


def test_a_mesh_named_as_a_copy_is_refused(tmp_path, meshes):
    (meshes / "post~1.obj").write_text("v 0 0 0\n")
    with pytest.raises(MvdiffError, match="a copy of 'post' would be named 'post~1'"):
        render_objects(tmp_path / "out", meshes=meshes, num_stretched_copies=1, **SMALL)


def test_stretching_keeps_normals_upright():
    ball = trimesh.creation.icosphere(3)
    ball.vertex_attributes["normal"] = np.array(ball.vertices)
    flat = stretched(ball, np.array([1.0, 2.0, 0.5]))
    assert flat.extents == pytest.approx([2, 4, 1], rel=1e-3)
    expected = flat.vertices / np.square([1.0, 2.0, 0.5])  # gradient of the ellipsoid's equation
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    assert flat.vertex_attributes["normal"] == pytest.approx(expected, abs=1e-6)
    assert ball.extents == pytest.approx([2, 2, 2], rel=1e-3)


def test_changed_settings_render_everything_and_say_so(tmp_path, meshes, monkeypatch, capsys):
    out = tmp_path / "out"
    render_objects(out, meshes=meshes, **SMALL)
    rendered = count_rendered(monkeypatch)
    index = render_objects(out, meshes=meshes, **{**SMALL, "seed": 1, "progress": True})
    assert len(rendered) == 4
    assert len(index["objects"]) == 3
    said = capsys.readouterr().out
    assert "settings changed" in said
    assert "seed" in said


def test_an_interrupted_run_keeps_whole_objects_only(tmp_path, meshes, monkeypatch):
    out = tmp_path / "out"
    real, calls = Raycaster.render, []

    def interrupted(self, *args, **kwargs):
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return real(self, *args, **kwargs)

    monkeypatch.setattr(Raycaster, "render", interrupted)
    with pytest.raises(KeyboardInterrupt):
        render_objects(out, meshes=meshes, **SMALL)
    assert not (out / "index.json").exists()
    assert not list(out.rglob(".part-*"))
    whole = [p for p in out.iterdir() if (p / "input" / "transforms.json").is_file()]
    assert [p.name for p in whole] == ["cup-a"]
    monkeypatch.setattr(Raycaster, "render", real)
    rendered = count_rendered(monkeypatch)
    assert len(render_objects(out, meshes=meshes, **SMALL)["objects"]) == 3
    assert "cup-a" not in rendered


def test_without_a_list_the_split_goes_by_name(tmp_path):
    index = render_objects(tmp_path / "out", num_shapes=8, val_fraction=0.5, **SMALL)
    assert names(index, "val")
    assert names(index, "train")


def test_formats_of_one_name_are_two_objects(tmp_path, meshes):
    load_mesh(meshes / "post.glb").export(meshes / "post.ply")
    index = render_objects(tmp_path / "out", meshes=meshes, **SMALL)
    assert {"post-glb", "post-ply"} <= {o["name"] for o in index["objects"]}


def test_names_never_clash(tmp_path):
    for name in ("a/b.glb", "a-b.glb", "c.glb"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    assert [j.name for j in plan_jobs(ObjectSelection(meshes=tmp_path))] == [
        "a-b-glb",
        "a-b-glb-2",
        "c",
    ]


def test_patterns_come_from_a_file_with_comments(tmp_path):
    path = tmp_path / "list.txt"
    path.write_text("# kinds\ncup*\n\n  tractor  # one\n")
    assert read_patterns(path) == ["cup*", "tractor"]
    with pytest.raises(MvdiffError, match=r"list\.missing"):
        read_patterns(tmp_path / "list.missing")


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        ({}, "nothing to render"),
        ({"num_shapes": 1, "input_elevation": (50, 20)}, "input_elevation"),
        ({"num_shapes": 1, "num_inputs": 5}, "inputs"),
        ({"num_shapes": 1, "normalization": "volume"}, "normalization"),
        ({"num_shapes": 1, "supersample": 0}, "supersample"),
        ({"num_shapes": 1, "num_stretched_copies": -1}, "copies"),
    ],
)
def test_bad_settings_are_refused(tmp_path, bad, says):
    with pytest.raises(MvdiffError, match=says):
        render_objects(tmp_path / "out", **{**SMALL, **bad})
    assert not (tmp_path / "out").exists()


def test_only_broken_meshes_is_an_error(tmp_path):
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "bad.ply").write_text("no")
    with pytest.raises(MvdiffError, match=r"none of the 1 objects.*bad\.ply"):
        render_objects(tmp_path / "out", meshes=tmp_path / "m", **SMALL)


def test_the_held_out_list_names_shipped_meshes(shared_dir):
    from importlib.resources import files

    listed = json.loads((shared_dir / "meshes" / "index.json").read_text())
    jobs = plan_jobs(
        ObjectSelection(
            meshes=shared_dir / "meshes",
            held_out=str(files("mvdiff") / "assets" / "held_out.txt"),
        )
    )
    val = {job.name for job in jobs if job.split == "val"}
    assert 55 <= len(val) <= 65
    categories = {m["category"] for m in listed}
    assert {m["category"] for m in listed if m["name"] in val} == categories
