"""Reading mesh files into one coloured mesh each, z up, and scaling them for the cameras."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import trimesh
from PIL import Image

from ..errors import MvdiffError
from ..rendering.surface import material_color

SUFFIXES = (".glb", ".gltf", ".obj", ".ply")
_Y_TO_Z = trimesh.transformations.rotation_matrix(np.pi / 2, [1, 0, 0])
#: Textures whose colour changes by less than this (of 255) across a face count as flat there.
_FLAT = 12

#: Diagonal of the bounding box under `normalise(scale="diagonal")`. The object then lies in
#: a ball of radius 0.6. A camera at distance 1.5 with half the field of view
#: atan(16/35) = 24.6° sees balls up to 1.5 sin(24.6°) = 0.624 whole, so every view of it,
#: from any direction, is whole with a margin of 4 %.
DIAGONAL = 1.2


def find_meshes(folder: str | Path) -> list[Path]:
    """Every GLB, glTF, OBJ and PLY file under `folder`, sorted.

    Raises MvdiffError when there is no such folder or no mesh in it.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise MvdiffError(f"no mesh folder at '{folder}': expected a folder of GLB, OBJ or PLY")
    found = sorted(
        p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES and not p.name.startswith(".")
    )
    if not found:
        raise MvdiffError(
            f"no meshes in '{folder}': expected files ending in {', '.join(SUFFIXES)}"
        )
    return found


def load_mesh(path: str | Path, up: str = "auto") -> trimesh.Trimesh:
    """Read a mesh with its colours, as one piece, z up.

    Scenes are flattened with their transforms. The result has vertex colours, one corner a
    vertex, or keeps its texture where the texture holds more than the corners can.
    Smooth normals of the file are kept as `vertex_attributes["normal"]`. Transparency is
    dropped: glass is opaque. Vertex colours are taken as displayed (sRGB), which is what files
    hold, though glTF calls them linear.

    up: the file's upward axis; "auto" is y for glTF (its standard) and z for other formats.
    Raises MvdiffError naming the file when it is missing, unreadable or has no faces.
    """
    path = Path(path)
    if up not in ("auto", "y", "z"):
        raise MvdiffError(f"up must be 'auto', 'y' or 'z', got '{up}'")
    if not path.is_file():
        raise MvdiffError(f"no mesh file at '{path}'")
    try:
        parts = _parts(trimesh.load(path, force="scene", process=False))
        mesh = _flatten(parts) if parts else None
    except Exception as error:  # parsers of broken files raise anything
        raise MvdiffError(
            f"cannot read the mesh '{path}': {error or type(error).__name__}"
        ) from error
    if mesh is None or not np.isfinite(mesh.vertices).all() or not mesh.extents.max() > 0:
        raise MvdiffError(f"the mesh '{path}' has no usable faces: expected a triangle mesh")
    if up == "y" or (up == "auto" and path.suffix.lower() in (".glb", ".gltf")):
        _transform(mesh, _Y_TO_Z)
    return mesh


def normalise(mesh: trimesh.Trimesh, scale: str = "diagonal") -> trimesh.Trimesh:
    """A copy centred on its bounding box's centre and scaled.

    scale: "extent" makes the largest side 1, as published; near corners of cubes then leave
        the picture. "diagonal" makes the bounding box's diagonal `DIAGONAL` (long thin
        things: the largest side 1, so that all lies in the unit cube of the volumes);
        every view at distance 1.5 is then whole.
    """
    if scale not in ("diagonal", "extent"):
        raise MvdiffError(f"scale must be 'diagonal' or 'extent', got '{scale}'")
    # The bounds of what is drawn: files carry stray vertices.
    used = np.asarray(mesh.vertices)[np.unique(mesh.faces)] if len(mesh.faces) else np.zeros((0, 3))
    size = used.max(axis=0) - used.min(axis=0) if len(used) else np.zeros(3)
    if not size.max() > 0:
        raise MvdiffError("cannot scale a mesh without extent: expected at least one triangle")
    factor = 1 / size.max()
    if scale == "diagonal":
        factor = min(factor, DIAGONAL / float(np.linalg.norm(size)))
    mesh = mesh.copy()
    mesh.apply_translation(-(used.max(axis=0) + used.min(axis=0)) / 2)
    mesh.apply_scale(factor)
    return mesh


def stretched(mesh: trimesh.Trimesh, factors: np.ndarray) -> trimesh.Trimesh:
    """A copy with x, y and z multiplied by `factors` (3 of them, > 0); normals follow."""
    mesh = mesh.copy()
    _transform(mesh, np.diag([*factors, 1.0]))
    return mesh


def _parts(scene: trimesh.Scene) -> list[trimesh.Trimesh]:
    """The scene's triangle meshes, in world coordinates, with their normals set aside."""
    parts = []
    for node in scene.graph.nodes_geometry:
        transform, name = scene.graph[node]
        mesh = scene.geometry[name]
        if not isinstance(mesh, trimesh.Trimesh) or not len(mesh.faces):
            continue
        # trimesh keeps a file's normals in its cache, which a copy loses, and would compute
        # averages otherwise.
        normals = mesh.vertex_normals if "vertex_normals" in mesh._cache else None
        mesh = mesh.copy()
        if normals is not None:
            mesh.vertex_attributes["normal"] = np.array(normals)
        _transform(mesh, transform)
        parts.append(mesh)
    return parts


def _transform(mesh: trimesh.Trimesh, matrix: np.ndarray) -> None:
    """Apply a 4×4 transform in place, to the set-aside normals as well."""
    normal = mesh.vertex_attributes.get("normal")
    mesh.apply_transform(matrix)
    if normal is not None:
        turned = normal @ np.linalg.inv(matrix[:3, :3])
        length = np.linalg.norm(turned, axis=1, keepdims=True)
        mesh.vertex_attributes["normal"] = turned / np.maximum(length, 1e-12)


def _flatten(parts: list[trimesh.Trimesh]) -> trimesh.Trimesh:
    """One mesh from parts of many materials."""
    colors = [_corner_colors(part) for part in parts]
    if any(c is None for c in colors):
        if len(parts) == 1:
            return parts[0]
        pairs = zip(parts, colors, strict=True)
        return trimesh.util.concatenate([p if c is None else _as_texture(p, c) for p, c in pairs])
    corners = np.concatenate([np.asarray(p.vertices)[p.faces] for p in parts])
    normals = np.concatenate([_corner_normals(p) for p in parts])
    return from_corners(corners, normals, np.concatenate(colors))


def from_corners(corners: np.ndarray, normals: np.ndarray, colors: np.ndarray) -> trimesh.Trimesh:
    """A mesh of separate triangles: positions, normals, colours in [0, 1], all (face, 3, 3)."""
    rgb = np.rint(colors.reshape(-1, 3) * 255).astype(np.uint8)
    return trimesh.Trimesh(
        vertices=corners.reshape(-1, 3),
        faces=np.arange(3 * len(corners)).reshape(-1, 3),
        vertex_colors=np.concatenate([rgb, np.full((len(rgb), 1), 255, np.uint8)], axis=1),
        vertex_attributes={"normal": normals.reshape(-1, 3)},
        process=False,
    )


def _as_texture(part: trimesh.Trimesh, colors: np.ndarray) -> trimesh.Trimesh:
    """The part with one colour a face, out of a palette picture of 4×4 swatches."""
    rgb = np.rint(colors.mean(axis=1) * 255).astype(np.uint8)
    palette, index = np.unique(rgb, axis=0, return_inverse=True)
    picture = Image.fromarray(np.repeat(np.repeat(palette[None], 4, axis=0), 4, axis=1))
    u = (np.repeat(index.reshape(-1), 3) + 0.5) / len(palette)
    visual = trimesh.visual.TextureVisuals(
        uv=np.stack([u, np.full_like(u, 0.5)], axis=1),
        material=trimesh.visual.material.PBRMaterial(baseColorTexture=picture),
    )
    corners = np.asarray(part.vertices)[part.faces].reshape(-1, 3)
    return trimesh.Trimesh(
        corners,
        np.arange(len(corners)).reshape(-1, 3),
        visual=visual,
        vertex_attributes={"normal": _corner_normals(part).reshape(-1, 3)},
        process=False,
    )


def _corner_normals(part: trimesh.Trimesh) -> np.ndarray:
    smooth = part.vertex_attributes.get("normal")
    if smooth is not None:
        return np.asarray(smooth)[part.faces]
    return np.repeat(part.face_normals[:, None], 3, axis=1)


def _corner_colors(part: trimesh.Trimesh) -> np.ndarray | None:
    """Colours (face, 3 corners, rgb) in [0, 1]; None when the texture has more detail."""
    visual, shape = part.visual, (len(part.faces), 3, 3)
    material = getattr(visual, "material", None)
    if material is None:
        if visual.kind == "face":
            return np.repeat(np.asarray(visual.face_colors)[:, None, :3] / 255, 3, axis=1)
        return np.asarray(visual.vertex_colors)[part.faces][..., :3] / 255
    image, base = material_color(material)
    if image is None or visual.uv is None:
        tint = visual.vertex_attributes.get("color")
        if tint is None:
            return np.broadcast_to(base, shape)
        return base * np.asarray(tint)[part.faces][..., :3] / 255
    # Palette textures: each face lies inside one swatch, or runs along a smooth ramp.
    uv = np.asarray(visual.uv)[part.faces]
    spots = np.array([[4, 1, 1], [1, 4, 1], [1, 1, 4], [2, 2, 2], [3, 3, 0], [0, 3, 3], [3, 0, 3]])
    at = np.einsum("sk,fki->fsi", spots / 6, uv)
    lookup = trimesh.visual.color.uv_to_interpolated_color
    seen = lookup(at.reshape(-1, 2), image).reshape(len(uv), len(spots), -1)[..., :3].astype(float)
    if (np.ptp(seen, axis=1).max(axis=1) > _FLAT).mean() > 0.02:
        return None
    return np.repeat(np.median(seen, axis=1)[:, None] / 255 * base, 3, axis=1)
