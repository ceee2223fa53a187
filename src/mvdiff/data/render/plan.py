"""Which objects to render, under which names, and in which split."""

from __future__ import annotations

import zlib
from collections import Counter
from fnmatch import fnmatchcase
from pathlib import Path

from ...errors import MvdiffError
from ..meshes import find_meshes
from .settings import MAX_OBJECTS
from .worker import Job


def read_patterns(held_out: str | Path | list[str]) -> list[str]:
    """Names or glob patterns of held-out meshes, from a list or a text file with # comments."""
    if isinstance(held_out, (str, Path)):
        try:
            held_out = Path(held_out).read_text(encoding="utf-8").splitlines()
        except OSError as error:
            raise MvdiffError(
                f"cannot read the held-out list '{held_out}' ({error.strerror}): expected a text "
                "file with one name or pattern a line"
            ) from error
    lines = (line.split("#")[0].strip() for line in held_out)
    return [line for line in lines if line]


def mesh_jobs(
    folder: str | Path,
    held_out: str | Path | list[str] | None,
    val_fraction: float,
    copies: int = 0,
) -> list[Job]:
    """One job a mesh file and stretched copy; all arguments as in `render_objects`."""
    folder = Path(folder)
    paths = find_meshes(folder)
    if len(paths) * (copies + 1) > MAX_OBJECTS:
        raise MvdiffError(
            f"{len(paths)} meshes with {copies} copies each are more than {MAX_OBJECTS} objects: "
            "lower copies"
        )
    names = _names(folder, paths)
    patterns = None if held_out is None else read_patterns(held_out)
    jobs, clash = [], [name for name in names if copies and name.rpartition("~")[2].isdecimal()]
    clash = [name for name in clash if name.rpartition("~")[0] in names]
    if clash:
        raise MvdiffError(
            f"a copy of '{clash[0].rpartition('~')[0]}' would be named '{clash[0]}', as a mesh in "
            f"'{folder}' is: rename that file, or leave copies=0"
        )
    for name, path in zip(names, paths, strict=True):
        if patterns is None:
            val = _fraction(name) < val_fraction
        else:
            val = any(fnmatchcase(name, pattern) for pattern in patterns)
        family = name.split("-")[0]
        jobs.append(Job(name, "mesh", family, _split(val), str(path), 0))
        for copy in range(1, 0 if val else copies + 1):
            jobs.append(Job(f"{name}~{copy}", "mesh", family, _split(val), str(path), 0, copy))
    return jobs


def shape_jobs(count: int, first: int, val_fraction: float) -> list[Job]:
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
