"""Opening image files: an explicit list of formats, a pixel limit, and one error per file."""

from __future__ import annotations

import contextlib
import math
import stat
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from PIL import Image

from ..errors import InputError, MvdiffError

#: Pillow formats that are opened. A short list, because some of Pillow's readers start other
#: programs (EPS runs Ghostscript), and because unknown formats are rarely tested by anyone.
FORMATS = ("PNG", "JPEG", "WEBP", "AVIF", "TIFF", "BMP", "GIF", "PPM", "TGA", "JPEG2000")
#: Images of more pixels are rejected before they are decoded.
MAX_PIXELS = 150_000_000
#: So are images whose decoder would need more memory than this, see `decoding_bytes`.
MAX_DECODING_BYTES = 500_000_000
#: Bytes per pixel that a decoder holds at its peak, the decoded image included (measured with
#: Pillow 13). Other formats are decoded row by row into the image itself.
_DECODER_BYTES = {"WEBP": 16, "AVIF": 12, "HEIF": 9, "JPEG2000": 20}
#: Bytes per pixel of a decoded image; 4 in every other mode.
_MODE_BYTES = {"1": 1, "L": 1, "P": 1, "I;16": 2, "I;16L": 2, "I;16B": 2, "I;16N": 2}
#: Brands of HEIC photos in the first bytes of a file.
_HEIC_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")


@contextlib.contextmanager
def open_image(
    path: str | Path, max_pixels: int = MAX_PIXELS, draft_side: int | None = None
) -> Iterator[Image.Image]:
    """Open an image file; only its header is read until pixels are asked for.

    draft_side: a JPEG may be decoded at a fraction of its size, with sides of this length or more;
        None decodes it whole.

    Any failure inside the `with` block that Pillow causes becomes an MvdiffError, too, so
    decoding belongs into the block.

    HEIC photos are opened, too, where the package pillow-heif is installed.

    Raises InputError with one sentence for: a missing file, a folder, a pipe or device, a format
    outside `FORMATS`, more than `max_pixels` pixels or `MAX_DECODING_BYTES` to decode them, and
    broken or truncated files.
    """
    path = Path(path)
    check_regular_file(path)
    Image.init()  # Pillow fails on names of formats that it was built without
    formats = (*FORMATS, "HEIF") if _is_heic(path) and register_heif() else FORMATS
    formats = tuple(name for name in formats if name in Image.OPEN)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        try:
            image = Image.open(path, formats=formats)
        except Image.DecompressionBombError as error:
            raise InputError(_too_many_pixels(path, "far too many", max_pixels)) from error
        except Exception as error:  # Pillow's plug-ins fail on broken files in many ways
            raise InputError(f"cannot read '{path}' as an image: {_reason(path, error)}") from error
    with image:
        if image.width * image.height > max_pixels:
            size = f"{image.width}×{image.height}"
            raise InputError(_too_many_pixels(path, size, max_pixels))
        try:
            needed = _coefficient_bytes(image)
            if draft_side is not None:
                image.draft("RGB", (draft_side, draft_side))
            needed += decoding_bytes(image)
        except Exception as error:  # sizes that make no sense
            raise InputError(f"cannot read '{path}' as an image: {error}") from error
        if needed > MAX_DECODING_BYTES:
            raise InputError(
                f"the image '{path}' ({image.format}, {image.width}×{image.height} pixels) would "
                f"need {needed / 1e9:.1f} GB of memory to decode, the limit is "
                f"{MAX_DECODING_BYTES / 1e9:g} GB: scale it down, or save it as JPEG"
            )
        try:
            yield image
        except MvdiffError:
            raise
        except MemoryError as error:  # damaged headers ask for gigabytes
            raise InputError(
                f"the image '{path}' is broken, or needs more memory than there is: copy or export "
                "it again, or scale it down"
            ) from error
        except Exception as error:
            raise InputError(
                f"the image '{path}' is broken or truncated ({error}): copy or export it again"
            ) from error


def decoding_bytes(image: Image.Image) -> int:
    """Memory that decoding an opened image takes at its peak, estimated from its header.

    Without the coefficients of a progressive JPEG.
    """
    pixels = image.width * image.height
    stored = _MODE_BYTES.get(image.mode, 4)
    if image.format in _DECODER_BYTES:
        return pixels * _DECODER_BYTES[image.format]
    if image.format == "TIFF":
        return pixels * stored + _tiff_block_bytes(image)
    return pixels * stored


def _coefficient_bytes(image: Any) -> int:
    """What a progressive JPEG keeps until its last scan: all coefficients, 16 bits each."""
    progressive = image.info.get("progressive") or image.info.get("progression")
    layers = getattr(image, "layer", None)
    if image.format not in ("JPEG", "MPO") or not progressive or not layers:
        return 0
    samples = [horizontal * vertical for _, horizontal, vertical, *_ in layers]
    return round(image.width * image.height * 2 * sum(samples) / max(1, *samples))


def _tiff_block_bytes(image: Any) -> int:
    """Size of one decoded strip or tile of a compressed TIFF, which libtiff holds as a whole."""
    tags = image.tag_v2
    if tags.get(259, 1) == 1:  # not compressed: read straight from the file
        return 0
    bits = tags.get(258, 1)
    bits_per_pixel = sum(bits) if isinstance(bits, tuple) else int(bits) * int(tags.get(277, 1))
    if 322 in tags:
        pixels = int(tags[322]) * int(tags[323])
    else:
        pixels = image.width * min(int(tags.get(278, image.height)), image.height)
    return math.ceil(pixels * bits_per_pixel / 8)


def register_heif() -> bool:
    """Let Pillow read HEIC photos; False where the package pillow-heif is not installed."""
    try:
        import pillow_heif
    except ImportError:
        return False
    if "HEIF" not in Image.OPEN:
        pillow_heif.register_heif_opener()
    return True


def _is_heic(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            head = file.read(12)
    except OSError:
        return False  # opening it as an image names the reason
    return head[4:8] == b"ftyp" and head[8:12] in _HEIC_BRANDS


def check_regular_file(path: Path) -> None:
    """Raise InputError for a missing file, a folder, a pipe, a socket or a device."""
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError(f"no image at '{path}' ({reason}): check the path") from error
    if stat.S_ISDIR(mode):
        raise InputError(f"expected an image, but '{path}' is a folder: name a file in it")
    if not stat.S_ISREG(mode):
        raise InputError(f"expected an image file, but '{path}' is a pipe or device")


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
    if head[4:8] == b"ftyp" and head[8:12] in _HEIC_BRANDS:
        if "HEIF" in Image.OPEN:
            return "it is a broken or truncated HEIC photo; copy or export it again"
        return "it is a HEIC photo; export it as JPEG or PNG, or pip install 'mvdiff[heif]'"
    if head.startswith((b"%!PS", b"\xc5\xd0\xd3\xc6", b"%PDF")):
        return "it is PostScript or PDF; export it as PNG"
    return "unknown format; use PNG, JPEG, WebP, AVIF or TIFF"
