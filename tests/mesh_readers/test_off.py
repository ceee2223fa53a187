"""OFF: polygons, kinds of header, and damaged faces."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mvdiff.errors import InputError
from mvdiff.mesh_readers import read_mesh_file
from mvdiff.mesh_readers.parts import MeshPart

VERTICES = ["0 0 0", "2 0 0", "2 1 0", "1 2 0", "0 1 0"]


def read(folder: Path, *lines: str) -> MeshPart:
    (folder / "a.off").write_text("\n".join(lines) + "\n")
    (part,) = read_mesh_file(folder / "a.off").parts
    return part


def area(part: MeshPart) -> float:
    a, b, c = part.vertices[part.faces].transpose(1, 0, 2)
    return float(np.linalg.norm(np.cross(b - a, c - a), axis=-1).sum() / 2)


@pytest.mark.parametrize("faces", [["5 0 1 2 3 4"], ["4 0 1 2 4", "3 2 3 4"]])
def test_polygons_become_triangles(tmp_path, faces):
    part = read(tmp_path, "OFF", f"5 {len(faces)} 0", *VERTICES, *faces)
    assert len(part.faces) == 3
    assert area(part) == pytest.approx(3)


@pytest.mark.parametrize(
    "head", [["OFF # a comment", "5 1 0"], ["OFF 5 1 0"], ["OFF5 1 0"], ["", "COFF", "# x", "5 1"]]
)
def test_headers_comments_and_colors(tmp_path, head):
    vertices = [f"{line} 255 0 0 255  # red" for line in VERTICES]
    part = read(tmp_path, *head, *vertices, "", "5 0 1 2 3 4 0.5 0.5 0.5")
    assert len(part.faces) == 3
    assert area(part) == pytest.approx(3)
    assert part.colors is None


@pytest.mark.parametrize(
    ("faces", "says"),
    [
        (["3 0 1 2", "3 0 1 7"], "a face names vertex 7, but there are 5 vertices"),
        (["3 0 1 2", "5 0 1 2 3 5"], "names vertex 5"),
        (["3 0 1 2", "3 0 1 -1"], "names vertex -1"),
        (["3 0 1 2", "2 0 9"], "names vertex 9"),
        (["3 0 1 2", "3 0 1"], "the face '3 0 1' lacks some of its 3 vertices"),
        (["3 0 1 2", "3 0 1 x"], "the face '3 0 1 x' is not understood"),
        (["3 0 1 2", f"3 0 1 {10**30}"], "names vertices out of range"),
        (["3 0 1 2", "-1 0"], "is not understood"),
    ],
)
def test_damaged_faces_are_named(tmp_path, faces, says):
    with pytest.raises(InputError, match=says):
        read(tmp_path, "OFF", f"5 {len(faces)} 0", *VERTICES, *faces)


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        (["OFF", "5 2 0", *VERTICES, "3 0 1 2"], "claims 7 lines, the file has 6"),
        (["OFF", f"{10**15} 1 0", *VERTICES], "claims 1000000000000000 vertices"),
        (["OFF", "1 1 0", "0 0 a", "1 0"], "the vertex '0 0 a' is not three numbers"),
        (["OFF", "1 1 0", "0 0", "1 0"], "the vertex '0 0' is not three numbers"),
        (["4OFF", "1 1 0", "0 0 0 1", "1 0"], "no header"),
        (["OFF BINARY", "1 1 0"], "no header"),
        (["3 0 1 2"], "no header"),
    ],
)
def test_other_damage_is_named(tmp_path, lines, says):
    with pytest.raises(InputError, match=says):
        read(tmp_path, *lines)
