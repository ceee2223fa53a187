"""The recipe `syncdreamer`: sizes, sampler, framing, and what it says without weights."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.small_syncdreamer import SMALL, small_config
from helpers.tiny_recipe import picture

from mvdiff import builders
from mvdiff.cli.main import main
from mvdiff.config.compose import compose
from mvdiff.diffusion.sampling import sample
from mvdiff.errors import MvdiffError
from mvdiff.preprocessing.photo import PreparedImage, frame_by_fill, frame_syncdreamer
from mvdiff.weights.key_maps.syncdreamer import syncdreamer_mapping
from mvdiff.weights.load_model import init_on_meta
from mvdiff.weights.syncdreamer import _BUFFERS, _TEXT

TABLES = Path(__file__).parents[1] / "golden" / "ddim50.npz"


def test_the_model_is_the_published_one_name_by_name_and_shape_by_shape(shared_dir):
    published = json.loads((shared_dir / "golden" / "official_state_dict.json").read_text())
    config = compose("generate", ["recipe=syncdreamer", "image=none"])
    model = init_on_meta(lambda: builders.build_model(config))
    used = set()
    for name, parameter in model.named_parameters():
        origin, shape = syncdreamer_mapping(name), tuple(parameter.shape)
        assert origin.fits(torch.empty(published[origin.name], device="meta"), shape), name
        assert (origin.name, origin.part) not in used
        used.add((origin.name, origin.part))
    rest = set(published) - {name for name, _ in used}
    assert {n for n in rest if not n.startswith(_TEXT)} == set(_BUFFERS)


def test_the_sampler_has_the_published_tables():
    scheduler = builders.build_scheduler(small_config())
    scheduler.set_timesteps(50)
    with np.load(TABLES) as golden:
        assert scheduler.timesteps.tolist() == golden["timesteps"].tolist()[::-1]
        for t, alpha, before, sigma in zip(
            golden["timesteps"],
            golden["alphas"],
            golden["alphas_prev"],
            golden["sigmas"],
            strict=True,
        ):
            assert scheduler.alphas_cumprod[t] == pytest.approx(alpha, rel=1e-5)
            previous = t - 20
            ours = (
                scheduler.alphas_cumprod[previous]
                if previous >= 0
                else scheduler.final_alpha_cumprod
            )
            assert ours == pytest.approx(before, rel=1e-5)
            variance = scheduler._get_variance(t, previous)
            assert variance**0.5 == pytest.approx(sigma, rel=1e-4)


def test_only_the_last_step_adds_no_noise():
    scheduler = builders.build_scheduler(small_config())
    scheduler.set_timesteps(50)
    x, noise = torch.randn(1, 4), torch.randn(1, 4)

    def step(t: int) -> torch.Tensor:
        return scheduler.step(noise, t, x, eta=1.0, generator=None).prev_sample

    assert not torch.equal(step(21), step(21))
    assert torch.equal(step(1), step(1))


def test_the_sampling_loop_hands_eta_and_generators_on():
    settings = builders.build_sampler(small_config())
    start = torch.randn(1, 4, generator=torch.Generator().manual_seed(0))

    def walk(eta: float, seed: int) -> torch.Tensor:
        generators = [torch.Generator().manual_seed(seed)]
        scheduler = settings.scheduler()
        return sample(lambda x, _: x, scheduler, start, steps=3, eta=eta, generators=generators)

    assert settings.eta == 1.0
    assert torch.equal(walk(1.0, 1), walk(1.0, 1))
    assert not torch.allclose(walk(1.0, 1), walk(1.0, 2))
    assert torch.equal(walk(0.0, 1), walk(0.0, 2))


def test_without_weights_it_says_where_they_are(capsys, tmp_path):
    photo = tmp_path / "photo.png"
    picture().save(photo)
    out = f"out={tmp_path / 'out'}"
    assert main(["generate", "recipe=syncdreamer", f"image={photo}", out]) == 2
    said = capsys.readouterr().err
    assert "syncdreamer-pretrain.ckpt" in said
    assert "pass weights=" in said


def test_rule_weights_run_from_photo_to_views_with_a_loud_warning():
    with pytest.warns(UserWarning, match="not trained"):
        model = builders.build_pipeline(small_config("weights=synthetic", "segmentation=alpha"))
    framed = frame_syncdreamer(picture(), 50, 64)
    assert torch.equal(model.prepare(picture()).rgba, framed.rgba)
    latents = {}
    for batch_views in (4, None):
        views = model.generate(
            picture(),
            elevation=30,
            seed=6033,
            batch_views=batch_views,
            callback=lambda step, steps, x, key=batch_views: latents.update({key: x}),
        )
        assert views.images.shape == (16, 3, 64, 64)
    assert latents[None].std() > 0.1
    torch.testing.assert_close(latents[4], latents[None], atol=1e-5, rtol=1e-5)


def test_a_sample_does_not_depend_on_its_neighbors_in_the_batch():
    with pytest.warns(UserWarning, match="not trained"):
        model = builders.build_pipeline(small_config("weights=synthetic", "segmentation=alpha"))
    assert model.sampler.guidance == 2.0
    photo = model.prepare(picture())
    other = PreparedImage(photo.rgb.flip(-1), photo.alpha.flip(-1))

    def latents(photos: list, elevations: list[float], seeds: list[int]) -> torch.Tensor:
        states = []
        model.generate_batch(
            photos, elevations, seeds, callback=lambda step, steps, x: states.append(x)
        )
        return states[-1]

    alone = latents([photo], [30.0], [7])[0]
    for photos, elevations, seeds, place in (
        ([photo, other], [30.0, 5.0], [7, 8], 0),
        ([other, other, photo], [-10.0, 60.0, 30.0], [1, 7, 7], 2),
    ):
        together = latents(photos, elevations, seeds)
        torch.testing.assert_close(together[place], alone, atol=1e-5, rtol=1e-5)
        assert (together[1] - alone).abs().max() > 0.1


def test_framing_is_the_published_one_or_the_usual():
    def prepared(*overrides: str) -> torch.Tensor:
        return builders.build_framing(small_config(*overrides))(picture(), 64).rgba

    assert torch.equal(prepared(), frame_syncdreamer(picture(), 50, 64).rgba)
    assert torch.equal(prepared("crop_size=-1"), frame_syncdreamer(picture(), -1, 64).rgba)
    assert torch.equal(prepared("framing=fit"), frame_by_fill(picture(), 64, 0.78).rgba)
    with pytest.raises(MvdiffError, match="unknown framing 'square'; choose from fit, syncdreamer"):
        prepared("framing=square")


def test_steps_above_the_schedule_are_refused():
    with pytest.raises(MvdiffError, match=r"steps must lie in \[1, 1000\], got 1001"):
        builders.build_sampler(small_config("sampler.steps=1001"))


def test_small_is_a_change_of_sizes_only():
    names = [override.partition("=")[0] for override in SMALL]
    assert not {"volume", "attention", "unet", "latents", "embedder"} & set(names)
