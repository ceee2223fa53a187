"""Cameras, rigs, file formats and frusta. The convention is stated in `camera.py`."""

from .camera import Cameras
from .rigs import RIGS, is_ring, look_at, ring, to_spherical

__all__ = ["RIGS", "Cameras", "is_ring", "look_at", "ring", "to_spherical"]
