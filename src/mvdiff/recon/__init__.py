"""Reconstructors: views in, mesh out. Importing a variant's file registers it."""

from .base import RECONSTRUCTORS, Progress, Reconstructor
from .hull import Hull
from .mesh import Mesh
from .neus import Neus
from .photohull import PhotoHull

__all__ = ["RECONSTRUCTORS", "Hull", "Mesh", "Neus", "PhotoHull", "Progress", "Reconstructor"]
