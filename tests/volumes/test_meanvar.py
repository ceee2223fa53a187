"""Mean and variance over the views that see a point."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from helpers.tiny_recipe import randomize, toy_config, toy_model

from mvdiff.cameras import Cameras, look_at, ring
from mvdiff.config.instantiate import instantiate
from mvdiff.errors import MvdiffError
from mvdiff.volumes import VOLUMES, VolumeInputs
from mvdiff.volumes.unprojection import grid_points

SIZE = 8
POINTS = grid_points(6, 0.5, torch.zeros(1))


def make(*overrides: str):
    config = toy_config("volume=meanvar", *overrides).volume
    parts = {"latent_channels": 6, "views": 3, "time_dim": 16}
    return randomize(instantiate(VOLUMES, config, **parts)).eval().requires_grad_(False)


def joined(features: torch.Tensor, cameras: Cameras) -> tuple[torch.Tensor, ...]:
    """Mean, variance, share and inverse number of the views that see a point."""
    channels = features.shape[2]
    return make().join(features, cameras, POINTS).split([channels, channels, 1, 1], dim=1)


def flat(values: list[float], channels: int = 2) -> torch.Tensor:
    """Views of one color each."""
    return torch.tensor(values)[None, :, None, None, None].expand(1, -1, channels, SIZE, SIZE)


def test_where_all_see_a_point_it_gets_their_mean_and_variance():
    cameras = ring(3, size=SIZE, distance=3.0)  # so far off that every view sees the whole grid
    mean, variance, share, inverse = joined(flat([1.0, 2.0, 6.0]), cameras)
    torch.testing.assert_close(mean, torch.full_like(mean, 3.0))
    torch.testing.assert_close(variance, torch.full_like(variance, 14 / 3))
    torch.testing.assert_close(share, torch.ones_like(share))
    torch.testing.assert_close(inverse, torch.full_like(inverse, 1 / 3))


def test_views_that_do_not_see_a_point_do_not_count():
    # the second camera sees a thin column around the x axis only, the third nothing: it looks away
    cameras = Cameras.cat(
        [
            look_at([0.0], [0.0], size=SIZE, distance=3.0),
            look_at([0.0], [0.0], size=SIZE, fov=20.0),
            away(look_at([0.0], [0.0], size=SIZE)),
        ]
    )
    mean, variance, share, inverse = joined(flat([1.0, 5.0, 100.0]), cameras)
    both = torch.zeros(6, 6, 6, dtype=torch.bool)
    uv, _ = cameras[1].project(POINTS)
    both |= ((uv[0] >= 0) & (uv[0] <= SIZE)).all(dim=-1)
    assert 0 < int(both.sum()) < both.numel()
    for seen_by_both, m, v, n in ((both, 3.0, 4.0, 2), (~both, 1.0, 0.0, 1)):
        for found, expected in ((mean, m), (variance, v), (share, n / 3), (inverse, 1 / n)):
            here = found[0, :, seen_by_both]
            torch.testing.assert_close(here, torch.full_like(here, expected))


def away(cameras: Cameras) -> Cameras:
    """The same positions, looking the other way: everything lies behind the cameras."""
    turn = torch.diag(torch.tensor([-1.0, 1.0, -1.0]))
    return replace(cameras, w2c=turn @ cameras.w2c)


def test_a_point_that_no_view_sees_gets_zeros():
    for channel in joined(flat([7.0, -3.0]), away(ring(2, size=SIZE))):
        assert not channel.any()


def test_views_that_agree_have_no_variance_even_far_from_zero():
    _, variance, *_ = joined(flat([1000.1] * 3), ring(3, size=SIZE))
    assert variance.abs().max() < 1e-6


def test_each_point_gets_the_features_of_the_pixels_it_projects_to():
    cameras = ring(3, size=SIZE, distance=3.0)
    # every view shows its pixels' coordinates, so that a sample is the place it was taken at
    centers = torch.arange(SIZE) + 0.5
    v, u = torch.meshgrid(centers, centers, indexing="ij")
    features = torch.stack([u, v]).expand(1, 3, 2, SIZE, SIZE)
    mean, variance, *_ = joined(features, cameras)
    uv, _ = cameras.project(POINTS)
    expected = uv.permute(0, 4, 1, 2, 3)
    torch.testing.assert_close(mean[0], expected.mean(dim=0), atol=1e-4, rtol=0)
    torch.testing.assert_close(variance[0], expected.var(dim=0, unbiased=False), atol=1e-4, rtol=0)
    assert variance.max() > 1  # the views see a point at different places


def test_more_of_the_same_views_change_little():
    """Twice the same views have the same mean, variance and share."""
    cameras = ring(3, size=SIZE)
    features = torch.randn(1, 3, 2, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    once = joined(features, cameras)
    twice = joined(features.repeat(1, 2, 1, 1, 1), Cameras.cat([cameras, cameras]))
    for a, b in zip(once[:3], twice[:3], strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(once[3], 2 * twice[3])


def test_the_photo_stays_as_in_concat():
    volume = make()
    generator = torch.Generator().manual_seed(0)
    inputs = VolumeInputs(
        latents=torch.randn(1, 3, 6, SIZE, SIZE, generator=generator),
        cameras=ring(3, size=SIZE),
        time=torch.randn(1, 16, generator=generator),
        pose=torch.randn(1, 3, 4, generator=generator),
        photos=torch.randn(1, 1, 6, SIZE, SIZE, generator=generator),
        photo_cameras=look_at([0.0], [20.0], size=SIZE),
    )
    world = volume.build(inputs)
    other = volume.build(replace(inputs, photos=-inputs.photos))
    assert not torch.allclose(other, world, atol=1e-3)
    bare = make("sizes.photo_features=0")
    assert torch.equal(bare.build(inputs), bare.build(replace(inputs, photos=-inputs.photos)))
    concat = instantiate(
        VOLUMES, toy_config("volume=concat").volume, latent_channels=6, views=3, time_dim=16
    )
    mine, theirs = volume.state_dict(), concat.state_dict()
    assert mine.keys() == theirs.keys()
    other = [name for name in mine if mine[name].shape != theirs[name].shape]
    assert other == ["net.stem.weight"]


# In the whole model


RIGS = [
    ["rig.count=1"],
    ["rig.count=7"],
    ["rig=spiral", "rig.count=6"],
    ["rig=sphere", "rig.count=5", "rig.projection=orthographic"],
]


@pytest.mark.parametrize("rig", RIGS)
@pytest.mark.parametrize("attention", ["depthwise", "none"])
def test_weights_of_one_rig_serve_another(rig, attention):
    trained = toy_model("volume=meanvar", f"attention={attention}")
    model = toy_model("volume=meanvar", f"attention={attention}", *rig)
    model.load_state_dict(trained.state_dict())
    views = len(model.rig)
    photo = torch.rand(1, 4, 32, 32, generator=torch.Generator().manual_seed(1))
    noisy = torch.randn(*model.latent_shape(1), generator=torch.Generator().manual_seed(0))
    time, cond = torch.tensor([500.0]), model.condition(photo, torch.tensor([20.0]))
    out = model(noisy, time, cond, guidance=1.5)
    assert out.shape == (1, views, 64, 8, 8)
    assert torch.isfinite(out).all()
    parts = model(noisy, time, cond, guidance=1.5, batch_views=2)
    torch.testing.assert_close(parts, out, atol=1e-4, rtol=1e-4)
    if views == 1:
        return
    # what the last view shows reaches the first one's answer through the volume …
    other = noisy.clone()
    other[:, -1] = -other[:, -1]
    assert (model(other, time, cond, guidance=1.5)[:, 0] - out[:, 0]).abs().max() > 1e-3
    # … and so does where its camera stands
    moved = look_at([77.0], [-35.0], size=32, projection=model.rig.projection)
    model.rig = Cameras.cat([model.rig[slice(0, -1)], moved])
    elsewhere = model(noisy, time, model.condition(photo, torch.tensor([20.0])), guidance=1.5)
    assert (elsewhere[:, 0] - out[:, 0]).abs().max() > 1e-3


def test_views_of_another_rig_may_come_in_any_order():
    """Permuting cameras and noisy views (the first stays: it is the front) permutes the output."""
    model = toy_model("volume=meanvar", "rig=sphere", "rig.count=5")
    photo = torch.rand(1, 4, 32, 32, generator=torch.Generator().manual_seed(1))
    noisy = torch.randn(*model.latent_shape(1), generator=torch.Generator().manual_seed(0))
    time, elevation = torch.tensor([500.0]), torch.tensor([20.0])
    out = model(noisy, time, model.condition(photo, elevation))
    order = [0, 3, 1, 4, 2]
    model.rig = model.rig[order]
    exchanged = model(noisy[:, order], time, model.condition(photo, elevation))
    torch.testing.assert_close(exchanged, out[:, order], atol=1e-4, rtol=1e-4)
    # … and cameras exchanged alone are not
    alone = model(noisy, time, model.condition(photo, elevation))
    assert (alone - out[:, order]).abs().max() > 1e-2


def test_a_volume_of_some_views_is_that_of_a_smaller_rig():
    """Every other view of a ring of eight is a ring of four: same volume, same outputs."""
    few, many = (toy_model("volume=meanvar", f"rig.count={n}") for n in (4, 8))
    many.load_state_dict(few.state_dict())
    photo = torch.rand(2, 4, 32, 32, generator=torch.Generator().manual_seed(1))
    noisy = torch.randn(*many.latent_shape(2), generator=torch.Generator().manual_seed(0))
    time, chosen = torch.tensor([500.0, 90.0]), torch.tensor([0, 2, 4, 6])
    elevation = torch.tensor([20.0, -5.0])
    expected = few(noisy[:, chosen], time, few.condition(photo, elevation))
    cond = many.condition(photo, elevation)
    shared = many(noisy, time, cond, target_views=chosen, volume_views=chosen)
    torch.testing.assert_close(shared, expected, atol=1e-4, rtol=1e-4)
    rows = torch.stack([chosen, chosen.flip(0)])
    own = many(noisy, time, cond, target_views=rows[:, :2], volume_views=rows)
    torch.testing.assert_close(own[0], expected[0, [0, 1]], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(own[1], expected[1, [3, 2]], atol=1e-4, rtol=1e-4)


def test_concat_refuses_a_volume_of_some_views():
    model = toy_model("volume=concat")
    photo, time = torch.rand(1, 4, 32, 32), torch.tensor([500.0])
    cond = model.condition(photo, torch.tensor([20.0]))
    with pytest.raises(MvdiffError, match=r"bound to 4 views.*got 2.*volume=meanvar"):
        model(torch.randn(*model.latent_shape(1)), time, cond, volume_views=torch.tensor([0, 2]))
