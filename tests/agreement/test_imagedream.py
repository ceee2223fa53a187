"""The recipes `imagedream` and `imagedream_local` compute what ImageDream's authors' code does.

Skipped without the reference data. Weights are the synthetic ones by published names.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.golden import assert_agrees

from mvdiff import builders
from mvdiff.config.compose import compose
from mvdiff.weights.load_model import init_on_meta
from mvdiff.weights.mvdream import mapping_of
from mvdiff.weights.synthetic import fill_synthetic

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
