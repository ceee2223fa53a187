"""Vertex colors: every point of a surface takes its color from the views that see it best."""

from __future__ import annotations

import numpy as np
import torch
import trimesh
from jaxtyping import Float, UInt8
from torch import Tensor

from ..cameras.camera import Cameras
from ..rendering import Raycaster
from ..views import Views

#: Pixels nearer to the silhouette's edge than this (picture widths) mix in the background.
_SAFE = 1 / 50


def vertex_colors(
    views: Views,
    mesh: trimesh.Trimesh,
    edges: Float[Tensor, "view 1 fine_height fine_width"],
    *,
    power: float = 6.0,
    view_weights: Float[Tensor, "view"] | None = None,
) -> UInt8[np.ndarray, "vertex 3"]:
    """Colors of a mesh's vertices from views of it.

    edges: signed distances to the silhouettes' edges, from `silhouettes.edge_distance`.
    power: of the cosine between normal and direction to the camera; large takes the
        frontal view alone (sharp, but with seams), 0 takes all views alike (blurred).
    trust: factors by which the views count; default all alike.
    Points no view sees take the color of the nearest seen vertices.
    """
    cameras = views.cameras.to("cpu", torch.float32)
    points = torch.from_numpy(np.asarray(mesh.vertices)).float()
    normals = torch.from_numpy(np.array(mesh.vertex_normals)).float()
    weight = _visible(mesh, cameras, points) * _facing(cameras, points, normals) ** power
    if view_weights is not None:
        weight = weight * view_weights.to(weight)[:, None]
    uv, _ = cameras.project(points)
    grid = uv / uv.new_tensor([cameras.width, cameras.height]) * 2 - 1
    mask = views.mask
    # Weighted by alpha, so that the color of clear pixels, which means nothing, does not leak.
    source = torch.cat([views.images.float() * mask, mask], dim=1)
    rgba = _sample(source, grid)
    opacity = rgba[:, 3]
    inside = (_sample(edges, grid)[:, 0] / _SAFE).clamp(0, 1)
    weight = weight * opacity * (inside + 1e-3)
    rgb = rgba[:, :3] / opacity.clamp(min=1e-6)[:, None]
    total = weight.sum(dim=0)
    mixed = (rgb * weight[:, None]).sum(dim=0) / total.clamp(min=1e-12)
    colors = mixed.T.numpy()
    return (
        np.rint(_spread(colors, points.numpy(), total.numpy() > 1e-6)).clip(0, 255).astype(np.uint8)
    )


def _sample(source: Tensor, grid: Tensor) -> Float[Tensor, "view channel vertex"]:
    values = torch.nn.functional.grid_sample(
        source, grid[:, None], padding_mode="border", align_corners=False
    )
    return values[:, :, 0]


def _facing(cameras: Cameras, points: Tensor, normals: Tensor) -> Float[Tensor, "view vertex"]:
    """Cosine between each vertex' normal and its direction to each camera, at least 0."""
    if cameras.projection == "orthographic":
        towards = -cameras.R[:, None, 2].expand(-1, len(points), -1)
    else:
        towards = torch.nn.functional.normalize(cameras.centers[:, None] - points, dim=-1)
    return (towards * normals).sum(dim=-1).clamp(min=0)


def _visible(
    mesh: trimesh.Trimesh, cameras: Cameras, points: Tensor
) -> Float[Tensor, "view vertex"]:
    """1 where nothing of the mesh lies between a vertex and the camera, else 0.

    Compared with depth maps of at least 256², the farthest of the four pixels around a point
    counting, with a slack of 1 % of the mesh's size.
    """
    cameras = cameras.resize(max(256, cameras.height), max(256, cameras.width))
    depth = Raycaster(mesh).render(cameras, shading=None).depth
    uv, z = cameras.project(points)
    low = (uv - 0.5).floor().long()
    seen = torch.zeros_like(z)
    view = torch.arange(len(cameras))[:, None]
    for dx, dy in ((0, 0), (0, 1), (1, 0), (1, 1)):
        u = (low[..., 0] + dx).clamp(0, cameras.width - 1)
        v = (low[..., 1] + dy).clamp(0, cameras.height - 1)
        seen = torch.maximum(seen, depth[view, v, u])
    slack = 0.01 * float(np.ptp(mesh.vertices, axis=0).max())
    return ((z > 0) & (z <= seen + slack)).float()


def _spread(
    colors: Float[np.ndarray, "vertex 3"], points: np.ndarray, seen: np.ndarray
) -> Float[np.ndarray, "vertex 3"]:
    """Give unseen vertices the mean color of the nearest seen ones (gray without any)."""
    from scipy.spatial import cKDTree

    if seen.all():
        return colors
    if not seen.any():
        return np.full_like(colors, 178)
    count = min(16, int(seen.sum()))
    near = cKDTree(points[seen]).query(points[~seen], k=count)[1].reshape(-1, count)
    filled = colors.copy()
    filled[~seen] = colors[seen][near].mean(axis=1)
    return filled
