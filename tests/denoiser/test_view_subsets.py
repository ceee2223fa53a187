"""Target views chosen per object give the outputs of one object at a time."""

from __future__ import annotations

import pytest
import torch
from helpers.tiny_recipe import photos, toy_model

from mvdiff.errors import MvdiffError

TIMES, ELEVATIONS = torch.tensor([700.0, 120.0]), torch.tensor([20.0, -5.0])


def noisy() -> torch.Tensor:
    return torch.randn(2, 4, 64, 8, 8, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("rows", [[[2], [0]], [[1, 3], [3, 2]]])
def test_a_row_of_views_an_object(rows):
    model = toy_model()
    cond = model.condition(photos(2), ELEVATIONS)
    both = model(noisy(), TIMES, cond, target_views=torch.tensor(rows))
    every = model(noisy(), TIMES, cond)
    for i, row in enumerate(rows):
        torch.testing.assert_close(both[i], every[i, row], atol=1e-5, rtol=1e-5)
    one = model(noisy(), TIMES, cond, target_views=torch.tensor(rows), batch_views=1, guidance=2.0)
    whole = model(noisy(), TIMES, cond, target_views=torch.tensor(rows), guidance=2.0)
    torch.testing.assert_close(one, whole, atol=1e-5, rtol=1e-5)


def test_attention_over_all_views_wants_one_set_for_all():
    model = toy_model()
    model.all_views = True
    cond = model.condition(photos(2), ELEVATIONS)
    with pytest.raises(MvdiffError, match="the same views of each object"):
        model(noisy(), TIMES, cond, target_views=torch.tensor([[0], [1]]))


def test_a_condition_from_parts_is_the_one_from_the_photo():
    model = toy_model()
    whole = model.condition(photos(2), ELEVATIONS)
    parts = model.condition_from(
        model.embedder(photos(2)), model.latents.condition(photos(2)), ELEVATIONS
    )
    for name in ("token", "latent", "pose", "keep_token"):
        assert torch.equal(getattr(parts, name), getattr(whole, name)), name
