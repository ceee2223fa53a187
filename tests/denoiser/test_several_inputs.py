"""Several input pictures of one object."""

from __future__ import annotations

import torch
from helpers.tiny_recipe import photos, toy_model

TIMES = torch.tensor([700.0, 120.0])
ELEVATION = torch.tensor([[20.0, 5.0, -10.0], [0.0, 30.0, 10.0]])
AZIMUTH = torch.tensor([[0.0, 90.0, 200.0], [0.0, 45.0, 300.0]])


def pictures() -> torch.Tensor:
    return torch.stack([photos(2), photos(2).flip(-1), photos(2).flip(-2)], dim=1)


def noisy() -> torch.Tensor:
    return torch.randn(2, 4, 64, 8, 8, generator=torch.Generator().manual_seed(0))


def answer(model, order: list[int], azimuth: torch.Tensor = AZIMUTH) -> torch.Tensor:
    condition = model.condition(pictures()[:, order], ELEVATION[:, order], azimuth[:, order])
    return model(noisy(), TIMES, condition)


def test_one_picture_may_stand_alone_or_in_a_row_of_one():
    model = toy_model()
    alone = model.condition(pictures()[:, 0], ELEVATION[:, 0])
    row = model.condition(pictures()[:, :1], ELEVATION[:, :1], AZIMUTH[:, :1])
    assert torch.equal(model(noisy(), TIMES, alone), model(noisy(), TIMES, row))


def test_further_pictures_count_in_any_order_and_where_they_were_taken():
    model = toy_model()
    three = answer(model, [0, 1, 2])
    torch.testing.assert_close(answer(model, [0, 2, 1]), three, atol=1e-5, rtol=1e-5)
    assert not torch.allclose(answer(model, [0]), three, atol=1e-4)
    elsewhere = AZIMUTH.clone()
    elsewhere[:, 1] += 60
    assert not torch.allclose(answer(model, [0, 1, 2], elsewhere), three, atol=1e-4)


def test_azimuths_count_from_the_first_picture():
    model = toy_model()
    torch.testing.assert_close(
        answer(model, [0, 1, 2], AZIMUTH + 70), answer(model, [0, 1, 2]), atol=1e-5, rtol=1e-5
    )


def test_the_same_picture_twice_from_one_place_is_one_picture():
    model = toy_model()
    torch.testing.assert_close(answer(model, [0, 0]), answer(model, [0]), atol=1e-5, rtol=1e-5)
