"""Views corrupted on purpose, and how much samples differ."""

from __future__ import annotations

import pytest
import torch

from mvdiff.cameras import ring
from mvdiff.errors import MvdiffError
from mvdiff.metrics import corrupt, diversity
from mvdiff.views.views import Views


def dotted(size: int, count: int = 8) -> Views:
    """One black pixel in the middle of every view."""
    images = torch.full((count, 3, size, size), 255, dtype=torch.uint8)
    alpha = torch.zeros((count, 1, size, size), dtype=torch.uint8)
    images[..., size // 2, size // 2] = 0
    alpha[..., size // 2, size // 2] = 255
    return Views(images, alpha, ring(count, size=size))


@pytest.mark.parametrize(("size", "length"), [(32, 1), (64, 1), (256, 4)])
def test_views_are_shifted_by_4_pixels_of_256(size, length):
    shifted = corrupt(dotted(size))["shifted"]
    moves = (shifted.alpha[:, 0] > 0).nonzero()[:, 1:] - size // 2
    assert len(moves) == 8
    assert all(0.7 * length < float(m.float().norm()) < 1.5 * length for m in moves)
    assert len(set(map(tuple, moves.tolist()))) > 2
    assert ((shifted.images[:, 0] == 0) == (shifted.alpha[:, 0] > 0)).all()


def test_what_a_shift_uncovers_is_background():
    full = Views(torch.zeros((4, 3, 64, 64), dtype=torch.uint8), None, ring(4, size=64))
    assert {int(x) for x in corrupt(full)["shifted"].images.unique()} == {0, 255}
    solid = Views(full.images, torch.full((4, 1, 64, 64), 255, dtype=torch.uint8), full.cameras)
    shifted = corrupt(solid)["shifted"]
    assert (shifted.alpha.flatten(1) == 0).any(dim=1).all()


def test_odd_views_are_rolled():
    images = torch.arange(9, dtype=torch.uint8)[:, None, None, None].expand(-1, 3, 16, 16)
    views = Views(images.contiguous(), None, ring(9, size=16))
    rolled = corrupt(views)["rolled"]
    assert rolled.images[:, 0, 0, 0].tolist() == [0, 7, 2, 1, 4, 3, 6, 5, 8]
    assert rolled.cameras is views.cameras


def test_tints_are_10_percent_of_different_colors(ball_views):
    tinted = corrupt(ball_views)["tinted"]
    change = tinted.images.float() - ball_views.images.float() * 0.9
    assert change.min() > -0.6
    assert change.max() < 26.1
    hues = change[:, :, 24, 24]
    assert (hues[1:] - hues[:-1]).abs().amax(dim=1).min() > 10
    white = Views.from_white(ball_views.rgb, None, ball_views.cameras)
    background = ball_views.alpha.expand_as(white.images) == 0
    assert (corrupt(white)["tinted"].images[background] == 255).all()


def test_the_seed_decides():
    views = dotted(256)
    one, same, other = (corrupt(views, seed=seed) for seed in (0, 0, 1))
    for name in ("shifted", "tinted"):
        assert torch.equal(one[name].images, same[name].images)
        assert not torch.equal(one[name].images, other[name].images)


def test_three_views_are_too_few():
    with pytest.raises(MvdiffError, match="controls need at least 4 views, got 3"):
        corrupt(dotted(16, 3))


def flat(level: int, first: int | None = None) -> Views:
    images = torch.full((3, 3, 16, 16), level, dtype=torch.uint8)
    if first is not None:
        images[0] = first
    return Views(images, None, ring(3, size=16))


def test_diversity_is_the_mean_over_pairs_without_view_0():
    samples = [flat(0, 255), flat(51), flat(102)]
    assert diversity(samples) == pytest.approx((0.2 + 0.2 + 0.4) / 3, abs=1e-6)
    assert diversity([flat(7), flat(7)]) == 0
    assert diversity([flat(0, 51), flat(0)], skip=0) == pytest.approx(0.2 / 3, abs=1e-6)


def test_diversity_needs_two_comparable_samples():
    with pytest.raises(MvdiffError, match="at least 2 samples of one photo, got 1"):
        diversity([flat(0)])
    with pytest.raises(MvdiffError, match="none is left"):
        diversity([flat(0)[0], flat(0)[0]])
    with pytest.raises(MvdiffError, match="must share one shape"):
        diversity([flat(0), flat(0)[[0, 1]]])
