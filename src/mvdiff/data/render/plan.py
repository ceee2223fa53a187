"""Which objects to render, under which names, and in which split."""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from ...errors import ConfigError, InputError
from ..meshes import find_meshes
from .limits import MAX_OBJECTS
from .settings import ObjectSelection
from .worker import Job


def read_patterns(held_out: str | Path | Sequence[str]) -> list[str]:
    """Names or glob patterns of held-out meshes, from a list or a text file with # comments."""
    if isinstance(held_out, (str, Path)):
        try:
            held_out = Path(held_out).read_text(encoding="utf-8").splitlines()
        except OSError as error:
            raise InputError(
                f"cannot read the held-out list '{held_out}' ({error.strerror}): expected a text "
                "file with one name or pattern a line"
            ) from error
    lines = (line.split("#")[0].strip() for line in held_out)
    return [line for line in lines if line]


def plan_jobs(objects: ObjectSelection) -> list[Job]:
    """One job per mesh file, stretched copy and shape.

    Raises ConfigError for too many objects or clashing names, InputError for unreadable files.
    """
    jobs = _mesh_jobs(objects) if objects.meshes is not None else []
    val_fraction = 0.0 if objects.held_out is not None else objects.val_fraction
    return jobs + _shape_jobs(objects.num_shapes, objects.first_shape_seed, val_fraction)


def _mesh_jobs(objects: ObjectSelection) -> list[Job]:
    folder, copies = Path(objects.meshes), objects.num_stretched_copies
    paths = find_meshes(folder)
    if len(paths) * (copies + 1) > MAX_OBJECTS:
        raise ConfigError(
            f"{len(paths)} meshes with {copies} copies each are more than {MAX_OBJECTS} objects: "
            "lower num_stretched_copies"
        )
    names = _names(folder, paths)
    patterns = None if objects.held_out is None else read_patterns(objects.held_out)
    numbered = [name for name in names if copies and name.rpartition("~")[2].isdecimal()]
    clashes = [name for name in numbered if name.rpartition("~")[0] in names]
    if clashes:
        raise ConfigError(
            f"a copy of '{clashes[0].rpartition('~')[0]}' would be named '{clashes[0]}', as a mesh "
            f"in '{folder}' is: rename that file, or leave num_stretched_copies=0"
        )
    jobs = []
    for name, path in zip(names, paths, strict=True):
        if patterns is None:
            val = _fraction(name) < objects.val_fraction
        else:
            val = any(fnmatchcase(name, pattern) for pattern in patterns)
        family = name.split("-")[0]
        jobs.append(Job(name, "mesh", family, _split(val), str(path), 0))
        for copy in range(1, 0 if val else copies + 1):
            jobs.append(Job(f"{name}~{copy}", "mesh", family, _split(val), str(path), 0, copy))
    return jobs


def _shape_jobs(count: int, first: int, val_fraction: float) -> list[Job]:
    """Jobs of `count` shapes, of the seeds from `first` on."""
    if not count:
        return []
    from ..procedural import family_of

    jobs = []
    for seed in range(first, first + count):
        family = family_of(seed)
        name = f"shape-{family}-{seed:07d}"
        val = _fraction(name) < val_fraction
        jobs.append(Job(name, "shape", family, _split(val), "", seed))
    return jobs


def _names(folder: Path, paths: list[Path]) -> list[str]:
    """A folder name for each file: its path's parts, with the format where two would clash."""
    plain = ["-".join(p.relative_to(folder).with_suffix("").parts) for p in paths]
    uses, taken, names = Counter(plain), set(), []
    for name, path in zip(plain, paths, strict=True):
        if uses[name] > 1:
            name += path.suffix.lower().replace(".", "-")
        unique, number = name, 2
        while unique in taken:
            unique, number = f"{name}-{number}", number + 1
        taken.add(unique)
        names.append(unique)
    return names


def _split(val: bool) -> str:
    return "val" if val else "train"


def _fraction(name: str) -> float:
    """A number in [0, 1) that depends on the name alone."""
    return zlib.crc32(name.encode()) / 2**32
