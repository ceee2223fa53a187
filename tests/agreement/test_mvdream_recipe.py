"""The recipes `mvdream` and `mvdream_v1` compute what MVDream's authors' code computes.

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

from mvdiff import builders
from mvdiff.attention import ViewContext
from mvdiff.cameras import ring
from mvdiff.config.compose import compose
from mvdiff.denoiser.pose import camera_matrices
from mvdiff.weights.load_model import init_on_meta
from mvdiff.weights.mvdream import COMPUTED, UNREAD, _unread, mapping_of, recipe_of
from mvdiff.weights.synthetic import fill_synthetic
from mvdiff.weights.text_tower import END, TOKEN_IDS, embed_texts, token_ids

SMALL = ["unet.width=64", "latents.widths=[32,64,128,128]"]


def load(folder: Path, name: str) -> dict[str, torch.Tensor]:
    with np.load(folder / "golden" / "mvdream" / f"{name}.npz") as file:
        arrays = {
            key: torch.from_numpy(np.asarray(file[key]))
            for key in file
            if file[key].dtype != "<U37"
        }
    return {key: x.float() if x.is_floating_point() else x for key, x in arrays.items()}


def config(*overrides: str, recipe: str = "mvdream"):
    return compose("generate", [f"recipe={recipe}", *SMALL, *overrides])


def model_for(recipe: str):
    model = init_on_meta(lambda: builders.build_model(config(recipe=recipe)))
    return fill_synthetic(model, mapping_for=mapping_of("mvdream")).eval().requires_grad_(False)


@pytest.fixture(scope="module")
def model():
    return model_for("mvdream")


@pytest.fixture(scope="module")
def golden(shared_dir):
    return load(shared_dir, "unet_small")


def condition_of(model, golden, text: str = "text"):
    if text == "text":
        model.context.negative.data = golden["negative"]
    return model.condition_on_text(golden[text][None])


@pytest.mark.parametrize(("scale", "key"), [(1.0, "cond"), (0.0, "uncond"), (10.0, "cfg10")])
def test_noise_prediction(model, golden, scale, key):
    noisy = golden["latents"][None]
    condition = condition_of(model, golden)
    out = model(noisy, torch.tensor([481.0]), condition, guidance=scale)[0]
    assert_agrees(f"MVDream's recipe, noise_{key}", out, golden[f"noise_{key}"])


def test_noise_prediction_of_version_1(golden):
    model = model_for("mvdream_v1")
    condition = condition_of(model, golden, "text_v1")
    out = model(golden["latents"][None], torch.tensor([481.0]), condition)[0]
    assert_agrees("MVDream's recipe, noise_v1", out, golden["noise_v1"])


def test_sampling(model, shared_dir, golden):
    states, settings = load(shared_dir, "sampling_small"), config()
    assert (settings.sampler.steps, settings.sampler.eta, settings.guidance.scale) == (50, 0, 10)
    condition = condition_of(model, golden)
    for kind, steps, eta in (("eta0", 4, 0.0), ("eta1", 2, 1.0)):
        scheduler = builders.build_scheduler(settings)
        scheduler.set_timesteps(steps)
        x = states["initial"]
        for i, t in enumerate(scheduler.timesteps):
            noise = model(x[None], t.float()[None], condition, guidance=10.0)[0]
            fresh = states["noise"][i] if eta else None
            x = scheduler.step(noise, t, x, eta=eta, variance_noise=fresh).prev_sample
            what = f"MVDream, {kind}, state after step {i + 1}"
            assert_agrees(what, x, states[f"states_{kind}"][i])


def test_cameras_and_embeddings(model, shared_dir):
    cameras, golden = load(shared_dir, "cameras"), load(shared_dir, "embeddings")
    rig = builders.build_rig(config())
    ours = camera_matrices(rig).flatten(1)
    torch.testing.assert_close(ours, cameras["camera"], atol=1e-6, rtol=0)
    far = camera_matrices(builders.build_rig(config("rig.distance=1.7"))).flatten(1)
    torch.testing.assert_close(far, cameras["normalize_out"], atol=1e-6, rtol=0)
    made = model.pose(torch.zeros(1, 4, 4), rig, rig[:1]).time[0]
    assert_agrees("MVDream, camera embedding", made, golden["camera"])
    time = model.unet.time(golden["sinusoid"])
    assert_agrees("MVDream, embedding of the noise level", time, golden["time"])
    assert_agrees("MVDream, sum", time + made, golden["sum"])


def test_decoder(model, shared_dir):
    golden = load(shared_dir, "vae_small")
    rgb, _ = model.latents.decode(golden["z"])
    assert_agrees("MVDream, decoder", rgb[..., ::4, ::4] * 2 - 1, golden["decoded_s4"])


def test_one_block(model, shared_dir):
    block, seen = load(shared_dir, "block"), {}
    transformer = model.unet.down[3][1]
    scene = ViewContext(ring(4, size=32), {}, torch.zeros(1, 1), torch.arange(4))

    def joint(maps):
        update = model.unet.slots["down3"].update(maps.unflatten(0, (1, 4)), scene)[0]
        seen["attn1_in"], seen["attn1_out"] = (
            m.permute(0, 2, 3, 1).reshape(1, 1024, 128) for m in (maps, update)
        )
        return update

    def watch(_, arguments, output):
        seen["attn2_in"], seen["attn2_out"] = arguments[0], output

    hook = transformer.transformer_blocks[0].attn2.register_forward_hook(watch)
    out = transformer(block["x"], block["text"].expand(4, -1, -1), None, "self", joint)
    hook.remove()
    assert_agrees("MVDream, one transformer", out[:, ::2, ::2, ::2], block["out_s"])
    for name in ("attn1_in", "attn1_out"):
        assert_agrees(f"MVDream, {name}", seen[name][:, ::5, ::4], block[f"{name}_s"])
    for name in ("attn2_in", "attn2_out"):
        assert_agrees(f"MVDream, {name}", seen[name][:, ::8, ::4], block[f"{name}_s"])


def test_schedule(shared_dir):
    golden, scheduler = load(shared_dir, "schedule"), builders.build_scheduler(config())
    products = scheduler.alphas_cumprod
    torch.testing.assert_close(products, golden["alphas_cumprod"], atol=1e-6, rtol=1e-5)
    for steps in (50, 30, 4, 2):
        scheduler.set_timesteps(steps)
        times = scheduler.timesteps.flip(0).tolist()
        assert times == golden[f"timesteps_{steps}"].tolist()


def test_text_tower(shared_dir, monkeypatch):
    with np.load(shared_dir / "golden" / "mvdream" / "towers_small.npz") as file:
        golden = {key: file[key] for key in file}
    tensors = synthetic_text_tower("cond_stage_model.model.", layers=4)
    prompts = [str(prompt) for prompt in golden["prompts"]]
    for prompt, row in zip(prompts[:2], golden["token_ids"], strict=False):
        assert token_ids(prompt, 0).tolist() == row.tolist()
    ids = golden["token_ids"][2].tolist()  # this one needs a tokenizer
    monkeypatch.setitem(TOKEN_IDS, prompts[2], tuple(ids[1 : ids.index(END)]))
    text = embed_texts(tensors, prompts, heads=2)[..., ::2]
    assert_agrees("MVDream, text tower", text, torch.from_numpy(golden["text"]))


@pytest.mark.parametrize("recipe", ["mvdream", "mvdream_v1"])
def test_every_published_name_is_used_or_known(shared_dir, recipe):
    file = "state_dict.json" if recipe == "mvdream" else "state_dict_v1.json"
    names = json.loads((shared_dir / "golden" / "mvdream" / file).read_text())
    model = init_on_meta(lambda: builders.build_model(compose("generate", [f"recipe={recipe}"])))
    mapping, used = mapping_of("mvdream"), set()
    for name, parameter in model.state_dict().items():
        if name.startswith((*COMPUTED, *UNREAD)):
            continue
        published = mapping(name)
        tensor = torch.empty(names[published.name], device="meta")
        assert published.fits(tensor, tuple(parameter.shape)), name
        used.add(published.name)
    tensors = {name: torch.empty(shape, device="meta") for name, shape in names.items()}
    unread = _unread(model.state_dict(), tensors, ())
    assert [n for n in names if n not in used and not n.startswith(unread)] == []
    assert recipe_of(tensors) == recipe
