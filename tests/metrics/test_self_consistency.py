"""Self-consistency: even and odd views against each other."""

from __future__ import annotations

import math

import pytest
import torch

from mvdiff.cameras import ring
from mvdiff.errors import MvdiffError
from mvdiff.metrics import corrupt, self_consistency
from mvdiff.rendering import Raycaster
from mvdiff.views.views import Views


@pytest.fixture(scope="module")
def ball_views(ball) -> Views:
    """The ball from 16 sides."""
    cameras = ring(16, size=48)
    return Raycaster(ball).render(cameras, supersample=3, shading=None).views(cameras)


def test_halves_of_a_ball_agree(ball_views):
    figures = self_consistency(ball_views)
    assert figures["self_chamfer"] < 0.01
    assert figures["self_psnr"] > 25


def test_chamfer_is_the_distance_of_the_surfaces(ball, ball_views):
    small, cameras = ball_views, ball_views.cameras
    larger = ball.copy().apply_scale(1.125)  # radius 0.45
    large = Raycaster(larger).render(cameras, supersample=3, shading=None).views(cameras)
    images, alpha = small.images.clone(), small.alpha.clone()
    images[1::2], alpha[1::2] = large.images[1::2], large.alpha[1::2]
    figures = self_consistency(Views(images, alpha, cameras))
    assert figures["self_chamfer"] == pytest.approx(0.05, abs=0.008)


def test_psnr_is_that_of_the_colors(ball_views):
    images = ball_views.images.clone()
    images[1::2] += 51
    figures, floor = (
        self_consistency(Views(images, ball_views.alpha, ball_views.cameras)),
        (self_consistency(ball_views)),
    )
    # the errors of the hulls' edges and of the colors add up
    share = float(ball_views.mask.mean())
    expected = -10 * math.log10(share * 0.2**2 + 10 ** (-floor["self_psnr"] / 10))
    assert figures["self_psnr"] == pytest.approx(expected, abs=0.5)
    assert figures["self_chamfer"] == floor["self_chamfer"]


def test_controls_are_noticed(painted_views):
    truth = self_consistency(painted_views)
    rows = {name: self_consistency(views) for name, views in corrupt(painted_views).items()}
    assert rows["rolled"]["self_chamfer"] > 2 * truth["self_chamfer"]
    assert rows["shifted"]["self_chamfer"] > 1.2 * truth["self_chamfer"]
    assert rows["tinted"]["self_chamfer"] == truth["self_chamfer"]
    for name in rows:
        assert rows[name]["self_psnr"] < truth["self_psnr"] - 0.5, name


def test_a_half_without_a_hull_is_white(ball_views):
    alpha = ball_views.alpha.clone()
    alpha[1] = 0
    blank = Views(ball_views.images, alpha, ball_views.cameras)
    figures = self_consistency(blank)
    assert math.isnan(figures["self_chamfer"])
    whole = self_consistency(ball_views)["self_psnr"]
    assert 5 < figures["self_psnr"] < whole - 3
    empty = Views(torch.full((4, 3, 32, 32), 255, dtype=torch.uint8), None, ring(4, size=32))
    assert self_consistency(empty)["self_psnr"] == 100


def test_sizes_counts_and_repetition(ball_views, painted_views):
    assert self_consistency(painted_views.resize(32))["self_psnr"] > 15
    assert self_consistency(ball_views) == self_consistency(ball_views)
    four = self_consistency(ball_views[[0, 2, 4, 6]])
    assert math.isfinite(four["self_chamfer"])
    with pytest.raises(MvdiffError, match="at least 4 views, two for each half; got 3"):
        self_consistency(ball_views[[0, 1, 2]])
