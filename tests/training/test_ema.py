"""The exponential moving average of the weights."""

from __future__ import annotations

import torch
from helpers.toy_training import toy

from mvdiff.training.ema import EMA


def test_the_decay_warms_up_and_the_average_follows_its_formula() -> None:
    model = toy()
    ema = EMA(model, decay=0.9)
    expected = model.first.weight.detach().clone()
    for step in range(200):
        with torch.no_grad():
            model.first.weight.add_(1.0)
            model.seen.fill_(step)
        decay = min(0.9, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * model.first.weight.detach()
        ema.update(model, step)
    torch.testing.assert_close(ema.module.first.weight.detach(), expected)
    assert float(ema.module.seen) == 199, "buffers are copied"
    assert (ema.decay_at(0), ema.decay_at(10**6)) == (0.1, 0.9)


def test_the_average_is_a_frozen_copy_that_shares_frozen_weights() -> None:
    model = toy()
    model.last.requires_grad_(False)
    ema = EMA(model, decay=0.5)
    before = model.last.weight.clone()
    assert ema.module.last.weight is model.last.weight, "frozen weights need no second memory"
    assert ema.module.first.weight is not model.first.weight
    with torch.no_grad():
        model.first.weight.add_(1)
    ema.update(model, 0)
    assert torch.equal(model.last.weight, before), "frozen weights are not averaged"
    assert not ema.module.training
    assert not any(p.requires_grad for p in ema.module.parameters())
