"""The folders of one picture's samples: which are finished, where new ones go, the best first."""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..utils.files import read_json

#: Settings that do not change a sample's files, or are kept beside them.
_IGNORED_KEYS = ("image", "out", "samples", "seed", "elevation", "azimuth", "device", "resume")
_IGNORED_KEYS += ("batch_size", "batch_views", "shard", "compile")

#: Larger files are not read: pictures within the limit of pixels need less.
MAX_FILE_BYTES = 2 * 2**30

#: Settings that name files of weights, and the weights that ship with the package.
_FILES = ("weights", "clip")
_BUNDLED_WEIGHTS = ("tiny.safetensors", "elevation.safetensors")


def fingerprint(
    images: Sequence[tuple[Path, float | str, float]], config: Mapping[str, Any]
) -> str:
    """A hash that changes when images, settings, weights or version change the samples.

    images: every picture with its elevation and azimuth.
    Raises InputError when the picture cannot be read.
    """
    from .. import __version__

    pictures = [(_digest(path), *where) for path, *where in images]
    settings = {key: value for key, value in config.items() if key not in _IGNORED_KEYS}
    files = [Path(str(config[k])).expanduser() for k in _FILES if config.get(k)]
    assets = resources.files("mvdiff.assets")
    with contextlib.ExitStack() as stack:
        files += [
            stack.enter_context(resources.as_file(assets / name)) for name in _BUNDLED_WEIGHTS
        ]
        states = [file.stat() for file in files if file.is_file()]
    stamps = [f"{state.st_mtime_ns}-{state.st_size}" for state in states]
    text = json.dumps([settings, pictures, stamps, __version__], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _digest(picture: Path) -> str:
    digest = hashlib.sha256()
    try:
        if picture.stat().st_size > MAX_FILE_BYTES:
            raise InputError(
                f"'{picture}' is larger than {MAX_FILE_BYTES / 2**30:g} GiB: no picture that is "
                "read here is"
            )
        with picture.open("rb") as file:
            while chunk := file.read(2**20):
                digest.update(chunk)
    except OSError as error:
        raise InputError(f"cannot read '{picture}' ({error.strerror}): check the file") from error
    return digest.hexdigest()


@dataclass(frozen=True)
class Survey:
    """Which of the requested samples exist.

    finished: seed → its folder. damaged: folder → what is wrong with its files.
    """

    finished: dict[int, Path]
    damaged: dict[Path, str]


@dataclass(frozen=True)
class SampleStore:
    """Samples in `folder`/sample-0, sample-1, …; `run.json` is written last and says which.

    seeds: of the requested samples. key: the `fingerprint` their `run.json` must hold.
    """

    folder: Path
    seeds: Sequence[int]
    key: str

    def survey(self) -> Survey:
        """The samples that are there already: whole ones, and those that lost files."""
        finished: dict[int, Path] = {}
        damaged: dict[Path, str] = {}
        for path in sorted([*self.folder.glob("sample-*"), *self.folder.glob(".sample-*")]):
            record = read_record(path)
            seed = record.get("seed")
            if record.get("fingerprint") != self.key or type(seed) is not int:
                continue
            if seed not in self.seeds or seed in finished:
                continue
            trouble = damage(path, record)
            if trouble is None:
                finished[seed] = path
            else:
                damaged[path] = trouble
        return Survey(finished, damaged)

    def finished(self) -> dict[int, Path]:
        """Seeds that are there already, with all their files → their folders."""
        return self.survey().finished

    def in_order(self, done: Mapping[int, Path]) -> bool:
        """Whether all samples are done, compared with each other and named by their rank."""
        if len(done) < len(self.seeds):
            return False
        names = {self.folder / f"sample-{k}" for k in range(len(self.seeds))}
        if set(done.values()) != names or any(self.folder.glob(".sample-*")):
            return False
        ranked = sorted(self.seeds)
        return len(ranked) == 1 or all(
            read_record(path).get("ranked_with") == ranked for path in done.values()
        )

    def slot_for(self, seed: int, done: Mapping[int, Path]) -> Path:
        """The folder for a missing sample: a number below the count that none of `done` has."""
        taken = {path.name for path in done.values()}
        names = [f"sample-{k}" for k in range(len(self.seeds))]
        first = names[list(self.seeds).index(seed)]
        free = [name for name in [first, *names] if name not in taken]
        return self.folder / free[0]

    def arrange(self, best_first: Sequence[Path]) -> list[Path]:
        """Rename folders so that they stand in this order; other samples make room.

        A kill in between leaves hidden names, which `finished` finds and the next call mends;
        hidden samples of other settings get a number behind these, unfinished ones are removed.
        """
        names = [self.folder / f"sample-{k}" for k in range(len(best_first))]
        if list(best_first) == names:
            self._unhide_others()
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
            to = vacant.pop(0) if vacant else _next_free(self.folder, len(names))
            path.rename(to)
        arranged = [path.rename(name) for path, name in zip(hidden, names, strict=True)]
        self._unhide_others()
        return arranged

    def _unhide_others(self) -> None:
        """Hidden samples that a killed run of other settings left."""
        for path in sorted(self.folder.glob(".sample-*")):
            if read_record(path):
                path.rename(_next_free(self.folder, len(self.seeds)))
            else:
                shutil.rmtree(path, ignore_errors=True)


def read_record(folder: Path) -> dict[str, Any]:
    """A sample's `run.json`; empty where there is none that can be read."""
    return read_json(folder / "run.json", dict) or {}


#: What a sample's folder holds beside `run.json`; other files in it are somebody else's.
_OUTPUTS = ("transforms.json", "views/[0-9]*.png", "strip.png", "input*.png", "preview.png")
_OUTPUTS += ("mesh.glb", "turntable.*")


def output_sizes(folder: Path) -> dict[str, int]:
    """A sample's files, but for `run.json`: path in the folder → bytes."""
    files = sorted(file for pattern in _OUTPUTS for file in folder.glob(pattern))
    return {file.relative_to(folder).as_posix(): file.stat().st_size for file in files}


def damage(folder: Path, record: Mapping[str, Any]) -> str | None:
    """Which of the files that a sample's `run.json` lists is missing or cut off, or None.

    Views and their cameras must have the very size on record; other files may have grown, since
    people edit meshes and pictures.
    """
    sizes = record.get("files")
    if not isinstance(sizes, dict):  # written before sizes were kept
        sizes = {"transforms.json": 1, "strip.png": 1, "input.png": 1, "preview.png": 1}
        exact: tuple[str, ...] = ()
    else:
        exact = ("views/", "transforms.json")
    for name, size in sizes.items():
        try:
            actual = (folder / str(name)).stat().st_size
        except (OSError, ValueError):
            return f"{name} is missing"
        if not isinstance(size, int) or actual < size:
            return f"{name} is cut off" if actual else f"{name} is empty"
        if actual != size and name.startswith(exact):
            return f"{name} was changed"
    return None


def _next_free(folder: Path, number: int) -> Path:
    """The first sample folder from `number` on that is not there."""
    while (folder / f"sample-{number}").exists():
        number += 1
    return folder / f"sample-{number}"
