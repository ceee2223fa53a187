"""Hull IoU: near 1 for a real object, lower the less the views agree."""

from __future__ import annotations

import pytest
import torch

from mvdiff.cameras import ring
from mvdiff.errors import MvdiffError
from mvdiff.metrics import hull_iou
from mvdiff.views.views import Views


def moved(views: Views, index: int, pixels: int) -> Views:
    images, alpha = views.images.clone(), views.alpha.clone()
    images[index] = images[index].roll(pixels, -1)
    alpha[index] = alpha[index].roll(pixels, -1)
    return Views(images, alpha, views.cameras)


def test_views_of_an_object_agree(chair_views):
    assert hull_iou(chair_views) > 0.95


def test_the_figure_falls_with_every_pixel_of_disagreement(chair_views):
    figures = [hull_iou(moved(chair_views, 3, pixels)) for pixels in (0, 2, 4, 8)]
    assert figures == sorted(figures, reverse=True)
    assert figures[0] - figures[2] > 0.05


def test_wrong_order_of_views_is_noticed(chair_views):
    shuffled = Views(
        chair_views.images[[0, 8, *range(1, 8), *range(9, 16)]],
        chair_views.alpha[[0, 8, *range(1, 8), *range(9, 16)]],
        chair_views.cameras,
    )
    assert hull_iou(shuffled) < hull_iou(chair_views) - 0.1


def test_keyed_views_give_nearly_the_same_figure(chair_views):
    white = Views.from_white(chair_views.rgb, None, chair_views.cameras)
    assert hull_iou(white) == pytest.approx(hull_iou(chair_views), abs=0.04)


def test_larger_views_give_nearly_the_same_figure(chair, chair_views):
    from mvdiff.rendering import Raycaster

    cameras = ring(size=192)
    large = Raycaster(chair).render(cameras, supersample=2).views(cameras)
    assert hull_iou(large) == pytest.approx(hull_iou(chair_views), abs=0.01)


def test_nothing_in_common_is_zero():
    alpha = torch.zeros(4, 1, 32, 32, dtype=torch.uint8)
    for i in range(4):
        alpha[i, :, 14:18, 8 * i : 8 * i + 3] = 255
    apart = Views(alpha.expand(-1, 3, -1, -1).clone(), alpha, ring(4, size=32))
    assert hull_iou(apart) == 0


def test_empty_views_do_not_count_as_agreement():
    empty = Views(torch.full((4, 3, 32, 32), 255, dtype=torch.uint8), None, ring(4, size=32))
    assert hull_iou(empty) == 0


def test_one_view_cannot_agree_with_itself(chair_views):
    with pytest.raises(MvdiffError, match="at least 2 views"):
        hull_iou(chair_views[0])
