"""`Views`: saving and loading are exact; the published formats."""

from __future__ import annotations

import pickle
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from mvdiff.builders.views import read_views
from mvdiff.cameras import look_at, ring, to_spherical
from mvdiff.cameras.formats import write_transforms
from mvdiff.errors import MvdiffError
from mvdiff.views.views import Views


def some_views(seed: int = 0, count: int = 3, size: int = 8, alpha: bool = True) -> Views:
    g = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 256, (count, 3, size, size), generator=g, dtype=torch.uint8)
    opacity = torch.randint(0, 256, (count, 1, size, size), generator=g, dtype=torch.uint8)
    return Views(images, opacity if alpha else None, ring(count, size=size))


def assert_same(a: Views, b: Views) -> None:
    assert torch.equal(a.images, b.images)
    assert (a.alpha is None) == (b.alpha is None)
    assert a.alpha is None or torch.equal(a.alpha, b.alpha)
    for x, y in ((a.cameras.K, b.cameras.K), (a.cameras.w2c, b.cameras.w2c)):
        assert torch.equal(x.view(torch.int32), y.contiguous().view(torch.int32))
    assert (a.cameras.height, a.cameras.width) == (b.cameras.height, b.cameras.width)
    assert a.cameras.projection == b.cameras.projection


@settings(max_examples=25, deadline=None)
@given(
    st.integers(0, 2**31),
    st.integers(1, 5),
    st.booleans(),
    st.sampled_from(["", "views", "a/b"]),
    st.sampled_from(["perspective", "orthographic"]),
    st.floats(-90, 90),
)
def test_save_and_load_give_the_same_bits(
    tmp_path_factory, seed, count, alpha, subfolder, projection, elevation
):
    folder = tmp_path_factory.mktemp("v")
    views = some_views(seed, count, alpha=alpha)
    cameras = ring(count, elevation, size=8, projection=projection)
    views = Views(views.images, views.alpha, cameras)
    listing = views.save(folder, subfolder)
    assert listing == folder / "transforms.json"
    assert (folder / subfolder / "000.png").is_file()
    assert_same(Views.load(folder), views)
    assert_same(Views.load(listing), views)


def test_views_that_are_not_square(tmp_path):
    images = torch.randint(0, 256, (2, 3, 4, 6), dtype=torch.uint8)
    views = Views(images, None, ring(2, size=12).resize(4, 6))
    views.save(tmp_path)
    assert_same(Views.load(tmp_path), views)


def test_the_listing_is_written_last(tmp_path, monkeypatch):
    def fail(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("mvdiff.views.views.write_transforms", fail)
    with pytest.raises(KeyboardInterrupt):
        some_views().save(tmp_path)
    assert not (tmp_path / "transforms.json").exists()
    with pytest.raises(MvdiffError, match="no views at"):
        Views.load(tmp_path)


def test_views_half_written_over_others_are_no_views(tmp_path, monkeypatch):
    some_views().save(tmp_path)
    show = Views.pil

    def fail(views, index):
        if index == 1:
            raise KeyboardInterrupt
        return show(views, index)

    monkeypatch.setattr(Views, "pil", fail)
    with pytest.raises(KeyboardInterrupt):
        some_views().save(tmp_path)
    with pytest.raises(MvdiffError, match="no views at"):
        Views.load(tmp_path)


def test_a_strip_is_sixteen_published_views(tmp_path):
    views = some_views(count=16, alpha=False)
    views.strip().save(tmp_path / "strip.png")
    assert Image.open(tmp_path / "strip.png").size == (128, 8)
    assert_same(Views.load(tmp_path / "strip.png"), views)
    torch.testing.assert_close(Views.load(tmp_path / "strip.png").cameras.K, ring(size=8).K)


def test_a_strip_with_another_rig(tmp_path):
    views = some_views(count=4, alpha=False)
    views.strip().save(tmp_path / "strip.png")
    rig = look_at([0, 90, 180, 270], [0, 10, 20, 30], size=256)
    loaded = Views.load(tmp_path / "strip.png", rig)
    assert torch.equal(loaded.images, views.images)
    assert torch.equal(loaded.cameras.w2c, rig.w2c)
    assert loaded.cameras.width == 8
    with pytest.raises(MvdiffError, match="16 square views of side 8 is 128 wide"):
        Views.load(tmp_path / "strip.png")


def test_a_strip_of_views_with_alpha_stands_on_white():
    views = some_views(count=2)
    clear = Views(views.images, torch.zeros_like(views.alpha), views.cameras)
    assert np.asarray(clear.strip()).min() == 255


def published(folder, count=16, size=256):
    cameras = ring(count, size=size)
    a, e, d = (x.numpy() for x in to_spherical(cameras))
    meta = [cameras.K[0].numpy(), a, e, d, cameras.w2c.numpy()]
    (folder / "meta.pkl").write_bytes(pickle.dumps(meta))
    for i in range(count):
        Image.new("RGBA", (256, 256), (i, 2 * i, 3, 100 + i)).save(folder / f"{i:03d}.png")


def test_the_published_folder(tmp_path):
    published(tmp_path)
    views = Views.load(tmp_path)
    assert len(views) == 16
    assert views.images[:, 0, 0, 0].tolist() == list(range(16))
    assert views.alpha[5, 0, 0, 0] == 105
    assert torch.equal(views.cameras.w2c, ring().w2c)
    assert torch.equal(views.cameras.K, ring().K)


def test_a_published_folder_with_a_picture_missing(tmp_path):
    published(tmp_path, count=2)
    (tmp_path / "001.png").unlink()
    with pytest.raises(MvdiffError, match=r"001\.png' is listed but missing"):
        Views.load(tmp_path)


def test_broken_pictures_are_named(tmp_path):
    some_views().save(tmp_path)
    whole = (tmp_path / "001.png").read_bytes()
    (tmp_path / "001.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(MvdiffError, match=r"001\.png' is broken or truncated"):
        Views.load(tmp_path)
    (tmp_path / "001.png").write_text("no picture")
    with pytest.raises(MvdiffError, match=r"cannot read '.*001\.png'"):
        Views.load(tmp_path)
    Image.new("RGBA", (9, 8)).save(tmp_path / "001.png")
    with pytest.raises(MvdiffError, match=r"'001\.png' is 9×8 pixels and its camera .* 8×8"):
        Views.load(tmp_path)


def test_the_odd_size_is_named_though_it_comes_first(tmp_path):
    some_views().save(tmp_path)
    Image.new("RGB", (8, 7)).save(tmp_path / "000.png")
    for read in (Views.load, lambda folder: read_views(folder, 512)):
        with pytest.raises(MvdiffError, match=r"'000\.png' is 8×7 pixels and its camera .* 8×8"):
            read(tmp_path)


def listed(folder, *pictures: Image.Image, suffix: str = "png") -> None:
    """Write pictures of 32×32 and their cameras."""
    names = [f"{i}.{suffix}" for i in range(len(pictures))]
    for name, picture in zip(names, pictures, strict=True):
        picture.save(folder / name)
    write_transforms(folder / "transforms.json", ring(len(pictures), size=32), names)


READERS = {
    "whole": Views.load,
    "scaled down": lambda folder: read_views(folder, 16)[0],
}


@pytest.mark.parametrize("read", READERS.values(), ids=READERS)
def test_pictures_opaque_all_over_have_no_alpha(tmp_path, read):
    red, green = (Image.new("RGBA", (32, 32), c) for c in ((200, 0, 0, 250), (0, 200, 0, 255)))
    listed(tmp_path, red, green)
    views = read(tmp_path)
    assert views.alpha is None
    colors = torch.tensor([[200, 0, 0], [0, 200, 0]])
    assert (views.images[:, :, 0, 0] - colors).abs().max() <= 1
    red.paste((9, 9, 9, 100), (0, 0, 4, 4))
    listed(tmp_path, red, green)
    assert read(tmp_path).alpha[:, 0, 0, 0].tolist() == [100, 255]


@pytest.mark.parametrize("read", READERS.values(), ids=READERS)
def test_pictures_with_and_without_alpha_may_be_mixed(tmp_path, read):
    clear = Image.new("RGBA", (32, 32), (10, 20, 30, 60))
    plain, gray = Image.new("RGB", (32, 32), (1, 2, 3)), Image.new("L", (32, 32), 7)
    listed(tmp_path, plain, clear, gray)
    views = read(tmp_path)
    assert views.alpha[:, 0, 5, 5].tolist() == [255, 60, 255]
    colors = torch.tensor([[1, 2, 3], [10, 20, 30], [7, 7, 7]])
    assert (views.images[:, :, 5, 5] - colors).abs().max() <= 2  # scaled multiplied by alpha


@pytest.mark.parametrize("kind", ["png", "tif", "int", "float"])
@pytest.mark.parametrize("read", READERS.values(), ids=READERS)
def test_gray_of_16_bits_and_of_floats_is_rescaled(tmp_path, read, kind):
    levels = np.arange(256).repeat(4).reshape(32, 32)
    deep = {"int": (levels * 257).astype(np.int32), "float": (levels / 255).astype(np.float32)}
    deep = Image.fromarray(deep.get(kind, (levels * 257).astype(np.uint16)))
    listed(tmp_path, deep, deep, suffix="png" if kind == "png" else "tif")
    found = read(tmp_path)
    assert found.alpha is None
    flat = tmp_path / "flat"
    flat.mkdir()
    shallow = Image.fromarray(levels.astype(np.uint8))
    listed(flat, shallow, shallow)
    assert torch.equal(found.images, read(flat).images)


def test_the_clear_value_of_a_16_bit_png_is_transparent(tmp_path):
    deep = np.full((32, 32), 40000, np.uint16)
    deep[:16] = 0
    Image.fromarray(deep).save(tmp_path / "deep.png", transparency=0)
    write_transforms(tmp_path / "transforms.json", ring(1, size=32), ["deep.png"])
    views = Views.load(tmp_path)
    assert views.alpha[0, 0, ::31, 0].tolist() == [0, 255]
    assert views.images[0, :, 31, 0].tolist() == [156, 156, 156]


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        (np.float32(np.nan), "holds NaN or infinite numbers"),
        (np.float32(-np.inf), "holds NaN or infinite numbers"),
        (np.float32(1.5), "holds numbers from 0.5 to 1.5, expected 0 to 1: scale them"),
        (np.float32(-0.25), "holds numbers from -0.25 to 0.5, expected 0 to 1: scale them"),
        (np.int32(70000), "holds numbers from 0 to 70000, expected 0 to 65535: scale them"),
        (np.int32(-300), "holds numbers from -300 to 0, expected 0 to 65535: scale them"),
    ],
)
@pytest.mark.parametrize("read", READERS.values(), ids=READERS)
def test_numbers_that_are_no_pixels_are_refused(tmp_path, read, value, sentence):
    good = np.full((32, 32), 0.5).astype(value.dtype)
    bad = good.copy()
    bad[3, 4] = value
    listed(tmp_path, Image.fromarray(good), Image.fromarray(bad), suffix="tif")
    with pytest.raises(MvdiffError, match=rf"the view '.*1\.tif' {sentence}") as caught:
        read(tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["nowhere", "strip.png", "file.txt"])
def test_nothing_to_load(tmp_path, name):
    (tmp_path / "file.txt").write_text("hello")
    with pytest.raises(MvdiffError, match=r"no views at|not valid JSON"):
        Views.load(tmp_path / name)


def test_other_people_s_transforms(tmp_path):
    (tmp_path / "images").mkdir()
    Image.new("RGB", (8, 8), (9, 8, 7)).save(tmp_path / "images" / "a.jpg")
    write_transforms(tmp_path / "transforms.json", ring(1, size=8), ["./images/a.jpg"])
    views = Views.load(tmp_path)
    assert views.alpha is None
    assert views.images.shape == (1, 3, 8, 8)


def test_sizes_and_counts_must_fit():
    views = some_views()
    with pytest.raises(MvdiffError, match="3 images of 8×8 need"):
        Views(views.images, None, ring(2, size=8))
    with pytest.raises(MvdiffError, match="3 images of 8×8 need"):
        Views(views.images, None, ring(3, size=9))
    with pytest.raises(Exception, match="alpha"):
        Views(views.images, views.alpha[:2], views.cameras)


def test_from_white_and_back(tmp_path):
    g = torch.Generator().manual_seed(0)
    alpha = torch.rand(2, 1, 8, 8, generator=g)
    color = torch.rand(2, 3, 8, 8, generator=g)
    white = color * alpha + 1 - alpha
    views = Views.from_white(white, alpha, ring(2, size=8))
    assert (views.rgb - white).abs().max() < 1.1 / 255
    assert (views.mask - alpha).abs().max() <= 0.5001 / 255
    plain = Views.from_white(white, None, ring(2, size=8))
    assert plain.alpha is None
    assert (plain.rgb - white).abs().max() <= 0.5001 / 255
    for degraded in (torch.nan, torch.inf):
        with pytest.raises(MvdiffError, match="the images hold NaN or infinite numbers"):
            Views.from_white(white * degraded, None, ring(2, size=8))
        with pytest.raises(MvdiffError, match="the alpha hold NaN or infinite numbers"):
            Views.from_white(white, alpha / alpha * degraded, ring(2, size=8))


def test_images_that_are_not_8_bit_are_refused():
    """In a plain interpreter: the tests' own type checker would be first."""
    code = """
import torch
from mvdiff.cameras import ring
from mvdiff.views import Views
Views(torch.full((2, 3, 8, 8), torch.nan), None, ring(2, size=8))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "InputError: views hold 8-bit images, got torch.float32" in done.stderr


def test_mask_without_alpha_is_distance_from_white():
    images = torch.full((1, 3, 2, 2), 255, dtype=torch.uint8)
    images[0, 1, 0, 0] = 0
    mask = Views(images, None, ring(1, size=2)).mask
    assert mask[0, 0].tolist() == [[1, 0], [0, 0]]


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**31), st.sampled_from([4, 16]), st.booleans())
def test_resize_keeps_mean_color_and_cameras(seed, size, alpha):
    views = some_views(seed, alpha=alpha)
    other = views.resize(size)
    assert (other.cameras.height, other.images.shape[-1]) == (size, size)
    torch.testing.assert_close(other.cameras.K, views.cameras.resize(size).K)
    down = size < 8
    difference = (other.rgb.mean() - views.rgb.mean()).abs()
    assert difference < (0.01 if down else 0.08)


def test_indexing_and_mapping():
    views = some_views()
    assert len(views[1]) == 1
    for index in (-1, [2], (2,), slice(2, 3), range(2, 3), torch.tensor([2])):
        assert views[index] == views[2]
    assert len(list(views)) == len(views)
    assert torch.equal(views[[2, 0]].images, views.images[[2, 0]])
    assert torch.equal(views[1:].cameras.w2c, views.cameras.w2c[1:])
    turned = views.map(lambda x: x.flip(-1))
    assert torch.equal(turned.images, views.images.flip(-1))
    assert torch.equal(turned.alpha, views.alpha.flip(-1))
    assert torch.equal(turned.cameras.K, views.cameras.K)
