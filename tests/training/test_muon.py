"""Muon: its update rule, training, resuming, and every kind of weight."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from mvdiff.training.muon import Muon, muon_groups, orthogonal
from mvdiff.training.optim import load_optimizer, make_optimizer


@pytest.mark.parametrize("shape", [(24, 24), (16, 70), (70, 16)])
def test_singular_values_end_near_one_and_directions_stay(shape: tuple[int, int]) -> None:
    torch.manual_seed(0)
    matrix = torch.randn(shape)
    u, _, vt = torch.linalg.svd(matrix, full_matrices=False)
    values = torch.linalg.svdvals(orthogonal(matrix))
    assert values.min() > 0.3
    assert values.max() < 1.3
    inner = (u.T @ orthogonal(matrix) @ vt.T).diagonal()
    torch.testing.assert_close(inner.sort().values, values.sort().values, atol=0.05, rtol=0.05)


def test_a_step_has_adamws_size() -> None:
    torch.manual_seed(0)
    weight = nn.Parameter(torch.randn(64, 32, 3, 3))
    before = weight.detach().clone()
    weight.grad = torch.randn_like(weight)
    optimizer = Muon([{"params": [weight], "orthogonal": True}], lr=1e-2)
    optimizer.step()
    size = (weight.detach() - before).square().mean().sqrt()
    assert 0.1e-2 < size < 0.3e-2  # 0.2 lr


def test_what_is_no_matrix_gets_exactly_adamw() -> None:
    torch.manual_seed(0)
    mine, theirs = nn.Parameter(torch.ones(7)), nn.Parameter(torch.ones(7))
    numbers = {"lr": 1e-2, "betas": (0.9, 0.99), "weight_decay": 0.1}
    pair = (
        Muon(muon_groups([{"params": [mine]}]), **numbers),
        torch.optim.AdamW([theirs], **numbers),
    )
    for _ in range(5):
        gradient = torch.randn(7)
        for parameter, optimizer in zip((mine, theirs), pair, strict=True):
            parameter.grad = gradient.clone()
            optimizer.step()
    torch.testing.assert_close(mine, theirs)


def test_groups_split_into_matrices_and_the_rest() -> None:
    model = nn.Sequential(nn.Conv2d(16, 32, 3), nn.GroupNorm(4, 32), nn.Conv2d(32, 3, 3))
    groups = muon_groups([{"params": list(model.parameters()), "lr": 0.5}])
    split = {g["orthogonal"]: [tuple(p.shape) for p in g["params"]] for g in groups}
    assert split[True] == [(32, 16, 3, 3)]
    assert split[False] == [(32,), (32,), (32,), (3, 32, 3, 3), (3,)]
    assert all(g["lr"] == 0.5 for g in groups)


def test_it_learns_and_goes_on_from_its_saved_state() -> None:
    def start() -> tuple[nn.Module, torch.optim.Optimizer]:
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(16, 32), nn.SiLU(), nn.Linear(32, 16))
        optimizer = make_optimizer(
            model, lr=2e-2, weight_decay=0.01, betas=(0.9, 0.99), param_groups=None, fused=False,
            name="muon",
        )  # fmt: skip
        return model, optimizer

    def go(model: nn.Module, optimizer: torch.optim.Optimizer, steps: range) -> float:
        for step in steps:
            x = torch.randn(64, 16, generator=torch.Generator().manual_seed(step))
            loss = (model(x) - x.flip(1)).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        return loss.item()

    model, optimizer = start()
    assert go(model, optimizer, range(60)) < 0.5
    saved = copy.deepcopy((model.state_dict(), optimizer.state_dict()))
    straight = go(model, optimizer, range(60, 80))
    model, optimizer = start()
    model.load_state_dict(saved[0])
    load_optimizer(optimizer, saved[1], "a checkpoint")
    assert go(model, optimizer, range(60, 80)) == straight
