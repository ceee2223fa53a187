"""Mesh → pictures with depth and normals: ray casting with Embree, or numpy without it."""

from .raycast import SOFT, Raycaster, Rendering, Shading

__all__ = ["SOFT", "Raycaster", "Rendering", "Shading"]
