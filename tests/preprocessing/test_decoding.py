"""Large pictures are reduced band by band: right for every orientation, in little memory."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from PIL import Image, ImageOps

from mvdiff.errors import MvdiffError
from mvdiff.preprocessing import decoding as decode
from mvdiff.preprocessing.decoding import to_upright_rgba
from mvdiff.preprocessing.image_io import load_photo
from mvdiff.utils.images import decoding_bytes, open_image


def photo(width: int, height: int, mode: str = "RGBA") -> Image.Image:
    """Smooth colors, different at each edge, with a soft mask."""
    y, x = np.mgrid[:height, :width] / max(width, height)
    channels = [x, y, (np.sin(9 * x + 5 * y) + 1) / 2, np.clip(2 * x, 0, 1)]
    return Image.fromarray((255 * np.stack(channels, -1)).astype(np.uint8)).convert(mode)


def save(image: Image.Image, path, orientation: int):
    exif = Image.Exif()
    exif[0x0112] = orientation
    image.save(path, exif=exif)
    return path


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("mode", ["RGBA", "RGB", "L"])
def test_bands_give_what_pillow_gives_in_one_piece(tmp_path, monkeypatch, orientation, mode):
    monkeypatch.setattr(decode, "_BAND_PIXELS", 1000)
    path = save(photo(100, 61, mode), tmp_path / "x.png", orientation)
    with Image.open(path) as image:
        upright = ImageOps.exif_transpose(image).convert("RGBA")
        size = tuple(round(n * 64 / 100) for n in upright.size)
        expected = upright.resize(size, Image.Resampling.HAMMING)
        got = to_upright_rgba(image, 64)
    assert got.tobytes() == expected.tobytes()


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("size", [(403, 250), (97, 401)])
def test_whole_pixels_are_averaged_first_without_a_shift(tmp_path, monkeypatch, orientation, size):
    monkeypatch.setattr(decode, "_BAND_PIXELS", 3000)
    path = save(photo(*size), tmp_path / "x.png", orientation)
    with Image.open(path) as image:
        upright = ImageOps.exif_transpose(image)
        got = to_upright_rgba(image, 32)
    exact = upright.resize(got.size, Image.Resampling.BOX)
    difference = np.abs(np.asarray(got).astype(int) - np.asarray(exact).astype(int))
    assert difference[..., 3].max() <= 4  # a shift of one source pixel alone would be 5
    assert difference[2:-2, 2:-2].mean() < 2


def test_sixteen_bit_pictures_share_one_white_over_all_bands(monkeypatch):
    monkeypatch.setattr(decode, "_BAND_PIXELS", 100)
    values = np.zeros((40, 40), np.int32)
    values[:20], values[20:] = 100, 40_000  # the first bands alone look like 8 bit
    got = np.asarray(to_upright_rgba(Image.fromarray(values), 20))
    assert got[2, 5, 0] == round(100 / 65535 * 255)
    assert got[17, 5, 0] == round(40_000 / 65535 * 255)


@pytest.mark.skipif(sys.platform != "linux", reason="peak memory as on Linux")
def test_a_small_file_of_many_pixels_takes_little_memory(tmp_path):
    path = tmp_path / "x.tif"
    Image.new("1", (12_000, 12_000), 1).save(path, compression="group4")
    assert path.stat().st_size < 10_000
    code = (
        "import sys; from mvdiff.preprocessing.image_io import load_photo; "
        "assert load_photo(sys.argv[1]).size == (2048, 2048); "
        "print(open('/proc/self/status').read().partition('VmHWM:')[2].split()[0])"
    )
    done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 600_000  # kilobytes; 3 GB when it is converted in one piece


@pytest.mark.parametrize("suffix", ["tif", "webp", "jp2", "png"])
def test_formats_whose_decoders_need_much_have_lower_limits(tmp_path, monkeypatch, suffix):
    more = {"compression": "tiff_adobe_deflate", "tiffinfo": {278: 600}} if suffix == "tif" else {}
    path = tmp_path / f"x.{suffix}"
    photo(600, 600, "RGB").save(path, **more)
    with open_image(path) as image:
        needed = decoding_bytes(image) / 600**2
    assert {"tif": needed == 7, "webp": needed >= 14, "jp2": needed >= 18, "png": needed == 4}[
        suffix
    ]
    monkeypatch.setattr("mvdiff.utils.images.MAX_DECODING_BYTES", 600**2 * 5)
    if suffix == "png":
        load_photo(path)
    else:
        with pytest.raises(MvdiffError, match=r"600×600.*memory"):
            load_photo(path)


def test_a_large_progressive_jpeg_is_read_at_a_fraction_of_its_size(tmp_path, monkeypatch):
    path = tmp_path / "x.jpg"
    photo(3000, 2600, "RGB").save(path, progressive=True, subsampling=2)
    monkeypatch.setattr("mvdiff.preprocessing.image_io.MAX_SIDE", 300)
    # coefficients of 4:2:0: 3 bytes per pixel; a quarter of the side at 4 bytes per pixel
    monkeypatch.setattr("mvdiff.utils.images.MAX_DECODING_BYTES", 3000 * 2600 * 3.3)
    assert load_photo(path).size == (300, 260)
    with pytest.raises(MvdiffError, match="memory"), open_image(path):
        pass


def test_heic_photos(tmp_path):
    heif = pytest.importorskip("pillow_heif")
    path = tmp_path / "x.heic"
    heif.from_pillow(Image.new("RGB", (64, 48), (200, 60, 40))).save(path, quality=95)
    got = load_photo(path)
    assert got.size == (64, 48)
    assert np.abs(np.array(got.getpixel((9, 9))[:3]) - (200, 60, 40)).max() <= 3
