"""Every view against the mesh: good views agree, a wrong one is named."""

from __future__ import annotations

import io
import json
import math

import numpy as np
import pytest
import torch
import trimesh
from rich.console import Console

from mvdiff.cameras import ring
from mvdiff.errors import MvdiffError
from mvdiff.recon import Hull, Mesh
from mvdiff.recon.view_consistency import ViewScore as Score
from mvdiff.recon.view_consistency import _outliers, view_agreement
from mvdiff.views.views import Views


@pytest.fixture(scope="module")
def figure() -> trimesh.Trimesh:
    """Two boxes and a ball of different colors: no view looks like another."""
    parts = []
    for shape, at, color in (
        (trimesh.creation.box((0.5, 0.3, 0.2)), (0, 0, -0.2), [200, 60, 40]),
        (trimesh.creation.box((0.1, 0.12, 0.5)), (0.15, 0.05, 0.1), [40, 90, 200]),
        (trimesh.creation.icosphere(3, 0.14), (-0.2, -0.1, 0.05), [60, 170, 80]),
    ):
        shape.apply_translation(at)
        shape.visual.vertex_colors = [*color, 255]
        parts.append(shape)
    return trimesh.util.concatenate(parts)


@pytest.fixture(scope="module")
def views(figure, photograph) -> Views:
    return photograph(figure, ring(8, size=96))


def replaced(views: Views, index: int, source: int, color_only: bool = False) -> Views:
    images, alpha = views.images.clone(), views.alpha.clone()
    images[index] = views.images[source]
    if not color_only:
        alpha[index] = views.alpha[source]
    return Views(images, alpha, views.cameras)


def test_the_true_mesh_agrees_with_every_view(figure, views):
    report = view_agreement(figure, views, supersample=4)
    assert [score.view for score in report.per_view] == list(range(8))
    assert report.iou > 0.999
    assert report.psnr > 45
    assert report.worst == []
    assert "no view stands out" in report.summary()


def test_a_wrong_view_is_named(figure, views):
    wrong = replaced(views, 3, 6)
    report = view_agreement(figure, wrong)
    assert report.worst == [3]
    assert report.per_view[3].iou < 0.8 < 0.97 < report.per_view[2].iou
    assert "look at view 3 (silhouette 0." in report.summary()


def test_a_wrong_view_is_named_though_it_took_part(views):
    wrong = replaced(views, 3, 6)
    assert view_agreement(Hull(resolution=64)(wrong), wrong).worst == [3]


def test_a_wrong_color_is_named_though_its_silhouette_is_right(figure, views):
    images = views.images.clone()
    images[5] = 255 - images[5]
    report = view_agreement(figure, Views(images, views.alpha, views.cameras))
    assert report.worst == [5]
    assert report.per_view[5].iou > 0.98
    assert report.per_view[5].psnr < 10


def test_figures_are_those_of_the_definition():
    """A box that fills half of each picture; the views say that its upper half is missing."""
    box = trimesh.creation.box((0.4, 0.4, 0.4))
    box.visual.face_colors = [100, 100, 100]
    cameras = ring(2, elevation=0, size=64, projection="orthographic", distance=1.0)
    seen = view_agreement(box, Views(*pictures(64, 110), cameras))
    # Half of the box' rows: 17.5 of 35 are common; the others only the mesh has.
    for score in seen.per_view:
        assert score.iou == pytest.approx(0.5, abs=0.03)
        assert score.psnr == pytest.approx(20 * math.log10(255 / 10), abs=1e-3)
    assert seen.worst == []  # two views: neither can be called wrong


def pictures(size: int, level: int) -> tuple[torch.Tensor, torch.Tensor]:
    # 0.4 of what the camera shows: focal / distance = 70 pixels a unit at side 64, so 28 pixels
    alpha = torch.zeros(2, 1, size, size, dtype=torch.uint8)
    alpha[:, :, size // 2 : size // 2 + 14, size // 2 - 14 : size // 2 + 14] = 255
    return torch.full((2, 3, size, size), level, dtype=torch.uint8), alpha


def test_empty_and_far_views_have_no_color(figure, views):
    alpha = views.alpha.clone()
    alpha[2] = 0
    report = view_agreement(figure, Views(views.images, alpha, views.cameras))
    assert report.per_view[2].psnr is None
    assert report.per_view[2].iou == 0
    assert report.worst == [2]
    assert "no color in common" in report.summary()
    json.dumps(report.as_dict(), allow_nan=False)
    assert report.as_dict()["per_view"][2] == {"view": 2, "iou": 0.0, "psnr": None}


def test_worst_comes_first_and_small_spread_is_no_reason():
    scores = [Score(i, 0.99, 30.0 + 0.1 * (i % 3)) for i in range(10)]
    assert _outliers(scores) == []
    scores[4], scores[7] = Score(4, 0.90, 30.0), Score(7, 0.50, 12.0)
    assert _outliers(scores) == [7, 4]
    # Views that differ widely among themselves: what lies within their spread is not named.
    wide = [Score(i, 0.99, psnr) for i, psnr in enumerate(np.linspace(20, 30, 10))]
    assert _outliers(wide) == []


def test_large_views_are_reduced_and_white_backgrounds_keyed(figure, photograph):
    large = photograph(figure, ring(4, size=400))
    report = view_agreement(Mesh.from_trimesh(figure), large)
    assert report.iou > 0.98
    white = Views.from_white(large.rgb, None, large.cameras)
    assert view_agreement(figure, white).iou > 0.97


def test_table_marks_what_stands_out(figure, views):
    console = Console(width=80, file=io.StringIO(), record=True)
    console.print(view_agreement(figure, replaced(views, 3, 6)).table())
    lines = console.export_text().splitlines()
    assert [line.split()[0] for line in lines if "stands out" in line] == ["3"]
    assert len(lines) == 9


def test_bad_input_is_refused(figure, views):
    empty = trimesh.Trimesh(np.zeros((3, 3)), np.zeros((0, 3), int), process=False)
    with pytest.raises(MvdiffError, match="no faces"):
        view_agreement(empty, views)
    with pytest.raises(MvdiffError, match="no views"):
        view_agreement(figure, views[[]])
