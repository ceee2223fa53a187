"""Reading views that others made: sizes are looked at before any picture is loaded."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from ..cameras.camera import Cameras
from ..cameras.formats import read_meta_pickle, read_transforms
from ..errors import MvdiffError
from ..views import Views

#: Pixels of the largest picture that is opened at all: 12,000 × 12,000 take 0.6 GB.
_MOST = 144_000_000


def read_views(source: Path, longest: int) -> tuple[Views, list[str]]:
    """Views in any form `Views.load` knows, scaled down where larger than `longest` pixels.

    Returns a note when they were scaled. Larger pictures are read one at a time, so memory
    holds one of them and the small ones. Raises MvdiffError for a longest side below 16, for
    views of different sizes, and for pictures of more than 144 million pixels.
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
    _check_sizes(paths, sizes)
    width, height = sizes[0]
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


def _check_sizes(paths: list[Path], sizes: list[tuple[int, int]]) -> None:
    for path, size in zip(paths, sizes, strict=True):
        if size != sizes[0]:
            raise MvdiffError(
                f"views must share one size: '{paths[0].name}' is {_shown(sizes[0])} and "
                f"'{path.name}' is {_shown(size)} pixels"
            )
    if sizes and sizes[0][0] * sizes[0][1] > _MOST:
        raise MvdiffError(_too_large(paths[0]))


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


def _shown(size: tuple[int, int]) -> str:
    return f"{size[0]}×{size[1]}"


def _read_small(paths: list[Path], cameras: Cameras, size: tuple[int, int]) -> Views:
    """All pictures at this (width, height), one in memory at a time."""
    arrays = []
    for path in paths:
        try:
            with Image.open(path) as image:
                mode = "RGBA" if image.has_transparency_data else "RGB"
                image.draft("RGB", size)  # JPEG decodes at a fraction of the size
                # Pillow resizes RGBA multiplied by alpha, so clear pixels do not leak.
                small = image.convert(mode).resize(size, Image.Resampling.BOX)
        except (OSError, SyntaxError) as error:
            raise MvdiffError(f"cannot read the view '{path}': {error}") from error
        arrays.append(torch.from_numpy(np.array(small)))
    if len({a.shape for a in arrays}) != 1:
        raise MvdiffError("some views have transparency and some have none: expected one kind")
    pixels = torch.stack(arrays).permute(0, 3, 1, 2)
    alpha = pixels[:, 3:].contiguous() if pixels.shape[1] == 4 else None
    return Views(pixels[:, :3].contiguous(), alpha, cameras.resize(size[1], size[0]))
