"""Rendering again: changed meshes, damaged pictures, damaged records, dead parents, odd numbers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import trimesh
from helpers.rendering import SMALL, render_objects
from PIL import Image

from mvdiff.data.dataset import RenderedDataset
from mvdiff.data.fingerprint import data_fingerprint
from mvdiff.data.render import run as render_module
from mvdiff.data.render.manifest import ObjectRecord
from mvdiff.errors import MvdiffError

RED, BLUE = [255, 0, 0, 255], [0, 0, 255, 255]


def write_box(path: Path, color: list[int]) -> None:
    mesh = trimesh.creation.box()
    mesh.visual.vertex_colors = color
    mesh.export(path)


def mean_color(out: Path, name: str) -> np.ndarray:
    pixels = np.asarray(Image.open(out / name / "target" / "000.png").convert("RGBA"))
    return pixels[pixels[..., 3] > 250][:, :3].mean(axis=0)


@pytest.fixture
def meshes(tmp_path) -> Path:
    folder = tmp_path / "meshes"
    folder.mkdir()
    for name in ("a", "b"):
        write_box(folder / f"{name}.ply", RED)
    return folder


@pytest.fixture
def rendered(monkeypatch) -> list[str]:
    """Names of the objects that are rendered, in order."""
    names, real = [], render_module.render_object

    def counting(out, job, settings):
        names.append(job.name)
        return real(out, job, settings)

    monkeypatch.setattr(render_module, "render_object", counting)
    return names


def test_a_mesh_replaced_under_its_name_is_rendered_anew(tmp_path, meshes, rendered):
    out = tmp_path / "out"
    before = render_objects(out, meshes=meshes, **SMALL)
    assert mean_color(out, "a")[0] > 100
    fingerprint, data = data_fingerprint(out), RenderedDataset(out, "train").fingerprint
    status = (meshes / "a.ply").stat()
    write_box(meshes / "a.ply", BLUE)
    assert (meshes / "a.ply").stat().st_size == status.st_size
    rendered.clear()
    after = render_objects(out, meshes=meshes, **SMALL)
    assert rendered == ["a"]
    color = mean_color(out, "a")
    assert color[2] > 100
    assert color[0] < 1
    changed = [x != y for x, y in zip(before["objects"], after["objects"], strict=True)]
    assert changed == [True, False]
    assert data_fingerprint(out) != fingerprint
    assert RenderedDataset(out, "train").fingerprint != data


def test_touched_or_moved_meshes_are_not_rendered_again(tmp_path, meshes, rendered):
    out = tmp_path / "out"
    first = render_objects(out, meshes=meshes, **SMALL)
    os.utime(meshes / "a.ply", (1, 1))
    moved = meshes.rename(tmp_path / "elsewhere")
    rendered.clear()
    assert render_objects(out, meshes=moved, **SMALL) == first
    assert rendered == []


def test_a_texture_that_changes_or_appears_is_noticed(tmp_path, rendered):
    meshes, out = tmp_path / "meshes", tmp_path / "out"
    meshes.mkdir()
    corners = "v 0 0 0\nv 1 0 0\nv 1 1 1\nvt 0 0\nvt 1 0\nvt 1 1\n"
    (meshes / "a.obj").write_text(f"mtllib a.mtl\n{corners}usemtl m\nf 1/1 2/2 3/3\n")
    (meshes / "a.mtl").write_text("newmtl m\nmap_Kd t.png\n")
    with pytest.warns(UserWarning, match=r"a: .*t\.png"):
        index = render_objects(out, meshes=meshes, **SMALL)
    (entry,) = index["objects"]
    assert "t.png" in entry["notes"][0]
    for color in ((255, 0, 0), (0, 0, 255)):
        Image.new("RGB", (4, 4), color).save(meshes / "t.png")
        rendered.clear()
        index = render_objects(out, meshes=meshes, **SMALL)
        assert rendered == ["a"]
        assert "notes" not in index["objects"][0]
        assert np.argmax(mean_color(out, "a")) == np.argmax(color)


@pytest.mark.parametrize("harm", ["deleted", "emptied", "cut", "record", "record-kind"])
def test_damaged_pictures_are_repaired(tmp_path, meshes, rendered, harm):
    out = tmp_path / "out"
    first = render_objects(out, meshes=meshes, **SMALL)
    path = out / "b" / "input" / "002.png"
    whole = path.read_bytes()
    if harm == "deleted":
        path.unlink()
    elif harm == "record":
        (out / "b" / "object.json").write_bytes(b"\xff{")
    elif harm == "record-kind":
        (out / "b" / "object.json").write_text('{"version": 1, "pictures": [], "sources": 3}')
    else:
        path.write_bytes(whole[: {"emptied": 0, "cut": 30}[harm]])
    rendered.clear()
    assert render_objects(out, meshes=meshes, **SMALL) == first
    assert rendered == ["b"]
    assert path.read_bytes() == whole


@pytest.mark.parametrize(
    "content", [b"[]", b"\xff\xfe\x00", b"[" * 100_000, b"", b'{"objects": 3, "skipped": {}}']
)
@pytest.mark.parametrize("name", ["index.json", "settings.json"])
def test_damaged_records_of_the_folder(tmp_path, meshes, rendered, name, content):
    """Damaged records give an error message, never a traceback."""
    out = tmp_path / "out"
    first = render_objects(out, meshes=meshes, **SMALL)
    (out / name).write_bytes(content)
    rendered.clear()
    assert render_objects(out, meshes=meshes, **SMALL) == first
    assert rendered == ([] if name == "index.json" or b"{" not in content else ["a", "b"])


def test_without_any_settings_everything_is_rendered(tmp_path, meshes, rendered):
    out = tmp_path / "out"
    first = render_objects(out, meshes=meshes, **SMALL)
    for name in ("settings.json", "index.json"):
        (out / name).unlink()
    rendered.clear()
    assert render_objects(out, meshes=meshes, **SMALL) == first
    assert rendered == ["a", "b"]


def test_names_in_an_index_stay_in_its_folder(tmp_path, meshes):
    out = tmp_path / "out"
    index = render_objects(out, meshes=meshes, **SMALL)
    index["objects"].append({**index["objects"][0], "name": "../a"})
    (out / "index.json").write_text(json.dumps(index))
    with pytest.raises(MvdiffError, match=r"\.\./a"):
        RenderedDataset(out, "train")
    assert [o["name"] for o in render_objects(out, meshes=meshes, **SMALL)["objects"]] == ["a", "b"]


def test_files_that_are_passed_over_are_named(tmp_path, meshes):
    (meshes / "scan.fbx").write_bytes(b"x")
    (meshes / "more.zip").write_bytes(b"x")
    with pytest.warns(UserWarning, match=r"2 files \(\.fbx, \.zip\)"):
        render_objects(tmp_path / "out", meshes=meshes, **SMALL)
    for path in meshes.glob("*.ply"):
        path.unlink()
    with pytest.raises(MvdiffError, match=r"\.fbx"):
        render_objects(tmp_path / "out2", meshes=meshes, **SMALL)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("num_shapes", 10**12),
        ("num_shapes", -1),
        ("num_shapes", True),
        ("seed", -1),
        ("seed", 10**30),
        ("first_shape_seed", -1),
        ("num_stretched_copies", 10**9),
        ("supersample", 10**6),
        ("num_inputs", 10**9),
        ("workers", 0),
        ("val_fraction", float("nan")),
        ("input_elevation", (0, float("inf"))),
    ],
)
def test_numbers_out_of_range_are_named(tmp_path, name, value):
    with pytest.raises(MvdiffError, match=name):
        render_objects(tmp_path / "out", **{"num_shapes": 1, **SMALL, name: value})
    assert not (tmp_path / "out").exists()


def test_a_size_out_of_range_is_named(tmp_path):
    with pytest.raises(MvdiffError, match="too large"):
        render_objects(tmp_path / "out", num_shapes=1, size=10**9)
    with pytest.raises(MvdiffError, match="too large"):
        render_objects(tmp_path / "out", num_shapes=1, size=8192)


SCRIPT = """
import sys
from mvdiff.cameras import ring
from mvdiff.data.render.run import render_objects
from mvdiff.data.render.settings import ObjectSelection, RenderSettings
if __name__ == "__main__":
    print("ready", flush=True)
    settings = RenderSettings(rig=ring(8, size=64), num_inputs=8)
    render_objects(sys.argv[1], ObjectSelection(num_shapes=60), settings, workers=2)
"""


@pytest.mark.skipif(os.name != "posix", reason="kills a process")
def test_workers_end_with_a_killed_parent(tmp_path):
    """After kill -9 no worker is left, and the next call completes the folder."""
    (tmp_path / "script.py").write_text(SCRIPT)
    out = tmp_path / "out"
    command = [sys.executable, str(tmp_path / "script.py"), str(out)]
    # an environment variable marks the processes of this call
    mark = f"MVDIFF_TEST_MARK={os.getpid()}-{time.time_ns()}"
    environment = {**os.environ, mark.partition("=")[0]: mark.partition("=")[2]}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, env=environment)
    deadline = time.monotonic() + 60
    while not list(out.glob("*/object.json")) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.kill()
    process.wait()

    def left() -> list[str]:
        alive = []
        for path in Path("/proc").glob("[0-9]*/environ"):
            try:
                marked = mark.encode() in path.read_bytes()
            except OSError:
                continue
            if marked:
                alive.append(path.parent.name)
        return alive

    deadline = time.monotonic() + 10
    while left() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert left() == []
    whole = {p.parent.name for p in out.glob("*/object.json")}
    assert 0 < len(whole) < 60
    for name in whole:
        record = ObjectRecord.read(out / name)
        assert record is not None
        assert record.pictures_are_whole(out / name)


def test_the_fingerprint_is_that_of_a_copy_and_of_no_other_folder(tmp_path, meshes):
    import shutil

    out = tmp_path / "out"
    render_objects(out, meshes=meshes, **SMALL)
    data = RenderedDataset(out, "train")
    shutil.copytree(out, tmp_path / "copy")
    for path in (tmp_path / "copy").rglob("*.png"):
        os.utime(path, (5, 5))
    assert data_fingerprint(tmp_path / "copy") == data_fingerprint(out)
    assert RenderedDataset(tmp_path / "copy", "train").fingerprint == data.fingerprint
    picture = out / "a" / "target" / "001.png"
    Image.new("RGBA", (16, 16), (1, 2, 3, 4)).save(picture)
    assert data_fingerprint(tmp_path / "copy") != data_fingerprint(out)
    changed = RenderedDataset(out, "train")
    assert changed.fingerprint != data.fingerprint
    assert changed[0].targets[1, :, 0, 0].tolist() == [1, 2, 3, 4]
    with pytest.raises(MvdiffError, match="no training data"):
        data_fingerprint(tmp_path)


def test_command_and_library_share_their_ranges():
    from mvdiff.cli.render import RenderConfig
    from mvdiff.config.settings import settings_of
    from mvdiff.data.render.limits import RANGES

    limits = {entry.name: entry.limit for entry in settings_of(RenderConfig) if entry.limit}
    assert limits == RANGES


@pytest.mark.parametrize(
    "setting",
    ["rig.count=1000000000", "size=1000000000", "rig.count=0", "input_elevation=[1]", "seed=-1"],
)
def test_the_command_names_numbers_out_of_range(tmp_path, capsys, setting):
    from mvdiff.cli.main import main

    assert main(["render", "num_shapes=1", f"out={tmp_path / 'out'}", setting]) == 2
    assert setting.partition("=")[0] in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
