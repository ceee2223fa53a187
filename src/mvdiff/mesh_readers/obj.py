"""Wavefront OBJ: polygons with relative or absolute indices, one part a material."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field

import numpy as np

from ..errors import InputError, MvdiffError
from .files import SourceFiles, shorten
from .mtl import read_mtl
from .parts import LoadedMesh, Material, MeshPart, Notes, check_faces, unit
from .polygons import triangulate
from .wavefront_text import decode_text, split_lines


@dataclass
class _Lines:
    """The statements of an OBJ file, by kind.

    faces: the corners' text of each polygon. material: its number in `names`. counts: how many
    positions, texture coordinates and normals came before a polygon with relative indices.
    """

    positions: list[str] = field(default_factory=list)
    coordinates: list[str] = field(default_factory=list)
    normals: list[str] = field(default_factory=list)
    faces: list[str] = field(default_factory=list)
    material: list[int] = field(default_factory=list)
    counts: dict[int, tuple[int, int, int]] = field(default_factory=dict)
    names: list[str] = field(default_factory=lambda: [""])
    libraries: list[str] = field(default_factory=list)
    ignored: set[str] = field(default_factory=set)


def read_obj(files: SourceFiles, content: bytes, load_textures: bool) -> LoadedMesh:
    """The polygons as triangles. Raises InputError for damaged numbers and indices.

    Positions may carry colors (`v x y z r g b`), taken as displayed.
    """
    lines = _sort_lines(decode_text(content))
    notes = Notes()
    if lines.ignored:
        notes.add(f"curved surfaces are not drawn ({', '.join(sorted(lines.ignored))})")
    if not lines.faces:
        return LoadedMesh([], "z", list(notes))
    materials = _read_materials(files, lines, notes, load_textures)
    vertices, colors = _positions(lines.positions)
    uv = _table(lines.coordinates, (2, 1), "vt")
    normals = _table(lines.normals, (3,), "vn")
    corners, sizes = _corners(lines)
    limits = (len(vertices), len(uv), len(normals))
    for kind, limit in enumerate(limits):
        if kind == 0:
            check_faces(corners[:, :1], limit)
        elif len(corners) and int(corners[:, kind].max()) >= limit:
            raise InputError(f"a face names {('', 'vt', 'vn')[kind]} number that is not there")
    triangles, polygon = triangulate(vertices[corners[:, 0]], sizes)
    material = np.asarray(lines.material)[polygon]
    parts = []
    for number in np.unique(material):
        chosen = corners[triangles[material == number]]
        look = materials.get(lines.names[number])
        parts.append(_part(chosen, vertices, uv, normals, colors, look))
    return LoadedMesh(parts, "z", list(notes))


def _sort_lines(text: str) -> _Lines:
    lines = _Lines()
    numbers: dict[str, int] = {"": 0}
    current = 0
    positions, coordinates, normals = lines.positions, lines.coordinates, lines.normals
    faces, materials, before = lines.faces, lines.material, lines.counts
    for line in split_lines(text):
        start = line[:2]  # most lines by far, without further looks at them
        if start == "v ":
            positions.append(line[2:])
            continue
        if start == "f ":
            faces.append(line[2:])
            materials.append(current)
            if "-" in line:
                before[len(faces) - 1] = len(positions), len(coordinates), len(normals)
            continue
        if line[:3] == "vn ":
            normals.append(line[3:])
            continue
        line = line.strip()
        key, _, rest = line.partition(" ")
        if "\t" in key:
            key, _, rest = line.replace("\t", " ").partition(" ")
        if key == "v":
            positions.append(rest)
        elif key == "vt":
            coordinates.append(rest)
        elif key == "vn":
            normals.append(rest)
        elif key in ("f", "fo"):
            faces.append(rest)
            materials.append(current)
            before[len(faces) - 1] = len(positions), len(coordinates), len(normals)
        elif key == "usemtl":
            current = numbers.setdefault(rest.strip(), len(numbers))
        elif key == "mtllib":
            lines.libraries.append(rest.strip())
        elif key in ("surf", "curv", "curv2"):
            lines.ignored.add(key)
    lines.names = list(numbers)
    return lines


def _floats(text: str) -> np.ndarray | None:
    """All numbers of a text; None when there is anything else in it."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", DeprecationWarning)
        try:
            return np.fromstring(text, dtype=np.float64, sep=" ")
        except (DeprecationWarning, ValueError):
            return None


def _word_counts(lines: list[str]) -> np.ndarray:
    """How many words each line has."""
    blanks = np.array([line.count(" ") for line in lines], dtype=np.int64)
    plain = "\n".join(lines)
    if "  " in plain or "\t" in plain or " \n" in plain or "\n " in plain or plain != plain.strip():
        return np.array([len(line.split()) for line in lines], dtype=np.int64)
    return blanks + 1


def _rows(lines: list[str], kind: str) -> tuple[np.ndarray, np.ndarray]:
    """The numbers of many lines, flat, and how many each line has."""
    values = _floats(" ".join(lines))
    width = len(lines[0].split()) if lines else 0
    # lines of different lengths can add up to the same count
    even = values is not None and len(values) == width * len(lines)
    if even and (_word_counts(lines) == width).all():
        return values, np.full(len(lines), width)
    numbers, counts = [], []
    for line in lines:
        words = line.partition("#")[0].split()
        try:
            numbers += [float(word) for word in words]
        except ValueError as error:
            raise InputError(f"'{kind} {shorten(line, 40)}' holds no numbers") from error
        counts.append(len(words))
    return np.array(numbers, dtype=np.float64), np.array(counts, dtype=np.int64)


def _table(lines: list[str], widths: tuple[int, ...], kind: str) -> np.ndarray:
    """The first numbers of every line, (line, widths[0]); missing ones are 0.

    widths: how many are used, and how few are enough.
    """
    out = np.zeros((len(lines), widths[0]))
    if not lines:
        return out
    values, counts = _rows(lines, kind)
    if counts.min() < widths[-1]:
        raise InputError(f"a '{kind}' line has too few numbers")
    start = np.concatenate([[0], np.cumsum(counts)[:-1]])
    for column in range(widths[0]):
        present = counts > column
        out[present, column] = values[start[present] + column]
    return out


def _positions(lines: list[str]) -> tuple[np.ndarray, np.ndarray | None]:
    """Positions (vertex, 3) and colors (vertex, 4) where all have some."""
    if not lines:
        return np.zeros((0, 3)), None
    values, counts = _rows(lines, "v")
    if counts.min() < 3:
        raise InputError("a 'v' line has fewer than 3 numbers")
    start = np.concatenate([[0], np.cumsum(counts)[:-1]])
    vertices = values[start[:, None] + np.arange(3)]
    if counts.min() < 6:
        return vertices, None
    colors = values[start[:, None] + np.arange(3, 6)]
    if np.nanmax(colors, initial=0) > 1:
        colors = colors / 255  # some programs write bytes
    rgba = np.concatenate([np.nan_to_num(colors).clip(0, 1), np.ones((len(colors), 1))], axis=1)
    return vertices, rgba


def _corners(lines: _Lines) -> tuple[np.ndarray, np.ndarray]:
    """Position, texture coordinate and normal number of every corner (corner, 3), −1 for none,
    and how many corners each polygon has."""
    joined = " ".join(lines.faces)
    sizes = _word_counts(lines.faces)
    total = int(sizes.sum())
    slashes = joined.count("/")
    numbers = None
    if slashes == 0:
        columns, numbers = [0], _floats(joined)
    elif "//" in joined and slashes == 2 * total:
        columns, numbers = [0, 2], _floats(joined.replace("//", " "))
    elif "//" not in joined and slashes == 2 * total:
        columns, numbers = [0, 1, 2], _floats(joined.replace("/", " "))
    elif "//" not in joined and slashes == total:
        columns, numbers = [0, 1], _floats(joined.replace("/", " "))
    corners = np.zeros((total, 3), dtype=np.int64)  # 0 stands for nothing, as files count from 1
    if numbers is not None and len(numbers) == total * len(columns):
        if not (np.isfinite(numbers) & (np.abs(numbers) < 2**53)).all():
            raise InputError("a face holds something other than vertex numbers")
        corners[:, columns] = numbers.reshape(total, -1).astype(np.int64)
    else:
        corners, sizes = _corners_one_by_one(lines.faces)
    if len(corners) and (corners[:, 0] == 0).any():
        raise InputError("a face names vertex 0, but OBJ counts from 1")
    is_relative = corners < 0
    absolute = corners - 1
    if is_relative.any():
        before = np.zeros((len(sizes), 3), dtype=np.int64)
        for face, counts in lines.counts.items():
            before[face] = counts
        absolute = np.where(is_relative, corners + np.repeat(before, sizes, axis=0), absolute)
        if (is_relative & (absolute < 0)).any():
            raise InputError("a face counts back beyond the first vertex")
    return absolute, sizes


def _corners_one_by_one(faces: list[str]) -> tuple[np.ndarray, np.ndarray]:
    corners, sizes = [], []
    for line in faces:
        words = line.partition("#")[0].split()
        for word in words:
            fields = word.split("/")
            try:
                numbers = [int(text) if text else 0 for text in fields[:3]]
            except ValueError as error:
                raise InputError(f"the face '{shorten(line, 40)}' is not understood") from error
            if any(abs(number) >= 2**53 for number in numbers):
                raise InputError(f"the face '{shorten(line, 40)}' names vertices out of range")
            corners.append(numbers + [0] * (3 - len(numbers)))
        sizes.append(len(words))
    return (
        np.array(corners, dtype=np.int64).reshape(-1, 3),
        np.array(sizes, dtype=np.int64),
    )


def _part(
    corners: np.ndarray,
    vertices: np.ndarray,
    uv: np.ndarray,
    normals: np.ndarray,
    colors: np.ndarray | None,
    material: Material | None,
) -> MeshPart:
    """The part of some triangles; corners (face, 3, 3): numbers of position, uv and normal."""
    faces = corners[..., 0]
    part_normals = part_uv = None
    if len(normals) and (corners[..., 2] >= 0).all():
        part_normals = unit(normals[corners[..., 2]])
        if not (np.linalg.norm(part_normals, axis=-1) > 0.5).all():
            part_normals = None
    if material is not None and material.texture is not None and (corners[..., 1] >= 0).all():
        part_uv = uv[corners[..., 1]]
    return MeshPart(
        vertices=vertices,
        faces=faces,
        normals=part_normals,
        uv=part_uv,
        colors=None if colors is None else colors[faces],
        material=material,
    )


def _read_materials(
    files: SourceFiles, lines: _Lines, notes: Notes, load_textures: bool
) -> dict[str, Material]:
    """The materials of all libraries that are there; what is missing is noted."""
    used = {lines.names[number] for number in set(lines.material)} - {""}
    materials: dict[str, Material] = {}
    if not used:
        return materials
    for name in lines.libraries:
        # one name with blanks, or several names
        names = [name] if files.find(name) or " " not in name else name.split()
        for library in names:
            file = files.find(library)
            if file is None:
                notes.add(f"the material file '{shorten(library)}' is missing")
                continue
            try:
                materials |= read_mtl(files, file, used, notes, load_textures)
            except MvdiffError as error:
                notes.add(f"the material file '{shorten(library)}' was not read: {error}")
    if not lines.libraries:
        notes.add("it uses materials, but names no material file")
    missing = sorted(used - set(materials))
    folded = {name.casefold(): material for name, material in materials.items()}
    for name in list(missing):
        if name.casefold() in folded:
            materials[name] = folded[name.casefold()]
            missing.remove(name)
    if missing and materials:
        shown = ", ".join(shorten(name, 30) for name in missing[:3])
        more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
        notes.add(f"no material file has the materials {shown}{more}")
    return materials
