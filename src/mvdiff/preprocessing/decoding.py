"""A decoded picture of any mode → upright 8-bit RGBA in sRGB, reduced, in little memory."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from PIL import Image

from ..errors import InputError
from .color_profiles import ToSrgb, srgb_converter

#: EXIF orientation → how the picture is made upright.
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_SWAPPED = (5, 6, 7, 8)
#: Pixels that are converted at a time.
_BAND_PIXELS = 4_000_000
#: Pictures are averaged over whole pixels down to this many times the final side; the rest is
#: resampled.
_REDUCING_GAP = 2.0


def to_upright_rgba(image: Image.Image, max_side: int) -> Image.Image:
    """Any Pillow image as upright RGBA with straight colors, the longer side at most `max_side`.

    Colors are converted to sRGB by the picture's ICC profile. Large pictures are converted and
    reduced band by band, so that besides the image itself hardly any memory is needed.
    Raises InputError for NaN and infinite values.
    """
    image.load()
    orientation = image.getexif().get(0x0112, 1)
    convert = _Converter.of(image)
    width, height = image.size
    scale = max_side / max(width, height)
    if scale >= 1:
        rgba = convert(image)
        return rgba.transpose(_UPRIGHT[orientation]) if orientation in _UPRIGHT else rgba
    factor = max(1, int(1 / scale / _REDUCING_GAP))
    reduced = Image.new("RGBa", (math.ceil(width / factor), math.ceil(height / factor)))
    rows = factor * max(1, _BAND_PIXELS // (width * factor))
    for top in range(0, height, rows):
        band = convert(image.crop((0, top, width, min(top + rows, height)))).convert("RGBa")
        reduced.paste(band.reduce(factor) if factor > 1 else band, (0, top // factor))
    # the last pixel of a reduced row or column may stand for fewer than `factor` pixels
    extent = width / factor, height / factor
    box = (0.0, 0.0, *extent)
    if orientation in _UPRIGHT:
        box = _transposed(orientation, box, reduced.size)
        reduced = reduced.transpose(_UPRIGHT[orientation])
    if orientation in _SWAPPED:
        width, height = height, width
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return reduced.resize(size, Image.Resampling.HAMMING, box=box).convert("RGBA")


def _transposed(
    orientation: int, box: tuple[float, float, float, float], size: tuple[int, int]
) -> tuple[float, float, float, float]:
    """Where a box of a picture of `size` lies once the picture is upright."""
    left, top, right, bottom = box
    width, height = size
    if orientation in (2, 3, 7, 8):
        left, right = width - right, width - left
    if orientation in (3, 4, 6, 7):
        top, bottom = height - bottom, height - top
    return (top, left, bottom, right) if orientation in _SWAPPED else (left, top, right, bottom)


@dataclass(frozen=True)
class _Converter:
    """Converts a picture, or a part of it, to RGBA.

    white: the value of white in images of 16-bit integers and floats, which do not say it.
    profile: conversion of a mode to sRGB, see `srgb_converter`.
    """

    white: float
    profile: tuple[str, ToSrgb] | None

    @staticmethod
    def of(image: Image.Image) -> _Converter:
        return _Converter(_white(image), srgb_converter(image))

    def __call__(self, image: Image.Image) -> Image.Image:
        mode, to_srgb = self.profile or (None, None)
        if to_srgb is not None and mode == "CMYK":
            return to_srgb(image).convert("RGBA")
        rgba = self._deep_to_rgba(image) if _is_deep(image) else _to_rgba(image)
        if to_srgb is None:
            return rgba
        colors = rgba.getchannel("R") if mode == "L" else rgba.convert("RGB")
        converted = to_srgb(colors)
        converted.putalpha(rgba.getchannel("A"))
        return converted

    def _deep_to_rgba(self, image: Image.Image) -> Image.Image:
        values = np.asarray(image).astype(np.float64)
        gray = (values / self.white * 255).round().clip(0, 255).astype(np.uint8)
        rgba = Image.fromarray(gray).convert("RGBA")
        clear = image.info.get("transparency")
        if isinstance(clear, int):
            rgba.putalpha(Image.fromarray(np.where(values == clear, 0, 255).astype(np.uint8)))
        return rgba


def _is_deep(image: Image.Image) -> bool:
    return image.mode in ("F", "I") or image.mode.startswith("I;16")


def _white(image: Image.Image) -> float:
    """1 or 255 for floats, 16 bit for integers, except that wide integers which stay below 256
    were made from 8 bit."""
    if not _is_deep(image):
        return 255.0
    if image.mode.startswith("I;16"):
        return 65535.0
    width, height = image.size
    rows = max(1, _BAND_PIXELS // width)
    highest = -math.inf
    for top in range(0, height, rows):
        values = np.asarray(image.crop((0, top, width, min(top + rows, height))))
        if not np.isfinite(values).all():
            raise InputError("the picture contains NaN or infinite values: export it again")
        highest = max(highest, float(values.max()))
    if highest > 255:
        return 65535.0
    return 1.0 if highest <= 1 else 255.0


def _to_rgba(image: Image.Image) -> Image.Image:
    if image.mode in ("La", "RGBa"):  # premultiplied: Pillow converts these in one way only
        return image.convert("LA" if image.mode == "La" else "RGBA").convert("RGBA")
    if image.mode in ("CMYK", "YCbCr", "LAB", "HSV"):
        image = image.convert("RGB")
    return image.convert("RGBA")
