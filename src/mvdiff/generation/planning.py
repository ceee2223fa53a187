"""What `mvdiff generate` is to make: pictures, their cameras, result folders. Imports no torch."""

from __future__ import annotations

import contextlib
import os
import re
import unicodedata
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..config.instantiate import to_container
from ..errors import MvdiffError
from ..preprocessing.azimuth import check_azimuths
from ..preprocessing.elevation_settings import elevation_per_picture
from ..preprocessing.image_io import check_picture, user_path
from ..utils.files import check_writable
from ..utils.images import register_heif
from ..utils.video import VIDEOS, import_ffmpeg
from .sample_store import SampleStore, fingerprint

#: What is said of an object whose samples are all there.
FINISHED = "finished before; resume=false makes it again"
#: Suffixes of pictures that are read from a folder.
PICTURES = (".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".webp", ".avif", ".bmp")
PICTURES += (".tif", ".tiff", ".gif", ".jp2", ".j2k", ".ppm", ".pgm", ".pbm", ".pnm", ".tga")
HEIF = (".heic", ".heif", ".hif")
#: Files that systems leave in folders; nobody means them.
_SYSTEM_FILES = ("thumbs.db", "desktop.ini", "ehthumbs.db")
#: Files beside pictures that surely are none: nobody is told that they are passed over.
_TEXTS = (".txt", ".md", ".csv", ".tsv", ".json", ".yaml", ".yml", ".xml", ".html", ".log", ".py")
_TEXTS += (".ini", ".xmp", ".aae")
#: More samples of a picture are taken for a typing error.
MAX_SAMPLES = 10_000
#: Names that Windows keeps for devices, whatever their suffix.
_DEVICES = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)


@dataclass(frozen=True)
class Shot:
    """A picture, its camera's elevation (degrees or "auto") and azimuth (degrees)."""

    path: Path
    elevation: float | str
    azimuth: float = 0.0


@dataclass(frozen=True)
class Wanted:
    """Pictures of an object, usually one, and where its results go."""

    shots: tuple[Shot, ...]
    folder: Path

    @property
    def path(self) -> Path:
        """The first picture: the front, and what the object is called by."""
        return self.shots[0].path


def plan(config: Any) -> list[Wanted]:
    """What is to be made of all pictures, and where; MvdiffError on settings that cannot work."""
    check_numbers(config)
    if config.out is None:
        raise MvdiffError("out=null names no folder for the results: use out=FOLDER")
    pictures = find_pictures(config.image)
    elevations = elevation_per_picture(to_container(config.elevation), pictures)
    if config.azimuth is not None:
        azimuths = check_azimuths(to_container(config.azimuth), len(pictures))
    if len(pictures) == 1 or config.azimuth is not None:  # of a folder, the others are made
        for picture in pictures:
            check_picture(picture)
    out = user_path(str(config.out))
    check_writable(out)
    if config.azimuth is None:  # each picture is an object of its own
        shots = [(Shot(*each),) for each in zip(pictures, elevations, strict=True)]
    else:
        shots = [tuple(Shot(*each) for each in zip(pictures, elevations, azimuths, strict=True))]
    folders = result_folders(out, [s[0].path for s in shots])
    return [Wanted(*each) for each in zip(shots, folders, strict=True)]


def samples_of(config: Any, wanted: Wanted) -> SampleStore:
    """The samples that the settings ask for; MvdiffError when a picture cannot be read."""
    seeds = [config.seed + k for k in range(config.samples)]
    shots = [(s.path, s.elevation, s.azimuth) for s in wanted.shots]
    return SampleStore(wanted.folder, seeds, fingerprint(shots, to_container(config)))


def check_numbers(config: Any) -> None:
    """Raise MvdiffError now rather than after the model is loaded."""
    if type(config.samples) is not int or not 1 <= config.samples <= MAX_SAMPLES:
        if type(config.samples) is int and config.samples < 1:
            raise MvdiffError(f"samples must be at least 1, got {config.samples}")
        raise MvdiffError(
            f"samples must be a whole number in [1, {MAX_SAMPLES}], got {config.samples}"
        )
    if type(config.seed) is not int or not 0 <= config.seed < 2**62:
        raise MvdiffError(f"seed must be a whole number in [0, 2^62), got {config.seed}")
    for key in ("resume", "turntable"):
        if type(config[key]) is not bool:
            raise MvdiffError(f"{key} must be true or false, got {config[key]}")
    check_texture(config.texture)
    if config.video not in VIDEOS:
        raise MvdiffError(f"unknown video '{config.video}'; choose from {', '.join(VIDEOS)}")
    if config.video == "mp4" and config.turntable and config.reconstructor.name != "none":
        import_ffmpeg()  # missing: told before the work
    for key in ("batch", "batch_views"):
        some = config[key]
        if some is not None and (type(some) is not int or some < 1):
            raise MvdiffError(f"{key} must be a whole number from 1, got {some!r}")
    fill = config.get("fill")
    if fill is not None and not (type(fill) in (int, float) and 0 < fill <= 1):
        raise MvdiffError(
            f"fill must lie in (0, 1], got {fill}: it is a share of the picture's side, 0.67 suits "
            "the small model"
        )


def check_texture(setting: Any) -> None:
    """Raise MvdiffError unless `recon.finish.texture_side` will take it."""
    whole = type(setting) is int and (setting == 0 or 16 <= setting <= 8192)
    if setting is not None and setting != "none" and not whole:
        raise MvdiffError(
            "texture must be a side in texels, a whole number in [16, 8192], or none; got "
            f"{setting}"
        )


def find_pictures(image: Any) -> list[Path]:
    """The pictures of a path, a list of paths or a folder; MvdiffError when there are none.

    A warning names the files of a folder that are passed over; hidden files and those that
    systems leave behind are not mentioned.
    """
    paths = [image] if isinstance(image, str | os.PathLike) else to_container(image)
    if not paths or not isinstance(paths, list) or "" in paths:
        raise MvdiffError("image names no picture: give a path, a list of paths or a folder")
    for path in paths:
        if not isinstance(path, str | os.PathLike):
            raise MvdiffError(
                f"image must be a path, a list of paths or a folder, got {path!r}: put a name that "
                "looks like a number or a word such as true into quotes, 'image=[\"1e5\"]'"
            )
    found: list[Path] = []
    for path in map(user_path, paths):
        if path.is_dir():
            found += _pictures_in(path)
        elif path.is_file():
            found.append(path)
        elif os.path.lexists(path):
            raise MvdiffError(f"'{path}' is no picture: it is a pipe, a device or a broken link")
        else:
            raise MvdiffError(f"no picture at '{path}': check the path")
    return found


def _pictures_in(folder: Path) -> list[Path]:
    """The pictures right in a folder, by name; MvdiffError where there are none."""
    suffixes = PICTURES
    entries = sorted(p for p in folder.iterdir() if not p.name.startswith("."))
    entries = [p for p in entries if p.name.lower() not in _SYSTEM_FILES]
    if any(p.suffix.lower() in HEIF for p in entries) and register_heif():
        suffixes = (*PICTURES, *HEIF)
    found = [p for p in entries if p.suffix.lower() in suffixes and p.is_file()]
    taken = set(found)
    others = [p for p in entries if p not in taken and p.suffix.lower() not in _TEXTS]
    hint = ""
    if any(p.suffix.lower() in HEIF for p in others):
        hint = "; HEIC needs: pip install 'mvdiff[heif]'"
    if not found:
        there = f", got {_names(others)}{hint}" if others else ""
        raise MvdiffError(f"no pictures in the folder '{folder}': expected {_kinds()}{there}")
    if others:
        files = "file was" if len(others) == 1 else "files were"
        warnings.warn(
            f"{folder}: {len(others)} {files} passed over ({_names(others)}{hint})", stacklevel=1
        )
    return found


def _kinds() -> str:
    return ", ".join((".png", ".jpg", ".webp", ".avif", ".tif", ".bmp", ".gif", "…"))


def _names(paths: list[Path], most: int = 6) -> str:
    names = [p.name + ("/" if p.is_dir() else "") for p in paths[:most]]
    more = f" and {len(paths) - most} more" if len(paths) > most else ""
    return ", ".join(names) + more


def result_folders(out: Path, pictures: list[Path]) -> list[Path]:
    """One result folder per picture, in `out`; pictures of the same name get a number.

    Names that differ only in case or in Unicode form are the same on some disks, so they get a
    number, too.
    """
    taken: set[str] = set()
    folders = []
    for picture in pictures:
        name = base = result_name(picture)
        number = 1
        while _folded(name) in taken:
            number += 1
            name = f"{base}-{number}"
        taken.add(_folded(name))
        folders.append(out / name)
    return folders


def result_name(picture: Path) -> str:
    """The picture's name without suffix, as the name of a folder on any system.

    Separators of any system and control characters become "_"; dots at either end and blanks at
    the end go; nothing left is called "picture".
    """
    stem = re.sub(r'[/\\:*?"<>|\x00-\x1f]', "_", picture.stem).lstrip(".").rstrip(". ")
    while len(os.fsencode(stem)) > 200:  # a name may have 255 bytes, and a number may follow
        stem = stem[:-1]
    if not stem:
        return "picture"
    return f"{stem}_" if _DEVICES.fullmatch(stem) else stem


def _folded(name: str) -> str:
    with contextlib.suppress(UnicodeError):
        name = unicodedata.normalize("NFC", name)
    return name.casefold()
