"""Texture: a mesh's faces unwrapped onto a picture, and the picture painted from the views."""

from .bake import bake

__all__ = ["bake"]
