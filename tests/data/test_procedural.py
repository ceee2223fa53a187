"""Every family of procedural shapes: deterministic, varied, colored, sound."""

from __future__ import annotations

import numpy as np
import pytest

from mvdiff.cameras import ring
from mvdiff.data.meshes import normalize_to_rig
from mvdiff.data.procedural import SHAPES, family_of, make_shape
from mvdiff.errors import MvdiffError
from mvdiff.rendering import Raycaster

ASKED = {
    *("mug", "bottle", "rocket", "house", "tree", "chair", "table", "car"),
    *("boat", "lamp", "mushroom", "snowman"),
}


def test_the_families_asked_for_exist():
    assert set(SHAPES) >= ASKED


@pytest.mark.parametrize("family", list(SHAPES))
def test_a_family(family):
    first, again, other = make_shape(family, 3), make_shape(family, 3), make_shape(family, 4)
    np.testing.assert_array_equal(first.vertices, again.vertices)
    np.testing.assert_array_equal(first.visual.vertex_colors, again.visual.vertex_colors)
    assert first.vertices.shape != other.vertices.shape or not np.allclose(
        first.vertices, other.vertices
    )
    normal = first.vertex_attributes["normal"]
    assert np.isfinite(first.vertices).all()
    np.testing.assert_allclose(np.linalg.norm(normal, axis=1), 1, atol=1e-6)
    assert len(np.unique(first.visual.vertex_colors, axis=0)) >= 2
    # A thing, not a speck or a sheet: it fills some of the picture from all around.
    picture = Raycaster(normalize_to_rig(first)).render(ring(4, size=32), shading=None)
    covered = (picture.alpha > 0).float().mean(dim=(1, 2, 3))
    assert covered.min() > 0.04
    assert covered.max() < 0.7


@pytest.mark.parametrize("family", list(SHAPES))
def test_surfaces_face_outwards(family):
    # Shading is two-sided, but exported meshes and volumes rely on the winding.
    mesh = make_shape(family, 1)
    corners = mesh.triangles
    volume = np.einsum("fi,fi->f", corners[:, 0], np.cross(corners[:, 1], corners[:, 2])).sum() / 6
    assert volume > 0
    smooth = mesh.vertex_attributes["normal"].reshape(-1, 3, 3).mean(axis=1)
    agree = np.einsum("fi,fi->f", smooth, mesh.face_normals)
    assert (agree[mesh.area_faces > 1e-9] > 0).all()


def test_seeds_take_the_families_in_turn():
    count = len(list(SHAPES))
    assert [family_of(s) for s in range(count)] == list(SHAPES)
    assert family_of(count) == family_of(0)
    np.testing.assert_array_equal(
        make_shape(None, 5).vertices, make_shape(family_of(5), 5).vertices
    )


def test_colors_vary_between_seeds():
    first = {tuple(make_shape("mug", s).visual.vertex_colors[0]) for s in range(8)}
    assert len(first) >= 7


def test_bad_arguments_are_refused():
    with pytest.raises(MvdiffError, match=r"unknown shape 'spoon'; choose from .*mug"):
        make_shape("spoon", 0)
    with pytest.raises(MvdiffError, match="at least 0"):
        make_shape("mug", -1)
