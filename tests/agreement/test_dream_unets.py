"""MVDream's and ImageDream's UNets agree with their authors' code; needs nothing but the clone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.golden import assert_agrees
from torch import nn

from mvdiff import builders
from mvdiff.config.compose import compose
from mvdiff.weights.load_model import init_on_meta
from mvdiff.weights.mvdream import mapping_of
from mvdiff.weights.synthetic import fill_synthetic

GOLDEN = Path(__file__).parents[1] / "golden"
SMALL = ["unet.width=64", "latents.widths=[8,16,16,24]", "latents.blocks=1", "latents.groups=4"]
#: recipe → the order of the authors' views in ours, which start at the front
ORDER = {"mvdream": [0, 1, 2, 3], "imagedream": [1, 2, 3, 0]}


def load(recipe: str) -> dict[str, torch.Tensor]:
    with np.load(GOLDEN / recipe / "unet.npz") as file:
        return {key: torch.from_numpy(np.asarray(file[key])).float() for key in file}


class GivenTokens(nn.Module):
    """Stands in for the resampler, whose inputs are large."""

    def __init__(self, tokens: torch.Tensor) -> None:
        super().__init__()
        self.tokens = tokens

    def forward(self, _: torch.Tensor) -> torch.Tensor:
        return self.tokens


@pytest.fixture(scope="module", params=ORDER)
def case(request):
    recipe, golden = request.param, load(request.param)
    words = [f"recipe={recipe}", *SMALL]
    words += ["image=none", "embedder.layers=1"] if recipe == "imagedream" else []
    model = init_on_meta(lambda: builders.build_model(compose("generate", words)))
    fill_synthetic(model, mapping_for=mapping_of(recipe)).eval().requires_grad_(False)
    text = load("mvdream")["text"][None]
    if recipe == "mvdream":
        return recipe, golden, model, model.condition_on_text(text)
    model.context.resampler = GivenTokens(golden["image_tokens"])
    condition = model.condition_from(
        torch.zeros(1, 257, 1280), golden["reference"], torch.tensor([5.0]), text=text
    )
    return recipe, golden, model, condition


def predict(case) -> torch.Tensor:
    recipe, golden, model, condition = case
    noisy = golden["latents"][ORDER[recipe]][None]
    return model(noisy, golden["timestep"].reshape(1), condition)[0, ..., ::2, ::2]


def test_noise_prediction(case):
    recipe, golden, *_ = case
    expected = golden["noise_cond_s2"][ORDER[recipe]]
    assert_agrees(f"{recipe} in a clone, noise for the text", predict(case), expected)


def test_a_turned_rig_would_be_noticed(case):
    recipe, golden, model, condition = case
    rig = model.rig
    model.rig = rig[[0, 2, 1, 3]]  # the front stays
    out = predict((recipe, golden, model, condition))
    model.rig = rig
    expected = golden["noise_cond_s2"][ORDER[recipe]]
    assert (out - expected).norm() / expected.norm() > 0.02
