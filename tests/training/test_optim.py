"""Learning rate schedules, derived seeds and the optimizer's parameter groups."""

from __future__ import annotations

import pytest
from helpers.toy_training import toy

from mvdiff.errors import MvdiffError
from mvdiff.training.optim import derive_seed, lr_schedule, make_optimizer


def test_the_learning_rate_warms_up_and_follows_a_cosine() -> None:
    def at(step: int, **change: object) -> float:
        return lr_schedule(
            step, **{"steps": 110, "warmup": 10, "schedule": "cosine", "floor": 0.1, **change}
        )

    assert [at(0), at(4), at(9)] == [0.1, 0.5, 1.0]
    assert at(10) == 1.0
    assert at(60) == pytest.approx(0.55)
    assert at(110) == pytest.approx(0.1)
    assert at(10**6) == pytest.approx(0.1)
    assert at(10**6, schedule="constant") == 1.0
    assert at(0, warmup=0) == 1.0


def test_seeds_of_neighboring_steps_differ_and_fit_63_bits() -> None:
    seeds = {
        derive_seed(0, tag, step, share) for tag in (3, 4) for step in range(50) for share in (0, 1)
    }
    assert len(seeds) == 200
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_norms_and_biases_do_not_decay() -> None:
    model = toy()
    optimizer = make_optimizer(
        model, lr=1e-3, weight_decay=0.1, betas=(0.9, 0.99), param_groups=None, fused=False
    )
    decayed = {id(p) for g in optimizer.param_groups if g["weight_decay"] for p in g["params"]}
    assert decayed == {id(model.first.weight), id(model.last.weight)}


def test_a_frozen_model_is_refused() -> None:
    model = toy().requires_grad_(False)
    with pytest.raises(MvdiffError, match="no trainable parameter"):
        make_optimizer(
            model, lr=1e-3, weight_decay=0, betas=(0.9, 0.99), param_groups=None, fused=False
        )
