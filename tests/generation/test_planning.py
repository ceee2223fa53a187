"""The plan of `mvdiff generate`: pictures, elevations and folders, without importing torch."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.tiny_recipe import picture
from PIL import Image

from mvdiff.errors import MvdiffError
from mvdiff.generation.planning import find_images, result_folders, result_name
from mvdiff.preprocessing.elevation_settings import elevation_per_picture


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("cup.png", "cup"),
        ("...png", "picture"),
        (".png", "png"),
        ("..png", "picture"),
        ("cup..png", "cup"),
        (".cup.png", "cup"),
        ("a\\b:c.png", "a_b_c"),
        ("a\nb.png", "a_b"),
        ("nul.png", "nul_"),
        ("COM1.tar.png", "COM1.tar_"),
        ("console.png", "console"),
        ("cup .png", "cup"),
        ("größe (2).png", "größe (2)"),
        ("杯子.png", "杯子"),
        (f"{'杯' * 80}.png", "杯" * 66),
        ("no suffix", "no suffix"),
    ],
)
def test_result_names_are_folders_in_out_on_any_system(name, expected):
    assert result_name(Path("somewhere") / name) == expected


def test_pictures_of_one_name_have_folders_of_their_own(tmp_path):
    pictures = ["a.png", "a.jpg", "b/a.png", "A.png", "a-2.png", "cafe\u0301.png", "caf\u00e9.png"]
    folders = result_folders(tmp_path, [Path(p) for p in [*pictures, "...png", "x/..png"]])
    assert all(folder.parent == tmp_path for folder in folders)
    names = [folder.name for folder in folders]
    assert names[:3] == ["a", "a-2", "a-3"]
    assert len({name.casefold() for name in names}) == len(names)
    assert names[-2:] == ["picture", "picture-2"]


def test_a_folder_is_read_and_what_is_passed_over_is_named(tmp_path):
    for name in ("b.png", "a.JPG", "c.avif", "d.tif", "e.jfif", ".hidden.png", "Thumbs.db"):
        (tmp_path / name).write_bytes(b"x")
    for name in ("raw.cr2", "x.psd", "README", "notes.txt", "cameras.json"):
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "more").mkdir()
    with pytest.warns(UserWarning, match=r"4 files were passed over") as caught:
        found = find_images(str(tmp_path))
    assert [p.name for p in found] == ["a.JPG", "b.png", "c.avif", "d.tif", "e.jfif"]
    (note,) = [str(w.message) for w in caught]
    for name in ("raw.cr2", "x.psd", "README", "more/"):
        assert name in note
    for name in ("Thumbs.db", ".hidden.png", "notes.txt", "cameras.json"):
        assert name not in note


def test_heic_is_read_where_the_extra_is_installed(tmp_path, monkeypatch):
    (tmp_path / "phone.HEIC").write_bytes(b"x")
    monkeypatch.setattr("mvdiff.generation.planning.register_heif", lambda: False)
    with pytest.raises(MvdiffError, match=r"phone\.HEIC.*mvdiff\[heif\]"):
        find_images(tmp_path)
    monkeypatch.setattr("mvdiff.generation.planning.register_heif", lambda: True)
    assert [p.name for p in find_images(tmp_path)] == ["phone.HEIC"]


@pytest.mark.skipif(os.name != "posix", reason="pipes as on Unix")
def test_pipes_are_no_pictures(tmp_path):
    os.mkfifo(tmp_path / "x.png")
    with pytest.raises(MvdiffError, match="pipe"):
        find_images(tmp_path / "x.png")
    with pytest.raises(MvdiffError, match="no pictures in the folder"):
        find_images(tmp_path)


@pytest.mark.parametrize("image", [None, "", [], [None], ["a.png", 5], [[]], {"a": "b.png"}, 7])
def test_what_names_no_picture_is_reported(image):
    with pytest.raises(MvdiffError, match="image"):
        find_images(image)


def test_a_tilde_that_is_no_home_is_a_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(MvdiffError, match=r"no picture at '~nobody-here\.png'"):
        find_images("~nobody-here.png")
    picture().save(tmp_path / "~x.png")
    assert find_images("~x.png") == [Path("~x.png")]


IMAGE_SUFFIXES = [Path("x/cup-30.png"), Path("x/mug_-12.5.jpg"), Path("box 7.png")]


def test_elevations_by_file_name():
    assert elevation_per_picture("name", IMAGE_SUFFIXES) == [30.0, -12.5, 7.0]
    assert elevation_per_picture("name", [Path("a--10.png"), Path("15.png")]) == [-10.0, 15.0]
    for name in ("cup.png", "cup-100.png", "v2cup3.png"):
        with pytest.raises(MvdiffError):
            elevation_per_picture("name", [Path(name)])


@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_elevations_by_a_table(tmp_path, separator, mark):
    rows = ["Elevation,note,name", "30,x,cup-30.png", "-5.5,,mug_-12.5", "auto,,box 7.png", ""]
    path = tmp_path / "angles.csv"
    path.write_text(mark + "\n".join(rows).replace(",", separator), encoding="utf-8")
    assert elevation_per_picture(str(path), IMAGE_SUFFIXES) == [30.0, -5.5, "auto"]


def test_elevations_by_json(tmp_path):
    path = tmp_path / "angles.json"
    path.write_text(json.dumps({"cup-30": 1, "mug_-12.5.jpg": "2", "box 7": None}))
    assert elevation_per_picture(str(path), IMAGE_SUFFIXES) == [1.0, 2.0, "auto"]


@pytest.mark.parametrize(
    ("content", "fact"),
    [
        ("", "columns name and elevation"),
        ("picture,degrees\na,1", "columns name and elevation"),
        ("name,elevation\ncup-30.png,30\n", "mug"),
        ("name,elevation\ncup-30.png,steep\n", "steep"),
        ("name,elevation\ncup-30.png\n", "row 2"),
    ],
)
def test_tables_that_do_not_fit(tmp_path, content, fact):
    path = tmp_path / "angles.csv"
    path.write_text(content)
    with pytest.raises(MvdiffError, match=fact):
        elevation_per_picture(str(path), IMAGE_SUFFIXES)
    with pytest.raises(MvdiffError, match="cannot read"):
        elevation_per_picture(str(tmp_path / "none.csv"), IMAGE_SUFFIXES)


def run_without(modules: str, *args: str) -> tuple[int, str]:
    code = (
        "import sys; from mvdiff.cli.main import main; code = main(sys.argv[1:]); "
        f"heavy = sorted(m for m in ({modules}) if m in sys.modules); "
        "print('imported', heavy, file=sys.stderr); sys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", code, *args], capture_output=True, text=True)
    return done.returncode, done.stderr


@pytest.mark.parametrize(
    ("args", "fact"),
    [
        (["image=nowhere.png"], "no picture at"),
        (["elevation=abc"], "elevation"),
        (["elevation=name"], "elevation=name"),
        (["samples=0"], "samples"),
        (["samples=1000000000"], "samples"),
        (["seed=-1"], "seed"),
        (["seed=null"], "seed"),
        (["object_fill=0"], "fill"),
        (["texture_size=3"], "texture"),
        (["out=null"], "out"),
        (["image=null"], "image"),
        (["azimuth=[1,2]"], "azimuth"),
        (["batch_size=0"], "batch"),
        (["shard=4/4"], "shard"),
    ],
)
def test_errors_come_before_torch_is_imported(tmp_path, args, fact):
    picture().save(tmp_path / "x.png")
    image = [] if any(a.startswith("image=") for a in args) else [f"image={tmp_path / 'x.png'}"]
    out = [] if any(a.startswith("out=") for a in args) else [f"out={tmp_path / 'out'}"]
    code, err = run_without("'torch', 'diffusers'", "generate", *image, *out, *args)
    assert code == 2
    assert fact in err.splitlines()[-2]
    assert err.endswith("imported []\n")
    assert not (tmp_path / "out" / "x").exists()


def test_an_image_that_is_postscript_starts_no_program(tmp_path):
    marker = tmp_path / "started"
    program = tmp_path / "gs"
    program.write_text(f"#!/bin/sh\ntouch {marker}\n")
    program.chmod(0o755)
    eps = tmp_path / "x.png"
    Image.new("RGB", (8, 8)).save(eps, format="EPS")
    code = (
        "import sys; from mvdiff.preprocessing.image_io import load_photo; load_photo(sys.argv[1])"
    )
    env = {**os.environ, "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run([sys.executable, "-c", code, eps], capture_output=True, env=env)
    assert b"PostScript" in done.stderr
    assert not marker.exists()


def test_a_group_that_is_no_name_is_reported(tmp_path):
    picture().save(tmp_path / "x.png")
    for word in ("segmentation=-1", "segmentation=null", "segmentation=2.5"):
        code, err = run_without("'torch',", "generate", f"image={tmp_path / 'x.png'}", word)
        assert code == 2
        assert "choose from alpha, auto" in err
        assert "Traceback" not in err


def test_a_file_too_large_for_a_picture_is_not_read(tmp_path):
    from mvdiff.generation.sample_store import MAX_FILE_BYTES, fingerprint

    path = tmp_path / "x.png"
    with path.open("wb") as file:
        file.truncate(MAX_FILE_BYTES + 1)  # sparse
    with pytest.raises(MvdiffError, match="larger than 2 GiB"):
        fingerprint([(path, 0.0, 0.0)], {})
