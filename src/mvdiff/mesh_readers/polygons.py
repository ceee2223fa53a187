"""Polygons to triangles, concave ones included."""

from __future__ import annotations

import numpy as np


def triangulate(points: np.ndarray, sizes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Corners (triangle, 3) of triangles, and the polygon that each comes from.

    points: positions of all corners (corner, 3), polygon after polygon. sizes: corners of each
    polygon; those of fewer than 3 give nothing.
    Convex polygons become fans around their first corner; others are cut ear by ear.
    """
    start = np.concatenate([[0], np.cumsum(sizes)[:-1]]).astype(np.int64)
    triangles, owners = [], []
    for size in np.unique(sizes[sizes >= 3]):
        polygons = np.flatnonzero(sizes == size)
        corners = start[polygons][:, None] + np.arange(size)
        i = np.arange(size - 2)
        fan = np.stack([np.zeros_like(i), i + 1, i + 2], axis=1)
        faces = corners[:, fan]
        if size > 3:
            p = points[faces]
            across = np.cross(p[:, :, 1] - p[:, :, 0], p[:, :, 2] - p[:, :, 0])
            whole = across.sum(axis=1, keepdims=True)
            with np.errstate(invalid="ignore"):
                concave = (
                    np.einsum("pti,pti->pt", across, np.broadcast_to(whole, across.shape)) < 0
                ).any(axis=1)
            for place in np.flatnonzero(concave):
                faces[place] = corners[place][_cut_ears(points[corners[place]], whole[place, 0])]
        triangles.append(faces.reshape(-1, 3))
        owners.append(np.repeat(polygons, size - 2))
    if not triangles:
        return np.zeros((0, 3), np.int64), np.zeros(0, np.int64)
    owner = np.concatenate(owners)
    order = np.argsort(owner, kind="stable")
    return np.concatenate(triangles)[order], owner[order]


def _cut_ears(polygon: np.ndarray, normal: np.ndarray) -> np.ndarray:
    """Triangles (size − 2, 3) of one polygon (size, 3) by cutting ears."""
    length = np.linalg.norm(normal)
    if not np.isfinite(polygon).all() or not length > 0:
        i = np.arange(len(polygon) - 2)
        return np.stack([np.zeros_like(i), i + 1, i + 2], axis=1)
    axis = int(np.argmax(np.abs(normal)))
    flat = np.delete(polygon, axis, axis=1)
    if (normal[axis] < 0) != (axis == 1):
        flat = flat * [1, -1]  # counter-clockwise
    left, triangles = list(range(len(flat))), []
    while len(left) > 3:
        for k in range(len(left)):
            a, b, c = left[k - 1], left[k], left[(k + 1) % len(left)]
            others = [flat[j] for j in left if j not in (a, b, c)]
            if _turn(flat[a], flat[b], flat[c]) > 0 and not any(
                _is_inside(point, flat[a], flat[b], flat[c]) for point in others
            ):
                break
        else:
            a, b, c = left[0], left[1], left[2]  # it crosses itself
            k = 1
        triangles.append([a, b, c])
        left.pop(k)
    return np.array([*triangles, left])


def _turn(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> float:
    return float((b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0]))


def _is_inside(point: np.ndarray, a: np.ndarray, b: np.ndarray, c: np.ndarray) -> bool:
    return min(_turn(a, b, point), _turn(b, c, point), _turn(c, a, point)) >= 0
