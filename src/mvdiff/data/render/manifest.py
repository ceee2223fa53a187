"""What a rendered object was made of: source files, pictures and notes, in `object.json`.

The record is written after an object's last picture, so an object with one is complete. Rendering
again compares it with what is there: changed meshes and damaged pictures are rendered anew.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ...utils.files import read_json, write_json

NAME = "object.json"


@dataclass
class ObjectRecord:
    """One object.

    sources: name, size, time of change (ns) and SHA-256 of the files that the mesh consists of;
        size None: it was not there.
    pictures: name and size of every file in the object's folders.
    digest: SHA-256 of all these files' content.
    notes: what of the mesh was not used.
    """

    sources: list[dict[str, Any]] = field(default_factory=list)
    pictures: dict[str, int] = field(default_factory=dict)
    digest: str = ""
    notes: list[str] = field(default_factory=list)

    def write(self, folder: Path) -> None:
        """Write `object.json` atomically."""
        write_json(folder / NAME, {"version": 1, **asdict(self)})

    @staticmethod
    def read(folder: Path) -> ObjectRecord | None:
        """The record of an object's folder; None when it is missing or damaged."""
        content = read_json(folder / NAME, dict)
        if content is None or content.get("version") != 1:
            return None
        sources, pictures = content.get("sources"), content.get("pictures")
        digest, notes = content.get("digest"), content.get("notes")
        if not (
            isinstance(sources, list)
            and all(isinstance(s, dict) and isinstance(s.get("name"), str) for s in sources)
            and isinstance(pictures, dict)
            and isinstance(digest, str)
            and isinstance(notes, list)
        ):
            return None
        return ObjectRecord(sources, pictures, digest, [str(note) for note in notes])

    def source_digest(self) -> str:
        """A hash of the source files' content; empty when there are none."""
        known = [(s["name"], s.get("sha256")) for s in self.sources]
        return hashlib.sha256(repr(known).encode()).hexdigest()[:16] if known else ""

    def pictures_are_whole(self, folder: Path) -> bool:
        """Whether every picture is there in its size."""
        try:
            sizes = {name: (folder / name).stat().st_size for name in self.pictures}
        except (OSError, ValueError):
            return False
        return bool(sizes) and sizes == self.pictures

    def sources_are_unchanged(self, folder: Path) -> bool:
        """Whether the mesh's files in `folder` hold what they held; hashed only where size or
        time differ."""
        return all(_is_unchanged(source, folder) for source in self.sources)


def describe_sources(paths: Sequence[str | Path], folder: Path) -> list[dict[str, Any]]:
    """Entries for `ObjectRecord.sources`, with names relative to `folder`."""
    sources = []
    for path in paths:
        name = os.path.relpath(path, folder)
        try:
            status = os.stat(path)
            entry = {"size": status.st_size, "mtime_ns": status.st_mtime_ns, "sha256": _hash(path)}
        except (OSError, ValueError):
            entry = {"size": None}
        sources.append({"name": name, **entry})
    return sources


def describe_pictures(folder: Path, parts: Sequence[str]) -> tuple[dict[str, int], str]:
    """Sizes of all files in an object's folders, and the hash of their names and content."""
    sizes, digest = {}, hashlib.sha256()
    for part in parts:
        for path in sorted((folder / part).iterdir()):
            if path.name.startswith("."):
                continue
            name = f"{part}/{path.name}"
            content = path.read_bytes()
            sizes[name] = len(content)
            digest.update(f"{name} {len(content)}\n".encode())
            digest.update(content)
    return sizes, digest.hexdigest()


def _is_unchanged(source: dict[str, Any], folder: Path) -> bool:
    path = folder / source["name"]
    try:
        status = path.stat()
    except (OSError, ValueError):
        return source.get("size") is None
    if source.get("size") != status.st_size:
        return False
    return source.get("mtime_ns") == status.st_mtime_ns or source.get("sha256") == _hash(path)


def _hash(path: str | Path) -> str | None:
    digest = hashlib.sha256()
    try:
        with open(path, "rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    except OSError:
        return None
    return digest.hexdigest()
