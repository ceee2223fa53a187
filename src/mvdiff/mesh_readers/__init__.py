"""Reading mesh files: the one way in for every file with triangles that a user names."""

from .load import SUFFIXES, read_mesh_file
from .parts import LoadedMesh, Material, MeshPart, Texture

__all__ = ["SUFFIXES", "LoadedMesh", "Material", "MeshPart", "Texture", "read_mesh_file"]
