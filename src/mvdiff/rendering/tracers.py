"""First hits of rays on triangles: Embree, or a slower tracer in numpy with the same answers."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

#: Origins (ray, 3) or one for all (1, 3), and directions (ray, 3) → face index (-1 for none)
#: and the weights u, v of the face's second and third corner, each (ray,).
Tracer = Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray, np.ndarray]]

#: Rays the numpy tracer follows at once; bounds its memory.
_CHUNK = 1 << 14
_LEAF = 8


def build_tracer(corners: np.ndarray) -> Tracer:
    """The fastest tracer at hand for triangles (face, corner, 3)."""
    try:
        return embree_tracer(corners)
    except ImportError:
        return numpy_tracer(corners)


def embree_tracer(corners: np.ndarray) -> Tracer:
    """Embree through embreex; ImportError when the package is missing."""
    from embreex import rtcore_scene
    from embreex.mesh_construction import TriangleMesh

    # Embree works in float32: bring the mesh near the origin, to a size of about 100.
    low, high = corners.min(axis=(0, 1)), corners.max(axis=(0, 1))
    middle, scale = (low + high) / 2, 100 / max(float((high - low).max()), 1e-30)
    scene = rtcore_scene.EmbreeScene(robust=True)
    points = np.ascontiguousarray((corners.reshape(-1, 3) - middle) * scale, dtype=np.float32)
    TriangleMesh(scene, points, np.arange(len(points), dtype=np.int32).reshape(-1, 3))

    def trace(origins: np.ndarray, directions: np.ndarray):
        if not len(directions):
            return np.zeros(0, np.int32), np.zeros(0, np.float32), np.zeros(0, np.float32)
        start = ((origins - middle) * scale).astype(np.float32)
        start = np.ascontiguousarray(np.broadcast_to(start, directions.shape))
        way = np.ascontiguousarray(directions, dtype=np.float32)
        found = scene.run(start, way, output=1)
        return found["primID"], found["u"], found["v"]

    return trace


def numpy_tracer(corners: np.ndarray) -> Tracer:
    """A binary tree of boxes over the triangles in Z-order, walked level by level."""
    corners = np.asarray(corners, dtype=np.float64)
    order = _z_order(corners.mean(axis=1))
    depth = max(0, int(np.ceil(np.log2(len(order) / _LEAF))))
    # Repeating the last triangle fills the leaves, so that the tree is complete.
    padded = order[np.minimum(np.arange(_LEAF << depth), len(order) - 1)].reshape(-1, _LEAF)
    boxes = [(corners[padded].min(axis=(1, 2)), corners[padded].max(axis=(1, 2)))]
    while len(boxes[0][0]) > 1:
        low, high = boxes[0]
        boxes.insert(0, (np.minimum(low[::2], low[1::2]), np.maximum(high[::2], high[1::2])))

    def trace(origins: np.ndarray, directions: np.ndarray):
        origins = np.broadcast_to(origins, directions.shape)
        face = np.full(len(origins), -1, dtype=np.int32)
        uv = np.zeros((2, len(origins)), dtype=np.float32)
        for start in range(0, len(origins), _CHUNK):
            part = slice(start, start + _CHUNK)
            rays = origins[part].astype(np.float64), directions[part].astype(np.float64)
            face[part], uv[:, part] = _walk(*rays, boxes, padded, corners)
        return face, uv[0], uv[1]

    return trace


def _walk(origins, directions, boxes, leaves, corners) -> tuple[np.ndarray, np.ndarray]:
    """Nearest face of each ray and its weights (2, ray)."""
    ray, node = np.arange(len(origins)), np.zeros(len(origins), dtype=np.int64)
    inverse = 1 / np.where(np.abs(directions) < 1e-30, 1e-30, directions)
    for level, (low, high) in enumerate(boxes):
        near = (low[node] - origins[ray]) * inverse[ray]
        far = (high[node] - origins[ray]) * inverse[ray]
        enter, leave = np.minimum(near, far).max(axis=1), np.maximum(near, far).min(axis=1)
        # Rounding must not lose rays that graze a flat box.
        met = (leave >= 0) & (enter <= leave + 1e-9 * (1 + np.abs(leave)))
        ray, node = ray[met], node[met]
        if level < len(boxes) - 1:
            ray, node = np.repeat(ray, 2), np.repeat(2 * node, 2) + np.tile([0, 1], len(node))
    face = leaves[node].reshape(-1)
    ray = np.repeat(ray, _LEAF)
    t, u, v = _meet(origins[ray], directions[ray], corners[face])
    found = np.flatnonzero(t > 0)
    # The nearest hit comes last among a ray's, and the last assignment stays.
    found = found[np.argsort(-t[found], kind="stable")]
    nearest, uv = np.full(len(origins), -1, dtype=np.int32), np.zeros((2, len(origins)))
    nearest[ray[found]] = face[found]
    uv[:, ray[found]] = u[found], v[found]
    return nearest, uv


def _meet(origins, directions, corners) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Ray parameter (−1 for a miss) and weights, Möller & Trumbore 1997, both sides."""
    a, ab, ac = corners[:, 0], corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    p = np.cross(directions, ac)
    det = np.einsum("ni,ni->n", ab, p)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        s = origins - a
        u = np.einsum("ni,ni->n", s, p) / det
        q = np.cross(s, ab)
        v = np.einsum("ni,ni->n", directions, q) / det
        t = np.einsum("ni,ni->n", ac, q) / det
        inside = (u >= -1e-9) & (v >= -1e-9) & (u + v <= 1 + 1e-9)
    return np.where(inside, t, -1.0), u, v


def _z_order(points: np.ndarray) -> np.ndarray:
    """Indices that sort points along a Z-order curve, 10 bits an axis."""
    low, size = points.min(axis=0), np.ptp(points, axis=0).max()
    cell = ((points - low) / max(float(size), 1e-30) * 1023).astype(np.int64)
    code = np.zeros(len(points), dtype=np.int64)
    for bit in range(10):
        for axis in range(3):
            code |= ((cell[:, axis] >> bit) & 1) << (3 * bit + axis)
    return np.argsort(code, kind="stable")
