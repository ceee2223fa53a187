"""Condition dropout in training, and guidance computed by hand."""

from __future__ import annotations

import pytest
import torch

from mvdiff.cameras import ring
from mvdiff.denoiser.guidance import Condition, classifier_free_guidance, drop_conditions


def condition(count: int) -> Condition:
    ones = torch.ones(count)
    return Condition(
        token=torch.zeros(count, 2),
        photos=torch.zeros(count, 1, 1, 2, 2),
        pose=torch.zeros(count, 3, 4),
        cameras=ring(count, size=2),
        keep_token=ones,
        keep_latent=ones,
        keep_volume=ones,
    )


def dropped(count: int = 8000, seed: int = 0, **shares: float) -> dict[str, torch.Tensor]:
    every = {"everything": 0.0, "latent": 0.0, "volume": 0.0, "token": 0.0, **shares}
    out = drop_conditions(condition(count), **every, generator=torch.Generator().manual_seed(seed))
    return {name: getattr(out, f"keep_{name}") == 0 for name in ("token", "latent", "volume")}


def test_every_share_is_what_it_says_and_no_two_drop_alike():
    out = dropped(everything=0.1, latent=0.2, volume=0.05, token=0.15)
    every = out["token"] & out["latent"] & out["volume"]
    assert every.float().mean().item() == pytest.approx(0.1, abs=0.015)
    for name, share in (("latent", 0.2), ("volume", 0.05), ("token", 0.15)):
        alone = out[name] & ~every
        assert alone.float().mean().item() == pytest.approx(share, abs=0.015)
        others = [out[o] for o in out if o != name]
        assert not (alone & (others[0] | others[1])).any()


def test_probabilities_of_zero_and_one():
    assert not any(x.any() for x in dropped(100).values())
    assert all(x.all() for x in dropped(100, everything=1.0).values())
    only = dropped(100, volume=1.0)
    assert only["volume"].all()
    assert not only["token"].any()


def test_the_generator_decides():
    shares = {"everything": 0.3, "token": 0.3}
    same, again = dropped(100, 3, **shares), dropped(100, 3, **shares)
    assert all(torch.equal(same[n], again[n]) for n in same)
    assert not torch.equal(dropped(100, 4, **shares)["token"], same["token"])


def test_what_is_dropped_stays_dropped_and_the_input_is_untouched():
    before = condition(50).unconditional()
    out = drop_conditions(
        before,
        everything=0.0,
        latent=0.0,
        volume=0.0,
        token=0.5,
        generator=torch.Generator().manual_seed(0),
    )
    assert not out.keep_token.any()
    assert not out.keep_volume.any()
    whole = condition(50)
    dropped(50, everything=1.0)
    assert whole.keep_token.all()


def test_guidance_by_hand():
    conditional, unconditional = torch.tensor([3.0]), torch.tensor([1.0])
    assert classifier_free_guidance(conditional, unconditional, 1.0).item() == 3
    assert classifier_free_guidance(conditional, unconditional, 2.0).item() == 5
    assert classifier_free_guidance(conditional, unconditional, 0.0).item() == 1
