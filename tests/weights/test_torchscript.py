"""TorchScript archives give their tensors without running anything."""

from __future__ import annotations

import pickle
import struct
import warnings
import zipfile
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from mvdiff.errors import MvdiffError
from mvdiff.weights.safe_load import read_weights


class Tower(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 4, 2, bias=False)
        self.proj = nn.Parameter(torch.randn(4, 3).half())
        self.turned = nn.Parameter(torch.randn(6, 4).T)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv1(x).mean(dim=(2, 3)) @ self.turned @ self.turned.T @ self.proj.float()


class Clip(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.visual = Tower()
        self.logit_scale = nn.Parameter(torch.tensor(2.0))
        self.register_buffer("input_resolution", torch.tensor(224))

    def forward(self, x: Tensor) -> Tensor:
        return self.visual(x) * self.logit_scale


@pytest.fixture
def module() -> Clip:
    torch.manual_seed(0)
    return Clip()


@pytest.fixture
def archive(tmp_path: Path, module: Clip) -> Path:
    path = tmp_path / "clip.pt"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TorchScript is deprecated; OpenAI's file remains
        torch.jit.trace(module, torch.zeros(1, 3, 4, 4)).save(str(path))
    return path


def test_every_tensor_is_read_under_its_name(archive: Path, module: Clip) -> None:
    tensors, metadata = read_weights(archive)
    expected = module.state_dict()
    assert metadata == {}
    assert tensors.keys() == expected.keys()
    for name, tensor in tensors.items():
        assert tensor.dtype == expected[name].dtype
        assert torch.equal(tensor, expected[name]), name


def repacked(source: Path, path: Path, compress: int, **changed: bytes) -> Path:
    """The archive with other contents of `data.pkl`, written by another zip program."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(path, "w", compress) as new:
        for info in old.infolist():
            name = info.filename.split("/", 1)[1]
            new.writestr(info.filename, changed.get(name.replace(".", "_"), old.read(info)))
    return path


@pytest.mark.parametrize("compress", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_other_zip_layouts_are_read_too(
    tmp_path: Path, archive: Path, module: Clip, compress: int
) -> None:
    tensors, _ = read_weights(repacked(archive, tmp_path / "again.pt", compress))
    assert all(torch.equal(tensors[n], t) for n, t in module.state_dict().items())


def test_a_planted_payload_never_runs(tmp_path: Path, archive: Path) -> None:
    proof = tmp_path / "proof"
    for call in (b"cos\nsystem\n", b"cbuiltins\nexec\n", b"csubprocess\ngetoutput\n"):
        evil = call + f"(V{proof}\ntR.".encode()
        path = repacked(archive, tmp_path / "evil.pt", zipfile.ZIP_STORED, data_pkl=evil)
        with pytest.raises(MvdiffError, match="asks for code to be run"):
            read_weights(path)
    assert not proof.exists()


def test_tensors_cannot_reach_outside_their_storage(tmp_path: Path, archive: Path) -> None:
    with zipfile.ZipFile(archive) as whole:
        pickled = whole.read("clip/data.pkl")
    # the shape (4, 3, 2, 2) of the first convolution, made (4, 3, 2, 200)
    small = b"(" + b"".join(b"K" + struct.pack("B", n) for n in (4, 3, 2, 2)) + b"t"
    assert small in pickled
    wild = pickled.replace(small, small[:-2] + struct.pack("B", 200) + b"t")
    path = repacked(archive, tmp_path / "wild.pt", zipfile.ZIP_STORED, data_pkl=wild)
    with pytest.raises(MvdiffError, match="not a readable checkpoint"):
        read_weights(path)


def test_damaged_archives_get_one_sentence(tmp_path: Path, archive: Path) -> None:
    whole = archive.read_bytes()
    (tmp_path / "cut.pt").write_bytes(whole[: len(whole) * 3 // 4])
    with pytest.raises(MvdiffError, match="not a readable checkpoint"):
        read_weights(tmp_path / "cut.pt")
    nothing = pickle.dumps({}, protocol=2)
    path = repacked(archive, tmp_path / "other.pt", zipfile.ZIP_STORED, data_pkl=nothing)
    with pytest.raises(MvdiffError, match=r"holds no weights|not a readable checkpoint"):
        read_weights(path)
