"""Cameras as a file lists them, in float64: one size and lens each, any place in the world.

`read_transforms` and `read_colmap` make `Cameras` of these when they share a size and need no
undistortion; `view_loading` reads the pictures, too, and so can do with less.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ..errors import InputError
from .camera import Cameras, Projection
from .lens import PINHOLE, Lens

#: The origin is moved where the scene lies so many times its own size away from it: float32
#: would round its coordinates by more than 3e-5 of its size.
_MAX_REMOTENESS = 500.0
#: Coordinates beyond this are no scene, and their products would overflow.
_MAX_COORDINATE = 1e15
#: Largest width and height in pixels.
_MAX_SIDE = 1_000_000


@dataclass(frozen=True)
class Frame:
    """One picture with its camera.

    name: of the picture, relative to the folder that the file names.
    K: intrinsics in pixels of a picture of this width and height.
    w2c: world to camera, `[R|t]`, OpenCV axes.
    mask: name of a picture of the pixels to use (white) and to leave out (black), likewise
        relative; None where the file names none.
    """

    name: str
    K: Float[np.ndarray, "3 3"]
    w2c: Float[np.ndarray, "3 4"]
    width: int
    height: int
    lens: Lens = PINHOLE
    projection: Projection = "perspective"
    mask: str | None = None


def checked_intrinsics(
    fx: float,
    fy: float,
    cx: float,
    cy: float,
    width: int,
    height: int,
    where: str,
    projection: Projection = "perspective",
) -> Float[np.ndarray, "3 3"]:
    """The matrix K of these numbers.

    Raises InputError, in the name of `where`, for sizes, focal lengths (pixels; pixels per world
    unit of orthographic cameras) and principal points that no camera has.
    """
    if not (1 <= width <= _MAX_SIDE and 1 <= height <= _MAX_SIDE):
        raise InputError(
            f"{where} has size {_short(width)}×{_short(height)}, expected whole pixels from 1 to "
            f"{_MAX_SIDE}"
        )
    side = max(width, height)
    low, high = (1e-4 * side, 1e6 * side) if projection == "perspective" else (1e-12, 1e12)
    if not (low <= fx <= high and low <= fy <= high):
        raise InputError(
            f"{where} needs a positive fl_x and fl_y that fit its size of {width}×{height} pixels; "
            f"got focal lengths {fx:g} and {fy:g}"
        )
    if not (abs(cx) <= 100 * side and abs(cy) <= 100 * side):
        raise InputError(
            f"{where} has its principal point at ({cx:g}, {cy:g}), far outside its picture of "
            f"{width}×{height} pixels: correct cx and cy"
        )
    return np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]], dtype=np.float64)


def check_coordinates(w2c: Float[np.ndarray, "3 4"], where: str) -> None:
    """Raise InputError for poses that are not finite or absurdly far away."""
    if not np.isfinite(w2c).all() or np.abs(w2c).max() > _MAX_COORDINATE:
        raise InputError(
            f"{where} has a pose with coordinates up to {np.abs(w2c).max():g}: expected finite "
            f"numbers below {_MAX_COORDINATE:g}"
        )


def check_rotations(R: Float[Tensor, "view 3 3"], where: str, what: str) -> None:
    """Raise InputError for matrices that are no rotations, in the name of `where`."""
    error = (R @ R.mT - torch.eye(3, dtype=R.dtype)).abs().amax(dim=(1, 2))
    if not (error <= 1e-3).all() or (torch.linalg.det(R) < 0).any():
        raise InputError(
            f"{where}: the {what} is no rotation (scaled, skewed or mirrored axes): "
            "remove scale and mirroring from the camera"
        )


def scene_origin(frames: list[Frame]) -> tuple[float, float, float]:
    """World point to subtract before cameras become float32: (0, 0, 0) for ordinary scenes.

    Scenes far from the origin compared with their size (map coordinates, say) get the point
    that the cameras look at, rounded to about 1e-4 of the cameras' distance.
    """
    # inverted, not transposed: far away, rounded rotations would move the centers by meters
    centers = np.stack([np.linalg.solve(f.w2c[:, :3], -f.w2c[:, 3]) for f in frames])
    middle = centers.mean(axis=0)
    # the point nearest to all optical axes, relative to `middle`
    axes = np.stack([f.w2c[2, :3] / max(np.linalg.norm(f.w2c[2, :3]), 1e-12) for f in frames])
    across = np.eye(3) - axes[:, :, None] * axes[:, None]
    matrix = across.sum(axis=0) + 1e-9 * len(frames) * np.eye(3)
    point = np.linalg.solve(matrix, np.einsum("vij,vj->i", across, centers - middle))
    distance = float(np.median(np.linalg.norm(centers - middle - point, axis=1)))
    if frames[0].projection == "orthographic":
        distance = float(np.median([max(f.width, f.height) / 2 / f.K[0, 0] for f in frames]))
    spread = float(np.linalg.norm(centers - middle, axis=1).max())
    if np.linalg.norm(point) > 100 * max(spread, distance):  # nearly parallel axes
        point = np.zeros(3)
    center, size = middle + point, max(distance, spread)
    remoteness = float(np.linalg.norm(center))
    if remoteness <= _MAX_REMOTENESS * size or size <= 1e-9 * remoteness:  # one place: no size
        return (0.0, 0.0, 0.0)
    digits = min(15, max(-15, 4 - math.floor(math.log10(size))))
    x, y, z = (round(float(value), digits) + 0.0 for value in center)
    return (x, y, z)


def relative_to(frames: list[Frame], origin: tuple[float, float, float]) -> list[Frame]:
    """The same cameras in coordinates whose origin is the given world point."""
    if not any(origin):
        return frames
    moved = []
    for frame in frames:
        w2c = frame.w2c.copy()
        w2c[:, 3] += w2c[:, :3] @ np.array(origin)
        moved.append(replace(frame, w2c=w2c))
    return moved


def to_cameras(frames: list[Frame], what: str) -> Cameras:
    """float32 `Cameras` of frames that share size and projection and have no distortion.

    what: names the file in messages. Raises InputError otherwise, and for scenes so far from the
    origin that float32 would ruin them.
    """
    for frame in frames:
        if not frame.lens.is_pinhole:
            raise InputError(
                f"the camera of '{frame.name}' in {what} has lens distortion, and cameras alone "
                "cannot hold it: load the pictures with it (Views.load), which undistorts them"
            )
    check_one_projection(frames, what)
    sizes = {(frame.width, frame.height) for frame in frames}
    if len(sizes) != 1:
        listed = ", ".join(f"{w}×{h}" for w, h in sorted(sizes))
        raise InputError(
            f"the cameras of {what} must share one image size, got {listed}: load the pictures "
            "with them (Views.load), which pads them"
        )
    origin = scene_origin(frames)
    if any(origin):
        raise InputError(
            f"the cameras of {what} stand around {origin}, so far from the origin that float32 "
            "would round them: load the pictures with them (Views.load), or subtract that point"
        )
    return stack_cameras(frames)


def stack_cameras(frames: list[Frame]) -> Cameras:
    """float32 cameras of frames of one size, as they are; lenses are left out."""
    K = torch.from_numpy(np.stack([frame.K for frame in frames])).float()
    w2c = torch.from_numpy(np.stack([frame.w2c for frame in frames])).float()
    first = frames[0]
    return Cameras(K, w2c, first.height, first.width, first.projection)


def check_one_projection(frames: list[Frame], what: str) -> None:
    """Raise InputError for perspective and orthographic cameras in one file."""
    kinds = sorted({frame.projection for frame in frames})
    if len(kinds) != 1:
        raise InputError(
            f"the cameras of {what} must share one image size and projection, got "
            f"{' and '.join(kinds)}: split them into several files"
        )


def _short(number: int) -> str:
    """An integer of any number of digits, in a few characters."""
    return str(number) if abs(number) < 10**12 else "a huge number"
