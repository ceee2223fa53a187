"""Results with missing files, folders locked by another process, unusual names and streams."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.tiny_recipe import picture, toy_args, toy_weights

from mvdiff.cli.main import main
from mvdiff.utils.locking import exclusive_lock

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    return toy_weights(tmp_path_factory.mktemp("toy") / "toy.safetensors")


@pytest.fixture(scope="module")
def made(weights, tmp_path_factory) -> tuple[Path, Path]:
    """An album of two pictures and its results, two samples each."""
    folder = tmp_path_factory.mktemp("album")
    for name, color in (("a", (200, 60, 40)), ("b", (20, 150, 60))):
        picture(color=color).save(folder / f"{name}.png")
    out = folder / "out"
    assert generate(folder, out, weights) == 0
    return folder, out


def generate(album: Path, out: Path, weights: Path, *more: str) -> int:
    args = toy_args(weights, "sampler.steps=1", "samples=2", *more)
    return main(["generate", f"image=[{album / 'a.png'},{album / 'b.png'}]", f"out={out}", *args])


def contents(folder: Path) -> dict[str, bytes]:
    """The content of all files; records without the fields that differ between runs."""
    found = {}
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        data = path.read_bytes()
        if path.name == "run.json":
            record = json.loads(data)
            del record["seconds"], record["config"]["out"]
            data = json.dumps(record, sort_keys=True).encode()
        found[path.relative_to(folder).as_posix()] = data
    return found


@pytest.mark.parametrize("file", ["views/001.png", "transforms.json", "strip.png", "run.json"])
@pytest.mark.parametrize("how", ["gone", "emptied", "cut"])
def test_what_was_lost_is_made_again(made, weights, capsys, file, how):
    album, out = made
    before = contents(out)
    path = out / "a" / "sample-1" / file
    if how == "gone":
        path.unlink()
    else:
        path.write_bytes(b"" if how == "emptied" else path.read_bytes()[:50])
    assert generate(album, out, weights) == 0
    captured = capsys.readouterr()
    assert contents(out) == before
    if file != "run.json":
        assert f"sample-1 is made again, since its {file} is" in captured.err
    assert "already finished" in captured.err
    assert captured.out.count(" → ") == 4


def test_the_record_names_the_foreground_and_the_files(made):
    _, out = made
    record = json.loads((out / "b" / "sample-0" / "run.json").read_text())
    assert record["segmentation"] == "alpha"
    assert record["files"]["strip.png"] == (out / "b/sample-0/strip.png").stat().st_size
    assert sorted(record["ranked_with"]) == [0, 1]


def test_an_object_that_another_process_works_on_is_left_to_it(made, weights, tmp_path, capsys):
    album, _ = made
    with exclusive_lock(tmp_path / "a"):
        assert generate(album, tmp_path, weights) == 1
    captured = capsys.readouterr()
    assert captured.err.count("another process is working on") == 1
    assert captured.out.count(" → ") == 2
    assert not (tmp_path / "a").exists()
    assert not list(tmp_path.rglob(".lock"))
    assert generate(album, tmp_path, weights) == 0


def test_what_another_process_finished_meanwhile_is_not_made_again(
    made, weights, tmp_path, monkeypatch
):
    """The other process finishes between the first look at the folder and its lock."""
    from mvdiff.pipeline import MultiViewPipeline

    album, out = made
    real = MultiViewPipeline.elevation_of

    def slow(*args):
        for name in ("a", "b"):
            subprocess.run(["cp", "-r", out / name, tmp_path], check=True)
        return real(*args)

    monkeypatch.setattr(MultiViewPipeline, "elevation_of", slow)
    monkeypatch.setattr("mvdiff.pipeline.MultiViewPipeline.denoise", None)
    assert generate(album, tmp_path, weights) == 0
    assert contents(tmp_path) == contents(out)


@pytest.mark.skipif(sys.platform != "linux", reason="file names of any bytes, as on Linux")
@pytest.mark.parametrize(
    "encoding",
    [
        "ascii:strict",
        pytest.param("utf-8:strict", marks=pytest.mark.slow),
        pytest.param("latin-1:strict", marks=pytest.mark.slow),
    ],
)
def test_names_that_are_not_text_and_terminals_without_unicode(made, weights, tmp_path, encoding):
    name = os.fsdecode(b"caf\xe9 \xe2\x86\x92.png")
    picture().save(tmp_path / "x.png")
    os.rename(tmp_path / "x.png", tmp_path / name)
    env = {**os.environ, "PYTHONIOENCODING": encoding}
    args = [f"image={tmp_path / name}", f"out={tmp_path / 'out'}"]
    command = [sys.executable, "-m", "mvdiff", "generate", *args]
    done = subprocess.run(
        [*command, *toy_args(weights, "sampler.steps=1")], capture_output=True, env=env
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count(b"\n") == 1
    sample = tmp_path / "out" / name.removesuffix(".png") / "sample-0"
    assert json.loads((sample / "run.json").read_text())["picture"] == str(tmp_path / name)


@pytest.mark.skipif(os.name != "posix", reason="closed streams as in a shell")
@pytest.mark.parametrize("closed", ["2>&-"])
def test_closed_streams_do_not_matter(made, weights, tmp_path, closed):
    album, _ = made
    args = [f"image={album / 'a.png'}", f"out={tmp_path}", *toy_args(weights, "sampler.steps=1")]
    script = f'exec "$0" -m mvdiff generate "$@" {closed}'
    done = subprocess.run(["sh", "-c", script, sys.executable, *args], capture_output=True)
    assert done.returncode == 0
    assert (tmp_path / "a" / "sample-0" / "run.json").exists()
