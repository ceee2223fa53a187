"""The recipe `epidiff` computes what EpiDiff's released code computes.

All but one block are skipped without the reference data. Weights are the synthetic ones by
published names.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.golden import assert_agrees
from PIL import Image
from torch import Tensor

from mvdiff import builders
from mvdiff.attention import ATTENTION, SlotSpec, ViewContext
from mvdiff.attention.epidiff import ray_samples
from mvdiff.cameras import Cameras
from mvdiff.cameras.rigs import epidiff
from mvdiff.config.compose import compose
from mvdiff.weights.key_maps.epidiff import epidiff_mapping
from mvdiff.weights.load_model import init_on_meta
from mvdiff.weights.synthetic import fill_synthetic

#: views of which geometry.npz and block.npz keep the details, and the cameras of the points
VIEWS, CAMERAS = (0, 5), (0, 1, 5, 8, 15)


def load(folder: Path, name: str) -> dict[str, Tensor]:
    with np.load(folder / "golden" / "epidiff" / f"{name}.npz") as file:
        return {key: torch.from_numpy(np.asarray(file[key])) for key in file}


def published_cameras(folder: Path, side: int = 8) -> Cameras:
    """The cameras of the golden file, as they stand in it."""
    golden = load(folder, "cameras")
    w2c = torch.linalg.inv(golden["c2w"].double())[:, :3].float()
    K = golden["intrinsics"][:, :3, :3].clone()
    K[:, :2] *= side
    return Cameras(K, w2c, side, side)


def block(**settings: object):
    slot = SlotSpec(64, 1, {}, 16, unet_time_dim=1280)
    module = ATTENTION["epidiff"](slot, residual=False, **settings)
    return fill_synthetic(module, "unet.slots.up11.", epidiff_mapping).eval().requires_grad_(False)


def test_samples_on_the_rays(shared_dir):
    golden = load(shared_dir, "geometry")
    rays = ray_samples(published_cameras(shared_dir), None, 8, 0.5, 2.8)
    for k, view in enumerate(VIEWS):
        order = [rays.near[view].index(camera) for camera in range(16)]
        seen = rays.seen[view, order]
        assert torch.equal(seen, golden["mask"][k])
        ours = rays.position[view, [order[c] for c in CAMERAS]] * 2 - 1
        inside = golden["points"][k].abs().amax(-1) <= 1
        assert_agrees("EpiDiff, points", ours[inside], golden["points"][k][inside])
        assert_agrees("EpiDiff, codes", rays.codes[view], golden["embedding"][k])


@pytest.mark.parametrize(("faithful", "key"), [(True, "output"), (False, "output_if_neighbours")])
def test_block(shared_dir, faithful, key):
    golden = load(shared_dir, "block")
    module, cameras = block(faithful=faithful), published_cameras(shared_dir)
    x, time = golden["input"][None], golden["time"]
    scene = ViewContext(cameras, {}, torch.zeros(1, 16), torch.arange(16), unet_time=time[None])
    if faithful:
        maps = module.resnet(golden["input"], time)
        assert_agrees("EpiDiff, residual block", maps[list(VIEWS)], golden["after_resnet"])
        rows = maps.flatten(2).mT[None]
        rays = ray_samples(cameras, None, 8, 0.5, 2.8)
        samples = [module.samples_of(rows, module.time(time[i : i + 1]), rays, i) for i in VIEWS]
        samples = torch.cat(samples)[:, ::4]
        assert_agrees("EpiDiff, samples", samples, golden["samples"])
    assert_agrees(f"EpiDiff, block {key}", module(x, scene)[0], golden[key])


@pytest.mark.parametrize(("faithful", "key"), [(True, "output"), (False, "output_if_neighbours")])
def test_block_without_the_reference_data(faithful, key):
    """Views 0 and 5 of the golden block; its inputs are random numbers of one seed."""
    generator = torch.Generator().manual_seed(11)
    x = torch.randn(1, 16, 64, 8, 8, generator=generator)
    time = torch.randn(1, 16, 1280, generator=generator)
    scene = ViewContext(epidiff(size=8), {}, torch.zeros(1, 16), torch.arange(16), unet_time=time)
    with np.load(Path(__file__).parents[1] / "golden" / "epidiff" / "block.npz") as file:
        golden = torch.from_numpy(file[key])
    out = block(faithful=faithful)(x, scene)[0, list(VIEWS)]
    assert_agrees(f"EpiDiff, block {key}, views 0 and 5", out, golden)


SMALL = [
    "size=128",
    "unet.width=64",
    "unet.mults=[1,2,4,4]",
    "unet.time_dim=1280",
    "latents.widths=[32,64,128,128]",
    "embedder.layers=2",
    "embedder.width=128",
    "embedder.heads=2",
]


def config(*overrides: str):
    return compose("generate", ["recipe=epidiff", "image=none", *SMALL, *overrides])


@pytest.fixture(scope="module")
def model():
    model = init_on_meta(lambda: builders.build_model(config()))
    return fill_synthetic(model, mapping_for=epidiff_mapping).eval().requires_grad_(False)


@pytest.fixture(scope="module")
def photo(shared_dir):
    return Image.open(shared_dir / "data" / "photos" / "flower-0.png")


@pytest.fixture(scope="module")
def condition(shared_dir, model, photo):
    """The published condition, through our networks; the posterior's noise is the golden one."""
    noise = load(shared_dir, "condition")["vae_noise"][0]
    elevation = float(load(shared_dir, "cameras")["input_elevation_deg"])
    framed = builders.build_framing(config())(photo, 128)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(model.latents, "condition_noise", lambda latent: noise)
        return model.condition(framed.rgba[None], torch.tensor([elevation]))


@pytest.mark.parametrize("name", ["flower-0", "armor-30"])
def test_framed_pictures(shared_dir, name):
    golden = load(shared_dir, "input_prep")
    photo = Image.open(shared_dir / "data" / "photos" / f"{name}.png")
    frame = builders.build_framing(config())
    for size, step in ((256, 2), (128, 1)):
        if f"{name}__{size}" in golden:
            ours = frame(photo, size).signed.permute(1, 2, 0)
            ours = ours[::step, ::step]
            torch.testing.assert_close(ours, golden[f"{name}__{size}"], atol=1e-6, rtol=0)


def test_clip_pixels(shared_dir, model, photo):
    golden = load(shared_dir, "input_prep")["flower-0__clip_pixels"]
    framed = builders.build_framing(config())(photo, 256)
    ours = model.embedder.pixels(framed.rgba[None])[..., ::4, ::4]
    torch.testing.assert_close(ours, golden, atol=2e-6, rtol=0)


def test_cameras(shared_dir, model, condition):
    golden = load(shared_dir, "cameras")
    torch.testing.assert_close(model.rig.c2w, golden["c2w"], atol=2e-6, rtol=0)
    pose = model.pose(condition.pose, model.rig, condition.cameras).token[0]
    torch.testing.assert_close(pose, golden["pose"], atol=2e-6, rtol=0)
    K = model.rig.K / model.rig.K.new_tensor([128.0, 128.0, 1.0])[:, None]
    torch.testing.assert_close(K, golden["intrinsics"][:, :3, :3], atol=1e-6, rtol=0)


def test_condition(shared_dir, model, condition, photo):
    golden = load(shared_dir, "condition")
    framed = builders.build_framing(config())(photo, 128).rgba[None]
    pixels = model.embedder.pixels(framed)[..., ::8, ::8]
    assert_agrees("EpiDiff, CLIP pixels", pixels, golden["clip_pixels"])
    assert_agrees("EpiDiff, CLIP embedding", condition.token, golden["clip_embed"])
    mean, logvar = model.latents.posterior(framed)
    assert_agrees("EpiDiff, VAE mean", mean, golden["vae_mean"])
    assert_agrees("EpiDiff, VAE log-variance", logvar, golden["vae_logvar"])
    assert_agrees("EpiDiff, latent of the input", condition.latent[0], golden["latent_image"])
    pose = model.pose(condition.pose, model.rig, condition.cameras).token[0]
    token = condition.token.expand(16, -1)
    context = model.project(torch.cat([token, pose], dim=-1))[:, None]
    assert_agrees("EpiDiff, context", context, golden["context"])


def test_noise_prediction(shared_dir, model, condition):
    golden = load(shared_dir, "unet")
    noisy, time = golden["latents"][None], golden["timestep"].reshape(1).float()
    for guidance, key in ((1.0, "noise_cond"), (0.0, "noise_uncond"), (3.0, "noise_cfg3")):
        out = model(noisy, time, condition, guidance=guidance)[0]
        assert_agrees(f"EpiDiff, {key}", out, golden[key])


def test_sampling(shared_dir, model, condition):
    golden = load(shared_dir, "sampling")
    settings = config()
    assert (settings.sampler.eta, settings.guidance.scale) == (0.0, float(golden["cfg_scale"]))
    scheduler = builders.build_scheduler(settings)
    scheduler.set_timesteps(3)
    assert scheduler.timesteps.tolist() == golden["timesteps"].tolist()
    x = golden["initial"]
    for i, t in enumerate(scheduler.timesteps):
        noise = model(x[None], t.float()[None], condition, guidance=3.0)[0]
        if i == 0:
            assert_agrees("EpiDiff, first guided", noise, golden["noise_guided_first"])
        x = scheduler.step(noise, t, x, eta=0.0).prev_sample
        assert_agrees(f"EpiDiff, state after step {i + 1}", x, golden["states"][i])


def test_decoded_picture(shared_dir, model):
    golden = load(shared_dir, "decode")
    rgb, alpha = model.latents.decode(golden["latents"])
    assert alpha is None
    assert_agrees("EpiDiff, decoder", rgb[..., ::2, ::2] * 2 - 1, golden["raw"])
    pixels = (rgb[0].clamp(0, 1) * 255).round().byte().permute(1, 2, 0)
    apart = (pixels.int() - golden["picture"].int()).abs()
    assert apart.max() <= 1
    assert (apart > 0).float().mean() < 1e-3


def test_the_sampler_visits_the_published_times(shared_dir):
    golden = load(shared_dir, "ddim")
    scheduler = builders.build_scheduler(config())
    for steps in (50, 3):
        scheduler.set_timesteps(steps)
        assert scheduler.timesteps.tolist() == golden[f"ddim{steps}_timesteps"].tolist()
    alphas = scheduler.alphas_cumprod
    torch.testing.assert_close(alphas, golden["alphas_cumprod"], atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(scheduler.final_alpha_cumprod, golden["final_alpha_cumprod"])


def test_every_published_name_is_used_or_known(shared_dir):
    names = json.loads((shared_dir / "golden" / "epidiff" / "state_dict.json").read_text())
    full = compose("generate", ["recipe=epidiff", "image=none"])
    model = init_on_meta(lambda: builders.build_model(full))
    used = set()
    for name, parameter in model.state_dict().items():
        if name.startswith("time."):  # the volume's, which EpiDiff does not have
            continue
        mapping = epidiff_mapping(name)
        shape = torch.empty(names[mapping.name], device="meta")
        assert mapping.fits(shape, tuple(parameter.shape)), name
        used.add(mapping.name)
    assert {n.rpartition(".")[2] for n in names if n not in used} <= {"position_ids"}
