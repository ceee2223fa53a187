"""The figures for people and programs: a table, notes, JSON, CSV."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import InputError
from ..utils.files import check_writable, write_text

if TYPE_CHECKING:
    from rich.table import Table

#: Column titles and number formats, in the order of the table.
COLUMNS = {
    "psnr": ("PSNR\ndB", "{:.2f}"),
    "psnr_without_0": ("PSNR\nw/o 0", "{:.2f}"),
    "ssim": ("SSIM", "{:.3f}"),
    "ssim_without_0": ("SSIM\nw/o 0", "{:.3f}"),
    "lpips": ("LPIPS", "{:.3f}"),
    "lpips_without_0": ("LPIPS\nw/o 0", "{:.3f}"),
    "hull_iou": ("hull\nIoU", "{:.3f}"),
    "hull_iou_truth": ("hull IoU\nof truth", "{:.3f}"),
    "photometric": ("photo-\nmetric", "{:.4f}"),
    "self_chamfer": ("self-\nChamfer", "{:.4f}"),
    "self_psnr": ("self-\nPSNR dB", "{:.2f}"),
    "diversity": ("diver-\nsity", "{:.4f}"),
    "chamfer": ("Chamfer", "{:.4f}"),
    "chamfer_floor": ("Chamfer\nfloor", "{:.4f}"),
    "iou": ("volume\nIoU", "{:.3f}"),
}
#: Names written out in a note; of the rest, the number.
_NAMED = 8


def mean(figures: Iterable[Mapping[str, float]]) -> dict[str, float]:
    """The mean of each figure over the rows that have it."""
    figures = list(figures)
    out = {}
    for key in COLUMNS:
        values = [row[key] for row in figures if key in row]
        if values:
            out[key] = sum(values) / len(values)
    return out


def table(figures: Mapping[str, Any]) -> Table:
    """The result of `evaluate_folder` as a table to print with rich."""
    from rich.table import Table

    objects = figures["objects"]
    keys = [key for key in COLUMNS if key in figures["mean"]]
    several = any(row.get("samples", 1) > 1 for row in objects.values())
    out = Table(box=None, header_style="bold", padding=(0, 1))
    out.add_column("object")
    if several:
        out.add_column("samples", justify="right")
    for key in keys:
        out.add_column(COLUMNS[key][0], justify="right")
    for name, row in objects.items():
        count = [str(row.get("samples", 1))] if several else []
        out.add_row(name, *count, *(_number(key, row) for key in keys))
    if len(objects) > 1:
        out.add_section()
        cells = [_mean_cell(key, figures["mean"], objects) for key in keys]
        blank = [""] if several else []
        out.add_row(f"mean of {len(objects)}", *blank, *cells, style="bold")
    if controls := figures.get("controls"):
        out.add_section()
        blank = [""] if several else []
        for name, row in controls.items():
            title = name if name == "truth" else f"truth, {name}"
            out.add_row(title, *blank, *(_number(key, row) for key in keys), style="dim")
    return out


def notes(figures: Mapping[str, Any]) -> list[str]:
    """What was not compared, and why; one line each."""
    out = []
    missing = figures.get("missing", {})
    for side, word in (("truth", "no truth for"), ("pred", "no prediction for")):
        if names := missing.get(side):
            out.append(f"{word} {_listed(names)}")
    out += [f"{name} was left out: {reason}" for name, reason in figures.get("failed", {}).items()]
    for name, reason in figures.get("without_iou", {}).items():
        out.append(f"no IoU for {name}: {reason}")
    for name, reason in figures.get("uncontrolled", {}).items():
        out.append(f"no controls for {name}: {reason}")
    objects = figures["objects"]
    for key, what in (("psnr", "views"), ("chamfer", "meshes")):
        without = [name for name, row in objects.items() if key not in row]
        if without and len(without) < len(objects):
            out.append(f"{what} are missing on one side of {_listed(without)}")
    return out


def write(figures: Mapping[str, Any], path: str | Path) -> list[Path]:
    """Write JSON or CSV, chosen by suffix, or both into a folder (a path without suffix).

    The CSV has a row a sample, and with controls those of each object, whose sample is named
    `control:truth` and so on; figures that were not measured are empty.
    Raises InputError for any other suffix.
    """
    path = Path(path).expanduser()
    suffix = path.suffix.lower()
    if _holds_both(path):
        return [write(figures, path / f"evaluate{end}")[0] for end in (".json", ".csv")]
    if suffix == ".json":
        write_text(path, json.dumps(figures, indent=1))
    elif suffix == ".csv":
        write_text(path, _csv(figures))
    else:
        raise InputError(f"cannot write figures as '{path.name}': choose .json, .csv or a folder")
    return [path]


def check_target(path: str | Path) -> None:
    """Raise InputError now when `write` could not write to `path` later."""
    path = Path(path).expanduser()
    check_writable(path if _holds_both(path) else path.parent)


def _holds_both(path: Path) -> bool:
    """Whether a path is a folder for JSON and CSV, there or not yet."""
    return path.is_dir() or not path.suffix


def _csv(figures: Mapping[str, Any]) -> str:
    keys = [key for key in COLUMNS if key in figures["mean"]]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["object", "sample", *keys])
    for name, rows in figures["samples"].items():
        for sample, row in rows.items():
            writer.writerow([name, sample, *(row.get(key, "") for key in keys)])
        for control, row in figures.get("object_controls", {}).get(name, {}).items():
            writer.writerow([name, f"control:{control}", *(row.get(key, "") for key in keys)])
    return text.getvalue()


def _number(key: str, row: Mapping[str, float]) -> str:
    return COLUMNS[key][1].format(row[key]) if key in row else "-"


def _mean_cell(key: str, means: Mapping[str, float], rows: Mapping[str, Any]) -> str:
    """The mean, with the number of objects behind it where that is not all."""
    count = sum(key in row for row in rows.values())
    return _number(key, means) + (f" ({count})" if count < len(rows) else "")


def _listed(names: list[str]) -> str:
    shown = ", ".join(f"'{name}'" for name in names[:_NAMED])
    return shown if len(names) <= _NAMED else f"{shown} and {len(names) - _NAMED} more"
