"""The object that metrics measure views on: their visual hull, quick rather than fine."""

from __future__ import annotations

import torch
import trimesh

from ..silhouettes.masks import edge_distance
from ..silhouettes.vertex_colors import vertex_colors
from ..silhouettes.visual_hull import carve
from ..views import Views


def hull_mesh(views: Views, resolution: int, *, colored: bool = False) -> trimesh.Trimesh | None:
    """The visual hull of all masks, one view's veto sufficing; None when it is empty.

    views: with alpha. resolution: grid points along the hull's longest side.
    colored: give the vertices the colors of the views that see them best.
    Raises MvdiffError when the cameras do not look towards the origin.
    """
    cameras, edges = views.cameras.to("cpu", torch.float32), edge_distance(views.mask)
    vertices, faces = carve(cameras, edges, resolution=resolution).surface()
    if not len(faces):
        return None
    mesh = trimesh.Trimesh(vertices, faces, process=False)
    if colored:
        mesh.visual.vertex_colors = vertex_colors(views, mesh, edges)
    return mesh
