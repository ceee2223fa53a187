"""The joint denoiser: which inputs change its output and which do not."""

from __future__ import annotations

import pytest
import torch
from helpers.tiny_recipe import photos, randomize, toy_config, toy_model

from mvdiff import builders
from mvdiff.config.groups import groups

VIEWS = 4


@pytest.fixture(scope="module", params=groups()["attention"])
def model(request):
    model = toy_model(f"attention={request.param}")
    model.variant = request.param
    return model


def noisy(batch: int = 2, seed: int = 0) -> torch.Tensor:
    return torch.randn(batch, VIEWS, 64, 8, 8, generator=torch.Generator().manual_seed(seed))


TIMES = torch.tensor([700.0, 120.0])
ELEVATIONS = torch.tensor([20.0, -5.0])


def condition(model, batch: int = 2):
    return model.condition(photos(batch), ELEVATIONS[:batch])


def close(a: torch.Tensor, b: torch.Tensor) -> None:
    torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-5)


def test_one_prediction_a_view_of_the_latents_shape(model):
    out = model(noisy(), TIMES, condition(model))
    assert out.shape == model.latent_shape(2) == (2, VIEWS, 64, 8, 8)
    assert torch.isfinite(out).all()
    assert out.std() > 0.05


@pytest.mark.parametrize("batch_views", [1, 2, 3, 4, 99])
def test_how_many_views_are_taken_at_a_time_does_not_matter(model, batch_views):
    cond = condition(model)
    close(
        model(noisy(), TIMES, cond, batch_views=batch_views, guidance=1.5),
        model(noisy(), TIMES, cond, guidance=1.5),
    )


@pytest.mark.parametrize("targets", [[0], [3, 1], [2, 0, 3]])
def test_target_views_are_a_slice_of_all(model, targets):
    cond = condition(model)
    some = model(noisy(), TIMES, cond, target_views=targets)
    if model.all_views:
        assert some.shape[1] == len(targets)
    else:
        close(some, model(noisy(), TIMES, cond)[:, targets])


def test_objects_of_a_batch_do_not_see_each_other(model):
    together = model(noisy(), TIMES, condition(model))
    alone = model.condition(photos(2)[1:], ELEVATIONS[1:])
    close(model(noisy()[1:], TIMES[1:], alone)[0], together[1])


def test_guidance_is_a_step_away_from_the_unconditional_answer(model):
    x, cond = noisy(), condition(model)
    with_all = model(x, TIMES, cond)
    without = model(x, TIMES, cond.unconditional())
    assert not torch.allclose(with_all, without, atol=1e-3)
    assert torch.equal(model(x, TIMES, cond, guidance=1.0), with_all)
    close(model(x, TIMES, cond, guidance=0.0), without)
    close(model(x, TIMES, cond, guidance=2.0), without + 2 * (with_all - without))


def test_the_unconditional_answer_knows_nothing_of_the_photo_or_its_elevation(model):
    x = noisy()
    one = model.condition(photos(2), ELEVATIONS).unconditional()
    other = model.condition(1 - photos(2), ELEVATIONS + 30).unconditional()
    assert torch.equal(model(x, TIMES, one), model(x, TIMES, other))


def test_the_photo_its_elevation_and_the_time_are_heard(model):
    x, cond = noisy(), condition(model)
    out = model(x, TIMES, cond)
    for changed in (
        model(x, TIMES, model.condition(1 - photos(2), ELEVATIONS)),
        model(x, TIMES, model.condition(photos(2), ELEVATIONS + 30)),
        model(x, TIMES - 100, cond),
    ):
        assert not torch.allclose(changed, out, atol=1e-3)


def test_views_hear_of_each_other_through_space_alone():
    """Every noisy view reaches every prediction through attention or a rendering, else only its."""
    ways = [("depthwise", "none", True), ("none", "voxels", True), ("none", "none", False)]
    for attention, radiance, shared in ways:
        model = toy_model(f"attention={attention}", f"radiance={radiance}")
        x = noisy()
        other = x.clone()
        other[:, 2] += 1
        difference = model(other, TIMES, condition(model)) - model(x, TIMES, condition(model))
        heard = (difference.abs().amax(dim=(0, 2, 3, 4)) > 1e-5).tolist()
        assert heard == ([True] * VIEWS if shared else [False, False, True, False])


def test_the_rig_is_not_in_the_weights(model):
    before = model.rig.w2c.clone()
    names = list(model.state_dict())
    assert not [n for n in names if any(word in n for word in ("rig", "w2c", "camera", ".K"))]
    other = toy_model("rig.distance=2.0", f"attention={model.variant}")
    model.load_state_dict(other.state_dict())
    assert torch.equal(model.rig.w2c, before)
    assert not torch.equal(other.rig.w2c, before)


def test_a_fresh_model_predicts_zero_whatever_the_parts_say():
    # zero-initialized output: training starts from the mean
    fresh = builders.build_model(toy_config("radiance=none")).eval()
    out = fresh(noisy(), TIMES, condition(fresh))
    assert not out.any()


def test_gradients_reach_every_part_in_training():
    model = randomize(builders.build_model(toy_config())).train()
    out = model(noisy(), TIMES, condition(model), target_views=[1, 3], with_rendering=True)
    sum(part.square().mean() for part in out).backward()
    missing = [n for n, p in model.named_parameters() if p.grad is None]
    assert missing == []
    silent = sum(p.numel() for p in model.parameters() if not p.grad.any())
    assert silent < 0.01 * sum(p.numel() for p in model.parameters())


def test_the_condition_describes_poses_relative_to_the_photo(model):
    cond = condition(model)
    # [d_e, sin d_a, cos d_a, 0] with d_e = photo − target (spec, section 2)
    quarter = torch.tensor([0.0, 1.0, 0.0, -1.0])
    close(cond.pose[..., 1], quarter.expand(2, 4))
    close(cond.pose[..., 2], torch.tensor([1.0, 0.0, -1.0, 0.0]).expand(2, 4))
    rigs = 0 if model.variant == "rowwise" else 30
    difference = torch.deg2rad(ELEVATIONS - rigs)[:, None].expand(2, 4)
    close(cond.pose[..., 0], difference)
    assert not cond.pose[..., 3].any()
    from mvdiff.cameras.rigs import to_spherical

    azimuth, elevation, distance = to_spherical(cond.cameras)
    close(torch.rad2deg(elevation), ELEVATIONS)
    close(azimuth, torch.zeros(2))
    close(distance, torch.full((2,), 1.5))
    assert (cond.cameras.height, cond.cameras.width) == (8, 8)


def test_an_orthographic_rig_works_throughout():
    model = toy_model("rig.projection=orthographic")
    cond = condition(model)
    assert cond.cameras.projection == "orthographic"
    assert torch.isfinite(model(noisy(), TIMES, cond)).all()


def test_nothing_is_changed_in_place(model):
    x, cond = noisy(), condition(model)
    before = x.clone(), cond.latent.clone(), {n: p.clone() for n, p in model.state_dict().items()}
    model(x, TIMES, cond, guidance=2.0, batch_views=2)
    assert torch.equal(x, before[0])
    assert torch.equal(cond.latent, before[1])
    assert all(torch.equal(p, before[2][n]) for n, p in model.state_dict().items())
