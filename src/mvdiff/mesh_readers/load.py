"""One function that reads every mesh file, and refuses what it cannot read in full."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np

from ..errors import InputError, MvdiffError
from .files import SourceFiles, describe_content, shorten
from .gltf import read_gltf
from .obj import read_obj
from .off import read_off
from .other import read_with_trimesh
from .parts import LoadedMesh, check_size

_READERS = {
    ".glb": read_gltf,
    ".gltf": read_gltf,
    ".obj": read_obj,
    ".ply": read_with_trimesh,
    ".stl": read_with_trimesh,
    ".off": read_off,
}
SUFFIXES = tuple(_READERS)


def read_mesh_file(path: str | Path, *, load_textures: bool = True) -> LoadedMesh:
    """The triangles of a GLB, glTF, OBJ, PLY, STL or OFF file with their materials.

    What does not change the shape and cannot be read (a missing texture, say) is named in the
    notes; parts that cannot be read make the whole file unusable.

    load_textures: False for the shape alone.
    Raises InputError naming the file when it is missing, damaged, of another format, compressed
    in a way that is not read, or without triangles of finite size.
    """
    path = Path(path)
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise InputError(
            f"cannot read the mesh '{path}': expected a file ending in {', '.join(SUFFIXES)}"
        )
    files = SourceFiles(path)
    content = files.read(path)
    other = describe_content(content[:1024])
    if other is not None:
        raise InputError(f"cannot read the mesh '{path}': {other}")
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            mesh = reader(files, content, load_textures)
            check_size(mesh.parts)
    except MvdiffError as error:
        raise InputError(f"cannot read the mesh '{path}': {error}") from error
    except MemoryError:
        raise
    except Exception as error:  # parsers of broken files raise anything
        reason = f"it is damaged ({type(error).__name__}: {shorten(str(error), 80)})"
        raise InputError(f"cannot read the mesh '{path}': {reason}") from error
    mesh.files = list(files.used)
    mesh.parts = [part for part in mesh.parts if len(part.faces)]
    if not mesh.parts:
        raise InputError(f"the mesh '{path}' has no usable faces: expected triangles or polygons")
    if not all(np.isfinite(part.vertices[np.unique(part.faces)]).all() for part in mesh.parts):
        raise InputError(f"the mesh '{path}' has NaN or infinite vertices: export it again")
    return mesh
