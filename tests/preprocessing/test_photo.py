"""Pictures of every kind are read as upright RGBA and framed as in training."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from mvdiff.errors import MvdiffError
from mvdiff.preprocessing import image_io as load
from mvdiff.preprocessing.photo import (
    PreparedImage,
    frame_by_fill,
    frame_syncdreamer,
    load_photo,
    prepare,
)
from mvdiff.preprocessing.segmentation import SEGMENTERS


def gradient(width: int = 12, height: int = 8) -> Image.Image:
    x, y = np.meshgrid(np.linspace(0, 255, width), np.linspace(0, 255, height))
    return Image.fromarray(np.stack([x, y, 255 - x], axis=2).astype(np.uint8))


def disc(size: int = 64, radius: float = 20, color=(200, 40, 90), center=None) -> Image.Image:
    """A filled disc with a hard edge on a transparent ground."""
    cx, cy = center or (size / 2, size / 2)
    y, x = np.mgrid[:size, :size] + 0.5
    inside = (x - cx) ** 2 + (y - cy) ** 2 <= radius**2
    rgba = np.zeros((size, size, 4), np.uint8)
    rgba[inside] = (*color, 255)
    return Image.fromarray(rgba)


def pixels(image: Image.Image) -> np.ndarray:
    return np.asarray(image).astype(int)


# Reading


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "bmp", "gif", "tiff"])
def test_common_files(tmp_path, suffix):
    path = tmp_path / f"x.{suffix}"
    options = {"quality": 95} if suffix in ("jpg", "webp") else {}
    Image.new("RGB", (12, 8), (200, 100, 50)).save(path, **options)
    photo = load_photo(path)
    assert (photo.mode, photo.size) == ("RGBA", (12, 8))
    assert np.abs(pixels(photo)[..., :3] - [200, 100, 50]).max() <= 6
    assert pixels(photo)[..., 3].min() == 255


@pytest.mark.parametrize("bits", ["<u2", ">u2"])
def test_sixteen_bit_grayscale(tmp_path, bits):
    values = np.linspace(0, 65535, 12 * 8).reshape(8, 12).astype(np.uint16)
    if bits == "<u2":
        Image.fromarray(values).save(tmp_path / "x.png")
    else:
        Image.fromarray(values.astype(">u2")).save(tmp_path / "x.png")
    photo = pixels(load_photo(tmp_path / "x.png"))
    assert np.abs(photo[..., 0] - values / 257).max() <= 0.51
    assert (photo[..., 3] == 255).all()


def png(width: int, height: int, depth: int, kind: int, rows: bytes, extra: bytes = b"") -> bytes:
    """A PNG by hand, for forms that Pillow reads and does not write."""

    def chunk(name: bytes, data: bytes) -> bytes:
        check = zlib.crc32(name + data)
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", check)

    header = struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0)
    body = chunk(b"IHDR", header) + extra + chunk(b"IDAT", zlib.compress(rows))
    return b"\x89PNG\r\n\x1a\n" + body + chunk(b"IEND", b"")


def test_sixteen_bit_color_and_alpha(tmp_path):
    pixel = struct.pack(">HHHH", 65535, 32896, 0, 32896)
    (tmp_path / "x.png").write_bytes(png(1, 1, 16, 6, b"\0" + pixel))
    assert pixels(load_photo(tmp_path / "x.png"))[0, 0].tolist() == [255, 128, 0, 128]


def test_sixteen_bit_grayscale_with_a_transparent_value(tmp_path):
    data = struct.pack(">I", 2) + b"tRNS" + struct.pack(">H", 700)
    clear = data + struct.pack(">I", zlib.crc32(data[4:]))
    rows = b"\0" + struct.pack(">HH", 700, 701)
    (tmp_path / "x.png").write_bytes(png(2, 1, 16, 0, rows, clear))
    assert pixels(load_photo(tmp_path / "x.png"))[0, :, 3].tolist() == [0, 255]


@pytest.mark.parametrize("top", [1.0, 255.0])
def test_floating_point_tiff(tmp_path, top):
    values = np.linspace(0, top, 96).reshape(8, 12).astype(np.float32)
    Image.fromarray(values).save(tmp_path / "x.tiff")
    photo = pixels(load_photo(tmp_path / "x.tiff"))
    assert np.abs(photo[..., 1] - values / top * 255).max() <= 0.51
    values[3, 3] = np.nan
    Image.fromarray(values).save(tmp_path / "x.tiff")
    with pytest.raises(MvdiffError, match="NaN"):
        load_photo(tmp_path / "x.tiff")


def test_palette_with_and_without_transparency(tmp_path):
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 200, 100, 50])
    image.putdata([0, 1])
    image.save(tmp_path / "plain.png")
    image.save(tmp_path / "clear.png", transparency=0)
    image.save(tmp_path / "graded.png", transparency=bytes([77, 255]))
    assert pixels(load_photo(tmp_path / "plain.png"))[0, 1].tolist() == [200, 100, 50, 255]
    assert pixels(load_photo(tmp_path / "clear.png"))[0, :, 3].tolist() == [0, 255]
    assert pixels(load_photo(tmp_path / "graded.png"))[0, :, 3].tolist() == [77, 255]


@pytest.mark.parametrize("mode", ["1", "L", "LA", "La", "RGBa", "P", "CMYK", "YCbCr", "HSV", "I"])
def test_every_mode_becomes_rgba(mode):
    gray = Image.new("L", (4, 3), 255)
    if mode in ("La", "RGBa"):
        image = gray.convert("LA" if mode == "La" else "RGBA").convert(mode)
    elif mode == "HSV":
        image = gray.convert("RGB").convert("HSV")
    else:
        image = gray.convert(mode) if mode != "YCbCr" else gray.convert("RGB").convert(mode)
    photo = load_photo(image)
    assert (photo.mode, photo.size) == ("RGBA", (4, 3))
    assert np.abs(pixels(photo) - 255).max() <= 1


def test_grayscale_with_alpha(tmp_path):
    Image.merge("LA", [Image.new("L", (2, 2), 80), Image.new("L", (2, 2), 9)]).save(
        tmp_path / "x.png"
    )
    assert pixels(load_photo(tmp_path / "x.png"))[0, 0].tolist() == [80, 80, 80, 9]


def test_cmyk_jpeg(tmp_path):
    Image.new("CMYK", (16, 16), (0, 255, 255, 0)).save(tmp_path / "x.jpg", quality=95)
    color = pixels(load_photo(tmp_path / "x.jpg"))[8, 8]
    assert color[0] > 180
    assert max(color[1], color[2]) < 70


@pytest.mark.parametrize("suffix", ["jpg", "png"])
@pytest.mark.parametrize(
    ("orientation", "undo"),
    [
        (1, None),
        (3, Image.Transpose.ROTATE_180),
        (6, Image.Transpose.ROTATE_270),
        (7, Image.Transpose.TRANSVERSE),
        (8, Image.Transpose.ROTATE_90),
    ],
)
def test_exif_rotation_is_undone(tmp_path, suffix, orientation, undo):
    image = gradient(24, 16)
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"quality": 100, "subsampling": 0} if suffix == "jpg" else {}
    image.save(tmp_path / f"x.{suffix}", exif=exif, **options)
    photo = load_photo(tmp_path / f"x.{suffix}")
    upright = image if undo is None else image.transpose(undo)
    assert photo.size == upright.size
    assert np.abs(pixels(photo)[..., :3] - pixels(upright)).max() <= 8


def test_one_pixel():
    photo = load_photo(Image.new("RGB", (1, 1), (3, 4, 5)))
    assert pixels(photo)[0, 0].tolist() == [3, 4, 5, 255]
    assert frame_by_fill(photo, 8, fill=0.5).alpha.sum() == pytest.approx(16, rel=0.3)
    assert frame_syncdreamer(photo, 4, size=8).rgb.shape == (3, 8, 8)


@pytest.mark.parametrize("size", [(5000, 20), (20, 5000), (2100, 2100)])
def test_big_pictures_are_reduced(tmp_path, size):
    Image.new("RGB", size, (1, 2, 3)).save(tmp_path / "x.png")
    photo = load_photo(tmp_path / "x.png")
    assert max(photo.size) == load.MAX_SIDE
    assert abs(photo.width / photo.height - size[0] / size[1]) / (size[0] / size[1]) < 0.05


def test_the_caller_s_picture_is_left_alone():
    image = gradient(3000, 4)
    load_photo(image)
    assert image.size == (3000, 4)
    assert image.mode == "RGB"


@pytest.mark.parametrize("side", [13_000, 60_000])
def test_huge_pictures_are_refused_before_decoding(tmp_path, side):
    (tmp_path / "x.png").write_bytes(png(side, side, 8, 2, b""))
    with pytest.raises(MvdiffError, match="150 million"):
        load_photo(tmp_path / "x.png")


def test_truncated_files_are_refused(tmp_path):
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    for name in ("x.png", "x.jpg", "x.webp"):
        Image.fromarray(noise).save(tmp_path / name)
        whole = (tmp_path / name).read_bytes()
        for share in (0.5, 0.9):
            (tmp_path / name).write_bytes(whole[: int(len(whole) * share)])
            with pytest.raises(MvdiffError, match=r"broken or truncated|as an image") as caught:
                load_photo(tmp_path / name)
            assert "\n" not in str(caught.value)


@settings(max_examples=60, deadline=None)
@given(
    st.binary(max_size=200), st.sampled_from([b"", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"\xff\xd8"])
)
def test_any_bytes_are_read_or_refused_in_one_sentence(tmp_path_factory, data, start):
    path = tmp_path_factory.mktemp("x") / "x.png"
    path.write_bytes(start + data)
    try:
        result = load_photo(path).mode
    except MvdiffError as error:
        result = str(error)
    assert result == "RGBA" or (str(path) in result and "\n" not in result)


def test_what_is_no_picture_is_refused(tmp_path):
    with pytest.raises(MvdiffError, match=r"no picture at '.*nowhere\.png'"):
        load_photo(tmp_path / "nowhere.png")
    with pytest.raises(MvdiffError, match="is a folder"):
        load_photo(tmp_path)
    (tmp_path / "x.png").write_text("hello")
    with pytest.raises(MvdiffError, match="unknown format"):
        load_photo(tmp_path / "x.png")
    (tmp_path / "x.png").write_text("")
    with pytest.raises(MvdiffError, match="empty"):
        load_photo(str(tmp_path / "x.png"))


def test_arrays_and_tensors():
    values = np.random.default_rng(0).integers(0, 256, (5, 7, 4), dtype=np.uint8)
    assert np.array_equal(load_photo(values), values)
    assert np.array_equal(pixels(load_photo(values[..., :3]))[..., :3], values[..., :3])
    floats = (values / 255).astype(np.float32)
    assert np.array_equal(load_photo(floats), values)
    tensor = torch.from_numpy(values).permute(2, 0, 1)
    assert np.array_equal(load_photo(tensor), values)
    assert np.array_equal(load_photo(tensor.float() / 255), values)
    half = pixels(load_photo((tensor.float() / 255).bfloat16()))
    assert np.abs(half - values).max() <= 1


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.full((4, 4, 3), np.nan), "NaN"),
        (np.full((4, 4, 3), np.inf), "NaN or infinite"),
        (np.full((4, 4, 3), 17.0), r"must lie in \[0, 1\]"),
        (np.full((4, 4, 3), -1.0), r"must lie in \[0, 1\]"),
        (np.zeros((4, 4)), r"shape \(height, width, 3 or 4\)"),
        (np.zeros((3, 4, 4, 3)), "shape"),
        (np.zeros((0, 4, 3)), "shape"),
        (np.zeros((4, 4, 3), np.int64), "uint8 or floats, got int64"),
        (np.zeros((4, 4, 3), np.complex64), "uint8 or floats"),
        (torch.full((3, 4, 4), torch.nan), "NaN"),
        (torch.zeros(8, 5, 3), "permute it"),
        (torch.zeros(1, 3, 4, 4), "picture tensor"),
        (torch.zeros(5, 4, 4), "picture tensor"),
    ],
)
def test_bad_arrays_are_refused(array, words):
    with pytest.raises(MvdiffError, match=words):
        load_photo(array)


# Framing


def extent(photo: PreparedImage) -> tuple[float, float, float, float]:
    """Center x, center y, width and height of the alpha, by its moments (a disc's diameter)."""
    a = photo.alpha[0].double()
    y, x = torch.meshgrid(*(torch.arange(n).double() + 0.5 for n in a.shape), indexing="ij")
    cx, cy = ((a * v).sum() / a.sum() for v in (x, y))
    sx, sy = ((a * (v - c) ** 2).sum() / a.sum() for v, c in ((x, cx), (y, cy)))
    return float(cx), float(cy), 4 * float(sx) ** 0.5, 4 * float(sy) ** 0.5


@settings(max_examples=40, deadline=None)
@given(
    st.integers(24, 300),
    st.floats(0.05, 0.45),
    st.floats(-0.04, 0.04),
    st.sampled_from([32, 64, 256]),
    st.floats(0.3, 0.95),
)
def test_fit_centers_and_scales(source, radius, shift, size, fill):
    image = disc(source, max(3.0, radius * source), center=(source * (0.5 + shift), source / 2))
    photo = frame_by_fill(image, size, fill)
    assert photo.rgb.shape == (3, size, size)
    assert photo.alpha.shape == (1, size, size)
    x, y, width, height = extent(photo)
    # A hard-edged disc of few pixels is itself off by up to a pixel of its own.
    tolerance = 0.3 + 1.2 * fill * size / (2 * max(3.0, radius * source))
    assert abs(x - size / 2) <= tolerance
    assert abs(y - size / 2) <= tolerance
    assert abs(width - fill * size) <= 1 + tolerance
    assert abs(height - fill * size) <= 1 + tolerance


def test_fit_uses_the_longer_side_and_keeps_the_aspect():
    rgba = np.zeros((100, 100, 4), np.uint8)
    rgba[10:90, 30:50] = (0, 0, 255, 255)  # 20 wide, 80 high
    alpha = frame_by_fill(Image.fromarray(rgba), 64, 0.5).alpha[0]
    assert alpha.sum(dim=0).max() == pytest.approx(32, abs=0.2)
    assert alpha.sum(dim=1).max() == pytest.approx(8, abs=0.2)


def test_fit_works_up_to_the_edge_of_the_picture():
    full = Image.new("RGBA", (10, 6), (255, 0, 0, 255))
    photo = frame_by_fill(full, 32, fill=1.0)
    assert photo.alpha.sum() == pytest.approx(32 * 32 * 0.6, rel=0.05)
    assert (photo.rgb[1] - (1 - photo.alpha[0])).abs().max() < 1e-6


def test_fit_does_not_bleed_the_color_of_transparent_pixels():
    image = np.asarray(disc(200, 60)).copy()
    image[image[..., 3] == 0, :3] = (0, 255, 0)  # hidden green
    photo = frame_by_fill(Image.fromarray(image), 32)
    clean = frame_by_fill(disc(200, 60), 32)
    assert (photo.rgba - clean.rgba).abs().max() < 2 / 255
    assert torch.equal(photo.rgba[:3], photo.rgb)
    assert torch.equal(photo.signed, photo.rgb * 2 - 1)


def test_fit_ignores_haze_below_five_percent():
    image = np.asarray(disc(64, 10)).copy()
    image[0, 0] = (0, 0, 0, 10)
    photo = frame_by_fill(Image.fromarray(image), 64, 0.5)
    assert extent(photo)[2] == pytest.approx(32, abs=1)


def test_composited_on_white():
    half = Image.new("RGBA", (8, 8), (0, 0, 0, 128))
    photo = frame_syncdreamer(half, None, size=8)
    assert photo.rgb[0, 4, 4] == pytest.approx(127 / 255)
    assert pixels(photo.pil())[4, 4].tolist() == [127, 127, 127]


def test_the_published_preparation_by_hand():
    # 21 rows and 13 columns of alpha; the last of each is left out, and nothing is resized.
    rgba = np.zeros((50, 50, 4), np.uint8)
    rgba[5:26, 5:18] = (255, 0, 0, 255)
    photo = frame_syncdreamer(Image.fromarray(rgba), 20, size=32)
    rows, columns = np.nonzero(photo.alpha[0].numpy() > 0.5)
    assert (rows.min(), rows.max()) == (6, 25)
    assert (columns.min(), columns.max()) == (10, 21)
    # At half size 13 pixels become int(6.5).
    half = frame_syncdreamer(Image.fromarray(rgba[:, 4:]), 10, size=32)
    assert (half.alpha[0] > 0.5).sum() == 10 * 6


def test_published_preparation_to_1e_6(shared_dir: Path):
    golden = np.load(shared_dir / "golden" / "input_prep.npz")
    assert len(golden.files) == 4
    for key in golden.files:
        name, crop = key.split("__crop")
        photo = load_photo(shared_dir / "data" / "photos" / f"{name}.png")
        ours = frame_syncdreamer(photo, int(crop)).signed.permute(1, 2, 0).numpy()
        assert np.abs(ours - golden[key]).max() <= 1e-6


def test_bad_framing_is_refused():
    image = disc()
    for fill in (0, -1, 1.01, float("nan")):
        with pytest.raises(MvdiffError, match=r"fill must lie in \(0, 1\]"):
            frame_by_fill(image, 64, fill)
    for crop in (0, -2, 257):
        with pytest.raises(MvdiffError, match=r"crop_size must lie in \[1, 256\]"):
            frame_syncdreamer(image, crop)
    with pytest.raises(MvdiffError, match="at least 1 pixel"):
        frame_by_fill(image, 0)
    clear = Image.new("RGBA", (9, 9))
    for frame in (lambda: frame_by_fill(clear, 64), lambda: frame_syncdreamer(clear, 200)):
        with pytest.raises(MvdiffError, match="transparent everywhere"):
            frame()


def test_prepare_reads_cuts_and_frames(tmp_path):
    disc(50, 12).save(tmp_path / "x.png")
    photo = prepare(tmp_path / "x.png", segmenter=SEGMENTERS["alpha"](), size=32)
    assert torch.equal(photo.rgba, frame_by_fill(disc(50, 12), 32).rgba)
    assert extent(photo)[2] == pytest.approx(0.67 * 32, abs=1)
