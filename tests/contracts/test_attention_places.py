"""Every view attention in every place of the UNet: variant × place."""

from __future__ import annotations

import pytest
import torch
from helpers.attention_variants import (
    THEIRS,
    VARIANTS,
    chosen,
    close,
    features,
    heard,
    make,
    random_one,
    remedy,
    scene_for,
)
from helpers.tiny_recipe import photos, toy_model

from mvdiff.attention import PLACES

every = pytest.mark.parametrize("variant", [v for v in VARIANTS if v != THEIRS])
places = pytest.mark.parametrize("place", PLACES)


def denoised(model, x):
    condition = model.condition(photos(1), torch.tensor([20.0]))
    return model(x, torch.tensor([300.0]), condition)


@every
def test_the_update_is_what_forward_adds(variant):
    module, x, scene = random_one(variant), features(), scene_for(variant)
    close(x + module.update(x, scene), module(x, scene))


@every
@places
def test_views_exchange_in_every_place_if_it_needs_anything(variant, place):
    needs = make(variant).needs
    # without a volume nothing but the attention can carry changes from view to view
    volume = [] if "frusta" in needs else ["volume=none"]
    model = toy_model(*chosen(variant), *remedy(variant), *volume, f"place={place}")
    x = torch.randn(model.latent_shape(1), generator=torch.Generator().manual_seed(0))
    other = x.clone()
    other[:, 2] += 1
    expected = [i == 2 or bool(needs) for i in range(len(model.rig))]
    assert heard(denoised(model, x), denoised(model, other)) == expected


@every
@pytest.mark.parametrize("place", ["after", "within", "beside", "decoupled"])
def test_a_new_attention_leaves_the_network_as_it_was(variant, place):
    plain = toy_model(*chosen("none"), *remedy(variant))
    model = toy_model(*chosen(variant), *remedy(variant), f"place={place}")
    fresh = dict(make(variant).named_parameters())
    weights = plain.state_dict()
    assert set(weights) <= set(model.state_dict())
    model.load_state_dict(weights, strict=False)
    for slot in model.unet.slots.values():
        for name, parameter in slot.named_parameters():
            if not fresh[name].any():  # zero where it is initialized to zero
                torch.nn.init.zeros_(parameter)
    x = torch.randn(model.latent_shape(1), generator=torch.Generator().manual_seed(0))
    close(denoised(model, x), denoised(plain, x))


@every
@places
def test_gradients_reach_every_parameter_with_and_without_recomputation(variant, place):
    gradients = []
    for checkpointing in (False, True):
        model = toy_model(*chosen(variant), *remedy(variant), f"place={place}")
        model.train().requires_grad_()
        model.unet.checkpointing = checkpointing
        x = torch.randn(model.latent_shape(1), generator=torch.Generator().manual_seed(0))
        denoised(model, x).square().sum().backward()
        slots = dict(model.unet.slots.named_parameters())
        assert [n for n, p in slots.items() if p.grad is None or not p.grad.any()] == []
        gradients.append(torch.cat([p.grad.flatten() for p in model.unet.parameters()]))
    torch.testing.assert_close(*gradients, atol=1e-4, rtol=1e-3)
