"""OFF: vertices and polygons as lines of text."""

from __future__ import annotations

import re

import numpy as np

from ..errors import InputError
from .files import SourceFiles, shorten
from .parts import LoadedMesh, MeshPart, check_faces
from .polygons import triangulate
from .wavefront_text import decode_text


def read_off(files: SourceFiles, content: bytes, load_textures: bool) -> LoadedMesh:
    """The polygons of an OFF file as triangles, without colors.

    Vertex lines may go on after the position (COFF, NOFF, STOFF), face lines after their numbers.
    Raises InputError for other kinds of OFF, for damaged numbers, for vertex numbers beyond the
    list of vertices, and when the header claims more lines than the file holds.
    """
    del files, load_textures  # the format has no textures
    text = re.sub(r"#[^\n]*", "", decode_text(content))
    head = re.match(r"\s*(?:ST)?C?N?OFF(?!\s*BINARY)\s*(\d+)[ \t]+(\d+)[^\n]*\n?", text)
    if head is None:
        raise InputError("it has no header of a three-dimensional OFF in text: OFF, then counts")
    if max(map(len, head.groups())) > 12:
        raise InputError(f"its header claims {shorten(head[1], 20)} vertices")
    vertex_count, face_count = map(int, head.groups())
    lines = [line for line in text[head.end() :].splitlines() if line.strip()]
    if vertex_count + face_count > len(lines):
        raise InputError(
            f"its header claims {vertex_count + face_count} lines, the file has {len(lines)}"
        )
    vertices = _vertices(lines[:vertex_count])
    corners, sizes = _faces(lines[vertex_count : vertex_count + face_count])
    check_faces(corners, vertex_count)
    triangles, _ = triangulate(vertices[corners], sizes)
    return LoadedMesh([MeshPart(vertices, corners[triangles])], "z")


def _vertices(lines: list[str]) -> np.ndarray:
    """Positions (vertex, 3)."""
    vertices = np.zeros((len(lines), 3))
    for i, line in enumerate(lines):
        try:
            vertices[i] = [float(word) for word in line.split(maxsplit=3)[:3]]
        except ValueError as error:
            raise InputError(f"the vertex '{shorten(line, 40)}' is not three numbers") from error
    return vertices


def _faces(lines: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Vertex numbers of all corners, polygon after polygon, and how many each polygon has."""
    corners, sizes = [], []
    for line in lines:
        try:
            size, *numbers = map(int, line.split()[: int(line.split(maxsplit=1)[0]) + 1])
        except ValueError as error:
            raise InputError(f"the face '{shorten(line, 40)}' is not understood") from error
        if len(numbers) != size:
            raise InputError(f"the face '{shorten(line, 40)}' lacks some of its {size} vertices")
        if any(abs(number) >= 2**53 for number in numbers):
            raise InputError(f"the face '{shorten(line, 40)}' names vertices out of range")
        corners += numbers
        sizes.append(size)
    return np.array(corners, dtype=np.int64), np.array(sizes, dtype=np.int64)
