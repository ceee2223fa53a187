"""The folders of one picture's samples: which are finished, where new ones go, the best first."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from ..errors import MvdiffError

#: Settings that do not change a sample's files, or are kept beside them.
_OTHER = ("image", "out", "samples", "seed", "elevation", "azimuth", "device", "resume")
_OTHER += ("batch", "batch_views", "shard", "compile")

#: Settings that name files of weights, and the weights that ship with the package.
_FILES = ("weights", "checkpoint", "clip")
_SHIPPED = ("tiny.safetensors", "elevation.safetensors")


def fingerprint(shots: Sequence[tuple[Path, float | str, float]], config: Mapping[str, Any]) -> str:
    """Another one when a sample of other pictures, settings, weights or version could differ.

    shots: every picture with its elevation and azimuth.
    Raises MvdiffError when the picture cannot be read.
    """
    from .. import __version__

    pictures = [(_digest(path), *where) for path, *where in shots]
    settings = {key: value for key, value in config.items() if key not in _OTHER}
    files = [Path(str(config[k])).expanduser() for k in _FILES if config.get(k)]
    assets = resources.files("mvdiff.assets")
    with contextlib.ExitStack() as stack:
        files += [stack.enter_context(resources.as_file(assets / name)) for name in _SHIPPED]
        states = [file.stat() for file in files if file.is_file()]
    stamps = [f"{state.st_mtime_ns}-{state.st_size}" for state in states]
    text = json.dumps([settings, pictures, stamps, __version__], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _digest(picture: Path) -> str:
    try:
        return hashlib.sha256(picture.read_bytes()).hexdigest()
    except OSError as error:
        raise MvdiffError(f"cannot read '{picture}' ({error.strerror}): check the file") from error


@dataclass(frozen=True)
class Samples:
    """Samples in `folder`/sample-0, sample-1, …; `run.json` is written last and says which.

    wanted: seeds. key: the `fingerprint` their `run.json` must hold.
    """

    folder: Path
    wanted: Sequence[int]
    key: str

    def finished(self) -> dict[int, Path]:
        """Seeds that are there already → their folders."""
        found: dict[int, Path] = {}
        for path in sorted([*self.folder.glob("sample-*"), *self.folder.glob(".sample-*")]):
            record = read_record(path)
            if record.get("fingerprint") == self.key and record.get("seed") in self.wanted:
                found.setdefault(record["seed"], path)
        return found

    def place(self, seed: int, done: Mapping[int, Path]) -> Path:
        """Where a missing sample goes: a number below the count that none of `done` has."""
        taken = {path.name for path in done.values()}
        names = [f"sample-{k}" for k in range(len(self.wanted))]
        first = names[list(self.wanted).index(seed)]
        free = [name for name in [first, *names] if name not in taken]
        return self.folder / free[0]

    def arrange(self, best_first: Sequence[Path]) -> list[Path]:
        """Rename folders so that they stand in this order; other samples make room.

        A kill in between leaves hidden names, which `finished` finds and the next call mends.
        """
        names = [self.folder / f"sample-{k}" for k in range(len(best_first))]
        if list(best_first) == names:
            return names
        others = [p for p in names if p.exists() and p not in best_first]
        vacant = [p for p in best_first if p not in names and not p.name.startswith(".")]
        # named by seed and key, so that no folder of another kill or other settings is in the way
        seeds = [read_record(path)["seed"] for path in best_first]
        hidden = [
            path.rename(self.folder / f".sample-{seed}-{self.key}")
            for seed, path in zip(seeds, best_first, strict=True)
        ]
        for path in others:
            to = vacant.pop(0) if vacant else _unused(self.folder, len(names))
            path.rename(to)
        return [path.rename(name) for path, name in zip(hidden, names, strict=True)]


def read_record(folder: Path) -> dict[str, Any]:
    """A sample's `run.json`; empty where there is none that can be read."""
    try:
        record = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return record if isinstance(record, dict) else {}


def _unused(folder: Path, number: int) -> Path:
    """The first sample folder from `number` on that is not there."""
    while (folder / f"sample-{number}").exists():
        number += 1
    return folder / f"sample-{number}"
