"""The score of a result: silhouettes and colors, the input picture among them."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
import trimesh

from mvdiff.cameras import look_at, ring
from mvdiff.evaluation.ranking import distances, score_sample, with_photo
from mvdiff.metrics import corrupt
from mvdiff.preprocessing.photo import PreparedImage
from mvdiff.rendering import Raycaster
from mvdiff.views.views import Views

ELEVATION = 8.0


@pytest.fixture(scope="module")
def caster() -> Raycaster:
    """A box in three colors with a red knob at one side."""
    box, knob = trimesh.creation.box((0.5, 0.3, 0.4)), trimesh.creation.icosphere(2, 0.12)
    knob.apply_translation([0.3, 0, 0.1])
    colors = np.array([(60, 160, 60), (60, 60, 200), (230, 230, 120)])
    box.visual.face_colors = colors[np.abs(box.face_normals).argmax(axis=1)]
    knob.visual.face_colors = np.tile([(200, 40, 40, 255)], (len(knob.faces), 1))
    return Raycaster(trimesh.util.concatenate([box, knob]))


def views_of(caster: Raycaster, cameras):
    return caster.render(cameras, supersample=2, shading=None).views(cameras)


@pytest.fixture(scope="module")
def truth(caster):
    return views_of(caster, ring(16, size=64))


@pytest.fixture(scope="module")
def photo(caster) -> PreparedImage:
    seen = views_of(caster, look_at([0.0], [ELEVATION], size=64))
    return PreparedImage(seen.rgb[0], seen.mask[0])


def test_the_picture_joins_as_a_view_from_its_own_camera(truth, photo):
    joined = with_photo(truth, photo, ELEVATION)
    assert len(joined) == 17
    assert torch.allclose(joined.cameras.w2c[16], look_at([0.0], [ELEVATION]).w2c[0], atol=1e-6)
    assert torch.allclose(joined.rgb[:16], truth.rgb, atol=1 / 255)
    assert torch.allclose(joined.rgb[16], photo.rgb, atol=1 / 255)


def test_the_truth_is_better_than_its_corruptions(truth, photo):
    best = score_sample(truth, photo, ELEVATION)
    assert best["hull_iou"] > 0.9
    assert best["photometric"] < 0.02
    for name, views in corrupt(truth).items():
        assert score_sample(views, photo, ELEVATION)["score"] < best["score"] - 0.01, name


def test_views_that_agree_with_each_other_but_not_with_the_picture_lose(caster, truth, photo):
    turned = views_of(caster, ring(16, azimuth=90.0, size=64))
    turned = dataclasses.replace(turned, cameras=truth.cameras)
    assert score_sample(turned, photo, ELEVATION)["score"] < (
        score_sample(truth, photo, ELEVATION)["score"] - 0.01
    )


def test_empty_views_get_the_worst_score(truth, photo):
    empty = truth.map(torch.zeros_like)
    scores = score_sample(empty, photo, ELEVATION)
    assert scores["hull_iou"] == 0
    assert scores["score"] < score_sample(truth, photo, ELEVATION)["score"] - 0.9


def test_the_nearest_to_the_mean_of_all_is_the_most_typical(truth):
    noise = torch.Generator().manual_seed(0)

    def noisy(strength: float) -> Views:
        images = truth.images.float() + strength * torch.randn(truth.images.shape, generator=noise)
        return dataclasses.replace(truth, images=images.clamp(0, 255).byte())

    apart = distances([noisy(s) for s in (4, 40, 12, 25)])
    assert sorted(range(4), key=apart.__getitem__) == [0, 2, 3, 1]
    assert distances([truth, truth, truth]) == pytest.approx([0, 0, 0], abs=1e-6)
