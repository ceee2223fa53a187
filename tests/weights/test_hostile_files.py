"""Weight files that are wrapped, bloated or made to exhaust the memory."""

from __future__ import annotations

import pickle
import zipfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from mvdiff.errors import MvdiffError
from mvdiff.utils.pickles import check_pickle
from mvdiff.weights.safe_load import read_weights

STATE = {"a.weight": torch.arange(6.0).reshape(2, 3), "a.bias": torch.ones(2)}


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "_orig_mod.module."])
def test_prefixes_of_wrapped_models_are_taken_off_and_said(tmp_path: Path, prefix: str) -> None:
    path = tmp_path / "wrapped.ckpt"
    torch.save({"state_dict": {prefix + name: t for name, t in STATE.items()}}, path)
    with pytest.warns(UserWarning, match=f"prefix '{prefix}'"):
        tensors, _ = read_weights(path)
    assert tensors.keys() == STATE.keys()
    assert torch.equal(tensors["a.weight"], STATE["a.weight"])


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("suffix", ["safetensors", "ckpt"])
def test_numbers_that_are_not_finite_are_named(tmp_path: Path, value: float, suffix: str) -> None:
    broken = {**STATE, "b.bias": torch.tensor([1.0, value])}
    path = tmp_path / f"broken.{suffix}"
    save_file(broken, path) if suffix == "safetensors" else torch.save(broken, path)
    with pytest.raises(MvdiffError, match=r"'b\.bias'"):
        read_weights(path)


def test_a_prefix_that_only_some_names_have_belongs_to_them(tmp_path: Path) -> None:
    torch.save({"module.x": torch.ones(1), "y": torch.ones(1)}, tmp_path / "mixed.pt")
    assert set(read_weights(tmp_path / "mixed.pt")[0]) == {"module.x", "y"}


def test_a_tensor_without_strides_cannot_stand_for_gigabytes(tmp_path: Path) -> None:
    torch.save({"huge": torch.zeros(1).expand(10**6, 10**4)}, tmp_path / "huge.ckpt")
    assert (tmp_path / "huge.ckpt").stat().st_size < 10_000
    with pytest.raises(MvdiffError, match=r"40\.0 GB"):
        read_weights(tmp_path / "huge.ckpt")


def test_a_compressed_archive_is_not_unpacked(tmp_path: Path) -> None:
    torch.save({"zeros": torch.zeros(10**8 // 4)}, tmp_path / "plain.ckpt")
    with (
        zipfile.ZipFile(tmp_path / "plain.ckpt") as plain,
        zipfile.ZipFile(tmp_path / "small.ckpt", "w", zipfile.ZIP_DEFLATED) as small,
    ):
        for name in plain.namelist():
            small.writestr(name, plain.read(name))
    assert (tmp_path / "small.ckpt").stat().st_size < 10**6
    with pytest.raises(MvdiffError, match="unpacks to"):
        read_weights(tmp_path / "small.ckpt")


def test_the_format_before_torch_1_6_is_named(tmp_path: Path) -> None:
    torch.save(STATE, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    with pytest.raises(MvdiffError, match=r"before version 1\.6"):
        read_weights(tmp_path / "old.pt")


def test_a_pickle_of_seven_bytes_cannot_ask_for_gigabytes() -> None:
    with pytest.raises(pickle.UnpicklingError, match="index"):
        check_pickle(b"Nr\xff\xff\xff\x7f.")  # None, LONG_BINPUT 2**31 - 1, STOP
    check_pickle(pickle.dumps({"a": [1, 2], "b": ("c",)}))
    with pytest.raises(pickle.UnpicklingError, match="not a valid pickle"):
        check_pickle(b"\x80")
