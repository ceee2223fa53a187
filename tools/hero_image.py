"""The picture at the top of the README: input → views → turning mesh, as an animated WebP.

    python tools/hero_image.py --true-views FOLDER reconstructor.steps=600 \\
        --credit "Google Scanned Objects, CC BY 4.0"

The first row is made by the embedded model from the picture that ships with it (what `make demo`
makes). The second row generates no views: FOLDER holds 16 RGBA pictures 000.png, 001.png, … of an
object, taken by the cameras of `rig=ring`, and only the mesh is computed from them. Without
`--true-views` the picture has the first row alone. The README shows the object "chicken" of Google
Scanned Objects (CC BY 4.0), as rendered for SyncDreamer's evaluation.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

import mvdiff
from mvdiff.utils.files import atomic
from mvdiff.visualization import mesh_renders

WIDTH = 1240  # pixels; shown at about 830 on GitHub
MARGIN, GAP, ARROW = 26, 8, 52
BACKGROUND, TILE, TEXT, MUTED = (244, 243, 240), (255, 255, 255), (58, 58, 62), (120, 119, 116)
FRAMES, SECONDS = 28, 4.0
TILE_SIZE = 122  # side of a view; input and mesh span two of them
BIG = 2 * TILE_SIZE + GAP


@dataclass
class Row:
    """One line of the picture.

    views: RGBA pictures in the order in which they are shown, two lines of them.
    mesh: the frames of the turning mesh.
    """

    title: str
    subtitle: str
    views_label: str
    photo: Image.Image | None
    views: list[Image.Image]
    mesh: list[Image.Image]


def font(size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.load_default(size=size)


def paste_tile(canvas: Image.Image, picture: Image.Image, x: int, y: int, side: int) -> None:
    """Paste a picture on a white square with rounded corners."""
    tile = Image.new("RGBA", (side, side), TILE)
    picture = picture.convert("RGBA").resize((side, side), Image.Resampling.LANCZOS)
    tile = Image.alpha_composite(tile, picture).convert("RGB")
    mask = Image.new("L", (4 * side, 4 * side))
    radius = 4 * max(4, side // 24)
    ImageDraw.Draw(mask).rounded_rectangle((0, 0, 4 * side - 1, 4 * side - 1), radius, fill=255)
    canvas.paste(tile, (x, y), mask.resize((side, side), Image.Resampling.LANCZOS))


def draw_arrow(canvas: Image.Image, x: int, y: int) -> None:
    """Draw an arrow that fills the gap of width ARROW at x, centered on y."""
    draw = ImageDraw.Draw(canvas)
    left, right = x + 12, x + ARROW - 12
    draw.line((left, y, right - 4, y), MUTED, width=3)
    draw.polygon([(right, y), (right - 10, y - 7), (right - 10, y + 7)], MUTED)


def draw_row(canvas: Image.Image, row: Row, top: int, frame: int) -> None:
    """Draw one row with its headings; `frame` chooses the picture of the mesh."""
    draw = ImageDraw.Draw(canvas)
    draw.text((MARGIN, top), row.title, TEXT, font(21), stroke_width=0.4, stroke_fill=TEXT)
    draw.text((WIDTH - MARGIN, top + 3), row.subtitle, MUTED, font(17), anchor="ra")
    y = top + 38
    labels_y = y + BIG + 7
    x = MARGIN
    if row.photo is not None:
        paste_tile(canvas, row.photo, x, y, BIG)
        draw.text((x + BIG / 2, labels_y), "input", MUTED, font(17), anchor="ma")
        draw_arrow(canvas, x + BIG, y + BIG // 2)
        x += BIG + ARROW
    mesh_x = WIDTH - MARGIN - BIG
    columns = len(row.views) // 2
    gap = (mesh_x - ARROW - x - columns * TILE_SIZE) / max(columns - 1, 1)
    for index, view in enumerate(row.views):
        column, line = index % columns, index // columns
        left = round(x + column * (TILE_SIZE + gap))
        paste_tile(canvas, view, left, y + line * (TILE_SIZE + GAP), TILE_SIZE)
    draw.text(
        (x + (mesh_x - ARROW - x) / 2, labels_y), row.views_label, MUTED, font(17), anchor="ma"
    )
    draw_arrow(canvas, mesh_x - ARROW, y + BIG // 2)
    paste_tile(canvas, row.mesh[frame], mesh_x, y, BIG)
    draw.text((mesh_x + BIG / 2, labels_y), "mesh", MUTED, font(17), anchor="ma")


def compose_frames(rows: list[Row]) -> list[Image.Image]:
    """The frames of the animation."""
    row_height = 38 + BIG + 34
    height = 2 * MARGIN + len(rows) * row_height + (len(rows) - 1) * 18 - 6
    frames = []
    for frame in range(FRAMES):
        canvas = Image.new("RGB", (WIDTH, height), BACKGROUND)
        for index, row in enumerate(rows):
            draw_row(canvas, row, MARGIN - 6 + index * (row_height + 18), frame)
        frames.append(canvas)
    return frames


def crop_square(pictures: list[Image.Image], margin: float = 0.08) -> list[Image.Image]:
    """Crop all pictures to one square that holds every object, with a margin."""
    boxes = [
        picture.getchannel("A").point(lambda a: 255 * (a > 8)).getbbox() for picture in pictures
    ]
    boxes = [box for box in boxes if box is not None]
    left, top = min(box[0] for box in boxes), min(box[1] for box in boxes)
    right, bottom = max(box[2] for box in boxes), max(box[3] for box in boxes)
    half = max(right - left, bottom - top) * (0.5 + margin)
    center_x, center_y = (left + right) / 2, (top + bottom) / 2
    square = tuple(
        round(c) for c in (center_x - half, center_y - half, center_x + half, center_y + half)
    )
    return [picture.crop(square) for picture in pictures]


def pick_views(views: mvdiff.Views, count: int) -> list[Image.Image]:
    """`count` views, evenly spaced, cropped to the object."""
    shown = [views.pil(round(i * len(views) / count)) for i in range(count)]
    return crop_square(shown)


def generated_row() -> Row:
    """The embedded model on its example picture: everything but the input is generated."""
    with resources.as_file(resources.files("mvdiff") / "assets" / "example.png") as path:
        photo = Image.open(path).convert("RGBA")
        views = mvdiff.load(recipe="tiny").generate(str(path), elevation=20, seed=0)
    mesh = mvdiff.reconstruct(views)
    return Row(
        title="Generated from one picture",
        subtitle="mvdiff generate: the embedded model, 9.3 M parameters, 64 x 64 pixels, CPU",
        views_label="10 of the 16 generated views",
        photo=crop_square([photo])[0],
        views=pick_views(views, 10),
        mesh=mesh_renders(mesh, FRAMES, 2 * BIG),
    )


def true_row(folder: Path, credit: str, reconstructor: str, overrides: list[str]) -> Row:
    """True pictures of an object: nothing but the mesh is computed."""
    files = sorted(f for f in folder.glob("*.png") if f.stem.isdigit())
    pixels = [np.asarray(Image.open(file).convert("RGBA")) for file in files]
    stack = torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2)
    cameras = mvdiff.ring(len(files), elevation=30.0, size=stack.shape[-1])
    views = mvdiff.Views(stack[:, :3], stack[:, 3:], cameras)
    mesh = mvdiff.reconstruct(views, reconstructor, overrides)
    return Row(
        title="Reconstructed from true views",
        subtitle="mvdiff reconstruct: 16 renderings of a scanned toy, no view is generated",
        views_label=f"14 of the {len(views)} true views{credit and f' ({credit})'}",
        photo=None,
        views=pick_views(views, 14),
        mesh=mesh_renders(mesh, FRAMES, 2 * BIG),
    )


def write(frames: list[Image.Image], out: Path) -> None:
    """Write an endless animation (WebP)."""
    with atomic(out) as part:
        frames[0].save(
            part,
            format="WEBP",
            save_all=True,
            append_images=frames[1:],
            duration=round(1000 * SECONDS / FRAMES),
            loop=0,
            quality=64,
            method=6,
        )


def main() -> None:
    """Make the rows and write the picture."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--true-views", type=Path, help="folder of 000.png …, rig ring, 30 degrees")
    parser.add_argument("--credit", default="", help="whose object the true views show")
    parser.add_argument("--reconstructor", default="neus", help="for the true views")
    parser.add_argument("overrides", nargs="*", help="such as reconstructor.steps=600")
    parser.add_argument("--out", type=Path, default=Path("docs/images/hero.webp"))
    args = parser.parse_args()
    rows = [generated_row()]
    if args.true_views is not None:
        rows.append(true_row(args.true_views, args.credit, args.reconstructor, args.overrides))
    write(compose_frames(rows), args.out)
    print(f"{args.out}: {args.out.stat().st_size / 1000:.0f} KB")


if __name__ == "__main__":
    main()
