"""Winograd's convolution equals the direct one, and replaces it only where it applies."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from helpers.small_syncdreamer import small_model
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from mvdiff.denoiser import winograd as module
from mvdiff.denoiser.optimizations import REFERENCE, Optimizations
from mvdiff.denoiser.winograd import WinogradConv2d, use_winograd, winograd
from mvdiff.weights.synthetic import fill_synthetic


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def relative(found: torch.Tensor, truth: torch.Tensor) -> float:
    return float((found.double() - truth).norm() / truth.norm())


@settings(max_examples=25, deadline=None)
@given(
    views=st.integers(1, 5),
    channels=st.integers(1, 9),
    outputs=st.integers(1, 9),
    rows=st.integers(1, 5),
    columns=st.integers(1, 5),
    bias=st.booleans(),
    tiles=st.sampled_from([1, 8, 512]),
    weights=st.sampled_from([1, 20, 2**18]),
)
def test_equals_the_plain_sum(views, channels, outputs, rows, columns, bias, tiles, weights):
    x, w = normal(views, channels, 2 * rows, 2 * columns), normal(outputs, channels, 3, 3, seed=1)
    b = normal(outputs, seed=2) if bias else None
    kept = module.TILES, module.WEIGHTS
    module.TILES, module.WEIGHTS = tiles, weights
    try:
        found = winograd(x, w, b)
    finally:
        module.TILES, module.WEIGHTS = kept
    torch.testing.assert_close(found, F.conv2d(x, w, b, padding=1), rtol=1e-4, atol=1e-4)


def test_is_as_exact_as_float32_is():
    x, w = normal(2, 320, 16, 16), normal(320, 320, 3, 3, seed=1) / 54
    truth = F.conv2d(x.double(), w.double(), padding=1)
    plain = relative(F.conv2d(x, w, padding=1), truth)
    assert relative(winograd(x, w), truth) < min(3 * plain, 1e-6)


@pytest.fixture
def always(monkeypatch):
    monkeypatch.setattr(module, "LEAST_TILES", 1)
    monkeypatch.setattr(module, "LEAST_CHANNELS", 1)


@pytest.fixture
def taken(monkeypatch):
    """A list with an entry for each call of `winograd`."""
    calls = []

    def counted(x, weight, bias=None):
        calls.append(x.shape)
        return winograd(x, weight, bias)

    monkeypatch.setattr(module, "winograd", counted)
    return calls


def convolution() -> nn.Conv2d:
    torch.manual_seed(0)
    layer = nn.Conv2d(4, 6, 3, padding=1)
    use_winograd(layer)
    return layer


@torch.no_grad()
def test_taken_where_it_pays(always, taken):
    layer = convolution()
    assert relative(layer(normal(2, 4, 8, 8)), layer.double()(normal(2, 4, 8, 8).double())) < 1e-6
    assert len(taken) == 1  # and not in float64


@torch.no_grad()
def test_not_for_odd_maps_autocast_or_other_types(always, taken):
    layer = convolution()
    layer(normal(2, 4, 7, 8))
    with torch.autocast("cpu", torch.bfloat16):
        layer(normal(2, 4, 8, 8))
    layer.to(torch.bfloat16)(normal(2, 4, 8, 8).bfloat16())
    assert not taken


def test_not_in_training(always, taken):
    layer, x = convolution(), normal(2, 4, 8, 8)
    layer(x).sum().backward()
    assert layer.weight.grad is not None
    assert not taken


@torch.no_grad()
def test_not_for_small_maps_and_few_channels(taken):
    convolution()(normal(2, 4, 64, 64))
    many = nn.Conv2d(320, 320, 3, padding=1)
    use_winograd(many)
    many(normal(1, 320, 8, 8))
    assert not taken


def test_other_convolutions_stay_what_they_are():
    kept = nn.ModuleList(
        [
            nn.Conv2d(4, 4, 1),
            nn.Conv2d(4, 4, 3),
            nn.Conv2d(4, 4, 3, stride=2, padding=1),
            nn.Conv2d(4, 4, 3, padding=1, groups=2),
            nn.Conv2d(4, 4, 3, padding=1, dilation=2),
            nn.Conv2d(4, 4, 3, padding=1, padding_mode="circular"),
        ]
    )
    use_winograd(kept)
    assert not any(isinstance(layer, WinogradConv2d) for layer in kept)


@torch.no_grad()
def test_the_published_structure_takes_it_and_agrees(always, taken):
    model = fill_synthetic(small_model()).eval()
    noisy, photo = normal(*model.latent_shape(1)), normal(1, 4, 64, 64).sigmoid()
    known = model.condition(photo, torch.tensor([30.0]))
    taken.clear()
    answers = []
    for chosen in (REFERENCE, Optimizations()):
        chosen.set(model)
        answers.append(model(noisy, torch.tensor([500.0]), known, target_views=[0, 3]))
        assert bool(taken) == (chosen != REFERENCE)
    assert relative(answers[1], answers[0].double()) <= 1e-5
