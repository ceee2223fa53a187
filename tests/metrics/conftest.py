"""Views and meshes to measure."""

from __future__ import annotations

import pytest
import trimesh

from mvdiff.cameras import ring
from mvdiff.rendering import Raycaster
from mvdiff.views import Views


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
