"""What all reconstructors ask of their views, and how objects are keyed from a background."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from mvdiff.cameras import ring
from mvdiff.errors import MvdiffError
from mvdiff.recon.validation import check_cameras_outside, validate_views
from mvdiff.silhouettes.masks import edge_distance, reduced
from mvdiff.silhouettes.matting import background, cut_out, object_mask
from mvdiff.views.views import Views


def disc_views(behind: tuple[float, ...], count: int = 2) -> tuple[Views, torch.Tensor]:
    """A green disc with a soft edge on a plain color, and its opacity."""
    at = (torch.arange(64) + 0.5) / 64 - 0.5
    alpha = ((0.3 - (at[:, None] ** 2 + at[None] ** 2).sqrt()) * 64 + 0.5).clamp(0, 1)
    alpha = alpha.expand(count, 1, -1, -1)
    green = torch.tensor([0.1, 0.6, 0.2])[:, None, None]
    pixels = green * alpha + torch.tensor(behind)[:, None, None] * (1 - alpha)
    return Views((pixels * 255).round().byte(), None, ring(count, size=64)), alpha


@pytest.mark.parametrize("behind", [(1.0, 1.0, 1.0), (0.0, 0.0, 0.0), (0.5, 0.5, 0.5)])
def test_any_plain_background_is_keyed_with_its_soft_edge(behind):
    views, alpha = disc_views(behind)
    assert (background(views)[:, :, 0, 0] - torch.tensor(behind)).abs().max() < 0.01
    assert (object_mask(views) - alpha).abs().max() < 0.12
    cut = cut_out(views)
    solid = cut.alpha[:, 0] > 100
    expected = torch.tensor([0.1, 0.6, 0.2]) * 255
    assert (cut.images.movedim(1, -1)[solid].float() - expected).abs().max() < 12


def test_a_busy_border_is_not_taken_for_a_background():
    views, _ = disc_views((1.0, 1.0, 1.0))
    noise = torch.randint(0, 255, views.images.shape, generator=torch.Generator().manual_seed(0))
    busy = Views(noise.byte(), None, views.cameras)
    assert (background(busy) == 1).all()


def test_alpha_is_left_as_it_is():
    views, alpha = disc_views((1.0, 1.0, 1.0))
    given = Views(views.images, (alpha * 255).round().byte(), views.cameras)
    assert cut_out(given) is given
    assert torch.equal(validate_views(given).alpha, given.alpha)


def test_two_of_many_views_may_share_a_camera():
    views, _ = disc_views((1.0, 1.0, 1.0), 3)
    assert len(validate_views(views[[0, 0, 1]])) == 3
    with pytest.raises(MvdiffError, match="all 3 views have the same camera"):
        validate_views(views[[0, 0, 0]])


def test_cameras_where_all_others_see_the_object_are_named():
    views, _ = disc_views((1.0, 1.0, 1.0), 4)
    edges = edge_distance(object_mask(views))
    check_cameras_outside(views.cameras, edges)
    w2c = views.cameras.w2c.clone()
    w2c[1, :, 3] *= 0.1
    near = replace(views.cameras, w2c=w2c)
    with pytest.raises(MvdiffError, match=r"cameras \[1\] stand inside"):
        check_cameras_outside(near, edges)
    check_cameras_outside(near[:2], edges[:2])  # opposite cameras look at each other
    check_cameras_outside(replace(near, projection="orthographic"), edges)


def test_reduced_pictures_average_color_by_opacity():
    images = torch.zeros(1, 3, 8, 12, dtype=torch.uint8)
    images[..., 0::2] = 200
    alpha = torch.zeros(1, 1, 8, 12, dtype=torch.uint8)
    alpha[..., 0::2] = 255
    small = reduced(Views(images, alpha, ring(1, size=8).resize(8, 12)), 6)
    assert small.images.shape == (1, 3, 4, 6)
    assert (small.images == 200).all()
    assert ((small.alpha == 127) | (small.alpha == 128)).all()
    assert (small.cameras.height, small.cameras.width) == (4, 6)
