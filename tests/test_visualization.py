"""Previews, turntables and contact sheets: sizes, positions, colors and files."""

from __future__ import annotations

import sys
from itertools import pairwise

import numpy as np
import pytest
import torch
import trimesh
from helpers.tiny_recipe import ball_views
from PIL import Image

from mvdiff.cameras import ring
from mvdiff.cameras.rigs import sphere, spiral, to_spherical
from mvdiff.errors import MvdiffError
from mvdiff.mesh.mesh import Texture
from mvdiff.recon import Mesh
from mvdiff.views.views import Views
from mvdiff.visualization import (
    PAPER,
    _display_order,
    contact_sheet,
    mesh_renders,
    pictures,
    preview,
    turntable,
)


@pytest.fixture
def mesh() -> Mesh:
    box = trimesh.creation.box((0.8, 0.3, 0.3))
    box.apply_translation([0.5, 0, 0])
    colors = np.full((len(box.vertices), 3), [220, 40, 40], np.uint8)
    return Mesh(box.vertices.astype(np.float32), np.array(box.faces), colors)


def colored(count: int, size: int = 16) -> Views:
    """View i is one plain color, (10 i, 100, 200)."""
    images = torch.zeros(count, 3, size, size, dtype=torch.uint8)
    images[:, 0] = (10 * torch.arange(count)).byte()[:, None, None]
    images[:, 1], images[:, 2] = 100, 200
    return Views(images, None, ring(count, size=size))


def colors_of(picture: Image.Image) -> set[tuple[int, ...]]:
    return {color for _, color in picture.getcolors(1 << 24)}


@pytest.mark.parametrize("count", [1, 4, 7, 16, 33])
def test_preview_shows_every_view(count):
    picture = preview(colored(count))
    assert {(10 * i % 256, 100, 200) for i in range(count)} <= colors_of(picture)
    assert picture.getpixel((0, 0)) == PAPER


def test_preview_shows_photo_and_renders():
    views = colored(16)
    photo = Image.new("RGBA", (30, 60), (1, 222, 3, 255))
    renders = [Image.new("RGB", (20, 20), (250, i, 7)) for i in range(4)]
    plain, full = preview(views), preview(views, photo, renders)
    assert {(1, 222, 3), *((250, i, 7) for i in range(4))} <= colors_of(full)
    assert full.width > plain.width
    assert full.height > plain.height


def test_clear_pixels_of_the_photo_are_white():
    photo = Image.new("RGBA", (40, 40), (255, 0, 0, 0))
    assert (255, 0, 0) not in colors_of(preview(colored(4), photo))


@pytest.mark.parametrize("mode", ["L", "LA", "P", "RGB", "RGBA", "CMYK"])
def test_photos_of_any_mode(mode):
    photo = Image.new("RGB", (9, 5), (255, 0, 255)).convert(mode)
    drawn = preview(colored(4), photo)
    area = {color: count for count, color in drawn.getcolors(1 << 24)}
    # as wide as two views of 160 pixels, at the photo's own aspect
    assert area[photo.convert("RGB").getpixel((0, 0))] == pytest.approx(320 * 320 * 5 / 9, rel=0.05)


def test_renders_show_the_whole_mesh(mesh):
    shots = mesh_renders(mesh, 4, 64)
    assert len(shots) == 4
    for shot in shots:
        ink = np.array(shot).min(axis=-1) < 200
        rows, columns = np.flatnonzero(ink.any(1)), np.flatnonzero(ink.any(0))
        assert 0 < rows.min() <= rows.max() < 63
        assert 0 < columns.min() <= columns.max() < 63
        assert abs(columns.mean() - 31.5) < 3


def test_turntable_turns_and_loops(mesh, tmp_path):
    path = turntable(mesh, tmp_path / "t.gif", frames=6, size=48)
    with Image.open(path) as gif:
        assert gif.n_frames == 6
        assert gif.size == (48, 48)
        assert gif.info["loop"] == 0
        frames = []
        for i in range(6):
            gif.seek(i)
            frames.append(np.array(gif.convert("RGB"), np.int32))
    assert min(np.abs(a - b).mean() for a, b in pairwise(frames)) > 1
    red = frames[0][24, 24]
    assert red[0] > 150 > 100 > red[1]
    assert [p.name for p in tmp_path.iterdir()] == ["t.gif"]


def test_turntable_as_mp4(mesh, tmp_path):
    ffmpeg = pytest.importorskip("imageio_ffmpeg")
    path = turntable(mesh, tmp_path / "t.mp4", frames=8, size=64, seconds=2.0)
    about, *frames = ffmpeg.read_frames(str(path))
    assert about["size"] == (64, 64)
    assert about["fps"] == pytest.approx(4.0)
    assert len(frames) == 8
    middle = np.frombuffer(frames[0], np.uint8).reshape(64, 64, 3)[32, 32]
    assert middle[0] > 130 > 100 > middle[1]
    assert [p.name for p in tmp_path.iterdir()] == ["t.mp4"]


def test_turntable_is_a_gif_or_an_mp4(mesh, tmp_path, monkeypatch):
    with pytest.raises(MvdiffError, match="is a GIF or an MP4"):
        turntable(mesh, tmp_path / "t.webm")
    with pytest.raises(MvdiffError, match="at least 2 frames"):
        turntable(mesh, tmp_path / "t.gif", frames=1)
    with pytest.raises(MvdiffError, match="even side, got 63"):
        turntable(mesh, tmp_path / "t.mp4", size=63)
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    with pytest.raises(MvdiffError, match=r"pip install 'mvdiff\[video\]', or write a GIF"):
        turntable(mesh, tmp_path / "t.mp4")
    assert not list(tmp_path.iterdir())


def test_a_textured_mesh_shows_its_texture(mesh):
    plain = mesh_renders(mesh, 1, 48)[0]
    uv = np.full((len(mesh.faces), 3, 2), 0.5, np.float32)
    blue = Texture(uv, np.full((4, 4, 3), [30, 30, 220], np.uint8))
    shot = mesh_renders(Mesh(mesh.vertices, mesh.faces, mesh.colors, blue), 1, 48)[0]
    assert shot.getpixel((24, 24))[2] > 150 > shot.getpixel((24, 24))[0]
    assert plain.getpixel((24, 24))[0] > 150
    # both cover the same pixels, lit alike
    same = np.array(shot).min(axis=-1) < 255, np.array(plain).min(axis=-1) < 255
    assert np.array_equal(*same)


def test_contact_sheet_places_rows_and_columns(tmp_path):
    rows = [colored(3), pictures(colored(2))]
    sheet = contact_sheet(
        rows, tmp_path / "s.png", row_labels=["a", "bb"], column_labels=["1", "2", "3"], cell=40
    )
    with Image.open(tmp_path / "s.png") as back:
        assert back.size == sheet.size
    pixels = np.array(sheet)
    found = (pixels == [10, 100, 200]).all(axis=-1)
    middle = np.flatnonzero(found.any(axis=1))
    assert middle.max() - middle.min() == 40 + 6 + 40 - 1
    assert abs(np.flatnonzero(found.any(axis=0)).mean() - sheet.width / 2) < 20


def test_contact_sheet_refuses_what_it_cannot_label():
    with pytest.raises(MvdiffError, match="expected 1 row labels, got 2"):
        contact_sheet([colored(2)], row_labels=["a", "b"])
    with pytest.raises(MvdiffError, match="at least one picture"):
        contact_sheet([])


def test_every_input_picture_is_shown():
    colors = [(200, 10, 10), (10, 200, 10), (10, 10, 200)]
    shots = [Image.new("RGB", (30, 30), color) for color in colors]
    one, three = preview(colored(4), shots[0]), preview(colored(4), shots)
    assert set(colors) <= colors_of(three)
    assert one.tobytes() == preview(colored(4), shots[:1]).tobytes()


def test_views_that_jump_around_are_shown_by_azimuth():
    views = ball_views(sphere(8, (-20.0, 60.0), size=16))
    order = _display_order(views)
    azimuth = [float(a) % 360 for a in torch.rad2deg(to_spherical(views.cameras)[0])]
    assert [azimuth[i] for i in order] == sorted(azimuth)
    assert order != list(range(8))
    for cameras in (ring(8, size=16), ring(3, size=16), spiral(12, (-10.0, 50.0), 2.0, size=16)):
        count = len(cameras)
        assert _display_order(ball_views(cameras)) == list(range(count))
