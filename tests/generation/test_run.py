"""`mvdiff generate` with many pictures: batches, shards, kills and errors."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.tiny_recipe import picture, pixels, toy_args, toy_weights

import mvdiff
from mvdiff.cli.main import main
from mvdiff.errors import ConfigError, MvdiffError
from mvdiff.generation.sharding import Shard
from mvdiff.pipeline import MultiViewPipeline

COLORS = [(200, 60, 40), (20, 150, 60), (40, 70, 200), (220, 200, 30), (120, 30, 140)]
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    return toy_weights(tmp_path_factory.mktemp("toy") / "toy.safetensors")


@pytest.fixture(scope="module")
def album(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("album")
    for name, color in zip("abcde", COLORS, strict=True):
        picture(color=color).save(folder / f"{name}.png")
    return folder


def generate(album: Path, out: Path, weights: Path, *more: str) -> int:
    quick = ["sampler.steps=2", *more]
    return main(["generate", f"image={album}", f"out={out}", *toy_args(weights, *quick)])


@pytest.fixture(scope="module")
def one_by_one(album, weights, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("one-by-one")
    assert generate(album, out, weights) == 0
    return out


def strips(out: Path) -> dict[str, np.ndarray]:
    found = sorted(out.rglob("strip.png"))
    return {str(p.parent.relative_to(out)): pixels(p).astype(int) for p in found}


def compare(one: Path, other: Path, most: int) -> None:
    a, b = strips(one), strips(other)
    assert list(a) == list(b)
    for name in a:
        assert np.abs(a[name] - b[name]).max() <= most, name


def test_results_do_not_depend_on_the_batch(
    album, weights, one_by_one, tmp_path, capsys, monkeypatch
):
    sizes, denoise = [], MultiViewPipeline.denoise

    def noting(self, conditions, *args, **kwargs):
        sizes.append(len(conditions))
        return denoise(self, conditions, *args, **kwargs)

    monkeypatch.setattr(MultiViewPipeline, "denoise", noting)
    assert generate(album, tmp_path, weights, "batch_size=3") == 0
    assert sizes == [3, 2]
    lines = capsys.readouterr().out.splitlines()
    assert lines == [f"{album / n}.png → {tmp_path / n}/sample-0" for n in "abcde"]
    # other batch sizes round otherwise, which may tip a byte
    compare(one_by_one, tmp_path, most=1)


def test_latents_in_a_batch_are_the_same_to_1e_5(weights):
    import mvdiff

    with_weights = [a for a in toy_args(weights) if not a.startswith(("elev", "reco", "device"))]
    model = mvdiff.load(overrides=with_weights, device="cpu")
    photos = [model.prepare(picture(color=color)) for color in COLORS[:3]]
    known = [model.encode([p], [e]) for p, e in zip(photos, (5, 20, -8), strict=True)]
    together = model.denoise(known, [4, 5, 6], model.views_at_once(None))
    for i in range(3):
        alone = model.denoise(known[i : i + 1], [4 + i], model.views_at_once(None))
        torch.testing.assert_close(together[i], alone[0], atol=1e-5, rtol=1e-5)


def test_samples_of_several_pictures_share_batches(album, weights, tmp_path, monkeypatch):
    sizes, denoise = [], MultiViewPipeline.denoise

    def noting(self, conditions, seeds, *args, **kwargs):
        sizes.append(list(seeds))
        return denoise(self, conditions, seeds, *args, **kwargs)

    monkeypatch.setattr(MultiViewPipeline, "denoise", noting)
    some = f"['{album / 'a.png'}','{album / 'b.png'}']"
    assert generate(some, tmp_path, weights, "batch_size=3", "samples=2", "seed=7") == 0
    assert sizes == [[7, 8, 7], [8]]
    for name in "ab":
        records = [
            json.loads((tmp_path / name / f"sample-{k}" / "run.json").read_text()) for k in (0, 1)
        ]
        assert sorted(r["seed"] for r in records) == [7, 8]
        assert records[0]["scores"]["score"] >= records[1]["scores"]["score"]


def test_one_picture_that_fails_on_the_way_stops_no_other(
    album, weights, one_by_one, tmp_path, capsys, monkeypatch
):
    decode, calls = MultiViewPipeline.decode, []

    def fails_once(self, latent):
        calls.append(threading.current_thread().name)
        if len(calls) == 2:
            raise MvdiffError("the denoiser produced NaN")
        return decode(self, latent)

    monkeypatch.setattr(MultiViewPipeline, "decode", fails_once)
    assert generate(album, tmp_path, weights, "batch_size=2") == 1
    captured = capsys.readouterr()
    errors = [line for line in captured.err.splitlines() if not line.startswith("note: ")]
    assert errors == [f"mvdiff: {album / 'b.png'}: the denoiser produced NaN"]
    assert captured.out.count(" → ") == 4
    assert len(calls) == 5
    assert {name.rpartition("_")[0] for name in calls} == {"mvdiff-writer"}
    monkeypatch.undo()
    # and again: only that one is made
    assert generate(album, tmp_path, weights) == 0
    assert "note: 4 pictures: already finished" in capsys.readouterr().err
    compare(one_by_one, tmp_path, most=1)


def test_a_batch_too_large_for_the_memory_is_halved(
    album, weights, one_by_one, tmp_path, capsys, monkeypatch
):
    sizes, denoise = [], MultiViewPipeline.denoise

    def short_of_memory(self, conditions, *args, **kwargs):
        sizes.append(len(conditions))
        if len(conditions) > 1:
            raise RuntimeError("CUDA out of memory. Tried to allocate 20.00 GiB")
        return denoise(self, conditions, *args, **kwargs)

    monkeypatch.setattr(MultiViewPipeline, "denoise", short_of_memory)
    assert generate(album, tmp_path, weights, "batch_size=4") == 0
    assert sizes == [4, 2, 1, 1, 1, 1, 1]
    assert "note: not enough memory: going on with batch_size=2\n" in capsys.readouterr().err
    compare(one_by_one, tmp_path, most=0)


def test_what_is_no_pictures_fault_stops_the_run(album, weights, tmp_path, monkeypatch):
    def bug(self, latent):
        raise ZeroDivisionError("a bug of ours")

    monkeypatch.setattr(MultiViewPipeline, "decode", bug)
    with pytest.raises(ZeroDivisionError, match="a bug of ours"):
        generate(album, tmp_path, weights)
    assert not list(tmp_path.rglob("run.json"))
    assert not any(thread.name.startswith("mvdiff-") for thread in threading.enumerate())


def test_killed_and_started_again(album, weights, one_by_one, tmp_path):
    args = [
        f"image={album}",
        f"out={tmp_path}",
        *toy_args(weights, "sampler.steps=2", "batch_size=2"),
    ]
    process = subprocess.Popen(
        [sys.executable, "-m", "mvdiff", "generate", *args],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        process.stdout.readline()  # the first picture is finished
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate()
    before = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("run.json")}
    assert before
    assert generate(album, tmp_path, weights, "batch_size=2") == 0
    after = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("run.json")}
    assert len(after) == 5
    assert {p: after[p] for p in before} == before
    compare(one_by_one, tmp_path, most=1)


def test_shares_cover_everything_once(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    items = list(range(11))
    taken = [items[s.index :: s.count] for s in (Shard.parse(f"{i}/4") for i in range(4))]
    assert sorted(item for share in taken for item in share) == items
    assert Shard.parse(None) == Shard(0, 1)
    monkeypatch.setenv("WORLD_SIZE", "2")
    both = []
    for rank in "01":
        monkeypatch.setenv("RANK", rank)
        both += [Shard.parse(None), Shard.parse("1/3")]
    assert both[::2] == [Shard(0, 2, 2), Shard(1, 2, 2)]
    assert both[1::2] == [Shard(2, 6, 2), Shard(3, 6, 2)]


@pytest.mark.parametrize("shard", ["4/4", "-1/4", "1", "a/b", "0/0", "1/2/3", 3])
def test_shares_that_are_none_are_refused(shard):
    with pytest.raises(MvdiffError, match="shard must be i/n with i from 0 to n - 1"):
        Shard.parse(shard)


def test_a_shard_makes_its_own_pictures(album, weights, tmp_path, capsys):
    assert generate(album, tmp_path, weights, "shard=1/3") == 0
    assert {p.name for p in tmp_path.iterdir()} == {"b", "e"}
    assert generate(album, tmp_path, weights, "shard=9/10") == 0  # none left for it
    assert capsys.readouterr().out.count(" → ") == 2


def test_two_processes_share_the_pictures_and_the_exit_code(album, weights, tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    broken = album.parent / "album-with-a-broken-one"
    broken.mkdir(exist_ok=True)
    for path in sorted(album.iterdir())[:3]:
        (broken / path.name).write_bytes(path.read_bytes())
    (broken / "b.png").write_text("no picture")
    args = [f"image={broken}", f"out={tmp_path}", *toy_args(weights, "sampler.steps=2")]
    launched = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "mvdiff", "generate", *args],
            env=os.environ | launched | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in (0, 1)
    ]
    try:
        said = [process.communicate(timeout=600) for process in processes]
    finally:
        for process in processes:
            process.kill()
    # the second one had only the broken picture, and yet the first one finished
    assert [process.returncode for process in processes] == [1, 1], said
    assert [out.count(" → ") for out, _ in said] == [2, 0]
    assert "cannot read" in said[1][1]
    assert {p.parts[-3] for p in tmp_path.rglob("run.json")} == {"a", "c"}


@pytest.mark.slow
def test_accelerate_launches_processes_that_share_the_pictures(album, weights, tmp_path):
    # --multi_gpu is accelerate's word for several processes; device=cpu keeps them here
    launch = "accelerate.commands.launch --multi_gpu --num_machines 1 --num_processes 2"
    launch += " --mixed_precision no --dynamo_backend no --main_process_port 0"
    args = [f"image={album}", f"out={tmp_path}", *toy_args(weights, "sampler.steps=1")]
    done = subprocess.run(
        [sys.executable, "-m", *launch.split(), "-m", "mvdiff", "generate", *args, "device=cpu"],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert {p.parts[-3] for p in tmp_path.rglob("run.json")} == {p.stem for p in album.iterdir()}
    assert done.stdout.count(" → ") == len(list(album.iterdir()))


@pytest.mark.parametrize("batch", ["0", "-2", "1.5", "true"])
def test_batch_must_be_whole_and_positive(album, weights, tmp_path, capsys, batch):
    assert generate(album, tmp_path, weights, f"batch_size={batch}") == 2
    assert "batch_size must be a whole number" in capsys.readouterr().err


def test_python_makes_the_files_that_the_command_makes(album, weights, one_by_one, tmp_path):
    settings = [o for o in toy_args(weights, "sampler.steps=2") if not o.startswith("device=")]
    model = mvdiff.load(overrides=settings, device="cpu")
    summary = model.generate_many(album, tmp_path)
    assert summary.errors == []
    assert summary.pictures == len(COLORS) == len(summary.results)
    compare(one_by_one, tmp_path, 0)
    files = sorted(p.relative_to(tmp_path) for p in tmp_path.rglob("*") if p.is_file())
    assert files == sorted(p.relative_to(one_by_one) for p in one_by_one.rglob("*") if p.is_file())
    # a second call only finds what is there; another sample is added
    written = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("strip.png")}
    assert len(model.generate_many([album / "a.png"], tmp_path).results) == 1
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("strip.png")} == written
    more = model.generate_many([album / "a.png"], tmp_path, ["samples=2", "reconstructor=none"])
    assert len(more.results) == 2


def test_python_reports_a_broken_image_and_goes_on(album, weights, tmp_path):
    (tmp_path / "broken.png").write_bytes(b"no image")
    model = mvdiff.load(overrides=toy_args(weights, "sampler.steps=1"), device="cpu")
    images = [tmp_path / "broken.png", album / "b.png"]
    summary = model.generate_many(images, tmp_path / "out", ["reconstructor=none"])
    assert [path.parent.name for path in summary.results] == ["b"]
    assert "broken.png" in str(summary.errors[0])
    with pytest.raises(ConfigError, match="cannot change the network"):
        model.generate_many(album, tmp_path / "out", ["attention=none"])
