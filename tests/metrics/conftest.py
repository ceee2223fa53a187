"""Views and meshes to measure."""

from __future__ import annotations

import numpy as np
import pytest
import trimesh

from mvdiff.cameras import Cameras, ring
from mvdiff.rendering import Raycaster
from mvdiff.views.views import Views


@pytest.fixture(scope="session")
def chair() -> trimesh.Trimesh:
    """A few boxes: thin parts, holes between them, no symmetry."""
    parts = []
    for size, at in (
        ((0.5, 0.5, 0.08), (0, 0, 0)),
        ((0.08, 0.5, 0.45), (-0.21, 0, 0.25)),
        ((0.09, 0.09, 0.4), (-0.2, -0.2, -0.22)),
        ((0.09, 0.09, 0.4), (-0.2, 0.2, -0.22)),
        ((0.09, 0.09, 0.4), (0.2, -0.2, -0.22)),
        ((0.09, 0.09, 0.4), (0.2, 0.2, -0.22)),
    ):
        box = trimesh.creation.box(size)
        box.apply_translation(at)
        parts.append(box)
    return trimesh.util.concatenate(parts)


@pytest.fixture(scope="session")
def chair_views(chair) -> Views:
    cameras = ring(size=64)
    return Raycaster(chair).render(cameras, supersample=4).views(cameras)


@pytest.fixture(scope="session")
def painted_views(chair) -> Views:
    """The chair with another color on every face of its boxes, unlit: the same from all sides."""
    painted = chair.copy()
    colors = np.random.default_rng(0).integers(40, 220, (len(chair.faces) // 2, 3))
    painted.visual.face_colors = np.repeat(colors, 2, axis=0).astype(np.uint8)
    return unlit(painted, ring(size=64))


@pytest.fixture(scope="session")
def ball() -> trimesh.Trimesh:
    """A sphere of radius 0.4, even gray (102)."""
    ball = trimesh.creation.icosphere(subdivisions=4, radius=0.4)
    ball.visual.vertex_colors = np.full((len(ball.vertices), 3), 102, np.uint8)
    return ball


@pytest.fixture(scope="session")
def ball_views(ball) -> Views:
    return unlit(ball, ring(8, size=48))


def unlit(mesh: trimesh.Trimesh, cameras: Cameras) -> Views:
    return Raycaster(mesh).render(cameras, supersample=3, shading=None).views(cameras)
