"""An analytic scene: ellipsoids without mirror symmetry, seen by any camera. No mvdiff."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

#: center, semi-axes, color
PARTS = [
    ((0.0, 0.0, 0.0), (0.40, 0.25, 0.20), (200, 60, 50)),
    ((0.30, 0.15, 0.20), (0.15, 0.12, 0.18), (40, 150, 70)),
    ((-0.25, -0.20, -0.05), (0.10, 0.18, 0.10), (50, 80, 200)),
]
#: Bounds of the scene, low and high.
BOUNDS = np.array([[-0.4, -0.38, -0.2], [0.45, 0.27, 0.38]])
#: From distorted to ideal points of the image plane.
Undistort = Callable[[np.ndarray], np.ndarray]


def look_at(eye: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Camera-to-world (4, 4) with OpenCV axes, z up."""
    forward = (target - eye) / np.linalg.norm(target - eye)
    right = np.cross(forward, [0.0, 0.0, 1.0])
    right /= np.linalg.norm(right)
    pose = np.eye(4)
    pose[:3] = np.stack([right, np.cross(forward, right), forward, eye], axis=1)
    return pose


def ring(count: int = 8, distance: float = 2.0, center=(0.0, 0.0, 0.0)) -> list[np.ndarray]:
    """Poses on a ring about a point, at three elevations in turn."""
    poses, center = [], np.asarray(center, dtype=float)
    for i in range(count):
        azimuth, elevation = 2 * math.pi * i / count + 0.1, math.radians((15, 40, -15)[i % 3])
        direction = np.array(
            [
                math.cos(azimuth) * math.cos(elevation),
                math.sin(azimuth) * math.cos(elevation),
                math.sin(elevation),
            ]
        )
        poses.append(look_at(center + distance * direction, center))
    return poses


def render(
    pose: np.ndarray,
    K: np.ndarray,
    width: int,
    height: int,
    undistort: Undistort | None = None,
    orthographic: bool = False,
    center=(0.0, 0.0, 0.0),
    samples: int = 3,
) -> np.ndarray:
    """RGBA pixels (height, width, 4) of the scene, centered at a point."""
    u, v = np.meshgrid(
        (np.arange(width * samples) + 0.5) / samples, (np.arange(height * samples) + 0.5) / samples
    )
    xy = np.stack([(u - K[0, 2]) / K[0, 0], (v - K[1, 2]) / K[1, 1]], axis=-1)
    if undistort is not None:
        xy = undistort(xy.reshape(-1, 2)).reshape(xy.shape)
    rotation = pose[:3, :3]
    origin = pose[:3, 3] - np.asarray(center, dtype=float)
    if orthographic:
        origins = origin + xy @ rotation[:, :2].T
        rays = np.broadcast_to(rotation[:, 2], origins.shape)
    else:
        rays = np.concatenate([xy, np.ones_like(xy[..., :1])], axis=-1) @ rotation.T
        origins = np.broadcast_to(origin, rays.shape)
    nearest, color = np.full(u.shape, np.inf), np.zeros((*u.shape, 3))
    for middle, axes, paint in PARTS:
        start, ray = (origins - middle) / np.array(axes), rays / np.array(axes)
        a, b = (ray * ray).sum(-1), (start * ray).sum(-1)
        root = b * b - a * ((start * start).sum(-1) - 1)
        depth = np.where(root > 0, (-b - np.sqrt(np.maximum(root, 0))) / a, np.inf)
        hit = (depth < nearest) & (orthographic | (depth > 0))
        nearest, color[hit] = np.where(hit, depth, nearest), paint
    hit = np.isfinite(nearest).reshape(height, samples, width, samples)
    alpha = hit.mean(axis=(1, 3))
    total = color.reshape(height, samples, width, samples, 3).sum(axis=(1, 3))
    color = total / np.maximum(hit.sum(axis=(1, 3)), 1)[..., None]
    return np.dstack([color.round(), (255 * alpha).round()]).astype(np.uint8)


def intrinsics(focal: float, width: int, height: int) -> np.ndarray:
    return np.array([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1.0]])


def on(rgba: np.ndarray, color=(255, 255, 255)) -> np.ndarray:
    """RGB on a background of one color."""
    alpha = rgba[..., 3:] / 255
    return np.rint(rgba[..., :3] * alpha + np.array(color) * (1 - alpha)).astype(np.uint8)


def opengl(pose: np.ndarray) -> list[list[float]]:
    """The pose as `transforms.json` has it."""
    return (pose @ np.diag([1.0, -1.0, -1.0, 1.0])).tolist()


def write_scene(
    folder: Path,
    poses: list[np.ndarray],
    K: np.ndarray,
    width: int,
    height: int,
    *,
    undistort: Undistort | None = None,
    center=(0.0, 0.0, 0.0),
    orthographic: bool = False,
    background: tuple[int, int, int] | None = None,
    **fields: object,
) -> dict:
    """Pictures and a `transforms.json` with these further top-level fields; returns its content."""
    folder.mkdir(parents=True, exist_ok=True)
    frames = []
    for i, pose in enumerate(poses):
        pixels = render(pose, K, width, height, undistort, orthographic, center)
        pixels = pixels if background is None else on(pixels, background)
        Image.fromarray(pixels).save(folder / f"{i:03d}.png")
        frames.append({"file_path": f"{i:03d}.png", "transform_matrix": opengl(pose)})
    lens = {"fl_x": K[0, 0], "fl_y": K[1, 1], "cx": K[0, 2], "cy": K[1, 2]}
    meta = {"w": width, "h": height, **lens, **fields, "frames": frames}
    write_json(folder, meta)
    return meta


def write_json(folder: Path, meta: dict) -> None:
    (folder / "transforms.json").write_text(json.dumps(meta), encoding="utf-8")


def write_colmap_binary(
    folder: Path,
    poses: list[np.ndarray],
    names: list[str],
    model: int,
    width: int,
    height: int,
    parameters: list[float],
    points: int = 2,
) -> None:
    """`cameras.bin` with one camera and `images.bin`, written from the format's description."""
    from scipy.spatial.transform import Rotation

    folder.mkdir(parents=True, exist_ok=True)
    camera = struct.pack("<QIiQQ", 1, 7, model, width, height)
    camera += struct.pack(f"<{len(parameters)}d", *parameters)
    (folder / "cameras.bin").write_bytes(camera)
    images = struct.pack("<Q", len(poses))
    for i, (pose, name) in enumerate(zip(poses, names, strict=True)):
        w2c = np.linalg.inv(pose)
        x, y, z, w = Rotation.from_matrix(w2c[:3, :3]).as_quat()
        images += struct.pack("<I7dI", i + 1, w, x, y, z, *w2c[:3, 3], 7)
        images += name.encode() + b"\0" + struct.pack("<Q", points)
        images += struct.pack("<ddQ", 1.5, 2.5, 3) * points
    (folder / "images.bin").write_bytes(images)


def silhouette_iou(a: np.ndarray, b: np.ndarray) -> float:
    """Of two soft masks with values in [0, 255]."""
    a, b = a.astype(float), b.astype(float)
    return float(np.minimum(a, b).sum() / np.maximum(a, b).sum())
