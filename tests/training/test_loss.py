"""The training objective: random draws depend on the sample's number alone."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from helpers.small_syncdreamer import small_config, small_model, training_config
from helpers.tiny_recipe import randomize, toy_config, toy_model
from torch import nn

from mvdiff import builders
from mvdiff.cameras.rigs import to_spherical
from mvdiff.data.dataset import Batch, ExtraInputs
from mvdiff.errors import MvdiffError
from mvdiff.training.loss import MultiViewDiffusionLoss
from mvdiff.training.validation import trailing_scheduler

VIEWS, SIZE = 16, 64


def batch(count: int = 4, first: int = 8) -> Batch:
    pixels = torch.rand(count, VIEWS + 1, 4, SIZE, SIZE, generator=torch.Generator().manual_seed(3))
    return Batch(
        views=pixels[:, 1:],
        photo=pixels[:, 0],
        elevation=torch.linspace(-10, 40, count),
        names=("thing",) * count,
        index=torch.arange(first, first + count),
    )


def part(whole: Batch, chosen: list[int]) -> Batch:
    return replace(
        whole,
        views=whole.views[chosen],
        photo=whole.photo[chosen],
        elevation=whole.elevation[chosen],
        names=tuple(whole.names[i] for i in chosen),
        index=whole.index[chosen],
    )


def step(seed: int = 5) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


class Spy(nn.Module):
    """Wraps a denoiser and records its arguments."""

    def __init__(self, net: Any) -> None:
        super().__init__()
        self.module, self.calls = net, []

    def forward(
        self,
        noisy: torch.Tensor,
        timestep: Any,
        condition: Any,
        *,
        target_views: Any,
        with_rendering: bool = False,
    ) -> Any:
        self.calls.append((noisy, timestep, condition, target_views))
        zeros = torch.zeros(len(noisy), target_views.shape[-1], *noisy.shape[2:])
        return (zeros, zeros) if with_rendering else zeros


@pytest.fixture(scope="module")
def spy() -> Spy:
    torch.manual_seed(0)
    return Spy(small_model().eval().requires_grad_(False))


@pytest.fixture(scope="module")
def published() -> MultiViewDiffusionLoss:
    return builders.build_loss(training_config())


def test_the_published_objective_is_a_configuration(published: MultiViewDiffusionLoss) -> None:
    assert (published.views, published.time_power, published.posterior) == (1, 1.0, "sample")
    assert set(published.drop.values()) == {0.05}
    assert published.scheduler.config.prediction_type == "epsilon"
    assert float(published.scheduler.betas[-1]) == pytest.approx(0.012)


def test_one_time_for_a_set_one_target_an_object(
    spy: Spy, published: MultiViewDiffusionLoss
) -> None:
    spy.calls.clear()
    whole = batch(12)
    loss = published(spy, whole, step())["loss"]
    noisy, timestep, _, target_views = spy.calls[0]
    assert timestep.shape == (12,)
    assert len(set(timestep.tolist())) > 6, "each object has its own"
    assert target_views.shape == (12, 1)
    assert len(set(target_views.flatten().tolist())) > 3
    # the prediction was zero, so the loss is the noise's square at the target_views views
    assert loss.item() == pytest.approx(1.0, abs=0.1)
    assert noisy.shape == (12, VIEWS, 4, 8, 8)


def test_a_share_of_a_batch_is_asked_what_the_whole_is(
    spy: Spy, published: MultiViewDiffusionLoss
) -> None:
    spy.calls.clear()
    whole = batch(4)
    published(spy, whole, step())
    for chosen in ([0, 1], [2, 3], [3]):
        published(spy, part(whole, chosen), step())
        for mine, everyone in zip(spy.calls[-1][:2], spy.calls[0][:2], strict=True):
            torch.testing.assert_close(mine, everyone[chosen], rtol=0, atol=1e-5)
        assert torch.equal(spy.calls[-1][3], spy.calls[0][3][chosen])
        for name in ("keep_token", "keep_latent", "keep_volume", "latent", "token"):
            mine, everyone = (getattr(call[2], name) for call in (spy.calls[-1], spy.calls[0]))
            torch.testing.assert_close(mine, everyone[chosen], rtol=0, atol=1e-5)


def test_steps_and_numbers_decide(spy: Spy, published: MultiViewDiffusionLoss) -> None:
    spy.calls.clear()
    for generator, first in ((step(), 8), (step(), 8), (step(6), 8), (step(), 12)):
        published(spy, batch(4, first), generator)
    noisy = [call[0] for call in spy.calls]
    assert torch.equal(noisy[0], noisy[1])
    assert not torch.allclose(noisy[0], noisy[2])
    assert not torch.allclose(noisy[0], noisy[3])


def test_the_photo_is_unscaled_and_drawn_from_its_posterior(spy: Spy) -> None:
    net, whole = spy.module, batch(2)
    mean, logvar = net.latents.posterior(whole.photo)
    found = {}
    for posterior in ("mean", "sample"):
        spy.calls.clear()
        builders.build_loss(training_config(f"train.posterior={posterior}"))(spy, whole, step())
        found[posterior] = spy.calls[0][2].latent
    torch.testing.assert_close(found["mean"], mean)
    z = (found["sample"] - mean) / (0.5 * logvar).exp()
    assert z.abs().max() > 1
    assert float(z.std()) == pytest.approx(1.0, abs=0.15)


def test_attention_over_all_views_gets_one_choice_for_all(
    spy: Spy, published: MultiViewDiffusionLoss, monkeypatch: pytest.MonkeyPatch
) -> None:
    spy.calls.clear()
    monkeypatch.setattr(spy.module, "all_views", True)
    several = replace(published, views=3)
    several(spy, batch(4), step())
    several(spy, part(batch(4), [2, 3]), step())
    assert spy.calls[0][3].shape == (3,)
    assert torch.equal(spy.calls[0][3], spy.calls[1][3])


def test_settings_out_of_range_are_refused() -> None:
    with pytest.raises(
        MvdiffError, match=r"unknown train.posterior 'mode'; choose from sample, mean"
    ):
        builders.build_loss(training_config("train.posterior=mode"))
    with pytest.raises(MvdiffError, match=r"train.views must lie in \[1, 16\], got 17"):
        builders.build_loss(training_config("train.views=17"))


def test_one_step_validation_starts_from_pure_noise() -> None:
    """A perfect prediction of the noise gives the clean picture in one step."""
    scheduler = trailing_scheduler(builders.build_scheduler(small_config()))
    scheduler.set_timesteps(1)
    clean, noise = torch.rand(2, 1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    (t,) = scheduler.timesteps
    noisy = scheduler.add_noise(clean, noise, t)
    found = scheduler.step(noise, t, noisy, eta=0.0).prev_sample
    assert (found - clean).abs().max() < 0.05
    assert (noisy - clean).abs().max() > 0.3


def test_further_photos_reach_the_model_with_their_cameras() -> None:
    tiny = Spy(toy_model())
    rig = tiny.module.rig
    pixels = torch.rand(2, 7, 4, 32, 32, generator=torch.Generator().manual_seed(3))
    whole = Batch(
        views=pixels[:, :4],
        photo=pixels[:, 4],
        elevation=torch.tensor([0.0, 20.0]),
        names=("thing",) * 2,
        index=torch.arange(2),
        more=ExtraInputs(
            pixels[:, 5:], torch.tensor([[1, 3], [2, 1]]), torch.tensor([[5.0, 10.0], [15.0, 25.0]])
        ),
    )
    builders.build_loss(toy_config(command="train"))(tiny, whole, step())
    condition = tiny.calls[0][2]
    expected = [tiny.module.latents.condition(p) for p in pixels[:, 4:].unbind(1)]
    torch.testing.assert_close(condition.photos, torch.stack(expected, dim=1))
    azimuth, elevation, _ = to_spherical(condition.cameras)
    turn = torch.rad2deg(azimuth - to_spherical(rig)[0][0]).view(2, 3) % 360
    torch.testing.assert_close(
        turn, torch.tensor([[0.0, 90, 270], [0, 180, 90]]), atol=1e-3, rtol=0
    )
    degrees = torch.tensor([[0.0, 5, 10], [20, 15, 25]])
    torch.testing.assert_close(torch.rad2deg(elevation).view(2, 3), degrees, atol=1e-3, rtol=0)


def test_volumes_that_lift_no_photo_are_trained_with_one() -> None:
    words = ("train.num_input_images=[1,3]", "sizes.photo_features=0")
    with pytest.raises(MvdiffError, match="does not use them"):
        builders.input_image_counts(toy_config(*words, command="train"))
    assert builders.input_image_counts(training_config()) == [1]


def rendering_model(*overrides: str) -> tuple[Any, Any]:
    config = toy_config(
        "radiance=voxels", "train.augment.degrade_prob=0", *overrides, command="train"
    )
    torch.manual_seed(0)
    return builders.build_model(config), builders.build_loss(config)


def small_batch() -> Batch:
    whole = batch(2)
    return replace(whole, views=whole.views[:, :4, :, :32, :32], photo=whole.photo[..., :32, :32])


def test_the_rendering_learns_from_its_own_loss_alone():
    model, objective = rendering_model("train.rendering_weight=0")
    objective(model, small_batch(), step())["loss"].backward()
    grads = [p.grad for p in model.radiance.parameters()]
    assert all(g is None or not g.any() for g in grads)
    assert model.unet.out[-1].weight.grad.any()

    model, objective = rendering_model("train.rendering_weight=1")
    found = objective(model, small_batch(), step())
    found["loss"].backward()
    # the first layers wait for the last one, which starts from zero
    assert all(p.grad.any() for p in model.radiance.head[-1].parameters())
    assert model.radiance.background.grad.any()
    # a new UNet adds nothing: both errors are the rendering's
    torch.testing.assert_close(found["loss"].detach(), 2 * found["rendered"])


@pytest.mark.parametrize("unet", ["small", "none"])
def test_opacity_entropy_pushes_rendered_opacity_to_its_ends(unet: str) -> None:
    words = ["unet=none", "attention=none"] if unet == "none" else []
    model, objective = rendering_model(*words)
    batch_of_two, weighted = small_batch(), replace(objective, opacity_entropy=0.5)
    plain = objective(model, batch_of_two, step())
    losses = weighted(model, batch_of_two, step())
    assert "opacity_entropy" not in plain
    torch.testing.assert_close(losses["loss"], plain["loss"] + 0.5 * losses["opacity_entropy"])

    # by hand, from the opacity of latents that are alternately empty, half and opaque
    alpha = torch.tensor([-1.0, 0.0, 1.0, 0.0])  # latents hold opacity in [-1, 1]
    latent = torch.zeros(1, 4, *model.latent_shape(1)[2:])
    latent[:, :, -(model.latents.patch**2) :] = alpha[None, :, None, None, None]
    assert float(objective._opacity_entropy(model, latent)) == pytest.approx(0.5)

    # a step down the entropy's gradient lowers it
    before = losses["opacity_entropy"]
    parameters = list(model.radiance.head[-1].parameters())
    difference = weighted(model, batch_of_two, step())["loss"] - plain["loss"]
    gradients = torch.autograd.grad(difference, parameters)
    with torch.no_grad():
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter -= 1e-4 * gradient / gradient.norm()
    assert weighted(model, batch_of_two, step())["opacity_entropy"] < before


def test_without_radiance_there_is_one_loss():
    config = toy_config("radiance=none", command="train")
    torch.manual_seed(0)
    assert set(
        builders.build_loss(config)(builders.build_model(config), small_batch(), step())
    ) == {"loss"}


@pytest.mark.parametrize("kind", ["sample", "v_prediction"])
def test_scheduled_sampling_starts_from_what_sampling_would(kind):
    """The noisy views are those of DDIM after its first step, computed by diffusers."""
    from diffusers import DDIMScheduler

    words = [f"noise.prediction_type={kind}"]
    model, truth = rendering_model(*words)
    randomize(model)
    own = replace(truth, scheduled_sampling=1.0)
    spy, seen = Spy(model), small_batch()
    truth(spy, seen, step())
    own(spy, seen, step())
    (plain, time, condition, target_views), (noisy, same, *_) = spy.calls
    torch.testing.assert_close(time, same)
    share = truth.scheduler.alphas_cumprod[time.long()].view(-1, 1, 1, 1, 1)
    clean = torch.stack([model.latents.encode(views) for views in seen.views])
    noise = (plain - share.sqrt() * clean) / (1 - share).sqrt()

    ddim = DDIMScheduler.from_config(
        truth.scheduler.config, clip_sample=True, clip_sample_range=1.0
    )
    ddim.set_timesteps(len(ddim.betas))
    last = len(ddim.betas) - 1
    with torch.no_grad():
        answer = model(noise, torch.full((2,), float(last)), condition)
    guess = ddim.step(answer, last, noise).pred_original_sample
    expected = share.sqrt() * guess + (1 - share).sqrt() * noise
    torch.testing.assert_close(noisy, expected, atol=1e-4, rtol=1e-4)
    assert (noisy - plain).abs().max() > 0.1
    assert target_views.shape == (2, truth.views)


def test_a_share_of_the_steps_is_scheduled_sampling():
    model, truth = rendering_model()
    spy, seen, half = Spy(model), small_batch(), replace(truth, scheduled_sampling=0.5)
    for seed in range(12):
        truth(spy, seen, step(seed))
        half(spy, seen, step(seed))
    equal = [torch.equal(a[0], b[0]) for a, b in zip(spy.calls[::2], spy.calls[1::2], strict=True)]
    assert 2 <= sum(equal) <= 10
    replace(truth, scheduled_sampling=1.0)(model, seen, step())["loss"].backward()
    assert model.radiance.background.grad.any()


@pytest.mark.parametrize("words", [["2.0"], ["-0.1"], ["0.5", "noise.prediction_type=epsilon"]])
def test_scheduled_sampling_that_cannot_be_is_refused(words):
    words = [f"train.scheduled_sampling={words[0]}", *words[1:]]
    with pytest.raises(MvdiffError, match=r"train\.scheduled_sampling"):
        builders.build_loss(toy_config(*words, command="train"))
