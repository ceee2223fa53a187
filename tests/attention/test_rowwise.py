"""Row-wise attention: rows of all views, where rows are epipolar lines."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from helpers.tiny_recipe import randomize, toy_model

from mvdiff.attention import SlotSpec, ViewContext
from mvdiff.attention.rowwise import TOLERANCE, RowwiseAttention, row_error
from mvdiff.cameras import Cameras, look_at, ring
from mvdiff.errors import MvdiffError


def level(count: int = 4, size: int = 8, **settings) -> Cameras:
    return ring(count, **{"elevation": 0.0, "projection": "orthographic", "size": size, **settings})


def make() -> RowwiseAttention:
    torch.manual_seed(0)
    return randomize(RowwiseAttention(SlotSpec(16, 1, {}, 4), heads=2)).eval()


def scene(cameras: Cameras) -> ViewContext:
    return ViewContext(cameras, {}, torch.zeros(1, 4), torch.arange(len(cameras)))


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_a_pixel_hears_of_its_row_in_all_views_and_of_nothing_else():
    module, x = make().double(), random(1, 4, 16, 8, 8).double().requires_grad_()
    module.tokens.norm = torch.nn.Identity()  # it mixes the pixels of a view
    out = module(x, scene(level()))
    (gradient,) = torch.autograd.grad(out[0, 1, :, 5, 2].sum(), x)
    rows = (gradient.abs().amax(dim=2) > 1e-9)[0]
    assert rows[:, 5].all()
    assert not rows[:, [0, 1, 2, 3, 4, 6, 7]].any()


def test_world_points_stay_on_their_row_where_it_says_so():
    points = random(50, 3) * 0.4
    for cameras, same in ((level(16), True), (ring(16, size=8), False)):
        v = cameras.project(points)[0][..., 1]
        spread = float((v.amax(dim=0) - v.amin(dim=0)).max() / cameras.height)
        assert (spread < 1e-4) == same == (row_error(cameras) <= TOLERANCE)


PASSES = {
    "a level orthographic ring": level(16),
    "at another distance": level(5, distance=3.0),
    "uneven azimuths": look_at([0.0, 10.0, 250.0], [0.0] * 3, projection="orthographic", size=8),
    "one camera, whatever it is": ring(1, size=8),
    "not square": level(4).resize(4, 12),
    "an elevation of a tenth of a degree": level(16, elevation=0.1),
}


@pytest.mark.parametrize("which", PASSES)
def test_cameras_whose_rows_are_epipolar_lines_pass(which):
    cameras = PASSES[which]
    assert row_error(cameras) <= TOLERANCE
    x = random(1, len(cameras), 16, 4, 4)
    assert torch.isfinite(make()(x, scene(cameras))).all()


def stereo() -> Cameras:
    """Perspective cameras side by side: a rectified pair."""
    pair = ring(1, size=8)[[0, 0]]
    w2c = pair.w2c.clone()
    w2c[1, 0, 3] -= 0.2
    return replace(pair, w2c=w2c)


def test_a_rectified_pair_of_perspective_cameras_passes():
    assert row_error(stereo()) < 1e-6
    moved = stereo()
    moved.w2c[1, 1, 3] += 0.2
    assert row_error(moved) > TOLERANCE


def zoomed() -> Cameras:
    cameras = level()
    K = cameras.K.clone()
    K[1, :2, :2] *= 1.1
    return replace(cameras, K=K)


REFUSED = {
    "the published ring": ring(16, size=8),
    "perspective at elevation 0": ring(4, elevation=0.0, size=8),
    "orthographic at elevation 30": ring(4, projection="orthographic", size=8),
    "orthographic at one degree": level(4, elevation=1.0),
    "two elevations": look_at([0.0, 90.0], [0.0, 20.0], projection="orthographic", size=8),
    "one camera with another scale": zoomed(),
    "one camera rolled": replace(
        level(2), w2c=torch.stack([level(2).w2c[0], level(2).w2c[1][[1, 0, 2]]])
    ),
}


@pytest.mark.parametrize("which", REFUSED)
def test_other_cameras_are_refused_with_the_reason_and_the_remedy(which):
    cameras = REFUSED[which]
    with pytest.raises(MvdiffError) as caught:
        make()(random(1, len(cameras), 16, 4, 4), scene(cameras))
    text = str(caught.value)
    assert f"in these {cameras.projection} cameras its rows lie" in text
    assert "(rig.projection=orthographic rig.elevation=0)" in text
    assert "\n" not in text


def test_cameras_are_judged_exactly_under_autocast():
    with torch.autocast("cpu", torch.bfloat16):
        out = make()(random(1, 16, 16, 4, 4), scene(level(16)))
    assert torch.isfinite(out).all()


def test_the_denoiser_passes_the_refusal_on():
    model = toy_model("attention=rowwise", "rig.projection=perspective")
    assert model.rig.projection == "perspective"
    condition = model.condition(torch.rand(1, 4, 32, 32), torch.tensor([20.0]))
    with pytest.raises(MvdiffError, match=r"'rowwise' needs.*rig.elevation=0"):
        model(torch.randn(model.latent_shape(1)), torch.tensor([9.0]), condition)
