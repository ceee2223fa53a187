"""Pictures for people: a preview of one result, a turning mesh, sheets of many results."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

from .cameras.rigs import ring, to_spherical
from .errors import InputError
from .mesh.mesh import Mesh
from .utils.files import atomic
from .utils.video import VIDEOS, import_ffmpeg, write_gif, write_mp4
from .views import Views

PAPER, CARD, INK, FAINT = (244, 243, 240), (255, 255, 255), (58, 58, 62), (140, 139, 136)
_GAP = 10
_MARGIN = 28


def preview(
    views: Views,
    photo: Image.Image | Sequence[Image.Image] | None = None,
    renders: Sequence[Image.Image] | None = None,
    *,
    cell: int = 160,
) -> Image.Image:
    """One result at a glance: the input at the left, the views with their angles, the mesh.

    photo: the input picture, or several, one below the other.
    renders: pictures of the mesh (`mesh_renders`), shown in a row of their own.
    cell: side of one view in pixels; small views are enlarged to it.
    Views that jump around the object (`rig=sphere`) are shown by azimuth, with their numbers.
    """
    count = len(views)
    columns = count if count <= 6 else math.ceil(count / max(2, round(count / 8)))
    order, labels = _display_order(views), _angles(views)
    if order != sorted(order):
        labels = [f"{i}: {label}" for i, label in enumerate(labels)]
    shown = pictures(views)
    top = _block("views", [shown[i] for i in order], [labels[i] for i in order], columns, cell)
    photos = [photo] if isinstance(photo, Image.Image) else list(photo or [])
    if photos:
        room = (max(2 * cell, top.height - 45) - (len(photos) - 1) * _GAP) // len(photos)
        side = max(cell // 2, min(room, 3 * cell))
        left = _block("input", photos, [], 1, side)
        both = Image.new("RGB", (left.width + 34 + top.width, max(left.height, top.height)), PAPER)
        both.paste(left, (0, 0))
        both.paste(top, (left.width + 34, 0))
        top = both
    if not renders:
        return _framed(top)
    # One row as wide as everything above it.
    side = min((top.width + _GAP) // len(renders) - _GAP, 3 * cell)
    row = _block("mesh", renders, [], len(renders), side)
    out = Image.new("RGB", (top.width, top.height + 24 + row.height), PAPER)
    out.paste(top, (0, 0))
    out.paste(row, (0, top.height + 24))
    return _framed(out)


def _display_order(views: Views) -> list[int]:
    """The views as they are, or by azimuth where they jump around at several elevations."""
    azimuth, elevation, _ = (torch.rad2deg(x) for x in to_spherical(views.cameras))
    steps = (azimuth.diff() + 180) % 360 - 180
    level = float(elevation.max() - elevation.min()) < 0.5
    if level or len(views) < 3 or float(steps.abs().max()) <= 91:
        return list(range(len(views)))
    turned = [round(float(a) % 360, 1) % 360 for a in azimuth]
    return sorted(range(len(views)), key=lambda i: (turned[i], float(elevation[i])))


def _angles(views: Views) -> list[str]:
    """Each view's azimuth; its elevation, too, where they differ."""
    azimuth, elevation, _ = (torch.rad2deg(x) for x in to_spherical(views.cameras))
    labels = [f"{round(float(a), 1) % 360:g}°" for a in azimuth]
    if float(elevation.max() - elevation.min()) < 0.5:
        return labels
    return [f"{a}, {round(float(e)):+d}°" for a, e in zip(labels, elevation, strict=True)]


def mesh_renders(
    mesh: Mesh, count: int = 6, size: int = 320, *, elevation: float = 20.0, azimuth: float = 0.0
) -> list[Image.Image]:
    """Shaded pictures of a mesh from `count` sides, on white.

    elevation, azimuth: of the cameras and of the first one, degrees. The cameras stand as far
    off as the mesh needs to be seen whole.
    """
    from .rendering import Raycaster, Shading

    shape = mesh.to_trimesh()
    low, high = shape.bounds
    shape.apply_translation(-(low + high) / 2)
    # The smallest sphere around the turning mesh fills nine tenths of the picture.
    radius = max(float(np.linalg.norm(shape.vertices, axis=1).max()), 1e-6)
    fov = 35.0
    distance = radius / math.sin(math.radians(fov / 2)) / 0.96
    shape.vertex_attributes["normal"] = np.array(shape.vertex_normals)
    cameras = ring(count, elevation, azimuth=azimuth, distance=distance, fov=fov, size=size)
    caster = Raycaster(shape)
    # The colors come from lit pictures: a strong light would shade them twice.
    light = Shading(ambient=0.78, wrap=0.6)
    out = []
    for i in range(count):
        view = caster.render(cameras[i], supersample=2, shading=light).views(cameras[i])
        out += pictures(view)
    return out


def turntable(
    mesh: Mesh,
    path: str | Path,
    frames: int = 36,
    size: int = 256,
    *,
    seconds: float = 3.0,
    elevation: float = 20.0,
) -> Path:
    """Write the mesh turning once, as an endless GIF or an MP4 (H.264), whole or not at all.

    path: its suffix chooses; MP4 needs the package imageio-ffmpeg, and an even `size`.
    seconds: for one turn. All frames of a GIF share one palette, so that nothing flickers.
    """
    path = Path(path)
    kind = path.suffix.lower()[1:]
    if kind not in VIDEOS:
        raise InputError(
            f"a turntable is a GIF or an MP4; name it like '{path.with_suffix('.gif').name}'"
        )
    if frames < 2:
        raise InputError(f"a turntable needs at least 2 frames, got {frames}")
    if kind == "mp4":
        if size % 2:
            raise InputError(f"an MP4's frames need an even side, got {size}")
        ffmpeg = import_ffmpeg()
    shots = mesh_renders(mesh, frames, size, elevation=elevation)
    with atomic(path) as part:
        if kind == "gif":
            write_gif(shots, part, seconds)
        else:
            write_mp4(shots, part, seconds, ffmpeg)
    return path


def contact_sheet(
    rows: Sequence[Sequence[Image.Image] | Views],
    path: str | Path | None = None,
    *,
    row_labels: Sequence[str] = (),
    column_labels: Sequence[str] = (),
    cell: int = 112,
) -> Image.Image:
    """A grid of pictures, one sequence (or set of views) a row; written as PNG when given a path.

    row_labels, column_labels: shown at the left and on top; as many as rows and columns, or none.
    """
    grid = [pictures(row) if isinstance(row, Views) else list(row) for row in rows]
    if not grid or not any(grid):
        raise InputError("a contact sheet needs at least one picture")
    columns = max(len(row) for row in grid)
    for labels, count, kind in ((row_labels, len(grid), "row"), (column_labels, columns, "column")):
        if labels and len(labels) != count:
            raise InputError(f"expected {count} {kind} labels, got {len(labels)}")
    font = _font(max(12, cell // 8))
    widths = [font.getlength(line) for text in row_labels for line in text.splitlines()]
    left = 14 + int(max(widths, default=0)) if row_labels else 0
    lines = max((text.count("\n") + 1 for text in column_labels), default=0)
    top = lines * (font.size + 4) + 8 if column_labels else 0
    step = cell + 6
    canvas = Image.new("RGB", (left + columns * step - 6, top + len(grid) * step - 6), PAPER)
    draw = ImageDraw.Draw(canvas)
    for j, text in enumerate(column_labels):
        draw.text((left + j * step + cell / 2, 0), text, INK, font, anchor="ma", align="center")
    for i, row in enumerate(grid):
        if row_labels:
            at = (left - 14, top + i * step + cell / 2)
            draw.text(at, row_labels[i], INK, font, anchor="rm", align="right")
        for j, picture in enumerate(row):
            _card(canvas, picture, (left + j * step, top + i * step), cell)
    sheet = _framed(canvas)
    if path is not None:
        with atomic(path) as part:
            sheet.save(part, format="PNG")
    return sheet


def pictures(views: Views) -> list[Image.Image]:
    """The views on white, as RGB pictures."""
    pixels = (views.rgb * 255).round().byte().permute(0, 2, 3, 1).contiguous().numpy()
    return [Image.fromarray(picture) for picture in pixels]


def _font(size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.load_default(size=size)


def _fit(picture: Image.Image, side: int) -> Image.Image:
    """The whole picture on a white square of this side."""
    if picture.mode not in ("RGB", "L"):
        picture = picture.convert("RGBA")
        ground = Image.new("RGBA", picture.size, CARD)
        picture = Image.alpha_composite(ground, picture)
    picture = picture.convert("RGB")
    scale = side / max(picture.size)
    size = tuple(max(1, round(n * scale)) for n in picture.size)
    picture = picture.resize(size, Image.Resampling.LANCZOS)
    square = Image.new("RGB", (side, side), CARD)
    square.paste(picture, ((side - size[0]) // 2, (side - size[1]) // 2))
    return square


def _card(canvas: Image.Image, picture: Image.Image, at: tuple[int, int], side: int) -> None:
    """Paste a picture with softly rounded corners."""
    scale = 4
    mask = Image.new("L", (side * scale, side * scale))
    radius = scale * max(3, side // 24)
    ImageDraw.Draw(mask).rounded_rectangle((0, 0, *(n - 1 for n in mask.size)), radius, fill=255)
    canvas.paste(_fit(picture, side), at, mask.resize((side, side), Image.Resampling.LANCZOS))


def _block(
    title: str, shots: Sequence[Image.Image], labels: Sequence[str], columns: int, cell: int
) -> Image.Image:
    """A titled grid of cards, a label under each."""
    heading, small = _font(17), _font(max(11, cell // 12))
    below = small.size + 7 if labels else 0
    rows = math.ceil(len(shots) / columns)
    size = (
        columns * (cell + _GAP) - _GAP,
        heading.size + 12 + rows * (cell + below + _GAP) - _GAP,
    )
    block = Image.new("RGB", size, PAPER)
    draw = ImageDraw.Draw(block)
    draw.text((1, 0), title, INK, heading)
    for i, shot in enumerate(shots):
        x = (i % columns) * (cell + _GAP)
        y = heading.size + 12 + (i // columns) * (cell + below + _GAP)
        _card(block, shot, (x, y), cell)
        if labels:
            draw.text((x + cell / 2, y + cell + 4), labels[i], FAINT, small, anchor="mt")
    return block


def _framed(picture: Image.Image) -> Image.Image:
    size = (picture.width + 2 * _MARGIN, picture.height + 2 * _MARGIN)
    out = Image.new("RGB", size, PAPER)
    out.paste(picture, (_MARGIN, _MARGIN))
    return out
