"""The contract of every reconstructor; new variants are tested without a change here."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from helpers.tiny_recipe import ball_views

from mvdiff import builders
from mvdiff.cameras import ring
from mvdiff.config.compose import compose
from mvdiff.config.groups import groups
from mvdiff.errors import MvdiffError
from mvdiff.recon import RECONSTRUCTORS, Mesh

VARIANTS = [name for name in groups()["reconstructor"] if name != "none"]
_SMALL = ["reconstructor.resolution=24", "reconstructor.max_faces=800"]
_FIT = ["steps=60", "rays=256", "samples=8", "coarse=16", "grid_levels=2", "color_levels=[12]"]
QUICK = {
    "hull": _SMALL,
    "neus": [*_SMALL, *(f"reconstructor.{setting}" for setting in _FIT)],
    "photohull": [*_SMALL, "reconstructor.planes=12", "reconstructor.max_image_side=48"],
}


def make(variant: str):
    overrides = [f"reconstructor={variant}", "views=none", *QUICK.get(variant, [])]
    return builders.build_reconstructor(compose("reconstruct", overrides))


def test_every_registered_name_has_its_yaml():
    assert set(RECONSTRUCTORS) <= set(VARIANTS)


def test_none_is_no_reconstructor():
    assert (
        builders.build_reconstructor(compose("generate", ["image=x", "reconstructor=none"])) is None
    )


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("projection", ["perspective", "orthographic"])
def test_a_ball_comes_back_as_a_ball(variant, projection):
    views = ball_views(ring(8, size=48, projection=projection), radius=0.35)
    mesh = make(variant)(views)
    assert isinstance(mesh, Mesh)
    radius = np.linalg.norm(mesh.vertices, axis=1)
    # cameras at one elevation leave the poles open to the hull, the equator is well seen
    level = np.abs(mesh.vertices[:, 2]) < 0.1
    assert np.abs(radius[level] - 0.35).mean() < 0.03
    assert np.abs(mesh.vertices.mean(axis=0)[:2]).max() < 0.03
    assert mesh.to_trimesh().is_winding_consistent
    assert mesh.to_trimesh().volume > 0  # faces look outwards


@pytest.mark.parametrize("variant", VARIANTS)
def test_colors_are_those_of_the_views(variant):
    mesh = make(variant)(ball_views())
    level = np.abs(mesh.vertices[:, 2]) < 0.1
    expected = (0.5 + mesh.vertices / 0.35 * 0.4) * 255
    error = np.abs(mesh.colors[level].astype(float) - expected[level])
    assert error[:, :2].mean() < 20


@pytest.mark.parametrize("variant", VARIANTS)
def test_progress_is_reported_and_ends_at_one(variant):
    reported: list[tuple[str, float]] = []
    make(variant)(ball_views(), progress=lambda stage, share: reported.append((stage, share)))
    shares = [share for _, share in reported]
    assert shares == sorted(shares)
    assert 0 <= shares[0] < shares[-1] <= 1
    assert all(stage for stage, _ in reported)


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_same_views_give_the_same_mesh_and_stay_as_they_are(variant):
    views = ball_views()
    before = views.images.clone(), views.alpha.clone()
    first, second = make(variant)(views), make(variant)(views)
    assert np.array_equal(first.vertices, second.vertices)
    assert np.array_equal(first.colors, second.colors)
    assert torch.equal(views.images, before[0])
    assert torch.equal(views.alpha, before[1])


@pytest.mark.parametrize("variant", VARIANTS)
def test_views_of_nothing_are_refused_in_one_sentence(variant):
    views = ball_views()
    blank = dataclasses.replace(views, alpha=torch.zeros_like(views.alpha))
    with pytest.raises(MvdiffError) as caught:
        make(variant)(blank)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("variant", VARIANTS)
def test_one_view_or_one_camera_is_refused_in_one_sentence(variant):
    views = ball_views()
    with pytest.raises(MvdiffError, match="at least 2 views"):
        make(variant)(views[0])
    with pytest.raises(MvdiffError, match="all 2 views have the same camera"):
        make(variant)(views[[1, 1]])


@pytest.mark.parametrize("variant", VARIANTS)
def test_cameras_inside_the_object_are_named(variant):
    views = ball_views(ring(6, size=48))
    w2c = views.cameras.w2c.clone()
    w2c[2, :, 3] *= 0.1
    inside = dataclasses.replace(views, cameras=dataclasses.replace(views.cameras, w2c=w2c))
    inside.alpha[2] = 255
    with pytest.raises(MvdiffError, match=r"cameras \[2\] stand inside the object"):
        make(variant)(inside)
