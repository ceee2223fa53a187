"""Reading views that others made: sizes are looked at before any picture is loaded."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from ..cameras.camera import Cameras
from ..cameras.formats import read_meta_pickle, read_transforms
from ..errors import MvdiffError
from ..views import Views, as_8_bit, check_one_size, from_arrays

#: Pixels of the largest picture that is opened at all: 12,000 × 12,000 take 0.6 GB.
_MOST = 144_000_000


def read_views(source: Path, longest: int) -> tuple[Views, list[str]]:
    """Views in any form `Views.load` knows, scaled down where larger than `longest` pixels.

    Returns a note when they were scaled. Larger pictures are read one at a time, so memory
    holds one of them and the small ones. Raises MvdiffError for a longest side below 16, for
    views of different sizes, for pictures of more than 144 million pixels, and for numbers that
    `views.as_8_bit` refuses.
    """
    if longest < 16:
        raise MvdiffError(f"max_size must be at least 16 pixels, got {longest}")
    listed = _listed(source)
    if listed is None:  # a strip, or nothing: the loader says
        _check_strip(source, longest)
        return Views.load(source), []
    cameras, paths = listed
    sizes = _sizes(paths)
    if len(sizes) < len(paths):  # a picture is missing or broken: the loader says which
        return Views.load(source), []
    check_one_size(paths, sizes)
    width, height = sizes[0]
    if width * height > _MOST:
        raise MvdiffError(_too_large(paths[0]))
    if max(width, height) <= longest:
        return Views.load(source), []
    scale = longest / max(width, height)
    small = max(1, round(width * scale)), max(1, round(height * scale))
    views = _read_small(paths, cameras, small)
    size = f"{width}×{height}"
    return views, [
        f"the views are {size} pixels: they were scaled down to {small[0]}×{small[1]} "
        "(max_size=… changes that)"
    ]


def _listed(source: Path) -> tuple[Cameras, list[Path]] | None:
    """Cameras and pictures of a folder, None when the source is none."""
    if source.is_dir() and (source / "meta.pkl").is_file():
        cameras = read_meta_pickle(source / "meta.pkl")
        return cameras, [source / f"{i:03d}.png" for i in range(len(cameras))]
    listing = source / "transforms.json" if source.is_dir() else source
    if listing.suffix.lower() != ".json" or not listing.is_file():
        return None
    cameras, names = read_transforms(listing)
    return cameras, [listing.parent / name for name in names]


def _sizes(paths: list[Path]) -> list[tuple[int, int]]:
    """(width, height) from the files' headers; those that cannot be read are left out."""
    sizes = []
    for path in paths:
        try:
            with Image.open(path) as image:
                sizes.append(image.size)
        except Image.DecompressionBombError as error:
            raise MvdiffError(_too_large(path)) from error
        except (OSError, SyntaxError):
            continue
    return sizes


def _check_strip(source: Path, longest: int) -> None:
    """A strip's views are as high as it is: refused above `longest` before they are loaded."""
    if source.suffix.lower() != ".png" or not source.is_file():
        return
    try:
        with Image.open(source) as image:
            width, height = image.size
    except Image.DecompressionBombError as error:
        raise MvdiffError(_too_large(source)) from error
    except (OSError, SyntaxError):
        return
    if height > longest:
        raise MvdiffError(
            f"the strip '{source}' is {width}×{height} pixels: scale it down to a height of "
            f"{longest}, or raise max_size"
        )


def _too_large(path: Path) -> str:
    return (
        f"the picture '{path}' has more than {_MOST // 10**6} million pixels: scale the views "
        "down first (1024 pixels a side are plenty)"
    )


def _read_small(paths: list[Path], cameras: Cameras, size: tuple[int, int]) -> Views:
    """All pictures at this (width, height), one in memory at a time."""
    arrays = []
    for path in paths:
        try:
            with Image.open(path) as image:
                image.draft("RGB", size)  # JPEG decodes at a fraction of the size
                # Pillow resizes RGBA multiplied by alpha, so clear pixels do not leak.
                small = as_8_bit(image, path).resize(size, Image.Resampling.BOX)
        except (OSError, SyntaxError) as error:
            raise MvdiffError(f"cannot read the view '{path}': {error}") from error
        arrays.append(np.array(small))
    return from_arrays(arrays, cameras.resize(size[1], size[0]))
