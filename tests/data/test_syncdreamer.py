"""SyncDreamer's training layout: what is read, and the errors for what is not readable."""

from __future__ import annotations

import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.syncdreamer_data import VIEWS, input_elevations, write_meta, write_published
from PIL import Image

from mvdiff.cameras import ring
from mvdiff.data.augment import Augment
from mvdiff.data.batch_source import DatasetBatches
from mvdiff.data.syncdreamer import SyncDreamerDataset, is_published, read_uids
from mvdiff.errors import MvdiffError

SIZE = 8
RIG = ring(VIEWS, size=SIZE)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_published(tmp_path, size=SIZE)


def png(path: Path) -> torch.Tensor:
    return torch.from_numpy(np.array(Image.open(path))).permute(2, 0, 1)


def test_samples_are_the_pictures_and_the_cameras(root: Path) -> None:
    data = SyncDreamerDataset(root, RIG)
    assert (data.names, data.view_count, data.size) == (("a1", "b2", "c3"), VIEWS, SIZE)
    sample = data[1]
    for i in (0, 7, 15):
        assert torch.equal(sample.targets[i], png(root / f"target/b2/{i:03d}.png"))
        assert torch.equal(sample.inputs[i], png(root / f"input/b2/{i:03d}.png"))
    expected = torch.tensor(input_elevations(1))
    torch.testing.assert_close(sample.input_elevation, expected, atol=1e-3, rtol=0)


def test_the_set_is_rolled_and_the_input_of_the_same_azimuth_taken(root: Path) -> None:
    data = SyncDreamerDataset(root, RIG)
    whole = data.batch([2])
    turned = data.batch([2], roll=5)
    assert torch.equal(turned.views, whole.views.roll(-5, dims=1))
    alpha = png(root / "input/c3/005.png")[3] > 0
    assert torch.equal(turned.photo[0, 3] > 0, alpha)
    assert float(turned.elevation[0]) == pytest.approx(input_elevations(2)[5], abs=1e-3)


def test_training_batches_roll_by_every_step_and_change_nothing_else(root: Path) -> None:
    data = SyncDreamerDataset(root, RIG)
    roll_only = Augment(mirror=0.0, color_prob=0.0, shift=0.0, scale=0.0)
    batches = DatasetBatches(data, augment=roll_only)
    rolls = set()
    for step in range(40):
        batch = batches.batch_at(step, batch_size=2)
        for views, name in zip(batch.views, batch.names, strict=True):
            plain = data.batch([data.names.index(name)]).views[0]
            found = [s for s in range(VIEWS) if torch.equal(views, plain.roll(-s, dims=0))]
            assert len(found) == 1
            rolls.update(found)
    assert rolls == set(range(VIEWS))


def test_objects_rendered_again_have_another_fingerprint(root: Path) -> None:
    before = SyncDreamerDataset(root, RIG).fingerprint
    assert SyncDreamerDataset(root, RIG).fingerprint == before
    picture = root / "target/b2/000.png"
    Image.new("RGBA", (SIZE, SIZE), (9, 9, 9, 255)).save(picture)
    assert SyncDreamerDataset(root, RIG).fingerprint != before


def test_the_layout_is_recognized(root: Path, tmp_path: Path) -> None:
    assert is_published(root)
    (root / "uid_set.pkl").unlink()
    assert is_published(root), "its folders are there; the missing list is reported later"
    (root / "index.json").write_text("{}")
    assert not is_published(root)
    assert not is_published(tmp_path / "nowhere")


def uids(root: Path, content: object) -> None:
    (root / "uid_set.pkl").write_bytes(pickle.dumps(content))


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:60])


def tilt(root: Path) -> None:
    cameras = ring(VIEWS, size=SIZE)
    w2c = cameras.w2c.clone()
    w2c[3] = ring(VIEWS, elevation=20.0, size=SIZE).w2c[3]
    write_meta(root / "target/a1", type(cameras)(cameras.K, w2c, SIZE, SIZE))


@pytest.mark.parametrize(
    ("harm", "sentence"),
    [
        (lambda r: (r / "uid_set.pkl").unlink(), "no uid_set.pkl in .*published layout"),
        (lambda r: uids(r, {"a": 1}), "must hold a list of names"),
        (lambda r: uids(r, []), "must hold a list of names"),
        (lambda r: uids(r, ["a1", "../b2"]), r"must hold names of folders, got '\.\./b2'"),
        (lambda r: uids(r, ["a1", 3]), "must hold names of folders, got 3"),
        (lambda r: (r / "uid_set.pkl").write_bytes(b"\x80\x04"), "not a readable pickle"),
        (lambda r: shutil.rmtree(r / "target"), "no folder '.*target'"),
        (lambda r: shutil.rmtree(r / "target/b2"), "1 of the 3 objects .*'b2': add it, or take"),
        (lambda r: shutil.rmtree(r / "input/c3"), "no folder in '.*input', the first is 'c3'"),
        (lambda r: (r / "target/a1/004.png").unlink(), r"lacks a view.*004\.png"),
        (lambda r: (r / "input/a1/015.png").unlink(), r"lacks a view.*input/a1/015\.png"),
        (lambda r: cut(r / "target/a1/009.png"), r"lacks a view.*009\.png.*truncated"),
        (lambda r: (r / "input/a1/meta.pkl").unlink(), "input/a1' has no meta.pkl"),
        (
            lambda r: write_meta(r / "target/a1", ring(12, size=SIZE)),
            "'.*target/a1' has 12 views, the recipe's rig has 16",
        ),
        (
            tilt,
            "1 of the 16 target cameras of 'a1' are not the recipe's: view 3 has azimuth 67.5°, "
            "elevation 20.0°.*the rig has azimuth 67.5°, elevation 30.0°",
        ),
        (
            lambda r: write_meta(r / "target/a1", ring(VIEWS, fov=40, size=SIZE)),
            "16 of the 16 target cameras of 'a1'.*focal length 11.0.*focal length 8.8",
        ),
        (
            lambda r: write_meta(r / "input/a1", ring(VIEWS, azimuth=22.5, size=SIZE)),
            "input 0 of 'a1' was taken from azimuth 22.5°",
        ),
        (
            lambda r: Image.new("RGBA", (16, 16)).save(r / "target/a1/000.png"),
            "is 16×16, the recipe works at 8×8: set size=16",
        ),
    ],
)
def test_unusable_data_says_what_is_wrong(root: Path, harm, sentence: str) -> None:
    harm(root)
    with pytest.raises(MvdiffError, match=sentence):
        SyncDreamerDataset(root, RIG)


def test_names_come_once_and_sets_are_sorted(tmp_path: Path) -> None:
    path = tmp_path / "uid_set.pkl"
    path.write_bytes(pickle.dumps(["b", "a", "b"]))
    assert read_uids(path) == ("b", "a")
    path.write_bytes(pickle.dumps({"c", "a", "b"}))
    assert read_uids(path) == ("a", "b", "c")


@pytest.mark.parametrize("file", ["uid_set.pkl", "target/a1/meta.pkl"])
def test_nothing_in_the_data_is_executed(root: Path, file: str) -> None:
    class Payload:
        def __reduce__(self) -> tuple:
            return (Path.touch, (root / "executed",))

    (root / file).write_bytes(pickle.dumps([Payload()]))
    with pytest.raises(MvdiffError, match=r"refused to read .*pathlib"):
        SyncDreamerDataset(root, RIG)
    assert not (root / "executed").exists()
