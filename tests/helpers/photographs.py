"""Fixtures: objects of known shape, photographed."""

from __future__ import annotations

import pytest
import trimesh

from mvdiff.cameras import Cameras, look_at
from mvdiff.rendering import Raycaster
from mvdiff.views.views import Views


def _photograph(mesh: trimesh.Trimesh, cameras: Cameras, **options) -> Views:
    """Views of a mesh in its own colors, without shading."""
    return Raycaster(mesh).render(cameras, supersample=4, shading=None, **options).views(cameras)


@pytest.fixture(scope="session")
def photograph():
    """The function (mesh, cameras) → views, in the mesh's own colors."""
    return _photograph


@pytest.fixture(scope="session")
def cameras_around() -> Cameras:
    """24 cameras on all sides, above and below the object."""
    elevations = [e for e in (-50, -15, 20, 55) for _ in range(6)]
    azimuths = [60.0 * i + 15 * (e % 4) for e in (-50, -15, 20, 55) for i in range(6)]
    return look_at(azimuths, elevations, size=64)


@pytest.fixture(scope="session")
def sphere_views(cameras_around) -> Views:
    """A sphere of radius 0.4, red where x > 0 and blue elsewhere."""
    sphere = trimesh.creation.icosphere(subdivisions=4, radius=0.4)
    red = sphere.triangles_center[:, :1] > 0
    sphere.visual.face_colors = red * [220, 30, 30] + ~red * [30, 30, 220]
    return _photograph(sphere, cameras_around)
