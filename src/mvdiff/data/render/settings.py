"""The numbers of `render_objects`, checked before anything starts."""

from __future__ import annotations

import math
from typing import Any

from ...cameras import Cameras
from ...errors import MvdiffError

#: Most pixels of all views of an object together, as 16 views of 4096², and rays of one view.
MAX_VIEW_PIXELS, MAX_VIEW_RAYS = 2**28, 2**28
#: Most objects of one call, views of an object, and processes.
MAX_OBJECTS, MAX_VIEWS, MAX_WORKERS = 1_000_000, 10_000, 1024
MAX_SIZE = 8192
_MAX_SEED = 2**63 - 1


def check_settings(
    rig: Cameras,
    *,
    inputs: int,
    supersample: int,
    shapes: int,
    copies: int,
    seed: int,
    shapes_seed: int,
    workers: int | None,
    val_fraction: float,
    input_elevation: tuple[float, float],
) -> None:
    """Raise MvdiffError, with one sentence, for a number out of range; all as in
    `render_objects`."""
    whole_number("inputs", inputs, 0, len(rig), "the rig's number of views")
    whole_number("supersample", supersample, 1, 64)
    whole_number("shapes", shapes, 0, MAX_OBJECTS)
    whole_number("copies", copies, 0, 10_000)
    whole_number("seed", seed, 0, _MAX_SEED)
    whole_number("shapes_seed", shapes_seed, 0, _MAX_SEED - MAX_OBJECTS)
    if workers is not None:
        whole_number("workers", workers, 1, MAX_WORKERS)
    if not _is_number(val_fraction) or not 0 <= val_fraction <= 1:
        raise MvdiffError(f"val_fraction must lie in [0, 1], got {val_fraction}")
    low, high = input_elevation
    if not (_is_number(low) and _is_number(high)) or not -90 <= low <= high <= 90:
        raise MvdiffError(
            f"input_elevation must be two degrees in [-90, 90], lowest first; got {low}, {high}"
        )
    side = max(rig.width, rig.height)
    if side > MAX_SIZE or len(rig) * rig.width * rig.height > MAX_VIEW_PIXELS:
        raise MvdiffError(
            f"{len(rig)} views of {rig.width}×{rig.height} are too large: at most {MAX_SIZE} "
            f"pixels a side and {MAX_VIEW_PIXELS // 2**20} million for all views of an object"
        )
    if rig.width * rig.height * supersample**2 > MAX_VIEW_RAYS:
        raise MvdiffError(
            f"size={side} with supersample={supersample} traces {side * supersample}² rays a "
            "view: at most 16384², lower one of them"
        )


def check_rig_numbers(config: Any) -> None:
    """Raise MvdiffError for a size or a number of cameras that would fill the memory.

    config: with `size` and `rig`, whose `count` is checked where it has one.
    """
    whole_number("size", config.size, 1, MAX_SIZE)
    count = config.rig.get("count")
    if count is not None:
        whole_number("rig.count", count, 1, MAX_VIEWS)


def whole_number(name: str, value: Any, low: int, high: int, limit: str = "") -> None:
    """Raise MvdiffError unless `value` is a whole number in [low, high]."""
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        shown = str(value)
        shown = shown if len(shown) <= 40 else f"{shown[:37]}…"
        most = f"{high} ({limit})" if limit else f"{high}"
        raise MvdiffError(f"{name} must be a whole number from {low} to {most}, got {shown}")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
