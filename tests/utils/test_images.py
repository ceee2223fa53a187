"""Image files are opened by an explicit list of formats, and every failure is one MvdiffError."""

from __future__ import annotations

import os

import pytest
from PIL import Image

from mvdiff.errors import MvdiffError
from mvdiff.utils.images import open_image


def test_a_picture_is_opened(tmp_path):
    Image.new("RGB", (5, 4), (1, 2, 3)).save(tmp_path / "x.png")
    with open_image(tmp_path / "x.png") as image:
        assert image.size == (5, 4)
        assert image.getpixel((0, 0)) == (1, 2, 3)


def test_postscript_named_png_never_starts_a_program(tmp_path, monkeypatch):
    """Pillow's EPS reader runs the first `gs` on the PATH."""
    program = tmp_path / "gs"
    program.write_text(f"#!/bin/sh\ntouch {tmp_path / 'started'}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    eps = tmp_path / "x.png"
    eps.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n%%EOF\n")
    with pytest.raises(MvdiffError, match="PostScript"), open_image(eps) as image:
        image.load()
    assert not (tmp_path / "started").exists()


@pytest.mark.parametrize(
    ("content", "fact"),
    [
        (b"", "empty"),
        (b"version https://git-lfs.github.com/spec/v1\n", "LFS"),
        (b"<!DOCTYPE html><html>", "web page"),
        (b'<?xml version="1.0"?><svg xmlns="x">', "SVG"),
        (b"\0\0\0\x18ftypheic\0\0\0\0", "HEIC"),
        (b"hello", "unknown format"),
    ],
)
def test_the_reason_names_what_the_file_is(tmp_path, content, fact):
    (tmp_path / "x.png").write_bytes(content)
    with pytest.raises(MvdiffError, match=fact), open_image(tmp_path / "x.png"):
        pass


def test_truncated_pixels_are_an_error_of_ours(tmp_path):
    path = tmp_path / "x.jpg"
    Image.effect_noise((200, 200), 90).save(path)
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(MvdiffError, match="truncated"), open_image(path) as image:
        image.load()


def test_too_many_pixels_are_rejected_before_decoding(tmp_path):
    Image.new("L", (40, 30)).save(tmp_path / "x.png")
    with pytest.raises(MvdiffError, match="40×30"), open_image(tmp_path / "x.png", max_pixels=1000):
        pass


@pytest.mark.skipif(os.name != "posix", reason="pipes as on Unix")
def test_a_pipe_does_not_hang(tmp_path):
    os.mkfifo(tmp_path / "x.png")
    with pytest.raises(MvdiffError, match="pipe"), open_image(tmp_path / "x.png"):
        pass


def test_missing_files_and_folders_are_named(tmp_path):
    with pytest.raises(MvdiffError, match="no image at"), open_image(tmp_path / "x.png"):
        pass
    with pytest.raises(MvdiffError, match="folder"), open_image(tmp_path):
        pass
    with pytest.raises(MvdiffError, match="no image at"), open_image("a\0b"):
        pass
