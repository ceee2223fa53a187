"""The recipes `imagedream` and `imagedream_local` compute what ImageDream's authors' code does.

Skipped without the reference data. Weights are the synthetic ones by published names.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.golden import assert_agrees
from helpers.text_towers import synthetic_text_tower
from PIL import Image

from mvdiff import builders
from mvdiff.attention import ViewContext
from mvdiff.cameras import ring
from mvdiff.config.compose import compose
from mvdiff.config.instantiate import instantiate
from mvdiff.denoiser.embedders import EMBEDDERS, normalize_clip
from mvdiff.denoiser.pose import camera_matrices
from mvdiff.preprocessing.photo import frame_imagedream
from mvdiff.weights.load_model import init_on_meta
from mvdiff.weights.mvdream import (
    COMPUTED,
    UNREAD,
    _unread,
    family_of,
    mapping_of,
    recipe_of,
)
from mvdiff.weights.synthetic import fill_synthetic
from mvdiff.weights.text_tower import embed_texts, token_ids

SMALL = [
    "unet.width=64",
    "latents.widths=[32,64,128,128]",
    "embedder.layers=1",
]
#: the demo's views start at azimuth 0, where the model's front is 90: ours start at the front
FRONT_FIRST = [1, 2, 3, 0]
#: recipe → the prefix of its arrays in unet_small
RECIPES = {"imagedream": "", "imagedream_local": "local_"}


def load(folder: Path, name: str) -> dict[str, torch.Tensor]:
    with np.load(folder / "golden" / "imagedream" / f"{name}.npz") as file:
        arrays = {key: torch.from_numpy(np.asarray(file[key])) for key in file if file[key].ndim}
    return {key: x.float() if x.is_floating_point() else x for key, x in arrays.items()}


def config(*overrides: str, recipe: str = "imagedream"):
    return compose("generate", [f"recipe={recipe}", "image=none", *SMALL, *overrides])


def model_for(recipe: str, *overrides: str):
    model = init_on_meta(lambda: builders.build_model(config(*overrides, recipe=recipe)))
    return fill_synthetic(model, mapping_for=mapping_of("imagedream")).eval().requires_grad_(False)


@pytest.fixture(scope="module")
def models():
    return {recipe: model_for(recipe) for recipe in RECIPES}


@pytest.fixture(scope="module")
def golden(shared_dir):
    return load(shared_dir, "unet_small")


@pytest.fixture(scope="module")
def tokens(shared_dir):
    return load(shared_dir, "resampler")


def condition_of(model, golden, tokens):
    model.context.negative.data = golden["negative"]
    return model.condition_from(
        tokens["clip_tokens"], golden["ip_latent"], torch.tensor([5.0]), text=golden["text"][None]
    )


def test_image_tokens(models, tokens):
    resampler = models["imagedream"].context.resampler
    assert_agrees("ImageDream, image tokens", resampler(tokens["clip_tokens"]), tokens["ip_tokens"])
    zeros = resampler(torch.zeros_like(tokens["clip_tokens"]))
    assert_agrees("ImageDream, image tokens of zeros", zeros, tokens["ip_tokens_of_zeros"])


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize(("scale", "key"), [(1.0, "cond"), (0.0, "uncond"), (5.0, "cfg5")])
def test_noise_prediction(models, golden, tokens, recipe, scale, key):
    model = models[recipe]
    condition = condition_of(model, golden, tokens)
    noisy = golden["latents"][FRONT_FIRST][None]
    out = model(noisy, torch.tensor([481.0]), condition, guidance=scale)[0]
    expected = golden[f"{RECIPES[recipe]}noise_{key}"][FRONT_FIRST]
    assert_agrees(f"ImageDream, {recipe}, noise_{key}", out, expected)


def test_sampling(models, shared_dir, golden, tokens):
    states = load(shared_dir, "sampling_small")
    settings = config()
    assert (settings.sampler.steps, settings.sampler.eta, settings.guidance.scale) == (50, 0, 5)
    for recipe, kind, steps, eta in (
        ("imagedream", "eta0", 4, 0.0),
        ("imagedream", "eta1", 2, 1.0),
        ("imagedream_local", "local_eta0", 2, 0.0),
    ):
        model = models[recipe]
        condition = condition_of(model, golden, tokens)
        scheduler = builders.build_scheduler(settings)
        scheduler.set_timesteps(steps)
        x = states["initial"][FRONT_FIRST]
        for i, t in enumerate(scheduler.timesteps):
            noise = model(x[None], t.float()[None], condition, guidance=5.0)[0]
            fresh = states["noise"][i][FRONT_FIRST] if eta else None
            x = scheduler.step(noise, t, x, eta=eta, variance_noise=fresh).prev_sample
            expected = states[f"states_{kind}"][i][FRONT_FIRST]
            assert_agrees(f"ImageDream, {kind}, state after step {i + 1}", x, expected)


def test_cameras_and_embeddings(models, shared_dir):
    cameras, golden = load(shared_dir, "cameras"), load(shared_dir, "embeddings")
    model = models["imagedream"]
    rig = builders.build_rig(config())
    ours = camera_matrices(rig).flatten(1)
    torch.testing.assert_close(ours, cameras["camera_local"][FRONT_FIRST], atol=1e-6, rtol=0)
    far = camera_matrices(builders.build_rig(config("rig.distance=1.7"))).flatten(1)
    torch.testing.assert_close(far, cameras["normalize_out"][FRONT_FIRST], atol=1e-6, rtol=0)
    pose = model.pose(torch.zeros(1, 4, 4), rig, rig[:1]).time[0]
    reference = model.pose.of_reference(rig[:1]).time[0]
    made = torch.cat([pose, reference])
    expected = golden["camera"][[*FRONT_FIRST, 4]]
    assert_agrees("ImageDream, camera embedding", made, expected)
    time = model.unet.time(golden["sinusoid"])
    assert_agrees("ImageDream, embedding of the noise level", time, golden["time"])
    assert_agrees("ImageDream, sum", time + made, golden["sum"][[*FRONT_FIRST, 4]])


@pytest.mark.parametrize(
    ("name", "gray"), [("teapot-30", 255.0), ("flower-0", 127.5), ("drum-30", 93.4)]
)
def test_prepared_pictures(shared_dir, name, gray):
    golden = load(shared_dir, "input_prep")
    photo = Image.open(next((shared_dir / "data" / "photos").glob(f"{name}.*")))
    ours = frame_imagedream(photo, 256, gray)
    pixels = (ours.rgb * 255).round().byte().permute(1, 2, 0)
    assert torch.equal(pixels, golden[f"{name}__image_u8"])
    seen = normalize_clip(ours.embedder_rgba[None, :3])[0, :, ::4, ::4]
    torch.testing.assert_close(seen, golden[f"{name}__clip_pixels_s4"], atol=1e-5, rtol=0)


def test_autoencoder(models, shared_dir):
    golden, latents = load(shared_dir, "vae_small"), models["imagedream"].latents
    photo = Image.open(shared_dir / "data" / "photos" / "teapot-30.png")
    rgba = frame_imagedream(photo, 256).rgba[None]
    mean, logvar = latents.posterior(rgba)
    assert_agrees("ImageDream, posterior's mean", mean, golden["mean"])
    assert_agrees("ImageDream, posterior's log-variance", logvar, golden["logvar"])
    sample = latents.scaled_sample(mean, logvar, golden["eps"])
    assert_agrees("ImageDream, latent of the reference view", sample, golden["ip_latent"])
    noise = torch.randn(4, 32, 32, generator=torch.Generator().manual_seed(0))
    own = latents.condition(rgba)[0]
    torch.testing.assert_close(own, latents.scaled_sample(mean, logvar, noise[None])[0])
    rgb, alpha = latents.decode(golden["z"])
    assert alpha is None
    assert_agrees("ImageDream, decoder", rgb[..., ::4, ::4] * 2 - 1, golden["decoded_s4"])
    picture = (rgb.clamp(0, 1) * 255).byte()[..., ::4, ::4].permute(0, 2, 3, 1)
    assert (picture.int() - golden["picture_u8_s4"].int()).abs().max() <= 1


def test_one_block(models, shared_dir, golden, tokens):
    block = load(shared_dir, "block")
    unet, seen = models["imagedream"].unet, {}
    transformer = unet.down[3][1]
    scene = ViewContext(ring(5, size=32), {}, torch.zeros(1, 1), torch.arange(5))

    def joint(maps):
        views = maps.unflatten(0, (1, 5))
        update = unet.slots["down3"].update(views, scene)[0]
        seen["attn1_in"], seen["attn1_out"] = (
            m.permute(0, 2, 3, 1).reshape(1, 1280, 128) for m in (maps, update)
        )
        return update

    def watch(_, arguments, output):
        seen["attn2_in"], seen["attn2_out"] = arguments[0], output

    hook = transformer.transformer_blocks[0].attn2.register_forward_hook(watch)
    text = golden["text"].expand(5, -1, -1)
    image = tokens["ip_tokens"].expand(5, -1, -1)
    out = transformer(block["x"], text, image, "self", joint)
    hook.remove()
    assert_agrees("ImageDream, one transformer", out[:, ::2, ::2, ::2], block["out_s"])
    for name in ("attn1_in", "attn1_out"):
        assert_agrees(f"ImageDream, {name}", seen[name][:, ::5, ::4], block[f"{name}_s"])
    for name in ("attn2_in", "attn2_out"):
        assert_agrees(f"ImageDream, {name}", seen[name][:, ::8, ::4], block[f"{name}_s"])


def test_schedule(shared_dir):
    golden = load(shared_dir, "schedule")
    scheduler = builders.build_scheduler(config())
    products = scheduler.alphas_cumprod
    torch.testing.assert_close(products, golden["alphas_cumprod"], atol=1e-6, rtol=1e-5)
    for steps in (50, 30, 4, 2):
        scheduler.set_timesteps(steps)
        times = scheduler.timesteps.flip(0)
        assert times.tolist() == golden[f"timesteps_{steps}"].tolist()
        torch.testing.assert_close(products[times], golden[f"alphas_{steps}"], atol=1e-6, rtol=1e-5)


@pytest.mark.slow
def test_noise_prediction_at_full_width(shared_dir, golden, tokens):
    expected = load(shared_dir, "unet_full")["noise_cond_16"]
    model = init_on_meta(
        lambda: builders.build_model(
            compose("generate", ["recipe=imagedream", "image=none", *SMALL[1:], "size=128"])
        )
    )
    fill_synthetic(model, mapping_for=mapping_of("imagedream")).eval().requires_grad_(False)
    corner = {key: golden[key][..., :16, :16] for key in ("latents", "ip_latent")}
    condition = condition_of(model, {**golden, **corner}, tokens)
    noisy = corner["latents"][FRONT_FIRST][None]
    out = model(noisy, torch.tensor([481.0]), condition)[0]
    assert_agrees("ImageDream, noise_cond at full width", out, expected[FRONT_FIRST])


def test_towers(shared_dir):
    folder = shared_dir / "golden" / "imagedream"
    with np.load(folder / "towers_small.npz") as file:
        golden = {key: file[key] for key in file}
    tensors = synthetic_text_tower("clip_model.model.", layers=4)
    prompts = [str(prompt) for prompt in golden["prompts"]]
    for prompt, row in zip(prompts, golden["token_ids"], strict=True):
        assert token_ids(prompt, 0).tolist() == row.tolist()
    text = embed_texts(tensors, prompts, heads=2)[..., ::2]
    assert_agrees("ImageDream, text tower", text, torch.from_numpy(golden["text"]))
    tower = instantiate(
        EMBEDDERS,
        config("embedder.layers=3", "embedder.dim=64", "embedder.heads=2").embedder,
    )
    fill_synthetic(tower, "embedder.", mapping_of("imagedream")).eval()
    photo = Image.open(shared_dir / "data" / "photos" / "teapot-30.png")
    out = tower(frame_imagedream(photo).embedder_rgba[None])[:, ::4, ::2]
    assert_agrees("ImageDream, image tower", out, torch.from_numpy(golden["clip_tokens_s"]))


def test_every_published_name_is_used_or_known(shared_dir):
    folder = shared_dir / "golden" / "imagedream"
    names = json.loads((folder / "state_dict.json").read_text())
    full = compose("generate", ["recipe=imagedream", "image=none"])
    model = init_on_meta(lambda: builders.build_model(full))
    mapping, used = mapping_of("imagedream"), set()
    for name, parameter in model.state_dict().items():
        if name.startswith((*COMPUTED, *UNREAD)):
            continue
        published = mapping(name)
        tensor = torch.empty(names[published.name], device="meta")
        assert published.fits(tensor, tuple(parameter.shape)), name
        used.add(published.name)
    tensors = {name: torch.empty(shape, device="meta") for name, shape in names.items()}
    unread = _unread(model.state_dict(), tensors, ())
    left = [name for name in names if name not in used]
    assert [name for name in left if not name.startswith(unread)] == []
    assert family_of(tensors) == recipe_of(tensors) == "imagedream"
