"""Baking: mesh and views → the mesh with a texture painted from the views."""

from __future__ import annotations

import math

import numpy as np
import trimesh
from jaxtyping import Float

from ...errors import InputError
from ...utils.callbacks import ProgressCallback
from ...views import Views
from ..mesh import Mesh, Texture
from .atlas import Texels, rasterise, unwrap
from .blend import ViewBlend
from .inpaint import dilate, spread

#: Sides a texture may have, in texels; larger ones are more than graphics cards take.
SIZES = (16, 8192)
#: Points seen less well than this (0 is not at all, 1 from straight in front) take their color
#: partly from the surface around them.
_WELL = 0.2
#: Texels painted at once; bounds the memory.
_CHUNK = 1 << 18
#: Where vertex normal and face normal differ by more than 45°, there is an edge to keep.
_CREASE = math.cos(math.radians(45))


def bake(
    mesh: Mesh,
    views: Views,
    *,
    size: int = 1024,
    power: float = 4.0,
    border: float = 3.0,
    progress: ProgressCallback | None = None,
) -> Mesh:
    """The same surface with a `size`² texture, and with vertex colors, from the views.

    Every texel's point on the surface is looked up in every view that a ray says sees it;
    see `blend.ViewBlend` for `power`, `border` and how views are weighed. What no view sees
    continues the colors around it along the surface, so that it shows no seams. A texture the
    mesh had is replaced. The views must be those the mesh was made from, or share its world.
    A few seconds for 20,000 faces, 16 views and the default size on one core; without the
    package `embreex` the rays take minutes.
    Raises InputError for a size outside [16, 8192], for no view, and when xatlas is missing.
    """
    if not SIZES[0] <= size <= SIZES[1]:
        raise InputError(f"a texture's side must lie in [{SIZES[0]}, {SIZES[1]}], got {size}")
    if not (0 <= power < math.inf and 0 <= border < math.inf):
        raise InputError(f"power and border must be at least 0, got {power} and {border}")
    if not len(views):
        raise InputError("a texture is painted from views, got none")
    report = progress or (lambda stage, share: None)
    report("unwrapping", 0.0)
    vertices, faces = mesh.vertices, mesh.faces
    uv = unwrap(vertices, faces, size)
    texels = rasterise(uv, size)
    report("painting", 0.3)
    blend = ViewBlend(views, vertices, faces, power=power, border=border)
    shape = trimesh.Trimesh(vertices, faces, process=False)
    smooth = np.array(shape.vertex_normals)
    colors, seen = blend(np.asarray(vertices, np.float64), smooth)
    colors = spread(colors, (seen / _WELL).clip(0, 1), vertices, faces)
    image = np.zeros((size * size, 3), np.uint8)
    corners = _creased(smooth[faces], np.array(shape.face_normals)), vertices[faces], colors[faces]
    for start in range(0, len(texels.index), _CHUNK):
        report("painting", 0.4 + 0.6 * start / len(texels.index))
        part = texels[start : start + _CHUNK]
        image[part.index] = np.rint(255 * _paint(blend, part, *corners)).astype(np.uint8)
    filled = np.zeros(size * size, bool)
    filled[texels.index] = True
    image = dilate(image.reshape(size, size, 3), filled.reshape(size, size))
    report("done", 1.0)
    plain = np.rint(255 * colors).astype(np.uint8)
    return Mesh(vertices, faces, plain, Texture(uv, image))


def _paint(
    blend: ViewBlend,
    texels: Texels,
    normals: Float[np.ndarray, "face 3 3"],
    points: Float[np.ndarray, "face 3 3"],
    colors: Float[np.ndarray, "face 3 3"],
) -> Float[np.ndarray, "texel 3"]:
    """Colors in [0, 1]: the views' where they saw the point well, else the surface's."""
    normal = texels.interpolate(normals)
    normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-12)
    color, seen = blend(texels.interpolate(points.astype(np.float64)), normal)
    trust = (seen / _WELL).clip(0, 1)[:, None]
    return (trust * color + (1 - trust) * texels.interpolate(colors)).clip(0, 1)


def _creased(
    smooth: Float[np.ndarray, "face 3 3"], flat: Float[np.ndarray, "face 3"]
) -> Float[np.ndarray, "face 3 3"]:
    """Normals at the faces' corners: smooth, but the face's own at the edges of a box."""
    flat = flat[:, None]
    same = (smooth * flat).sum(axis=2, keepdims=True) > _CREASE
    return np.where(same, smooth, flat)
