"""The contract of every embedder; new variants are tested without a change here."""

from __future__ import annotations

import pytest
import torch
from helpers.tiny_recipe import photos, randomize, toy_config

from mvdiff.config.groups import groups
from mvdiff.config.instantiate import instantiate
from mvdiff.denoiser.embedders import EMBEDDERS, Embedder

#: but for the one that embeds nothing
VARIANTS = [name for name in groups()["embedder"] if name != "none"]


def test_every_registered_name_has_its_yaml():
    assert set(EMBEDDERS) <= set(groups()["embedder"])


def make(variant: str) -> Embedder:
    return randomize(instantiate(EMBEDDERS, toy_config(f"embedder={variant}").embedder)).eval()


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize(("batch", "size"), [(1, 32), (3, 32), (2, 64)])
def test_one_vector_or_tokens_a_picture_of_any_size(variant, batch, size):
    embedder = make(variant)
    out = embedder(photos(batch, size))
    assert (out.shape[0], out.shape[-1]) == (batch, embedder.dim)
    assert out.ndim == (3 if embedder.tokens else 2)
    assert torch.isfinite(out).all()


@pytest.mark.parametrize("variant", VARIANTS)
def test_pictures_of_a_batch_do_not_see_each_other(variant):
    embedder, rgba = make(variant), photos(3)
    together = embedder(rgba)
    for i in range(3):
        torch.testing.assert_close(embedder(rgba[i : i + 1])[0], together[i], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("variant", VARIANTS)
def test_different_pictures_get_different_vectors_and_the_same_the_same(variant):
    embedder, rgba = make(variant), photos(2)
    out = embedder(rgba)
    assert not torch.allclose(out[0], out[1], atol=1e-4)
    assert torch.equal(embedder(rgba), out)


@pytest.mark.parametrize("variant", VARIANTS)
def test_white_and_empty_pictures_are_finite(variant):
    embedder = make(variant)
    empty = torch.cat([torch.ones(1, 3, 32, 32), torch.zeros(1, 1, 32, 32)], dim=1)
    assert torch.isfinite(embedder(empty)).all()


@pytest.mark.parametrize("variant", VARIANTS)
def test_gradients_reach_every_trained_parameter(variant):
    embedder = make(variant).train()
    embedder(photos(2)).square().sum().backward()
    trained = [(n, p) for n, p in embedder.named_parameters() if p.requires_grad]
    assert [n for n, p in trained if p.grad is None or not p.grad.any()] == []
