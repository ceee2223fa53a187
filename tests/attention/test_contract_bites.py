"""The contract tests can fail: each broken attention fails the check meant for it."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import nn

from mvdiff.attention import ATTENTION, ViewAttention


@pytest.fixture(scope="module")
def contract() -> ModuleType:
    path = Path(__file__).parents[1] / "contracts" / "test_attention.py"
    spec = importlib.util.spec_from_file_location("attention_contract", path)
    sys.modules[spec.name] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


class Gated(ViewAttention):
    """Adds a term scaled by a gate that starts at zero."""

    needs = frozenset({"all_views"})

    def __init__(self, slot):
        super().__init__()
        self.gate = nn.Parameter(torch.zeros(slot.channels, 1, 1))

    def what(self, x):
        return x.mean(dim=1, keepdim=True)

    def forward(self, x, scene):
        return x + self.gate * self.what(x)


class OpenAtStart(Gated):
    def forward(self, x, scene):
        return x + 1 + self.gate * self.what(x)


class MixesObjects(Gated):
    def what(self, x):
        return x.mean(dim=(0, 1), keepdim=True)


class MixesNothing(Gated):
    def what(self, x):
        return x


class MixesSecretly(Gated):
    needs = frozenset()


class NeighborsOnly(Gated):
    def what(self, x):
        return x.roll(1, dims=1)


class NeighborsSaid(NeighborsOnly):
    equivariant = False


class HasNoOrder(Gated):
    equivariant = False


class SingleOnly(Gated):
    def what(self, x):
        return x.mean(dim=1, keepdim=True).float()


class InPlace(Gated):
    def forward(self, x, scene):
        return x.mul_(1 + self.gate)


class NoGradient(Gated):
    def what(self, x):
        return x.detach().mean(dim=1, keepdim=True)


class NoFrusta(Gated):
    needs = frozenset({"all_views", "frusta"})


class SquareOnly(Gated):
    def what(self, x):
        return x.mean(dim=1, keepdim=True).transpose(-1, -2)


class TwoViews(Gated):
    def what(self, x):
        return x[:, :1] - x[:, 1:2]


@pytest.fixture
def registered(request):
    name = request.param.__name__
    ATTENTION.register(name)(request.param)
    yield name
    del ATTENTION._entries[name]


CAUGHT = [
    (OpenAtStart, "test_identity_at_start", {"factor": 1}),
    (MixesObjects, "test_objects_of_a_batch_do_not_see_each_other", {}),
    (MixesNothing, "test_a_change_in_one_view_reaches_all_others_if_it_needs_them", {}),
    (MixesNothing, "test_views_exchange_in_the_denoiser_if_it_needs_anything", {}),
    (MixesSecretly, "test_a_change_in_one_view_reaches_all_others_if_it_needs_them", {}),
    (MixesSecretly, "test_views_exchange_in_the_denoiser_if_it_needs_anything", {}),
    (MixesSecretly, "test_fewer_views_than_the_rig_has", {}),
    (NeighborsOnly, "test_permuted_views_give_the_permuted_result_where_claimed", {}),
    (HasNoOrder, "test_permuted_views_give_the_permuted_result_where_claimed", {}),
    (SingleOnly, "test_other_precisions_keep_their_type_and_the_answer", {"how": "bfloat16"}),
    (InPlace, "test_inputs_are_not_changed", {}),
    (NoGradient, "test_gradients_are_right_in_float64", {}),
    (NoFrusta, "test_what_it_says_it_needs_makes_a_difference", {}),
    (SquareOnly, "test_any_number_of_objects_views_and_pixels", {"shape": (1, 2, 2, 6)}),
    (TwoViews, "test_any_number_of_objects_views_and_pixels", {"shape": (2, 1, 4, 4)}),
    (NoFrusta, "test_without_frusta_it_works_or_says_what_is_missing", {}),
]


@pytest.mark.parametrize(("registered", "check", "case"), CAUGHT, indirect=["registered"])
def test_a_broken_variant_is_caught(contract, registered, check, case):
    # RuntimeError: what torch says of shapes that do not fit, and gradcheck of gradients
    with pytest.raises((AssertionError, RuntimeError, pytest.fail.Exception)):
        getattr(contract, check)(registered, **case)


@pytest.mark.parametrize("registered", [NeighborsSaid], indirect=True)
def test_a_variant_whose_order_matters_may_say_so(contract, registered):
    contract.test_permuted_views_give_the_permuted_result_where_claimed(registered)


@pytest.mark.parametrize("registered", [Gated], indirect=True)
@pytest.mark.parametrize(("check", "case"), sorted({c[1]: c[2] for c in CAUGHT}.items()))
def test_a_sound_variant_passes_the_same_checks(contract, registered, check, case):
    getattr(contract, check)(registered, **case)
