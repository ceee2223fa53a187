"""An object with a concavity that no silhouette shows."""

from __future__ import annotations

import numpy as np
import trimesh

from mvdiff.recon import Mesh
from mvdiff.rendering import Raycaster
from mvdiff.views.views import Views


def dented_box() -> trimesh.Trimesh:
    """A checkered box 0.7 wide and 0.5 high, with a dent 0.4 wide and 0.3 deep in its top."""
    half, rim, top = 0.35, 0.2, 0.25
    outer = trimesh.creation.box((0.7, 0.7, 0.5))
    dent = trimesh.creation.box((0.4, 0.4, 0.3))
    dent.apply_translation([0, 0, 0.1])
    walls = trimesh.Trimesh(dent.vertices, dent.faces[dent.face_normals[:, 2] < 0.5])
    walls.invert()
    parts = [trimesh.Trimesh(outer.vertices, outer.faces[outer.face_normals[:, 2] < 0.5]), walls]
    parts += [_plate((-half, -half), (half, -rim), top), _plate((-half, rim), (half, half), top)]
    parts += [_plate((-half, -rim), (-rim, rim), top), _plate((rim, -rim), (half, rim), top)]
    mesh = trimesh.util.concatenate(parts).subdivide_to_size(0.03)
    cell = np.floor((mesh.triangles_center + 0.001) / 0.14).astype(int) + 5
    palette = np.random.default_rng(0).integers(30, 226, (10, 10, 10, 3))
    colors = palette[tuple(cell.T)]
    return trimesh.Trimesh(mesh.vertices, mesh.faces, face_colors=colors, process=False)


def floor_height(mesh) -> float:
    """Mean height of the surface in the middle of the dent; 0.25 when filled, -0.05 when empty."""
    x, y, z = np.asarray(mesh.vertices).T
    return float(z[(np.abs(x) < 0.12) & (np.abs(y) < 0.12) & (z > -0.2)].mean())


def _plate(low: tuple[float, float], high: tuple[float, float], z: float) -> trimesh.Trimesh:
    corners = [[x, y, z] for x, y in (low, (high[0], low[1]), high, (low[0], high[1]))]
    return trimesh.Trimesh(corners, [[0, 1, 2], [0, 2, 3]])


def foreground_psnr(mesh: Mesh, views: Views) -> tuple[float, float]:
    """PSNR on white, in dB: where the input is opaque, and where the mesh covers the pixel too."""
    cameras = views.cameras
    seen = Raycaster(mesh.to_trimesh()).render(cameras, supersample=2, shading=None).views(cameras)
    error = (seen.rgb - views.rgb).square().mean(dim=1)
    object_ = views.alpha[:, 0] == 255
    both = object_ & (seen.alpha[:, 0] == 255)
    assert both.sum() > 0.97 * object_.sum()
    return tuple(float(-10 * error[where].mean().log10()) for where in (object_, both))
