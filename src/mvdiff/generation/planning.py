"""Plans of `mvdiff generate`: images, their cameras, result folders. Imports no torch."""

from __future__ import annotations

import contextlib
import os
import re
import unicodedata
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..config.inputs import check_input
from ..config.instantiate import to_container
from ..config.schema import GenerateConfig
from ..errors import ConfigError, InputError
from ..preprocessing.azimuth import check_azimuths
from ..preprocessing.elevation_settings import elevation_per_picture
from ..preprocessing.image_io import check_picture, user_path
from ..utils.files import check_writable
from ..utils.images import register_heif
from ..utils.video import import_ffmpeg
from .sample_store import SampleStore, fingerprint

#: note on an object whose samples all exist
FINISHED = "already finished; pass resume=false to regenerate"
#: suffixes of images that are read from a folder
IMAGE_SUFFIXES = (
    ".png",
    ".apng",
    ".jpg",
    ".jpeg",
    ".jpe",
    ".jfif",
    ".mpo",
    ".webp",
    ".avif",
    ".bmp",
)
IMAGE_SUFFIXES += (".tif", ".tiff", ".gif", ".jp2", ".j2k", ".ppm", ".pgm", ".pbm", ".pnm", ".tga")
HEIF = (".heic", ".heif", ".hif")
#: files that operating systems leave in folders
_SYSTEM_FILES = ("thumbs.db", "desktop.ini", "ehthumbs.db")
#: files beside images that are skipped without a note
_TEXTS = (".txt", ".md", ".csv", ".tsv", ".json", ".yaml", ".yml", ".xml", ".html", ".log", ".py")
_TEXTS += (".ini", ".xmp", ".aae")
#: a larger number of samples is most likely a typing error
MAX_SAMPLES = 10_000
#: names that Windows reserves for devices, with any suffix
_DEVICES = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)


@dataclass(frozen=True)
class InputImage:
    """An image, its camera's elevation (degrees or "auto") and azimuth (degrees)."""

    path: Path
    elevation: float | str
    azimuth: float = 0.0


@dataclass(frozen=True)
class ObjectPlan:
    """Images of an object, usually one, and the folder of its results.

    prompt: a text, beside the images or without any.
    """

    images: tuple[InputImage, ...]
    folder: Path
    prompt: str | None = None

    @property
    def path(self) -> Path:
        """The first image, which names the object; without images, a name made of the text."""
        return self.images[0].path if self.images else Path(self.folder.name)


def plan_objects(config: GenerateConfig) -> list[ObjectPlan]:
    """The objects to generate, with their cameras and result folders.

    Raises ConfigError on settings that cannot work, and InputError where there is no image.
    """
    check_options(config)
    if config.input == "text":
        return plan_prompts(config)
    check_input(config, has_image=True, prompt=to_container(config.prompt))
    pictures = find_images(config.image)
    elevations = elevation_per_picture(to_container(config.elevation), pictures)
    if config.azimuth is not None:
        azimuths = check_azimuths(to_container(config.azimuth), len(pictures))
    if len(pictures) == 1 or config.azimuth is not None:  # of a folder, the others are made
        for picture in pictures:
            check_picture(picture)
    out = user_path(str(config.out))
    check_writable(out)
    if config.azimuth is None:  # each picture is an object of its own
        images = [(InputImage(*each),) for each in zip(pictures, elevations, strict=True)]
    else:
        images = [
            tuple(InputImage(*each) for each in zip(pictures, elevations, azimuths, strict=True))
        ]
    folders = result_folders(out, [s[0].path for s in images])
    return [ObjectPlan(*each, config.prompt) for each in zip(images, folders, strict=True)]


def plan_prompts(config: GenerateConfig) -> list[ObjectPlan]:
    """One object per prompt, for recipes that take a text and no image."""
    prompts = to_container(config.prompt)
    prompts = prompts if isinstance(prompts, list) and prompts else [prompts]
    for prompt in prompts:
        blank = isinstance(prompt, str) and not prompt.strip()
        has_image = config.image not in (None, "none")
        check_input(config, has_image=has_image, prompt=None if blank else prompt)
    if config.azimuth is not None:
        raise ConfigError("azimuth is that of input images, and a text has none: leave it out")
    out = user_path(str(config.out))
    check_writable(out)
    folders = result_folders(out, [Path(f"{_as_name(each)}.txt") for each in prompts])
    return [ObjectPlan((), *each) for each in zip(folders, prompts, strict=True)]


def _as_name(prompt: str) -> str:
    """A prompt as the name of a folder: its first words."""
    return re.sub(r"\W+", "-", prompt.lower()).strip("-")[:60].rstrip("-") or "prompt"


def samples_of(config: GenerateConfig, plan: ObjectPlan) -> SampleStore:
    """The requested samples of an object; InputError when an image cannot be read."""
    seeds = [config.seed + k for k in range(config.samples)]
    images = [(s.path, s.elevation, s.azimuth) for s in plan.images]
    settings = {**to_container(config), "prompt": plan.prompt}
    return SampleStore(plan.folder, seeds, fingerprint(images, settings))


def check_options(config: GenerateConfig) -> None:
    """Raise ConfigError now rather than after the model is loaded."""
    if config.samples > MAX_SAMPLES:
        raise ConfigError(f"samples must be at most {MAX_SAMPLES}, got {config.samples}")
    check_texture(config.texture_size)
    if (
        config.turntable_format == "mp4"
        and config.turntable
        and config.reconstructor.name != "none"
    ):
        import_ffmpeg()  # a missing package is reported before the work


def check_texture(setting: Any) -> None:
    """Raise ConfigError unless `mesh.postprocess.texture_side` will accept it."""
    whole = type(setting) is int and (setting == 0 or 16 <= setting <= 8192)
    if setting is not None and setting != "none" and not whole:
        raise ConfigError(
            "texture must be a side in texels, a whole number in [16, 8192], or none; got "
            f"{setting}"
        )


def find_images(image: Any) -> list[Path]:
    """The pictures of a path, a list of paths or a folder; InputError when there are none.

    A warning names the files of a folder that are passed over; hidden files and those that
    systems leave behind are not mentioned.
    """
    paths = [image] if isinstance(image, str | os.PathLike) else to_container(image)
    if not paths or not isinstance(paths, list) or "" in paths:
        raise InputError("image names no picture: give a path, a list of paths or a folder")
    for path in paths:
        if not isinstance(path, str | os.PathLike):
            raise InputError(
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
            raise InputError(f"'{path}' is no picture: it is a pipe, a device or a broken link")
        else:
            raise InputError(f"no picture at '{path}': check the path")
    return found


def _pictures_in(folder: Path) -> list[Path]:
    """The pictures right in a folder, by name; InputError where there are none."""
    suffixes = IMAGE_SUFFIXES
    entries = sorted(p for p in folder.iterdir() if not p.name.startswith("."))
    entries = [p for p in entries if p.name.lower() not in _SYSTEM_FILES]
    if any(p.suffix.lower() in HEIF for p in entries) and register_heif():
        suffixes = (*IMAGE_SUFFIXES, *HEIF)
    found = [p for p in entries if p.suffix.lower() in suffixes and p.is_file()]
    taken = set(found)
    others = [p for p in entries if p not in taken and p.suffix.lower() not in _TEXTS]
    hint = ""
    if any(p.suffix.lower() in HEIF for p in others):
        hint = "; HEIC needs: pip install 'mvdiff[heif]'"
    if not found:
        there = f", got {_names(others)}{hint}" if others else ""
        raise InputError(f"no pictures in the folder '{folder}': expected {_kinds()}{there}")
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
