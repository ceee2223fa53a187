"""Cameras in other people's files: `transforms.json`, COLMAP, SyncDreamer's `meta.pkl`.

OpenGL and Blender cameras look along -z with y up; ours (see `camera.py`) look along +z with
y down. The world is the same, so converting flips two columns of camera-to-world.
"""

from __future__ import annotations

from .colmap import read_colmap, write_colmap
from .syncdreamer_pickle import read_meta_pickle
from .transforms import from_opengl, read_transforms, to_opengl, write_transforms

__all__ = [
    "from_opengl",
    "read_colmap",
    "read_meta_pickle",
    "read_transforms",
    "to_opengl",
    "write_colmap",
    "write_transforms",
]
