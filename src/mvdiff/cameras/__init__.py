"""Cameras, rigs, file formats and frusta. The convention is stated in `camera.py`."""

from .camera import Cameras
from .rigs import look_at, ring, spherical

__all__ = ["Cameras", "look_at", "ring", "spherical"]
