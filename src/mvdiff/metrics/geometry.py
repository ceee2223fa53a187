"""Mesh against mesh, by SyncDreamer's published protocol (arXiv 2309.03453, section 4).

Depths are unprojected at the pixels' centers, where they were measured; the published script
unprojects both clouds at the pixels' corners.
"""

from __future__ import annotations

import itertools

import numpy as np
import torch
import trimesh
from jaxtyping import Bool, Float
from torch import Tensor

from ..cameras.camera import Cameras
from ..cameras.rigs import ring
from ..errors import InputError
from ..rendering import Raycaster
from .checks import check_mesh

#: Side of the cubes whose points are merged into their mean, world units.
VOXEL = 0.01


def chamfer(pred: trimesh.Trimesh, truth: trimesh.Trimesh) -> float:
    """Chamfer distance of the surfaces that the 16 published cameras see, world units.

    The mean of both directed mean nearest distances, not squared. Lower is better. See
    `chamfer_floor` for what equal surfaces reach.
    """
    return point_chamfer(visible_points(pred), visible_points(truth))


def point_chamfer(a: Float[np.ndarray, "point 3"], b: Float[np.ndarray, "other_point 3"]) -> float:
    """The mean of both directed mean nearest distances, not squared."""
    return (_directed(a, b) + _directed(b, a)) / 2


def chamfer_floor(points: Float[np.ndarray, "point 3"]) -> float:
    """The Chamfer distance that a perfect surface typically gets, world units.

    Points are merged in cubes counted from the cloud's own corner, so two clouds of one surface
    agree only when their corners do. This is the mean distance between the cloud and itself
    merged in cubes half a cube further on, along every combination of axes. A surface whose
    corner happens to agree can lie below.
    points: all the points of depth maps, before merging.
    """
    base = merge(points)
    shifts = [s for s in itertools.product((0.0, VOXEL / 2), repeat=3) if any(s)]
    return float(np.mean([point_chamfer(base, merge(points, shift)) for shift in shifts]))


def volume_iou(pred: trimesh.Trimesh, truth: trimesh.Trimesh) -> float:
    """Intersection over union of the insides on a 64³ grid over [-1, 1]³; higher is better.

    Inside is where mesh2sdf's signed distance is negative, so scans need not be watertight.
    Raises InputError when a mesh leaves the grid or encloses nothing, and when mesh2sdf is
    missing.
    """
    return occupancy_iou(inside(pred), inside(truth))


def occupancy_iou(pred: Bool[np.ndarray, "64 64 64"], truth: Bool[np.ndarray, "64 64 64"]) -> float:
    """Intersection over union of what `inside` gives; InputError when both are empty."""
    either = int((pred | truth).sum())
    if not either:
        raise InputError("neither mesh encloses a volume, so they have no IoU: close their holes")
    return int((pred & truth).sum()) / either


def normalize_to_unit_box(mesh: trimesh.Trimesh, rotate_z: float = 0.0) -> trimesh.Trimesh:
    """A copy with its box centered on the origin, largest side 1, then turned about z.

    rotate_z: degrees, counter-clockwise seen from +z.
    """
    check_mesh(mesh)
    if not len(mesh.faces):
        raise InputError("the mesh has no faces: expected at least one triangle")
    low, high = mesh.bounds
    if not float((high - low).max()) > 0:
        raise InputError("the mesh has no extent, so it cannot be scaled to size 1")
    out = mesh.copy()
    out.apply_translation(-(low + high) / 2)
    out.apply_scale(1 / float((high - low).max()))
    out.apply_transform(
        trimesh.transformations.rotation_matrix(np.radians(rotate_z), [0.0, 0.0, 1.0])
    )
    return out


def visible_points(mesh: trimesh.Trimesh) -> Float[np.ndarray, "point 3"]:
    """What the published cameras see of a mesh: 256² depths as points, one per 0.01-cube.

    Raises InputError when they see nothing.
    """
    return depth_points(*published_depths(mesh))


def published_depths(
    mesh: trimesh.Trimesh,
) -> tuple[Float[Tensor, "view height width"], Cameras]:
    """The mesh's depth maps (0 = nothing) in the 16 published cameras at 256²."""
    check_mesh(mesh)
    cameras = ring(size=256)
    return Raycaster(mesh).render(cameras, shading=None).depth, cameras


def depth_points(
    depth: Float[Tensor, "view height width"], cameras: Cameras
) -> Float[np.ndarray, "point 3"]:
    """Depth maps (0 = nothing) as world points, merged into one per 0.01-cube."""
    return merge(unproject_depths(depth, cameras))


def unproject_depths(
    depth: Float[Tensor, "view height width"], cameras: Cameras
) -> Float[np.ndarray, "point 3"]:
    """Depth maps (0 = nothing) as world points, one a pixel, at the pixels' centers.

    Raises InputError when all is nothing.
    """
    exact = cameras.to(torch.float64)
    uv = exact.pixel_grid().expand(len(cameras), -1, -1, -1)
    points = exact.unproject(uv, depth.double())[depth > 0].numpy()
    if not len(points):
        raise InputError(
            "the 16 published cameras see nothing of the mesh: it must lie around the origin "
            "and be about 1 in size"
        )
    return points


def merge(
    points: Float[np.ndarray, "point 3"], shift: tuple[float, float, float] = (0.0, 0.0, 0.0)
) -> Float[np.ndarray, "cube 3"]:
    """The mean of the points in each 0.01-cube.

    Cubes are counted from half a cube before the cloud's corner, as Open3D's voxel
    downsampling does, which the published protocol uses. shift: moves the cubes back.
    """
    corner = points.min(axis=0) - np.asarray(shift)
    cell = np.floor((points - corner) / VOXEL + 0.5).astype(np.int64)
    key = np.ravel_multi_index(tuple(cell.T), tuple(cell.max(axis=0) + 1))
    _, index, count = np.unique(key, return_inverse=True, return_counts=True)
    sums = [np.bincount(index, points[:, axis]) for axis in range(3)]
    return np.stack(sums, axis=-1) / count[:, None]


def _directed(a: np.ndarray, b: np.ndarray) -> float:
    from scipy.spatial import cKDTree

    return float(cKDTree(b).query(a)[0].mean())


def inside(mesh: trimesh.Trimesh) -> Bool[np.ndarray, "64 64 64"]:
    """Which points of the 64³ grid over [-1, 1]³ the mesh encloses; errors as in `volume_iou`."""
    try:
        import mesh2sdf
    except ImportError as error:
        raise InputError(
            "the IoU of meshes needs the package mesh2sdf: pip install 'mvdiff[evaluate]', or "
            "leave the IoU out with iou=false"
        ) from error
    check_mesh(mesh)
    if not len(mesh.faces):
        raise InputError("the mesh has no faces: expected at least one triangle")
    vertices = np.asarray(mesh.vertices, dtype=np.float64)
    if np.abs(vertices).max() > 1:
        raise InputError("the mesh leaves [-1, 1]³, where the IoU is measured: scale it to size 1")
    return mesh2sdf.compute(vertices, np.asarray(mesh.faces), 64, fix=False) < 0
