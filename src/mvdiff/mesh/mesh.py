"""`Mesh`: colored, perhaps textured triangles in the library's z-up world."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import trimesh
from jaxtyping import Float, Int, UInt8
from PIL import Image

from ..errors import InputError
from ..rendering.surface import material_color, to_display, to_linear
from .io import FORMATS, read, write

__all__ = ["FORMATS", "Mesh", "Texture"]


@dataclass(frozen=True)
class Texture:
    """A picture wrapped around a mesh.

    uv: of every face's corners, in the picture's widths: u to the right, v up from the
        bottom edge; the center of the top-left texel of a picture n wide lies at
        u = 0.5/n, v = 1 − 0.5/n, as in glTF and OBJ. Corners, not vertices, carry them, so
        that seams split no vertices.
    image: sRGB, 8 bit, first row on top.
    """

    uv: Float[np.ndarray, "face 3 2"]
    image: UInt8[np.ndarray, "height width 3"]

    def at(self, uv: Float[np.ndarray, "*points 2"]) -> UInt8[np.ndarray, "*points 3"]:
        """Bilinear colors; the picture repeats beyond its borders."""
        height, width = self.image.shape[:2]
        place = np.stack([uv[..., 0] * width, (1 - uv[..., 1]) * height], axis=-1) - 0.5
        low = np.floor(place).astype(np.int64)
        x, y = np.moveaxis(place - low, -1, 0)[..., None]
        out = np.zeros((*uv.shape[:-1], 3))
        for dx, dy, share in (
            (0, 0, (1 - x) * (1 - y)),
            (1, 0, x * (1 - y)),
            (0, 1, (1 - x) * y),
            (1, 1, x * y),
        ):
            out += share * self.image[(low[..., 1] + dy) % height, (low[..., 0] + dx) % width]
        return np.rint(out).astype(np.uint8)


@dataclass(frozen=True)
class Mesh:
    """A triangle mesh with a color at each vertex, and a texture where one was baked.

    vertices: positions in world units (those of the cameras; the published rigs show a cube
        of side 1), z up.
    faces: vertex numbers, counter-clockwise seen from outside.
    colors: sRGB, 8 bit; with a texture they are its coarse stand-in, for formats without.
    texture: what the surface looks like where it is not None.
    """

    vertices: Float[np.ndarray, "vertex 3"]
    faces: Int[np.ndarray, "face 3"]
    colors: UInt8[np.ndarray, "vertex 3"]
    texture: Texture | None = None

    def __post_init__(self) -> None:
        n = len(self.vertices)
        if self.vertices.shape != (n, 3) or self.colors.shape != (n, 3):
            raise InputError(
                "a mesh needs vertices and colors of shape (vertex, 3); got "
                f"{self.vertices.shape} and {self.colors.shape}"
            )
        if self.faces.ndim != 2 or self.faces.shape[1] != 3:
            raise InputError(f"a mesh needs faces of shape (face, 3), got {self.faces.shape}")
        if self.texture is not None and self.texture.uv.shape != (len(self.faces), 3, 2):
            raise InputError(
                f"a texture of {len(self.faces)} faces needs uv of shape "
                f"{(len(self.faces), 3, 2)}, got {self.texture.uv.shape}"
            )
        if not np.isfinite(self.vertices).all():
            raise InputError("the mesh has NaN or infinite vertices: the reconstruction failed")

    def to_trimesh(self, *, textured: bool = True) -> trimesh.Trimesh:
        """The same mesh for trimesh, z up.

        Without a texture, or with `textured` off: vertex colors, vertices in the same order.
        With one: vertices are split at the texture's seams and keep the smooth normals of
        before, so `is_watertight` looks at the wrong thing; ask with `textured` off.
        """
        plain = trimesh.Trimesh(self.vertices, self.faces, process=False)
        if self.texture is None or not textured:
            plain.visual = trimesh.visual.ColorVisuals(plain, vertex_colors=self.colors)
            return plain
        vertex, uv, faces = self._split()
        material = trimesh.visual.material.PBRMaterial(
            baseColorTexture=Image.fromarray(self.texture.image),
            metallicFactor=0.0,
            roughnessFactor=0.9,
        )
        return trimesh.Trimesh(
            self.vertices[vertex],
            faces,
            vertex_normals=np.array(plain.vertex_normals)[vertex],
            visual=trimesh.visual.TextureVisuals(uv=uv, material=material),
            process=False,
        )

    def _split(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Vertex number and uv of every different corner, and the faces between them."""
        keys = np.concatenate(
            [self.faces.reshape(-1, 1).astype(np.float64), self.texture.uv.reshape(-1, 2)], axis=1
        )
        corners, faces = np.unique(keys, axis=0, return_inverse=True)
        return corners[:, 0].astype(np.int64), corners[:, 1:], faces.reshape(-1, 3)

    @staticmethod
    def from_trimesh(mesh: trimesh.Trimesh | trimesh.Scene) -> Mesh:
        """From a z-up mesh or scene.

        A single textured part keeps its texture, and its vertices of equal position become
        one. Of scenes with several parts, textures and materials become vertex colors.
        Raises InputError when there are no triangles.
        """
        parts = mesh.dump() if hasattr(mesh, "dump") else [mesh]
        parts = [part for part in parts if len(getattr(part, "faces", ()))]
        if not parts:
            raise InputError("the file holds no triangles: expected a mesh, not lines or points")
        if len(parts) == 1 and (texture := _texture(parts[0])) is not None:
            return _welded(parts[0], texture)
        first = np.cumsum([0] + [len(part.vertices) for part in parts[:-1]])
        faces = [np.asarray(part.faces) + n for part, n in zip(parts, first, strict=True)]
        return Mesh(
            np.concatenate([part.vertices for part in parts]).astype(np.float32),
            np.concatenate(faces).astype(np.int64),
            np.concatenate([_vertex_colors(part) for part in parts]),
        )

    @staticmethod
    def load(path: str | Path) -> Mesh:
        """Read a file trimesh knows; glTF is turned from y-up to z-up, the rest taken as z-up.

        Raises InputError when the file is missing, unreadable or without triangles.
        """
        return Mesh.from_trimesh(read(path))

    def export(self, path: str | Path) -> Path:
        """Write GLB, OBJ, PLY or STL, chosen by suffix; see `mesh_files.write`."""
        if not isinstance(path, str | Path):
            raise InputError(
                f"a mesh is written to a path such as 'mesh.glb', got {type(path).__name__}"
            )
        return write(self, path)

    def simplify(self, faces: int) -> Mesh:
        """About `faces` triangles at most (quadric edge collapse), colored like the nearest.

        A mesh that is small enough is returned as it is; otherwise a texture is lost, and must
        be baked anew.
        """
        import fast_simplification
        from scipy.spatial import cKDTree

        if faces < 4:
            raise InputError(f"a closed mesh has at least 4 faces, got max_faces={faces}")
        if len(self.faces) <= faces:
            return self
        points, triangles = fast_simplification.simplify(
            self.vertices.astype(np.float32), self.faces.astype(np.int32), target_count=faces
        )
        used, triangles = np.unique(_without_flaps(triangles), return_inverse=True)
        points, triangles = points[used], triangles.reshape(-1, 3).astype(np.int64)
        nearest = cKDTree(self.vertices).query(points)[1]
        return Mesh(points.astype(np.float32), triangles, self.colors[nearest])


def _without_flaps(faces: Int[np.ndarray, "face 3"]) -> Int[np.ndarray, "kept 3"]:
    """Faces less those that lie on each other: collapsing edges folds a few, and then one edge
    belongs to four faces and the mesh no longer counts as closed."""
    _, which, count = np.unique(
        np.sort(faces, axis=1), axis=0, return_inverse=True, return_counts=True
    )
    kept = faces[count[which.reshape(-1)] == 1]
    return kept if len(kept) else faces


def _texture(mesh: trimesh.Trimesh) -> Texture | None:
    visual = mesh.visual
    if not hasattr(visual, "material") or getattr(visual, "uv", None) is None:
        return None
    image, base = material_color(visual.material)
    if image is None:
        return None
    pixels = np.array(image)
    if base.min() < 1:  # the material's factor, which multiplies in linear light
        light = to_linear(np.arange(256)[:, None] / 255) * to_linear(base)
        table = np.rint(255 * to_display(light)).astype(np.uint8)
        pixels = np.stack([table[pixels[..., i], i] for i in range(3)], axis=-1)
    return Texture(np.asarray(visual.uv)[np.asarray(mesh.faces)].astype(np.float32), pixels)


def _welded(mesh: trimesh.Trimesh, texture: Texture) -> Mesh:
    """Vertices that files split at seams become one again, colored as the texture there."""
    points = np.asarray(mesh.vertices, np.float32)
    vertices, number = np.unique(points, axis=0, return_inverse=True)
    faces = number.reshape(-1)[np.asarray(mesh.faces)]
    count = np.bincount(faces.ravel(), minlength=len(vertices)).clip(min=1)
    corners = texture.at(texture.uv).reshape(-1, 3)
    sums = [np.bincount(faces.ravel(), c, minlength=len(vertices)) for c in corners.T]
    colors = np.rint(np.stack(sums, axis=1) / count[:, None]).astype(np.uint8)
    return Mesh(vertices, faces.astype(np.int64), colors, texture)


def _vertex_colors(mesh: trimesh.Trimesh) -> UInt8[np.ndarray, "vertex 3"]:
    visual = mesh.visual
    if hasattr(visual, "material"):
        image, base = material_color(visual.material)
        colors = np.rint(base * 255)
        if image is not None and visual.uv is not None:
            colors = visual.to_color().vertex_colors[:, :3]
    else:
        colors = visual.vertex_colors[:, :3]
    return np.broadcast_to(colors, (len(mesh.vertices), 3)).astype(np.uint8)
