"""Opening image files: an explicit list of formats, a pixel limit, and one error per file."""

from __future__ import annotations

import contextlib
import stat
import warnings
from collections.abc import Iterator
from pathlib import Path

from PIL import Image

from ..errors import MvdiffError

#: Pillow formats that are opened. A short list, because some of Pillow's readers start other
#: programs (EPS runs Ghostscript), and because unknown formats are rarely tested by anyone.
FORMATS = ("PNG", "JPEG", "MPO", "WEBP", "AVIF", "TIFF", "BMP", "GIF", "PPM", "TGA", "JPEG2000")
#: Images of more pixels are rejected before they are decoded.
MAX_PIXELS = 150_000_000


@contextlib.contextmanager
def open_image(path: str | Path, max_pixels: int = MAX_PIXELS) -> Iterator[Image.Image]:
    """Open an image file; only its header is read until pixels are asked for.

    Any failure inside the `with` block that Pillow causes becomes an MvdiffError, too, so
    decoding belongs into the block.

    Raises MvdiffError with one sentence for: a missing file, a folder, a pipe or device, a format
    outside `FORMATS`, more than `max_pixels` pixels, and broken or truncated files.
    """
    path = Path(path)
    check_regular_file(path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        try:
            image = Image.open(path, formats=FORMATS)
        except Image.DecompressionBombError as error:
            raise MvdiffError(_too_many_pixels(path, "far too many", max_pixels)) from error
        except Exception as error:  # Pillow's plug-ins fail on broken files in many ways
            raise MvdiffError(
                f"cannot read '{path}' as an image: {_reason(path, error)}"
            ) from error
    with image:
        if image.width * image.height > max_pixels:
            size = f"{image.width}×{image.height}"
            raise MvdiffError(_too_many_pixels(path, size, max_pixels))
        try:
            yield image
        except MvdiffError:
            raise
        except MemoryError:
            raise
        except Exception as error:
            raise MvdiffError(
                f"the image '{path}' is broken or truncated ({error}): copy or export it again"
            ) from error


def check_regular_file(path: Path) -> None:
    """Raise MvdiffError for a missing file, a folder, a pipe, a socket or a device."""
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise MvdiffError(f"no image at '{path}' ({reason}): check the path") from error
    if stat.S_ISDIR(mode):
        raise MvdiffError(f"expected an image, but '{path}' is a folder: name a file in it")
    if not stat.S_ISREG(mode):
        raise MvdiffError(f"expected an image file, but '{path}' is a pipe or device")


def _too_many_pixels(path: Path, size: str, max_pixels: int) -> str:
    return (
        f"the image '{path}' has {size} pixels, the limit is {max_pixels // 10**6} million: "
        "scale it down first"
    )


def _reason(path: Path, error: Exception) -> str:
    """Why Pillow could not open a file, by what the file holds."""
    system_reason = getattr(error, "strerror", None)
    if system_reason:
        return f"{system_reason}"
    try:
        with path.open("rb") as file:
            head = file.read(512)
    except OSError as read_error:
        return str(read_error.strerror)
    text = head.lstrip().lower()
    if not head:
        return "the file is empty"
    if head.startswith(b"version https://git-lfs"):
        return "it is a Git LFS pointer; run 'git lfs pull' to fetch the image itself"
    if text.startswith((b"<!doctype html", b"<html")):
        return "it is a web page; download the image itself"
    if b"<svg" in text:
        return "it is an SVG drawing; export it as PNG"
    if head[4:8] == b"ftyp" and head[8:12] in (b"heic", b"heix", b"mif1", b"msf1", b"hevc"):
        return "it is a HEIC photo; export it as JPEG or PNG"
    if head.startswith((b"%!PS", b"\xc5\xd0\xd3\xc6", b"%PDF")):
        return "it is PostScript or PDF; export it as PNG"
    return "unknown format; use PNG, JPEG, WebP, AVIF or TIFF"
