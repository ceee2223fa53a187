"""`Mesh`: coloured triangles in the library's z-up world, and their file formats."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import trimesh
from jaxtyping import Float, Int, UInt8

from ..errors import MvdiffError
from ..files import atomic
from ..rendering.surface import material_color, to_display, to_linear

FORMATS = (".glb", ".obj", ".ply", ".stl")

#: z-up world → glTF's y-up world: (x, y, z) becomes (x, z, -y), a rotation.
_TO_GLTF = np.array([[1.0, 0, 0, 0], [0, 0, 1, 0], [0, -1, 0, 0], [0, 0, 0, 1]])


@dataclass(frozen=True)
class Mesh:
    """A triangle mesh with a colour at each vertex.

    vertices: positions in world units, z up.
    faces: vertex numbers, counter-clockwise seen from outside.
    colors: sRGB, 8 bit.
    """

    vertices: Float[np.ndarray, "vertex 3"]
    faces: Int[np.ndarray, "face 3"]
    colors: UInt8[np.ndarray, "vertex 3"]

    def __post_init__(self) -> None:
        n = len(self.vertices)
        if self.vertices.shape != (n, 3) or self.colors.shape != (n, 3):
            raise MvdiffError(
                "a mesh needs vertices and colors of shape (vertex, 3); got "
                f"{self.vertices.shape} and {self.colors.shape}"
            )
        if self.faces.ndim != 2 or self.faces.shape[1] != 3:
            raise MvdiffError(f"a mesh needs faces of shape (face, 3), got {self.faces.shape}")
        if not np.isfinite(self.vertices).all():
            raise MvdiffError("the mesh has NaN or infinite vertices: the reconstruction failed")

    def to_trimesh(self) -> trimesh.Trimesh:
        """The same mesh with vertex colours, z up, vertices in the same order."""
        return trimesh.Trimesh(self.vertices, self.faces, vertex_colors=self.colors, process=False)

    @staticmethod
    def from_trimesh(mesh: trimesh.Trimesh | trimesh.Scene) -> Mesh:
        """From a z-up mesh or scene; textures and materials become vertex colours.

        Raises MvdiffError when there are no triangles.
        """
        parts = mesh.dump() if hasattr(mesh, "dump") else [mesh]
        parts = [part for part in parts if len(getattr(part, "faces", ()))]
        if not parts:
            raise MvdiffError("the file holds no triangles: expected a mesh, not lines or points")
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

        Raises MvdiffError when the file is missing, unreadable or without triangles.
        """
        path = Path(path)
        if not path.is_file():
            raise MvdiffError(f"no mesh at '{path}': expected a {_listing()} file")
        try:
            scene = trimesh.load_scene(path)
        except Exception as error:  # trimesh's readers raise whatever their parsers do
            raise MvdiffError(f"cannot read the mesh '{path}': {error}") from error
        if path.suffix.lower() in (".glb", ".gltf"):
            for part in scene.geometry.values():
                if "color" in getattr(part.visual, "vertex_attributes", {}):
                    linear = part.visual.vertex_attributes["color"]
                    part.visual = trimesh.visual.ColorVisuals(part, vertex_colors=_display(linear))
            scene.apply_transform(np.linalg.inv(_TO_GLTF))
        return Mesh.from_trimesh(scene)

    def export(self, path: str | Path) -> Path:
        """Write GLB (turned to glTF's y-up), OBJ, PLY or STL (no colours), chosen by suffix.

        The file appears whole or not at all. Raises MvdiffError for any other suffix.
        """
        path = Path(path)
        suffix = path.suffix.lower()
        if suffix not in FORMATS:
            raise MvdiffError(f"cannot write a mesh as '{path.name}': choose {_listing()}")
        with atomic(path) as part:
            if suffix == ".glb":
                part.write_bytes(self._glb())
            else:
                self.to_trimesh().export(part, file_type=suffix[1:])
        return path

    def simplify(self, faces: int) -> Mesh:
        """About `faces` triangles at most (quadric edge collapse), coloured like the nearest."""
        import fast_simplification
        from scipy.spatial import cKDTree

        if faces < 4:
            raise MvdiffError(f"a closed mesh has at least 4 faces, got faces={faces}")
        if len(self.faces) <= faces:
            return self
        points, triangles = fast_simplification.simplify(
            self.vertices.astype(np.float32), self.faces.astype(np.int32), target_count=faces
        )
        nearest = cKDTree(self.vertices).query(points)[1]
        return Mesh(points.astype(np.float32), triangles.astype(np.int64), self.colors[nearest])

    def _glb(self) -> bytes:
        from trimesh.exchange.gltf import export_glb

        # glTF multiplies COLOR_0 in linear light; 16 bits keep dark colours apart. The default
        # material of glTF is a metal, which viewers show nearly black.
        linear = (to_linear(self.colors / 255) * 65535).round().astype(np.uint16)
        rgba = np.concatenate([linear, np.full_like(linear[:, :1], 65535)], axis=1)
        mesh = trimesh.Trimesh(self.vertices, self.faces, process=False)
        material = trimesh.visual.material.PBRMaterial(metallicFactor=0.0, roughnessFactor=0.9)
        mesh.visual = trimesh.visual.TextureVisuals(material=material)
        mesh.vertex_attributes["_color"] = rgba
        mesh.apply_transform(_TO_GLTF)
        scene = trimesh.Scene(mesh)
        return export_glb(scene, include_normals=True, tree_postprocessor=_name_colors)


def _name_colors(tree: dict) -> None:
    """Turn trimesh's custom attribute into glTF's normalised vertex colour."""
    for mesh in tree["meshes"]:
        for primitive in mesh["primitives"]:
            accessor = primitive["attributes"].pop("_color")
            primitive["attributes"]["COLOR_0"] = accessor
            tree["accessors"][accessor]["normalized"] = True


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


def _display(linear: np.ndarray) -> UInt8[np.ndarray, "vertex channel"]:
    """glTF vertex colours (floats or normalised integers, linear light) as 8-bit sRGB."""
    if linear.dtype.kind == "u":
        linear = linear / np.iinfo(linear.dtype).max
    return np.rint(to_display(linear.clip(0, 1)) * 255).astype(np.uint8)


def _listing() -> str:
    return ", ".join(name[1:].upper() for name in FORMATS[:-1]) + f" or {FORMATS[-1][1:].upper()}"
