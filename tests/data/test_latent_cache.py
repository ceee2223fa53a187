"""The latent cache: exact, resumable, shared between processes, never stale."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from helpers.syncdreamer_data import VIEWS, write_published
from torch import Tensor

from mvdiff.cameras import ring
from mvdiff.data import latent_cache as module
from mvdiff.data.augment import Augment
from mvdiff.data.batch_source import DatasetBatches
from mvdiff.data.latent_cache import CachedLatentDataset, FrozenEncoders
from mvdiff.data.syncdreamer import SyncDreamerDataset
from mvdiff.errors import MvdiffError

SIZE, COUNT = 8, 5
ROLL = Augment(mirror=0.0, color_prob=0.0, shift=0.0, scale=0.0)


def posterior(pictures: Tensor) -> tuple[Tensor, Tensor]:
    small = torch.nn.functional.avg_pool2d(pictures, 4)
    return small * 3 - 1, small.square() - 7


def embed(pictures: Tensor) -> Tensor:
    return pictures.mean(dim=(2, 3)) * torch.tensor([1.0, 2.0, 3.0, 4.0])


ENCODERS = FrozenEncoders(posterior, embed, "weights", torch.device("cpu"))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> SyncDreamerDataset:
    root = tmp_path_factory.mktemp("data")
    write_published(root, [f"object{i}" for i in range(COUNT)], SIZE)
    return SyncDreamerDataset(root, ring(VIEWS, size=SIZE))


@pytest.fixture(autouse=True)
def small_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CHUNK", 2)


def made(data: SyncDreamerDataset, folder: Path, **kwargs) -> CachedLatentDataset:
    encoded = CachedLatentDataset(data, ENCODERS, folder, **kwargs)
    encoded.encode()
    return encoded


def test_batches_of_encoded_pictures_are_those_of_pictures_encoded(
    data: SyncDreamerDataset, tmp_path: Path
) -> None:
    encoded = made(data, tmp_path)
    for step in range(6):
        ours = DatasetBatches(encoded, augment=ROLL).batch_at(step, batch_size=3, seed=1)
        theirs = DatasetBatches(data, augment=ROLL).batch_at(step, batch_size=3, seed=1)
        assert (ours.names, ours.index.tolist()) == (theirs.names, theirs.index.tolist())
        mean, logvar = posterior(theirs.views.flatten(0, 1))
        torch.testing.assert_close(ours.targets.mean.flatten(0, 1), mean, rtol=0, atol=1e-6)
        torch.testing.assert_close(ours.targets.logvar.flatten(0, 1), logvar, rtol=0, atol=1e-6)
        mean, logvar = posterior(theirs.photo)
        torch.testing.assert_close(ours.photo.mean, mean, rtol=0, atol=1e-6)
        torch.testing.assert_close(ours.photo.logvar, logvar, rtol=0, atol=1e-6)
        torch.testing.assert_close(ours.token, embed(theirs.photo), rtol=0, atol=1e-6)
        assert torch.equal(ours.elevation, theirs.elevation)


def test_once_made_no_picture_is_read(
    data: SyncDreamerDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made(data, tmp_path)

    def read(*_: object) -> None:
        raise AssertionError("a picture was read")

    monkeypatch.setattr(SyncDreamerDataset, "_pictures", read)
    again = made(data, tmp_path)
    assert again.missing() == []
    assert len(DatasetBatches(again, augment=ROLL).batch_at(0, batch_size=4)) == 4


def test_half_precision_halves_the_disk_and_keeps_three_digits(
    data: SyncDreamerDataset, tmp_path: Path
) -> None:
    whole, half = made(data, tmp_path), made(data, tmp_path, precision="fp16")
    size = [sum(p.stat().st_size for p in x.folder.iterdir()) for x in (whole, half)]
    assert size[1] < 0.7 * size[0]  # headers weigh in these small files
    a, b = (DatasetBatches(x, augment=ROLL).batch_at(0, batch_size=5) for x in (whole, half))
    torch.testing.assert_close(a.targets.mean, b.targets.mean, rtol=1e-3, atol=1e-4)
    assert b.targets.mean.dtype == torch.float32
    with pytest.raises(MvdiffError, match="unknown precision 'int8'; choose from fp32, fp16"):
        made(data, tmp_path, precision="int8")


def test_a_killed_encoding_goes_on_where_it_was(data: SyncDreamerDataset, tmp_path: Path) -> None:
    done: list[int] = []

    def stop(count: int, total: int) -> None:
        assert total == COUNT
        done.append(count)
        if count == 3:
            raise KeyboardInterrupt

    encoded = CachedLatentDataset(data, ENCODERS, tmp_path)
    with pytest.raises(KeyboardInterrupt):
        encoded.encode(progress=stop)
    assert [p.name for p in encoded.folder.iterdir()] == ["00000.safetensors"]
    assert encoded.missing() == [1, 2]
    (encoded.folder / "00001.safetensors").write_bytes(b"cut")
    rest: list[tuple[int, int]] = []
    encoded.encode(progress=lambda *x: rest.append(x))
    assert rest == [(1, 3), (2, 3), (3, 3)]
    whole = made(data, tmp_path / "whole")
    for path in encoded.folder.iterdir():
        assert path.read_bytes() == (whole.folder / path.name).read_bytes()


def test_processes_share_the_work(data: SyncDreamerDataset, tmp_path: Path) -> None:
    from threading import Thread

    counts = [[], []]

    def work(process: int) -> None:
        CachedLatentDataset(data, ENCODERS, tmp_path).encode(
            process=process, processes=2, progress=lambda done, total: counts[process].append(total)
        )

    threads = [Thread(target=work, args=(k,)) for k in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=20)
    assert CachedLatentDataset(data, ENCODERS, tmp_path).missing() == []
    assert sorted(len(c) for c in counts) == [2, 3]


def test_other_weights_data_or_precision_are_kept_apart(
    data: SyncDreamerDataset, tmp_path: Path
) -> None:
    folders = {made(data, tmp_path).folder}
    folders.add(CachedLatentDataset(data, replace(ENCODERS, digest="other"), tmp_path).folder)
    folders.add(CachedLatentDataset(data, ENCODERS, tmp_path, "fp16").folder)
    fewer = SyncDreamerDataset(data.root, data.rig)
    fewer.fingerprint = "others"
    folders.add(CachedLatentDataset(fewer, ENCODERS, tmp_path).folder)
    assert len(folders) == 4


def test_a_missing_or_truncated_file_is_reported(data: SyncDreamerDataset, tmp_path: Path) -> None:
    encoded = made(data, tmp_path)
    os.truncate(encoded.folder / "00001.safetensors", 100)
    with pytest.raises(MvdiffError, match=r"cannot read .*00001.*start again"):
        DatasetBatches(encoded, augment=ROLL).batch_at(0, batch_size=5)


def test_pictures_cannot_change_after_they_were_encoded(
    data: SyncDreamerDataset, tmp_path: Path
) -> None:
    assert ROLL.rotation_only
    assert Augment.none().rotation_only
    assert not Augment().rotation_only
    for change in ({"mirror": 1.0}, {"color_prob": 1.0}, {"shift": 0.1}, {"scale": 0.1}):
        augment = replace(ROLL, **change)
        assert not augment.rotation_only
        with pytest.raises(MvdiffError, match="cannot be changed any more"):
            DatasetBatches(made(data, tmp_path), augment=augment).batch_at(0, batch_size=2)
    with pytest.raises(MvdiffError, match=r"train.num_input_images asks for more"):
        DatasetBatches(made(data, tmp_path), augment=ROLL, photos=[3]).batch_at(0, batch_size=2)


def test_encoders_that_give_nan_are_reported(data: SyncDreamerDataset, tmp_path: Path) -> None:
    broken = replace(ENCODERS, embed=lambda x: embed(x) * float("nan"))
    with pytest.raises(MvdiffError, match="NaN"):
        CachedLatentDataset(data, broken, tmp_path).encode()
    assert not list(tmp_path.glob("*/*.safetensors"))
