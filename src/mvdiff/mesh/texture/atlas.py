"""Unwrapping: a mesh's faces laid flat on a square picture, and the surface point of each texel."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from ...errors import InputError
from ...rendering.tracers import build_tracer

#: Texels between charts, so that bilinear lookup and two levels of mip-maps mix no charts.
PADDING = 4


@dataclass(frozen=True)
class Texels:
    """The texels of a square picture whose center lies in a chart.

    index: row * size + column, row 0 on top (v = 1).
    face: of the mesh. weights: of the face's three corners, summing to 1.
    """

    size: int
    index: Int[np.ndarray, "texel"]
    face: Int[np.ndarray, "texel"]
    weights: Float[np.ndarray, "texel 3"]

    def __getitem__(self, part: slice) -> Texels:
        return Texels(self.size, self.index[part], self.face[part], self.weights[part])

    def interpolate(self, corners: Float[np.ndarray, "face 3 n"]) -> Float[np.ndarray, "texel n"]:
        """Values at the texels from values at the faces' corners."""
        first, second, third = self.weights.T[..., None].astype(corners.dtype)
        a, b, c = corners[self.face].swapaxes(0, 1)
        return first * a + second * b + third * c


def unwrap(
    vertices: Float[np.ndarray, "vertex 3"],
    faces: Int[np.ndarray, "face 3"],
    size: int,
) -> Float[np.ndarray, "face 3 2"]:
    """Texture coordinates in [0, 1] of every face's corners, v up; charts do not overlap.

    size: side of the texture in texels, by which the space between charts is chosen.
    Made by xatlas; about 2.5 s for 20,000 faces, and more than twice that for twice as many.
    """
    try:
        import xatlas
    except ImportError as error:
        raise InputError("a texture needs the package xatlas: pip install xatlas") from error

    # xatlas' tolerances are absolute: bring every mesh to the same size.
    low, high = vertices.min(axis=0), vertices.max(axis=0)
    unit = (vertices - low) / max(float((high - low).max()), 1e-30)
    atlas = xatlas.Atlas()
    atlas.add_mesh(unit.astype(np.float32), faces.astype(np.uint32))
    pack = xatlas.PackOptions()
    pack.resolution, pack.padding, pack.bilinear = size, PADDING, True
    atlas.generate(pack_options=pack)
    _, corners, uv = atlas[0]
    # One scale for both axes keeps texels square.
    uv = uv * ([atlas.width, atlas.height] / np.float64(max(atlas.width, atlas.height)))
    return uv[corners.astype(np.int64)].astype(np.float32)


def rasterise(uv: Float[np.ndarray, "face 3 2"], size: int) -> Texels:
    """Which point of which face every texel of a `size`² picture shows."""
    flat = np.concatenate([uv, np.zeros_like(uv[..., :1])], axis=2).astype(np.float64)
    across = np.cross(flat[:, 1] - flat[:, 0], flat[:, 2] - flat[:, 0])[:, 2]
    kept = np.flatnonzero(np.abs(across) > 0)
    if not len(kept):
        raise InputError("the mesh cannot be unwrapped: all its faces are degenerate")
    trace = build_tracer(flat[kept])
    center = (np.arange(size) + 0.5) / size
    found = []
    for start in range(0, size, 256):  # in bands, which bounds the memory
        rows = slice(start, start + 256)
        u, v = np.meshgrid(center, 1 - center[rows])
        origins = np.stack([u, v, np.ones_like(u)], axis=-1).reshape(-1, 3)
        face, b, c = trace(origins, np.tile([0.0, 0.0, -1.0], (len(origins), 1)))
        hit = np.flatnonzero(face >= 0)
        found.append((start * size + hit, kept[face[hit]], b[hit], c[hit]))
    index, face, b, c = (np.concatenate(x) for x in zip(*found, strict=True))
    weights = np.stack([1 - b - c, b, c], axis=1).astype(np.float32)
    return Texels(size, index, face, weights)
