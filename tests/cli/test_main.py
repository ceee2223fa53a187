"""The command line from end to end with the toy model, and how quickly it answers."""

from __future__ import annotations

import io
import json
import os
import re
import shlex
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.tiny_recipe import ball_views, picture, pixels, toy_args, toy_model, toy_weights
from PIL import Image

from mvdiff import __version__
from mvdiff.builders import SCHEDULERS
from mvdiff.builders.views import read_views
from mvdiff.cameras import ring
from mvdiff.cli.list import slots
from mvdiff.cli.main import COMMANDS, main
from mvdiff.config.groups import groups
from mvdiff.errors import MvdiffError
from mvdiff.generation.planning import find_images
from mvdiff.mesh.mesh import Mesh
from mvdiff.training.checkpointing import save_weights
from mvdiff.views.views import Views
from mvdiff.visualization import preview

QUICK_MESH = ["reconstructor=hull", "reconstructor.resolution=16", "reconstructor.max_faces=300"]
QUICK_MESH += ["texture_size=32"]
VIEW_FILES = {f"views/{i:03d}.png" for i in range(4)}
ALWAYS = {"transforms.json", "strip.png", "input.png", "preview.png", "run.json"} | VIEW_FILES
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    return toy_weights(tmp_path_factory.mktemp("toy") / "toy.safetensors")


@pytest.fixture(scope="module")
def blank(tmp_path_factory) -> Path:
    """Weights whose views are empty, so that there is no mesh to reconstruct."""
    model = toy_model()
    torch.nn.init.zeros_(model.radiance.head[-1].weight)
    torch.nn.init.constant_(model.radiance.head[-1].bias, -10.0)  # density: none anywhere
    return save_weights(model.state_dict(), tmp_path_factory.mktemp("blank") / "blank.safetensors")


def solidify(patch: pytest.MonkeyPatch) -> None:
    """Give the toy model's views the silhouettes of a ball, so that they have a mesh."""
    from mvdiff.latents.autoencoders import PixelUnshuffleCodec

    decode = PixelUnshuffleCodec.decode
    mask = ball_views(ring(4, size=32)).mask
    patch.setattr(PixelUnshuffleCodec, "decode", lambda self, x: (decode(self, x)[0], mask))


@pytest.fixture
def solid(monkeypatch) -> None:
    solidify(monkeypatch)


@pytest.fixture
def photo(tmp_path) -> Path:
    path = tmp_path / "disc.png"
    picture().save(path)
    return path


def files(folder: Path) -> set[str]:
    return {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()}


@dataclass(frozen=True)
class Generated:
    """A finished `mvdiff generate` with a mesh, and what it printed."""

    photo: Path
    out: Path
    stdout: str
    stderr: str

    @property
    def sample(self) -> Path:
        return self.out / "disc" / "sample-0"

    @property
    def run(self) -> dict:
        return json.loads((self.sample / "run.json").read_text())


@pytest.fixture(scope="module")
def generated(weights, tmp_path_factory) -> Generated:
    """Seed 3, elevation 25, a hull with a texture of 32²; not to be changed."""
    folder = tmp_path_factory.mktemp("generated")
    picture().save(folder / "disc.png")
    args = [f"image={folder / 'disc.png'}", "seed=3", f"out={folder / 'out'}"]
    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        solidify(patch)
        assert main(["generate", *args, *toy_args(weights), "elevation=25", *QUICK_MESH]) == 0
    return Generated(folder / "disc.png", folder / "out", out.getvalue(), err.getvalue())


def test_generate_writes_exactly_what_it_promises(generated):
    promised = {f"disc/sample-0/{name}" for name in ALWAYS | {"mesh.glb", "turntable.gif"}}
    assert files(generated.out) == promised


def test_generate_says_where_and_how_the_object_was_found(generated):
    assert generated.stdout == f"{generated.photo} → {generated.sample}\n"
    assert generated.stderr.count("\n") == 1
    assert generated.stderr.startswith(f"note: {generated.photo}: ")
    assert "segmentation=alpha" in generated.stderr


def test_generated_views_have_the_rigs_cameras_and_opacity(generated):
    views = Views.load(generated.sample)
    ball = ball_views(ring(4, size=32))
    assert views.images.shape == (4, 3, 32, 32)
    assert torch.equal(views.cameras.w2c, ball.cameras.w2c)
    assert torch.equal(views.alpha, ball.alpha)


def test_generated_pictures_show_the_views_and_the_input(generated):
    sample = generated.sample
    strip = pixels(sample / "strip.png")
    assert strip.shape == (32, 4 * 32, 3)
    assert np.array_equal(strip, pixels(Views.load(sample).strip()))
    framed = pixels(sample / "input.png").astype(int)
    assert framed.shape == (32, 32, 3)
    assert np.abs(framed[12, 16] - [200, 60, 40]).max() < 10  # the disc, above its stripe
    assert framed[0, 0].min() > 250
    with Image.open(sample / "turntable.gif") as turntable:
        assert turntable.n_frames > 10


def test_the_generated_mesh_is_the_ball_of_the_views(generated):
    mesh = Mesh.load(generated.sample / "mesh.glb")
    assert mesh.texture.image.shape == (32, 32, 3)
    # four silhouettes of a ball of radius 0.35 around the origin, carved at a resolution of 16
    assert np.abs(mesh.vertices).max(axis=0)[:2] == pytest.approx([0.35, 0.35], abs=0.1)
    assert np.abs(mesh.vertices.mean(axis=0)).max() < 0.1


def test_the_cameras_file_says_where_the_input_stood(generated):
    record = json.loads((generated.sample / "transforms.json").read_text())
    (frame,) = record["input_frames"]
    assert (generated.sample / frame["file_path"]).is_file()
    matrix = torch.tensor(frame["transform_matrix"])
    elevation = torch.asin(matrix[2, 3] / matrix[:3, 3].norm())
    expected = json.loads((generated.sample / "run.json").read_text())["elevation"]
    assert torch.rad2deg(elevation).item() == pytest.approx(expected, abs=1e-3)


def test_the_preview_shows_views_photo_and_mesh(generated):
    """The preview has three blocks; test_visualization.py tests their content."""
    views = Views.load(generated.sample)
    with Image.open(generated.sample / "preview.png") as written:
        plain = preview(views, Image.new("RGB", (1, 1)))
        assert written.width == plain.width
        assert written.height > plain.height + 50  # the row of the mesh's pictures
        red = np.asarray(written.convert("RGB")).astype(int)[..., :3] - [200, 60, 40]
    assert (np.abs(red).max(axis=-1) < 12).sum() > 10_000  # the photo's disc, enlarged


def test_run_json_tells_what_was_asked_of_which_version(generated):
    run = generated.run
    assert run["picture"] == str(generated.photo)
    assert (run["seed"], run["elevation"], run["device"]) == (3, 25.0, "cpu")
    assert run["config"]["unet"]["width"] == 16
    assert run["config"]["sampler"]["steps"] == 3
    assert run["config"]["seed"] == 3
    assert run["versions"]["mvdiff"] == __version__
    assert run["versions"]["torch"] == torch.__version__


def test_run_json_tells_the_time_of_every_stage(generated):
    seconds = generated.run["seconds"]
    assert {"setup", "photo", "denoising", "mesh", "texture", "writing"} <= set(seconds)
    assert all(value >= 0 for value in seconds.values())
    assert seconds["denoising"] > 0


def test_sixteen_views_are_numbered_to_fifteen(photo, tmp_path):
    weights = toy_weights(tmp_path / "w.safetensors", "rig.count=16")
    args = [f"image={photo}", f"out={tmp_path / 'out'}", *toy_args(weights), "rig.count=16"]
    assert main(["generate", *args, "sampler.steps=1"]) == 0
    names = sorted(p.name for p in (tmp_path / "out" / "disc" / "sample-0" / "views").iterdir())
    assert names == [f"{i:03d}.png" for i in range(16)]
    strip = pixels(tmp_path / "out" / "disc" / "sample-0" / "strip.png")
    assert strip.shape == (32, 16 * 32, 3)
    # fewer of them, later, leave none of these behind
    args += ["rig.count=12", "resume=false"]
    assert main(["generate", *args, "sampler.steps=1"]) == 0
    assert {p.name for p in (tmp_path / "out").glob("disc/sample-0/views/*")} == set(names[:12])


def test_the_same_seed_gives_the_same_bytes_however_many_samples(photo, weights, tmp_path):
    def run(name: str, *more: str) -> Path:
        out = tmp_path / name
        assert main(["generate", f"image={photo}", f"out={out}", *toy_args(weights), *more]) == 0
        return out / "disc"

    def data(sample: Path) -> list[bytes]:
        return [(sample / name).read_bytes() for name in sorted(VIEW_FILES | {"strip.png"})]

    def by_seed(folder: Path) -> dict[int, Path]:
        samples = [folder / f"sample-{k}" for k in (0, 1)]
        return {json.loads((p / "run.json").read_text())["seed"]: p for p in samples}

    two = run("a", "samples=2", "seed=5")
    assert files(two) == {f"sample-{k}/{name}" for k in (0, 1) for name in ALWAYS}
    first, second = (by_seed(two)[seed] for seed in (5, 6))
    assert data(first) != data(second)
    assert data(run("b", "seed=6") / "sample-0") == data(second)
    scores = [json.loads((two / f"sample-{k}" / "run.json").read_text())["scores"] for k in (0, 1)]
    assert scores[0]["score"] >= scores[1]["score"]
    again, times = data(first), {p: p.stat().st_mtime_ns for p in two.rglob("*.*")}
    run("a", "samples=2", "seed=5")
    assert {p: p.stat().st_mtime_ns for p in two.rglob("*.*")} == times
    run("a", "samples=2", "seed=5", "resume=false")
    assert data(by_seed(two)[5]) == again
    assert {p: p.stat().st_mtime_ns for p in two.rglob("*.*")} != times


def test_finished_samples_are_not_made_again(photo, weights, tmp_path, capsys):
    args = ["generate", f"image={photo}", f"out={tmp_path}", *toy_args(weights), "seed=5"]
    assert main([*args, "samples=3"]) == 0
    folder = tmp_path / "disc"
    whole = {p.parent.name: p.read_bytes() for p in folder.rglob("strip.png")}
    order = [json.loads((folder / f"sample-{k}" / "run.json").read_text()) for k in range(3)]
    # as after a kill: the middle one was not finished
    (folder / "sample-1" / "run.json").unlink()
    kept = (folder / "sample-0" / "strip.png").stat().st_mtime_ns
    assert main([*args, "samples=3"]) == 0
    assert {p.parent.name: p.read_bytes() for p in folder.rglob("strip.png")} == whole
    assert (folder / "sample-0" / "strip.png").stat().st_mtime_ns == kept
    again = [json.loads((folder / f"sample-{k}" / "run.json").read_text()) for k in range(3)]
    assert [r["seed"] for r in again] == [r["seed"] for r in order]
    capsys.readouterr()
    assert main([*args, "samples=3"]) == 0
    assert "already finished" in capsys.readouterr().err
    # another setting makes new ones
    assert main([*args, "samples=1", "sampler.steps=2"]) == 0
    assert "already finished" not in capsys.readouterr().err


def test_a_rerun_leaves_nothing_of_the_earlier_run_beside_new_views(
    photo, weights, solid, tmp_path
):
    args = ["generate", f"image={photo}", f"out={tmp_path / 'out'}", *toy_args(weights)]
    sample = tmp_path / "out" / "disc" / "sample-0"
    assert main([*args, *QUICK_MESH, "turntable=false"]) == 0
    assert (sample / "mesh.glb").exists()
    (sample / "turntable.gif").write_bytes(b"of an earlier run")
    (sample / "mine.txt").write_text("kept")
    assert main([*args, "seed=1"]) == 0
    assert files(sample) == ALWAYS | {"mine.txt"}


def test_no_turntable(photo, weights, solid, tmp_path):
    args = ["generate", f"image={photo}", f"out={tmp_path / 'out'}", *toy_args(weights)]
    assert main([*args, *QUICK_MESH, "turntable=false"]) == 0
    assert files(tmp_path / "out" / "disc" / "sample-0") == ALWAYS | {"mesh.glb"}


def test_without_a_mesh_the_views_are_kept_and_the_reason_is_given(photo, blank, tmp_path, capsys):
    args = ["generate", f"image={photo}", f"out={tmp_path / 'out'}", *toy_args(blank)]
    assert main([*args, *QUICK_MESH]) == 1
    captured = capsys.readouterr()
    sample = tmp_path / "out" / "disc" / "sample-0"
    assert captured.out == f"{photo} → {sample}\n"
    assert captured.err.count("mvdiff: ") == 1
    assert f"mvdiff: {photo}: views were written, but there is no mesh: " in captured.err
    assert files(sample) == ALWAYS
    assert "there is no mesh" in json.loads((sample / "run.json").read_text())["notes"][0]


def test_a_folder_with_one_broken_picture(weights, tmp_path, capsys):
    folder = tmp_path / "photos"
    folder.mkdir()
    picture().save(folder / "a.png")
    picture(color=(20, 150, 60)).save(folder / "b (2), größe.png")
    (folder / "c.png").write_text("no picture")
    (folder / "notes.txt").write_text("not looked at")
    (folder / ".hidden.png").write_text("nor this")
    out = tmp_path / "out"
    assert main(["generate", f"image={folder}", f"out={out}", *toy_args(weights)]) == 1
    captured = capsys.readouterr()
    error, note = captured.err.splitlines()
    assert error.startswith(f"mvdiff: cannot read '{folder / 'c.png'}' as an image")
    assert note.startswith("note: 2 pictures: ")
    assert note.endswith("(segmentation=alpha): a.png, b (2), größe.png")
    assert captured.out.count(" → ") == 2
    assert {p.name for p in out.iterdir()} == {"a", "b (2), größe"}
    assert files(out / "a" / "sample-0") == ALWAYS


def test_a_folder_of_broken_pictures_fails(weights, tmp_path, capsys):
    for name in "ab":
        (tmp_path / f"{name}.png").write_text("no picture")
    out = tmp_path / "out"
    assert main(["generate", f"image={tmp_path}", f"out={out}", *toy_args(weights)]) == 2
    assert capsys.readouterr().err.count("mvdiff: ") == 2
    assert files(out) == set()


def test_several_pictures_with_their_elevations_and_equal_names(weights, tmp_path):
    paths = [tmp_path / name / "x.png" for name in ("a", "b")]
    for path in paths:
        path.parent.mkdir()
        picture().save(path)
    out = tmp_path / "out"
    args = [f"image=['{paths[0]}','{paths[1]}']", f"out={out}"]
    assert main(["generate", *args, *toy_args(weights), "elevation=[10,-5]"]) == 0
    assert {p.name for p in out.iterdir()} == {"x", "x-2"}
    records = [json.loads((out / n / "sample-0" / "run.json").read_text()) for n in ("x", "x-2")]
    assert [r["elevation"] for r in records] == [10.0, -5.0]
    assert [r["picture"] for r in records] == [str(p) for p in paths]


def test_elevations_must_be_one_or_as_many_as_pictures(photo, weights, tmp_path, capsys):
    args = [f"image={photo}", f"out={tmp_path / 'o'}", *toy_args(weights), "elevation=[1,2]"]
    assert main(["generate", *args]) == 2
    assert "one elevation for all pictures or one each: got 2 for 1" in capsys.readouterr().err


def test_a_sample_made_alone_competes_with_later_ones(photo, weights, tmp_path):
    args = ["generate", f"image={photo}", f"out={tmp_path}", *toy_args(weights)]
    assert main([*args, "seed=6"]) == 0
    assert main([*args, "seed=5", "samples=3"]) == 0
    records = [
        json.loads((tmp_path / "disc" / f"sample-{k}" / "run.json").read_text()) for k in range(3)
    ]
    assert sorted(r["seed"] for r in records) == [5, 6, 7]
    apart = [r["scores"]["distance"] for r in records]
    assert apart[0] > 0
    assert apart == sorted(apart)


def test_samples_that_cannot_be_scored_are_kept(photo, tmp_path):
    weights = toy_weights(
        tmp_path / "w.safetensors", "rig.count=1", "volume=none", "attention=none"
    )
    args = ["generate", f"image={photo}", f"out={tmp_path}", *toy_args(weights), "samples=2"]
    assert main([*args, "rig.count=1", "volume=none", "attention=none"]) == 0
    records = [
        json.loads((tmp_path / "disc" / f"sample-{k}" / "run.json").read_text()) for k in range(2)
    ]
    assert [r["seed"] for r in records] == [0, 1]
    assert all("not scored" in r["notes"][-1] for r in records)


def test_an_unknown_elevation_is_estimated_and_reported(photo, weights, tmp_path, capsys):
    args = ["generate", f"image={photo}", f"out={tmp_path}", *toy_args(weights)]
    assert main([*args, "elevation=auto"]) == 0
    run = json.loads((tmp_path / "disc" / "sample-0" / "run.json").read_text())
    assert -10 <= run["elevation"] <= 40
    assert run["elevation_spread"] > 0
    err = capsys.readouterr().err
    assert "elevation was estimated" in err
    assert f"({run['elevation']:.0f}° ± {run['elevation_spread']:.0f}°)" in err
    assert main([*args, "elevation=7"]) == 0
    run = json.loads((tmp_path / "disc" / "sample-0" / "run.json").read_text())
    assert (run["elevation"], run["elevation_spread"]) == (7.0, None)
    assert "estimated" not in capsys.readouterr().err


def test_a_keyed_background_is_noted(weights, tmp_path, capsys):
    ground = Image.new("RGB", (48, 48), "white")
    ground.paste(picture(), mask=picture())
    ground.save(tmp_path / "plain.jpg", quality=95)
    # in a process of its own: there, warnings come from the package's own files
    args = [f"image={tmp_path / 'plain.jpg'}", f"out={tmp_path / 'out'}", *toy_args(weights)]
    done = run_cli("generate", *args)
    assert done.returncode == 0
    note = "the picture has no transparency: its plain background was keyed out "
    note += "(segmentation=color_key)"
    assert done.stderr == f"note: {tmp_path / 'plain.jpg'}: {note}\n"
    assert done.stdout.count("\n") == 1
    run = json.loads((tmp_path / "out" / "plain" / "sample-0" / "run.json").read_text())
    assert run["notes"] == [note]


@pytest.mark.filterwarnings("ignore:.*their part was swapped")
def test_parts_are_overrides(photo, weights, tmp_path):
    args = ["generate", f"image={photo}", f"out={tmp_path / 'out'}", *toy_args(weights)]
    chosen = ["sampler=dpmpp", "sampler.steps=4", "guidance=cfg", "batch_views=2"]
    assert main([*args, "attention=none", *chosen]) == 0
    config = json.loads((tmp_path / "out" / "disc" / "sample-0" / "run.json").read_text())["config"]
    assert config["attention"]["name"] == "none"
    assert config["sampler"]["name"] == "dpmpp"
    assert config["guidance"]["scale"] == 2.0


def test_pictures_are_found_in_paths_lists_and_folders(tmp_path):
    for name in ("b.PNG", "a.jpg", "c.txt"):
        (tmp_path / name).write_text("")
    assert [p.name for p in find_images(str(tmp_path))] == ["a.jpg", "b.PNG"]
    assert find_images([str(tmp_path / "c.txt")]) == [tmp_path / "c.txt"]


QUICK_HULL = ["reconstructor.resolution=20", "reconstructor.max_faces=400", "texture_size=32"]
MADE = {"turntable.gif", "mesh-preview.png", "mesh-run.json"}


@dataclass(frozen=True)
class Reconstructed:
    """A finished `mvdiff reconstruct` of a folder of `mvdiff generate`, and what it printed."""

    folder: Path
    stdout: str
    stderr: str

    @property
    def mesh(self) -> Mesh:
        return Mesh.load(self.folder / "mesh.glb")

    @property
    def run(self) -> dict:
        return json.loads((self.folder / "mesh-run.json").read_text())


@pytest.fixture(scope="module")
def reconstructed(tmp_path_factory) -> Reconstructed:
    """A hull of 16 views of a ball of radius 0.35 with a texture of 32²; not to be changed."""
    folder = tmp_path_factory.mktemp("reconstructed") / "ball"
    ball_views(ring(16, size=48)).save(folder, "views")
    (folder / "run.json").write_text("of mvdiff generate")
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        assert main(["reconstruct", f"views={folder}", *QUICK_HULL]) == 0
    return Reconstructed(folder, out.getvalue(), err.getvalue())


def test_reconstruct_writes_beside_the_views_and_keeps_what_is_there(reconstructed):
    views = {f"views/{i:03d}.png" for i in range(16)}
    assert files(reconstructed.folder) == views | {"transforms.json", "run.json", "mesh.glb"} | MADE
    assert (reconstructed.folder / "run.json").read_text() == "of mvdiff generate"


def test_reconstruct_prints_the_file_the_size_and_the_times(reconstructed):
    first, second = reconstructed.stdout.splitlines()
    assert first == f"{reconstructed.folder} → {reconstructed.folder / 'mesh.glb'}"
    faces = len(reconstructed.mesh.faces)
    assert re.fullmatch(rf"{faces} faces in [\d.]+ s \(.*colors [\d.]+.*turntable.*\)", second)
    assert reconstructed.stderr == ""


def test_the_reconstructed_mesh_is_the_ball_of_the_views(reconstructed):
    radius = np.linalg.norm(reconstructed.mesh.vertices, axis=1)
    assert 0.28 < radius.min() < 0.36
    assert radius.mean() == pytest.approx(0.35, abs=0.03)
    assert reconstructed.mesh.texture.image.shape == (32, 32, 3)


def test_mesh_run_json_records_settings_size_and_times(reconstructed):
    run = reconstructed.run
    stages = {"reading", "carving", "unwrapping", "painting", "files", "turntable", "preview"}
    assert stages <= set(run["seconds"])
    assert (run["count"], run["texture"], run["notes"]) == (16, 32, [])
    assert run["faces"] == len(reconstructed.mesh.faces)
    assert run["config"]["reconstructor"]["resolution"] == 20


def test_reconstruct_names_the_view_that_stands_out(tmp_path, capsys):
    views = ball_views(ring(16, size=48))
    shifted = views.map(lambda x: torch.cat([x[:5], x[5:6].roll(7, dims=-1), x[6:]]))
    shifted.save(tmp_path)
    args = [f"views={tmp_path}", *QUICK_HULL, "turntable=false"]
    assert main(["reconstruct", *args]) == 0
    assert "look at view 5 (" in capsys.readouterr().err
    run = json.loads((tmp_path / "mesh-run.json").read_text())
    assert run["agreement"]["worst"] == [5]
    assert len(run["agreement"]["per_view"]) == 16
    assert run["agreement"]["iou"] > 0.9


@pytest.mark.parametrize(
    "form",
    [
        "obj",
        pytest.param("ply", marks=pytest.mark.slow),
        pytest.param("stl", marks=pytest.mark.slow),
    ],
)
def test_reconstruct_reads_a_strip_and_writes_other_formats(tmp_path, form):
    ball_views(ring(16, size=32)).strip().save(tmp_path / "strip.png")
    out = tmp_path / "out"
    args = [
        f"views={tmp_path / 'strip.png'}",
        f"out={out}",
        f"mesh_formats={form}",
        "turntable=false",
    ]
    assert main(["reconstruct", *args, *QUICK_HULL[:2], "max_faces=200"]) == 0
    beside = {"mesh.mtl", "mesh_texture.png"} if form == "obj" else set()
    assert files(out) == {f"mesh.{form}"} | beside | MADE - {"turntable.gif"}
    mesh = Mesh.load(out / f"mesh.{form}")
    assert 50 < len(mesh.faces) <= 200
    # a texture where the format holds one, by default
    assert (mesh.texture is not None) == (form == "obj")


def test_reconstruct_in_several_formats_closed_without_texture(tmp_path, capsys):
    ball_views(ring(8, size=32)).save(tmp_path)
    out = tmp_path / "out"
    args = [f"views={tmp_path}", f"out={out}", "mesh_formats=glb,obj", "watertight=true"]
    assert (
        main(["reconstruct", *args, *QUICK_HULL[:2], "texture_size=none", "turntable=false"]) == 0
    )
    captured = capsys.readouterr()
    assert captured.err == "note: watertight: closed already\n"
    assert f"{out / 'mesh.glb'}, {out / 'mesh.obj'}\n" in captured.out
    assert files(out) == {"mesh.glb", "mesh.obj"} | MADE - {"turntable.gif"}
    assert Mesh.load(out / "mesh.glb").texture is None


def test_reconstruct_with_an_mp4(tmp_path):
    pytest.importorskip("imageio_ffmpeg")
    ball_views(ring(8, size=32)).save(tmp_path)
    assert main(["reconstruct", f"views={tmp_path}", *QUICK_HULL, "turntable_format=mp4"]) == 0
    assert (tmp_path / "turntable.mp4").stat().st_size > 1000
    assert not (tmp_path / "turntable.gif").exists()


def test_large_views_are_scaled_down_with_a_note(tmp_path, capsys):
    ball_views(ring(6, size=96)).save(tmp_path)
    args = [f"views={tmp_path}", *QUICK_HULL, "turntable=false", "max_size=48"]
    assert main(["reconstruct", *args]) == 0
    note = "the views are 96×96 pixels: they were scaled down to 48×48 (max_size=… changes that)"
    assert capsys.readouterr().err == f"note: {note}\n"
    assert json.loads((tmp_path / "mesh-run.json").read_text())["notes"] == [note]
    views, _ = read_views(tmp_path, 48)
    expected = Views.load(tmp_path).resize(48)
    assert torch.equal(views.cameras.K, expected.cameras.K)
    assert (views.rgb - expected.rgb).abs().max() < 0.02
    assert (views.mask - expected.mask).abs().max() < 0.01


@pytest.mark.filterwarnings("ignore:Image size:Warning")
def test_huge_views_are_refused_or_read_one_at_a_time(tmp_path, monkeypatch):
    Image.new("L", (10000, 10000), 255).save(tmp_path / "huge.png")
    small = ball_views(ring(2, size=32))
    listing = json.loads(small.save(tmp_path / "views").read_text())
    listing |= {"w": 10000, "h": 10000}
    for frame in listing["frames"]:
        frame["file_path"] = "../huge.png"
    (tmp_path / "views" / "transforms.json").write_text(json.dumps(listing))
    views, notes = read_views(tmp_path / "views", 64)
    assert views.images.shape == (2, 3, 64, 64)
    assert notes[0].startswith("the views are 10000×10000 pixels: they were scaled down to 64×64")
    monkeypatch.setattr("mvdiff.views.loading.MAX_PIXELS", 10**7)
    with pytest.raises(MvdiffError, match=r"huge\.png' has .* the limit is 10 million"):
        read_views(tmp_path / "views", 64)


def test_reconstruct_refuses_in_a_sentence(tmp_path, capsys):
    ball_views().save(tmp_path)
    (tmp_path / "empty").mkdir()
    ball_views().save(tmp_path / "mixed")
    picture().resize((40, 40)).save(tmp_path / "mixed" / "001.png")
    ball_views()[0].save(tmp_path / "one")
    ball_views(ring(16, size=64)).strip().save(tmp_path / "strip.png")
    for args, sentence in (
        ([f"views={tmp_path / 'none'}"], "no views at"),
        ([f"views={tmp_path / 'empty'}"], "expected a folder with transforms.json, meta.pkl"),
        ([f"views={tmp_path / 'mixed'}"], "'001.png' is 40×40 pixels and its camera"),
        ([f"views={tmp_path / 'one'}"], "needs at least 2 views"),
        ([f"views={tmp_path / 'strip.png'}", "rig=ring", "rig.count=5"], "strip of 5 square views"),
        ([f"views={tmp_path}", "rig=ring"], "has cameras of its own"),
        (["views=null"], "views needs a path, got null"),
        ([f"views={tmp_path}", "min_agreement=2"], "min_agreement must be a number in [0, 1]"),
        ([f"views={tmp_path}", "max_size=4"], "max_size must be a whole number in [16"),
        (
            [f"views={tmp_path}", "mesh_formats=fbx"],
            "unknown mesh_formats 'fbx'; choose from glb, obj, ply, stl",
        ),
        (
            [f"views={tmp_path}", "turntable_format=avi"],
            "unknown turntable_format 'avi'; choose from gif, mp4",
        ),
        ([f"views={tmp_path}", "texture_size=7"], "texture_size must be a whole number in [16"),
        ([f"views={tmp_path}", "max_faces=2"], "max_faces must be a whole number in [4"),
        ([f"views={tmp_path}", "reconstructor=none"], "reconstructor=none makes no mesh"),
    ):
        assert main(["reconstruct", *args]) == 2
        err = capsys.readouterr().err
        assert sentence in err
        assert err.count("\n") == 1


def test_reconstruct_on_a_full_disk(tmp_path, capsys, monkeypatch):
    ball_views(ring(4, size=32)).save(tmp_path / "ball")

    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    args = [f"views={tmp_path / 'ball'}", f"out={tmp_path / 'out'}", *QUICK_HULL]
    assert main(["reconstruct", *args]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert f"cannot write '{tmp_path / 'out' / 'mesh.glb'}' (No space left on device)" in err
    assert files(tmp_path / "out") == set()


def shade(views: Views, levels: int) -> Views:
    """The views, darker by this many levels of 255."""
    images = (views.images.int() - levels).clamp(min=0).byte()
    return Views(images, views.alpha, views.cameras)


def test_evaluate_gives_the_right_figures(tmp_path, capsys):
    # gray on opaque pictures: every pixel differs by 10 levels
    rig = ring(4, size=32)
    gray = Views(torch.full((4, 3, 32, 32), 120, dtype=torch.uint8), None, rig)
    for name, views in (("cup", gray), ("box", shade(gray, 10))):
        views.save(tmp_path / "truth" / name)
        gray.save(tmp_path / "pred" / name)
    out = tmp_path / "figures.json"
    args = [f"pred={tmp_path / 'pred'}", f"reference={tmp_path / 'truth'}", f"out={out}"]
    assert main(["evaluate", *args]) == 0
    figures = json.loads(out.read_text())
    assert figures["objects"]["box"]["psnr"] == pytest.approx(20 * np.log10(255 / 10), abs=1e-3)
    assert figures["objects"]["cup"]["ssim"] == pytest.approx(1.0, abs=1e-6)
    printed = capsys.readouterr().out
    assert "28.13" in printed
    assert "cup" in printed


def test_evaluate_reads_what_generate_wrote(photo, weights, tmp_path, capsys):
    out = tmp_path / "out"
    assert main(["generate", f"image={photo}", f"out={out}", *toy_args(weights)]) == 0
    sample = out / "disc" / "sample-0"
    views = Views.load(sample)
    truth = shade(views, 8)
    truth.save(tmp_path / "truth" / "disc")
    args = [f"pred={sample}", f"reference={tmp_path / 'truth' / 'disc'}"]
    assert main(["evaluate", *args, f"out={tmp_path / 'f.json'}"]) == 0
    (figures,) = json.loads((tmp_path / "f.json").read_text())["objects"].values()
    error = (views.rgb - truth.rgb).square().flatten(1).mean(dim=1)
    assert figures["psnr"] == pytest.approx(float((-10 * error.log10()).mean()), abs=1e-3)


def test_evaluate_compares_meshes(tmp_path, capsys):
    import trimesh

    for name, radius in (("pred", 0.45), ("truth", 0.5)):
        trimesh.creation.icosphere(3, radius).export(tmp_path / f"{name}.ply")
    args = [f"pred={tmp_path / 'pred.ply'}", f"reference={tmp_path / 'truth.ply'}"]
    assert main(["evaluate", *args, f"out={tmp_path / 'f.json'}"]) == 0
    (figures,) = json.loads((tmp_path / "f.json").read_text())["objects"].values()
    assert figures["chamfer"] == pytest.approx(0.05, abs=0.005)
    assert figures["iou"] == pytest.approx(0.9**3, abs=0.05)


def test_evaluate_refuses_in_a_sentence(tmp_path, capsys):
    assert main(["evaluate", f"pred={tmp_path / 'no'}", f"reference={tmp_path}"]) == 2
    assert f"no views or mesh at '{tmp_path / 'no'}'" in capsys.readouterr().err
    assert main(["evaluate", f"pred={tmp_path}", f"reference={tmp_path}"]) == 2
    assert "nothing to compare" in capsys.readouterr().err


def test_render_writes_targets_inputs_and_an_index(tmp_path, capsys):
    args = ["num_shapes=2", "size=32", "num_inputs=2", "workers=1", "supersample=1"]
    assert main(["render", *args, f"out={tmp_path / 'data'}"]) == 0
    assert "2 objects in" in capsys.readouterr().out
    objects = json.loads((tmp_path / "data" / "index.json").read_text())["objects"]
    assert len(objects) == 2
    for entry in objects:
        target = Views.load(tmp_path / "data" / entry["name"] / "target")
        assert target.images.shape == (16, 3, 32, 32)
        assert 0.01 < target.mask.mean() < 0.8
        assert len(Views.load(tmp_path / "data" / entry["name"] / "input")) == 2
    assert main(["render", f"out={tmp_path / 'x'}"]) == 2
    assert "nothing to render" in capsys.readouterr().err


def run_cli(*args: str, **kwargs) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "mvdiff", *args]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, **kwargs)


SLOW = [
    "torch",
    "diffusers",
    "transformers",
    "trimesh",
    "cv2",
    "skimage",
    "kornia",
    "numpy",
    "hydra",
    "rich",
    "scipy",
]


@pytest.mark.parametrize("args", [["--help"], ["generate", "--help"], ["train", "--help"]])
def test_help_imports_nothing_slow(args):
    code = (
        f"import sys; from mvdiff.cli.main import main; code = main({args!r}); "
        f"slow = [m for m in {SLOW!r} if m in sys.modules]; print(slow, file=sys.stderr); "
        "sys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0
    assert done.stderr == "[]\n"


def test_importing_the_package_is_light():
    code = f"import sys, mvdiff; sys.exit(any(m in sys.modules for m in {SLOW!r}))"
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0


def test_the_public_names_resolve():
    import mvdiff

    for name in mvdiff.__all__:
        assert getattr(mvdiff, name) is not None
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        mvdiff.nothing  # noqa: B018


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command, capsys):
    assert main([command, "--help"]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith(f"usage: mvdiff {command}")
    assert main(["help", command]) == 0
    assert capsys.readouterr().out == printed
    if command == "list":
        return
    from mvdiff.config.compose import compose

    needed = {
        "generate": ["image=x"],
        "train": ["data=x"],
        "reconstruct": ["views=x"],
        "export": ["out=x", "run_dir=x"],
        "convert": ["source=x", "output=y"],
        "render": ["out=x"],
        "evaluate": ["pred=x", "reference=x"],
        "ablate": ["data=x"],
    }[command]
    inner = {"sizes", "train", "recipe_name", "size"}  # of the recipe: shown by --cfg
    inner |= {"weights", "fill"} if command == "train" else set()
    if command == "ablate":  # its help names train's, which are listed there
        inner |= set(compose("train", needed))
    for key in compose(command, needed):
        assert key in inner or f"{key}" in printed, key
    assert "mvdiff " + command in printed.split("Examples:")[1]


def test_the_examples_of_the_help_compose():
    for name, command in COMMANDS.items():
        for line in command.examples:
            if "variants.yaml" in line:
                continue  # a file of the user's
            program, named, *settings = shlex.split(line.partition("  (")[0])
            assert (program, named) == ("mvdiff", name)
            data = ["data=x"] if name == "ablate" else []
            config, _ = command.prepare([*data, *(s for s in settings if s != "…")])
            assert config


def test_overview_and_version(capsys):
    for args in ([], ["--help"], ["-h"], ["help"]):
        assert main(args) == 0
        printed = capsys.readouterr().out
        assert all(f"  {name} " in printed for name in COMMANDS)
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"mvdiff {__version__}\n"


def test_unknown_commands_list_the_choices(capsys):
    assert main(["generat"]) == 2
    err = capsys.readouterr().err
    assert err.startswith("mvdiff: unknown command 'generat'; choose from generate, reconstruct")
    assert err.endswith("Did you mean 'generate'?\n")
    assert main(["list", "all"]) == 2
    assert "mvdiff list takes plugins=[…] at most, got 'all'" in capsys.readouterr().err


def test_list_names_every_variant_with_a_line(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "160")
    assert main(["list"]) == 0
    printed = capsys.readouterr().out
    for group, variants in slots().items():
        assert group in printed
        assert set(variants) == set(groups()[group])
        for name, line in variants.items():
            row = next(r for r in printed.splitlines() if f" {name} " in r and line[:40] in r)
            assert row
    assert set(slots()["sampler"]) == set(SCHEDULERS)


def test_the_whole_config_can_be_shown(capsys):
    assert main(["generate", "image=x.png", "sampler.steps=7", "--cfg"]) == 0
    shown = capsys.readouterr().out
    assert "steps: 7" in shown
    assert "${" not in shown


def test_a_closed_pipe_is_no_error():
    command = f"{sys.executable} -m mvdiff list | head -1"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, timeout=60)
    assert done.stderr == ""
    assert done.stdout.count("\n") == 1


@pytest.mark.parametrize(
    "words",
    [
        ["reconstruct", "views=nowhere"],
        ["train", "data=nowhere"],
        ["export", "run_dir=nowhere", "out=x"],
        ["convert", "source=nowhere", "output=x"],
        ["evaluate", "pred=nowhere", "reference=nowhere"],
        ["ablate", "data=nowhere", "budget.steps=1"],
        ["generate", "image=x", "weights=nowhere"],
    ],
)
def test_missing_inputs_are_named_before_torch_is_imported(words, tmp_path):
    assert "'nowhere'" in refused_without_torch(words, tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["generate", "image=page"], "web page"),
        (["generate", "image=[page,page]", "azimuth=[0,90]"], "web page"),
        (["generate", "image=page", "weights=page"], "web page"),
        (["generate", "image=page", "weights=folder"], "is a folder"),
        (["convert", "source=page", "output=x"], "web page"),
        (["train", "data=folder"], "index.json"),
        (["ablate", "data=folder", "budget.steps=1"], "index.json"),
        (["render", "meshes=page", "out=x"], "no mesh folder"),
    ],
)
def test_wrong_inputs_are_named_before_torch_is_imported(words, reason, tmp_path):
    (tmp_path / "page").write_text("<!DOCTYPE html><html></html>")
    (tmp_path / "folder").mkdir()
    assert reason in refused_without_torch(words, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder", "page"]


def refused_without_torch(words: list[str], folder: Path) -> str:
    """The error message of a command that must fail without importing torch."""
    code = (
        "import sys\nfrom mvdiff.cli.main import main\n"
        f"code = main({words!r})\n"
        "print(code, 'torch' in sys.modules, 'diffusers' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=folder, check=True
    )
    assert done.stdout.split() == ["2", "False", "False"]
    return done.stderr


@pytest.mark.skipif(os.name != "posix", reason="shells as on Unix")
@pytest.mark.parametrize("redirect", [">&-", "2>&-", ">&- 2>&-"])
def test_closed_streams_are_no_error(redirect):
    done = subprocess.run(
        f"exec {sys.executable} -m mvdiff --version {redirect}", shell=True, capture_output=True
    )
    assert done.returncode == 0


def test_a_terminal_without_arrows_gets_them_escaped():
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = subprocess.run(
        [sys.executable, "-m", "mvdiff", "--help"], capture_output=True, env=environment
    )
    assert done.returncode == 0
    assert b"\\u2192" in done.stdout
    assert b"Traceback" not in done.stderr


def test_public_names_are_listed_and_sub_packages_need_no_import():
    code = (
        "import mvdiff\n"
        "assert {'load', 'reconstruct', 'Views', 'Cameras', 'metrics'} <= set(dir(mvdiff))\n"
        "assert not {'Any', 'annotations'} & set(dir(mvdiff))\n"
        "print(mvdiff.metrics.__name__, mvdiff.cameras.__name__)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.split() == ["mvdiff.metrics", "mvdiff.cameras"], done.stderr
