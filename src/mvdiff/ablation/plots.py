"""Quality against cost, one point a run and a mark at each variant's mean."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..errors import ConfigError
from ..utils.files import atomic
from .report import COST, QUALITY, Column, Row

#: what is drawn against what, where runs have both
_UP = ("psnr", "hull_iou", "self_psnr", "photometric")
_ACROSS = ("step.flops",)


def write_plots(out: Path, rows: Sequence[Row]) -> list[Path]:
    """`quality-cost.png` and `.pdf`; nothing when no run has figures.

    Raises ConfigError when matplotlib is missing.
    """
    try:
        import matplotlib

        matplotlib.use("Agg")
        from matplotlib import pyplot
    except ImportError as error:
        raise ConfigError(
            "the plots need matplotlib: pip install 'mvdiff[ablate]'; the table and the contact "
            "sheet are written"
        ) from error
    done = [row for row in rows if row.results]
    # a GPU's work is not in the processor's seconds
    on_cpu = all(str(r["device"]).startswith("cpu") for row in done for r in row.results.values())
    seconds = "step.cpu_seconds" if on_cpu else "step.seconds"
    across = [key for key in (seconds, *_ACROSS) if any(row.values(key) for row in done)]
    up = [key for key in _UP if any(row.values(f"figures.{key}") for row in done)]
    if not across or not up:
        return []
    figure, axes = pyplot.subplots(
        len(across), len(up), figsize=(3.4 * len(up), 3.0 * len(across)), squeeze=False,
        layout="constrained",
    )  # fmt: skip
    for i, cost in enumerate(across):
        for j, quality in enumerate(up):
            _draw(axes[i][j], done, cost, quality)
    handles, labels = axes[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, fontsize=8, frameon=False)
    written = []
    for suffix in ("png", "pdf"):
        path = out / f"quality-cost.{suffix}"
        with atomic(path) as part:
            figure.savefig(part, dpi=160)
        written.append(path)
    pyplot.close(figure)
    return written


def _draw(axis: Any, rows: Sequence[Row], cost: str, quality: str) -> None:
    from matplotlib import colormaps

    x_column, y_column = COST[cost], QUALITY[quality]
    marks = "osD^vP*X<>"
    for i, row in enumerate(rows):
        xs, ys = _scaled(row, cost, x_column), _scaled(row, f"figures.{quality}", y_column)
        if not xs or not ys:
            continue
        colour = colormaps["tab10"](i % 10)
        x, y = sum(xs) / len(xs), sum(ys) / len(ys)
        axis.scatter([x] * len(ys), ys, s=10, color=colour, alpha=0.45, linewidths=0)
        mark = marks[i % len(marks)]
        axis.scatter([x], [y], s=42, color=colour, marker=mark, label=row.name, zorder=3)
    _widen(axis, quality, max((len(row.values(f"figures.{quality}")) for row in rows), default=0))
    low, high = axis.get_xlim()
    if high > 5 * max(low, 1e-9):
        axis.set_xscale("log")
    else:
        axis.set_xlim(0, high * 1.05)
    axis.set_xlabel(x_column.title, fontsize=9)
    axis.set_ylabel(f"{y_column.title} {y_column.better}", fontsize=9)
    axis.grid(alpha=0.25, which="both")
    axis.tick_params(labelsize=8, which="both")
    for side in ("top", "right"):
        axis.spines[side].set_visible(False)


#: the shortest axis of each quality, in its column's units: differences far below it are noise
_SHORTEST_AXIS = {"psnr": 1.0, "hull_iou": 0.1, "self_psnr": 2.0, "photometric": 2.0}


def _widen(axis: Any, quality: str, seeds: int) -> None:
    """Keep the axis of a quality from zooming into noise, and say so where there is one seed."""
    low, high = axis.get_ylim()
    missing = _SHORTEST_AXIS[quality] - (high - low)
    if missing > 0:
        axis.set_ylim(low - missing / 2, high + missing / 2)
    if seeds == 1:
        text = "one seed: the spread is unknown"
        axis.set_title(text, fontsize=7, color="0.45", loc="right", pad=2)


def _scaled(row: Row, path: str, column: Column) -> list[float]:
    return [value * column.factor for value in row.values(path)]
