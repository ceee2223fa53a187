"""The cameras recorded with the training data."""

from __future__ import annotations

import json
import shutil

import pytest
import torch

from mvdiff.cameras import ring
from mvdiff.cli.main import main
from mvdiff.data.render.cameras import check_cameras, rendered_cameras
from mvdiff.errors import MvdiffError

RIG = ["rig=ring", "rig.count=4", "rig.elevation=0", "rig.projection=orthographic"]


@pytest.fixture(scope="module")
def rendered(tmp_path_factory):
    out = tmp_path_factory.mktemp("rendered") / "data"
    args = ["num_shapes=2", f"out={out}", "size=16", "num_inputs=4", "supersample=1", "workers=1"]
    assert main(["render", *args, *RIG, "val_fraction=0"]) == 0
    return out


def level(count: int = 4, **settings):
    return ring(count, 0.0, size=16, projection="orthographic", **settings)


def test_pictures_are_rendered_from_the_rig(rendered):
    cameras = rendered_cameras(rendered)
    assert torch.allclose(cameras.w2c, level().w2c)
    assert cameras.projection == "orthographic"
    check_cameras(rendered, level(), "ring")
    check_cameras(rendered, level(2), "ring")
    check_cameras([rendered, rendered], ring(4, 0.0, size=64, projection="orthographic"), "ring")


def test_older_folders_are_read_from_their_pictures(rendered, tmp_path):
    folder = shutil.copytree(rendered, tmp_path / "old")
    index = json.loads((folder / "index.json").read_text())
    del index["cameras"]
    (folder / "index.json").write_text(json.dumps(index))
    check_cameras(folder, level(), "ring")
    with pytest.raises(MvdiffError, match="they stand elsewhere"):
        check_cameras(folder, level(azimuth=45.0), "ring")
    for name in index["objects"]:
        shutil.rmtree(folder / name["name"])
    assert rendered_cameras(folder) is None
    check_cameras(folder, ring(4, size=16), "ring")


@pytest.mark.parametrize(
    ("rig", "reason"),
    [
        (ring(4, 0.0, size=16), "they are orthographic, the rig's perspective"),
        (ring(4, 30.0, size=16, projection="orthographic"), "they stand elsewhere"),
        (level(fov=30.0), "their field of view is another"),
        (level(distance=2.0), "they stand elsewhere"),
    ],
)
def test_other_cameras_are_refused(rendered, rig, reason):
    with pytest.raises(MvdiffError, match=reason) as caught:
        check_cameras(rendered, rig, "ring")
    assert "render with the same rig settings" in str(caught.value)


def test_training_refuses_pictures_of_other_cameras(rendered, tmp_path, capsys):
    args = ["train", f"data={rendered}", f"out={tmp_path}", "size=16", "rig=ring", "rig.count=4"]
    assert main(args) == 2
    assert "were taken by other cameras than rig=ring's" in capsys.readouterr().err


@pytest.mark.parametrize("record", [3, [], {"K": "x"}, {"K": [[1]], "w2c": [], "projection": 5}])
def test_damaged_cameras_are_reported(tmp_path, record):
    index = {"version": 1, "size": 8, "objects": [], "cameras": record}
    (tmp_path / "index.json").write_text(json.dumps(index))
    with pytest.raises(MvdiffError, match="cameras"):
        rendered_cameras(tmp_path)


@pytest.mark.parametrize(
    "change",
    [
        {"size": "8"},
        {"size": 10**9},
        {"size": None},
        {"objects": {}},
        {"objects": [3]},
        {"objects": [{"name": "../x"}]},
        {"objects": [{"name": 5}]},
    ],
)
def test_damaged_indices_are_reported(tmp_path, change):
    (tmp_path / "index.json").write_text(json.dumps({"size": 8, "objects": []} | change))
    with pytest.raises(MvdiffError, match="index"):
        rendered_cameras(tmp_path)
