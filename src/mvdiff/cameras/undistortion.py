"""Undistorting pictures: from what a lens shows to what a pinhole camera would show.

The pinhole camera keeps the focal lengths, so the picture's center keeps its resolution. Its
picture is as large as the original one, and larger where a barrel or fisheye lens shows more
than fits into it, up to `MAX_GROWTH` times in width and height.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from .lens import Lens

#: An undistorted picture is at most so many times as wide and high as the original: 2 hold
#: everything up to 110° with an equidistant lens.
MAX_GROWTH = 2.0
#: Points along each side of the grid that is searched for what a lens shows.
_GRID = 513


@dataclass(frozen=True)
class Margins:
    """Pixels that a picture grows by on each side; `complete` unless the lens shows even more."""

    left: int = 0
    top: int = 0
    right: int = 0
    bottom: int = 0
    complete: bool = True

    def union(self, other: Margins) -> Margins:
        """The larger margin on each side."""
        return Margins(
            max(self.left, other.left),
            max(self.top, other.top),
            max(self.right, other.right),
            max(self.bottom, other.bottom),
            self.complete and other.complete,
        )


def needed_margins(K: Float[np.ndarray, "3 3"], lens: Lens, width: int, height: int) -> Margins:
    """How much a pinhole picture must grow to hold all that the lens shows.

    K: intrinsics in pixels of the original picture of this width and height.
    """
    if lens.is_pinhole:
        return Margins()
    grow_x, grow_y = (MAX_GROWTH - 1) / 2 * width, (MAX_GROWTH - 1) / 2 * height
    u, v = np.meshgrid(
        np.linspace(-grow_x, width + grow_x, _GRID), np.linspace(-grow_y, height + grow_y, _GRID)
    )
    at_u, at_v, valid = _source(K, lens, u, v)
    shown = valid & (at_u >= 0) & (at_u <= width) & (at_v >= 0) & (at_v <= height)
    if not shown.any():
        return Margins()
    columns, rows = np.flatnonzero(shown.any(axis=0)), np.flatnonzero(shown.any(axis=1))
    # one grid step more on each side, since the edge lies between grid points
    low_u, high_u = u[0, max(columns[0] - 1, 0)], u[0, min(columns[-1] + 1, _GRID - 1)]
    low_v, high_v = v[max(rows[0] - 1, 0), 0], v[min(rows[-1] + 1, _GRID - 1), 0]
    low, high = min(columns[0], rows[0]), max(columns[-1], rows[-1])
    complete = bool(low > 0 and high < _GRID - 1)
    return Margins(
        max(0, math.ceil(-low_u)),
        max(0, math.ceil(-low_v)),
        max(0, math.ceil(high_u - width)),
        max(0, math.ceil(high_v - height)),
        complete,
    )


def undistort(
    pixels: UInt8[np.ndarray, "height width channel"],
    K: Float[np.ndarray, "3 3"],
    lens: Lens,
    left: int,
    top: int,
    width: int,
    height: int,
) -> UInt8[np.ndarray, "new_height new_width channel"]:
    """One picture as a pinhole camera shows it.

    pixels: RGB, or RGBA not multiplied by alpha (it is while pixels are mixed).
    K, lens: of the original picture. The result is seen by the pinhole camera with the same focal
    lengths and the principal point (cx + left, cy + top).
    width, height: of the result. Pixels that the lens does not show continue the picture's
    border: nobody knows what was there, and a silhouette cut off by the border goes on behind it.
    """
    u, v = np.meshgrid(np.arange(width) + 0.5 - left, np.arange(height) + 0.5 - top)
    at_u, at_v, _ = _source(K, lens, u, v)
    # OpenCV counts from the center of the first pixel
    map_u, map_v = (np.clip(m - 0.5, -1e4, 1e5).astype(np.float32) for m in (at_u, at_v))

    def remap(x: np.ndarray) -> np.ndarray:
        return cv2.remap(x, map_u, map_v, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)

    if pixels.shape[-1] == 3:  # cubic interpolation overshoots at edges
        return np.rint(remap(pixels.astype(np.float32)).clip(0, 255)).astype(np.uint8)
    alpha = pixels[..., 3:].astype(np.float32)
    both = remap(np.concatenate([pixels[..., :3] * alpha, alpha], axis=-1))
    color = both[..., :3] / np.maximum(both[..., 3:], 1e-6)
    return np.rint(np.concatenate([color, both[..., 3:]], axis=-1).clip(0, 255)).astype(np.uint8)


def _source(
    K: Float[np.ndarray, "3 3"],
    lens: Lens,
    u: Float[np.ndarray, "rows columns"],
    v: Float[np.ndarray, "rows columns"],
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Where the original picture holds these pixels of the pinhole picture, and whether it can.

    Beyond the radius where the lens's curve folds back, the point on that radius.
    """
    x, y = (u - K[0, 2]) / K[0, 0], (v - K[1, 2]) / K[1, 1]
    radius, limit = np.hypot(x, y), lens.valid_radius()
    shrink = np.minimum(1.0, limit / np.maximum(radius, 1e-12))
    x, y = lens.distort(x * shrink, y * shrink)
    return x * K[0, 0] + K[0, 2], y * K[1, 1] + K[1, 2], radius <= limit
