"""`meta.pkl`: numpy arrays of every age come in, and nothing in it ever runs."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from mvdiff.cameras import ring, to_spherical
from mvdiff.cameras.syncdreamer_pickle import load_arrays, read_meta_pickle
from mvdiff.errors import MvdiffError


def content() -> list:
    cameras = ring()
    azimuth, elevation, distance = (x.numpy() for x in to_spherical(cameras))
    return [cameras.K[0].numpy(), azimuth, elevation, distance, cameras.w2c.numpy()]


def dump(path: Path, thing: object, protocol: int = 4) -> Path:
    path.write_bytes(pickle.dumps(thing, protocol=protocol))
    return path


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_the_published_form_is_read(tmp_path, protocol):
    cameras = read_meta_pickle(dump(tmp_path / "meta.pkl", content(), protocol))
    assert (len(cameras), cameras.height, cameras.width) == (16, 256, 256)
    assert torch.equal(cameras.K, ring().K)
    assert torch.equal(cameras.w2c, ring().w2c)


def test_names_of_both_numpy_generations_are_read(tmp_path):
    data = pickle.dumps(content(), protocol=0)
    names = {"numpy._core", "numpy.core"}
    used = next(name for name in names if name.encode() + b".multiarray" in data)
    (other,) = names - {used}
    changed = data.replace(used.encode(), other.encode())
    assert changed != data
    (tmp_path / "meta.pkl").write_bytes(changed)
    assert len(read_meta_pickle(tmp_path / "meta.pkl")) == 16


@pytest.mark.parametrize(
    "array",
    [
        np.arange(6, dtype=">f4").reshape(2, 3),
        np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        np.array(3, dtype=np.int16),
        np.zeros((0, 3)),
        np.array([True, False]),
        np.float64(2.5),
    ],
    ids=["big-endian", "fortran", "no axes", "empty", "bool", "scalar"],
)
@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
def test_arrays_of_every_layout_come_back_equal(tmp_path, array, protocol):
    thing = load_arrays(dump(tmp_path / "a.pkl", {"a": (array, [1, "x", None])}, protocol))
    np.testing.assert_array_equal(thing["a"][0], array)
    assert thing["a"][1] == [1, "x", None]


class Payload:
    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize(
    ("payload", "name"),
    [
        (lambda p: Payload(os.system, f"touch {p}"), r"(posix|nt)\.system"),
        (lambda p: Payload(eval, f"open({str(p)!r}, 'w')"), r"builtins\.eval"),
        (lambda p: Payload(Path.touch, p), r"builtins\.getattr|pathlib"),
        (lambda p: Payload(np.savetxt, str(p), np.zeros(1)), r"numpy\.savetxt"),
        (lambda p: Payload(np.ndarray.tofile, np.zeros(1), str(p)), r"getattr|ndarray"),
    ],
    ids=["system", "eval", "getattr", "numpy.savetxt", "method"],
)
def test_a_planted_payload_is_refused_by_name_and_does_not_run(tmp_path, payload, name):
    planted = tmp_path / "planted"
    path = dump(tmp_path / "meta.pkl", [*content()[:4], payload(planted)])
    with pytest.raises(MvdiffError, match=name):
        read_meta_pickle(path)
    assert not planted.exists()
    pickle.loads(path.read_bytes())  # the payload is a real one
    assert planted.exists()


def test_objects_cannot_hide_in_an_array(tmp_path):
    planted = tmp_path / "planted"
    array = np.array([Payload(os.system, f"touch {planted}")], dtype=object)
    with pytest.raises(MvdiffError, match="system"):
        load_arrays(dump(tmp_path / "a.pkl", array))
    with pytest.raises(MvdiffError, match="not plain numbers"):
        load_arrays(dump(tmp_path / "b.pkl", np.array([None], dtype=object)))
    assert not planted.exists()


class Lying:
    def __reduce__(self):
        function, arguments, state = np.zeros((2, 3)).__reduce__()
        return function, arguments, (state[0], (2**30, 2**20), *state[2:])


def test_a_lying_header_asks_for_no_memory(tmp_path):
    with pytest.raises(MvdiffError, match="reshape"):
        load_arrays(dump(tmp_path / "a.pkl", Lying()))


@pytest.mark.parametrize(
    "thing",
    [
        3,
        [],
        content()[:4],
        [np.eye(4), *content()[1:]],
        [np.eye(3), *content()[1:]],
        [*content()[:4], np.zeros((15, 3, 4))],
        [*content()[:4], "poses"],
    ],
    ids=["number", "empty", "short", "4×4", "no size", "count", "text"],
)
def test_other_contents_are_refused(tmp_path, thing):
    with pytest.raises(MvdiffError, match="does not hold SyncDreamer's cameras"):
        read_meta_pickle(dump(tmp_path / "meta.pkl", thing))


def test_nan_poses_are_refused(tmp_path):
    broken = content()
    broken[4][3, 0, 0] = np.nan
    with pytest.raises(MvdiffError, match="NaN"):
        read_meta_pickle(dump(tmp_path / "meta.pkl", broken))


@pytest.mark.parametrize("data", [b"", b"not a pickle", pickle.dumps(content())[:-40], b"\x80\x05"])
def test_broken_pickles_are_refused(tmp_path, data):
    (tmp_path / "meta.pkl").write_bytes(data)
    with pytest.raises(MvdiffError, match="not a readable pickle") as caught:
        read_meta_pickle(tmp_path / "meta.pkl")
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(MvdiffError, match="cannot read"):
        read_meta_pickle(tmp_path / "meta.pkl")
