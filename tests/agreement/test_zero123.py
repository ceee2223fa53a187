"""The recipe `zero123` computes what Zero123's authors' code computes.

Skipped without the reference data. Weights are the synthetic ones by published names.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.golden import assert_agrees
from PIL import Image

from mvdiff import builders
from mvdiff.cameras.rigs import look_at
from mvdiff.config.compose import compose
from mvdiff.preprocessing.framing import framing
from mvdiff.weights.load_model import init_on_meta
from mvdiff.weights.synthetic import fill_synthetic
from mvdiff.weights.zero123 import _IGNORED, zero123_mapping

SMALL = [
    "unet.width=32",
    "latents.widths=[32,64,128,128]",
    "embedder.layers=2",
    "embedder.width=128",
    "embedder.heads=2",
]


def load(folder: Path, name: str) -> dict[str, torch.Tensor]:
    with np.load(folder / "golden" / "zero123" / f"{name}.npz") as file:
        return {key: torch.from_numpy(np.asarray(file[key])) for key in file}


def config(*overrides: str, recipe: str = "zero123"):
    return compose("generate", [f"recipe={recipe}", "image=none", *SMALL, *overrides])


@pytest.fixture(scope="module")
def condition(shared_dir):
    return load(shared_dir, "condition")


@pytest.fixture(scope="module")
def framed(shared_dir):
    photo = Image.open(shared_dir / "data" / "photos" / "teapot-30.png")
    return framing("zero123", fill=1.0, crop_size=200)(photo, 256)


def model_for(poses_deg: torch.Tensor, recipe: str = "zero123", elevation: float = 0.0):
    """The small model with a rig of the poses (polar, azimuth, radius), relative to an input at
    `elevation` and azimuth 0; the rig's first camera stands where the input stands."""
    polar, azimuth, radius = poses_deg.double().T.tolist()
    model = init_on_meta(lambda: builders.build_model(config(recipe=recipe)))
    fill_synthetic(model, mapping_for=zero123_mapping).eval().requires_grad_(False)
    model.rig = look_at(
        [0.0, *azimuth],
        [elevation, *(elevation - p for p in polar)],
        distance=[1.5, *(1.5 + r for r in radius)],
    )
    return model


@pytest.mark.parametrize("name", ["teapot-30", "cat-30", "drum-30"])
def test_framed_pictures(shared_dir, name):
    golden = load(shared_dir, "input_prep")
    photo = Image.open(shared_dir / "data" / "photos" / f"{name}.png")
    ours = framing("zero123", fill=1.0, crop_size=200)(photo, 256)
    pixels = (ours.rgb * 255).round().byte().permute(1, 2, 0)
    assert torch.equal(pixels, golden[f"{name}__framed"])


@pytest.mark.parametrize("name", ["teapot-30", "cat-30", "drum-30"])
def test_plain_pictures(shared_dir, name):
    golden = load(shared_dir, "input_prep")[f"{name}__plain"].float()
    photo = Image.open(shared_dir / "data" / "photos" / f"{name}.png")
    ours = framing("plain", fill=1.0)(photo, 256).rgb.permute(1, 2, 0)[::2, ::2]
    torch.testing.assert_close(ours, golden, atol=1e-6, rtol=0)


def test_condition(condition, framed):
    model = model_for(condition["poses_deg"])
    cond = model.condition(framed.rgba[None], torch.tensor([0.0]))
    assert_agrees("Zero123, CLIP embedding", cond.token, condition["clip_embed"])
    assert_agrees("Zero123, latent of the input", cond.latent, condition["vae_mean"])
    pose = model.pose(cond.pose, model.rig, cond.cameras).token[0, 1:]
    torch.testing.assert_close(pose, condition["pose"].float(), atol=2e-6, rtol=1e-5)
    token = cond.token[:, None].expand(-1, len(pose), -1)
    context = model.project(torch.cat([token, pose[None]], dim=-1))[0, :, None]
    assert_agrees("Zero123, context", context, condition["context"])


def test_stable_zero123_reads_the_polar_angle(condition):
    elevation = float(condition["stable_input_elevation_deg"])
    model = model_for(torch.zeros(1, 3), "stable_zero123")
    azimuth = condition["stable_azimuth_deg"].tolist()
    model.rig = look_at([0.0, *azimuth], [30.0, *condition["stable_elevation_deg"].tolist()])
    latents = torch.zeros(1, 4, 32, 32)
    cond = model.condition_from(condition["clip_embed"], latents, torch.tensor([elevation]))
    pose = model.pose(cond.pose, model.rig, cond.cameras).token[0, 1:]
    torch.testing.assert_close(pose, condition["stable_pose"].float(), atol=2e-6, rtol=1e-5)


@pytest.mark.parametrize(
    ("guidance", "key"), [(1.0, "noise_cond"), (0.0, "noise_uncond"), (3.0, "noise_cfg3")]
)
def test_noise_prediction(shared_dir, condition, framed, guidance, key):
    golden = load(shared_dir, "unet")
    model = model_for(condition["poses_deg"])
    cond = model.condition(framed.rgba[None], torch.tensor([0.0]))
    noisy = torch.cat([torch.zeros(1, 4, 32, 32), golden["latents"]])[None]
    time = golden["timestep"].reshape(1).float()
    out = model(noisy, time, cond, target_views=range(1, 7), guidance=guidance)[0]
    assert_agrees(f"Zero123, {key}", out, golden[key])


@pytest.mark.slow
def test_noise_prediction_at_full_width(shared_dir, condition, framed):
    golden = load(shared_dir, "unet_full")
    small = model_for(condition["poses_deg"])
    cond = small.condition(framed.rgba[None], torch.tensor([0.0]))
    unet = load(shared_dir, "unet")
    view = int(golden["view"])
    full = compose("generate", ["recipe=zero123", "image=none"])
    net = init_on_meta(lambda: builders.build_model(full)).unet
    fill_synthetic(net, "unet.", zero123_mapping).eval().requires_grad_(False)
    small.unet = net
    noisy = torch.zeros(1, 7, 4, 32, 32)
    noisy[0, view + 1] = unet["latents"][view]
    out = small(noisy, unet["timestep"].reshape(1).float(), cond, target_views=[view + 1])[0]
    assert_agrees("Zero123, noise_cond at full width", out, golden["noise_cond"])


def test_sampling(shared_dir, condition, framed):
    golden = load(shared_dir, "sampling")
    model = model_for(condition["poses_deg"])
    cond = model.condition(framed.rgba[None], torch.tensor([0.0]))
    settings = config("sampler.steps=5")
    scheduler = builders.build_scheduler(settings)
    scheduler.set_timesteps(5)
    assert scheduler.timesteps.tolist() == golden["timesteps"].tolist()
    assert (settings.sampler.eta, settings.guidance.scale) == (1.0, 3.0)
    x = golden["initial"]
    for i, t in enumerate(scheduler.timesteps):
        noisy = torch.cat([torch.zeros(1, 4, 32, 32), x])[None]
        noise = model(noisy, t.float()[None], cond, target_views=range(1, 7), guidance=3.0)[0]
        x = scheduler.step(
            noise, t, x, eta=1.0, variance_noise=golden["injected_noise"][i]
        ).prev_sample
        assert_agrees(f"Zero123, state after step {i + 1}", x, golden["states"][i])


def test_decoded_picture(shared_dir):
    golden = load(shared_dir, "decode")
    model = model_for(torch.zeros(1, 3))
    rgb, alpha = model.latents.decode(golden["latents"].float())
    assert alpha is None
    assert_agrees("Zero123, decoder", rgb[..., ::2, ::2] * 2 - 1, golden["raw"])


def test_the_sampler_visits_the_published_times(shared_dir):
    golden = load(shared_dir, "ddim")
    for steps in (50, 75, 5):
        scheduler = builders.build_scheduler(config())
        scheduler.set_timesteps(steps)
        assert scheduler.timesteps.tolist() == golden[f"ddim{steps}_used"].tolist()
    torch.testing.assert_close(
        scheduler.alphas_cumprod.double(), golden["alphas_cumprod"].double(), atol=1e-6, rtol=1e-5
    )


def test_every_published_name_is_used_or_known(shared_dir):
    names = json.loads((shared_dir / "golden" / "zero123" / "state_dict.json").read_text())
    model = init_on_meta(
        lambda: builders.build_model(compose("generate", ["recipe=zero123", "image=none"]))
    )
    used = set()
    for name, parameter in model.state_dict().items():
        if name.startswith("time."):  # the volume's, which Zero123 does not have
            continue
        mapping = zero123_mapping(name)
        shape = torch.empty(names[mapping.name], device="meta")
        assert mapping.fits(shape, tuple(parameter.shape)), name
        used.add(mapping.name)
    assert [n for n in names if n not in used and not n.startswith(_IGNORED)] == []
