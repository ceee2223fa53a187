"""The colour of a mesh's surface: textures, materials, vertex and face colours."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import trimesh

#: Brightness of meshes without colours.
GREY = 0.7


def surface_values(
    mesh: trimesh.Trimesh, faces: np.ndarray, kept: np.ndarray
) -> tuple[np.ndarray, Callable[[np.ndarray], np.ndarray]]:
    """Values at corners (face, corner, n), and the function from them to colours (…, 3).

    Values vary linearly over a face: colours in [0, 1], or texture coordinates.
    faces: the mesh's faces to look at; kept: their indices in the mesh.
    """
    visual = mesh.visual
    material = getattr(visual, "material", None)
    if material is not None:
        image, base = material_color(material)
        if image is None or visual.uv is None:
            return np.broadcast_to(base, (*faces.shape, 3)), _as_is

        def texture(uv: np.ndarray) -> np.ndarray:
            sampled = trimesh.visual.color.uv_to_interpolated_color(uv, image)[:, :3] / 255
            return sampled if base.min() == 1 else to_display(to_linear(sampled) * to_linear(base))

        return np.asarray(visual.uv)[faces], texture
    if visual.kind == "face":
        flat = np.asarray(visual.face_colors)[kept, :3] / 255
        return np.repeat(flat[:, None], 3, axis=1), _as_is
    if visual.kind == "vertex":
        return np.asarray(visual.vertex_colors)[faces][..., :3] / 255, _as_is
    return np.full((*faces.shape, 3), GREY), _as_is


def _as_is(rgb: np.ndarray) -> np.ndarray:
    return rgb


def material_color(material: object) -> tuple[object | None, np.ndarray]:
    """A trimesh material's RGB picture (None without) and base colour (3,), in [0, 1].

    glTF gives base colours in linear light; they are returned for display (sRGB).
    """
    image = getattr(material, "baseColorTexture", None) or getattr(material, "image", None)
    if isinstance(material, trimesh.visual.material.PBRMaterial):
        factor = material.baseColorFactor
        base = np.ones(3) if factor is None else to_display(np.asarray(factor)[:3] / 255)
    else:
        # An OBJ's diffuse colour only stands where no picture is given.
        diffuse = getattr(material, "diffuse", None)
        plain = image is not None or diffuse is None
        base = np.ones(3) if plain else np.asarray(diffuse)[:3] / 255
    return (None if image is None else image.convert("RGB")), base


def to_display(linear: np.ndarray) -> np.ndarray:
    """Linear light in [0, 1] to sRGB (IEC 61966-2-1)."""
    curve = 1.055 * np.maximum(linear, 1e-9) ** (1 / 2.4) - 0.055
    return np.where(linear <= 0.0031308, 12.92 * linear, curve)


def to_linear(display: np.ndarray) -> np.ndarray:
    """sRGB in [0, 1] to linear light."""
    return np.where(display <= 0.04045, display / 12.92, ((display + 0.055) / 1.055) ** 2.4)
