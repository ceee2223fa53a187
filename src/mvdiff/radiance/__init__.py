"""Radiance slot: the world volume, volume-rendered into each view. One line a variant."""

from . import voxels
from .base import RADIANCE, RadianceField

__all__ = ["RADIANCE", "RadianceField", "voxels"]
