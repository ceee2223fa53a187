"""Damaged picture files are read or rejected in one sentence, never with another error."""

from __future__ import annotations

import io
import random
import struct
import warnings
import zlib

import numpy as np
import pytest
from helpers.icc import DISPLAY_P3, rgb_profile
from PIL import Image

from mvdiff.errors import MvdiffError
from mvdiff.preprocessing.image_io import load_photo

#: name → format and options of a picture file
FORMS = {
    "png": ("PNG", "RGBA", {}),
    "palette.png": ("PNG", "P", {"transparency": 0}),
    "deep.png": ("PNG", "I;16", {}),
    "jpg": ("JPEG", "RGB", {"quality": 80}),
    "progressive.jpg": ("JPEG", "CMYK", {"progressive": True}),
    "tif": ("TIFF", "RGB", {"compression": "tiff_lzw"}),
    "gif": ("GIF", "P", {}),
    "webp": ("WEBP", "RGBA", {"lossless": True}),
    "avif": ("AVIF", "RGB", {}),
    "bmp": ("BMP", "RGB", {}),
    "tga": ("TGA", "RGB", {"compression": "tga_rle"}),
    "jp2": ("JPEG2000", "RGB", {}),
}


def whole_file(form: str) -> bytes:
    kind, mode, options = FORMS[form]
    y, x = np.mgrid[:24, :24]
    image = Image.fromarray(np.stack([x * 10, y * 10, x * y % 256, 255 - y], -1).astype(np.uint8))
    if mode == "I;16":
        image = Image.fromarray((x * y * 100).astype(np.uint16))
    else:
        image = image.convert("RGB").convert(mode) if mode != "RGBA" else image
    if kind in ("PNG", "JPEG", "TIFF", "WEBP"):
        exif = Image.Exif()
        exif[0x0112] = 6
        options = {**options, "exif": exif}
        if mode == "RGB":
            options["icc_profile"] = rgb_profile(DISPLAY_P3, 2.2)
    file = io.BytesIO()
    image.save(file, format=kind, **options)
    return file.getvalue()


def mutated(data: bytes, rng: random.Random) -> bytes:
    """Cut, flipped, overwritten, repeated; sizes and offsets become extreme."""
    out = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 4, 16))):
        at = rng.randrange(len(out))
        kind = rng.randrange(6)
        if kind == 0:
            out[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            out[at : at + 4] = struct.pack(">I", rng.choice((0, 1, 0x7FFFFFFF, 0xFFFFFFFF, 65535)))
        elif kind == 2:
            out[at : at + rng.randrange(1, 9)] = rng.randbytes(rng.randrange(1, 9))
        elif kind == 3 and len(out) > 16:
            del out[at : at + rng.randrange(1, 16)]
        elif kind == 4:
            out[at:at] = out[at : at + rng.randrange(1, 32)]
        else:
            del out[max(8, at) :]
    return bytes(out)


def with_right_checksums(data: bytes) -> bytes:
    """A PNG with valid chunk checksums, so that damage inside them reaches the decoder."""
    out, at = bytearray(data[:8]), 8
    while at + 12 <= len(data):
        length = int.from_bytes(data[at : at + 4], "big")
        body = data[at + 4 : at + 8 + length]
        if at + 12 + length > len(data):
            break
        out += data[at : at + 4] + body + struct.pack(">I", zlib.crc32(body))
        at += 12 + length
    return bytes(out)


def check(data: bytes, path) -> bool:
    """Whether a damaged file is read; any error but MvdiffError fails the test."""
    path.write_bytes(data)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return load_photo(path).mode == "RGBA"
        except MvdiffError as error:
            message = str(error)
    assert "\n" not in message
    return False


@pytest.mark.parametrize("form", FORMS)
def test_damaged_pictures(tmp_path, form):
    rng, data = random.Random(form), whole_file(form)
    path = tmp_path / f"x.{form.split('.')[-1]}"
    assert check(data, path)
    for _ in range(60):
        damaged = mutated(data, rng)
        if FORMS[form][0] == "PNG" and rng.random() < 0.5:
            damaged = with_right_checksums(damaged)
        check(damaged, path)
