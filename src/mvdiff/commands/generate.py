"""`mvdiff generate`: pictures → views → meshes, with everything written beside each other."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .. import build
from ..errors import MvdiffError
from ..files import check_writable
from ..inputs.azimuth import check_azimuths
from ..inputs.elevation import check_elevation, is_auto
from .notes import notes_by_thread
from .one_picture import Shot, Wanted
from .progress import Stages
from .sharing import Share, choose_gpu
from .stream import Stream, Tally
from .writing import Timer

PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".gif")


def run(config: Any) -> int:
    """All pictures; 1 when some failed or have no mesh, and 2 when all failed."""
    wanted, share = plan(config), Share.read(config.shard)
    tally = make(config, wanted[share.index :: share.count], alone=len(wanted) == 1)
    counts = share.added([len(tally.errors), tally.meshless, tally.pictures])
    if len(wanted) == 1 and tally.errors:
        raise tally.errors[0]
    return exit_code(*counts)


def exit_code(failed: int, meshless: int, pictures: int) -> int:
    """1 when some pictures failed or have no mesh, 2 when all of them failed."""
    if failed and failed == pictures:
        return 2
    return 1 if failed or meshless else 0


def plan(config: Any) -> list[Wanted]:
    """What is to be made of all pictures, and where; MvdiffError on settings that cannot work."""
    pictures = find_pictures(config.image)
    elevations = _elevations(config.elevation, len(pictures))
    if config.azimuth is not None:
        azimuths = check_azimuths(build.plain(config.azimuth), len(pictures))
    _check_numbers(config)
    out = Path(str(config.out)).expanduser()
    check_writable(out)
    if config.azimuth is None:  # each picture is an object of its own
        shots = [(Shot(*each),) for each in zip(pictures, elevations, strict=True)]
    else:
        shots = [tuple(Shot(*each) for each in zip(pictures, elevations, azimuths, strict=True))]
    folders = _folders(out, [s[0].path for s in shots])
    return [Wanted(*each) for each in zip(shots, folders, strict=True)]


def make(config: Any, wanted: list[Wanted], *, alone: bool) -> Tally:
    """Some of the pictures. alone: there is one in all, and its error is left to the caller."""
    if not wanted:
        return Tally()
    timer = Timer()
    choose_gpu()
    with notes_by_thread(), Stages("loading the model") as stages:
        model = build.pipeline(config)
        reconstructor = build.reconstructor(config)
        timer.lap("setup")
        setup = timer.seconds["setup"]
        stream = Stream(config, model, reconstructor, stages, setup=setup, tell=not alone)
        return stream.run(wanted)


def _check_numbers(config: Any) -> None:
    """Raise MvdiffError now rather than after the model is loaded."""
    from ..gallery import VIDEOS
    from ..recon.finish import texture_side

    if config.samples < 1:
        raise MvdiffError(f"samples must be at least 1, got {config.samples}")
    if not 0 <= config.seed < 2**62:
        raise MvdiffError(f"seed must be a whole number in [0, 2^62), got {config.seed}")
    texture_side(config.texture)
    if config.video not in VIDEOS:
        raise MvdiffError(f"unknown video '{config.video}'; choose from {', '.join(VIDEOS)}")
    for key in ("batch", "batch_views"):
        some = config[key]
        if some is not None and (type(some) is not int or some < 1):
            raise MvdiffError(f"{key} must be a whole number from 1, got {some!r}")


def find_pictures(image: Any) -> list[Path]:
    """The pictures of a path, a list of paths or a folder; MvdiffError when there are none."""
    if not image:
        raise MvdiffError("image names no picture: give a path, a list of paths or a folder")
    paths = [image] if isinstance(image, (str, Path)) else image
    found: list[Path] = []
    for path in (Path(str(p)).expanduser() for p in paths):
        if path.is_dir():
            inside = sorted(p for p in path.iterdir() if p.suffix.lower() in PICTURES)
            inside = [p for p in inside if p.is_file() and not p.name.startswith(".")]
            if not inside:
                raise MvdiffError(
                    f"no pictures in the folder '{path}': expected {', '.join(PICTURES)}"
                )
            found += inside
        elif path.is_file():
            found.append(path)
        else:
            raise MvdiffError(f"no picture at '{path}': check the path")
    return found


def _elevations(value: Any, count: int) -> list[float | str]:
    several = isinstance(value, Sequence) and not isinstance(value, str)
    values = list(value) if several else [value] * count
    if len(values) != count:
        raise MvdiffError(
            f"give one elevation for all pictures or one each: got {len(values)} for {count}"
        )
    return ["auto" if is_auto(v) else check_elevation(v) for v in values]


def _folders(out: Path, pictures: list[Path]) -> list[Path]:
    """One result folder a picture; pictures of the same name get a number."""
    folders: list[Path] = []
    for picture in pictures:
        number, folder = 1, out / picture.stem
        while folder in folders:
            number += 1
            folder = out / f"{picture.stem}-{number}"
        folders.append(folder)
    return folders
