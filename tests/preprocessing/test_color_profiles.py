"""Color profiles: known values of Display P3, Adobe RGB, gray and CMYK; broken ones."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from helpers.icc import (
    ADOBE_RGB,
    DISPLAY_P3,
    SRGB,
    cmyk_profile,
    encode,
    gray_profile,
    rgb_profile,
    to_srgb,
)
from PIL import Image, ImageCms

from mvdiff.preprocessing.image_io import load_photo

#: inside sRGB's gamut, so that nothing is clipped
COLORS = [(180, 90, 60), (60, 120, 70), (128, 128, 128), (90, 70, 160), (255, 255, 255), (0, 0, 0)]


@pytest.mark.parametrize(("primaries", "gamma"), [(DISPLAY_P3, 2.2), (ADOBE_RGB, 2.19921875)])
@pytest.mark.parametrize("suffix", ["png", "webp", "tif"])
def test_wide_gamut_pictures_become_srgb(tmp_path, primaries, gamma, suffix):
    expected = np.array([to_srgb(color, primaries, gamma) for color in COLORS])
    assert np.abs(expected - COLORS).max() > 8  # the conversion matters
    image = Image.fromarray(np.array([COLORS], np.uint8))
    more = {"lossless": True} if suffix == "webp" else {}
    path = tmp_path / f"x.{suffix}"
    image.save(path, icc_profile=rgb_profile(primaries, gamma), **more)
    got = np.asarray(load_photo(path))[0, :, :3].astype(int)
    assert np.abs(got - expected).max() <= 2


def test_alpha_stays_and_a_large_picture_is_converted_while_it_is_reduced(tmp_path):
    image = Image.new("RGBA", (5000, 40), (180, 90, 60, 128))
    image.save(tmp_path / "x.png", icc_profile=rgb_profile(DISPLAY_P3, 2.2))
    got = np.asarray(load_photo(tmp_path / "x.png"))
    assert got.shape[1] == 2048
    assert (got[..., 3] == 128).all()
    assert np.abs(got[8, 1000, :3] - to_srgb(COLORS[0], DISPLAY_P3, 2.2)).max() <= 3


def test_gray_with_another_gamma(tmp_path):
    Image.new("L", (4, 4), 100).save(tmp_path / "x.png", icc_profile=gray_profile(1.0))
    expected = encode(np.array(100 / 255))
    got = np.asarray(load_photo(tmp_path / "x.png"))[0, 0]
    assert np.abs(got[:3] - expected).max() <= 2


def test_cmyk_by_its_profile(tmp_path):
    """Full cyan ink is, in this profile, the color Lab (60, -30, -40)."""

    def lab(c, m, y, k):
        return (60.0, -30.0, -40.0) if (c, m, y, k) == (1, 0, 0, 0) else (100.0 * (1 - k), 0.0, 0.0)

    fx, fy, fz = (60 + 16) / 116 - 30 / 500, (60 + 16) / 116, (60 + 16) / 116 + 40 / 200
    xyz = np.array([0.9642, 1.0, 0.8249]) * np.array([fx, fy, fz]) ** 3
    expected = encode(np.linalg.inv(SRGB) @ xyz)
    image = Image.new("CMYK", (8, 8), (255, 0, 0, 0))
    image.save(tmp_path / "x.tif", icc_profile=cmyk_profile(lab))
    got = np.asarray(load_photo(tmp_path / "x.tif"))[0, 0]
    assert np.abs(got[:3] - expected).max() <= 4
    assert np.abs(got[:3].astype(int) - (0, 255, 255)).max() > 40  # what it is without the profile


def test_srgb_profiles_change_nothing(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (9, 9, 3), dtype=np.uint8)
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    Image.fromarray(pixels).save(tmp_path / "x.png", icc_profile=profile)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.array_equal(np.asarray(load_photo(tmp_path / "x.png"))[..., :3], pixels)


@pytest.mark.parametrize(
    "profile",
    [
        b"nonsense",
        rgb_profile(DISPLAY_P3, 2.2)[:150],
        rgb_profile(DISPLAY_P3, 2.2)[:128],
        bytes(200),
    ],
)
def test_broken_profiles_are_ignored_with_a_note(tmp_path, profile):
    Image.new("RGB", (4, 4), (180, 90, 60)).save(tmp_path / "x.png", icc_profile=profile)
    with pytest.warns(UserWarning, match="color profile"):
        photo = load_photo(tmp_path / "x.png")
    assert photo.getpixel((0, 0)) == (180, 90, 60, 255)


def test_a_profile_of_another_kind_is_ignored_with_a_note(tmp_path):
    profile = cmyk_profile(lambda c, m, y, k: (50.0, 0.0, 0.0))
    Image.new("RGB", (4, 4), (180, 90, 60)).save(tmp_path / "x.png", icc_profile=profile)
    with pytest.warns(UserWarning, match="CMYK"):
        photo = load_photo(tmp_path / "x.png")
    assert photo.getpixel((0, 0)) == (180, 90, 60, 255)
