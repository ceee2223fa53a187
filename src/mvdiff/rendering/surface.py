"""The color of a mesh's surface: textures, materials, vertex and face colors, holes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import trimesh
from jaxtyping import Float, Int
from trimesh.visual.base import Visuals

from ..mesh_readers.parts import Material, Texture
from ..utils.color_space import add, multiply, to_display, to_linear

__all__ = [
    "GREY",
    "Surface",
    "SurfaceVisuals",
    "material_color",
    "point_colors",
    "surface_of",
    "to_display",
    "to_linear",
]

#: Brightness of meshes without colors.
GREY = 0.7


class SurfaceVisuals(Visuals):
    """The look of a mesh of many materials, for the field `visual` of a `trimesh.Trimesh`.

    materials: all of them. material: the number of each face's.
    uv, emissive_uv: texture coordinates of the corners; u right, v up.
    tint: RGBA of the corners in [0, 1], for display; it multiplies the material's color.
    Copies share the arrays, which nobody changes.
    """

    def __init__(
        self,
        materials: tuple[Material, ...],
        material: Int[np.ndarray, "face"],
        uv: Float[np.ndarray, "face 3 2"],
        emissive_uv: Float[np.ndarray, "face 3 2"],
        tint: Float[np.ndarray, "face 3 4"],
    ) -> None:
        self.materials, self.material = materials, material
        self.uv, self.emissive_uv, self.tint = uv, emissive_uv, tint

    @property
    def kind(self) -> str:
        return "surface"

    def update_vertices(self, mask: np.ndarray) -> None:
        """Nothing: all values belong to corners of faces."""

    def update_faces(self, mask: np.ndarray) -> None:
        """Keep the faces that trimesh keeps."""
        self.material, self.tint = self.material[mask], self.tint[mask]
        self.uv, self.emissive_uv = self.uv[mask], self.emissive_uv[mask]

    def concatenate(self, other: Visuals) -> Visuals:
        raise NotImplementedError("meshes of many materials cannot be concatenated")

    def __hash__(self) -> int:
        return id(self)

    def copy(self, **_) -> SurfaceVisuals:
        return SurfaceVisuals(self.materials, self.material, self.uv, self.emissive_uv, self.tint)


@dataclass(frozen=True)
class Surface:
    """What varies over the faces, and how to get colors from it.

    values: at the corners, (face, corner, n); they vary linearly over a face.
    colors: from values (point, n) and face numbers (point,) to colors (point, 3) in [0, 1].
    is_solid: from the same to False in holes; None where there are none.
    """

    values: np.ndarray
    colors: Callable[[np.ndarray, np.ndarray], np.ndarray]
    is_solid: Callable[[np.ndarray, np.ndarray], np.ndarray] | None = None


def surface_of(mesh: trimesh.Trimesh, faces: np.ndarray, kept: np.ndarray) -> Surface:
    """The look of some of a mesh's faces.

    faces: the mesh's faces to look at; kept: their indices in the mesh.
    """
    visual = mesh.visual
    if isinstance(visual, SurfaceVisuals):
        return _many_materials(visual, kept)
    material = getattr(visual, "material", None)
    if material is not None:
        image, base = material_color(material)
        if image is None or visual.uv is None:
            return Surface(np.broadcast_to(base, (*faces.shape, 3)), _as_is)
        texture = Texture(np.asarray(image))

        def colors(uv: np.ndarray, _: np.ndarray) -> np.ndarray:
            return multiply(texture.sample(uv.astype(np.float64)), base)

        return Surface(np.asarray(visual.uv)[faces], colors)
    if visual.kind == "face":
        flat = np.asarray(visual.face_colors)[kept, :3] / 255
        return Surface(np.repeat(flat[:, None], 3, axis=1), _as_is)
    if visual.kind == "vertex":
        return Surface(np.asarray(visual.vertex_colors)[faces][..., :3] / 255, _as_is)
    return Surface(np.full((*faces.shape, 3), GREY), _as_is)


def _as_is(rgb: np.ndarray, _: np.ndarray) -> np.ndarray:
    return rgb


def _many_materials(visual: SurfaceVisuals, kept: np.ndarray) -> Surface:
    material = visual.material[kept]
    # tint, uv, emissive_uv
    parts = [visual.tint[kept], visual.uv[kept], visual.emissive_uv[kept]]
    values = np.concatenate(parts, axis=2)

    def colors(values: np.ndarray, face: np.ndarray) -> np.ndarray:
        out = np.zeros((len(values), 3))
        used = material[face]
        for number in np.unique(used):
            at = used == number
            v = values[at].astype(np.float64)
            out[at] = point_colors(visual.materials[number], v[:, 4:6], v[:, 6:8], v[:, :3])
        return out

    cutouts = [i for i in np.unique(material) if visual.materials[i].cutoff > 0]
    if not cutouts:
        return Surface(values, colors)

    def is_solid(values: np.ndarray, face: np.ndarray) -> np.ndarray:
        out = np.ones(len(values), dtype=bool)
        used = material[face]
        for number in cutouts:
            at = used == number
            look = visual.materials[number]
            alpha = point_alpha(look, values[at, 4:6].astype(np.float64), values[at, 3])
            out[at] = alpha >= look.cutoff
        return out

    return Surface(values, colors, is_solid)


def point_colors(
    material: Material,
    uv: Float[np.ndarray, "point 2"],
    emissive_uv: Float[np.ndarray, "point 2"],
    tint: Float[np.ndarray, "point 3"],
) -> Float[np.ndarray, "point 3"]:
    """Colors of points on a material, for display, without light."""
    rgb = np.broadcast_to(np.asarray(material.color), tint.shape)
    if material.texture is not None:
        rgb = multiply(material.texture.sample(uv)[:, :3], np.asarray(material.color))
    rgb = multiply(rgb, tint)
    if material.emissive_color is not None:
        glow = np.asarray(material.emissive_color)
        if material.emissive_texture is not None:
            glow = multiply(material.emissive_texture.sample(emissive_uv)[:, :3], glow)
        rgb = add(rgb, glow)
    return rgb


def point_alpha(
    material: Material, uv: Float[np.ndarray, "point 2"], alpha: Float[np.ndarray, "point"]
) -> Float[np.ndarray, "point"]:
    """Alpha of points on a material, whose vertices give `alpha`."""
    alpha = alpha * material.alpha
    if material.texture is not None and material.texture.pixels.shape[2] == 4:
        alpha = alpha * material.texture.sample(uv)[:, 3]
    return alpha


def has_holes(tint: Float[np.ndarray, "face 3 4"], material: Material) -> bool:
    """Whether parts of a surface may lie below its material's cutoff."""
    lowest = material.alpha * float(tint[..., 3].min(initial=1))
    if material.texture is not None and material.texture.pixels.shape[2] == 4:
        lowest *= float(material.texture.pixels[..., 3].min()) / 255
    return lowest < material.cutoff


def material_color(material: object) -> tuple[object | None, np.ndarray]:
    """A trimesh material's RGB picture (None without) and base color (3,), in [0, 1].

    glTF gives base colors in linear light; they are returned for display (sRGB).
    """
    image = getattr(material, "baseColorTexture", None) or getattr(material, "image", None)
    if isinstance(material, trimesh.visual.material.PBRMaterial):
        factor = material.baseColorFactor
        base = np.ones(3) if factor is None else to_display(np.asarray(factor)[:3] / 255)
    else:
        # An OBJ's diffuse color only stands where no picture is given.
        diffuse = getattr(material, "diffuse", None)
        plain = image is not None or diffuse is None
        base = np.ones(3) if plain else np.asarray(diffuse)[:3] / 255
    return (None if image is None else image.convert("RGB")), base
