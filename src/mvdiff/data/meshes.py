"""Reading mesh files into one colored mesh each, z up, and scaling them for the cameras."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import trimesh

from ..errors import ConfigError, InputError
from ..mesh_readers import SUFFIXES, LoadedMesh, Material, MeshPart, read_mesh_file
from ..rendering.surface import SurfaceVisuals, has_holes, point_colors
from ..utils.color_space import multiply

_Y_TO_Z = trimesh.transformations.rotation_matrix(np.pi / 2, [1, 0, 0])
#: Textures whose color changes by less than this (of 255) across a face count as flat there.
_FLAT = 12
#: Textures that change more on at most this share of a part's faces and area are taken for flat.
_MAX_DETAILED = 0.02
#: Barycentric coordinates of the spots of a face that are looked at.
_SPOTS = np.array([[4, 1, 1], [1, 4, 1], [1, 1, 4], [2, 2, 2], [3, 3, 0], [0, 3, 3], [3, 0, 3]]) / 6
_ODD_SPOTS = np.random.default_rng(0).dirichlet([1, 1, 1], size=6)
#: Brightness of meshes without colors, as trimesh shows them.
_UNCOLORED = 102 / 255
#: 3D formats that are not read, which a folder may hold.
# fmt: off
_OTHER_FORMATS = frozenset((
    ".3ds", ".3mf", ".abc", ".blend", ".c4d", ".ctm", ".dae", ".drc", ".dxf", ".fbx",
    ".igs", ".iges", ".las", ".laz", ".lwo", ".ma", ".max", ".mb", ".msh", ".pcd", ".skp",
    ".splat", ".spz", ".step", ".stp", ".usd", ".usda", ".usdc", ".usdz", ".vox", ".vrm",
    ".vtk", ".vtp", ".wrl", ".x3d", ".xyz", ".zip", ".gz", ".tar", ".7z", ".rar",
))
# fmt: on

#: Diagonal of the bounding box under `normalize_to_rig`. The object then lies in
#: a ball of radius 0.6. A camera at distance 1.5 with half the field of view
#: atan(16/35) = 24.6° sees balls up to 1.5 sin(24.6°) = 0.624 whole, so every view of it,
#: from any direction, is whole with a margin of 4 %.
DIAGONAL = 1.2


def find_meshes(folder: str | Path) -> list[Path]:
    """Every mesh file under `folder` that can be read (`mesh_readers.SUFFIXES`), sorted.

    Raises InputError when there is no such folder or no mesh in it.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"no mesh folder at '{folder}': expected a folder of GLB, OBJ, PLY or STL")
    meshes = sorted(path for path in _files(folder) if path.suffix.lower() in SUFFIXES)
    if not meshes:
        others = passed_over(folder)
        reason = f"; {_count_formats(others)} are not read: convert them to GLB" if others else ""
        raise InputError(
            f"no meshes in '{folder}': expected files ending in {', '.join(SUFFIXES)}{reason}"
        )
    return meshes


def passed_over(folder: str | Path) -> list[Path]:
    """Files under `folder` in 3D formats that are not read, and archives; sorted."""
    return sorted(path for path in _files(Path(folder)) if path.suffix.lower() in _OTHER_FORMATS)


def describe_passed_over(folder: str | Path) -> str | None:
    """One sentence on the files of `passed_over`; None when there are none."""
    others = passed_over(folder)
    if not others:
        return None
    return (
        f"{_count_formats(others)} in '{folder}' {'is' if len(others) == 1 else 'are'} not read, "
        f"the first is '{others[0].relative_to(folder)}': convert to GLB to use them"
    )


def _files(folder: Path) -> list[Path]:
    return [p for p in folder.rglob("*") if not p.name.startswith(".") and not p.is_dir()]


def _count_formats(paths: list[Path]) -> str:
    suffixes = sorted({path.suffix.lower() for path in paths})
    return f"{len(paths)} {'file' if len(paths) == 1 else 'files'} ({', '.join(suffixes)})"


def load_mesh(path: str | Path, up: str = "auto") -> trimesh.Trimesh:
    """Read a mesh with its colors, as one piece, z up.

    Scenes are flattened with their transforms. Every corner is a vertex of its own. The result
    has vertex colors, or `SurfaceVisuals` where textures hold more than the corners can, or
    have holes. Smooth normals of the file are kept as `vertex_attributes["normal"]`.
    Cutouts (glTF's alphaMode MASK, an OBJ's map_d) and nearly invisible parts of blended surfaces
    are holes; other transparency is dropped: glass is opaque. What of the file was not used is
    listed, one clause each, in `metadata["notes"]`, and the files that it consists of in
    `metadata["files"]`.

    Vertex colors are linear light in glTF, except the 8-bit ones that trimesh writes, and as
    displayed (sRGB) elsewhere.

    up: the file's upward axis; "auto" is y for glTF (its standard) and z for other formats.
    Raises InputError naming the file when it is missing, unreadable or has no faces.
    """
    path = Path(path)
    if up not in ("auto", "y", "z"):
        raise InputError(f"up must be 'auto', 'y' or 'z', got '{up}'")
    loaded = read_mesh_file(path)
    mesh = flatten(loaded)
    if not mesh.extents.max() > 0:
        raise InputError(f"the mesh '{path}' has no usable faces: expected a triangle mesh")
    if up == "y" or (up == "auto" and loaded.up == "y"):
        _transform(mesh, _Y_TO_Z)
    mesh.metadata.update(notes=list(loaded.notes), files=[str(file) for file in loaded.files])
    return mesh


def normalize_to_rig(mesh: trimesh.Trimesh, normalization: str = "diagonal") -> trimesh.Trimesh:
    """A copy centered on its bounding box's center and scaled.

    normalization: "extent" makes the largest side 1, as SyncDreamer; near corners of cubes then
        leave the image. "diagonal" makes the bounding box's diagonal `DIAGONAL` (long thin
        things: the largest side 1, so that all lies in the unit cube of the volumes);
        every view at distance 1.5 is then whole.
    """
    if normalization not in ("diagonal", "extent"):
        raise ConfigError(f"normalization must be 'diagonal' or 'extent', got '{normalization}'")
    # The bounds of what is drawn: files carry stray vertices.
    used = np.asarray(mesh.vertices)[np.unique(mesh.faces)] if len(mesh.faces) else np.zeros((0, 3))
    size = used.max(axis=0) - used.min(axis=0) if len(used) else np.zeros(3)
    if not size.max() > 0:
        raise InputError("cannot scale a mesh without extent: expected at least one triangle")
    factor = 1 / size.max()
    if normalization == "diagonal":
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


def _transform(mesh: trimesh.Trimesh, matrix: np.ndarray) -> None:
    """Apply a 4×4 transform in place, to the set-aside normals as well."""
    normal = mesh.vertex_attributes.get("normal")
    mesh.apply_transform(matrix)
    if normal is not None:
        turned = normal @ np.linalg.inv(matrix[:3, :3])
        length = np.linalg.norm(turned, axis=1, keepdims=True)
        mesh.vertex_attributes["normal"] = turned / np.maximum(length, 1e-12)


def flatten(loaded: LoadedMesh) -> trimesh.Trimesh:
    """One mesh from parts of many materials, in the file's axes."""
    visible = [part for part in loaded.parts if not _is_invisible(part)]
    if visible and len(visible) < len(loaded.parts):
        loaded.notes.append("invisible parts are left out")
    parts = visible or loaded.parts
    corners = np.concatenate([part.vertices[part.faces] for part in parts])
    normals = np.concatenate([_corner_normals(part) for part in parts])
    tints = [_tint(part) for part in parts]
    colors = [_corner_colors(part, tint) for part, tint in zip(parts, tints, strict=True)]
    if not any(c is None for c in colors):
        return from_corners(corners, normals, np.concatenate(colors))
    materials, uv, emissive_uv = [], [], []
    for i, part in enumerate(parts):
        nowhere = np.zeros((*part.faces.shape, 2), np.float32)
        uv.append(nowhere if part.uv is None else part.uv)
        emissive_uv.append(nowhere if part.emissive_uv is None else part.emissive_uv)
        if colors[i] is None:
            materials.append(_material(part))
        else:
            materials.append(Material())
            tints[i] = np.concatenate([colors[i], np.ones_like(colors[i][..., :1])], axis=-1)
    counts = [len(part.faces) for part in parts]
    mesh = trimesh.Trimesh(
        vertices=corners.reshape(-1, 3),
        faces=np.arange(3 * len(corners)).reshape(-1, 3),
        vertex_attributes={"normal": normals.reshape(-1, 3)},
        process=False,
    )
    mesh.visual = SurfaceVisuals(
        materials=tuple(materials),
        material=np.repeat(np.arange(len(parts)), counts),
        uv=np.concatenate(uv),
        emissive_uv=np.concatenate(emissive_uv),
        tint=np.concatenate(tints),
    )
    return mesh


def from_corners(corners: np.ndarray, normals: np.ndarray, colors: np.ndarray) -> trimesh.Trimesh:
    """A mesh of separate triangles: positions, normals, colors in [0, 1], all (face, 3, 3)."""
    rgb = np.rint(colors.reshape(-1, 3) * 255).astype(np.uint8)
    return trimesh.Trimesh(
        vertices=corners.reshape(-1, 3),
        faces=np.arange(3 * len(corners)).reshape(-1, 3),
        vertex_colors=np.concatenate([rgb, np.full((len(rgb), 1), 255, np.uint8)], axis=1),
        vertex_attributes={"normal": normals.reshape(-1, 3)},
        process=False,
    )


def _corner_normals(part: MeshPart) -> np.ndarray:
    """Normals (face, 3, 3) of the corners; those of flat faces where the file has none."""
    if part.normals is not None:
        return part.normals
    corners = part.vertices[part.faces]
    across = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    length = np.linalg.norm(across, axis=1, keepdims=True)
    flat = across / np.where(length > 0, length, 1)
    return np.repeat(flat[:, None], 3, axis=1)


def _tint(part: MeshPart) -> np.ndarray:
    """RGBA (face, 3, 4) that multiplies the part's material."""
    if part.colors is not None:
        return part.colors
    white = np.ones((*part.faces.shape, 4))
    if part.material is None:
        white[..., :3] = _UNCOLORED
    return white


def _material(part: MeshPart) -> Material:
    """The part's material without textures that it has no coordinates for."""
    material = Material() if part.material is None else part.material
    return Material(
        color=material.color,
        texture=None if part.uv is None else material.texture,
        emissive_color=None
        if part.emissive_uv is None and material.emissive_texture is not None
        else material.emissive_color,
        emissive_texture=None if part.emissive_uv is None else material.emissive_texture,
        alpha=material.alpha,
        cutoff=material.cutoff,
    )


def _is_invisible(part: MeshPart) -> bool:
    material = _material(part)
    if material.texture is not None or material.cutoff == 0:
        return False
    return bool(material.alpha * _tint(part)[..., 3].max() < material.cutoff)


def _corner_colors(part: MeshPart, tint: np.ndarray) -> np.ndarray | None:
    """Colors (face, 3 corners, rgb) in [0, 1]; None when there are holes or more detail."""
    material = _material(part)
    if material.cutoff > 0 and has_holes(tint, material):
        return None
    shape = tint.shape[:2]
    rgb = tint[..., :3]
    if material.texture is None and material.emissive_texture is None:
        nowhere = np.zeros((shape[0] * 3, 2))
        flat = point_colors(material, nowhere, nowhere, rgb.reshape(-1, 3))
        return np.asarray(flat).reshape(*shape, 3)
    # Palette textures: each face lies inside one swatch, or runs along a smooth ramp.
    seen = _unlit_colors(part, material, _SPOTS)
    detailed = np.ptp(seen, axis=1).max(axis=1) > _FLAT / 255
    # A pattern that repeats may look alike in all these spots: others, at odd places.
    tiled = np.flatnonzero(~detailed & (_texels(part, material) > 6))
    if len(tiled):
        more = _unlit_colors(part, material, _ODD_SPOTS, tiled)
        detailed[tiled] = np.abs(more - np.median(seen[tiled], axis=1)[:, None]).max(
            axis=(1, 2)
        ) > (_FLAT / 255)
    corners = part.vertices[part.faces]
    area = np.linalg.norm(
        np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1
    )
    if max(detailed.mean(), area[detailed].sum() / max(area.sum(), 1e-30)) > _MAX_DETAILED:
        return None
    return multiply(np.repeat(np.median(seen, axis=1)[:, None], 3, axis=1), rgb)


def _unlit_colors(
    part: MeshPart, material: Material, spots: np.ndarray, faces: np.ndarray | slice = slice(None)
) -> np.ndarray:
    """Colors (face, spot, rgb) of spots with barycentric coordinates (spot, 3), without tint."""
    count = len(part.faces[faces])
    at = [
        np.zeros((count * len(spots), 2))
        if uv is None
        else np.einsum("sk,fki->fsi", spots, uv[faces]).reshape(-1, 2)
        for uv in (part.uv, part.emissive_uv)
    ]
    white = np.ones((count * len(spots), 3))
    return point_colors(material, *at, white).reshape(count, len(spots), 3)


def _texels(part: MeshPart, material: Material) -> np.ndarray:
    """How many pixels of its textures each face spans, along its longer side."""
    spans = np.zeros(len(part.faces))
    for uv, texture in (
        (part.uv, material.texture),
        (part.emissive_uv, material.emissive_texture),
    ):
        if uv is not None and texture is not None:
            height, width = texture.pixels.shape[:2]
            spans = np.maximum(spans, (np.ptp(uv, axis=1) * [width, height]).max(axis=1))
    return spans
