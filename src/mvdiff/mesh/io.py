"""Mesh files: GLB, OBJ, PLY and STL, whole or not at all."""

from __future__ import annotations

import re
import warnings
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import trimesh
from jaxtyping import UInt8
from PIL import Image

from ..errors import InputError
from ..mesh_readers import MeshPart, read_mesh_file
from ..utils.color_space import multiply, to_linear
from ..utils.files import atomic

if TYPE_CHECKING:
    from .mesh import Mesh

FORMATS = (".glb", ".obj", ".ply", ".stl")
#: Those that hold a texture.
TEXTURED = (".glb", ".obj")

#: z-up world → glTF's y-up world: (x, y, z) becomes (x, z, -y), a rotation.
_TO_GLTF = np.array([[1.0, 0, 0, 0], [0, 0, 1, 0], [0, -1, 0, 0], [0, 0, 0, 1]])


def read(path: str | Path, *, load_textures: bool = True) -> trimesh.Scene:
    """A mesh file as a scene, a part a material; glTF is turned from y-up to z-up, the rest taken
    as z-up. Vertices of equal position and look are merged.

    load_textures: False for shape alone. What of the file was not used is warned of.
    Raises InputError when the file is missing or unreadable.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"no mesh at '{path}': expected a {_listing()} file")
    loaded = read_mesh_file(path, load_textures=load_textures)
    if loaded.notes and load_textures:
        warnings.warn(f"'{path}': {'; '.join(loaded.notes)}", stacklevel=2)
    scene = trimesh.Scene([_to_trimesh(part) for part in loaded.parts])
    if loaded.up == "y":
        scene.apply_transform(np.linalg.inv(_TO_GLTF))
    return scene


def _to_trimesh(part: MeshPart) -> trimesh.Trimesh:
    """One part with its texture, vertex colors or plain color."""
    material = part.material
    if material is not None and material.texture is not None and part.uv is not None:
        pixels = material.texture.pixels[..., :3]
        picture = trimesh.visual.material.PBRMaterial(
            baseColorTexture=Image.fromarray(_tinted(pixels, material.color)),
            metallicFactor=0.0,
        )
        return trimesh.Trimesh(
            part.vertices[part.faces].reshape(-1, 3),
            np.arange(3 * len(part.faces)).reshape(-1, 3),
            visual=trimesh.visual.TextureVisuals(part.uv.reshape(-1, 2), picture),
        )
    colors = None
    if material is not None or part.colors is not None:
        corners = np.ones((*part.faces.shape, 3)) if part.colors is None else part.colors[..., :3]
        if material is not None:
            corners = multiply(corners, np.asarray(material.color))
        colors = np.full((len(part.vertices), 4), 255, np.uint8)
        colors[part.faces, :3] = np.rint(corners * 255).astype(np.uint8)
    return trimesh.Trimesh(part.vertices, part.faces, vertex_colors=colors)


def _tinted(
    pixels: UInt8[np.ndarray, "height width 3"], color: tuple[float, float, float]
) -> UInt8[np.ndarray, "height width 3"]:
    """A picture times a color, in linear light."""
    if min(color) == 1:
        return np.ascontiguousarray(pixels)
    table = np.rint(255 * multiply(np.arange(256)[:, None] / 255, np.asarray(color)))
    table = table.astype(np.uint8)
    return np.stack([table[pixels[..., i], i] for i in range(3)], axis=-1)


def write(mesh: Mesh, path: str | Path) -> Path:
    """Write a mesh as its suffix says, in world units (files name no unit; glTF reads metres).

    .glb: turned to y up, as glTF wants it; texture, or vertex colors, in a material that is
        no metal.
    .obj: z up; a texture goes to NAME.mtl and NAME_texture.png beside it, colors behind the
        vertices.
    .ply: z up, vertex colors. .stl: z up, shape alone.
    All files appear, or none. Raises InputError for any other suffix and when the disk
    refuses.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in FORMATS:
        raise InputError(f"cannot write a mesh as '{path.name}': choose {_listing()}")
    if suffix == ".obj" and mesh.texture is not None:
        _write_textured_obj(mesh, path)
        return path
    with atomic(path) as part:
        if suffix == ".glb":
            part.write_bytes(_glb(mesh))
        else:
            mesh.to_trimesh(textured=False).export(part, file_type=suffix[1:])
    return path


def _write_textured_obj(mesh: Mesh, path: Path) -> None:
    # Readers split these names at spaces.
    name = re.sub(r"\s", "_", path.stem)
    material, picture = path.with_name(f"{name}.mtl"), path.with_name(f"{name}_texture.png")
    # Vertices and texture coordinates are counted apart, so a closed mesh stays closed.
    uv, place = np.unique(mesh.texture.uv.reshape(-1, 2), axis=0, return_inverse=True)
    corners = np.stack([mesh.faces + 1, place.reshape(-1, 3) + 1], axis=2).reshape(-1, 6)
    text = [
        f"# z up\nmtllib {material.name}\nusemtl surface",
        _lines("v %.7g %.7g %.7g", mesh.vertices),
        _lines("vt %.7g %.7g", uv),
        _lines("f %d/%d %d/%d %d/%d", corners),
    ]
    surface = f"newmtl surface\nKa 1 1 1\nKd 1 1 1\nKs 0 0 0\nd 1\nillum 1\nmap_Kd {picture.name}\n"
    # All is on the disk before the first file gets its name; the OBJ gets it last.
    with ExitStack() as parts:
        obj, mtl, png = (parts.enter_context(atomic(p)) for p in (path, material, picture))
        Image.fromarray(mesh.texture.image).save(png)
        mtl.write_text(surface, encoding="utf-8")
        obj.write_text("\n".join(text) + "\n", encoding="utf-8")


def _lines(form: str, rows: np.ndarray) -> str:
    return "\n".join(form % tuple(row) for row in rows.tolist())


def _glb(mesh: Mesh) -> bytes:
    from trimesh.exchange.gltf import export_glb

    if mesh.texture is not None:
        shape = mesh.to_trimesh()
        shape.apply_transform(_TO_GLTF)
        return export_glb(trimesh.Scene(shape), include_normals=True)
    # glTF multiplies COLOR_0 in linear light; 16 bits keep dark colors apart. The default
    # material of glTF is a metal, which viewers show nearly black.
    linear = (to_linear(mesh.colors / 255) * 65535).round().astype(np.uint16)
    rgba = np.concatenate([linear, np.full_like(linear[:, :1], 65535)], axis=1)
    shape = trimesh.Trimesh(mesh.vertices, mesh.faces, process=False)
    material = trimesh.visual.material.PBRMaterial(metallicFactor=0.0, roughnessFactor=0.9)
    shape.visual = trimesh.visual.TextureVisuals(material=material)
    shape.vertex_attributes["_color"] = rgba
    shape.apply_transform(_TO_GLTF)
    scene = trimesh.Scene(shape)
    return export_glb(scene, include_normals=True, tree_postprocessor=_name_colors)


def _name_colors(tree: dict) -> None:
    """Turn trimesh's custom attribute into glTF's normalized vertex color."""
    for mesh in tree["meshes"]:
        for primitive in mesh["primitives"]:
            accessor = primitive["attributes"].pop("_color")
            primitive["attributes"]["COLOR_0"] = accessor
            tree["accessors"][accessor]["normalized"] = True


def _listing() -> str:
    return ", ".join(name[1:].upper() for name in FORMATS[:-1]) + f" or {FORMATS[-1][1:].upper()}"
