"""What a mesh file is read into: triangles with corner attributes, and their materials."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Float, Int, UInt8

from ..errors import InputError

#: More triangles than this, after instancing, are refused: they would fill the memory.
MAX_FACES = 50_000_000

Wrap = Literal["repeat", "mirror", "clamp"]


@dataclass(frozen=True)
class Texture:
    """An image on a surface, first row on top.

    pixels: sRGB with straight alpha, or without alpha.
    wrap: beyond the borders, along u and v.
    nearest: the nearest pixel is shown instead of a bilinear mixture.
    """

    pixels: UInt8[np.ndarray, "height width channel"]
    wrap: tuple[Wrap, Wrap] = ("repeat", "repeat")
    nearest: bool = False

    def sample(self, uv: Float[np.ndarray, "point 2"]) -> Float[np.ndarray, "point channel"]:
        """Values in [0, 1]. u runs right and v up; pixel centers lie at half pixels."""
        height, width, _ = self.pixels.shape
        x, y = uv[:, 0] * width - 0.5, (1 - uv[:, 1]) * height - 0.5
        if self.nearest:
            column = _wrapped(np.floor(x + 0.5), width, self.wrap[0])
            row = _wrapped(np.floor(y + 0.5), height, self.wrap[1])
            return self.pixels[row, column] / 255.0
        left, top = np.floor(x), np.floor(y)
        dx, dy = (x - left)[:, None], (y - top)[:, None]
        x0, x1 = (_wrapped(left + i, width, self.wrap[0]) for i in (0, 1))
        y0, y1 = (_wrapped(top + i, height, self.wrap[1]) for i in (0, 1))
        upper = self.pixels[y0, x0] * (1 - dx) + self.pixels[y0, x1] * dx
        lower = self.pixels[y1, x0] * (1 - dx) + self.pixels[y1, x1] * dx
        return (upper * (1 - dy) + lower * dy) / 255


def _wrapped(place: np.ndarray, size: int, wrap: Wrap) -> np.ndarray:
    """Whole pixel numbers brought into [0, size)."""
    if wrap == "clamp":
        return np.clip(place, 0, size - 1).astype(np.int64)
    if wrap == "mirror":
        place = np.mod(place, 2 * size)
        return np.minimum(place, 2 * size - 1 - place).astype(np.int64)
    return np.mod(place, size).astype(np.int64)


@dataclass(frozen=True)
class Material:
    """How a part looks. Colors are for display (sRGB), in [0, 1]; they multiply in linear light.

    color, texture: of the surface; both multiply. emissive_color, emissive_texture: light that
        the surface gives off, added to it; None: none.
    alpha: of the whole surface.
    cutoff: where the alpha (of surface, texture and vertices) lies below, there is a hole; 0: no
        holes, whatever the alpha.
    """

    color: tuple[float, float, float] = (1.0, 1.0, 1.0)
    texture: Texture | None = None
    emissive_color: tuple[float, float, float] | None = None
    emissive_texture: Texture | None = None
    alpha: float = 1.0
    cutoff: float = 0.0


@dataclass(frozen=True)
class MeshPart:
    """Triangles of one material, in the file's axes.

    normals: of the corners, unit length; None: the faces are flat.
    uv, emissive_uv: of the corners, for the material's two textures; u right, v up.
    colors: RGBA of the corners, for display, in [0, 1]; they multiply the material's color.
    material: None where the file gives none.
    """

    vertices: Float[np.ndarray, "vertex 3"]
    faces: Int[np.ndarray, "face 3"]
    normals: Float[np.ndarray, "face 3 3"] | None = None
    uv: Float[np.ndarray, "face 3 2"] | None = None
    emissive_uv: Float[np.ndarray, "face 3 2"] | None = None
    colors: Float[np.ndarray, "face 3 4"] | None = None
    material: Material | None = None

    def transformed(self, matrix: Float[np.ndarray, "4 4"]) -> MeshPart:
        """The part moved by an affine matrix; mirrored faces are turned to face outwards."""
        if np.array_equal(matrix, np.eye(4)):
            return self
        linear = matrix[:3, :3]
        vertices = self.vertices @ linear.T + matrix[:3, 3]
        mirrored = np.linalg.det(linear) < 0
        normals = self.normals
        if normals is not None:
            # the cofactor matrix is the inverse transposed times the determinant, and exists
            # for flattened parts, too
            a, b, c = linear.T
            cofactor = np.stack([np.cross(b, c), np.cross(c, a), np.cross(a, b)], axis=1)
            normals = unit(normals @ cofactor.T) * (-1 if mirrored else 1)
        part = replace(self, vertices=vertices, normals=normals)
        return part._reversed() if mirrored else part

    def _reversed(self) -> MeshPart:
        corner = {
            name: None if value is None else value[:, ::-1]
            for name, value in vars(self).items()
            if name in ("faces", "normals", "uv", "emissive_uv", "colors")
        }
        return replace(self, **corner)


def unit(vectors: Float[np.ndarray, "*n 3"]) -> Float[np.ndarray, "*n 3"]:
    """Vectors of length 1; zero stays zero."""
    length = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return vectors / np.maximum(length, 1e-30)


@dataclass
class LoadedMesh:
    """A mesh file's parts in world coordinates, and what of the file was not used.

    up: the file's upward axis.
    notes: short clauses for people, such as "the texture 'wood.png' is missing".
    files: the file itself and those that it names, there or not.
    """

    parts: list[MeshPart]
    up: Literal["y", "z"]
    notes: list[str] = field(default_factory=list)
    files: list[Path] = field(default_factory=list)


class Notes:
    """Collects notes, each once."""

    def __init__(self) -> None:
        self._texts: dict[str, None] = {}

    def add(self, text: str) -> None:
        self._texts.setdefault(text)

    def __iter__(self):
        return iter(self._texts)


def check_faces(faces: np.ndarray, vertex_count: int, where: str = "") -> None:
    """Raise InputError for vertex numbers outside of the vertices."""
    outside = faces[(faces < 0) | (faces >= vertex_count)]
    if len(outside):
        raise InputError(
            f"a face{where} names vertex {int(outside[0])}, but there are {vertex_count} vertices"
        )


def check_size(parts: Sequence[MeshPart]) -> None:
    """Raise InputError for more than `MAX_FACES` triangles."""
    count = sum(len(part.faces) for part in parts)
    if count > MAX_FACES:
        raise InputError(f"it has {count} triangles, the limit is {MAX_FACES}: simplify it first")
