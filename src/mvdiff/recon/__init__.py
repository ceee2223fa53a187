"""Reconstructors: views in, mesh out. Importing a variant's file registers it."""

from ..mesh.mesh import Mesh
from ..utils.callbacks import ProgressCallback
from .base import RECONSTRUCTORS, Reconstructor
from .hull import Hull
from .neus import Neus
from .photohull import PhotoHull

__all__ = [
    "RECONSTRUCTORS",
    "Hull",
    "Mesh",
    "Neus",
    "PhotoHull",
    "ProgressCallback",
    "Reconstructor",
]
