"""Fixtures every test may use."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
import trimesh
from helpers.shape_checking import check_shapes

from mvdiff.cameras import Cameras, look_at
from mvdiff.rendering import Raycaster
from mvdiff.views.views import Views

# Started in the background, this process ignores Ctrl-C, and what it starts would, too.
signal.signal(signal.SIGINT, signal.default_int_handler)
check_shapes()


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """The folder of reference data beside the repository; tests skip when it is missing."""
    folder = Path(__file__).parents[1].parent / "shared"
    if not folder.is_dir():
        pytest.skip(f"reference data not found at '{folder}': this check needs it")
    return folder


def photograph(mesh: trimesh.Trimesh, cameras: Cameras, **options) -> Views:
    return Raycaster(mesh).render(cameras, supersample=4, shading=None, **options).views(cameras)


@pytest.fixture(scope="session")
def shoot():
    """The function (mesh, cameras) → views, in the mesh's own colors."""
    return photograph


@pytest.fixture(scope="session")
def around() -> Cameras:
    """24 cameras all around, above and below."""
    elevations = [e for e in (-50, -15, 20, 55) for _ in range(6)]
    azimuths = [60.0 * i + 15 * (e % 4) for e in (-50, -15, 20, 55) for i in range(6)]
    return look_at(azimuths, elevations, size=64)


@pytest.fixture(scope="session")
def sphere_views(around) -> Views:
    """A sphere of radius 0.4, red where x > 0 and blue elsewhere."""
    sphere = trimesh.creation.icosphere(subdivisions=4, radius=0.4)
    red = sphere.triangles_center[:, :1] > 0
    sphere.visual.face_colors = red * [220, 30, 30] + ~red * [30, 30, 220]
    return photograph(sphere, around)


def pytest_terminal_summary(terminalreporter) -> None:
    """How near the published model the run came, where golden files were compared."""
    from helpers.golden import ERRORS

    if ERRORS:
        terminalreporter.section("relative errors against the golden files")
        for what, error in ERRORS.items():
            terminalreporter.write_line(f"{what:<44}{error:.1e}")
