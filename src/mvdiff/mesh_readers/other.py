"""PLY and STL through trimesh, after checks of what their headers claim."""

from __future__ import annotations

import contextlib
import io
import logging
import re
from collections.abc import Iterator

import numpy as np
import trimesh

from ..errors import InputError
from .files import SourceFiles
from .parts import LoadedMesh, MeshPart, check_faces, unit

_PLY_BYTES = {
    "char": 1, "uchar": 1, "int8": 1, "uint8": 1,
    "short": 2, "ushort": 2, "int16": 2, "uint16": 2,
    "int": 4, "uint": 4, "int32": 4, "uint32": 4, "float": 4, "float32": 4,
    "double": 8, "float64": 8,
}  # fmt: skip


def read_with_trimesh(files: SourceFiles, content: bytes, load_textures: bool) -> LoadedMesh:
    """The triangles of a PLY or STL file, with vertex or face colors.

    Raises InputError when the header claims more than the file holds.
    """
    del load_textures  # these formats have none that trimesh reads
    kind = files.path.suffix.lower()[1:]
    notes = []
    if kind == "ply":
        notes = _check_ply(content)
        content = _with_common_color_names(content)
    with _quiet():
        mesh = trimesh.load(io.BytesIO(content), file_type=kind, process=False, force="mesh")
    if not isinstance(mesh, trimesh.Trimesh) or not len(mesh.faces):
        return LoadedMesh([], "z", notes)
    vertices, faces = np.array(mesh.vertices, np.float64), np.array(mesh.faces, np.int64)
    check_faces(faces, len(vertices))
    normals = None
    if kind == "ply" and "vertex_normals" in mesh._cache:
        # trimesh keeps a file's normals in its cache, and would compute averages otherwise
        normals = unit(np.array(mesh.vertex_normals, np.float64))[faces]
        if not (np.linalg.norm(normals, axis=-1) > 0.5).all():
            normals = None
    return LoadedMesh([MeshPart(vertices, faces, normals, colors=_colors(mesh))], "z", notes)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """trimesh logs what it then raises."""
    log = logging.getLogger("trimesh")
    disabled, log.disabled = log.disabled, True
    try:
        yield
    finally:
        log.disabled = disabled


def _colors(mesh: trimesh.Trimesh) -> np.ndarray | None:
    """RGBA of the corners in [0, 1]; None where the file has no colors."""
    visual = mesh.visual
    kind = visual.kind
    if kind == "face":
        return np.repeat(np.asarray(visual.face_colors)[:, None] / 255, 3, axis=1)
    if kind == "vertex":
        return np.asarray(visual.vertex_colors)[mesh.faces] / 255
    return None


def _check_ply(content: bytes) -> list[str]:
    """Compare the header's counts with the file's length; notes on what is not used."""
    end = re.search(rb"end_header[^\n]*\n", content[: 1 << 20])
    if not content.startswith(b"ply") or end is None:
        raise InputError("it has no PLY header")
    header = content[: end.start()].decode("latin-1")
    is_text = "format ascii" in header
    needed, count, notes = 0, 0, []
    for line in header.splitlines():
        words = line.split()
        if words[:1] == ["element"] and len(words) == 3:
            if not words[2].isdecimal() or len(words[2]) > 12:
                raise InputError(f"its header claims '{words[2][:20]}' elements")
            count = int(words[2])
        elif words[:1] == ["property"] and len(words) >= 3:
            if words[1] == "list":
                needed += count * (2 if is_text else _PLY_BYTES.get(words[2], 1))
            else:
                needed += count * (2 if is_text else _PLY_BYTES.get(words[1], 1))
        elif words[:2] == ["comment", "TextureFile"]:
            notes.append("the texture of a PLY is not read")
    # the last number of a text has no blank after it
    if needed > len(content) - end.end() + 1:
        raise InputError(
            f"its header claims at least {needed} bytes, the file has {len(content) - end.end()}"
        )
    return notes


def _with_common_color_names(content: bytes) -> bytes:
    """The PLY with `diffuse_red` called `red` and so on, as trimesh knows them."""
    header, end, data = content.partition(b"end_header")
    header = re.sub(rb"(?m)^(property +\w+ +)diffuse_(red|green|blue)\b", rb"\1\2", header)
    return header + end + data
