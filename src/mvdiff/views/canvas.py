"""One size for pictures that differ in size or grow when their lens is undistorted."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import UInt8

from ..cameras.frames import Frame
from ..cameras.lens import PINHOLE
from ..cameras.undistortion import Margins, needed_margins, undistort


def rescaled(frame: Frame, scale: tuple[float, float], size: tuple[int, int]) -> Frame:
    """A frame for its picture resized to (width, height)."""
    if scale == (1.0, 1.0):
        return frame
    K = frame.K * np.array([scale[0], scale[1], 1.0])[:, None]
    return replace(frame, K=K, width=size[0], height=size[1])


@dataclass(frozen=True)
class Canvas:
    """The common size of pictures that differ in size, or grow when they are undistorted.

    margins: around the pictures. width, height: of the canvas, pixels.
    """

    margins: Margins
    width: int
    height: int

    def place(
        self, arrays: list[np.ndarray], frames: list[Frame]
    ) -> tuple[list[np.ndarray], list[Frame], list[str]]:
        """Pictures on the canvas, undistorted, with the pinhole cameras that saw them so.

        arrays: RGB or RGBA. frames: with their lenses and sizes.
        Transparent pictures lose what the canvas has beyond their size, unless the object reaches
        there. Returns notes for the user, too.
        """
        lenses = sum(not frame.lens.is_pinhole for frame in frames)
        sizes = {(frame.width, frame.height) for frame in frames}
        if not lenses and sizes == {(self.width, self.height)}:
            return arrays, frames, []
        notes = []
        if cut := sum(array.shape[-1] == 4 and _touches_border(array) for array in arrays):
            notes.append(
                f"the object is cut off by the border of {cut} pictures that were padded or "
                "undistorted: its edge there is a guess"
            )
        placed = [
            self._place_one(array, frame) for array, frame in zip(arrays, frames, strict=True)
        ]
        left, top, right, bottom = self._used(placed, sizes)
        shift = np.zeros((3, 3))
        shift[:2, 2] = self.margins.left - left, self.margins.top - top
        width, height = right - left, bottom - top
        placed = [np.ascontiguousarray(array[top:bottom, left:right]) for array in placed]
        cameras = [
            replace(f, K=f.K + shift, width=width, height=height, lens=PINHOLE) for f in frames
        ]
        if lenses:
            kind = "fisheye" if any(frame.lens.fisheye for frame in frames) else "lens"
            notes.append(
                f"{kind} distortion was removed from {lenses} pictures, which are now "
                f"{width}×{height} pixels of a pinhole camera of the same focal length"
                + ("" if self.margins.complete else " (what lies farther out is left out)")
            )
        if len(sizes) > 1:
            notes.append(
                f"the pictures have {len(sizes)} sizes: they were padded to {width}×{height} pixels"
            )
        return placed, cameras, notes

    def _place_one(
        self, array: UInt8[np.ndarray, "height width channel"], frame: Frame
    ) -> UInt8[np.ndarray, "new_height new_width channel"]:
        left, top = self.margins.left, self.margins.top
        if not frame.lens.is_pinhole:
            return undistort(array, frame.K, frame.lens, left, top, self.width, self.height)
        right, bottom = self.width - left - frame.width, self.height - top - frame.height
        return np.pad(array, ((top, bottom), (left, right), (0, 0)), mode="edge")

    def _used(
        self, placed: list[np.ndarray], sizes: set[tuple[int, int]]
    ) -> tuple[int, int, int, int]:
        """Left, top, right and bottom of what the pictures and their objects take up."""
        left, top = self.margins.left, self.margins.top
        right = left + max(width for width, _ in sizes)
        bottom = top + max(height for _, height in sizes)
        if any(array.shape[-1] == 3 or array[..., 3].min() > 0 for array in placed):
            return 0, 0, self.width, self.height
        for array in placed:
            columns = np.flatnonzero(array[..., 3].any(axis=0))
            rows = np.flatnonzero(array[..., 3].any(axis=1))
            if len(columns):
                left, right = min(left, int(columns[0])), max(right, int(columns[-1]) + 1)
                top, bottom = min(top, int(rows[0])), max(bottom, int(rows[-1]) + 1)
        return left, top, right, bottom


def make_canvas(frames: list[Frame]) -> Canvas:
    """The canvas that holds all that these pictures show."""
    margins = Margins()
    by_lens: dict[tuple, Margins] = {}
    right = bottom = 0
    for frame in frames:
        key = (frame.lens, frame.K.tobytes(), frame.width, frame.height)
        if key not in by_lens:
            by_lens[key] = needed_margins(frame.K, frame.lens, frame.width, frame.height)
        own = by_lens[key]
        margins = margins.union(own)
        right, bottom = max(right, frame.width + own.right), max(bottom, frame.height + own.bottom)
    return Canvas(margins, margins.left + right, margins.top + bottom)


def _touches_border(array: UInt8[np.ndarray, "height width 4"]) -> bool:
    alpha = array[..., 3]
    edges = (alpha[0], alpha[-1], alpha[:, 0], alpha[:, -1])
    return any(bool((edge > 127).any()) for edge in edges)
