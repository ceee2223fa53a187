"""The contract of every rig; new variants are tested without a change here."""

from __future__ import annotations

import math

import pytest
import torch
from helpers.tiny_recipe import TOY

from mvdiff import builders
from mvdiff.cameras import RIGS, Cameras, to_spherical
from mvdiff.config.compose import compose
from mvdiff.config.groups import groups
from mvdiff.errors import MvdiffError

VARIANTS = groups()["rig"]
SIZES = [override for override in TOY if not override.startswith("rig.")]


def make(variant: str, *overrides: str) -> Cameras:
    return builders.build_rig(
        compose("generate", ["image=none", *SIZES, f"rig={variant}", *overrides])
    )


def test_every_registered_name_has_its_yaml():
    assert set(RIGS) <= set(VARIANTS)


@pytest.mark.parametrize("variant", VARIANTS)
def test_cameras_of_the_recipes_size_that_look_at_the_object(variant):
    cameras = make(variant)
    assert (cameras.width, cameras.height) == (32, 32)
    uv, depth = cameras.project(torch.zeros(1, 3))
    torch.testing.assert_close(uv, torch.full_like(uv, 16.0), atol=1e-3, rtol=0)
    assert (depth > 0).all()
    assert len({tuple(row) for row in cameras.centers.round(decimals=3).tolist()}) == len(cameras)
    # upright: the camera's right lies in the world's horizontal plane
    assert cameras.R[:, 0, 2].abs().max() < 1e-6


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_first_camera_stands_where_the_yaml_says_the_front_is(variant):
    assert abs(float(to_spherical(make(variant))[0][0])) < 1e-6
    front = "[70.0,0.0]" if variant == "custom" else "70.0"
    azimuth = to_spherical(make(variant, f"rig.azimuth={front}"))[0]
    assert math.degrees(float(azimuth[0])) == pytest.approx(70, abs=1e-3)


@pytest.mark.parametrize("variant", VARIANTS)
def test_projection_and_lens_are_the_users(variant):
    flat = make(variant, "rig.projection=orthographic")
    assert flat.projection == "orthographic"
    wide = make(variant, "rig.fov=90")
    assert float(wide.K[0, 0, 0]) == pytest.approx(16)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("rig.fov=180", r"fov.*180"),
        ("rig.distance=-1", r"rig.distance.*got -1"),
        ("rig.projection=fisheye", r"'perspective'.*'orthographic'"),
        ("+rig.foo=1", "has no setting foo; choose from"),
    ],
)
def test_settings_that_cannot_be_are_one_sentence(variant, setting, words):
    with pytest.raises(Exception, match=words) as caught:
        make(variant, setting)
    if "fisheye" not in setting:  # the shape checker may get to a wrong literal first
        assert isinstance(caught.value, MvdiffError)
        assert "\n" not in str(caught.value)
