"""The same held-out objects under every variant, as one picture."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ..visualization import PAPER, contact_sheet
from .report import Row
from .scoring import load_views


def write_sheets(out: Path, rows: Sequence[Row], *, objects: int = 6, views: int = 4) -> list[Path]:
    """`objects.png`: a block of rows an object, a column a variant, photo and truth first.

    objects: how many are shown, evenly spread. views: of each, evenly spread around; one row
    each. Shown is each variant's first seed. Runs scored on other views get sheets of their own.
    """
    groups: dict[str, list[tuple[str, dict[str, np.ndarray]]]] = {}
    for row in rows:
        for seed in sorted(row.results)[:1]:
            made = load_views(row.folders[seed] / "views.npz")
            if made is not None:
                groups.setdefault(row.results[seed]["controls"], []).append((row.name, made))
    written = []
    for i, (key, columns) in enumerate(groups.items()):
        truth = load_views(out / "controls" / key / "truth.npz")
        photos = load_views(out / "controls" / key / "photos.npz")
        if truth is None or photos is None:
            continue
        names = [name for name in truth if all(name in made for _, made in columns)]
        path = out / ("objects.png" if not i else f"objects-{i + 1}.png")
        shown = [names[k] for k in _spread(len(names), objects)]
        _sheet(path, shown, photos, [("truth", truth), *columns], views)
        written.append(path)
    return written


def _sheet(
    path: Path,
    names: Sequence[str],
    photos: dict[str, Any],
    columns: Sequence[tuple[str, dict[str, np.ndarray]]],
    views: int,
) -> None:
    rows, labels = [], []
    blank = Image.new("RGB", (8, 8), PAPER)
    for name in names:
        for n, view in enumerate(_spread(len(columns[0][1][name]), views, around=True)):
            photo = _picture(photos[name][0]) if n == 0 else blank
            rows.append([photo, *(_picture(made[name][view]) for _, made in columns)])
            labels.append(name if n == 0 else "")
    titles = ["photo", *(_label(name) for name, _ in columns)]
    contact_sheet(rows, path, row_labels=labels, column_labels=titles)


def _spread(count: int, wanted: int, around: bool = False) -> list[int]:
    """Indices evenly spread over `count`; around: as on a ring, whose end meets its start."""
    wanted = min(wanted, count)
    if around:
        return [round(i * count / wanted) for i in range(wanted)]
    return np.linspace(0, count - 1, wanted).round().astype(int).tolist()


def _picture(pixels: np.ndarray) -> Image.Image:
    return Image.fromarray(np.ascontiguousarray(pixels.transpose(1, 2, 0)))


def _label(name: str, width: int = 14) -> str:
    """`attention=none, volume=none` without the slots' names, in lines that fit a picture."""
    words = [part.partition("=")[2] or part for part in name.split(", ")]
    return "\n".join(line for word in words for line in textwrap.wrap(word, width))
