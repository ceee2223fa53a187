"""Sampling with every scheduler from distributions whose optimal denoiser is known."""

from __future__ import annotations

import pytest
import torch
from helpers.tiny_recipe import toy_config

from mvdiff import builders
from mvdiff.config.groups import groups
from mvdiff.diffusion.sampling import initial_noise, sample

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
SAMPLERS = groups()["sampler"]
#: as published: they end at the noise level of their first time, not at zero, and keep a trace
PUBLISHED = ("ddim_syncdreamer", "ddim_zero123", "ddim_ldm", "ddim_leading")
#: their table of times needs two steps at least
TABLED = ("ddim_zero123", "ddim_ldm")
NOISES = groups()["noise"]
SHAPE = (2, 3, 4, 8, 8)


class Gaussian:
    """The exact denoiser of data that is normal with mean `mean` and deviation `spread`.

    Schedulers of both kinds hand over x = √a·clean + √(1-a)·noise, so one formula serves all:
    E[clean | x] = m + s²√a (x − √a m) / (s² a + 1 − a).
    """

    def __init__(self, config, mean: float, spread: float) -> None:
        self.kind = config.noise.prediction_type
        self.alphas = builders.build_training_scheduler(config).alphas_cumprod.double()
        self.mean, self.spread = mean, spread

    def __call__(self, x: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
        a = self.alphas[timestep.round().long()].reshape(-1, *[1] * (x.ndim - 1))
        x = x.double()
        gain = self.spread**2 * a.sqrt() / (self.spread**2 * a + 1 - a)
        clean = self.mean + gain * (x - a.sqrt() * self.mean)
        noise = (x - a.sqrt() * clean) / (1 - a).sqrt()
        kinds = {
            "sample": clean,
            "epsilon": noise,
            "v_prediction": a.sqrt() * noise - (1 - a).sqrt() * clean,
        }
        return kinds[self.kind].float()


def run(config, denoise, seeds=(0, 1), steps=None, eta=None):
    noise, generators = initial_noise(SHAPE, list(seeds))
    return sample(
        denoise,
        builders.build_scheduler(config),
        noise,
        steps=steps or config.sampler.steps,
        eta=config.sampler.eta if eta is None else eta,
        generators=generators,
    )


def configs(sampler, noise, kind):
    return toy_config(f"sampler={sampler}", f"noise={noise}", f"noise.prediction_type={kind}")


@pytest.mark.parametrize("sampler", [name for name in SAMPLERS if name not in PUBLISHED])
@pytest.mark.parametrize("noise", NOISES)
@pytest.mark.parametrize("kind", ["sample", "epsilon", "v_prediction"])
def test_data_that_is_one_point_is_returned(sampler, noise, kind):
    config = configs(sampler, noise, kind)
    out = run(config, Gaussian(config, mean=0.4, spread=0.0), steps=10)
    # where all is noise, epsilon tells the point only up to float32's resolution
    loose = 2e-2 if kind != "sample" else 1e-3
    torch.testing.assert_close(out, torch.full(SHAPE, 0.4), atol=loose, rtol=0)


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("kind", ["sample", "epsilon"])
def test_normal_data_keep_mean_and_spread(sampler, kind):
    noise = "cosine" if kind == "sample" else "syncdreamer"
    config = configs(sampler, noise, kind)
    # within the clipped range, and wide beside the schedules' last steps
    out = run(config, Gaussian(config, mean=0.1, spread=0.3), steps=100)
    assert out.mean().item() == pytest.approx(0.1, abs=0.03)
    assert out.std().item() == pytest.approx(0.3, rel=0.1)


# with few steps ddim_leading visits early times, and its spread is another
@pytest.mark.parametrize(
    "sampler", [name for name in SAMPLERS if name not in (*TABLED, "ddim_leading")]
)
def test_few_steps_give_the_best_guess_and_more_of_the_spread(sampler):
    """One step gives the mean of the data; more steps add a growing part of its spread."""
    config = configs(sampler, "cosine", "sample")
    one, two, three = (run(config, Gaussian(config, 0.1, 0.3), steps=n) for n in (1, 2, 3))
    if sampler == "ddim_syncdreamer":
        # its only time is 1 of 1000: there it takes the noise for clean data, which is clipped
        noise, _ = initial_noise(SHAPE, [0, 1])
        torch.testing.assert_close(one, noise.clamp(-1, 1), atol=0.02, rtol=0)
    else:
        torch.testing.assert_close(one, torch.full(SHAPE, 0.1), atol=0.01, rtol=0)
    for out, spread in ((two, 0.084), (three, 0.132)):
        assert out.mean().item() == pytest.approx(0.1, abs=0.01)
        # the published one's trace of noise: (0.117 and 0.133)
        assert out.std().item() == pytest.approx(spread, abs=0.04)
    assert three.std() > two.std()


@pytest.mark.parametrize("sampler", [*SAMPLERS, "ancestral"])
def test_a_sample_does_not_depend_on_its_neighbors_or_their_order(sampler):
    eta = 1.0 if sampler in ("ancestral", "ddim_syncdreamer", "ddim_zero123") else None
    config = configs("ddim" if sampler == "ancestral" else sampler, "cosine", "sample")
    denoise = Gaussian(config, 0.1, 0.3)
    both = run(config, denoise, (5, 9), eta=eta, steps=4)
    swapped = run(config, denoise, (9, 5), eta=eta, steps=4)
    assert torch.equal(swapped.flip(0), both)
    noise, generators = initial_noise((1, *SHAPE[1:]), [9])
    scheduler = builders.build_scheduler(config)
    alone = sample(denoise, scheduler, noise, steps=4, eta=eta or 0.0, generators=generators)
    assert torch.equal(alone[0], both[1])
    assert not torch.allclose(both[0], both[1], atol=1e-3)


def test_fresh_noise_comes_from_eta():
    config = configs("ddim", "cosine", "sample")
    denoise = Gaussian(config, 0.1, 0.3)
    still, fresh = (run(config, denoise, eta=eta, steps=4) for eta in (0.0, 1.0))
    assert not torch.allclose(still, fresh, atol=1e-3)
    assert torch.equal(run(config, denoise, eta=1.0, steps=4), fresh)


def test_the_callback_sees_every_step_and_the_result_is_its_last():
    config = configs("ddim", "cosine", "sample")
    noise, _ = initial_noise(SHAPE, [0, 1])
    reported = []
    out = sample(
        Gaussian(config, 0.1, 0.3),
        builders.build_scheduler(config),
        noise,
        steps=5,
        callback=lambda done, steps, x: reported.append((done, steps, x)),
    )
    assert [t[:2] for t in reported] == [(i, 5) for i in range(1, 6)]
    assert torch.equal(reported[-1][2], out)


def test_start_noise_is_normal_reproducible_and_its_own_for_each_seed():
    noise, generators = initial_noise((3, 4, 64, 64), [3, 4, 3])
    assert torch.equal(noise[0], noise[2])
    assert not torch.equal(noise[0], noise[1])
    assert noise.mean().item() == pytest.approx(0, abs=0.02)
    assert noise.std().item() == pytest.approx(1, abs=0.02)
    # later draws go on, they do not repeat the start
    assert not torch.equal(torch.randn(4, 64, 64, generator=generators[0]), noise[0])


def test_the_denoiser_gets_one_time_an_object():
    config = configs("ddim", "cosine", "sample")
    seen = []

    def denoise(x, timestep):
        seen.append(timestep)
        return x * 0

    run(config, denoise, steps=3)
    assert all(t.shape == (2,) for t in seen)
    assert [t[0].item() for t in seen] == sorted((t[0].item() for t in seen), reverse=True)
    assert seen[0][0].item() == 999  # from pure noise: trailing spacing
