"""Closing: a mesh with holes → one whose every edge belongs to two faces (watertight)."""

from __future__ import annotations

import numpy as np
import trimesh
from jaxtyping import Float, Int

from .mesh import Mesh

#: Voxels along the longest side where a mesh must be rebuilt.
_RESOLUTION = 128
#: Gaps in the surface up to about twice this many voxels are bridged before filling.
_BRIDGE = 2
#: How far, in voxels, those that touch the surface reach beyond it (measured on boxes and balls).
_EXCESS = 0.5


def make_watertight(mesh: Mesh) -> tuple[Mesh, str]:
    """A watertight mesh, and what was done to get it, in words.

    Judged on positions: vertices at the same place count as one. A closed mesh is returned as
    it is. Holes get a flat fan each, around the middle of their border. Where that does not
    help (edges of three or more faces), the surface is rebuilt from its filled voxels, which
    rounds off what is smaller than about a hundredth of its size. A mesh that changes loses
    its texture.
    """
    vertices, faces, source = _weld(mesh)
    if _closed(vertices, faces):
        return mesh, "closed already"
    faces = _same_winding(vertices, faces)
    caps, middles, borders = _fans(vertices, faces)
    colors = mesh.colors[source]
    if len(borders):
        points = np.concatenate([vertices, middles])
        both = np.concatenate([faces, caps])
        if _closed(points, both):
            mean = np.stack([colors[b].mean(axis=0) for b in borders])
            colors = np.concatenate([colors, np.rint(mean).astype(np.uint8)])
            holes = "1 hole" if len(borders) == 1 else f"{len(borders)} holes"
            return Mesh(points.astype(np.float32), both, colors), f"filled {holes}"
    return _rebuilt(mesh), f"rebuilt from {_RESOLUTION} voxels along the longest side"


def _weld(mesh: Mesh) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Vertices without repetition, faces between them, and which old vertex each one was."""
    vertices, source, number = np.unique(
        mesh.vertices, axis=0, return_index=True, return_inverse=True
    )
    faces = number.reshape(-1)[mesh.faces]
    same = (faces == np.roll(faces, 1, axis=1)).any(axis=1)
    return vertices, faces[~same], source


def _closed(vertices: Float[np.ndarray, "vertex 3"], faces: Int[np.ndarray, "face 3"]) -> bool:
    shape = trimesh.Trimesh(vertices, faces, process=False)
    return bool(shape.is_watertight and shape.is_winding_consistent)


def _same_winding(
    vertices: Float[np.ndarray, "vertex 3"], faces: Int[np.ndarray, "face 3"]
) -> Int[np.ndarray, "face 3"]:
    """Faces turned over so that neighbors agree about where outside is."""
    shape = trimesh.Trimesh(vertices, faces, process=False)
    if not shape.is_winding_consistent:
        trimesh.repair.fix_winding(shape)
    return np.array(shape.faces, np.int64)


def _fans(
    vertices: Float[np.ndarray, "vertex 3"], faces: Int[np.ndarray, "face 3"]
) -> tuple[Int[np.ndarray, "cap 3"], Float[np.ndarray, "hole 3"], list[list[int]]]:
    """Caps for every hole, their middle points (numbered after the vertices), their borders."""
    edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    _, which, count = np.unique(
        np.sort(edges, axis=1), axis=0, return_inverse=True, return_counts=True
    )
    follow: dict[int, list[int]] = {}
    for a, b in edges[count[which.reshape(-1)] == 1].tolist():
        follow.setdefault(a, []).append(b)
    caps, borders = [], []
    for start in list(follow):
        while follow[start]:
            border, at = [start], follow[start].pop()
            while at != start and follow.get(at):
                border.append(at)
                at = follow[at].pop()
            if at != start:  # the faces' windings disagree: no fan closes this
                continue
            middle = len(vertices) + len(borders)
            caps += [(b, a, middle) for a, b in zip(border, border[1:] + border[:1], strict=True)]
            borders.append(border)
    middles = [vertices[border].mean(axis=0) for border in borders]
    return (
        np.array(caps, np.int64).reshape(-1, 3),
        np.array(middles, vertices.dtype).reshape(-1, 3),
        borders,
    )


def _rebuilt(mesh: Mesh) -> Mesh:
    """The surface around the mesh's voxels and all they enclose, colored like the nearest."""
    from scipy import ndimage
    from scipy.spatial import cKDTree
    from skimage.measure import marching_cubes

    shape = trimesh.Trimesh(mesh.vertices, mesh.faces, process=False)
    pitch = float(shape.extents.max()) / _RESOLUTION
    grid = shape.voxelized(pitch)
    margin = _BRIDGE + 2
    shell = np.pad(grid.matrix, margin)
    solid = ndimage.binary_fill_holes(ndimage.binary_closing(shell, iterations=_BRIDGE))
    inside, outside = (ndimage.distance_transform_edt(x) for x in (solid, ~solid))
    field = ndimage.gaussian_filter(np.where(solid, inside - 0.5, 0.5 - outside), 1.0)
    vertices, faces, _, _ = marching_cubes(field, _EXCESS, gradient_direction="ascent")
    points = trimesh.transform_points(vertices - margin, grid.transform).astype(np.float32)
    nearest = cKDTree(mesh.vertices).query(points)[1]
    return Mesh(points, faces.astype(np.int64), mesh.colors[nearest])
